//! The simulated service: pure, deterministic, without a clock.
//!
//! Everything that happens later (an end that takes its time, people who come back) lies on the agenda and is done when
//! the world is next consulted, at the time for which it was planned. So the truth has exact times, a test can step the
//! clock, and nothing has to run in the background.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::api::{Api, Asks, Page as ListPage, Problem, Request};
use super::faults::{ActiveFault, ErrorForm, Fault, FaultOrder, Faults, MAX_FAULTS, Scope};
use super::limiter::Limiter;
use super::rooms::{NewMeeting, Rooms};
use super::truth::{Answered, Asked, Call, Counters, Effect, EndedBy, Log, Record, Truth};
use super::{MAX_PARTICIPANTS, Refusal};
use crate::job::UtcMs;
use crate::sandbox::reply::{Fate, Page, Reply};

/// Bytes of a request line that are kept in the log.
const MAX_LINE: usize = 2_048;

enum Plan {
    End {
        session: usize,
        by: EndedBy,
    },
    /// It ends if nobody has been in it since then.
    Expire {
        session: usize,
        empty_since: UtcMs,
    },
    Join(NewMeeting),
}

/// A request on its way through the world.
pub struct Visit {
    pub n: u64,
    pub now: UtcMs,
    pub asks: Asks,
    pub faults: Vec<Cow<'static, str>>,
    delay_ms: u32,
}

impl Visit {
    fn scope(&self) -> Scope<'_> {
        Scope { call: self.asks.call, meeting: self.asks.meeting.as_deref() }
    }
}

/// What comes out of a request before it is written.
enum Outcome {
    Answer(Value),
    Problem(Problem),
    Page(Page),
    Close { reset: bool },
    Never,
}

pub struct World {
    api: Arc<dyn Api>,
    pub(in crate::sandbox) rooms: Rooms,
    faults: Faults,
    limiter: Option<Limiter>,
    agenda: BTreeMap<(UtcMs, u64), Plan>,
    planned: u64,
    log: Log,
}

impl World {
    pub fn new(api: Arc<dyn Api>, log_capacity: usize) -> World {
        let limiter = api.ways().rate.map(Limiter::new);
        World {
            api,
            rooms: Rooms::default(),
            faults: Faults::default(),
            limiter,
            agenda: BTreeMap::new(),
            planned: 0,
            log: Log::new(log_capacity),
        }
    }

    /// Does everything that was planned up to now.
    pub fn advance(&mut self, now: UtcMs) {
        while let Some(next) = self.agenda.first_entry().filter(|e| e.key().0 <= now) {
            let ((at, _), plan) = next.remove_entry();
            // A fault that has run out since then was still there at that time.
            self.faults.expire(at);
            match plan {
                Plan::End { session, by } => self.finish(session, by, at),
                Plan::Expire { session, empty_since } => {
                    if self.rooms.session(session).empty_since == Some(empty_since) {
                        self.finish(session, EndedBy::Itself, at);
                    }
                }
                Plan::Join(new) => {
                    // Refused where the room has been locked: then nobody comes back.
                    let _ = self.join(&new, at);
                }
            }
        }
        self.faults.expire(now);
    }

    fn plan(&mut self, at: UtcMs, plan: Plan) {
        self.planned += 1;
        self.agenda.insert((at, self.planned), plan);
    }

    /// Answers one request.
    pub fn request(&mut self, request: &Request<'_>, now: UtcMs) -> Reply {
        self.advance(now);
        let api = Arc::clone(&self.api);
        let mut asks = api.asks(request);
        self.complete(&mut asks);
        let mut visit = Visit { n: self.log.number(), now, asks, faults: Vec::new(), delay_ms: 0 };
        let outcome = self.outcome(&*api, request, &mut visit);
        self.advance(now);
        let (fate, answer) = self.write(&*api, &mut visit, outcome);
        let line: String = format!("{} {}", request.method, request.target).chars().take(MAX_LINE).collect();
        self.log.push(Record {
            n: visit.n,
            received_at: now,
            received_us: request.received_us,
            call: visit.asks.call,
            line,
            meeting_id: visit.asks.meeting,
            session: visit.asks.session,
            faults: visit.faults,
            answer,
        });
        let delay = Duration::from_millis(u64::from(visit.delay_ms));
        Reply { fate, delay, date: self.told(now) }
    }

