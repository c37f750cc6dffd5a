//! Deadlines that come again and again, through the real daemon.

use std::time::Duration;

use adjourn::clock;
use jiff::tz::TimeZone;
use serde_json::Value;

use crate::harness::{Bed, check_truth, id_of};

/// Far enough ahead for a reload, near enough to wait for.
const SOON: Duration = Duration::from_secs(5);

/// An entry for this time of every day.
fn daily(at: &jiff::civil::DateTime, extra: &str) -> String {
    let cron = format!("{} {} {} * * *", at.second(), at.minute(), at.hour());
    format!(
        "[[end]]\nname = \"class\"\nserver = \"campus\"\nmeeting = \"math-101\"\ncron = \"{cron}\"\n\
         timezone = \"UTC\"\n{extra}"
    )
}

fn jobs(bed: &Bed) -> Vec<Value> {
    let mut jobs = bed.json(&["list"])["jobs"].as_array().unwrap().clone();
    jobs.sort_by_key(|job| job["due"].to_string());
    jobs
}

fn open(bed: &Bed) -> Vec<String> {
    let waiting = jobs(bed).into_iter().filter(|job| job["state"] == "waiting");
    waiting.map(|job| job["due"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn an_occurrence_ends_its_meeting_and_a_restart_makes_none_twice() {
    let mut bed = Bed::start();
    let internal_id = bed.create("math-101");
    let at = TimeZone::UTC.to_datetime((clock::system_now().wall + SOON).timestamp());
    let due = |days: i64| {
        let day = at.with().subsec_nanosecond(0).build().unwrap() + jiff::Span::new().days(days);
        format!("{day}.000Z")
    };
    bed.write_schedule("", &daily(&at, ""));
    bed.json(&["reload"]);
    bed.wait_for("the occurrences are jobs", |_| open(&bed).len() == 2);
    assert_eq!(open(&bed), [due(0), due(1)]);
    let first = jobs(&bed)[0].clone();
    assert_eq!(first["origin"], "schedule:class");

    let job = bed.outcome(&id_of(&first));
    assert_eq!(job["outcome"], "ended", "{job:#}");
    check_truth(&bed, &job);
    assert!(bed.instance(&internal_id).ended_at.is_some());

    let before: Vec<String> = jobs(&bed).iter().map(id_of).collect();
    assert_eq!(bed.stop_daemon(), Some(0));
    bed.start_daemon();
    // The day after tomorrow has come within reach.
    bed.wait_for("the next occurrence is a job", |_| open(&bed) == [due(1), due(2)]);
    bed.json(&["reload"]);
    let after: Vec<String> = jobs(&bed).iter().map(id_of).collect();
    assert_eq!(after[..2], before[..]);
    assert_eq!(after.len(), 3);
}

#[test]
fn an_edit_that_is_taken_back_costs_no_deadline() {
    let bed = Bed::start();
    // In the afternoon of tomorrow, so that nothing fires during the test.
    let at =
        TimeZone::UTC.to_datetime((clock::system_now().wall + Duration::from_secs(3 * 3600)).timestamp());
    bed.write_schedule("", &daily(&at, ""));
    bed.json(&["reload"]);
    bed.wait_for("the occurrences are jobs", |_| open(&bed).len() == 2);
    let planned = open(&bed);

    let other = at + jiff::Span::new().hours(1);
    bed.write_schedule("", &daily(&other, ""));
    bed.json(&["reload"]);
    bed.wait_for("the other time counts", |_| open(&bed).len() == 2 && open(&bed) != planned);

    bed.write_schedule("", &daily(&at, ""));
    bed.json(&["reload"]);
    bed.wait_for("the first one counts again", |_| open(&bed) == planned);
    let cancelled = jobs(&bed).iter().filter(|job| job["outcome"] == "cancelled").count();
    assert_eq!(cancelled, 4);

    bed.write_schedule("", "");
    bed.json(&["reload"]);
    bed.wait_for("the entry is gone", |_| open(&bed).is_empty());
}
