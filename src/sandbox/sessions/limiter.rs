//! So many requests in a sliding window; then everything is refused for a while.

use std::collections::{HashMap, VecDeque};

use crate::job::UtcMs;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rate {
    pub requests: usize,
    pub window_ms: i64,
    /// How long everything is refused once there were too many.
    pub penalty_ms: i64,
}

pub(super) struct Limiter {
    rate: Rate,
    tokens: HashMap<String, Seen>,
}

#[derive(Default)]
struct Seen {
    requests: VecDeque<UtcMs>,
    refused_until: Option<UtcMs>,
}

impl Limiter {
    pub fn new(rate: Rate) -> Limiter {
        Limiter { rate, tokens: HashMap::new() }
    }

    /// Counts a request with this token; `Some` refuses it, for so many seconds from now.
    pub fn refuse(&mut self, token: &str, now: UtcMs) -> Option<u32> {
        let Rate { requests, window_ms, penalty_ms } = self.rate;
        let seen = match self.tokens.get_mut(token) {
            Some(seen) => seen,
            None => self.tokens.entry(token.to_owned()).or_default(),
        };
        if let Some(until) = seen.refused_until.filter(|until| now < *until) {
            return Some(seconds(until.ms_since(now)));
        }
        seen.refused_until = None;
        while seen.requests.front().is_some_and(|first| now.ms_since(*first) >= window_ms) {
            seen.requests.pop_front();
        }
        if seen.requests.len() < requests {
            seen.requests.push_back(now);
            return None;
        }
        seen.refused_until = Some(UtcMs(now.0 + penalty_ms));
        Some(seconds(penalty_ms))
    }
}

/// Rounded up.
fn seconds(ms: i64) -> u32 {
    u32::try_from(ms.max(0) / 1_000 + i64::from(ms % 1_000 > 0)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate { requests: 3, window_ms: 10_000, penalty_ms: 5_000 };

    #[test]
    fn the_window_slides() {
        let mut limiter = Limiter::new(RATE);
        for at in [0, 4_000, 8_000, 10_000, 14_000] {
            assert_eq!(limiter.refuse("t", UtcMs(at)), None, "{at}");
        }
    }

    #[test]
    fn too_many_are_refused_for_a_while_whatever_comes_and_others_are_not() {
        let mut limiter = Limiter::new(RATE);
        let answers: Vec<_> = (0..5).map(|n| limiter.refuse("t", UtcMs(n))).collect();
        assert_eq!(answers, [None, None, None, Some(5), Some(5)]);
        assert_eq!(limiter.refuse("other", UtcMs(10)), None);
        assert_eq!(limiter.refuse("t", UtcMs(4_500)), Some(1), "rounded up");
        assert_eq!(limiter.refuse("t", UtcMs(5_003)), Some(5), "over, but the window is still full");
        assert_eq!(limiter.refuse("t", UtcMs(10_003)), None);
    }
}