    /// A request that names a session only is about its meeting, too.
    fn complete(&self, asks: &mut Asks) {
        let named = asks.session.as_deref().and_then(|id| self.rooms.find_session(id));
        if let (None, Some(at)) = (&asks.meeting, named) {
            asks.meeting = Some(self.rooms.room(self.rooms.session(at).room).id.clone());
        }
    }

    /// The line first, then the rate and the token, then the call: a dead proxy checks no token.
    fn outcome(&mut self, api: &dyn Api, request: &Request<'_>, visit: &mut Visit) -> Outcome {
        let slow = |f: &Fault| if let Fault::Slow { ms } = f { Some(*ms) } else { None };
        visit.delay_ms = self.take(visit, slow).unwrap_or(0);
        let now = visit.now;
        if let Some(cut) = self.take(visit, |fault| cut(fault, now)) {
            return cut;
        }
        let token = request.authorization.unwrap_or("");
        if let Some(seconds) = self.limiter.as_mut().and_then(|limiter| limiter.refuse(token, now)) {
            visit.faults.push("rate-limit".into());
            return Outcome::Problem(Problem::too_many(Some(seconds)));
        }
        match self.answer(api, request, visit) {
            Err(problem) => Outcome::Problem(problem),
            Ok(_) if self.take(visit, |f| matches!(f, Fault::AnswerLost).then_some(())).is_some() => {
                Outcome::Close { reset: false }
            }
            Ok(value) => Outcome::Answer(value),
        }
    }

    fn answer(&mut self, api: &dyn Api, request: &Request<'_>, visit: &mut Visit) -> Result<Value, Problem> {
        let token = request.authorization.unwrap_or("");
        let mut applied = std::mem::take(&mut visit.faults);
        let refused = self.faults.refuse_token(&visit.scope(), &mut applied, token);
        visit.faults = applied;
        if refused {
            return Err(Problem::new(401, "invalid_token", "Token is invalid or expired."));
        }
        api.admit(request, self.told(visit.now))?;
        let status = |f: &Fault| if let Fault::Refused { status } = f { Some(*status) } else { None };
        if let Some(status) = self.take(visit, status) {
            return Err(Problem::of_status(status));
        }
        if self.take(visit, |f| matches!(f, Fault::FalseSuccess).then_some(())).is_some() {
            let mut body = api.problem(&Problem::of_status(500));
            body["success"] = Value::Bool(false);
            return Ok(body);
        }
        api.answer(self, visit, request)
    }

    /// Writes an outcome out, in the form that the faults ask for.
    fn write(&mut self, api: &dyn Api, visit: &mut Visit, outcome: Outcome) -> (Fate, Answered) {
        let page = match outcome {
            Outcome::Answer(value) => json_page(200, &value),
            Outcome::Problem(problem) => {
                let form = |f: &Fault| if let Fault::ErrorForm { form } = f { Some(*form) } else { None };
                match self.take(visit, form) {
                    Some(form) => written(&problem, form),
                    None => Page {
                        retry_after: problem.retry_after,
                        ..json_page(problem.status, &api.problem(&problem))
                    },
                }
            }
            Outcome::Page(page) => page,
            Outcome::Close { reset } => return (Fate::Close { reset }, Answered::Closed),
            Outcome::Never => return (Fate::Never, Answered::Never),
        };
        let status = page.status;
        (Fate::Answer(page), Answered::Http(status))
    }

    fn take<T>(&mut self, visit: &mut Visit, pick: impl Fn(&Fault) -> Option<T>) -> Option<T> {
        let mut applied = std::mem::take(&mut visit.faults);
        let taken = self.faults.take(&visit.scope(), &mut applied, pick);
        visit.faults = applied;
        taken
    }

    /// An instant as the service's own clock has it.
    fn told(&self, at: UtcMs) -> UtcMs {
        let any = Scope { call: Call::Unknown, meeting: None };
        let skew = |f: &Fault| if let Fault::ClockSkew { ms } = f { Some(*ms) } else { None };
        UtcMs(at.0 + self.faults.find(&any, skew).unwrap_or(0))
    }

