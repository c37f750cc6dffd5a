//! Reading iCalendar feeds, and keeping the last good copy of each.
//!
//! A feed comes from strangers, and what it says ends meetings. So nothing that is broken, cut off, too large or too slow to
//! work out takes the place of what was read before; the copy in the state directory (`feeds/`, one file a feed, named by
//! what it is a copy of) outlives restarts, and a daemon without network starts with it. What a feed has come to is told
//! when it changes, and not at every refresh. A feed that shrinks suddenly is not believed at once (`shrunk`). URLs are secrets as often as not: only their hosts are ever shown.

mod fetch;
mod kept;
mod shrunk;
mod trial;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Duration;

use futures_util::stream::{self, StreamExt};
use jiff::tz::TimeZone;
use sha2::{Digest, Sha256};

use self::fetch::{Fetched, Fetcher, Validators};
use crate::clock::system_now;
use crate::engine::api::UnreadFeed;
use crate::job::{BootMs, Now, UtcMs};
use crate::schedule::{Feed, FeedError, Feeds, GivenZones, Schedule, Source};

pub use self::kept::read_file;
pub use self::trial::{TRIAL_ARG, Trial, trial_child_main};

/// A reload waits so long for feeds that are new.
const WAITED_FOR: Duration = Duration::from_secs(3);
/// Feeds that are read at once.
const CONCURRENT: usize = 4;
/// A start waits so long for copies to be tried. Ordinary ones take milliseconds; those that are late count as not there
/// until their feeds are read.
const KEPT_TRIALS: Duration = Duration::from_secs(10);

/// Reads feeds, and remembers what there is to remember between two refreshes.
pub struct Reader {
    state_dir: PathBuf,
    trial: Trial,
    fetcher: Fetcher,
    known: Mutex<BTreeMap<Source, Memory>>,
}

/// What is known of one feed.
#[derive(Clone, Default)]
struct Memory {
    /// Of the bytes on disk.
    kept: Option<[u8; 32]>,
    /// The year around which the present copy has been tried.
    tried: Option<i16>,
    validators: Validators,
    /// Since when it says what is not believed yet.
    shrunk: Option<BootMs>,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq, Default)]
enum State {
    #[default]
    New,
    Good,
    /// Good, and this many events were left out.
    Odd(usize),
    Failing,
    /// Good, and it could not be kept.
    Unkept,
    /// Good, and not believed yet.
    Held,
}

/// Something has changed about a feed.
#[derive(Clone, PartialEq, Debug)]
pub struct Report {
    /// A path, or the host of a URL.
    pub source: String,
    /// `calendars.holidays`, `calendar-end lectures`.
    pub used_by: Vec<String>,
    pub news: News,
}

#[derive(Clone, PartialEq, Debug)]
pub enum News {
    /// It could be read, for the first time or again.
    Read,
    /// The same, but some events were left out.
    LeftOut { count: usize, first: String },
    /// It cannot be read; `fallback`: the last good copy counts meanwhile.
    Failing { why: String, fallback: bool },
    /// It could be read, but not kept for the next start.
    Unkept { why: String },
    /// It could be read, and lists so much less than before that the copy before counts meanwhile.
    Held { why: String },
}

impl Report {
    /// Should somebody look?
    pub fn is_bad(&self) -> bool {
        self.news != News::Read
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the feed {} ({}) ", self.source, self.used_by.join(", "))?;
        match &self.news {
            News::Read => f.write_str("was read"),
            News::LeftOut { count: 1, first } => write!(f, "was read, without one event: {first}"),
            News::LeftOut { count, first } => write!(f, "was read, without {count} events: {first}, ..."),
            News::Failing { why, fallback: true } => {
                write!(f, "cannot be read: {why}; the last good copy counts")
            }
            News::Failing { why, fallback: false } => write!(
                f,
                "cannot be read: {why}; nothing is known of it: no meeting ends by it, and no calendar takes it into \
                 account"
            ),
            News::Unkept { why } => write!(f, "was read, but cannot be kept for the next start: {why}"),
            News::Held { why } => write!(f, "{why} (accept-empty = true takes it at its word at once)"),
        }
    }
}

impl Reader {
    /// Fails only where TLS cannot be set up on this machine.
    pub fn new(state_dir: &Path, trial: Trial) -> Result<Reader, String> {
        let state_dir = state_dir.to_owned();
        Ok(Reader { state_dir, trial, fetcher: Fetcher::new()?, known: Mutex::default() })
    }

