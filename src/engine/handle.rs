//! The engine from outside: a clonable handle that speaks in messages.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::{BoxFuture, join_all};
use jiff::tz::TimeZone;
use tokio::sync::{Mutex, Notify, broadcast, mpsc, oneshot};

use super::active::Reply;
use super::api::{
    Notice, Receipt, Refusal, RefusalKind, Reloaded, RuleHit, Service, Standing, Status, StoreStatus,
    Submission, UnreadFeed, Unseen,
};
use super::bulk::prepare;
use super::reload::{Current, Outcome};
use super::requests::{PlatformReply, Request, refusal};
use crate::clock::Clock;
use crate::config::settings::Settings;
use crate::job::{By, Change, JobId, MeetingId, Now, ServerName};
use crate::metrics::Metrics;
use crate::platform::{Fault, LiveMeeting, Platform};
use crate::schedule::rule::{self, Hit};
use crate::schedule::{Days, Feeds, Rule, Source};
use crate::store::Store;

/// A server has so long to say what is live there: the request that waits for it is answered within 10 s.
const LISTING_TIMEOUT: Duration = Duration::from_secs(6);

/// Reads the schedule files anew; the error is what `check` would print.
pub type Reread = dyn Fn() -> Result<Settings, String> + Send + Sync;

/// Reads the calendars of a schedule that are not known yet, and those in files anew, as far as that goes in a few seconds;
/// and says which could not be read.
pub type ReadFeeds =
    dyn Fn(Arc<Settings>, Arc<Feeds>) -> BoxFuture<'static, (Feeds, Vec<UnreadFeed>)> + Send + Sync;

#[derive(Clone)]
pub struct Handle {
    pub(super) requests: mpsc::Sender<Request>,
    pub(super) events: broadcast::Sender<Arc<Notice>>,
    pub(super) store: Arc<dyn Store>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) reread: Arc<Reread>,
    pub(super) read_feeds: Arc<ReadFeeds>,
    /// A reload lacks calendars.
    pub(super) lacks_feeds: Arc<Notify>,
    /// What must not change while the daemon runs.
    pub(super) state_dir: PathBuf,
    pub(super) socket: PathBuf,
    /// The schedule files that it was started with, for people.
    pub(crate) config: Arc<[String]>,
    /// One reload at a time, from reading the file on: of two, the one that read last counts.
    pub(super) reloading: Arc<Mutex<()>>,
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

    /// Applies settings that have been read already. `more`: calendars that the engine need not know yet.
    pub async fn apply(&self, settings: Arc<Settings>, more: Feeds) -> Result<Reloaded, Refusal> {
        let more = Arc::new(more);
        let planned = self.ask(|reply| Request::Reload(settings, more, reply)).await?;
        Ok(planned?.reloaded)
    }

    /// What [`Handle::apply`] would do.
    pub async fn rehearse(&self, settings: Arc<Settings>, more: Feeds) -> Result<Reloaded, Refusal> {
        let (asked, more) = (settings.clone(), Arc::new(more));
        let planned = self.ask(|reply| Request::Rehearse(asked, more, reply)).await?;
        let mut outcome = planned?;
        let (rules, unseen) = self.would_hit(&settings, &outcome).await;
        (outcome.reloaded.rules, outcome.reloaded.unseen) = (rules, unseen);
        Ok(outcome.reloaded)
    }

    /// Compares the schedule with the jobs once more: time has passed, so there may be new occurrences.
    pub async fn expand(&self) -> Result<Reloaded, Refusal> {
        let planned = self.ask(Request::Expand).await?;
        Ok(planned?.reloaded)
    }

    /// From now on the calendars say this; of those that are `gone` nothing is known any more.
    pub async fn set_feeds(&self, feeds: Feeds, gone: Vec<Source>) -> Result<(), Refusal> {
        self.requests.send(Request::Feeds(feeds, gone)).await.map_err(|_| stopping())
    }

    /// Until a schedule was applied whose calendars could not all be read. `None`: the engine is gone.
    pub async fn lacks_feeds(&self) -> Option<()> {
        tokio::select! {
            () = self.lacks_feeds.notified() => Some(()),
            () = self.requests.closed() => None,
        }
    }

    pub async fn current(&self) -> Result<Current, Refusal> {
        self.ask(Request::Current).await?.ok_or_else(stopping)
    }

    /// The rules, applied once to what is live now and what has been seen so far, without any effect.
    async fn would_hit(&self, settings: &Settings, outcome: &Outcome) -> (Vec<RuleHit>, Vec<Unseen>) {
        let (schedule, Outcome { platforms, feeds, watches, .. }) = (&settings.schedule, outcome);
        let allows =
            |days: &Days, at, zone: &TimeZone| days.allows(&schedule.calendars, feeds, at, zone).is_ok();
        let with_rules = platforms.iter().filter_map(|(server, platform)| {
            let rules = schedule.rules.iter().filter(|rule| rule.server == *server);
            let rules: Vec<Rule> = rules.cloned().collect();
            (!rules.is_empty()).then_some((server, platform, rules))
        });
        let sweeps = with_rules.map(async |(server, platform, rules)| {
            let live = tokio::select! {
                live = platform.meetings() => live.map_err(|fault| fault.to_string()),
                () = self.clock.sleep(LISTING_TIMEOUT) => {
                    Err(format!("no answer within {} s", LISTING_TIMEOUT.as_secs()))
                }
            };
            let now = self.clock.now();
            let watch = watches.get(server).cloned().unwrap_or_default();
            let sweep =
                |live: Vec<LiveMeeting>| rule::sweep(&rules, &schedule.exempt, &allows, &watch, &live, now);
            (server, live.map(sweep))
        });
        let (mut hits, mut unseen) = (Vec::new(), Vec::new());
        for (server, swept) in join_all(sweeps).await {
            match swept {
                Ok(sweep) => hits.extend(sweep.hits.into_iter().map(|hit| rule_hit(server, hit))),
                Err(why) => unseen.push(Unseen { server: server.clone(), why }),
            }
        }
        (hits, unseen)
    }

    /// What the files say now, if the running daemon can take that, and the calendars that are new in them, or should be.
    async fn read_again(&self) -> Result<(Arc<Settings>, Feeds, Vec<UnreadFeed>), Refusal> {
        let reread = self.reread.clone();
        let read = tokio::task::spawn_blocking(move || reread()).await.map_err(|_| stopping())?;
        let settings = read.map_err(|why| {
            let hint = "nothing was changed; correct the file (adjourn check FILE), then reload again";
            refusal(RefusalKind::Invalid, why, hint)
        })?;
        if settings.state_dir != self.state_dir || settings.socket != self.socket {
            return Err(refusal(
                RefusalKind::Invalid,
                "state-dir and socket cannot change while the daemon runs",
                "restart the daemon for that: systemctl restart adjourn",
            ));
        }
        let settings = Arc::new(settings);
        let known = self.current().await?.feeds;
        let (more, unread) = (self.read_feeds)(settings.clone(), known).await;
        Ok((settings, more, unread))
    }

    /// Sweeps whose turn has come begin now. Lost while the engine has its hands full; the next one does as well.
    #[cfg(test)]
    pub fn tick(&self) {
        let _ = self.requests.try_send(Request::Tick);
    }

    /// What the engine itself knows; nothing of it is read from a disk.
    pub(super) async fn engine_status(&self) -> Result<Status, Refusal> {
        self.ask(Request::Status).await
    }

    async fn platform(&self, server: &ServerName) -> Result<Arc<dyn Platform>, Refusal> {
        self.ask(|reply| Request::Platform(server.clone(), PlatformReply(reply))).await?
    }

    async fn refuse_schedule(&self, why: String) {
        // If the engine is gone, the refusal is all that is left to say.
        let _ = self.requests.send(Request::ScheduleRefused(why)).await;
    }
}

