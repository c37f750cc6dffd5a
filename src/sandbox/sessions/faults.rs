//! What can go wrong, for how long, and for whom.
//!
//! Three kinds: faults of the *line* (no usable answer comes back), of the *service* (the answer is fine and the session
//! does something else) and of the *answer* (what it says, and how). Most stand until they are cleared, used up (`times`)
//! or over (`for_ms`); `ends-itself` happens when it is set and stands for nothing afterwards.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::truth::Call;
use crate::job::UtcMs;

/// Faults that can stand at the same time.
pub(super) const MAX_FAULTS: usize = 10_000;

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Fault {
    // The line.
    /// HTTP 502 with a page of the proxy.
    BadGateway,
    /// HTTP 429; `retry_after` in seconds, with `http_date` written as a date.
    Throttled {
        retry_after: Option<u32>,
        #[serde(default)]
        http_date: bool,
    },
    /// The request takes effect at once, the answer comes so much later.
    Slow { ms: u32 },
    /// The request is read and never answered, and has no effect.
    Hang,
    /// The connection is closed without an answer (`reset`: by RST), and the request has no effect.
    Down { reset: bool },
    /// The request takes effect, then the connection is closed without an answer. By default for `end` only.
    AnswerLost,

    // The service.
    /// The token is refused with 401: always, or until another one comes than the first that was refused.
    InvalidToken {
        #[serde(default)]
        always: bool,
    },
    /// An accepted end takes so long until the session is really over.
    EndsLate { ms: u32 },
    /// Every end is accepted and nothing ever happens.
    Zombie,
    /// The end is accepted and nothing happens; with `times`, the next so many.
    Swallow,
    /// The first end empties the session and leaves it live; the second one ends it.
    Ghost,
    /// So long after the session ended, people join again: a new session.
    Recreate { after_ms: u32, participants: u32 },
    /// At once: the live sessions end without any call after so long.
    EndsItself { in_ms: u32 },
    /// A session that everybody has left stays live for so long.
    KeepAlive { ms: u32 },
    /// Locking the room sends away who is in it.
    LockDrops,
    /// The `Date` header and all timestamps are off by so much.
    ClockSkew { ms: i64 },

    // The answer.
    /// The request is refused with this status and has no effect. By default for `end` only.
    Refused { status: u16 },
    /// HTTP 200 whose body says `"success": false`; no effect. By default for `end` only.
    FalseSuccess,
    /// The status with which the end of a session that is over already is refused.
    OverAs { status: u16 },
    /// How errors are written.
    ErrorForm { form: ErrorForm },
    /// Listings show a session as live for so long after its end.
    StaleListing { ms: u32 },
    /// The record of a session, and what is live in its room, lag behind its end by so much.
    StaleRecord { ms: u32 },
    /// After each page of a listing but the last, the first so many sessions of the listing end: the total moves.
    ShrinkingListing { drop: u32 },
    /// Listings begin with the oldest session.
    OldestFirst,
    /// The largest page; larger ones are cut, or refused with 422.
    PageLimit {
        max: u32,
        #[serde(default)]
        refuse: bool,
    },
    /// The record of a session that is over answers 404, and no listing has it.
    RecordVanished,
    /// Timestamps are written as this text.
    BadTimes { text: String },
}

/// Where the text of an error is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ErrorForm {
    Message,
    Error,
    Msg,
    StatusMessage,
    /// A JSON string and nothing else.
    String,
    /// No JSON.
    Text,
    Html,
    /// `{"success": false, "errors": [{"code", "message"}]}`, as Cloudflare's gateway does.
    V4,
}

