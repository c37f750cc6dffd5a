//! What a listing means: it is held against the rules, and against the jobs that the store knows. Worked out beside the
//! loop; nothing here changes anything.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::tz::TimeZone;

use super::belief::Belief;
use super::beside::beside;
use super::sweep::RULE_KEYS;
use crate::clock::Clock;
use crate::config::Settings;
use crate::job::{Job, JobId, LiveMeeting, Now, ServerName, State, UtcMs};
use crate::platform::{Listed, Platform};
use crate::schedule::rule::{self, Allows, Hit, RuleAction, Sweep, Tally, Watch};
use crate::schedule::{Calendars, Days, Exempt, Feeds, Rule, Schedule};
use crate::store::{Store, StoreError};

type Sweeping = fn(&[Rule], &[Exempt], Allows<'_>, &Watch, &[LiveMeeting], Now) -> Sweep;

/// The pure functions that a sweep asks; a test puts its own here.
#[derive(Clone, Copy)]
pub(super) struct RuleBook {
    pub sweep: Sweeping,
    pub plan: fn(&Sweep, &[Job], &[LiveMeeting]) -> Vec<RuleAction>,
}

impl Default for RuleBook {
    fn default() -> RuleBook {
        RuleBook { sweep: rule::sweep, plan: rule::plan }
    }
}

/// What the settings say about one server.
#[derive(Debug, Default)]
pub(super) struct Standing {
    pub rules: Vec<Rule>,
    pub exempt: Vec<Exempt>,
    pub calendars: Calendars,
}

/// What the store knows about sweeps of one server.
#[derive(Debug)]
pub(super) struct Stock {
    pub jobs: BTreeSet<JobId>,
    pub awaits: bool,
}

/// A listing, worked out.
#[derive(Debug)]
pub(super) struct Found {
    pub belief: Belief,
    pub watch: Watch,
    pub hits: Vec<Hit>,
    /// Hits or meetings that were too many.
    pub skipped: usize,
    pub actions: Vec<RuleAction>,
    /// How far each job had come that they are about.
    pub versions: BTreeMap<JobId, usize>,
    /// Jobs whose meeting is live, and how far each had come.
    pub starts: Vec<(JobId, usize, LiveMeeting)>,
    /// Some job goes on waiting for a start, or did when this was found.
    pub awaits: bool,
    /// Jobs of rules that are done.
    pub closed: BTreeSet<JobId>,
    /// Hits for which their rules had no room.
    pub left_out: Tally,
    /// Jobs of rules whose run is not live any more; `None`: the listing was not complete.
    pub gone: Option<BTreeSet<JobId>>,
}

/// Everything that a listing is held against.
pub(super) struct Question {
    pub store: Arc<dyn Store>,
    pub server: ServerName,
    pub standing: Arc<Standing>,
    pub feeds: Arc<Feeds>,
    pub watch: Watch,
    pub jobs: BTreeSet<JobId>,
    pub made: Tally,
    pub belief: Belief,
    pub book: RuleBook,
}

impl Standing {
    /// `None`: the server has no rules.
    pub fn of(settings: &Settings, server: &ServerName) -> Option<Standing> {
        let Schedule { rules, exempt, calendars, .. } = &*settings.schedule;
        let rules: Vec<Rule> = rules.iter().filter(|rule| rule.server == *server).cloned().collect();
        let (exempt, calendars) = (exempt.clone(), calendars.clone());
        (!rules.is_empty()).then_some(Standing { rules, exempt, calendars })
    }

    pub fn uses_calendars(&self) -> bool {
        self.rules.iter().any(|rule| !rule.days.only.is_empty() || !rule.days.except.is_empty())
    }

    fn allows(&self, feeds: &Feeds, days: &Days, at: UtcMs, zone: &TimeZone) -> bool {
        days.allows(&self.calendars, feeds, at, zone).is_ok()
    }
}

/// One listing, and what it means.
pub(super) async fn look(
    platform: &dyn Platform,
    clock: &dyn Clock,
    question: Question,
    remember: &(dyn Fn(Arc<Listed>, Now, Now) + Send + Sync),
) -> (Now, Result<Found, String>) {
    if let Some(at) = question.watch.last() {
        platform.recall(&mut question.watch.pins(at), at);
    }
    let sent = clock.now();
    let listed = match platform.listing().await {
        Ok(listed) => Arc::new(listed),
        Err(fault) => return (sent, Err(fault.to_string())),
    };
    // Who is there now testifies later that the server kept its meetings.
    remember(listed.clone(), sent, clock.now());
    let found = match beside(move || question.weigh(&listed, sent)).await {
        Some(found) => found.map_err(|error| error.to_string()),
        None => Err("the sweep was interrupted".to_owned()),
    };
    (sent, found)
}

impl Question {
    /// Reads the store, so not for an async thread.
    fn weigh(self, listed: &Listed, sent: Now) -> Result<Found, StoreError> {
        let live = listed.live.as_slice();
        let Question { store, server, standing, feeds, watch, jobs, made, belief, book } = self;
        let starts = starts(&*store, &server, live)?;
        let awaits = store.any_awaiting(&server)?;
        let allows = |days: &Days, at: UtcMs, zone: &TimeZone| standing.allows(&feeds, days, at, zone);
        let mut sweep = match standing.rules.is_empty() {
            true => Sweep::default(),
            false => (book.sweep)(&standing.rules, &standing.exempt, &allows, &watch, live, belief.of(sent)),
        };
        let (mut open, mut closed) = (Vec::new(), BTreeSet::new());
        for id in jobs {
            match store.get(id)?.filter(|job| !job.is_done()) {
                Some(job) => open.push(job),
                None => _ = closed.insert(id),
            }
        }
        rule::renew(&mut sweep, &open, |key| {
            let job = store.by_key(&server, key)?.map(|id| store.get(id)).transpose()?.flatten();
            Ok::<_, StoreError>(rule::Standing::of(job.as_ref()))
        })?;
        if !listed.complete && !standing.rules.is_empty() {
            sweep.watch.keep_unseen(&watch);
        }
        let gone = listed.complete.then(|| rule::gone(&open, live).map(|job| job.id).collect());
        let mut actions = (book.plan)(&sweep, &open, live);
        let known = |hit: &Hit| store.by_key(&server, &format!("{RULE_KEYS}{}", hit.identity));
        let mut is_new = Vec::with_capacity(actions.len());
        for action in &actions {
            is_new.push(match action {
                RuleAction::Submit(hit) => !hit.dry_run && known(hit)?.is_none(),
                RuleAction::Move { .. } | RuleAction::Withdraw { .. } => true,
            });
        }
        let mut keep = is_new.into_iter();
        actions.retain(|_| keep.next().unwrap_or_default());
        let left_out = rule::cap(&mut actions, &open, &made, &standing.rules);
        let versions = open.iter().map(|job| (job.id, job.version())).collect();
        let Sweep { watch, hits, skipped, .. } = sweep;
        Ok(Found { belief, watch, hits, skipped, actions, versions, starts, awaits, closed, left_out, gone })
    }
}

/// The jobs whose meeting is live; of several runs of it the one that began first.
fn starts(
    store: &dyn Store,
    server: &ServerName,
    live: &[LiveMeeting],
) -> Result<Vec<(JobId, usize, LiveMeeting)>, StoreError> {
    if !store.any_awaiting(server)? {
        return Ok(Vec::new());
    }
    let mut by_start: Vec<&LiveMeeting> = live.iter().collect();
    by_start.sort_by_key(|live| live.started_at.unwrap_or(UtcMs::MAX));
    let (mut starts, mut seen) = (Vec::new(), BTreeSet::new());
    for live in by_start {
        for job in store.awaiting(server, &live.meeting)? {
            let ours = job.only.as_ref().is_none_or(|only| *only == live.instance);
            if ours && matches!(job.state, State::Waiting | State::Held) && seen.insert(job.id) {
                starts.push((job.id, job.version(), live.clone()));
            }
        }
    }
    Ok(starts)
}

pub(super) fn stock(store: &dyn Store, server: &ServerName) -> Result<Stock, StoreError> {
    let jobs = store.open_keys(server, RULE_KEYS)?.into_iter().map(|(_, id)| id).collect();
    Ok(Stock { jobs, awaits: store.any_awaiting(server)? })
}
