//! `[calendars.*]` and `[[calendar-end]]`, through all three stages.

use std::collections::BTreeMap;
use std::path::PathBuf;

use jiff::tz::TimeZone;
use regex::{Regex, RegexBuilder};
use secrecy::ExposeSecret;
use toml::de::{DeTable, DeValue};
use url::Url;

use super::diagnostics::{Diagnostics, Located, Place};
use super::document::{Section, suggest};
use super::feed_options::GivenOptions;
use super::file::{self, AnyValue, Limits as GivenLimits, Secret};
use super::merged::Merged;
use super::resolve::{check_lock, check_warn, merge_limits};
use super::secret::{self, Environment};
use super::settings::ServerSettings;
use super::time::parse_zone;
use super::{names, url::is_in_clear};
use crate::job::{Limits, ServerName};
use crate::schedule::{
    CalendarEnd, CalendarError, Calendars, DateRange, Days, FeedOptions, FeedUrl, PropertyPattern, Schedule,
    Source, Weekly,
};

/// Where in an event a meeting id may stand; besides them any `X-` property.
const PROPERTIES: [&str; 6] = ["CONFERENCE", "DESCRIPTION", "LOCATION", "SUMMARY", "UID", "URL"];
/// Bytes that a pattern may compile to.
const MAX_PATTERN: usize = 1 << 20;

/// `[calendars.NAME]`
pub(super) struct GivenCalendar {
    pub name: Located<String>,
    dates: Vec<Located<String>>,
    weekly: Vec<Located<String>>,
    ics: Option<Located<Ics>>,
    timezone: Option<Located<String>>,
    options: GivenOptions,
    /// Not even a wrong entry.
    is_empty: bool,
}

/// `[[calendar-end]]`
pub(super) struct GivenEnd {
    place: Place,
    name: Option<Located<String>>,
    server: Option<Located<String>>,
    ics: Option<Located<Ics>>,
    timezone: Option<Located<String>>,
    from: Option<Located<String>>,
    pattern: Option<Located<String>>,
    skip: Option<GivenSkip>,
    options: GivenOptions,
    only: Vec<Located<String>>,
    except: Vec<Located<String>>,
    limits: GivenLimits,
}

/// `skip` of a `[[calendar-end]]`. Both are there, unless something was reported.
struct GivenSkip {
    from: Option<Located<String>>,
    pattern: Option<Located<String>>,
}

/// A path or a URL, or where a URL is to be had.
enum Ics {
    Text(String),
    Secret(Secret),
}

fn ics<'a>(section: &mut Section<'a, '_>) -> Option<Located<Ics>> {
    let given = section.get::<AnyValue<'a>>("ics")?;
    ics_of(section, given)
}

fn ics_of<'a>(section: &mut Section<'a, '_>, given: Located<AnyValue<'a>>) -> Option<Located<Ics>> {
    if let DeValue::String(text) = given.value.0 {
        return Some(Located { value: Ics::Text(text.to_string()), place: given.place });
    }
    let secret = file::secret(section, "ics", given)?;
    Some(Located { value: Ics::Secret(secret.value), place: secret.place })
}

/// Stage one.
pub(super) fn calendars(root: &mut Section<'_, '_>) -> Vec<GivenCalendar> {
    let Some(all) = root.get::<&DeTable<'_>>("calendars") else { return Vec::new() };
    let tables = root.inner("calendars".to_owned(), all.place, all.value).named_tables();
    let mut calendars = Vec::new();
    for (name, table) in tables {
        let mut section = root.inner(format!("[calendars.{}]", name.value), name.place, table);
        calendars.push(GivenCalendar {
            name,
            dates: section.texts("dates"),
            weekly: section.texts("weekly"),
            ics: ics(&mut section),
            timezone: section.get("timezone"),
            options: GivenOptions::read(&mut section),
            is_empty: !["dates", "weekly", "ics"].iter().any(|key| section.has(key)),
        });
        section.finish();
    }
    calendars
}

