//! Sweeps: now and then one listing of everything that is live on a server, held against its rules and against the jobs
//! that wait for their meeting to start.
//!
//! * The rhythm is the engine's own, on boottime, because deadlines depend on it: a wall clock set back by an hour must not
//!   stop it for an hour. The smallest `every` of a server's rules, half a minute where only jobs wait for a start. One
//!   listing a server and period, one in flight, only when the platform has room for it; a server that nothing asks about
//!   hears none.
//! * What the listing means is pure (`schedule::rule`) and worked out beside the loop, where a long listing against many
//!   rules is in nobody's way. Only its result is applied here, as submits, moves and withdrawals like any other.
//! * A listing that fails changes nothing: no hit begins, none is over. One that was asked for under older rules, or under
//!   a clock that is not believed any more, is thrown away.
//! * A hit is known by its identity, which is the idempotency key of its job. So a job that is done, or that a person has
//!   cancelled, is not made again, and a restart makes nothing twice.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use super::active::{ChangeRequest, Reply, announce};
use super::api::{Notice, Receipt, Refusal, RefusalKind, ServerStatus};
use super::beside::beside;
use super::core::{Core, Inner};
use super::weigh::{Found, Question, Standing, Stock, look, stock};
use crate::config::Settings;
use crate::job::{BootMs, By, Change, Fact, Job, JobId, Key, Now, Order, Origin, Pin, ServerName, UtcMs};
use crate::platform::Work;
use crate::schedule::rule::{Hit, RuleAction, Tally, Watch};
use crate::store::StoreError;

/// Idempotency keys that begin so belong to rules; nobody else may use them.
pub const RULE_KEYS: &str = "rule:";
/// How often a server is listed on which nothing but jobs wait: for a start, or for a rule that is gone.
const START_EVERY: Duration = Duration::from_secs(30);
/// A job that comes and waits for a start is a reason to look at once, but not more often than this.
const AT_ONCE_AGAIN: Duration = Duration::from_secs(5);
/// A sweep that could not begin when its turn came is tried again this much later.
const TRY_AGAIN: Duration = Duration::from_secs(5);
/// New jobs of a rule are counted for so long.
const MADE_WITHIN: Duration = Duration::from_secs(3600);
/// The first sweeps after the start come within this, spread over it.
const FIRST_WITHIN: Duration = Duration::from_secs(10);
/// Hits of dry-run rules of one server that are told one by one.
const TOLD: usize = 1_000;

/// What is known between the sweeps of one server.
#[derive(Debug, Default)]
pub(super) struct Sweeper {
    standing: Arc<Standing>,
    pub watch: Watch,
    /// Some job waits for the start of its meeting.
    awaits: bool,
    /// Such a job has come since the sweep in flight began.
    anew: bool,
    /// Open jobs that rules have made.
    jobs: BTreeSet<JobId>,
    known: Known,
    next: Option<BootMs>,
    /// When the last one began.
    began: Option<BootMs>,
    in_flight: bool,
    /// What is in flight was asked for under older settings.
    stale: bool,
    last: Option<UtcMs>,
    error: Option<String>,
    /// Hits of dry-run rules that have been told.
    told: BTreeSet<String>,
    /// The last sweep left something out.
    crowded: bool,
    /// How many hits it left out for which their rules had no room.
    left_out: Tally,
    /// Jobs whose run is not live any more, and since which listing.
    pub gone: BTreeMap<JobId, UtcMs>,
    /// How many jobs each rule has made since then.
    made: (Option<BootMs>, Tally),
}

/// Whether `jobs` and `awaits` have been read from the store.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Known {
    #[default]
    No,
    Reading,
    Yes,
}

impl Sweeper {
    /// `None`: nothing asks for sweeps.
    fn every(&self) -> Option<Duration> {
        let rules = self.standing.rules.iter().map(|rule| rule.every).min();
        // With rules there, their own rhythm is good for what is left of others too.
        let waits = self.awaits || (rules.is_none() && !self.jobs.is_empty());
        rules.into_iter().chain(waits.then_some(START_EVERY)).min()
    }

