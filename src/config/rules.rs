//! `[[rule]]`, `[[exempt]]`, and what an `[[end]]` says in their stead: stages one and three.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::civil::Time;
use jiff::tz::TimeZone;
use toml::de::{DeArray, DeTable, DeValue};

use super::calendars::named;
use super::diagnostics::{Diagnostics, Located, Place};
use super::document::{Read, Section, TimeText, suggest};
use super::file::{self, End};
use super::limits::{self, Bound, bound};
use super::merged::Merged;
use super::names;
use super::resolve::{check_lock, check_warn, merge_limits};
use super::settings::{PlatformSettings, ServerSettings};
use super::time::parse_zone;
use crate::job::{Limits, MeetingId, ServerName};
use crate::schedule::rule::Weekdays;
use crate::schedule::{Days, Exempt, Rule, Select};

const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(24 * 3600);

const EMPTY_FOR: Bound = bound("empty-for", SECOND, DAY);
const ALONE_FOR: Bound = bound("alone-for", SECOND, DAY);
const FIRST_HIT_DELAY: Bound = bound("first-hit-delay", Duration::ZERO, DAY);
const EVERY: Bound = bound("every", Duration::from_secs(10), Duration::from_secs(3600));

/// On servers where a meeting that nobody looked at for longer counts as another one.
const EVERY_WITHOUT_STARTS: Duration = Duration::from_secs(300);

const DEFAULT_FIRST_HIT_DELAY: Duration = Duration::from_secs(600);
const MOST_PARTICIPANT_MINUTES: i64 = 100_000_000;
const MOST_OPEN: i64 = 100_000;
/// Bytes of a glob.
const MAX_GLOB: usize = 256;

/// `[[rule]]`
pub(super) struct RuleTable {
    place: Place,
    name: Option<Located<String>>,
    server: Option<Located<String>>,
    select: SelectKeys,
    max_duration: Option<Located<String>>,
    close_at: Option<Located<String>>,
    empty_for: Option<Located<String>>,
    alone_for: Option<Located<String>>,
    max_participant_minutes: Option<Located<i64>>,
    closed: Option<Located<String>>,
    timezone: Option<Located<String>>,
    days: Option<Located<Texts>>,
    only: Vec<Located<String>>,
    except: Vec<Located<String>>,
    dry_run: Option<Located<bool>>,
    first_hit_delay: Option<Located<String>>,
    every: Option<Located<String>>,
    max_open: Option<Located<i64>>,
    limits: file::Limits,
}

/// `[[exempt]]`
pub(super) struct ExemptTable {
    place: Place,
    server: Option<Located<String>>,
    select: SelectKeys,
}

/// Which meetings are meant.
struct SelectKeys {
    matches: Option<Located<Texts>>,
    except: Option<Located<Texts>>,
    names: Option<Located<Texts>>,
    meta: Option<Located<TextTable>>,
}

/// One string, or a list of strings.
struct Texts(Vec<String>);

impl<'a> Read<'a> for Texts {
    const WANTED: &'static str = "a string or a list of strings";
    const HINT: &'static str = "write it like \"math-*\" or [\"math-*\", \"physics-*\"]";
    const ONE_LINE: bool = true;
    fn read(value: &'a DeValue<'a>) -> Option<Texts> {
        if let Some(text) = value.as_str() {
            return Some(Texts(vec![text.to_owned()]));
        }
        let all: &DeArray<'a> = value.as_array()?;
        all.iter().map(|text| text.get_ref().as_str().map(str::to_owned)).collect::<Option<_>>().map(Texts)
    }
}

/// A table whose values are strings.
pub(super) struct TextTable(pub BTreeMap<String, String>);

impl<'a> Read<'a> for TextTable {
    const WANTED: &'static str = "a table of strings";
    const HINT: &'static str = "write it like { \"bbb-origin\" = \"Moodle*\" }";
    fn read(value: &'a DeValue<'a>) -> Option<TextTable> {
        let table: &DeTable<'a> = value.as_table()?;
        let entry = |(key, value): (&toml::Spanned<_>, &toml::Spanned<DeValue<'a>>)| {
            let key: &std::borrow::Cow<'a, str> = key.get_ref();
            Some((key.to_string(), value.get_ref().as_str()?.to_owned()))
        };
        table.iter().map(entry).collect::<Option<_>>().map(TextTable)
    }
}

