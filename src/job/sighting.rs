//! What a platform shows, and what it answers: raw sightings, judged verdicts, answers to an end call.
//!
//! Three separate things, in this order: the platform returns a raw [`Sighting`]; its pure `judge` weighs it against
//! what it remembers of the server and says a [`Verdict`]; [`step`](super::step()) compares the verdict with the pin.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{InstanceId, JobId, MeetingId, Now, UtcMs};

/// One run of a meeting, as an answer showed it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Instance {
    pub id: InstanceId,
    /// When it started, as well as it is known (for people); `None` if the platform does not say, or says what cannot be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<UtcMs>,
    /// Within what bounds it started, beyond doubt. What belongs to a deadline goes by this alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<StartRange>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub participants: Option<u32>,
    /// A complete listing showed it (some load balancers can prove nothing about what their listing never showed).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub listed: bool,
    /// The node behind a load balancer that holds it, where nodes are configured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// When the answer came that showed it, where that was before the round's last one. An end call may follow a look by
    /// so much time only, and other questions of the same round may take long.
    #[serde(skip)]
    pub shown_at: Option<Now>,
    /// When the question was asked whose answer showed it, where that was after the round's first one.
    #[serde(skip)]
    pub asked_at: Option<Now>,
}

#[cfg(test)]
impl Instance {
    /// One that a listing showed, and of which nothing else is known.
    pub(crate) fn listed(id: &str) -> Instance {
        let (started_at, start, participants, node) = (None, None, None, None);
        let (shown_at, asked_at) = (None, None);
        Instance { id: id.into(), started_at, start, participants, listed: true, node, shown_at, asked_at }
    }
}

/// The span of time in which an instance started, beyond doubt.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct StartRange {
    pub earliest: UtcMs,
    pub latest: UtcMs,
}

/// What is known of the clock by which a server tells starts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ServerClock {
    /// A surely direct server's own Date header showed it to be so many milliseconds ahead of ours (negative: behind).
    Ahead(i64),
    /// Nothing can correct it: a balancer, a cloud, no Date header.
    Unknown,
}

impl StartRange {
    /// How far a start may be from what was told, where the server's own header corrects it ...
    const CORRECTED: Duration = Duration::from_secs(2);
    /// ... and where nothing does.
    const UNCORRECTED: Duration = Duration::from_secs(60);
    /// A server whose clock is further off than this is not believed at all.
    pub const SKEW_MAX: Duration = Duration::from_secs(60);
    /// Nobody met on these servers before the year 2000: a number before it counts in another unit, or nothing.
    const PLAUSIBLE_FROM: UtcMs = UtcMs(946_684_800_000);

    /// What a told start is worth, and when it was as well as we know. `None`: nothing, because it cannot be (before the
    /// year 2000, after the answer that carries it) or because the server's clock is too far off.
    pub fn told(given: UtcMs, clock: ServerClock, answered: UtcMs) -> Option<(UtcMs, StartRange)> {
        let (best, margin) = match clock {
            ServerClock::Ahead(ms) if Duration::from_millis(ms.unsigned_abs()) > StartRange::SKEW_MAX => {
                return None;
            }
            ServerClock::Ahead(ms) => (UtcMs(given.0.saturating_sub(ms)), StartRange::CORRECTED),
            ServerClock::Unknown => (given, StartRange::UNCORRECTED),
        };
        if given < StartRange::PLAUSIBLE_FROM || best > answered {
            return None;
        }
        let range = StartRange { earliest: given.min(best) - margin, latest: given.max(best) + margin };
        Some((best, range))
    }

    /// A start that a well-set clock told.
    pub fn around(at: UtcMs) -> StartRange {
        StartRange { earliest: at - StartRange::CORRECTED, latest: at + StartRange::CORRECTED }
    }

    /// Beyond doubt before `at`.
    pub fn precedes(&self, at: UtcMs) -> bool {
        self.latest <= at
    }

    /// Beyond doubt after `at`.
    pub fn follows(&self, at: UtcMs) -> bool {
        self.earliest >= at
    }
}

/// A live meeting as a listing tells it, for people and for rules.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct LiveMeeting {
    pub meeting: MeetingId,
    pub instance: InstanceId,
    /// From strangers: sanitise before showing.
    pub name: String,
    pub started_at: Option<UtcMs>,
    pub participants: Option<u32>,
    /// What whoever created it has noted, where the platform has such a thing.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub meta: BTreeMap<String, String>,
    /// There was more of that than is kept: what `meta` lacks may have been there.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub meta_cut: bool,
    /// A breakout room: the instance (or the meeting) that it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub breakout_of: Option<String>,
}

/// A raw sighting of one meeting: what the answer said, not yet what it is worth.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Sighting {
    Live(Instance),
    /// Somebody is in the meeting, but the answer does not name the instance.
    Occupied,
    NotThere(Evidence),
    /// The platform's own record of the instance says that it is over; `next`: another one that is alive in the meeting.
    Over {
        next: Option<Instance>,
    },
    Doubtful(String),
    Unreachable(String),
    /// The server refuses our credentials.
    Misconfigured(String),
}

