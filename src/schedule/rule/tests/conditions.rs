//! Each condition: when does it hit, and when is it over?

use super::*;

#[test]
fn empty_rooms() {
    let mut bed = Bed::new(&[Rule { empty_for: Some(30 * MINUTE), ..rule("empty") }]);
    let (empty, busy) = (live("math", Some("08:00"), Some(0)), live("math", Some("08:00"), Some(1)));
    // Known as soon as people could still be told, and one sweep more.
    assert_eq!(minutes(&mut bed, "09:00", "09:18", slice::from_ref(&empty)), [""; 0]);
    let told = "end math at 09:30: it is empty since 2026-11-03T09:00:00.000Z, and may be for 30m (at most 0 inside)";
    assert_eq!(bed.sweep("09:19", slice::from_ref(&empty)), [told]);
    assert_eq!(
        bed.sweep("09:20", &[busy]),
        ["withdraw math: it is not empty any more, or nobody was looking for too long: rule empty"]
    );
    let again = minutes(&mut bed, "09:21", "09:45", slice::from_ref(&empty));
    assert_eq!(again, [told.replace("09:30", "09:51").replace("T09:00", "T09:21")]);
    assert_eq!(minutes(&mut bed, "09:46", "10:10", &[empty]), [""; 0]);
}

#[test]
fn an_unknown_number_is_neither_nobody_nor_one() {
    let both = Rule { empty_for: Some(MINUTE), alone_for: Some(MINUTE), ..rule("r") };
    let mut bed = Bed::new(&[both]);
    assert_eq!(minutes(&mut bed, "09:00", "12:00", &[live("math", None, None)]), [""; 0]);
    assert_eq!(bed.sweep("12:01", &[live("math", None, Some(0))]).len(), 1);
    assert_eq!(bed.sweep("12:02", &[live("math", None, None)]).len(), 1, "withdrawn");
}

#[test]
fn alone_gives_notice() {
    let mut bed = Bed::new(&[Rule { alone_for: Some(5 * MINUTE), ..rule("alone") }]);
    let one = live("math", Some("08:00"), Some(1));
    assert_eq!(
        bed.sweep("09:00", slice::from_ref(&one)),
        [
            "end math at 09:10: one participant is alone in it since 2026-11-03T09:00:00.000Z, and may be for 5m \
          (at most 1 inside)"
        ]
    );
    assert_eq!(bed.sweep("09:01", &[live("math", Some("08:00"), Some(0))]).len(), 1, "nobody is not one");
    assert_eq!(bed.sweep("09:02", &[one]).len(), 1);
}

#[test]
fn breakout_rooms() {
    let both = Rule { empty_for: Some(MINUTE), alone_for: Some(MINUTE), ..max_duration(4 * HOUR) };
    let mut bed = Bed::new(&[both]);
    let parent = |people| live("math", Some("09:00"), Some(people));
    let ends = "end math at 13:00: it ends 4h after its start";
    for (time, people, room) in [
        ("09:00", 0, breakout("i-math", Some(1))),
        ("09:01", 1, breakout("math", Some(1))),
        ("09:02", 1, breakout("math", None)),
        ("09:03", 0, breakout("i-math", None)),
    ] {
        let expected: &[&str] = if time == "09:00" { &[ends] } else { &[] };
        assert_eq!(bed.sweep(time, &[parent(people), room]), expected, "{time}");
    }
    assert_eq!(bed.sweep("09:04", &[parent(0), breakout("math", Some(0))]).len(), 1, "empty");
    let physics = live("physics", Some("09:00"), Some(0));
    let rooms = |of: &str, people| vec![parent(0), physics.clone(), breakout(of, people)];
    assert_eq!(bed.sweep("09:05", &rooms("physics", Some(9))).len(), 1, "not its own; physics is long");
    assert_eq!(bed.sweep("09:06", &rooms("", Some(0))).len(), 1, "nobody is in it; physics is empty");
    for nobody_knows_whose in [rooms("", Some(1)), rooms("", None), rooms("chemistry", Some(1))] {
        let told = bed.sweep("09:07", &nobody_knows_whose);
        assert!(told.iter().all(|line| line.starts_with("withdraw ")), "{told:?}");
        assert_eq!(bed.open().len(), 2, "only what runs too long");
    }
}

#[test]
fn a_gap_breaks_what_was_counted() {
    let mut bed = Bed::new(&[Rule { empty_for: Some(30 * MINUTE), ..rule("empty") }]);
    let empty = live("math", Some("08:00"), Some(0));
    bed.sweep("09:00", slice::from_ref(&empty));
    bed.sweep("09:04", slice::from_ref(&empty));
    assert!(bed.sweep("09:20", slice::from_ref(&empty)).is_empty(), "three sweeps and a minute are too long");
    assert_eq!(minutes(&mut bed, "09:21", "09:45", &[empty])[0][..15], *"end math at 09:");
    assert_eq!(short(bed.jobs[0].due), "09:50");
}

#[test]
fn participant_minutes() {
    let mut bed = Bed::new(&[Rule { max_participant_minutes: Some(100), ..rule("minutes") }]);
    let ten = live("math", Some("08:00"), Some(10));
    assert_eq!(minutes(&mut bed, "09:00", "09:09", slice::from_ref(&ten)), [""; 0]);
    // Ten more came at some time in the last minute: that they were there all the time was not seen.
    assert_eq!(
        bed.sweep("09:10", &[live("math", Some("08:00"), Some(20))]),
        ["end math at 09:20: it has used 100 participant minutes"]
    );
    assert_eq!(minutes(&mut bed, "09:11", "09:30", slice::from_ref(&ten)), [""; 0]);
    // A restart has forgotten the count, the job stays; another limit is another hit.
    bed.watch = Watch::default();
    assert_eq!(minutes(&mut bed, "09:31", "09:50", slice::from_ref(&ten)), [""; 0]);
    bed.rules[0].max_participant_minutes = Some(1000);
    assert_eq!(bed.sweep("09:51", &[ten]), ["withdraw math: rule minutes does not apply to it any more"]);
}

