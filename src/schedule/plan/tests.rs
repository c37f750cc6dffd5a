use std::slice;
use std::time::Duration;

use jiff::tz::TimeZone;
use uuid::Uuid;

use super::super::calendar::Days;
use super::super::expand::Window;
use super::super::recurrence::{Dst, Recurrence};
use super::*;
use crate::job::{By, Change, Fact, InstanceId, Limits, MeetingId, Now, Order, Outcome, ServerName};

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
    let origin = Origin::Schedule { name: entry.identity.clone(), of: entry.of.clone(), planned: entry.at };
    let order = Order {
        id: JobId(Uuid::nil()),
        at_most: None,
        max_duration: None,
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
        Action::Again { entry, .. } => format!("again {} at {}", entry.identity, entry.at),
        Action::Cancel { name, reason, .. } => format!("cancel {name}: {reason}"),
        Action::Miss { name, reason, .. } => format!("miss {name}: {reason}"),
        Action::Skip { name, reason } => format!("skip {name}: {reason}"),
        Action::Refuse { name, reason } => format!("refuse {name}: {reason}"),
    };
    actions.iter().map(tell).collect()
}

/// What nobody can say is gone stays, and the rest goes.
#[test]
fn what_a_feed_may_hide_is_not_cancelled() {
    let event = |uid: &str| Entry { of: Some("lectures".to_owned()), ..entry(uid, NOW + HOUR) };
    let (hidden, gone) = (event("lectures/a/1@math"), event("lectures/b@math"));
    let window = Window { from: NOW, until: NOW + 2 * HOUR };
    let expansion = Expansion {
        standing: [("lectures".to_owned(), window)].into(),
        doubted: ["lectures/a".to_owned()].into(),
        ..Expansion::default()
    };
    let told = told(&planned_for(&expansion, &[job(&hidden), job(&gone)], NOW));
    assert_eq!(told, ["cancel lectures/b@math: its entry does not want it any more"]);
}

#[track_caller]
fn check(entries: &[Entry], jobs: &[Job], expected: &[&str]) {
    check_standing(entries, &[], jobs, expected);
}

/// With standing entries and their windows.
#[track_caller]
fn check_standing(entries: &[Entry], standing: &[(&str, Window)], jobs: &[Job], expected: &[&str]) {
    let standing = standing.iter().map(|(name, window)| ((*name).to_owned(), *window)).collect();
    let expansion = Expansion { entries: entries.to_vec(), standing, ..Expansion::default() };
    assert_eq!(told(&planned_for(&expansion, jobs, NOW)), expected);
}

pub(super) fn planned_for(expansion: &Expansion, jobs: &[Job], now: UtcMs) -> Vec<Action> {
    let is = |job: &&Job, name: &str| matches!(&job.origin, Origin::Schedule { name: n, .. } if n == name);
    let known = |name: &str| {
        let latest = |all: &[Job], open: bool| {
            all.iter().rposition(|job| is(&job, name) && (!open || !job.is_done())).map(|at| &jobs[at])
        };
        latest(jobs, true).or_else(|| latest(jobs, false))
    };
    let open: Vec<Job> = jobs.iter().filter(|job| !job.is_done()).cloned().collect();
    let so_far = |name: &str| reached(jobs.iter().filter(|job| job.is_done()), name);
    plan(expansion, known, so_far, &open, now)
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
    check(
        slice::from_ref(&kept),
        &[job(&kept), job(&gone), done(&over), by_hand],
        &["cancel gone: its entry is gone"],
    );
}

