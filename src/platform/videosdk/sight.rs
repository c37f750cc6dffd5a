//! What was heard in a round, made into raw sightings; and what is still to be asked. Pure.
//!
//! A session is over when its own record says so; a listing without it says nothing about it, and neither does a record that
//! cannot be found (any more). The same for the room: `Over` also wants to know what else is live there. Only of a meeting
//! of which no session is known does a complete listing without it say that it is not there, and even then not where the
//! name may be the custom id of a room that is listed by another one. That nothing (else) is live in a room, the listing of
//! everything says only where it is one page; otherwise the room's own listing does.

use std::collections::BTreeMap;

use super::Version;
use super::answer::{Problem, Session, is_usable};
use super::listing::{Gap, Listing};
use crate::job::{Evidence, InstanceId, MeetingId, Sighting, UtcMs};
use crate::platform::Target;
use crate::platform::rest::Told;

/// Everything that a round has heard so far.
pub(super) struct Heard {
    pub version: Version,
    /// Of everything that is live.
    pub listing: Option<Listing>,
    pub records: BTreeMap<InstanceId, Result<Session, Problem>>,
    pub rooms: BTreeMap<MeetingId, Listing>,
    /// By the id that somebody else gave the room.
    pub custom_rooms: BTreeMap<MeetingId, Listing>,
}

impl Heard {
    pub fn nothing(version: Version) -> Heard {
        Heard {
            version,
            listing: None,
            records: BTreeMap::new(),
            rooms: BTreeMap::new(),
            custom_rooms: BTreeMap::new(),
        }
    }

    /// The session whose record would tell more of the target.
    pub fn wants_record<'a>(&self, target: &'a Target) -> Option<&'a InstanceId> {
        let id = target.instance.as_ref().filter(|id| is_usable(id))?;
        let shown = self.view(&target.meeting).and_then(|view| view.live_session(id));
        shown.is_none().then_some(id)
    }

    /// Would a listing of its room tell more?
    pub fn wants_room(&self, target: &Target) -> bool {
        let view = self.view(&target.meeting);
        let besides = target.instance.as_ref();
        if view.is_some_and(|view| {
            self.shows_absence(target, view) || view.live_in(&target.meeting, besides, |_| None).is_some()
        }) {
            return false;
        }
        match besides {
            None => true,
            Some(id) => match self.records.get(id) {
                Some(Ok(record)) => record.over,
                Some(Err(problem)) => target.pin.is_none() && is_not_found(problem),
                None => false,
            },
        }
    }

    /// Nothing is live under this name: is it a custom id?
    pub fn wants_custom_room(&self, target: &Target) -> bool {
        self.needs_custom_room(target)
            && self.rooms.get(&target.meeting).is_some_and(|room| {
                room.is_complete()
                    && room.live_in(&target.meeting, None, |_| None).is_none()
                    && !room.is_occupied(&target.meeting)
            })
    }

    /// The listing of everything shows custom ids, that of one room cannot.
    fn needs_custom_room(&self, target: &Target) -> bool {
        let listed = self.listing.as_ref().is_some_and(Listing::is_of_one_moment);
        self.version == Version::V2 && target.instance.is_none() && !listed
    }

    /// May what the view does not show be taken as not there?
    fn shows_absence(&self, target: &Target, view: &Listing) -> bool {
        view.is_of_one_moment() || (self.rooms.contains_key(&target.meeting) && view.is_complete())
    }

    /// All of them live, without another question.
    pub fn shows_all(listing: &Listing, targets: &[Target]) -> bool {
        targets.iter().all(|target| match &target.instance {
            Some(id) => listing.live_session(id).is_some(),
            None => listing.live_in(&target.meeting, None, |_| None).is_some(),
        })
    }

    /// What shows the room best.
    fn view(&self, meeting: &MeetingId) -> Option<&Listing> {
        self.rooms.get(meeting).or(self.listing.as_ref())
    }
}

