//! Stage three: what the files mean. Every value is checked, also after others have failed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::tz::TimeZone;

use super::cadence;
use super::calendars;
use super::diagnostics::{Diagnostics, Located, Place};
use super::file::{self, End};
use super::limits::{self, Bound};
use super::merged::Merged;
use super::names::{self, NameError};
use super::overlap;
use super::recurring::Expressions;
use super::rules::{self, Known};
use super::secret::Environment;
use super::servers::{Builder, check_twins};
use super::settings::{PlatformSettings, ServerSettings, Settings};
use super::time::{has_zone, parse_at, parse_zone, years_after, zone_in};
use crate::group;
use crate::job::{Language, Limits, LimitsPatch, MeetingId, ServerName, UtcMs, languages};
use crate::platform::network::Network;
use crate::schedule::{Entry, Recurring, Rule, Schedule, Source};

pub const DEFAULT_STATE_DIR: &str = "/var/lib/adjourn";
pub const DEFAULT_RETENTION: Duration = Duration::from_secs(90 * 24 * 3600);
pub const DEFAULT_AHEAD: Duration = Duration::from_secs(48 * 3600);
/// How often feeds are read again.
pub const DEFAULT_REFRESH: Duration = Duration::from_secs(15 * 60);
pub const DEFAULT_SOCKET: &str = "/run/adjourn/control.sock";
pub const DEFAULT_SOCKET_MODE: u32 = 0o660;

/// Bytes that the address of a Unix socket has room for on Linux.
const MAX_SOCKET_PATH: usize = 107;
/// Bytes of a group's name.
const MAX_GROUP_NAME: usize = 64;
/// Mode bit: everybody may connect.
const OTHERS_MAY_WRITE: u32 = 0o002;
/// Further ahead than this an `at` is more likely a slip than a plan.
const FAR_AHEAD_YEARS: i64 = 5;

/// What remains when all problems have been reported.
pub(super) struct Resolved {
    /// Good for use only if none was an error.
    pub settings: Settings,
    /// Every feed, with where it was given.
    pub feeds: Vec<(Source, Place)>,
    /// Servers whose secrets were not read.
    pub without_secrets: BTreeSet<ServerName>,
}

pub(super) fn resolve(merged: &Merged, env: &Environment, now: UtcMs, found: &mut Diagnostics) -> Resolved {
    let control = &merged.control;
    let defaults = merge_limits(&merged.defaults, &Limits::default(), found);
    let mut builder = Builder {
        defaults: &defaults,
        env,
        found: &mut *found,
        network: Network::default(),
        unread: false,
        without_secrets: BTreeSet::new(),
    };
    let servers: BTreeMap<ServerName, ServerSettings> =
        merged.servers.iter().filter_map(|server| builder.server(server)).collect();
    let without_secrets = builder.without_secrets;
    // Secrets that were not read are all alike.
    let read =
        |server: &&file::Server| !without_secrets.contains(&ServerName::from(server.name.value.as_str()));
    check_twins(merged.servers.iter().filter(read), &servers, found);
    if merged.servers.is_empty() && found.errors() == 0 {
        found.general_note("no server is configured: no meeting can be ended", "add a [servers.NAME] table");
    }
    let known = Known { merged, servers: &servers, defaults: &defaults };
    let (mut schedule, places) = schedule(&known, now, found);
    let resolver = calendars::Resolver {
        merged,
        servers: &servers,
        defaults: &defaults,
        env,
        found: &mut *found,
        sources: Vec::new(),
        options: BTreeMap::new(),
    };
    let feeds = resolver.add_to(&mut schedule);
    overlap::remark(&schedule, &places, now, found);
    cadence::remark(&schedule, &places, now, found);
    let settings = Settings {
        state_dir: absolute("state-dir", merged.daemon.state_dir.as_ref(), DEFAULT_STATE_DIR, found),
        retention: duration(limits::RETENTION, merged.daemon.retention.as_ref(), found)
            .unwrap_or(DEFAULT_RETENTION),
        socket: socket(control.socket.as_ref(), found),
        socket_mode: mode(control.mode.as_ref(), found),
        socket_group: group(control.group.as_ref(), found),
        servers,
        schedule: Arc::new(schedule),
    };
    Resolved { settings, feeds, without_secrets }
}

