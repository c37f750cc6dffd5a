//! A server of the simulated world, as the engine calls it: every request may fail in every way.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;

use super::clock::Ms;
use super::faults::{Ail, Endpoint};
use super::plan::NetFault;
use super::sim::{Quirk, Sim};
use super::words::{listed, names, shown};
use super::world::{Coming, Flavour, meeting_id};
use crate::job::{
    Aim, EndAnswer, Evidence, Instance, MeetingId, Pin, SIGHTING_GAP, Sighting, Site, Verdict, Warned,
};
use crate::platform::bigbluebutton::{Front, weigh};
use crate::platform::{
    EndCall, Fault, HandOn, Judgement, LiveMeeting, Memory, NodeMemory, Part, Platform, Probe, Round, Target,
    Warning,
};

/// A request without an answer is given up after this long.
const TIMEOUT: Ms = 10_000;
/// With [`Quirk::SlowLooks`], so much later than it need be.
const NEEDLESS: Ms = 12_000;
const NOWHERE: Evidence = Evidence { listing: true, info: true, node: false };

pub struct SimPlatform {
    pub sim: Arc<Sim>,
    pub site: usize,
    /// Whose meetings are found at its url.
    pub host: usize,
    pub flavour: Flavour,
    /// How long the last look took.
    pub took: AtomicI64,
}

/// What became of a request on its way.
pub enum Way {
    Through { then: Ms },
    Failed { why: &'static str, sent: bool },
}

impl SimPlatform {
    async fn dead(&self) {
        std::future::pending::<()>().await;
    }

    async fn wait(&self, pause: Ms) {
        self.sim.clock.wait(pause).await;
    }

    /// The way to an endpoint; `room`: of a question about what stands there.
    pub async fn ask(&self, part: Endpoint, room: Option<usize>) -> (Option<NetFault>, Way) {
        let fault = self.sim.net_fault(self.site);
        let ail = self.sim.ail(self.site, part);
        let behind = |room| self.sim.node_ail(self.site, self.holder(room)?);
        let all = || {
            // A Scalelite asks its nodes for the listing; others have it at hand.
            let asks = part == Endpoint::Listing && self.flavour == Flavour::Scalelite;
            asks.then(|| (0..super::world::NODES).find_map(|node| self.sim.node_ail(self.site, node)))
                .flatten()
        };
        let fronted = matches!(self.flavour, Flavour::Balancer | Flavour::Scalelite);
        let ail = ail.or_else(|| fronted.then(|| room.and_then(behind).or_else(all)).flatten());
        (fault, self.fare(fault, ail).await)
    }

    /// The node that holds what the front shows in this room.
    fn holder(&self, room: usize) -> Option<usize> {
        let at = self.sim.advance();
        let world = self.sim.world.lock().unwrap();
        world.sites[self.host][room].shown(at).map(|life| life.node)
    }

    /// The way to the server of a request that has no effect there.
    pub async fn fare(&self, fault: Option<NetFault>, ail: Option<Ail>) -> Way {
        let there = self.sim.chance(1, 30);
        let then = self.sim.chance(1, 30);
        match fault {
            Some(NetFault::Refused) => {
                self.wait(there).await;
                return Way::Failed { why: "connection refused", sent: false };
            }
            Some(NetFault::BlackHole) => {
                self.wait(TIMEOUT).await;
                return Way::Failed { why: "timed out", sent: true };
            }
            Some(NetFault::LostBefore | NetFault::LostAfter) => {
                self.wait(there + then).await;
                return Way::Failed { why: "connection reset", sent: true };
            }
            _ => {}
        }
        match ail {
            Some(Ail::Hangs) => {
                self.wait(TIMEOUT).await;
                Way::Failed { why: "timed out", sent: true }
            }
            Some(Ail::Lost) => {
                self.wait(there + then).await;
                Way::Failed { why: "connection reset", sent: true }
            }
            _ => {
                self.wait(there).await;
                let late = if let Some(NetFault::Late(by)) = fault { by } else { 0 };
                let slow = if let Some(Ail::Slow(by)) = ail { by } else { 0 };
                Way::Through { then: then + late + slow }
            }
        }
    }

