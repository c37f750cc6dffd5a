//! What an entry of the file, read by itself, says of a job that it made: without a feed, and without any other
//! occurrence. It is known as soon as the file is, so no deadline has to wait for more than this.

use std::collections::{HashMap, HashSet};

use super::feed::Feeds;
use super::model::{Entry, Recurring, Schedule};
use super::rule;
use crate::job::{Job, Origin, UtcMs};

/// What becomes of a job, as far as its own entry tells.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Own {
    /// Nothing is said against it.
    Stands,
    /// The entry says something else now: the plan has to tell what becomes of the job.
    Changed,
    /// The entry is gone, or does not want this job any more.
    Gone,
}

/// The entries of a schedule by their names.
pub struct OwnEntries<'a> {
    schedule: &'a Schedule,
    feeds: &'a Feeds,
    entries: HashMap<&'a str, &'a Entry>,
    recurring: HashMap<&'a str, &'a Recurring>,
    ends: HashSet<&'a str>,
}

impl<'a> OwnEntries<'a> {
    /// `feeds`: what is known of them already, if anything.
    pub fn new(schedule: &'a Schedule, feeds: &'a Feeds) -> OwnEntries<'a> {
        OwnEntries {
            schedule,
            feeds,
            entries: schedule.entries.iter().map(|entry| (entry.identity.as_str(), entry)).collect(),
            recurring: schedule.recurring.iter().map(|entry| (entry.name.as_str(), entry)).collect(),
            ends: schedule.calendar_ends.iter().map(|end| end.name.as_str()).collect(),
        }
    }

    pub fn say(&self, job: &Job) -> Own {
        let Origin::Schedule { name, of, planned } = &job.origin else { return Own::Stands };
        // What a sweep made is for the next sweep to withdraw: it knows what is live.
        if rule::is_from_sweep(job) {
            return Own::Stands;
        }
        match of {
            None => self.entries.get(name.as_str()).map_or(Own::Gone, |entry| of_entry(entry, job, *planned)),
            Some(of) => match self.recurring.get(of.as_str()) {
                Some(recurring) => self.of_recurring(recurring, job, *planned),
                None if self.ends.contains(of.as_str()) => Own::Stands,
                None => Own::Gone,
            },
        }
    }

    fn of_recurring(&self, recurring: &Recurring, job: &Job, planned: UtcMs) -> Own {
        let Recurring { server, meeting, recurrence, days, .. } = recurring;
        // Another job is made of what an occurrence has become.
        if *server != job.server || *meeting != job.meeting || !recurrence.fires_at(planned) {
            return Own::Gone;
        }
        let allowed = days.allows(&self.schedule.calendars, self.feeds, planned, recurrence.zone());
        if allowed.is_ok() { Own::Stands } else { Own::Changed }
    }
}

fn of_entry(entry: &Entry, job: &Job, planned: UtcMs) -> Own {
    let same = entry.server == job.server && entry.meeting == job.meeting && entry.instance == job.only;
    if same && entry.at == planned { Own::Stands } else { Own::Changed }
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;
    use uuid::Uuid;

    use super::*;
    use crate::job::{By, JobId, Limits, Now, Order};
    use crate::schedule::{Days, Dst, Recurrence};

    const NOON: UtcMs = UtcMs(1_793_534_400_000);
    const HOUR: std::time::Duration = std::time::Duration::from_secs(3600);

    fn job(name: &str, of: Option<&str>, planned: UtcMs) -> Job {
        let origin = Origin::Schedule { name: name.to_owned(), of: of.map(str::to_owned), planned };
        let order = Order {
            id: JobId(Uuid::nil()),
            server: "campus".into(),
            meeting: "math".into(),
            only: None,
            key: None,
            limits: Limits::default(),
            at_most: None,
            max_duration: None,
            due: planned,
            origin,
            by: By::Schedule,
        };
        Job::submit(order, Now::default())
    }

    fn exam() -> Entry {
        Entry {
            identity: "exam".to_owned(),
            of: None,
            server: "campus".into(),
            meeting: "math".into(),
            instance: None,
            at: NOON,
            limits: Limits::default(),
        }
    }

    fn daily() -> Recurring {
        Recurring {
            name: "daily".to_owned(),
            server: "campus".into(),
            meeting: "math".into(),
            recurrence: Recurrence::new("0 12 * * *", TimeZone::UTC, Dst::Wall).unwrap(),
            days: Days::default(),
            limits: Limits::default(),
        }
    }

    #[track_caller]
    fn check(schedule: &Schedule, job: &Job, expected: Own) {
        assert_eq!(OwnEntries::new(schedule, &Feeds::default()).say(job), expected);
    }

    #[test]
    fn an_entry_with_a_time() {
        let with = |entry: Entry| Schedule { entries: vec![entry], ..Schedule::default() };
        let job = job("exam", None, NOON);
        check(&with(exam()), &job, Own::Stands);
        check(&with(Entry { at: NOON + HOUR, ..exam() }), &job, Own::Changed);
        check(&with(Entry { meeting: "physics".into(), ..exam() }), &job, Own::Changed);
        check(&Schedule::default(), &job, Own::Gone);
    }

    #[test]
    fn an_occurrence_of_a_recurring_entry() {
        let with = |entry: Recurring| Schedule { recurring: vec![entry], ..Schedule::default() };
        let of = |planned| job("daily@x", Some("daily"), planned);
        check(&with(daily()), &of(NOON), Own::Stands);
        check(&with(daily()), &of(NOON + HOUR), Own::Gone);
        check(&with(Recurring { meeting: "physics".into(), ..daily() }), &of(NOON), Own::Gone);
        check(&with(Recurring { server: "events".into(), ..daily() }), &of(NOON), Own::Gone);
        check(&Schedule::default(), &of(NOON), Own::Gone);
    }

    /// The next sweep knows what is live, and the feed has not been read yet.
    #[test]
    fn what_only_a_sweep_or_a_feed_can_tell_stands() {
        let mut swept = job("four-hours", None, NOON);
        check(&Schedule::default(), &swept, Own::Gone);
        swept.key = Some(crate::job::Key { key: "rule:four-hours".into(), fingerprint: String::new() });
        check(&Schedule::default(), &swept, Own::Stands);
        let lectures = crate::schedule::CalendarEnd {
            name: "lectures".to_owned(),
            server: "campus".into(),
            source: crate::schedule::Source::File("lectures.ics".into()),
            property: "LOCATION".to_owned(),
            pattern: None,
            skip: None,
            timezone: None,
            days: Days::default(),
            limits: Limits::default(),
        };
        let event = job("lectures/event", Some("lectures"), NOON);
        check(&Schedule { calendar_ends: vec![lectures], ..Schedule::default() }, &event, Own::Stands);
        check(&Schedule::default(), &event, Own::Gone);
    }

    #[test]
    fn a_day_that_is_excepted_is_for_the_plan_to_tell() {
        let days = Days { except: vec!["holidays".to_owned()], ..Days::default() };
        let noon = jiff::Timestamp::from_millisecond(NOON.0).unwrap().to_zoned(TimeZone::UTC).date();
        let dates = vec![crate::schedule::DateRange { first: noon, last: noon }];
        let calendars =
            [("holidays".to_owned(), crate::schedule::Calendar { dates, ..Default::default() })].into();
        let recurring = vec![Recurring { days, ..daily() }];
        let schedule = Schedule { recurring, calendars, ..Schedule::default() };
        check(&schedule, &job("daily@x", Some("daily"), NOON), Own::Changed);
    }
}
