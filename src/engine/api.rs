//! What the engine offers: the seam between it and the control socket.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast;

use crate::job::{
    By, Change, InstanceId, Job, JobId, JobView, LimitsPatch, MeetingId, Now, Origin, ServerName, UtcMs,
};
use crate::metrics::Metrics;
use crate::platform::{LiveMeeting, Telling};
use crate::schedule::{Feeds, Schedule};
use crate::store::{Counts, Store};

/// When a submitted deadline is due.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum When {
    At(UtcMs),
    In(Duration),
    Now,
    /// Only `max_duration` says.
    AfterStart,
}

/// A submit. Serialised (without who asks, and by what way) it is the fingerprint of the request that an idempotency key
/// stands for.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Submission {
    pub server: ServerName,
    pub meeting: MeetingId,
    pub when: When,
    /// So long after the start of the meeting, if `when` does not come first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_duration: Option<Duration>,
    pub only: Option<InstanceId>,
    pub limits: LimitsPatch,
    pub key: Option<String>,
    /// Put aside from the start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hold: Option<Hold>,
    #[serde(skip)]
    pub origin: Origin,
    #[serde(skip)]
    pub by: By,
}

/// A hold that comes with the submit; `until`: back by itself.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct Hold {
    pub until: Option<UtcMs>,
}

/// The answer to a submit or a change, durable when it is given.
#[derive(Clone, Debug)]
pub struct Receipt {
    pub job: Job,
    /// False: the idempotency key had made this job before.
    pub created: bool,
    /// Other open deadlines of the same meeting, earliest first.
    pub others: Vec<Job>,
}

/// Why a request was refused; nothing has changed.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
#[error("{detail}")]
pub struct Refusal {
    pub kind: RefusalKind,
    /// What and where.
    pub detail: String,
    /// What to do next.
    pub hint: String,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RefusalKind {
    /// No such job, no such server in a path.
    NotFound,
    /// The request is well-formed but cannot be carried out: unknown server, time in the past, bad id.
    Invalid,
    /// The key was used with another request.
    KeyReused,
    /// The job's state does not allow it (sent already, done).
    Conflict,
    /// `If-Match` names another revision.
    StaleRevision,
    /// The store cannot be written.
    StoreFailed,
    /// The platform did not answer or refused.
    Platform,
    /// The daemon is shutting down.
    Stopping,
}

/// Something happened to a job (durable when it goes out), or to a server.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Notice {
    /// The name of the fact: `submitted`, `end-sent`, `concluded`, ... or `server-alarm`, `warnings-unsupported`,
    /// `rule-would-hit`.
    pub event: String,
    /// One sentence.
    pub text: String,
    pub at: String,
    pub server: ServerName,
    /// Absent for an event of a server.
    pub job: Option<JobView>,
    /// Of `warning-due` alone.
    #[serde(flatten, default, skip_serializing_if = "Option::is_none")]
    pub told: Option<Told>,
}

/// Were the people inside told, at this mark before due?
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Told {
    /// `10m`.
    pub mark: String,
    pub delivered: bool,
}

impl Notice {
    /// Something that happened to a server.
    pub fn of_server(event: &str, text: String, at: UtcMs, server: ServerName) -> Notice {
        Notice { event: event.to_owned(), text, at: at.to_string(), server, job: None, told: None }
    }
}

/// One snapshot for `status`, `/metrics`, `STATUS=` and tests.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Status {
    pub version: String,
    pub pid: u32,
    pub started_at: String,
    pub jobs: Counts,
    /// Jobs held in memory: due soon or at work.
    pub in_memory: usize,
    /// Of these, alive long after their time.
    #[serde(default)]
    pub overdue: usize,
    /// The next thing that will happen by itself.
    pub next_due: Option<String>,
    pub servers: BTreeMap<ServerName, ServerStatus>,
    /// What is known of the wall clock that deadlines go by.
    #[serde(default)]
    pub clock: ClockStatus,
    /// What is wrong with the store, if anything is.
    pub store: StoreStatus,
    /// What the last re-read of the schedule file said, if it was refused.
    pub schedule_error: Option<String>,
    /// Feeds that are not believed yet, one sentence each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub feeds: Vec<String>,
    /// The schedule files and directories that the daemon reads.
    #[serde(default)]
    pub config: Vec<String>,
    /// Where it listens.
    #[serde(default)]
    pub socket: String,
}

