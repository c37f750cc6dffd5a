//! Time zones by the names that feeds give them.

use std::collections::BTreeMap;
use std::str::FromStr;

use calcard::common::timezone::Tz;
use calcard::icalendar::ICalendar;
use jiff::tz::TimeZone;

/// The zones that a feed defines itself, by their names there.
#[derive(Default)]
pub struct Zones(BTreeMap<String, TimeZone>);

impl Zones {
    /// From VTIMEZONE blocks: only whose they are is looked for; their rules are those of the system.
    pub fn new<'a>(blocks: impl Iterator<Item = &'a str>) -> Zones {
        let mut zones = BTreeMap::new();
        for text in blocks {
            let Ok(read) = ICalendar::parse(text) else { continue };
            for component in read.timezones() {
                if let Some((name, zone)) = component.timezone()
                    && let Some(zone) = from_calcard(zone)
                {
                    zones.insert(name.to_owned(), zone);
                }
            }
        }
        Zones(zones)
    }

    /// IANA names first; then what the feed defines, Outlook's names, and IANA names behind a vendor's path.
    pub fn get(&self, name: &str) -> Option<TimeZone> {
        if let Some(zone) = iana(name).or_else(|| self.0.get(name).cloned()) {
            return Some(zone);
        }
        if let Some(zone) = Tz::from_str(name).ok().and_then(from_calcard) {
            return Some(zone);
        }
        // /freeassociation.sourceforge.net/Europe/Berlin, /mozilla.org/20050126_1/America/Argentina/Salta
        let starts = name.match_indices('/').map(|(slash, _)| slash + 1).take(6);
        starts
            .filter_map(|start| name.get(start..))
            .find_map(|rest| rest.contains('/').then(|| iana(rest))?)
    }
}

fn iana(name: &str) -> Option<TimeZone> {
    // jiff would look for files of other names.
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'/' | b'_' | b'-' | b'+');
    if name.is_empty() || name.len() > 64 || name.starts_with('/') || !name.bytes().all(plain) {
        return None;
    }
    TimeZone::get(name).ok()
}

fn from_calcard(zone: Tz) -> Option<TimeZone> {
    match zone {
        Tz::Floating => None,
        Tz::Tz(zone) => TimeZone::get(zone.name()).ok(),
        Tz::Fixed(offset) => {
            let offset = jiff::tz::Offset::from_seconds(offset.local_minus_utc()).ok()?;
            Some(TimeZone::fixed(offset))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(zones: &Zones, name: &str, expected: Option<&str>) {
        let found = zones.get(name);
        let named = found.as_ref().map(|zone| zone.iana_name().unwrap_or("fixed"));
        assert_eq!(named, expected, "{name}");
    }

    #[test]
    fn names_that_feeds_give() {
        let none = Zones::default();
        check(&none, "Europe/Berlin", Some("Europe/Berlin"));
        check(&none, "UTC", Some("UTC"));
        check(&none, "W. Europe Standard Time", Some("Europe/Berlin"));
        check(&none, "Eastern Standard Time", Some("America/New_York"));
        check(&none, "/freeassociation.sourceforge.net/Europe/Berlin", Some("Europe/Berlin"));
        check(&none, "/mozilla.org/20050126_1/America/Argentina/Salta", Some("America/Argentina/Salta"));
        check(&none, "Customized Time Zone", None);
        check(&none, "../../etc/passwd", None);
        check(&none, "", None);
    }

    #[test]
    fn zones_that_a_feed_defines() {
        let own = "BEGIN:VTIMEZONE\r\nTZID:Campus\r\nX-LIC-LOCATION:Europe/Vienna\r\nEND:VTIMEZONE\r\n";
        let zones =
            Zones::new([own, "BEGIN:VTIMEZONE\r\nTZID:Nowhere\r\nEND:VTIMEZONE\r\n", "junk"].into_iter());
        check(&zones, "Campus", Some("Europe/Vienna"));
        check(&zones, "Nowhere", None);
    }
}