/// Everything that makes jobs, and where each entry is named, or stands.
fn schedule(known: &Known<'_>, now: UtcMs, found: &mut Diagnostics) -> (Schedule, BTreeMap<String, Place>) {
    let Known { merged, servers, defaults } = *known;
    let ahead = duration(limits::AHEAD, merged.daemon.ahead.as_ref(), found).unwrap_or(DEFAULT_AHEAD);
    let refresh = duration(limits::REFRESH, merged.daemon.refresh.as_ref(), found).unwrap_or(DEFAULT_REFRESH);
    let expressions = Expressions::default();
    let mut taken = BTreeMap::new();
    let entries = Entries { merged, servers, defaults, now, expressions, found: &mut *found };
    let ends = entries.all(&mut taken);
    let (rules, exempt) = rules::resolve(known, &mut taken, found);
    let mut schedule = Schedule { ahead, refresh, rules, exempt, ..Schedule::default() };
    for end in ends {
        match end {
            Ended::At(entry, zone) => {
                schedule.zones.extend(zone.map(|zone| (entry.identity.clone(), zone)));
                schedule.entries.push(entry);
            }
            Ended::Again(recurring) => schedule.recurring.push(recurring),
            Ended::After(rule) => schedule.rules.push(*rule),
        }
    }
    schedule.exempt.extend(merged.ends.iter().filter_map(rules::exempt_by_end));
    (schedule, taken)
}

/// The given limits over those of the next level up.
pub(super) fn merge_limits(given: &file::Limits, base: &Limits, found: &mut Diagnostics) -> Limits {
    let mut patch = LimitsPatch::default();
    for (bound, text) in limits::ALL.iter().zip(&given.durations) {
        let Some(Located { value, place }) = text else { continue };
        if let Some(Err(error)) = limits::set(&mut patch, bound.key, value) {
            found.error(*place, error.to_string(), error.hint());
        }
    }
    if let Some(Located { value, place }) = &given.expect {
        patch.expect = limits::expect(value);
        if patch.expect.is_none() {
            let message = format!("expect is {value:?}, not one of any, live");
            found.error(*place, message, "live: a meeting that is absent at its deadline is worth an alarm");
        }
    }
    if let Some(Located { value, place }) = &given.lock {
        patch.lock = limits::lock(value);
        if patch.lock.is_none() {
            let message = format!("lock is {value:?}, not one of no, reversible, permanent");
            found.error(
                *place,
                message,
                "reversible: adjourn unlock opens the room again; permanent: nothing does",
            );
        }
    }
    if let Some(warn) = &given.warn {
        patch.warn = marks(warn, found);
    }
    merge_words(given, &mut patch, base, found);
    patch.over(base)
}

/// What the people inside are told, and in which language.
fn merge_words(given: &file::Limits, patch: &mut LimitsPatch, base: &Limits, found: &mut Diagnostics) {
    if let Some(Located { value, place }) = &given.warn_language {
        match value.parse::<Language>() {
            Ok(language) => patch.warn_language = Some(language),
            Err(error) => {
                found.error(*place, format!("warn-language: {error}"), format!("there are: {}", languages()));
            }
        }
    }
    let language = patch.warn_language.unwrap_or_else(|| base.language());
    if let Some(Located { value, place }) = &given.warn_text {
        match limits::warn_text_fault(value, language, None) {
            Some((message, hint)) => found.error(*place, message, hint),
            None => patch.warn_text = Some(value.clone()),
        }
    }
}

fn marks(given: &Located<Vec<Located<String>>>, found: &mut Diagnostics) -> Option<Vec<Duration>> {
    let read: Vec<Option<Duration>> =
        given.value.iter().map(|mark| duration(limits::WARN, Some(mark), found)).collect();
    let marks = limits::warn_marks(read.into_iter().collect::<Option<_>>()?);
    marks.map_err(|(message, hint)| found.error(given.place, message, hint)).ok()
}

/// Can the people inside be warned at all? `place`: where that is asked for.
pub(super) fn check_warn(
    name: &str,
    platform: &PlatformSettings,
    limits: &Limits,
    place: Place,
    found: &mut Diagnostics,
) {
    if !limits.warn.is_empty() && !platform.can_warn() {
        let message =
            format!("nobody can be warned on {name}: its platform has no way to tell the people inside");
        found.note(
            place,
            message,
            "the event warning-due goes out all the same, and says that it was not delivered",
        );
    }
}

