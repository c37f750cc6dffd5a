//! Rules: what they end is alive, is meant, and has earned it; and nothing that is meant goes on for ever.

use std::collections::BTreeMap;
use std::time::Duration;

use super::super::check::{Checker, Law, Track, Truth};
use super::super::clock::{EPOCH, Ms};
use super::super::standing::{DAY, Limit, MINUTE, SimRule, Standing};
use super::super::world::Life;
use crate::job::{Fact, InstanceId, Job, JobId, Origin, Outcome, State, UtcMs};

/// What a server says about a start may be off by so much.
const TOLD: Ms = 5_000;
/// A rule has seen a meeting, and its job is on the disk, after so much time in which nothing goes wrong.
const NOTICED: Ms = 3 * MINUTE;
const KEYS: &str = "rule:";

#[derive(Default)]
pub struct Sweeps {
    /// Complete listings: when the server saw the request, and who was where.
    listings: Vec<(usize, Ms, BTreeMap<InstanceId, u32>)>,
    /// Every state of the file so far, and since when.
    files: Vec<(Ms, Standing)>,
    keys: BTreeMap<String, JobId>,
    under_way: BTreeMap<usize, u32>,
}

impl Sweeps {
    /// The rule as it was in some file, if it may have made the job.
    fn rule(&self, name: &str) -> Vec<(&SimRule, &Standing)> {
        let rules = |(_, file): &'_ (Ms, Standing)| file.rules.len();
        let files = self.files.iter().filter(|file| rules(file) > 0);
        files
            .flat_map(|(_, file)| file.rules.iter().map(move |rule| (rule, file)))
            .filter(|(rule, _)| rule.rule() == name)
            .collect()
    }

    /// Did every listing of this stretch that showed the instance show at most so many people in it?
    fn never_more_than(&self, most: u32, id: &InstanceId, from: Ms, to: Ms) -> bool {
        let shown = self.listings.iter().filter(|(_, at, _)| (from..=to).contains(at));
        shown.filter_map(|(_, _, shown)| shown.get(id)).all(|people| *people <= most)
    }
}

/// The rule, or the entry with a `max-duration`, that a sweep has made a job for.
pub(in crate::engine::sim) fn rule_of(job: &Job) -> Option<(&str, UtcMs)> {
    let keyed = job.key.as_ref().is_some_and(|key| key.key.starts_with(KEYS));
    match &job.origin {
        Origin::Rule { name, planned } => Some((name, *planned)),
        Origin::Schedule { of: Some(of), planned, .. } if keyed => Some((of, *planned)),
        _ => None,
    }
}

impl Checker {
    pub(in crate::engine::sim) fn rules_say(&mut self, standing: &Standing, now: Ms) {
        self.sweeps.files.push((now, standing.clone()));
    }

    pub fn listing_leaves(&mut self, site: usize, now: Ms) {
        let under_way = self.sweeps.under_way.entry(site).or_default();
        *under_way += 1;
        if *under_way > 1 {
            self.flag(Law::Bounded, now, format!("server {site}: two listings at once"));
        }
    }

    /// `shown`: everything, unless the server did not answer.
    pub fn listing_answered(&mut self, site: usize, at: Ms, shown: Option<BTreeMap<InstanceId, u32>>) {
        let under_way = self.sweeps.under_way.entry(site).or_default();
        *under_way = under_way.saturating_sub(1);
        self.sweeps.listings.extend(shown.map(|shown| (site, at, shown)));
    }

    pub(in crate::engine::sim) fn sweeps_restarted(&mut self) {
        self.sweeps.under_way.clear();
    }

    /// A job that a sweep has made is on the disk for the first time.
    pub(in crate::engine::sim) fn rule_job_born(&mut self, job: &Job, truth: Truth<'_>) {
        let Some((name, planned)) = rule_of(job) else { return };
        let now = truth.clock.truth();
        let mut broken = Vec::new();
        if let Some(key) = &job.key
            && let Some(other) = self.sweeps.keys.insert(key.key.clone(), job.id)
        {
            broken.push(format!("the same hit as job {}", other.short()));
        }
        let known = self.sweeps.rule(name);
        let means = |(rule, file): &(&SimRule, &Standing)| {
            let Some((site, room)) = truth.world.room(&job.meeting) else { return false };
            let entry = matches!(rule.what, Limit::EntryMaxDuration(_));
            !rule.dry_run && rule.matches(site, room) && (entry || !file.exempt.contains(&(site, room)))
        };
        let meant: Vec<&SimRule> = known.into_iter().filter(means).map(|(rule, _)| rule).collect();
        if meant.is_empty() {
            broken.push(format!("{name} does not mean {}, or only reports", job.meeting));
        }
        match &job.only {
            None => broken.push(format!("{name} names no instance")),
            Some(id) => {
                let life = truth.world.life(&job.meeting, id);
                if !self.sweeps.listings.iter().any(|(_, _, shown)| shown.contains_key(id)) {
                    broken.push(format!("{name} hits {id}, which no listing has shown"));
                }
                let started = life.map_or(Ms::MAX / 2, |life| life.started);
                let due = planned.0 - EPOCH;
                let earned = |rule: &&SimRule| self.has_earned(rule, id, started, due, now);
                if !self.keeper.clock_is_set && !meant.is_empty() && !meant.iter().any(earned) {
                    broken.push(format!("{name} ends {id} at {planned}: it has no reason to"));
                }
            }
        }
        for what in broken {
            self.flag(Law::Rule, now, format!("job {}: {what}", job.id.short()));
        }
    }

