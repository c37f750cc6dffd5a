//! Answers as they go over the wire: XML shaped like the real server's, and the pages of what stands in front of it.

use std::borrow::Cow;
use std::fmt::Write as _;

use super::rooms::Instance;
use crate::job::UtcMs;
use crate::sandbox::reply::Page;

/// BBB: a meeting's startTime is set when akka-apps acknowledges it, a little after the createTime.
const START_AFTER_CREATE_MS: i64 = 50;

/// What a call came to, before it is written out.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Outcome {
    /// SUCCESS, with what follows the return code.
    Success {
        key: &'static str,
        inner: String,
    },
    Failed {
        returncode: &'static str,
        key: &'static str,
        message: Cow<'static, str>,
    },
    Page(Page),
    /// No answer: the connection is closed (`reset`: by RST).
    Close {
        reset: bool,
    },
    Never,
}

impl Outcome {
    pub fn failed(key: &'static str, message: &'static str) -> Outcome {
        Outcome::Failed { returncode: "FAILED", key, message: Cow::Borrowed(message) }
    }

    pub fn not_found() -> Outcome {
        Outcome::failed("notFound", "A meeting with that ID does not exist")
    }

    /// SUCCESS with a key and a message, and nothing else.
    pub fn noted(key: &'static str, message: &str) -> Outcome {
        let mut inner = String::new();
        element(&mut inner, "messageKey", key);
        element(&mut inner, "message", message);
        Outcome::Success { key, inner }
    }
}

/// How an instance is to be written: what faults make of it.
#[derive(Clone, Default)]
pub(super) struct Style {
    /// The digit separator, and whether times have it too.
    pub locale: Option<(char, bool)>,
    pub decoys: bool,
    pub nasty_name: bool,
    pub meeting_id: Option<String>,
}

pub(super) fn success(inner: &str) -> String {
    format!("<response>\n<returncode>SUCCESS</returncode>\n{inner}</response>")
}

pub(super) fn failed(returncode: &str, key: &str, message: &str) -> String {
    let mut inner = String::new();
    element(&mut inner, "messageKey", key);
    element(&mut inner, "message", message);
    format!("<response>\n<returncode>{returncode}</returncode>\n{inner}</response>")
}

pub(super) fn failed_list(returncode: &str, key: &str, message: &str) -> String {
    let mut inner = String::new();
    element(&mut inner, "key", key);
    element(&mut inner, "message", message);
    format!(
        "<response>\n<returncode>{returncode}</returncode>\n<errors>\n<error>\n{inner}</error>\n</errors>\n</response>"
    )
}

/// The API's answers are HTTP 200, whatever they say.
pub(super) fn xml(body: String) -> Page {
    Page::new(200, "text/xml;charset=utf-8", body)
}

/// Cuts a body in the middle of an element, as a template error does.
pub(super) fn truncate(body: &mut String) {
    let mut end = body.len() * 3 / 5;
    while !body.is_char_boundary(end) {
        end -= 1;
    }
    body.truncate(end);
}

pub(super) fn element(out: &mut String, name: &str, value: &str) {
    let _ = writeln!(out, "<{name}>{}</{name}>", escape(value));
}

fn escape(value: &str) -> Cow<'_, str> {
    if !value.contains(['<', '>', '&', '"', '\'']) {
        return Cow::Borrowed(value);
    }
    let mut out = String::with_capacity(value.len() + 16);
    for c in value.chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            _ => out.push(c),
        }
    }
    Cow::Owned(out)
}

/// The elements of one meeting, as getMeetingInfo and getMeetings have them.
pub(super) fn meeting(out: &mut String, room: &Instance, breakouts: &[&str], style: &Style, now: UtcMs) {
    let name = if style.nasty_name { nasty(&room.name) } else { Cow::Borrowed(room.name.as_str()) };
    element(out, "meetingName", &name);
    element(out, "meetingID", style.meeting_id.as_deref().unwrap_or(&room.meeting_id));
    element(out, "internalMeetingID", &room.internal_id);
    element(out, "createTime", &style.time(room.create_time));
    element(out, "createDate", &create_date(room.create_time));
    element(out, "voiceBridge", "70000");
    element(out, "dialNumber", "613-555-1234");
    element(out, "attendeePW", &room.attendee_pw);
    element(out, "moderatorPW", &room.moderator_pw);
    element(out, "running", bool_name(room.running(now)));
    element(out, "duration", &style.count(room.duration_min as usize));
    element(out, "hasUserJoined", bool_name(room.user_joined));
    element(out, "recording", "false");
    element(out, "hasBeenForciblyEnded", "false");
    element(out, "startTime", &style.time(room.create_time + START_AFTER_CREATE_MS));
    element(out, "endTime", &style.time(room.emptied_at.map_or(0, |at| at.0)));
    people(out, room, style);
    metadata(out, room, style);
    element(out, "isBreakout", bool_name(room.parent.is_some()));
    if let Some(parent) = &room.parent {
        element(out, "parentMeetingID", parent);
    }
    if !breakouts.is_empty() {
        out.push_str("<breakoutRooms>\n");
        breakouts.iter().for_each(|id| element(out, "breakout", id));
        out.push_str("</breakoutRooms>\n");
    }
}

