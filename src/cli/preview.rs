//! `adjourn preview`.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::tz::TimeZone;

use super::check;
use super::client::typed;
use super::context::Context;
use super::failure::Failure;
use super::say;
use super::table::table;
use super::text::{clean, cut};
use crate::config;
use crate::control::{DEFAULT_PREVIEW_DAYS, MAX_PREVIEW_DAYS, preview_of_files};
use crate::exit::ExitCode;
use crate::job::{ServerName, UtcMs};
use crate::schedule::preview::{Instant, Item, Kind, Preview, RuleLine};
use crate::schedule::{Feed, Feeds, GivenZones, MAX_FEED, Schedule, Source, zone_named};

/// Columns that a meeting's id may take.
const MEETING_COLUMNS: usize = 40;
/// Below so many columns of the terminal times are shown with their offset, and without UTC beside them.
const COLUMNS_FOR_UTC: u16 = 120;

/// Show what will end when: from the schedule, its rules, and the queue
///
/// Times are those of the entry's own zone. What is no job yet may still change with its calendars.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// So many days from now on
    #[arg(long, value_name = "N", default_value_t = DEFAULT_PREVIEW_DAYS)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_PREVIEW_DAYS)))]
    days: u32,
    /// Only meetings on this server
    #[arg(long)]
    server: Option<String>,
    /// Show what these schedule files would do, without asking the daemon and its queue: before a reload
    #[arg(long = "file", value_name = "FILE", num_args = 1..)]
    files: Vec<PathBuf>,
    /// With --file: read no secrets
    #[arg(long, requires = "files")]
    no_secrets: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub async fn run(args: Args, cx: &mut Context) -> Result<ExitCode, Failure> {
    if !args.files.is_empty() {
        return offline(&args, cx);
    }
    let mut query = vec![("days", args.days.to_string())];
    query.extend(args.server.iter().map(|server| ("server", server.clone())));
    let answer = cx.client()?.get(&["preview"], &query).await?;
    if args.json {
        cx.out.json(&answer)?;
        return Ok(ExitCode::Done);
    }
    let preview: Preview = typed(&answer)?;
    tell(&preview, cx)?;
    Ok(ExitCode::Done)
}

/// By the files alone, read as the daemon would read them.
fn offline(args: &Args, cx: &mut Context) -> Result<ExitCode, Failure> {
    let now = cx.now().wall;
    let loaded = config::load(&args.files, &check::environment(args.no_secrets), now);
    if !loaded.diagnostics.is_empty() {
        cx.out.note(check::render(&loaded.diagnostics));
    }
    let Some(settings) = loaded.settings else { return Ok(ExitCode::Config) };
    let server = args.server.as_deref().map(ServerName::from);
    if let Some(unknown) = server.as_ref().filter(|server| !settings.servers.contains_key(server)) {
        let known: Vec<&str> = settings.servers.keys().map(ServerName::as_str).collect();
        return Err(Failure::new(ExitCode::Refused, format!("there is no server {unknown}"))
            .hint(format!("the files name {}", known.join(", "))));
    }
    let feeds = read_feeds(&settings.schedule, cx);
    let preview = preview_of_files(&settings.schedule, &feeds, now, args.days, server);
    if args.json {
        cx.out.json(&preview)?;
    } else {
        tell(&preview, cx)?;
    }
    Ok(ExitCode::Done)
}

/// The feeds that are files. What has to be fetched is the daemon's.
fn read_feeds(schedule: &Schedule, cx: &mut Context) -> Feeds {
    let calendars = schedule.calendars.values().filter_map(|calendar| calendar.source.as_ref());
    let sources: BTreeSet<&Source> =
        calendars.chain(schedule.calendar_ends.iter().map(|end| &end.source)).collect();
    let mut feeds = Feeds::default();
    for source in sources {
        let read = match source {
            Source::File(path) => read_feed(path, &schedule.zones_of(source)),
            Source::Url(_) => Err("only the daemon fetches it: adjourn preview, without --file".to_owned()),
        };
        match read {
            Ok(feed) => feeds.insert(source.clone(), Arc::new(feed)),
            Err(why) => cx.out.note(clean(&format!("the feed {source} is not in here: {why}"))),
        }
    }
    feeds
}

fn read_feed(path: &Path, zones: &GivenZones) -> Result<Feed, String> {
    let mut bytes = Vec::new();
    let limit = u64::try_from(MAX_FEED).unwrap_or(u64::MAX).saturating_add(1);
    let read = File::open(path).and_then(|file| file.take(limit).read_to_end(&mut bytes));
    read.map_err(|error| error.to_string())?;
    Feed::parse_with(&bytes, zones).map_err(|error| error.to_string())
}

