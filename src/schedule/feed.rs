//! iCalendar feeds: where they come from, what the last good copies say, and when something takes place.
//!
//! What repeats is worked out by the year, when a year is first asked for, and kept: many entries ask about the same days.
//! A daemon keeps to the years around the present one, which it has tried out: a yearly end that looks for a day off far
//! in the future must not have every year until then worked out.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::civil::{self, DateTime};
use jiff::tz::TimeZone;
use jiff::{Span, ToSpan};
use sha2::{Digest, Sha256};
use url::Url;

use super::ical::{self, FeedError, GivenZones, Occurrence, OtherZone, Problems, Remarks, Series, Whose};
use crate::job::UtcMs;

/// Bytes of a feed.
pub const MAX_FEED: usize = 16 << 20;
/// Occurrences of one feed in one year.
const MAX_OCCURRENCES: usize = 500_000;
/// Times that are worked out to find them.
const MAX_TIMES: usize = 5_000_000;
/// Years that are kept.
const MAX_YEARS: usize = 32;
/// Years before and after the present one about which a running daemon asks. Its windows reach 30 days back and 60 ahead;
/// the second year is for the last days of one in which nothing was tried anew.
const YEARS_BACK: i16 = 1;
const YEARS_AHEAD: i16 = 2;

/// Where a feed comes from.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Source {
    File(PathBuf),
    Url(FeedUrl),
}

/// Where to fetch a feed. The URL is often all that keeps a stranger from reading it: only its host is ever shown.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct FeedUrl(Url);

impl FeedUrl {
    pub fn new(url: Url) -> FeedUrl {
        FeedUrl(url)
    }

    /// The whole of it, for the request alone.
    pub fn expose(&self) -> &Url {
        &self.0
    }
}

impl fmt::Display for FeedUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.host_str().unwrap_or_default())
    }
}

impl fmt::Debug for FeedUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FeedUrl({self})")
    }
}

/// A path, or the host alone.
impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::File(path) => write!(f, "{}", path.display()),
            Source::Url(url) => write!(f, "{url}"),
        }
    }
}

/// The last good copy of every feed. Cheap to clone.
#[derive(Clone, Default, Debug)]
pub struct Feeds(BTreeMap<Source, Arc<Feed>>);

impl Feeds {
    /// `None`: it has never been read.
    pub fn get(&self, source: &Source) -> Option<&Arc<Feed>> {
        self.0.get(source)
    }

    pub fn insert(&mut self, source: Source, feed: Arc<Feed>) {
        self.0.insert(source, feed);
    }

    #[must_use]
    pub fn with(mut self, source: Source, feed: Arc<Feed>) -> Feeds {
        self.insert(source, feed);
        self
    }

    /// What is not here is taken from there.
    #[must_use]
    pub fn or(mut self, other: &Feeds) -> Feeds {
        for (source, feed) in &other.0 {
            self.0.entry(source.clone()).or_insert_with(|| feed.clone());
        }
        self
    }

    /// Those of other sources are dropped.
    #[must_use]
    pub fn only_of(mut self, used: &BTreeMap<&Source, Vec<String>>) -> Feeds {
        self.0.retain(|source, _| used.contains_key(source));
        self
    }

    pub fn remove(&mut self, source: &Source) {
        self.0.remove(source);
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Those of which a newer copy has not taken its place yet, and why.
    pub fn held(&self) -> impl Iterator<Item = (&Source, String)> {
        self.0.iter().filter_map(|(source, feed)| Some((source, feed.held()?)))
    }
}

/// What one feed says.
pub struct Feed {
    /// Of the bytes that it was read from.
    digest: [u8; 32],
    /// What the entries say about names of time zones in it.
    zones: GivenZones,
    series: Vec<Series>,
    problems: Problems,
    remarks: Remarks,
    /// By where floating times are meant, and the year.
    years: Mutex<BTreeMap<(String, i16), Arc<Year>>>,
    /// Of other years nothing is known. `None`: each is worked out when somebody asks.
    scope: Mutex<Option<RangeInclusive<i16>>>,
    /// Why a newer copy has not taken its place yet.
    held: Mutex<Option<String>>,
}

/// Without what strangers wrote.
impl fmt::Debug for Feed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Feed").field("series", &self.series.len()).finish_non_exhaustive()
    }
}

impl Feed {
    /// `Err`: it is no whole feed. Single events that are odd are among the problems.
    pub fn parse(bytes: &[u8]) -> Result<Feed, FeedError> {
        Feed::parse_with(bytes, &GivenZones::new())
    }

