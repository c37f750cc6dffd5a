//! A job with everything around it that a scene needs: both clocks, and the requests that are under way.

use std::collections::VecDeque;
use std::time::Duration;

use uuid::Uuid;

use super::super::*;

pub const START: Now = Now { wall: UtcMs(1_764_612_000_000), boot: BootMs(5_000_000) };
/// More ticks than this at one instant are a busy loop.
const TICKS_AT_ONCE: u32 = 5;
/// A scene that needs more events than this does not come to its end.
const EVENTS: u32 = 5_000;

pub const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

pub const fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

pub const fn mins(n: u64) -> Duration {
    Duration::from_secs(60 * n)
}

pub const fn hours(n: u64) -> Duration {
    Duration::from_secs(3600 * n)
}

/// An end call that left.
#[derive(Clone, PartialEq, Debug)]
pub struct Sent {
    pub at: Now,
    pub attempt: u32,
    pub instance: String,
    pub resend: bool,
    pub lock: bool,
}

pub struct Sim {
    pub job: Job,
    pub now: Now,
    /// The server, as the engine knows it.
    pub site: Site,
    /// The look that waits for its answer, and when it was sent.
    pub asked: Option<(Purpose, Now)>,
    /// End calls that wait for room.
    pub queued: u32,
    /// The end calls that wait for their answer.
    pub in_flight: VecDeque<u32>,
    /// Every end call that ever left.
    pub sent: Vec<Sent>,
    /// A warning waits for room.
    pub warning_queued: bool,
    /// The warning that waits for its answer.
    pub warning: Option<Mark>,
    /// Every warning that ever left: how long before its due, and how long before due it was meant to.
    pub warnings: Vec<(Duration, Duration)>,
    /// New deadlines that were asked for because the meeting came back.
    pub again: u32,
    events: u32,
}

pub fn order(due: UtcMs) -> Order {
    Order {
        id: JobId(Uuid::from_u128(0x0193_8a5e_7000_7000_8000_0000_0000_0007)),
        server: "campus".into(),
        meeting: "math-101".into(),
        only: None,
        key: None,
        limits: Limits::default(),
        at_most: None,
        max_duration: None,
        due,
        origin: Origin::Cli,
        by: peer(),
    }
}

/// A server that answers at once.
pub fn site(aim: Aim) -> Site {
    Site {
        fingerprint: "https://bbb.example.org".to_owned(),
        aim,
        shares_last_look: true,
        settle: secs(0),
        apart: SIGHTING_GAP,
        answer_time: secs(0),
    }
}

pub fn peer() -> By {
    By::Peer { uid: 1000, pid: Some(42) }
}

impl Sim {
    /// Due so long after the start.
    pub fn submit_in(to_due: Duration) -> Sim {
        Sim::submit_with(to_due, |_| {})
    }

    pub fn submit_with(to_due: Duration, adjust: impl FnOnce(&mut Order)) -> Sim {
        let mut order = order(START.wall + to_due);
        adjust(&mut order);
        let job = Job::submit(order, START);
        let mut sim = Sim {
            job,
            now: START,
            site: site(Aim::Instance),
            asked: None,
            queued: 0,
            in_flight: VecDeque::new(),
            sent: Vec::new(),
            warning_queued: false,
            warning: None,
            warnings: Vec::new(),
            again: 0,
            events: 0,
        };
        sim.tick();
        sim
    }

    /// A minute before due, and so far that the arm's look is under way.
    #[track_caller]
    pub fn arming_with(adjust: impl FnOnce(&mut Order)) -> Sim {
        let mut sim = Sim::submit_with(secs(60), adjust);
        sim.advance(secs(53));
        sim.expect_look(Purpose::Arm);
        sim
    }

    pub fn arming() -> Sim {
        Sim::arming_with(|_| {})
    }

    /// Due, on time, and its end call queued; instance `a` is pinned.
    #[track_caller]
    pub fn firing_with(adjust: impl FnOnce(&mut Order)) -> Sim {
        let mut sim = Sim::arming_with(adjust);
        sim.look_says(live("a"));
        sim.advance(secs(7));
        sim.expect_queued();
        sim
    }