fn tell(preview: &Preview, cx: &mut Context) -> Result<(), Failure> {
    if preview.items.is_empty() {
        let until = cx.moment(preview.complete_until);
        cx.out.note(format_args!("nothing is planned to end until {until}"));
    } else {
        let table = render(cx, &preview.items);
        cx.out.line(table)?;
    }
    for rule in &preview.rules {
        let line = rule_line(cx, rule);
        cx.out.line(format_args!("rule {line}"))?;
    }
    for note in &preview.notes {
        cx.out.note(clean(note));
    }
    if preview.complete_until < preview.until {
        let until = cx.moment(preview.complete_until);
        cx.out.note(format_args!(
            "there is more than can be shown: this is complete until {until}; try --days or --server"
        ));
    }
    Ok(())
}

fn render(cx: &Context, items: &[Item]) -> String {
    let wide = cx.out.width().is_none_or(|columns| columns >= COLUMNS_FOR_UTC);
    let mut header = vec!["DUE", "UTC", "", "MEETING", "FROM", "JOB", "NOTES"];
    let mut rows: Vec<Vec<String>> = items.iter().map(|item| row(cx, item)).collect();
    if !wide {
        header.remove(1);
        for (row, item) in rows.iter_mut().zip(items) {
            row.remove(1);
            row[0] = with_offset(item.due, &zone_of(cx, item));
        }
    }
    table(&cx.out, &header, rows)
}

fn row(cx: &Context, item: &Item) -> Vec<String> {
    let zone = zone_of(cx, item);
    let meeting = format!("{}/{}", clean(item.server.as_str()), clean(item.meeting.as_str()));
    vec![
        dated(item.due, &zone),
        utc(item.due, &zone),
        say::relative(item.due, cx.now()),
        cut(&meeting, MEETING_COLUMNS),
        clean(&item.origin),
        item.job.map_or_else(String::new, |id| id.short()),
        notes(item, &zone),
    ]
}

/// That of the entry, in brackets behind its local time; otherwise ours.
fn zone_of(cx: &Context, item: &Item) -> TimeZone {
    let text = item.local.as_deref().unwrap_or_default();
    let name = text.split_once('[').and_then(|(_, rest)| rest.strip_suffix(']'));
    name.and_then(zone_named).unwrap_or_else(|| cx.zone.clone())
}

/// The time of day in UTC, with the day where that is another one.
fn utc(at: UtcMs, zone: &TimeZone) -> String {
    let (utc, local) = (at.timestamp().to_zoned(TimeZone::UTC), at.timestamp().to_zoned(zone.clone()));
    let format = if utc.date() == local.date() { "%H:%M:%SZ" } else { "%Y-%m-%d %H:%M:%SZ" };
    utc.strftime(format).to_string()
}

fn notes(item: &Item, zone: &TimeZone) -> String {
    let mut notes = Vec::new();
    if let Some(planned) = item.extended_from {
        notes.push(format!("extended from {}", dated(planned, zone)));
    }
    notes.extend(item.notes.iter().map(|note| say::shortened(note)));
    if !item.warnings.is_empty() {
        notes.push(format!("warned {} before", marks(item.due, &item.warnings)));
    }
    if notes.is_empty() && item.kind == Kind::Planned {
        notes.push("planned".to_owned());
    }
    notes.join("; ")
}

/// With the day, always: "today" is another one elsewhere.
fn dated(at: UtcMs, zone: &TimeZone) -> String {
    at.timestamp().to_zoned(zone.clone()).strftime("%a %Y-%m-%d %H:%M:%S %Z").to_string()
}

/// The same with the offset from UTC instead of the name of the zone, which says less.
fn with_offset(at: UtcMs, zone: &TimeZone) -> String {
    at.timestamp().to_zoned(zone.clone()).strftime("%a %Y-%m-%d %H:%M:%S %:z").to_string()
}

/// `10m and 1m`
fn marks(due: UtcMs, warnings: &[Instant]) -> String {
    let mark =
        |Instant(at): &Instant| say::span(std::time::Duration::from_millis(due.ms_since(*at).unsigned_abs()));
    warnings.iter().map(mark).collect::<Vec<String>>().join(" and ")
}

