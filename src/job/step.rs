//! The state machine: `step(job, event, now) -> (job', effects)`. No clock, no I/O, no async.
//!
//! ```text
//!  submit ──▶ waiting ◀──hold/release──▶ held
//!               │ due (armed shortly before)
//!               ▼
//!             ending ──accepted──▶ confirming ──over──▶ [guarding] ──▶ done(outcome)
//!               ▲   ◀──still there, same instance──┘
//!               └ retries with back-off while the platform cannot be reached
//! ```
//!
//! | from | to | by |
//! |---|---|---|
//! | `waiting` | `held`, `ending`, `done` | hold; due; cancelled or missed |
//! | `held` | `waiting`, `done` | released; cancelled |
//! | `ending` | `confirming`, `guarding`, `waiting`, `held`, `done` | accepted; proven; moved or held before any call; an outcome |
//! | `confirming` | `ending`, `guarding`, `done` | still there; proven; an outcome |
//! | `guarding` | `ending`, `done` | reopened; its time is over |
//!
//! * `waiting`: whoever is live at the pin moment is pinned (`pinning`); armed by a look 10 s before due; claimed 250 ms
//!   before due. With `max_duration` it may have no due time yet: then nothing wakes it but a sweep that sees its meeting
//!   live ([`Change::Start`](super::Change::Start)).
//! * `ending`: an end call is wanted. It leaves only after a good look saw the pinned instance, only when the lane has
//!   room ([`Event::Slot`]: the decision to send is made then, on the job as it is then), and never before due. A call
//!   that names the instance may follow its arm by [`ARM_GOOD`]. One that can name only the meeting follows a last look
//!   of its own by [`LOOK_FRESH`] at most; where none is at hand when its turn comes, a single look is made in that very
//!   turn ([`Effect::LookInTurn`]), and look and call follow each other.
//! * `confirming`: an end call was accepted; looks go on until the platform proves the instance gone. Alive after
//!   `resend-after`: back to `ending`.
//! * `guarding`: proven over; with `keep-closed`, whatever is reopened is pinned and ended too.
//! * `done`: exactly one outcome. One more look tells whether the meeting was reopened; it changes nothing else.
//!
//! Beside all that, the people inside are warned while the job waits.
//!
//! This file holds the words and everything up to due; `pinning` says whose instance it is; `warning` has the warnings;
//! `ending` makes the calls; `watching` weighs verdicts and concludes; `wake` says when the job wants to be stepped next.

use std::time::Duration;

use super::confirm::Tally;
use super::pinning::PIN_WINDOW;
use super::retry::unit;
use super::{
    Aim, BootMs, EndAnswer, Fact, InstanceId, Job, JobId, Knowledge, Mark, Now, Outcome, Purpose, Site,
    State, UtcMs, Verdict, Warned, Warning,
};

/// Armed this long before due, up to [`ARM_SPREAD`] later so that many do not look at once.
pub const ARM_LEAD: Duration = Duration::from_secs(10);
pub const ARM_SPREAD: Duration = Duration::from_secs(2);
/// An on-time end call may follow its arm by this much.
pub const ARM_GOOD: Duration = Duration::from_secs(15);
/// Any other end call must follow the sending of its look by this much ...
pub const LOOK_FRESH: Duration = Duration::from_secs(2);
/// ... or, on a server that takes longer than that to answer, the answer by this much.
pub const ANSWER_FRESH: Duration = Duration::from_millis(500);
/// From the decision to the sending: so long a call may wait for its claim to be durable.
pub const DECIDED_BEFORE: Duration = Duration::from_millis(250);
/// A last look is asked so long before due, and as much earlier as its answer is expected to take ...
pub const LAST_LOOK_LEAD: Duration = Duration::from_millis(250);
/// ... but never so early that it could be stale at due.
pub const LAST_LOOK_EARLIEST: Duration = Duration::from_millis(1_750);
/// The arm comes earlier on a server that is slow to answer, by what its answers take, up to this.
pub const ARM_EXTRA: Duration = Duration::from_secs(20);
/// An end call that closes the room first waits at most this long for the answer to that.
pub const LOCK_WAIT: Duration = Duration::from_millis(500);
pub const CLAIM_LEAD: Duration = Duration::from_millis(250);
/// Reached this much after due, a job was found late, not delayed by a busy machine.
pub const ON_TIME_GRACE: Duration = Duration::from_secs(2);
/// Pause after a failed arm.
pub const ARM_RETRY: Duration = Duration::from_secs(2);
/// `keep-closed` looks this often.
pub const GUARD_EVERY: Duration = Duration::from_secs(15);
/// The one look after proof.
pub const AFTER_LOOK: Duration = Duration::from_secs(60);
/// A limit that ran out while nobody was there waits for so long after the restart, in which the job looks (and calls).
pub const RESTART_GRACE: Duration = Duration::from_secs(60);

