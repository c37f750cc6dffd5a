//! What can go wrong, for how long, and for whom.
//!
//! Three kinds: faults of the *line* (no usable answer comes back), of the *meeting server* (the answer is fine and the
//! meeting does something else) and of the *answer* (its shape). Most stand until they are cleared, used up (`times`) or
//! over (`for_ms`); the three marked "at once" happen when they are set and stand for nothing afterwards.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::wire::Call;
use crate::job::UtcMs;

/// Faults that can stand at the same time.
pub(super) const MAX_FAULTS: usize = 10_000;

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Fault {
    // The line.
    /// The proxy's page of a dead or slow backend whose error page is missing: HTTP 404.
    #[serde(rename = "html-404")]
    Html404,
    /// HTTP 502.
    BadGateway,
    /// Too many requests: `status` is 503 or 429.
    Throttled { status: u16, retry_after: Option<u32> },
    /// The request takes effect at once, the answer comes so much later.
    Slow { ms: u32 },
    /// The request is read and never answered, and has no effect.
    Hang,
    /// The connection is closed without an answer (`reset`: by RST), and the request has no effect.
    Down { reset: bool },
    /// The request takes effect, then the connection is closed without an answer. By default for `end` only.
    AnswerLost,

    // The meeting server.
    /// An accepted end takes so long until the meeting is really over.
    EndDelay { ms: u32 },
    /// Every end is accepted and nothing ever happens.
    Zombie,
    /// The end is accepted and nothing happens; with `times`, the next so many.
    Swallow,
    /// The server forgets the meeting instead of ending it: gone from its answers, alive in truth.
    Forgetful { answer: ForgetfulAnswer },
    /// At once: the server forgets the meeting without any call (a balancer after one failed poll).
    Forget,
    /// At once: bbb-web restarts. Its map is empty, people keep talking; optionally it is away before that.
    LostState {
        #[serde(default)]
        outage_ms: u32,
        #[serde(default)]
        outage: Outage,
    },
    /// Breakout rooms outlive their parent.
    BreakoutsStay,
    /// So long after the meeting ended, its users' front-end creates it again, with so many of them in it.
    Recreate { after_ms: u32, participants: u32 },
    /// At once: the live instances end without any call after so long.
    EndsItself { in_ms: u32 },
    /// The `Date` header, and the createTime of what is created from now on, are off by so much.
    ClockSkew { ms: i64 },

    // The answer.
    /// The XML stops in the middle, under HTTP 200. By default for `getMeetings` only.
    Truncated,
    /// So many MiB more of well-formed XML. By default for `getMeetings` only.
    Huge { mib: u32 },
    /// How an unknown meeting is answered.
    UnknownAs { answer: UnknownAnswer },
    /// Failures in the `errors` list shape.
    ErrorList,
    /// What a wrong checksum is answered with (`plain_text`: HTTP 401 text, as b3lb does); `always`: every checksum counts
    /// as wrong, as after a change of the secret.
    ChecksumError { plain_text: bool, always: bool },
    /// An internal id instead of a meeting id is answered with HTTP 500, as before 2.6.
    #[serde(rename = "internal-id-500")]
    InternalId500,
    /// `getMeetings` is switched off: SUCCESS and `noMeetings`, always (Scalelite).
    ListingDisabled,
    /// Metadata elements called `running`, `returncode`, `messageKey`, ...
    DecoyMetadata,
    /// Counts as `1,500`; with `times`, times as well.
    LocaleNumbers { separator: char, times: bool },
    /// Control and bidirectional characters in the meeting's name.
    NastyName,
    /// getMeetingInfo answers with another meetingID.
    WrongMeetingId { meeting_id: String },
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ForgetfulAnswer {
    Success,
    Failed,
    BadGateway,
}

/// What the line does while bbb-web restarts.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub enum Outage {
    #[default]
    #[serde(rename = "html-404")]
    Html404,
    #[serde(rename = "bad-gateway")]
    BadGateway,
    #[serde(rename = "down")]
    Down,
}

