//! The simulated servers: pure, deterministic, without a clock.
//!
//! Everything that happens later (an end that takes its time, users who come back) lies on the agenda and is done when
//! the world is next consulted, at the time for which it was planned. So the truth has exact times, a test can step the
//! clock, and nothing has to run in the background.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

use super::answers::{self, Outcome};
use super::balancer::Records;
use super::faults::{ActiveFault, Fault, FaultOrder, Faults, MAX_FAULTS, Scope};
use super::rooms::{NewMeeting, Rooms};
use super::truth::{Answered, Asked, Counters, EndedBy, Log, Record, Truth};
use super::wire::{Call, Query, signed};
use super::{Front, Refusal, Settings};
use crate::job::UtcMs;
use crate::sandbox::reply::{Fate, Page, Reply};

/// BBB: breakout rooms are ended after their parent, not with it.
const BREAKOUTS_END_AFTER_MS: i64 = 500;
/// Bytes of a meetingID; the real limit lies between 2 and 256 characters, depending on the version.
const MAX_MEETING_ID: usize = 1_024;
const MAX_NODES: usize = 64;

/// One request as it came in.
pub struct Request<'a> {
    /// From [`World::server`].
    pub server: usize,
    /// The name after `/api/`; empty for the probe.
    pub call: &'a str,
    /// The raw query, exactly as on the wire.
    pub query: &'a str,
    /// Microseconds since the epoch.
    pub received_us: i64,
}

/// One addressable server.
pub(super) struct Server {
    pub name: String,
    pub secret: String,
    pub kind: Kind,
}

pub(super) enum Kind {
    /// bbb-web and akka-apps.
    Meetings(Rooms),
    Balancer(Records),
}

pub(super) enum Plan {
    End { server: usize, instance: usize, by: EndedBy },
    Create(NewMeeting),
}

/// A request on its way through the world.
pub(super) struct Visit {
    pub n: u64,
    pub now: UtcMs,
    pub call: Call,
    pub query: Query,
    /// The meetingID that the given id was resolved to.
    pub meeting: Option<String>,
    /// The internal id of the instance it was taken to mean.
    pub instance: Option<String>,
    pub faults: Vec<Cow<'static, str>>,
    pub delay_ms: u32,
    pub text: Option<String>,
}

impl Visit {
    pub fn given(&self) -> Option<&str> {
        self.query.get("meetingID")
    }
}

pub struct World {
    pub(super) settings: Settings,
    /// The first one is what the base URL reaches.
    pub(super) servers: Vec<Server>,
    pub(super) faults: Faults,
    agenda: BTreeMap<(UtcMs, u64), Plan>,
    planned: u64,
    log: Log,
}

impl World {
    pub fn new(settings: Settings) -> World {
        let meetings = |name: String, secret: &str| Server {
            name,
            secret: secret.to_owned(),
            kind: Kind::Meetings(Rooms::default()),
        };
        let mut servers = vec![meetings("front".to_owned(), &settings.secret)];
        if settings.front != Front::Direct {
            servers[0].kind = Kind::Balancer(Records::default());
            let nodes = 1..=settings.nodes.clamp(1, MAX_NODES);
            servers.extend(nodes.map(|n| meetings(format!("node{n}"), &settings.node_secret)));
        }
        let log = Log::new(settings.log_capacity);
        World { settings, servers, faults: Faults::default(), agenda: BTreeMap::new(), planned: 0, log }
    }

    /// The number of a server by its name.
    pub fn server(&self, name: &str) -> Option<usize> {
        self.servers.iter().position(|s| s.name == name)
    }

    /// Does everything that was planned up to now.
    pub fn advance(&mut self, now: UtcMs) {
        while let Some(next) = self.agenda.first_entry().filter(|e| e.key().0 <= now) {
            let ((at, _), plan) = next.remove_entry();
            // A fault that has run out since then was still there at that time.
            self.faults.expire(at);
            match plan {
                Plan::End { server, instance, by } => self.finish(server, instance, by, at),
                Plan::Create(new) => {
                    // Refused only for lack of room: then the users do not come back.
                    let _ = self.open(&new, at);
                }
            }
        }
        self.faults.expire(now);
    }