/// What happened to a job.
#[derive(Clone, PartialEq, Debug)]
pub enum Event {
    /// Read from the store by a process that did not know it before.
    Loaded,
    /// Time has passed.
    Tick,
    /// The server's settings are new: whatever pause a fault of the old ones asked for is over.
    Reconfigured,
    /// The lane has room for the end call that was queued. `carrier`: the job whose end call at the pinned instance is
    /// under way or was accepted, and that is still at work.
    Slot { site: Site, carrier: Option<JobId> },
    /// A look was answered.
    Looked { purpose: Purpose, sent: Now, received: Now, verdict: Verdict, knows: Box<Knowledge> },
    /// A listing of the front has shown the pinned instance, beside what the job had asked for.
    Listed,
    /// The lock that went before an end call was answered, or failed and why.
    Locked(Result<(), String>),
    /// An end call was answered.
    Answered { attempt: u32, answer: EndAnswer },
    /// The lane has room for the warning that was queued.
    WarningSlot,
    /// A warning was answered.
    Warned { mark: Mark, result: Warned },
}

/// What the shell is asked to do.
#[derive(Clone, PartialEq, Debug)]
pub enum Effect {
    /// Look at the meeting; answer with [`Event::Looked`], whatever happens.
    Look(Purpose),
    /// Queue for an end call; answer with [`Event::Slot`] when there is room. `next`: before all others, since the look
    /// that this turn was for has just been answered.
    QueueEnd { next: bool },
    /// Look at this meeting alone, in the turn that [`Event::Slot`] gave; answer with [`Event::Looked`], whatever happens,
    /// and give the turn back then.
    LookInTurn,
    /// Send the end call now; answer with [`Event::Answered`], whatever happens. `lock`: close the room first, waiting at
    /// most [`LOCK_WAIT`]; answer that with [`Event::Locked`].
    Call { attempt: u32, aim: Aim, resend: bool, lock: bool },
    /// Make a new deadline, due now, for the pinned instance alone: it is alive though this job is done.
    EndAgain,
    /// Queue for a warning; answer with [`Event::WarningSlot`] when there is room.
    QueueWarning,
    /// Tell the people inside; answer with [`Event::Warned`], whatever happens.
    Warn(Mark),
}

/// A look that saw the pinned instance alive.
#[derive(Clone, PartialEq, Debug)]
pub struct Fresh {
    pub instance: InstanceId,
    /// When it was asked, and answered.
    pub asked: BootMs,
    pub received: BootMs,
    /// Received before due: a good arm.
    pub armed: bool,
    pub purpose: Purpose,
}

/// Sightings, in a row, of an absence that can never be a proof.
#[derive(Clone, PartialEq, Debug)]
pub struct Hopeless {
    /// When the first of them was answered.
    pub since: BootMs,
    /// A front's silence, which does not tell whether the meeting is over or was forgotten.
    pub vanished: bool,
}