/// `told`: what a start is worth.
pub(super) fn sight(target: &Target, heard: &Heard, told: impl Fn(UtcMs) -> Told) -> Sighting {
    let Some(id) = &target.instance else { return besides(None, target, heard, told) };
    if !is_usable(id) {
        return Sighting::Doubtful(format!("no request can ask for the session {:?}", id.as_str()));
    }
    let shown = heard.view(&target.meeting).and_then(|view| view.live_session(id));
    let (session, listed) = match (heard.records.get(id), shown) {
        // Whatever a listing still shows: sessions do not come back.
        (Some(Ok(record)), _) => (record, false),
        (_, Some(session)) => (session, true),
        (Some(Err(problem)), None) => return without_record(id, problem, target, heard, told),
        (None, None) => return not_asked("the record of the session"),
    };
    if let Some(room) = session.room.as_ref().filter(|room| **room != target.meeting.0) {
        return Sighting::Doubtful(format!(
            "session {id} is one of the room {room}, not of {}",
            target.meeting
        ));
    }
    if !session.over {
        let instance = session.instance(listed, told);
        return instance.map_or_else(|| not_asked("a session with an id"), Sighting::Live);
    }
    match besides(Some(id), target, heard, told) {
        Sighting::Live(next) => Sighting::Over { next: Some(next) },
        Sighting::NotThere(_) => Sighting::Over { next: None },
        Sighting::Doubtful(why) => {
            Sighting::Doubtful(format!("session {id} is over, but not what else is live in its room: {why}"))
        }
        other => other,
    }
}

/// What is in the room besides the session that is over, or at all.
fn besides(
    id: Option<&InstanceId>,
    target: &Target,
    heard: &Heard,
    told: impl Fn(UtcMs) -> Told,
) -> Sighting {
    let meeting = &target.meeting;
    let Some(view) = heard.view(meeting) else { return not_asked("the listing of its room") };
    if let Some(live) = view.live_in(meeting, id, told) {
        return Sighting::Live(live);
    }
    if view.is_occupied(meeting) {
        return Sighting::Occupied;
    }
    if let Some(gap) = &view.gap {
        return gap.sighting();
    }
    if !heard.shows_absence(target, view) {
        return not_asked("the listing of its room");
    }
    if view.hides_a_room() {
        return Sighting::Doubtful("a live session does not say in which room it is".to_owned());
    }
    custom_room(target, view, heard).unwrap_or(Sighting::NotThere(Evidence {
        listing: true,
        info: false,
        node: false,
    }))
}

/// What keeps a name from being absent: it may be a custom id, by which nothing here is asked for.
fn custom_room(target: &Target, view: &Listing, heard: &Heard) -> Option<Sighting> {
    let meeting = &target.meeting;
    let by_custom = heard.custom_rooms.get(meeting);
    let live = by_custom.into_iter().chain([view]).flat_map(Listing::live);
    let mut aliases = live.filter(|session| session.custom_room.as_deref() == Some(meeting.as_str()));
    if let Some(alias) = aliases.next() {
        let room = alias.room.as_deref().unwrap_or("not told");
        return Some(Sighting::Doubtful(format!(
            "{meeting} is the custom id of a live room: name the meeting by its room id, {room}"
        )));
    }
    if !heard.needs_custom_room(target) {
        return None;
    }
    match by_custom.map(|listing| &listing.gap) {
        None => Some(not_asked("the listing by custom room id")),
        Some(None) => None,
        // There is no such custom id.
        Some(Some(Gap::Problem(Problem::Refused { .. }))) => None,
        Some(Some(gap)) => Some(gap.sighting()),
    }
}

fn without_record(
    id: &InstanceId,
    problem: &Problem,
    target: &Target,
    heard: &Heard,
    told: impl Fn(UtcMs) -> Told,
) -> Sighting {
    if !is_not_found(problem) {
        return problem.sighting();
    }
    if target.pin.is_none() {
        // A session that was only ever named: nothing is known that could have been lost.
        return besides(Some(id), target, heard, told);
    }
    Sighting::Doubtful(format!(
        "the record of session {id} is not found, which proves nothing: {}",
        problem.why()
    ))
}

fn is_not_found(problem: &Problem) -> bool {
    matches!(problem, Problem::Refused { status: 402 | 404, .. })
}

fn not_asked(what: &str) -> Sighting {
    Sighting::Doubtful(format!("{what} was not asked for in this round, which had too many to ask for"))
}

#[cfg(test)]
mod tests;
