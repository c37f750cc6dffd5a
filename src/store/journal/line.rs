//! One line of the journal: what is written, and how it is believed again.
//!
//! ```json
//! {"v":2,"seq":42,"at":"2026-12-01T17:00:00.005Z","part":1,"parts":2,"prev":"..64..","put":{..},"hash":"..64.."}
//! ```
//!
//! `hash` is the SHA-256 of everything before `,"hash":`, and `prev` is the hash of the line before: nobody edits, removes
//! or moves a line without breaking the chain there. `part` and `parts` are the place in a group commit, which counts
//! whole or not at all. What a line says is one of:
//!
//! | key | value |
//! |---|---|
//! | `put` | the job's whole record |
//! | `remove` | the id of a job that is forgotten |
//! | `remember` | a server, and what is remembered of it |
//! | `void` | so many numbers before this line's own stand for changes that were refused, and are empty |
//! | `checkpoint`, `end` | only in a checkpoint: the line that it follows, and how many lines it has |

use std::fmt;
use std::io::Write;
use std::str::FromStr;

use serde::de::{Error as _, IgnoredAny};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};

use crate::job::{JobId, ServerName, UtcMs};

/// The format of the lines that are written. Lines of older formats are read; the table of formats stands in the docs of
/// [`crate::store`].
pub(in crate::store) const FORMAT: u32 = 2;
const HASH_KEY: &[u8] = b",\"hash\":\"";
const HASH_DIGITS: usize = 64;
/// From the comma before the hash to the closing brace.
const SUFFIX: usize = HASH_KEY.len() + HASH_DIGITS + 2;

/// SHA-256, in hexadecimal digits wherever it is shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Hash(pub(in crate::store) [u8; 32]);

/// A place in the journal: the number of a line and its hash.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Head {
    pub seq: u64,
    pub hash: Hash,
}

impl Head {
    /// Before the first line.
    pub const ORIGIN: Head = Head { seq: 0, hash: Hash([0; 32]) };
}

/// As people see it and hand it back: `SEQ:HASH`.
impl fmt::Display for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.seq, self.hash)
    }
}

impl FromStr for Head {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Head, &'static str> {
        let form =
            "it is no SEQ:HASH as adjourn status shows it: a number, a colon and 64 hexadecimal digits";
        let (seq, hash) = text.trim().split_once(':').ok_or(form)?;
        Ok(Head { seq: seq.parse().map_err(|_| form)?, hash: hash.parse().map_err(|_| form)? })
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(std::str::from_utf8(&self.digits()).expect("digits"))
    }
}

impl FromStr for Hash {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Hash, &'static str> {
        let value = |digit: u8| char::from(digit).to_digit(16).and_then(|n| u8::try_from(n).ok());
        let digits: Option<Vec<u8>> = text.bytes().map(value).collect();
        let digits = digits.filter(|digits| digits.len() == HASH_DIGITS).ok_or("it is no hash")?;
        let mut hash = [0; 32];
        for (byte, pair) in hash.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = pair[0] << 4 | pair[1];
        }
        Ok(Hash(hash))
    }
}

impl Hash {
    fn of(bytes: &[u8]) -> Hash {
        Hash(Sha256::digest(bytes).into())
    }