    /// A vendor's one question answers everything.
    fn sight(&self, target: &Target, fault: Option<NetFault>, at: Ms) -> Sighting {
        match fault {
            Some(NetFault::Doubtful) if self.sim.chance(0, 2) > 0 => {
                return Sighting::Doubtful("the listing is cut off".to_owned());
            }
            Some(NetFault::Occupied)
                if self.sim.chance(0, 2) > 0 && self.shown(&target.meeting, at).is_some() =>
            {
                return Sighting::Occupied;
            }
            Some(NetFault::Blink) => return Sighting::NotThere(NOWHERE),
            Some(NetFault::Misconfigured) => return Sighting::Misconfigured("checksumError".to_owned()),
            _ => {}
        }
        match self.shown(&target.meeting, at) {
            Some(instance) => Sighting::Live(instance),
            None => Sighting::NotThere(NOWHERE),
        }
    }

    /// The room of a meeting, if it is one of this host's.
    pub fn room(&self, meeting: &MeetingId) -> Option<usize> {
        let (host, room) = self.sim.world.lock().unwrap().room(meeting)?;
        (host == self.host).then_some(room)
    }

    pub fn shown(&self, meeting: &MeetingId, at: Ms) -> Option<Instance> {
        self.shown_in(self.room(meeting)?, at)
    }

    /// As the front knows it.
    pub fn shown_in(&self, room: usize, at: Ms) -> Option<Instance> {
        self.instance(room, at, |life| life.shown_at(at) && !self.sim.is_hidden(self.host, life.node, at))
    }

    /// As this node knows it.
    pub fn on_node(&self, node: usize, room: usize, at: Ms) -> Option<Instance> {
        self.instance(room, at, |life| life.alive_at(at) && life.node == node)
    }

    fn instance(&self, room: usize, at: Ms, is: impl Fn(&super::world::Life) -> bool) -> Option<Instance> {
        let (id, started, inside) = {
            let world = self.sim.world.lock().unwrap();
            let place = &world.sites[self.host][room];
            let life = place.lives.iter().rev().find(|life| is(life))?;
            (life.id.clone(), life.started, place.inside(at))
        };
        let early = if self.sim.quirk == Quirk::OldStarts { 3_600_000 } else { 0 };
        let told = self.sim.told_start(self.site, started - early, self.flavour == Flavour::Direct);
        Some(Instance {
            id,
            started_at: told.map(|(at, _)| at),
            start: told.map(|(_, range)| range),
            participants: Some(inside),
            listed: true,
            node: None,
            shown_at: None,
            asked_at: None,
        })
    }

    /// The node that holds the instance is called directly, where the server is configured with its nodes.
    fn node(&self, call: &EndCall) -> Option<usize> {
        let name = call.pin.node.as_deref().filter(|_| self.sim.has_nodes(self.site))?;
        name.strip_prefix("node-")?.parse().ok()
    }

    /// The call takes effect on what is there when it arrives.
    fn arrive(&self, call: &EndCall, fault: Option<NetFault>) -> EndAnswer {
        let at = self.sim.advance();
        let node = self.node(call);
        let only = (self.flavour == Flavour::Vendor || node.is_some()).then(|| call.pin.instance.clone());
        let site = self.host;
        let Some(room) = self.room(&call.meeting) else {
            return EndAnswer::MaybeGone { why: "notFound".to_owned() };
        };
        let effect = Coming::Effect { only: only.clone(), job: call.job };
        let plan = |after: Ms| {
            let at = self.sim.clock.truth() + after;
            self.sim.world.lock().unwrap().plan(at, site, room, effect.clone());
            self.sim.advance();
        };
        let there = match node {
            Some(node) => self.on_node(node, room, at),
            None => self.shown(&call.meeting, at),
        };
        let there = there.filter(|seen| only.is_none_or(|only| only == seen.id));
        let Some(there) = there else {
            return EndAnswer::MaybeGone { why: "notFound".to_owned() };
        };
        if !matches!(fault, Some(NetFault::Zombie | NetFault::Lagging(_))) {
            self.sim.hits(call, &there.id);
        }
        match fault {
            Some(NetFault::Zombie) => {}
            Some(NetFault::Lagging(by)) => plan(by),
            Some(NetFault::Twice(by)) => {
                plan(0);
                plan(by);
            }
            _ => plan(0),
        }
        EndAnswer::Accepted
    }

