//! The VideoRoom plugin of a Janus server, through its admin address.
//!
//! | module | what it does |
//! |---|---|
//! | `answer` | what an answer means; pure |
//! | `single` | the rooms that the list does not show, a bounded number of them a round |
//! | `seen` | which sightings of a room are one instance; pure |
//!
//! Janus tells neither when a room was opened nor which run of it this is. An instance here is one unbroken row of
//! sightings, named after the room and the first of them, and taken to have started then: a room that was first seen
//! after due is not ours to end. The fence behind that is the secret of the room: one that was created again under the
//! same id with another secret refuses ours, and stays untouched.
//!
//! Every error comes under HTTP 200, so only the body is read. A room is there until it is destroyed, with or without
//! people in it; two sightings of `exists: false` are the proof.
//! Not done here: the event hook (retried five times, then lost: only ever a hint) and kicking single participants.

mod answer;
mod seen;
mod single;

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use reqwest::Method;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use url::Url;

use self::answer::{Answer, Room};
use self::seen::Seen;
use self::single::Turns;
use super::http::Timeouts;
use super::network::Network;
use super::rest::{Ask, Clock, NoReply, Rest};
use super::{
    EndCall, Fault, Judgement, LiveMeeting, Memory, Platform, PlatformSettings, Probe, Round, Target,
    same_secret,
};
use crate::job::{Aim, EndAnswer, Instance, MeetingId, Now, Pin, Purpose, ServerName, Sighting, Verdict};

const PLUGIN: &str = "janus.plugin.videoroom";
/// The name of the server among the nodes of a round.
const FRONT: &str = "";

#[derive(Clone, Debug)]
pub struct Settings {
    /// The admin address: `http://127.0.0.1:7188/admin/`.
    pub url: Url,
    pub network: Network,
    pub admin_secret: SecretString,
    /// Of the rooms, where they have one.
    pub room_secret: Option<SecretString>,
    /// Rooms are named by strings (`string_ids` of the plugin), not by numbers.
    pub string_ids: bool,
}

impl PartialEq for Settings {
    fn eq(&self, other: &Settings) -> bool {
        let Settings { url, network, admin_secret, room_secret, string_ids } = other;
        let same_room_secret = match (&self.room_secret, room_secret) {
            (Some(mine), Some(theirs)) => same_secret(mine, theirs),
            (mine, theirs) => mine.is_none() && theirs.is_none(),
        };
        (&self.url, &self.network, &self.string_ids) == (url, network, string_ids)
            && same_secret(&self.admin_secret, admin_secret)
            && same_room_secret
    }
}

impl Settings {
    /// Why no room there can be called this, and what to do.
    pub fn meeting_fault(&self, meeting: &MeetingId) -> Option<(String, String)> {
        if self.string_ids || number(meeting).is_some() {
            return None;
        }
        let what = format!("rooms of this Janus have numbers, and {:?} is none", meeting.as_str());
        let hint = "give the number of the room; string-ids = true in the server's block is for a Janus whose rooms have names";
        Some((what, hint.to_owned()))
    }
}

/// As Janus writes it: `007` is another text, and no room.
fn number(meeting: &MeetingId) -> Option<u64> {
    meeting.as_str().parse::<u64>().ok().filter(|number| number.to_string() == meeting.as_str())
}

/// One configured server, with what was seen of its rooms since the start.
pub struct Janus {
    rest: Rest,
    settings: Settings,
    seen: Mutex<Seen>,
    turns: Mutex<Turns>,
}

