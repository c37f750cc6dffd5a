//! Calendars as they really are: what other programs write, and what is told about it.

use super::*;
use crate::schedule::{GivenZones, PropertyPattern};

fn ends_of_bytes(end: &CalendarEnd, bytes: &[u8]) -> Ends {
    let feeds = Feeds::default().with(source(), Arc::new(Feed::parse(bytes).unwrap()));
    ends(end, &Calendars::new(), &feeds, at("2026-11-01T00:00:00Z"), at("2027-02-01T00:00:00Z")).unwrap()
}

fn remarks(found: &Ends) -> Vec<String> {
    found.remarks.first.iter().map(ToString::to_string).collect()
}

#[track_caller]
fn check_remarked(events: &str, expected: &[&str], remark: &str) {
    let found = ends_of_bytes(&lectures(), feed(events).as_bytes());
    assert_eq!(told(&found), expected);
    assert_eq!(remarks(&found), if remark.is_empty() { Vec::new() } else { vec![remark.to_owned()] });
}

/// An event with one UID for all, on a day of December at 17:00, for an hour.
fn of_one_uid(day: u8, lines: &str) -> String {
    event(&format!("DTSTART:202612{day:02}T170000Z\nDURATION:PT1H\n{lines}"))
}

#[test]
fn different_events_with_one_uid_all_count() {
    let note =
        |count: usize| format!("line 3: {count} different events have the UID \"1\": all of them count");
    let three = of_one_uid(1, "SUMMARY:a") + &of_one_uid(2, "SUMMARY:b") + &of_one_uid(3, "SUMMARY:c");
    let [first, second, third] = [
        "2026-12-01T18:00 1/20261201T170000Z@room-1",
        "2026-12-02T18:00 1/20261202T170000Z@room-1",
        "2026-12-03T18:00 1/20261203T170000Z@room-1",
    ];
    check_remarked(&three, &[first, second, third], &note(3));
    // One that is cancelled cancels no other, whatever its SEQUENCE.
    let cancelled = of_one_uid(2, "SEQUENCE:5\nSTATUS:CANCELLED");
    check_remarked(&(of_one_uid(1, "") + &cancelled + &of_one_uid(3, "")), &[first, third], &note(3));
    // Nor does a newer word on one of them make the others old.
    let newer = of_one_uid(3, "SEQUENCE:2");
    check_remarked(&(of_one_uid(1, "") + &of_one_uid(2, "") + &newer), &[first, second, third], &note(3));
    // The same time in two rooms.
    let other_room = of_one_uid(1, "").replace("room-1", "room-2");
    let second_room = "2026-12-01T18:00 1/20261201T170000Z@room-2";
    check_remarked(&(of_one_uid(1, "") + &other_room), &[first, second_room], &note(2));
    // The same room at the same time, for longer.
    let longer = of_one_uid(1, "SUMMARY:b").replace("PT1H", "PT2H");
    let numbered = "2026-12-01T19:00 1/20261201T170000Z@room-1@2";
    check_remarked(&(of_one_uid(1, "SUMMARY:a") + &longer), &[first, numbered], &note(2));
}

#[test]
fn without_a_uid_the_room_makes_the_difference() {
    let room = |room: &str| format!("BEGIN:VEVENT\nSUMMARY:Tea\nLOCATION:{room}\n{ONCE}\nEND:VEVENT\n");
    let found = ends_of_bytes(&lectures(), feed(&(room("room-1") + &room("room-2"))).as_bytes());
    let rooms: Vec<_> = found.entries.iter().map(|entry| entry.meeting.as_str()).collect();
    assert_eq!(rooms, ["room-1", "room-2"]);
}

#[test]
fn a_newer_word_on_an_event_that_moved_counts_alone() {
    let older = "line 3: a newer word on it (SEQUENCE) is in the same feed, and counts instead";
    let moved = of_one_uid(2, "SEQUENCE:2");
    check_remarked(&(of_one_uid(1, "SEQUENCE:1") + &moved), &["2026-12-02T18:00 1@room-1"], older);
    // A METHOD:CANCEL says no more than it must.
    let cancel =
        of_one_uid(1, "SEQUENCE:1\nSTATUS:CANCELLED\nSUMMARY:Canceled: a").replace("LOCATION:room-1\n", "");
    let found = ends_of_bytes(&lectures(), feed(&(of_one_uid(1, "SUMMARY:a") + &cancel)).as_bytes());
    assert_eq!(found.entries, []);
}