    /// A balancer strikes the meeting from its books before it forwards the call.
    fn forget(&self, call: &EndCall) {
        let at = self.sim.advance();
        let Some(room) = self.room(&call.meeting) else { return };
        let mut world = self.sim.world.lock().unwrap();
        let site = self.host;
        let forgiven = !self.sim.claim_is_durable(call.job);
        let lives = &mut world.sites[site][room].lives;
        if let Some(life) = lives.iter_mut().rev().find(|life| life.shown_at(at)) {
            life.lost = Some(at);
            life.forgiven = forgiven;
            life.forgotten_by = Some(call.job);
        }
    }

    fn refusal(fault: Option<NetFault>) -> Option<EndAnswer> {
        let why = "the server says so".to_owned();
        Some(match fault? {
            NetFault::NotNow => EndAnswer::Refused { why, permanent: false },
            NetFault::Never => EndAnswer::Refused { why, permanent: true },
            NetFault::Throttled(pause) => {
                let pause = Duration::from_millis(pause.unsigned_abs());
                EndAnswer::Throttled { why, retry_after: Some(pause), unavailable: false }
            }
            NetFault::Misconfigured => EndAnswer::Misconfigured { why },
            _ => return None,
        })
    }

    async fn end_call(&self, call: &EndCall) -> EndAnswer {
        let node = self.node(call);
        let (fault, way) = match node {
            Some(node) => (None, self.fare(None, self.sim.node_ail(self.site, node)).await),
            None => self.ask(Endpoint::End, self.room(&call.meeting)).await,
        };
        if let Some(NetFault::LostAfter) = fault {
            let _nobody_hears_it = self.arrive(call, fault);
            self.wait(self.sim.chance(1, 2_000)).await;
            return EndAnswer::Unreachable { why: "connection reset".to_owned(), sent: true };
        }
        match way {
            Way::Failed { why, sent } => {
                // A front whose node does not take the call has struck it from its books all the same.
                let forwarded = fault.is_none_or(|fault| fault == NetFault::LostBefore);
                if sent && self.flavour == Flavour::Balancer && forwarded && node.is_none() {
                    self.forget(call);
                }
                EndAnswer::Unreachable { why: why.to_owned(), sent }
            }
            Way::Through { then } => {
                if !self.sim.effect() {
                    self.dead().await;
                }
                let answer = SimPlatform::refusal(fault).unwrap_or_else(|| self.arrive(call, fault));
                self.wait(then).await;
                answer
            }
        }
    }

    /// A line in the chat; now and then the server turns out to be too old for that.
    async fn tell(&self, warning: &Warning) -> Warned {
        let fault = self.sim.net_fault(self.site);
        if self.sim.chat_hangs(self.site) {
            self.wait(3 * TIMEOUT).await;
            return Warned::Failed { why: "timed out".to_owned(), sent: true };
        }
        match self.fare(fault, None).await {
            Way::Failed { why, sent } => Warned::Failed { why: why.to_owned(), sent },
            Way::Through { then } => {
                let at = self.sim.advance();
                let seen = self.shown(&warning.meeting, at).map(|seen| seen.id);
                self.wait(then).await;
                match seen {
                    _ if fault == Some(NetFault::Never) => Warned::Unsupported("too old".to_owned()),
                    Some(id) if warning.instance.as_ref().is_none_or(|only| *only == id) => {
                        Warned::Delivered { instance: Some(id), also: 0 }
                    }
                    _ => Warned::NotThere,
                }
            }
        }
    }

