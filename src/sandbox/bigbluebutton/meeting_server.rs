//! The calls as bbb-web answers them, version by version.
//!
//! | call | what is kept of the real server |
//! |---|---|
//! | `create` | idempotent: an instance that is alive or still ending is returned as it is |
//! | `end` | SUCCESS at once for everything in the map; the end itself follows a little later |
//! | an unknown meeting at `end` | `notFound` up to 2.3 and from 3.0, `invalidPassword` between |
//! | the password at `end` | required up to 2.4, checked if given up to 2.6, ignored from 3.0 |
//! | internal ids | from 2.6 on, and then any prefix of one as well; HTTP 500 before |
//! | `sendChatMessage` | from 3.0 |

use super::Version;
use super::answers::{self, Outcome, Style};
use super::faults::{Fault, ForgetfulAnswer, Scope, UnknownAnswer};
use super::rooms::{NewMeeting, Rooms, looks_internal};
use super::truth::{Effect, EndedBy};
use super::wire::Call;
use super::world::{Plan, Visit, World, scope};
use crate::job::UtcMs;
use crate::sandbox::reply::Page;

/// BBB: characters of one chat line.
const MAX_CHAT: usize = 500;

impl World {
    /// One call at the meeting server with this number.
    pub(super) fn meeting_server(&mut self, server: usize, visit: &mut Visit) -> Outcome {
        match visit.call {
            Call::Probe => self.probe(),
            Call::GetMeetings => self.listing(server, visit),
            Call::Create => self.create(server, visit),
            _ => self.about_one(server, visit),
        }
    }

    fn probe(&self) -> Outcome {
        let mut inner = String::new();
        answers::element(&mut inner, "version", "2.0");
        answers::element(&mut inner, "apiVersion", "2.0");
        answers::element(&mut inner, "bbbVersion", self.settings.version.number());
        if self.settings.version >= Version::V3_0 {
            answers::element(&mut inner, "html5PluginSdkVersion", "0.0.95");
            answers::element(&mut inner, "graphqlWebsocketUrl", "wss://127.0.0.1/graphql");
            answers::element(&mut inner, "graphqlApiUrl", "https://127.0.0.1/api/rest");
        }
        Outcome::Success { key: "", inner }
    }

    fn about_one(&mut self, server: usize, visit: &mut Visit) -> Outcome {
        let Some(given) = visit.given().map(str::to_owned) else { return self.missing_id() };
        if let Some(page) = self.internal_id_refused(server, &given, visit) {
            return page;
        }
        let Some(at) = self.resolve(server, &given) else { return self.unknown(server, visit) };
        if let Some(rooms) = self.rooms(server) {
            visit.meeting = Some(rooms.get(at).meeting_id.clone());
            visit.instance = Some(rooms.get(at).internal_id.clone());
        }
        match visit.call {
            Call::End => self.end(server, at, visit),
            Call::GetMeetingInfo => self.info(server, at, visit),
            Call::IsMeetingRunning => self.is_running(server, at, visit),
            Call::Join => self.join(server, at, visit),
            _ => self.chat(server, at, visit),
        }
    }

    fn missing_id(&self) -> Outcome {
        if self.settings.version < Version::V2_4 {
            Outcome::failed("missingParamMeetingID", "You must specify a meeting ID for the meeting.")
        } else {
            Outcome::failed("validationError", "You must provide a meeting ID")
        }
    }

    fn internal_id_refused(&mut self, server: usize, given: &str, visit: &mut Visit) -> Option<Outcome> {
        if !looks_internal(given) {
            return None;
        }
        let fault = |f: &Fault| matches!(f, Fault::InternalId500).then_some(());
        let refused = self.take(server, visit, fault).is_some() || self.settings.version < Version::V2_6;
        refused.then(|| Outcome::Page(Page::html(500, "Internal Server Error")))
    }

    /// The meetingID that a request's id stands for at this server, if it is a meeting server that shows one.
    pub(super) fn meeting_of(&self, server: usize, visit: &Visit) -> Option<String> {
        let at = self.resolve(server, visit.given()?)?;
        Some(self.rooms(server)?.get(at).meeting_id.clone())
    }

    fn resolve(&self, server: usize, given: &str) -> Option<usize> {
        let rooms = self.rooms(server)?;
        let prefixed = if self.settings.version >= Version::V2_6 { rooms.by_prefix(given) } else { None };
        prefixed.or_else(|| rooms.by_meeting(given))
    }

