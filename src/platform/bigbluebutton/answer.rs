//! From XML to answers, pure.
//!
//! An absence is believed only from a whole document, so whatever is cut off, followed by something else, or not the API's
//! is an error here, never an empty answer.
//! - Elements are matched by path: metadata and attendees are free-form and may hold a `<running>` or a `<returncode>`.
//! - The names in there need not be XML either (`<has space>`, `<1digit>`): inside these zones a tag that closes nothing is
//!   skipped; everywhere else it makes the document ill-formed.
//! - Of the metadata, what stands right below it is kept, bounded: keys and values are strangers'.
//! - Numbers may be written for a locale: `1,500`, `1.500`.
//! - An id that did not survive decoding spoils the whole listing: it might be the one that is looked for.

use std::collections::{BTreeMap, HashMap};

use quick_xml::Reader;
use quick_xml::events::{BytesRef, BytesStart, Event};
use secrecy::SecretString;

use crate::job::{InstanceId, StartRange, UtcMs};

/// Elements nested deeper than this are no answer of the API (it needs 6).
const MAX_DEPTH: usize = 32;
/// Meetings of one listing; the largest clusters have a few thousand. One with more is refused while it is read, because an
/// entry takes far more memory than the ten bytes that it may come in.
const MAX_MEETINGS: usize = 20_000;
/// Metadata of all meetings of one answer that is kept, in keys: a key takes far more memory than the eight bytes that it
/// may come in.
const MAX_META_IN_ALL: usize = 400_000;
/// Bytes of a text outside of metadata; ids have a few hundred at most.
const MAX_TEXT: usize = 64 << 10;
/// Bytes of an answer that is not UTF-8 and is read all the same: that takes a copy, of up to three times its size.
const MAX_MENDED: usize = 8 << 20;
/// Message keys that are kept.
const MAX_KEYS: usize = 64;
/// Breakout rooms of a meeting that are kept; the server makes 16 at most by default.
const MAX_BREAKOUTS: usize = 32;
/// Metadata of one meeting that is kept: so many keys, none of them and no value longer than so many bytes. What is longer
/// is not kept at all.
const MAX_META: usize = 256;
const MAX_META_BYTES: usize = 4_000;
/// The keys by which getMeetingInfo says that there is no such meeting, over all versions and balancers. A refused
/// password is not among them: it speaks of a meeting that is there.
const INFO_NOT_FOUND: [&str; 3] = ["notFound", "invalidMeetingIdentifier", "validationError"];

/// One document of the API, whole.
#[derive(Default)]
pub(super) struct Answer {
    pub(super) success: bool,
    /// `messageKey`, and the keys of an error list.
    pub(super) keys: Vec<String>,
    pub(super) running: Option<bool>,
    pub(super) version: Version,
    top: Entry,
    meetings: Option<Vec<Entry>>,
    returncode: Option<String>,
}

impl Answer {
    /// The keys, for people; what came over the wire is cut down to identifiers.
    pub(super) fn shown(&self) -> String {
        let keys: Vec<String> = self.keys.iter().take(3).map(|key| plain(key)).collect();
        if keys.is_empty() { "no message key".to_owned() } else { keys.join(", ") }
    }
}

/// What the API base says of itself.
#[derive(Default)]
pub(super) struct Version {
    pub(super) api: Option<String>,
    pub(super) bbb: Option<String>,
    /// Scalelite's own.
    pub(super) build: Option<String>,
    /// Elements that only bbb-web 3.0 and newer writes.
    pub(super) own_of_3: bool,
}

/// One meeting, from a listing or by itself. Has no `Debug`.
#[derive(Clone, Default)]
pub(super) struct Entry {
    pub(super) meeting: Option<String>,
    pub(super) internal: Option<InstanceId>,
    pub(super) name: Option<String>,
    /// `createTime`.
    pub(super) started_at: Option<UtcMs>,
    /// What that is worth; made from it where the clock of the server is known.
    pub(super) start: Option<StartRange>,
    pub(super) participants: Option<u32>,
    pub(super) password: Option<SecretString>,
    pub(super) breakout: bool,
    /// `parentMeetingID`: of a breakout room.
    pub(super) parent: Option<String>,
    /// The internal ids of its breakout rooms, as far as they are kept.
    pub(super) breakouts: Vec<String>,
    pub(super) meta: BTreeMap<String, String>,
    /// Some of it was not kept.
    pub(super) meta_cut: bool,
}

impl Entry {
    /// Servers strip the ids that they are given, so blanks around one do not tell two meetings apart.
    pub(super) fn is_called(&self, meeting: &str) -> bool {
        self.meeting.as_deref().is_some_and(|own| own.trim() == meeting.trim())
    }
}