    /// When its turn comes; `None`: not before something else has happened.
    fn turn(&self) -> Option<BootMs> {
        let asks = match self.known {
            Known::No => true,
            Known::Reading => false,
            Known::Yes => self.every().is_some(),
        };
        (asks && !self.in_flight).then(|| self.next.unwrap_or(BootMs(0)))
    }

    pub fn note(&self, status: &mut ServerStatus) {
        if self.every().is_some() {
            status.last_sweep = self.last.map(|at| at.to_string());
            status.sweep_error = self.error.clone().or_else(|| self.no_room());
        }
    }

    /// What should be heard of rules that hit more than they may make.
    fn no_room(&self) -> Option<String> {
        let told =
            self.left_out.iter().map(|(rule, count)| format!("rule {rule} leaves {count} meetings alone"));
        let told: Vec<String> = told.collect();
        (!told.is_empty())
            .then(|| format!("{}: that would be more deadlines than its max-open, or than all rules of a server may make together", told.join(", ")))
    }

    /// How many jobs each rule has made within the hour.
    fn made_lately(&mut self, now: BootMs) -> Tally {
        if self.made.0.is_none_or(|since| now >= since + MADE_WITHIN) {
            self.made = (Some(now), Tally::new());
        }
        self.made.1.clone()
    }

    /// The hits of dry-run rules that have not been told yet.
    fn untold<'a>(&mut self, hits: &'a [Hit]) -> Vec<&'a Hit> {
        let current: BTreeSet<&str> =
            hits.iter().filter(|hit| hit.dry_run).map(|hit| hit.identity.as_str()).collect();
        self.told.retain(|identity| current.contains(identity.as_str()));
        let mut untold: Vec<&Hit> =
            hits.iter().filter(|hit| hit.dry_run && !self.told.contains(&hit.identity)).collect();
        untold.truncate(TOLD.saturating_sub(self.told.len()));
        self.told.extend(untold.iter().map(|hit| hit.identity.clone()));
        untold
    }
}

impl Core {
    /// The rules of new settings count from the next sweep, which comes at once, except at the start.
    pub(super) fn plan_sweeps(&mut self, settings: &Settings) {
        let (now, starting) = (self.now().boot, self.settings.is_none());
        self.sweepers.retain(|name, _| settings.servers.contains_key(name));
        for name in settings.servers.keys() {
            let sweeper = self.sweepers.entry(name.clone()).or_default();
            sweeper.standing = Standing::of(settings, name).unwrap_or_default().into();
            if sweeper.standing.rules.is_empty() {
                sweeper.watch = Watch::default();
                sweeper.told.clear();
            }
            sweeper.stale = sweeper.in_flight;
            let pause = if starting { spread(name) } else { Duration::ZERO };
            sweeper.next = Some(now + pause);
        }
        self.tick();
    }

    /// What has been seen so far on every server.
    pub(super) fn watches(&self) -> BTreeMap<ServerName, Watch> {
        self.sweepers.iter().map(|(name, sweeper)| (name.clone(), sweeper.watch.clone())).collect()
    }

    /// When the first sweep's turn comes.
    pub(super) fn next_sweep(&self) -> Option<BootMs> {
        self.sweepers.values().filter_map(Sweeper::turn).min()
    }

    /// Starts the sweeps whose turn it is. Any number of ticks is as good as one.
    pub(super) fn tick(&mut self) {
        let now = self.now().boot;
        let due = |sweeper: &Sweeper| sweeper.turn().is_some_and(|at| at <= now);
        let names: Vec<ServerName> =
            self.sweepers.iter().filter(|(_, sweeper)| due(sweeper)).map(|(name, _)| name.clone()).collect();
        for name in names {
            self.start_sweep(&name);
        }
    }

