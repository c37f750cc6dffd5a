//! A simulated VideoSDK, v1 and v2 on one server: the façade of [`sessions`](super::sessions).
//!
//! Where the documentation is silent the sandbox takes one reading and a fault shows the other: the order of listings
//! (`oldest-first`), the largest page (`page-limit`), the answer to ending what is over (`over-as`).
//!
//! Deliberately strict: v2 wants `roomId` in an end call, as both vendor SDKs send it, and `sessionId` may not be of
//! another room.

pub(super) mod command;
pub mod token;

#[cfg(test)]
mod tests;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::sessions::{Api, Asks, Call, Listed, Page, Problem, Request, Visit, Ways, World};
use crate::job::UtcMs;

pub use super::sessions::{
    ActiveFault, Answered, Asked, Control, Counters, Effect, EndedBy, ErrorForm, Fault, FaultOrder, Hit,
    MeetingTruth, NewMeeting, Record, Refusal, SessionTruth, Truth,
};
pub use token::Version;

pub type Sandbox = super::sessions::Sandbox<Settings>;
pub type Options = super::sessions::Options<Settings>;

/// Of a sandbox that is told no other; they guard nothing.
pub const DEMO_API_KEY: &str = "demo-key-of-the-sandbox";
pub const DEMO_SECRET: &str = "demo-secret-of-the-sandbox";

const DEFAULT_PAGE: usize = 20;
/// The documentation names no largest page.
const LARGEST_PAGE: usize = 100;
/// People written out in an answer.
const MAX_SHOWN_PEOPLE: u32 = 100;

/// The account.
#[derive(Clone)]
pub struct Settings {
    pub api_key: String,
    pub secret: String,
    /// From an accepted end to the real one.
    pub end_delay_ms: u32,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings { api_key: DEMO_API_KEY.to_owned(), secret: DEMO_SECRET.to_owned(), end_delay_ms: 100 }
    }
}

impl Api for Settings {
    fn ways(&self) -> Ways {
        Ways { end_delay_ms: self.end_delay_ms, keep_alive_ms: 0, rate: None }
    }

    fn session_id(&self, meeting: &str, n: usize) -> String {
        hex_id(&format!("session {meeting} {n}"))
    }

    fn asks(&self, request: &Request<'_>) -> Asks {
        v2(request).or_else(|| v1(request)).unwrap_or_else(Asks::nothing)
    }

    fn admit(&self, request: &Request<'_>, now: UtcMs) -> Result<(), Problem> {
        let version = if request.path().starts_with("/v1/") { Version::V1 } else { Version::V2 };
        token::check(request.authorization, self, version, now)
    }

    fn answer(&self, world: &mut World, visit: &mut Visit, request: &Request<'_>) -> Result<Value, Problem> {
        let version = if request.path().starts_with("/v1/") { Version::V1 } else { Version::V2 };
        match visit.asks.call {
            Call::End if version == Version::V1 => end_session(world, visit, version),
            Call::End => end_in_room(world, visit, request),
            Call::Session => record(world, visit, version),
            Call::Sessions => listing(world, visit, request, version),
            Call::Meeting => one_room(world, visit),
            Call::Meetings => rooms(world, visit, request),
            Call::Lock => deactivate(world, visit),
            Call::ActiveSession | Call::Unknown => Err(Problem::not_found("Route")),
        }
    }

    fn problem(&self, problem: &Problem) -> Value {
        json!({ "statusCode": problem.status, "error": problem.code, "message": problem.message })
    }

    fn base(&self) -> &'static str {
        ""
    }
}

fn v2(request: &Request<'_>) -> Option<Asks> {
    let path = request.below("/v2")?;
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    let (call, meeting, session) = match (request.method, path.as_slice()) {
        ("POST", ["sessions", "end"]) => (Call::End, request.field("roomId"), request.field("sessionId")),
        ("GET", ["sessions"]) => (Call::Sessions, request.parameter("roomId"), None),
        ("GET", ["sessions", id]) => (Call::Session, None, Some((*id).to_owned())),
        ("GET", ["rooms"]) => (Call::Meetings, None, None),
        ("POST", ["rooms", "deactivate"]) => (Call::Lock, request.field("roomId"), None),
        ("GET", ["rooms", "validate", id] | ["rooms", id]) => (Call::Meeting, Some((*id).to_owned()), None),
        _ => return None,
    };
    Some(Asks { call, meeting, session })
}

