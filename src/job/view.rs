//! A job as every answer, event and `--json` shows it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{
    Entry, InstanceId, Job, JobId, LastSeen, LeftAlone, MarkStory, MeetingId, Now, Outcome, Reopened,
    ServerName, State, UtcMs,
};

/// The JSON form of a job. Times are RFC 3339 with milliseconds.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub struct JobView {
    pub id: JobId,
    pub server: ServerName,
    pub meeting: MeetingId,
    pub instance: Option<InstanceId>,
    /// `null` while only the start of the meeting will tell.
    #[serde(with = "rfc3339")]
    pub due: UtcMs,
    /// The due time as planned, where people have extended it.
    #[serde(default, with = "rfc3339_option", skip_serializing_if = "Option::is_none")]
    pub extended_from: Option<UtcMs>,
    /// How far the deadline may be pushed in total, and how far still; absent without a limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_extension_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extension_left_ms: Option<u64>,
    /// So long before due the people inside are told: `10m`, longest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warn: Vec<String>,
    /// What has become of each of these marks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<WarningView>,
    /// So long after the start of the meeting.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_duration: Option<String>,
    /// That start has not been seen yet.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub awaits_start: bool,
    pub state: State,
    pub outcome: Option<Outcome>,
    /// One sentence.
    pub reason: String,
    pub revision: u64,
    pub origin: String,
    #[serde(with = "rfc3339")]
    pub submitted_at: UtcMs,
    #[serde(with = "rfc3339_option")]
    pub held_until: Option<UtcMs>,
    #[serde(with = "rfc3339_option")]
    pub armed_at: Option<UtcMs>,
    #[serde(with = "rfc3339_option")]
    pub end_sent_at: Option<UtcMs>,
    #[serde(with = "rfc3339_option")]
    pub accepted_at: Option<UtcMs>,
    #[serde(with = "rfc3339_option")]
    pub proven_at: Option<UtcMs>,
    /// From due to the sending of the first end call.
    pub lateness_ms: Option<i64>,
    pub ends: u32,
    pub looks: u32,
    /// When the job will next do something by itself.
    #[serde(with = "rfc3339_option")]
    pub next_at: Option<UtcMs>,
    /// When the people inside will next be told that the end comes.
    #[serde(default, with = "rfc3339_option", skip_serializing_if = "Option::is_none")]
    pub next_warning_at: Option<UtcMs>,
    /// When the meeting was first seen alive again after that, and what was there since.
    #[serde(with = "rfc3339_option")]
    pub reopened_at: Option<UtcMs>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reopened: Vec<ReopenedView>,
    /// How old the last look was when a call left that could name only the meeting.
    #[serde(default)]
    pub look_age_ms: Option<u64>,
    /// Instances that were seen within a minute before such a call and were gone after it.
    #[serde(default)]
    pub may_have_hit: Vec<InstanceId>,
    /// A live instance that was not this deadline's and was left alone at the end.
    #[serde(default)]
    pub left_alone: Option<LeftAloneView>,
    /// When the meeting was last seen alive, and with how many people.
    #[serde(default)]
    pub last_seen: Option<LastSeenView>,
    /// By the last complete listing the run that it is to end is not live any more, since this time. Only of what rules made,
    /// and before it is due: then the job itself proves it.
    #[serde(default, with = "rfc3339_option", skip_serializing_if = "Option::is_none")]
    pub not_live_since: Option<UtcMs>,
    pub overdue: bool,
    /// The configuration fault that keeps the job from going on.
    pub alarm: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub history: Option<Vec<HistoryLine>>,
}

/// A live instance that was left alone.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct LeftAloneView {
    pub instance: InstanceId,
    /// `null` where the platform does not tell it.
    #[serde(with = "rfc3339_option")]
    pub started_at: Option<UtcMs>,
}

/// An instance that was there after what the deadline meant was over.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct ReopenedView {
    pub instance: InstanceId,
    #[serde(with = "rfc3339")]
    pub at: UtcMs,
    /// What became of it; `null`: nobody ended it, or not yet.
    pub outcome: Option<Outcome>,
    #[serde(with = "rfc3339_option")]
    pub over_at: Option<UtcMs>,
}

impl From<&Reopened> for ReopenedView {
    fn from(reopened: &Reopened) -> ReopenedView {
        let Reopened { instance, at, outcome, over_at } = reopened.clone();
        ReopenedView { instance, at, outcome, over_at }
    }
}

/// One mark of `warn`: were the people inside told, and if not, why?
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct WarningView {
    /// `10m`.
    pub mark: String,
    /// `null`: still to come.
    pub told: Option<bool>,
    /// When that was settled, or is to be tried.
    #[serde(with = "rfc3339_option")]
    pub at: Option<UtcMs>,
    /// So many breakout rooms were told too.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub breakout_rooms: u32,
    /// Why not, or not yet.
    pub why: Option<String>,
}

fn is_zero(n: &u32) -> bool {
    *n == 0
}