    /// Everything that is live, and when the server was asked.
    async fn list(&self) -> (Ms, Result<Vec<LiveMeeting>, Fault>) {
        let (fault, way) = self.ask(Endpoint::Listing, None).await;
        match way {
            Way::Failed { why, .. } => (self.sim.clock.truth(), Err(Fault::Unreachable(why.to_owned()))),
            Way::Through { then } => {
                let at = self.sim.advance();
                let live = match fault {
                    Some(NetFault::Misconfigured) => Err(Fault::Misconfigured("checksumError".to_owned())),
                    Some(NetFault::Doubtful) => Err(Fault::Unreachable("the listing is cut off".to_owned())),
                    Some(NetFault::Blink) => Ok(Vec::new()),
                    _ => Ok(self.live(at)),
                };
                self.wait(then).await;
                (at, live)
            }
        }
    }

    fn live(&self, at: Ms) -> Vec<LiveMeeting> {
        let shown = self.listed(at);
        let rooms = self.sim.world.lock().unwrap().sites[self.host].len();
        let live = |room: usize| {
            let wrong = self.sim.quirk == Quirk::WrongRoom;
            let seen = (room + usize::from(wrong)) % rooms;
            let (_, instance) = shown.iter().find(|(at, _)| *at == seen)?;
            let Instance { id, started_at, participants, .. } = instance.clone();
            let (meeting, name) = (meeting_id(self.host, room), format!("room {room}"));
            let (meta, breakout_of) = (BTreeMap::new(), None);
            Some(LiveMeeting {
                meeting,
                instance: id,
                name,
                started_at,
                participants,
                meta,
                meta_cut: false,
                breakout_of,
            })
        };
        (0..rooms).filter_map(live).collect()
    }

    /// A vendor's listing answers all targets at once.
    async fn look_at_all(&self, targets: &[Target], hand_on: HandOn<'_>) {
        let (sent, left) = (self.sim.machine_now(), self.sim.clock.truth());
        let (fault, way) = self.ask(Endpoint::Info, None).await;
        let mut round = Round {
            sent,
            received: sent,
            sightings: Vec::new(),
            listings: BTreeMap::new(),
            shown: BTreeMap::new(),
            trouble: BTreeMap::new(),
        };
        match way {
            Way::Failed { why, .. } => {
                round.sightings = vec![Sighting::Unreachable(why.to_owned()); targets.len()];
                let (now, mut check) = (self.sim.clock.truth(), self.sim.check.lock().unwrap());
                for (target, sighting) in targets.iter().zip(&round.sightings) {
                    check.looked(target, sighting, (left, now, now));
                }
                round.trouble = BTreeMap::from([(String::new(), why.to_owned())]);
            }
            Way::Through { then } => {
                let at = self.sim.advance();
                round.sightings = targets.iter().map(|target| self.sight(target, fault, at)).collect();
                let ids = self.listed(at).into_iter().map(|(_, instance)| instance.id);
                round.listings = BTreeMap::from([(String::new(), ids.collect())]);
                self.wait(then).await;
                let mut check = self.sim.check.lock().unwrap();
                for (target, sighting) in targets.iter().zip(&round.sightings) {
                    check.looked(target, sighting, (left, at, self.sim.clock.truth()));
                }
            }
        }
        round.received = self.sim.machine_now();
        self.hand_on(Part { about: (0..targets.len()).collect(), round }, hand_on);
    }