pub(super) fn read_rules(root: &mut Section<'_, '_>) -> Vec<RuleTable> {
    let mut rules = Vec::new();
    for table in root.list("rule") {
        let mut section = root.inner("[[rule]]".to_owned(), table.place, table.value);
        rules.push(read_rule(&mut section));
        section.finish();
    }
    rules
}

pub(super) fn read_exempt(root: &mut Section<'_, '_>) -> Vec<ExemptTable> {
    let mut exempt = Vec::new();
    for table in root.list("exempt") {
        let mut section = root.inner("[[exempt]]".to_owned(), table.place, table.value);
        let (place, server) = (section.place, section.get("server"));
        exempt.push(ExemptTable { place, server, select: read_select(&mut section) });
        section.finish();
    }
    exempt
}

fn read_rule(section: &mut Section<'_, '_>) -> RuleTable {
    let time = |found: Option<Located<TimeText>>| {
        found.map(|Located { value, place }| Located { value: value.0, place })
    };
    RuleTable {
        place: section.place,
        name: section.required("name"),
        server: section.required("server"),
        select: read_select(section),
        max_duration: section.get("max-duration"),
        close_at: time(section.get("close-at")),
        empty_for: section.get("empty-for"),
        alone_for: section.get("alone-for"),
        max_participant_minutes: section.get("max-participant-minutes"),
        closed: section.get("closed"),
        timezone: section.get("timezone"),
        days: section.get("days"),
        only: section.texts("only"),
        except: section.texts("except"),
        dry_run: section.get("dry-run"),
        first_hit_delay: section.get("first-hit-delay"),
        every: section.get("every"),
        max_open: section.get("max-open"),
        limits: file::limits(section),
    }
}

fn read_select(section: &mut Section<'_, '_>) -> SelectKeys {
    SelectKeys {
        matches: section.get("match"),
        except: section.get("except-match"),
        names: section.get("match-name"),
        meta: section.get("match-meta"),
    }
}

/// What entries and rules refer to.
pub(super) struct Known<'a> {
    pub merged: &'a Merged,
    pub servers: &'a BTreeMap<ServerName, ServerSettings>,
    pub defaults: &'a Limits,
}

/// Stage three for `[[rule]]` and `[[exempt]]`. `taken`: the names of all entries.
pub(super) fn resolve(
    known: &Known<'_>,
    taken: &mut BTreeMap<String, Place>,
    found: &mut Diagnostics,
) -> (Vec<Rule>, Vec<Exempt>) {
    let mut resolver = Resolver { known, found };
    let rules = known.merged.rules.iter().filter_map(|table| resolver.rule(table, taken)).collect();
    let exempt = known.merged.exempt.iter().filter_map(|table| resolver.exempt(table)).collect();
    (rules, exempt)
}

struct Resolver<'a, 'f> {
    known: &'a Known<'a>,
    found: &'f mut Diagnostics,
}

impl Resolver<'_, '_> {
    /// `None` only if something was reported.
    fn rule(&mut self, table: &RuleTable, taken: &mut BTreeMap<String, Place>) -> Option<Rule> {
        let name = table.name.as_ref().and_then(|name| self.name(name, taken));
        let server = table.server.as_ref().and_then(|given| server(given, self.known.merged, self.found));
        let settings = server.as_ref().and_then(|name| self.known.servers.get(name));
        let select = self.select(&table.select);
        let base = settings.map_or(self.known.defaults, |server| &server.limits);
        let limits = merge_limits(&table.limits, base, self.found);
        if let (Some(settings), Some(given), Some(lock)) = (settings, &table.server, &table.limits.lock) {
            check_lock(&given.value, &settings.platform, &limits, lock.place, self.found);
        }
        if let (Some(settings), Some(given), Some(warn)) = (settings, &table.server, &table.limits.warn) {
            check_warn(&given.value, &settings.platform, &limits, warn.place, self.found);
        }
        let close_at = table.close_at.as_ref().and_then(|given| self.time(given));
        let closed = table.closed.as_ref().and_then(|given| self.window(given));
        let weekdays = table.days.as_ref().and_then(|given| self.weekdays(given));
        let mut named = |given| named(given, self.known.merged, self.found);
        let days = Days { only: named(&table.only), except: named(&table.except) };
        self.conditions(table);
        if let Some(settings) = settings {
            self.remark_on_platform(table, &settings.platform);
        }
        Some(Rule {
            name: name?,
            server: server?,
            meeting: None,
            select: select?,
            max_duration: self.duration(limits::MAX_DURATION, table.max_duration.as_ref()),
            close_at,
            empty_for: self.duration(EMPTY_FOR, table.empty_for.as_ref()),
            alone_for: self.duration(ALONE_FOR, table.alone_for.as_ref()),
            max_participant_minutes: table.max_participant_minutes.as_ref().and_then(|n| self.minutes(n)),
            closed,
            timezone: self.timezone(table)?,
            weekdays: weekdays.unwrap_or_default(),
            days,
            dry_run: self.dry_run(table),
            first_hit_delay: self
                .duration(FIRST_HIT_DELAY, table.first_hit_delay.as_ref())
                .unwrap_or(DEFAULT_FIRST_HIT_DELAY),
            every: self.duration(EVERY, table.every.as_ref()).unwrap_or(Rule::DEFAULT_EVERY),
            max_open: table
                .max_open
                .as_ref()
                .and_then(|given| self.max_open(given))
                .unwrap_or(Rule::DEFAULT_MAX_OPEN),
            limits,
        })
    }

