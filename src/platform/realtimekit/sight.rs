//! What was heard of one meeting in a round, made into one raw sighting, or into the one question that is open. Pure.
//!
//! - A session that is shown as LIVE is alive, whatever else says no. Ghosts too: kick-all clears them.
//! - One record that says ENDED is proof; a complete walk without the session is half of one.
//! - A session that ends and one that begins between two pages can hide a third one from a walk that looks complete. From
//!   a walk of several pages an absence is taken only with the meeting's own answer; where too many are missing to ask for,
//!   with a first page that is the same when it is read again.
//! - 404 is no absence: a wrong meeting or app id says the same. The meeting has to be known there.
//! - kick-all hits the active session of the meeting. A look that may be followed by an end call (which the one that
//!   confirms may be too: a call is repeated while the session is alive) must have seen that very session: unless it is
//!   the only live one that a walk shows in its meeting, the meeting is asked which one is active, and any other is
//!   [`Sighting::Doubtful`].
//! - A meeting that is INACTIVE is not over. Nothing here asks for that.

use super::answer::{Problem, Session};
use super::walk::Walk;
use crate::job::{Evidence, Instance, InstanceId, Now, Purpose, ServerClock, Sighting, StartRange, UtcMs};
use crate::platform::Target;

/// What can be asked about one meeting.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Question {
    /// Which session is active?
    Active,
    /// What does the record of the pinned session say?
    Record,
    /// Is there such a meeting?
    Meeting,
}

/// The answers so far.
#[derive(Clone, PartialEq, Debug, Default)]
pub(super) struct Heard {
    pub(super) active: Option<Result<Session, Problem>>,
    pub(super) record: Option<Result<Session, Problem>>,
    pub(super) meeting: Option<Result<(), Problem>>,
    /// When the last of these answers came.
    pub(super) answered: UtcMs,
    /// When the first of these answers about a session came: what is concluded from several is as old as that one.
    pub(super) shown_at: Option<Now>,
}

/// What the round knows besides.
pub(super) struct Round<'a> {
    pub(super) walk: Option<&'a Walk>,
    /// So many are missing that they are not asked for where a complete walk can tell. One of several pages has had its
    /// first page read again then.
    pub(super) many_missing: bool,
}

/// Does this look precede an end call?
pub(super) fn precedes_end(purpose: Purpose) -> bool {
    matches!(purpose, Purpose::Pin | Purpose::Arm | Purpose::BeforeEnd | Purpose::Last)
}

/// Is it only a first look, long before an end call may leave?
pub(super) fn arms(purpose: Purpose) -> bool {
    matches!(purpose, Purpose::Pin | Purpose::Arm)
}

/// Does only something alive matter?
pub(super) fn only_watches(purpose: Purpose) -> bool {
    matches!(purpose, Purpose::Guard | Purpose::After)
}

pub(super) fn sight(target: &Target, round: &Round<'_>, heard: &Heard) -> Result<Sighting, Question> {
    match &target.instance {
        Some(pinned) if !only_watches(target.purpose) => known(target, pinned, round, heard),
        _ => unknown(target, round, heard),
    }
}

/// What runs in the meeting: what an end call would hit.
enum Running {
    One(Session),
    Nothing(Evidence),
    Unclear(Sighting),
}

fn unknown(target: &Target, round: &Round<'_>, heard: &Heard) -> Result<Sighting, Question> {
    let evidence = match running(target, round, heard)? {
        Running::One(session) => return Ok(round.live(&session, heard)),
        Running::Unclear(sighting) => return Ok(sighting),
        Running::Nothing(evidence) => evidence,
    };
    // Before due it is only a first look; under guard only something alive matters.
    if arms(target.purpose) || only_watches(target.purpose) {
        return Ok(Sighting::NotThere(evidence));
    }
    Ok(match heard.meeting.as_ref().ok_or(Question::Meeting)? {
        Ok(()) => Sighting::NotThere(evidence),
        Err(Problem::Missing(why)) => Sighting::Doubtful(format!(
            "not there, but the server knows no such meeting: wrong meeting id or app? ({why})"
        )),
        Err(problem) => problem.sighting(),
    })
}