/// What the last sighting was worth.
#[derive(Clone, PartialEq, Debug, Default)]
pub enum Last {
    #[default]
    Nothing,
    Alive,
    Gone,
    Unsure(String),
}

/// What a restart forgets: requests under way, counts, timers.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Run {
    /// A look is queued or in flight.
    pub looking: Option<Purpose>,
    /// The end call waits in the lane.
    pub queued: bool,
    /// The attempt that is in flight.
    pub calling: Option<u32>,
    pub fresh: Option<Fresh>,
    /// What was last known of the server.
    pub site: Option<Site>,
    /// The last look for this due time has been asked for.
    pub last_look_asked: bool,
    /// Looks in a row that did not let the end call go though nothing says that the meeting is over.
    pub uncallable: u32,
    /// Other live instances of the meeting that looks showed, and when.
    pub beside: Vec<(InstanceId, BootMs)>,
    /// Another job's end call at the pinned instance was accepted.
    pub called_by: Option<JobId>,
    pub called_at: Option<Now>,
    pub hopeless: Option<Hopeless>,
    pub tally: Tally,
    /// When to look (or try) next.
    pub next: Option<BootMs>,
    /// No end call before this.
    pub retry_at: Option<BootMs>,
    /// Failed looks, and failed end calls, in a row.
    pub misses: u32,
    pub refusals: u32,
    pub last: Last,
    /// The last sighting counts towards proof: no limit ends the job before the next one.
    pub counted: bool,
    /// Found past its due when it was loaded.
    pub found_late: bool,
    /// Its due passed while a change of it was on its way to disk: that is not late.
    pub kept_waiting: bool,
    /// When a restart found it at work.
    pub taken_up: Option<BootMs>,
    pub warning: Warning,
    /// No warning of this mark before this.
    pub warn_again: Option<(Duration, BootMs)>,
}

impl Run {
    /// Everything is forgotten, except the look and the warning whose answers are still to come, and the server.
    pub fn start_over(&self) -> Run {
        Run { looking: self.looking, warning: self.warning, site: self.site.clone(), ..Run::default() }
    }
}

/// A job from the store, with what an earlier process left behind noted, as for [`Event::Loaded`]; but nothing is done about
/// it, be it due or not: something else is to be decided about it first.
pub fn recovered(job: Job, now: Now) -> Job {
    let mut draft = Draft::new(job, now);
    draft.recover();
    draft.job
}

/// The whole decision. The job's durable part changes only through facts (see [`Job::apply`]).
pub fn step(job: Job, event: Event, now: Now) -> (Job, Vec<Effect>) {
    let mut draft = Draft::new(job, now);
    match event {
        Event::Loaded => draft.loaded(),
        Event::Tick => draft.tick(),
        Event::Reconfigured => draft.reconfigured(),
        Event::Slot { site, carrier } => draft.slot(site, carrier),
        Event::Looked { purpose, sent, received, verdict, knows } => {
            draft.job.run.site = Some(knows.site);
            (draft.job.run.called_by, draft.job.run.called_at) = knows.called_by.unzip();
            draft.looked(purpose, sent, received, verdict);
        }
        Event::Listed => draft.listed(),
        Event::Locked(result) => draft.locked(result),
        Event::Answered { attempt, answer } => draft.answered(attempt, answer),
        Event::WarningSlot => draft.warning_slot(),
        Event::Warned { mark, result } => draft.warned(mark, result),
    }
    (draft.job, draft.effects)
}

/// A step under way.
pub(super) struct Draft {
    pub job: Job,
    pub now: Now,
    /// How long the look took that is being weighed.
    pub took: Duration,
    /// When the answer came that showed the instance, and when it was asked for, if that was not the whole look.
    pub shown_at: Option<Now>,
    pub asked_at: Option<Now>,
    pub effects: Vec<Effect>,
}

impl Draft {
    fn new(job: Job, now: Now) -> Draft {
        Draft { job, now, took: Duration::ZERO, shown_at: None, asked_at: None, effects: Vec::new() }
    }