    fn name(&mut self, given: &Located<String>, taken: &mut BTreeMap<String, Place>) -> Option<String> {
        let name = names::entry_name(&given.value)
            .map_err(|error| self.found.error(given.place, error.to_string(), ""))
            .ok()?;
        if let Some(first) = taken.get(&name) {
            let message =
                format!("the name {name:?} is taken by another entry; first at {}", self.found.at(*first));
            self.found.error(given.place, message, "every entry and every rule needs a name of its own");
            return None;
        }
        taken.insert(name.clone(), given.place);
        Some(name)
    }

    fn exempt(&mut self, table: &ExemptTable) -> Option<Exempt> {
        let server = match &table.server {
            Some(given) => Some(server(given, self.known.merged, self.found)?),
            None => None,
        };
        let SelectKeys { matches, except, names, meta } = &table.select;
        if matches.is_none() && except.is_none() && names.is_none() && meta.is_none() {
            let message = "[[exempt]] says of no meeting that it is exempt";
            self.found.error(table.place, message, "add match, match-name or match-meta");
            return None;
        }
        Some(Exempt { server, meeting: None, select: self.select(&table.select)? })
    }

    fn select(&mut self, keys: &SelectKeys) -> Option<Select> {
        let before = self.found.errors();
        let select = Select {
            matches: self.globs(keys.matches.as_ref()),
            except: self.globs(keys.except.as_ref()),
            names: self.globs(keys.names.as_ref()),
            meta: self.meta(keys.meta.as_ref()),
        };
        (self.found.errors() == before).then_some(select)
    }

    fn globs(&mut self, given: Option<&Located<Texts>>) -> Vec<String> {
        let Some(Located { value: Texts(globs), place }) = given else { return Vec::new() };
        if globs.is_empty() {
            self.found.error(*place, "an empty list matches nothing", "leave the key out, or write \"*\"");
        }
        globs.iter().for_each(|glob| self.glob(glob, *place));
        globs.clone()
    }

    fn meta(&mut self, given: Option<&Located<TextTable>>) -> BTreeMap<String, String> {
        let Some(Located { value: TextTable(meta), place }) = given else { return BTreeMap::new() };
        meta.values().for_each(|glob| self.glob(glob, *place));
        // Platforms tell the names in lower case, however they were given.
        meta.iter().map(|(key, glob)| (key.to_lowercase(), glob.clone())).collect()
    }

    fn glob(&mut self, glob: &str, place: Place) {
        if glob.is_empty() || glob.len() > MAX_GLOB || glob.contains(char::is_control) {
            let message = format!("{glob:?} is no glob of 1 to {MAX_GLOB} bytes without control characters");
            self.found.error(place, message, "* is any text, ? any one character, everything else itself");
        }
    }

    /// At least one, and what they need.
    fn conditions(&mut self, table: &RuleTable) {
        let RuleTable {
            max_duration, close_at, empty_for, alone_for, max_participant_minutes, closed, ..
        } = table;
        let given = [max_duration, close_at, empty_for, alone_for, closed].iter().any(|key| key.is_some());
        if !given && max_participant_minutes.is_none() {
            self.found.error(
                table.place,
                "[[rule]] has no condition",
                "add max-duration, close-at, empty-for, alone-for, max-participant-minutes or closed",
            );
        }
    }