    pub(super) fn plan(&mut self, at: UtcMs, plan: Plan) {
        self.planned += 1;
        self.agenda.insert((at, self.planned), plan);
    }

    /// Answers one request.
    pub fn request(&mut self, request: &Request<'_>, now: UtcMs) -> Reply {
        self.advance(now);
        let mut visit = Visit {
            n: self.log.number(),
            now,
            call: Call::parse(request.call),
            query: Query::parse(request.query),
            meeting: None,
            instance: None,
            faults: Vec::new(),
            delay_ms: 0,
            text: None,
        };
        visit.meeting = self.meeting_of(request.server, &visit);
        let outcome = self.outcome(request, &mut visit);
        self.advance(now);
        let (fate, answer) = self.write(request.server, &mut visit, outcome);
        let date = UtcMs(now.0 + self.skew(request.server));
        let delay = Duration::from_millis(u64::from(visit.delay_ms));
        let meeting_id = visit.given().map(|id| id.chars().take(MAX_MEETING_ID).collect());
        self.log.push(Record {
            n: visit.n,
            received_at: now,
            received_us: request.received_us,
            server: self.servers[request.server].name.clone(),
            call: visit.call,
            meeting_id,
            instance: visit.instance,
            faults: visit.faults,
            answer,
            text: visit.text,
        });
        Reply { fate, delay, date }
    }

    /// The line first, then the checksum, then the call: a dead proxy checks no signature.
    fn outcome(&mut self, request: &Request<'_>, visit: &mut Visit) -> Outcome {
        let server = request.server;
        if let Some(cut) = self.line(server, visit) {
            return cut;
        }
        if visit.call != Call::Probe && !self.authentic(request, visit) {
            return self.checksum_error(server, visit);
        }
        let outcome = self.call(server, visit);
        match self.take(server, visit, |f| matches!(f, Fault::AnswerLost).then_some(())) {
            Some(()) => Outcome::Close { reset: false },
            None => outcome,
        }
    }

    /// Sends a call to the server that has it in its hands, whatever the line.
    pub(super) fn call(&mut self, server: usize, visit: &mut Visit) -> Outcome {
        if visit.call == Call::Unknown {
            return Outcome::failed("unsupportedRequest", "This request is not supported.");
        }
        match self.servers[server].kind {
            Kind::Meetings(_) => self.meeting_server(server, visit),
            Kind::Balancer(_) => self.balancer(visit),
        }
    }

    /// Is there a usable line to this server? `None` is yes.
    pub(super) fn line(&mut self, server: usize, visit: &mut Visit) -> Option<Outcome> {
        let slow = |f: &Fault| if let Fault::Slow { ms } = f { Some(*ms) } else { None };
        if let Some(ms) = self.take(server, visit, slow) {
            visit.delay_ms = visit.delay_ms.saturating_add(ms);
        }
        self.take(server, visit, cut)
    }

    /// Would a listing asked of this server find a broken line? Uses no fault up.
    pub(super) fn line_is_broken(&self, server: usize) -> bool {
        let name = &self.servers[server].name;
        let poll = Scope { server: name, call: Call::GetMeetings, given: None, meeting: None };
        self.faults.find(&poll, cut).is_some()
    }

    fn authentic(&mut self, request: &Request<'_>, visit: &Visit) -> bool {
        let server = &self.servers[request.server];
        let refused = |f: &Fault| matches!(f, Fault::ChecksumError { always: true, .. }).then_some(());
        let refused = self.faults.find(&scope(&server.name, visit), refused).is_some();
        !refused && signed(request.call, request.query, &server.secret, &self.settings.hashes)
    }

    fn checksum_error(&mut self, server: usize, visit: &mut Visit) -> Outcome {
        let plain = |f: &Fault| {
            if let Fault::ChecksumError { plain_text, .. } = f { Some(*plain_text) } else { None }
        };
        match self.take(server, visit, plain) {
            Some(true) => Outcome::Page(Page::text(401, "Unauthorized: checksum error")),
            _ => Outcome::failed("checksumError", "Checksums do not match"),
        }
    }