/// Stage one.
pub(super) fn ends(root: &mut Section<'_, '_>) -> Vec<GivenEnd> {
    let mut ends = Vec::new();
    for table in root.list("calendar-end") {
        let mut section = root.inner("[[calendar-end]]".to_owned(), table.place, table.value);
        let (from, pattern) = match section.required::<&DeTable<'_>>("meeting") {
            None => (None, None),
            Some(meeting) => {
                let title = "the meeting of [[calendar-end]]".to_owned();
                let mut inner = section.inner(title, meeting.place, meeting.value);
                let given = (inner.required("from"), inner.get("pattern"));
                inner.finish();
                given
            }
        };
        let skip = section.get::<&DeTable<'_>>("skip").map(|skip| {
            let title = "the skip of [[calendar-end]]".to_owned();
            let mut inner = section.inner(title, skip.place, skip.value);
            let given = GivenSkip { from: inner.required("from"), pattern: inner.required("pattern") };
            inner.finish();
            given
        });
        ends.push(GivenEnd {
            place: section.place,
            name: section.required("name"),
            server: section.required("server"),
            ics: section.required("ics").and_then(|given| ics_of(&mut section, given)),
            timezone: section.get("timezone"),
            from,
            pattern,
            skip,
            options: GivenOptions::read(&mut section),
            only: section.texts("only"),
            except: section.texts("except"),
            limits: file::limits(&mut section),
        });
        section.finish();
    }
    ends
}

/// Stage two: a calendar that two files give is an error.
pub(super) fn merge(known: &mut Vec<GivenCalendar>, new: Vec<GivenCalendar>, found: &mut Diagnostics) {
    for calendar in new {
        let Some(first) = known.iter().find(|known| known.name.value == calendar.name.value) else {
            known.push(calendar);
            continue;
        };
        let first = found.at(first.name.place);
        let message = format!("the calendar {:?} is given twice; first at {first}", calendar.name.value);
        found.error(calendar.name.place, message, "keep one of the two, or give one another name");
    }
}

/// Stage three.
pub(super) struct Resolver<'a> {
    pub merged: &'a Merged,
    pub servers: &'a BTreeMap<ServerName, ServerSettings>,
    pub defaults: &'a Limits,
    pub env: &'a Environment,
    pub found: &'a mut Diagnostics,
    /// Every feed so far.
    pub sources: Vec<(Source, Place)>,
    /// How they are read.
    pub options: BTreeMap<Source, FeedOptions>,
}