    fn start_sweep(&mut self, name: &ServerName) {
        let (now, belief) = (self.now().boot, self.belief());
        let Some(sweeper) = self.sweepers.get_mut(name) else { return };
        if self.stopping || sweeper.in_flight {
            return;
        }
        // Whatever keeps it from beginning, its turn must lie ahead: otherwise the loop would never rest.
        let due = sweeper.next.replace(now + TRY_AGAIN);
        let Some(server) = self.servers.get(name).filter(|_| !self.plans.leaving.contains(name)) else {
            return;
        };
        if sweeper.known != Known::Yes {
            sweeper.next = due;
            return self.take_stock(name);
        }
        let Some(every) = sweeper.every() else { return };
        // A rule that may not end anything in the holidays has to know when they are.
        if self.unread_feeds.is_some() && sweeper.standing.uses_calendars() {
            return;
        }
        if server.platform.ready(Work::Looks { before_end: false }).is_some_and(|at| at > now) {
            return;
        }
        (sweeper.in_flight, sweeper.anew, sweeper.began) = (true, false, Some(now));
        // In its rhythm, unless that has been lost.
        let next = due.map_or(now, |at| at + every);
        sweeper.next = Some(if next > now { next } else { now + every });
        let question = Question {
            store: self.store.clone(),
            server: name.clone(),
            standing: sweeper.standing.clone(),
            feeds: self.feeds.clone(),
            watch: sweeper.watch.clone(),
            jobs: sweeper.jobs.clone(),
            made: sweeper.made_lately(now),
            belief,
            book: self.makers.rules,
        };
        let (platform, clock, inbox) = (server.platform.clone(), self.clock.clone(), self.inbox.clone());
        let (server, epoch) = (name.clone(), server.epoch());
        self.tasks.spawn(async move {
            let remember = |listed, sent, received| {
                let _ = inbox.send(Inner::Listed { server: server.clone(), epoch, listed, sent, received });
            };
            let (sent, result) = look(&*platform, &*clock, question, &remember).await;
            // The engine is gone only when the daemon is.
            let _ = inbox.send(Inner::Swept { server, sent, result: result.map(Box::new) });
        });
    }

    /// Reads once which jobs a server's sweeps have to know.
    fn take_stock(&mut self, name: &ServerName) {
        let Some(sweeper) = self.sweepers.get_mut(name).filter(|sweeper| sweeper.known == Known::No) else {
            return;
        };
        sweeper.known = Known::Reading;
        let (store, inbox, server) = (self.store.clone(), self.inbox.clone(), name.clone());
        self.tasks.spawn(async move {
            let name = server.clone();
            if let Some(stock) = beside(move || stock(&*store, &name)).await {
                let _ = inbox.send(Inner::Stocked { server, stock });
            }
        });
    }

    pub(super) fn stocked(&mut self, name: &ServerName, stock: Result<Stock, StoreError>) {
        let now = self.now().boot;
        let Some(sweeper) = self.sweepers.get_mut(name) else { return };
        match stock {
            Ok(Stock { jobs, awaits }) => {
                sweeper.known = Known::Yes;
                sweeper.jobs.extend(jobs);
                sweeper.awaits |= awaits;
                self.store_health.has_read();
                self.tick();
            }
            Err(error) => {
                (sweeper.known, sweeper.next) = (Known::No, Some(now + TRY_AGAIN));
                self.store_health.not_read(&error);
            }
        }
    }

    /// A new job is durable: do sweeps have to know it?
    pub(super) fn note_new(&mut self, job: &Job) {
        let now = self.now().boot;
        let Some(sweeper) = self.sweepers.get_mut(&job.server) else { return };
        if job.awaits_start && !job.is_done() {
            // Its meeting may be live already; many jobs at once share a listing.
            let soonest = sweeper.began.map_or(now, |began| now.max(began + AT_ONCE_AGAIN));
            sweeper.next = Some(sweeper.next.map_or(soonest, |next| next.min(soonest)));
            (sweeper.awaits, sweeper.anew) = (true, true);
            self.tick();
        } else if is_of_rule(job) {
            sweeper.jobs.insert(job.id);
            let kind = self.servers.get(&job.server).map_or("", |server| server.platform.kind());
            self.metrics.rule_hit(kind, &job.server, job.origin.rule().unwrap_or_default());
        }
    }

