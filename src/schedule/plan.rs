//! The entries of the schedule file against the jobs that there are: what to submit, move, cancel and miss. Pure.
//!
//! An entry is known by its identity, whatever else changes about it; a job that came from one keeps the time that the
//! file gave (`Origin::Schedule.planned`). Comparing the two tells an edit of the file, which moves the job, from an
//! extension by hand, which the file must not undo at the next start. What is done stays done, except that a job which
//! the file itself had cancelled comes back with its entry.
//!
//! Of a standing entry (recurring, calendar) the occurrences within the [window](super::Window) are known completely: a
//! job that is not among them is not wanted any more, unless what cannot be read in a feed may hide it. One outside of it
//! is left alone, unless it never will be wanted.
//!
//! **What has passed.** A deadline that passes has a job long before. One without a job was missed by a daemon that did not
//! run for longer than `ahead`, or belongs to an entry that is new, or back, or was edited: nobody expects a new entry to
//! fire for yesterday. So it is submitted only if it lies after every deadline of its entry that ever became a job. And of
//! all that was found late of one entry and meeting only the latest deadline is caught up with; the others are missed.
//!
//! Applied, a plan leaves nothing to plan: the same again, at every tick, comes to nothing. Remarks on a single entry
//! ([`Action::Skip`], [`Action::Refuse`]) are there as long as their cause is; they are for whoever reloads.

use std::collections::{BTreeMap, BTreeSet};

use super::expand::Expansion;
use super::model::{Entry, Recurring};
use super::rule;
use crate::job::{Fact, Job, JobId, MeetingId, Origin, ServerName, State, UtcMs};

/// What to do about one entry, or about a job whose entry is gone. What is in order needs no action.
#[derive(Clone, PartialEq, Debug)]
pub enum Action {
    Submit(Entry),
    /// The same, though there is a job under this identity already, which is, or is to be, cancelled: it needs an
    /// idempotency key of its own.
    Again {
        entry: Entry,
        after: JobId,
    },
    /// The file gives another time than when the job was submitted or last moved by it.
    Move {
        job: JobId,
        name: String,
        to: UtcMs,
    },
    /// The entry is gone, or does not want this one any more.
    Cancel {
        job: JobId,
        name: String,
        /// One clause: `its entry is gone`.
        reason: String,
    },
    /// An occurrence that was found late, of an entry that has a later one: only that one catches up.
    Miss {
        job: JobId,
        name: String,
        reason: String,
    },
    /// Nothing happens, and somebody may wonder why.
    Skip {
        name: String,
        reason: String,
    },
    /// The entry asks for what cannot be done to the job of its name; an error that the operator must hear.
    Refuse {
        name: String,
        reason: String,
    },
}

/// Compares the entries with the jobs.
///
/// `known` gives the latest job of an identity, open or done. `open` are the jobs that are not done; those that did not
/// come from the schedule file are left alone. `reached` gives what [`reached()`] says of all done jobs of a standing entry;
/// it is asked only about an occurrence that has passed without a job, which is rare. Submits and moves come first, in the
/// order of the entries, so that a meeting whose entry was renamed is never without a deadline.
pub fn plan<'a>(
    expansion: &Expansion,
    known: impl Fn(&str) -> Option<&'a Job>,
    reached: impl Fn(&str) -> Option<UtcMs>,
    open: &[Job],
    now: UtcMs,
) -> Vec<Action> {
    let entries = &expansion.entries;
    let mut planner = Planner {
        expansion,
        wanted: entries.iter().map(|entry| (entry.identity.as_str(), entry)).collect(),
        catch_up: BTreeMap::new(),
        now,
    };
    let mut submitted = BTreeMap::new();
    for job in open {
        if let Origin::Schedule { of: Some(of), planned, .. } = &job.origin {
            let latest = submitted.entry(of.as_str()).or_insert(*planned);
            *latest = (*planned).max(*latest);
        }
        planner.note_late(job);
    }
    for entry in entries.iter().filter(|entry| entry.at <= now && known(&entry.identity).is_none()) {
        let Some(of) = &entry.of else { continue };
        let open = submitted.get(of.as_str()).copied();
        if open.is_none_or(|open| open < entry.at)
            && open.max(reached(of)).is_some_and(|last| last < entry.at)
        {
            planner.note_passed(entry, of);
        }
    }
    let mut actions: Vec<Action> =
        entries.iter().filter_map(|entry| planner.for_entry(entry, known(&entry.identity))).collect();
    actions.extend(open.iter().filter_map(|job| planner.for_job(job)));
    tell_once(&mut actions);
    actions
}