impl Resolver<'_> {
    /// Adds the calendars, and what ends by them, to the schedule; tells every feed, with where it was given.
    pub fn add_to(mut self, schedule: &mut Schedule) -> Vec<(Source, Place)> {
        schedule.calendars = self.calendars();
        schedule.calendar_ends = self.ends();
        schedule.feed_options = self.options;
        self.sources
    }

    fn calendars(&mut self) -> Calendars {
        let mut calendars = Calendars::new();
        for given in &self.merged.calendars {
            if let Err(error) = names::entry_name(&given.name.value) {
                self.found.error(given.name.place, error.to_string(), "");
            }
            let calendar = crate::schedule::Calendar {
                dates: self.each(&given.dates, DateRange::parse),
                weekly: self.each(&given.weekly, Weekly::parse),
                source: given.ics.as_ref().and_then(|ics| self.source(ics)),
                timezone: given.timezone.as_ref().and_then(|zone| self.zone(zone)),
            };
            given.options.add_to(calendar.source.as_ref(), &mut self.options, self.found);
            if given.is_empty {
                let message = format!("the calendar {:?} lists nothing", given.name.value);
                self.found.note(given.name.place, message, "give it dates, weekly or ics");
            }
            calendars.insert(given.name.value.clone(), calendar);
        }
        calendars
    }

    fn each<T>(&mut self, given: &[Located<String>], parse: fn(&str) -> Result<T, CalendarError>) -> Vec<T> {
        let mut parsed = Vec::new();
        for Located { value, place } in given {
            match parse(value) {
                Ok(value) => parsed.push(value),
                Err(error) => self.found.error(*place, error.to_string(), error.hint()),
            }
        }
        parsed
    }

    fn ends(&mut self) -> Vec<CalendarEnd> {
        let mut taken: BTreeMap<&str, Place> = BTreeMap::new();
        for name in self.merged.ends.iter().filter_map(|end| end.name.as_ref()) {
            taken.entry(&name.value).or_insert(name.place);
        }
        let mut ends = Vec::new();
        for given in &self.merged.calendar_ends {
            let Some(end) = self.end(given) else { continue };
            let place = given.name.as_ref().map_or(given.place, |name| name.place);
            let name = given.name.as_ref().map_or("", |name| name.value.as_str());
            if let Some(first) = taken.get(name) {
                let message = format!(
                    "the name {name:?} is taken by another entry; first at {}",
                    self.found.at(*first)
                );
                self.found.error(place, message, "every entry needs a name of its own");
                continue;
            }
            taken.insert(name, place);
            ends.push(end);
        }
        ends
    }

    /// `None` only if something was reported.
    fn end(&mut self, given: &GivenEnd) -> Option<CalendarEnd> {
        let name = given.name.as_ref().and_then(|name| {
            let checked = names::entry_name(&name.value);
            checked.map_err(|error| self.found.error(name.place, error.to_string(), "")).ok()
        });
        let server = given.server.as_ref().and_then(|server| self.server(server));
        let source = given.ics.as_ref().and_then(|ics| self.source(ics));
        given.options.add_to(source.as_ref(), &mut self.options, self.found);
        let timezone = given.timezone.as_ref().map(|zone| self.zone(zone));
        let property = given.from.as_ref().and_then(|from| self.property(from));
        let pattern = given.pattern.as_ref().map(|pattern| self.pattern(pattern));
        let skip = given.skip.as_ref().map(|skip| self.skip(skip));
        let mut days = |given| named(given, self.merged, self.found);
        let days = Days { only: days(&given.only), except: days(&given.except) };
        if let (None, Some(first)) = (&given.timezone, given.only.first().or(given.except.first())) {
            let message = "only and except need to know where a day begins";
            self.found.error(first.place, message, "add timezone = \"Europe/Berlin\", or where it is");
        }
        let settings = server.as_ref().and_then(|name| self.servers.get(name));
        let base = settings.map_or(self.defaults, |server| &server.limits);
        let limits = merge_limits(&given.limits, base, self.found);
        if let (Some(settings), Some(server), Some(lock)) = (settings, &given.server, &given.limits.lock) {
            check_lock(&server.value, &settings.platform, &limits, lock.place, self.found);
        }
        if let (Some(settings), Some(server), Some(warn)) = (settings, &given.server, &given.limits.warn) {
            check_warn(&server.value, &settings.platform, &limits, warn.place, self.found);
        }
        Some(CalendarEnd {
            name: name?,
            server: server?,
            source: source?,
            property: property?,
            pattern: given_or_none(pattern)?,
            skip: given_or_none(skip)?,
            timezone: given_or_none(timezone)?,
            days,
            limits,
        })
    }

    fn server(&mut self, given: &Located<String>) -> Option<ServerName> {
        let known: Vec<&str> = self.merged.servers.iter().map(|server| server.name.value.as_str()).collect();
        if known.contains(&given.value.as_str()) || self.merged.broken {
            return Some(ServerName(given.value.clone()));
        }
        let hint = match suggest(&given.value, &known) {
            none if none.is_empty() => format!("add [servers.{}]", given.value),
            some => some,
        };
        self.found.error(given.place, format!("there is no server {:?}", given.value), hint);
        None
    }

    fn zone(&mut self, given: &Located<String>) -> Option<TimeZone> {
        let zone = parse_zone(&given.value);
        zone.map_err(|error| self.found.error(given.place, error.to_string(), error.hint())).ok()
    }

    fn property(&mut self, given: &Located<String>) -> Option<String> {
        let name = given.value.to_ascii_uppercase();
        let own = name.strip_prefix("X-").is_some_and(|rest| {
            !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        });
        if own || PROPERTIES.contains(&name.as_str()) {
            return Some(name);
        }
        let message = format!("from is {:?}, not a property that is read here", given.value);
        let hint = format!("known here: {}, and any X- property", PROPERTIES.join(", "));
        self.found.error(given.place, message, hint);
        None
    }

    /// `None` only if something was reported.
    fn skip(&mut self, given: &GivenSkip) -> Option<PropertyPattern> {
        let property = given.from.as_ref().and_then(|from| self.property(from));
        let pattern = given.pattern.as_ref().and_then(|pattern| self.pattern(pattern));
        Some(PropertyPattern { property: property?, pattern: pattern? })
    }

    fn pattern(&mut self, given: &Located<String>) -> Option<Regex> {
        match RegexBuilder::new(&given.value).size_limit(MAX_PATTERN).build() {
            Ok(pattern) => Some(pattern),
            Err(error) => {
                let error = error.to_string();
                // The last line says what is wrong; those before draw it.
                let why = error.lines().last().unwrap_or_default().trim_start_matches("error: ");
                let hint = "put it in single quotes, and the id in a group: '/rooms/([A-Za-z0-9_-]+)'";
                self.found.error(given.place, format!("pattern is no regular expression: {why}"), hint);
                None
            }
        }
    }

    fn source(&mut self, given: &Located<Ics>) -> Option<Source> {
        let source = self.parsed_source(given)?;
        self.sources.push((source.clone(), given.place));
        Some(source)
    }

    fn parsed_source(&mut self, given: &Located<Ics>) -> Option<Source> {
        let fetched;
        let text = match &given.value {
            Ics::Text(text) if text.starts_with('/') && !text.contains('\0') => {
                return Some(Source::File(PathBuf::from(text)));
            }
            Ics::Text(text) => text.trim(),
            Ics::Secret(secret) => {
                let secret = Located { value: secret.clone(), place: given.place };
                fetched = secret::load(&secret, self.env, self.found)?;
                if secret::is_unread(&fetched) {
                    return None;
                }
                fetched.expose_secret()
            }
        };
        match feed_url(text) {
            Ok(url) => Some(Source::Url(url)),
            Err((message, hint)) => {
                self.found.error(given.place, message, hint);
                None
            }
        }
    }
}

