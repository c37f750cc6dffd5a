//! The hits of a sweep against the jobs that sweeps before it made.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use super::{Hit, RuleAction, Sweep};
use crate::job::{InstanceId, Job, LiveMeeting, Origin, State, UtcMs};
use crate::schedule::Rule;

/// How many jobs of each rule count against its `max-open`.
pub type Tally = BTreeMap<String, usize>;

const PREFIX: &str = "rule:";
/// Clocks are measured anew: a time that moves by less is the same.
const SLACK: Duration = Duration::from_secs(5);

/// The idempotency key of the job of a hit.
pub fn key(hit: &Hit) -> String {
    keyed(&hit.identity)
}

pub(super) fn keyed(identity: &str) -> String {
    format!("{PREFIX}{identity}")
}

/// Did a sweep make this job? For what `[[end]]` with `max-duration` made too, whose origin is the schedule.
pub fn is_from_sweep(job: &Job) -> bool {
    let keyed = || job.key.as_ref().is_some_and(|key| key.key.starts_with(PREFIX));
    match &job.origin {
        Origin::Rule { .. } => true,
        Origin::Schedule { .. } => keyed(),
        Origin::Cli | Origin::Api | Origin::Again { .. } => false,
    }
}

/// Compares what a sweep came to with the open jobs on this server; those that no sweep made are left alone. Pure.
///
/// A job whose meeting is not live any more is left alone too: that it is over is for the job to prove, at its time, because
/// a listing may have forgotten it. See [`gone`]. So is one whose end call was sent.
pub fn plan(sweep: &Sweep, open: &[Job], live: &[LiveMeeting]) -> Vec<RuleAction> {
    let ours = open.iter().filter(|job| !job.is_done() && is_from_sweep(job));
    let jobs: HashMap<&str, &Job> =
        ours.filter_map(|job| Some((job.key.as_ref()?.key.as_str(), job))).collect();
    let mut actions = Vec::new();
    let hits = &sweep.hits;
    let mut wanted: HashSet<String> = sweep.kept.iter().map(|identity| keyed(identity)).collect();
    for hit in hits.iter().filter(|hit| !hit.dry_run) {
        let key = key(hit);
        match jobs.get(key.as_str()) {
            None => actions.push(RuleAction::Submit(Box::new(hit.clone()))),
            Some(job) if job.unsent() && !is_in_order(hit, job) => {
                actions.push(RuleAction::Move { job: job.id, to: hit.due });
            }
            Some(_) => {}
        }
        wanted.insert(key);
    }
    if sweep.blind {
        return actions;
    }
    let dry: HashSet<&str> = hits.iter().filter(|hit| hit.dry_run).map(|hit| hit.rule.as_str()).collect();
    let alive: HashSet<(&str, &str)> =
        live.iter().map(|live| (live.meeting.as_str(), live.instance.as_str())).collect();
    let mut over: Vec<(&&str, &&Job)> = jobs.iter().filter(|(key, _)| !wanted.contains(**key)).collect();
    over.sort_unstable_by_key(|(_, job)| (job.due, job.id));
    for (key, job) in over {
        let lives =
            job.only.as_ref().is_some_and(|only| alive.contains(&(job.meeting.as_str(), only.as_str())));
        if lives && job.unsent() {
            actions.push(RuleAction::Withdraw { job: job.id, reason: why_over(key, job, &dry) });
        }
    }
    actions
}

/// The jobs that sweeps made for runs which a complete listing does not show any more. Pure.
pub fn gone<'a>(open: &'a [Job], live: &'a [LiveMeeting]) -> impl Iterator<Item = &'a Job> {
    let alive: HashSet<&InstanceId> = live.iter().map(|live| &live.instance).collect();
    let waits = |job: &&Job| matches!(job.state, State::Waiting | State::Held) && is_from_sweep(job);
    let is_gone = move |job: &&Job| job.only.as_ref().is_some_and(|only| !alive.contains(only));
    open.iter().filter(waits).filter(is_gone)
}

/// Leaves out the submits that are too many for their rules, of each rule those that are due last. `made`: how many jobs it
/// has made lately; a server that shows ever new meetings must not fill the disk with jobs that are done soon. All rules
/// together make no more than the one that may make most, and than [`Rule::DEFAULT_MAX_OPEN`] where that is more: many rules
/// on one server are no way around it. Says how many were left out. Pure.
pub fn cap(actions: &mut Vec<RuleAction>, open: &[Job], made: &Tally, rules: &[Rule]) -> Tally {
    let mut opened = Tally::new();
    for rule in open.iter().filter(|job| !job.is_done()).filter_map(|job| job.origin.rule()) {
        *opened.entry(rule.to_owned()).or_default() += 1;
    }
    let limits: HashMap<&str, usize> = rules.iter().map(|rule| (rule.name.as_str(), rule.max_open)).collect();
    let mut room: HashMap<String, usize> = HashMap::new();
    let (mut others, mut submits) = (Vec::new(), Vec::new());
    for action in actions.drain(..) {
        match action {
            RuleAction::Submit(hit) => submits.push(hit),
            other => others.push(other),
        }
    }
    submits.sort_by_key(|hit| hit.due);
    let most =
        rules.iter().map(|rule| rule.max_open).chain([Rule::DEFAULT_MAX_OPEN]).max().unwrap_or_default();
    let taken = |tally: &Tally| tally.values().sum::<usize>();
    let mut room_of_all = most.saturating_sub(taken(&opened).max(taken(made)));
    let mut left_out = Tally::new();
    for hit in submits {
        let left = room.entry(hit.rule.clone()).or_insert_with(|| {
            let count = |tally: &Tally| tally.get(&hit.rule).copied().unwrap_or_default();
            let limit = limits.get(hit.rule.as_str()).copied().unwrap_or(Rule::DEFAULT_MAX_OPEN);
            limit.saturating_sub(count(&opened).max(count(made)))
        });
        match left.checked_sub(1).zip(room_of_all.checked_sub(1)) {
            Some(less) => {
                (*left, room_of_all) = less;
                others.push(RuleAction::Submit(hit));
            }
            None => *left_out.entry(hit.rule.clone()).or_default() += 1,
        }
    }
    *actions = others;
    left_out
}

/// Is the time that the job was planned for one that the hit agrees with? What people made of it since is theirs.
fn is_in_order(hit: &Hit, job: &Job) -> bool {
    let planned = planned(job);
    hit.earliest - SLACK <= planned && planned <= hit.due + SLACK
}

fn planned(job: &Job) -> UtcMs {
    match &job.origin {
        Origin::Schedule { planned, .. } | Origin::Rule { planned, .. } => *planned,
        Origin::Cli | Origin::Api | Origin::Again { .. } => job.due,
    }
}

fn why_over(key: &str, job: &Job, dry: &HashSet<&str>) -> String {
    let rule = match &job.origin {
        Origin::Schedule { of: Some(name), .. } | Origin::Rule { name, .. } => name.as_str(),
        Origin::Schedule { name, .. } => name.as_str(),
        Origin::Cli | Origin::Api | Origin::Again { .. } => "",
    };
    if dry.contains(rule) {
        return format!("rule {rule} only reports now");
    }
    let cause = key.strip_prefix(PREFIX).and_then(|rest| rest.strip_prefix(rule)).unwrap_or_default();
    if cause.starts_with("/empty-for=") {
        format!("it is not empty any more, or nobody was looking for too long: rule {rule}")
    } else if cause.starts_with("/alone-for=") {
        format!("nobody is alone in it any more, or nobody was looking for too long: rule {rule}")
    } else {
        format!("rule {rule} does not apply to it any more")
    }
}