/// So many sightings of an absence, 2 s apart, are proof.
pub const ABSENCES_NEEDED: u8 = 2;

impl Sighting {
    /// What it is worth where answers may be taken at their word: one record of the end is proof, an absence needs two
    /// sightings, and another instance says nothing about the one that is `wanted`.
    pub fn at_its_word(&self, wanted: Option<&InstanceId>) -> Verdict {
        match self.clone() {
            Sighting::Live(by) if wanted.is_some_and(|id| *id != by.id) => {
                Verdict::Replaced { by, counts: false }
            }
            Sighting::Live(instance) => Verdict::Live(instance),
            Sighting::Occupied => Verdict::Occupied,
            Sighting::NotThere(_) => Verdict::Gone { needed: ABSENCES_NEEDED },
            Sighting::Over { next: None } => Verdict::Gone { needed: 1 },
            Sighting::Over { next: Some(by) } => Verdict::Replaced { by, counts: true },
            Sighting::Doubtful(why) => Verdict::Doubtful { why },
            Sighting::Unreachable(why) => Verdict::Unreachable { why },
            Sighting::Misconfigured(why) => Verdict::Misconfigured { why },
        }
    }
}

/// Where an absence was seen.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Evidence {
    /// A complete, successful listing did not show it.
    pub listing: bool,
    /// The single look said that there is no such meeting.
    pub info: bool,
    /// The node that held the instance said so, not the front.
    pub node: bool,
}

/// A sighting, weighed. The only thing that [`step`](super::step()) believes.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "verdict", rename_all = "kebab-case")]
pub enum Verdict {
    /// Alive: the pinned instance, or, where nothing is pinned yet, the one that was found.
    Live(Instance),
    /// Another instance than the pinned one is alive. `counts`: this also counts as the pinned one being gone.
    Replaced {
        by: Instance,
        counts: bool,
    },
    /// Somebody is in it, instance unknown: resets a count, allows nothing.
    Occupied,
    /// Not there, and it counts: so many such sightings (2 s apart) are proof.
    Gone {
        needed: u8,
    },
    /// Says nothing either way.
    Doubtful {
        why: String,
    },
    /// Not there, and nothing that this server can say will ever prove it over.
    Hopeless {
        why: String,
    },
    /// A good listing of a front does not show it, and the front's word cannot tell whether it is over or was forgotten.
    /// `believed`: the operator has said that this front's word is to be taken, and nothing in its memory speaks against.
    Vanished {
        why: String,
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        believed: bool,
    },
    Unreachable {
        why: String,
    },
    Misconfigured {
        why: String,
    },
}

/// How a room can be closed against whoever comes back after the end.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Lock {
    #[default]
    No,
    /// Until somebody opens it again (`adjourn unlock`).
    Reversible,
    /// For good.
    Permanent,
}

/// What the heart has to know of a server when it weighs what a look there showed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Site {
    /// Address and account, without any secret: what was pinned elsewhere cannot be proven over here.
    pub fingerprint: String,
    /// What an end call for the instance would name.
    pub aim: Aim,
    /// May one listing serve as the last look of several end calls that can name only the meeting? Not where it may be old.
    pub shares_last_look: bool,
    /// The first sighting of an absence counts if it was asked at least this long after the last accepted end call ...
    pub settle: Duration,
    /// ... and the second if it was asked at least this long after the first was answered.
    pub apart: Duration,
    /// How long an answer to such a look took lately.
    pub answer_time: Duration,
}

/// What the heart has to know beside an answer when it weighs it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Knowledge {
    pub site: Site,
    /// Another job's end call at the pinned instance was accepted or lost its answer, and when that was known.
    pub called_by: Option<(JobId, Now)>,
}

/// What an end call names.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Aim {
    Instance,
    Meeting,
}

/// The platform's answer to an end call.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "kebab-case")]
pub enum EndAnswer {
    Accepted,
    /// Refused in a way that an ended meeting would also be: look.
    MaybeGone {
        why: String,
    },
    Refused {
        why: String,
        permanent: bool,
    },
    /// Not processed; try again, not before `retry_after` (milliseconds).
    Throttled {
        why: String,
        retry_after: Option<Duration>,
        /// The server had too much to do (HTTP 503), rather than too many requests of ours.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        unavailable: bool,
    },
    Misconfigured {
        why: String,
    },
    /// No usable answer. `sent`: the request may have reached the platform and taken effect.
    Unreachable {
        why: String,
        sent: bool,
    },
}

impl EndAnswer {
    /// May this call have ended the meeting?
    pub fn may_have_ended(&self) -> bool {
        matches!(self, EndAnswer::Accepted | EndAnswer::Unreachable { sent: true, .. })
    }
}

impl fmt::Display for Lock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Lock::No => "no",
            Lock::Reversible => "reversible",
            Lock::Permanent => "permanent",
        })
    }
}

impl fmt::Display for Aim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Aim::Instance => "instance",
            Aim::Meeting => "meeting",
        })
    }
}