    /// Unless the process has died.
    pub fn hand_on(&self, part: Part, hand_on: HandOn<'_>) {
        if !self.sim.effect() {
            return;
        }
        self.sim.say(|| format!("server {}: {}", self.site, shown(&part.round)));
        hand_on(part);
    }
}

#[async_trait]
impl Platform for SimPlatform {
    fn kind(&self) -> &'static str {
        "simulated"
    }

    async fn look(&self, targets: &[Target]) -> Round {
        let parts = Mutex::new(Vec::new());
        self.look_in_parts(targets, &|part| parts.lock().unwrap().push(part)).await;
        let parts = parts.into_inner().unwrap();
        let mut sightings: Vec<(usize, Sighting)> = Vec::new();
        let mut whole: Option<Round> = None;
        for Part { about, round } in parts {
            sightings.extend(about.into_iter().zip(round.sightings.clone()));
            let sent = whole.as_ref().map_or(round.sent, |whole| whole.sent);
            whole = Some(Round { sent, ..round });
        }
        sightings.sort_by_key(|(at, _)| *at);
        let Some(whole) = whole else { return std::future::pending().await };
        Round { sightings: sightings.into_iter().map(|(_, sighting)| sighting).collect(), ..whole }
    }

    async fn look_in_parts(&self, targets: &[Target], hand_on: HandOn<'_>) {
        if !self.sim.effect() {
            self.dead().await;
        }
        self.sim.say(|| format!("engine: looks at {} on server {}", names(targets), self.site));
        self.sim.look_leaves(self.site, targets);
        let left = self.sim.clock.truth();
        if self.sim.quirk == Quirk::SlowLooks {
            self.wait(NEEDLESS).await;
        }
        let stale = self.sim.quirk == Quirk::StaleLooks;
        let held = Mutex::new(Vec::new());
        let hold = |part| held.lock().unwrap().push(part);
        let to: HandOn<'_> = if stale { &hold } else { hand_on };
        match self.flavour {
            Flavour::Vendor => self.look_at_all(targets, to).await,
            _ => self.look_around(targets, to).await,
        }
        if stale {
            // It passes an old answer off as a fresh one.
            self.wait(4_000).await;
            let now = self.sim.machine_now();
            for mut part in held.into_inner().unwrap() {
                (part.round.sent, part.round.received) = (now, now);
                for sighting in &mut part.round.sightings {
                    if let Sighting::Live(instance) = sighting {
                        (instance.asked_at, instance.shown_at) = (None, None);
                    }
                }
                hand_on(part);
            }
        }
        self.took.store(self.sim.clock.truth() - left, Ordering::Relaxed);
        self.sim.check.lock().unwrap().look_answered(self.site, targets);
        if !self.sim.effect() {
            self.dead().await;
        }
    }

    fn fingerprint(&self) -> String {
        format!("host-{}", self.host)
    }

    fn site(&self, pin: Option<&Pin>) -> Site {
        Site {
            fingerprint: self.fingerprint(),
            aim: pin.map_or(Aim::Meeting, |pin| self.aim(pin)),
            shares_last_look: self.flavour != Flavour::Balancer,
            settle: Duration::ZERO,
            apart: SIGHTING_GAP,
            answer_time: Duration::from_millis(self.took.load(Ordering::Relaxed).unsigned_abs()),
        }
    }

    fn aim(&self, _: &Pin) -> Aim {
        if self.flavour == Flavour::Vendor { Aim::Instance } else { Aim::Meeting }
    }

    async fn end(&self, call: &EndCall) -> EndAnswer {
        if !self.sim.effect() {
            self.dead().await;
        }
        let at = self.sim.clock.truth();
        self.sim.end_leaves(self.site, call, self.aim(&call.pin));
        let answer = self.end_call(call).await;
        let now = self.sim.clock.truth();
        self.sim.check.lock().unwrap().end_answered(self.site, call, at, &answer, now);
        if !self.sim.effect() {
            self.dead().await;
        }
        self.sim.say(|| {
            format!("server {}: end call {} of job {} {answer}", self.site, call.attempt, call.job.short())
        });
        answer
    }