    /// What a call about a meeting that is not in the map comes to.
    fn unknown(&mut self, server: usize, visit: &mut Visit) -> Outcome {
        let by_version = match (visit.call, self.settings.version) {
            (Call::IsMeetingRunning, _) => return running(false),
            (Call::SendChatMessage, _) => return self.chat_to_nobody(),
            (Call::Join, _) => UnknownAnswer::InvalidMeetingIdentifier,
            (Call::End, Version::V2_4 | Version::V2_5 | Version::V2_6) => UnknownAnswer::InvalidPassword,
            _ => UnknownAnswer::NotFound,
        };
        let end = visit.call == Call::End;
        let ordered = self.take(server, visit, |fault| match fault {
            Fault::UnknownAs { answer: UnknownAnswer::InvalidPassword } if !end => None,
            Fault::UnknownAs { answer } => Some(*answer),
            _ => None,
        });
        match ordered.unwrap_or(by_version) {
            UnknownAnswer::NotFound => Outcome::not_found(),
            UnknownAnswer::InvalidPassword => wrong_password(),
            UnknownAnswer::ValidationError => {
                Outcome::failed("validationError", "No meeting with that ID was found")
            }
            UnknownAnswer::InvalidMeetingIdentifier => Outcome::Failed {
                returncode: if ordered.is_some() { "ERROR" } else { "FAILED" },
                key: "invalidMeetingIdentifier",
                message: "The meeting ID that you supplied did not match any existing meetings".into(),
            },
        }
    }

    fn create(&mut self, server: usize, visit: &mut Visit) -> Outcome {
        let Some(new) = new_meeting(visit) else { return self.missing_id() };
        let existed = self.rooms(server).is_some_and(|rooms| rooms.by_meeting(&new.meeting_id).is_some());
        match self.open_on(server, &new, visit.now) {
            Ok((server, at)) => self.created(server, at, existed, visit),
            Err(refusal) => Outcome::Failed {
                returncode: "FAILED",
                key: "internalError",
                message: refusal.to_string().into(),
            },
        }
    }

    fn created(&mut self, server: usize, at: usize, existed: bool, visit: &mut Visit) -> Outcome {
        let Some(rooms) = self.rooms(server) else { return Outcome::not_found() };
        let room = rooms.get(at);
        visit.meeting = Some(room.meeting_id.clone());
        visit.instance = Some(room.internal_id.clone());
        let mut inner = String::new();
        answers::element(&mut inner, "meetingID", &room.meeting_id);
        answers::element(&mut inner, "internalMeetingID", &room.internal_id);
        answers::element(&mut inner, "parentMeetingID", room.parent.as_deref().unwrap_or("bbb-none"));
        answers::element(&mut inner, "attendeePW", &room.attendee_pw);
        answers::element(&mut inner, "moderatorPW", &room.moderator_pw);
        answers::element(&mut inner, "createTime", &room.create_time.to_string());
        answers::element(&mut inner, "voiceBridge", "70000");
        answers::element(&mut inner, "hasUserJoined", answers::bool_name(room.user_joined));
        answers::element(&mut inner, "duration", &room.duration_min.to_string());
        answers::element(&mut inner, "hasBeenForciblyEnded", "false");
        let key = if existed { "duplicateWarning" } else { "" };
        answers::element(&mut inner, "messageKey", key);
        answers::element(
            &mut inner,
            "message",
            if existed { "This conference was already in existence." } else { "" },
        );
        Outcome::Success { key, inner }
    }

    fn end(&mut self, server: usize, at: usize, visit: &mut Visit) -> Outcome {
        if let Some(refused) = self.password_refused(server, at, visit) {
            return refused;
        }
        let forgetful = |f: &Fault| if let Fault::Forgetful { answer } = f { Some(*answer) } else { None };
        if let Some(answer) = self.take(server, visit, forgetful) {
            if let Some(rooms) = self.rooms_mut(server) {
                rooms.get_mut(at).hit(visit.n, visit.now, Effect::Forgotten);
                rooms.forget(at);
            }
            return forgotten(answer);
        }
        let effect = self.effect(server, at, visit);
        if let Some(rooms) = self.rooms_mut(server) {
            rooms.get_mut(at).hit(visit.n, visit.now, effect);
        }
        if effect == Effect::Ends {
            self.start_end(server, at, visit);
        }
        end_sent()
    }

    fn effect(&mut self, server: usize, at: usize, visit: &mut Visit) -> Effect {
        if self.rooms(server).is_some_and(|rooms| rooms.get(at).ending) {
            return Effect::AlreadyEnding;
        }
        let lost = self.take(server, visit, |fault| match fault {
            Fault::Zombie => Some(Effect::Zombie),
            Fault::Swallow => Some(Effect::Swallowed),
            _ => None,
        });
        lost.unwrap_or(Effect::Ends)
    }

