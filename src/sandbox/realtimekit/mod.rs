//! A simulated Cloudflare RealtimeKit, and the API of Dyte that it grew from, on one server: the façade of
//! [`sessions`](super::sessions).
//!
//! The same calls are at `/client/v4/accounts/{account}/realtime/kit/{app}/` with a bearer token and at `/v2/` with the
//! organisation's id and key. Listings come newest first; the documentation names no order and no largest page
//! (`oldest-first` and `page-limit` show the other readings).

pub(super) mod command;
#[cfg(test)]
mod tests;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::sessions::{Api, Asks, Call, Listed, Page, Problem, Rate, Request, Visit, Ways, World};
use crate::job::UtcMs;

pub use super::sessions::{
    ActiveFault, Answered, Asked, Control, Counters, Effect, EndedBy, ErrorForm, Fault, FaultOrder, Hit,
    MeetingTruth, NewMeeting, Record, Refusal, SessionTruth, Truth,
};

pub type Sandbox = super::sessions::Sandbox<Settings>;
pub type Options = super::sessions::Options<Settings>;

/// Of a sandbox that is told no other; they guard nothing.
pub const DEMO_ACCOUNT: &str = "0123456789abcdef0123456789abcdef";
pub const DEMO_APP: &str = "demo-app";
pub const DEMO_TOKEN: &str = "demo-token-of-the-sandbox";
pub const DEMO_ORGANIZATION: &str = "demo-organization";
pub const DEMO_API_KEY: &str = "demo-key-of-the-sandbox";

/// Above the account.
const BASE: &str = "/client/v4";
/// Above the calls, in the legacy API.
const LEGACY_BASE: &str = "/v2";
const DEFAULT_PAGE: usize = 20;
/// The documentation names no largest page.
const LARGEST_PAGE: usize = 100;
const KEEP_ALIVE_S: u32 = 60;
/// 1,200 requests in five minutes, then nothing for five minutes.
const RATE: Rate = Rate { requests: 1_200, window_ms: 300_000, penalty_ms: 300_000 };

/// The account.
#[derive(Clone)]
pub struct Settings {
    pub account_id: String,
    pub app_id: String,
    pub token: String,
    /// The legacy API's.
    pub organization_id: String,
    pub api_key: String,
    /// From an accepted kick to the end of the session.
    pub end_delay_ms: u32,
    pub rate: Option<Rate>,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            account_id: DEMO_ACCOUNT.to_owned(),
            app_id: DEMO_APP.to_owned(),
            token: DEMO_TOKEN.to_owned(),
            organization_id: DEMO_ORGANIZATION.to_owned(),
            api_key: DEMO_API_KEY.to_owned(),
            end_delay_ms: 100,
            rate: Some(RATE),
        }
    }
}

impl Sandbox {
    /// What the `url` of a `realtimekit-legacy` server is to be.
    pub fn legacy_url(&self) -> String {
        format!("{}{LEGACY_BASE}", self.origin())
    }
}

/// Where a request goes: the account and the app of the path, or the legacy API, and what is below.
struct Route {
    place: Option<(String, String)>,
    path: Vec<String>,
}

impl Route {
    fn of(request: &Request<'_>) -> Option<Route> {
        if let Some(path) = request.below(LEGACY_BASE) {
            return Some(Route { place: None, path });
        }
        let path = request.below("/client/v4/accounts")?;
        let [account, realtime, kit, app, path @ ..] = path.as_slice() else { return None };
        let place = Some((account.clone(), app.clone()));
        (realtime == "realtime" && kit == "kit").then(|| Route { place, path: path.to_vec() })
    }
}

impl Api for Settings {
    fn ways(&self) -> Ways {
        Ways { end_delay_ms: self.end_delay_ms, keep_alive_ms: KEEP_ALIVE_S * 1_000, rate: self.rate }
    }

