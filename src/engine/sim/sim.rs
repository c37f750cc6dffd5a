//! What all parts of a simulation share: the clock, the truth, the disk, the judge, and chance.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use fastrand::Rng;
use tokio::sync::Notify;

use super::check::{Checker, Law, Truth};
use super::clock::{MachineClock, Ms, SimClock};
use super::plan::{DiskFault, Item, NetFault, Plan, RESTART};
use super::standing::Standing;
use super::store::Disk;
use super::world::{Coming, Room, World};
use crate::clock::Clock;
use crate::job::{Aim, Fact, InstanceId, Job, JobId, Now, ServerName};
use crate::platform::{EndCall, Target, Warning};

/// How the simulation itself may be dishonest, so that the judge can prove that it sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Quirk {
    None,
    /// The disk answers before it has written, and a crash takes it back.
    EarlyAnswers,
    /// The machine's clock is ahead of the true one.
    FastClock,
    /// The platform passes off old answers as fresh.
    StaleLooks,
    /// The platform takes no answer for a proof.
    HastyJudge,
    /// The disk brings back jobs without what it knew of their warnings.
    ForgetsClaims,
    /// The disk brings back jobs as they were before they were done.
    ReviveDone,
    /// The engine reads a schedule that lacks one minute of every recurring end.
    LosesOccurrences,
    /// The engine reads every recurring end twice, in two zones that agree.
    TwoZones,
    /// The disk does not tell of jobs whose time has passed.
    HidesLate,
    /// The engine reads a schedule without exemptions.
    NoExempt,
    /// A listing gives the instance of one room to another.
    WrongRoom,
    /// The disk says at once that claims are written, and writes them later.
    HastyClaims,
    /// Every start that is told is an hour too early.
    OldStarts,
    /// What a front does not show is taken for over.
    TrustsFronts,
    /// Nobody is told of what goes on running.
    Silent,
    /// Single looks are as slow as they may be, and nothing in the plan says so.
    SlowLooks,
}

pub struct Sim {
    pub plan: Plan,
    pub quirk: Quirk,
    pub clock: Arc<SimClock>,
    pub world: Mutex<World>,
    pub disk: Mutex<Disk>,
    pub check: Mutex<Checker>,
    rng: Mutex<Rng>,
    story: Mutex<Option<Vec<String>>>,
    /// What has left or entered a part, and the one at which the process dies.
    effects: AtomicU64,
    died: Mutex<bool>,
    pub death: Notify,
    /// The engine hangs.
    pub give_up: Notify,
    pub ids: AtomicU64,
    pub faults: AtomicU64,
}

/// The engine answers within this, however slow the disk is.
const ANSWERED: Ms = 300_000;
const ANSWERED_STEPS: Ms = 10;
/// After a fault, what has waited for the disk has been written by now.
const DISK_RECOVERS: Ms = 3_000;
/// What a clock that is fast is ahead by.
const AHEAD: i64 = 1_500;

impl Sim {
    pub fn new(plan: Plan, quirk: Quirk, tell: bool) -> Arc<Sim> {
        let ahead = if quirk == Quirk::FastClock { AHEAD } else { 0 };
        let mut at_start = 0;
        let mut world = World::default();
        world.sites = plan.sites.iter().map(|site| vec![Room::default(); site.rooms + 1]).collect();
        for item in &plan.items {
            match item {
                Item::World { at, site, room, what } => world.plan(*at, *site, *room, what.clone()),
                Item::Restart { at, site } => {
                    // Somebody else's meeting, by which a loss can be told: without any, nobody could.
                    world.plan(0, *site, plan.sites[*site].rooms, Coming::Start);
                    world.plan(*at, *site, 0, Coming::LoseState);
                }
                Item::StartsAhead { by } => at_start = *by,
                Item::Moves { .. } => world.moves = true,
                Item::Rejoin { site, room, after, times } => {
                    world.sites[*site][*room].rejoin = Some((*after, *times));
                }
                _ => {}
            }
        }
        Arc::new(Sim {
            quirk,
            clock: Arc::new(SimClock::new(ahead, at_start)),
            world: Mutex::new(world),
            disk: Mutex::default(),
            check: Mutex::default(),
            rng: Mutex::new(Rng::with_seed(plan.seed ^ 0x5eed)),
            story: Mutex::new(tell.then(Vec::new)),
            effects: AtomicU64::new(0),
            died: Mutex::new(false),
            death: Notify::new(),
            give_up: Notify::new(),
            ids: AtomicU64::new(0),
            faults: AtomicU64::new(0),
            plan,
        })
    }

    pub fn machine_now(&self) -> Now {
        MachineClock(self.clock.clone()).now()
    }

