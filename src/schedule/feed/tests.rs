//! What feeds of all kinds come to, as deadlines and as calendars.

mod compared;
mod hostile;
mod odd;

use std::convert::Infallible;
use std::path::PathBuf;

use regex::Regex;

use super::*;
use crate::job::{Limits, ServerName};
use crate::schedule::preview::{Kind, Open, Span, preview};
use crate::schedule::{Calendar, CalendarEnd, Calendars, DateRange, Days, Ends, Schedule, ends};

fn at(text: &str) -> UtcMs {
    text.parse::<jiff::Timestamp>().unwrap().into()
}

fn source() -> Source {
    Source::File(PathBuf::from("/lectures.ics"))
}

fn lectures() -> CalendarEnd {
    CalendarEnd {
        name: "lectures".to_owned(),
        server: ServerName::from("campus"),
        source: source(),
        property: "LOCATION".to_owned(),
        pattern: None,
        skip: None,
        timezone: Some(TimeZone::get("Europe/Berlin").unwrap()),
        days: Days::default(),
        limits: Limits::default(),
    }
}

/// A whole feed from its events.
fn feed(events: &str) -> String {
    format!("BEGIN:VCALENDAR\r\nVERSION:2.0\r\n{}END:VCALENDAR\r\n", events.replace('\n', "\r\n"))
}

/// An event at room-1 with UID 1.
fn event(lines: &str) -> String {
    format!("BEGIN:VEVENT\nUID:1\nLOCATION:room-1\n{lines}\nEND:VEVENT\n")
}

fn ends_of(end: &CalendarEnd, calendars: &Calendars, text: &str, window: (&str, &str)) -> Ends {
    let feeds = Feeds::default().with(source(), Arc::new(Feed::parse(text.as_bytes()).unwrap()));
    ends(end, calendars, &feeds, at(window.0), at(window.1)).unwrap()
}

/// Identities without the name and the zeros of the time, by time.
fn told(found: &Ends) -> Vec<String> {
    let mut entries = found.entries.clone();
    entries.sort_by_key(|entry| (entry.at, entry.identity.clone()));
    let tell = |entry: &crate::schedule::Entry| {
        assert_eq!(entry.of.as_deref(), Some("lectures"));
        let at = entry.at.to_string();
        format!("{} {}", at.trim_end_matches(":00.000Z"), entry.identity.trim_start_matches("lectures/"))
    };
    entries.iter().map(tell).collect()
}

/// The deadlines from November 2026 to January 2027, seen from Berlin.
#[track_caller]
fn check(events: &str, expected: &[&str]) {
    let window = ("2026-11-01T00:00:00Z", "2027-02-01T00:00:00Z");
    assert_eq!(told(&ends_of(&lectures(), &Calendars::new(), &feed(events), window)), expected);
}

#[track_caller]
fn check_skipped(events: &str, expected: &[&str]) {
    let window = ("2026-11-01T00:00:00Z", "2027-02-01T00:00:00Z");
    let found = ends_of(&lectures(), &Calendars::new(), &feed(events), window);
    assert_eq!(found.entries, []);
    let skipped: Vec<String> =
        found.skipped.first.iter().map(|skip| format!("{}: {}", skip.summary, skip.reason)).collect();
    assert_eq!(skipped, expected);
    assert_eq!(found.skipped.count, expected.len());
}

const ONCE: &str = "DTSTART;TZID=Europe/Berlin:20261201T170000\nDTEND;TZID=Europe/Berlin:20261201T180000";
const WEEKLY: &str = "DTSTART;TZID=Europe/Berlin:20261020T160000\nDTEND;TZID=Europe/Berlin:20261020T180000\n\
                      RRULE:FREQ=WEEKLY;UNTIL=20261124T150000Z";

#[test]
fn an_event_ends_its_meeting_when_it_ends() {
    check(&event(ONCE), &["2026-12-01T17:00 1@room-1"]);
    let found = ends_of(
        &lectures(),
        &Calendars::new(),
        &feed(&event(ONCE)),
        ("2026-11-01T00:00:00Z", "2027-02-01T00:00:00Z"),
    );
    let entry = &found.entries[0];
    assert_eq!((entry.server.as_str(), entry.meeting.as_str()), ("campus", "room-1"));
    assert_eq!((&entry.instance, &entry.limits), (&None, &Limits::default()));
}

