//! The keys of the one tree. Every family is ordered by what it is scanned by.
//!
//! | key | value |
//! |---|---|
//! | `j/` id | the job's record |
//! | `d/` wake, id | nothing: every job that has something to wait for, earliest first |
//! | `m/` server, meeting, due, id | nothing: every job that is not done, by meeting |
//! | `w/` server, meeting, id | nothing: every job that waits for its meeting to start |
//! | `f/` done, id | nothing: every job that is done, by when it was concluded |
//! | `k/` server, key | id: who holds an idempotency key |
//! | `x/` id backwards | nothing: people type the end of an id |
//! | `s/` server | what is remembered of a server |
//! | `c/counts` | how many jobs are in each state, and how many bytes all records but those under `meta/` have |
//! | `meta/format` | the format of all this |
//! | `meta/journal` | how far the journal has been taken in, and a checksum of all other records |
//!
//! Names stand behind their length, so that no two of them can run together whatever characters they hold. Instants are
//! big-endian with the sign bit turned, ids are UUIDv7: byte order is time order.

use uuid::Uuid;

use crate::job::{JobId, MeetingId, ServerName, UtcMs};

pub(super) type Key = Vec<u8>;

pub(super) const JOBS: &[u8] = b"j/";
pub(super) const WAKES: &[u8] = b"d/";
pub(super) const MEETINGS: &[u8] = b"m/";
pub(super) const AWAITING: &[u8] = b"w/";
pub(super) const DONE: &[u8] = b"f/";
pub(super) const IDEMPOTENCY: &[u8] = b"k/";
pub(super) const SUFFIXES: &[u8] = b"x/";
pub(super) const SERVERS: &[u8] = b"s/";
pub(super) const COUNTS: &[u8] = b"c/counts";
pub(super) const META: &[u8] = b"meta/";
pub(super) const FORMAT: &[u8] = b"meta/format";
pub(super) const MARK: &[u8] = b"meta/journal";

const ID: usize = 16;

pub(super) fn job(id: JobId) -> Key {
    [JOBS, id.0.as_bytes()].concat()
}

pub(super) fn wake(at: UtcMs, id: JobId) -> Key {
    [WAKES, &instant(at), id.0.as_bytes()].concat()
}

/// Where the wakes at or after this instant begin.
pub(super) fn wake_from(at: UtcMs) -> Key {
    [WAKES, &instant(at)].concat()
}

pub(super) fn meeting(server: &ServerName, meeting: &MeetingId, due: UtcMs, id: JobId) -> Key {
    let mut key = of_meeting(server, meeting);
    key.extend_from_slice(&instant(due));
    key.extend_from_slice(id.0.as_bytes());
    key
}

/// What the keys of all jobs of a meeting begin with.
pub(super) fn of_meeting(server: &ServerName, meeting: &MeetingId) -> Key {
    let mut key = of_server(server);
    key.extend_from_slice(&name(meeting.as_str()));
    key
}

/// What the meeting keys of all jobs of a server begin with.
pub(super) fn of_server(server: &ServerName) -> Key {
    [MEETINGS, &name(server.as_str())].concat()
}

/// The server of an `m/` key.
pub(super) fn server_of(key: &[u8]) -> Option<ServerName> {
    let (len, rest) = key.strip_prefix(MEETINGS)?.split_first_chunk::<4>()?;
    let name = rest.get(..u32::from_be_bytes(*len) as usize)?;
    std::str::from_utf8(name).ok().map(ServerName::from)
}

pub(super) fn awaiting(server: &ServerName, meeting: &MeetingId, id: JobId) -> Key {
    let mut key = awaiting_meeting(server, meeting);
    key.extend_from_slice(id.0.as_bytes());
    key
}

/// What the keys of all jobs begin with that wait for this meeting to start.
pub(super) fn awaiting_meeting(server: &ServerName, meeting: &MeetingId) -> Key {
    let mut key = awaiting_on(server);
    key.extend_from_slice(&name(meeting.as_str()));
    key
}

/// The same for any meeting of a server.
pub(super) fn awaiting_on(server: &ServerName) -> Key {
    [AWAITING, &name(server.as_str())].concat()
}

pub(super) fn done(at: UtcMs, id: JobId) -> Key {
    [DONE, &instant(at), id.0.as_bytes()].concat()
}

/// Where the jobs done at or after this instant begin.
pub(super) fn done_from(at: UtcMs) -> Key {
    [DONE, &instant(at)].concat()
}

pub(super) fn idempotency(server: &ServerName, key: &str) -> Key {
    [IDEMPOTENCY, &name(server.as_str()), key.as_bytes()].concat()
}

pub(super) fn suffix(id: JobId) -> Key {
    ending(&id.0.simple().to_string())
}