    /// Writes an outcome out, as far as the faults let it.
    fn write(&mut self, server: usize, visit: &mut Visit, outcome: Outcome) -> (Fate, Answered) {
        match outcome {
            Outcome::Success { key, inner } => {
                let mut page = answers::xml(answers::success(&inner));
                self.spoil(server, visit, &mut page);
                (Fate::Answer(page), Answered::Success(Cow::Borrowed(key)))
            }
            Outcome::Failed { returncode, key, message } => {
                let list = self.take(server, visit, |f| matches!(f, Fault::ErrorList).then_some(()));
                let body = match list {
                    Some(()) => answers::failed_list(returncode, key, &message),
                    None => answers::failed(returncode, key, &message),
                };
                (Fate::Answer(answers::xml(body)), Answered::Failed(Cow::Borrowed(key)))
            }
            Outcome::Page(page) => {
                let status = page.status;
                (Fate::Answer(page), Answered::Http(status))
            }
            Outcome::Close { reset } => (Fate::Close { reset }, Answered::Closed),
            Outcome::Never => (Fate::Never, Answered::Never),
        }
    }

    fn spoil(&mut self, server: usize, visit: &mut Visit, page: &mut Page) {
        if self.take(server, visit, |f| matches!(f, Fault::Truncated).then_some(())).is_some() {
            answers::truncate(&mut page.body);
        }
        let huge = |f: &Fault| if let Fault::Huge { mib } = f { Some(*mib) } else { None };
        page.padding_mib = self.take(server, visit, huge).unwrap_or(0);
    }

    /// Uses up a fault that this request meets at this server.
    pub(super) fn take<T>(
        &mut self,
        server: usize,
        visit: &mut Visit,
        pick: impl Fn(&Fault) -> Option<T>,
    ) -> Option<T> {
        let mut applied = std::mem::take(&mut visit.faults);
        let taken = self.faults.take(&scope(&self.servers[server].name, visit), &mut applied, pick);
        visit.faults = applied;
        taken
    }

    /// How far a server's clock is off, in milliseconds.
    pub(super) fn skew(&self, server: usize) -> i64 {
        let at = Scope { server: &self.servers[server].name, call: Call::Create, given: None, meeting: None };
        let skew = |f: &Fault| if let Fault::ClockSkew { ms } = f { Some(*ms) } else { None };
        self.faults.find(&at, skew).unwrap_or(0)
    }

    pub(super) fn rooms(&self, server: usize) -> Option<&Rooms> {
        match &self.servers.get(server)?.kind {
            Kind::Meetings(rooms) => Some(rooms),
            Kind::Balancer(_) => None,
        }
    }

    pub(super) fn rooms_mut(&mut self, server: usize) -> Option<&mut Rooms> {
        match &mut self.servers.get_mut(server)?.kind {
            Kind::Meetings(rooms) => Some(rooms),
            Kind::Balancer(_) => None,
        }
    }

    /// Creates a meeting as its users' front-end does: through the front. Gives its server and its place there; one that
    /// exists already is joined by the new participants.
    pub(super) fn open(&mut self, new: &NewMeeting, now: UtcMs) -> Result<(usize, usize), Refusal> {
        let server = self.home(new)?;
        let opened = self.open_on(server, new, now)?;
        if let Kind::Balancer(records) = &mut self.servers[0].kind {
            records.remember(&new.meeting_id, server);
        }
        Ok(opened)
    }

    /// Creates a meeting on one meeting server, past any balancer.
    pub(super) fn open_on(
        &mut self,
        server: usize,
        new: &NewMeeting,
        now: UtcMs,
    ) -> Result<(usize, usize), Refusal> {
        if new.meeting_id.is_empty() || new.meeting_id.len() > MAX_MEETING_ID {
            return Err(Refusal::Value("meeting_id", "1 to 1024 bytes"));
        }
        let skew = self.skew(server);
        let duration = i64::from(new.duration_min) * 60_000;
        let rooms = self.rooms_mut(server).ok_or_else(|| Refusal::Server(server.to_string()))?;
        if let Some(at) = rooms.by_meeting(&new.meeting_id) {
            let there = u32::try_from(rooms.get(at).attendees.len()).unwrap_or(u32::MAX);
            rooms.get_mut(at).set_participants(there.saturating_add(new.participants), now);
            return Ok((server, at));
        }
        let at = rooms.add(new, now, skew)?;
        if duration > 0 {
            let over = UtcMs(rooms.get(at).created_at.0 + duration);
            self.plan(over.max(now), Plan::End { server, instance: at, by: EndedBy::Itself });
        }
        Ok((server, at))
    }