    fn timezone(&mut self, table: &RuleTable) -> Option<TimeZone> {
        if let Some(name) = &table.timezone {
            return zone(name, self.found);
        }
        let keys = [
            ("close-at", table.close_at.as_ref().map(|key| key.place)),
            ("closed", table.closed.as_ref().map(|key| key.place)),
            ("days", table.days.as_ref().map(|key| key.place)),
            ("only", table.only.first().map(|key| key.place)),
            ("except", table.except.first().map(|key| key.place)),
        ];
        let local = keys.into_iter().find_map(|(key, place)| Some((key, place?)));
        let Some((key, place)) = local else { return Some(TimeZone::UTC) };
        let message = format!("{key} is local time, but [[rule]] has no timezone");
        self.found.error(place, message, "add timezone = \"Europe/Berlin\"");
        None
    }

    fn time(&mut self, given: &Located<String>) -> Option<Time> {
        let time = time_of_day(&given.value).filter(|(_, is_end)| !is_end);
        if time.is_none() {
            let message = format!("close-at is {:?}, which is not a time of day", given.value);
            self.found.error(given.place, message, "write it like \"22:00\"");
        }
        time.map(|(time, _)| time)
    }

    fn window(&mut self, given: &Located<String>) -> Option<(Time, Time)> {
        let hint = "write it like \"22:00-06:00\"; \"00:00-24:00\" is the whole day";
        let times = given.value.split_once('-').and_then(|(from, until)| {
            let (from, from_is_end) = time_of_day(from)?;
            Some(((from, from_is_end), time_of_day(until)?))
        });
        match times {
            Some(((from, false), (until, is_end))) if from != until || is_end => Some((from, until)),
            Some(((_, false), _)) => {
                let message = format!("closed is {:?}, which is no time at all", given.value);
                self.found.error(given.place, message, hint);
                None
            }
            _ => {
                let message = format!("closed is {:?}, which is not a time of day to another", given.value);
                self.found.error(given.place, message, hint);
                None
            }
        }
    }

    fn weekdays(&mut self, given: &Located<Texts>) -> Option<Weekdays> {
        let Located { value: Texts(texts), place } = given;
        let mut all = Weekdays::NONE;
        for text in texts {
            let Some(days) = Weekdays::parse(text) else {
                let message = format!("days has {text:?}, which is not a day of the week, or one to another");
                self.found.error(*place, message, "write them like [\"Mon-Fri\", \"Sun\"]");
                return None;
            };
            all = all.and(days);
        }
        if all == Weekdays::NONE {
            self.found.error(
                *place,
                "days is empty: the rule would never apply",
                "leave it out for every day",
            );
        }
        Some(all)
    }

    fn max_open(&mut self, given: &Located<i64>) -> Option<usize> {
        let Located { value, place } = given;
        match usize::try_from(*value) {
            Ok(count) if (1..=MOST_OPEN).contains(value) => Some(count),
            _ => {
                let message = format!("max-open is {value}, not between 1 and {MOST_OPEN}");
                self.found.error(*place, message, "more than the meetings that may be live at once");
                None
            }
        }
    }

    fn minutes(&mut self, given: &Located<i64>) -> Option<u64> {
        let Located { value, place } = given;
        match u64::try_from(*value) {
            Ok(minutes) if (1..=MOST_PARTICIPANT_MINUTES).contains(value) => Some(minutes),
            _ => {
                let message = format!(
                    "max-participant-minutes is {value}, not between 1 and {MOST_PARTICIPANT_MINUTES}"
                );
                self.found.error(*place, message, "30 people for an hour and a half are 2700");
                None
            }
        }
    }

    fn duration(&mut self, bound: Bound, given: Option<&Located<String>>) -> Option<Duration> {
        let Located { value, place } = given?;
        bound.parse(value).map_err(|error| self.found.error(*place, error.to_string(), error.hint())).ok()
    }

    /// A rule reports until somebody has decided otherwise.
    fn dry_run(&mut self, table: &RuleTable) -> bool {
        let dry_run = table.dry_run.as_ref().is_none_or(|given| given.value);
        if dry_run {
            let place = table.dry_run.as_ref().map_or(table.place, |given| given.place);
            let hint = "see what it would end: adjourn reload --dry-run; then write dry-run = false";
            self.found.note(place, "this rule only reports, it ends nothing", hint);
        }
        dry_run
    }