/// Until when the occurrences of a standing entry have been made jobs, by the jobs that it made. `None`: never, or the file
/// took the last one back and left none, so that the entry was gone meanwhile and begins anew.
pub fn reached<'a>(jobs: impl IntoIterator<Item = &'a Job>, standing: &str) -> Option<UtcMs> {
    let is_of = |job: &&Job| matches!(&job.origin, Origin::Schedule { of: Some(of), .. } if of == standing);
    let jobs: Vec<&Job> = jobs.into_iter().filter(is_of).collect();
    let last = jobs.iter().max_by_key(|job| (job.submitted.wall, job.id))?;
    if last.was_withdrawn() {
        let at = concluded(last)?;
        // An entry that was only edited kept what it still wanted then.
        let outlived = |job: &&Job| !job.was_withdrawn() && planned(job) > at && concluded(job) > Some(at);
        jobs.iter().copied().find(outlived)?;
    }
    jobs.into_iter().filter(|job| !job.was_withdrawn()).map(planned).max()
}

/// When it came to its end.
fn concluded(job: &Job) -> Option<UtcMs> {
    let conclusion = job.history.recent.iter().rev().find(|it| matches!(it.fact, Fact::Concluded { .. }));
    conclusion.map(|entry| entry.at.wall)
}

/// Of these jobs, those that were found late and are missed, each with the reason, as a later one of the same entry and
/// meeting was found late, too. The same as in a plan, for when there is none.
pub fn overtaken<'a>(jobs: impl IntoIterator<Item = &'a Job>, now: UtcMs) -> BTreeMap<JobId, String> {
    let jobs: Vec<(Group, &Job)> =
        jobs.into_iter().filter_map(|job| Some((at_stake(job, now)?, job))).collect();
    let mut latest: BTreeMap<&Group, UtcMs> = BTreeMap::new();
    for (group, job) in &jobs {
        let known = latest.entry(group).or_insert(job.due);
        *known = job.due.max(*known);
    }
    let missed = jobs.iter().filter_map(|(group, job)| {
        let latest = *latest.get(group)?;
        let overtaken = job.due < latest && found_late(job, now).is_some();
        overtaken.then(|| (job.id, overtaken_by(latest)))
    });
    missed.collect()
}

/// Deadlines of one entry on one meeting.
type Group = (String, ServerName, MeetingId);

struct Planner<'a> {
    expansion: &'a Expansion,
    wanted: BTreeMap<&'a str, &'a Entry>,
    /// Of what was found late: the one deadline that is caught up with.
    catch_up: BTreeMap<Group, UtcMs>,
    now: UtcMs,
}

