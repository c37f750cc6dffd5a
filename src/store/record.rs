//! What a record looks like: a format byte, a fixed header, then the job as JSON.
//!
//! The header holds what the indexes were built from. So an update removes exactly the index keys that the last one
//! wrote, whatever a later version of [`Job::index_wake`] would say, and neither it nor a filtered list has to read the
//! whole history.

use crate::job::{Fact, Job, Outcome, State, UtcMs};
use crate::platform::Memory;

use super::Counts;

/// The format of the store as a whole. Stores of a newer one are not opened; those of an older one are taken over. The
/// table of formats stands in the docs of [`crate::store`].
pub(super) const STORE_FORMAT: u32 = 3;
/// The same, before there was a journal.
pub(super) const WITHOUT_JOURNAL: u32 = 1;
const RECORD_FORMAT: u8 = 1;

/// Format, state, outcome, flags; then revision, due, wake, done, eight bytes each.
const HEADER: usize = 4 + 4 * 8;
const HAS_WAKE: u8 = 1;
const HAS_DONE: u8 = 2;
const AWAITS_START: u8 = 4;

/// What the indexes know of a job.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Header {
    pub(super) state: State,
    pub(super) outcome: Option<Outcome>,
    pub(super) revision: u64,
    pub(super) due: UtcMs,
    pub(super) wake: Option<UtcMs>,
    /// When it was concluded.
    pub(super) done: Option<UtcMs>,
    pub(super) awaits_start: bool,
}

impl Header {
    /// `before`: the header of the record that this one replaces.
    pub(super) fn of(job: &Job, before: Option<&Header>) -> Header {
        Header {
            state: job.state,
            outcome: job.outcome,
            revision: job.revision,
            due: job.due,
            wake: job.index_wake(),
            done: job.is_done().then(|| before.and_then(|old| old.done).unwrap_or_else(|| concluded(job))),
            awaits_start: job.awaits_start && !job.is_done(),
        }
    }

    pub(super) fn read(record: &[u8]) -> Result<Header, String> {
        let format = *record.first().ok_or("it is empty")?;
        if format != RECORD_FORMAT {
            return Err(format!("it has format {format}, not {RECORD_FORMAT}"));
        }
        let head = record.get(..HEADER).ok_or("it is cut short")?;
        let word = |n: usize| {
            let at = 4 + n * 8;
            u64::from_be_bytes(head[at..at + 8].try_into().expect("eight bytes"))
        };
        let instant = |n: usize| UtcMs(word(n).cast_signed());
        Ok(Header {
            state: *State::ALL.get(usize::from(head[1])).ok_or("its state is unknown")?,
            outcome: match head[2] {
                0 => None,
                n => Some(*Outcome::ALL.get(usize::from(n) - 1).ok_or("its outcome is unknown")?),
            },
            revision: word(0),
            due: instant(1),
            wake: (head[3] & HAS_WAKE != 0).then(|| instant(2)),
            done: (head[3] & HAS_DONE != 0).then(|| instant(3)),
            awaits_start: head[3] & AWAITS_START != 0,
        })
    }

    fn write(&self) -> [u8; HEADER] {
        let mut head = [0; HEADER];
        head[0] = RECORD_FORMAT;
        head[1] = place(&State::ALL, self.state);
        head[2] = self.outcome.map_or(0, |outcome| place(&Outcome::ALL, outcome) + 1);
        head[3] = self.wake.map_or(0, |_| HAS_WAKE) | self.done.map_or(0, |_| HAS_DONE);
        head[3] |= if self.awaits_start { AWAITS_START } else { 0 };
        let wake = self.wake.unwrap_or_default().0.cast_unsigned();
        let done = self.done.unwrap_or_default().0.cast_unsigned();
        for (n, word) in [self.revision, self.due.0.cast_unsigned(), wake, done].into_iter().enumerate() {
            head[4 + n * 8..][..8].copy_from_slice(&word.to_be_bytes());
        }
        head
    }
}

pub(super) fn encode(job: &Job, header: &Header) -> Result<Vec<u8>, String> {
    let mut record = header.write().to_vec();
    serde_json::to_writer(&mut record, job).map_err(|e| e.to_string())?;
    Ok(record)
}

pub(super) fn decode(record: &[u8]) -> Result<Job, String> {
    Header::read(record)?;
    serde_json::from_slice(&record[HEADER..]).map_err(|e| e.to_string())
}

/// The JSON in the record of a job or of a memory.
pub(super) fn json<'a>(key: &[u8], record: &'a [u8]) -> Option<&'a [u8]> {
    record.get(if key.starts_with(super::keys::JOBS) { HEADER } else { 1 }..)
}

pub(super) fn encode_memory(memory: &Memory) -> Result<Vec<u8>, String> {
    let mut record = vec![RECORD_FORMAT];
    serde_json::to_writer(&mut record, memory).map_err(|e| e.to_string())?;
    Ok(record)
}

