//! How a feed is read: `zones` and `accept-empty`, of `[calendars.NAME]` and of `[[calendar-end]]`.
//!
//! A feed is read once, whoever uses it. So two entries that use the same feed must not give one name of a time zone two
//! meanings, and `accept-empty` counts only where all of them say it.

use std::collections::BTreeMap;

use super::diagnostics::{Diagnostics, Located};
use super::document::Section;
use super::rules::TextTable;
use super::time::parse_zone;
use crate::schedule::{FeedOptions, GivenZones, Source};

/// Stage one.
pub(super) struct GivenOptions {
    zones: Option<Located<TextTable>>,
    accept_empty: Option<Located<bool>>,
}

impl GivenOptions {
    pub fn read(section: &mut Section<'_, '_>) -> GivenOptions {
        GivenOptions { zones: section.get("zones"), accept_empty: section.get("accept-empty") }
    }

    /// Stage three: adds what one entry says to what others say of the same feed. `source`: `None` if it has no feed, or a
    /// wrong one.
    pub fn add_to(
        &self,
        source: Option<&Source>,
        all: &mut BTreeMap<Source, FeedOptions>,
        found: &mut Diagnostics,
    ) {
        let zones = self.zones(found);
        let Some(source) = source else { return };
        let accepts = self.accept_empty.as_ref().is_some_and(|given| given.value);
        let is_first = !all.contains_key(source);
        let options = all.entry(source.clone()).or_default();
        options.accept_empty = accepts && (is_first || options.accept_empty);
        for (name, zone) in zones {
            let known = options.zones.get(&name).filter(|known| **known != zone);
            if let (Some(_), Some(given)) = (known, &self.zones) {
                let message = format!("the time zone {name:?} of this feed is given two meanings");
                found.error(given.place, message, "entries that use the same feed must agree on its zones");
                continue;
            }
            options.zones.insert(name, zone);
        }
    }

    fn zones(&self, found: &mut Diagnostics) -> GivenZones {
        let Some(Located { value: TextTable(zones), place }) = &self.zones else { return GivenZones::new() };
        let mut read = GivenZones::new();
        for (name, zone) in zones {
            match parse_zone(zone) {
                Ok(zone) => _ = read.insert(name.clone(), zone),
                Err(error) => found.error(*place, error.to_string(), error.hint()),
            }
        }
        read
    }
}