    /// Lets people into a meeting; gives its session. The first ones start one.
    fn join(&mut self, new: &NewMeeting, now: UtcMs) -> Result<usize, Refusal> {
        if new.participants > MAX_PARTICIPANTS {
            return Err(Refusal::TooMany("participants", MAX_PARTICIPANTS as usize));
        }
        let room = self.rooms.open_room(&new.meeting_id, new.custom_id.as_deref(), now)?;
        if self.rooms.room(room).locked {
            return Err(Refusal::Locked(new.meeting_id.clone()));
        }
        if let Some(live) = self.rooms.live_in(room) {
            let there = self.rooms.session(live).participants;
            self.fill(live, (there + new.participants).min(MAX_PARTICIPANTS), now);
            return Ok(live);
        }
        let api = Arc::clone(&self.api);
        let at = self.rooms.start(room, new, now, |n| api.session_id(&new.meeting_id, n))?;
        self.watch_empty(at, now);
        Ok(at)
    }

    fn fill(&mut self, session: usize, count: u32, now: UtcMs) {
        self.rooms.session_mut(session).set_participants(count, now);
        self.watch_empty(session, now);
    }

    /// A session that nobody is in ends by itself after a while, unless it is a ghost.
    fn watch_empty(&mut self, session: usize, now: UtcMs) {
        let it = self.rooms.session(session);
        let Some(empty_since) = it.empty_since.filter(|_| !it.ghost && it.ended.is_none()) else { return };
        let at = Scope { call: Call::Unknown, meeting: Some(&self.rooms.room(it.room).id) };
        let alive = |f: &Fault| if let Fault::KeepAlive { ms } = f { Some(*ms) } else { None };
        let ms = self.faults.find(&at, alive).unwrap_or(self.api.ways().keep_alive_ms);
        self.plan(UtcMs(now.0 + i64::from(ms)), Plan::Expire { session, empty_since });
    }

    /// Ends a session in truth, and plans what follows from that.
    fn finish(&mut self, at: usize, by: EndedBy, when: UtcMs) {
        let session = self.rooms.session_mut(at);
        if session.ended.is_some() {
            return;
        }
        session.set_participants(0, when);
        session.ended = Some((when, by));
        let room = session.room;
        let meeting = self.rooms.room(room).id.clone();
        let at_end = Scope { call: Call::End, meeting: Some(&meeting) };
        let back = self.faults.take(&at_end, &mut Vec::new(), |fault| match fault {
            Fault::Recreate { after_ms, participants } => Some((i64::from(*after_ms), *participants)),
            _ => None,
        });
        if let Some((after_ms, participants)) = back {
            let again = NewMeeting { participants, ..NewMeeting::new(&meeting) };
            self.plan(UtcMs(when.0 + after_ms), Plan::Join(again));
        }
    }
}

/// What the façades build their answers of.
impl World {
    /// An end call at a session; gives how many people it sends away.
    pub(in crate::sandbox) fn end(&mut self, visit: &mut Visit, at: usize) -> u32 {
        let people = self.rooms.session(at).participants;
        visit.asks.session = Some(self.rooms.session(at).id.clone());
        let effect = self.effect(visit, at);
        self.rooms.session_mut(at).hit(visit.n, visit.now, effect);
        match effect {
            Effect::Ends => {
                let late = |f: &Fault| if let Fault::EndsLate { ms } = f { Some(*ms) } else { None };
                let ms = self.take(visit, late).unwrap_or(self.api.ways().end_delay_ms);
                self.rooms.session_mut(at).ending = true;
                let end = Plan::End { session: at, by: EndedBy::Request(visit.n) };
                self.plan(UtcMs(visit.now.0 + i64::from(ms)), end);
            }
            Effect::LeftGhost => {
                let session = self.rooms.session_mut(at);
                session.ghost = true;
                session.set_participants(0, visit.now);
            }
            Effect::AlreadyEnding | Effect::AlreadyOver | Effect::Swallowed | Effect::Zombie => {}
        }
        people
    }