    pub fn note(&mut self, fact: Fact) {
        self.job.record(self.now, fact);
    }

    /// Asks for a look, unless one is under way.
    pub fn look(&mut self, purpose: Purpose) {
        self.job.run.next = None;
        if self.job.run.looking.is_none() {
            self.job.run.looking = Some(purpose);
            self.effects.push(Effect::Look(purpose));
        }
    }

    /// Where `keep-closed` is at work, what was reopened has come to this: what the deadline meant was over before, and
    /// that stays the outcome.
    pub fn conclude(&mut self, outcome: Outcome, reason: impl Into<String>) {
        let (mut outcome, mut reason) = (outcome, reason.into());
        if let Some(guard) = self.job.guard.clone().filter(|_| self.job.state != State::Guarding) {
            self.note(Fact::LeftOpen { outcome, reason: reason.clone() });
            reason = format!("{}; opened again since, and {outcome}: {reason}", guard.reason);
            outcome = guard.outcome;
        }
        self.note(Fact::Concluded { outcome, reason });
        self.job.run = self.job.run.start_over();
    }

    /// The planned pause is over, or none was planned.
    pub fn pause_is_over(&self) -> bool {
        self.job.run.next.is_none_or(|next| self.now.boot >= next)
    }

    fn loaded(&mut self) {
        self.recover();
        self.tick();
    }

    /// Notes what an earlier process left behind, and decides nothing.
    fn recover(&mut self) {
        self.job.run = Run::default();
        self.job.run.found_late = self.now.wall >= self.job.due;
        self.warning_lost();
        let at_work = matches!(self.job.state, State::Ending | State::Confirming | State::Guarding);
        if at_work || self.job.claimed.is_some() || self.job.after_look || self.job.pinned_and_open() {
            self.note(Fact::Restarted);
        }
        if self.job.claimed.is_some() {
            if self.job.state == State::Waiting {
                self.note_due();
            }
            self.note(Fact::AnswerLost);
        }
        self.job.run.taken_up = at_work.then_some(self.now.boot);
    }

    fn listed(&mut self) {
        if self.job.pin.as_ref().is_some_and(|pin| !pin.listed) && !self.job.is_done() {
            self.note(Fact::Listed);
        }
    }

    fn reconfigured(&mut self) {
        if self.job.alarm.is_some() {
            self.job.run.next = None;
            self.job.run.retry_at = None;
        }
        self.tick();
    }

    pub fn tick(&mut self) {
        match self.job.state {
            State::Waiting => self.waiting(),
            State::Held => self.held(),
            State::Ending | State::Confirming => self.work(),
            State::Guarding => self.guarding(),
            State::Done => self.after_done(),
        }
    }

    pub fn waiting(&mut self) {
        if self.now.wall >= self.job.due {
            return self.reach_due();
        }
        let may_leave = self.job.may_leave_at_due(self.now);
        if may_leave && self.job.claimed.is_none() && self.now.wall >= self.job.claim_at() {
            self.note(Fact::Claimed);
        }
        // Where both are wanted one look does for both.
        if self.job.wants_arm(self.now) && self.pause_is_over() {
            self.look(Purpose::Arm);
        } else if self.job.wants_pin_look(self.now) && self.pause_is_over() {
            self.look(Purpose::Pin);
        } else if self.job.wants_last_look(self.now) {
            self.last_look();
        }
        self.warn();
    }

    pub fn reach_due(&mut self) {
        if self.missed() {
            return;
        }
        self.note_due();
        self.attempt();
    }

    /// Concludes a job that was found too late, before any call of ours. Asked only where a job is found; one that was
    /// found in time goes on however long the platform, the lane or the disk keeps it waiting.
    fn missed(&mut self) -> bool {
        let late = self.job.late_by(self.now);
        let run = &self.job.run;
        let found_late = run.found_late || (late > ON_TIME_GRACE && !run.kept_waiting);
        if !(found_late && self.job.unsent() && late > self.job.limits.late_limit) {
            return false;
        }
        let limit = humantime::format_duration(self.job.limits.late_limit);
        let late = humantime::format_duration(Duration::from_secs(late.as_secs().max(1)));
        self.conclude(
            Outcome::Missed,
            format!("found {late} after due, more than late-limit ({limit}); nothing was sent"),
        );
        true
    }