    pub fn firing() -> Sim {
        Sim::firing_with(|_| {})
    }

    /// The first end call is under way.
    #[track_caller]
    pub fn calling_with(adjust: impl FnOnce(&mut Order)) -> Sim {
        let mut sim = Sim::firing_with(adjust);
        sim.slot();
        sim.expect_called("a");
        sim
    }

    pub fn calling() -> Sim {
        Sim::calling_with(|_| {})
    }

    /// The first end call was accepted.
    #[track_caller]
    pub fn confirming_with(adjust: impl FnOnce(&mut Order)) -> Sim {
        let mut sim = Sim::calling_with(adjust);
        sim.end_says(EndAnswer::Accepted);
        sim.expect_state(State::Confirming);
        sim
    }

    pub fn confirming() -> Sim {
        Sim::confirming_with(|_| {})
    }

    pub fn due_in(&self) -> i64 {
        self.job.due.ms_since(self.now.wall)
    }

    // What happens.

    pub fn tick(&mut self) {
        self.event(Event::Tick);
    }

    /// Time passes, and the job is stepped whenever it wants to be.
    #[track_caller]
    pub fn advance(&mut self, by: Duration) {
        let mut left = i64::try_from(by.as_millis()).expect("short");
        let mut ticks = 0;
        while let Some(wait) = self.to_wake().filter(|wait| *wait <= left) {
            ticks = if wait == 0 { ticks + 1 } else { 1 };
            assert!(
                ticks <= TICKS_AT_ONCE,
                "a busy loop in {:?}: {:?}",
                self.job.state,
                self.job.wake(self.now)
            );
            left -= wait;
            self.pass(wait);
            self.tick();
        }
        self.pass(left);
    }

    #[track_caller]
    pub fn advance_to_due(&mut self) {
        self.advance(ms(u64::try_from(self.due_in()).expect("due lies ahead")));
    }

    /// Milliseconds until the job wants to be stepped.
    pub fn to_wake(&self) -> Option<i64> {
        let wake = self.job.wake(self.now);
        let wall = wake.wall.map(|at| at.ms_since(self.now.wall));
        let boot = wake.boot.map(|at| at.0 - self.now.boot.0);
        [wall, boot].into_iter().flatten().min().map(|wait| wait.max(0))
    }

    /// Time passes, and nobody steps the job: a machine asleep.
    pub fn stall(&mut self, by: Duration) {
        self.pass(i64::try_from(by.as_millis()).expect("short"));
    }

    fn pass(&mut self, ms: i64) {
        self.now.wall.0 += ms;
        self.now.boot.0 += ms;
    }

    /// Somebody sets the wall clock.
    pub fn step_clock(&mut self, by_secs: i64) {
        self.now.wall.0 += by_secs * 1000;
        self.tick();
    }

    /// The answer to the look that is under way, received now.
    #[track_caller]
    pub fn look_says(&mut self, verdict: Verdict) {
        let (purpose, sent) = self.asked.take().expect("a look is under way");
        self.event(Event::Looked { purpose, sent, received: self.now, verdict, knows: self.knows() });
    }

    pub fn knows(&self) -> Box<Knowledge> {
        Box::new(Knowledge { site: self.site.clone(), called_by: None })
    }

    /// Waits for the next look, then answers it.
    #[track_caller]
    pub fn next_look_says(&mut self, verdict: Verdict) {
        self.wait_for_look();
        self.look_says(verdict);
    }

    /// Every look shows this instance, until the job asks for its turn to call.
    #[track_caller]
    pub fn is_seen_until_it_may_call(&mut self, instance: &str) {
        while self.queued == 0 {
            self.next_look_says(live(instance));
        }
    }

    /// The next look is answered, unless the job is done before it.
    #[track_caller]
    pub fn next_look_or_end(&mut self, verdict: Verdict) {
        while self.asked.is_none() && !self.job.is_done() {
            let wait = self.to_wake().expect("the job waits for something");
            self.advance(ms(wait.unsigned_abs()));
        }
        if !self.job.is_done() {
            self.look_says(verdict);
        }
    }