    fn session_id(&self, meeting: &str, n: usize) -> String {
        let digest = Sha256::digest(format!("session {meeting} {n}"));
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&digest[..16]);
        uuid::Builder::from_random_bytes(bytes).into_uuid().to_string()
    }

    fn asks(&self, request: &Request<'_>) -> Asks {
        let path = Route::of(request).map(|route| route.path).unwrap_or_default();
        let path: Vec<&str> = path.iter().map(String::as_str).collect();
        let (call, meeting, session) = match (request.method, path.as_slice()) {
            ("POST", ["meetings", id, "active-session", "kick-all"]) => (Call::End, Some(*id), None),
            ("GET", ["meetings", id, "active-session"]) => (Call::ActiveSession, Some(*id), None),
            ("GET", ["meetings", id]) => (Call::Meeting, Some(*id), None),
            ("PATCH", ["meetings", id]) => (Call::Lock, Some(*id), None),
            ("GET", ["sessions", id]) => (Call::Session, None, Some(*id)),
            ("GET", ["meetings"]) => (Call::Meetings, None, None),
            ("GET", ["sessions"]) => {
                let meeting = request.parameter("associated_id");
                return Asks { call: Call::Sessions, meeting, session: None };
            }
            _ => return Asks::nothing(),
        };
        Asks { call, meeting: meeting.map(str::to_owned), session: session.map(str::to_owned) }
    }

    fn admit(&self, request: &Request<'_>, _: UtcMs) -> Result<(), Problem> {
        let Some(route) = Route::of(request) else { return Err(Problem::not_found("Route")) };
        let wanted = match route.place {
            Some(_) => format!("Bearer {}", self.token),
            None => {
                format!("Basic {}", STANDARD.encode(format!("{}:{}", self.organization_id, self.api_key)))
            }
        };
        if request.authorization != Some(wanted.as_str()) {
            return Err(Problem::new(401, "unauthorized", "Authentication error"));
        }
        match route.place {
            Some((account, _)) if account != self.account_id => {
                Err(Problem::new(403, "forbidden", "The token has no access to this account"))
            }
            Some((_, app)) if app != self.app_id => Err(Problem::not_found("App")),
            _ => Ok(()),
        }
    }

    fn answer(&self, world: &mut World, visit: &mut Visit, request: &Request<'_>) -> Result<Value, Problem> {
        match visit.asks.call {
            Call::End => kick_all(world, visit, request),
            Call::Session => self.record(world, visit),
            Call::Sessions => self.listing(world, visit, request),
            Call::ActiveSession => self.active(world, visit),
            Call::Meeting => Ok(enveloped(meeting(world, found(world, visit)?))),
            Call::Meetings => meetings(world, visit, request),
            Call::Lock => update(world, visit, request),
            Call::Unknown => Err(Problem::not_found("Route")),
        }
    }

    fn problem(&self, problem: &Problem) -> Value {
        json!({ "success": false, "error": { "code": problem.status, "message": problem.message } })
    }

    fn base(&self) -> &'static str {
        BASE
    }
}

impl Settings {
    fn record(&self, world: &mut World, visit: &mut Visit) -> Result<Value, Problem> {
        let Some(at) = world.record(visit) else { return Err(Problem::not_found("Session")) };
        let live = world.live_in_record(visit, at);
        Ok(enveloped(self.session(world, at, live)))
    }

    /// 404 where nothing is live.
    fn active(&self, world: &mut World, visit: &mut Visit) -> Result<Value, Problem> {
        let room = found(world, visit)?;
        let Some(at) = world.active_in(visit, room) else {
            return Err(Problem::not_found("Active session"));
        };
        visit.asks.session = Some(world.rooms.session(at).id.clone());
        Ok(enveloped(self.session(world, at, true)))
    }

    fn listing(&self, world: &mut World, visit: &mut Visit, request: &Request<'_>) -> Result<Value, Problem> {
        let live = match request.parameter("status").as_deref() {
            None => None,
            Some("LIVE") => Some(true),
            Some("ENDED") => Some(false),
            Some(_) => return Err(invalid("status")),
        };
        let page = listing_page(request)?;
        let meeting = visit.asks.meeting.clone();
        let listed = world.listing(visit, page, |world, visit, at| {
            let id = &world.rooms.room(world.rooms.session(at).room).id;
            let of_meeting = meeting.as_ref().is_none_or(|meeting| meeting == id);
            of_meeting && live.is_none_or(|live| live == world.live_in_listing(visit, at))
        })?;
        let shown = listed.shown.iter();
        let sessions: Vec<Value> =
            shown.map(|at| self.session(world, *at, world.live_in_listing(visit, *at))).collect();
        Ok(json!({ "success": true, "data": { "sessions": sessions }, "paging": paging(&listed) }))
    }

