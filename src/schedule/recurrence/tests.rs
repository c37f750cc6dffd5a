use proptest::prelude::*;
use sha2::{Digest, Sha256};

use super::*;

const DAY: i64 = 86_400_000;

fn zone(name: &str) -> TimeZone {
    TimeZone::get(name).unwrap()
}

fn utc(text: &str) -> UtcMs {
    text.parse::<Timestamp>().unwrap().into()
}

#[track_caller]
fn recurrence(cron: &str, name: &str, dst: Dst) -> Recurrence {
    Recurrence::new(cron, zone(name), dst).unwrap_or_else(|error| panic!("{error}"))
}

/// `INSTANT` or `INSTANT (note)`, from `from` (civil, inclusive) for `days`.
fn told(cron: &str, name: &str, dst: Dst, from: &str, days: i64) -> Vec<String> {
    let from: UtcMs = from.parse::<DateTime>().unwrap().to_zoned(zone(name)).unwrap().timestamp().into();
    let after = UtcMs(from.0 - 1);
    recurrence(cron, name, dst)
        .between(after, UtcMs(from.0 + days * DAY))
        .map(|found| {
            let at = found.at.timestamp().to_zoned(zone(name)).strftime("%m-%dT%H:%M:%S%:z");
            found.note.map_or_else(|| at.to_string(), |note| format!("{at} ({note})"))
        })
        .collect()
}

#[track_caller]
fn check(cron: &str, name: &str, from: &str, days: i64, expected: &[&str]) {
    assert_eq!(told(cron, name, Dst::Wall, from, days), expected);
}

#[test]
fn six_in_the_evening_stays_six_in_the_evening() {
    check(
        "0 18 * * *",
        "Europe/Berlin",
        "2027-03-27",
        3,
        &["03-27T18:00:00+01:00", "03-28T18:00:00+02:00", "03-29T18:00:00+02:00"],
    );
    check(
        "0 18 * * *",
        "Europe/Berlin",
        "2027-10-30",
        3,
        &["10-30T18:00:00+02:00", "10-31T18:00:00+01:00", "11-01T18:00:00+01:00"],
    );
}

#[test]
fn berlins_gap() {
    check(
        "30 2 * * *",
        "Europe/Berlin",
        "2027-03-27",
        3,
        &[
            "03-27T02:30:00+01:00",
            "03-28T03:00:00+02:00 (02:30 does not exist on that day: moved to 03:00)",
            "03-29T02:30:00+02:00",
        ],
    );
    assert_eq!(
        told("30 2 * * *", "Europe/Berlin", Dst::Skip, "2027-03-27", 3),
        ["03-27T02:30:00+01:00", "03-29T02:30:00+02:00"]
    );
    // What is moved where one is anyway is one, and nothing to remark on.
    check(
        "0,30 2-3 28 3 *",
        "Europe/Berlin",
        "2027-03-28",
        1,
        &["03-28T03:00:00+02:00", "03-28T03:30:00+02:00"],
    );
    // Two in one gap are one.
    check(
        "15,45 2 * * *",
        "Europe/Berlin",
        "2027-03-28",
        1,
        &["03-28T03:00:00+02:00 (02:15 does not exist on that day: moved to 03:00)"],
    );
}

#[test]
fn berlins_fold() {
    check(
        "30 2 * * *",
        "Europe/Berlin",
        "2027-10-31",
        2,
        &["10-31T02:30:00+02:00 (02:30 exists twice: the first)", "11-01T02:30:00+01:00"],
    );
    check(
        "0 1-3 * * *",
        "Europe/Berlin",
        "2027-10-31",
        1,
        &[
            "10-31T01:00:00+02:00",
            "10-31T02:00:00+02:00 (02:00 exists twice: the first)",
            "10-31T03:00:00+01:00",
        ],
    );
}

#[test]
fn new_york() {
    check(
        "30 2 * * Sun",
        "America/New_York",
        "2027-03-07",
        8,
        &["03-07T02:30:00-05:00", "03-14T03:00:00-04:00 (02:30 does not exist on that day: moved to 03:00)"],
    );
    check(
        "30 1 * * *",
        "America/New_York",
        "2027-11-07",
        1,
        &["11-07T01:30:00-04:00 (01:30 exists twice: the first)"],
    );
}

