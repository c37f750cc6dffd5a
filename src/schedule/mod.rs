//! The entries of the schedule file against the jobs that there are: what to submit, move and cancel. Pure.
//!
//! An entry is known by its identity, whatever else changes about it; a job that came from one keeps the time that the
//! file gave (`Origin::Schedule.planned`). Comparing the two tells an edit of the file, which moves the job, from an
//! extension by hand, which the file must not undo at the next start. What is done stays done.

mod calendar;
mod expand;
mod feed;
mod model;
mod recurrence;
pub mod rule;

use std::collections::BTreeSet;

pub use self::calendar::{Calendar, Calendars, Days};
pub use self::expand::{Expansion, Window, expand, occurrence_entry};
pub use self::feed::{Feeds, Source};
pub use self::model::{CalendarEnd, Entry, Exempt, Recurring, Rule, Schedule, Select};
pub use self::recurrence::{Dst, DstNote, MAX_CRON, Occurrence, Recurrence, RecurrenceError};

use crate::job::{Job, JobId, Origin, State, UtcMs};

/// What to do about one entry, or about a job whose entry is gone. What is in order needs no action.
#[derive(Clone, PartialEq, Debug)]
pub enum Action {
    Submit(Entry),
    /// The file gives another time than when the job was submitted or last moved by it.
    Move {
        job: JobId,
        name: String,
        to: UtcMs,
    },
    /// The entry is gone.
    Cancel {
        job: JobId,
        name: String,
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
/// come from the schedule file are left alone. Submits and moves come first, in the order of the entries, so that a
/// meeting whose entry was renamed is never without a deadline.
pub fn plan<'a>(
    expansion: &Expansion,
    known: impl Fn(&str) -> Option<&'a Job>,
    open: &[Job],
    now: UtcMs,
) -> Vec<Action> {
    let entries = &expansion.entries;
    let mut actions: Vec<Action> =
        entries.iter().filter_map(|entry| for_entry(entry, known(&entry.identity), now)).collect();
    let wanted: BTreeSet<&str> = entries.iter().map(|entry| entry.identity.as_str()).collect();
    actions.extend(open.iter().filter_map(|job| for_orphan(job, &wanted)));
    actions
}

fn for_entry(entry: &Entry, job: Option<&Job>, now: UtcMs) -> Option<Action> {
    let Some(job) = job else { return Some(for_new(entry, now)) };
    let changed = changed(entry, job);
    match (job.is_done(), changed) {
        // Another meeting under an old name: the name is free again.
        (true, Some(_)) => Some(for_new(entry, now)),
        (true, None) => for_done(entry, job),
        (false, Some(what)) => Some(Action::Refuse {
            name: entry.identity.clone(),
            reason: format!(
                "its {what} changed while job {} is {}; give the entry a new name, or cancel the job first",
                job.id.short(),
                job.state
            ),
        }),
        (false, None) => for_open(entry, job, now),
    }
}

fn for_new(entry: &Entry, now: UtcMs) -> Action {
    if is_too_late(entry, now) {
        return skip(entry, format!("{} has passed by more than late-limit", entry.at));
    }
    Action::Submit(entry.clone())
}

fn for_done(entry: &Entry, job: &Job) -> Option<Action> {
    if planned(job) == entry.at {
        return None;
    }
    let outcome = job.outcome.map_or("done", |outcome| outcome.as_str());
    let reason =
        format!("its time changed, but job {} is done ({outcome}); give it a new name", job.id.short());
    Some(skip(entry, reason))
}

fn for_open(entry: &Entry, job: &Job, now: UtcMs) -> Option<Action> {
    if planned(job) == entry.at {
        let reason = || "its limits changed; they count for new jobs only".to_owned();
        return (entry.limits != job.limits).then(|| skip(entry, reason()));
    }
    if matches!(job.state, State::Confirming | State::Guarding) {
        return Some(skip(entry, format!("its time changed, but job {} has called the end", job.id.short())));
    }
    if is_too_late(entry, now) {
        let reason = format!(
            "its new time {} has passed by more than late-limit; job {} stays due at {}",
            entry.at,
            job.id.short(),
            job.due
        );
        return Some(skip(entry, reason));
    }
    Some(Action::Move { job: job.id, name: entry.identity.clone(), to: entry.at })
}

fn for_orphan(job: &Job, wanted: &BTreeSet<&str>) -> Option<Action> {
    let Origin::Schedule { name, .. } = &job.origin else { return None };
    let gone = !job.is_done() && !wanted.contains(name.as_str());
    gone.then(|| Action::Cancel { job: job.id, name: name.clone() })
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

/// The time that the file gave. A job that took the name without coming from a file is compared by its due.
fn planned(job: &Job) -> UtcMs {
    match &job.origin {
        Origin::Schedule { planned, .. } => *planned,
        _ => job.due,
    }
}

fn is_too_late(entry: &Entry, now: UtcMs) -> bool {
    entry.at + entry.limits.late_limit < now
}

fn skip(entry: &Entry, reason: String) -> Action {
    Action::Skip { name: entry.identity.clone(), reason }
}

#[cfg(test)]
mod tests {
    use std::slice;
    use std::time::Duration;

    use uuid::Uuid;

    use super::*;
    use crate::job::{By, Fact, InstanceId, Limits, MeetingId, Now, Order, Outcome, ServerName};

    const NOW: UtcMs = UtcMs(1_793_491_200_000);
    const HOUR: Duration = Duration::from_secs(3600);

    fn entry(name: &str, at: UtcMs) -> Entry {
        Entry {
            identity: name.to_owned(),
            of: None,
            server: ServerName::from("campus"),
            meeting: MeetingId::from("math"),
            instance: None,
            at,
            limits: Limits::default(),
        }
    }

    fn at(wall: UtcMs) -> Now {
        Now { wall, ..Now::default() }
    }

    /// The job that `entry` was submitted as.
    fn job(entry: &Entry) -> Job {
        let origin =
            Origin::Schedule { name: entry.identity.clone(), of: entry.of.clone(), planned: entry.at };
        let order = Order {
            id: JobId(Uuid::nil()),
            server: entry.server.clone(),
            meeting: entry.meeting.clone(),
            only: entry.instance.clone(),
            key: None,
            limits: entry.limits.clone(),
            due: entry.at,
            origin,
            by: By::Schedule,
        };
        Job::submit(order, at(NOW))
    }

    fn done(entry: &Entry) -> Job {
        let mut job = job(entry);
        job.record(at(NOW), Fact::Concluded { outcome: Outcome::Ended, reason: String::new() });
        job
    }

    /// One line an action: the verb, the name, and what matters.
    fn told(actions: &[Action]) -> Vec<String> {
        let tell = |action: &Action| match action {
            Action::Submit(entry) => format!("submit {} at {}", entry.identity, entry.at),
            Action::Move { name, to, .. } => format!("move {name} to {to}"),
            Action::Cancel { name, .. } => format!("cancel {name}"),
            Action::Miss { name, reason, .. } => format!("miss {name}: {reason}"),
            Action::Skip { name, reason } => format!("skip {name}: {reason}"),
            Action::Refuse { name, reason } => format!("refuse {name}: {reason}"),
        };
        actions.iter().map(tell).collect()
    }

    #[track_caller]
    fn check(entries: &[Entry], jobs: &[Job], expected: &[&str]) {
        let is =
            |job: &&Job, name: &str| matches!(&job.origin, Origin::Schedule { name: n, .. } if n == name);
        let known = |name: &str| jobs.iter().find(|job| is(job, name));
        let open: Vec<Job> = jobs.iter().filter(|job| !job.is_done()).cloned().collect();
        let expansion = Expansion { entries: entries.to_vec(), ..Expansion::default() };
        assert_eq!(told(&plan(&expansion, known, &open, NOW)), expected);
    }

    #[test]
    fn new_entries() {
        check(&[entry("a", NOW + HOUR)], &[], &["submit a at 2026-11-01T01:00:00.000Z"]);
        check(&[entry("a", NOW - HOUR)], &[], &["submit a at 2026-10-31T23:00:00.000Z"]);
        check(&[entry("a", NOW - 24 * HOUR)], &[], &["submit a at 2026-10-31T00:00:00.000Z"]);
        check(
            &[entry("a", NOW - 25 * HOUR)],
            &[],
            &["skip a: 2026-10-30T23:00:00.000Z has passed by more than late-limit"],
        );
        let mut never_late = entry("a", NOW - Duration::from_millis(1));
        never_late.limits.late_limit = Duration::ZERO;
        check(&[never_late], &[], &["skip a: 2026-10-31T23:59:59.999Z has passed by more than late-limit"]);
    }

    #[test]
    fn a_restart_changes_nothing() {
        let [open, over] = [entry("open", NOW + HOUR), entry("over", NOW - 50 * HOUR)];
        check(&[open.clone(), over.clone()], &[job(&open), done(&over)], &[]);
    }

    #[test]
    fn an_edit_moves_and_a_restart_does_not_reset_an_extension() {
        let planned = entry("a", NOW + HOUR);
        let edited = entry("a", NOW + 2 * HOUR);
        check(slice::from_ref(&edited), &[job(&planned)], &["move a to 2026-11-01T02:00:00.000Z"]);

        let mut extended = job(&planned);
        let by = By::Peer { uid: 0, pid: None };
        extended.record(at(NOW), Fact::Moved { to: NOW + 3 * HOUR, extension: true, by });
        check(slice::from_ref(&planned), slice::from_ref(&extended), &[]);
        check(slice::from_ref(&edited), &[extended], &["move a to 2026-11-01T02:00:00.000Z"]);

        let mut moved = job(&planned);
        moved.record(at(NOW), Fact::Moved { to: edited.at, extension: false, by: By::Schedule });
        check(&[edited], slice::from_ref(&moved), &[]);
        check(&[planned], &[moved], &["move a to 2026-11-01T01:00:00.000Z"]);
    }

    #[test]
    fn an_edit_into_the_past() {
        let planned = job(&entry("a", NOW + HOUR));
        check(&[entry("a", NOW - HOUR)], slice::from_ref(&planned), &["move a to 2026-10-31T23:00:00.000Z"]);
        check(
            &[entry("a", NOW - 25 * HOUR)],
            &[planned],
            &[
                "skip a: its new time 2026-10-30T23:00:00.000Z has passed by more than late-limit; job 00000000 stays \
               due at 2026-11-01T01:00:00.000Z",
            ],
        );
    }

    #[test]
    fn an_edit_after_the_call() {
        let mut confirming = job(&entry("a", NOW));
        confirming.state = State::Confirming;
        check(
            &[entry("a", NOW + HOUR)],
            &[confirming],
            &["skip a: its time changed, but job 00000000 has called the end"],
        );
    }

    #[test]
    fn held_and_ending_jobs_are_moved_too() {
        for state in [State::Held, State::Ending] {
            let mut job = job(&entry("a", NOW));
            job.state = state;
            check(&[entry("a", NOW + HOUR)], &[job], &["move a to 2026-11-01T01:00:00.000Z"]);
        }
    }

    #[test]
    fn a_time_changed_after_the_end_is_told() {
        check(
            &[entry("a", NOW + HOUR)],
            &[done(&entry("a", NOW - HOUR))],
            &["skip a: its time changed, but job 00000000 is done (ended); give it a new name"],
        );
    }

    #[test]
    fn entries_that_are_gone() {
        let [kept, gone, over] = ["kept", "gone", "over"].map(|name| entry(name, NOW + HOUR));
        let mut by_hand = job(&gone);
        by_hand.origin = Origin::Cli;
        check(slice::from_ref(&kept), &[job(&kept), job(&gone), done(&over), by_hand], &["cancel gone"]);
    }

    #[test]
    fn a_renamed_entry_is_submitted_before_the_old_one_is_cancelled() {
        let old = entry("old", NOW + HOUR);
        check(
            &[entry("new", NOW + HOUR)],
            &[job(&old)],
            &["submit new at 2026-11-01T01:00:00.000Z", "cancel old"],
        );
    }

    #[test]
    fn another_meeting_under_the_same_name() {
        let first = entry("a", NOW + HOUR);
        let other_meeting = Entry { meeting: MeetingId::from("physics"), ..first.clone() };
        let other_server = Entry { server: ServerName::from("events"), ..first.clone() };
        let other_instance = Entry { instance: Some(InstanceId::from("i-1")), ..first.clone() };
        for (changed, what) in
            [(other_meeting, "meeting"), (other_server, "server"), (other_instance, "instance")]
        {
            let refused = format!(
                "refuse a: its {what} changed while job 00000000 is waiting; give the entry a new name, or cancel the \
                 job first"
            );
            check(slice::from_ref(&changed), &[job(&first)], &[&refused]);
            check(&[changed], &[done(&first)], &["submit a at 2026-11-01T01:00:00.000Z"]);
        }
    }

    #[test]
    fn changed_limits_are_told() {
        let first = entry("a", NOW + HOUR);
        let mut changed = first.clone();
        changed.limits.keep_closed = HOUR;
        check(&[changed], &[job(&first)], &["skip a: its limits changed; they count for new jobs only"]);
    }
}
