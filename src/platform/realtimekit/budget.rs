//! What may be asked when: a sliding window over the requests of one token. Pure but for [`Purse`], which shares it.
//!
//! Cloudflare: 1,200 requests in 5 minutes and token, the dashboard included; beyond that everything is refused for 5
//! minutes, end calls too. So the limit is never reached, and within it every kind of request has its share:
//!
//! | kind | while fewer than so many are in the window | why |
//! |---|---|---|
//! | end calls | 1,100 of any kind, or 100 fewer than that less the looks among them | so that nobody is blind after a burst |
//! | looks that an end call waits for | 450 looks | the rest of the window stays with the end calls |
//! | other looks | 300 looks | the same |
//!
//! Looks also keep a pace, so that nobody is blind for minutes because a share is used up: a round costs a short rest for
//! each of its requests, and a long one as soon as its share, or the window, runs low.
//! A request counts from its sending until five minutes after its answer: whenever in between the server counted it, it
//! has left the server's window before it leaves ours.
//! What was asked before the start of the daemon is not known: half of the window is taken to be used then. Rates with a
//! smooth refill (GCRA, as in `governor`) do not fit: they allow a full burst and the refill on top within one window.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::job::BootMs;
use crate::platform::rest::Clock;

/// Requests in the window, of all kinds. 100 of Cloudflare's 1,200 are left to the dashboard.
const LIMIT: usize = 1_100;
/// Cloudflare's window, and a little for clocks that do not run alike.
const WINDOW: Duration = Duration::from_secs(305);
/// So many requests of the window are kept for looks, however many end calls wait.
const KEPT_FOR_LOOKS: usize = 100;
/// Looks in the window, at most: those that end calls wait for, and all others.
const URGENT_LOOKS: usize = 450;
const OTHER_LOOKS: usize = 300;
/// While no more looks than this are in the window they need no rest.
const FREE_URGENT: usize = 300;
const FREE_OTHER: usize = 150;
/// With no more than this left of the window, looks rest as if their share ran low.
const LOW: usize = 150;
/// How long a round rests for each of its requests, and when its share runs low.
const REST: Duration = Duration::from_millis(100);
const LONG_REST: Duration = Duration::from_secs(2);
/// End calls that found no room go on when so many have, or this long after the first has: each batch needs a look.
const BATCH: usize = 100;
const BATCH_WAIT: Duration = Duration::from_secs(10);
/// What is taken to be used when the daemon starts.
const USED_AT_START: usize = LIMIT / 2;
/// Everything is refused for so long after the limit was hit, where the server does not say how long.
pub(super) const PENALTY: Duration = Duration::from_secs(300);
/// Looked at again after this where nothing but answers can make room, and where calls are just leaving.
const SOON: Duration = Duration::from_secs(1);
const MOMENT: Duration = Duration::from_millis(100);

/// What a request is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    /// An end call, or what belongs to it.
    End,
    /// A look that an end call waits for.
    Urgent,
    Other,
}

impl Kind {
    fn is_look(self) -> bool {
        self != Kind::End
    }

    /// Looks that may be in the window, and how many of them without a long rest.
    fn looks(self) -> (usize, usize) {
        match self {
            Kind::End => (LIMIT, LIMIT),
            Kind::Urgent => (URGENT_LOOKS, FREE_URGENT),
            Kind::Other => (OTHER_LOOKS, FREE_OTHER),
        }
    }
}

/// The window.
#[derive(Clone, PartialEq, Debug, Default)]
pub(super) struct Budget {
    /// Answered requests, oldest first, and whether they were looks.
    spent: VecDeque<(BootMs, bool)>,
    looks_spent: usize,
    ends_in_flight: usize,
    looks_in_flight: usize,
    /// When the last round of looks began, and what it has cost so far.
    round: Option<(BootMs, u32)>,
    /// The server refuses everything until then.
    paused: Option<BootMs>,
    /// End calls found no room and go on together then.
    ends_again: Option<BootMs>,
}