fn people(out: &mut String, room: &Instance, style: &Style) {
    let count = room.attendees.len();
    element(out, "participantCount", &style.count(count));
    element(out, "listenerCount", "0");
    element(out, "voiceParticipantCount", &style.count(count));
    element(out, "videoCount", "0");
    element(out, "maxUsers", &style.count(1_500));
    element(out, "moderatorCount", &style.count(count.min(1)));
    out.push_str("<attendees>\n");
    for (n, name) in room.attendees.iter().enumerate() {
        out.push_str("<attendee>\n");
        element(out, "userID", &format!("w_{n}"));
        element(out, "fullName", name);
        element(out, "role", if n == 0 { "MODERATOR" } else { "VIEWER" });
        element(out, "isPresenter", bool_name(n == 0));
        element(out, "isListeningOnly", "false");
        element(out, "hasJoinedVoice", "true");
        element(out, "hasVideo", "false");
        element(out, "clientType", "HTML5");
        out.push_str("</attendee>\n");
    }
    out.push_str("</attendees>\n");
}

/// BBB: metadata names become element names, and whoever creates the meeting chooses them.
fn metadata(out: &mut String, room: &Instance, style: &Style) {
    const DECOYS: [(&str, &str); 8] = [
        ("returncode", "FAILED"),
        ("messageKey", "notFound"),
        ("meetingID", "decoy"),
        ("internalMeetingID", "0000000000000000000000000000000000000000-1"),
        ("running", "false"),
        ("hasBeenForciblyEnded", "true"),
        ("participantCount", "0"),
        ("moderatorPW", "decoy"),
    ];
    out.push_str("<metadata>\n");
    if style.decoys {
        DECOYS.iter().for_each(|(name, value)| element(out, name, value));
    }
    for (name, value) in room.metadata.iter().filter(|(name, _)| is_element_name(name)) {
        element(out, name, value);
    }
    out.push_str("</metadata>\n");
}

/// What this sandbox is willing to use as an element name; anything else would make every answer ill-formed.
fn is_element_name(name: &str) -> bool {
    let good = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    name.bytes().all(good) && name.bytes().next().is_some_and(|b| b.is_ascii_alphabetic())
}

impl Style {
    fn count(&self, n: usize) -> String {
        let digits = n.to_string();
        match self.locale {
            Some((separator, _)) => grouped(&digits, separator),
            None => digits,
        }
    }

    fn time(&self, ms: i64) -> String {
        match self.locale {
            Some((separator, true)) => grouped(&ms.to_string(), separator),
            _ => ms.to_string(),
        }
    }
}

fn grouped(digits: &str, separator: char) -> String {
    let mut out = String::new();
    for (n, digit) in digits.chars().enumerate() {
        if n > 0 && (digits.len() - n).is_multiple_of(3) {
            out.push(separator);
        }
        out.push(digit);
    }
    out
}

/// A bell, an escape sequence, a line break, a right-to-left override and a zero-width space around the name.
fn nasty(name: &str) -> Cow<'static, str> {
    Cow::Owned(format!("\u{7}\u{1b}[31m{name}\u{202e}gpj.exe\u{200b}\r\n\u{1b}]0;x\u{7}"))
}

/// `Tue Jul 10 16:36:25 UTC 2018`.
fn create_date(ms: i64) -> String {
    UtcMs(ms).timestamp().strftime("%a %b %d %H:%M:%S UTC %Y").to_string()
}

pub(super) fn bool_name(value: bool) -> &'static str {
    if value { "true" } else { "false" }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::bigbluebutton::rooms::{NewMeeting, Rooms};

    const NOW: UtcMs = UtcMs(1_531_240_585_189);

    fn written(new: &NewMeeting, style: &Style) -> String {
        let mut rooms = Rooms::default();
        let at = rooms.add(new, NOW, 0).unwrap();
        let mut out = String::new();
        meeting(&mut out, rooms.get(at), &[], style, NOW);
        out
    }

    #[test]
    fn numbers_are_grouped_from_the_right() {
        assert_eq!(grouped("1", ','), "1");
        assert_eq!(grouped("1500", ','), "1,500");
        assert_eq!(grouped("1531240585189", '.'), "1.531.240.585.189");
        let style = Style { locale: Some((',', false)), ..Style::default() };
        let xml = written(&NewMeeting { participants: 1_500, ..NewMeeting::new("m") }, &style);
        assert!(xml.contains("<participantCount>1,500</participantCount>"));
        assert!(xml.contains("<createTime>1531240585189</createTime>"));
    }

    #[test]
    fn text_from_strangers_is_escaped() {
        let new = NewMeeting { name: Some("<b>&'\"</b>".to_owned()), ..NewMeeting::new("m") };
        let xml = written(&new, &Style::default());
        assert!(xml.contains("<meetingName>&lt;b&gt;&amp;&#39;&quot;&lt;/b&gt;</meetingName>"));
        assert!(xml.contains("<createDate>Tue Jul 10 16:36:25 UTC 2018</createDate>"), "{xml}");
    }

    #[test]
    fn metadata_cannot_break_the_document() {
        let mut new = NewMeeting::new("m");
        new.metadata.insert("bbb-origin".to_owned(), "Greenlight".to_owned());
        new.metadata.insert("a b><c".to_owned(), "x".to_owned());
        let xml = written(&new, &Style::default());
        assert!(xml.contains("<bbb-origin>Greenlight</bbb-origin>"));
        assert!(!xml.contains("a b"));
    }

    #[test]
    fn a_cut_body_stays_text() {
        let mut body = "äöü".repeat(10);
        let whole = body.len();
        truncate(&mut body);
        assert!(!body.is_empty() && body.len() < whole);
    }
}