fn v1(request: &Request<'_>) -> Option<Asks> {
    let path = request.below("/v1/meeting-sessions").unwrap_or_default();
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    let (call, meeting, session) = match (request.method, path.as_slice()) {
        ("POST", [id, "end"]) => (Call::End, None, Some((*id).to_owned())),
        ("GET", [id]) => (Call::Session, None, Some((*id).to_owned())),
        ("GET", []) if request.path() == "/v1/meeting-sessions" => {
            (Call::Sessions, request.parameter("meetingId"), None)
        }
        _ => return None,
    };
    Some(Asks { call, meeting, session })
}

/// v2: the session that is named, or whatever is live in the room.
fn end_in_room(world: &mut World, visit: &mut Visit, request: &Request<'_>) -> Result<Value, Problem> {
    let Some(room) = request.field("roomId") else {
        return Err(Problem::new(400, "invalid_params", "roomId is required."));
    };
    let Some(room) = world.rooms.find_room(&room) else {
        return Err(Problem::new(402, "invalid_params", "Invalid roomId."));
    };
    if visit.asks.session.is_some() {
        let named = visit.asks.session.as_deref().and_then(|id| world.rooms.find_session(id));
        let of_room = named.is_none_or(|at| world.rooms.session(at).room == room);
        return if of_room { end_session(world, visit, Version::V2) } else { Err(Problem::of_status(400)) };
    }
    let Some(live) = world.rooms.live_in(room) else { return Err(over(world, visit)) };
    world.end(visit, live);
    Ok(session(world, live, true, Version::V2, true))
}

fn end_session(world: &mut World, visit: &mut Visit, version: Version) -> Result<Value, Problem> {
    let named = visit.asks.session.as_deref().and_then(|id| world.rooms.find_session(id));
    let Some(at) = named else { return Err(Problem::not_found("Session")) };
    let live = world.rooms.session(at).ended.is_none();
    world.end(visit, at);
    if !live {
        return Err(over(world, visit));
    }
    Ok(session(world, at, true, version, true))
}

fn over(world: &mut World, visit: &mut Visit) -> Problem {
    Problem::of_status(world.over_status(visit, 406))
}

fn record(world: &mut World, visit: &mut Visit, version: Version) -> Result<Value, Problem> {
    let Some(at) = world.record(visit) else { return Err(Problem::not_found("Session")) };
    let live = world.live_in_record(visit, at);
    Ok(session(world, at, live, version, true))
}

fn listing(
    world: &mut World,
    visit: &mut Visit,
    request: &Request<'_>,
    version: Version,
) -> Result<Value, Problem> {
    let live = match (version, request.parameter("status").as_deref()) {
        // v1 has no filter and ignores one.
        (Version::V1, _) | (_, None) => None,
        (_, Some("ongoing")) => Some(true),
        (_, Some("ended")) => Some(false),
        _ => return Err(Problem::new(422, "invalid_object", "Invalid status.")),
    };
    let page = listing_page(request)?;
    let room = visit.asks.meeting.clone();
    let listed = world.listing(visit, page, |world, visit, at| {
        let of_room = room.as_ref().is_none_or(|id| *id == world.rooms.room(world.rooms.session(at).room).id);
        of_room && live.is_none_or(|live| live == world.live_in_listing(visit, at))
    })?;
    let shown = listed.shown.iter();
    let data: Vec<Value> =
        shown.map(|at| session(world, *at, world.live_in_listing(visit, *at), version, false)).collect();
    Ok(json!({ "pageInfo": page_info(page, &listed), "data": data }))
}

fn listing_page(request: &Request<'_>) -> Result<Page, Problem> {
    let page = request.number("page", 1)?.max(1);
    let size = request.number("perPage", DEFAULT_PAGE)?;
    Ok(Page { index: page - 1, size, largest: LARGEST_PAGE, oldest_first: false })
}