/// What the suffix keys of all ids that end with these digits begin with.
pub(super) fn ending(digits: &str) -> Key {
    SUFFIXES.iter().copied().chain(digits.bytes().rev()).collect()
}

pub(super) fn memory(server: &ServerName) -> Key {
    [SERVERS, server.as_str().as_bytes()].concat()
}

/// The server of an `s/` key.
pub(super) fn server_of_memory(key: &[u8]) -> Option<ServerName> {
    std::str::from_utf8(key.strip_prefix(SERVERS)?).ok().map(ServerName::from)
}

/// The id at the end of a `j/`, `d/`, `m/`, `w/` or `f/` key, or of the value of a `k/` key.
pub(super) fn id_at_end(bytes: &[u8]) -> Option<JobId> {
    let start = bytes.len().checked_sub(ID)?;
    Uuid::from_slice(&bytes[start..]).ok().map(JobId)
}

/// The id that an `x/` key spells backwards.
pub(super) fn id_backwards(key: &[u8]) -> Option<JobId> {
    let digits: Vec<u8> = key.strip_prefix(SUFFIXES)?.iter().rev().copied().collect();
    Uuid::try_parse_ascii(&digits).ok().map(JobId)
}

/// The instant of a `d/` or `f/` key.
pub(super) fn instant_of(key: &[u8]) -> Option<UtcMs> {
    let bytes = key.get(WAKES.len()..WAKES.len() + 8)?;
    let turned = u64::from_be_bytes(bytes.try_into().ok()?);
    Some(UtcMs((turned ^ SIGN).cast_signed()))
}

/// The first key after all that begin with this prefix.
pub(super) fn after(prefix: &[u8]) -> Key {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            break;
        }
    }
    end
}

/// A key for people: text where it is text, digits where it is not.
pub(super) fn show(key: &[u8]) -> String {
    match (key.strip_prefix(JOBS), id_at_end(key)) {
        (Some(_), Some(id)) => format!("of job {id}"),
        _ => key.escape_ascii().to_string(),
    }
}

const SIGN: u64 = 1 << 63;

fn instant(at: UtcMs) -> [u8; 8] {
    (at.0.cast_unsigned() ^ SIGN).to_be_bytes()
}

fn name(name: &str) -> Vec<u8> {
    let len = u32::try_from(name.len()).expect("a name is far shorter than 4 GiB");
    [&len.to_be_bytes(), name.as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOW: JobId = JobId(Uuid::nil());
    const HIGH: JobId = JobId(Uuid::max());

    #[test]
    fn instants_sort_as_numbers_and_come_back() {
        let instants = [i64::MIN, -1, 0, 1, 1_764_612_000_005, i64::MAX].map(UtcMs);
        for pair in instants.windows(2) {
            assert!(wake(pair[0], HIGH) < wake(pair[1], LOW), "{pair:?}");
        }
        for at in instants {
            assert_eq!(instant_of(&wake(at, HIGH)), Some(at));
            assert_eq!(instant_of(&done_from(at)), Some(at));
        }
    }

    #[test]
    fn names_never_run_together() {
        let (a, ab) = (ServerName::from("a"), ServerName::from("ab"));
        assert_ne!(idempotency(&a, "bc"), idempotency(&ab, "c"));
        let bc = of_meeting(&a, &MeetingId::from("bc"));
        assert_ne!(bc, of_meeting(&ab, &MeetingId::from("c")));
        assert!(
            !meeting(&a, &MeetingId::from("b\0c"), UtcMs(0), LOW).starts_with(&of_meeting(&a, &"b".into()))
        );
        assert!(!of_server(&ab).starts_with(&of_server(&a)));
    }

    #[test]
    fn ids_come_back_from_every_family() {
        let id: JobId = "0192f0c1-2345-7abc-8def-0123456789ab".parse().unwrap();
        let (server, room) = (ServerName::from("s"), MeetingId::from("room"));
        let by_name = [meeting(&server, &room, UtcMs(9), id), awaiting(&server, &room, id)];
        for key in [job(id), wake(UtcMs(-5), id), done(UtcMs(1), id)].into_iter().chain(by_name) {
            assert_eq!(id_at_end(&key), Some(id));
        }
        assert_eq!(id_backwards(&suffix(id)), Some(id));
        assert!(suffix(id).starts_with(&ending("6789ab")));
        assert_eq!(id_backwards(b"x/zz"), None);
        assert_eq!(id_at_end(b"short"), None);
    }

    #[test]
    fn the_end_of_a_prefix_lies_behind_its_last_key() {
        assert_eq!(after(b"j/"), b"j0");
        assert_eq!(after(&[1, 255, 255]), [2]);
        assert!(job(HIGH) < after(JOBS));
    }
}