#[test]
fn the_window_is_open_at_its_beginning_and_closed_at_its_end() {
    let within = |after: &str, until: &str| {
        told(&ends_of(&lectures(), &Calendars::new(), &feed(&event(ONCE)), (after, until))).len()
    };
    assert_eq!(within("2026-12-01T16:59:59.999Z", "2026-12-01T17:00:00Z"), 1);
    assert_eq!(within("2026-12-01T17:00:00Z", "2026-12-02T17:00:00Z"), 0);
    assert_eq!(within("2026-12-01T16:00:00Z", "2026-12-01T16:59:59.999Z"), 0);
}

#[test]
fn an_event_that_moves_keeps_its_identity() {
    check(&event(ONCE), &["2026-12-01T17:00 1@room-1"]);
    check(&event(&ONCE.replace("T180000", "T193000")), &["2026-12-01T18:30 1@room-1"]);
    check(&event(&ONCE.replace("20261201", "20261208")), &["2026-12-08T17:00 1@room-1"]);
    // Another room is another entry: a job cannot change its meeting.
    check(&event(ONCE).replace("room-1", "room-2"), &["2026-12-01T17:00 1@room-2"]);
}

#[test]
fn cancelled_in_all_its_forms() {
    check(&event(&format!("{ONCE}\nSTATUS:CANCELLED")), &[]);
    check(&format!("METHOD:CANCEL\n{}", event(ONCE)), &[]);
    check("", &[]);
    // The newest word counts, wherever it stands; of equal ones the last.
    let [old, new] = [format!("{ONCE}\nSEQUENCE:1"), format!("{ONCE}\nSEQUENCE:2\nSTATUS:CANCELLED")];
    check(&(event(&old) + &event(&new)), &[]);
    check(&(event(&new) + &event(&old)), &[]);
    let later = ONCE.replace("T180000", "T190000");
    check(&(event(ONCE) + &event(&later)), &["2026-12-01T18:00 1@room-1"]);
    check(&(event(&later) + &event(ONCE)), &["2026-12-01T17:00 1@room-1"]);
}

/// What is certain to be gone, if it is not there, of a feed with these events.
fn expansion(events: &str) -> crate::schedule::Expansion {
    let schedule = Schedule {
        calendar_ends: vec![lectures()],
        ahead: std::time::Duration::from_secs(48 * 3600),
        ..Default::default()
    };
    let feeds = Feeds::default().with(source(), Arc::new(Feed::parse(feed(events).as_bytes()).unwrap()));
    crate::schedule::expand(&schedule, &feeds, at("2026-12-01T00:00:00Z"))
}

#[test]
fn an_event_that_cannot_be_read_any_more_is_not_gone() {
    let odd = |events: String| events.replace("TZID=Europe/Berlin", "TZID=Customized Time Zone");
    let ([this, other], tomorrow) = (["lectures/1@room-1", "lectures/2@room-1"], at("2026-12-01T17:00:00Z"));
    let known = expansion(&event(ONCE));
    assert!(!known.doubts(this) && known.standing["lectures"].holds(tomorrow));
    // It is known which one it is: what is gone of the others is gone.
    let one = expansion(&odd(event(ONCE)));
    assert_eq!(one.entries, []);
    assert!(one.doubts(this) && one.doubts("lectures/1/20261201T170000@room-1") && !one.doubts(other));
    assert!(!one.doubts("lectures/10@room-1") && one.standing["lectures"].holds(tomorrow));
    // A series beyond all bounds.
    let endless =
        ONCE.replace("20261201", "19010101") + "\nRRULE:FREQ=DAILY;BYHOUR=1,2,3,4,5,6;BYMINUTE=1,2,3,4,5,6";
    let endless = expansion(&event(&endless));
    assert_eq!((endless.entries.len(), endless.doubts(this), endless.doubts(other)), (0, true, false));
    // It is not: nothing is certain.
    let any = expansion(&odd(event(ONCE)).replace("UID:1\n", ""));
    assert!(!any.standing["lectures"].holds(tomorrow));
}

#[test]
fn two_events_on_one_meeting_are_two_entries() {
    let other = event(&ONCE.replace("T180000", "T190000")).replace("UID:1", "UID:2");
    check(&(event(ONCE) + &other), &["2026-12-01T17:00 1@room-1", "2026-12-01T18:00 2@room-1"]);
}