#[test]
fn closing_time() {
    let mut bed = Bed::new(&[Rule { close_at: Some(time("22:00")), ..rule("close") }]);
    let math = live("math", Some("09:00"), Some(5));
    assert_eq!(bed.sweep("09:00", slice::from_ref(&math)), ["end math at 22:00: rooms close at 22:00 UTC"]);
    let mut late = live("late", Some("21:55"), Some(5));
    assert_eq!(
        bed.sweep("21:56", &[math.clone(), late.clone()]),
        ["end late at 22:00: rooms close at 22:00 UTC"],
        "closing time is closing time, also for who came late"
    );
    // Past its time the job is at work, and stays; the next closing is a job of its own.
    let tomorrow = |meeting: &str| format!("end {meeting} at 2026-11-04T22:00: rooms close at 22:00 UTC");
    assert_eq!(bed.sweep("22:05", &[math.clone(), late.clone()]), [tomorrow("math"), tomorrow("late")]);
    late.meeting = MeetingId::from("later");
    late.started_at = Some(at("22:04"));
    assert_eq!(bed.sweep("22:06", &[math.clone(), late]), [tomorrow("later")], "it began after closing time");
    bed.watch = Watch::default();
    assert_eq!(bed.sweep("2026-11-04T09:00:00Z", &[math]), [""; 0], "nor does a restart withdraw it");
}

#[test]
fn a_closing_that_nobody_saw_coming() {
    let mut bed = Bed::new(&[Rule { close_at: Some(time("22:00")), ..rule("close") }]);
    let math = live("math", Some("09:00"), Some(5));
    let tomorrow = "end math at 2026-11-04T22:00: rooms close at 22:00 UTC";
    assert_eq!(
        bed.sweep("22:30", slice::from_ref(&math)),
        ["end math at 22:40: rooms close at 22:00 UTC", tomorrow]
    );
    let mut bed = Bed::new(&bed.rules);
    assert_eq!(bed.sweep("23:30", &[math]), [tomorrow]);
}

#[test]
fn days_of_the_week_and_calendars() {
    let weekdays = Weekdays::parse("Mon-Wed").unwrap();
    let closing = Rule { close_at: Some(time("22:00")), weekdays, ..rule("close") };
    let math = live("math", Some("2026-11-05T09:00:00Z"), Some(5));
    let mut bed = Bed::new(slice::from_ref(&closing));
    assert_eq!(bed.sweep("2026-11-05T10:00:00Z", slice::from_ref(&math)), [""; 0], "Thursday");
    assert_eq!(
        bed.sweep("2026-11-08T22:30:00Z", slice::from_ref(&math)),
        ["end math at 2026-11-09T22:00: rooms close at 22:00 UTC"]
    );
    let holiday = Days { except: vec!["2026-11-09".to_owned()], ..Days::default() };
    bed.rules[0].days = holiday.clone();
    assert_eq!(
        bed.sweep("2026-11-08T22:31:00Z", &[math]),
        ["withdraw math: rule close does not apply to it any more"]
    );
    // What counts for a length is the day on which it would end.
    let mut bed = Bed::new(&[Rule { days: holiday, ..max_duration(4 * HOUR) }]);
    let over_midnight = live("math", Some("2026-11-08T22:00:00Z"), None);
    assert_eq!(bed.sweep("2026-11-08T22:01:00Z", &[over_midnight]), [""; 0]);
    let before = live("physics", Some("2026-11-08T19:00:00Z"), None);
    assert_eq!(bed.sweep("2026-11-08T22:01:00Z", &[before]).len(), 1);
}

#[test]
fn closed_hours() {
    let night = Rule { closed: Some((time("22:00"), time("06:00"))), ..rule("night") };
    let mut bed = Bed::new(&[night]);
    let math = live("math", Some("20:00"), Some(5));
    let reason = "rooms are closed from 22:00 to 06:00 UTC";
    assert_eq!(bed.sweep("20:00", slice::from_ref(&math)), [format!("end math at 22:00: {reason}")]);
    let inside = live("inside", Some("23:00"), Some(5));
    assert_eq!(
        bed.sweep("23:01", &[math.clone(), inside.clone()]),
        [
            format!("end math at 2026-11-04T22:00: {reason}"),
            format!("end inside at 23:11: {reason}"),
            format!("end inside at 2026-11-04T22:00: {reason}")
        ]
    );
    let early = live("early", Some("2026-11-04T05:55:00Z"), Some(5));
    assert_eq!(
        bed.sweep("2026-11-04T05:56:00Z", &[math.clone(), inside.clone(), early]),
        [format!("end early at 2026-11-04T22:00: {reason}")],
        "with its notice it would end when the rooms are open again"
    );
    bed.watch = Watch::default();
    assert_eq!(bed.sweep("2026-11-04T05:57:00Z", slice::from_ref(&inside)), [""; 0]);
    assert_eq!(bed.sweep("2026-11-04T06:30:00Z", &[inside]), [""; 0], "its job may still be at work");
}
