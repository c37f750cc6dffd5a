//! A server of the simulated world, as the engine calls it: every request may fail in every way.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;

use super::clock::Ms;
use super::plan::NetFault;
use super::sim::{Quirk, Sim};
use super::world::{Coming, Flavour, meeting_id};
use crate::job::{
    Aim, EndAnswer, Evidence, Instance, InstanceId, MeetingId, Now, Pin, Sighting, StartRange, UtcMs,
    Verdict, Warned,
};
use crate::platform::bigbluebutton::{Front, weigh};
use crate::platform::{
    EndCall, Fault, Judgement, LiveMeeting, Memory, NodeMemory, Platform, Probe, Round, Target, Warning,
};

/// A request without an answer is given up after this long.
const TIMEOUT: Ms = 10_000;
const NOWHERE: Evidence = Evidence { listing: true, info: true, node: false };

pub struct SimPlatform {
    pub sim: Arc<Sim>,
    pub site: usize,
    pub flavour: Flavour,
}

/// What became of a request on its way.
enum Way {
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

    /// The way to the server of a request that has no effect there.
    async fn way(&self, fault: Option<NetFault>) -> Way {
        let there = self.sim.chance(1, 30);
        let then = self.sim.chance(1, 30);
        match fault {
            Some(NetFault::Refused) => {
                self.wait(there).await;
                Way::Failed { why: "connection refused", sent: false }
            }
            Some(NetFault::BlackHole) => {
                self.wait(TIMEOUT).await;
                Way::Failed { why: "timed out", sent: true }
            }
            Some(NetFault::LostBefore | NetFault::LostAfter) => {
                self.wait(there + then).await;
                Way::Failed { why: "connection reset", sent: true }
            }
            Some(NetFault::Late(by)) => {
                self.wait(there).await;
                Way::Through { then: then + by }
            }
            _ => {
                self.wait(there).await;
                Way::Through { then }
            }
        }
    }

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

    fn shown(&self, meeting: &MeetingId, at: Ms) -> Option<Instance> {
        let world = self.sim.world.lock().unwrap();
        let (site, room) = world.room(meeting)?;
        let life = world.sites[site][room].shown(at)?;
        let told = self.sim.told_start(life.started);
        let id = life.id.clone();
        Some(Instance {
            id,
            started_at: Some(told),
            start: Some(StartRange::around(told)),
            participants: Some(world.sites[site][room].inside(at)),
            listed: true,
            node: None,
            shown_at: None,
            asked_at: None,
        })
    }

    fn listing(&self, at: Ms) -> Vec<InstanceId> {
        let world = self.sim.world.lock().unwrap();
        world.sites[self.site].iter().filter_map(|room| Some(room.shown(at)?.id.clone())).collect()
    }

    fn troubled(sent: Now, received: Now, targets: &[Target], why: &str) -> Round {
        let sightings = targets.iter().map(|_| Sighting::Unreachable(why.to_owned())).collect();
        let trouble = BTreeMap::from([(String::new(), why.to_owned())]);
        Round { sent, received, sightings, listings: BTreeMap::new(), shown: BTreeMap::new(), trouble }
    }

