//! Hits whose job was called off and that apply all the same: another job is due to them.
//!
//! What a sweep remembers may be lost (a crash, a damaged file); the jobs are not. So they have the last word on which of
//! its lives a hit is in.

use std::collections::{BTreeMap, BTreeSet};

use super::plan::keyed;
use super::sweep::nth;
use super::{Hit, Sweep};
use crate::job::{CalledOff, Job};

/// What became of the job with a key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Standing {
    /// There is none.
    None,
    /// It is open, or a person or the world has settled it: there is no other one for this hit.
    Settled,
    Off(CalledOff),
}

impl Standing {
    pub fn of(job: Option<&Job>) -> Standing {
        let Some(job) = job else { return Standing::None };
        match job.called_off().filter(|_| job.is_done()) {
            Some(cause) => Standing::Off(cause),
            None => Standing::Settled,
        }
    }
}

/// Gives hits whose job was withdrawn the next free identity. Where a look has found too many people inside, the room was
/// not empty all the time, and what is counted begins anew. To be called before [`plan`](super::plan()).
pub fn renew<E>(
    sweep: &mut Sweep,
    open: &[Job],
    standing: impl Fn(&str) -> Result<Standing, E>,
) -> Result<(), E> {
    let open: BTreeSet<&str> = open.iter().filter_map(|job| Some(job.key.as_ref()?.key.as_str())).collect();
    let hits = std::mem::take(&mut sweep.hits);
    for mut hit in hits {
        if hit.dry_run || next_life(&mut hit, &open, &standing)? {
            sweep.watch.relive(&hit);
            sweep.hits.push(hit);
        } else {
            sweep.watch.begin_anew(&hit);
        }
    }
    // A watch that was lost knows of no later lives.
    let lives: BTreeMap<&str, &str> =
        open.iter().filter_map(|key| Some((key.rsplit_once('#')?.0, *key))).collect();
    for identity in std::mem::take(&mut sweep.kept) {
        let key = keyed(&identity);
        let later = lives.get(key.as_str()).filter(|_| !open.contains(key.as_str()));
        let later = later.and_then(|key| key.strip_prefix(keyed("").as_str()));
        sweep.kept.insert(later.map_or(identity, str::to_owned));
    }
    Ok(())
}

/// `false`: there is nothing to hit until the people inside are counted anew.
fn next_life<E>(
    hit: &mut Hit,
    open: &BTreeSet<&str>,
    standing: impl Fn(&str) -> Result<Standing, E>,
) -> Result<bool, E> {
    let first = match hit.again {
        0 => hit.identity.clone(),
        again => hit.identity.trim_end_matches(&format!("#{again}")).to_owned(),
    };
    loop {
        let key = keyed(&hit.identity);
        if open.contains(key.as_str()) {
            return Ok(true);
        }
        match standing(&key)? {
            Standing::None | Standing::Settled => return Ok(true),
            Standing::Off(CalledOff::TooMany) => return Ok(false),
            Standing::Off(CalledOff::Withdrawn) => {
                hit.again += 1;
                hit.identity = nth(&first, hit.again);
            }
        }
    }
}