    fn digits(&self) -> [u8; HASH_DIGITS] {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut text = [0; HASH_DIGITS];
        for (pair, byte) in text.chunks_exact_mut(2).zip(self.0) {
            pair.copy_from_slice(&[DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
        }
        text
    }
}

impl Serialize for Hash {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Hash {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Hash, D::Error> {
        <std::borrow::Cow<'de, str>>::deserialize(d)?.parse().map_err(D::Error::custom)
    }
}

/// What the lines of a group say, each as one JSON member, one behind the other.
#[derive(Default)]
pub(in crate::store) struct Bodies {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Bodies {
    /// `json`: the job.
    pub(in crate::store) fn put(&mut self, json: &[u8]) {
        self.push(&[b"\"put\":", json]);
    }

    pub(in crate::store) fn remove(&mut self, id: JobId) {
        self.push(&[format!("\"remove\":\"{id}\"").as_bytes()]);
    }

    /// `json`: the memory.
    pub(in crate::store) fn remember(&mut self, server: &ServerName, json: &[u8]) {
        let server = serde_json::to_vec(server).expect("a string is JSON");
        self.push(&[b"\"remember\":{\"server\":", &server, b",\"memory\":", json, b"}"]);
    }

    pub(super) fn void(numbers: u64) -> Bodies {
        let mut bodies = Bodies::default();
        bodies.push(&[format!("\"void\":{numbers}").as_bytes()]);
        bodies
    }

    pub(super) fn checkpoint(of: Head) -> Bodies {
        let mut bodies = Bodies::default();
        bodies.push(&[b"\"checkpoint\":", &serde_json::to_vec(&of).expect("a head is JSON")]);
        bodies
    }

    pub(super) fn end(lines: u64) -> Bodies {
        let mut bodies = Bodies::default();
        bodies.push(&[format!("\"end\":{lines}").as_bytes()]);
        bodies
    }

    pub(in crate::store) fn extend(&mut self, more: &Bodies) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&more.bytes);
        self.ends.extend(more.ends.iter().map(|end| start + end));
    }

    pub(in crate::store) fn len(&self) -> usize {
        self.ends.len()
    }

    /// At most so many bytes on disk.
    pub(in crate::store) fn room(&self) -> u64 {
        const AROUND: usize = 320;
        (self.bytes.len() + self.ends.len() * AROUND) as u64
    }

    /// Writes the lines of one group behind `head`, whose own numbers begin after `skipped` more. The head after them.
    pub(super) fn write(&self, out: &mut Vec<u8>, mut head: Head, skipped: u64, at: UtcMs) -> Head {
        let (at, parts) = (at.to_string(), self.ends.len());
        head.seq += skipped;
        let mut start = 0;
        for (part, end) in (1..).zip(&self.ends) {
            head = write_line(out, head, &at, (part, parts), &self.bytes[start..*end]);
            start = *end;
        }
        head
    }

    fn push(&mut self, pieces: &[&[u8]]) {
        for piece in pieces {
            self.bytes.extend_from_slice(piece);
        }
        self.ends.push(self.bytes.len());
    }
}

fn write_line(out: &mut Vec<u8>, before: Head, at: &str, place: (usize, usize), body: &[u8]) -> Head {
    let (begin, seq, (part, parts)) = (out.len(), before.seq + 1, place);
    write!(out, r#"{{"v":{FORMAT},"seq":{seq},"at":"{at}","part":{part},"parts":{parts},"prev":""#)
        .expect("memory takes every write");
    out.extend_from_slice(&before.hash.digits());
    out.extend_from_slice(b"\",");
    out.extend_from_slice(body);
    let hash = Hash::of(&out[begin..]);
    out.extend_from_slice(HASH_KEY);
    out.extend_from_slice(&hash.digits());
    out.extend_from_slice(b"\"}\n");
    Head { seq, hash }
}

/// A line that fits its own hash. `J`, `M`: how much of a job and of a memory is wanted.
#[derive(Deserialize)]
pub(super) struct Line<'a, J = IgnoredAny, M = IgnoredAny> {
    v: u32,
    pub(super) seq: u64,
    at: &'a str,
    pub(super) part: u64,
    pub(super) parts: u64,
    pub(super) prev: Hash,
    pub(super) put: Option<J>,
    pub(super) remove: Option<JobId>,
    pub(super) remember: Option<Remembered<M>>,
    pub(super) void: Option<u64>,
    pub(super) checkpoint: Option<Head>,
    pub(super) end: Option<u64>,
    pub(super) hash: Hash,
}

#[derive(Deserialize)]
pub(super) struct Remembered<M> {
    pub(super) server: ServerName,
    pub(super) memory: M,
}

/// Why a line is not believed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Fault {
    /// It fits its hash, and a newer adjourn wrote it.
    Newer(u32),
    Bad(&'static str),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Newer(found) => {
                write!(f, "it was written by a newer adjourn (format {found}, this one knows {FORMAT})")
            }
            Fault::Bad(why) => f.write_str(why),
        }
    }
}

/// Reads a line, without its newline, and checks it against its own hash; the chain is for the caller to follow.
pub(super) fn read<'a, J: Deserialize<'a>, M: Deserialize<'a>>(
    bytes: &'a [u8],
) -> Result<Line<'a, J, M>, Fault> {
    let body = bytes.len().checked_sub(SUFFIX).ok_or(Fault::Bad("it is cut short"))?;
    let (body, suffix) = bytes.split_at(body);
    let own = Hash::of(body);
    let hash = suffix.strip_prefix(HASH_KEY).and_then(|rest| rest.strip_suffix(b"\"}"));
    if hash != Some(&own.digits()) {
        return Err(Fault::Bad("it does not fit its own hash: it was edited or damaged"));
    }
    #[derive(Deserialize)]
    struct Version {
        v: u32,
    }
    let line: Line<'a, J, M> =
        serde_json::from_slice(bytes).map_err(|_| match serde_json::from_slice::<Version>(bytes) {
            Ok(Version { v }) if v > FORMAT => Fault::Newer(v),
            _ => Fault::Bad("it is no line of a journal"),
        })?;
    match line.v {
        0..=FORMAT => Ok(line),
        newer => Err(Fault::Newer(newer)),
    }
}

