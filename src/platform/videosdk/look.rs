//! One round of looks.
//!
//! v2 lists everything that is live, page by page, and so confirms all targets at once; only what the listing does not show
//! alive is asked for by itself. For a few targets, or fewer than the listing has pages, single reads are less work. v1 has
//! no listing of what is live: single reads, always.
//!
//! In this order, each only where the ones before left a question open ([`Heard`] knows which):
//!
//! 1. the listing of everything (v2),
//! 2. the record of the session,
//! 3. the listing of its room: what else is live there,
//! 4. the listing by custom room id (v2): nothing is live under that name.
//!
//! So a look at n targets costs at most the walks of the listing and three reads each; one whose session has ended its record,
//! and its room too where the listing had several pages.
//! Reads are bounded per round and taken in turns, so that with more targets than that each has its turn. A server that
//! cannot be reached, refuses us or wants a pause is asked for nothing more in that round.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use futures_util::stream::{self, StreamExt};

use super::answer::Problem;
use super::listing::{Gap, Listing, walk};
use super::requests::Which;
use super::sight::{Heard, sight};
use super::{Version, VideoSdk};
use crate::job::{BootMs, InstanceId, MeetingId, Sighting};
use crate::platform::{Round, Target};

/// Rooms for which single reads are less work than any listing of everything.
pub(super) const FEW: usize = 2;
/// Single reads of each kind in one round, at most.
const READS: usize = 500;
/// Of those at the same time.
const PARALLEL: usize = 8;
/// So many requests of a round may go without an answer before it is broken off.
const LOST: usize = 4;

/// How long it is believed that the listing of everything has as many pages as it had.
const PAGES_GOOD: Duration = Duration::from_secs(60);

/// Who had the last turn, where there were too many for one round.
#[derive(Default)]
pub(super) struct Turns {
    /// Of the last listing of everything, and when that was.
    pages: Option<(u64, BootMs)>,
    record: Option<InstanceId>,
    room: Option<MeetingId>,
    custom_room: Option<MeetingId>,
}

pub(super) async fn look(sdk: &VideoSdk, targets: &[Target]) -> Round {
    let sent = sdk.api.now();
    let ear = Ear::default();
    let heard = ask(sdk, targets, &ear).await;
    let told = |at| sdk.api.told(at);
    let sightings: Vec<Sighting> = targets.iter().map(|target| sight(target, &heard, told)).collect();
    let trouble = ear.trouble().map(|why| (String::new(), why)).into_iter().collect();
    // No witnesses: sessions have records of their own, and nothing is concluded from what is missing.
    Round {
        sent,
        received: sdk.api.now(),
        sightings,
        listings: BTreeMap::new(),
        shown: BTreeMap::new(),
        trouble,
    }
}

async fn ask(sdk: &VideoSdk, targets: &[Target], ear: &Ear) -> Heard {
    let version = sdk.api.reader.version;
    let mut heard = Heard::nothing(version);
    let meetings: BTreeSet<&MeetingId> = targets.iter().map(|target| &target.meeting).collect();
    let now = sdk.api.now().boot;
    if version == Version::V2 && meetings.len() > sdk.turns().few(now) {
        let enough = |listing: &Listing| Heard::shows_all(listing, targets);
        let listing = walk(&sdk.api, Which::All, |answer| ear.hear(answer), enough).await;
        sdk.turns().pages = Some((listing.pages, now));
        heard.listing = Some(listing);
    }
    let wanted = targets.iter().filter_map(|target| heard.wants_record(target)).cloned();
    let asked = turn(wanted.collect(), &mut sdk.turns().record);
    heard.records = records(sdk, asked, ear).await;

    let wanted = targets.iter().filter(|target| heard.wants_room(target));
    let asked = turn(wanted.map(|target| target.meeting.clone()).collect(), &mut sdk.turns().room);
    heard.rooms = rooms(sdk, asked, |room| Which::Room(room), ear).await;

    let wanted = targets.iter().filter(|target| heard.wants_custom_room(target));
    let asked = turn(wanted.map(|target| target.meeting.clone()).collect(), &mut sdk.turns().custom_room);
    heard.custom_rooms = rooms(sdk, asked, |room| Which::CustomRoom(room), ear).await;
    heard
}

impl Turns {
    /// For so many rooms single reads are less work than the listing of everything.
    fn few(&self, now: BootMs) -> usize {
        let pages = self.pages.filter(|(_, at)| now.since(*at) < PAGES_GOOD).map_or(0, |(pages, _)| pages);
        FEW.max(usize::try_from(pages).unwrap_or(usize::MAX).saturating_sub(1))
    }
}

async fn records(
    sdk: &VideoSdk,
    asked: Vec<InstanceId>,
    ear: &Ear,
) -> BTreeMap<InstanceId, Result<super::answer::Session, Problem>> {
    let reads = stream::iter(asked).map(|id| async move {
        if let Some(problem) = ear.halted() {
            return (id, Err(problem));
        }
        let record = sdk.api.session(&id).await;
        ear.hear(record.as_ref().err());
        (id, record)
    });
    reads.buffer_unordered(PARALLEL).collect().await
}

