//! `[calendars.*]` and `[[calendar-end]]`.

use super::*;
use crate::schedule::{Schedule, Source};

const LECTURES: &str = "name = \"lectures\"\nserver = \"campus\"\nics = \"/nowhere.ics\"\n";

/// The keys of `[calendars.a]`, in lines 7 and on.
#[track_caller]
fn check_calendar(keys: &str, expected: &[&str]) {
    check_campus(&format!("[calendars.a]\n{keys}"), expected);
}

/// Line 7 is the header; a name, a server and an ics that is not there stand in lines 8 to 10.
#[track_caller]
fn check_calendar_end(keys: &str, expected: &[&str]) {
    let missing = "10:7 note: /nowhere.ics: No such file or directory (os error 2)";
    let expected: Vec<&str> = [missing].iter().chain(expected).copied().collect();
    check_campus(&format!("\n[[calendar-end]]\n{LECTURES}{keys}"), &expected);
}

fn schedule(text: &str) -> Schedule {
    std::sync::Arc::unwrap_or_clone(settings(&format!("{CAMPUS}{text}")).schedule)
}

#[test]
fn calendars_of_all_kinds() {
    let read = schedule(
        "[daemon]\nrefresh = \"5m\"\n\
         [calendars.holidays]\ndates = [\"2026-12-24\", 2026-12-31, \"2027-01-01..2027-01-06\"]\n\
         [calendars.office]\nweekly = \"Mon-Fri 08:00-18:00\"\ntimezone = \"Europe/Berlin\"\n\
         [calendars.term]\nics = \"https://cal.example.org/hunter2/term.ics#x\"\n",
    );
    assert_eq!(read.refresh, Duration::from_secs(300));
    assert_eq!(read.calendars["holidays"].dates.len(), 3);
    let office = &read.calendars["office"];
    assert_eq!(
        (office.weekly.len(), office.timezone.as_ref().unwrap().iana_name()),
        (1, Some("Europe/Berlin"))
    );
    let source = read.calendars["term"].source.as_ref().unwrap();
    assert_eq!(source.to_string(), "cal.example.org");
    let Source::Url(url) = source else { panic!("{source:?}") };
    assert_eq!(url.expose().as_str(), "https://cal.example.org/hunter2/term.ics");
    assert_eq!(settings(CAMPUS).schedule.refresh, Duration::from_secs(900));
}

#[test]
fn calendar_ends() {
    let read = schedule(
        "[calendars.holidays]\ndates = \"2026-12-24\"\n\
         [[calendar-end]]\nname = \"lectures\"\nserver = \"campus\"\nics = \"/nowhere.ics\"\n\
         timezone = \"Europe/Berlin\"\nexcept = \"holidays\"\nkeep-closed = \"1h\"\n\
         meeting = { from = \"x-room\", pattern = '^room-(\\d+)' }\n",
    );
    let end = &read.calendar_ends[0];
    assert_eq!((end.name.as_str(), &end.server), ("lectures", &ServerName::from("campus")));
    assert_eq!(end.source, Source::File(PathBuf::from("/nowhere.ics")));
    assert_eq!((end.property.as_str(), end.pattern.as_ref().unwrap().as_str()), ("X-ROOM", "^room-(\\d+)"));
    assert_eq!(end.timezone.as_ref().unwrap().iana_name(), Some("Europe/Berlin"));
    assert_eq!((end.days.only.len(), end.days.except.as_slice()), (0, &["holidays".to_owned()][..]));
    assert_eq!(end.limits.keep_closed, Duration::from_secs(3600));
}

#[test]
fn what_is_wrong_with_a_calendar() {
    check_calendar(
        "dates = [\"2026-12-24\", \"24.12.2026\"]",
        &["7:24 error: \"24.12.2026\" is not a day or a range of days"],
    );
    check_calendar(
        "dates = \"2026-12-24..2026-12-23\"",
        &["7:9 error: \"2026-12-24..2026-12-23\" ends before it begins"],
    );
    check_calendar("dates = 7", &["7:9 error: dates must be a string or a list of strings, not an integer"]);
    check_calendar("dates = [7]", &["7:9 error: dates must be a string or a list of strings, not an array"]);
    check_calendar("weekly = [\"Mon 8-18\"]", &["7:11 error: \"Mon 8-18\" is not a weekly window"]);
    check_calendar(
        "weekly = \"Sat\"\ntimezone = \"Berlin\"",
        &["8:12 error: \"Berlin\" is not a known time zone"],
    );
    check_calendar("", &[EMPTY]);
    check_calendar("days = \"Sat\"", &[EMPTY, "7:1 error: unknown key \"days\" in [calendars.a]"]);
    check_campus("[calendars]\na = 7", &["7:1 error: calendars.a must be a table, not an integer"]);
}

const EMPTY: &str = "6:12 note: the calendar \"a\" lists nothing";

