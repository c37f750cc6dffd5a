//! The confirmation rule: how many sightings of absence are proof, and how far apart.

use std::time::Duration;

use super::BootMs;

/// A second sighting must be sent at least this long after the first was received, where the platform asks for no more.
pub const SIGHTING_GAP: Duration = Duration::from_secs(2);

/// Sightings of absence in a row. Forgotten on restart and whenever the instance is seen alive or called at again;
/// unreachable and doubtful sightings neither count nor reset it.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Tally {
    count: u8,
    last_received: Option<BootMs>,
}

impl Tally {
    /// Counts one sighting, if it is far enough from the one before. True: it is proof.
    pub fn gone(&mut self, sent: BootMs, received: BootMs, needed: u8, apart: Duration) -> bool {
        if self.earliest_next(apart).is_none_or(|earliest| sent >= earliest) {
            self.count += 1;
            self.last_received = Some(received);
        }
        self.count >= needed
    }

    /// When the next sighting can count; `None`: at once.
    pub fn earliest_next(&self, apart: Duration) -> Option<BootMs> {
        self.last_received.map(|received| received + apart)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(needed: u8, sightings: &[(i64, i64)], proof_at: Option<usize>) {
        let mut tally = Tally::default();
        let proven = sightings
            .iter()
            .position(|&(sent, received)| tally.gone(BootMs(sent), BootMs(received), needed, SIGHTING_GAP));
        assert_eq!(proven, proof_at, "{sightings:?}");
    }

    #[test]
    fn two_sightings_must_be_two_seconds_apart() {
        check(2, &[(0, 10), (2_010, 2_020)], Some(1));
        check(2, &[(0, 10), (2_009, 2_020)], None);
        check(2, &[(0, 10), (1_000, 1_010), (2_010, 2_011)], Some(2));
        check(2, &[(0, 1_500), (2_100, 2_101), (3_500, 3_501)], Some(2));
        check(1, &[(0, 10)], Some(0));
    }
}
