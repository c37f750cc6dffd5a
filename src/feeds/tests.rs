//! Feeds on disk and behind a simulated server.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use tempfile::TempDir;
use url::Url;
use wiremock::matchers::{header, header_exists, path};
use wiremock::{Mock, MockServer, ResponseTemplate};

use super::*;
use crate::schedule::{Calendar, FeedOptions, FeedUrl, MAX_FEED};

/// 2026-11-01T00:00:00Z
const NOW: Now = Now { wall: UtcMs(1_793_491_200_000), boot: BootMs(7) };
const SECRET_PATH: &str = "/private-hunter2/basic.ics";

fn feed(day: &str) -> String {
    format!("BEGIN:VCALENDAR\nBEGIN:VEVENT\nUID:1\nDTSTART;VALUE=DATE:{day}\nEND:VEVENT\nEND:VCALENDAR\n")
}

fn schedule(source: &Source) -> Schedule {
    let calendar = Calendar { source: Some(source.clone()), ..Calendar::default() };
    Schedule { calendars: [("holidays".to_owned(), calendar)].into(), ..Schedule::default() }
}

/// A daemon's state directory, and a feed.
struct Bed {
    dir: TempDir,
    reader: Reader,
    source: Source,
    feeds: Feeds,
    now: Now,
}

impl Bed {
    fn new(source: Source) -> Bed {
        let dir = TempDir::new().unwrap();
        let reader = Reader::new(dir.path(), Trial::Skip).unwrap();
        Bed { dir, reader, source, feeds: Feeds::default(), now: NOW }
    }

    fn served_by(server: &MockServer) -> Bed {
        let url = format!("{}{SECRET_PATH}?key=hunter2", server.uri());
        Bed::new(Source::Url(FeedUrl::new(Url::parse(&url).unwrap())))
    }

    /// One refresh; what was told, without the beginning that is always the same.
    async fn refresh(&mut self) -> Vec<String> {
        let (feeds, reports) = self.reader.refresh(&schedule(&self.source), &self.feeds, self.now).await;
        self.feeds = feeds;
        self.reader.forget_others(&schedule(&self.source)).await;
        let all = format!("{reports:?} {:?}", self.feeds);
        assert!(!all.contains("hunter2"), "{all}");
        let begin = format!("the feed {} (calendars.holidays) ", self.source);
        let tell = |report: &Report| {
            let told = report.to_string();
            assert!(!told.contains("hunter2"), "{told}");
            assert_eq!(report.is_bad(), !told.ends_with("was read"));
            told.strip_prefix(&begin).unwrap_or(&told).to_owned()
        };
        reports.iter().map(tell).collect()
    }

    /// The days in December that the present copy covers.
    fn days(&self) -> Vec<i8> {
        covered(&self.feeds, &self.source)
    }

    fn wait(&mut self, minutes: u64) {
        let time = Duration::from_secs(60 * minutes);
        self.now = Now { wall: self.now.wall + time, boot: self.now.boot + time };
    }

    /// Why the present copy is there though a newer one was read.
    fn held(&self) -> Vec<String> {
        self.feeds.held().map(|(_, why)| why).collect()
    }

    fn restart(&mut self) {
        self.reader = Reader::new(self.dir.path(), Trial::Skip).unwrap();
        self.feeds = self.reader.load_kept(&schedule(&self.source), NOW.wall);
    }

    fn copies(&self) -> Vec<PathBuf> {
        let Ok(entries) = fs::read_dir(self.dir.path().join("feeds")) else { return Vec::new() };
        entries.map(|entry| entry.unwrap().path()).collect()
    }
}

fn covered(feeds: &Feeds, source: &Source) -> Vec<i8> {
    let Some(feed) = feeds.get(source) else { return Vec::new() };
    let noon = |day| jiff::civil::date(2026, 12, day).at(12, 0, 0, 0);
    let covers = |day: &i8| {
        let at = TimeZone::UTC.to_timestamp(noon(*day)).unwrap();
        feed.covers(at.into(), &TimeZone::UTC)
    };
    (1..=31).filter(covers).collect()
}

