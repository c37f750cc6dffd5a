//! The pure preview, at a fixed time.

use std::convert::Infallible;
use std::time::Duration;

use uuid::Uuid;

use super::super::calendar::{Calendar, DateRange, Days};
use super::super::recurrence::{Dst, Recurrence};
use super::*;
use crate::job::{By, Change, Fact, Now, Order};

const HOUR: Duration = Duration::from_secs(3600);

fn at(text: &str) -> UtcMs {
    text.parse::<jiff::Timestamp>().unwrap().into()
}

/// A Monday, 09:00 in Berlin.
fn now() -> UtcMs {
    at("2026-03-23T08:00:00Z")
}

fn entry(name: &str, at: UtcMs) -> Entry {
    Entry {
        identity: name.to_owned(),
        of: None,
        server: "campus".into(),
        meeting: name.into(),
        instance: None,
        at,
        limits: Limits::default(),
    }
}

fn recurring(name: &str, cron: &str) -> Recurring {
    let zone = TimeZone::get("Europe/Berlin").unwrap();
    Recurring {
        name: name.to_owned(),
        server: "campus".into(),
        meeting: name.into(),
        recurrence: Recurrence::new(cron, zone, Dst::Wall).unwrap(),
        days: Days::default(),
        limits: Limits::default(),
    }
}

/// A calendar of one day.
fn holiday(day: &str) -> Calendar {
    Calendar { dates: vec![DateRange::parse(day).unwrap()], ..Calendar::default() }
}