    /// The same; `zones` says what names of time zones in it mean, as the entries do.
    pub fn parse_with(bytes: &[u8], zones: &GivenZones) -> Result<Feed, FeedError> {
        if bytes.len() > MAX_FEED {
            return Err(FeedError::TooLarge { limit: MAX_FEED });
        }
        let contents = ical::read(bytes, zones)?;
        Ok(Feed {
            digest: Sha256::digest(bytes).into(),
            zones: zones.clone(),
            series: contents.series,
            problems: contents.problems,
            remarks: contents.remarks,
            years: Mutex::default(),
            scope: Mutex::default(),
            held: Mutex::default(),
        })
    }

    /// Works out the years around this one, and no other from now on, whoever asks: what an event every second comes to in
    /// a year is bounded, but there are eight thousand years. What has been tried in a child process is this.
    pub fn keep_to(&self, year: i16) {
        let years = year.saturating_sub(YEARS_BACK)..=year.saturating_add(YEARS_AHEAD);
        *self.scope.lock().unwrap_or_else(PoisonError::into_inner) = Some(years.clone());
        for year in years {
            self.year(year, &TimeZone::UTC);
        }
    }

    /// What the entries said about names of time zones in it when it was read.
    pub fn zones(&self) -> &GivenZones {
        &self.zones
    }

    /// Does it list no event at all?
    pub fn is_empty(&self) -> bool {
        self.series.is_empty() && self.problems.count == 0
    }

    /// The UIDs of events that it says are cancelled.
    pub fn cancelled(&self) -> BTreeSet<&str> {
        let events = self.series.iter().flat_map(Series::events);
        events.filter(|event| event.cancelled).map(|event| event.uid.as_str()).collect()
    }

    /// How some of its events are understood.
    pub fn remarks(&self) -> &Remarks {
        &self.remarks
    }

    /// Says why a newer copy does not take its place yet; `None`: it does, or there is none.
    pub fn hold(&self, why: Option<String>) {
        *self.held.lock().unwrap_or_else(PoisonError::into_inner) = why;
    }

    /// Why a newer copy has not taken its place yet.
    pub fn held(&self) -> Option<String> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Of the bytes that it was read from (SHA-256).
    pub fn digest(&self) -> &[u8; 32] {
        &self.digest
    }

    /// Events that were left out.
    pub fn problems(&self) -> &Problems {
        &self.problems
    }

    /// Does something take place then? `zone`: where floating times and whole days are meant. An event covers its
    /// beginning and not its end.
    pub fn covers(&self, at: UtcMs, zone: &TimeZone) -> bool {
        let local = zone.to_datetime(at.timestamp());
        let year = self.year(local.year(), zone);
        year.absolute.covers(at) || year.local.covers(local)
    }

    /// May something take place then that is not known, because an event cannot be read or worked out?
    pub fn has_doubts(&self, at: UtcMs, zone: &TimeZone) -> bool {
        self.problems.count > 0 || self.year_of(at, zone).problems.count > 0
    }

    /// Is the year not known as a whole, its events being too many?
    pub fn is_cut(&self, at: UtcMs, zone: &TimeZone) -> bool {
        self.year_of(at, zone).problems.of_any
    }

    fn year_of(&self, at: UtcMs, zone: &TimeZone) -> Arc<Year> {
        self.year(zone.to_datetime(at.timestamp()).year(), zone)
    }

    /// Everything that takes place in a year; what touches it by up to two days may be in it too. `here`: where floating
    /// times are meant.
    pub fn year(&self, number: i16, here: &TimeZone) -> Arc<Year> {
        let key = (here.iana_name().unwrap_or_default().to_owned(), number);
        let known = self.years.lock().unwrap_or_else(PoisonError::into_inner).get(&key).cloned();
        if let Some(year) = known {
            return year;
        }
        let scope = self.scope.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if scope.is_some_and(|scope| !scope.contains(&number)) {
            return Arc::new(Year::unknown());
        }
        let year = Arc::new(Year::new(&self.series, number, here));
        let mut years = self.years.lock().unwrap_or_else(PoisonError::into_inner);
        if years.len() >= MAX_YEARS {
            years.clear();
        }
        years.insert(key, year.clone());
        year
    }
}

/// One year of a feed.
#[derive(Default)]
pub struct Year {
    pub occurrences: Vec<Occurrence>,
    /// What could not be worked out.
    pub problems: Problems,
    /// How some of them are understood.
    pub remarks: Remarks,
    absolute: Spans<UtcMs>,
    local: Spans<DateTime>,
}

