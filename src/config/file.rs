//! Stage one: exactly what the TOML says, key by key, with places. Types are checked, meanings are not.
//!
//! A key does not exist until it is read here: whatever else a file contains is an unknown key.

use toml::de::{DeTable, DeValue};

use super::calendars::{self, GivenCalendar, GivenEnd};
use super::diagnostics::{Diagnostics, Located, Place};
use super::document::{Read, Section, TimeText};
use super::network::{self, NetworkKeys};
use super::platforms::{self, Platform};
use super::recurring::{self, CronKeys};
use super::rules::{self, ExemptTable, RuleTable};
use super::{limits, mask};

/// When an `[[end]]` ends its meeting.
const WHEN: [&str; 3] = ["at", "cron", "max-duration"];

#[derive(Default)]
pub(super) struct File {
    pub daemon: Daemon,
    pub control: Control,
    pub servers: Vec<Server>,
    pub defaults: Limits,
    pub ends: Vec<End>,
    pub calendars: Vec<GivenCalendar>,
    pub calendar_ends: Vec<GivenEnd>,
    pub rules: Vec<RuleTable>,
    pub exempt: Vec<ExemptTable>,
    /// It has syntax errors: not everything that it says could be read.
    pub broken: bool,
}

/// `[daemon]`
#[derive(Default)]
pub(super) struct Daemon {
    pub state_dir: Option<Located<String>>,
    pub retention: Option<Located<String>>,
    pub ahead: Option<Located<String>>,
    pub refresh: Option<Located<String>>,
}

/// `[control]`
#[derive(Default)]
pub(super) struct Control {
    pub socket: Option<Located<String>>,
    pub mode: Option<Located<String>>,
    pub group: Option<Located<String>>,
}

/// `[servers.NAME]`
pub(super) struct Server {
    pub name: Located<String>,
    /// `None` if it is not known of what platform the server is; then none of its other keys has been read.
    pub platform: Option<Platform>,
    pub max_concurrent: Option<Located<i64>>,
    pub network: NetworkKeys,
    pub limits: Limits,
}

/// Where a secret is to be had.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Secret {
    Credential(String),
    Env(String),
    File(String),
}

/// The limits, in `[defaults]`, per server and per entry.
#[derive(Default)]
pub(super) struct Limits {
    /// In the order of [`limits::ALL`].
    pub durations: [Option<Located<String>>; limits::ALL.len()],
    pub expect: Option<Located<String>>,
    pub lock: Option<Located<String>>,
    pub warn: Option<Located<Vec<Located<String>>>>,
    pub warn_text: Option<Located<String>>,
    pub warn_language: Option<Located<String>>,
}

impl Limits {
    pub fn pin_before(&self) -> Option<&Located<String>> {
        self.given(limits::PIN_BEFORE)
    }

    pub fn keep_closed(&self) -> Option<&Located<String>> {
        self.given(limits::KEEP_CLOSED)
    }

    fn given(&self, wanted: limits::Bound) -> Option<&Located<String>> {
        let at = limits::ALL.iter().position(|bound| bound.key == wanted.key)?;
        self.durations[at].as_ref()
    }
}

/// `[[end]]`
pub(super) struct End {
    pub place: Place,
    pub name: Option<Located<String>>,
    pub server: Option<Located<String>>,
    pub meeting: Option<Located<String>>,
    pub at: Option<Located<String>>,
    pub cron_keys: CronKeys,
    pub timezone: Option<Located<String>>,
    pub instance: Option<Located<String>>,
    /// From the start of whatever runs there.
    pub max_duration: Option<Located<String>>,
    /// `false`: no rule hits this meeting.
    pub rules: Option<Located<bool>>,
    pub limits: Limits,
}

/// Parses and reads one file; whatever is wrong with it goes into `found`.
pub(super) fn read(file: usize, found: &mut Diagnostics) -> File {
    let text = found.text(file).to_owned();
    let (document, errors) = DeTable::parse_recoverable(&text);
    let table = document.get_ref();
    mask::mask_document(file, table, found);
    let broken = !errors.is_empty();
    if broken {
        mask::mask_lines(file, found);
    }
    report_syntax(file, &errors, text.len(), found);
    let mut root = Section::root(file, table, broken, found);
    let read = File {
        daemon: table_of(&mut root, "daemon", daemon).unwrap_or_default(),
        control: table_of(&mut root, "control", control).unwrap_or_default(),
        servers: servers(&mut root),
        defaults: table_of(&mut root, "defaults", limits).unwrap_or_default(),
        ends: ends(&mut root),
        calendars: calendars::calendars(&mut root),
        calendar_ends: calendars::ends(&mut root),
        rules: rules::read_rules(&mut root),
        exempt: rules::read_exempt(&mut root),
        broken,
    };
    root.finish();
    read
}

fn report_syntax(file: usize, errors: &[toml::de::Error], end: usize, found: &mut Diagnostics) {
    for error in errors {
        let place = Place::new(file, error.span().unwrap_or(end..end));
        found.syntax_error(place, format!("this is not TOML: {}", error.message()));
    }
}

fn table_of<T>(
    root: &mut Section<'_, '_>,
    key: &'static str,
    read: impl FnOnce(&mut Section<'_, '_>) -> T,
) -> Option<T> {
    let table = root.get::<&DeTable<'_>>(key)?;
    let mut section = root.inner(format!("[{key}]"), table.place, table.value);
    let value = read(&mut section);
    section.finish();
    Some(value)
}