fn job(n: u128, entry: &Entry) -> Job {
    let origin = Origin::Schedule { name: entry.identity.clone(), of: entry.of.clone(), planned: entry.at };
    let order = Order {
        id: JobId(Uuid::from_u128(n)),
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
    Job::submit(order, Now { wall: now(), ..Now::default() })
}

fn change(job: &Job, change: &Change) -> Job {
    job.change(change, By::Peer { uid: 1000, pid: None }, Now { wall: now(), ..Now::default() }).unwrap()
}

/// The next `days`, with these jobs in the queue, open ones and done ones.
fn look(schedule: &Schedule, jobs: &[Job], days: u64) -> Preview {
    let until = now() + 24 * HOUR * u32::try_from(days).unwrap();
    look_at(schedule, jobs, &Span { now: now(), until, server: None })
}

fn look_at(schedule: &Schedule, jobs: &[Job], span: &Span) -> Preview {
    let open = |job: &&Job| !job.is_done() && job.due <= span.until && span.is_asked_for(&job.server);
    let open = Open { jobs: jobs.iter().filter(open).cloned().collect(), ..Open::default() };
    let known = |entry: &Entry| {
        let made = jobs.iter().filter(|job| identity(job) == Some(&entry.identity));
        Ok::<_, Infallible>(made.max_by_key(|job| !job.is_done()).cloned())
    };
    let Ok(preview) = preview(schedule, &Feeds::default(), span, open, known);
    preview
}

/// One line an item.
fn told(preview: &Preview) -> Vec<String> {
    let tell = |item: &Item| {
        let at = item.local.clone().unwrap_or_else(|| item.due.to_string());
        let job = item.job.map_or_else(String::new, |id| format!(" job {}", id.short()));
        let warnings: Vec<String> = item.warnings.iter().map(|Instant(at)| format!(" warns {at}")).collect();
        let kind = format!("{:?}", item.kind).to_lowercase();
        let notes =
            if item.notes.is_empty() { String::new() } else { format!(": {}", item.notes.join("; ")) };
        let origin = &item.origin;
        format!("{at} {}/{} {kind} {origin}{job}{}{notes}", item.server, item.meeting, warnings.concat())
    };
    preview.items.iter().map(tell).collect()
}

#[track_caller]
fn check(schedule: &Schedule, jobs: &[Job], days: u64, expected: &[&str]) {
    assert_eq!(told(&look(schedule, jobs, days)), expected);
}

#[test]
fn what_is_not_live_any_more_is_counted_and_not_shown() {
    let jobs = [job(1, &entry("here", now() + HOUR)), job(2, &entry("gone", now() + HOUR))];
    let open = Open { jobs: jobs.to_vec(), gone: [jobs[1].id].into(), ..Open::default() };
    let span = Span { now: now(), until: now() + 2 * HOUR, server: None };
    let known = |_: &Entry| Ok::<_, Infallible>(None);
    let Ok(seen) = preview(&Schedule::default(), &Feeds::default(), &span, open, known);
    let shown: Vec<&str> = seen.items.iter().map(|item| item.meeting.as_str()).collect();
    assert_eq!(shown, ["here"]);
    assert!(seen.notes[0].starts_with("1 deadline of a rule is not shown: "), "{:?}", seen.notes);
}

#[test]
fn entries_and_occurrences_in_the_order_of_their_times() {
    let mut exam = entry("exam", at("2026-03-24T09:00:00Z"));
    exam.limits.warn = vec![Duration::from_secs(600), 26 * HOUR];
    let schedule = Schedule {
        entries: vec![entry("past", now()), exam, entry("later", now() + 72 * HOUR)],
        recurring: vec![recurring("standup", "15 10 * * Mon-Fri")],
        ..Schedule::default()
    };
    let expected = [
        "2026-03-23T10:15:00+01:00[Europe/Berlin] campus/standup planned schedule:standup",
        // A warning whose time has passed is not to come.
        "2026-03-24T09:00:00.000Z campus/exam planned schedule:exam warns 2026-03-24T08:50:00.000Z",
        "2026-03-24T10:15:00+01:00[Europe/Berlin] campus/standup planned schedule:standup",
    ];
    // The first of them is at 09:15 UTC, the exam at 09:00 on the next day.
    check(&schedule, &[], 2, &expected);
}

#[test]
fn the_days_on_which_the_clocks_change_are_explained() {
    let schedule = Schedule { recurring: vec![recurring("night", "30 2 * * *")], ..Schedule::default() };
    let told = told(&look(&schedule, &[], 7));
    assert_eq!(
        told[4..],
        [
            "2026-03-28T02:30:00+01:00[Europe/Berlin] campus/night planned schedule:night",
            "2026-03-29T03:00:00+02:00[Europe/Berlin] campus/night planned schedule:night: 02:30 does not exist on \
             that day: moved to 03:00",
            "2026-03-30T02:30:00+02:00[Europe/Berlin] campus/night planned schedule:night",
        ]
    );
}

/// The occurrence of Monday as an entry.
fn monday(standup: &Recurring) -> Entry {
    expand::occurrence_entry(standup, at("2026-03-23T09:15:00Z"))
}

#[test]
fn a_job_stands_for_its_occurrence_and_knows_of_extensions() {
    let standup = recurring("standup", "15 10 * * *");
    let schedule = Schedule { recurring: vec![standup.clone()], ..Schedule::default() };
    let made = job(7, &monday(&standup));
    let planned = "2026-03-24T10:15:00+01:00[Europe/Berlin] campus/standup planned schedule:standup";
    let as_job = "2026-03-23T10:15:00+01:00[Europe/Berlin] campus/standup job schedule:standup job 00000007";
    check(&schedule, std::slice::from_ref(&made), 2, &[as_job, planned]);

    let extended = change(&made, &Change::Extend { by: 2 * HOUR });
    let preview = look(&schedule, std::slice::from_ref(&extended), 1);
    assert_eq!(
        told(&preview),
        ["2026-03-23T12:15:00+01:00[Europe/Berlin] campus/standup job schedule:standup job 00000007"]
    );
    assert_eq!(preview.items[0].extended_from, Some(made.due));

    // Beyond what is shown: it is not there at its old time either.
    let far = change(&made, &Change::Extend { by: 30 * HOUR });
    check(&schedule, &[far], 1, &[]);
}

#[test]
fn what_is_held_or_done_does_not_pass_for_planned() {
    let standup = recurring("standup", "15 10 * * *");
    let schedule = Schedule { recurring: vec![standup.clone()], ..Schedule::default() };
    let made = job(7, &monday(&standup));
    let line = |rest: &str| format!("2026-03-23T10:15:00+01:00[Europe/Berlin] campus/standup {rest}");
    let held = change(&made, &Change::Hold { until: None });
    check(&schedule, &[held], 1, &[&line("job schedule:standup job 00000007: held until released")]);
    let cancelled = change(&made, &Change::Cancel);
    let expected =
        line("skipped schedule:standup job 00000007: skipped: job 00000007 is done already (cancelled)");
    check(&schedule, &[cancelled], 1, &[&expected]);
}

#[test]
fn exceptions_are_shown_with_their_reason() {
    let mut standup = recurring("standup", "15 10 * * *");
    standup.days.except = vec!["holidays".to_owned()];
    standup.limits.warn = vec![Duration::from_secs(60)];
    let calendars = [("holidays".to_owned(), holiday("2026-03-24"))].into();
    let schedule = Schedule { recurring: vec![standup], calendars, ..Schedule::default() };
    check(
        &schedule,
        &[],
        2,
        &[
            "2026-03-23T10:15:00+01:00[Europe/Berlin] campus/standup planned schedule:standup warns \
             2026-03-23T09:14:00.000Z",
            "2026-03-24T10:15:00+01:00[Europe/Berlin] campus/standup skipped schedule:standup: skipped: except \
             holidays (2026-03-24)",
        ],
    );
}

#[test]
fn jobs_by_hand_and_jobs_at_work_are_shown_and_one_server_is_one_server() {
    let mut by_hand = job(1, &entry("a", now() + HOUR));
    by_hand.origin = Origin::Cli;
    let mut at_work = job(2, &entry("b", now() - HOUR));
    at_work.origin = Origin::Rule { name: "four-hours".to_owned(), planned: at_work.due };
    at_work.record(Now { wall: now(), ..Now::default() }, Fact::DueReached { late_ms: 5 });
    let mut elsewhere = job(3, &entry("c", now() + HOUR));
    elsewhere.server = "lab".into();
    let jobs = [by_hand, at_work, elsewhere];
    let all = [
        "2026-03-23T07:00:00.000Z campus/b job rule:four-hours job 00000002: looking before the end call",
        "2026-03-23T09:00:00.000Z campus/a job cli job 00000001",
        "2026-03-23T09:00:00.000Z lab/c job schedule:c job 00000003",
    ];
    check(&Schedule::default(), &jobs, 1, &all);
    let lab = Span { now: now(), until: now() + 24 * HOUR, server: Some("lab".into()) };
    let standup = Schedule { recurring: vec![recurring("standup", "15 10 * * *")], ..Schedule::default() };
    assert_eq!(told(&look_at(&standup, &jobs, &lab)), all[2..]);
}

#[test]
fn what_is_left_out_is_said_and_the_rest_is_complete() {
    // 1,440 a day each: 10,000 are through in less than four days.
    let often = |name: &str| recurring(name, "* * * * *");
    let entries = vec![entry("late", now() + 6 * 24 * HOUR)];
    let schedule = Schedule { recurring: vec![often("a"), often("b")], entries, ..Schedule::default() };
    let preview = look(&schedule, &[], 7);
    let last = preview.items.last().unwrap();
    assert!(preview.complete_until < preview.until && last.due <= preview.complete_until);
    let minutes = usize::try_from(preview.complete_until.ms_since(now()) / 60_000).unwrap();
    assert_eq!(preview.items.len(), 2 * minutes, "every minute of both, and no more");
    assert!((MAX_ITEMS - 2..=MAX_ITEMS).contains(&preview.items.len()));

    // The queue alone may be more than was read.
    let open = Open {
        jobs: vec![job(1, &entry("a", now() + HOUR))],
        complete_until: Some(now() + 2 * HOUR),
        ..Open::default()
    };
    let span = Span { now: now(), until: now() + 24 * HOUR, server: None };
    let hourly = Schedule { recurring: vec![recurring("h", "0 * * * *")], ..Schedule::default() };
    let Ok(cut) = super::preview(&hourly, &Feeds::default(), &span, open, |_| Ok::<_, Infallible>(None));
    assert_eq!((cut.items.len(), cut.complete_until), (3, now() + 2 * HOUR));
}

#[test]
fn its_json_comes_back() {
    let mut standup = recurring("standup", "15 10 * * *");
    standup.limits.warn = vec![Duration::from_secs(60)];
    let made = change(&job(7, &monday(&standup)), &Change::Extend { by: HOUR });
    let schedule = Schedule { recurring: vec![standup], ..Schedule::default() };
    let preview = look(&schedule, &[made], 2);
    let json = serde_json::to_value(&preview).unwrap();
    assert_eq!(serde_json::from_value::<Preview>(json.clone()).unwrap(), preview);
    assert_eq!(
        json["items"][0],
        serde_json::json!({
            "due": "2026-03-23T10:15:00.000Z",
            "local": "2026-03-23T11:15:00+01:00[Europe/Berlin]",
            "server": "campus",
            "meeting": "standup",
            "kind": "job",
            "origin": "schedule:standup",
            "job": "00000000-0000-0000-0000-000000000007",
            "state": "waiting",
            "extended_from": "2026-03-23T09:15:00.000Z",
            "warnings": ["2026-03-23T10:14:00.000Z"],
            "notes": [],
        })
    );
}

#[test]
fn what_has_no_time_before_its_meeting_starts_is_shown_at_none() {
    let mut order = job(7, &entry("office", now() + HOUR));
    (order.due, order.max_duration, order.awaits_start) = (UtcMs::NEVER, Some(4 * HOUR), true);
    let whole = Span { now: now(), until: UtcMs::MAX, server: None };
    let open = Open { jobs: vec![order], ..Open::default() };
    let Ok(seen) =
        preview(&Schedule::default(), &Feeds::default(), &whole, open, |_| Ok::<_, Infallible>(None));
    assert_eq!(told(&seen), [""; 0]);
}
