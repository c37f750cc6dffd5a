//! Which wall clock is believed. Two things make it doubtful, and each holds firing back for five minutes at most:
//!
//! * *A step* of more than an hour is more likely a fault than the truth. The old time goes on, unless the clock comes back.
//! * *A start* soon after the machine's own, while no time service has set the clock yet, on a machine where one usually
//!   does: its hardware clock may be hours off. The time goes on from the last instant that was written down when the clock
//!   was surely right, until a time service has set it, or the servers' `Date` headers agree with it.
//!
//! A clock that no time service ever keeps, as in most containers, is no reason to wait: `status` and `doctor` say so, and
//! that is all. So whether the clock was kept is written down (`clock.json` in the state directory).

use std::time::Duration;

use super::api::ClockStatus;
use super::core::Core;
use super::noted::{self, Noted};
use crate::job::{BootMs, Now, UtcMs};

/// A clock step of more than this holds firing back ...
const SUSPICIOUS_STEP: Duration = Duration::from_secs(3600);
/// ... for this long, unless the clock comes back.
const HOLD_BACK: Duration = Duration::from_secs(300);
/// A machine that has been up for this long has had its time to set the clock.
const YOUNG: BootMs = BootMs(300_000);
/// A server's clock agrees with ours when the two are no further apart.
const AGREES: Duration = Duration::from_secs(60);
/// So many servers that agree are believed; where fewer are configured, all of them.
const WITNESSES: usize = 2;
/// How often a clock that is doubted from the start is looked at.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// How often it is looked at whether a time service keeps the clock, and noted if that has changed.
const NOTE_EVERY: Duration = Duration::from_secs(60);
/// What has not changed is noted again this often: a start that doubts the clock goes on from there.
const RENEW_AFTER: Duration = Duration::from_secs(3600);

/// Which of the two is believed now. A task that needs the time takes it along.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Belief {
    /// Wall minus boottime before a step that is not believed (yet).
    old: Option<i64>,
}

impl Belief {
    pub fn of(self, at: Now) -> Now {
        match self.old {
            Some(offset) => Now { wall: at.wall.min(UtcMs(at.boot.0 + offset)), ..at },
            None => at,
        }
    }
}

/// What is thought of the wall clock.
#[derive(Debug)]
pub(super) struct Trust {
    /// Wall minus boottime, as it was last believed.
    pub offset: i64,
    doubt: Option<Doubt>,
    /// What the state directory says of the clock.
    noted: Option<Noted>,
    /// When it is next looked at whether that still holds.
    note_at: BootMs,
}

/// A wall clock that is not believed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Doubt {
    since: Since,
    until: BootMs,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Since {
    Step,
    /// With wall minus boottime as it was then: what servers have said since is about that clock.
    Start {
        offset: i64,
    },
}

impl Trust {
    pub fn new(now: Now) -> Trust {
        Trust { offset: offset(now), doubt: None, noted: None, note_at: now.boot }
    }

    pub fn doubts(&self) -> bool {
        self.doubt.is_some()
    }

    pub fn doubts_the_start(&self) -> bool {
        self.doubt.is_some_and(|doubt| doubt.since != Since::Step)
    }

    /// When the clock has to be looked at again.
    pub fn wake(&self, now: BootMs) -> BootMs {
        match self.doubt {
            Some(Doubt { since: Since::Start { .. }, until }) => until.min(now + LOOK_AGAIN),
            Some(Doubt { since: Since::Step, until }) => until.min(self.note_at),
            None => self.note_at,
        }
    }
}

fn offset(now: Now) -> i64 {
    now.wall.0 - now.boot.0
}

impl Core {
    /// The time as jobs see it. While the clock is not believed, that is the earlier of the old time, going on, and the new
    /// one: nothing fires that either of them holds to be early.
    pub fn now(&self) -> Now {
        self.believed(self.clock.now())
    }

    /// A reading of the clocks, with the wall clock that is believed now.
    pub fn believed(&self, at: Now) -> Now {
        self.belief().of(at)
    }

    pub fn belief(&self) -> Belief {
        Belief { old: self.trust.doubt.map(|_| self.trust.offset) }
    }

    /// Before anything fires: may the clock be wrong because the machine has just been started?
    pub fn recall_the_clock(&mut self) {
        let now = self.clock.now();
        self.trust.noted = noted::load(&self.state_dir);
        let Some(noted) = self.trust.noted.filter(|noted| noted.synchronised) else { return };
        if self.clock.synchronised() != Some(false) || now.boot >= YOUNG {
            return;
        }
        tracing::error!(
            clock = %now.wall,
            last = %noted.at,
            "no time service has set the clock since this machine started: nothing is ended for 5 minutes, or until one has, or servers agree with it"
        );
        let since = Since::Start { offset: offset(now) };
        self.trust.doubt = Some(Doubt { since, until: now.boot + HOLD_BACK });
        self.trust.offset = noted.at.0 - now.boot.0;
    }

