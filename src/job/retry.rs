//! When to try again: pure functions of how often and how long.

use std::time::Duration;

use super::{BootMs, JobId};

const SECOND: Duration = Duration::from_secs(1);

/// First and longest pause between failed attempts.
const BACKOFF_FIRST: Duration = Duration::from_millis(500);
const BACKOFF_LONGEST: Duration = Duration::from_secs(60);

/// Looks after an answer, until the steady rhythm begins.
const OFFSETS: [Duration; 4] =
    [SECOND, Duration::from_secs(3), Duration::from_secs(7), Duration::from_secs(12)];
/// The steady rhythm, for the first minute; then each pause is half as long again as the one before, up to the longest.
const STEADY: Duration = Duration::from_secs(5);
const STEADY_UNTIL: Duration = Duration::from_secs(60);
const LONGEST: Duration = Duration::from_secs(300);

/// Pause after the `failures`-th failure in a row (from 1): doubling from 0.5 s to 60 s, each up to a quarter shorter so
/// that many jobs do not come back together. The jitter is drawn from the job's id, so that the heart stays pure.
pub fn backoff(id: JobId, failures: u32) -> Duration {
    let doublings = failures.saturating_sub(1).min(16);
    let full = BACKOFF_FIRST.saturating_mul(1 << doublings).min(BACKOFF_LONGEST);
    full.mul_f64(1.0 - 0.25 * unit(id, failures))
}

/// A number in `0.0..1.0` that depends on nothing but its arguments.
pub fn unit(id: JobId, salt: u32) -> f64 {
    let (high, low) = id.0.as_u64_pair();
    let mut x = high ^ low ^ (u64::from(salt) << 32 | u64::from(salt));
    // splitmix64's finisher: one well-mixed word is all that is needed here.
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^= x >> 31;
    (x >> 11) as f64 / (1u64 << 53) as f64
}

/// The next look after an answer at `answered`: 1, 3, 7, 12, 17 s ..., after a minute backing off to five minutes.
pub fn next_look(answered: BootMs, now: BootMs) -> BootMs {
    let elapsed = now.since(answered);
    if let Some(offset) = OFFSETS.iter().find(|offset| **offset > elapsed) {
        return answered + *offset;
    }
    let (mut at, mut pause) = (OFFSETS[OFFSETS.len() - 1], STEADY);
    while at <= elapsed {
        if at >= STEADY_UNTIL {
            // In whole seconds: the clock would cut a fraction off, and the next look would be due already.
            pause = Duration::from_secs(pause.as_secs() * 3 / 2).min(LONGEST);
        }
        at += pause;
    }
    answered + at
}

/// How long after its answer the `sent`-th end call is repeated: `first`, doubling to five minutes.
pub fn resend_delay(first: Duration, sent: u32) -> Duration {
    first.saturating_mul(1 << sent.saturating_sub(1).min(16)).min(LONGEST.max(first))
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn looks_come_at_the_documented_offsets() {
        let start = BootMs(1_000_000);
        let mut now = start;
        let mut seen = Vec::new();
        for _ in 0..20 {
            now = next_look(start, now);
            seen.push(now.since(start).as_secs());
        }
        assert_eq!(seen[..6], [1, 3, 7, 12, 17, 22]);
        let pauses: Vec<u64> = seen.windows(2).map(|w| w[1] - w[0]).collect();
        assert!(pauses[12..].windows(2).all(|w| w[1] >= w[0]), "{pauses:?}");
        for _ in 0..300 {
            let next = next_look(start, now);
            assert!(next > now && next.since(now) <= LONGEST);
            now = next;
        }
        assert_eq!(next_look(start, now).since(now), LONGEST);
    }

    #[test]
    fn backoff_grows_to_its_bound_and_spreads() {
        let id = |n: u128| JobId(Uuid::from_u128(n));
        for failures in 1..100 {
            let pause = backoff(id(7), failures);
            assert!(
                pause <= BACKOFF_LONGEST && pause >= BACKOFF_FIRST.mul_f64(0.75),
                "{failures}: {pause:?}"
            );
        }
        assert!(backoff(id(7), 20) >= BACKOFF_LONGEST.mul_f64(0.75));
        assert_ne!(backoff(id(7), 5), backoff(id(8), 5));
    }

    #[test]
    fn resends_double_to_five_minutes() {
        let first = Duration::from_secs(15);
        let delays: Vec<u64> = (1..8).map(|n| resend_delay(first, n).as_secs()).collect();
        assert_eq!(delays, [15, 30, 60, 120, 240, 300, 300]);
    }
}
