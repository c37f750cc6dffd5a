//! Which jobs a listing shows, in which order, page by page.
//!
//! By default the newest submission comes first, as it always has. `sort=due` is for people: what ends next comes first,
//! then what has no time yet, then what is done, newest first. The index of wakes gives that order without reading a
//! million waiting jobs: a waiting job never wakes after its due, so once the index has come as far as the last due that
//! is wanted, nothing earlier can follow.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Deserializer, de::Error};

use crate::job::{Job, JobId, State, UtcMs};
use crate::schedule::rule;
use crate::store::{Filter, Store, StoreError};

/// Jobs read from the store at a time.
const READ: usize = 1000;
const OPEN: &str = "due-";
const DONE: &str = "done-";

/// In which order.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Sort {
    /// The latest submission first.
    #[default]
    Newest,
    /// What ends next first, then what is done.
    Due,
}

/// Where the page before has ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Place {
    /// At this job, in the order of ids.
    Job(JobId),
    /// In the order of dues: at this one of the open jobs ...
    Open(UtcMs, JobId),
    /// ... or at this one of those that are done.
    Done(JobId),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Job(id) => write!(f, "{id}"),
            Place::Open(due, id) => write!(f, "{OPEN}{}-{id}", due.0),
            Place::Done(id) => write!(f, "{DONE}{id}"),
        }
    }
}

impl Place {
    fn read(text: &str) -> Option<Place> {
        if let Some(id) = text.strip_prefix(DONE) {
            return Some(Place::Done(id.parse().ok()?));
        }
        if let Some(rest) = text.strip_prefix(OPEN) {
            let (due, id) = rest.split_once('-')?;
            return Some(Place::Open(UtcMs(due.parse().ok()?), id.parse().ok()?));
        }
        text.parse().ok().map(Place::Job)
    }
}

impl<'de> Deserialize<'de> for Place {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Place, D::Error> {
        let text = String::deserialize(d)?;
        Place::read(&text)
            .ok_or_else(|| D::Error::custom(format!("{text:?} is no `next` that a page has given")))
    }
}

/// Which jobs are meant.
#[derive(Clone, Default)]
pub(super) struct Wanted {
    pub filter: Filter,
    pub meeting: Option<String>,
    /// Globs.
    pub matches: Option<String>,
    pub origin: Option<String>,
}

impl Wanted {
    fn passes(&self, job: &Job) -> bool {
        let Filter { states, server, outcomes, since, until } = &self.filter;
        (states.is_empty() || states.contains(&job.state))
            && server.as_ref().is_none_or(|server| job.server == *server)
            && (outcomes.is_empty() || job.outcome.is_some_and(|outcome| outcomes.contains(&outcome)))
            && since.is_none_or(|since| job.due >= since)
            && until.is_none_or(|until| job.due < until)
            && self.meeting.as_ref().is_none_or(|meeting| job.meeting.as_str() == meeting)
            && self.matches.as_ref().is_none_or(|glob| rule::matches(glob, job.meeting.as_str()))
            && self.origin.as_ref().is_none_or(|glob| rule::matches(glob, &job.origin.to_string()))
    }

    fn wants(&self, state: State) -> bool {
        let Filter { states, outcomes, .. } = &self.filter;
        (states.is_empty() || states.contains(&state)) && (outcomes.is_empty() || state == State::Done)
    }
}

/// A page of at most `limit` jobs, and where the next one begins.
pub(super) fn page(
    store: &dyn Store,
    wanted: &Wanted,
    sort: Sort,
    after: Option<Place>,
    limit: usize,
) -> Result<(Vec<Job>, Option<Place>), StoreError> {
    // One more than asked for tells whether there is a next page.
    let mut jobs = match (sort, after) {
        (Sort::Newest, Some(Place::Job(id))) => newest(store, wanted, Some(id), limit + 1)?,
        (Sort::Newest, _) => newest(store, wanted, None, limit + 1)?,
        (Sort::Due, after) => by_due(store, wanted, after, limit + 1)?,
    };
    let more = jobs.len() > limit;
    jobs.truncate(limit);
    let place = |job: &Job| match sort {
        Sort::Newest => Place::Job(job.id),
        Sort::Due if job.is_done() => Place::Done(job.id),
        Sort::Due => Place::Open(job.due, job.id),
    };
    let next = jobs.last().filter(|_| more).map(place);
    Ok((jobs, next))
}

