//! `[[end]]` with `cron`, through the stages.

use std::collections::BTreeMap;

use jiff::tz::TimeZone;

use super::calendars;
use super::diagnostics::{Diagnostics, Located};
use super::document::{Section, did_you_mean};
use super::file::End;
use super::merged::Merged;
use super::time::parse_zone;
use crate::job::UtcMs;
use crate::schedule::{Days, Dst, Recurrence};

/// The keys of an `[[end]]` that comes again and again.
#[derive(Default)]
pub(super) struct CronKeys {
    pub cron: Option<Located<String>>,
    pub dst: Option<Located<String>>,
    pub only: Vec<Located<String>>,
    pub except: Vec<Located<String>>,
}

/// Stage one.
pub(super) fn read(section: &mut Section<'_, '_>) -> CronKeys {
    CronKeys {
        cron: section.get("cron"),
        dst: section.get("dst"),
        only: section.texts("only"),
        except: section.texts("except"),
    }
}

impl CronKeys {
    /// The calendars; each must be there.
    pub fn days(&self, merged: &Merged, found: &mut Diagnostics) -> Days {
        let mut named = |given| calendars::named(given, merged, found);
        Days { only: named(&self.only), except: named(&self.except) }
    }

    /// Complains of what says nothing without `cron`.
    pub fn refuse(&self, found: &mut Diagnostics) {
        let days = [("only", self.only.first()), ("except", self.except.first())];
        for (key, given) in days.into_iter().chain([("dst", self.dst.as_ref())]) {
            if let Some(given) = given {
                found.error(given.place, format!("{key} counts only beside cron"), "leave it out");
            }
        }
    }
}

/// What becomes of each expression. Most of them are written many times, and one is some kilobytes large.
#[derive(Default)]
pub(super) struct Expressions(BTreeMap<String, Recurrence>);

impl Expressions {
    /// `None` only if something was reported.
    pub fn recurrence(
        &mut self,
        end: &End,
        cron: &Located<String>,
        now: UtcMs,
        found: &mut Diagnostics,
    ) -> Option<Recurrence> {
        if let Some(instance) = &end.instance {
            let message = "instance cannot stand beside cron: every time it is another run that ends";
            found.error(instance.place, message, "leave it out");
        }
        let dst = end.cron_keys.dst.as_ref().map_or(Some(Dst::default()), |given| dst(given, found));
        let zone = zone(end, found);
        let recurrence = self.parsed(cron, found);
        let recurrence = recurrence?.elsewhere(zone?, dst?);
        if recurrence.next_after(now).is_none() {
            let message = format!("cron is {:?}, which does not come any more", cron.value);
            found.note(cron.place, message, "is the year right?");
        }
        Some(recurrence)
    }

    fn parsed(&mut self, cron: &Located<String>, found: &mut Diagnostics) -> Option<Recurrence> {
        if let Some(known) = self.0.get(&cron.value) {
            return Some(known.clone());
        }
        match Recurrence::new(&cron.value, TimeZone::UTC, Dst::default()) {
            Ok(new) => {
                self.0.insert(cron.value.clone(), new.clone());
                Some(new)
            }
            Err(error) => {
                found.error(cron.place, error.to_string(), error.hint());
                None
            }
        }
    }
}

fn dst(given: &Located<String>, found: &mut Diagnostics) -> Option<Dst> {
    let Located { value, place } = given;
    if let Some((_, chosen)) = Dst::ALL.iter().find(|(name, _)| name == value) {
        return Some(*chosen);
    }
    let names = Dst::ALL.map(|(name, _)| name);
    let hint = match did_you_mean(value, &names) {
        none if none.is_empty() => "wall: a time that does not exist moves to where the gap ends".to_owned(),
        some => some,
    };
    found.error(*place, format!("dst is {value:?}, not one of {}", names.join(", ")), hint);
    None
}

fn zone(end: &End, found: &mut Diagnostics) -> Option<TimeZone> {
    let Some(Located { value, place }) = &end.timezone else {
        let message = "[[end]] with cron has no timezone";
        found.error(end.place, message, "add timezone = \"Europe/Berlin\", or where its times are meant");
        return None;
    };
    parse_zone(value).map_err(|error| found.error(*place, error.to_string(), error.hint())).ok()
}