fn page_info(page: Page, listed: &Listed) -> Value {
    let Listed { size, total, .. } = listed;
    json!({
        "currentPage": page.index + 1,
        "perPage": size,
        "lastPage": total.div_ceil(*size),
        "total": total,
    })
}

fn rooms(world: &mut World, visit: &mut Visit, request: &Request<'_>) -> Result<Value, Problem> {
    let page = listing_page(request)?;
    let listed = world.room_listing(visit, page)?;
    let data: Vec<Value> = listed.shown.iter().map(|at| room(world, *at)).collect();
    Ok(json!({ "pageInfo": page_info(page, &listed), "data": data }))
}

fn one_room(world: &mut World, visit: &mut Visit) -> Result<Value, Problem> {
    let found = visit.asks.meeting.as_deref().and_then(|id| world.rooms.find_room(id));
    let Some(at) = found else { return Err(Problem::new(402, "invalid_params", "Invalid roomId.")) };
    Ok(room(world, at))
}

fn room(world: &World, at: usize) -> Value {
    let room = world.rooms.room(at);
    json!({
        "roomId": room.id,
        "customRoomId": room.custom_id,
        "disabled": room.locked,
        "createdAt": world.time(room.created_at),
        "updatedAt": world.time(room.created_at),
        "id": hex_id(&format!("room {}", room.id)),
        "links": links(&room.id, ""),
    })
}

/// Permanent. The room's own id only: one of the customer's is refused.
fn deactivate(world: &mut World, visit: &mut Visit) -> Result<Value, Problem> {
    let Some(id) = visit.asks.meeting.clone() else { return Err(Problem::of_status(400)) };
    let Some(room) = world.rooms.find_room(&id).filter(|_| !world.rooms.is_custom_id(&id)) else {
        return Err(Problem::new(402, "invalid_params", "Invalid roomId."));
    };
    world.lock(visit, room, true);
    Ok(json!({ "disabled": true, "meetingId": id, "userMeetingId": world.rooms.room(room).custom_id }))
}

/// One session, live or not as whoever asks is to see it; `whole`: as its record has it, not a listing.
fn session(world: &World, at: usize, live: bool, version: Version, whole: bool) -> Value {
    let session = world.rooms.session(at);
    let room = world.rooms.room(session.room);
    let ended = session.ended.as_ref().filter(|_| !live).map(|(at, _)| *at);
    let mut value = json!({
        "id": session.id,
        "start": world.time(session.started_at),
        "end": ended.map(|at| world.time(at)),
        "participants": people(world, at, ended),
        "links": links(&room.id, &session.id),
    });
    match version {
        Version::V1 => value["meetingId"] = json!(room.id),
        Version::V2 => {
            value["roomId"] = json!(room.id);
            value["status"] = json!(if live { "ongoing" } else { "ended" });
        }
    }
    if whole {
        value["userId"] = json!(hex_id("the account"));
        value["customRoomId"] = json!(room.custom_id);
        // As in the documentation's own sample of a session that lasted 22 minutes: it says nothing.
        value["activeDuration"] = json!(0);
    }
    value
}

fn people(world: &World, at: usize, ended: Option<UtcMs>) -> Vec<Value> {
    let session = world.rooms.session(at);
    let shown = 1..=session.participants.min(MAX_SHOWN_PEOPLE);
    let log = json!([{ "start": world.time(session.started_at), "end": ended.map(|at| world.time(at)) }]);
    shown
        .map(|n| json!({ "participantId": format!("user-{n}"), "name": format!("User {n}"), "timelog": log }))
        .collect()
}

fn links(room: &str, session: &str) -> Value {
    json!({
        "get_room": format!("https://api.videosdk.live/v2/rooms/{room}"),
        "get_session": format!("https://api.videosdk.live/v2/sessions/{session}"),
    })
}

/// 24 hexadecimal digits, like all ids of the service.
fn hex_id(text: &str) -> String {
    Sha256::digest(text).iter().take(12).map(|byte| format!("{byte:02x}")).collect()
}