    /// What the feeds of the schedule last said: the copies on disk that are good and do no harm. Those of a start, so each
    /// is tried as if it were new; all at once, and not for long. Blocks.
    pub fn load_kept(&self, schedule: &Schedule, now: UtcMs) -> Feeds {
        let year = year_of(now);
        let (send, receive) = mpsc::channel();
        let mut tried = Vec::new();
        for source in schedule.sources().into_keys() {
            let Ok(bytes) = read_file(&kept::path(&self.state_dir, source)) else { continue };
            tried.push(source);
            let (send, trial, source) = (send.clone(), self.trial.clone(), source.clone());
            let zones = schedule.zones_of(&source);
            // Where there is no thread for it, it is late as well, and read anew in a moment.
            let _ = std::thread::Builder::new().spawn(move || {
                // It was good once, which must do where nothing can be tried.
                let fares_well = trial.try_out(&bytes, year, &zones).unwrap_or(true);
                // Nobody waits for what is late.
                let _ = send.send((source, fares_well.then_some(bytes)));
            });
        }
        drop(send);
        let until = system_now().boot + KEPT_TRIALS;
        let left = || Duration::from_millis(until.0.saturating_sub(system_now().boot.0).unsigned_abs());
        let mut feeds = Feeds::default();
        while let Ok((source, bytes)) = receive.recv_timeout(left()) {
            let zones = schedule.zones_of(&source);
            let Some(feed) = bytes.and_then(|bytes| trial::read(&bytes, year, &zones).ok()) else { continue };
            self.remember(&source, |memory| {
                memory.kept = Some(*feed.digest());
                memory.tried = Some(year);
            });
            feeds.insert(source, Arc::new(feed));
        }
        for source in tried.into_iter().filter(|source| feeds.get(source).is_none()) {
            tracing::warn!("the copy of the feed {source} from before cannot be used");
        }
        feeds
    }

    /// Reads every feed of the schedule, `known` being what is there so far. What cannot be read stays as it was; a copy
    /// that would do harm in a new year is left out. Bounded in time: three minutes for every four feeds at worst.
    ///
    /// `now` decides which years are worked out here rather than when somebody asks, and whether what a feed has lost is
    /// believed.
    pub async fn refresh(&self, schedule: &Schedule, known: &Feeds, now: Now) -> (Feeds, Vec<Report>) {
        let sources = schedule.sources();
        let year = year_of(now.wall);
        let used: Vec<Source> = sources.keys().copied().cloned().collect();
        let each = used.into_iter().map(|source| async move {
            let present = self.still_good(&source, known.get(&source), year).await;
            let found = self.read(&Wanted::new(schedule, &source, now), present.as_ref()).await;
            (source, present, found)
        });
        let all: Vec<_> = stream::iter(each).buffered(CONCURRENT).collect().await;
        let (mut feeds, mut reports) = (Feeds::default(), Vec::new());
        for (source, present, found) in all {
            let news = self.note(&source, &found, present.is_some(), year);
            if let Some(news) = news {
                let used_by = sources.get(&source).cloned().unwrap_or_default();
                reports.push(Report { source: source.to_string(), used_by, news });
            }
            if let Some(feed) = found.ok().and_then(|found| found.feed).or(present) {
                feeds.insert(source, feed);
            }
        }
        (feeds, reports)
    }

    /// For a reload, which somebody waits for: the feeds of the schedule that are not `known`, and what files say now, as far
    /// as they can be read within some seconds. And which of them cannot; what is late comes with the next refresh.
    pub async fn for_reload(&self, schedule: &Schedule, known: &Feeds, now: Now) -> (Feeds, Vec<UnreadFeed>) {
        let wanted = |source: &Source| {
            let present = known.get(source);
            let is_new = present.is_none_or(|present| *present.zones() != schedule.zones_of(source));
            is_new || matches!(source, Source::File(_))
        };
        let reads = schedule.sources().into_iter().filter(|(source, _)| wanted(source)).map(
            |(source, used_by)| async move {
                let present = known.get(source);
                let asked = Wanted::new(schedule, source, now);
                let read = tokio::time::timeout(WAITED_FOR, self.read(&asked, present)).await;
                let late = || format!("not read within {} s; it is tried further", WAITED_FOR.as_secs());
                match read.unwrap_or_else(|_| Err(late())) {
                    Ok(Found { held: Some(why), .. }) => {
                        let why = format!("it is not believed yet: it {why}");
                        Err(UnreadFeed { source: source.to_string(), used_by, why, known: true })
                    }
                    Ok(found) => Ok(found.feed.map(|feed| (source.clone(), feed))),
                    Err(why) => {
                        let (source, known) = (source.to_string(), present.is_some());
                        Err(UnreadFeed { source, used_by, why, known })
                    }
                }
            },
        );
        let (mut feeds, mut unread) = (Feeds::default(), Vec::new());
        for read in futures_util::future::join_all(reads).await {
            match read {
                Ok(Some((source, feed))) => feeds.insert(source, feed),
                Ok(None) => {}
                Err(failure) => unread.push(failure),
            }
        }
        (feeds, unread)
    }