impl Planner<'_> {
    fn note_late(&mut self, job: &Job) {
        if let Some(group) = at_stake(job, self.now).filter(|_| self.unwanted(job).is_none()) {
            self.note(group, job.due);
        }
    }

    /// An occurrence that has passed without a job, after all those that had one.
    fn note_passed(&mut self, entry: &Entry, of: &str) {
        if !self.is_too_late(entry) {
            self.note((of.to_owned(), entry.server.clone(), entry.meeting.clone()), entry.at);
        }
    }

    fn note(&mut self, group: Group, at: UtcMs) {
        let latest = self.catch_up.entry(group).or_insert(at);
        *latest = at.max(*latest);
    }

    /// The group of a job that was found late and is about to be caught up with.
    fn late(&self, job: &Job) -> Option<Group> {
        found_late(job, self.now).filter(|_| self.unwanted(job).is_none())
    }

    fn for_entry(&self, entry: &Entry, job: Option<&Job>) -> Option<Action> {
        match job {
            None => self.for_new(entry),
            Some(job) if job.is_done() => self.for_done(entry, job),
            Some(job) if entry.of.is_some() => self.for_open_occurrence(entry, job),
            Some(job) => self.for_open(entry, job),
        }
    }

    fn for_new(&self, entry: &Entry) -> Option<Action> {
        if let Some(of) = &entry.of
            && entry.at <= self.now
        {
            let group = (of.clone(), entry.server.clone(), entry.meeting.clone());
            let caught_up = self.catch_up.get(&group) == Some(&entry.at);
            return caught_up.then(|| Action::Submit(entry.clone()));
        }
        if self.is_too_late(entry) {
            return Some(skip(entry, format!("{} has passed by more than late-limit", entry.at)));
        }
        Some(Action::Submit(entry.clone()))
    }

    fn for_done(&self, entry: &Entry, job: &Job) -> Option<Action> {
        let again = || Action::Again { entry: entry.clone(), after: job.id };
        let ahead = entry.at > self.now;
        let changed = changed(entry, job).is_some();
        // An event that moved on after its meeting was ended is a new deadline.
        let moved = entry.of.is_some() && (changed || planned(job) != entry.at);
        if ahead && (moved || job.was_withdrawn()) {
            return Some(again());
        }
        if entry.of.is_some() {
            return None;
        }
        // Another meeting under an old name: the name is free again.
        if changed {
            return self.for_new(entry);
        }
        if planned(job) == entry.at {
            return None;
        }
        let outcome = job.outcome.map_or("done", |outcome| outcome.as_str());
        let reason =
            format!("its time changed, but job {} is done ({outcome}); give it a new name", job.id.short());
        Some(skip(entry, reason))
    }

    fn for_open(&self, entry: &Entry, job: &Job) -> Option<Action> {
        if let Some(what) = changed(entry, job) {
            let reason = format!(
                "its {what} changed while job {} is {}; give the entry a new name, or cancel the job first",
                job.id.short(),
                job.state
            );
            return Some(Action::Refuse { name: entry.identity.clone(), reason });
        }
        if planned(job) == entry.at {
            return about_limits(entry, job);
        }
        if matches!(job.state, State::Confirming | State::Guarding) {
            let reason = format!("its time changed, but job {} has called the end", job.id.short());
            return Some(skip(entry, reason));
        }
        if self.is_too_late(entry) {
            let reason = format!(
                "its new time {} has passed by more than late-limit; job {} stays due at {}",
                entry.at,
                job.id.short(),
                job.due
            );
            return Some(skip(entry, reason));
        }
        Some(move_to(entry, job))
    }

    /// What cannot be changed in a job makes another one of it: nobody should have to name every occurrence anew.
    fn for_open_occurrence(&self, entry: &Entry, job: &Job) -> Option<Action> {
        let ahead = entry.at > self.now;
        let changed = changed(entry, job).is_some();
        if self.unwanted(job).is_some() {
            let wanted = ahead || !(changed || self.is_too_late(entry));
            return wanted.then(|| Action::Again { entry: entry.clone(), after: job.id });
        }
        if planned(job) == entry.at {
            return about_limits(entry, job).filter(|_| !changed);
        }
        (ahead && !changed && job.unsent()).then(|| move_to(entry, job))
    }

    fn for_job(&self, job: &Job) -> Option<Action> {
        let Origin::Schedule { name, .. } = &job.origin else { return None };
        let name = name.clone();
        if let Some(reason) = self.unwanted(job) {
            return Some(Action::Cancel { job: job.id, name, reason });
        }
        let latest = *self.catch_up.get(&self.late(job)?)?;
        (job.due < latest).then(|| Action::Miss { job: job.id, name, reason: overtaken_by(latest) })
    }

    /// Why a job should not be there, if so.
    fn unwanted(&self, job: &Job) -> Option<String> {
        let Origin::Schedule { name, of, planned } = &job.origin else { return None };
        // What a sweep made is for the next sweep to withdraw: it knows what is live.
        if job.is_done() || rule::is_from_sweep(job) {
            return None;
        }
        if let Some(entry) = self.wanted.get(name.as_str()) {
            return self.is_another(entry, job).filter(|_| is_undecided(job));
        }
        let standing = of.as_ref().unwrap_or(name);
        let Some(window) = self.expansion.standing.get(standing) else {
            return Some("its entry is gone".to_owned());
        };
        if !is_undecided(job) {
            return None;
        }
        let recurring = self.expansion.recurring.get(standing);
        // Outside the window too: of an entry that was edited while the daemon was down, older deadlines are late.
        if let Some(what) = recurring.and_then(|recurring| moved_away(recurring, job)) {
            return Some(another(what));
        }
        let never =
            || *planned > window.until && recurring.is_some_and(|entry| !entry.recurrence.fires_at(*planned));
        let gone = || window.holds(*planned) && !self.expansion.doubts(name);
        (gone() || never()).then(|| "its entry does not want it any more".to_owned())
    }

    /// The occurrence is not what its job was made for, and the job cannot become it.
    fn is_another(&self, entry: &Entry, job: &Job) -> Option<String> {
        entry.of.as_ref()?;
        if let Some(what) = changed(entry, job) {
            return Some(another(what));
        }
        let passed = planned(job) != entry.at && entry.at <= self.now && job.state == State::Waiting;
        passed.then(|| format!("its new time {} has passed", entry.at))
    }

    fn is_too_late(&self, entry: &Entry) -> bool {
        entry.at + entry.limits.late_limit < self.now
    }
}

