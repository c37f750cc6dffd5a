//! The rooms that the list does not show, asked for one by one.
//!
//! Bounded per round, since a look before an end call may wait for the round: so many rooms, taken in turns, and after a few
//! questions without an answer no more.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use futures_util::stream::{self, StreamExt};

use super::{Janus, Presence};
use crate::job::{MeetingId, Now, Purpose, Sighting};
use crate::platform::Target;

/// Single rooms in one round, at most.
const SINGLES: usize = 256;
/// And where an end call waits for the round: it may only follow a sighting of the last two seconds, so that the round must
/// be over soon after the first answer, on a slow line too.
const SINGLES_BEFORE_END: usize = 64;
/// Of those at the same time.
const PARALLEL: usize = 8;
/// So many of a round may go without an answer before it is broken off.
const LOST: usize = 3;

/// What is known of each room, and when the answer came that said so.
pub(super) type Heard = HashMap<MeetingId, (Presence, Now)>;

/// Who had the last turn, where there were too many for one round.
#[derive(Default)]
pub(super) struct Turns(Option<MeetingId>);

impl Turns {
    /// All of them, or the next ones after whoever came last.
    fn take<'a>(&mut self, wanted: &BTreeSet<&'a MeetingId>, most: usize) -> BTreeSet<&'a MeetingId> {
        if wanted.len() <= most {
            self.0 = None;
            return wanted.clone();
        }
        let is_next = |meeting: &&&MeetingId| self.0.as_ref().is_none_or(|last| **meeting > last);
        let next = wanted.iter().filter(is_next).chain(wanted);
        let mut asked = BTreeSet::new();
        let mut last = None;
        for meeting in next {
            if asked.len() == most {
                break;
            }
            if asked.insert(*meeting) {
                last = Some((*meeting).clone());
            }
        }
        self.0 = last;
        asked
    }
}

/// Questions without an answer, and why the last of them had none.
#[derive(Default)]
struct Losses {
    count: usize,
    why: String,
}

impl Losses {
    fn broken_off(&self) -> Option<String> {
        (self.count >= LOST).then(|| self.why.clone())
    }
}

impl Janus {
    /// Completes what is heard of the targets' rooms. Gives why the round was broken off, if it was.
    pub(super) async fn ask_singles(&self, targets: &[Target], heard: &mut Heard) -> Option<String> {
        let wanted = targets.iter().map(|target| &target.meeting);
        let wanted: BTreeSet<&MeetingId> = wanted.filter(|meeting| !heard.contains_key(*meeting)).collect();
        let asked = self.turns().take(&wanted, most(targets));
        let losses = Mutex::default();
        let questions = asked.iter().map(|meeting| self.ask(meeting, &losses));
        let questions = questions.collect::<Vec<_>>();
        let answers: Vec<_> = stream::iter(questions).buffer_unordered(PARALLEL).collect().await;
        heard.extend(answers);
        let why =
            format!("{} was not asked for this room in this round, which had too many", self.rest.label);
        let not_asked = (Presence::Unknown(Sighting::Doubtful(why)), self.rest.now());
        let rest = wanted.difference(&asked);
        heard.extend(rest.map(|meeting| ((*meeting).clone(), not_asked.clone())));
        lock(&losses).broken_off()
    }

    async fn ask(&self, meeting: &MeetingId, losses: &Mutex<Losses>) -> (MeetingId, (Presence, Now)) {
        let broken_off = lock(losses).broken_off();
        let presence = match broken_off {
            Some(why) => Presence::Unknown(Sighting::Unreachable(why)),
            None => self.exists(meeting).await.unwrap_or_else(|none| {
                let mut losses = lock(losses);
                losses.count += 1;
                losses.why = none.to_string();
                Presence::Unknown(none.sighting())
            }),
        };
        (meeting.clone(), (presence, self.rest.now()))
    }

    fn turns(&self) -> MutexGuard<'_, Turns> {
        lock(&self.turns)
    }
}

fn most(targets: &[Target]) -> usize {
    let before_end =
        targets.iter().any(|target| matches!(target.purpose, Purpose::BeforeEnd | Purpose::Last));
    if before_end { SINGLES_BEFORE_END } else { SINGLES }
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn with_too_many_each_has_its_turn() {
        let rooms: Vec<MeetingId> = (0..SINGLES * 2 + 50).map(|n| MeetingId(format!("room {n}"))).collect();
        let wanted: BTreeSet<&MeetingId> = rooms.iter().collect();
        let mut turns = Turns::default();
        let mut asked = BTreeSet::new();
        for _ in 0..3 {
            let turn = turns.take(&wanted, SINGLES);
            assert_eq!(turn.len(), SINGLES);
            asked.extend(turn);
        }
        assert_eq!(asked, wanted);
        let few: BTreeSet<&MeetingId> = rooms[..SINGLES].iter().collect();
        assert_eq!(turns.take(&few, SINGLES), few);
    }
}
