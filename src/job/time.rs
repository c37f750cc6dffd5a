//! Instants: the wall clock decides whether due is reached, boottime measures everything else.
//!
//! Both are plain milliseconds, so that the pure heart needs no clock and the store no conversion.

use std::fmt;
use std::ops::{Add, Sub};
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// A wall-clock instant: milliseconds since the Unix epoch, UTC.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UtcMs(pub i64);

/// An instant of `CLOCK_BOOTTIME`: milliseconds since boot, suspend included. Means nothing after a reboot.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BootMs(pub i64);

/// Both clocks, read together.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Now {
    pub wall: UtcMs,
    pub boot: BootMs,
}

impl Now {
    /// How long ago `earlier` was, by boottime; zero if it lies ahead.
    pub fn since(&self, earlier: Now) -> Duration {
        self.boot.since(earlier.boot)
    }

    /// So much earlier, on both clocks.
    pub fn before(self, time: Duration) -> Now {
        Now { wall: self.wall - time, boot: self.boot - time }
    }

    /// The same instant as read by a process that has restarted (and whose machine may have): the boottime of
    /// `self` is rebuilt from the wall-clock distance to `now`.
    pub fn rebased(&self, now: Now) -> Now {
        let elapsed = (now.wall.0 - self.wall.0).max(0);
        Now { wall: self.wall, boot: BootMs(now.boot.0 - elapsed) }
    }
}

impl UtcMs {
    /// The last instant that a calendar can show, and that anybody may ask for.
    pub const MAX: UtcMs = UtcMs(253_402_207_200_000);
    /// The due time of a job that has none yet. No clock gets there, and nobody is shown it as a time.
    pub const NEVER: UtcMs = UtcMs(UtcMs::MAX.0 + 1);

    pub fn is_never(self) -> bool {
        self >= UtcMs::NEVER
    }

    /// Milliseconds from `earlier` to `self`; negative if `earlier` lies ahead.
    pub fn ms_since(self, earlier: UtcMs) -> i64 {
        self.0 - earlier.0
    }

    pub fn timestamp(self) -> Timestamp {
        Timestamp::from_millisecond(self.0).unwrap_or(Timestamp::MAX)
    }
}

impl From<Timestamp> for UtcMs {
    fn from(at: Timestamp) -> UtcMs {
        UtcMs(at.as_millisecond())
    }
}

/// RFC 3339, UTC, always three fractional digits.
impl fmt::Display for UtcMs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_never() {
            return f.write_str("no time yet");
        }
        write!(f, "{:.3}", self.timestamp())
    }
}

impl BootMs {
    /// Time from `earlier` to `self`; zero if `earlier` lies ahead.
    pub fn since(self, earlier: BootMs) -> Duration {
        Duration::from_millis(u64::try_from(self.0 - earlier.0).unwrap_or(0))
    }
}

fn ms(d: Duration) -> i64 {
    i64::try_from(d.as_millis()).unwrap_or(i64::MAX / 4)
}

macro_rules! arithmetic {
    ($t:ident) => {
        impl Add<Duration> for $t {
            type Output = $t;
            fn add(self, d: Duration) -> $t {
                $t(self.0.saturating_add(ms(d)))
            }
        }
        impl Sub<Duration> for $t {
            type Output = $t;
            fn sub(self, d: Duration) -> $t {
                $t(self.0.saturating_sub(ms(d)))
            }
        }
    };
}
arithmetic!(UtcMs);
arithmetic!(BootMs);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_rfc_3339_with_milliseconds() {
        assert_eq!(UtcMs(1_764_612_000_005).to_string(), "2025-12-01T18:00:00.005Z");
        assert_eq!(UtcMs(0).to_string(), "1970-01-01T00:00:00.000Z");
    }

    #[test]
    fn a_restart_keeps_the_elapsed_time_and_never_a_negative_one() {
        let then = Now { wall: UtcMs(1_000), boot: BootMs(900_000) };
        let now = Now { wall: UtcMs(6_000), boot: BootMs(10) };
        assert_eq!(now.since(then.rebased(now)), Duration::from_secs(5));
        let stepped_back = Now { wall: UtcMs(0), boot: BootMs(10) };
        assert_eq!(stepped_back.since(then.rebased(stepped_back)), Duration::ZERO);
    }
}