impl Janus {
    /// Fails only where HTTPS cannot be set up on this machine.
    pub fn new(name: &ServerName, settings: &Settings, clock: Clock) -> Result<Janus, Fault> {
        let Settings { url, network, .. } = settings;
        let rest = Rest::new(name.to_string(), url.clone(), network, Timeouts::default(), clock)?;
        Ok(Janus { rest, settings: settings.clone(), seen: Mutex::default(), turns: Mutex::default() })
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends one request to the plugin.
    async fn plugin(&self, what: &str, request: Value) -> Result<Answer, NoReply> {
        let body = json!({
            "janus": "message_plugin",
            "transaction": fastrand::u64(..).to_string(),
            "admin_secret": self.settings.admin_secret.expose_secret(),
            "plugin": PLUGIN,
            "request": request,
        });
        let ask = Ask { method: Method::POST, json: Some(body), ..Ask::get(what, &[], None) };
        let reply = self.rest.send(ask).await?;
        Ok(answer::read(&self.rest.label, what, &reply))
    }

    /// A request about one room. `None`: no room of this server can have such an id.
    fn about(&self, request: &str, meeting: &MeetingId) -> Option<Value> {
        let room = match self.settings.string_ids {
            true => json!(meeting.as_str()),
            false => json!(number(meeting)?),
        };
        let mut body = json!({ "request": request, "room": room });
        if let Some(secret) = &self.settings.room_secret {
            body["secret"] = json!(secret.expose_secret());
        }
        Some(body)
    }

    fn no_such_id(&self, meeting: &MeetingId) -> String {
        let label = &self.rest.label;
        match self.settings.meeting_fault(meeting) {
            Some((what, hint)) => format!("{label}: {what} ({hint})"),
            None => format!("{label}: no room can be called {:?}", meeting.as_str()),
        }
    }

    /// The rooms that are not private.
    async fn list(&self) -> Result<Vec<Room>, Fault> {
        match self.plugin("the list of rooms", json!({ "request": "list" })).await {
            Ok(answer) => answer::rooms(answer),
            Err(none) => Err(none.fault()),
        }
    }

    async fn exists(&self, meeting: &MeetingId) -> Result<Presence, NoReply> {
        let Some(mut request) = self.about("exists", meeting) else {
            return Ok(Presence::Unknown(Sighting::Misconfigured(self.no_such_id(meeting))));
        };
        // It takes no secret, and gets none.
        request.as_object_mut().expect("it is a table").remove("secret");
        self.plugin("the look at a room", request).await.map(answer::presence)
    }

    /// Opens or closes a room for those who have no token: nobody has one, since none is given out here.
    async fn allow(&self, action: &str, meeting: &MeetingId) -> Result<(), Fault> {
        let request = self.about("allowed", meeting);
        let mut request = request.ok_or_else(|| Fault::Misconfigured(self.no_such_id(meeting)))?;
        request["action"] = json!(action);
        match self.plugin("the lock of a room", request).await {
            Ok(answer) => answer::allowed(answer),
            Err(none) => Err(none.fault()),
        }
    }
}

/// Is a room there?
#[derive(Clone, PartialEq, Debug)]
enum Presence {
    There {
        participants: Option<u32>,
    },
    NotThere,
    /// Not a word on the room itself.
    Unknown(Sighting),
}

#[async_trait]
impl Platform for Janus {
    fn kind(&self) -> &'static str {
        "janus"
    }

    /// One list of all rooms; those that it does not show (they are gone, or private) are asked for one by one.
    async fn look(&self, targets: &[Target]) -> Round {
        let sent = self.rest.now();
        let list = self.list().await;
        let listed_at = self.rest.now();
        let mut trouble = BTreeMap::new();
        let presences = match list {
            Ok(rooms) => {
                let mut heard = rooms.into_iter().map(|room| listed(room, listed_at)).collect();
                trouble
                    .extend(self.ask_singles(targets, &mut heard).await.map(|why| (FRONT.to_owned(), why)));
                heard
            }
            Err(fault) => {
                if let Fault::Unreachable(why) = &fault {
                    trouble.insert(FRONT.to_owned(), why.clone());
                }
                let unknown = (Presence::Unknown(sighting(fault)), listed_at);
                targets.iter().map(|target| (target.meeting.clone(), unknown.clone())).collect()
            }
        };
        let mut seen = self.seen();
        let sightings = targets.iter().map(|target| {
            let (presence, at) = &presences[&target.meeting];
            seen.sight(target, presence.clone(), *at)
        });
        let sightings = sightings.collect();
        Round {
            sent,
            received: self.rest.now(),
            sightings,
            listings: BTreeMap::new(),
            shown: BTreeMap::new(),
            trouble,
        }
    }