    pub(super) fn swept(&mut self, name: &ServerName, sent: Now, result: Result<Box<Found>, String>) {
        let (now, belief) = (self.now(), self.belief());
        let kind = self.servers.get(name).map_or("", |server| server.platform.kind());
        self.metrics.swept(kind, name, result.is_ok());
        // Not in flight: the server was taken away, and came back.
        let Some(sweeper) = self.sweepers.get_mut(name).filter(|sweeper| sweeper.in_flight) else { return };
        sweeper.in_flight = false;
        if self.plans.leaving.contains(name) {
            // A reload takes the server away. Should that fail, the next turn sweeps again.
            sweeper.next = Some(now.boot);
            return;
        }
        let overtaken = result.as_ref().is_ok_and(|found| found.belief != belief);
        if std::mem::take(&mut sweeper.stale) || overtaken {
            sweeper.next = Some(now.boot);
            return self.start_sweep(name);
        }
        let found = match result {
            Ok(found) => *found,
            Err(why) => {
                if sweeper.error.is_none() {
                    tracing::warn!(server = %name, "what is live there cannot be listed, and rules wait: {why}");
                }
                sweeper.error = Some(why);
                return;
            }
        };
        if sweeper.error.take().is_some() {
            tracing::info!(server = %name, "what is live there can be listed again");
        }
        let sent = belief.of(sent);
        sweeper.last = Some(sent.wall);
        sweeper.watch = found.watch;
        let watches = sweeper.watch != Watch::default();
        sweeper.awaits = found.awaits || sweeper.anew;
        sweeper.jobs.retain(|job| !found.closed.contains(job));
        if let Some(gone) = found.gone {
            let since = |job| (job, sweeper.gone.get(&job).copied().unwrap_or(sent.wall));
            sweeper.gone = gone.into_iter().map(since).collect();
        }
        if found.skipped > 0 && !sweeper.crowded {
            tracing::error!(server = %name, skipped = found.skipped, "too many meetings, or hits, for rules: the rest is left alone");
        }
        sweeper.crowded = found.skipped > 0;
        let had_room = sweeper.left_out.is_empty();
        sweeper.left_out = found.left_out;
        if let Some(why) = sweeper.no_room().filter(|_| had_room) {
            tracing::error!(server = %name, "{why}");
            announce(&self.events, vec![Notice::of_server("rule-full", why, now.wall, name.clone())]);
        }
        let notice = |hit: &Hit| would_hit(hit, name, now);
        let untold: Vec<Notice> = sweeper.untold(&found.hits).into_iter().map(notice).collect();
        announce(&self.events, untold);
        if watches {
            self.save_watches_now_and_then();
        }
        self.apply(name, found.actions, &found.versions, sent);
        for (job, version, live) in found.starts {
            self.change_for_rule(name, job, Some(version), Change::Start { live, sent });
        }
    }

    fn apply(
        &mut self,
        name: &ServerName,
        actions: Vec<RuleAction>,
        versions: &BTreeMap<JobId, usize>,
        sent: Now,
    ) {
        for action in actions {
            // What is due already is due from now on: nobody was late.
            let soonest = self.now().wall + Duration::from_millis(1);
            match action {
                RuleAction::Submit(hit) => {
                    if let Some(sweeper) = self.sweepers.get_mut(name) {
                        *sweeper.made.1.entry(hit.rule.clone()).or_default() += 1;
                    }
                    self.submit_hit(name, *hit, sent);
                }
                RuleAction::Move { job, to } => {
                    let (version, to) = (versions.get(&job).copied(), to.max(soonest));
                    self.change_for_rule(name, job, version, Change::Move { to });
                }
                RuleAction::Withdraw { job, reason } => {
                    let version = versions.get(&job).copied();
                    self.change_for_rule(name, job, version, Change::Withdraw { reason });
                }
            }
        }
    }