/// Janus tells no starts: what the first look of the pin time shows is ours, however long that time is.
pub(super) fn check_pin_before(
    name: &str,
    platform: &PlatformSettings,
    limits: &Limits,
    place: Place,
    found: &mut Diagnostics,
) {
    if matches!(platform, PlatformSettings::Janus(_)) && limits.pin_before > limits::PIN_BEFORE.min {
        let message = format!(
            "a pin-before above 10s protects little on {name}: Janus does not tell when a room began"
        );
        found.note(
            place,
            message,
            "what the first look after the pin moment shows is ended, whenever it was opened",
        );
    }
}

/// Does what they are told have room for the id of this meeting? `place`: of the text, or of what makes it too long.
pub(super) fn check_warn_text(limits: &Limits, meeting: &MeetingId, place: Place, found: &mut Diagnostics) {
    let text = limits.warn_text.as_ref();
    let fault = text.and_then(|text| limits::warn_text_fault(text, limits.language(), Some(meeting)));
    if let Some((message, hint)) = fault {
        found.error(place, message, hint);
    }
}

/// Can rooms of this platform be closed as the limits ask? `place`: where that is asked for.
pub(super) fn check_lock(
    name: &str,
    platform: &PlatformSettings,
    limits: &Limits,
    place: Place,
    found: &mut Diagnostics,
) {
    if let Some((message, hint)) = limits::lock_fault(name, limits.lock, platform.lock()) {
        found.error(place, message, hint);
    }
}

fn duration(bound: Bound, given: Option<&Located<String>>, found: &mut Diagnostics) -> Option<Duration> {
    let Located { value, place } = given?;
    bound.parse(value).map_err(|error| found.error(*place, error.to_string(), error.hint())).ok()
}

fn absolute(key: &str, given: Option<&Located<String>>, default: &str, found: &mut Diagnostics) -> PathBuf {
    let Some(Located { value, place }) = given else { return PathBuf::from(default) };
    if !value.starts_with('/') || value.contains('\0') {
        found.error(*place, format!("{key} must be an absolute path"), format!("the default is {default}"));
    }
    PathBuf::from(value)
}

fn socket(given: Option<&Located<String>>, found: &mut Diagnostics) -> PathBuf {
    let path = absolute("socket", given, DEFAULT_SOCKET, found);
    let length = path.as_os_str().len();
    if let (Some(given), true) = (given, length > MAX_SOCKET_PATH) {
        let message = format!("the path of the socket is {length} bytes long, more than {MAX_SOCKET_PATH}");
        found.error(given.place, message, "choose a shorter one: the system has no room for it");
    }
    path
}

fn mode(given: Option<&Located<String>>, found: &mut Diagnostics) -> u32 {
    let Some(Located { value, place }) = given else { return DEFAULT_SOCKET_MODE };
    let digits = value.strip_prefix("0o").unwrap_or(value);
    let octal = !digits.is_empty() && digits.bytes().all(|b| matches!(b, b'0'..=b'7'));
    match u32::from_str_radix(digits, 8) {
        Ok(mode) if octal && mode <= 0o777 => {
            if mode & OTHERS_MAY_WRITE != 0 {
                let hint = "write 0660, and set group to those who may";
                found.note(*place, "every user of this machine may end meetings through the socket", hint);
            }
            mode
        }
        _ => {
            found.error(
                *place,
                format!("mode is {value:?}, not an octal file mode"),
                "write it like \"0660\"",
            );
            DEFAULT_SOCKET_MODE
        }
    }
}

fn group(given: Option<&Located<String>>, found: &mut Diagnostics) -> Option<String> {
    let Located { value, place } = given?;
    let odd = |c: char| c.is_control() || c.is_whitespace() || matches!(c, ':' | '/' | ',');
    if value.is_empty() || value.len() > MAX_GROUP_NAME || value.contains(odd) {
        found.error(*place, format!("group is {value:?}, which cannot be a group's name"), "");
        return None;
    }
    if group::gid_of(value).is_none() {
        let message =
            format!("there is no group {value:?} on this machine: the daemon does not start without it");
        found.note(*place, message, "create it (groupadd --system), or give its number");
    }
    Some(value.clone())
}