pub(super) fn decode_memory(record: &[u8]) -> Result<Memory, String> {
    match record.split_first() {
        Some((&RECORD_FORMAT, json)) => serde_json::from_slice(json).map_err(|e| e.to_string()),
        Some((format, _)) => Err(format!("it has format {format}, not {RECORD_FORMAT}")),
        None => Err("it is empty".to_owned()),
    }
}

const COUNTS_BYTES: usize = State::ALL.len() * 8;

/// Sums over all records, kept up by every batch so that nobody has to read them all.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Totals {
    /// Jobs by state.
    pub(super) counts: Counts,
    /// Of the keys and values of all records but those under `meta/`.
    pub(super) live_bytes: u64,
}

impl Totals {
    /// One number for every state, in the order of [`State::ALL`], then the bytes.
    pub(super) fn encode(&self) -> Vec<u8> {
        let counts = State::ALL.iter().map(|state| self.counts.get(state).copied().unwrap_or(0));
        counts.chain([self.live_bytes]).flat_map(u64::to_be_bytes).collect()
    }

    /// Bytes that are not known are 0.
    pub(super) fn decode(record: &[u8]) -> Result<Totals, String> {
        if record.len() != COUNTS_BYTES && !Totals::knows_bytes(record) {
            return Err(format!("it has {} bytes", record.len()));
        }
        let numbers = record.chunks_exact(8).map(|n| u64::from_be_bytes(n.try_into().expect("eight bytes")));
        let numbers: Vec<u64> = numbers.collect();
        let counts = State::ALL.into_iter().zip(numbers.iter().copied()).collect();
        Ok(Totals { counts, live_bytes: numbers.get(State::ALL.len()).copied().unwrap_or(0) })
    }

    /// A store of the version without a journal counted jobs only.
    pub(super) fn knows_bytes(record: &[u8]) -> bool {
        record.len() == COUNTS_BYTES + 8
    }
}

pub(super) fn decode_format(record: &[u8]) -> Option<u32> {
    record.try_into().ok().map(u32::from_be_bytes)
}

/// When a done job was concluded. Later entries (the look that tells whether users reopened the meeting) do not count;
/// they, and the bound on the history, must not move a job in the order of what is forgotten first.
fn concluded(job: &Job) -> UtcMs {
    let conclusion = job.history.recent.iter().rev().find(|e| matches!(e.fact, Fact::Concluded { .. }));
    conclusion.or(job.last_entry()).map_or(job.submitted.wall, |entry| entry.at.wall)
}