    fn start_end(&mut self, server: usize, at: usize, visit: &mut Visit) {
        let delay = |f: &Fault| if let Fault::EndDelay { ms } = f { Some(*ms) } else { None };
        let ms = self.take(server, visit, delay).unwrap_or(self.settings.end_delay_ms);
        if let Some(rooms) = self.rooms_mut(server) {
            rooms.get_mut(at).ending = true;
        }
        let end = Plan::End { server, instance: at, by: EndedBy::Request(visit.n) };
        self.plan(UtcMs(visit.now.0 + i64::from(ms)), end);
    }

    fn password_refused(&self, server: usize, at: usize, visit: &Visit) -> Option<Outcome> {
        let version = self.settings.version;
        let right = &self.rooms(server)?.get(at).moderator_pw;
        match visit.query.get("password") {
            _ if version >= Version::V3_0 => None,
            Some(given) if given == right => None,
            Some(_) => Some(wrong_password()),
            None if version >= Version::V2_5 => None,
            None => Some(Outcome::failed("missingParamPassword", "You must specify a moderator password.")),
        }
    }

    fn info(&mut self, server: usize, at: usize, visit: &mut Visit) -> Outcome {
        let style = self.style(server, visit, None);
        let wrong = |f: &Fault| {
            if let Fault::WrongMeetingId { meeting_id } = f { Some(meeting_id.clone()) } else { None }
        };
        let style = Style { meeting_id: self.take(server, visit, wrong), ..style };
        let mut inner = String::new();
        if let Some(rooms) = self.rooms(server) {
            write_meeting(&mut inner, rooms, at, &style, visit.now);
        }
        Outcome::Success { key: "", inner }
    }

    fn listing(&mut self, server: usize, visit: &mut Visit) -> Outcome {
        let off = |f: &Fault| matches!(f, Fault::ListingDisabled).then_some(());
        if self.take(server, visit, off).is_some() {
            return no_meetings();
        }
        let elements = self.listed(server, visit, |_| true);
        listing(&elements)
    }

    /// The `meeting` elements of one server's listing.
    pub(super) fn listed(
        &mut self,
        server: usize,
        visit: &mut Visit,
        wanted: impl Fn(&str) -> bool,
    ) -> String {
        let Some(rooms) = self.rooms(server) else { return String::new() };
        let shown: Vec<usize> = rooms.visible().filter(|at| wanted(&rooms.get(*at).meeting_id)).collect();
        // Every fault that can show up in a listing is looked for once a meeting only where there is a fault at all.
        let plain = self.faults.active().is_empty();
        let mut out = String::with_capacity(shown.len() * 1_200);
        for at in shown {
            let style = if plain { Style::default() } else { self.style(server, visit, Some(at)) };
            let Some(rooms) = self.rooms(server) else { continue };
            out.push_str("<meeting>\n");
            write_meeting(&mut out, rooms, at, &style, visit.now);
            out.push_str("</meeting>\n");
        }
        out
    }

    /// How one meeting is written: the one that the request is about, or one of a listing.
    fn style(&mut self, server: usize, visit: &mut Visit, listed: Option<usize>) -> Style {
        let name = self.servers[server].name.clone();
        let listed = listed.and_then(|at| Some(self.rooms(server)?.get(at).meeting_id.clone()));
        let mut applied = std::mem::take(&mut visit.faults);
        let at = match &listed {
            Some(meeting) => Scope { server: &name, call: visit.call, given: None, meeting: Some(meeting) },
            None => scope(&name, visit),
        };
        let locale = self.faults.take(&at, &mut applied, |fault| match fault {
            Fault::LocaleNumbers { separator, times } => Some((*separator, *times)),
            _ => None,
        });
        let decoys = |f: &Fault| matches!(f, Fault::DecoyMetadata).then_some(());
        let decoys = self.faults.take(&at, &mut applied, decoys).is_some();
        let nasty = |f: &Fault| matches!(f, Fault::NastyName).then_some(());
        let nasty_name = self.faults.take(&at, &mut applied, nasty).is_some();
        applied.dedup();
        visit.faults = applied;
        Style { locale, decoys, nasty_name, meeting_id: None }
    }

    fn is_running(&self, server: usize, at: usize, visit: &Visit) -> Outcome {
        running(self.rooms(server).is_some_and(|rooms| rooms.get(at).running(visit.now)))
    }