    fn fingerprint(&self) -> String {
        PlatformSettings::Janus(self.settings.clone()).fingerprint()
    }

    fn meeting_fault(&self, meeting: &MeetingId) -> Option<(String, String)> {
        self.settings.meeting_fault(meeting)
    }

    fn aim(&self, _pin: &Pin) -> Aim {
        Aim::Meeting
    }

    async fn end(&self, call: &EndCall) -> EndAnswer {
        let Some(request) = self.about("destroy", &call.meeting) else {
            return EndAnswer::Misconfigured { why: self.no_such_id(&call.meeting) };
        };
        let answer = match self.plugin("the end call", request).await {
            Ok(answer) => answer::ended(answer),
            Err(none) => EndAnswer::Unreachable { why: none.to_string(), sent: none.may_have_arrived() },
        };
        if answer.may_have_ended() {
            // Whatever is there from now on may be another one.
            self.seen().called(&call.meeting);
        }
        answer
    }

    /// The memory is for servers that lie or lose their state; Janus has one map, and what is not in it is not there.
    fn judge(&self, memory: &Memory, round: &Round, targets: &[Target]) -> Judgement {
        let verdicts = targets.iter().zip(&round.sightings);
        let verdicts = verdicts.map(|(target, seen)| weigh(target, seen)).collect();
        Judgement { memory: memory.clone(), verdicts, alarms: Vec::new() }
    }

    async fn probe(&self) -> Result<Probe, Fault> {
        let rooms = self.list().await?;
        Ok(Probe { summary: format!("Janus VideoRoom, {} public rooms", rooms.len()) })
    }

    fn clock_skew_ms(&self) -> Option<i64> {
        self.rest.skew().ms()
    }

    async fn meetings(&self) -> Result<Vec<LiveMeeting>, Fault> {
        let sent = self.rest.now();
        let rooms = self.list().await?;
        let now = self.rest.now();
        let mut seen = self.seen();
        let live: Vec<LiveMeeting> =
            rooms.into_iter().map(|room| live_meeting(room, &mut seen, now)).collect();
        seen.listed(&live.iter().map(|live| &live.meeting).collect(), sent);
        Ok(live)
    }

    fn recall(&self, shown: &mut dyn Iterator<Item = (MeetingId, Pin)>, at: Now) {
        self.seen().recall(shown, at);
    }

    async fn close_room(&self, meeting: &MeetingId) -> Result<(), Fault> {
        self.allow("enable", meeting).await
    }

    async fn open_room(&self, meeting: &MeetingId) -> Result<(), Fault> {
        self.allow("disable", meeting).await
    }
}

fn listed(room: Room, at: Now) -> (MeetingId, (Presence, Now)) {
    (MeetingId(room.id), (Presence::There { participants: room.participants }, at))
}

fn sighting(fault: Fault) -> Sighting {
    match fault {
        Fault::Unreachable(why) => Sighting::Unreachable(why),
        Fault::Misconfigured(why) => Sighting::Misconfigured(why),
    }
}

/// A job that is armed anew may find another room under the name (if it may be the same one, `seen` has said so). There is
/// one room a name: the proof at the end, that the name is gone, is good for both. After due it is not said, since the later
/// row is not ours to end then.
fn weigh(target: &Target, seen: &Sighting) -> Verdict {
    match seen.at_its_word(target.instance.as_ref()) {
        Verdict::Replaced { by, .. } if matches!(target.purpose, Purpose::Pin | Purpose::Arm) => {
            Verdict::Replaced { by, counts: true }
        }
        verdict => verdict,
    }
}

fn live_meeting(room: Room, seen: &mut Seen, now: Now) -> LiveMeeting {
    let meeting = MeetingId(room.id);
    let Instance { id, .. } = seen.note(&meeting, None, now);
    LiveMeeting {
        meeting,
        instance: id,
        name: room.description,
        // First seen is not started.
        started_at: None,
        participants: room.participants,
        meta: BTreeMap::new(),
        meta_cut: false,
        breakout_of: None,
    }
}

#[cfg(test)]
mod tests;