    #[track_caller]
    pub fn wait_for_look(&mut self) {
        for _ in 0..10 {
            if self.asked.is_some() {
                return;
            }
            let wait = self.to_wake().expect("the job waits for something");
            self.advance(ms(wait.unsigned_abs()));
        }
        panic!("no look came");
    }

    /// The lane has room.
    #[track_caller]
    pub fn slot(&mut self) {
        assert!(self.queued > 0, "no end call is queued");
        self.queued -= 1;
        self.event(Event::Slot { site: self.site.clone(), carrier: None });
    }

    /// The lane has room; the look that the call's turn begins with, if it needs one, says this.
    #[track_caller]
    pub fn turn(&mut self, verdict: Verdict) {
        self.slot();
        if self.asked.is_some_and(|(purpose, _)| purpose == Purpose::Last) {
            self.look_says(verdict);
            if self.queued > 0 {
                self.slot();
            }
        }
    }

    /// The lane has room for the warning.
    #[track_caller]
    pub fn warning_slot(&mut self) {
        assert!(std::mem::take(&mut self.warning_queued), "no warning is queued: {:#?}", self.story());
        self.event(Event::WarningSlot);
    }

    #[track_caller]
    pub fn warning_says(&mut self, result: Warned) {
        let mark = self.warning.take().expect("a warning is under way");
        self.event(Event::Warned { mark, result });
    }

    #[track_caller]
    pub fn end_says(&mut self, answer: EndAnswer) {
        let attempt = self.in_flight.pop_front().expect("an end call is under way");
        self.event(Event::Answered { attempt, answer });
    }