fn newest(
    store: &dyn Store,
    wanted: &Wanted,
    mut before: Option<JobId>,
    limit: usize,
) -> Result<Vec<Job>, StoreError> {
    let mut jobs = Vec::new();
    loop {
        let page = store.page(&wanted.filter, before, READ)?;
        before = page.last().filter(|_| page.len() == READ).map(|job| job.id);
        jobs.extend(page.into_iter().filter(|job| wanted.passes(job)).take(limit - jobs.len()));
        if before.is_none() || jobs.len() == limit {
            return Ok(jobs);
        }
    }
}

fn by_due(
    store: &dyn Store,
    wanted: &Wanted,
    after: Option<Place>,
    limit: usize,
) -> Result<Vec<Job>, StoreError> {
    let mut jobs = match after {
        Some(Place::Done(_)) => Vec::new(),
        Some(Place::Open(due, id)) => open(store, wanted, Some((due, id)), limit)?,
        Some(Place::Job(_)) | None => open(store, wanted, None, limit)?,
    };
    if jobs.len() < limit && wanted.wants(State::Done) {
        let before = match after {
            Some(Place::Done(id)) => Some(id),
            _ => None,
        };
        let filter = Filter { states: vec![State::Done], ..wanted.filter.clone() };
        jobs.extend(newest(store, &Wanted { filter, ..wanted.clone() }, before, limit - jobs.len())?);
    }
    Ok(jobs)
}

/// The open jobs that are due first.
fn open(
    store: &dyn Store,
    wanted: &Wanted,
    after: Option<(UtcMs, JobId)>,
    limit: usize,
) -> Result<Vec<Job>, StoreError> {
    let mut soonest = Soonest { jobs: BTreeMap::new(), after, limit };
    let rest = |states: &[State], soonest: &mut Soonest| -> Result<(), StoreError> {
        let states: Vec<State> = states.iter().copied().filter(|state| wanted.wants(*state)).collect();
        if states.is_empty() {
            return Ok(());
        }
        let filter = Filter { states, ..wanted.filter.clone() };
        let mut before = None;
        loop {
            let page = store.page(&filter, before, READ)?;
            before = page.last().filter(|_| page.len() == READ).map(|job| job.id);
            page.into_iter().filter(|job| wanted.passes(job)).for_each(|job| soonest.offer(job));
            if before.is_none() {
                return Ok(());
            }
        }
    };
    // A held job may wake after its due, or never.
    if store.counts()?.get(&State::Held).is_some_and(|held| *held > 0) {
        rest(&[State::Held], &mut soonest)?;
    }
    let until = wanted.filter.until.unwrap_or(UtcMs::NEVER);
    let mut place: Option<(UtcMs, JobId)> = None;
    loop {
        let page = store.due_before(until, place, READ)?;
        place = page.last().filter(|_| page.len() == READ).and_then(|job| Some((job.index_wake()?, job.id)));
        for job in page {
            if !job.is_done() && job.state != State::Held && wanted.passes(&job) {
                soonest.offer(job);
            }
        }
        match place {
            Some((wake, _)) if !soonest.is_settled_from(wake) => {}
            Some(_) => return Ok(soonest.jobs.into_values().collect()),
            None => break,
        }
    }
    // Jobs that wait for the start of their meeting have no time to wake at.
    if soonest.jobs.len() < limit {
        rest(&[State::Waiting], &mut soonest)?;
    }
    Ok(soonest.jobs.into_values().collect())
}