impl Outage {
    pub(super) fn fault(self) -> Fault {
        match self {
            Outage::Html404 => Fault::Html404,
            Outage::BadGateway => Fault::BadGateway,
            Outage::Down => Fault::Down { reset: true },
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UnknownAnswer {
    /// The default of 2.2, 2.3 and 3.0.
    NotFound,
    /// `end` only: the default of 2.4 to 2.6.
    InvalidPassword,
    ValidationError,
    /// b3scale, with its return code ERROR.
    InvalidMeetingIdentifier,
}

impl Fault {
    pub fn name(&self) -> &'static str {
        match self {
            Fault::Html404 => "html-404",
            Fault::BadGateway => "bad-gateway",
            Fault::Throttled { .. } => "throttled",
            Fault::Slow { .. } => "slow",
            Fault::Hang => "hang",
            Fault::Down { .. } => "down",
            Fault::AnswerLost => "answer-lost",
            Fault::EndDelay { .. } => "end-delay",
            Fault::Zombie => "zombie",
            Fault::Swallow => "swallow",
            Fault::Forgetful { .. } => "forgetful",
            Fault::Forget => "forget",
            Fault::LostState { .. } => "lost-state",
            Fault::BreakoutsStay => "breakouts-stay",
            Fault::Recreate { .. } => "recreate",
            Fault::EndsItself { .. } => "ends-itself",
            Fault::ClockSkew { .. } => "clock-skew",
            Fault::Truncated => "truncated",
            Fault::Huge { .. } => "huge",
            Fault::UnknownAs { .. } => "unknown-as",
            Fault::ErrorList => "error-list",
            Fault::ChecksumError { .. } => "checksum-error",
            Fault::InternalId500 => "internal-id-500",
            Fault::ListingDisabled => "listing-disabled",
            Fault::DecoyMetadata => "decoy-metadata",
            Fault::LocaleNumbers { .. } => "locale-numbers",
            Fault::NastyName => "nasty-name",
            Fault::WrongMeetingId { .. } => "wrong-meeting-id",
        }
    }

    /// The calls that it changes where the order does not name one.
    fn covers(&self, call: Call) -> bool {
        match self {
            Fault::AnswerLost => call == Call::End,
            Fault::Truncated | Fault::Huge { .. } => call == Call::GetMeetings,
            _ => true,
        }
    }

    pub fn everywhere(self) -> FaultOrder {
        FaultOrder { fault: self, server: None, meeting: None, call: None, times: None, for_ms: None }
    }

    pub fn on_meeting(self, meeting: &str) -> FaultOrder {
        FaultOrder { meeting: Some(meeting.to_owned()), ..self.everywhere() }
    }

    pub fn on_server(self, server: &str) -> FaultOrder {
        FaultOrder { server: Some(server.to_owned()), ..self.everywhere() }
    }
}

/// A fault to be set: for whom and for how long. What is left out means all of them, and for ever.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FaultOrder {
    pub fault: Fault,
    /// `front` is what the base URL reaches; the nodes behind a balancer are `node1`, `node2`, ...
    #[serde(default)]
    pub server: Option<String>,
    /// The meetingID, never an internal id.
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
}

/// What a fault is asked about: one request at one server, or one meeting in a listing.
pub(super) struct Scope<'a> {
    pub server: &'a str,
    pub call: Call,
    /// The meeting, by what was given and by what that was resolved to.
    pub given: Option<&'a str>,
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
        self.active.push(ActiveFault { id: self.last_id, order, set_at: now, until, left });
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
}

impl ActiveFault {
    fn matches(&self, scope: &Scope<'_>) -> bool {
        let order = &self.order;
        let called = match order.call {
            Some(call) => call == scope.call,
            None => order.fault.covers(scope.call),
        };
        let served = order.server.as_deref().is_none_or(|server| server == scope.server);
        let met = order.meeting.as_deref().is_none_or(|m| {
            scope.given.is_some_and(|given| given == m) || scope.meeting.is_some_and(|meeting| meeting == m)
        });
        self.left != Some(0) && called && served && met
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope(server: &'static str, call: Call, given: Option<&'static str>) -> Scope<'static> {
        Scope { server, call, given, meeting: None }
    }