    fn has_earned(&self, rule: &SimRule, id: &InstanceId, started: Ms, due: Ms, now: Ms) -> bool {
        match rule.what {
            Limit::MaxDuration(length) | Limit::EntryMaxDuration(length) => due + TOLD >= started + length,
            Limit::Closed(from, to) => {
                let into = (due - from).rem_euclid(DAY);
                into < to - from && due + TOLD >= started
            }
            Limit::EmptyFor(length) => self.sweeps.never_more_than(0, id, due - length, now),
            Limit::AloneFor(length) => self.sweeps.never_more_than(1, id, due - length, now),
        }
    }

    /// What waited for the start of its meeting has a time now.
    pub(in crate::engine::sim) fn limit_started(&mut self, id: JobId, fact: &Fact, truth: Truth<'_>) {
        let Fact::Started { instance, due, .. } = fact else { return };
        let Some(Track { job, .. }) = self.tracks.get(&id) else { return };
        let length = job.max_duration.unwrap_or_default();
        let life = truth.world.life(&job.meeting, instance);
        let earned = life.is_some_and(|life| due.0 - EPOCH + TOLD >= life.started + millis(length));
        let listed = self.sweeps.listings.iter().any(|(_, _, shown)| shown.contains_key(instance));
        if !listed || (!earned && !self.keeper.clock_is_set) {
            let what = format!("job {}: counts from the start of {instance}, until {due}", id.short());
            self.flag(Law::Rule, truth.clock.truth(), what);
        }
    }

    /// Two jobs of one rule for one instance are two only if the first was taken back.
    pub(in crate::engine::sim) fn rule_calls(&mut self, job: &Job, now: Ms) {
        let Some((name, _)) = rule_of(job) else { return };
        let track = self.tracks.get(&job.id);
        let seen = track.and_then(|track| track.seen.iter().rev().find(|seen| seen.usable)?.people);
        if let Some(people) =
            seen.filter(|people| job.ends == 0 && job.at_most.is_some_and(|most| *people > most))
        {
            let what = format!("job {}: calls for {name} though {people} are inside", job.id.short());
            self.flag(Law::Rule, now, what);
        }
        let same = |track: &&Track| {
            let other = &track.job;
            other.id != job.id
                && other.only == job.only
                && rule_of(other).is_some_and(|(rule, _)| rule == name)
        };
        let rival = |track: &&Track| !track.calls.is_empty() && track.job.outcome != Some(Outcome::Cancelled);
        let lasts = |limit: &Limit| matches!(limit, Limit::MaxDuration(_) | Limit::EntryMaxDuration(_));
        let simple = self.sweeps.rule(name).iter().all(|(rule, _)| lasts(&rule.what));
        let other = self.tracks.values().filter(same).find(rival).map(|track| track.job.id);
        if let Some(other) = other.filter(|_| simple) {
            let what = format!("job {}: calls, as job {} of {name} did", job.id.short(), other.short());
            self.flag(Law::Rule, now, what);
        }
    }

    /// Nothing has gone wrong for a long time: whatever a `max-duration` means and has seen long enough is a job.
    pub fn rules_at_rest(&mut self, from: Ms, truth: Truth<'_>) {
        let now = truth.clock.truth();
        let Some((since, file)) = self.sweeps.files.last().cloned() else { return };
        if since + NOTICED > now || !self.keeper.goes_by(&file) {
            return;
        }
        let mut missing = Vec::new();
        for rule in file.rules.iter().filter(|rule| !rule.dry_run) {
            let (Limit::MaxDuration(_) | Limit::EntryMaxDuration(_)) = rule.what else { continue };
            let entry = matches!(rule.what, Limit::EntryMaxDuration(_));
            for (room, place) in truth.world.sites[rule.site].iter().enumerate() {
                if !rule.matches(rule.site, room) || (!entry && file.exempt.contains(&(rule.site, room))) {
                    continue;
                }
                let Some(life) = place.shown(now).filter(|life| life.started.max(from) + NOTICED < now)
                else {
                    continue;
                };
                let has = |track: &Track| {
                    let of = rule_of(&track.job).is_some_and(|(name, _)| name == rule.rule());
                    of && track.job.only.as_ref() == Some(&life.id)
                };
                if !self.tracks.values().any(has) {
                    missing.push(format!("{} does not see {}", rule.rule(), life.id));
                }
            }
        }
        for track in self.tracks.values().filter(|track| track.job.awaits_start && !track.job.is_done()) {
            let job = &track.job;
            let Some((site, room)) = truth.world.room(&job.meeting) else { continue };
            let since = |life: &Life| life.started.max(from).max(track.changed) + NOTICED < now;
            if job.state == State::Waiting && truth.world.sites[site][room].shown(now).is_some_and(since) {
                missing.push(format!("job {} does not see that {} is live", job.id.short(), job.meeting));
            }
        }
        missing.into_iter().for_each(|what| self.flag(Law::Rule, now, what));
    }
}

fn millis(length: Duration) -> Ms {
    Ms::try_from(length.as_millis()).unwrap_or(Ms::MAX)
}
