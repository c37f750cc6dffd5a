//! The schedule compared with the jobs, apart from the loop: reads the store, builds platforms, makes the new jobs.
//!
//! Nothing is decided for good here. The loop goes on meanwhile, so whatever this has read may have changed when the loop
//! applies it: it checks again that each job has come no further, by the number of its facts (`reload`).

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use super::api::{PlannedAction, PlannedChange, Refusal, RefusalKind, Submission, When};
use super::core::{Build, NewId};
use super::requests::{key_of, refusal};
use crate::clock::Clock;
use crate::config::limits::lock_fault;
use crate::config::settings::{PlatformSettings, Settings};
use crate::job::{
    By, Change, InstanceId, Job, JobId, LimitsPatch, MeetingId, Now, Order, Origin, ServerName, State, UtcMs,
};
use crate::platform::Platform;
use crate::schedule::{self, Action, Entry, Expansion, Feeds};
use crate::store::{Store, StoreError};

/// Idempotency keys that begin so belong to the schedule file; nobody else may use them.
pub const SCHEDULE_KEYS: &str = "schedule:";

/// Jobs behind a standing entry that are read before it is asked whether they tell enough. More than one, since an event
/// may have been moved past another one.
const READ_AT_ONCE: usize = 32;

pub(super) type Platforms = BTreeMap<ServerName, Arc<dyn Platform>>;

/// What a plan is made from.
pub(super) struct Input {
    pub settings: Arc<Settings>,
    pub feeds: Arc<Feeds>,
    pub now: Now,
    pub store: Arc<dyn Store>,
    pub clock: Arc<dyn Clock>,
    pub build: Arc<Build>,
    pub new_id: Arc<NewId>,
    /// The servers as they run, with the settings that they were built from.
    pub running: BTreeMap<ServerName, (PlatformSettings, Arc<dyn Platform>)>,
    /// Jobs that have come further in memory than on disk.
    pub ahead: HashMap<JobId, Job>,
}

impl Input {
    /// The job as far as it has come, which may be further than the disk knows: one that concluded a moment ago is done.
    fn job(&self, id: JobId) -> Result<Option<Job>, StoreError> {
        match self.ahead.get(&id) {
            Some(job) => Ok(Some(job.clone())),
            None => self.store.get(id),
        }
    }
}

/// What should be done, and with what.
pub(super) struct Plan {
    /// All servers of the settings. Where the platform's settings are the same, the platform is too.
    pub platforms: Platforms,
    pub steps: Vec<Step>,
}

impl std::fmt::Debug for Plan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Plan").field("steps", &self.steps).finish_non_exhaustive()
    }
}

/// One change of the schedule: how it is told, and what it takes.
#[derive(Debug)]
pub(super) struct Step {
    pub told: PlannedChange,
    pub work: Work,
}

#[derive(Debug)]
pub(super) enum Work {
    /// It is only told.
    Nothing,
    Submit(Box<Job>),
    /// Of the job as it was read, when it had come so far. Whoever applies this takes the job from memory or from the store.
    Change {
        job: JobId,
        version: usize,
        change: Box<Change>,
        /// Why the change cannot be made, if it cannot be made in what was read.
        conflict: Option<String>,
    },
}

