//! Time zones by the names that feeds give them.
//!
//! | a name that is | means |
//! |---|---|
//! | named by the entry (`zones`) | what it says there |
//! | an IANA name, alone or behind a vendor's path | that zone |
//! | one of the feed's own VTIMEZONE | what that says: it *is* the zone (RFC 5545, 3.6.5) |
//! | Outlook's name of a zone (`W. Europe Standard Time`) | the IANA zone for it (CLDR, as calcard has it) |
//! | an offset (`GMT+0100`, `UTC-05:00`) | that offset |
//!
//! Everything else is not known, and what is there is left out: a display name such as `(UTC+01:00) Bruxelles, ...` says
//! where the clocks are in winter and not when they change. Where the feed's own VTIMEZONE and the zone of that name
//! disagree, [`Zone::other`] has the one that does not count, so that it can be told.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::str::FromStr;

use calcard::common::timezone::Tz;
use jiff::tz::{Offset, TimeZone, TimeZoneDatabase};

use super::split::Block;
use super::vtimezone::{Definition, unescaped};

/// What an entry says about names of zones in its feed.
pub type GivenZones = BTreeMap<String, TimeZone>;

/// The zones that a feed may name.
#[derive(Default)]
pub struct Zones {
    given: GivenZones,
    /// By their names, made alike.
    defined: BTreeMap<String, Definition>,
    /// Names that have been asked for.
    known: RefCell<BTreeMap<String, Option<Zone>>>,
}

/// What a name means.
#[derive(Clone, PartialEq, Debug)]
pub struct Zone {
    pub zone: TimeZone,
    /// The other zone of the same name, which does not count: that of the feed, or that of everybody else.
    pub other: Option<(Whose, TimeZone)>,
}

/// Whose zone it is that does not count.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Whose {
    /// The feed's own VTIMEZONE.
    Feed,
    /// The one that goes by that name everywhere else.
    Everybody,
}

impl Zones {
    pub fn new(blocks: &[Block], given: &GivenZones) -> Zones {
        let definitions = blocks.iter().filter_map(Definition::read);
        Zones {
            given: given.iter().map(|(name, zone)| (key(name), zone.clone())).collect(),
            defined: definitions.map(|defined| (key(&defined.name), defined)).collect(),
            known: RefCell::default(),
        }
    }

    /// `None`: what the name means is not certain.
    pub fn get(&self, name: &str) -> Option<Zone> {
        if let Some(known) = self.known.borrow().get(name) {
            return known.clone();
        }
        let found = self.find(&clean(name));
        self.known.borrow_mut().insert(name.to_owned(), found.clone());
        found
    }

    fn find(&self, name: &str) -> Option<Zone> {
        let key = key(name);
        if let Some(zone) = self.given.get(&key) {
            return Some(Zone { zone: zone.clone(), other: None });
        }
        let defined = self.defined.get(&key);
        let own = defined.and_then(Definition::zone);
        let location = defined.and_then(|defined| defined.location.as_deref()).and_then(iana);
        if let Some(zone) = iana(name).or_else(|| behind_a_path(name)).or(location) {
            let other = own.map(|own| (Whose::Feed, own));
            return Some(Zone { zone, other });
        }
        let vendors = vendors_name(name);
        if let Some(zone) = own {
            return Some(Zone { zone, other: vendors.map(|zone| (Whose::Everybody, zone)) });
        }
        // What the feed defines and cannot be worked out is nothing that can be guessed from its name.
        if defined.is_some_and(Definition::has_rules) {
            return None;
        }
        let number = defined.and_then(|defined| defined.number.as_deref());
        let zone = number.and_then(Tz::from_ms_cdo_zone_id).and_then(from_calcard);
        let zone = zone.or(vendors).or_else(|| offset(&key))?;
        Some(Zone { zone, other: None })
    }
}