impl<J, M> Line<'_, J, M> {
    pub(super) fn head(&self) -> Head {
        Head { seq: self.seq, hash: self.hash }
    }

    /// The number that this line, or the refused changes that it stands for, begins at.
    pub(super) fn begins(&self) -> u64 {
        self.seq.saturating_sub(self.void.unwrap_or(0))
    }

    /// The number at which its group begins.
    pub(super) fn group(&self) -> u64 {
        (self.begins() + 1).saturating_sub(self.part)
    }

    /// When it was written.
    pub(super) fn at(&self) -> Option<UtcMs> {
        self.at.parse::<jiff::Timestamp>().ok().map(UtcMs::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::Job;
    use crate::platform::Memory;
    use crate::store::tests::{id, job};

    type Whole<'a> = Line<'a, Job, Memory>;

    fn lines(bodies: &Bodies, head: Head, skipped: u64) -> (Vec<Vec<u8>>, Head) {
        let mut out = Vec::new();
        let head = bodies.write(&mut out, head, skipped, UtcMs(1_764_612_000_005));
        (out.split(|b| *b == b'\n').filter(|line| !line.is_empty()).map(<[u8]>::to_vec).collect(), head)
    }

    #[test]
    fn lines_come_back_and_follow_each_other() {
        let mut bodies = Bodies::default();
        bodies.put(&serde_json::to_vec(&job(1, 5)).unwrap());
        bodies.remove(id(2));
        bodies.remember(&"a \"b\"".into(), &serde_json::to_vec(&Memory::default()).unwrap());
        let (lines, end) = lines(&bodies, Head::ORIGIN, 0);
        let heard: Vec<Whole<'_>> = lines.iter().map(|line| read(line).ok().unwrap()).collect();
        assert_eq!(heard[0].put, Some(job(1, 5)));
        assert_eq!(heard[0].prev, Head::ORIGIN.hash);
        assert_eq!((heard[1].remove, heard[1].prev), (Some(id(2)), heard[0].hash));
        assert_eq!(heard[2].remember.as_ref().unwrap().server, "a \"b\"".into());
        assert_eq!(
            heard.iter().map(|l| (l.seq, l.part, l.parts, l.group())).collect::<Vec<_>>(),
            [(1, 1, 3, 1), (2, 2, 3, 1), (3, 3, 3, 1)]
        );
        assert_eq!((heard[2].head(), heard[2].at()), (end, Some(UtcMs(1_764_612_000_005))));
        assert!(lines.iter().map(Vec::len).sum::<usize>() as u64 <= bodies.room());
    }

    #[test]
    fn a_void_takes_the_numbers_that_were_refused() {
        let (lines, head) = lines(&Bodies::void(3), Head { seq: 7, ..Head::ORIGIN }, 3);
        let line: Line<'_> = read(&lines[0]).ok().unwrap();
        assert_eq!((line.seq, line.begins(), line.group(), head.seq), (11, 8, 8, 11));
    }

    #[test]
    fn every_flipped_bit_shows() {
        let (lines, _) = lines(&Bodies::void(0), Head::ORIGIN, 0);
        let good = &lines[0];
        assert!(read::<IgnoredAny, IgnoredAny>(good).is_ok());
        for at in 0..good.len() * 8 {
            let mut line = good.clone();
            line[at / 8] ^= 1 << (at % 8);
            assert!(read::<IgnoredAny, IgnoredAny>(&line).is_err(), "bit {at}");
        }
        for keep in 0..good.len() {
            assert!(read::<IgnoredAny, IgnoredAny>(&good[..keep]).is_err(), "{keep} bytes");
        }
    }

    /// A line, given what its hash is made of.
    fn sealed(text: &str) -> Vec<u8> {
        let digits = Hash::of(text.as_bytes()).digits();
        [text.as_bytes(), HASH_KEY, &digits, b"\"}"].concat()
    }

    /// Those on people's disks.
    #[test]
    fn a_line_of_an_older_format_is_read() {
        let (lines, _) = lines(&Bodies::void(0), Head::ORIGIN, 0);
        let text = String::from_utf8(lines[0][..lines[0].len() - SUFFIX].to_vec()).unwrap();
        assert!(text.starts_with(r#"{"v":2,"#), "{text}");
        let older = sealed(&text.replacen(r#""v":2"#, r#""v":1"#, 1));
        assert_eq!(read::<IgnoredAny, IgnoredAny>(&older).ok().map(|line| line.seq), Some(1));
        let newer = sealed(&text.replacen(r#""v":2"#, r#""v":3"#, 1));
        assert_eq!(read::<IgnoredAny, IgnoredAny>(&newer).err(), Some(Fault::Newer(3)));
    }

    #[test]
    fn a_newer_format_is_told_from_damage() {
        let mut line = sealed(r#"{"v":9,"what":"ever""#);
        assert_eq!(read::<IgnoredAny, IgnoredAny>(&line).err(), Some(Fault::Newer(9)));
        line[5] = b'8';
        assert!(matches!(read::<IgnoredAny, IgnoredAny>(&line).err(), Some(Fault::Bad(_))));
    }
}