#[test]
fn lord_howe_has_half_an_hour() {
    check(
        "10 2 * * *",
        "Australia/Lord_Howe",
        "2026-10-04",
        1,
        &["10-04T02:30:00+11:00 (02:10 does not exist on that day: moved to 02:30)"],
    );
    check("30 2 * * *", "Australia/Lord_Howe", "2026-10-04", 1, &["10-04T02:30:00+11:00"]);
    check(
        "*/20 1 * * *",
        "Australia/Lord_Howe",
        "2027-04-04",
        1,
        &[
            "04-04T01:00:00+11:00",
            "04-04T01:20:00+11:00",
            "04-04T01:40:00+11:00 (01:40 exists twice: the first)",
        ],
    );
}

#[test]
fn the_day_that_apia_left_out() {
    check(
        "0 */6 * * *",
        "Pacific/Apia",
        "2011-12-29T12:00:00",
        1,
        &[
            "12-29T12:00:00-10:00",
            "12-29T18:00:00-10:00",
            "12-31T00:00:00+14:00",
            "12-31T06:00:00+14:00",
            "12-31T12:00:00+14:00",
        ],
    );
    check(
        "0 18 * * *",
        "Pacific/Apia",
        "2011-12-29T12:00:00",
        2,
        &[
            "12-29T18:00:00-10:00",
            "12-31T00:00:00+14:00 (2011-12-30 18:00 does not exist: moved to 2011-12-31 00:00)",
            "12-31T18:00:00+14:00",
        ],
    );
    assert_eq!(
        told("0 18 * * *", "Pacific/Apia", Dst::Skip, "2011-12-29T12:00:00", 1),
        ["12-29T18:00:00-10:00"]
    );
}

#[test]
fn a_zone_without_dst() {
    check("30 2 29 3 *", "Asia/Kolkata", "2026-03-01", 40, &["03-29T02:30:00+05:30"]);
}

#[test]
fn after_is_exclusive_and_until_inclusive() {
    let hourly = recurrence("0 * * * *", "UTC", Dst::Wall);
    let [ten, eleven, twelve] = ["10", "11", "12"].map(|hour| utc(&format!("2026-11-21T{hour}:00:00Z")));
    let at = |after, until| hourly.between(after, until).map(|found| found.at).collect::<Vec<_>>();
    assert_eq!(at(ten, twelve), [eleven, twelve]);
    assert_eq!(at(UtcMs(ten.0 - 1), UtcMs(eleven.0 - 1)), [ten]);
    assert_eq!(at(ten, ten), []);
    assert_eq!(hourly.next_after(UtcMs(ten.0 + 1)).map(|found| found.at), Some(eleven));
}

#[test]
fn from_any_moment_of_a_day_with_a_change_the_rest_is_the_same() {
    for (name, day) in [
        ("Europe/Berlin", "2027-03-28"),
        ("Europe/Berlin", "2027-10-31"),
        ("Australia/Lord_Howe", "2027-04-04"),
        ("Pacific/Apia", "2011-12-29"),
    ] {
        let every = recurrence("*/7 * * * *", name, Dst::Wall);
        let start: UtcMs = day.parse::<DateTime>().unwrap().to_zoned(zone(name)).unwrap().timestamp().into();
        let until = UtcMs(start.0 + 2 * DAY);
        let all: Vec<Occurrence> = every.between(start, until).collect();
        for step in 0..2 * 1440 / 13 {
            let after = UtcMs(start.0 + step * 13 * 60_000);
            let rest: Vec<Occurrence> = every.between(after, until).collect();
            let expected: Vec<Occurrence> = all.iter().filter(|found| found.at > after).cloned().collect();
            assert_eq!(rest, expected, "{name} from {after}");
        }
    }
}

#[test]
fn day_of_month_and_weekday() {
    let either = told("0 12 13 * FRI", "UTC", Dst::Wall, "2026-11-01", 30);
    assert_eq!(either.len(), 4, "{either:?}");
    assert_eq!(told("0 12 12 * FRI", "UTC", Dst::Wall, "2026-11-01", 30).len(), 5);
    assert_eq!(told("0 12 13 * +FRI", "UTC", Dst::Wall, "2026-11-01", 30), ["11-13T12:00:00+00:00"]);
}

#[track_caller]
fn check_error(cron: &str, expected: &str) {
    let error = Recurrence::new(cron, TimeZone::UTC, Dst::Wall).unwrap_err();
    assert_eq!(error.to_string(), expected);
    assert!(!error.hint().is_empty());
}