    fn join(&mut self, server: usize, at: usize, visit: &mut Visit) -> Outcome {
        let name = visit.query.get("fullName").unwrap_or("Guest").to_owned();
        let Some(rooms) = self.rooms_mut(server) else { return Outcome::not_found() };
        let room = rooms.get_mut(at);
        if room.ending {
            return Outcome::failed(
                "meetingForciblyEnded",
                "You can not re-join a meeting that has been ended.",
            );
        }
        room.join(&name, visit.now);
        let mut inner = String::new();
        answers::element(&mut inner, "messageKey", "successfullyJoined");
        answers::element(&mut inner, "message", "You have joined successfully.");
        answers::element(&mut inner, "meeting_id", &room.internal_id);
        answers::element(&mut inner, "user_id", &format!("w_{}", room.attendees.len() - 1));
        Outcome::Success { key: "successfullyJoined", inner }
    }

    fn chat(&mut self, server: usize, at: usize, visit: &mut Visit) -> Outcome {
        if self.settings.version < Version::V3_0 {
            return no_such_page();
        }
        let line = visit.query.get("message").unwrap_or("").to_owned();
        if !(1..=MAX_CHAT).contains(&line.chars().count()) {
            return Outcome::failed("validationError", "The message must have 1 to 500 characters");
        }
        if self.rooms(server).is_none_or(|rooms| rooms.get(at).attendees.is_empty()) {
            return self.chat_to_nobody();
        }
        visit.text = Some(line);
        Outcome::noted("", "")
    }

    fn chat_to_nobody(&self) -> Outcome {
        if self.settings.version < Version::V3_0 {
            return no_such_page();
        }
        Outcome::failed("meetingNotFound", "Meeting not found or not active")
    }
}

/// BBB: a call that the version does not have falls through to the proxy's page.
fn no_such_page() -> Outcome {
    Outcome::Page(Page::html(404, "Not Found"))
}

fn new_meeting(visit: &Visit) -> Option<NewMeeting> {
    let text = |name: &str| visit.query.get(name).map(str::to_owned);
    Some(NewMeeting {
        meeting_id: text("meetingID")?,
        name: text("name"),
        participants: 0,
        attendee_pw: text("attendeePW"),
        moderator_pw: text("moderatorPW"),
        metadata: visit.query.metadata().map(|(k, v)| (k.to_owned(), v.to_owned())).collect(),
        duration_min: text("duration").and_then(|d| d.parse().ok()).unwrap_or(0),
        parent: text("parentMeetingID"),
        server: None,
        created_ago_ms: 0,
    })
}

fn write_meeting(out: &mut String, rooms: &Rooms, at: usize, style: &Style, now: UtcMs) {
    let breakouts = rooms.breakouts(at);
    let breakouts: Vec<&str> = breakouts.iter().map(|b| rooms.get(*b).internal_id.as_str()).collect();
    answers::meeting(out, rooms.get(at), &breakouts, style, now);
}

fn running(value: bool) -> Outcome {
    let mut inner = String::new();
    answers::element(&mut inner, "running", answers::bool_name(value));
    Outcome::Success { key: "", inner }
}

fn wrong_password() -> Outcome {
    Outcome::failed("invalidPassword", "The supplied moderator password is incorrect")
}

pub(super) fn end_sent() -> Outcome {
    Outcome::noted(
        "sentEndMeetingRequest",
        "A request to end the meeting was sent. Please wait a few seconds, and then use the getMeetingInfo or \
         isMeetingRunning API calls to verify that it was ended.",
    )
}

pub(super) fn forgotten(answer: ForgetfulAnswer) -> Outcome {
    match answer {
        ForgetfulAnswer::Success => end_sent(),
        ForgetfulAnswer::Failed => {
            Outcome::failed("internalError", "Unable to access end meeting on server.")
        }
        ForgetfulAnswer::BadGateway => Outcome::Page(Page::html(502, "Bad Gateway")),
    }
}

/// A listing of these `meeting` elements; BBB: an empty one is a SUCCESS with its own key.
pub(super) fn listing(elements: &str) -> Outcome {
    if elements.is_empty() {
        return no_meetings();
    }
    Outcome::Success { key: "", inner: format!("<meetings>\n{elements}</meetings>\n") }
}

pub(super) fn no_meetings() -> Outcome {
    let mut inner = String::from("<meetings/>\n");
    answers::element(&mut inner, "messageKey", "noMeetings");
    answers::element(&mut inner, "message", "no meetings were found on this server");
    Outcome::Success { key: "noMeetings", inner }
}
