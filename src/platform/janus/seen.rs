//! Which sightings of a room are one instance. Pure.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use super::Presence;
use crate::job::{Evidence, Instance, InstanceId, MeetingId, Now, Pin, Purpose, Sighting};
use crate::platform::Target;

/// Sightings further apart than this are no unbroken row: in between the room may have been destroyed and created again.
/// Longer than the longest pause between two looks of a job at work (five minutes), and the look itself: otherwise a room
/// would be another one only because nobody looked, and its job could never end it.
const UNBROKEN: Duration = Duration::from_secs(330);
/// Rooms that are remembered; those seen longest ago are forgotten.
const ROOMS: usize = 16_384;
/// Earlier names of one row that are remembered.
const NAMES: usize = 64;

/// The rooms that were there when last looked at.
#[derive(Default)]
pub(super) struct Seen {
    rooms: HashMap<MeetingId, Row>,
    /// When the last list of all rooms was asked for.
    listed_at: Option<Now>,
}

/// An unbroken row of sightings.
struct Row {
    id: InstanceId,
    first: Now,
    last: Now,
    broken: Broken,
    /// A list of all rooms has shown it.
    listed: bool,
    /// Up to here, and for this reason, the room was another one, or was not there. What lies between an older sighting
    /// and this row is otherwise only a pause in which nobody looked.
    parted: Option<(Now, Broken)>,
    /// Rows before such pauses whose jobs were armed anew, and go on with this one.
    also: Vec<InstanceId>,
}

/// What lies between the last sighting and the next.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Broken {
    No,
    /// An end call that may have taken effect.
    Called,
    /// A sighting of absence.
    Gone,
    /// A list of all rooms did not show it any more: it is gone, or private now.
    Unlisted,
}

impl Row {
    fn new(id: InstanceId, first: Now, last: Now) -> Row {
        Row { id, first, last, broken: Broken::No, listed: false, parted: None, also: Vec::new() }
    }

    fn is(&self, id: &InstanceId) -> bool {
        self.id == *id || self.also.contains(id)
    }

    /// Why this row cannot be what was pinned; `None`: nothing is known against it.
    fn parted_from(&self, pin: &Pin) -> Option<Broken> {
        let (_, why) = self.parted.filter(|(at, _)| at.boot >= pin.last_live.boot)?;
        // A private room is in no list.
        (why != Broken::Unlisted || pin.listed).then_some(why)
    }
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
                self.as_pinned(target, Instance { participants, shown_at: Some(at), ..instance })
            }
            Presence::NotThere => {
                self.gone(target, at);
                Sighting::NotThere(Evidence { info: true, ..Evidence::default() })
            }
            Presence::Unknown(sighting) => sighting,
        }
    }

    /// A job that is armed anew, long after it saw its room, finds a row of another name, and goes on with that as its own
    /// if nothing says that the room was another one in between. After due it is too late for that: what is there then
    /// may have come since.
    fn as_pinned(&mut self, target: &Target, instance: Instance) -> Sighting {
        let (Some(pin), Some(row)) = (&target.pin, self.rooms.get_mut(&target.meeting)) else {
            return Sighting::Live(instance);
        };
        if !row.is(&pin.instance) {
            match row.parted_from(pin) {
                // What a list of all rooms has missed in between was not there then, as what is not there when it is asked
                // for: otherwise the job would wait for a room of which nothing more can ever be learnt.
                Some(Broken::Gone | Broken::Unlisted) if !target.end_sent => {
                    return Sighting::Over { next: Some(instance) };
                }
                None if !target.end_sent
                    && matches!(target.purpose, Purpose::Pin | Purpose::Arm)
                    && row.also.len() < NAMES =>
                {
                    row.also.push(pin.instance.clone());
                }
                _ => return Sighting::Live(instance),
            }
        }
        Sighting::Live(Instance { id: pin.instance.clone(), ..instance })
    }

    /// What an earlier process saw, when it last listed all rooms.
    pub(super) fn recall(&mut self, shown: &mut dyn Iterator<Item = (MeetingId, Pin)>, at: Now) {
        if self.listed_at.is_some() {
            return;
        }
        self.listed_at = Some(at);
        for (meeting, pin) in shown.take(ROOMS) {
            if !self.rooms.contains_key(&meeting) {
                self.make_room();
                self.rooms.insert(meeting, Row { listed: true, ..row_of(&pin) });
            }
        }
    }

    /// A list of all rooms showed these and no others; `sent`: when it was asked for.
    pub(super) fn listed(&mut self, shown: &HashSet<&MeetingId>, sent: Now) {
        self.listed_at = Some(sent);
        for (meeting, row) in &mut self.rooms {
            if shown.contains(meeting) {
                row.listed = true;
            } else if row.listed && row.broken == Broken::No && row.last.boot < sent.boot {
                row.broken = Broken::Unlisted;
            }
        }
    }

    /// A room is there. The row goes on if it is unbroken; where nothing is known of it, a job that saw it a moment ago,
    /// before a restart of the daemon or a reload, may vouch for it.
    pub(super) fn note(&mut self, meeting: &MeetingId, target: Option<&Target>, at: Now) -> Instance {
        let unbroken = |last: Now| at.boot.since(last.boot) <= UNBROKEN;
        let not_listed = self.listed_at.map(|at| (at, Broken::Unlisted));
        let before = self.rooms.remove(meeting);
        let parted = match &before {
            Some(row) if row.broken == Broken::No => row.parted,
            Some(row) => Some((row.last, row.broken)),
            None => not_listed,
        };
        let row = match before {
            Some(row) => Some(row).filter(|row| row.broken == Broken::No),
            None => target.and_then(|target| self.vouched(target)),
        };
        let row = row
            .filter(|row| unbroken(row.last))
            .unwrap_or_else(|| Row { parted, ..Row::new(name(meeting, at), at, at) });
        let instance = Instance {
            id: row.id.clone(),
            started_at: Some(row.first.wall),
            start: None,
            participants: None,
            listed: false,
            node: None,
            shown_at: None,
            asked_at: None,
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
        if let Some(row) = self.vouched(target)
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
            Some(row) => {
                row.broken == Broken::Called && target.instance.as_ref().is_some_and(|id| row.is(id))
            }
            // The daemon was restarted since.
            None => target.end_sent && target.pin.is_some(),
        }
    }

    /// The row that a job knows of, unless a list of all rooms has not shown it since.
    fn vouched(&self, target: &Target) -> Option<Row> {
        let pin = target.pin.as_ref().filter(|_| !target.end_sent)?;
        let unlisted = pin.listed && self.listed_at.is_some_and(|at| at.boot >= pin.last_live.boot);
        (!unlisted).then(|| row_of(pin))
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

/// The row of a pin.
fn row_of(pin: &Pin) -> Row {
    // Where it is not known when it started, it was there when it was last seen.
    let first = Now { wall: pin.started_at.unwrap_or(pin.last_live.wall), boot: pin.last_live.boot };
    Row::new(pin.instance.clone(), first, pin.last_live)
}

/// `4242@1764604800000`: the room, and the millisecond of its first sighting.
pub(super) fn name(meeting: &MeetingId, first: Now) -> InstanceId {
    InstanceId(format!("{meeting}@{}", first.wall.0))
}
