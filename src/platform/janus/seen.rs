//! Which sightings of a room are one instance. Pure.

use std::collections::HashMap;
use std::time::Duration;

use super::Presence;
use crate::job::{Evidence, Instance, InstanceId, MeetingId, Now, Sighting};
use crate::platform::Target;

/// Sightings further apart than this are no unbroken row: in between the room may have been destroyed and created again.
/// Longer than the longest pause between two looks of a job at work (five minutes), and the look itself: otherwise a room
/// would be another one only because nobody looked, and its job could never end it.
const UNBROKEN: Duration = Duration::from_secs(330);
/// Rooms that are remembered; those seen longest ago are forgotten.
const ROOMS: usize = 16_384;

/// The rooms that were there when last looked at.
#[derive(Default)]
pub(super) struct Seen {
    rooms: HashMap<MeetingId, Row>,
}

/// An unbroken row of sightings.
struct Row {
    id: InstanceId,
    first: Now,
    last: Now,
    broken: Broken,
}

/// What lies between the last sighting and the next.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Broken {
    No,
    /// An end call that may have taken effect.
    Called,
    /// A sighting of absence.
    Gone,
}

impl Seen {
    /// What a look at a target's room comes to; `at`: when it was answered.
    pub(super) fn sight(&mut self, target: &Target, presence: Presence, at: Now) -> Sighting {
        match presence {
            Presence::There { .. } if self.is_after_call(target) => Sighting::Doubtful(
                "a room of this name is there after an end call: whether it is the same one, Janus does not tell"
                    .to_owned(),
            ),
            Presence::There { participants } => {
                let instance = self.note(&target.meeting, Some(target), at);
                Sighting::Live(Instance { participants, shown_at: Some(at), ..instance })
            }
            Presence::NotThere => {
                self.gone(target, at);
                Sighting::NotThere(Evidence { info: true, ..Evidence::default() })
            }
            Presence::Unknown(sighting) => sighting,
        }
    }

    /// A room is there. The row goes on if it is unbroken; where nothing is known of it, a job that saw it a moment ago,
    /// before a restart of the daemon or a reload, may vouch for it.
    pub(super) fn note(&mut self, meeting: &MeetingId, target: Option<&Target>, at: Now) -> Instance {
        let unbroken = |last: Now| at.boot.since(last.boot) <= UNBROKEN;
        let row = match self.rooms.remove(meeting) {
            Some(row) => Some(row).filter(|row| unbroken(row.last) && row.broken == Broken::No),
            None => target.and_then(vouched).filter(|row| unbroken(row.last)),
        };
        let row =
            row.unwrap_or_else(|| Row { id: name(meeting, at), first: at, last: at, broken: Broken::No });
        let instance = Instance {
            id: row.id.clone(),
            started_at: Some(row.first.wall),
            participants: None,
            listed: false,
            node: None,
            shown_at: None,
        };
        self.make_room();
        self.rooms.insert(meeting.clone(), Row { last: at, ..row });
        instance
    }

    /// An end call to the room may have taken effect.
    pub(super) fn called(&mut self, meeting: &MeetingId) {
        self.break_row(meeting, Broken::Called);
    }

    /// The room was not there. Said also where nothing is known of it, so that nobody vouches for the next one.
    fn gone(&mut self, target: &Target, at: Now) {
        if let Some(row) = vouched(target)
            && !self.rooms.contains_key(&target.meeting)
        {
            self.make_room();
            self.rooms.insert(target.meeting.clone(), Row { last: at, ..row });
        }
        self.break_row(&target.meeting, Broken::Gone);
    }

    fn break_row(&mut self, meeting: &MeetingId, broken: Broken) {
        if let Some(row) = self.rooms.get_mut(meeting) {
            row.broken = broken;
        }
    }

    /// Only for whoever pinned the instance that was called at: to others a room that is there is a new one.
    fn is_after_call(&self, target: &Target) -> bool {
        match self.rooms.get(&target.meeting) {
            Some(row) => row.broken == Broken::Called && target.instance.as_ref() == Some(&row.id),
            // The daemon was restarted since.
            None => target.end_sent && target.pin.is_some(),
        }
    }

    fn make_room(&mut self) {
        if self.rooms.len() >= ROOMS
            && let Some(oldest) =
                self.rooms.iter().min_by_key(|(_, row)| row.last.boot).map(|(id, _)| id.clone())
        {
            self.rooms.remove(&oldest);
        }
    }
}

/// The row that a job knows of.
fn vouched(target: &Target) -> Option<Row> {
    let pin = target.pin.as_ref().filter(|_| !target.end_sent)?;
    let first = Now { wall: pin.started_at?, boot: pin.last_live.boot };
    Some(Row { id: pin.instance.clone(), first, last: pin.last_live, broken: Broken::No })
}

/// `4242@1764604800000`: the room, and the millisecond of its first sighting.
fn name(meeting: &MeetingId, first: Now) -> InstanceId {
    InstanceId(format!("{meeting}@{}", first.wall.0))
}
