//! `adjourn doctor`: looks at everything that a deadline depends on before it does, and says what to do.
//!
//! * `server`: names, connections, clocks and credentials of the configured servers. Only harmless requests are made.
//! * `machine`: the state directory, the disk, the clock, the control socket.
//!
//! A finding is one line. What it is worth is decided by pure functions here; the two modules only measure.

pub mod machine;
pub mod server;

use std::fmt;
use std::time::Duration;

use serde::Serialize;

/// A server's clock may differ by this much before it is worth a line: `Date` counts whole seconds.
const SKEW_WORTH_SAYING: Duration = Duration::from_secs(2);
/// More than this, and one of the two clocks is wrong: start times are corrected by it, deadlines are not.
const SKEW_WRONG: Duration = Duration::from_secs(60);
/// An answer slower than this may come too late for a look that has to be fresh for two seconds.
const SLOW_ANSWER: Duration = Duration::from_secs(1);
/// The claim is written 250 ms before due.
const SLOW_SYNC: Duration = Duration::from_millis(25);
const TOO_SLOW_SYNC: Duration = Duration::from_millis(250);
/// Below this new work is refused: it is kept for what was accepted.
const NO_SPACE: u64 = 64 << 20;
const LITTLE_SPACE: u64 = 1 << 30;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Grade {
    Good,
    /// Works, and could be better; or could not be found out.
    Note,
    /// Deadlines are in danger.
    Bad,
}

/// One line.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Finding {
    /// `campus`, or `here`.
    pub subject: String,
    /// `name`, `connection`, `credentials`, ...
    pub what: &'static str,
    pub grade: Grade,
    pub text: String,
    /// What to do; empty where nothing is to be done.
    pub hint: String,
}

impl Finding {
    pub fn good(subject: &str, what: &'static str, text: impl Into<String>) -> Finding {
        Finding {
            subject: subject.to_owned(),
            what,
            grade: Grade::Good,
            text: text.into(),
            hint: String::new(),
        }
    }

    pub fn note(subject: &str, what: &'static str, text: impl Into<String>, hint: &str) -> Finding {
        Finding { grade: Grade::Note, hint: hint.to_owned(), ..Finding::good(subject, what, text) }
    }

    pub fn bad(subject: &str, what: &'static str, text: impl Into<String>, hint: &str) -> Finding {
        Finding { grade: Grade::Bad, hint: hint.to_owned(), ..Finding::good(subject, what, text) }
    }
}

impl fmt::Display for Grade {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Grade::Good => "good",
            Grade::Note => "note",
            Grade::Bad => "BAD",
        })
    }
}

/// The server's clock minus ours, milliseconds.
fn skew(subject: &str, ms: i64) -> Finding {
    let off = Duration::from_millis(ms.unsigned_abs());
    let which = if ms > 0 { "ahead of" } else { "behind" };
    let text = format!("its clock is {} {which} ours", humantime::format_duration(whole_seconds(off)));
    if off <= SKEW_WORTH_SAYING {
        Finding::good(subject, "clock", "its clock agrees with ours")
    } else if off <= SKEW_WRONG {
        Finding::note(
            subject,
            "clock",
            text,
            "start times are corrected by that; is ours right? (timedatectl)",
        )
    } else {
        let hint = "a deadline fires by the clock of this machine: make sure that it is right (timedatectl)";
        Finding::bad(subject, "clock", text, hint)
    }
}

fn whole_seconds(time: Duration) -> Duration {
    Duration::from_secs(time.as_secs())
}

fn round_trip(subject: &str, took: Duration) -> Finding {
    let text = format!("answers in {}", milliseconds(took));
    if took <= SLOW_ANSWER {
        return Finding::good(subject, "round trip", text);
    }
    let hint = "an end call that must follow a look within 2 s may have to look again: ask why it is slow";
    Finding::note(subject, "round trip", text, hint)
}