    fn judge(&self, memory: &Memory, round: &Round, targets: &[Target]) -> Judgement {
        let mut judgement = match self.flavour {
            Flavour::Vendor => judge(round, targets),
            Flavour::Direct => weigh("simulated", Front::Direct, memory, round, targets),
            _ if self.sim.quirk == Quirk::TrustsFronts => {
                weigh("simulated", Front::Direct, memory, round, targets)
            }
            Flavour::Balancer => weigh("simulated", Front::Balancer, memory, round, targets),
            Flavour::Scalelite => weigh("simulated", Front::Scalelite, memory, round, targets),
        };
        if self.sim.quirk == Quirk::HastyJudge {
            for verdict in &mut judgement.verdicts {
                if let Verdict::Doubtful { .. } | Verdict::Unreachable { .. } = verdict {
                    *verdict = Verdict::Gone { needed: 1 };
                }
            }
        }
        judgement
    }

    async fn warn(&self, warning: &Warning) -> Warned {
        if !self.sim.effect() {
            self.dead().await;
        }
        if let Err(why) = self.sim.warning_leaves(self.site, warning) {
            return Warned::Failed { why, sent: false };
        }
        let under_way = UnderWay { sim: &self.sim, site: self.site };
        let result = self.tell(warning).await;
        drop(under_way);
        self.sim.check.lock().unwrap().told.answered(warning, &result);
        if !self.sim.effect() {
            self.dead().await;
        }
        self.sim.say(|| format!("server {}: warning of job {}: {result:?}", self.site, warning.job.short()));
        result
    }

    async fn probe(&self) -> Result<Probe, Fault> {
        let (_, way) = self.ask(Endpoint::Probe, None).await;
        match way {
            Way::Failed { why, .. } => Err(Fault::Unreachable(why.to_owned())),
            Way::Through { then } => {
                self.wait(then).await;
                Ok(Probe { summary: "simulated".to_owned() })
            }
        }
    }

    async fn meetings(&self) -> Result<Vec<LiveMeeting>, Fault> {
        if !self.sim.effect() {
            self.dead().await;
        }
        self.sim.check.lock().unwrap().listing_leaves(self.site, self.sim.clock.truth());
        let (at, live) = self.list().await;
        let shown = |live: &Vec<LiveMeeting>| {
            live.iter().map(|live| (live.instance.clone(), live.participants.unwrap_or(0))).collect()
        };
        let told = live.as_ref().ok().map(shown);
        self.sim.check.lock().unwrap().listing_answered(self.site, at, told);
        if !self.sim.effect() {
            self.dead().await;
        }
        self.sim.say(|| match &live {
            Ok(live) => format!("server {}: lists {}", self.site, listed(live)),
            Err(fault) => format!("server {}: lists nothing: {fault}", self.site),
        });
        live
    }
}

/// A warning that nobody waits for any more, answered or not, is not under way.
struct UnderWay<'a> {
    sim: &'a Sim,
    site: usize,
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        // A panic has left the lock poisoned: it is what will be told of.
        if let Ok(mut check) = self.sim.check.lock() {
            check.told.over(self.site);
        }
    }
}

/// A vendor's word is good: an instance that it does not show as live is over, if it says so twice.
fn judge(round: &Round, targets: &[Target]) -> Judgement {
    let weigh = |(target, seen): (&Target, &Sighting)| match seen {
        Sighting::Live(by) if target.instance.as_ref().is_some_and(|id| *id != by.id) => {
            Verdict::Replaced { by: by.clone(), counts: true }
        }
        other => other.at_its_word(target.instance.as_ref()),
    };
    let verdicts = targets.iter().zip(&round.sightings).map(weigh).collect();
    let memory =
        Memory { nodes: BTreeMap::from([(String::new(), NodeMemory::default())]), ..Memory::default() };
    Judgement { memory, verdicts, alarms: Vec::new() }
}
