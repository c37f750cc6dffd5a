//! Applying settings: at the start, and whenever the schedule file is read again.
//!
//! All or nothing as far as can be known beforehand: what is refused changes nothing. A server that still has open jobs
//! cannot be taken away.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use super::active::{ChangeRequest, Reply};
use super::api::{Receipt, Refusal, RefusalKind, Submission, When};
use super::core::{Core, Inner};
use super::requests::refusal;
use super::server::Server;
use crate::config::settings::Settings;
use crate::job::{By, Change, Event, InstanceId, Job, JobId, LimitsPatch, Origin, ServerName};
use crate::platform::Platform;
use crate::schedule::{self, Action, Entry};
use crate::store::StoreError;

/// Idempotency keys that begin so belong to the schedule file; nobody else may use them.
pub const SCHEDULE_KEYS: &str = "schedule:";

impl Core {
    /// Says in lines what changed.
    pub(super) fn reload(&mut self, settings: &Settings) -> Result<Vec<String>, Refusal> {
        self.refuse_while_writing()?;
        self.refuse_orphans(settings)?;
        let platforms = self.build_platforms(settings)?;
        let actions = self.plan(settings)?;
        let mut lines = self.replace_servers(settings, platforms);
        let mut in_memory: Vec<JobId> = self.active.keys().copied().collect();
        in_memory.sort_unstable();
        in_memory.into_iter().for_each(|job| self.step(job, Event::Reconfigured));
        for action in actions {
            lines.push(tell(&action));
            self.act(action);
        }
        self.settings = Some(settings.clone());
        self.plan_again = None;
        if lines.is_empty() {
            lines.push("nothing has changed".to_owned());
        }
        lines.iter().for_each(|line| tracing::info!("schedule: {line}"));
        Ok(lines)
    }

    /// Entries that could not be written are planned again: a full disk must not cost a deadline.
    pub(super) fn plan_once_more(&mut self) {
        self.plan_again = None;
        let Some(settings) = self.settings.clone() else { return };
        self.schedule_error = None;
        match self.plan(&settings) {
            Ok(actions) => actions.into_iter().for_each(|action| self.act(action)),
            Err(refusal) => {
                let why = refusal.detail;
                self.schedule_error = Some(why.clone());
                // The engine hears this like any other failure of the schedule, and tries again.
                let _ = self.inbox.send(Inner::ScheduleFailed(why));
            }
        }
    }

    /// What an earlier reload submitted has to be known before it can be compared with.
    fn refuse_while_writing(&self) -> Result<(), Refusal> {
        if !self.submitting.values().any(|job| job.from_schedule) {
            return Ok(());
        }
        Err(refusal(
            RefusalKind::Conflict,
            "the entries of the last reload are still being written",
            "reload again in a moment",
        ))
    }

    /// Open jobs need their server.
    fn refuse_orphans(&self, settings: &Settings) -> Result<(), Refusal> {
        let mut open = self.store.open_servers().map_err(unreadable)?;
        open.extend(self.submitting.values().map(|job| job.server.clone()));
        let orphaned: Vec<&str> = open
            .iter()
            .filter(|name| !settings.servers.contains_key(*name))
            .map(ServerName::as_str)
            .collect();
        if orphaned.is_empty() {
            return Ok(());
        }
        let names = orphaned.join(", ");
        Err(refusal(
            RefusalKind::Conflict,
            format!("there are open jobs on {names}, which the schedule file does not configure any more"),
            format!(
                "put [servers.{}] back; see the jobs with: adjourn list --server {0}, and cancel them first",
                orphaned[0]
            ),
        ))
    }

    fn build_platforms(
        &self,
        settings: &Settings,
    ) -> Result<BTreeMap<ServerName, Arc<dyn Platform>>, Refusal> {
        let build = |name: &ServerName, server| {
            (self.makers.build)(name, server, self.clock.clone()).map_err(|error| {
                refusal(
                    RefusalKind::Invalid,
                    format!("server {name}: {error:#}"),
                    "correct its block in the schedule file",
                )
            })
        };
        settings
            .servers
            .iter()
            .map(|(name, server)| Ok((name.clone(), build(name, &server.platform)?)))
            .collect()
    }

    fn replace_servers(
        &mut self,
        settings: &Settings,
        platforms: BTreeMap<ServerName, Arc<dyn Platform>>,
    ) -> Vec<String> {
        let now = self.now();
        let mut lines = Vec::new();
        self.servers.retain(|name, _| {
            let stays = settings.servers.contains_key(name);
            if !stays {
                lines.push(format!("server {name} removed"));
            }
            stays
        });
        let gone = |job: &Job| job.is_done() && !settings.servers.contains_key(&job.server);
        let forgotten: Vec<JobId> =
            self.active.values().filter(|active| gone(&active.job)).map(|active| active.job.id).collect();
        forgotten.into_iter().for_each(|job| self.forget(job));
        for (name, platform) in platforms {
            let settings = &settings.servers[&name];
            if let Some(server) = self.servers.get_mut(&name) {
                server.replace(platform, settings, now);
                continue;
            }
            lines.push(format!("server {name} added ({})", platform.kind()));
            let memory = self.store.memory(&name).ok().flatten().unwrap_or_default();
            self.servers.insert(name, Server::new(platform, settings, memory, now));
        }
        lines
    }