fn running(target: &Target, round: &Round<'_>, heard: &Heard) -> Result<Running, Question> {
    let besides = target.instance.as_ref().filter(|_| !only_watches(target.purpose));
    let mut earliest = None;
    if let Some(walk) = round.walk {
        let live = others(walk, target, besides);
        match live.as_slice() {
            [one] => return Ok(Running::One((*one).clone())),
            [first, ..] if only_watches(target.purpose) => return Ok(Running::One((*first).clone())),
            [] if walk.shows_every_meeting(besides) && round.is_trusted(walk, target) => {
                return Ok(Running::Nothing(listed()));
            }
            _ => {}
        }
        earliest = live.first().copied().filter(|_| besides.is_some());
    }
    let info = Evidence { info: true, ..Evidence::default() };
    Ok(match heard.active.as_ref().ok_or(Question::Active)? {
        // The earlier one may belong to the deadline, the later one be the next class.
        Ok(active)
            if active.live
                && besides != Some(&active.id)
                && earliest.is_some_and(|first| first.id != active.id) =>
        {
            Running::Unclear(Sighting::Doubtful(format!(
                "several sessions live in the meeting, and not the earliest of them, but {} is the active one",
                active.id
            )))
        }
        Ok(session) if session.live => Running::One(session.clone()),
        Ok(_) | Err(Problem::Missing(_)) => Running::Nothing(info),
        Err(problem @ Problem::NotNow { .. }) => {
            let gap = round.walk.and_then(|walk| walk.gap.as_ref());
            Running::Unclear(gap.unwrap_or(problem).sighting())
        }
        Err(problem) => Running::Unclear(problem.sighting()),
    })
}

/// The live sessions of the meeting but the pinned one, the earliest start first.
fn others<'a>(walk: &'a Walk, target: &Target, besides: Option<&InstanceId>) -> Vec<&'a Session> {
    let live = walk.live_in(target.meeting.as_str()).into_iter();
    live.filter(|session| besides != Some(&session.id)).collect()
}

fn known(
    target: &Target,
    pinned: &InstanceId,
    round: &Round<'_>,
    heard: &Heard,
) -> Result<Sighting, Question> {
    if let Some(row) = round.walk.and_then(|walk| walk.get(pinned)) {
        return if row.live { alive(target, row, round, heard) } else { over(target, round, heard) };
    }
    // One request, and it says what an end call would hit.
    if precedes_end(target.purpose) && round.walk.is_none() {
        match running(target, round, heard)? {
            Running::One(session) if session.id == *pinned => return Ok(round.live(&session, heard)),
            Running::Unclear(sighting) => return Ok(sighting),
            Running::One(_) | Running::Nothing(_) => {}
        }
    }
    let shown = round.walk.and_then(|walk| walk.live_in(target.meeting.as_str()).into_iter().next());
    let absent = shown.is_none() && round.walk.is_some_and(|walk| walk.shows_every_meeting(Some(pinned)));
    if absent && round.many_missing {
        return Ok(Sighting::NotThere(listed()));
    }
    match heard.record.as_ref().ok_or(Question::Record)? {
        Ok(record) if record.id != *pinned => Ok(Sighting::Doubtful(format!(
            "asked for session {pinned}, the server answered with {}",
            record.id
        ))),
        Ok(record) if record.live => alive(target, record, round, heard),
        Ok(_) => over(target, round, heard),
        Err(_) if absent && round.walk.is_some_and(|walk| walk.pages == 1) => {
            Ok(Sighting::NotThere(listed()))
        }
        Err(_) if absent => without_record(target, round, heard),
        Err(problem) => Ok(shown.map_or_else(|| problem.sighting(), |other| round.live(other, heard))),
    }
}