/// Reads the store, so not for an async thread.
pub(super) fn prepare(input: &Input) -> Result<Plan, Refusal> {
    refuse_orphans(&*input.store, &input.settings)?;
    let platforms = platforms(input)?;
    let schedule = &input.settings.schedule;
    let mut expansion = schedule::expand(schedule, &input.feeds, input.now.wall);
    let twice = take_doubles(&mut expansion.entries);
    let jobs = Jobs::read(input, &expansion)?;
    let known = |identity: &str| jobs.known(identity);
    let fault = RefCell::new(None);
    let reached = |standing: &str| {
        reached(input, &expansion, standing).unwrap_or_else(|error| {
            fault.replace(Some(error));
            None
        })
    };
    let actions = schedule::plan(&expansion, known, reached, &jobs.open, input.now.wall);
    if let Some(error) = fault.take() {
        return Err(unreadable(error));
    }
    let entries = expansion.entries.iter().map(|entry| (entry.identity.as_str(), entry)).collect();
    let mut first_of: HashMap<&str, &Entry> = HashMap::new();
    for entry in &expansion.entries {
        first_of.entry(entry.of.as_deref().unwrap_or_default()).or_insert(entry);
    }
    let maker = Steps { input, jobs: &jobs, entries, first_of };
    let mut steps: Vec<Step> = Vec::with_capacity(actions.len());
    for action in actions {
        steps.extend(maker.step(action)?);
    }
    let touched: BTreeSet<JobId> = steps.iter().filter_map(|step| step.told.job).collect();
    let kept = expansion.entries.iter().filter_map(|entry| kept(entry, jobs.known(&entry.identity)?));
    steps.extend(kept.filter(|step| step.told.job.is_none_or(|job| !touched.contains(&job))));
    steps.extend(twice.iter().map(|entry| {
        let reason = "another entry or event has this very name; that one counts".to_owned();
        let told = PlannedChange { reason, ..told_of(PlannedAction::Refuse, entry) };
        Step { told, work: Work::Nothing }
    }));
    Ok(Plan { platforms, steps })
}

/// Two entries of one identity would want the same key, and no plan with both could ever be written: the first counts.
fn take_doubles(entries: &mut Vec<Entry>) -> Vec<Entry> {
    let mut seen = HashSet::new();
    entries.extract_if(.., |entry| !seen.insert(entry.identity.clone())).collect()
}

/// Open jobs need their server.
pub(super) fn refuse_orphans(store: &dyn Store, settings: &Settings) -> Result<(), Refusal> {
    let open = store.open_servers().map_err(unreadable)?;
    let orphaned: Vec<&str> =
        open.iter().filter(|name| !settings.servers.contains_key(*name)).map(ServerName::as_str).collect();
    let Some(first) = orphaned.first() else { return Ok(()) };
    Err(refusal(
        RefusalKind::Conflict,
        format!(
            "there are open jobs on {}, which the schedule file does not configure any more",
            orphaned.join(", ")
        ),
        format!(
            "put [servers.{first}] back; see the jobs with: adjourn list --server {first}, and cancel them first"
        ),
    ))
}

pub(super) fn unreadable(error: StoreError) -> Refusal {
    refusal(RefusalKind::StoreFailed, error.to_string(), "see the daemon's log")
}

/// A platform has caches, tokens and budgets: one whose settings are the same goes on.
pub(super) fn platforms(input: &Input) -> Result<Platforms, Refusal> {
    let platform = |name: &ServerName, settings: &PlatformSettings| match input.running.get(name) {
        Some((running, platform)) if running == settings => Ok(platform.clone()),
        _ => (input.build)(name, settings, input.clock.clone()).map_err(|error| {
            refusal(
                RefusalKind::Invalid,
                format!("server {name}: {error:#}"),
                "correct its block in the schedule file",
            )
        }),
    };
    let servers = input.settings.servers.iter();
    servers.map(|(name, server)| Ok((name.clone(), platform(name, &server.platform)?))).collect()
}

/// The jobs that the schedule is compared with.
#[derive(Default)]
struct Jobs {
    open: Vec<Job>,
    /// Where in `open` each is.
    places: HashMap<JobId, usize>,
    /// By identity: where in `open` its latest job is.
    latest: HashMap<String, usize>,
    /// Those whose entries have no open one: the latest that is done.
    done: HashMap<String, Job>,
    /// Identities that have never had a job on their server.
    new: HashSet<String>,
}

impl Jobs {
    /// Open jobs, and of the others only those that an entry asks for: after a while most are done, and there are many.
    fn read(input: &Input, expansion: &Expansion) -> Result<Jobs, Refusal> {
        let mut jobs = Jobs::default();
        let servers: BTreeSet<&ServerName> =
            input.settings.servers.keys().chain(input.running.keys()).collect();
        for server in servers {
            for (_, id) in input.store.open_keys(server, SCHEDULE_KEYS).map_err(unreadable)? {
                jobs.take(input, id)?;
            }
        }
        for entry in &expansion.entries {
            if jobs.latest.contains_key(&entry.identity) || jobs.done.contains_key(&entry.identity) {
                continue;
            }
            let keys = input.store.keys(&entry.server, &key_prefix(&entry.identity)).map_err(unreadable)?;
            match keys.into_iter().map(|(_, id)| id).max() {
                Some(id) => jobs.take(input, id)?,
                None => {
                    jobs.new.insert(entry.identity.clone());
                }
            }
        }
        Ok(jobs)
    }

