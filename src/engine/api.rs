//! What the engine offers: the seam between it and the control socket.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast;

use crate::job::{
    By, Change, InstanceId, Job, JobId, JobView, LimitsPatch, MeetingId, Now, Origin, ServerName,
};
use crate::metrics::Metrics;
use crate::platform::LiveMeeting;
use crate::store::{Counts, Store};

/// When a submitted deadline is due.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum When {
    At(crate::job::UtcMs),
    In(Duration),
    Now,
}

/// A submit. Serialised (without who asks, and by what way) it is the fingerprint of the request that an idempotency key
/// stands for.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Submission {
    pub server: ServerName,
    pub meeting: MeetingId,
    pub when: When,
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
    pub until: Option<crate::job::UtcMs>,
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
    /// The name of the fact: `submitted`, `end-sent`, `concluded`, ... or `server-alarm`.
    pub event: String,
    /// One sentence.
    pub text: String,
    pub at: String,
    pub server: ServerName,
    /// Absent for an event of a server.
    pub job: Option<JobView>,
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
    /// What is wrong with the store, if anything is.
    pub store: StoreStatus,
    /// What the last re-read of the schedule file said, if it was refused.
    pub schedule_error: Option<String>,
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
    pub ends_in_flight: usize,
    pub ends_queued: usize,
    pub looks_queued: usize,
    pub ends_sent: u64,
    pub looks_sent: u64,
}

/// What the control socket needs of the daemon.
#[async_trait]
pub trait Service: Send + Sync + 'static {
    async fn submit(&self, submission: Submission) -> Result<Receipt, Refusal>;
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
    async fn meetings(&self, server: &ServerName) -> Result<Vec<LiveMeeting>, Refusal>;
    /// Undoes a reversible lock.
    async fn unlock(&self, server: &ServerName, meeting: &MeetingId) -> Result<(), Refusal>;
    /// Re-reads the schedule file; says in lines what changed.
    async fn reload(&self) -> Result<Vec<String>, Refusal>;
    fn events(&self) -> broadcast::Receiver<Arc<Notice>>;
    /// What is counted; `status` has the rest.
    fn metrics(&self) -> Arc<Metrics>;
    /// For reads: what is committed.
    fn store(&self) -> Arc<dyn Store>;
    fn now(&self) -> Now;
}