    /// The server that holds, or is to hold, a meeting.
    fn home(&self, new: &NewMeeting) -> Result<usize, Refusal> {
        let Kind::Balancer(records) = &self.servers[0].kind else { return Ok(0) };
        match new.server.as_deref().filter(|name| *name != "front") {
            Some(name) => self.server(name).ok_or_else(|| Refusal::Server(name.to_owned())),
            None => Ok(records.node_of(&new.meeting_id).unwrap_or(1)),
        }
    }

    /// Ends an instance in truth, and plans what follows from that.
    pub(super) fn finish(&mut self, server: usize, instance: usize, by: EndedBy, at: UtcMs) {
        let Some(rooms) = self.rooms_mut(server).filter(|r| r.get(instance).ended.is_none()) else { return };
        let breakouts = rooms.breakouts(instance);
        rooms.finish(instance, by, at);
        let mut again = rooms.get(instance).again();
        let name = &self.servers[server].name;
        again.server = Some(name.clone());
        let at_end = Scope { server: name, call: Call::End, given: Some(&again.meeting_id), meeting: None };
        let back = self.faults.take(&at_end, &mut Vec::new(), |fault| match fault {
            Fault::Recreate { after_ms, participants } => Some((i64::from(*after_ms), *participants)),
            _ => None,
        });
        let stay = self.faults.find(&at_end, |f| matches!(f, Fault::BreakoutsStay).then_some(())).is_some();
        if let Some((after_ms, participants)) = back {
            self.plan(UtcMs(at.0 + after_ms), Plan::Create(NewMeeting { participants, ..again }));
        }
        let end = UtcMs(at.0 + BREAKOUTS_END_AFTER_MS);
        for breakout in breakouts.into_iter().filter(|_| !stay) {
            self.plan(end, Plan::End { server, instance: breakout, by: EndedBy::Parent });
        }
    }
}

/// What the control routes do, and what the same methods do in the process.
impl World {
    /// Creates a meeting; gives its internal id. Idempotent, like the call.
    pub fn create_meeting(&mut self, new: &NewMeeting, now: UtcMs) -> Result<String, Refusal> {
        self.advance(now);
        let (server, at) = self.open(new, now)?;
        let rooms = self.rooms(server).ok_or_else(|| Refusal::Server(server.to_string()))?;
        Ok(rooms.get(at).internal_id.clone())
    }

    /// Fills a meeting up or sends people away.
    pub fn set_participants(&mut self, meeting: &str, count: u32, now: UtcMs) -> Result<(), Refusal> {
        self.advance(now);
        let living = self.living(meeting)?;
        for (server, at) in living {
            if let Some(rooms) = self.rooms_mut(server) {
                rooms.get_mut(at).set_participants(count, now);
            }
        }
        Ok(())
    }

    /// Ends every live instance of a meeting, without any call.
    pub fn end_meeting(&mut self, meeting: &str, now: UtcMs) -> Result<(), Refusal> {
        self.advance(now);
        for (server, at) in self.living(meeting)? {
            self.finish(server, at, EndedBy::Itself, now);
        }
        self.advance(now);
        Ok(())
    }

    fn living(&self, meeting: &str) -> Result<Vec<(usize, usize)>, Refusal> {
        let all = (0..self.servers.len()).flat_map(|server| {
            self.rooms(server)
                .into_iter()
                .flat_map(move |rooms| rooms.alive(Some(meeting)).into_iter().map(move |at| (server, at)))
        });
        let living: Vec<_> = all.collect();
        if living.is_empty() { Err(Refusal::Meeting(meeting.to_owned())) } else { Ok(living) }
    }

