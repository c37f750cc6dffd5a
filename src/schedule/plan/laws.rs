//! Expansion and plan together, over any course of time: edits, ticks that come late, and days without a daemon.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use proptest::prelude::*;
use uuid::Uuid;

use super::tests::planned_for;
use super::*;
use crate::job::{
    BootMs, By, Change, Fact, Limits, MeetingId, Now, Order, Origin, Outcome, ServerName, State,
};
use crate::schedule::{Days, Dst, Feeds, Recurrence, Recurring, Schedule, expand};

const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;
const AHEAD: i64 = 48 * HOUR;
const LATE: i64 = 24 * HOUR;

/// Each comes at least once in 48 hours somewhere, and none of them twice a minute.
const EXPRESSIONS: [(&str, &str); 6] = [
    ("30 2 * * *", "Europe/Berlin"),
    ("15 10 * * Mon-Fri", "Europe/Berlin"),
    ("0 */5 * * *", "America/New_York"),
    ("*/40 1-3 * * SUN", "Australia/Lord_Howe"),
    ("0 12 1,15 * *", "Asia/Kathmandu"),
    ("45 */3 * * *", "Europe/Berlin"),
];

/// What happens next.
#[derive(Clone, Debug)]
enum Step {
    /// So many minutes pass, with a tick at their end.
    Tick(i64),
    /// So many hours pass without a daemon.
    Down(i64),
    /// The entry has another expression.
    Edit(usize),
    /// It is not in the file for so many hours.
    Without(i64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (1_i64..20 * 60).prop_map(Step::Tick),
        2 => (1_i64..2 * 60).prop_map(Step::Tick),
        2 => (1_i64..100).prop_map(Step::Down),
        1 => (0..EXPRESSIONS.len()).prop_map(Step::Edit),
        1 => (1_i64..100).prop_map(Step::Without),
    ];
    prop::collection::vec(step, 1..25)
}

struct World {
    schedule: Schedule,
    now: UtcMs,
    jobs: Vec<Job>,
}

impl World {
    fn new(expression: usize, now: UtcMs) -> World {
        let mut world = World { schedule: Schedule::default(), now, jobs: Vec::new() };
        world.schedule.ahead = Duration::from_millis(AHEAD.unsigned_abs());
        world.edit(expression);
        world
    }

    fn edit(&mut self, expression: usize) {
        let (cron, zone) = EXPRESSIONS[expression];
        self.schedule.recurring = vec![Recurring {
            name: "a".to_owned(),
            server: ServerName::from("campus"),
            meeting: MeetingId::from("room"),
            recurrence: Recurrence::new(cron, TimeZone::get(zone).unwrap(), Dst::Wall).unwrap(),
            days: Days::default(),
            limits: Limits::default(),
        }];
    }

    /// What a tick does. `Err`: a law that is broken.
    fn tick(&mut self) -> Result<Vec<Action>, String> {
        let actions = self.plan();
        for action in &actions {
            self.apply(action)?;
        }
        match self.plan() {
            none if none.is_empty() => Ok(actions),
            more => Err(format!("the same again is not nothing: {more:?}")),
        }
    }

    fn plan(&self) -> Vec<Action> {
        let expansion = expand(&self.schedule, &Feeds::default(), self.now);
        planned_for(&expansion, &self.jobs, self.now)
    }

    fn apply(&mut self, action: &Action) -> Result<(), String> {
        let at = self.at();
        match action {
            Action::Submit(entry) => {
                let known = self.jobs.iter().find(|job| name(job) == entry.identity);
                if let Some(job) = known {
                    return Err(format!("{} is submitted twice; it is {}", entry.identity, job.state));
                }
                self.submit(entry);
            }
            Action::Again { entry, after } => {
                let known = self.jobs.iter().find(|job| job.id == *after);
                if !known.is_some_and(Job::was_withdrawn) {
                    return Err(format!("{} comes again, but nothing took it away", entry.identity));
                }
                self.submit(entry);
            }
            Action::Cancel { job, .. } => self.change(*job, &Change::Cancel, at)?,
            Action::Miss { job, reason, .. } => {
                self.change(*job, &Change::Miss { reason: reason.clone() }, at)?;
            }
            other => return Err(format!("nobody asked for {other:?}")),
        }
        Ok(())
    }

    fn change(&mut self, id: JobId, change: &Change, at: Now) -> Result<(), String> {
        let job = self.jobs.iter_mut().find(|job| job.id == id).ok_or("no such job")?;
        *job = job.change(change, By::Schedule, at).map_err(|error| error.to_string())?;
        Ok(())
    }

    fn submit(&mut self, entry: &Entry) {
        let origin =
            Origin::Schedule { name: entry.identity.clone(), of: entry.of.clone(), planned: entry.at };
        let order = Order {
            id: JobId(Uuid::from_u128(self.jobs.len() as u128 + 1)),
            at_most: None,
            max_duration: None,
            server: entry.server.clone(),
            meeting: entry.meeting.clone(),
            only: None,
            key: None,
            limits: entry.limits.clone(),
            due: entry.at,
            origin,
            by: By::Schedule,
        };
        self.jobs.push(Job::submit(order, self.at()));
    }

    fn at(&self) -> Now {
        Now { wall: self.now, boot: BootMs::default() }
    }