    fn session(&self, world: &World, at: usize, live: bool) -> Value {
        let session = world.rooms.session(at);
        let meeting = &world.rooms.room(session.room).id;
        let mut value = json!({
            "id": session.id,
            "associated_id": meeting,
            "meeting_display_name": meeting,
            "type": "meeting",
            "status": if live { "LIVE" } else { "ENDED" },
            "live_participants": session.participants,
            "max_concurrent_participants": session.participants,
            "minutes_consumed": 0,
            "organization_id": self.organization_id,
            "started_at": world.time(session.started_at),
            "created_at": world.time(session.started_at),
            "updated_at": world.time(session.started_at),
        });
        if let Some((ended, _)) = session.ended.as_ref().filter(|_| !live) {
            value["ended_at"] = world.time(*ended);
        }
        value
    }
}

fn listing_page(request: &Request<'_>) -> Result<Page, Problem> {
    if request.parameter("sort_by").is_some_and(|by| by != "createdAt" && by != "minutesConsumed") {
        return Err(invalid("sort_by"));
    }
    let oldest_first = match request.parameter("sort_order").as_deref() {
        Some("ASC") => true,
        Some("DESC") | None => false,
        Some(_) => return Err(invalid("sort_order")),
    };
    let page = request.number("page_no", 1)?.max(1);
    let size = request.number("per_page", DEFAULT_PAGE)?;
    Ok(Page { index: page - 1, size, largest: LARGEST_PAGE, oldest_first })
}

fn invalid(name: &str) -> Problem {
    Problem::new(422, "invalid_object", format!("{name} is invalid"))
}

/// The meeting that a request is about; a wrong id answers as a wrong app does.
fn found(world: &World, visit: &Visit) -> Result<usize, Problem> {
    let found = visit.asks.meeting.as_deref().and_then(|id| world.rooms.find_room(id));
    found.ok_or_else(|| Problem::not_found("Meeting"))
}

fn kick_all(world: &mut World, visit: &mut Visit, request: &Request<'_>) -> Result<Value, Problem> {
    if !request.body.is_empty() {
        return Err(Problem::new(415, "unsupported_media_type", "This call takes no body"));
    }
    let room = found(world, visit)?;
    let Some(live) = world.rooms.live_in(room) else {
        let status = world.over_status(visit, 404);
        return Err(Problem::new(status, "resource_not_found", "No active session"));
    };
    let kicked = world.end(visit, live);
    Ok(enveloped(json!({ "action": "kick_all", "kicked_participants_count": kicked })))
}

fn meetings(world: &mut World, visit: &mut Visit, request: &Request<'_>) -> Result<Value, Problem> {
    let listed = world.room_listing(visit, listing_page(request)?)?;
    let meetings: Vec<Value> = listed.shown.iter().map(|at| meeting(world, *at)).collect();
    Ok(json!({ "success": true, "data": meetings, "paging": paging(&listed) }))
}

fn meeting(world: &World, at: usize) -> Value {
    let room = world.rooms.room(at);
    json!({
        "id": room.id,
        "title": room.id,
        "status": if room.locked { "INACTIVE" } else { "ACTIVE" },
        "session_keep_alive_time_in_secs": KEEP_ALIVE_S,
        "created_at": world.time(room.created_at),
        "updated_at": world.time(room.created_at),
    })
}

fn update(world: &mut World, visit: &mut Visit, request: &Request<'_>) -> Result<Value, Problem> {
    let room = found(world, visit)?;
    match request.field("status").as_deref() {
        Some("INACTIVE") => world.lock(visit, room, true),
        Some("ACTIVE") => world.lock(visit, room, false),
        _ => return Err(invalid("status")),
    }
    Ok(enveloped(meeting(world, room)))
}

/// Offsets are counted from 1.
fn paging(listed: &Listed) -> Value {
    let Listed { shown, start, total, .. } = listed;
    let first = if shown.is_empty() { *start } else { start + 1 };
    json!({ "total_count": total, "start_offset": first, "end_offset": start + shown.len() })
}

fn enveloped(data: Value) -> Value {
    json!({ "success": true, "data": data })
}