    /// The present copy, unless it would do harm this year. It was tried around another one, or never.
    async fn still_good(&self, source: &Source, present: Option<&Arc<Feed>>, year: i16) -> Option<Arc<Feed>> {
        let present = present?.clone();
        if self.memory(source).tried == Some(year) {
            return Some(present);
        }
        let (path, trial) = (kept::path(&self.state_dir, source), self.trial.clone());
        let (digest, zones) = (*present.digest(), present.zones().clone());
        let tried = tokio::task::spawn_blocking(move || {
            let Ok(bytes) = read_file(&path) else { return None };
            let same = digest == <[u8; 32]>::from(Sha256::digest(&bytes));
            if same { trial.try_out(&bytes, year, &zones).ok() } else { None }
        });
        match tried.await {
            Ok(Some(true)) => {
                let asked = present.clone();
                // What the child has tried is no more than it was there.
                let _ = tokio::task::spawn_blocking(move || asked.keep_to(year)).await;
                self.remember(source, |memory| memory.tried = Some(year));
            }
            Ok(Some(false)) => return None,
            // It was good once, which must do where nothing can be tried.
            Ok(None) | Err(_) => {}
        }
        Some(present)
    }

    async fn read(&self, wanted: &Wanted<'_>, present: Option<&Arc<Feed>>) -> Result<Found, String> {
        let Wanted { source, zones, year, .. } = wanted;
        // Under other names of time zones the same bytes say something else.
        let same_zones = present.filter(|present| present.zones() == zones);
        let before = self.memory(source);
        let (bytes, validators) = match source {
            Source::File(path) => {
                let path = path.clone();
                let read = tokio::task::spawn_blocking(move || read_file(&path)).await;
                (read.map_err(|_| "reading it was interrupted".to_owned())??, Validators::default())
            }
            Source::Url(url) => {
                let validators = same_zones.map_or_else(Validators::default, |_| before.validators);
                match self.fetcher.fetch(url, &validators).await? {
                    Fetched::New(bytes, validators) => (bytes, validators),
                    Fetched::Unchanged => {
                        self.believe(source, present);
                        return Ok(Found::default());
                    }
                }
            }
        };
        let digest: [u8; 32] = Sha256::digest(&bytes).into();
        let bytes = Arc::new(bytes);
        let feed = match same_zones {
            Some(present) if *present.digest() == digest => None,
            _ => {
                let feed = work_out(self.trial.clone(), bytes.clone(), *year, zones.clone()).await;
                Some(feed.map_err(|error| error.to_string())?)
            }
        };
        if let (Some(present), Some(newer)) = (present, &feed)
            && let Some(held) = self.held(wanted, present, newer)
        {
            present.hold(Some(held.clone()));
            return Ok(Found { held: Some(held), ..Found::default() });
        }
        self.believe(source, present);
        let kept = match before.kept == Some(digest) {
            true => Ok(()),
            false => self.keep(source, bytes).await,
        };
        self.remember(source, |memory| {
            let is_kept = kept.is_ok();
            if feed.is_some() {
                memory.tried = Some(*year);
            }
            memory.kept = is_kept.then_some(digest);
            // What could not be kept is sent once more, and then kept.
            memory.validators = if is_kept { validators } else { Validators::default() };
        });
        Ok(Found { feed, kept, held: None })
    }

    /// Why a newer copy does not take the place of the present one yet.
    fn held(&self, wanted: &Wanted<'_>, present: &Feed, newer: &Feed) -> Option<String> {
        if wanted.accepts_empty {
            return None;
        }
        let what = shrunk::suspicion(present, newer, wanted.now.wall)?;
        let mut since = wanted.now.boot;
        self.remember(wanted.source, |memory| since = *memory.shrunk.get_or_insert(since));
        if shrunk::is_believed(since, wanted.now.boot) {
            return None;
        }
        Some(format!("{what}; the copy before counts until it has said so for 15 minutes"))
    }