    /// What a running daemon does with what is due, and a starting one with what it finds. Says how many were late.
    fn fire(&mut self) -> usize {
        let (at, now) = (self.at(), self.now);
        let due = self.jobs.iter_mut().filter(|job| job.state == State::Waiting && job.due <= now);
        let mut late = 0;
        for job in due {
            let missed = job.due.0 + LATE < now.0;
            let outcome = if missed { Outcome::Missed } else { Outcome::Ended };
            late += usize::from(!missed && job.due < now);
            job.record(at, Fact::Concluded { outcome, reason: String::new() });
        }
        late
    }

    /// The daemon runs: everything fires at its time.
    fn run(&mut self, ms: i64) {
        let until = UtcMs(self.now.0 + ms);
        while let Some(due) = self.next_due().filter(|due| *due <= until) {
            self.now = due.max(self.now);
            self.fire();
        }
        self.now = until;
    }

    fn next_due(&self) -> Option<UtcMs> {
        self.jobs.iter().filter(|job| job.state == State::Waiting).map(|job| job.due).min()
    }

    /// Every occurrence after `since` and up to now has fired.
    fn all_fired(&self, since: UtcMs) -> Result<(), String> {
        for found in self.schedule.recurring[0].recurrence.between(since, self.now) {
            let ended = |job: &&Job| job.due == found.at && job.outcome == Some(Outcome::Ended);
            if self.jobs.iter().filter(ended).count() != 1 {
                let all: BTreeMap<_, _> = self.jobs.iter().map(|job| (name(job), job.outcome)).collect();
                return Err(format!("{} was lost or doubled: {all:?}", found.at));
            }
        }
        Ok(())
    }
}

fn name(job: &Job) -> &str {
    match &job.origin {
        Origin::Schedule { name, .. } => name,
        _ => "",
    }
}

fn live(first: usize, days: i64, steps: &[Step]) -> Result<(), String> {
    let begin: UtcMs = "2026-10-20T07:00:00Z".parse::<Timestamp>().unwrap().into();
    let mut world = World::new(first, UtcMs(begin.0 + days * 24 * HOUR));
    world.tick()?;
    // From here on the daemon has run all the time with the same expression.
    let mut since = world.now;
    for step in steps {
        match step {
            Step::Tick(minutes) => world.run(minutes * MINUTE),
            Step::Down(hours) => {
                world.now = UtcMs(world.now.0 + hours * HOUR);
                since = world.now;
            }
            Step::Edit(expression) => {
                world.edit(*expression);
                since = world.now;
            }
            Step::Without(hours) => {
                let entries = std::mem::take(&mut world.schedule.recurring);
                world.tick()?;
                world.run(hours * HOUR);
                world.schedule.recurring = entries;
                since = world.now;
            }
        }
        let late = world.jobs.iter().filter(|job| !job.is_done() && job.due < world.now).count();
        let actions = world.tick()?;
        if let (Step::Edit(_) | Step::Without(_), 0) = (step, late)
            && let Some(past) = actions.iter().find(|action| is_past(action, world.now))
        {
            return Err(format!("{step:?} fires for what has passed: {past:?}"));
        }
        let caught_up = world.fire();
        if caught_up > 1 {
            return Err(format!("{caught_up} deadlines are caught up with at once"));
        }
        world.all_fired(since)?;
    }
    Ok(())
}

fn is_past(action: &Action, now: UtcMs) -> bool {
    matches!(action, Action::Submit(entry) | Action::Again { entry, .. } if entry.at <= now)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_lost_doubled_or_stormed(first in 0..EXPRESSIONS.len(), days in 0_i64..180, steps in steps()) {
        prop_assert_eq!(live(first, days, &steps), Ok(()));
    }
}

/// What there is, and how it stands.
fn told(world: &World) -> Vec<String> {
    let stands = |job: &Job| job.outcome.map_or_else(|| job.state.to_string(), |outcome| outcome.to_string());
    world.jobs.iter().map(|job| format!("{} {}", name(job), stands(job))).collect()
}

#[test]
fn three_days_without_a_daemon() {
    let begin: UtcMs = "2026-11-16T09:00:00Z".parse::<Timestamp>().unwrap().into();
    let mut world = World::new(1, begin);
    world.tick().unwrap();
    world.run(2 * HOUR);
    world.tick().unwrap();
    world.now = UtcMs(world.now.0 + 73 * HOUR);
    world.tick().unwrap();
    // Tuesday and Wednesday have passed by more than a day; Thursday, which never had a job, is caught up with.
    assert_eq!(world.fire(), 1);
    let days = ["16", "17", "18", "19", "20"];
    let stand = ["ended", "missed", "missed", "ended", "waiting"];
    let expected: Vec<String> = (days.iter().zip(stand))
        .map(|(day, stands)| format!("a@2026-11-{day}T10:15[Europe/Berlin] {stands}"))
        .collect();
    assert_eq!(told(&world), expected);
}

#[test]
fn forty_hours_without_a_daemon() {
    let begin: UtcMs = "2026-11-16T09:00:00Z".parse::<Timestamp>().unwrap().into();
    let mut world = World::new(5, begin);
    world.tick().unwrap();
    world.now = UtcMs(world.now.0 + 40 * HOUR);
    let actions = world.tick().unwrap();
    // Every three hours: of the eight that are late by less than a day one is left.
    let missed = actions.iter().filter(|action| matches!(action, Action::Miss { .. })).count();
    assert_eq!((missed, world.fire()), (7, 1));
    let last = world.jobs.iter().rfind(|job| job.outcome == Some(Outcome::Ended)).unwrap();
    assert_eq!(name(last), "a@2026-11-18T00:45[Europe/Berlin]");
}