    /// Sets a fault; gives its number, or 0 for one that has happened at once.
    pub fn set_fault(&mut self, order: FaultOrder, now: UtcMs) -> Result<u64, Refusal> {
        self.advance(now);
        if let Some(name) = order.server.as_deref().filter(|name| self.server(name).is_none()) {
            return Err(Refusal::Server(name.to_owned()));
        }
        if let Fault::Throttled { status, .. } = order.fault
            && !matches!(status, 429 | 503)
        {
            return Err(Refusal::Value("status", "429 or 503"));
        }
        if self.faults.active().len() >= MAX_FAULTS {
            return Err(Refusal::TooMany("faults", MAX_FAULTS));
        }
        match order.fault {
            Fault::Forget => self.forget(&order),
            Fault::LostState { outage_ms, outage } => {
                self.lose_state(&order);
                if outage_ms > 0 {
                    let away = FaultOrder { fault: outage.fault(), meeting: None, ..order }.for_ms(outage_ms);
                    return Ok(self.faults.set(away, now));
                }
            }
            Fault::EndsItself { in_ms } => {
                self.plan_own_end(&order, UtcMs(now.0 + i64::from(in_ms)));
                self.advance(now);
            }
            _ => return Ok(self.faults.set(order, now)),
        }
        Ok(0)
    }

    /// The front forgets, if it is a balancer and no node is named; otherwise the meeting servers do.
    fn forget(&mut self, order: &FaultOrder) {
        if let Kind::Balancer(records) = &mut self.servers[0].kind
            && order.server.as_deref().is_none_or(|name| name == "front")
        {
            records.forget(order.meeting.as_deref());
        } else {
            self.lose_state(order);
        }
    }

    fn lose_state(&mut self, order: &FaultOrder) {
        for (_, rooms) in self.held_by(order) {
            for at in rooms.alive(order.meeting.as_deref()) {
                rooms.forget(at);
            }
        }
    }

    fn plan_own_end(&mut self, order: &FaultOrder, at: UtcMs) {
        let mut ends = Vec::new();
        for (server, rooms) in self.held_by(order) {
            ends.extend(rooms.alive(order.meeting.as_deref()).into_iter().map(|instance| (server, instance)));
        }
        for (server, instance) in ends {
            self.plan(at, Plan::End { server, instance, by: EndedBy::Itself });
        }
    }

    fn held_by(&mut self, order: &FaultOrder) -> impl Iterator<Item = (usize, &mut Rooms)> {
        let wanted = order.server.clone();
        let named = move |server: &Server| wanted.as_ref().is_none_or(|name| *name == server.name);
        self.servers.iter_mut().enumerate().filter(move |(_, s)| named(s)).filter_map(|(n, s)| {
            match &mut s.kind {
                Kind::Meetings(rooms) => Some((n, rooms)),
                Kind::Balancer(_) => None,
            }
        })
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
        let meetings = (0..self.servers.len())
            .filter_map(|n| Some((&self.servers[n].name, self.rooms(n)?)))
            .flat_map(|(name, rooms)| rooms.truth(name, asked.meeting.as_deref()))
            .collect();
        Truth {
            now,
            meetings,
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
fn cut(fault: &Fault) -> Option<Outcome> {
    match fault {
        Fault::Html404 => Some(Outcome::Page(Page::html(404, "Not Found"))),
        Fault::BadGateway => Some(Outcome::Page(Page::html(502, "Bad Gateway"))),
        Fault::Throttled { status, retry_after } => {
            let page = Page::html(*status, "Service Temporarily Unavailable");
            Some(Outcome::Page(Page { retry_after: *retry_after, ..page }))
        }
        Fault::Down { reset } => Some(Outcome::Close { reset: *reset }),
        Fault::Hang => Some(Outcome::Never),
        _ => None,
    }
}

pub(super) fn scope<'a>(server: &'a str, visit: &'a Visit) -> Scope<'a> {
    Scope { server, call: visit.call, given: visit.given(), meeting: visit.meeting.as_deref() }
}