#[test]
fn a_change_belongs_to_the_event_that_has_its_occurrence() {
    let weekly = |day: u8| of_one_uid(day, "RRULE:FREQ=WEEKLY;COUNT=2");
    let change = of_one_uid(9, "RECURRENCE-ID:20261209T170000Z").replace("PT1H", "PT3H");
    check_remarked(
        &(weekly(1) + &weekly(2) + &change),
        &[
            "2026-12-01T18:00 1/20261201T170000Z@room-1",
            "2026-12-02T18:00 1/20261202T170000Z@room-1",
            "2026-12-08T18:00 1/20261208T170000Z@room-1",
            "2026-12-09T20:00 1/20261209T170000Z@room-1",
        ],
        "line 3: 2 different events have the UID \"1\": all of them count",
    );
}

#[test]
fn what_is_cancelled_from_one_occurrence_on_is_gone() {
    let rest = event("RECURRENCE-ID;RANGE=THISANDFUTURE:20261110T150000Z\nSTATUS:CANCELLED");
    let one = |more: &str| {
        event(&format!("RECURRENCE-ID:20261117T150000Z\nDTSTART:20261118T150000Z\nDURATION:PT1H\n{more}"))
    };
    let first = "2026-11-03T17:00 1/20261103T150000Z@room-1";
    check(&(event(WEEKLY) + &rest), &[first]);
    check(&(event(WEEKLY) + &one("") + &rest), &[first]);
    // A newer word on one of them.
    check(
        &(event(WEEKLY) + &rest + &one("SEQUENCE:1")),
        &[first, "2026-11-18T16:00 1/20261117T150000Z@room-1"],
    );
}

#[test]
fn an_exception_of_a_newer_series_is_newer_than_the_change_of_one() {
    let moved = event("RECURRENCE-ID:20261110T150000Z\nDTSTART:20261111T150000Z\nDURATION:PT1H");
    let series = |sequence: u8| {
        event(&format!(
            "{WEEKLY}\nEXDATE:20261110T150000Z,20261117T150000Z,20261124T150000Z\nSEQUENCE:{sequence}"
        ))
    };
    let first = "2026-11-03T17:00 1/20261103T150000Z@room-1";
    check(&(series(1) + &moved), &[first]);
    check(&(series(0) + &moved), &[first, "2026-11-11T16:00 1/20261110T150000Z@room-1"]);
}

#[test]
fn an_instant_beside_a_floating_start_is_read_where_the_entry_is() {
    let days = |events: String| {
        let found = ends_of_bytes(&lectures(), feed(&events).as_bytes());
        told(&found).iter().map(|line| line[8..10].to_owned()).collect::<Vec<_>>().join(" ")
    };
    let floating = |rule: &str| event(&format!("DTSTART:20261201T170000\nDURATION:PT1H\n{rule}"));
    assert_eq!(days(floating("RRULE:FREQ=DAILY;UNTIL=20261203T160000Z")), "01 02 03");
    assert_eq!(days(floating("RRULE:FREQ=DAILY;UNTIL=20261203T155959Z")), "01 02");
    assert_eq!(days(floating("RRULE:FREQ=DAILY;COUNT=3\nEXDATE:20261202T160000Z")), "01 03");
    // Whole days end at midnight, an hour before that of UTC.
    let whole = |rule: &str| event(&format!("DTSTART;VALUE=DATE:20261201\n{rule}"));
    assert_eq!(days(whole("RRULE:FREQ=DAILY;UNTIL=20261202T230000Z")), "01 02 03");
    assert_eq!(days(whole("RRULE:FREQ=DAILY;UNTIL=20261202T225959Z")), "01 02");
    assert_eq!(days(whole("RRULE:FREQ=DAILY;COUNT=3\nEXDATE:20261201T230000Z")), "01 03");
}

