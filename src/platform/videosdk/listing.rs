//! Walking the pages of a listing.
//!
//! Pages are cut by offset, so while one session ends the next page skips one. A walk is complete only if its pages agree on
//! how many there are and on the total, and together show as many. Otherwise it is made again, a few times, unless it has
//! shown all that was looked for; what the last walk showed is still good for what was seen, but proves nothing about what
//! was not.
//!
//! Over several pages that is no proof either: where one session ends and another begins between two pages, the totals agree
//! and a live session may be on neither. So what is not live is taken from a listing of everything only if that is one page.

use std::collections::BTreeSet;

use super::answer::{Page, Problem, Session};
use super::requests::{Api, PER_PAGE, Which};
use crate::job::{Instance, InstanceId, MeetingId, Sighting, UtcMs};
use crate::platform::rest::Told;

/// Pages of one listing, at most.
const MOST_PAGES: u64 = 50;
/// Walks over a listing that moves under our feet.
const WALKS: usize = 3;

/// What the last walk showed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Listing {
    pub sessions: Vec<Session>,
    /// Why something may be missing.
    pub gap: Option<Gap>,
    /// How many there are, where the first one said so.
    pub pages: u64,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Gap {
    /// It changed while it was read, or contradicts itself.
    Moved(String),
    TooLong(String),
    Problem(Problem),
}

impl Gap {
    pub fn sighting(&self) -> Sighting {
        match self {
            Gap::Moved(why) | Gap::TooLong(why) => Sighting::Doubtful(why.clone()),
            Gap::Problem(problem) => problem.sighting(),
        }
    }
}

impl Problem {
    pub fn sighting(&self) -> Sighting {
        let why = self.why().to_owned();
        match self {
            Problem::Unreachable { .. } | Problem::Throttled { .. } => Sighting::Unreachable(why),
            Problem::Misconfigured(_) => Sighting::Misconfigured(why),
            Problem::Refused { .. } | Problem::Unclear(_) => Sighting::Doubtful(why),
        }
    }
}

impl Listing {
    pub fn is_complete(&self) -> bool {
        self.gap.is_none()
    }

    /// Every page of it is of the same moment.
    pub fn is_of_one_moment(&self) -> bool {
        self.is_complete() && self.pages <= 1
    }

    pub fn live(&self) -> impl Iterator<Item = &Session> {
        self.sessions.iter().filter(|session| !session.over)
    }

    pub fn live_session(&self, id: &InstanceId) -> Option<&Session> {
        self.live().find(|session| session.id.as_ref() == Some(id))
    }

    /// What is live in a room besides this session; of several the one that has been there longest.
    pub fn live_in(
        &self,
        meeting: &MeetingId,
        besides: Option<&InstanceId>,
        told: impl Fn(UtcMs) -> Told,
    ) -> Option<Instance> {
        let there = self.live().filter(|session| session.is_in(meeting));
        let instances = there.filter_map(|session| session.instance(true, &told));
        let others = instances.filter(|instance| besides != Some(&instance.id));
        others.min_by_key(|instance| instance.started_at.unwrap_or(UtcMs::MAX))
    }

    /// Is something live there that has no id?
    pub fn is_occupied(&self, meeting: &MeetingId) -> bool {
        self.live().any(|session| session.is_in(meeting) && session.instance(true, |_| None).is_none())
    }

    /// Is something live of which it is not said where?
    pub fn hides_a_room(&self) -> bool {
        self.live().any(|session| session.room.is_none())
    }
}

/// `hear` is told of each answer, as soon as it is there. A listing that shows `enough` is not walked again.
pub(super) async fn walk(
    api: &Api,
    which: Which<'_>,
    hear: impl Fn(Option<&Problem>),
    enough: impl Fn(&Listing) -> bool,
) -> Listing {
    let mut listing = once(api, which, &hear).await;
    for _ in 1..WALKS {
        if !matches!(listing.gap, Some(Gap::Moved(_))) || enough(&listing) {
            break;
        }
        listing = once(api, which, &hear).await;
    }
    listing
}

async fn once(api: &Api, which: Which<'_>, hear: impl Fn(Option<&Problem>)) -> Listing {
    let mut walk = Walk::default();
    walk.make(api, which, hear).await;
    let pages = walk.shape.map_or(0, |(last, _)| last);
    Listing { sessions: walk.sessions, gap: walk.gap, pages }
}

#[derive(Default)]
struct Walk {
    sessions: Vec<Session>,
    /// What all pages must agree on: the number of the last one, and the total.
    shape: Option<(u64, u64)>,
    gap: Option<Gap>,
}

impl Walk {
    async fn make(&mut self, api: &Api, which: Which<'_>, hear: impl Fn(Option<&Problem>)) {
        let mut number = 1;
        loop {
            let page = api.page(which, number, PER_PAGE).await;
            hear(page.as_ref().err());
            let goes_on = page.map_err(Gap::Problem).and_then(|page| self.take(number, page));
            match goes_on {
                Ok(true) => number += 1,
                Ok(false) => return,
                Err(gap) => {
                    self.gap = Some(match gap {
                        Gap::Moved(why) => Gap::Moved(format!("{}: {why}", api.reader.label)),
                        Gap::TooLong(why) => Gap::TooLong(format!("{}: {why}", api.reader.label)),
                        problem => problem,
                    });
                    return;
                }
            }
        }
    }

