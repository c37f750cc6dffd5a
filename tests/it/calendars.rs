//! Calendars as a person meets them, and feeds that are meant to do harm.

use std::io::Write;
use std::process::Stdio;

use crate::harness::{Bed, Plan};

const LECTURES: &str = "BEGIN:VCALENDAR\r\n\
    BEGIN:VEVENT\r\nUID:1\r\nDTSTART:20270201T100000Z\r\nDURATION:PT1H\r\nRRULE:FREQ=OFTEN\r\nEND:VEVENT\r\n\
    END:VCALENDAR\r\n";

fn with_lectures(ics: &str) -> Bed {
    let bed = Plan::default().lay();
    let end = format!(
        "[[calendar-end]]\nname = \"lectures\"\nserver = \"campus\"\nics = {ics}\nmeeting = {{ from = \"LOCATION\" }}\n"
    );
    bed.write_schedule("", &end);
    bed
}

#[test]
fn check_names_the_line_of_an_odd_event_and_refuses_nothing() {
    let bed = with_lectures("\"/nowhere/lectures.ics\"");
    let path = bed.path("lectures.ics");
    std::fs::write(&path, LECTURES).unwrap();
    let text = std::fs::read_to_string(bed.schedule()).unwrap();
    std::fs::write(bed.schedule(), text.replace("/nowhere/lectures.ics", path.to_str().unwrap())).unwrap();
    let (code, said) = bed.says(&["check", bed.schedule().to_str().unwrap()]);
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("lectures.ics: line 2: its RRULE cannot be read"), "{said}");
}

#[test]
fn the_url_of_a_feed_is_a_secret() {
    for (ics, expected) in [
        ("\"https://calendar.example.org/hunter2/lectures.ics?key=hunter2\"", 0),
        ("\"http://calendar.example.org/hunter2/lectures.ics\"", 78),
        ("\"webcal://calendar.example.org/hunter2/lectures.ics\"", 78),
        ("{ url = \"https://calendar.example.org/hunter2\" }", 78),
    ] {
        let bed = with_lectures(ics);
        let (code, said) = bed.says(&["check", bed.schedule().to_str().unwrap()]);
        assert_eq!(code, expected, "{said}");
        assert!(said.contains("ics") && !said.contains("hunter2"), "{said}");
    }
}

/// The child that takes the first look at a feed comes back, whatever the feed is.
#[test]
fn a_first_look_at_a_feed() {
    let bed = Plan::default().lay();
    let look = |year: &str, feed: &[u8]| {
        let mut command = bed.command(&["__try-feed", year]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(feed).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.stdout.is_empty());
        output.status.code()
    };
    assert_eq!(look("2027", LECTURES.as_bytes()), Some(0));
    assert_eq!(look("2027", b"BEGIN:VCALENDAR\n"), Some(0));
    assert_eq!(look("2027", &[0xff; 1 << 20]), Some(0));
    // Rules that no day ever fulfils come to their end all the same.
    let never = |n: usize| {
        LECTURES.replace("UID:1", &format!("UID:{n}")).replace("OFTEN", "DAILY;BYMONTH=2;BYMONTHDAY=30")
    };
    let events: String = (0..2_000)
        .map(never)
        .map(|one| one.lines().skip(1).take(6).collect::<Vec<_>>().join("\n") + "\n")
        .collect();
    assert_eq!(look("2027", format!("BEGIN:VCALENDAR\n{events}END:VCALENDAR\n").as_bytes()), Some(0));
    assert_eq!(look("soon", LECTURES.as_bytes()), Some(1));
}

/// A reload reads a file anew, and says which feed it could not read.
#[test]
fn a_reload_reads_calendars() {
    let bed = Bed::start();
    let path = bed.path("lectures.ics");
    let entry = |ics: &str| {
        format!(
            "[[calendar-end]]\nname = \"lectures\"\nserver = \"campus\"\nics = \"{ics}\"\n\
             meeting = {{ from = \"LOCATION\" }}\n"
        )
    };
    bed.write_schedule("", &entry(path.to_str().unwrap()));
    let dry = bed.json(&["reload", "--dry-run"]);
    assert_eq!(dry["unread"][0]["known"], false, "{dry}");
    let (_, said) = bed.says(&["reload"]);
    assert!(said.contains("lectures.ics (calendar-end lectures) cannot be read: No such file"), "{said}");

    let event = |location: &str| {
        let now = adjourn::clock::system_now().wall.timestamp();
        let at = |hours: i64| {
            (now + jiff::SignedDuration::from_hours(hours)).strftime("%Y%m%dT%H%M%SZ").to_string()
        };
        format!(
            "BEGIN:VCALENDAR\r\nBEGIN:VEVENT\r\nUID:1\r\nDTSTART:{}\r\nDTEND:{}\r\nLOCATION:{location}\r\n\
             END:VEVENT\r\nEND:VCALENDAR\r\n",
            at(1),
            at(2)
        )
    };
    for room in ["room-1", "room-2"] {
        std::fs::write(&path, event(room)).unwrap();
        let (_, said) = bed.says(&["reload"]);
        let added = said.lines().any(|line| line.starts_with("add ") && line.contains(room));
        assert!(added, "{said}");
    }
}
