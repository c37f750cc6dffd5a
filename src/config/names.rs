//! What a server, a meeting and an instance may be called. The control socket asks here too.

use crate::job::{InstanceId, MeetingId, ServerName};

/// Characters of a server's name.
pub const MAX_SERVER_NAME: usize = 64;
/// Bytes of a meeting id.
pub const MAX_MEETING_ID: usize = 256;
/// Bytes of an instance id.
pub const MAX_INSTANCE_ID: usize = 256;
/// Bytes of an entry's name.
pub const MAX_ENTRY_NAME: usize = 128;
/// BigBlueButton tries an id of hex digits as the beginning of an internal id; from this length on that cannot hit a
/// stranger's by accident.
const SAFE_HEX_LENGTH: usize = 8;

/// Why a name is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NameError {
    #[error("{what} is empty")]
    Empty { what: &'static str },
    #[error("{what} is {length} bytes long, more than {max}")]
    TooLong { what: &'static str, length: usize, max: usize },
    #[error("{what} contains a control character")]
    Control { what: &'static str },
    #[error("a server name consists of a-z, 0-9, _ and -, not {found:?}")]
    Character { found: char },
}

pub fn server_name(text: &str) -> Result<ServerName, NameError> {
    within(text, "the server name", MAX_SERVER_NAME)?;
    match text.chars().find(|c| !matches!(c, 'a'..='z' | '0'..='9' | '_' | '-')) {
        Some(found) => Err(NameError::Character { found }),
        None => Ok(ServerName(text.to_owned())),
    }
}

pub fn meeting_id(text: &str) -> Result<MeetingId, NameError> {
    within(text, "the meeting id", MAX_MEETING_ID)?;
    Ok(MeetingId(text.to_owned()))
}

pub fn instance_id(text: &str) -> Result<InstanceId, NameError> {
    within(text, "the instance id", MAX_INSTANCE_ID)?;
    Ok(InstanceId(text.to_owned()))
}

/// The `name` of an entry.
pub fn entry_name(text: &str) -> Result<String, NameError> {
    within(text, "the name", MAX_ENTRY_NAME)?;
    Ok(text.to_owned())
}

/// BigBlueButton first tries the given string as a prefix of internal ids, which are hex digits: a short id of hex
/// digits may resolve to a stranger's meeting.
pub fn is_prefix_hazard(meeting: &MeetingId) -> bool {
    let id = meeting.as_str();
    id.len() < SAFE_HEX_LENGTH && id.bytes().all(|b| b.is_ascii_hexdigit())
}

fn within(text: &str, what: &'static str, max: usize) -> Result<(), NameError> {
    if text.is_empty() {
        return Err(NameError::Empty { what });
    }
    if text.len() > max {
        return Err(NameError::TooLong { what, length: text.len(), max });
    }
    if text.chars().any(char::is_control) {
        return Err(NameError::Control { what });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check<T, E: ToString>(result: Result<T, E>, expected: &str) {
        let found = result.map_or_else(|e| e.to_string(), |_| "ok".to_owned());
        assert_eq!(found, expected);
    }

    #[test]
    fn server_names() {
        check(server_name("campus_2-b"), "ok");
        check(server_name(""), "the server name is empty");
        check(server_name("Campus"), "a server name consists of a-z, 0-9, _ and -, not 'C'");
        check(server_name("a.b"), "a server name consists of a-z, 0-9, _ and -, not '.'");
        check(server_name(&"a".repeat(64)), "ok");
        check(server_name(&"a".repeat(65)), "the server name is 65 bytes long, more than 64");
    }

    #[test]
    fn meeting_and_instance_ids() {
        check(meeting_id("Physik für alle"), "ok");
        check(meeting_id("a\u{1b}b"), "the meeting id contains a control character");
        check(meeting_id("a\u{85}b"), "the meeting id contains a control character");
        check(meeting_id(&"ä".repeat(128)), "ok");
        check(meeting_id(&"ä".repeat(129)), "the meeting id is 258 bytes long, more than 256");
        check(instance_id("\n"), "the instance id contains a control character");
        check(entry_name(""), "the name is empty");
    }

    #[test]
    fn the_prefix_hazard() {
        for (id, hazard) in
            [("12", true), ("cafe", true), ("CAFE123", true), ("cafe1234", false), ("room", false)]
        {
            assert_eq!(is_prefix_hazard(&MeetingId::from(id)), hazard, "{id}");
        }
    }
}
