use super::super::split::split;
use super::*;

fn block(lines: &str) -> Block {
    let text = format!("BEGIN:VCALENDAR\nBEGIN:VEVENT\n{lines}\nEND:VEVENT\nEND:VCALENDAR\n");
    Block { line: 1, ..split(text.as_bytes()).unwrap().events.remove(0) }
}

fn event(lines: &str) -> Event {
    read(&block(lines), &Zones::default()).unwrap()
}

/// Start and end, seen from New York.
#[track_caller]
fn check_times(lines: &str, start: &str, end: &str) {
    let event = event(lines);
    let here = TimeZone::get("America/New_York").unwrap();
    let told = |at: Option<crate::job::UtcMs>| at.map_or("none".to_owned(), |at| at.to_string());
    let ends = event.length(&here).and_then(|length| event.start.end(length, &here));
    assert_eq!(told(event.start.instant(&here).map(Into::into)), start);
    assert_eq!(told(ends), end);
}

#[track_caller]
fn check_refused(lines: &str, why: &str) {
    assert_eq!(read(&block(lines), &Zones::default()).map(drop), Err(why.to_owned()));
}

#[test]
fn ends_in_all_their_forms() {
    check_times(
        "DTSTART;TZID=Europe/Berlin:20261201T170000\nDTEND;TZID=Europe/Berlin:20261201T180000",
        "2026-12-01T16:00:00.000Z",
        "2026-12-01T17:00:00.000Z",
    );
    check_times(
        "DTSTART:20261201T170000Z\nDURATION:PT1H30M",
        "2026-12-01T17:00:00.000Z",
        "2026-12-01T18:30:00.000Z",
    );
    check_times(
        "DTSTART;TZID=W. Europe Standard Time:20261201T170000\nDTEND:20261201T170000Z",
        "2026-12-01T16:00:00.000Z",
        "2026-12-01T17:00:00.000Z",
    );
    check_times(
        "DTSTART;TZID=\"Tokyo Standard Time\":20261201T170000\nDURATION:P1W",
        "2026-12-01T08:00:00.000Z",
        "2026-12-08T08:00:00.000Z",
    );
    // Floating, and whole days: where one is.
    check_times(
        "DTSTART:20261201T170000\nDTEND:20261201T180000",
        "2026-12-01T22:00:00.000Z",
        "2026-12-01T23:00:00.000Z",
    );
    check_times(
        "DTSTART;VALUE=DATE:20261201\nDTEND;VALUE=DATE:20261203",
        "2026-12-01T05:00:00.000Z",
        "2026-12-03T05:00:00.000Z",
    );
    check_times("DTSTART;VALUE=DATE:20261201", "2026-12-01T05:00:00.000Z", "2026-12-02T05:00:00.000Z");
    check_times("DTSTART:20261201T170000Z", "2026-12-01T17:00:00.000Z", "none");
}

#[test]
fn what_it_says() {
    let event = event(
        "UID:a@b\nSEQUENCE:3\nSTATUS:CONFIRMED\nDTSTART:20261201T170000Z\nSUMMARY:Physics\\, part 2\\; with tea\n\
         LOCATION;LANGUAGE=en:https://bbb.example.org/rooms/phy\n sics-2\nDESCRIPTION:one\\ntwo \n three\n\
         URL:https://example.org/a?b=c;d\nX-Room-Id:r-7",
    );
    assert_eq!((event.uid.as_str(), event.sequence, event.cancelled), ("a@b", 3, false));
    assert_eq!(event.property("SUMMARY"), Some("Physics, part 2; with tea"));
    assert_eq!(event.property("LOCATION"), Some("https://bbb.example.org/rooms/physics-2"));
    assert_eq!(event.property("DESCRIPTION"), Some("one\ntwo three"));
    assert_eq!(event.property("URL"), Some("https://example.org/a?b=c;d"));
    assert_eq!(event.property("X-ROOM-ID"), Some("r-7"));
    assert_eq!(event.property("UID"), Some("a@b"));
    assert_eq!(event.property("CONFERENCE"), None);
}

#[test]
fn without_a_uid_it_is_known_by_what_it_is() {
    assert_eq!(event("DTSTART:20261201T170000Z\nSUMMARY:Tea").uid, "20261201T170000Z Tea");
}

#[test]
fn cancelled() {
    assert!(event("DTSTART:20261201T170000Z\nSTATUS:CANCELLED").cancelled);
    let whole = Block { cancels: true, ..block("UID:1\nDTSTART:20261201T170000Z") };
    assert!(read(&whole, &Zones::default()).unwrap().cancelled);
}

