//! Stage two: all files as one. A key or a server that two files give is an error that names both places; entries add up
//! (whether two of them are the same one is known only when their times are, in stage three).

use super::calendars::{self, GivenCalendar, GivenEnd};
use super::diagnostics::{Diagnostics, Located};
use super::file::{Control, Daemon, End, File, Limits, Server};
use super::limits;
use super::rules::{ExemptTable, RuleTable};

#[derive(Default)]
pub(super) struct Merged {
    pub daemon: Daemon,
    pub control: Control,
    pub servers: Vec<Server>,
    pub defaults: Limits,
    pub ends: Vec<End>,
    pub calendars: Vec<GivenCalendar>,
    pub calendar_ends: Vec<GivenEnd>,
    pub rules: Vec<RuleTable>,
    pub exempt: Vec<ExemptTable>,
    /// Some file has syntax errors: what an entry refers to may stand there.
    pub broken: bool,
}

pub(super) fn merge(files: Vec<File>, found: &mut Diagnostics) -> Merged {
    let mut merged = Merged::default();
    for file in files {
        merged.add(file, found);
    }
    merged
}

impl Merged {
    fn add(&mut self, file: File, found: &mut Diagnostics) {
        once("state-dir", &mut self.daemon.state_dir, file.daemon.state_dir, found);
        once("retention", &mut self.daemon.retention, file.daemon.retention, found);
        once("ahead", &mut self.daemon.ahead, file.daemon.ahead, found);
        once("refresh", &mut self.daemon.refresh, file.daemon.refresh, found);
        once("socket", &mut self.control.socket, file.control.socket, found);
        once("mode", &mut self.control.mode, file.control.mode, found);
        once("group", &mut self.control.group, file.control.group, found);
        let durations = self.defaults.durations.iter_mut().zip(file.defaults.durations);
        for (bound, (slot, new)) in limits::ALL.iter().zip(durations) {
            once(bound.key, slot, new, found);
        }
        once("expect", &mut self.defaults.expect, file.defaults.expect, found);
        once("lock", &mut self.defaults.lock, file.defaults.lock, found);
        once("warn", &mut self.defaults.warn, file.defaults.warn, found);
        once("warn-text", &mut self.defaults.warn_text, file.defaults.warn_text, found);
        once("warn-language", &mut self.defaults.warn_language, file.defaults.warn_language, found);
        for server in file.servers {
            self.add_server(server, found);
        }
        self.ends.extend(file.ends);
        calendars::merge(&mut self.calendars, file.calendars, found);
        self.calendar_ends.extend(file.calendar_ends);
        self.rules.extend(file.rules);
        self.exempt.extend(file.exempt);
        self.broken |= file.broken;
    }

    fn add_server(&mut self, server: Server, found: &mut Diagnostics) {
        let Some(first) = self.servers.iter().find(|known| known.name.value == server.name.value) else {
            self.servers.push(server);
            return;
        };
        let message = format!(
            "the server {:?} is configured twice; first at {}",
            server.name.value,
            found.at(first.name.place)
        );
        found.error(server.name.place, message, "keep one of the two, or give one another name");
    }
}

fn once<T>(key: &str, slot: &mut Option<Located<T>>, new: Option<Located<T>>, found: &mut Diagnostics) {
    let Some(new) = new else { return };
    match slot {
        None => *slot = Some(new),
        Some(first) => {
            let message = format!("{key} is given twice; first at {}", found.at(first.place));
            found.error(new.place, message, "keep one of the two");
        }
    }
}