#[test]
fn excluding_rules_and_several_rules() {
    let days = |rules: &str| {
        let text = event(&format!("DTSTART:20261201T170000Z\nDURATION:PT1H\n{rules}"));
        told(&ends_of_bytes(&lectures(), feed(&text).as_bytes()))
            .iter()
            .map(|line| line[8..10].to_owned())
            .collect::<Vec<_>>()
            .join(" ")
    };
    assert_eq!(days("RRULE:FREQ=DAILY;COUNT=8\nEXRULE:FREQ=WEEKLY;BYDAY=SA,SU"), "01 02 03 04 07 08");
    assert_eq!(days("RRULE:FREQ=WEEKLY;COUNT=2\nRRULE:FREQ=WEEKLY;BYDAY=TU,TH;COUNT=3"), "01 03 08");
    let odd = event("DTSTART:20261201T170000Z\nDURATION:PT1H\nRRULE:FREQ=DAILY;COUNT=3\nEXRULE:FREQ=HOURLY");
    let read = Feed::parse(feed(&odd).as_bytes()).unwrap();
    assert_eq!(read.problems().first[0].what, "its EXRULE repeats more often than daily");
}

#[test]
fn a_meeting_is_taken_only_from_what_can_be_decoded() {
    let text = |location: &[u8], more: &str| {
        let event = event(&format!("{ONCE}\n{more}")).replace("room-1", "PLACE");
        let all = feed(&event).into_bytes();
        let place = all.windows(5).position(|bytes| bytes == b"PLACE").unwrap();
        [&all[..place], location, &all[place + 5..]].concat()
    };
    let meeting = |bytes: &[u8]| {
        let found = ends_of_bytes(&lectures(), bytes);
        let skipped = found.skipped.first.first().map(|skip| skip.reason.clone());
        (found.entries.first().map(|entry| entry.meeting.0.clone()), skipped, found.doubts.of.len())
    };
    // A line that is folded inside a character.
    assert_eq!(meeting(&text(b"H\xc3\r\n \xb6rsaal", "")), (Some("H\u{f6}rsaal".to_owned()), None, 0));
    let why = "its LOCATION is not UTF-8, and what it says is not certain";
    assert_eq!(meeting(&text(b"H\xf6rsaal", "")), (None, Some(why.to_owned()), 1));
    // What else stands there does not matter.
    let mut title = text(b"room-7", "SUMMARY:@");
    let at = title.iter().position(|byte| *byte == b'@').unwrap();
    title[at] = 0xf6;
    let found = ends_of_bytes(&lectures(), &title);
    assert_eq!(found.entries[0].meeting.as_str(), "room-7");
    assert_eq!(
        remarks(&found),
        ["line 3: it is not UTF-8, and is shown as Latin-1; no meeting is taken from what is not"]
    );
}

#[test]
fn what_a_property_says_can_be_skipped() {
    let skip = |property: &str, pattern: &str| {
        let skip = PropertyPattern { property: property.to_owned(), pattern: Regex::new(pattern).unwrap() };
        CalendarEnd { skip: Some(skip), ..lectures() }
    };
    let text = event(&format!("{ONCE}\nSUMMARY:Canceled: physics\nX-MICROSOFT-CDO-BUSYSTATUS:FREE"))
        + &event(&format!("{ONCE}\nSUMMARY:physics")).replace("UID:1", "UID:2");
    let found = |end: &CalendarEnd| {
        let found = ends_of_bytes(end, feed(&text).as_bytes());
        let reason = found.excepted.first.first().map(|skip| skip.reason.clone()).unwrap_or_default();
        (told(&found), reason, found.doubts)
    };
    let other = vec!["2026-12-01T17:00 2@room-1".to_owned()];
    let by_title = found(&skip("SUMMARY", "^(Canceled|Abgesagt): "));
    assert_eq!(by_title, (other.clone(), "skip matches its SUMMARY".to_owned(), Default::default()));
    assert_eq!(found(&skip("X-MICROSOFT-CDO-BUSYSTATUS", "^FREE$")).0, other);
    assert_eq!(found(&skip("SUMMARY", "nothing")).0.len(), 2);
}