async fn answer(server: &MockServer, answer: ResponseTemplate) {
    server.reset().await;
    Mock::given(path(SECRET_PATH)).respond_with(answer).mount(server).await;
}

fn body(text: &str) -> ResponseTemplate {
    ResponseTemplate::new(200).set_body_string(text)
}

#[tokio::test]
async fn what_is_served_is_used_and_kept() {
    let server = MockServer::start().await;
    answer(&server, body(&feed("20261224"))).await;
    let mut bed = Bed::served_by(&server);
    assert_eq!(bed.refresh().await, ["was read"]);
    assert_eq!(bed.days(), [24]);
    let [copy] = bed.copies().try_into().unwrap();
    assert_eq!(fs::metadata(&copy).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(!copy.display().to_string().contains("hunter2"));

    // The same again is no news, another version is used without a word.
    assert_eq!(bed.refresh().await, [""; 0]);
    answer(&server, body(&feed("20261225"))).await;
    assert_eq!(bed.refresh().await, [""; 0]);
    assert_eq!(bed.days(), [25]);
    assert_eq!(bed.copies(), [copy]);
}

#[tokio::test]
async fn the_last_good_copy_survives_everything() {
    let server = MockServer::start().await;
    answer(&server, body(&feed("20261224"))).await;
    let mut bed = Bed::served_by(&server);
    bed.refresh().await;
    let too_large = " ".repeat(MAX_FEED + 1);
    let cut = feed("20261225").replace("END:VCALENDAR\n", "");
    for (broken, why) in [
        (ResponseTemplate::new(500), "its server answers 500"),
        (ResponseTemplate::new(404).set_body_string(feed("20261225")), "its server answers 404"),
        (body("<html>log in</html>"), "it is not iCalendar: it does not begin with BEGIN:VCALENDAR"),
        (body(&cut), "line 6: it ends in the middle of a calendar (a download cut off?)"),
        (body(&too_large), "it is larger than 16 MiB"),
        (ResponseTemplate::new(304), "its server answers 304"),
        (ResponseTemplate::new(302), "its server answers 302"),
    ] {
        answer(&server, broken).await;
        assert_eq!(bed.refresh().await, [format!("cannot be read: {why}; the last good copy counts")]);
        assert_eq!(bed.refresh().await, [""; 0], "told once");
        assert_eq!(bed.days(), [24]);
        answer(&server, body(&feed("20261224"))).await;
        assert_eq!(bed.refresh().await, ["was read"]);
    }
    answer(&server, ResponseTemplate::new(500)).await;
    bed.restart();
    assert_eq!(bed.days(), [24]);
    let refused = "cannot be read: its server answers 500; the last good copy counts";
    assert_eq!(bed.refresh().await, [refused]);
    assert_eq!(bed.days(), [24]);
}

#[tokio::test]
async fn a_server_that_is_not_there() {
    // A port that was free a moment ago.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let url = Url::parse(&format!("http://127.0.0.1:{port}{SECRET_PATH}")).unwrap();
    let mut bed = Bed::new(Source::Url(FeedUrl::new(url)));
    let told = bed.refresh().await;
    assert!(told[0].starts_with("cannot be read: cannot connect: "), "{told:?}");
}

#[tokio::test]
async fn what_was_never_read_is_not_known() {
    let server = MockServer::start().await;
    answer(&server, ResponseTemplate::new(500)).await;
    let mut bed = Bed::served_by(&server);
    let why = "nothing is known of it: no meeting ends by it, and no calendar takes it into account";
    assert_eq!(bed.refresh().await, [format!("cannot be read: its server answers 500; {why}")]);
    assert!(bed.feeds.is_empty() && bed.copies().is_empty());
    // The next trouble is no news either.
    answer(&server, body("")).await;
    assert_eq!(bed.refresh().await, [""; 0]);
}

#[tokio::test]
async fn an_unchanged_feed_is_not_sent_again() {
    let server = MockServer::start().await;
    let first = body(&feed("20261224"))
        .insert_header("ETag", "\"v1\"")
        .insert_header("Last-Modified", "Sun, 01 Nov 2026 00:00:00 GMT");
    answer(&server, first).await;
    let mut bed = Bed::served_by(&server);
    bed.refresh().await;
    server.reset().await;
    let unchanged = Mock::given(header("If-None-Match", "\"v1\""))
        .and(header_exists("If-Modified-Since"))
        .respond_with(ResponseTemplate::new(304));
    unchanged.expect(1).mount(&server).await;
    assert_eq!(bed.refresh().await, [""; 0]);
    assert_eq!(bed.days(), [24]);

    // Trouble in between, and unchanged after it: that is told.
    answer(&server, ResponseTemplate::new(503)).await;
    bed.refresh().await;
    answer(&server, ResponseTemplate::new(304)).await;
    assert_eq!(bed.refresh().await, ["was read"]);

    // Without a copy nothing is asked conditionally.
    server.reset().await;
    Mock::given(header_exists("If-None-Match")).respond_with(ResponseTemplate::new(304)).mount(&server).await;
    Mock::given(path(SECRET_PATH))
        .respond_with(body(&feed("20261226")))
        .with_priority(9)
        .mount(&server)
        .await;
    bed.feeds = Feeds::default();
    bed.refresh().await;
    assert_eq!(bed.days(), [26]);
}

#[tokio::test]
async fn redirects() {
    let server = MockServer::start().await;
    let to = |target: &str| ResponseTemplate::new(302).insert_header("Location", target);
    let mut bed = Bed::served_by(&server);

    answer(&server, to("/elsewhere")).await;
    Mock::given(path("/elsewhere")).respond_with(body(&feed("20261224"))).mount(&server).await;
    assert_eq!(bed.refresh().await, ["was read"]);

    let other = server.uri().replace("127.0.0.1", "localhost");
    answer(&server, to(&format!("{other}/hunter2"))).await;
    let refused = "cannot be read: it redirects to an address that is not https; the last good copy counts";
    assert_eq!(bed.refresh().await, [refused]);

    bed.restart();
    answer(&server, to(SECRET_PATH)).await;
    let refused = "cannot be read: it redirects more than 5 times; the last good copy counts";
    assert_eq!(bed.refresh().await, [refused]);
    assert_eq!(server.received_requests().await.unwrap().len(), 6);
    assert_eq!(bed.days(), [24]);
}

#[tokio::test]
async fn events_that_were_left_out_are_told_when_that_changes() {
    let server = MockServer::start().await;
    let odd = "BEGIN:VEVENT\nUID:2\nDTSTART:tomorrow\nEND:VEVENT\n";
    let with = |odd: &str| body(&feed("20261224").replace("END:VCALENDAR", &format!("{odd}END:VCALENDAR")));
    let mut bed = Bed::served_by(&server);
    answer(&server, with(odd)).await;
    assert_eq!(bed.refresh().await, ["was read, without one event: line 6: its DTSTART is no time"]);
    assert_eq!(bed.refresh().await, [""; 0]);
    answer(&server, with(&odd.repeat(2))).await;
    assert_eq!(bed.refresh().await, ["was read, without 2 events: line 6: its DTSTART is no time, ..."]);
    // What repeats without bounds shows only when a year is worked out.
    let endless = "BEGIN:VEVENT\nUID:3\nDTSTART:19010101T000000Z\nRRULE:FREQ=DAILY;BYHOUR=1,2,3,4,5,6;BYMINUTE=1,2,3,4,5,6\nEND:VEVENT\n";
    answer(&server, with(endless)).await;
    let told = bed.refresh().await;
    assert!(told[0].starts_with("was read, without one event: line 6: "), "{told:?}");
    answer(&server, with("")).await;
    assert_eq!(bed.refresh().await, ["was read"]);
}

#[tokio::test]
async fn files_are_read_again_and_kept_too() {
    let home = TempDir::new().unwrap();
    let file = home.path().join("term.ics");
    fs::write(&file, feed("20261224")).unwrap();
    let mut bed = Bed::new(Source::File(file.clone()));
    assert_eq!(bed.refresh().await, ["was read"]);
    fs::write(&file, feed("20261225")).unwrap();
    assert_eq!(bed.refresh().await, [""; 0]);
    assert_eq!(bed.days(), [25]);

    fs::write(&file, "BEGIN:VCALENDAR\n").unwrap();
    let cut = "line 2: it ends in the middle of a calendar (a download cut off?)";
    assert_eq!(bed.refresh().await, [format!("cannot be read: {cut}; the last good copy counts")]);
    fs::remove_file(&file).unwrap();
    bed.restart();
    assert_eq!(bed.days(), [25]);
    let told = bed.refresh().await;
    assert_eq!(told, ["cannot be read: No such file or directory (os error 2); the last good copy counts"]);
}

#[tokio::test]
async fn a_copy_that_cannot_be_kept_is_told_and_the_feed_is_used() {
    let home = TempDir::new().unwrap();
    let file = home.path().join("term.ics");
    fs::write(&file, feed("20261224")).unwrap();
    let mut bed = Bed::new(Source::File(file));
    fs::write(bed.dir.path().join("feeds"), "in the way").unwrap();
    let told = bed.refresh().await;
    assert!(told[0].starts_with("was read, but cannot be kept for the next start: "), "{told:?}");
    assert_eq!(bed.days(), [24]);
}

#[tokio::test]
async fn what_the_schedule_no_longer_uses_is_forgotten() {
    let home = TempDir::new().unwrap();
    let file = home.path().join("term.ics");
    fs::write(&file, feed("20261224")).unwrap();
    let mut bed = Bed::new(Source::File(file));
    bed.refresh().await;
    fs::write(bed.dir.path().join("feeds/half.new"), "x").unwrap();
    fs::write(bed.dir.path().join("feeds/README"), "somebody's").unwrap();
    bed.reader.forget_others(&Schedule::default()).await;
    assert_eq!(bed.copies(), [bed.dir.path().join("feeds/README")]);
}

/// Programs that do what a child does whose parser panics, and one that fares well.
#[tokio::test]
async fn a_feed_that_does_harm_is_left_alone() {
    let home = TempDir::new().unwrap();
    let file = home.path().join("term.ics");
    fs::write(&file, feed("20261224")).unwrap();
    let mut bed = Bed::new(Source::File(file.clone()));
    bed.refresh().await;
    fs::write(&file, feed("20261225")).unwrap();
    let crash = bed.dir.path().join("crash");
    fs::write(&crash, "#!/bin/sh\nkill -ABRT $$\n").unwrap();
    fs::set_permissions(&crash, fs::Permissions::from_mode(0o755)).unwrap();
    for program in ["/bin/false".into(), crash, "/nowhere".into()] {
        bed.reader.trial = Trial::Child(program);
        bed.reader.remember(&bed.source, |memory| memory.state = State::Good);
        let why = "reading it took too long, took too much memory, or crashed (in a process of its own)";
        assert_eq!(bed.refresh().await, [format!("cannot be read: {why}; the last good copy counts")]);
        assert_eq!(bed.days(), [24]);
    }
    bed.reader.trial = Trial::Child("/bin/true".into());
    assert_eq!(bed.refresh().await, ["was read"]);
    assert_eq!(bed.days(), [25]);
}

#[test]
fn a_damaged_copy_counts_as_none() {
    let dir = TempDir::new().unwrap();
    let source = Source::File(PathBuf::from("/nowhere/term.ics"));
    kept::keep(dir.path(), &source, feed("20261224").as_bytes()).unwrap();
    let reader = Reader::new(dir.path(), Trial::Skip).unwrap();
    let load = || reader.load_kept(&schedule(&source), NOW.wall);
    assert_eq!(covered(&load(), &source), [24]);
    kept::keep(dir.path(), &source, b"BEGIN:VCALENDAR\n").unwrap();
    assert!(load().is_empty());
}

#[tokio::test]
async fn a_reload_reads_files_anew_and_says_what_it_lacks() {
    let home = TempDir::new().unwrap();
    let file = home.path().join("term.ics");
    fs::write(&file, feed("20261224")).unwrap();
    let mut bed = Bed::new(Source::File(file.clone()));
    bed.refresh().await;
    let wanted = schedule(&bed.source);
    let (feeds, unread) = bed.reader.for_reload(&wanted, &bed.feeds, NOW).await;
    assert!(feeds.is_empty() && unread.is_empty(), "it has not changed");
    fs::write(&file, feed("20261225")).unwrap();
    let (feeds, unread) = bed.reader.for_reload(&wanted, &bed.feeds, NOW).await;
    assert_eq!((covered(&feeds, &bed.source), unread), (vec![25], Vec::new()));
    // If that was not applied, the next refresh finds it all the same.
    bed.refresh().await;
    assert_eq!(bed.days(), [25]);
    fs::remove_file(&file).unwrap();
    let (_, unread) = bed.reader.for_reload(&wanted, &bed.feeds, NOW).await;
    assert!(unread[0].known && unread[0].why.starts_with("No such file"), "{unread:?}");
    let (feeds, unread) = bed.reader.for_reload(&wanted, &Feeds::default(), NOW).await;
    assert!(feeds.is_empty() && !unread[0].known);
    let told = unread[0].to_string();
    assert!(told.contains("term.ics (calendars.holidays) cannot be read: No such file"), "{told}");
}

#[tokio::test]
async fn a_copy_that_was_forgotten_too_early_is_kept_again() {
    let home = TempDir::new().unwrap();
    let file = home.path().join("term.ics");
    fs::write(&file, feed("20261224")).unwrap();
    let mut bed = Bed::new(Source::File(file));
    bed.refresh().await;
    bed.reader.forget_others(&Schedule::default()).await;
    assert!(bed.copies().is_empty());
    bed.refresh().await;
    assert_eq!(bed.copies().len(), 1);
}

/// Copies from before are tried too: at the start, and when another year begins.
#[tokio::test]
async fn a_copy_that_does_harm_is_not_used() {
    let home = TempDir::new().unwrap();
    let file = home.path().join("term.ics");
    fs::write(&file, feed("20261224")).unwrap();
    let mut bed = Bed::new(Source::File(file.clone()));
    bed.refresh().await;
    let wanted = schedule(&bed.source);
    let reader = |program: &str| Reader::new(bed.dir.path(), Trial::Child(program.into())).unwrap();
    assert!(reader("/bin/false").load_kept(&wanted, NOW.wall).is_empty());
    for program in ["/bin/true", "/nowhere"] {
        let good = reader(program).load_kept(&wanted, NOW.wall);
        assert_eq!(covered(&good, &bed.source), [24], "{program}");
    }

    // The first years went well.
    let in_its_year = bed.dir.path().join("try");
    fs::write(&in_its_year, "#!/bin/sh\ncat > /dev/null\n[ \"$2\" = 2026 ]\n").unwrap();
    fs::set_permissions(&in_its_year, fs::Permissions::from_mode(0o755)).unwrap();
    let reader = reader(in_its_year.to_str().unwrap());
    let feeds = reader.load_kept(&wanted, NOW.wall);
    assert_eq!(covered(&feeds, &bed.source), [24]);
    fs::remove_file(file).unwrap();
    let (feeds, _) = reader.refresh(&wanted, &feeds, NOW).await;
    assert_eq!(covered(&feeds, &bed.source), [24]);
    let year = Duration::from_secs(366 * 86_400);
    let next_year = Now { wall: NOW.wall + year, boot: NOW.boot + year };
    let (feeds, reports) = reader.refresh(&wanted, &feeds, next_year).await;
    assert!(feeds.is_empty(), "{reports:?}");
}

const EMPTY: &str = "BEGIN:VCALENDAR\nEND:VCALENDAR\n";
const HELD: &str = "lists no event any more; the copy before counts until it has said so for 15 minutes";

#[tokio::test]
async fn a_feed_that_becomes_empty_is_not_believed_at_once() {
    let server = MockServer::start().await;
    answer(&server, body(&feed("20261224"))).await;
    let mut bed = Bed::served_by(&server);
    bed.refresh().await;
    let [copy] = bed.copies().try_into().unwrap();
    answer(&server, body(EMPTY)).await;
    let told = [format!("{HELD} (accept-empty = true takes it at its word at once)")];
    assert_eq!(bed.refresh().await, told);
    assert_eq!((bed.days(), bed.held()), (vec![24], vec![HELD.to_owned()]));
    bed.wait(14);
    assert_eq!(bed.refresh().await, [""; 0], "told once");
    // It says something again: the time begins anew.
    answer(&server, body(&feed("20261224"))).await;
    assert_eq!(bed.refresh().await, ["was read"]);
    assert_eq!((bed.days(), bed.held()), (vec![24], Vec::new()));
    answer(&server, body(EMPTY)).await;
    assert_eq!(bed.refresh().await, told);
    bed.wait(14);
    bed.refresh().await;
    assert_eq!(bed.days(), [24]);
    // A restart has the copy that counts, and asks for the time again.
    bed.restart();
    assert_eq!(bed.days(), [24]);
    assert!(fs::read_to_string(&copy).unwrap().contains("20261224"));
    assert_eq!(bed.refresh().await, told);
    bed.wait(15);
    assert_eq!(bed.refresh().await, ["was read"]);
    assert_eq!((bed.days(), bed.held()), (Vec::new(), Vec::new()));
    assert_eq!(fs::read_to_string(&copy).unwrap(), EMPTY);
}

#[tokio::test]
async fn a_reload_does_not_believe_it_either_unless_it_is_meant() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("a.ics");
    fs::write(&file, feed("20261224")).unwrap();
    let mut bed = Bed::new(Source::File(file.clone()));
    bed.refresh().await;
    fs::write(&file, EMPTY).unwrap();
    let (feeds, unread) = bed.reader.for_reload(&schedule(&bed.source), &bed.feeds, NOW).await;
    assert!(feeds.is_empty() && unread[0].known);
    assert_eq!(unread[0].why, format!("it is not believed yet: it {HELD}"));
    let mut meant = schedule(&bed.source);
    let options = FeedOptions { accept_empty: true, ..FeedOptions::default() };
    meant.feed_options.insert(bed.source.clone(), options);
    let (feeds, unread) = bed.reader.for_reload(&meant, &bed.feeds, NOW).await;
    assert!(unread.is_empty() && feeds.get(&bed.source).unwrap().is_empty());
}