    fn effect(&mut self, visit: &mut Visit, at: usize) -> Effect {
        let session = self.rooms.session(at);
        if session.ended.is_some() {
            return Effect::AlreadyOver;
        }
        if session.ending {
            return Effect::AlreadyEnding;
        }
        let ghost = session.ghost;
        let lost = self.take(visit, |fault| match fault {
            Fault::Zombie => Some(Effect::Zombie),
            Fault::Swallow => Some(Effect::Swallowed),
            Fault::Ghost if !ghost => Some(Effect::LeftGhost),
            _ => None,
        });
        lost.unwrap_or(Effect::Ends)
    }

    /// The status for ending what is over already.
    pub(in crate::sandbox) fn over_status(&mut self, visit: &mut Visit, default: u16) -> u16 {
        let over = |f: &Fault| if let Fault::OverAs { status } = f { Some(*status) } else { None };
        self.take(visit, over).unwrap_or(default)
    }

    /// The session that a record asks for, unless it has vanished.
    pub(in crate::sandbox) fn record(&mut self, visit: &mut Visit) -> Option<usize> {
        let at = self.rooms.find_session(visit.asks.session.as_deref()?)?;
        if self.vanished(visit, at) {
            visit.faults.push(Fault::RecordVanished.name().into());
            return None;
        }
        Some(at)
    }

    fn vanished(&self, visit: &Visit, at: usize) -> bool {
        let vanished = |f: &Fault| matches!(f, Fault::RecordVanished).then_some(());
        let over = self.rooms.session(at).ended.is_some();
        over && !self.faults.active().is_empty() && self.find(at, visit, vanished).is_some()
    }

    /// Is it live, as its own record has it?
    pub(in crate::sandbox) fn live_in_record(&mut self, visit: &mut Visit, at: usize) -> bool {
        let stale = |f: &Fault| if let Fault::StaleRecord { ms } = f { Some(*ms) } else { None };
        let lag = self.find(at, visit, stale).unwrap_or(0);
        self.rooms.session(at).shown_live(visit.now, lag)
    }

    /// The session that is shown as the live one of a room.
    pub(in crate::sandbox) fn active_in(&mut self, visit: &mut Visit, room: usize) -> Option<usize> {
        let at = self.rooms.newest_in(room)?;
        self.live_in_record(visit, at).then_some(at)
    }

    /// Is it live, as listings have it?
    pub(in crate::sandbox) fn live_in_listing(&self, visit: &Visit, at: usize) -> bool {
        let stale = |f: &Fault| if let Fault::StaleListing { ms } = f { Some(*ms) } else { None };
        // Every fault is looked for once a session only where there is a fault at all.
        let lag = if self.faults.active().is_empty() { None } else { self.find(at, visit, stale) };
        self.rooms.session(at).shown_live(visit.now, lag.unwrap_or(0))
    }

    /// A standing fault of the meeting that a session belongs to.
    fn find<T>(&self, at: usize, visit: &Visit, pick: impl Fn(&Fault) -> Option<T>) -> Option<T> {
        let meeting = self.rooms.room(self.rooms.session(at).room).id.as_str();
        self.faults.find(&Scope { call: visit.asks.call, meeting: Some(meeting) }, pick)
    }

    /// Sessions for a listing, the newest first, and the page that is asked for of them: what is on it, and the total.
    pub(in crate::sandbox) fn listing(
        &mut self,
        visit: &mut Visit,
        page: ListPage,
        wanted: impl Fn(&World, &Visit, usize) -> bool,
    ) -> Result<Listed, Problem> {
        let size = self.page_size(visit, page)?;
        let all = self.rooms.sessions().map(|(at, _)| at);
        let mut all: Vec<usize> =
            all.filter(|at| !self.vanished(visit, *at) && wanted(self, visit, *at)).collect();
        let turned = self.take(visit, |f| matches!(f, Fault::OldestFirst).then_some(())).is_some();
        if !page.oldest_first && !turned {
            all.reverse();
        }
        let listed = Listed::of(&all, page.index, size);
        if listed.start + listed.shown.len() < all.len() {
            self.shrink(visit, &all);
        }
        Ok(listed)
    }