#[test]
fn what_is_left_out() {
    check_refused("UID:1", "it has no DTSTART");
    check_refused("DTSTART:tomorrow", "its DTSTART is no time");
    check_refused("DTSTART:20260230T100000Z", "its DTSTART is no time");
    check_refused("DTSTART:00010101T000000Z", "its DTSTART is no time");
    check_refused(
        "DTSTART;TZID=Customized Time Zone:20261201T170000",
        "its time zone \"Customized Time Zone\" is not known for certain (name it: zones = { \"Customized Time Zone\" = \"Europe/Berlin\" })",
    );
    check_refused("DTSTART:20261201T170000Z\nDTEND:20261201T160000Z", "it ends before it begins");
    check_refused("DTSTART:20261201T170000Z\nDURATION:-PT1H", "it ends before it begins");
    check_refused("DTSTART:20261201T170000Z\nDURATION:P9999D", "it is longer than 1830 days");
    check_refused("DTSTART:20261201T170000Z\nDTEND:21261201T160000Z", "it is longer than 1830 days");
    check_refused("DTSTART:20261201T170000Z\nDURATION:soon", "its DURATION cannot be read");
    check_refused("DTSTART:20261201T170000Z\nRRULE:FREQ=OFTEN", "its RRULE cannot be read");
    check_refused("DTSTART:20261201T170000Z\nRRULE:FREQ=HOURLY", "its RRULE repeats more often than daily");
    check_refused(
        "DTSTART:20261201T170000Z\nRRULE:RSCALE=HEBREW;FREQ=YEARLY",
        "its RRULE counts by another calendar (RSCALE)",
    );
    let cut = Block { cut: true, ..block("DTSTART:20261201T170000Z") };
    assert_eq!(read(&cut, &Zones::default()).map(drop), Err("the event is too long to be read".into()));
}

#[test]
fn what_is_understood_in_a_way_that_is_not_the_only_one_is_remarked_upon() {
    let remarks = |rules: &str| event(&format!("DTSTART:20261201T170000Z\n{rules}")).remarks.join("; ");
    assert_eq!(remarks("RRULE:FREQ=WEEKLY;BYDAY=TU"), "");
    let one_more = "its start is none of the times of its RRULE: it counts as one more of them";
    assert_eq!(remarks("RRULE:FREQ=WEEKLY;BYDAY=WE,FR;COUNT=4"), one_more);
    let two = "it has 2 RRULEs: what any of them hits takes place";
    assert_eq!(remarks("RRULE:FREQ=WEEKLY;BYDAY=TU\nRRULE:FREQ=WEEKLY;BYDAY=TH"), two);
    let never = "its RRULE ends before it begins: it never takes place";
    assert_eq!(remarks("RRULE:FREQ=DAILY;UNTIL=20261125T170000Z"), never);
}

#[test]
fn what_lists_nothing_is_nothing() {
    let event = event("DTSTART:20261201T170000Z\nEXDATE:\nRDATE:\nEXDATE:20261202T170000Z,");
    assert_eq!((event.except.len(), event.more.len()), (1, 0));
}

#[test]
fn a_change_of_what_comes_before_is_not_done() {
    let change =
        |range: &str| format!("DTSTART:20261201T170000Z\nRECURRENCE-ID;RANGE={range}:20261201T170000Z");
    assert_eq!(event(&change("THISANDFUTURE")).instead_of.unwrap().1, Onwards::AllLater);
    check_refused(
        &change("THISANDPRIOR"),
        "it changes all occurrences before one (RANGE=THISANDPRIOR), which is not done",
    );
}

#[test]
fn a_floating_end_is_meant_on_the_clock_on_the_wall() {
    let event = event("DTSTART:20261024T220000\nDTEND:20261025T060000");
    let hours = |zone: &str| event.length(&TimeZone::get(zone).unwrap()).unwrap().ms / 3_600_000;
    assert_eq!((hours("UTC"), hours("Europe/Berlin")), (8, 9));
}

#[test]
fn dates_besides_the_rule() {
    let event = event(
        "DTSTART:20261201T170000Z\nDURATION:PT1H\nRDATE:20261203T170000Z,20261204T170000Z\n\
         RDATE;VALUE=PERIOD:20261205T170000Z/PT2H,20261206T170000Z/20261206T200000Z\n\
         EXDATE;TZID=Europe/Berlin:20261203T180000\n",
    );
    let lengths: Vec<_> = event.more.iter().map(|(_, length)| length.map(|length| length.ms)).collect();
    assert_eq!(lengths, [None, None, Some(7_200_000), Some(10_800_000)]);
    assert_eq!(event.except[0].name(), "20261203T170000Z");
}