impl Budget {
    /// Of a process that has just started.
    pub(super) fn at_start(now: BootMs) -> Budget {
        Budget { spent: VecDeque::from(vec![(now, false); USED_AT_START]), ..Budget::default() }
    }

    /// Takes one request's room, or says when to ask again. What was taken is given to [`Budget::answered`].
    pub(super) fn take(&mut self, kind: Kind, now: BootMs) -> Result<(), BootMs> {
        if let Some(at) = self.room_at(kind, 1, LIMIT, now) {
            return Err(at);
        }
        if kind.is_look() {
            self.looks_in_flight += 1;
            if let Some((_, cost)) = &mut self.round {
                *cost += 1;
            }
        } else {
            self.ends_in_flight += 1;
        }
        Ok(())
    }

    /// A request was answered, or its answer is not waited for any longer.
    pub(super) fn answered(&mut self, kind: Kind, now: BootMs) {
        let in_flight = if kind.is_look() { &mut self.looks_in_flight } else { &mut self.ends_in_flight };
        *in_flight = in_flight.saturating_sub(1);
        self.spent.push_back((now, kind.is_look()));
        self.looks_spent += usize::from(kind.is_look());
    }

    /// The limit was hit all the same.
    pub(super) fn pause(&mut self, until: BootMs) {
        self.paused = self.paused.max(Some(until));
    }

    pub(super) fn begin_round(&mut self, now: BootMs) {
        self.round = Some((now, 0));
    }

    /// When the next end call may leave; `None`: now. `under_way`: calls that have been let go and not been answered;
    /// some of them may not have taken their room yet.
    pub(super) fn end_at(&mut self, under_way: usize, now: BootMs) -> Option<BootMs> {
        if let Some(at) = self.ends_again.filter(|at| *at > now) {
            return Some(at);
        }
        self.ends_again = None;
        let wanted = under_way.saturating_sub(self.ends_in_flight) + 1;
        let most = LIMIT - KEPT_FOR_LOOKS.saturating_sub(self.looks_used(now));
        let first = self.room_at(Kind::End, wanted, most, now)?;
        if self.room_at(Kind::End, 1, most, now).is_none() {
            // What has been let go takes its room, or proves answered, in a moment.
            return Some(now + MOMENT);
        }
        let all = self.room_at(Kind::End, wanted + BATCH, most, now).unwrap_or(first);
        self.ends_again = Some(first.max(all.min(first + BATCH_WAIT)));
        self.ends_again
    }

    /// When a round of about so many requests may start; `None`: now.
    pub(super) fn round_at(&mut self, kind: Kind, requests: usize, now: BootMs) -> Option<BootMs> {
        let room = self.room_at(kind, requests.min(KEPT_FOR_LOOKS), LIMIT, now);
        let rest = if self.runs_low(kind, requests, now) { LONG_REST } else { REST };
        let rested = self.round.map(|(began, cost)| began + rest.saturating_mul(cost));
        room.max(rested).filter(|at| *at > now)
    }

    /// Is there room for so many looks now, and enough besides that they need no long rest?
    pub(super) fn affords(&mut self, kind: Kind, requests: usize, now: BootMs) -> bool {
        self.room_at(kind, requests, LIMIT, now).is_none() && !self.runs_low(kind, requests, now)
    }

    fn runs_low(&mut self, kind: Kind, requests: usize, now: BootMs) -> bool {
        let (_, free) = kind.looks();
        self.looks_used(now) + requests > free || self.used() + requests > LIMIT - LOW
    }

    /// When there is room for `wanted` more, with at most `most` of all kinds in the window; `None`: now.
    fn room_at(&mut self, kind: Kind, wanted: usize, most: usize, now: BootMs) -> Option<BootMs> {
        self.forget(now);
        let paused = self.paused.filter(|until| *until > now);
        let excess = (self.used() + wanted).saturating_sub(most);
        let of_all = self.gone_at(excess, |_| true, now);
        let looks = if kind.is_look() { self.looks_used(now) + wanted } else { 0 };
        let of_looks = self.gone_at(looks.saturating_sub(kind.looks().0), |is_look| is_look, now);
        paused.max(of_all).max(of_looks)
    }