/// What an `[[end]]` comes to.
enum Ended {
    /// With the zone that it names.
    At(Entry, Option<TimeZone>),
    /// `cron`
    Again(Recurring),
    /// `max-duration`
    After(Box<Rule>),
}

impl Ended {
    fn identity(&self) -> &str {
        match self {
            Ended::At(entry, _) => &entry.identity,
            Ended::Again(recurring) => &recurring.name,
            Ended::After(rule) => &rule.name,
        }
    }
}

/// Stage three for `[[end]]`.
struct Entries<'a> {
    merged: &'a Merged,
    servers: &'a BTreeMap<ServerName, ServerSettings>,
    defaults: &'a Limits,
    now: UtcMs,
    expressions: Expressions,
    found: &'a mut Diagnostics,
}

impl Entries<'_> {
    /// `seen`: where each of them is named, or stands.
    fn all(mut self, seen: &mut BTreeMap<String, Place>) -> Vec<Ended> {
        let mut all = Vec::new();
        for end in &self.merged.ends {
            let Some(ended) = self.ended(end) else { continue };
            let place = end.name.as_ref().map_or(end.place, |name| name.place);
            if let Some(first) = seen.get(ended.identity()) {
                self.duplicate(end, place, *first);
                continue;
            }
            seen.insert(ended.identity().to_owned(), place);
            all.push(ended);
        }
        all
    }

    fn duplicate(&mut self, end: &End, place: Place, first: Place) {
        let first = self.found.at(first);
        match &end.name {
            Some(name) => {
                let message =
                    format!("the name {:?} is taken by another entry; first at {first}", name.value);
                self.found.error(place, message, "every entry needs a name of its own");
            }
            None => {
                let meeting = end.meeting.as_ref().map_or("", |meeting| meeting.value.as_str());
                let when = if end.max_duration.is_some() { "after" } else { "at" };
                let message =
                    format!("another entry ends {meeting:?} {when} the same time; first at {first}");
                self.found.error(place, message, "remove one of the two, or give both a name");
            }
        }
    }

    /// `None` only if something was reported.
    fn ended(&mut self, end: &End) -> Option<Ended> {
        let name = end.name.as_ref().map(|name| self.named(name, names::entry_name));
        let server = end.server.as_ref().and_then(|given| rules::server(given, self.merged, self.found));
        let meeting = end.meeting.as_ref().and_then(|given| self.named(given, names::meeting_id));
        let limits = self.limits(end, server.as_ref(), meeting.as_ref());
        if let Some(cron) = &end.cron_keys.cron {
            let recurrence = self.expressions.recurrence(end, cron, self.now, self.found);
            let (server, meeting, recurrence) = (server?, meeting?, recurrence?);
            let name = match name {
                Some(name) => name?,
                None => self.unnamed(end, &server, &meeting, &cron.value),
            };
            let days = end.cron_keys.days(self.merged, self.found);
            return Some(Ended::Again(Recurring { name, server, meeting, recurrence, days, limits }));
        }
        end.cron_keys.refuse(self.found);
        if let Some(given) = &end.max_duration {
            self.whatever_runs(end);
            let length = duration(limits::MAX_DURATION, Some(given), self.found);
            let (server, meeting, length) = (server?, meeting?, length?);
            let name = match name {
                Some(name) => name?,
                None => format!("{server}/{meeting}+{}", humantime::format_duration(length)),
            };
            let rule = rules::from_end(name, server, meeting, length, limits);
            return Some(Ended::After(Box::new(rule)));
        }
        let instance = end.instance.as_ref().map(|given| self.named(given, names::instance_id));
        let at = self.at(end);
        if let (Some(at), Some(given)) = (at, &end.at) {
            self.remark_on_time(at, given.place, limits.late_limit);
        }
        let (server, meeting, at) = (server?, meeting?, at?);
        let identity = match name {
            Some(name) => name?,
            None => format!("{server}/{meeting}@{at}"),
        };
        let instance = match instance {
            Some(instance) => Some(instance?),
            None => None,
        };
        let zone = end.at.as_ref().and_then(|given| zone_in(&given.value));
        let zone = zone.or_else(|| parse_zone(&end.timezone.as_ref()?.value).ok());
        Some(Ended::At(Entry { identity, of: None, server, meeting, instance, at, limits }, zone))
    }

    /// Beside `max-duration` no run can be named, and no zone is needed.
    fn whatever_runs(&mut self, end: &End) {
        if let Some(instance) = &end.instance {
            let message = "instance cannot stand beside max-duration: it counts for whatever runs there";
            self.found.error(instance.place, message, "leave it out");
        }
        if let Some(zone) = &end.timezone {
            self.found.note(zone.place, "timezone has no effect beside max-duration", "leave it out");
        }
    }

    /// The limits of an entry, and what is to be said of its server and meeting.
    fn limits(&mut self, end: &End, server: Option<&ServerName>, meeting: Option<&MeetingId>) -> Limits {
        let settings = server.and_then(|name| self.servers.get(name));
        let fault =
            settings.zip(meeting).and_then(|(server, meeting)| server.platform.meeting_fault(meeting));
        if let (Some((message, hint)), Some(given)) = (fault, &end.meeting) {
            self.found.error(given.place, message, hint);
        }
        let limits =
            merge_limits(&end.limits, settings.map_or(self.defaults, |server| &server.limits), self.found);
        if let (Some(meeting), Some(given), Some(settings)) = (meeting, &end.meeting, settings)
            && matches!(settings.platform, PlatformSettings::BigBlueButton(_))
            && names::is_prefix_hazard(meeting)
        {
            let message =
                format!("BigBlueButton may take the short meeting id {:?} for another meeting", given.value);
            self.found.note(given.place, message, "ids of hex digits only are safe from 8 characters on");
        }
        if let (Some(settings), Some(given), Some(lock)) = (settings, &end.server, &end.limits.lock) {
            check_lock(&given.value, &settings.platform, &limits, lock.place, self.found);
        }
        if let (Some(settings), Some(given), Some(warn)) = (settings, &end.server, &end.limits.warn) {
            check_warn(&given.value, &settings.platform, &limits, warn.place, self.found);
        }
        if let (Some(settings), Some(given), Some(pin)) = (settings, &end.server, end.limits.pin_before()) {
            check_pin_before(&given.value, &settings.platform, &limits, pin.place, self.found);
        }
        if let (Some(meeting), Some(given)) = (meeting, &end.meeting) {
            let place = end.limits.warn_text.as_ref().map_or(given.place, |text| text.place);
            check_warn_text(&limits, meeting, place, self.found);
        }
        limits
    }

    /// What a recurring entry is known by that has no name.
    fn unnamed(&mut self, end: &End, server: &ServerName, meeting: &MeetingId, cron: &str) -> String {
        let message = "this entry has no name: an edit of cron makes another entry of it";
        self.found.note(end.place, message, "add name = \"...\"");
        format!("{server}/{meeting}@{cron}")
    }

    fn named<T>(&mut self, given: &Located<String>, parse: fn(&str) -> Result<T, NameError>) -> Option<T> {
        parse(&given.value).map_err(|error| self.found.error(given.place, error.to_string(), "")).ok()
    }

    fn at(&mut self, end: &End) -> Option<UtcMs> {
        let zone = match &end.timezone {
            Some(name) => Some(self.zone(name)?),
            None => None,
        };
        let Located { value, place } = end.at.as_ref()?;
        if let (Some(name), true) = (&end.timezone, has_zone(value)) {
            self.found.note(name.place, "timezone has no effect: at itself says where it is meant", "");
        }
        parse_at(value, zone.as_ref())
            .map_err(|error| self.found.error(*place, error.to_string(), error.hint()))
            .ok()
    }

    fn zone(&mut self, name: &Located<String>) -> Option<TimeZone> {
        parse_zone(&name.value)
            .map_err(|error| self.found.error(name.place, error.to_string(), error.hint()))
            .ok()
    }

    fn remark_on_time(&mut self, at: UtcMs, place: Place, late_limit: Duration) {
        if at > years_after(self.now, FAR_AHEAD_YEARS) {
            let message = format!("{at} is more than {FAR_AHEAD_YEARS} years ahead");
            self.found.note(place, message, "is the year right?");
        } else if at + late_limit < self.now {
            let message = format!("{at} has passed, by more than late-limit: a new entry is not submitted");
            self.found.note(place, message, "remove the entry when it is no longer wanted as a record");
        } else if at < self.now {
            let message = format!("{at} has passed: a new entry ends its meeting at once");
            self.found.note(place, message, "late-limit says how late is too late");
        }
    }
}