#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct ClockStatus {
    /// Whether a time service keeps it. Absent where that cannot be found out.
    pub synchronised: Option<bool>,
    /// Why nothing goes by it at the moment, and for how long.
    pub doubt: Option<String>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct StoreStatus {
    pub path: String,
    pub error: Option<String>,
    /// Changes accepted in memory that the disk has not taken yet.
    pub behind: usize,
    /// What is left on its disk.
    #[serde(default)]
    pub free_bytes: Option<u64>,
    /// The last line of the journal, and its hash: everything up to there is durable.
    #[serde(default)]
    pub sequence: u64,
    #[serde(default)]
    pub hash: String,
    /// The store can no longer be trusted: why, and what to do.
    #[serde(default)]
    pub trouble: Option<String>,
    /// What had to be repaired at the start.
    #[serde(default)]
    pub repaired: Option<String>,
    /// On disk.
    #[serde(default)]
    pub queue_bytes: u64,
    #[serde(default)]
    pub journal_bytes: u64,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ServerStatus {
    pub platform: String,
    /// What the last probe said, or why there is none.
    pub summary: String,
    pub reachable: Option<bool>,
    /// A configuration fault or a lost state.
    pub alarm: Option<String>,
    /// Why nobody can be warned there, once that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub no_warnings: Option<String>,
    pub ends_in_flight: usize,
    pub ends_queued: usize,
    pub looks_queued: usize,
    pub ends_sent: u64,
    pub looks_sent: u64,
    /// When a sweep last saw everything that is live there; absent where nothing asks for sweeps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_sweep: Option<String>,
    /// Why the latest sweep saw nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sweep_error: Option<String>,
}

/// What a reload did, or would do.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Reloaded {
    /// False: nothing was changed, this is what a reload would do.
    pub applied: bool,
    pub servers: Vec<ServerChange>,
    pub changes: Vec<PlannedChange>,
    /// What the rules apply to among the meetings that are live now; only looked for where nothing is applied.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<RuleHit>,
    /// Servers that could not say what is live there, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unseen: Vec<Unseen>,
    /// Calendars and sources of ends that could not be read with it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unread: Vec<UnreadFeed>,
}

impl Reloaded {
    /// Does it change anything?
    pub fn is_nothing(&self) -> bool {
        self.servers.is_empty() && self.changes.iter().all(|change| change.action == PlannedAction::Keep)
    }
}

/// What becomes of an entry of the schedule, or of the job of one that is gone.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct PlannedChange {
    pub action: PlannedAction,
    pub name: String,
    pub server: ServerName,
    pub meeting: MeetingId,
    /// Its time so far.
    #[serde(with = "crate::job::rfc3339_option")]
    pub from: Option<UtcMs>,
    /// Its time from now on.
    #[serde(with = "crate::job::rfc3339_option")]
    pub to: Option<UtcMs>,
    /// One clause; may be empty.
    pub reason: String,
    pub job: Option<JobId>,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PlannedAction {
    /// A new job.
    Add,
    /// The file gives another time.
    Move,
    /// Cancelled: the entry is gone.
    Remove,
    /// Too late, and a later occurrence stands for it.
    Miss,
    /// The job keeps the time that somebody gave it by hand.
    Keep,
    /// Nothing happens, and somebody may wonder why.
    Skip,
    /// It cannot be done.
    Refuse,
}

impl PlannedChange {
    /// `exam: math-101 on campus moved from 18:00 to 19:00, the file gives another time`
    pub fn sentence(&self, time: impl Fn(UtcMs) -> String) -> String {
        let PlannedChange { name, server, meeting, reason, .. } = self;
        let time = |at: Option<UtcMs>| at.map_or_else(|| "an unknown time".to_owned(), &time);
        let what = match self.action {
            PlannedAction::Add => format!("ends at {}", time(self.to)),
            PlannedAction::Move => format!("moved from {} to {}", time(self.from), time(self.to)),
            PlannedAction::Remove => format!("not ended at {} any more", time(self.from)),
            PlannedAction::Miss => "missed".to_owned(),
            PlannedAction::Keep => format!("stays at {}", time(self.to)),
            PlannedAction::Skip => "nothing done".to_owned(),
            PlannedAction::Refuse => "REFUSED".to_owned(),
        };
        let reason = if reason.is_empty() { String::new() } else { format!(", {reason}") };
        format!("{name}: {meeting} on {server} {what}{reason}")
    }
}

/// What becomes of a server.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct ServerChange {
    pub server: ServerName,
    pub action: ServerAction,
    pub platform: String,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ServerAction {
    Added,
    Removed,
    Changed,
}

impl fmt::Display for ServerChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ServerChange { server, action, platform } = self;
        match action {
            ServerAction::Added => write!(f, "server {server} added ({platform})"),
            ServerAction::Removed => write!(f, "server {server} removed"),
            ServerAction::Changed => write!(f, "server {server} changed"),
        }
    }
}