    /// What the feed says now counts.
    fn believe(&self, source: &Source, present: Option<&Arc<Feed>>) {
        self.remember(source, |memory| memory.shrunk = None);
        if let Some(present) = present {
            present.hold(None);
        }
    }

    async fn keep(&self, source: &Source, bytes: Arc<Vec<u8>>) -> Result<(), String> {
        let (dir, source) = (self.state_dir.clone(), source.clone());
        let kept = tokio::task::spawn_blocking(move || kept::keep(&dir, &source, &bytes)).await;
        kept.map_err(|_| "writing it was interrupted".to_owned())?.map_err(|error| error.to_string())
    }

    /// What to tell of a feed, if that is not what was told last.
    fn note(&self, source: &Source, found: &Result<Found, String>, present: bool, year: i16) -> Option<News> {
        let before = self.memory(source).state;
        let (state, news) = match found {
            Err(why) => (State::Failing, News::Failing { why: why.clone(), fallback: present }),
            Ok(Found { held: Some(why), .. }) => (State::Held, News::Held { why: why.clone() }),
            Ok(Found { kept: Err(why), .. }) => (State::Unkept, News::Unkept { why: why.clone() }),
            Ok(Found { feed: Some(feed), .. }) => {
                // Of what repeats it shows only year by year.
                let years = [year, year.saturating_add(1)].map(|year| feed.year(year, &TimeZone::UTC));
                let all = || [feed.problems()].into_iter().chain(years.iter().map(|year| &year.problems));
                let of_years = years.iter().map(|year| year.problems.count).max();
                let count = feed.problems().count + of_years.unwrap_or_default();
                match all().find_map(|problems| problems.first.first()) {
                    Some(first) => {
                        let news = News::LeftOut { count, first: first.to_string() };
                        (State::Odd(count), news)
                    }
                    None => (State::Good, News::Read),
                }
            }
            Ok(Found { feed: None, .. }) => match before {
                State::Failing | State::New | State::Unkept | State::Held => (State::Good, News::Read),
                same => return self.settle(source, same, None),
            },
        };
        self.settle(source, state, (state != before).then_some(news))
    }

    fn settle(&self, source: &Source, state: State, news: Option<News>) -> Option<News> {
        self.remember(source, |memory| memory.state = state);
        news
    }

    fn memory(&self, source: &Source) -> Memory {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(source).cloned().unwrap_or_default()
    }

    fn remember(&self, source: &Source, change: impl FnOnce(&mut Memory)) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        change(known.entry(source.clone()).or_default());
    }

    /// Drops the copies and memories of what the schedule does not use.
    pub async fn forget_others(&self, schedule: &Schedule) {
        let used: Vec<Source> = schedule.sources().into_keys().cloned().collect();
        self.known.lock().unwrap_or_else(PoisonError::into_inner).retain(|source, _| used.contains(source));
        let dir = self.state_dir.clone();
        // What stays behind is found again at the next refresh.
        let _ = tokio::task::spawn_blocking(move || kept::forget_others(&dir, &used)).await;
    }
}

fn year_of(now: UtcMs) -> i16 {
    TimeZone::UTC.to_datetime(now.timestamp()).year()
}

/// One refresh of one feed that went well.
struct Found {
    /// `None`: it has not changed.
    feed: Option<Arc<Feed>>,
    kept: Result<(), String>,
    /// Why what it says is not believed yet.
    held: Option<String>,
}

/// A feed, and how it is to be read.
struct Wanted<'a> {
    source: &'a Source,
    zones: GivenZones,
    accepts_empty: bool,
    now: Now,
    /// The one to be worked out, with those beside it.
    year: i16,
}

impl<'a> Wanted<'a> {
    fn new(schedule: &Schedule, source: &'a Source, now: Now) -> Wanted<'a> {
        Wanted {
            source,
            zones: schedule.zones_of(source),
            accepts_empty: schedule.accepts_empty(source),
            now,
            year: year_of(now.wall),
        }
    }
}

impl Default for Found {
    fn default() -> Found {
        Found { feed: None, kept: Ok(()), held: None }
    }
}

/// Away from everything that must be on time.
async fn work_out(
    trial: Trial,
    bytes: Arc<Vec<u8>>,
    year: i16,
    zones: GivenZones,
) -> Result<Arc<Feed>, FeedError> {
    let work = tokio::task::spawn_blocking(move || {
        trial.run(&bytes, year, &zones)?;
        trial::read(&bytes, year, &zones).map(Arc::new)
    });
    work.await.unwrap_or(Err(FeedError::Harmful))
}

#[cfg(test)]
mod tests;