#[tokio::test]
async fn other_zones_make_another_feed_of_the_same_bytes() {
    let server = MockServer::start().await;
    let text =
        feed("20261224").replace(";VALUE=DATE:20261224", ";TZID=Campus:20261224T100000\nDURATION:PT10H");
    let etag = body(&text).insert_header("etag", "\"1\"");
    answer(&server, etag).await;
    let mut bed = Bed::served_by(&server);
    bed.refresh().await;
    assert_eq!(bed.days(), [0; 0]);
    let mut named = schedule(&bed.source);
    let zones = [("Campus".to_owned(), TimeZone::get("Europe/Berlin").unwrap())].into();
    named.feed_options.insert(bed.source.clone(), FeedOptions { zones, ..FeedOptions::default() });
    let (feeds, _) = bed.reader.for_reload(&named, &bed.feeds, NOW).await;
    assert_eq!(covered(&feeds, &bed.source), [24]);
    let (feeds, _) = bed.reader.refresh(&named, &bed.feeds, NOW).await;
    assert_eq!(covered(&feeds, &bed.source), [24]);
}

#[test]
fn what_is_no_file() {
    assert_eq!(read_file(Path::new("/dev/null")), Err("it is not a regular file".to_owned()));
    let dir = TempDir::new().unwrap();
    assert_eq!(read_file(dir.path()), Err("it is not a regular file".to_owned()));
}