    /// The page that is asked for of all rooms, the newest first.
    pub(in crate::sandbox) fn room_listing(
        &mut self,
        visit: &mut Visit,
        page: ListPage,
    ) -> Result<Listed, Problem> {
        let size = self.page_size(visit, page)?;
        let all: Vec<usize> = (0..self.rooms.rooms()).rev().collect();
        Ok(Listed::of(&all, page.index, size))
    }

    fn page_size(&mut self, visit: &mut Visit, page: ListPage) -> Result<usize, Problem> {
        let limit = self.take(visit, |f| match f {
            Fault::PageLimit { max, refuse } => Some((*max as usize, *refuse)),
            _ => None,
        });
        let (max, refuse) = limit.unwrap_or((page.largest, false));
        if page.size > max && refuse {
            return Err(Problem::new(422, "invalid_object", "The page is too large."));
        }
        Ok(page.size.clamp(1, max.max(1)))
    }

    fn shrink(&mut self, visit: &mut Visit, all: &[usize]) {
        let drop = |f: &Fault| if let Fault::ShrinkingListing { drop } = f { Some(*drop) } else { None };
        let count = self.take(visit, drop).unwrap_or(0);
        for at in all.iter().take(count as usize) {
            self.finish(*at, EndedBy::Itself, visit.now);
        }
    }

    /// Locks a room or opens it.
    pub(in crate::sandbox) fn lock(&mut self, visit: &mut Visit, room: usize, locked: bool) {
        self.rooms.room_mut(room).locked = locked;
        let drops = locked && self.take(visit, |f| matches!(f, Fault::LockDrops).then_some(())).is_some();
        if let Some(live) = self.rooms.live_in(room).filter(|_| drops) {
            self.fill(live, 0, visit.now);
        }
    }

    /// A timestamp in an answer.
    pub(in crate::sandbox) fn time(&self, at: UtcMs) -> Value {
        let any = Scope { call: Call::Unknown, meeting: None };
        let bad = |f: &Fault| if let Fault::BadTimes { text } = f { Some(text.clone()) } else { None };
        Value::String(self.faults.find(&any, bad).unwrap_or_else(|| self.told(at).to_string()))
    }
}

/// One page of a listing.
pub(in crate::sandbox) struct Listed {
    pub shown: Vec<usize>,
    pub start: usize,
    pub size: usize,
    pub total: usize,
}

impl Listed {
    fn of(all: &[usize], index: usize, size: usize) -> Listed {
        let start = index.saturating_mul(size).min(all.len());
        let end = start.saturating_add(size).min(all.len());
        Listed { shown: all[start..end].to_vec(), start, size, total: all.len() }
    }
}

/// What the control routes do, and what the same methods do in the process.
impl World {
    /// People join; gives the id of their session.
    pub fn create_meeting(&mut self, new: &NewMeeting, now: UtcMs) -> Result<String, Refusal> {
        self.advance(now);
        let at = self.join(new, now)?;
        Ok(self.rooms.session(at).id.clone())
    }

    /// A meeting that nobody has joined yet.
    pub fn create_room(&mut self, meeting: &str, now: UtcMs) -> Result<(), Refusal> {
        self.advance(now);
        self.rooms.open_room(meeting, None, now).map(drop)
    }

    pub fn set_participants(&mut self, meeting: &str, count: u32, now: UtcMs) -> Result<(), Refusal> {
        self.advance(now);
        if count > MAX_PARTICIPANTS {
            return Err(Refusal::TooMany("participants", MAX_PARTICIPANTS as usize));
        }
        let live = self.live(meeting)?;
        self.fill(live, count, now);
        self.advance(now);
        Ok(())
    }

    /// Ends the live session without any call.
    pub fn end_meeting(&mut self, meeting: &str, now: UtcMs) -> Result<(), Refusal> {
        self.advance(now);
        let live = self.live(meeting)?;
        self.finish(live, EndedBy::Itself, now);
        self.advance(now);
        Ok(())
    }

    fn live(&self, meeting: &str) -> Result<usize, Refusal> {
        let live = self.rooms.find_room(meeting).and_then(|room| self.rooms.live_in(room));
        live.ok_or_else(|| Refusal::Meeting(meeting.to_owned()))
    }