async fn rooms(
    sdk: &VideoSdk,
    asked: Vec<MeetingId>,
    which: for<'a> fn(&'a MeetingId) -> Which<'a>,
    ear: &Ear,
) -> BTreeMap<MeetingId, Listing> {
    let reads = stream::iter(asked).map(|room| async move {
        let listing = match ear.halted() {
            Some(problem) => Listing { sessions: Vec::new(), gap: Some(Gap::Problem(problem)), pages: 0 },
            None => walk(&sdk.api, which(&room), |answer| ear.hear(answer), |_| false).await,
        };
        (room, listing)
    });
    reads.buffer_unordered(PARALLEL).collect().await
}

/// All of them, or the next ones after whoever came last.
fn turn<K: Ord + Clone>(wanted: BTreeSet<K>, last: &mut Option<K>) -> Vec<K> {
    if wanted.len() <= READS {
        *last = None;
        return wanted.into_iter().collect();
    }
    let is_next = |key: &&K| last.as_ref().is_none_or(|last| *key > last);
    let (next, again): (Vec<&K>, Vec<&K>) = wanted.iter().partition(is_next);
    let asked: Vec<K> = next.into_iter().chain(again).take(READS).cloned().collect();
    *last = asked.last().cloned();
    asked
}

/// Hears all answers of a round, and knows when to stop.
#[derive(Default)]
struct Ear(Mutex<Noise>);

#[derive(Default)]
struct Noise {
    /// The API itself said something.
    answered: bool,
    lost: usize,
    first: Option<Problem>,
    halt: Option<Problem>,
}

impl Ear {
    fn hear(&self, problem: Option<&Problem>) {
        let mut noise = self.noise();
        let Some(problem) = problem else {
            noise.answered = true;
            return;
        };
        let halts = match problem {
            Problem::Refused { .. } => {
                noise.answered = true;
                return;
            }
            Problem::Unclear(_) => false,
            // It may be about that one session.
            Problem::Unreachable { sent: true, .. } => {
                noise.lost += 1;
                noise.lost >= LOST
            }
            // Everybody would hear the same.
            Problem::Unreachable { sent: false, .. }
            | Problem::Throttled { .. }
            | Problem::Misconfigured(_) => true,
        };
        noise.first.get_or_insert_with(|| problem.clone());
        if halts {
            noise.halt.get_or_insert_with(|| problem.clone());
        }
    }

    fn halted(&self) -> Option<Problem> {
        self.noise().halt.clone()
    }

    /// Was the server in trouble, not only one session?
    fn trouble(&self) -> Option<String> {
        let noise = self.noise();
        let problem = noise.halt.as_ref().or(noise.first.as_ref().filter(|_| !noise.answered));
        problem.map(|problem| problem.why().to_owned())
    }

    fn noise(&self) -> MutexGuard<'_, Noise> {
        self.0.lock().expect("no holder of this lock can panic")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn with_too_many_each_has_its_turn() {
        let wanted: BTreeSet<usize> = (0..READS * 2 + 100).collect();
        let mut last = None;
        let mut asked: Vec<usize> = Vec::new();
        for _ in 0..3 {
            let turn = turn(wanted.clone(), &mut last);
            assert_eq!(turn.len(), READS);
            asked.extend(turn);
        }
        assert_eq!(asked.iter().collect::<BTreeSet<_>>().len(), wanted.len());
        assert_eq!(turn((0..READS).collect(), &mut last).len(), READS);
        assert_eq!(last, None);
    }

    fn lost() -> Problem {
        Problem::Unreachable { why: "lost".to_owned(), sent: true }
    }

    #[test]
    fn one_session_that_goes_without_an_answer_is_no_outage_and_several_are() {
        let ear = Ear::default();
        ear.hear(Some(&lost()));
        assert_eq!((ear.halted(), ear.trouble().as_deref()), (None, Some("lost")));
        ear.hear(None);
        assert_eq!((ear.halted(), ear.trouble()), (None, None));
        (1..LOST).for_each(|_| ear.hear(Some(&lost())));
        assert_eq!((ear.halted(), ear.trouble().as_deref()), (Some(lost()), Some("lost")));
    }

    #[test]
    fn what_everybody_would_hear_ends_the_round() {
        let why = || "w".to_owned();
        for problem in [
            Problem::Unreachable { why: why(), sent: false },
            Problem::Throttled { why: why(), retry_after: None },
            Problem::Misconfigured(why()),
        ] {
            let ear = Ear::default();
            ear.hear(None);
            ear.hear(Some(&problem));
            assert_eq!((ear.halted(), ear.trouble()), (Some(problem), Some(why())));
        }
        let ear = Ear::default();
        ear.hear(Some(&Problem::Refused { why: why(), status: 404 }));
        ear.hear(Some(&Problem::Unclear(why())));
        assert_eq!((ear.halted(), ear.trouble()), (None, None));
    }
}
