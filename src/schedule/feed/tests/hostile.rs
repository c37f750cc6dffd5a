//! Feeds that are broken, or meant to break something.

use proptest::prelude::{ProptestConfig, any, prop, proptest};
use proptest::strategy::Strategy;

use super::*;

/// Lines that events are made of, good and bad.
fn line() -> impl Strategy<Value = String> {
    let number = prop_oneof();
    let rule = prop::collection::vec((key(), number), 0..6).prop_map(|parts| {
        let parts: Vec<String> = parts.into_iter().map(|(key, value)| format!("{key}={value}")).collect();
        format!("RRULE:{}", parts.join(";"))
    });
    let stamp = "(DTSTART|DTEND|EXDATE|RDATE|RECURRENCE-ID)(;TZID=[A-Z]{1,4}|;TZID=Europe/Berlin|;VALUE=DATE|;VALUE=PERIOD|;RANGE=THISANDFUTURE)?:(20[0-9]{2}|[0-9]{4})(0[0-9]|1[0-3])[0-3][0-9](T[0-2][0-9][0-6][0-9][0-6][0-9]Z?)?(/P[0-9]{1,9}D|,19700101)?";
    let other = "(DURATION:-?P?T?[0-9]{0,10}[WDHMS]?|SEQUENCE:-?[0-9]{0,20}|LOCATION:.{0,20}|STATUS:CANCELLED|UID:[12]|X-A;B=\"c:.{0,9}|END:VEVENT|BEGIN:VEVENT|BEGIN:VALARM|END:VALARM| .{0,20}|.{0,20})";
    proptest::prop_oneof![2 => rule, 4 => stamp.prop_map(String::from), 3 => other.prop_map(String::from)]
}

fn key() -> impl Strategy<Value = &'static str> {
    prop::sample::select(&[
        "FREQ",
        "COUNT",
        "UNTIL",
        "INTERVAL",
        "BYDAY",
        "BYMONTH",
        "BYMONTHDAY",
        "BYYEARDAY",
        "BYWEEKNO",
        "BYSETPOS",
        "BYHOUR",
        "BYMINUTE",
        "BYSECOND",
        "WKST",
        "RSCALE",
        "SKIP",
        "X",
    ])
}

fn prop_oneof() -> impl Strategy<Value = String> {
    let word = prop::sample::select(&[
        "DAILY",
        "WEEKLY",
        "MONTHLY",
        "YEARLY",
        "YEARLY",
        "MO",
        "-1SU",
        "53FR,+2TU",
        "20271231T000000Z",
        "20300101",
        "1,2,3",
        "-1",
        "366",
        "-366",
        "65535",
        "65536",
        "4294967295",
        "GREGORIAN",
        "",
    ]);
    proptest::prop_oneof![3 => word.prop_map(str::to_owned), 1 => any::<i32>().prop_map(|n| n.to_string()),
        2 => (-60_i32..400).prop_map(|n| n.to_string())]
}

fn use_all(bytes: &[u8]) {
    let Ok(read) = Feed::parse(bytes) else { return };
    let feeds = Feeds::default().with(source(), Arc::new(read));
    let feed = feeds.get(&source()).unwrap();
    let window = (at("2026-12-01T00:00:00Z"), at("2027-02-01T00:00:00Z"));
    ends(&lectures(), &Calendars::new(), &feeds, window.0, window.1);
    for at in [window.0, UtcMs(0), UtcMs::MAX, UtcMs(i64::MIN / 2)] {
        feed.covers(at, &TimeZone::UTC);
    }
}

fn cases() -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(300)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), ..ProptestConfig::default() })]

    #[test]
    fn bytes_of_any_kind(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        use_all(&bytes);
        use_all(&[b"BEGIN:VCALENDAR\nBEGIN:VEVENT\n".as_slice(), &bytes, b"\nEND:VEVENT\nEND:VCALENDAR"].concat());
    }

    #[test]
    fn events_of_any_kind(lines in prop::collection::vec(line(), 0..8), day in "20[0-4][0-9]0[1-9][0-2][1-8]") {
        let start = format!("DTSTART;TZID=Europe/Berlin:{day}T023000\nDURATION:PT1H\nLOCATION:r");
        use_all(feed(&event(&format!("{start}\n{}", lines.join("\n")))).as_bytes());
    }

    #[test]
    fn good_feeds_with_holes(cut in 0_usize..600, length in 0_usize..40, other in any::<u8>()) {
        let moved = "RECURRENCE-ID:20261110T150000Z\nDTSTART:20261112T090000Z\nDURATION:PT1H";
        let mut bytes = feed(&(event(&format!("{WEEKLY}\nEXDATE:20261117T150000Z\nSUMMARY:a\\,b")) + &event(moved))).into_bytes();
        let at = cut.min(bytes.len());
        bytes.splice(at..(at + length).min(bytes.len()), [other]);
        use_all(&bytes);
    }
}

#[test]
fn a_feed_that_is_too_large() {
    let refused = Feed::parse(&vec![b' '; MAX_FEED + 1]).map(drop);
    assert_eq!(refused.unwrap_err().to_string(), "it is larger than 16 MiB");
}

/// The worst rules there are cost a bounded time, and are told.
#[test]
fn rules_that_never_come_true() {
    let rule = |rule: &str| event(&format!("DTSTART:20260101T090000Z\nDURATION:PT1H\nRRULE:{rule}"));
    for odd in [
        "FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30",
        "FREQ=DAILY;BYMONTH=2;BYMONTHDAY=30",
        "FREQ=DAILY;INTERVAL=65535;BYMONTH=1;BYYEARDAY=366",
        "FREQ=MONTHLY;BYMONTHDAY=31;BYMONTH=4",
        "FREQ=WEEKLY;BYDAY=MO;BYMONTH=13",
    ] {
        use_all(feed(&rule(odd)).as_bytes());
    }
}