#[test]
fn what_the_clocks_do_is_noted() {
    let notes = |lines: &str| {
        let text = feed(&event(lines));
        let feeds = Feeds::default().with(source(), Arc::new(Feed::parse(text.as_bytes()).unwrap()));
        let found = ends(
            &lectures(),
            &Calendars::new(),
            &feeds,
            at("2026-01-01T00:00:00Z"),
            at("2027-01-01T00:00:00Z"),
        );
        found.unwrap().clock_notes.into_values().collect::<Vec<String>>().join("; ")
    };
    let berlin = |start: &str, end: &str, more: &str| {
        notes(&format!("DTSTART;TZID=Europe/Berlin:{start}\nDTEND;TZID=Europe/Berlin:{end}\n{more}"))
    };
    assert_eq!(berlin("20260328T220000", "20260329T060000", ""), "");
    assert_eq!(
        berlin("20260321T220000", "20260322T060000", "RRULE:FREQ=WEEKLY;COUNT=3"),
        "it ends at 07:00 and not at 06:00, since the clocks change and its hours are exact"
    );
    assert_eq!(
        berlin("20260322T013000", "20260322T023000", "RRULE:FREQ=WEEKLY;COUNT=2"),
        "it ends at 03:30 and not at 02:30, since the clocks change and its hours are exact"
    );
    assert_eq!(
        berlin("20260329T023000", "20260329T043000", ""),
        "it begins at a time that the clocks change: 02:30 does not exist on that day: moved to 03:30"
    );
    assert_eq!(
        berlin("20261025T013000", "20261025T023000", ""),
        "it ends at a time that the clocks change: 02:30 exists twice: the first"
    );
    assert_eq!(notes("DTSTART;VALUE=DATE:20260328\nRRULE:FREQ=DAILY;COUNT=3"), "");
}

#[test]
fn a_zone_is_what_the_feed_says_it_is() {
    let zone = |name: &str, offset: &str| {
        format!(
            "BEGIN:VTIMEZONE\nTZID:{name}\nBEGIN:STANDARD\nDTSTART:16010101T000000\nTZOFFSETFROM:{offset}\n\
             TZOFFSETTO:{offset}\nEND:STANDARD\nEND:VTIMEZONE\n"
        )
    };
    let event = |name: &str| event(&ONCE.replace("Europe/Berlin", name));
    let custom = "Customized Time Zone";
    check_remarked(&(zone(custom, "+0530") + &event(custom)), &["2026-12-01T12:30 1@room-1"], "");
    // A name that means two zones.
    check_remarked(
        &(zone("Tokyo Standard Time", "+0530") + &event("Tokyo Standard Time")),
        &["2026-12-01T12:30 1@room-1"],
        "line 11: its time zone \"Tokyo Standard Time\" means two zones: 2026-12-01T17:00 is 2026-12-01T11:30:00.000Z by the \
         feed's own zone, which counts, and 2026-12-01T08:00:00.000Z by the zone that has that name elsewhere",
    );
    check_remarked(
        &(zone("Europe/Rome", "+0530") + &event("Europe/Rome")),
        &["2026-12-01T17:00 1@room-1"],
        "line 11: its time zone \"Europe/Rome\" means two zones: 2026-12-01T17:00 is 2026-12-01T16:00:00.000Z by the zone of \
         that name, which counts, and 2026-12-01T11:30:00.000Z by the feed's own",
    );
    // One that nobody defines is named by the entry, or left out.
    let text = feed(&event(custom));
    let left_out = Feed::parse(text.as_bytes()).unwrap();
    assert_eq!(left_out.problems().count, 1);
    let given = GivenZones::from([(custom.to_owned(), TimeZone::get("Asia/Kolkata").unwrap())]);
    let feeds = Feeds::default().with(source(), Arc::new(Feed::parse_with(text.as_bytes(), &given).unwrap()));
    let found =
        ends(&lectures(), &Calendars::new(), &feeds, at("2026-11-01T00:00:00Z"), at("2027-02-01T00:00:00Z"));
    assert_eq!(told(&found.unwrap()), ["2026-12-01T12:30 1@room-1"]);
}
