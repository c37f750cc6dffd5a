//! `adjourn report`: what became of the deadlines of a day, or of any other time.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::client::typed;
use super::context::Context;
use super::failure::Failure;
use super::say;
use super::table::{Cell, table};
use super::text::clean;
use super::when::{self, Toward};
use crate::control::MAX_PAGE;
use crate::control::wire::Page;
use crate::exit::ExitCode;
use crate::job::{JobView, Outcome, State, UtcMs};

/// Jobs of one kind that are kept to be named.
const KEPT: usize = 1_000;
/// Of these so many are named to people.
const NAMED: usize = 20;

/// Sum up what became of the deadlines of yesterday, or of any other time
///
/// A deadline belongs to the time at which it was due.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Due at or after this time, this day (yesterday, today, 2026-12-01), or so long ago
    #[arg(long, value_name = "TIME", default_value = "yesterday")]
    since: String,
    /// Due before this time or day [default: now]
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// Only deadlines on this server
    #[arg(long)]
    server: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub async fn run(args: Args, cx: &mut Context) -> Result<ExitCode, Failure> {
    let now = cx.now();
    let since = when::bound(&args.since, &cx.zone, now, Toward::Past)?;
    let until = match &args.until {
        Some(text) => when::bound(text, &cx.zone, now, Toward::Past)?,
        None => now.wall,
    };
    let mut report = Report::default();
    let mut before: Option<String> = None;
    loop {
        let mut query =
            vec![("since", since.to_string()), ("until", until.to_string()), ("limit", MAX_PAGE.to_string())];
        query.extend(args.server.iter().map(|server| ("server", server.clone())));
        query.extend(before.take().map(|place| ("before", place)));
        let page: Page = typed(&cx.client()?.get(&["jobs"], &query).await?)?;
        page.jobs.iter().for_each(|job| report.add(job));
        before = page.next;
        if before.is_none() {
            break;
        }
    }
    if args.json {
        cx.out.json(&report.json(since, until))?;
    } else {
        report.tell(since, until, cx)?;
    }
    Ok(ExitCode::Done)
}

/// What the deadlines of a time came to.
#[derive(Debug, Default)]
struct Report {
    /// By server.
    outcomes: BTreeMap<String, BTreeMap<Outcome, u64>>,
    open: u64,
    left_alone: Several,
    overdue: Several,
    reopened: u64,
    worst: Option<(i64, JobView)>,
}

/// The first of many jobs, and how many there are.
#[derive(Debug, Default)]
struct Several {
    kept: Vec<JobView>,
    count: u64,
}

impl Several {
    fn add(&mut self, job: &JobView) {
        self.count += 1;
        if self.kept.len() < KEPT {
            self.kept.push(job.clone());
        }
    }
}

impl Report {
    fn add(&mut self, job: &JobView) {
        match job.outcome {
            Some(outcome) if job.state == State::Done || job.state == State::Guarding => {
                let of_server = self.outcomes.entry(job.server.to_string()).or_default();
                *of_server.entry(outcome).or_default() += 1;
            }
            _ => self.open += 1,
        }
        if job.left_alone.is_some() {
            self.left_alone.add(job);
        }
        if job.overdue {
            self.overdue.add(job);
        }
        self.reopened += u64::from(job.reopened_at.is_some());
        let late = job.lateness_ms.filter(|late| self.worst.as_ref().is_none_or(|(worst, _)| late > worst));
        if let Some(late) = late {
            self.worst = Some((late, job.clone()));
        }
    }

    /// How many came to this outcome, on all servers.
    fn count(&self, outcome: Outcome) -> u64 {
        self.outcomes.values().filter_map(|of_server| of_server.get(&outcome)).sum()
    }

    /// Outcomes that there were, vanished ones last: over by themselves, or forgotten by a front.
    fn columns(&self) -> Vec<Outcome> {
        let apart = |outcome: &Outcome| *outcome == Outcome::Vanished;
        let mut there: Vec<Outcome> =
            Outcome::ALL.into_iter().filter(|outcome| self.count(*outcome) > 0).collect();
        there.sort_by_key(apart);
        there
    }

    fn json(&self, since: UtcMs, until: UtcMs) -> Value {
        let named = |of_server: &BTreeMap<Outcome, u64>| -> BTreeMap<&str, u64> {
            of_server.iter().map(|(outcome, count)| (outcome.as_str(), *count)).collect()
        };
        let all: BTreeMap<&str, u64> =
            self.columns().into_iter().map(|outcome| (outcome.as_str(), self.count(outcome))).collect();
        let servers: BTreeMap<&str, _> =
            self.outcomes.iter().map(|(server, counts)| (server.as_str(), named(counts))).collect();
        let short = |job: &JobView| json!({ "job": job.id, "server": job.server, "meeting": job.meeting, "due": job.due.to_string() });
        let with = |job: &JobView, key: &str, value: Value| {
            let mut line = short(job);
            line[key] = value;
            line
        };
        let left: Vec<Value> =
            self.left_alone.kept.iter().map(|job| with(job, "left_alone", json!(job.left_alone))).collect();
        let overdue: Vec<Value> =
            self.overdue.kept.iter().map(|job| with(job, "outcome", json!(job.outcome))).collect();
        json!({
            "since": since.to_string(), "until": until.to_string(), "open": self.open, "outcomes": all,
            "servers": servers, "left_alone": left, "left_alone_count": self.left_alone.count,
            "overdue": overdue, "overdue_count": self.overdue.count, "reopened": self.reopened,
            "worst_lateness": self.worst.as_ref().map(|(ms, job)| with(job, "lateness_ms", json!(ms))),
        })
    }