impl Fault {
    pub fn name(&self) -> &'static str {
        match self {
            Fault::BadGateway => "bad-gateway",
            Fault::Throttled { .. } => "throttled",
            Fault::Slow { .. } => "slow",
            Fault::Hang => "hang",
            Fault::Down { .. } => "down",
            Fault::AnswerLost => "answer-lost",
            Fault::InvalidToken { .. } => "invalid-token",
            Fault::EndsLate { .. } => "ends-late",
            Fault::Zombie => "zombie",
            Fault::Swallow => "swallow",
            Fault::Ghost => "ghost",
            Fault::Recreate { .. } => "recreate",
            Fault::EndsItself { .. } => "ends-itself",
            Fault::KeepAlive { .. } => "keep-alive",
            Fault::LockDrops => "lock-drops",
            Fault::ClockSkew { .. } => "clock-skew",
            Fault::Refused { .. } => "refused",
            Fault::FalseSuccess => "false-success",
            Fault::OverAs { .. } => "over-as",
            Fault::ErrorForm { .. } => "error-form",
            Fault::StaleListing { .. } => "stale-listing",
            Fault::StaleRecord { .. } => "stale-record",
            Fault::ShrinkingListing { .. } => "shrinking-listing",
            Fault::OldestFirst => "oldest-first",
            Fault::PageLimit { .. } => "page-limit",
            Fault::RecordVanished => "record-vanished",
            Fault::BadTimes { .. } => "bad-times",
        }
    }

    /// The calls that it changes where the order does not name one.
    fn covers(&self, call: Call) -> bool {
        match self {
            Fault::AnswerLost | Fault::Refused { .. } | Fault::FalseSuccess => call == Call::End,
            _ => true,
        }
    }

    /// Is the status of a refusal one?
    pub(super) fn status_is_wrong(&self) -> bool {
        let (Fault::Refused { status } | Fault::OverAs { status }) = self else { return false };
        !(400..600).contains(status)
    }

    pub fn everywhere(self) -> FaultOrder {
        FaultOrder { fault: self, meeting: None, call: None, times: None, for_ms: None }
    }

    pub fn on_meeting(self, meeting: &str) -> FaultOrder {
        FaultOrder { meeting: Some(meeting.to_owned()), ..self.everywhere() }
    }
}

/// A fault to be set: for whom and for how long. What is left out means all of them, and for ever.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FaultOrder {
    pub fault: Fault,
    /// The meeting's (room's) own id.
    #[serde(default)]
    pub meeting: Option<String>,
    #[serde(default)]
    pub call: Option<Call>,
    /// Used up after so many requests that it changed.
    #[serde(default)]
    pub times: Option<u32>,
    /// Over after so many milliseconds.
    #[serde(default)]
    pub for_ms: Option<u32>,
}

impl FaultOrder {
    pub fn call(self, call: Call) -> FaultOrder {
        FaultOrder { call: Some(call), ..self }
    }

    pub fn times(self, times: u32) -> FaultOrder {
        FaultOrder { times: Some(times), ..self }
    }

    pub fn for_ms(self, ms: u32) -> FaultOrder {
        FaultOrder { for_ms: Some(ms), ..self }
    }
}

/// A fault that stands.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct ActiveFault {
    pub id: u64,
    pub order: FaultOrder,
    pub set_at: UtcMs,
    pub until: Option<UtcMs>,
    /// Requests that it will still change.
    pub left: Option<u32>,
    /// The first token that `invalid-token` refused.
    #[serde(skip)]
    token: Option<String>,
}

/// What a fault is asked about: one request, or one meeting in a listing.
pub(super) struct Scope<'a> {
    pub call: Call,
    pub meeting: Option<&'a str>,
}

/// All faults that stand, oldest first; the oldest that matches is taken.
#[derive(Default)]
pub(super) struct Faults {
    active: Vec<ActiveFault>,
    last_id: u64,
}

impl Faults {
    pub fn set(&mut self, order: FaultOrder, now: UtcMs) -> u64 {
        self.last_id += 1;
        let until = order.for_ms.map(|ms| UtcMs(now.0 + i64::from(ms)));
        let left = order.times;
        self.active.push(ActiveFault { id: self.last_id, order, set_at: now, until, left, token: None });
        self.last_id
    }

    /// Removes one, or all; says how many.
    pub fn clear(&mut self, id: Option<u64>) -> usize {
        let before = self.active.len();
        self.active.retain(|f| id.is_some_and(|id| id != f.id));
        before - self.active.len()
    }

    pub fn expire(&mut self, now: UtcMs) {
        self.active.retain(|f| f.until.is_none_or(|until| now < until) && f.left != Some(0));
    }

    pub fn active(&self) -> &[ActiveFault] {
        &self.active
    }

    /// Finds the oldest fault of the kind that `pick` names, without using it up.
    pub fn find<T>(&self, scope: &Scope<'_>, pick: impl Fn(&Fault) -> Option<T>) -> Option<T> {
        self.active.iter().filter(|f| f.matches(scope)).find_map(|f| pick(&f.order.fault))
    }