/// The IANA zone of this name: as this machine has it, or else as it was built in. Newer systems have no `US/Eastern` and
/// no `Asia/Calcutta`.
pub fn iana(name: &str) -> Option<TimeZone> {
    // jiff would look for files of other names.
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'/' | b'_' | b'-' | b'+');
    let odd = ["right/", "posix/"].iter().any(|folder| name.starts_with(folder));
    if name.is_empty() || name.len() > 64 || name.starts_with('/') || odd || !name.bytes().all(plain) {
        return None;
    }
    TimeZone::get(name).or_else(|_| TimeZoneDatabase::bundled().get(name)).ok()
}

/// /freeassociation.sourceforge.net/Europe/Berlin, /mozilla.org/20050126_1/America/Argentina/Salta
fn behind_a_path(name: &str) -> Option<TimeZone> {
    if name.eq_ignore_ascii_case("tzone://Microsoft/Utc") {
        return Some(TimeZone::UTC);
    }
    let starts = name.match_indices('/').map(|(slash, _)| slash + 1).take(6);
    starts.filter_map(|start| name.get(start..)).find_map(|rest| rest.contains('/').then(|| iana(rest))?)
}

/// Outlook's names, with and without what stands in brackets before them.
fn vendors_name(name: &str) -> Option<TimeZone> {
    if name.starts_with('(') && name.ends_with("Coordinated Universal Time") {
        return Some(TimeZone::UTC);
    }
    match Tz::from_str(name).ok()? {
        // Read from the brackets alone, for want of a name: right in winter at best, and without the minutes.
        Tz::Tz(zone) if name.starts_with('(') && zone.name().starts_with("Etc/") => None,
        zone => from_calcard(zone),
    }
}

fn from_calcard(zone: Tz) -> Option<TimeZone> {
    match zone {
        Tz::Floating => None,
        Tz::Tz(zone) => iana(zone.name()),
        Tz::Fixed(offset) => Some(TimeZone::fixed(Offset::from_seconds(offset.local_minus_utc()).ok()?)),
    }
}

/// `GMT+0100`, `UTC-05:30`, `+01:00`. Without minutes (`GMT+1`) nobody knows which way it is meant: POSIX counts
/// westwards, everybody else eastwards.
fn offset(name: &str) -> Option<TimeZone> {
    let bare = name.strip_prefix("gmt").or_else(|| name.strip_prefix("utc")).unwrap_or(name).trim();
    let sign = match bare.get(..1)? {
        "+" => 1,
        "-" => -1,
        _ => return None,
    };
    let digits = bare.get(1..)?.replace(':', "");
    if digits.len() != 4 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let (hours, minutes): (i32, i32) = (digits.get(..2)?.parse().ok()?, digits.get(2..)?.parse().ok()?);
    if hours > 14 || minutes > 59 {
        return None;
    }
    Some(TimeZone::fixed(Offset::from_seconds(sign * (hours * 3600 + minutes * 60)).ok()?))
}