    pub fn watch_the_clock(&mut self) {
        let now = self.clock.now();
        match self.trust.doubt {
            Some(Doubt { since: Since::Start { offset }, until }) => self.doubt_the_start(offset, until, now),
            doubt => self.doubt_a_step(doubt.map(|doubt| doubt.until), now),
        }
    }

    fn doubt_the_start(&mut self, then: i64, until: BootMs, now: Now) {
        let why = if self.clock.synchronised() != Some(false) {
            "a time service has set it"
        } else if self.servers_agree(then, now) {
            "the servers' clocks agree with it"
        } else if now.boot >= until {
            "nothing has spoken against it for 5 minutes"
        } else {
            return;
        };
        tracing::warn!(clock = %now.wall, "the wall clock is believed: {why}");
        (self.trust.doubt, self.trust.offset) = (None, offset(now));
    }

    /// What they have said of a clock that was stepped since says nothing any more.
    fn servers_agree(&self, then: i64, now: Now) -> bool {
        let within = i64::try_from(AGREES.as_millis()).unwrap_or(i64::MAX);
        let is_the_same_clock = (offset(now) - then).abs() <= within;
        let skews = self.servers.values().filter_map(|server| server.platform.clock_skew_ms());
        let agree = skews.filter(|skew| skew.abs() <= within).count();
        is_the_same_clock && agree > 0 && agree >= self.servers.len().min(WITNESSES)
    }

    /// `until`: it is doubted already.
    fn doubt_a_step(&mut self, until: Option<BootMs>, now: Now) {
        let step_ms = offset(now) - self.trust.offset;
        let suspicious = step_ms.unsigned_abs() > SUSPICIOUS_STEP.as_secs() * 1_000;
        match until {
            None if suspicious => {
                tracing::error!(
                    step_ms,
                    "the wall clock was stepped by more than an hour: the old time goes on for 5 minutes, or until it comes back"
                );
                self.trust.doubt = Some(Doubt { since: Since::Step, until: now.boot + HOLD_BACK });
            }
            Some(until) if suspicious && now.boot < until => {}
            Some(_) => {
                tracing::warn!(step_ms, "the wall clock is believed again");
                (self.trust.doubt, self.trust.offset) = (None, offset(now));
            }
            None => self.trust.offset = offset(now),
        }
    }

    /// Writes down whether the clock is kept, when that has changed or was last said long ago. A clock that is not believed
    /// changes nothing: should the machine start again meanwhile, what was said before still holds.
    pub fn note_the_clock(&mut self) {
        let now = self.clock.now();
        if now.boot < self.trust.note_at {
            return;
        }
        let Some(synchronised) = self.clock.synchronised() else {
            // Nor will the kernel tell later.
            self.trust.note_at = now.boot + RENEW_AFTER;
            return;
        };
        self.trust.note_at = now.boot + NOTE_EVERY;
        if self.trust.doubts() {
            return;
        }
        let noted = Noted { at: now.wall, synchronised };
        let is_known = self.trust.noted.is_some_and(|known| {
            known.synchronised == synchronised && (known.at..known.at + RENEW_AFTER).contains(&now.wall)
        });
        if !is_known {
            self.trust.noted = Some(noted);
            self.write_note(noted);
        }
    }

    /// At the end: where a start that doubts the clock goes on from.
    pub fn last_note(&self) -> Option<Noted> {
        let noted = self.trust.noted.filter(|_| !self.trust.doubts())?;
        Some(Noted { at: self.clock.now().wall, ..noted })
    }

    pub fn clock_status(&self) -> ClockStatus {
        let now = self.clock.now();
        let doubt = self.trust.doubt.map(|Doubt { since, until }| {
            let left = until.0.saturating_sub(now.boot.0).max(0) / 1_000;
            match since {
                Since::Step => format!(
                    "it was stepped by more than an hour to {}: the old time goes on for {left} s more",
                    now.wall
                ),
                Since::Start { .. } => format!(
                    "it says {}, and no time service has set it since this machine started: nothing is ended for {left} s more, or until one has",
                    now.wall
                ),
            }
        });
        ClockStatus { synchronised: self.clock.synchronised(), doubt }
    }
}