    /// Sets a fault; gives its number, or 0 for one that has happened at once.
    pub fn set_fault(&mut self, order: FaultOrder, now: UtcMs) -> Result<u64, Refusal> {
        self.advance(now);
        if order.fault.status_is_wrong() {
            return Err(Refusal::Value("status", "400 to 599"));
        }
        if self.faults.active().len() >= MAX_FAULTS {
            return Err(Refusal::TooMany("faults", MAX_FAULTS));
        }
        let Fault::EndsItself { in_ms } = order.fault else { return Ok(self.faults.set(order, now)) };
        let wanted = |room: usize| order.meeting.as_ref().is_none_or(|m| *m == self.rooms.room(room).id);
        let live = self.rooms.sessions().filter(|(_, s)| s.ended.is_none() && wanted(s.room));
        let live: Vec<usize> = live.map(|(at, _)| at).collect();
        for session in live {
            self.plan(UtcMs(now.0 + i64::from(in_ms)), Plan::End { session, by: EndedBy::Itself });
        }
        self.advance(now);
        Ok(0)
    }

    /// Removes one fault, or all; says how many.
    pub fn clear_faults(&mut self, id: Option<u64>) -> usize {
        self.faults.clear(id)
    }

    /// What stands now.
    pub fn faults(&mut self, now: UtcMs) -> Vec<ActiveFault> {
        self.advance(now);
        self.faults.active().to_vec()
    }

    pub fn truth(&mut self, asked: &Asked, now: UtcMs) -> Truth {
        self.advance(now);
        Truth {
            now,
            meetings: self.rooms.truth(asked.meeting.as_deref()),
            faults: self.faults.active().to_vec(),
            counters: self.log.counters().clone(),
            requests: self.log.select(asked),
            requests_dropped: self.log.dropped(),
        }
    }

    pub fn requests(&self, asked: &Asked) -> Vec<Record> {
        self.log.select(asked)
    }

    pub fn last_request(&self) -> Option<&Record> {
        self.log.last()
    }

    pub fn counters(&self) -> &Counters {
        self.log.counters()
    }
}

/// What a fault of the line makes of a request.
fn cut(fault: &Fault, now: UtcMs) -> Option<Outcome> {
    match fault {
        Fault::BadGateway => Some(Outcome::Page(Page::html(502, "Bad Gateway"))),
        Fault::Throttled { retry_after, http_date } => {
            let page = Page::html(429, "Too Many Requests");
            let until = |seconds| UtcMs(now.0 + i64::from(seconds) * 1_000);
            Some(Outcome::Page(match retry_after {
                Some(seconds) if *http_date => Page { retry_at: Some(until(*seconds)), ..page },
                _ => Page { retry_after: *retry_after, ..page },
            }))
        }
        Fault::Down { reset } => Some(Outcome::Close { reset: *reset }),
        Fault::Hang => Some(Outcome::Never),
        _ => None,
    }
}

fn json_page(status: u16, value: &Value) -> Page {
    Page::new(status, "application/json; charset=utf-8", value.to_string())
}

/// An error in a form other than the service's own.
fn written(problem: &Problem, form: ErrorForm) -> Page {
    let Problem { status, message, .. } = problem;
    let page = match form {
        ErrorForm::Message => json_page(*status, &json!({ "message": message })),
        ErrorForm::Error => json_page(*status, &json!({ "error": message })),
        ErrorForm::Msg => json_page(*status, &json!({ "msg": message })),
        ErrorForm::StatusMessage => json_page(*status, &json!({ "statusMessage": message })),
        ErrorForm::String => json_page(*status, &json!(message)),
        ErrorForm::Text => Page::text(*status, message),
        ErrorForm::Html => Page::html(*status, message),
        ErrorForm::V4 => {
            let errors = json!([{ "code": 10_000 + u32::from(*status), "message": message }]);
            json_page(*status, &json!({ "success": false, "errors": errors, "messages": [], "result": null }))
        }
    };
    Page { retry_after: problem.retry_after, ..page }
}