    fn take(&mut self, input: &Input, id: JobId) -> Result<(), Refusal> {
        let Some(job) = input.job(id).map_err(unreadable)? else { return Ok(()) };
        let Origin::Schedule { name, .. } = &job.origin else { return Ok(()) };
        if job.is_done() {
            if self.done.get(name).is_none_or(|known| known.id < job.id) {
                self.done.insert(name.clone(), job);
            }
            return Ok(());
        }
        let newer = self.latest.get(name).is_none_or(|at| self.open[*at].id < job.id);
        if newer {
            self.latest.insert(name.clone(), self.open.len());
        }
        self.places.insert(id, self.open.len());
        self.open.push(job);
        Ok(())
    }

    fn known(&self, identity: &str) -> Option<&Job> {
        self.latest.get(identity).map(|at| &self.open[*at]).or_else(|| self.done.get(identity))
    }
}

fn is_of(job: &Job, standing: &str) -> bool {
    matches!(&job.origin, Origin::Schedule { of: Some(of), .. } if of == standing)
}

/// How far the done jobs of a standing entry have come. There may be a season's worth of them: they are read from the
/// latest on, as their keys tell, until that is clear.
fn reached(input: &Input, expansion: &Expansion, standing: &str) -> Result<Option<UtcMs>, StoreError> {
    let entries = expansion.entries.iter().filter(|entry| entry.of.as_deref() == Some(standing));
    let servers: BTreeSet<&ServerName> = entries.map(|entry| &entry.server).collect();
    let mut keys = Vec::new();
    for server in servers {
        let found = input.store.keys(server, &format!("{SCHEDULE_KEYS}{standing}"))?;
        keys.extend(found.into_iter().map(|(key, id)| (time_in(&key), id)));
    }
    keys.sort_unstable_by(|a, b| b.cmp(a));
    for some in keys.chunks(READ_AT_ONCE) {
        let mut jobs = Vec::new();
        for (_, id) in some {
            jobs.extend(input.job(*id)?.filter(|job| job.is_done() && is_of(job, standing)));
        }
        if !jobs.is_empty() {
            return Ok(schedule::reached(&jobs, standing));
        }
    }
    Ok(None)
}

/// Makes steps of actions.
struct Steps<'a> {
    input: &'a Input,
    jobs: &'a Jobs,
    entries: HashMap<&'a str, &'a Entry>,
    /// An occurrence of every standing entry.
    first_of: HashMap<&'a str, &'a Entry>,
}