/// The group of a job that was found late, but not too late, and is waiting.
fn found_late(job: &Job, now: UtcMs) -> Option<Group> {
    at_stake(job, now).filter(|_| job.state == State::Waiting && is_undecided(job))
}

/// The same for one that is being caught up with already, too.
fn at_stake(job: &Job, now: UtcMs) -> Option<Group> {
    let Origin::Schedule { of: Some(of), .. } = &job.origin else { return None };
    let late = job.due < now && now <= job.due + job.limits.late_limit;
    let at_work = matches!(job.state, State::Waiting | State::Ending | State::Confirming);
    (late && at_work && job.only.is_none()).then(|| (of.clone(), job.server.clone(), job.meeting.clone()))
}

fn overtaken_by(latest: UtcMs) -> String {
    format!("it was found late, and so was a later deadline of its entry ({latest})")
}

/// Nothing has happened yet that a cancel would have to explain.
pub fn is_undecided(job: &Job) -> bool {
    matches!(job.state, State::Waiting | State::Held) && job.unsent() && job.claimed.is_none()
}

fn about_limits(entry: &Entry, job: &Job) -> Option<Action> {
    let reason = || "its limits changed; they count for new jobs only".to_owned();
    let name = entry.of.as_ref().unwrap_or(&entry.identity);
    (entry.limits != job.limits).then(|| Action::Skip { name: name.clone(), reason: reason() })
}

/// What an entry and its job disagree on that cannot be changed in a job.
fn changed(entry: &Entry, job: &Job) -> Option<&'static str> {
    if entry.server != job.server {
        return Some("server");
    }
    if entry.meeting != job.meeting {
        return Some("meeting");
    }
    (entry.instance != job.only).then_some("instance")
}

/// The same of an occurrence, as far as its recurring entry tells.
fn moved_away(recurring: &Recurring, job: &Job) -> Option<&'static str> {
    if recurring.server != job.server {
        return Some("server");
    }
    (recurring.meeting != job.meeting).then_some("meeting")
}

fn another(what: &str) -> String {
    format!("its entry has another {what} now")
}

/// The time that the file gave. A job that took the name without coming from a file is compared by its due.
fn planned(job: &Job) -> UtcMs {
    match &job.origin {
        Origin::Schedule { planned, .. } => *planned,
        _ => job.due,
    }
}

fn move_to(entry: &Entry, job: &Job) -> Action {
    Action::Move { job: job.id, name: entry.identity.clone(), to: entry.at }
}

fn skip(entry: &Entry, reason: String) -> Action {
    Action::Skip { name: entry.identity.clone(), reason }
}

/// What is to be said of all occurrences is said of their entry, once.
fn tell_once(actions: &mut Vec<Action>) {
    let mut told = BTreeSet::new();
    actions.retain(|action| match action {
        Action::Skip { name, reason } => told.insert((name.clone(), reason.clone())),
        _ => true,
    });
}

#[cfg(test)]
mod laws;
#[cfg(test)]
mod tests;