fn rule_line(cx: &Context, rule: &RuleLine) -> String {
    let zone = rule.zone.as_deref().and_then(zone_named);
    let zone = zone.unwrap_or_else(|| cx.zone.clone());
    let closes: Vec<String> = rule.closes.iter().map(|Instant(at)| dated(*at, &zone)).collect();
    let mut line = clean(&rule.text);
    if !closes.is_empty() {
        line.push_str(&format!("; next at {}", closes.join(", ")));
    }
    line
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::cli::output::Output;
    use crate::control::fake::{NOW, id};
    use crate::job::State;
    use crate::schedule::Calendar;

    fn item(meeting: &str, minutes: u64) -> Item {
        let due = NOW.wall + Duration::from_secs(60 * minutes);
        Item {
            due,
            local: None,
            server: "campus".into(),
            meeting: meeting.into(),
            instance: None,
            kind: Kind::Planned,
            origin: format!("schedule:{meeting}"),
            job: None,
            state: None,
            extended_from: None,
            warnings: Vec::new(),
            notes: Vec::new(),
        }
    }

    fn preview() -> Preview {
        let warnings = [600, 60].map(|s| Instant(NOW.wall + Duration::from_secs(5400 - s)));
        let extended = Item {
            kind: Kind::Job,
            job: Some(id(1)),
            state: Some(State::Waiting),
            extended_from: Some(NOW.wall + Duration::from_secs(1800)),
            warnings: warnings.to_vec(),
            ..item("math", 90)
        };
        let apia = item("night\u{1b}[2J", 600);
        let zone = TimeZone::get("Pacific/Apia").unwrap();
        let local = apia.due.timestamp().to_zoned(zone).to_string();
        let skipped = Item {
            kind: Kind::Skipped,
            local: Some(local),
            notes: vec!["skipped: except holidays (2026-12-02)".into()],
            ..apia
        };
        Preview {
            from: NOW.wall,
            until: NOW.wall + Duration::from_secs(86_400),
            complete_until: NOW.wall + Duration::from_secs(43_200),
            items: vec![item("plain", 5), extended, skipped],
            rules: vec![RuleLine {
                name: "nights".into(),
                server: "campus".into(),
                dry_run: true,
                text: "nights: ends at 22:00 (dry run)".into(),
                closes: vec![Instant(NOW.wall + Duration::from_secs(17_100))],
                zone: Some("Europe/Berlin".into()),
            }],
            notes: vec!["a feed\nwas never read".into()],
        }
    }

    #[test]
    fn what_ends_when_in_local_time_and_utc_with_its_notes() {
        let (output, out, err) = Output::captured(None);
        tell(&preview(), &mut Context::test("/nowhere".into(), output)).unwrap();
        insta::assert_snapshot!(out.text(), @r"
        DUE                          UTC                   MEETING           FROM                JOB       NOTES
        Tue 2026-12-01 17:20:00 CET  16:20:00Z  in 5m      campus/plain      schedule:plain                planned
        Tue 2026-12-01 18:45:00 CET  17:45:00Z  in 1h 30m  campus/math       schedule:math       00000001  extended from Tue 2026-12-01 17:45:00 CET; warned 10m and 1m before
        Wed 2026-12-02 15:15:00 +13  02:15:00Z  in 10h     campus/night␛[2J  schedule:night␛[2J            skipped: except holidays (2026-12-02)
        rule nights: ends at 22:00 (dry run); next at Tue 2026-12-01 22:00:00 CET
        ");
        insta::assert_snapshot!(err.text(), @r"
        a feed␊was never read
        there is more than can be shown: this is complete until Wed 2026-12-02 05:15:00 CET, in 12h; try --days or --server
        ");
    }

    #[test]
    fn a_narrow_terminal_does_without_utc() {
        let (output, out, _) = Output::captured(Some(90));
        tell(&preview(), &mut Context::test("/nowhere".into(), output)).unwrap();
        let text = out.text();
        let table = text.lines().take_while(|line| !line.starts_with("rule "));
        assert!(table.clone().all(|line| unicode_width::UnicodeWidthStr::width(line) <= 90), "{text}");
        assert!(!text.contains("UTC") && text.contains("17:20:00 +01:00"), "{text}");
    }

    #[test]
    fn feeds_that_are_files_are_read_and_others_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("holidays.ics");
        let event = "BEGIN:VEVENT\nUID:1\nDTSTART;VALUE=DATE:20261224\nEND:VEVENT";
        std::fs::write(&path, format!("BEGIN:VCALENDAR\nVERSION:2.0\n{event}\nEND:VCALENDAR\n")).unwrap();
        let calendar =
            |path: &Path| Calendar { source: Some(Source::File(path.to_owned())), ..Calendar::default() };
        let missing = dir.path().join("missing.ics");
        let calendars = [("holidays".to_owned(), calendar(&path)), ("gone".to_owned(), calendar(&missing))];
        let schedule = Schedule { calendars: calendars.into(), ..Schedule::default() };
        let (output, _, err) = Output::captured(None);
        let feeds = read_feeds(&schedule, &mut Context::test("/nowhere".into(), output));
        assert!(feeds.len() == 1 && feeds.get(&Source::File(path)).is_some());
        assert!(err.text().contains("missing.ics is not in here: No such file"), "{}", err.text());
    }

    #[test]
    fn nothing_to_come_is_said() {
        let (output, out, err) = Output::captured(None);
        let mut cx = Context::test("/nowhere".into(), output);
        let empty = Preview { items: Vec::new(), rules: Vec::new(), notes: Vec::new(), ..preview() };
        let whole = Preview { complete_until: empty.until, ..empty };
        tell(&whole, &mut cx).unwrap();
        assert_eq!(out.text(), "");
        assert_eq!(err.text(), "nothing is planned to end until Wed 2026-12-02 17:15:00 CET, in 1d\n");
    }
}