    fn zombie(fault: &Fault) -> Option<()> {
        matches!(fault, Fault::Zombie).then_some(())
    }

    #[test]
    fn matches_by_server_meeting_and_call() {
        let mut faults = Faults::default();
        faults.set(
            FaultOrder { server: Some("node1".to_owned()), ..Fault::Zombie.on_meeting("m") }.call(Call::End),
            UtcMs(0),
        );
        assert!(faults.find(&scope("node1", Call::End, Some("m")), zombie).is_some());
        assert!(faults.find(&scope("node2", Call::End, Some("m")), zombie).is_none());
        assert!(faults.find(&scope("node1", Call::End, Some("n")), zombie).is_none());
        assert!(faults.find(&scope("node1", Call::End, None), zombie).is_none());
        assert!(faults.find(&scope("node1", Call::GetMeetingInfo, Some("m")), zombie).is_none());
        let by_instance = Scope { meeting: Some("m"), ..scope("node1", Call::End, Some("0a-1")) };
        assert!(faults.find(&by_instance, zombie).is_some());
    }

    #[test]
    fn ends_by_count_by_time_and_by_hand() {
        let mut faults = Faults::default();
        let at = scope("front", Call::End, None);
        let mut applied = Vec::new();
        faults.set(Fault::Zombie.everywhere().times(2), UtcMs(0));
        for taken in [true, true, false] {
            assert_eq!(faults.take(&at, &mut applied, zombie).is_some(), taken);
        }
        assert_eq!(applied, ["zombie", "zombie"]);

        faults.set(Fault::Zombie.everywhere().for_ms(100), UtcMs(1_000));
        faults.expire(UtcMs(1_099));
        assert_eq!(faults.active().len(), 1, "the one that was used up is gone");
        faults.expire(UtcMs(1_100));
        assert!(faults.active().is_empty());

        let first = faults.set(Fault::Zombie.everywhere(), UtcMs(0));
        faults.set(Fault::Hang.everywhere(), UtcMs(0));
        assert_eq!(faults.clear(Some(first)), 1);
        assert_eq!(faults.clear(None), 1);
    }

    #[test]
    fn some_faults_are_of_one_call_unless_told_otherwise() {
        let mut faults = Faults::default();
        let lost = |fault: &Fault| matches!(fault, Fault::AnswerLost).then_some(());
        faults.set(Fault::AnswerLost.everywhere(), UtcMs(0));
        assert!(faults.find(&scope("front", Call::End, None), lost).is_some());
        assert!(faults.find(&scope("front", Call::GetMeetingInfo, None), lost).is_none());
        faults.set(Fault::AnswerLost.everywhere().call(Call::GetMeetingInfo), UtcMs(0));
        assert!(faults.find(&scope("front", Call::GetMeetingInfo, None), lost).is_some());
    }

    #[test]
    fn orders_are_read_strictly() {
        let read = |json: &str| serde_json::from_str::<FaultOrder>(json);
        assert_eq!(read(r#"{"fault":"zombie","meeting":"m"}"#).unwrap(), Fault::Zombie.on_meeting("m"));
        let lost = Fault::LostState { outage_ms: 500, outage: Outage::Down };
        assert_eq!(
            read(r#"{"fault":{"lost-state":{"outage_ms":500,"outage":"down"}},"server":"node1"}"#).unwrap(),
            lost.on_server("node1")
        );
        assert!(read(r#"{"fault":"zombie","metting":"m"}"#).is_err(), "a typo must not widen a fault");
        assert!(read(r#"{"fault":{"slow":{"ms":5,"x":1}}}"#).is_err());
        let written = serde_json::to_string(&Fault::Html404.everywhere()).unwrap();
        assert_eq!(read(&written).unwrap(), Fault::Html404.everywhere());
    }
}