    fn tell(&self, since: UtcMs, until: UtcMs, cx: &mut Context) -> Result<(), Failure> {
        let exact = |at: UtcMs, cx: &Context| say::absolute(at, &cx.zone, cx.now());
        let (from, to) = (exact(since, cx), exact(until, cx));
        let columns = self.columns();
        let done: u64 = columns.iter().map(|outcome| self.count(*outcome)).sum();
        cx.out.line(format_args!("due from {from} to {to}: {done} done, {} open", self.open))?;
        if done > 0 {
            let table = self.table(&columns, cx);
            cx.out.line(table)?;
        }
        if let Some((late, job)) = &self.worst {
            let (what, id) = (say::meeting(job), job.id.short());
            cx.out.line(format_args!("worst lateness: {late} ms, {what}; job {id}"))?;
        }
        if self.reopened > 0 {
            cx.out.line(format_args!("opened again after the proof: {}", self.reopened))?;
        }
        for job in self.overdue.kept.iter().take(NAMED) {
            let due = cx.due(job.due, None);
            let (what, outcome) = (say::meeting(job), say::painted_outcome(job));
            cx.out.line(format_args!("overdue: {what}, due {due}: {outcome}; job {}", job.id.short()))?;
        }
        for job in self.left_alone.kept.iter().take(NAMED) {
            let Some(left) = &job.left_alone else { continue };
            let began =
                left.started_at.map_or_else(String::new, |at| format!(", which began {}", exact(at, cx)));
            let (what, run) = (say::meeting(job), say::shortened(left.instance.as_str()));
            cx.out.line(format_args!("left alone: {run} of {what}{began}; job {}", job.id.short()))?;
        }
        let named = u64::try_from(NAMED).unwrap_or(u64::MAX);
        for (what, several) in [("overdue", &self.overdue), ("left alone", &self.left_alone)] {
            if several.count > named {
                cx.out.note(format_args!("{what}: {} more; see --json", several.count - named));
            }
        }
        Ok(())
    }

    /// A line a server, and one for all where there are several.
    fn table(&self, columns: &[Outcome], cx: &Context) -> String {
        let mut header = vec!["SERVER".to_owned()];
        header.extend(columns.iter().map(|outcome| outcome.as_str().to_uppercase()));
        let row = |name: &str, count: &dyn Fn(Outcome) -> u64| -> Vec<Cell> {
            let cell = |outcome: &Outcome| match count(*outcome) {
                0 => Cell::from("-".to_owned()),
                some => Cell::toned(some.to_string(), Some(say::tone_of(*outcome))),
            };
            std::iter::once(Cell::from(clean(name))).chain(columns.iter().map(cell)).collect()
        };
        let of = |counts: &BTreeMap<Outcome, u64>, outcome| counts.get(&outcome).copied().unwrap_or(0);
        let mut rows: Vec<Vec<Cell>> = self
            .outcomes
            .iter()
            .map(|(server, counts)| row(server, &|outcome| of(counts, outcome)))
            .collect();
        if rows.len() > 1 {
            rows.push(row("all", &|outcome| self.count(outcome)));
        }
        let header: Vec<&str> = header.iter().map(String::as_str).collect();
        table(&cx.out, &header, rows)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::cli::output::Output;
    use crate::control::fake::{NOW, concluded, job};
    use crate::job::LeftAloneView;

    fn done(n: u32, server: &str, outcome: Outcome, late: Option<i64>) -> JobView {
        let view = JobView::new(&concluded(job(n, "math", Duration::ZERO), outcome, ""), NOW);
        JobView { server: server.into(), lateness_ms: late, ..view }
    }

    fn report() -> Report {
        let left = LeftAloneView { instance: "b".into(), started_at: Some(NOW.wall) };
        let mut report = Report::default();
        for job in [
            done(1, "campus", Outcome::Ended, Some(3)),
            done(2, "campus", Outcome::Vanished, None),
            JobView { left_alone: Some(left), ..done(3, "events", Outcome::Ended, Some(1_200)) },
            JobView { overdue: true, ..done(4, "events", Outcome::Failed, Some(5)) },
            JobView::new(&job(5, "math", Duration::ZERO), NOW),
        ] {
            report.add(&job);
        }
        report
    }

    #[test]
    fn a_day_is_summed_up() {
        let (output, out, _) = Output::captured(None);
        let mut cx = Context::test("/nowhere".into(), output);
        report().tell(NOW.wall - Duration::from_secs(86_400), NOW.wall, &mut cx).unwrap();
        insta::assert_snapshot!(anstream::adapter::strip_str(&out.text()).to_string(), @r"
        due from Mon 2026-11-30 17:15:00 CET to 17:15:00 CET: 4 done, 1 open
        SERVER  ENDED  FAILED  VANISHED
        campus  1      -       1
        events  1      1       -
        all     2      1       1
        worst lateness: 1200 ms, events/math; job 00000003
        overdue: events/math, due at 17:15:00 CET, now: failed; job 00000004
        left alone: b of events/math, which began 17:15:00 CET; job 00000003
        ");
    }

    #[test]
    fn programs_get_the_same() {
        let all = report().json(NOW.wall, NOW.wall);
        assert_eq!(all["outcomes"], json!({ "ended": 2, "failed": 1, "vanished": 1 }));
        assert_eq!(all["servers"]["campus"], json!({ "ended": 1, "vanished": 1 }));
        assert_eq!((&all["open"], &all["left_alone_count"]), (&json!(1), &json!(1)));
        assert_eq!(all["left_alone"][0]["left_alone"]["instance"], "b");
        assert_eq!(all["worst_lateness"]["lateness_ms"], 1_200);
    }
}