    pub fn chance(&self, from: Ms, to: Ms) -> Ms {
        self.rng.lock().unwrap().i64(from..to)
    }

    /// A line of the story; made only if somebody reads it.
    pub fn say(&self, line: impl FnOnce() -> String) {
        if let Some(story) = &mut *self.story.lock().unwrap() {
            let told = std::mem::take(&mut self.world.lock().unwrap().told);
            story.extend(told.into_iter().map(|(at, line)| self.stamped(at, &line)));
            story.push(self.stamped(self.clock.truth(), &line()));
        }
    }

    fn stamped(&self, at: Ms, line: &str) -> String {
        let wall = self.clock.wall().timestamp().strftime("%H:%M:%S%.3f").to_string();
        format!("{:>9.3} s  {wall}  {line}", at as f64 / 1_000.0)
    }

    pub fn story(&self) -> Vec<String> {
        self.say(|| "the end".to_owned());
        self.story.lock().unwrap().clone().unwrap_or_default()
    }

    /// Something leaves or enters a part. False: the process is dead, and it does not.
    pub fn effect(&self) -> bool {
        let mut died = self.died.lock().unwrap();
        if *died {
            return false;
        }
        let count = self.effects.fetch_add(1, Ordering::Relaxed) + 1;
        if self.plan.crash_at == Some(count) {
            *died = true;
            self.death.notify_one();
            drop(died);
            self.say(|| format!("the process dies at its effect {count}"));
            return false;
        }
        true
    }

    pub fn effects(&self) -> u64 {
        self.effects.load(Ordering::Relaxed)
    }

    pub fn lives_again(&self) {
        *self.died.lock().unwrap() = false;
    }

    /// The world goes on to now.
    pub fn advance(&self) -> Ms {
        let now = self.clock.truth();
        self.world.lock().unwrap().advance(now);
        now
    }

    pub fn net_fault(&self, site: usize) -> Option<NetFault> {
        let now = self.clock.truth();
        let restarts = |item: &Item| matches!(item, Item::Restart { at, site: where_ } if *where_ == site && (*at..at + RESTART).contains(&now));
        if self.plan.items.iter().any(restarts) {
            self.faults.fetch_add(1, Ordering::Relaxed);
            return Some(NetFault::Refused);
        }
        for item in &self.plan.items {
            if let Item::Net { from, to, site: where_, fault, percent } = item
                && *where_ == site
                && *fault != NetFault::ChatHangs
                && (*from..*to).contains(&now)
                && self.chance(0, 100) < i64::from(*percent)
            {
                self.faults.fetch_add(1, Ordering::Relaxed);
                return Some(*fault);
            }
        }
        None
    }

    /// The answer to a request to the engine, which must come; if it does not, nobody waits for it any more.
    pub async fn answered<T>(self: &Arc<Sim>, what: &str, answer: impl Future<Output = T>) -> T {
        // In steps: the machine may sleep through one of them.
        let patience = async {
            for _ in 0..ANSWERED_STEPS {
                self.clock.wait(ANSWERED / ANSWERED_STEPS).await;
            }
        };
        tokio::select! {
            biased;
            answer = answer => answer,
            () = patience => {
                let now = self.clock.truth();
                self.check.lock().unwrap().flag(Law::ComesBack, now, format!("{what} is never answered"));
                self.give_up.notify_one();
                std::future::pending().await
            }
        }
    }

    pub fn chat_hangs(&self, site: usize) -> bool {
        let now = self.clock.truth();
        let hangs = |item: &Item| {
            matches!(item, Item::Net { from, to, site: at, fault: NetFault::ChatHangs, .. }
                if *at == site && (*from..*to).contains(&now))
        };
        self.plan.items.iter().any(hangs)
    }

    pub fn disk_fault(&self, wanted: DiskFault) -> bool {
        let now = self.clock.truth();
        let hit = self.plan.items.iter().any(|item| {
            matches!(item, Item::Disk { from, to, fault } if *fault == wanted && (*from..*to).contains(&now))
        });
        self.faults.fetch_add(u64::from(hit), Ordering::Relaxed);
        hit
    }

    /// Is it at fault, or was it a moment ago, that what was written is not there yet?
    /// A claim that was on its way to disk when the machine fell asleep has waited its time when it wakes.
    fn has_just_slept(&self) -> bool {
        let now = self.clock.truth();
        let slept = |item: &Item| matches!(item, Item::Suspend { at, pause } if (*at..at + pause + 300).contains(&now));
        self.plan.items.iter().any(slept)
    }

    fn is_disk_ill(&self) -> bool {
        let now = self.clock.truth();
        self.plan.items.iter().any(|item| match item {
            Item::Disk { from, to, fault } => {
                let by = if let DiskFault::Slow(by) = fault { *by } else { 0 };
                (*from..to + by + DISK_RECOVERS).contains(&now)
            }
            _ => false,
        })
    }