    /// Is there another page?
    fn take(&mut self, number: u64, page: Page) -> Result<bool, Gap> {
        let moved = |why: &str| Err(Gap::Moved(format!("the listing of sessions {why}")));
        let shape = (page.last, page.total);
        self.sessions.extend(page.sessions);
        if page.number.is_some_and(|shown| shown != number) {
            return moved("shows another page than the one that was asked for");
        }
        if *self.shape.get_or_insert(shape) != shape {
            return moved("changed while it was read");
        }
        if page.last > MOST_PAGES {
            let why = format!("the listing of sessions has {} pages, more than {MOST_PAGES}", page.last);
            return Err(Gap::TooLong(why));
        }
        if number < page.last {
            return Ok(true);
        }
        if self.distinct() < page.total {
            return moved("shows fewer sessions than it says to have");
        }
        Ok(false)
    }

    /// What has no id may be anything: each counts.
    fn distinct(&self) -> u64 {
        let ids: BTreeSet<&InstanceId> =
            self.sessions.iter().filter_map(|session| session.id.as_ref()).collect();
        let nameless = self.sessions.iter().filter(|session| session.id.is_none()).count();
        (ids.len() + nameless) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::StartRange;

    fn session(id: &str) -> Session {
        Session { id: Some(InstanceId::from(id)), room: Some(format!("room of {id}")), ..Session::default() }
    }

    fn page(ids: &[&str], number: u64, last: u64, total: u64) -> Page {
        let sessions = ids.iter().map(|id| session(id)).collect();
        Page { sessions, number: Some(number), last, total }
    }

    /// The outcome of the last page taken.
    #[track_caller]
    fn check(pages: &[Page], expected: Result<bool, &str>) {
        let mut walk = Walk::default();
        let mut outcome = Ok(true);
        for (page, number) in pages.iter().zip(1..) {
            assert_eq!(outcome, Ok(true), "page {number} would not be asked for");
            outcome = walk.take(number, page.clone());
        }
        match (&outcome, expected) {
            (Err(Gap::Moved(why) | Gap::TooLong(why)), Err(part)) => assert!(why.contains(part), "{why}"),
            (outcome, expected) => assert_eq!(outcome.clone().ok(), expected.ok()),
        }
    }

    #[test]
    fn a_walk_is_complete_if_its_pages_agree_and_show_the_total() {
        check(&[page(&["a", "b"], 1, 2, 3)], Ok(true));
        check(&[page(&["a", "b"], 1, 2, 3), page(&["c"], 2, 2, 3)], Ok(false));
        check(&[page(&[], 1, 0, 0)], Ok(false));
        check(&[page(&[], 1, 1, 0)], Ok(false));
        check(&[Page { number: None, ..page(&["a"], 1, 1, 1) }], Ok(false));
        check(&[page(&["a"], 1, 50, 1)], Ok(true));
    }

    #[test]
    fn a_listing_that_moves_is_not_complete() {
        check(&[page(&["a", "b"], 1, 2, 4), page(&["c"], 2, 2, 3)], Err("changed"));
        check(&[page(&["a", "b"], 1, 3, 5), page(&["c"], 2, 2, 5)], Err("changed"));
        check(&[page(&["a", "b"], 1, 2, 4), page(&["b", "c"], 2, 2, 4)], Err("fewer"));
        check(&[page(&["a", "b"], 1, 2, 3), page(&[], 2, 2, 3)], Err("fewer"));
        check(&[page(&["a", "b"], 1, 2, 4), page(&["a", "b"], 1, 2, 4)], Err("another page"));
        check(&[page(&["a"], 1, 51, 51)], Err("more than 50"));
    }

    #[test]
    fn sessions_without_an_id_count_as_shown() {
        let nameless = Page { sessions: vec![Session::default(); 2], ..page(&[], 1, 1, 2) };
        check(&[nameless], Ok(false));
    }

    #[test]
    fn of_several_the_first_to_start_is_taken() {
        let room = MeetingId::from("r");
        let with = |id: &str, started: Option<i64>, over| Session {
            room: Some("r".to_owned()),
            started_at: started.map(UtcMs),
            over,
            ..session(id)
        };
        let listing = Listing {
            sessions: vec![
                with("late", Some(9), false),
                with("unknown", None, false),
                with("early", Some(5), false),
                with("over", Some(1), true),
                Session { room: Some("R".to_owned()), ..with("elsewhere", Some(1), false) },
            ],
            gap: None,
            pages: 1,
        };
        let id = |besides: Option<&str>| {
            let besides = besides.map(InstanceId::from);
            listing
                .live_in(&room, besides.as_ref(), |at| Some((at, StartRange::around(at))))
                .map(|instance| instance.id.0)
        };
        assert_eq!(id(None).as_deref(), Some("early"));
        assert_eq!(id(Some("early")).as_deref(), Some("late"));
        assert_eq!(listing.live_in(&MeetingId::from("other"), None, |_| None), None);
        assert!(!listing.is_occupied(&room) && !listing.hides_a_room());
    }
}