/// Without quotes, backslashes and doubled blanks.
fn clean(name: &str) -> String {
    let plain = unescaped(name.trim().trim_matches('"'));
    plain.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// What two spellings of one name have in common.
fn key(name: &str) -> String {
    clean(name).to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::super::split::split;
    use super::*;

    fn zones(defined: &str) -> Zones {
        let text = format!("BEGIN:VCALENDAR\n{defined}END:VCALENDAR\n");
        Zones::new(&split(text.as_bytes()).unwrap().zones, &GivenZones::new())
    }

    /// A zone that has only one offset, in hours and minutes.
    fn defined(name: &str, offset: &str) -> String {
        format!(
            "BEGIN:VTIMEZONE\nTZID:{name}\nBEGIN:STANDARD\nDTSTART:16010101T000000\nTZOFFSETFROM:{offset}\n\
             TZOFFSETTO:{offset}\nEND:STANDARD\nEND:VTIMEZONE\n"
        )
    }

    #[track_caller]
    fn check(zones: &Zones, name: &str, expected: Option<&str>) {
        let found = zones.get(name).map(|found| found.zone);
        let offset =
            |zone: &TimeZone| zone.to_fixed_offset().map_or_else(|_| "zone".to_owned(), |at| at.to_string());
        let named = found.as_ref().map(|zone| zone.iana_name().map_or_else(|| offset(zone), str::to_owned));
        assert_eq!(named.as_deref(), expected, "{name}");
    }

    #[test]
    fn names_that_feeds_give() {
        let none = Zones::default();
        check(&none, "Europe/Berlin", Some("Europe/Berlin"));
        check(&none, "UTC", Some("UTC"));
        check(&none, "tzone://Microsoft/Utc", Some("UTC"));
        check(&none, "W. Europe Standard Time", Some("Europe/Berlin"));
        check(&none, "Eastern Standard Time", Some("America/New_York"));
        check(&none, "(UTC-05:00) Eastern Time (US & Canada)", Some("America/New_York"));
        check(&none, "(UTC+01:00) Amsterdam, Berlin, Bern, Rome, Stockholm, Vienna", Some("Europe/Berlin"));
        check(&none, "/freeassociation.sourceforge.net/Europe/Berlin", Some("Europe/Berlin"));
        check(&none, "/mozilla.org/20050126_1/America/Argentina/Salta", Some("America/Argentina/Salta"));
        check(&none, "GMT+0530", Some("+05:30"));
        check(&none, "UTC-05:00", Some("-05"));
        for odd in [
            "Customized Time Zone",
            "tzone://Microsoft/Custom",
            "(UTC+01:00) Br\u{fc}ssel, Kopenhagen, Madrid, Paris",
            "(UTC+05:30) Chennai, Kolkata, Mumbai, New Delhi",
            "(GMT+01.00) Sarajevo/Warsaw/Zagreb",
            "W. Europe Standard Time 1",
            "GMT+1",
            "../../etc/passwd",
            "",
        ] {
            check(&none, odd, None);
        }
    }

    #[test]
    fn legacy_names_are_built_in() {
        // On a machine that has them nothing of this is asked.
        for name in ["US/Eastern", "Asia/Calcutta"] {
            assert!(iana(name).is_some() && TimeZoneDatabase::bundled().get(name).is_ok(), "{name}");
        }
    }

    #[test]
    fn zones_that_a_feed_defines() {
        let own = "BEGIN:VTIMEZONE\nTZID:Campus\nX-LIC-LOCATION:Europe/Vienna\nEND:VTIMEZONE\n\
                   BEGIN:VTIMEZONE\nTZID:Number\nX-MICROSOFT-CDO-TZID:4\nEND:VTIMEZONE\n\
                   BEGIN:VTIMEZONE\nTZID:Nowhere\nEND:VTIMEZONE\n";
        let zones = zones(
            &(own.to_owned()
                + &defined("(UTC+05:30) Chennai\\, Kolkata", "+0530")
                + &defined("Tokyo Standard Time", "+0845")
                + &defined("Europe/Rome", "+0845")),
        );
        check(&zones, "Campus", Some("Europe/Vienna"));
        check(&zones, "Number", Some("Europe/Berlin"));
        check(&zones, "Nowhere", None);
        check(&zones, "\"(utc+05:30) Chennai, Kolkata\"", Some("+05:30"));
        // What the feed says counts against Outlook's name, and not against an IANA name; both are told.
        check(&zones, "Tokyo Standard Time", Some("+08:45"));
        assert_eq!(zones.get("Tokyo Standard Time").unwrap().other.unwrap().0, Whose::Everybody);
        check(&zones, "Europe/Rome", Some("Europe/Rome"));
        assert_eq!(zones.get("Europe/Rome").unwrap().other.unwrap().0, Whose::Feed);
    }

    #[test]
    fn a_zone_that_cannot_be_worked_out_is_not_guessed_from_its_name() {
        let broken = defined("Tokyo Standard Time", "soon");
        check(&zones(&broken), "Tokyo Standard Time", None);
    }

    #[test]
    fn what_the_entry_says_comes_first() {
        let given = GivenZones::from([("Customized  time zone".to_owned(), iana("Asia/Tokyo").unwrap())]);
        let text = format!("BEGIN:VCALENDAR\n{}END:VCALENDAR\n", defined("Customized Time Zone", "+0100"));
        let zones = Zones::new(&split(text.as_bytes()).unwrap().zones, &given);
        check(&zones, "Customized Time Zone", Some("Asia/Tokyo"));
    }
}