/// A complete, successful getMeetings.
#[derive(Default)]
pub(super) struct Listing {
    pub(super) entries: Vec<Entry>,
    by_meeting: HashMap<String, Vec<usize>>,
    by_internal: HashMap<InstanceId, usize>,
}

impl Listing {
    pub(super) fn new(entries: Vec<Entry>) -> Listing {
        let mut listing = Listing::default();
        for (index, entry) in entries.iter().enumerate() {
            if let Some(meeting) = &entry.meeting {
                listing.by_meeting.entry(meeting.trim().to_owned()).or_default().push(index);
            }
            if let Some(internal) = &entry.internal {
                listing.by_internal.entry(internal.clone()).or_insert(index);
            }
        }
        listing.entries = entries;
        listing
    }

    pub(super) fn instance(&self, id: &InstanceId) -> Option<&Entry> {
        self.by_internal.get(id).map(|&index| &self.entries[index])
    }

    /// The meeting of this name; of several (two nodes behind a balancer) the one that began first.
    pub(super) fn meeting(&self, meeting: &str) -> Option<&Entry> {
        let found = self.by_meeting.get(meeting.trim())?.iter().map(|&index| &self.entries[index]);
        found.min_by_key(|entry| entry.started_at.unwrap_or(UtcMs::MAX))
    }

    /// Several instances go by this name.
    pub(super) fn is_ambiguous(&self, meeting: &str) -> bool {
        self.by_meeting.get(meeting.trim()).is_some_and(|found| found.len() > 1)
    }
}

/// What getMeetingInfo says of one meeting.
#[derive(Clone)]
pub(super) enum Info {
    Live(Box<Entry>),
    NotFound,
    /// Neither.
    Unclear(String),
}

/// The meetings of a complete listing, or why it is none.
pub(super) fn listing(answer: Answer) -> Result<Vec<Entry>, String> {
    if !answer.success {
        return Err(format!("is a failure ({})", answer.shown()));
    }
    let none_live = answer.keys.iter().any(|key| key == "noMeetings");
    let entries = match answer.meetings {
        Some(entries) => entries,
        None if none_live => Vec::new(),
        None => return Err("lists no meetings and does not say that there are none".to_owned()),
    };
    if entries.iter().any(|entry| !entry.meeting.as_deref().is_some_and(intact)) {
        return Err("holds a meeting whose id cannot be read".to_owned());
    }
    if entries.iter().filter_map(|entry| entry.internal.as_ref()).any(|id| !intact(id.as_str())) {
        return Err("holds a meeting whose internal id cannot be read".to_owned());
    }
    Ok(entries)
}

pub(super) fn info(answer: Answer) -> Info {
    if answer.success {
        return match &answer.top.meeting {
            Some(meeting) if intact(meeting) => Info::Live(Box::new(answer.top)),
            _ => Info::Unclear("names no meeting".to_owned()),
        };
    }
    let absent =
        !answer.keys.is_empty() && answer.keys.iter().all(|key| INFO_NOT_FOUND.contains(&key.as_str()));
    if absent { Info::NotFound } else { Info::Unclear(format!("is a failure ({})", answer.shown())) }
}

fn intact(id: &str) -> bool {
    !id.trim().is_empty() && !id.contains(char::REPLACEMENT_CHARACTER)
}

/// What a stranger wrote, cut down to what may stand in a log.
pub(super) fn plain(text: &str) -> String {
    text.chars().filter(|c| c.is_ascii_alphanumeric() || "._+-".contains(*c)).take(40).collect()
}

/// Reads one whole document. The error completes "the answer ...".
pub(super) fn parse(body: &[u8]) -> Result<Answer, String> {
    if body.len() > MAX_MENDED && std::str::from_utf8(body).is_err() {
        return Err("is not UTF-8 text".to_owned());
    }
    let text = String::from_utf8_lossy(body);
    let mut reader = Reader::from_str(text.trim_start_matches('\u{feff}'));
    let config = reader.config_mut();
    config.check_end_names = false;
    config.allow_unmatched_ends = true;
    config.allow_dangling_amp = true;
    let mut parser = Parser::default();
    loop {
        match reader.read_event() {
            Ok(Event::Eof) => return parser.finish(),
            Ok(event) => parser.take(&event)?,
            // Whatever stands behind this point was not read.
            Err(_) => return Err("is cut off or is not XML".to_owned()),
        }
    }
}

#[derive(Default)]
struct Parser {
    answer: Answer,
    /// Names of the open elements, outermost first.
    path: Vec<String>,
    /// Depth of the free-form element we are in.
    zone: Option<usize>,
    text: String,
    /// A metadata text is longer than this.
    text_cut: bool,
    /// Keys of metadata so far, of all meetings.
    meta_kept: usize,
    closed: bool,
}