/// A walk of several pages does not show the pinned session, and its record tells nothing: the meeting has to.
fn without_record(target: &Target, round: &Round<'_>, heard: &Heard) -> Result<Sighting, Question> {
    Ok(match running(target, round, heard)? {
        Running::One(session) => round.live(&session, heard),
        Running::Unclear(sighting) => sighting,
        Running::Nothing(_) => match heard.meeting.as_ref().ok_or(Question::Meeting)? {
            Ok(()) => Sighting::NotThere(listed()),
            Err(problem) => problem.sighting(),
        },
    })
}

/// The pinned session lives. Would an end call hit it?
fn alive(target: &Target, pinned: &Session, round: &Round<'_>, heard: &Heard) -> Result<Sighting, Question> {
    let meeting = target.meeting.as_str();
    let at_home = pinned.meeting.as_deref().is_none_or(|its| its == meeting);
    // Also where the walk has a gap: while many sessions end, every walk has one.
    let alone = round.walk.is_some_and(|walk| {
        walk.get(&pinned.id).is_some_and(|row| row.live)
            && !walk.hides_a_meeting(Some(&pinned.id))
            && others(walk, target, Some(&pinned.id)).is_empty()
    });
    if at_home && alone {
        return Ok(round.live(pinned, heard));
    }
    Ok(match heard.active.as_ref().ok_or(Question::Active)? {
        Ok(active) if active.live && active.id != pinned.id => Sighting::Doubtful(format!(
            "session {} is alive, but {} is the active one of the meeting, and a kick-all would hit that one",
            pinned.id, active.id
        )),
        Ok(_) | Err(Problem::Missing(_)) if at_home => round.live(pinned, heard),
        Ok(active) if active.live => round.live(pinned, heard),
        Ok(_) | Err(Problem::Missing(_)) => Sighting::Doubtful(format!(
            "session {} is alive, but in the meeting {}, not in this one",
            pinned.id,
            pinned.meeting.as_deref().unwrap_or_default()
        )),
        Err(problem) => problem.sighting(),
    })
}

/// The pinned session has ended. Does another one live in the meeting?
fn over(target: &Target, round: &Round<'_>, heard: &Heard) -> Result<Sighting, Question> {
    Ok(match running(target, round, heard)? {
        // The two answers contradict each other; whoever says alive is believed.
        Running::One(session) if target.instance.as_ref() == Some(&session.id) => round.live(&session, heard),
        Running::One(next) => {
            let next = Instance { listed: false, ..round.instance(&next, heard) };
            Sighting::Over { next: Some(next) }
        }
        Running::Nothing(_) => Sighting::Over { next: None },
        Running::Unclear(Sighting::Doubtful(why)) => {
            Sighting::Doubtful(format!("it has ended, but whether another session lives is not known: {why}"))
        }
        Running::Unclear(sighting) => sighting,
    })
}

impl Round<'_> {
    /// Does what the walk does not show need no answer of the meeting's own?
    fn is_trusted(&self, walk: &Walk, target: &Target) -> bool {
        let proves_nothing = arms(target.purpose) || only_watches(target.purpose);
        walk.pages == 1 || self.many_missing || proves_nothing
    }

    fn live(&self, session: &Session, heard: &Heard) -> Sighting {
        Sighting::Live(self.instance(session, heard))
    }

    fn instance(&self, session: &Session, heard: &Heard) -> Instance {
        let listing = self.walk.filter(|walk| walk.get(&session.id).is_some());
        let shown_at = listing.and_then(|walk| walk.shown_at).or(heard.shown_at);
        Instance {
            shown_at,
            ..session
                .instance(listing.is_some(), |at| StartRange::told(at, ServerClock::Unknown, heard.answered))
        }
    }
}

fn listed() -> Evidence {
    Evidence { listing: true, ..Evidence::default() }
}

#[cfg(test)]
mod tests;