fn platform_failed(server: &ServerName, fault: &Fault) -> Refusal {
    let hint = match fault {
        Fault::Unreachable(_) => "check that the server is up, then try again",
        Fault::Misconfigured(_) => "correct the server's block in the schedule file, then: adjourn reload",
    };
    refusal(RefusalKind::Platform, format!("{server}: {fault}"), hint)
}

fn rule_hit(server: &ServerName, hit: Hit) -> RuleHit {
    let Hit { rule, dry_run, live, due, reason, .. } = hit;
    let LiveMeeting { meeting, instance, name, .. } = live;
    RuleHit { rule, dry_run, server: server.clone(), meeting, instance, name, due, reason }
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

    async fn would_submit(&self, submission: Submission) -> Result<Receipt, Refusal> {
        self.receipt(|reply| Request::WouldSubmit(submission, reply)).await
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
        status.socket = self.socket.display().to_string();
        status.config = self.config.to_vec();
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

    async fn standing(&self) -> Result<Standing, Refusal> {
        self.ask(Request::Standing).await
    }

    async fn meetings(&self, server: &ServerName) -> Result<Vec<LiveMeeting>, Refusal> {
        let platform = self.platform(server).await?;
        platform.meetings().await.map_err(|fault| platform_failed(server, &fault))
    }

    async fn unlock(&self, server: &ServerName, meeting: &MeetingId) -> Result<(), Refusal> {
        let platform = self.platform(server).await?;
        platform.open_room(meeting).await.map_err(|fault| platform_failed(server, &fault))
    }

    async fn reload(&self) -> Result<Reloaded, Refusal> {
        let _turn = self.reloading.lock().await;
        let reloaded = match self.read_again().await {
            Ok((settings, more, unread)) => {
                let applied = self.apply(settings, more).await;
                if applied.is_ok() && !unread.is_empty() {
                    self.lacks_feeds.notify_one();
                }
                applied.map(|reloaded| Reloaded { unread, ..reloaded })
            }
            Err(refusal) => {
                self.refuse_schedule(refusal.detail.clone()).await;
                Err(refusal)
            }
        };
        if let Err(refusal) = &reloaded {
            tracing::error!(
                "the schedule was NOT applied, the old one goes on: {refusal} ({})",
                refusal.hint
            );
        }
        reloaded
    }

    async fn would_reload(&self) -> Result<Reloaded, Refusal> {
        let (settings, more, unread) = self.read_again().await?;
        let reloaded = self.rehearse(settings, more).await?;
        Ok(Reloaded { unread, ..reloaded })
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