impl From<MarkStory> for WarningView {
    fn from(story: MarkStory) -> WarningView {
        let MarkStory { before, told, at, also, why } = story;
        let mark = humantime::format_duration(before).to_string();
        WarningView { mark, told, at, breakout_rooms: also, why }
    }
}

/// The last sighting of a meeting alive.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct LastSeenView {
    #[serde(with = "rfc3339")]
    pub at: UtcMs,
    /// `null` where the platform does not tell how many.
    pub participants: Option<u32>,
}

impl From<&LeftAlone> for LeftAloneView {
    fn from(left: &LeftAlone) -> LeftAloneView {
        LeftAloneView { instance: left.instance.clone(), started_at: left.started_at }
    }
}

impl From<LastSeen> for LastSeenView {
    fn from(seen: LastSeen) -> LastSeenView {
        LastSeenView { at: seen.at, participants: seen.participants }
    }
}

/// One line of the history, for people and programs.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct HistoryLine {
    #[serde(with = "rfc3339")]
    pub at: UtcMs,
    /// The name of the fact: `submitted`, `end-sent`, ...
    pub event: String,
    /// One sentence.
    pub text: String,
}

impl JobView {
    pub fn new(job: &Job, now: Now) -> JobView {
        let head = job.head();
        JobView {
            id: job.id,
            server: job.server.clone(),
            meeting: job.meeting.clone(),
            instance: head.instance,
            due: job.due,
            extended_from: job.extended_from.filter(|planned| *planned < job.due),
            max_extension_ms: job.limits.max_extension.map(ms),
            extension_left_ms: job.extension_left().map(ms),
            warn: job.limits.warn.iter().map(|mark| humantime::format_duration(*mark).to_string()).collect(),
            warnings: job.mark_stories(now.wall).into_iter().map(WarningView::from).collect(),
            max_duration: job.max_duration.map(|limit| humantime::format_duration(limit).to_string()),
            awaits_start: job.awaits_start && !job.is_done(),
            state: job.state,
            outcome: job.outcome.or_else(|| guarded_outcome(job)),
            reason: job.sentence(),
            revision: job.revision,
            origin: job.origin.to_string(),
            submitted_at: job.submitted.wall,
            held_until: job.held_until,
            armed_at: job.armed_at,
            end_sent_at: head.end_sent_at,
            accepted_at: head.accepted_at,
            proven_at: job.proven.map(|at| at.wall),
            lateness_ms: job.lateness_ms(),
            ends: job.ends,
            looks: job.looks,
            next_at: job.wake(now).on_the_wall(now),
            next_warning_at: job.next_warning_at(now.wall),
            reopened_at: job.reopened_at,
            reopened: job.reopened.iter().map(ReopenedView::from).collect(),
            look_age_ms: head.look_age_ms,
            may_have_hit: job.may_have_hit.clone(),
            left_alone: job.left_alone.as_ref().map(LeftAloneView::from),
            last_seen: job.last_seen.filter(|_| job.seen_alive).map(LastSeenView::from),
            not_live_since: None,
            overdue: job.overdue,
            alarm: job.alarm.clone(),
            history: None,
        }
    }

    /// With the whole story, as `show` tells it.
    pub fn with_history(job: &Job, now: Now) -> JobView {
        let lines = job.history.recent.iter().map(HistoryLine::new).collect();
        JobView { history: Some(lines), ..JobView::new(job, now) }
    }
}

fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// While it is kept closed, the outcome of what the job's deadline meant is known.
fn guarded_outcome(job: &Job) -> Option<Outcome> {
    job.guard.as_ref().map(|guard| guard.outcome)
}

impl HistoryLine {
    pub fn new(entry: &Entry) -> HistoryLine {
        HistoryLine { at: entry.at.wall, event: entry.fact.name().to_owned(), text: entry.fact.to_string() }
    }
}

pub(crate) mod rfc3339 {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    use super::UtcMs;

    pub fn serialize<S: Serializer>(at: &UtcMs, s: S) -> Result<S::Ok, S::Error> {
        if at.is_never() { s.serialize_none() } else { s.collect_str(at) }
    }

    /// `null`: [`UtcMs::NEVER`].
    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<UtcMs, D::Error> {
        let Some(text) = Option::<String>::deserialize(d)? else { return Ok(UtcMs::NEVER) };
        text.parse::<jiff::Timestamp>().map(UtcMs::from).map_err(D::Error::custom)
    }
}

pub(crate) mod rfc3339_option {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::UtcMs;

    #[derive(Serialize, Deserialize)]
    struct Wrapped(#[serde(with = "super::rfc3339")] UtcMs);

    pub fn serialize<S: Serializer>(at: &Option<UtcMs>, s: S) -> Result<S::Ok, S::Error> {
        at.map(Wrapped).serialize(s)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Option<UtcMs>, D::Error> {
        Ok(Option::<Wrapped>::deserialize(d)?.map(|Wrapped(at)| at))
    }
}