/// How late the last of many end calls leaves that can name only the meeting: look and call follow each other in one slot.
/// `answer`: how long one answer takes. `None`: there are slots enough.
fn burst(subject: &str, answer: Duration, jobs: usize, slots: usize) -> Option<Finding> {
    let (many, slots) = (u32::try_from(jobs).ok()?, u32::try_from(slots.max(1)).ok()?);
    if many <= slots {
        return None;
    }
    let late = answer * 2 * many / slots;
    let text = format!(
        "{jobs} deadlines of the schedule are due at one instant, and their calls can name only the meeting: the last \
         leaves about {} late (look + call {} \u{d7} {jobs} \u{f7} {slots} slots)",
        milliseconds(late),
        milliseconds(answer * 2)
    );
    let hint = "nodes or instance-ids avoid it; max-concurrent shortens it";
    Some(if late > SLOW_ANSWER {
        Finding::note(subject, "burst", text, hint)
    } else {
        Finding::good(subject, "burst", text)
    })
}

fn milliseconds(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1_000.0)
}

fn space(free: u64) -> Finding {
    let text = format!("{} MiB free", free >> 20);
    if free < NO_SPACE {
        Finding::bad("here", "disk", text, "new deadlines are refused until there is more: free some space")
    } else if free < LITTLE_SPACE {
        Finding::note(
            "here",
            "disk",
            text,
            "a queue of a million deadlines takes about 1 GiB: free some space",
        )
    } else {
        Finding::good("here", "disk", text)
    }
}

/// `took`: one small write and its fdatasync, the median of a few.
fn sync(took: Duration) -> Finding {
    let text = format!("a small write is durable after {}", milliseconds(took));
    if took > TOO_SLOW_SYNC {
        let hint = "claims, made 250 ms before due, come too late: put state-dir on a faster disk";
        Finding::bad("here", "fdatasync", text, hint)
    } else if took > SLOW_SYNC {
        Finding::note("here", "fdatasync", text, "submits wait for it; a faster disk takes more of them")
    } else {
        Finding::good("here", "fdatasync", text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(finding: &Finding, grade: Grade, text: &str) {
        assert_eq!((finding.grade, finding.text.as_str()), (grade, text));
        assert_eq!(finding.hint.is_empty(), grade == Grade::Good, "{finding:?}");
    }

    #[test]
    fn clocks() {
        check(&skew("campus", 2_000), Grade::Good, "its clock agrees with ours");
        check(&skew("campus", 2_900), Grade::Note, "its clock is 2s ahead of ours");
        check(&skew("campus", -60_000), Grade::Note, "its clock is 1m behind ours");
        check(&skew("campus", -61_000), Grade::Bad, "its clock is 1m 1s behind ours");
    }

    #[test]
    fn round_trips() {
        check(&round_trip("campus", Duration::from_micros(12_340)), Grade::Good, "answers in 12.3 ms");
        check(&round_trip("campus", Duration::from_millis(1_001)), Grade::Note, "answers in 1001.0 ms");
    }

    #[test]
    fn bursts() {
        let of = |jobs| burst("campus", Duration::from_millis(100), jobs, 16);
        assert_eq!(of(16), None);
        let late = of(160).unwrap();
        assert_eq!(late.grade, Grade::Note);
        let figure = "about 2000.0 ms late (look + call 200.0 ms \u{d7} 160 \u{f7} 16 slots)";
        assert!(late.text.ends_with(figure), "{}", late.text);
        assert_eq!(of(17).map(|finding| finding.grade), Some(Grade::Good));
    }

    #[test]
    fn disks() {
        check(&space(NO_SPACE - 1), Grade::Bad, "63 MiB free");
        check(&space(NO_SPACE), Grade::Note, "64 MiB free");
        check(&space(LITTLE_SPACE), Grade::Good, "1024 MiB free");
        check(&sync(SLOW_SYNC), Grade::Good, "a small write is durable after 25.0 ms");
        check(&sync(TOO_SLOW_SYNC), Grade::Note, "a small write is durable after 250.0 ms");
        check(&sync(TOO_SLOW_SYNC * 2), Grade::Bad, "a small write is durable after 500.0 ms");
    }
}