impl Steps<'_> {
    fn step(&self, action: Action) -> Result<Option<Step>, Refusal> {
        let (id, change, planned, to, reason) = match action {
            Action::Submit(entry) => return self.submit(&entry, None).map(Some),
            Action::Again { entry, after } => return self.submit(&entry, Some(after)).map(Some),
            Action::Skip { name, reason } => return Ok(self.tell(&name, PlannedAction::Skip, reason)),
            Action::Refuse { name, reason } => return Ok(self.tell(&name, PlannedAction::Refuse, reason)),
            Action::Move { job, to, .. } => {
                (job, Change::Move { to }, PlannedAction::Move, Some(to), String::new())
            }
            Action::Cancel { job, reason, .. } => (job, Change::Cancel, PlannedAction::Remove, None, reason),
            Action::Miss { job, reason, .. } => {
                (job, Change::Miss { reason: reason.clone() }, PlannedAction::Miss, None, reason)
            }
        };
        let Some(job) = self.jobs.places.get(&id).map(|at| &self.jobs.open[*at]) else { return Ok(None) };
        let reason = match planned {
            PlannedAction::Move => why_moved(job),
            PlannedAction::Remove => format!("{reason}{}", what_is_lost(job)),
            _ => reason,
        };
        let told = PlannedChange { to, reason, ..told(planned, job) };
        let conflict = job.change(&change, By::Schedule, self.input.now).err().map(|conflict| conflict.what);
        let work = Work::Change { job: id, version: job.version(), change: Box::new(change), conflict };
        Ok(Some(Step { told, work }))
    }

    /// `identity`: of an entry, or the name of a standing one, where it is about all its occurrences.
    fn tell(&self, identity: &str, action: PlannedAction, reason: String) -> Option<Step> {
        let job = self.jobs.known(identity);
        if job.is_none() && !self.entries.contains_key(identity) {
            let first = self.first_of.get(identity)?;
            let name = identity.to_owned();
            let told = PlannedChange { name, to: None, reason, ..told_of(action, first) };
            return Some(Step { told, work: Work::Nothing });
        }
        let told = match (self.entries.get(identity), job) {
            (Some(entry), job) => PlannedChange {
                to: Some(entry.at),
                from: job.map(|job| job.due),
                job: job.map(|job| job.id),
                ..told_of(action, entry)
            },
            (None, Some(job)) => told(action, job),
            (None, None) => return None,
        };
        Some(Step { told: PlannedChange { reason, ..told }, work: Work::Nothing })
    }

    fn submit(&self, entry: &Entry, after: Option<JobId>) -> Result<Step, Refusal> {
        let input = self.input;
        let refused = |reason: String| {
            let told = told_of(PlannedAction::Refuse, entry);
            Step { told: PlannedChange { reason, ..told }, work: Work::Nothing }
        };
        let Some(server) = input.settings.servers.get(&entry.server) else {
            return Ok(refused(format!("there is no server {}", entry.server)));
        };
        if let Some((detail, hint)) = server.platform.meeting_fault(&entry.meeting) {
            return Ok(refused(format!("{detail}; {hint}")));
        }
        let lock = entry.limits.lock;
        if let Some((detail, hint)) = lock_fault(entry.server.as_str(), lock, server.platform.lock()) {
            return Ok(refused(format!("{detail}; {hint}")));
        }
        let skipped = |id: JobId, what: &str| {
            let told = told_of(PlannedAction::Skip, entry);
            let reason = format!("job {} was for this very deadline; {what}", id.short());
            Step { told: PlannedChange { reason, job: Some(id), ..told }, work: Work::Nothing }
        };
        if after.is_some()
            && let Some(id) = self.decided(entry)?
        {
            return Ok(skipped(id, "what became of it counts"));
        }
        let submission = submission(entry, after);
        let key = key_of(&submission);
        if let Some(key) = &key
            && !self.jobs.new.contains(&entry.identity)
            && let Some(id) = input.store.by_key(&entry.server, &key.key).map_err(unreadable)?
        {
            // It is not the latest of its name, or this entry would be in order.
            return Ok(skipped(id, "give the entry a new name"));
        }
        let Submission { server, meeting, only, origin, by, .. } = submission;
        let id = (input.new_id)(input.now);
        let limits = entry.limits.clone();
        let (at_most, max_duration, due) = (None, None, entry.at);
        let order = Order { id, server, meeting, only, key, limits, at_most, max_duration, due, origin, by };
        let job = Job::submit(order, input.now);
        let reason = entry.of.as_ref().map_or_else(String::new, |of| format!("by {of}"));
        let told = PlannedChange { reason, job: Some(id), ..told_of(PlannedAction::Add, entry) };
        Ok(Step { told, work: Work::Submit(Box::new(job)) })
    }

    /// The last job for exactly this deadline, if it came to an end otherwise than by the file: an edit that was made and
    /// unmade does not bring back what a person has cancelled, or what has been ended.
    fn decided(&self, entry: &Entry) -> Result<Option<JobId>, Refusal> {
        let store = &self.input.store;
        let keys = store.keys(&entry.server, &key_prefix(&entry.identity)).map_err(unreadable)?;
        let mut ids: Vec<JobId> = keys.into_iter().map(|(_, id)| id).collect();
        ids.sort_unstable();
        for id in ids.into_iter().rev() {
            let Some(job) = self.input.job(id).map_err(unreadable)? else { continue };
            if is_for(&job, entry) {
                return Ok((job.is_done() && !job.was_withdrawn()).then_some(id));
            }
        }
        Ok(None)
    }
}