fn daemon(section: &mut Section<'_, '_>) -> Daemon {
    Daemon {
        state_dir: section.get("state-dir"),
        retention: section.get("retention"),
        ahead: section.get("ahead"),
        refresh: section.get("refresh"),
    }
}

fn control(section: &mut Section<'_, '_>) -> Control {
    Control { socket: section.get("socket"), mode: section.get("mode"), group: section.get("group") }
}

pub(super) fn limits(section: &mut Section<'_, '_>) -> Limits {
    Limits {
        durations: limits::ALL.map(|bound| section.get(bound.key)),
        expect: section.get("expect"),
        lock: section.get("lock"),
        warn: section.strings("warn"),
        warn_text: section.get("warn-text"),
        warn_language: section.get("warn-language"),
    }
}

fn servers(root: &mut Section<'_, '_>) -> Vec<Server> {
    let Some(all) = root.get::<&DeTable<'_>>("servers") else { return Vec::new() };
    let tables = root.inner("servers".to_owned(), all.place, all.value).named_tables();
    tables.into_iter().map(|(name, table)| server(root, name, table)).collect()
}

fn server<'a>(root: &mut Section<'a, '_>, name: Located<String>, table: &'a DeTable<'a>) -> Server {
    let mut section = root.inner(format!("[servers.{}]", name.value), name.place, table);
    let kind = section.required::<String>("platform");
    let Some(platform) = kind.and_then(|kind| platforms::read(&mut section, &kind)) else {
        return Server {
            name,
            platform: None,
            max_concurrent: None,
            network: NetworkKeys::default(),
            limits: Limits::default(),
        };
    };
    let server = Server {
        name,
        platform: Some(platform),
        max_concurrent: section.get("max-concurrent"),
        network: network::read(&mut section),
        limits: limits(&mut section),
    };
    section.finish();
    server
}

/// Whatever stands behind the key of a secret; only a table can be right.
pub(super) struct AnyValue<'a>(pub &'a DeValue<'a>);

impl<'a> Read<'a> for AnyValue<'a> {
    const WANTED: &'static str = "a table";
    fn read(value: &'a DeValue<'a>) -> Option<AnyValue<'a>> {
        Some(AnyValue(value))
    }
}

/// A secret that must be there. Keys of secrets are known to [`mask`] as well.
pub(super) fn required_secret<'a>(
    section: &mut Section<'a, '_>,
    key: &'static str,
) -> Option<Located<Secret>> {
    let given = section.required::<AnyValue<'a>>(key)?;
    secret(section, key, given)
}

pub(super) fn optional_secret<'a>(
    section: &mut Section<'a, '_>,
    key: &'static str,
) -> Option<Located<Secret>> {
    let given = section.get::<AnyValue<'a>>(key)?;
    secret(section, key, given)
}

pub(super) fn secret<'a>(
    section: &mut Section<'a, '_>,
    key: &str,
    Located { value: AnyValue(value), place }: Located<AnyValue<'a>>,
) -> Option<Located<Secret>> {
    let hint = format!(
        "write {key} = {{ credential = \"NAME\" }}, {{ env = \"NAME\" }} or {{ file = \"/path\" }}: where it is, not what it is"
    );
    let DeValue::Table(table) = value else {
        let message = format!("the {key} of {} stands in the file itself", section.title);
        section.found.error(place, message, hint);
        return None;
    };
    let title = format!("the {key} of {}", section.title);
    let mut inner = section.inner(title, place, table);
    let given = ["credential", "env", "file"].into_iter().filter(|key| inner.has(key)).count();
    let credential = inner.get("credential").map(|name| Secret::Credential(name.value));
    let env = inner.get("env").map(|name| Secret::Env(name.value));
    let path = inner.get("file").map(|path| Secret::File(path.value));
    if given != 1 && !inner.broken {
        let message = format!("{} must name exactly one of credential, env and file", inner.title);
        inner.found.error(place, message, hint);
    }
    inner.finish();
    let value = credential.or(env).or(path).filter(|_| given == 1)?;
    Some(Located { value, place })
}

fn ends(root: &mut Section<'_, '_>) -> Vec<End> {
    let tables = root.list("end");
    let mut ends = Vec::new();
    for table in tables {
        let mut section = root.inner("[[end]]".to_owned(), table.place, table.value);
        ends.push(end(&mut section));
        section.finish();
    }
    ends
}

fn end(section: &mut Section<'_, '_>) -> End {
    exactly_one(section, &WHEN);
    End {
        place: section.place,
        name: section.get("name"),
        server: section.required("server"),
        meeting: section.required("meeting"),
        at: section.get::<TimeText>("at").map(|at| Located { value: at.value.0, place: at.place }),
        cron_keys: recurring::read(section),
        timezone: section.get("timezone"),
        instance: section.get("instance"),
        max_duration: section.get("max-duration"),
        rules: section.get("rules"),
        limits: limits(section),
    }
}

/// Complains unless one of the keys is there, and no other. In a broken file none may only be unreadable.
fn exactly_one(section: &mut Section<'_, '_>, keys: &[&str]) {
    let given: Vec<&str> = keys.iter().copied().filter(|key| section.has(key)).collect();
    let message = match given[..] {
        [_] => return,
        [] if section.broken => return,
        [] => format!("{} has none of {}", section.title, keys.join(", ")),
        _ => format!("{} cannot stand in one {}", given.join(" and "), section.title),
    };
    section.found.error(section.place, message, format!("give it exactly one of {}", keys.join(", ")));
}