    /// The call takes effect on what is there when it arrives.
    fn arrive(&self, call: &EndCall, fault: Option<NetFault>) -> EndAnswer {
        let at = self.sim.advance();
        let only = (self.flavour == Flavour::Vendor).then(|| call.pin.instance.clone());
        let Some((site, room)) = self.sim.world.lock().unwrap().room(&call.meeting) else {
            return EndAnswer::MaybeGone { why: "notFound".to_owned() };
        };
        let effect = Coming::Effect { only: only.clone(), job: call.job };
        let plan = |after: Ms| {
            let at = self.sim.clock.truth() + after;
            self.sim.world.lock().unwrap().plan(at, site, room, effect.clone());
            self.sim.advance();
        };
        let there = self.shown(&call.meeting, at).filter(|seen| only.is_none_or(|only| only == seen.id));
        if there.is_none() {
            return EndAnswer::MaybeGone { why: "notFound".to_owned() };
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
        let mut world = self.sim.world.lock().unwrap();
        let Some((site, room)) = world.room(&call.meeting) else { return };
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
                let pause = std::time::Duration::from_millis(pause.unsigned_abs());
                EndAnswer::Throttled { why, retry_after: Some(pause), unavailable: false }
            }
            NetFault::Misconfigured => EndAnswer::Misconfigured { why },
            _ => return None,
        })
    }

    async fn end_call(&self, call: &EndCall) -> EndAnswer {
        let fault = self.sim.net_fault(self.site);
        if let Some(NetFault::LostAfter) = fault {
            self.wait(self.sim.chance(1, 30)).await;
            let _nobody_hears_it = self.arrive(call, fault);
            self.wait(self.sim.chance(1, 2_000)).await;
            return EndAnswer::Unreachable { why: "connection reset".to_owned(), sent: true };
        }
        match self.way(fault).await {
            Way::Failed { why, sent } => {
                if sent && self.flavour == Flavour::Balancer && fault == Some(NetFault::LostBefore) {
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
        match self.way(fault).await {
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
        let fault = self.sim.net_fault(self.site);
        match self.way(fault).await {
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
        let rooms = self.sim.world.lock().unwrap().sites[self.site].len();
        let live = |room: usize| {
            let wrong = self.sim.quirk == Quirk::WrongRoom;
            let (meeting, seen) = (meeting_id(self.site, room), (room + usize::from(wrong)) % rooms);
            let Instance { id, started_at, participants, .. } =
                self.shown(&meeting_id(self.site, seen), at)?;
            let name = format!("room {room}");
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

    async fn look_around(&self, targets: &[Target]) -> Round {
        let (sent, left) = (self.sim.machine_now(), self.sim.clock.truth());
        let fault = self.sim.net_fault(self.site);
        match self.way(fault).await {
            Way::Failed { why, .. } => SimPlatform::troubled(sent, self.sim.machine_now(), targets, why),
            Way::Through { then } => {
                let at = self.sim.advance();
                let sightings: Vec<Sighting> =
                    targets.iter().map(|target| self.sight(target, fault, at)).collect();
                let listings = BTreeMap::from([(String::new(), self.listing(at))]);
                self.wait(then).await;
                self.sim.check.lock().unwrap().looked(
                    targets,
                    &sightings,
                    (left, at, self.sim.clock.truth()),
                );
                let received = self.sim.machine_now();
                Round {
                    sent,
                    received,
                    sightings,
                    listings,
                    shown: BTreeMap::new(),
                    trouble: BTreeMap::new(),
                }
            }
        }
    }
}

#[async_trait]
impl Platform for SimPlatform {
    fn kind(&self) -> &'static str {
        "simulated"
    }

    async fn look(&self, targets: &[Target]) -> Round {
        if !self.sim.effect() {
            self.dead().await;
        }
        self.sim.say(|| format!("engine: looks at {} on server {}", names(targets), self.site));
        self.sim.look_leaves(self.site, targets);
        let mut round = self.look_around(targets).await;
        self.sim.check.lock().unwrap().look_answered(self.site, targets);
        if !self.sim.effect() {
            self.dead().await;
        }
        self.sim.say(|| format!("server {}: {}", self.site, shown(&round)));
        if self.sim.quirk == Quirk::StaleLooks {
            // It passes an old answer off as a fresh one.
            self.wait(4_000).await;
            round.received = self.sim.machine_now();
        }
        round
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
        let result = self.tell(warning).await;
        self.sim.check.lock().unwrap().told.answered(self.site, warning, &result);
        if !self.sim.effect() {
            self.dead().await;
        }
        self.sim.say(|| format!("server {}: warning of job {}: {result:?}", self.site, warning.job.short()));
        result
    }

    async fn probe(&self) -> Result<Probe, Fault> {
        match self.way(self.sim.net_fault(self.site)).await {
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

fn names(targets: &[Target]) -> String {
    let name =
        |target: &Target| format!("{} for job {} ({:?})", target.meeting, target.job.short(), target.purpose);
    targets.iter().map(name).collect::<Vec<_>>().join(", ")
}

fn listed(live: &[LiveMeeting]) -> String {
    let name = |live: &LiveMeeting| format!("{} ({})", live.instance, live.participants.unwrap_or(0));
    live.iter().map(name).collect::<Vec<_>>().join(", ")
}

fn shown(round: &Round) -> String {
    let name = |sighting: &Sighting| match sighting {
        Sighting::Live(instance) => format!("shows {}", instance.id),
        Sighting::NotThere(_) => "not there".to_owned(),
        other => format!("{other:?}"),
    };
    round.sightings.iter().map(name).collect::<Vec<_>>().join(", ")
}

/// When a wall clock that is `offset` off shows this true time.
pub fn told(started: Ms, offset: i64) -> UtcMs {
    UtcMs(super::clock::EPOCH + started + offset)
}
