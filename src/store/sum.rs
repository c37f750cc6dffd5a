//! What sled carries of the journal: how far it has come, and a checksum of everything else that it holds.
//!
//! The checksum is the sum of a hash of each record, so that it does not depend on the order and follows every write from
//! the old and the new value alone. It is against damage, not against an adversary: he would write the sum anew.

use sha2::{Digest, Sha256};

use super::generation::{Generation, Mask};
use super::journal::{Hash, Head};
use super::keys;
use super::stage::Writes;

const BYTES: usize = 8 + 32 + 16;

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Sum(u128);

impl Sum {
    /// Of everything that readers of a generation see, record by record.
    pub(super) fn of(generation: &Generation) -> sled::Result<Sum> {
        let mut sum = Sum::default();
        for entry in generation.scan(Vec::new(), vec![u8::MAX]) {
            let (key, value) = entry?;
            sum.add(&key, Some(&value));
        }
        Ok(sum)
    }

    pub(super) fn add(&mut self, key: &[u8], value: Option<&[u8]>) {
        self.0 = self.0.wrapping_add(weight(key, value));
    }

    pub(super) fn subtract(&mut self, key: &[u8], value: Option<&[u8]>) {
        self.0 = self.0.wrapping_sub(weight(key, value));
    }

    /// What the sum becomes by these writes over those old values.
    pub(super) fn after(mut self, old: &Mask, writes: &Writes) -> Sum {
        for (key, value) in old {
            self.subtract(key, value.as_deref());
        }
        for (key, value) in writes {
            self.add(key, value.as_deref());
        }
        self
    }
}

/// The mark itself does not count.
fn weight(key: &[u8], value: Option<&[u8]>) -> u128 {
    let Some(value) = value.filter(|_| key != keys::MARK) else { return 0 };
    let mut hasher = Sha256::new();
    hasher.update((key.len() as u64).to_be_bytes());
    hasher.update(key);
    hasher.update(value);
    let hash: [u8; 32] = hasher.finalize().into();
    u128::from_be_bytes(*hash.first_chunk().expect("it is longer"))
}

/// The record behind `meta/journal`, in every batch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Mark {
    pub(super) head: Head,
    pub(super) sum: Sum,
}

impl Mark {
    pub(super) fn encode(&self) -> Vec<u8> {
        let Mark { head, sum } = self;
        [&head.seq.to_be_bytes()[..], &head.hash.0, &sum.0.to_be_bytes()].concat()
    }

    pub(super) fn decode(record: &[u8]) -> Result<Mark, String> {
        let record: &[u8; BYTES] =
            record.try_into().map_err(|_| format!("it has {} bytes, not {BYTES}", record.len()))?;
        let (seq, rest) = record.split_first_chunk().expect("it has them");
        let (hash, sum) = rest.split_first_chunk().expect("it has them");
        Ok(Mark {
            head: Head { seq: u64::from_be_bytes(*seq), hash: Hash(*hash) },
            sum: Sum(u128::from_be_bytes(sum.try_into().expect("sixteen bytes"))),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_comes_back() {
        let mut sum = Sum::default();
        sum.add(b"k", Some(b"v"));
        let mark = Mark { head: Head { seq: 7, hash: Hash([3; 32]) }, sum };
        assert_eq!(Mark::decode(&mark.encode()), Ok(mark));
        assert!(Mark::decode(b"short").is_err());
    }

    #[test]
    fn the_sum_follows_every_write_and_forgets_the_order() {
        let (mut one, mut other) = (Sum::default(), Sum::default());
        one.add(b"a", Some(b"1"));
        one.add(b"b", Some(b"2"));
        other.add(b"b", Some(b"2"));
        other.add(b"a", Some(b"0"));
        assert_ne!(one, other);
        let old = Mask::from([(b"a".to_vec(), Some("0".into())), (b"c".to_vec(), None)]);
        let writes = Writes::from([(b"a".to_vec(), Some(b"1".to_vec())), (b"c".to_vec(), None)]);
        assert_eq!(other.after(&old, &writes), one);
        let gone = Writes::from([(b"a".to_vec(), None)]);
        let old = Mask::from([(b"a".to_vec(), Some("1".into()))]);
        assert_eq!(one.after(&old, &gone).0, weight(b"b", Some(b"2")));
    }

    #[test]
    fn keys_and_values_do_not_run_together() {
        assert_ne!(weight(b"ab", Some(b"c")), weight(b"a", Some(b"bc")));
        assert_eq!(weight(keys::MARK, Some(b"c")), 0);
    }
}