    fn plan(&self, settings: &Settings) -> Result<Vec<Action>, Refusal> {
        let known = self.schedule_jobs(settings)?;
        let open: Vec<Job> = known.values().filter(|job| !job.is_done()).cloned().collect();
        let now = self.now().wall;
        let expansion = schedule::expand(&settings.schedule, &self.feeds, now);
        Ok(schedule::plan(&expansion, |name| known.get(name), &open, now))
    }

    /// The latest job of every entry that ever was (within the retention), by the entry's identity.
    fn schedule_jobs(&self, settings: &Settings) -> Result<BTreeMap<String, Job>, Refusal> {
        let mut servers: BTreeSet<ServerName> = settings.servers.keys().cloned().collect();
        servers.extend(self.servers.keys().cloned());
        let mut latest: BTreeMap<String, Job> = BTreeMap::new();
        for server in &servers {
            for (_, id) in self.store.keys(server, SCHEDULE_KEYS).map_err(unreadable)? {
                let Some(job) = self.store.get(id).map_err(unreadable)? else { continue };
                let Origin::Schedule { name, .. } = &job.origin else { continue };
                let newer = latest
                    .get(name)
                    .is_none_or(|known| (!job.is_done(), job.id) > (!known.is_done(), known.id));
                if newer {
                    latest.insert(name.clone(), job);
                }
            }
        }
        Ok(latest)
    }

    fn act(&mut self, action: Action) {
        let (job, change, name) = match action {
            Action::Submit(entry) => {
                let reply = logged(entry.identity.clone(), self.inbox.clone());
                return self.submit(submission(&entry), reply);
            }
            Action::Move { job, name, to } => (job, Change::Move { to }, name),
            Action::Cancel { job, name } => (job, Change::Cancel, name),
            Action::Miss { job, name, reason } => (job, Change::Miss { reason }, name),
            Action::Skip { .. } | Action::Refuse { .. } => return,
        };
        let reply = logged(name, self.inbox.clone());
        self.change(job, ChangeRequest { if_match: None, change, by: By::Schedule, reply });
    }
}

fn submission(entry: &Entry) -> Submission {
    let limits = entry.limits.clone();
    Submission {
        server: entry.server.clone(),
        meeting: entry.meeting.clone(),
        when: When::At(entry.at),
        only: entry.instance.clone(),
        limits: LimitsPatch::from(limits),
        key: Some(key(entry)),
        hold: None,
        origin: Origin::Schedule { name: entry.identity.clone(), of: entry.of.clone(), planned: entry.at },
        by: By::Schedule,
    }
}

/// One key for one planned job: a name may serve another meeting, instance or time once its first job is done.
fn key(entry: &Entry) -> String {
    let instance = entry.instance.as_ref().map_or("", InstanceId::as_str);
    format!("{SCHEDULE_KEYS}{}\u{1f}{}\u{1f}{instance}\u{1f}{}", entry.identity, entry.meeting, entry.at.0)
}

/// A reply that nobody waits for: a refusal goes to the log, and a failed write back to the engine.
fn logged(name: String, inbox: mpsc::UnboundedSender<Inner>) -> Reply {
    let (reply, answer) = oneshot::channel::<Result<Receipt, Refusal>>();
    tokio::spawn(async move {
        if let Ok(Err(refusal)) = answer.await {
            if refusal.kind == RefusalKind::StoreFailed {
                // The engine is gone only when the daemon is.
                let _ = inbox.send(Inner::ScheduleFailed(format!("{name}: {refusal}")));
            }
            tracing::error!(
                entry = name,
                "the schedule entry could not be applied: {refusal} ({})",
                refusal.hint
            );
        }
    });
    reply
}

fn tell(action: &Action) -> String {
    match action {
        Action::Submit(entry) => {
            format!("{}: {} on {} ends at {}", entry.identity, entry.meeting, entry.server, entry.at)
        }
        Action::Move { name, to, .. } => format!("{name}: moved to {to}"),
        Action::Cancel { name, .. } => format!("{name}: its entry is gone, cancelled"),
        Action::Miss { name, reason, .. } => format!("{name}: missed, {reason}"),
        Action::Skip { name, reason } => format!("{name}: nothing done, {reason}"),
        Action::Refuse { name, reason } => format!("{name}: REFUSED, {reason}"),
    }
}

fn unreadable(error: StoreError) -> Refusal {
    refusal(RefusalKind::StoreFailed, error.to_string(), "see the daemon's log")
}