/// Names of calendars that there are.
pub(super) fn named(given: &[Located<String>], merged: &Merged, found: &mut Diagnostics) -> Vec<String> {
    let known: Vec<&str> = merged.calendars.iter().map(|known| known.name.value.as_str()).collect();
    for Located { value, place } in given {
        if known.contains(&value.as_str()) || merged.broken {
            continue;
        }
        let hint = match suggest(value, &known) {
            none if none.is_empty() => format!("add [calendars.{value}]"),
            some => some,
        };
        found.error(*place, format!("there is no calendar {value:?}"), hint);
    }
    given.iter().map(|name| name.value.clone()).collect()
}

/// `None` only if something was given and is wrong.
fn given_or_none<T>(parsed: Option<Option<T>>) -> Option<Option<T>> {
    match parsed {
        None => Some(None),
        Some(parsed) => parsed.map(Some),
    }
}

/// Why a text is no URL of a feed, and what to do. Repeats nothing of it: it may be a secret.
fn feed_url(text: &str) -> Result<FeedUrl, (String, &'static str)> {
    let example = "write an absolute path, or a URL like https://calendar.example.org/lectures.ics";
    let mut url =
        Url::parse(text).map_err(|error| (format!("ics is no path and no URL: {error}"), example))?;
    if url.scheme() == "webcal" {
        return Err(("ics begins with webcal://".to_owned(), "write https:// instead"));
    }
    if !matches!(url.scheme(), "https" | "http") || url.host_str().is_none_or(str::is_empty) {
        return Err(("ics is no path and no https URL".to_owned(), example));
    }
    if is_in_clear(&url) {
        let message = "ics is fetched in clear: whoever is on the way could end meetings";
        return Err((message.to_owned(), "write https://"));
    }
    url.set_fragment(None);
    Ok(FeedUrl::new(url))
}

impl GivenEnd {
    pub fn is_named(&self, name: &str) -> bool {
        self.name.as_ref().is_some_and(|given| given.value == name)
    }

    pub fn place_of_from(&self) -> Option<Place> {
        self.from.as_ref().map(|from| from.place)
    }
}