    fn submit_hit(&mut self, name: &ServerName, hit: Hit, sent: Now) {
        let now = self.now();
        let Hit { rule, from_entry, identity, live, due, reason, at_most, limits, .. } = hit;
        let key = Key { key: format!("{RULE_KEYS}{identity}"), fingerprint: String::new() };
        let origin = match from_entry {
            true => Origin::Schedule { name: identity, of: Some(rule.clone()), planned: due },
            false => Origin::Rule { name: rule.clone(), planned: due },
        };
        let order = Order {
            id: (self.makers.new_id)(now),
            server: name.clone(),
            meeting: live.meeting.clone(),
            only: Some(live.instance.clone()),
            key: Some(key),
            limits,
            at_most,
            max_duration: None,
            due: due.max(now.wall),
            origin,
            by: By::Schedule,
        };
        let mut job = Job::submit(order, now);
        job.record(now, Fact::RuleHit { rule, reason });
        job.record(now, Fact::Pinned { pin: Pin::of_listed(&live, sent) });
        self.write_new(job, watched(name));
    }

    /// Unless more has happened to it than the sweep knows: the next one decides anew.
    fn change_for_rule(&mut self, name: &ServerName, job: JobId, version: Option<usize>, change: Change) {
        let reply = watched(name);
        self.change(job, ChangeRequest { if_match: None, version, change, by: By::Schedule, reply });
    }
}

fn is_of_rule(job: &Job) -> bool {
    job.key.as_ref().is_some_and(|key| key.key.starts_with(RULE_KEYS))
}

/// When a server's first sweep after the start comes: always the same, and not all at once.
fn spread(name: &ServerName) -> Duration {
    let hash = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    let hash = name.as_str().bytes().fold(0xcbf2_9ce4_8422_2325, hash);
    let within = u64::try_from(FIRST_WITHIN.as_millis()).unwrap_or(u64::MAX);
    Duration::from_millis((hash >> 16) % within)
}

fn would_hit(hit: &Hit, server: &ServerName, now: Now) -> Notice {
    let Hit { rule, live, due, reason, .. } = hit;
    // Ids come from strangers.
    let (meeting, instance) = (live.meeting.as_str(), live.instance.as_str());
    let text = format!("rule {rule} would end {meeting:?} (instance {instance:?}) at {due}: {reason}");
    Notice::of_server("rule-would-hit", text, now.wall, server.clone())
}

/// A reply that nobody waits for. What could not be done is tried again with the next sweep.
fn watched(server: &ServerName) -> Reply {
    let (reply, answer) = oneshot::channel::<Result<Receipt, Refusal>>();
    let server = server.clone();
    tokio::spawn(async move {
        let Ok(Err(refusal)) = answer.await else { return };
        match refusal.kind {
            // The job has changed since it was read.
            RefusalKind::Conflict | RefusalKind::NotFound => {
                tracing::debug!(%server, "a sweep came too late: {refusal}");
            }
            // As many as there are hits; the state of the store says it once.
            RefusalKind::StoreFailed => {}
            _ => {
                tracing::error!(%server, "what a rule asks for could not be done: {refusal} ({})", refusal.hint);
            }
        }
    });
    reply
}

#[cfg(test)]
mod tests {
    use super::super::tests::sweep::rule;
    use super::*;
    use crate::schedule::Rule;

    #[test]
    fn rules_give_the_rhythm_and_their_jobs_do_not() {
        let hour = Duration::from_secs(3600);
        let hourly = Rule { every: hour, ..rule("r", hour) };
        let job = JobId(uuid::Uuid::nil());
        let check = |rules: &[Rule], jobs: &[JobId], awaits: bool, expected: Option<Duration>| {
            let standing = Arc::new(Standing { rules: rules.to_vec(), ..Standing::default() });
            let jobs = jobs.iter().copied().collect();
            assert_eq!(Sweeper { standing, jobs, awaits, ..Sweeper::default() }.every(), expected);
        };
        check(std::slice::from_ref(&hourly), &[], false, Some(hour));
        check(std::slice::from_ref(&hourly), &[job], false, Some(hour));
        check(&[hourly], &[job], true, Some(START_EVERY));
        check(&[], &[job], false, Some(START_EVERY));
        check(&[], &[], false, None);
    }
}