#[test]
fn repeated_events_stay_at_their_local_time() {
    // The clocks went back on 25 October: 16:00 is 14:00 UTC before, 15:00 UTC after.
    check(
        &event(WEEKLY),
        &[
            "2026-11-03T17:00 1/20261103T150000Z@room-1",
            "2026-11-10T17:00 1/20261110T150000Z@room-1",
            "2026-11-17T17:00 1/20261117T150000Z@room-1",
            "2026-11-24T17:00 1/20261124T150000Z@room-1",
        ],
    );
    let october = ("2026-10-01T00:00:00Z", "2026-11-01T00:00:00Z");
    let found = ends_of(&lectures(), &Calendars::new(), &feed(&event(WEEKLY)), october);
    assert_eq!(
        told(&found),
        ["2026-10-20T16:00 1/20261020T140000Z@room-1", "2026-10-27T17:00 1/20261027T150000Z@room-1"]
    );
}

#[test]
fn without_exdates_and_with_rdates() {
    check(
        &event(&format!(
            "{WEEKLY}\nEXDATE;TZID=Europe/Berlin:20261103T160000,20261110T160000\nEXDATE:20261117T150000Z\n\
             RDATE;TZID=Europe/Berlin:20261205T100000\nRDATE;VALUE=PERIOD:20261206T100000Z/PT30M"
        )),
        &[
            "2026-11-24T17:00 1/20261124T150000Z@room-1",
            "2026-12-05T11:00 1/20261205T090000Z@room-1",
            "2026-12-06T10:30 1/20261206T100000Z@room-1",
        ],
    );
    // A whole day takes out what begins on it.
    let day = format!("{WEEKLY}\nEXDATE;VALUE=DATE:20261103,20261110,20261117");
    check(&event(&day), &["2026-11-24T17:00 1/20261124T150000Z@room-1"]);
}

#[test]
fn an_occurrence_that_moved_keeps_its_identity_and_one_that_was_cancelled_is_gone() {
    let one = |lines: &str| event(&format!("RECURRENCE-ID;TZID=Europe/Berlin:20261110T160000\n{lines}"));
    let moved = one("DTSTART;TZID=Europe/Berlin:20261112T090000\nDURATION:PT1H");
    let gone = one("DTSTART:20261110T150000Z\nSTATUS:CANCELLED").replace("1110", "1117");
    check(
        &(event(WEEKLY) + &moved + &gone),
        &[
            "2026-11-03T17:00 1/20261103T150000Z@room-1",
            "2026-11-12T09:00 1/20261110T150000Z@room-1",
            "2026-11-24T17:00 1/20261124T150000Z@room-1",
        ],
    );
    // The same in UTC, before its series, and with a newer word that moves it again.
    let first = moved.replace(";TZID=Europe/Berlin:20261110T160000", ":20261110T150000Z");
    let again = first.replace("PT1H", "PT2H\nSEQUENCE:1");
    check(
        &(again + &first + &event(&WEEKLY.replace("UNTIL=20261124T150000Z", "COUNT=4"))),
        &["2026-11-03T17:00 1/20261103T150000Z@room-1", "2026-11-12T10:00 1/20261110T150000Z@room-1"],
    );
    // Cancelled as a whole.
    check(&(event(&format!("{WEEKLY}\nSTATUS:CANCELLED")) + &moved), &[]);
    // Only one occurrence is known.
    check(&moved, &["2026-11-12T09:00 1/20261110T150000Z@room-1"]);
}

#[test]
fn all_later_occurrences_move_together() {
    let later = event(
        "RECURRENCE-ID;RANGE=THISANDFUTURE:20261110T150000Z\nDTSTART;TZID=Europe/Berlin:20261111T170000\nDURATION:PT1H",
    );
    check(
        &(event(WEEKLY) + &later.replace("room-1", "room-2")),
        &[
            "2026-11-03T17:00 1/20261103T150000Z@room-1",
            "2026-11-11T17:00 1/20261110T150000Z@room-2",
            "2026-11-18T17:00 1/20261117T150000Z@room-2",
            "2026-11-25T17:00 1/20261124T150000Z@room-2",
        ],
    );
}