    #[track_caller]
    pub fn event(&mut self, event: Event) {
        self.events += 1;
        assert!(self.events < EVENTS, "no end in sight: {:#?}", self.story());
        let (job, effects) = step(self.job.clone(), event, self.now);
        self.job = job;
        for effect in effects {
            self.carry_out(effect);
        }
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Look(purpose) => {
                assert!(self.asked.is_none(), "one look at a time");
                self.asked = Some((purpose, self.now));
            }
            Effect::EndAgain => self.again += 1,
            Effect::QueueEnd { .. } => self.queued += 1,
            Effect::LookInTurn => {
                assert!(self.asked.is_none(), "one look at a time");
                self.asked = Some((Purpose::Last, self.now));
            }
            Effect::Call { attempt, resend, lock, .. } => {
                let instance = self.job.pin.as_ref().expect("pinned before a call").instance.to_string();
                self.in_flight.push_back(attempt);
                self.sent.push(Sent { at: self.now, attempt, instance, resend, lock });
            }
            Effect::QueueWarning => {
                assert!(!self.warning_queued && self.warning.is_none(), "one warning at a time");
                self.warning_queued = true;
            }
            Effect::Warn(mark) => {
                let to_due = mark.due.ms_since(self.now.wall);
                self.warnings.push((ms(u64::try_from(to_due).expect("before due")), mark.before));
                self.warning = Some(mark);
            }
        }
    }

    pub fn try_change(&mut self, change: Change) -> Result<(), Conflict> {
        self.job = self.job.change(&change, peer(), self.now)?;
        self.tick();
        Ok(())
    }

    #[track_caller]
    pub fn change(&mut self, change: Change) {
        self.try_change(change).expect("the change is allowed");
    }

    /// The change is refused, the job stays as it was, and the refusal names this.
    #[track_caller]
    pub fn expect_refused(&mut self, change: Change, names: &str) {
        let before = self.job.clone();
        let conflict = self.try_change(change).expect_err("the change is refused");
        assert!(conflict.what.contains(names), "{conflict:?} does not name {names:?}");
        assert!(conflict.hint.contains("adjourn "), "{conflict:?} names no command");
        assert_eq!(self.job, before);
    }

    /// The process dies, is away for so long, and reads the job back.
    pub fn crash(&mut self, away: Duration) {
        self.stall(away);
        self.reload();
    }

    /// The whole machine goes down: boottime starts again.
    pub fn reboot(&mut self, away: Duration) {
        self.stall(away);
        self.now.boot = BootMs(30_000);
        self.reload();
    }

    fn reload(&mut self) {
        let record = serde_json::to_string(&self.job).expect("a job is JSON");
        self.job = serde_json::from_str(&record).expect("and back");
        (self.asked, self.queued) = (None, 0);
        (self.warning_queued, self.warning) = (false, None);
        self.in_flight.clear();
        self.event(Event::Loaded);
    }

    // What is expected.

    #[track_caller]
    pub fn expect_state(&self, state: State) {
        assert_eq!(self.job.state, state, "{:#?}", self.story());
    }

    #[track_caller]
    pub fn expect_outcome(&self, outcome: Outcome) {
        assert_eq!(self.job.outcome, Some(outcome), "{:#?}", self.story());
        assert_eq!(self.job.state, State::Done);
        assert!(!self.job.reason.is_empty());
    }

    #[track_caller]
    pub fn expect_look(&self, purpose: Purpose) {
        assert_eq!(self.asked.map(|(purpose, _)| purpose), Some(purpose), "{:#?}", self.story());
    }

    #[track_caller]
    pub fn expect_no_look(&self) {
        assert_eq!(self.asked, None, "{:#?}", self.story());
    }

    #[track_caller]
    pub fn expect_queued(&self) {
        assert_eq!(self.queued, 1, "{:#?}", self.story());
    }

    #[track_caller]
    pub fn expect_not_queued(&self) {
        assert_eq!(self.queued, 0, "{:#?}", self.story());
    }

    /// The latest end call left just now, at this instance.
    #[track_caller]
    pub fn expect_called(&self, instance: &str) {
        let last = self.sent.last().expect("an end call left");
        assert_eq!((last.at, last.instance.as_str()), (self.now, instance), "{:#?}", self.story());
    }

    #[track_caller]
    pub fn expect_calls(&self, count: usize) {
        assert_eq!(self.sent.len(), count, "{:#?}", self.sent);
    }

    #[track_caller]
    pub fn expect_fact(&self, name: &str) {
        assert!(self.facts(name) > 0, "no {name} in {:#?}", self.story());
    }

    pub fn facts(&self, name: &str) -> usize {
        self.job.history.recent.iter().filter(|entry| entry.fact.name() == name).count()
    }

    pub fn pinned(&self) -> Option<&str> {
        self.job.pin.as_ref().map(|pin| pin.instance.as_str())
    }

    /// The history in sentences, for failures.
    fn story(&self) -> Vec<String> {
        let entries = self.job.history.recent.iter();
        entries
            .map(|entry| format!("{:+} ms: {}", entry.at.wall.ms_since(self.job.due), entry.fact))
            .collect()
    }
}

// What a platform says.

/// Instance `id`, which started long before every due.
pub fn instance(id: &str) -> Instance {
    started(id, START.wall - hours(1))
}

pub fn started(id: &str, at: UtcMs) -> Instance {
    Instance {
        id: id.into(),
        started_at: Some(at),
        start: Some(StartRange::around(at)),
        participants: Some(3),
        listed: true,
        node: None,
        shown_at: None,
        asked_at: None,
    }
}

pub fn live(id: &str) -> Verdict {
    Verdict::Live(instance(id))
}

pub fn gone() -> Verdict {
    Verdict::Gone { needed: 2 }
}

pub fn replaced(by: Instance) -> Verdict {
    Verdict::Replaced { by, counts: true }
}

pub fn doubtful() -> Verdict {
    Verdict::Doubtful { why: "the listing is cut off".to_owned() }
}

pub fn unreachable() -> Verdict {
    Verdict::Unreachable { why: "connection refused".to_owned() }
}

pub fn misconfigured() -> Verdict {
    Verdict::Misconfigured { why: "checksumError".to_owned() }
}

pub fn refused(permanent: bool) -> EndAnswer {
    EndAnswer::Refused { why: "not now".to_owned(), permanent }
}

pub fn no_answer(sent: bool) -> EndAnswer {
    EndAnswer::Unreachable { why: "timed out".to_owned(), sent }
}

pub fn maybe_gone() -> EndAnswer {
    EndAnswer::MaybeGone { why: "notFound".to_owned() }
}