fn place<T: PartialEq>(all: &[T], one: T) -> u8 {
    let place = all.iter().position(|each| *each == one).expect("ALL holds every variant");
    u8::try_from(place).expect("fewer than 256 variants")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::job::{Aim, By, EndAnswer, Instance, Pin, Purpose, StartRange, Verdict};
    use crate::store::tests::{job, now as at};

    /// These numbers are on people's disks.
    #[test]
    fn codes_never_change() {
        assert_eq!(
            State::ALL.map(State::as_str),
            ["waiting", "held", "ending", "confirming", "guarding", "done"]
        );
        let outcomes = Outcome::ALL.map(Outcome::as_str).join(" ");
        assert_eq!(
            outcomes,
            "ended already-over absent superseded cancelled missed unconfirmed failed vanished"
        );
        assert_eq!((place(&State::ALL, State::Done), place(&Outcome::ALL, Outcome::Vanished)), (5, 8));
    }

    #[test]
    fn headers_come_back() {
        for (wake, done) in [(None, None), (Some(UtcMs(-1)), None), (Some(UtcMs(i64::MAX)), Some(UtcMs(7)))] {
            for outcome in [None, Some(Outcome::Ended), Some(Outcome::Failed)] {
                let header = Header {
                    state: State::Done,
                    outcome,
                    revision: u64::MAX,
                    due: UtcMs(i64::MIN),
                    wake,
                    done,
                    awaits_start: done.is_none(),
                };
                assert_eq!(Header::read(&header.write()), Ok(header));
            }
        }
    }

    fn why() -> String {
        "why".to_owned()
    }

    fn verdicts() -> [Verdict; 10] {
        let instance = |started: Option<i64>| Instance {
            id: "i-1".into(),
            started_at: started.map(UtcMs),
            start: started.map(|at| StartRange::around(UtcMs(at))),
            participants: started.map(|_| 7),
            listed: started.is_some(),
            node: started.map(|_| "node1".to_owned()),
            shown_at: None,
            asked_at: None,
        };
        [
            Verdict::Live(instance(Some(5))),
            Verdict::Live(instance(None)),
            Verdict::Replaced { by: instance(Some(-5)), counts: true },
            Verdict::Occupied,
            Verdict::Gone { needed: 2 },
            Verdict::Doubtful { why: why() },
            Verdict::Vanished { why: why(), believed: true },
            Verdict::Hopeless { why: why() },
            Verdict::Unreachable { why: why() },
            Verdict::Misconfigured { why: why() },
        ]
    }

    fn answers() -> [EndAnswer; 6] {
        [
            EndAnswer::Accepted,
            EndAnswer::MaybeGone { why: why() },
            EndAnswer::Refused { why: why(), permanent: true },
            EndAnswer::Throttled {
                why: why(),
                retry_after: Some(Duration::from_millis(1500)),
                unavailable: true,
            },
            EndAnswer::Misconfigured { why: why() },
            EndAnswer::Unreachable { why: why(), sent: true },
        ]
    }

    /// Entries are flattened into one JSON object each: nothing of a fact may get lost or run into something else there.
    #[test]
    fn every_fact_comes_back() {
        let peer = By::Peer { uid: 1, pid: None };
        let mut pin = Pin {
            instance: "i".into(),
            started_at: None,
            listed: true,
            node: None,
            site: None,
            last_live: at(3),
        };
        let mut facts = vec![
            Fact::Moved { to: UtcMs(9), extension: false, by: peer.clone() },
            Fact::Moved { to: UtcMs(9), extension: true, by: peer.clone() },
            Fact::Held { until: Some(UtcMs(4)), by: By::Schedule },
            Fact::RuleHit { rule: "r".to_owned(), reason: why() },
            Fact::Started { instance: "i".into(), started_at: None, due: UtcMs(8) },
            Fact::CalledOff { cause: crate::job::CalledOff::TooMany },
            Fact::HeldPastDue,
            Fact::Released { by: None },
            Fact::Released { by: Some(peer) },
            Fact::Pinned { pin: pin.clone() },
            Fact::Claimed,
            Fact::DueReached { late_ms: -3 },
            Fact::EndSent { attempt: 1, aim: Aim::Instance, instance: "i".into(), looked_ms_ago: 4 },
            Fact::AnswerLost,
            Fact::StillThere,
            Fact::Stubborn,
            Fact::Overdue,
            Fact::Alarm { why: why() },
            Fact::AlarmOver,
            Fact::Guarding { outcome: Outcome::Ended, reason: why() },
            Fact::Reopened { instance: "i".into() },
            Fact::Concluded { outcome: Outcome::AlreadyOver, reason: why() },
            Fact::Restarted,
        ];
        pin.node = Some("n".to_owned());
        facts.push(Fact::Pinned { pin });
        facts.extend(verdicts().map(|verdict| Fact::Looked {
            purpose: Purpose::Confirm,
            took_ms: 8,
            verdict,
        }));
        facts.extend(answers().map(|answer| Fact::EndAnswered { attempt: 2, answer }));
        for fact in facts {
            let mut job = job(1, 5);
            job.record(at(-7), fact);
            let record = encode(&job, &Header::of(&job, None)).unwrap();
            assert_eq!(decode(&record), Ok(job));
        }
    }

    #[test]
    fn what_is_not_a_record_is_refused_in_words() {
        let whole = encode(&job(1, 5), &Header::of(&job(1, 5), None)).unwrap();
        let check = |bytes: &[u8], why: &str| {
            let error = decode(bytes).unwrap_err();
            assert!(error.contains(why), "{error}");
        };
        check(b"", "empty");
        check(&whole[..20], "cut short");
        check(&whole[..whole.len() - 1], "EOF");
        check(&[&[9], &whole[1..]].concat(), "format 9");
        check(&[&whole[..1], &[77], &whole[2..]].concat(), "state");
    }

    #[test]
    fn the_conclusion_counts_not_what_came_after() {
        let mut job = job(1, 5);
        job.record(at(70), Fact::Concluded { outcome: Outcome::Absent, reason: "r".into() });
        job.record(at(90), Fact::Restarted);
        let header = Header::of(&job, None);
        assert_eq!(header.done, Some(UtcMs(70)));
        job.history.recent.clear();
        assert_eq!(Header::of(&job, Some(&header)).done, Some(UtcMs(70)));
        assert_eq!(Header::of(&job, None).done, Some(job.submitted.wall));
    }

    #[test]
    fn totals_come_back() {
        let counts: Counts = State::ALL.into_iter().zip([1, 2, 3, 4, 5, u64::MAX]).collect();
        let totals = Totals { counts, live_bytes: 77 };
        assert_eq!(Totals::decode(&totals.encode()), Ok(totals.clone()));
        let old = &totals.encode()[..COUNTS_BYTES];
        assert!(Totals::knows_bytes(&totals.encode()) && !Totals::knows_bytes(old));
        assert_eq!(Totals::decode(old), Ok(Totals { live_bytes: 0, ..totals }));
        assert!(Totals::decode(b"123").is_err());
    }
}