    /// How long the disk takes for a batch.
    pub fn commit_pause(&self) -> Ms {
        let now = self.clock.truth();
        let slow = self.plan.items.iter().find_map(|item| match item {
            Item::Disk { from, to, fault: DiskFault::Slow(by) } if (*from..*to).contains(&now) => Some(*by),
            _ => None,
        });
        self.faults.fetch_add(u64::from(slow.is_some()), Ordering::Relaxed);
        slow.map_or_else(|| self.chance(1, 5), |by| by + self.chance(0, 20))
    }

    pub fn stored(&self, id: JobId) -> Option<Job> {
        self.disk.lock().unwrap().jobs.get(&id).cloned()
    }

    pub fn claim_is_durable(&self, id: JobId) -> bool {
        let disk = self.disk.lock().unwrap();
        disk.jobs.get(&id).is_some_and(|job| job.claimed.is_some() || job.ends > 0)
    }

    #[expect(clippy::unused_self, reason = "a question to the simulation, as its neighbours")]
    pub fn site_of(&self, server: &ServerName) -> usize {
        let digits = server.as_str().strip_prefix("server-");
        digits.and_then(|digits| digits.parse().ok()).expect("servers are numbered")
    }

    /// A record has reached the disk.
    pub fn durable(&self, job: &Job) {
        self.advance();
        self.say(|| {
            let news = job.last_entry().map_or(String::new(), |entry| entry.fact.to_string());
            format!("disk: job {} r{} {}: {news}", job.id.short(), job.revision, job.state)
        });
        let world = self.world.lock().unwrap();
        let truth = Truth { clock: &self.clock, world: &world };
        let silent = (self.quirk == Quirk::Silent).then(|| silenced(job.clone()));
        self.check.lock().unwrap().durable(silent.as_ref().unwrap_or(job), truth);
    }

    /// A process begins, and reads this.
    pub fn restarted(&self, file: &Standing) {
        let disk = self.disk.lock().unwrap();
        self.check.lock().unwrap().standing_restarted(file, &disk.jobs, self.clock.wall());
    }

    /// Nothing has gone wrong for a while.
    pub fn at_rest(&self) {
        self.advance();
        let world = self.world.lock().unwrap();
        let truth = Truth { clock: &self.clock, world: &world };
        self.check.lock().unwrap().rules_at_rest(self.plan.quiet_from(), truth);
    }

    pub fn look_leaves(&self, site: usize, targets: &[Target]) {
        self.check.lock().unwrap().look_leaves(site, targets, self.clock.truth());
    }

    /// The error says why it does not.
    pub fn warning_leaves(&self, site: usize, warning: &Warning) -> Result<(), String> {
        self.advance();
        let text = warning.line()?;
        self.say(|| format!("engine: warning of job {} leaves: {text}", warning.job.short()));
        let stored = self.stored(warning.job);
        let now = self.clock.truth();
        // Where a step of the clock is not believed, jobs go by the earlier time.
        let walls = (self.clock.wall_or_old_wall(now), self.clock.wall());
        self.check.lock().unwrap().told.leaves(site, warning, stored.as_ref(), (now, walls));
        Ok(())
    }

    /// An end call takes effect on this instance.
    pub fn hits(&self, call: &EndCall, id: &InstanceId) {
        let stored = self.stored(call.job);
        let world = self.world.lock().unwrap();
        let truth = Truth { clock: &self.clock, world: &world };
        self.check.lock().unwrap().hits(call, id, stored.as_ref(), truth);
    }

    pub fn end_leaves(&self, site: usize, call: &EndCall, aim: Aim) {
        self.advance();
        let stored = self.stored(call.job);
        self.say(|| {
            let EndCall { job, pin, attempt, .. } = call;
            format!("engine: end call {attempt} of job {} leaves for {}, by {aim}", job.short(), pin.instance)
        });
        let world = self.world.lock().unwrap();
        let bound = self.plan.sites[site].max_concurrent;
        let truth = Truth { clock: &self.clock, world: &world };
        let mut check = self.check.lock().unwrap();
        check.end_leaves(site, bound, call, aim, stored.as_ref(), truth);
        if !self.is_disk_ill() && !self.has_just_slept() {
            check.claimed_first(call, stored.as_ref(), self.clock.truth());
        }
    }
}

/// Without what people are told at the end.
fn silenced(mut job: Job) -> Job {
    for entry in &mut job.history.recent {
        match &mut entry.fact {
            Fact::Concluded { reason, .. } => reason.clear(),
            Fact::LeftAlone { instance, .. } | Fact::Reopened { instance } => *instance = "nobody".into(),
            _ => {}
        }
    }
    job
}