#[test]
fn rules_of_all_kinds() {
    let rule = |rule: &str| event(&format!("DTSTART:20261102T090000Z\nDURATION:PT1H\nRRULE:{rule}"));
    let days = |events: &str| {
        let window = ("2026-11-01T00:00:00Z", "2027-02-01T00:00:00Z");
        let found = ends_of(&lectures(), &Calendars::new(), &feed(events), window);
        told(&found).iter().map(|line| line[5..10].to_owned()).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(days(&rule("FREQ=DAILY;COUNT=3")), "11-02 11-03 11-04");
    assert_eq!(days(&rule("FREQ=DAILY;INTERVAL=10;UNTIL=20261123T000000Z")), "11-02 11-12 11-22");
    assert_eq!(days(&rule("FREQ=WEEKLY;BYDAY=MO,WE;COUNT=4")), "11-02 11-04 11-09 11-11");
    assert_eq!(days(&rule("FREQ=WEEKLY;INTERVAL=2;WKST=SU;COUNT=3")), "11-02 11-16 11-30");
    assert_eq!(days(&rule("FREQ=MONTHLY;BYDAY=1MO")), "11-02 12-07 01-04");
    // Its start counts, though the rule does not hit it.
    assert_eq!(days(&rule("FREQ=MONTHLY;BYDAY=MO,TU,WE,TH,FR;BYSETPOS=-1")), "11-02 11-30 12-31 01-29");
    assert_eq!(days(&rule("FREQ=MONTHLY;BYMONTHDAY=31")), "11-02 12-31 01-31");
    assert_eq!(days(&rule("FREQ=YEARLY;BYMONTH=12;BYDAY=4TH")), "11-02 12-24");
    assert_eq!(days(&rule("FREQ=DAILY;UNTIL=20261101T000000Z")), "");
    // Every weekday, beginning in 1999.
    let old = rule("FREQ=WEEKLY;BYDAY=TH").replace("20261102", "19990107");
    assert_eq!(days(&old).split(' ').count(), 13);
}

#[test]
fn whole_days_and_floating_times_are_meant_where_the_entry_says() {
    check(&event("DTSTART;VALUE=DATE:20261201\nDTEND;VALUE=DATE:20261203"), &["2026-12-02T23:00 1@room-1"]);
    check(&event("DTSTART:20261201T170000\nDTEND:20261201T180000"), &["2026-12-01T17:00 1@room-1"]);
    check(
        &event("DTSTART;VALUE=DATE:20261201\nRRULE:FREQ=DAILY;COUNT=2"),
        &["2026-12-01T23:00 1/20261201@room-1", "2026-12-02T23:00 1/20261202@room-1"],
    );
    let nowhere = CalendarEnd { timezone: None, ..lectures() };
    let text = feed(&event("DTSTART:20261201T170000\nDTEND:20261201T180000"));
    let found = ends_of(&nowhere, &Calendars::new(), &text, ("2026-11-01T00:00:00Z", "2027-02-01T00:00:00Z"));
    assert_eq!(found.entries, []);
    assert_eq!(found.skipped.first[0].reason, "its time has no zone: give the [[calendar-end]] a timezone");
}

#[test]
fn events_that_end_nothing_are_told() {
    check_skipped(&event("DTSTART:20261201T170000Z\nSUMMARY:Tea"), &["Tea: it has no end"]);
    check_skipped(&event(ONCE).replace("LOCATION:room-1", "SUMMARY:Tea"), &["Tea: it has no LOCATION"]);
    check_skipped(&event(ONCE).replace("LOCATION:room-1", "LOCATION: "), &["1: it has no LOCATION"]);
    check_skipped(
        &event(ONCE).replace("room-1", "room 1\\nsecond floor"),
        &["1: its LOCATION has more than one line, or control characters"],
    );
    check_skipped(
        &event(ONCE).replace("room-1", &"x".repeat(257)),
        &["1: its LOCATION is longer than a meeting id can be"],
    );
    let never = event("DTSTART:19000101T000000Z\nDURATION:PT1H\nRRULE:FREQ=DAILY;BYHOUR=0,1,2");
    check_skipped(&never, &["line 3: its RRULE has more than 100000 times before then"; 2]);
}

#[test]
fn patterns() {
    let meeting = |property: &str, pattern: &str, lines: &str| {
        let pattern = Some(Regex::new(pattern).unwrap());
        let end = CalendarEnd { property: property.to_owned(), pattern, ..lectures() };
        let text = feed(&format!("BEGIN:VEVENT\nUID:1\n{ONCE}\n{lines}\nEND:VEVENT\n"));
        let found = ends_of(&end, &Calendars::new(), &text, ("2026-11-01T00:00:00Z", "2027-02-01T00:00:00Z"));
        let reasons = found.skipped.first.iter().map(|skip| skip.reason.clone());
        found
            .entries
            .iter()
            .map(|entry| entry.meeting.0.clone())
            .chain(reasons)
            .collect::<Vec<_>>()
            .join("; ")
    };
    let url = "URL:https://bbb.example.org/rooms/phy-sics-2/join?x=1";
    assert_eq!(meeting("URL", r"/rooms/([^/]+)", url), "phy-sics-2");
    assert_eq!(meeting("URL", r"(rooms)/(?<meeting>[^/]+)", url), "phy-sics-2");
    assert_eq!(meeting("URL", r"phy[a-z-]+", url), "phy-sics-");
    assert_eq!(meeting("URL", r"/groups/(.+)", url), "its URL names no meeting");
    assert_eq!(meeting("URL", r"x=1(.*)", url), "its URL names no meeting");
    let text = "DESCRIPTION:Hello\\nroom: r-7\\nroom: r-8";
    assert_eq!(meeting("DESCRIPTION", r"(?m)^room: (.+)$", text), "r-7");
    assert_eq!(meeting("X-ROOM", r"^\w+", "X-ROOM:r7, east"), "r7");
    assert_eq!(meeting("UID", r"\d", "SUMMARY:Tea"), "1");
}

#[test]
fn days_that_are_taken_out() {
    let holidays = Calendar { dates: vec![DateRange::parse("2026-11-10").unwrap()], ..Calendar::default() };
    let calendars = Calendars::from([("holidays".to_owned(), holidays)]);
    let days = Days { except: vec!["holidays".to_owned()], ..Days::default() };
    let end = CalendarEnd { days, ..lectures() };
    let window = ("2026-11-01T00:00:00Z", "2026-11-20T00:00:00Z");
    let found = ends_of(&end, &calendars, &feed(&event(WEEKLY)), window);
    let days: Vec<String> = told(&found).iter().map(|line| line[..10].to_owned()).collect();
    assert_eq!(days, ["2026-11-03", "2026-11-17"]);
    assert_eq!(found.excepted.count, 1);
    assert_eq!(found.excepted.first[0].reason, "except holidays (2026-11-10)");
    // The preview has a row for it.
    let feeds =
        Feeds::default().with(source(), Arc::new(Feed::parse(feed(&event(WEEKLY)).as_bytes()).unwrap()));
    let schedule =
        Schedule { calendars: calendars.clone(), calendar_ends: vec![end.clone()], ..Schedule::default() };
    let [now, until] = [window.0, window.1].map(at);
    let span = Span { now, until, server: None };
    let Ok(seen) = preview(&schedule, &feeds, &span, Open::default(), |_| Ok::<_, Infallible>(None));
    let row = seen.items.iter().find(|item| item.kind == Kind::Skipped).unwrap();
    assert_eq!(
        (&row.due.to_string()[..10], &row.notes[..]),
        ("2026-11-10", &["skipped: except holidays (2026-11-10)".to_owned()][..])
    );
    assert!(seen.notes.is_empty(), "{:?}", seen.notes);
    // Until midnight is still the 10th; from then on it is not.
    let night = |end: &str| event(&format!("DTSTART:20261110T200000Z\nDTEND:{end}"));
    let count = |text: &str| ends_of(&end, &calendars, &feed(text), window).entries.len();
    assert_eq!((count(&night("20261110T230000Z")), count(&night("20261110T230001Z"))), (0, 1));
}

#[test]
fn long_uids_are_shortened_and_stay_apart() {
    let with = |uid: &str| {
        let text = feed(&event(ONCE).replace("UID:1", &format!("UID:{uid}")));
        let window = ("2026-11-01T00:00:00Z", "2027-02-01T00:00:00Z");
        ends_of(&lectures(), &Calendars::new(), &text, window).entries[0].identity.clone()
    };
    let [one, other] = ["a", "b"].map(|c| with(&c.repeat(300)));
    assert!(one != other && one.len() < 64, "{one} {other}");
    assert_eq!(with(&"a".repeat(300)), one);
}

#[test]
fn a_feed_that_was_never_read_says_nothing_at_all() {
    let until = at("2027-01-01T00:00:00Z");
    assert_eq!(ends(&lectures(), &Calendars::new(), &Feeds::default(), UtcMs(0), until), None);
}

#[test]
fn an_odd_event_spoils_no_other() {
    let odd = "BEGIN:VEVENT\nUID:2\nLOCATION:room-2\nDTSTART:tomorrow\nEND:VEVENT\n";
    check(&(odd.to_owned() + &event(ONCE)), &["2026-12-01T17:00 1@room-1"]);
    let read = Feed::parse(feed(odd).as_bytes()).unwrap();
    assert_eq!(read.problems().count, 1);
    assert_eq!(read.problems().first[0].to_string(), "line 3: its DTSTART is no time");
}

#[test]
fn what_a_feed_covers() {
    let events = event("DTSTART;VALUE=DATE:20261224\nDTEND;VALUE=DATE:20261227")
        + &event("DTSTART:20261201T100000Z\nDURATION:PT1H").replace("UID:1", "UID:2")
        + &event("DTSTART:20261130T100000Z\nDURATION:P3D").replace("UID:1", "UID:3")
        + &event("DTSTART;VALUE=DATE:20200101\nRRULE:FREQ=YEARLY").replace("UID:1", "UID:4");
    let feed = Feed::parse(feed(&events).as_bytes()).unwrap();
    let covers = |local: &str, zone: &str| {
        let zone = TimeZone::get(zone).unwrap();
        let at = zone.to_timestamp(local.parse().unwrap()).unwrap();
        feed.covers(at.into(), &zone)
    };
    assert!(!covers("2026-12-23T23:59", "Asia/Tokyo") && covers("2026-12-24T00:00", "Asia/Tokyo"));
    assert!(
        covers("2026-12-26T23:59", "America/New_York") && !covers("2026-12-27T00:00", "America/New_York")
    );
    assert!(covers("2026-12-01T10:30", "UTC") && covers("2026-12-03T09:59", "UTC"));
    assert!(!covers("2026-12-03T10:00", "UTC") && !covers("2026-11-30T09:59", "UTC"));
    assert!(covers("2031-01-01T12:00", "UTC") && !covers("2031-01-02T00:00", "UTC"));
    assert!(covers("2031-01-01T00:00", "Pacific/Apia") && !covers("2019-01-01T00:00", "Pacific/Apia"));
}

#[test]
fn of_years_that_were_not_tried_nothing_is_known() {
    let daily = event("DTSTART;VALUE=DATE:20200101\nRRULE:FREQ=DAILY");
    let feed = Feed::parse(feed(&daily).as_bytes()).unwrap();
    let at = |day: &str| day.parse::<jiff::Timestamp>().unwrap().into();
    assert!(feed.covers(at("2031-06-01T12:00:00Z"), &TimeZone::UTC));
    feed.keep_to(2026);
    for (year, known) in
        [(2024, false), (2025, true), (2026, true), (2028, true), (2029, false), (9998, false)]
    {
        let at = at(&format!("{year}-06-01T12:00:00Z"));
        assert_eq!(
            (feed.covers(at, &TimeZone::UTC), feed.is_cut(at, &TimeZone::UTC)),
            (known, !known),
            "{year}"
        );
    }
    // The daemon goes on, and so does the year.
    feed.keep_to(2027);
    assert!(feed.covers(at("2029-06-01T12:00:00Z"), &TimeZone::UTC));
}

#[test]
fn urls_are_shown_by_their_host_alone() {
    let url = Url::parse("https://cal.example.org/private-hunter2/basic.ics?key=hunter2").unwrap();
    let source = Source::Url(FeedUrl::new(url));
    let feeds = Feeds::default().with(source.clone(), Arc::new(Feed::parse(feed("").as_bytes()).unwrap()));
    assert_eq!(source.to_string(), "cal.example.org");
    let all = format!("{source:?} {feeds:?}");
    assert!(!all.contains("hunter2"), "{all}");
}

#[test]
fn no_two_events_are_taken_for_each_other() {
    let of =
        |uid: &str, room: &str| event(ONCE).replace("UID:1", &format!("UID:{uid}")).replace("room-1", room);
    let alike = of("a", "b@c") + &of("a@b", "c");
    check(&alike, &["2026-12-01T17:00 a%40b@c", "2026-12-01T17:00 a@b@c"]);
}