    /// The look that a call which can name only the meeting may follow. A listing that may be old is no such look: then the
    /// meeting alone is asked about, in the call's own turn.
    fn last_look(&mut self) {
        self.job.run.last_look_asked = true;
        if self.job.run.site.as_ref().is_some_and(|site| site.shares_last_look) {
            return self.look(Purpose::BeforeEnd);
        }
        self.job.run.queued = true;
        self.effects.push(Effect::QueueEnd { next: false });
    }

    fn note_due(&mut self) {
        let late_ms = self.now.wall.ms_since(self.job.due);
        self.note(Fact::DueReached { late_ms });
    }

    fn held(&mut self) {
        if self.job.held_past_due {
            return;
        }
        // A hold that ended before due is over, also if nobody was awake when it ended.
        if self.job.release_at().is_some_and(|at| self.now.wall >= at) {
            self.note(Fact::Released { by: None });
            self.waiting();
        } else if self.now.wall >= self.job.due {
            self.note(Fact::HeldPastDue);
        }
    }

    fn guarding(&mut self) {
        let Some(guard) = &self.job.guard else { return };
        if self.now.boot >= guard.began.boot + self.job.limits.keep_closed {
            let (outcome, reason) = (guard.outcome, guard.reason.clone());
            self.conclude(outcome, reason);
        } else if self.pause_is_over() {
            self.look(Purpose::Guard);
        }
    }

    fn after_done(&mut self) {
        if self.job.after_look_at().is_some_and(|at| self.now.boot >= at) {
            self.look(Purpose::After);
        }
    }
}

impl Job {
    /// How long after due it is; zero before.
    pub(super) fn late_by(&self, now: Now) -> Duration {
        Duration::from_millis(u64::try_from(now.wall.ms_since(self.due)).unwrap_or(0))
    }

    /// Not done, and its pin carries a boottime that a restart of the machine makes meaningless.
    fn pinned_and_open(&self) -> bool {
        (self.pin.is_some() || !self.sighted.is_empty()) && !self.is_done()
    }

    /// When a hold ends by itself: at its time, if that is before due.
    pub(super) fn release_at(&self) -> Option<UtcMs> {
        self.held_until.filter(|until| *until < self.due)
    }

    pub(super) fn arm_at(&self) -> UtcMs {
        let extra = self.run.site.as_ref().map_or(Duration::ZERO, |site| site.answer_time.min(ARM_EXTRA));
        self.due - ARM_LEAD - extra + self.spread()
    }

    pub(super) fn pin_look_at(&self) -> UtcMs {
        self.pin_moment() + self.spread()
    }

    /// Jobs of one due instant on one server look together; those of different ones do not all look at once.
    fn spread(&self) -> Duration {
        let due = u64::try_from(self.due.0).unwrap_or(0);
        let words = self.server.as_str().bytes().fold(due, |sum, byte| sum.rotate_left(8) ^ u64::from(byte));
        ARM_SPREAD.mul_f64(unit(JobId(uuid::Uuid::from_u64_pair(words, due)), 0))
    }

    /// The pin look is still to be made, as long as it can decide something.
    pub(super) fn wants_pin_look(&self, now: Now) -> bool {
        self.is_idle()
            && self.awaits_pin()
            && now.wall >= self.pin_look_at()
            && now.wall <= self.pin_moment() + PIN_WINDOW
    }

    pub(super) fn wants_arm(&self, now: Now) -> bool {
        self.is_idle()
            && now.wall >= self.arm_at()
            && !self.armed_for_due(now)
            && !self.wants_last_look_soon()
    }