    /// When so many of these have left the window; `None`: now.
    fn gone_at(&self, excess: usize, counts: impl Fn(bool) -> bool, now: BootMs) -> Option<BootMs> {
        let last = excess.checked_sub(1)?;
        let mut those = self.spent.iter().filter(|(_, is_look)| counts(*is_look));
        Some(those.nth(last).map_or(now + SOON, |(at, _)| *at + WINDOW))
    }

    fn forget(&mut self, now: BootMs) {
        while let Some((at, is_look)) = self.spent.front()
            && now >= *at + WINDOW
        {
            self.looks_spent -= usize::from(*is_look);
            self.spent.pop_front();
        }
    }

    fn used(&self) -> usize {
        self.spent.len() + self.ends_in_flight + self.looks_in_flight
    }

    fn looks_used(&mut self, now: BootMs) -> usize {
        self.forget(now);
        self.looks_spent + self.looks_in_flight
    }
}

type Budgets = HashMap<[u8; 32], Weak<Mutex<Budget>>>;

/// Budgets of the tokens in use, by a hash of the token: a reload must not forget what was spent. Of the process, because
/// the limit is the token's, whatever asks.
static BUDGETS: LazyLock<Mutex<Budgets>> = LazyLock::new(Mutex::default);

/// The one budget of a token, shared by all servers that use it.
#[derive(Clone)]
pub(super) struct Purse {
    budget: Arc<Mutex<Budget>>,
    clock: Clock,
}

/// One request's room; given back when it is dropped, which must be when its answer is there.
pub(super) struct Permit {
    purse: Purse,
    kind: Kind,
}

impl Purse {
    /// `credential` is what the limit is counted by.
    pub(super) fn of(credential: &str, clock: Clock) -> Purse {
        let key: [u8; 32] = Sha256::digest(credential.as_bytes()).into();
        let mut budgets = BUDGETS.lock().unwrap_or_else(PoisonError::into_inner);
        budgets.retain(|_, budget| budget.strong_count() > 0);
        let budget = budgets.get(&key).and_then(Weak::upgrade).unwrap_or_else(|| {
            let fresh = Arc::new(Mutex::new(Budget::at_start(clock().boot)));
            budgets.insert(key, Arc::downgrade(&fresh));
            fresh
        });
        Purse { budget, clock }
    }

    /// Of a token that nobody has used for long.
    #[cfg(test)]
    pub(super) fn full(clock: Clock) -> Purse {
        Purse { budget: Arc::default(), clock }
    }

    pub(super) fn take(&self, kind: Kind) -> Result<Permit, BootMs> {
        let now = (self.clock)().boot;
        self.budget().take(kind, now)?;
        Ok(Permit { purse: self.clone(), kind })
    }

    pub(super) fn pause(&self, pause: Duration) {
        let until = (self.clock)().boot + pause;
        self.budget().pause(until);
    }

    pub(super) fn begin_round(&self) {
        let now = (self.clock)().boot;
        self.budget().begin_round(now);
    }

    pub(super) fn affords(&self, kind: Kind, requests: usize) -> bool {
        let now = (self.clock)().boot;
        self.budget().affords(kind, requests, now)
    }

    /// When there is room for so many; `None`: now.
    pub(super) fn room_at(&self, kind: Kind, requests: usize) -> Option<BootMs> {
        let now = (self.clock)().boot;
        self.budget().room_at(kind, requests, LIMIT, now)
    }

    pub(super) fn end_at(&self, under_way: usize) -> Option<BootMs> {
        let now = (self.clock)().boot;
        self.budget().end_at(under_way, now)
    }

    pub(super) fn round_at(&self, kind: Kind, requests: usize) -> Option<BootMs> {
        let now = (self.clock)().boot;
        self.budget().round_at(kind, requests, now)
    }

    fn budget(&self) -> MutexGuard<'_, Budget> {
        self.budget.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let now = (self.purse.clock)().boot;
        self.purse.budget().answered(self.kind, now);
    }
}

#[cfg(test)]
mod tests;