impl Parser {
    fn take(&mut self, event: &Event<'_>) -> Result<(), String> {
        match event {
            Event::Start(start) => self.open(start),
            // In a free-form zone `<a/>` may be the start tag of an element called `a/`: nothing opens, nothing closes.
            Event::Empty(_) if self.zone.is_some() => Ok(()),
            Event::Empty(start) => {
                self.open(start)?;
                self.zone = None;
                self.close(start.name().into_inner())
            }
            Event::End(end) => self.close(end.name().into_inner()),
            Event::Text(text) => self.append(text),
            Event::CData(text) => self.append(text),
            Event::GeneralRef(reference) => {
                let mut buffer = [0; 4];
                self.append(resolve(reference).encode_utf8(&mut buffer))
            }
            _ => Ok(()),
        }
    }

    fn open(&mut self, start: &BytesStart<'_>) -> Result<(), String> {
        let tag = start.name();
        let name = first_word(tag.into_inner());
        if self.path.is_empty() && (self.closed || name != "response") {
            let what = if self.closed { "is followed by something else" } else { "is not the API's" };
            return Err(what.to_owned());
        }
        if self.path.len() == MAX_DEPTH {
            return Err("is nested too deeply".to_owned());
        }
        self.path.push(name.to_owned());
        if self.zone.is_none() || self.in_meta() {
            self.text.clear();
        }
        if self.zone.is_some() {
            return Ok(());
        }
        let path: Vec<&str> = self.path.iter().map(String::as_str).collect();
        match path[..] {
            [_, "metadata" | "attendees"] | [_, "meetings", "meeting", "metadata" | "attendees"] => {
                self.zone = Some(path.len());
            }
            [_, "meetings"] => {
                self.answer.meetings.get_or_insert_default();
            }
            [_, "meetings", "meeting"] => {
                let entries = self.answer.meetings.get_or_insert_default();
                if entries.len() == MAX_MEETINGS {
                    return Err(format!("lists more than {MAX_MEETINGS} meetings"));
                }
                entries.push(Entry::default());
            }
            [_, "errors", "error"] => {
                // Old servers write the key as an attribute.
                if self.answer.keys.len() < MAX_KEYS
                    && let Ok(Some(key)) = start.try_get_attribute("key")
                {
                    self.answer.keys.push(key.value.into_owned());
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn close(&mut self, tag: &str) -> Result<(), String> {
        let name = first_word(tag);
        let fits = self.path.last().is_some_and(|open| open == name);
        if let Some(depth) = self.zone {
            if fits {
                self.note_meta();
                self.path.pop();
            } else if self.path[depth - 1] == name {
                self.path.truncate(depth - 1);
            }
            if self.path.len() < depth {
                self.zone = None;
                self.text.clear();
            }
            return Ok(());
        }
        if !fits {
            return Err("is ill-formed".to_owned());
        }
        self.leaf();
        self.path.pop();
        self.text.clear();
        self.closed = self.path.is_empty();
        Ok(())
    }

    fn append(&mut self, text: &str) -> Result<(), String> {
        if self.path.is_empty() {
            return if text.trim().is_empty() { Ok(()) } else { Err("is not XML alone".to_owned()) };
        }
        if self.zone.is_some() && !self.in_meta() {
            return Ok(());
        }
        if self.text.len() + text.len() <= MAX_TEXT {
            self.text.push_str(text);
        } else if self.in_meta() {
            self.text_cut = true;
        } else {
            return Err(format!("holds a text of more than {} KiB", MAX_TEXT >> 10));
        }
        Ok(())
    }

    /// Right below a `<metadata>`, not deeper, where whatever stands is no value.
    fn in_meta(&self) -> bool {
        self.zone.is_some_and(|depth| self.path.len() == depth + 1 && self.path[depth - 1] == "metadata")
    }

    /// A metadata element closes. The first of several of its name wins.
    fn note_meta(&mut self) {
        if !self.in_meta() {
            return;
        }
        let cut = std::mem::take(&mut self.text_cut) || self.meta_kept == MAX_META_IN_ALL;
        let listed = self.path.get(1).is_some_and(|name| name == "meetings");
        let entry = match &mut self.answer.meetings {
            Some(entries) if listed => entries.last_mut(),
            _ => Some(&mut self.answer.top),
        };
        let (Some(entry), Some(key)) = (entry, self.path.last()) else { return };
        let text = self.text.trim();
        if entry.meta.contains_key(key) {
            return;
        }
        if cut || entry.meta.len() == MAX_META || key.len().max(text.len()) > MAX_META_BYTES {
            entry.meta_cut = true;
            return;
        }
        self.meta_kept += 1;
        entry.meta.insert(key.clone(), text.to_owned());
    }

    /// An element closes: is it one that we know, by its path? The first of several wins.
    fn leaf(&mut self) {
        let path: Vec<&str> = self.path.iter().map(String::as_str).collect();
        let (answer, text) = (&mut self.answer, self.text.as_str());
        match path[..] {
            [_, "returncode"] => {
                answer.returncode.get_or_insert_with(|| text.trim().to_owned());
            }
            [_, "messageKey"] | [_, "errors", "error", "key"]
                if !text.trim().is_empty() && answer.keys.len() < MAX_KEYS =>
            {
                answer.keys.push(text.trim().to_owned());
            }
            [_, "version"] => set(&mut answer.version.api, text),
            [_, "bbbVersion"] => set(&mut answer.version.bbb, text),
            [_, "build"] => set(&mut answer.version.build, text),
            [_, "graphqlWebsocketUrl" | "html5PluginSdkVersion"] => answer.version.own_of_3 = true,
            [_, "breakoutRooms", "breakout"] => answer.top.add_breakout(text.trim()),
            [_, field] => {
                if field == "running" {
                    answer.running = answer.running.or(flag(text));
                }
                answer.top.set(field, text);
            }
            [_, "meetings", "meeting", field] => {
                if let Some(entry) = answer.meetings.as_mut().and_then(|entries| entries.last_mut()) {
                    entry.set(field, text);
                }
            }
            _ => {}
        }
    }

    fn finish(mut self) -> Result<Answer, String> {
        if !self.path.is_empty() {
            return Err("is cut off".to_owned());
        }
        if !self.closed {
            return Err("is empty".to_owned());
        }
        let Some(returncode) = &self.answer.returncode else { return Err("has no returncode".to_owned()) };
        self.answer.success = returncode.eq_ignore_ascii_case("SUCCESS");
        Ok(self.answer)
    }
}

impl Entry {
    fn add_breakout(&mut self, id: &str) {
        if intact(id) && self.breakouts.len() < MAX_BREAKOUTS {
            self.breakouts.push(id.to_owned());
        }
    }

    fn set(&mut self, field: &str, text: &str) {
        match field {
            "meetingID" => set(&mut self.meeting, text),
            "internalMeetingID" if !text.trim().is_empty() => {
                self.internal.get_or_insert_with(|| text.trim().into());
            }
            "meetingName" => set(&mut self.name, text),
            "createTime" => {
                let at = number(text).and_then(|ms| i64::try_from(ms).ok()).filter(|&ms| ms > 0);
                self.started_at = self.started_at.or(at.map(UtcMs));
            }
            "participantCount" => {
                let count = number(text).and_then(|count| u32::try_from(count).ok());
                self.participants = self.participants.or(count);
            }
            "moderatorPW" if !text.is_empty() => {
                self.password.get_or_insert_with(|| SecretString::from(text));
            }
            "isBreakout" => self.breakout |= flag(text) == Some(true),
            // Some versions write a parent for every meeting.
            "parentMeetingID" if !matches!(text.trim(), "" | "bbb-none") => {
                self.breakout = true;
                self.parent.get_or_insert_with(|| text.trim().to_owned());
            }
            _ => {}
        }
    }
}

fn set(field: &mut Option<String>, text: &str) {
    field.get_or_insert_with(|| text.to_owned());
}

fn first_word(tag: &str) -> &str {
    tag.split_ascii_whitespace().next().unwrap_or("")
}

/// The character that a reference stands for; one that stands for nothing known spoils the id that it is in.
fn resolve(reference: &BytesRef<'_>) -> char {
    match &**reference {
        "lt" => '<',
        "gt" => '>',
        "amp" => '&',
        "quot" => '"',
        "apos" => '\'',
        _ => reference.resolve_char_ref().ok().flatten().unwrap_or(char::REPLACEMENT_CHARACTER),
    }
}

fn flag(text: &str) -> Option<bool> {
    match text.trim() {
        "true" => Some(true),
        "false" => Some(false),
        _ => None,
    }
}

/// A whole number in any locale that groups its digits: `1500`, `1,500`, `1.500`, `1 500`, `1'500`.
fn number(text: &str) -> Option<u64> {
    let separates = |c: char| matches!(c, ',' | '.' | '\'' | '\u{2019}') || c.is_whitespace();
    let digits: String = text.trim().chars().filter(|&c| !separates(c)).collect();
    digits.parse().ok()
}

#[cfg(test)]
mod tests;