    /// The arm has done its part: what a call that can name only the meeting still needs is its last look.
    fn wants_last_look_soon(&self) -> bool {
        self.aims_at_the_meeting() && self.pin.is_some() && self.run.last == Last::Alive
    }

    pub(super) fn last_look_at(&self) -> UtcMs {
        let answer_time = self.run.site.as_ref().map_or(Duration::ZERO, |site| site.answer_time);
        self.due - (LAST_LOOK_LEAD + answer_time).min(LAST_LOOK_EARLIEST)
    }

    pub(super) fn wants_last_look(&self, now: Now) -> bool {
        self.is_idle()
            && self.wants_last_look_soon()
            && !self.run.last_look_asked
            && now.wall >= self.last_look_at()
    }

    pub(super) fn aims_at_the_meeting(&self) -> bool {
        self.run.site.as_ref().is_none_or(|site| site.aim == Aim::Meeting)
    }

    /// When due will be, by boottime; now, once it has passed.
    fn boot_at_due(&self, now: Now) -> BootMs {
        let to_due = u64::try_from(self.due.ms_since(now.wall)).unwrap_or(0);
        now.boot + Duration::from_millis(to_due)
    }

    /// An end call could leave at due on what has been seen by now.
    pub(super) fn may_leave_at_due(&self, now: Now) -> bool {
        self.may_leave(self.boot_at_due(now))
    }

    pub(super) fn claim_at(&self) -> UtcMs {
        self.due - CLAIM_LEAD
    }

    /// A look has seen the pinned instance, recently enough that the call may leave at due without another.
    pub(super) fn armed_for_due(&self, now: Now) -> bool {
        self.fresh_at(self.boot_at_due(now))
    }

    /// Would an end call that leaves at `at` follow a good look, of the kind that its aim asks for?
    pub(super) fn may_leave(&self, at: BootMs) -> bool {
        if !self.aims_at_the_meeting() {
            return self.fresh_at(at);
        }
        let (Some(fresh), Some(pin)) = (&self.run.fresh, &self.pin) else { return false };
        // Not a look that was made for a proof, and not the arm. One that others share does only where a listing is
        // never old.
        let shares = self.run.site.as_ref().is_some_and(|site| site.shares_last_look);
        let own = fresh.purpose == Purpose::Last || (shares && fresh.purpose == Purpose::BeforeEnd);
        // Where the room is closed first nobody can open it anew meanwhile: the wait for that makes no look older.
        own && fresh.instance == pin.instance
            && (at + DECIDED_BEFORE <= fresh.asked + LOOK_FRESH
                || at + DECIDED_BEFORE <= fresh.received + ANSWER_FRESH)
    }

    /// Would an end call that leaves at `at` and names the instance follow a good look at it?
    pub(super) fn fresh_at(&self, at: BootMs) -> bool {
        let (Some(fresh), Some(pin)) = (&self.run.fresh, &self.pin) else { return false };
        let first_and_on_time =
            self.end_sent_at.is_none() && self.began.is_none_or(|at| self.late_by(at) <= ON_TIME_GRACE);
        let good_for = if fresh.armed && first_and_on_time { ARM_GOOD } else { LOOK_FRESH };
        let leaves_at = if self.wants_lock() { at + LOCK_WAIT } else { at };
        let own = !matches!(fresh.purpose, Purpose::Confirm | Purpose::Guard);
        own && fresh.instance == pin.instance && leaves_at <= fresh.received + good_for
    }

    /// From when the time until the last look counts: from the proof, or, without one, from the outcome.
    pub(super) fn after_look_from(&self) -> Option<Now> {
        self.proven.or(self.concluded).filter(|_| self.after_look)
    }

    pub(super) fn after_look_at(&self) -> Option<BootMs> {
        let from = self.after_look_from().filter(|_| self.run.looking.is_none())?;
        Some(from.boot + AFTER_LOOK)
    }
}