    /// What the platform does not tell, no rule can go by.
    fn remark_on_platform(&mut self, table: &RuleTable, platform: &PlatformSettings) {
        let tells = platform.tells();
        let people = [
            ("empty-for", table.empty_for.as_ref().map(|key| key.place)),
            ("alone-for", table.alone_for.as_ref().map(|key| key.place)),
            ("max-participant-minutes", table.max_participant_minutes.as_ref().map(|key| key.place)),
        ];
        if !tells.participants {
            for (key, place) in people.into_iter().filter_map(|(key, place)| Some((key, place?))) {
                let message =
                    format!("{key} may never apply: the server does not always tell how many are inside");
                self.found.note(place, message, "an unknown number counts as neither nobody nor one");
            }
        }
        if let (false, Some(given)) = (tells.starts, &table.max_duration) {
            let message = "this server does not tell when a meeting started";
            self.found.note(given.place, message, "max-duration counts from when the meeting was first seen");
        }
        if let (false, Some(given)) = (tells.starts, &table.every)
            && EVERY.parse(&given.value).is_ok_and(|every| every > EVERY_WITHOUT_STARTS)
        {
            let message = "this server does not tell one run of a meeting from the next: not looked at for more \
                           than 5m, it counts as another one, and what a rule has counted begins anew";
            self.found.error(given.place, message, "give 5m or less");
        }
        if let (false, Some(given)) = (tells.metadata, &table.select.meta) {
            let message = "match-meta matches nothing: this server tells no metadata";
            self.found.note(given.place, message, "use match or match-name");
        }
    }
}

/// `[[end]]` with `max-duration`: a rule for its own meeting, in earnest and without notice.
pub(super) fn from_end(
    name: String,
    server: ServerName,
    meeting: MeetingId,
    max_duration: Duration,
    limits: Limits,
) -> Rule {
    Rule { meeting: Some(meeting), max_duration: Some(max_duration), limits, ..Rule::bare(name, server) }
}

/// The meeting of an `[[end]]` with `rules = false`.
pub(super) fn exempt_by_end(end: &End) -> Option<Exempt> {
    let spared = end.rules.as_ref().is_some_and(|rules| !rules.value);
    let server = ServerName(end.server.as_ref()?.value.clone());
    let meeting = MeetingId(end.meeting.as_ref()?.value.clone());
    spared.then(|| Exempt { server: Some(server), meeting: Some(meeting), select: Select::default() })
}

/// A server that is configured, be it with errors of its own.
pub(super) fn server(
    given: &Located<String>,
    merged: &Merged,
    found: &mut Diagnostics,
) -> Option<ServerName> {
    let known: Vec<&str> = merged.servers.iter().map(|server| server.name.value.as_str()).collect();
    if known.contains(&given.value.as_str()) || merged.broken {
        return Some(ServerName(given.value.clone()));
    }
    let hint = match suggest(&given.value, &known) {
        none if none.is_empty() => format!("add [servers.{}]", given.value),
        some => some,
    };
    found.error(given.place, format!("there is no server {:?}", given.value), hint);
    None
}

fn zone(name: &Located<String>, found: &mut Diagnostics) -> Option<TimeZone> {
    parse_zone(&name.value).map_err(|error| found.error(name.place, error.to_string(), error.hint())).ok()
}

/// `22:00` or `22:00:30`; `true`: it is `24:00`, the end of a day.
fn time_of_day(text: &str) -> Option<(Time, bool)> {
    let parts: Vec<&str> = text.trim().split(':').collect();
    let two_digits = |part: &str| part.len() == 2 && part.bytes().all(|digit| digit.is_ascii_digit());
    if !(2..=3).contains(&parts.len()) || !parts.iter().all(|part| two_digits(part)) {
        return None;
    }
    let numbers: Vec<i8> = parts.iter().filter_map(|part| part.parse().ok()).collect();
    let (hour, minute) = (*numbers.first()?, *numbers.get(1)?);
    let second = numbers.get(2).copied().unwrap_or(0);
    if (hour, minute, second) == (24, 0, 0) {
        return Some((Time::midnight(), true));
    }
    Time::new(hour, minute, second, 0).ok().map(|time| (time, false))
}