#[test]
fn where_a_feed_comes_from() {
    let unseen = "7:7 note: what stands behind a URL is not looked at here";
    check_calendar("ics = \"https://cal.example.org/hunter2.ics\"", &[unseen]);
    check_calendar("ics = \"http://127.0.0.1:8080/hunter2.ics\"", &[unseen]);
    check_calendar(
        "ics = \"http://cal.example.org/hunter2.ics\"",
        &["7:7 error: ics is fetched in clear: whoever is on the way could end meetings"],
    );
    check_calendar(
        "ics = \"webcal://cal.example.org/hunter2.ics\"",
        &["7:7 error: ics begins with webcal://"],
    );
    check_calendar(
        "ics = \"ftp://cal.example.org/hunter2.ics\"",
        &["7:7 error: ics is no path and no https URL"],
    );
    check_calendar(
        "ics = \"hunter2.ics\"",
        &["7:7 error: ics is no path and no URL: relative URL without a base"],
    );
    check_calendar("ics = { env = \"NONE\" }", &["7:7 error: the environment variable NONE is not set"]);
    check_calendar(
        "ics = { env = \"SECRET\" }",
        &["7:7 error: ics is no path and no URL: relative URL without a base"],
    );
    check_calendar(
        "ics = { url = \"hunter2\" }",
        &[
            "7:7 error: the ics of [calendars.a] must name exactly one of credential, env and file",
            "7:9 error: unknown key \"url\" in the ics of [calendars.a]",
        ],
    );
}

#[test]
fn what_is_wrong_with_a_calendar_end() {
    let meeting = "meeting = { from = \"URL\" }\n";
    check_calendar_end(meeting, &[]);
    check_campus(
        "[[calendar-end]]",
        &[
            "6:1 error: [[calendar-end]] has no meeting",
            "6:1 error: [[calendar-end]] has no name",
            "6:1 error: [[calendar-end]] has no server",
            "6:1 error: [[calendar-end]] has no ics",
        ],
    );
    check_calendar_end(
        "meeting = { pattern = 'x' }",
        &["11:11 error: the meeting of [[calendar-end]] has no from"],
    );
    check_calendar_end("meeting = \"x\"", &["11:11 error: meeting must be a table, not a string"]);
    check_calendar_end(
        "meeting = { from = \"ORGANIZER\" }",
        &["11:20 error: from is \"ORGANIZER\", not a property that is read here"],
    );
    check_calendar_end(
        "meeting = { from = \"URL\", pattern = '(' }",
        &["11:37 error: pattern is no regular expression: unclosed group"],
    );
    check_calendar_end(
        "meeting = { from = \"URL\", pattern = '(\\w{900}){900}' }",
        &[
            "11:37 error: pattern is no regular expression: Compiled regex exceeds size limit of 1048576 bytes.",
        ],
    );
    check_calendar_end(
        &format!("{meeting}only = \"term\""),
        &[
            "12:8 error: there is no calendar \"term\"",
            "12:8 error: only and except need to know where a day begins",
        ],
    );
    check_calendar_end(
        &format!("{meeting}timezone = \"Berlin\""),
        &["12:12 error: \"Berlin\" is not a known time zone"],
    );
    check_calendar_end(
        &format!("{meeting}late-limit = \"soon\""),
        &["12:14 error: late-limit is \"soon\", which is not a duration"],
    );
    check_calendar_end(
        &format!("{meeting}lock = \"permanent\""),
        &["12:8 error: lock = \"permanent\" is not possible on campus"],
    );
    check_campus("[daemon]\nrefresh = \"1s\"", &["7:11 error: refresh is \"1s\", less than 1m"]);
}

#[test]
fn names_are_taken_once() {
    let end = "[[end]]\nname = \"a\"\nserver = \"campus\"\nmeeting = \"m\"\nat = \"2026-12-01T18:00:00Z\"\n";
    let other = "[[calendar-end]]\nname = \"a\"\nserver = \"campus\"\nics = \"/nowhere.ics\"\nmeeting = { from = \"URL\" }\n";
    let loaded = load_one(&format!("{CAMPUS}{end}{other}"));
    let [taken, _] = told(&loaded, Path::new("")).try_into().unwrap();
    assert!(taken.starts_with("12:8 error: the name \"a\" is taken by another entry; first at "), "{taken}");
    let calendars = [
        ("schedule.toml", "[calendars.a]\ndates = \"2026-12-24\"\n"),
        ("schedule.d/b.toml", "[calendars.a]\n"),
    ];
    check_files(
        &calendars,
        &[""],
        &["schedule.d/b.toml:1:12 error: the calendar \"a\" is given twice; first at schedule.toml:1:12"],
    );
}