#[test]
fn a_renamed_entry_is_submitted_before_the_old_one_is_cancelled() {
    let old = entry("old", NOW + HOUR);
    check(
        &[entry("new", NOW + HOUR)],
        &[job(&old)],
        &["submit new at 2026-11-01T01:00:00.000Z", "cancel old: its entry is gone"],
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

#[test]
fn what_the_file_cancelled_comes_back_with_its_entry() {
    let ahead = entry("a", NOW + HOUR);
    let cancelled = |by: By| vec![job(&ahead).change(&Change::Cancel, by, at(NOW)).unwrap()];
    let withdrawn = cancelled(By::Schedule);
    check(slice::from_ref(&ahead), &withdrawn, &["again a at 2026-11-01T01:00:00.000Z"]);
    check(&[entry("a", NOW + 2 * HOUR)], &withdrawn, &["again a at 2026-11-01T02:00:00.000Z"]);
    // It is done as far as what has passed is concerned.
    check(
        &[entry("a", NOW - HOUR)],
        &withdrawn,
        &["skip a: its time changed, but job 00000000 is done (cancelled); give it a new name"],
    );
    // A person's word stands.
    check(slice::from_ref(&ahead), &cancelled(By::Peer { uid: 0, pid: None }), &[]);
}

/// An occurrence of `daily`.
fn occurrence(at: UtcMs) -> Entry {
    Entry { of: Some("daily".to_owned()), ..entry(&format!("daily@{}", at.ms_since(NOW) / 3_600_000), at) }
}

#[track_caller]
fn check_daily(entries: &[Entry], jobs: &[Job], expected: &[&str]) {
    let window = Window { from: NOW, until: NOW + 48 * HOUR };
    check_standing(entries, &[("daily", window)], jobs, expected);
}

#[test]
fn a_new_entry_does_not_fire_for_yesterday() {
    let [past, next] = [occurrence(NOW - HOUR), occurrence(NOW + HOUR)];
    let both = [past.clone(), next.clone()];
    check_daily(&both, &[], &["submit daily@1 at 2026-11-01T01:00:00.000Z"]);
    // Nor at any later tick, and nor does one whose expression was edited.
    check_daily(&both, &[job(&next)], &[]);
    check_daily(&both, &[done(&occurrence(NOW - 25 * HOUR)), job(&next)], &[]);
}

#[test]
fn what_a_stopped_daemon_never_made_a_job_is_caught_up_with() {
    let [past, next] = [occurrence(NOW - HOUR), occurrence(NOW + HOUR)];
    let before = done(&occurrence(NOW - 73 * HOUR));
    check_daily(
        &[past.clone(), next.clone()],
        slice::from_ref(&before),
        &["submit daily@-1 at 2026-10-31T23:00:00.000Z", "submit daily@1 at 2026-11-01T01:00:00.000Z"],
    );
    // Older ones that still have a job give way to it.
    let late = job(&occurrence(NOW - 3 * HOUR));
    check_daily(
        &[past, next],
        &[before, late],
        &[
            "submit daily@-1 at 2026-10-31T23:00:00.000Z",
            "submit daily@1 at 2026-11-01T01:00:00.000Z",
            "miss daily@-3: it was found late, and so was a later deadline of its entry (2026-10-31T23:00:00.000Z)",
        ],
    );
}

#[test]
fn of_what_is_found_late_only_the_latest_is_caught_up_with() {
    let late = [5, 1, 3].map(|hours| job(&occurrence(NOW - hours * HOUR)));
    let latest = "it was found late, and so was a later deadline of its entry (2026-10-31T23:00:00.000Z)";
    let misses = [format!("miss daily@-5: {latest}"), format!("miss daily@-3: {latest}")];
    let last = occurrence(NOW - HOUR);
    let window = Window { from: last.at, until: NOW + 48 * HOUR };
    let check_late = |jobs: &[Job], expected: &[&str]| {
        check_standing(slice::from_ref(&last), &[("daily", window)], jobs, expected);
    };
    check_late(&late, &misses.each_ref().map(String::as_str));
    // What is held, or at work, or beyond `late-limit` anyway, is not found late.
    let mut other = late.clone();
    other[0].state = State::Held;
    other[2].state = State::Ending;
    check_late(&other, &[]);
    let beyond = job(&occurrence(NOW - 25 * HOUR));
    check_late(&[beyond, job(&last)], &[]);
    // Another meeting is another matter: an entry may be a calendar of many.
    let elsewhere = Entry { meeting: MeetingId::from("physics"), ..occurrence(NOW - 2 * HOUR) };
    check_late(&[job(&elsewhere), job(&last)], &[]);
}

#[test]
fn occurrences_that_are_not_wanted_any_more() {
    let [kept, moved, far] = [1, 2, 72].map(|hours| occurrence(NOW + hours * HOUR));
    let jobs = [job(&kept), job(&moved), job(&far)];
    check_daily(slice::from_ref(&kept), &jobs, &["cancel daily@2: its entry does not want it any more"]);
    // The whole entry is gone.
    let gone = ["cancel daily@1: its entry is gone", "cancel daily@2: its entry is gone"];
    check_standing(&[], &[], &jobs[..2], &gone);
    // What is at work already is brought to its end.
    let mut ending = job(&moved);
    ending.state = State::Ending;
    check_daily(slice::from_ref(&kept), &[job(&kept), ending], &[]);
}

/// The occurrences of a daily entry in a window of two days, and the entry itself.
fn daily(entries: &[Entry]) -> Expansion {
    let Entry { server, meeting, limits, .. } = entry("daily", NOW);
    let recurrence = Recurrence::new("0 1 * * *", TimeZone::UTC, Dst::Wall).unwrap();
    let name = "daily".to_owned();
    let daily = Recurring { name, server, meeting, recurrence, days: Days::default(), limits };
    let window = Window { from: NOW, until: NOW + 48 * HOUR };
    Expansion {
        entries: entries.to_vec(),
        standing: [("daily".to_owned(), window)].into(),
        recurring: [("daily".to_owned(), daily)].into(),
        ..Expansion::default()
    }
}

/// Of what was found late only the latest is among the entries; the older ones are known by the recurring entry.
#[test]
fn an_older_occurrence_does_not_keep_what_an_edit_has_changed() {
    let next = occurrence(NOW + HOUR);
    for (server, meeting, what) in [("campus", "physics", "meeting"), ("events", "math", "server")] {
        let mut old = job(&occurrence(NOW - 3 * HOUR));
        (old.server, old.meeting) = (server.into(), meeting.into());
        let actions = planned_for(&daily(slice::from_ref(&next)), &[job(&next), old], NOW);
        assert_eq!(told(&actions), [format!("cancel daily@-3: its entry has another {what} now")]);
    }
}

#[test]
fn beyond_the_window_only_what_never_will_be_wanted_goes() {
    let next = occurrence(NOW + HOUR);
    let expansion = daily(slice::from_ref(&next));
    let jobs = [job(&next), job(&occurrence(NOW + 73 * HOUR)), job(&occurrence(NOW + 74 * HOUR))];
    let actions = planned_for(&expansion, &jobs, NOW);
    assert_eq!(told(&actions), ["cancel daily@74: its entry does not want it any more"]);
}

#[test]
fn an_occurrence_that_was_extended_by_hand_keeps_its_time() {
    let next = occurrence(NOW + HOUR);
    let by = By::Peer { uid: 0, pid: None };
    let extended = job(&next).change(&Change::Extend { by: 3 * HOUR }, by, at(NOW)).unwrap();
    check_daily(&[next], &[extended], &[]);
}

#[test]
fn another_meeting_makes_other_jobs_of_the_occurrences() {
    let first = occurrence(NOW + HOUR);
    let other = Entry { meeting: MeetingId::from("physics"), ..first.clone() };
    check_daily(
        slice::from_ref(&other),
        &[job(&first)],
        &["again daily@1 at 2026-11-01T01:00:00.000Z", "cancel daily@1: its entry has another meeting now"],
    );
    check_daily(slice::from_ref(&other), &[done(&first)], &["again daily@1 at 2026-11-01T01:00:00.000Z"]);
    // What is at work is brought to its end, and what has passed is not repeated elsewhere.
    let mut ending = job(&first);
    ending.state = State::Ending;
    check_daily(slice::from_ref(&other), &[ending], &[]);
    let late = occurrence(NOW - HOUR);
    let other = Entry { meeting: MeetingId::from("physics"), ..late.clone() };
    check_daily(&[other], &[job(&late)], &["cancel daily@-1: its entry has another meeting now"]);
}

#[test]
fn an_event_that_moves() {
    let event = |hours: i64| Entry { at: UtcMs(NOW.0 + hours * 3_600_000), ..occurrence(NOW) };
    let later = "2026-11-01T03:00:00.000Z";
    check_daily(&[event(3)], &[job(&event(1))], &[&format!("move daily@0 to {later}")]);
    check_daily(&[event(3)], &[done(&event(-1))], &[&format!("again daily@0 at {later}")]);
    check_daily(&[event(-1)], &[done(&event(-2))], &[]);
    check_daily(
        &[event(-1)],
        &[job(&event(1))],
        &[
            "again daily@0 at 2026-10-31T23:00:00.000Z",
            "cancel daily@0: its new time 2026-10-31T23:00:00.000Z has passed",
        ],
    );
    check_daily(
        &[event(-30)],
        &[job(&event(1))],
        &["cancel daily@0: its new time 2026-10-30T18:00:00.000Z has passed"],
    );
    let mut ending = job(&event(-1));
    ending.state = State::Ending;
    check_daily(&[event(3)], &[ending], &[&format!("move daily@0 to {later}")]);
}

#[test]
fn changed_limits_are_told_once_an_entry() {
    let occurrences = [1, 2, 3].map(|hours| occurrence(NOW + hours * HOUR));
    let jobs = occurrences.each_ref().map(job);
    let changed = occurrences.map(|mut entry| {
        entry.limits.keep_closed = HOUR;
        entry
    });
    check_daily(&changed, &jobs, &["skip daily: its limits changed; they count for new jobs only"]);
}