impl Year {
    /// One of which nothing is known: a calendar stops nothing in it.
    fn unknown() -> Year {
        Year { problems: Problems { of_any: true, ..Problems::default() }, ..Year::default() }
    }

    fn new(series: &[Series], number: i16, here: &TimeZone) -> Year {
        let mut year = Year::default();
        let Some((from, until)) = bounds(number) else { return year };
        let mut times = 0;
        for series in series {
            let found = match series.occurrences(until, here) {
                Ok(found) => found,
                Err((line, why)) => {
                    year.problems.add(line, series.uid(), why);
                    continue;
                }
            };
            times += found.len();
            let touches = |occurrence: &Occurrence| {
                let length = occurrence.length.unwrap_or_default();
                let end = occurrence.start.local_end(length).unwrap_or(DateTime::MAX);
                occurrence.start.local <= until && end >= from
            };
            let before = year.occurrences.len();
            year.occurrences.extend(found.into_iter().filter(touches));
            year.remarks.add_other_zones(year.occurrences.get(before..).unwrap_or_default());
            if times > MAX_TIMES || year.occurrences.len() > MAX_OCCURRENCES {
                year.occurrences.truncate(MAX_OCCURRENCES);
                year.problems.add(0, None, format!("its events repeat too often: {number} is not complete"));
                break;
            }
        }
        year.index();
        year
    }

    fn index(&mut self) {
        let (mut absolute, mut local) = (Vec::new(), Vec::new());
        for Occurrence { start, length, .. } in &self.occurrences {
            let Some(length) = *length else { continue };
            match &start.zone {
                Some(zone) => {
                    let from = start.instant(zone).map(UtcMs::from);
                    absolute.extend(from.zip(start.end(length, zone)));
                }
                None => local.extend(start.local_end(length).map(|end| (start.local, end))),
            }
        }
        self.absolute = Spans::new(absolute);
        self.local = Spans::new(local);
    }
}

impl Remarks {
    /// Of one event whose time zone has a name that means another zone as well: where the two differ this year.
    fn add_other_zones(&mut self, occurrences: &[Occurrence]) {
        let differs = occurrences.iter().find_map(|occurrence| {
            let OtherZone { name, whose, zone } = occurrence.event.other_zone.as_ref()?;
            let start = &occurrence.start;
            let own = start.zone.as_ref()?;
            let at = start.instant(own)?;
            let other = zone.to_ambiguous_timestamp(start.local).compatible().ok()?;
            (at != other).then_some((occurrence, name, whose, UtcMs::from(at), UtcMs::from(other)))
        });
        if let Some((occurrence, name, whose, at, other)) = differs {
            let (counts, not) = match whose {
                Whose::Feed => ("by the zone of that name", "by the feed's own"),
                Whose::Everybody => ("by the feed's own zone", "by the zone that has that name elsewhere"),
            };
            let local = occurrence.start.local.strftime("%Y-%m-%dT%H:%M");
            let what = format!(
                "its time zone {name:?} means two zones: {local} is {at} {counts}, which counts, and {other} {not}"
            );
            self.add(occurrence.event.line, what);
        }
    }
}

/// Two days before the year, two days after it: further than any two clocks are apart.
fn bounds(year: i16) -> Option<(DateTime, DateTime)> {
    let margin: Span = 2.days();
    let first = civil::Date::new(year, 1, 1).ok()?.at(0, 0, 0, 0);
    let next = civil::Date::new(year.checked_add(1)?, 1, 1).ok()?.at(0, 0, 0, 0);
    Some((first.checked_sub(margin).ok()?, next.checked_add(margin).ok()?))
}

/// From, and up to but not including; asked in logarithmic time.
#[derive(Default)]
struct Spans<T> {
    starts: Vec<T>,
    /// The latest end of all spans up to this one.
    ends: Vec<T>,
}

impl<T: Ord + Copy> Spans<T> {
    fn new(mut spans: Vec<(T, T)>) -> Spans<T> {
        spans.sort_unstable();
        let mut latest = None;
        let ends =
            spans.iter().map(|(_, end)| *latest.insert(latest.map_or(*end, |known: T| known.max(*end))));
        let ends = ends.collect();
        Spans { starts: spans.into_iter().map(|(start, _)| start).collect(), ends }
    }

    fn covers(&self, at: T) -> bool {
        let begun = self.starts.partition_point(|start| *start <= at);
        // If the latest end of all that has begun lies ahead, one of them still lasts.
        begun > 0 && self.ends.get(begun - 1).is_some_and(|end| *end > at)
    }
}

#[cfg(test)]
mod tests;