#[test]
fn how_a_feed_is_read() {
    let read = schedule(
        "[calendars.a]\nics = \"/a.ics\"\nzones = { \"Customized Time Zone\" = \"Europe/Berlin\" }\naccept-empty = true\n\
         [calendars.b]\nics = \"/b.ics\"\naccept-empty = true\n\
         [[calendar-end]]\nname = \"lectures\"\nserver = \"campus\"\nics = \"/b.ics\"\nmeeting = { from = \"URL\" }\n\
         zones = { \"Campus\" = \"US/Eastern\" }\nskip = { from = \"x-busy\", pattern = '^FREE$' }\n",
    );
    let [a, b] = ["/a.ics", "/b.ics"].map(|path| Source::File(PathBuf::from(path)));
    assert_eq!(read.zones_of(&a)["Customized Time Zone"].iana_name(), Some("Europe/Berlin"));
    assert_eq!(read.zones_of(&b)["Campus"].iana_name(), Some("US/Eastern"));
    // Both that use it have to say so.
    assert_eq!((read.accepts_empty(&a), read.accepts_empty(&b)), (true, false));
    let skip = read.calendar_ends[0].skip.as_ref().unwrap();
    assert_eq!((skip.property.as_str(), skip.pattern.as_str()), ("X-BUSY", "^FREE$"));
}

#[test]
fn how_a_feed_cannot_be_read() {
    let meeting = "meeting = { from = \"URL\" }\n";
    let end = |keys: &str, expected: &[&str]| check_calendar_end(&format!("{meeting}{keys}"), expected);
    end("skip = { from = \"URL\" }\n", &["12:8 error: the skip of [[calendar-end]] has no pattern"]);
    end(
        "skip = { from = \"ORGANIZER\", pattern = 'x' }\n",
        &["12:17 error: from is \"ORGANIZER\", not a property that is read here"],
    );
    end("zones = { \"Campus\" = \"Nowhere\" }\n", &["12:9 error: \"Nowhere\" is not a known time zone"]);
    // The file is remarked on where the calendar names it.
    let twice = "zones = { \"Campus\" = \"Asia/Tokyo\" }\n[calendars.a]\nics = \"/nowhere.ics\"\n\
                 zones = { \"Campus\" = \"Europe/Berlin\" }\n";
    check_campus(
        &format!("\n[[calendar-end]]\n{LECTURES}{meeting}{twice}"),
        &[
            "12:9 error: the time zone \"Campus\" of this feed is given two meanings",
            "14:7 note: /nowhere.ics: No such file or directory (os error 2)",
        ],
    );
}

/// What a feed in a file says is looked at, and named with its line.
#[test]
fn feeds_in_files_are_read() {
    let home = TempDir::new().unwrap();
    let path = home.path().join("lectures.ics");
    let check = |feed: &str, expected: &[&str]| {
        fs::write(&path, feed).unwrap();
        let keys = format!(
            "[[calendar-end]]\nname = \"lectures\"\nserver = \"campus\"\nics = \"{}\"\nmeeting = {{ from = \"URL\" }}\n",
            path.display()
        );
        let loaded = load_one(&format!("{CAMPUS}{keys}"));
        let told: Vec<String> = told(&loaded, Path::new(""))
            .iter()
            .map(|line| line.replace(&path.display().to_string(), "FEED"))
            .collect();
        assert_eq!(told, expected);
        assert!(loaded.settings.is_some());
    };
    let event = |uid: &str, lines: &str| {
        format!("BEGIN:VEVENT\nUID:{uid}\nDTSTART:20261201T100000Z\nDURATION:PT1H\n{lines}END:VEVENT\n")
    };
    let feed = |events: &str| format!("BEGIN:VCALENDAR\n{events}END:VCALENDAR\n");
    check(&feed(&event("1", "URL:https://x/1\n")), &[]);
    check("<html>", &["9:7 note: FEED: it is not iCalendar: it does not begin with BEGIN:VCALENDAR"]);
    check(
        &feed(&event("1", "RRULE:FREQ=OFTEN\n").repeat(3)),
        &[2, 8, 14]
            .map(|line| format!("9:7 note: FEED: line {line}: its RRULE cannot be read"))
            .each_ref()
            .map(String::as_str),
    );
    check(
        &feed(&(event("1", "URL:https://x/1\n") + &event("2", "SUMMARY:Tea\n"))),
        &["10:20 note: an event ends no meeting: \"Tea\" (2026-12-01T11:00:00.000Z): it has no URL"],
    );
    check(&feed(&event("1", "URL:https://x/1\nRRULE:FREQ=DAILY;COUNT=3\n")), &[]);
    check(
        &feed(&event("1", "URL:https://x/1\nRDATE:20261201T120000Z\n")),
        &["10:20 note: \"lectures\" comes again after 2h, sooner than its give-up-after = \"1d\""],
    );
    let short = event("1", "URL:https://x/1\n").replace("PT1H", "PT45M");
    fs::write(&path, feed(&short)).unwrap();
    let end =
        format!("name = \"lectures\"\nserver = \"campus\"\nics = {path:?}\nmeeting = {{ from = \"URL\" }}");
    let text = format!("{CAMPUS}[[calendar-end]]\n{end}\npin-before = \"1h\"\n");
    let note = "10:20 note: \"lectures\" has an event of 45m, shorter than its pin-before = \"1h\"";
    assert_eq!(told(&load_one(&text), Path::new("")), [note]);
}