    /// Finds the oldest fault of the kind that `pick` names, counts one use of it and notes its name.
    pub fn take<T>(
        &mut self,
        scope: &Scope<'_>,
        applied: &mut Vec<Cow<'static, str>>,
        pick: impl Fn(&Fault) -> Option<T>,
    ) -> Option<T> {
        for fault in self.active.iter_mut().filter(|f| f.matches(scope)) {
            let Some(value) = pick(&fault.order.fault) else { continue };
            fault.left = fault.left.map(|left| left.saturating_sub(1));
            applied.push(Cow::Borrowed(fault.order.fault.name()));
            return Some(value);
        }
        None
    }

    /// Does a standing `invalid-token` refuse this one?
    pub fn refuse_token(
        &mut self,
        scope: &Scope<'_>,
        applied: &mut Vec<Cow<'static, str>>,
        token: &str,
    ) -> bool {
        let mut standing = self.active.iter_mut().filter(|f| f.matches(scope));
        let found = standing.find_map(|f| match f.order.fault {
            Fault::InvalidToken { always } => Some((f, always)),
            _ => None,
        });
        let Some((fault, always)) = found else { return false };
        let refused = always || fault.token.get_or_insert_with(|| token.to_owned()) == token;
        if refused {
            fault.left = fault.left.map(|left| left.saturating_sub(1));
            applied.push(Cow::Borrowed(fault.order.fault.name()));
        }
        refused
    }
}

impl ActiveFault {
    fn matches(&self, scope: &Scope<'_>) -> bool {
        let order = &self.order;
        let called = match order.call {
            Some(call) => call == scope.call,
            None => order.fault.covers(scope.call),
        };
        let met = order.meeting.as_deref().is_none_or(|m| scope.meeting.is_some_and(|meeting| meeting == m));
        self.left != Some(0) && called && met
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const END: Scope<'_> = Scope { call: Call::End, meeting: Some("m") };

    fn refused(fault: &Fault) -> Option<u16> {
        if let Fault::Refused { status } = fault { Some(*status) } else { None }
    }

    #[test]
    fn matches_by_meeting_and_call_and_ends_by_count_and_by_time() {
        let mut faults = Faults::default();
        let mut applied = Vec::new();
        faults.set(Fault::Refused { status: 406 }.on_meeting("m").times(1), UtcMs(0));
        assert_eq!(faults.find(&Scope { meeting: Some("n"), ..END }, refused), None);
        assert_eq!(faults.find(&Scope { call: Call::Session, ..END }, refused), None, "of the end call only");
        assert_eq!(faults.take(&END, &mut applied, refused), Some(406));
        assert_eq!(faults.take(&END, &mut applied, refused), None);
        assert_eq!(applied, ["refused"]);
        faults.set(Fault::Refused { status: 402 }.everywhere().call(Call::Session).for_ms(100), UtcMs(1_000));
        assert_eq!(faults.find(&Scope { call: Call::Session, ..END }, refused), Some(402));
        faults.expire(UtcMs(1_100));
        assert!(faults.active().is_empty());
    }

    #[test]
    fn a_token_is_refused_until_another_comes() {
        for (always, second) in [(false, false), (true, true)] {
            let mut faults = Faults::default();
            faults.set(Fault::InvalidToken { always }.everywhere(), UtcMs(0));
            let mut refused = |token| faults.refuse_token(&END, &mut Vec::new(), token);
            assert_eq!([refused("a"), refused("a"), refused("b")], [true, true, second]);
        }
    }

    #[test]
    fn orders_are_read_strictly() {
        let read = |json: &str| serde_json::from_str::<FaultOrder>(json);
        assert_eq!(read(r#"{"fault":"ghost","meeting":"m"}"#).unwrap(), Fault::Ghost.on_meeting("m"));
        let throttled = Fault::Throttled { retry_after: Some(3), http_date: false }.everywhere();
        assert_eq!(read(r#"{"fault":{"throttled":{"retry_after":3}}}"#).unwrap(), throttled);
        assert!(read(r#"{"fault":"ghost","metting":"m"}"#).is_err(), "a typo must not widen a fault");
        assert!(read(r#"{"fault":{"slow":{"ms":5,"x":1}}}"#).is_err());
    }
}