/// A rule, and a live meeting that it applies to.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct RuleHit {
    pub rule: String,
    /// The rule only reports.
    pub dry_run: bool,
    pub server: ServerName,
    pub meeting: MeetingId,
    pub instance: InstanceId,
    /// From strangers: sanitise before showing.
    pub name: String,
    #[serde(with = "crate::job::rfc3339")]
    pub due: UtcMs,
    /// One clause.
    pub reason: String,
}

/// A server that could not say what is live there.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Unseen {
    pub server: ServerName,
    pub why: String,
}

/// A feed that could not be read.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct UnreadFeed {
    /// A path, or the host of a URL.
    pub source: String,
    /// `calendars.holidays`, `calendar-end lectures`.
    pub used_by: Vec<String>,
    pub why: String,
    /// The last good copy counts; otherwise nothing is known of it.
    pub known: bool,
}

impl fmt::Display for UnreadFeed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let UnreadFeed { source, used_by, why, known } = self;
        let meanwhile = match known {
            true => "the last good copy counts",
            false => "until it can, no meeting ends by it, and no calendar takes it into account",
        };
        write!(f, "the feed {source} ({}) cannot be read: {why}; {meanwhile}", used_by.join(", "))
    }
}

/// What the daemon goes by now: for a preview.
#[derive(Clone, Debug, Default)]
pub struct Standing {
    pub schedule: Arc<Schedule>,
    /// The last good copies of its feeds.
    pub feeds: Arc<Feeds>,
    pub servers: Vec<ServerName>,
    /// Can the people inside be told there?
    pub telling: BTreeMap<ServerName, Telling>,
    /// Jobs of rules whose run is not live any more by the last complete listing, and since when.
    pub gone: BTreeMap<JobId, UtcMs>,
}

/// What the control socket needs of the daemon.
#[async_trait]
pub trait Service: Send + Sync + 'static {
    async fn submit(&self, submission: Submission) -> Result<Receipt, Refusal>;
    /// What [`Service::submit`] would answer; makes nothing.
    async fn would_submit(&self, submission: Submission) -> Result<Receipt, Refusal>;
    /// All of them in one durable commit, except those that are refused or known; one answer each, in their order.
    /// `others` stays empty. If the caller leaves before the answer, either all or none of the new ones are there.
    async fn submit_many(&self, submissions: Vec<Submission>) -> Vec<Result<Receipt, Refusal>>;
    /// Creates the job of this key, or moves it to the new time.
    async fn put(&self, submission: Submission) -> Result<Receipt, Refusal>;
    async fn change(
        &self,
        id: JobId,
        if_match: Option<u64>,
        change: Change,
        by: By,
    ) -> Result<Receipt, Refusal>;
    async fn status(&self) -> Result<Status, Refusal>;
    /// The schedule that the daemon goes by.
    async fn standing(&self) -> Result<Standing, Refusal>;
    async fn meetings(&self, server: &ServerName) -> Result<Vec<LiveMeeting>, Refusal>;
    /// Undoes a reversible lock.
    async fn unlock(&self, server: &ServerName, meeting: &MeetingId) -> Result<(), Refusal>;
    /// Reads the schedule file again and applies it, durably and as a whole; says what changed.
    async fn reload(&self) -> Result<Reloaded, Refusal>;
    /// What [`Service::reload`] would do; changes nothing.
    async fn would_reload(&self) -> Result<Reloaded, Refusal>;
    fn events(&self) -> broadcast::Receiver<Arc<Notice>>;
    /// What is counted; `status` has the rest.
    fn metrics(&self) -> Arc<Metrics>;
    /// For reads: what is committed.
    fn store(&self) -> Arc<dyn Store>;
    fn now(&self) -> Now;
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The fingerprints on people's disks were made of this text.
    #[test]
    fn a_submission_is_spelled_as_ever() {
        let submission = Submission {
            server: "campus".into(),
            meeting: "math-101".into(),
            when: When::In(Duration::from_secs(5)),
            max_duration: None,
            only: None,
            limits: LimitsPatch::default(),
            key: Some("booking-4711".to_owned()),
            hold: None,
            origin: Origin::Cli,
            by: By::Schedule,
        };
        assert_eq!(
            serde_json::to_string(&submission).unwrap(),
            r#"{"server":"campus","meeting":"math-101","when":{"in":{"secs":5,"nanos":0}},"only":null,"limits":{"late_limit":null,"give_up_after":null,"prove_within":null,"overdue_after":null,"resend_after":null,"keep_closed":null,"expect":null,"lock":null},"key":"booking-4711"}"#
        );
    }
}
