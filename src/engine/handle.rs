//! The engine from outside: a clonable handle that speaks in messages.

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::{broadcast, mpsc, oneshot};

use super::active::Reply;
use super::api::{Notice, Receipt, Refusal, RefusalKind, Service, Status, StoreStatus, Submission};
use super::bulk::prepare;
use super::requests::{PlatformReply, Request, refusal};
use crate::clock::Clock;
use crate::config::settings::Settings;
use crate::job::{By, Change, JobId, MeetingId, Now, ServerName};
use crate::metrics::Metrics;
use crate::platform::{Fault, LiveMeeting, Platform};
use crate::store::Store;

/// Reads the schedule files anew; the error is what `check` would print.
pub type Reread = dyn Fn() -> Result<Settings, String> + Send + Sync;

#[derive(Clone)]
pub struct Handle {
    pub(super) requests: mpsc::Sender<Request>,
    pub(super) events: broadcast::Sender<Arc<Notice>>,
    pub(super) store: Arc<dyn Store>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) reread: Arc<Reread>,
    /// What must not change while the daemon runs.
    pub(super) state_dir: PathBuf,
    pub(super) socket: PathBuf,
}

impl Handle {
    async fn ask<T>(&self, request: impl FnOnce(oneshot::Sender<T>) -> Request) -> Result<T, Refusal> {
        let (reply, answer) = oneshot::channel();
        self.requests.send(request(reply)).await.map_err(|_| stopping())?;
        answer.await.map_err(|_| stopping())
    }

    async fn receipt(&self, request: impl FnOnce(Reply) -> Request) -> Result<Receipt, Refusal> {
        self.ask(request).await?
    }

    /// Applies settings that have been read already.
    pub async fn apply(&self, settings: Settings) -> Result<Vec<String>, Refusal> {
        self.ask(|reply| Request::Reload(Box::new(settings), reply)).await?
    }

    /// What the engine itself knows; nothing of it is read from a disk.
    pub(super) async fn engine_status(&self) -> Result<Status, Refusal> {
        self.ask(Request::Status).await
    }

    async fn platform(&self, server: &ServerName) -> Result<Arc<dyn Platform>, Refusal> {
        self.ask(|reply| Request::Platform(server.clone(), PlatformReply(reply))).await?
    }

    async fn refuse_schedule(&self, why: String, hint: &str) -> Refusal {
        // If the engine is gone, the refusal is all that is left to say.
        let _ = self.requests.send(Request::ScheduleRefused(why.clone())).await;
        refusal(RefusalKind::Invalid, why, hint)
    }
}

fn platform_failed(server: &ServerName, fault: &Fault) -> Refusal {
    let hint = match fault {
        Fault::Unreachable(_) => "check that the server is up, then try again",
        Fault::Misconfigured(_) => "correct the server's block in the schedule file, then: adjourn reload",
    };
    refusal(RefusalKind::Platform, format!("{server}: {fault}"), hint)
}

fn stopping() -> Refusal {
    refusal(
        RefusalKind::Stopping,
        "the daemon is stopping",
        "try again when it is up: systemctl status adjourn",
    )
}

#[async_trait]
impl Service for Handle {
    async fn submit(&self, submission: Submission) -> Result<Receipt, Refusal> {
        self.receipt(|reply| Request::Submit(submission, reply)).await
    }

    async fn submit_many(&self, submissions: Vec<Submission>) -> Vec<Result<Receipt, Refusal>> {
        let (count, store) = (submissions.len(), self.store.clone());
        let prepared = tokio::task::spawn_blocking(move || prepare(&*store, submissions)).await;
        let answers = match prepared {
            Ok(prepared) => self.ask(|reply| Request::SubmitMany(prepared, reply)).await,
            Err(_) => Err(stopping()),
        };
        answers.unwrap_or_else(|refusal| vec![Err(refusal); count])
    }

    async fn put(&self, submission: Submission) -> Result<Receipt, Refusal> {
        self.receipt(|reply| Request::Put(submission, reply)).await
    }

    async fn change(
        &self,
        id: JobId,
        if_match: Option<u64>,
        change: Change,
        by: By,
    ) -> Result<Receipt, Refusal> {
        self.receipt(|reply| Request::Change { id, if_match, change, by, reply }).await
    }

    async fn status(&self) -> Result<Status, Refusal> {
        let mut status = self.engine_status().await?;
        // Here rather than in the engine: a disk that hangs must not hold it up.
        let (store, state_dir) = (self.store.clone(), self.state_dir.clone());
        let looked = tokio::task::spawn_blocking(move || (store.health(), rustix::fs::statvfs(&state_dir)));
        if let Ok((health, fs)) = looked.await {
            let StoreStatus { path, error, behind, .. } = status.store;
            status.store = StoreStatus {
                path,
                error,
                behind,
                free_bytes: fs.ok().map(|fs| fs.f_bavail * fs.f_frsize),
                sequence: health.journal.map_or(0, |head| head.seq),
                hash: health.journal.map_or_else(String::new, |head| head.hash.to_string()),
                trouble: health.trouble,
                repaired: health.repaired,
                queue_bytes: health.queue_bytes,
                journal_bytes: health.journal_bytes,
            };
        }
        Ok(status)
    }

    async fn meetings(&self, server: &ServerName) -> Result<Vec<LiveMeeting>, Refusal> {
        let platform = self.platform(server).await?;
        platform.meetings().await.map_err(|fault| platform_failed(server, &fault))
    }

    async fn unlock(&self, server: &ServerName, meeting: &MeetingId) -> Result<(), Refusal> {
        let platform = self.platform(server).await?;
        platform.open_room(meeting).await.map_err(|fault| platform_failed(server, &fault))
    }

    async fn reload(&self) -> Result<Vec<String>, Refusal> {
        let reread = self.reread.clone();
        let read = tokio::task::spawn_blocking(move || reread()).await.map_err(|_| stopping())?;
        let hint = "nothing was changed; correct the file (adjourn check FILE), then reload again";
        let settings = match read {
            Ok(settings) => settings,
            Err(why) => return Err(self.refuse_schedule(why, hint).await),
        };
        if settings.state_dir != self.state_dir || settings.socket != self.socket {
            let why = "state-dir and socket cannot change while the daemon runs".to_owned();
            return Err(self
                .refuse_schedule(why, "restart the daemon for that: systemctl restart adjourn")
                .await);
        }
        self.apply(settings).await
    }

    fn events(&self) -> broadcast::Receiver<Arc<Notice>> {
        self.events.subscribe()
    }

    fn metrics(&self) -> Arc<Metrics> {
        self.metrics.clone()
    }

    fn store(&self) -> Arc<dyn Store> {
        self.store.clone()
    }

    fn now(&self) -> Now {
        self.clock.now()
    }
}