#[test]
fn what_is_refused() {
    check_error("", "cron is \"\", which is not a cron expression: it is empty");
    check_error(
        "18:00",
        "cron is \"18:00\", which is not a cron expression: pattern must have between 5 and 7 fields",
    );
    check_error("0 25 * * *", "cron is \"0 25 * * *\", which is not a cron expression: number out of bounds");
    check_error("0 0 30 2 *", "cron is \"0 0 30 2 *\", which never comes");
    check_error("* * * * * *", "cron is \"* * * * * *\", which comes again within a minute");
    check_error("0,59 0 0 1 1 *", "cron is \"0,59 0 0 1 1 *\", which comes again within a minute");
    check_error(&"1,".repeat(200), "cron is 400 bytes long, more than 256");
    for fine in ["* * * * *", "30 * * * * *", "0 0 29 2 *", "0 0 29 2 +MON", "@daily", "0 12 LW * *"] {
        assert!(Recurrence::new(fine, TimeZone::UTC, Dst::Wall).is_ok(), "{fine}");
    }
}

#[test]
fn a_year_that_has_passed_has_no_next() {
    let past = recurrence("0 0 12 1 1 * 2020", "Europe/Berlin", Dst::Wall);
    assert_eq!(past.next_after(utc("2026-11-21T00:00:00Z")), None);
    assert_eq!(past.next_after(utc("2019-11-21T00:00:00Z")).unwrap().at, utc("2020-01-01T11:00:00Z"));
}

#[test]
fn what_people_read() {
    let standup = recurrence("0 15 10 * * Mon-Fri", "Europe/Berlin", Dst::Wall);
    assert_eq!(standup.describe(), "0 15 10 * * Mon-Fri in Europe/Berlin");
    assert_eq!(format!("{standup:?}"), "Recurrence(0 15 10 * * Mon-Fri in Europe/Berlin, Wall)");
    assert_eq!(standup, standup.elsewhere(zone("Europe/Berlin"), Dst::Wall));
    assert_ne!(standup, standup.elsewhere(zone("Europe/Paris"), Dst::Wall));
    assert_ne!(standup, standup.elsewhere(zone("Europe/Berlin"), Dst::Skip));
}

/// What `tests/fixtures/recurrences/make.py` worked out with croniter and zoneinfo.
#[derive(serde::Deserialize)]
struct Expected {
    cron: String,
    zone: String,
    count: usize,
    sha256: String,
    first: i64,
    last: i64,
    odd: Vec<(i64, String)>,
}

#[test]
fn ten_years_agree_with_an_independent_calculation() {
    let (begin, end) = (utc("2010-01-01T00:00:00Z"), utc("2020-01-01T00:00:00Z"));
    let all = include_str!("../../../tests/fixtures/recurrences/expected.ndjson");
    assert_eq!(all.lines().count(), 24 * 6);
    for line in all.lines() {
        let expected: Expected = serde_json::from_str(line).unwrap();
        let found: Vec<Occurrence> =
            recurrence(&expected.cron, &expected.zone, Dst::Wall).between(begin, end).collect();
        let what = format!("{} in {}", expected.cron, expected.zone);
        let odd: Vec<(i64, String)> = found.iter().filter_map(odd).collect();
        assert_eq!(odd, expected.odd, "{what}");
        let ends = [&found[0], &found[found.len() - 1]].map(|one| one.at.0);
        assert_eq!((found.len(), ends), (expected.count, [expected.first, expected.last]), "{what}");
        let mut hash = Sha256::new();
        found.iter().for_each(|one| hash.update(format!("{}\n", one.at.0)));
        let hex: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, expected.sha256, "{what}");
    }
}

fn odd(found: &Occurrence) -> Option<(i64, String)> {
    let kind = match found.note.as_ref()? {
        DstNote::Gap { .. } => "gap",
        DstNote::Fold { .. } => "fold",
    };
    Some((found.at.0, kind.to_owned()))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    /// A stranger's expression ends in an error or in a recurrence, never in a panic.
    #[test]
    fn any_text_is_survived(text in "[-0-9*/,LW#?+A-Za-z @]{0,24}") {
        let _ = Recurrence::new(&text, TimeZone::UTC, Dst::Wall);
    }

    #[test]
    fn fields_of_any_kind_are_survived(fields in prop::collection::vec("[-0-9*/,LW#+]{1,6}|MON|SUN-TUE|JAN", 5..8)) {
        let text = fields.join(" ");
        if let Ok(found) = Recurrence::new(&text, zone("Europe/Berlin"), Dst::Wall) {
            let from = utc("2026-10-20T00:00:00Z");
            let some: Vec<UtcMs> = found.between(from, UtcMs::MAX).take(20).map(|one| one.at).collect();
            prop_assert!(some.is_sorted());
        }
    }
}