/// Is the job for exactly what the entry asks for?
fn is_for(job: &Job, entry: &Entry) -> bool {
    let same = job.server == entry.server && job.meeting == entry.meeting && job.only == entry.instance;
    same && matches!(&job.origin, Origin::Schedule { planned, .. } if *planned == entry.at)
}

/// The file and the job agree, but somebody has given the job another time.
fn kept(entry: &Entry, job: &Job) -> Option<Step> {
    let Origin::Schedule { planned, .. } = &job.origin else { return None };
    let undecided = matches!(job.state, State::Waiting | State::Held);
    let how = by_hand(job).filter(|_| undecided && *planned == entry.at)?;
    let told = PlannedChange {
        from: Some(*planned),
        to: Some(job.due),
        reason: format!("{how} by hand"),
        ..told(PlannedAction::Keep, job)
    };
    Some(Step { told, work: Work::Nothing })
}

fn why_moved(job: &Job) -> String {
    let Origin::Schedule { of, .. } = &job.origin else { return String::new() };
    let who = if of.is_some() { "its calendar" } else { "the file" };
    let but = by_hand(job).map_or_else(String::new, |how| format!("; it had been {how} by hand"));
    format!("{who} gives another time{but}")
}

/// What people did to a job that goes; one that comes for it knows nothing of that.
fn what_is_lost(job: &Job) -> String {
    let Origin::Schedule { of, .. } = &job.origin else { return String::new() };
    let moved = by_hand(job).map(|how| format!("; it had been {how} to {} by hand", job.due));
    let held = (job.state == State::Held).then_some("; it was held");
    let lost = format!("{}{}", moved.unwrap_or_default(), held.unwrap_or_default());
    match of {
        Some(of) if !lost.is_empty() => format!("{lost}, which does not go for other deadlines of {of}"),
        _ => lost,
    }
}

fn by_hand(job: &Job) -> Option<&'static str> {
    let Origin::Schedule { planned, .. } = &job.origin else { return None };
    match job.due.cmp(planned) {
        std::cmp::Ordering::Less => Some("moved"),
        std::cmp::Ordering::Equal => None,
        std::cmp::Ordering::Greater => Some("extended"),
    }
}

fn told(action: PlannedAction, job: &Job) -> PlannedChange {
    let name = match &job.origin {
        Origin::Schedule { name, .. } => name.clone(),
        other => other.to_string(),
    };
    PlannedChange {
        action,
        name,
        server: job.server.clone(),
        meeting: job.meeting.clone(),
        from: Some(job.due),
        to: None,
        reason: String::new(),
        job: Some(job.id),
    }
}

fn told_of(action: PlannedAction, entry: &Entry) -> PlannedChange {
    PlannedChange {
        action,
        name: entry.identity.clone(),
        server: entry.server.clone(),
        meeting: entry.meeting.clone(),
        from: None,
        to: Some(entry.at),
        reason: String::new(),
        job: None,
    }
}

fn submission(entry: &Entry, after: Option<JobId>) -> Submission {
    Submission {
        server: entry.server.clone(),
        meeting: entry.meeting.clone(),
        when: When::At(entry.at),
        max_duration: None,
        only: entry.instance.clone(),
        limits: LimitsPatch::from(entry.limits.clone()),
        key: Some(key(entry, after)),
        hold: None,
        origin: Origin::Schedule { name: entry.identity.clone(), of: entry.of.clone(), planned: entry.at },
        by: By::Schedule,
    }
}

/// One key for one planned job: a name may serve another meeting, instance or time once its first job is done, and the
/// same ones again `after` a job that the file itself had cancelled.
fn key(entry: &Entry, after: Option<JobId>) -> String {
    let instance = entry.instance.as_ref().map_or("", InstanceId::as_str);
    let (prefix, meeting) = (key_prefix(&entry.identity), MeetingId::as_str(&entry.meeting));
    let after = after.map_or_else(String::new, |job| format!("\u{1f}{job}"));
    format!("{prefix}{meeting}\u{1f}{instance}\u{1f}{}{after}", entry.at.0)
}

/// The time in such a key.
fn time_in(key: &str) -> Option<i64> {
    key.split('\u{1f}').nth(3)?.parse().ok()
}

fn key_prefix(identity: &str) -> String {
    format!("{SCHEDULE_KEYS}{identity}\u{1f}")
}