/// At most so many jobs, those that are due first of all that were offered.
struct Soonest {
    jobs: BTreeMap<(UtcMs, JobId), Job>,
    after: Option<(UtcMs, JobId)>,
    limit: usize,
}

impl Soonest {
    fn offer(&mut self, job: Job) {
        let place = (job.due, job.id);
        if self.after.is_some_and(|after| place <= after) {
            return;
        }
        self.jobs.insert(place, job);
        if self.jobs.len() > self.limit {
            self.jobs.pop_last();
        }
    }

    /// Nothing that wakes then or later is due earlier than what is there.
    fn is_settled_from(&self, wake: UtcMs) -> bool {
        self.jobs.len() == self.limit && self.jobs.last_key_value().is_some_and(|((due, _), _)| *due < wake)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::fake::{FakeService, NOW, concluded, job};
    use super::*;
    use crate::job::{By, Fact, Outcome};

    const MINUTE: Duration = Duration::from_secs(60);

    /// Waiting, held past its due, waiting for a start, at work, done.
    fn jobs() -> Vec<Job> {
        let mut held = job(4, "d", MINUTE);
        held.record(NOW, Fact::Held { until: None, by: By::Schedule });
        let mut starting = job(5, "e", MINUTE);
        starting.due = UtcMs::NEVER;
        starting.awaits_start = true;
        let mut ending = job(6, "f", MINUTE);
        ending.state = State::Ending;
        ending.due = NOW.wall - MINUTE;
        let mut warned = job(2, "b", 20 * MINUTE);
        warned.limits.warn = vec![15 * MINUTE];
        let done = |n| concluded(job(n, "g", 5 * MINUTE), Outcome::Ended, "");
        vec![
            job(1, "a", 30 * MINUTE),
            warned,
            job(3, "c", 10 * MINUTE),
            held,
            starting,
            ending,
            done(7),
            done(8),
        ]
    }

    fn all(wanted: &Wanted, limit: usize) -> Vec<u8> {
        let service = FakeService::new(jobs());
        let (mut ids, mut after) = (Vec::new(), None);
        loop {
            let (page, next) = page(&*service.store, wanted, Sort::Due, after, limit).unwrap();
            assert!(page.len() <= limit);
            ids.extend(page.iter().map(|job| job.id.0.as_bytes()[15]));
            let Some(place) = next else { return ids };
            after = Place::read(&place.to_string());
            assert_eq!(after, Some(place));
        }
    }

    #[test]
    fn what_ends_next_comes_first_and_what_is_done_last_whatever_the_page() {
        for limit in 1..10 {
            assert_eq!(all(&Wanted::default(), limit), [6, 4, 3, 2, 1, 5, 8, 7], "{limit} a page");
        }
    }

    #[test]
    fn filters_hold_in_every_part() {
        let of = |states: &[State]| Filter { states: states.to_vec(), ..Filter::default() };
        let check = |wanted: Wanted, ids: &[u8]| assert_eq!(all(&wanted, 2), ids);
        check(Wanted { filter: of(&[State::Waiting]), ..Wanted::default() }, &[3, 2, 1, 5]);
        check(Wanted { filter: of(&[State::Held, State::Done]), ..Wanted::default() }, &[4, 8, 7]);
        let soon = Filter { until: Some(NOW.wall + 15 * MINUTE), ..Filter::default() };
        check(Wanted { filter: soon, ..Wanted::default() }, &[6, 4, 3, 8, 7]);
        let ended = Filter { outcomes: vec![Outcome::Ended], ..Filter::default() };
        check(Wanted { filter: ended, ..Wanted::default() }, &[8, 7]);
        check(Wanted { matches: Some("[ab]".into()), ..Wanted::default() }, &[]);
        check(Wanted { matches: Some("?".into()), meeting: Some("b".into()), ..Wanted::default() }, &[2]);
        check(Wanted { origin: Some("schedule:*".into()), ..Wanted::default() }, &[]);
    }
}
