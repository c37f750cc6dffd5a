//! What a request says: the call, the parameters, the checksum.
//!
//! The checksum is computed here and not taken from the platform's code, so that the two check each other.

use serde::{Deserialize, Serialize};
use sha1::Sha1;
use sha2::{Digest, Sha256, Sha384, Sha512};

/// Parameters of one request that are kept; a query with more is cut.
const MAX_PARAMETERS: usize = 1_000;

/// A call of the API, by its name on the wire.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Call {
    /// The API's base itself, unsigned.
    Probe,
    Create,
    Join,
    End,
    GetMeetingInfo,
    GetMeetings,
    IsMeetingRunning,
    SendChatMessage,
    /// A name that this sandbox does not know.
    Unknown,
}

impl Call {
    pub fn parse(name: &str) -> Call {
        match name {
            "" => Call::Probe,
            "create" => Call::Create,
            "join" => Call::Join,
            "end" => Call::End,
            "getMeetingInfo" => Call::GetMeetingInfo,
            "getMeetings" => Call::GetMeetings,
            "isMeetingRunning" => Call::IsMeetingRunning,
            "sendChatMessage" => Call::SendChatMessage,
            _ => Call::Unknown,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Call::Probe => "probe",
            Call::Create => "create",
            Call::Join => "join",
            Call::End => "end",
            Call::GetMeetingInfo => "getMeetingInfo",
            Call::GetMeetings => "getMeetings",
            Call::IsMeetingRunning => "isMeetingRunning",
            Call::SendChatMessage => "sendChatMessage",
            Call::Unknown => "unknown",
        }
    }
}

/// A checksum algorithm; on the wire it is told by the number of hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Hash {
    Sha1,
    Sha256,
    Sha384,
    Sha512,
}

impl Hash {
    pub const ALL: [Hash; 4] = [Hash::Sha1, Hash::Sha256, Hash::Sha384, Hash::Sha512];

    fn by_hex_length(digits: usize) -> Option<Hash> {
        match digits {
            40 => Some(Hash::Sha1),
            64 => Some(Hash::Sha256),
            96 => Some(Hash::Sha384),
            128 => Some(Hash::Sha512),
            _ => None,
        }
    }

    /// The checksum of a call: `hex(HASH(call + query without checksum + secret))`.
    pub fn checksum(self, call: &str, query: &str, secret: &str) -> String {
        let text = [call, query, secret].concat();
        match self {
            Hash::Sha1 => hex(&Sha1::digest(text)),
            Hash::Sha256 => hex(&Sha256::digest(text)),
            Hash::Sha384 => hex(&Sha384::digest(text)),
            Hash::Sha512 => hex(&Sha512::digest(text)),
        }
    }
}

/// The first part of an internal id.
pub(super) fn sha1_hex(text: &str) -> String {
    hex(&Sha1::digest(text))
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes.iter().flat_map(|b| [b >> 4, b & 15]).map(|d| char::from(DIGITS[usize::from(d)])).collect()
}

/// Does the raw query carry a right checksum? BBB: the hash is over the exact bytes on the wire, without the
/// `checksum` pair, wherever that stands.
pub(super) fn signed(call: &str, query: &str, secret: &str, accepted: &[Hash]) -> bool {
    let mut given = None;
    let mut rest = Vec::new();
    for pair in query.split('&') {
        match pair.strip_prefix("checksum=") {
            Some(checksum) => given = Some(checksum),
            None => rest.push(pair),
        }
    }
    let Some(given) = given else { return false };
    Hash::by_hex_length(given.len())
        .filter(|hash| accepted.contains(hash))
        .is_some_and(|hash| hash.checksum(call, &rest.join("&"), secret) == given)
}

/// The decoded parameters of a query.
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    pub fn parse(raw: &str) -> Query {
        Query(url::form_urlencoded::parse(raw.as_bytes()).into_owned().take(MAX_PARAMETERS).collect())
    }

    /// The last value given for this name, if it is not empty.
    pub fn get(&self, name: &str) -> Option<&str> {
        let (_, value) = self.0.iter().rev().find(|(key, _)| key == name)?;
        Some(value.as_str()).filter(|v| !v.is_empty())
    }

    /// All `meta_*` parameters, without the prefix.
    pub fn metadata(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().filter_map(|(key, value)| Some((key.strip_prefix("meta_")?, value.as_str())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "639259d4-9dd8-4b25-bf01-95f9567eaf4b";

    #[track_caller]
    fn check(call: &str, query: &str, checksum: &str) {
        let raw = if query.is_empty() { String::new() } else { format!("{query}&") };
        let raw = format!("{raw}checksum={checksum}");
        assert!(signed(call, &raw, SECRET, &Hash::ALL), "{call} {query}");
        assert!(!signed(call, &raw, "another secret", &Hash::ALL));
        assert!(!signed(call, &raw, SECRET, &[]), "an algorithm that is not accepted");
    }

    #[test]
    fn published_vectors() {
        check(
            "create",
            "name=Test+Meeting&meetingID=abc123&attendeePW=111222&moderatorPW=333444",
            "1fcbb0c4fc1f039f73aa6d697d2db9ba7f803f17",
        );
        check("end", "meetingID=test01&password=mp", "b0d70d9a5e879889a216d7b2248ef593958b7a23");
        check(
            "end",
            "meetingID=test01&password=mp",
            "48cf7c4e249e8735d4052b834570279bea9385d6447be499aa55bd1e3edb6608",
        );
        check("getMeetings", "", "2027baa7771026e9e93392f55031535d1444c41f");
        check("getMeetings", "", "a5370c5f3d97d56d53b435684cdbc429c2898a3bf9f435518b4279e1e0dbfc8c");
    }

    #[test]
    fn every_algorithm_is_told_by_its_length() {
        for hash in Hash::ALL {
            let checksum = hash.checksum("end", "meetingID=a%20b", SECRET);
            check("end", "meetingID=a%20b", &checksum);
            assert!(!signed("end", &format!("meetingID=a+b&checksum={checksum}"), SECRET, &Hash::ALL));
        }
    }

    #[test]
    fn the_checksum_pair_may_stand_anywhere() {
        let checksum = Hash::Sha256.checksum("end", "meetingID=a&password=b", SECRET);
        let raw = format!("meetingID=a&checksum={checksum}&password=b");
        assert!(signed("end", &raw, SECRET, &Hash::ALL));
        assert!(!signed("end", "meetingID=a&password=b", SECRET, &Hash::ALL), "no checksum at all");
    }

    #[test]
    fn parameters_are_decoded_and_the_empty_one_counts_as_missing() {
        let query = Query::parse("meetingID=a%26b+c&password=&meta_bbb-origin=Greenlight&x=1&x=2");
        assert_eq!(query.get("meetingID"), Some("a&b c"));
        assert_eq!(query.get("password"), None);
        assert_eq!(query.get("x"), Some("2"));
        assert_eq!(query.metadata().collect::<Vec<_>>(), [("bbb-origin", "Greenlight")]);
    }
}
