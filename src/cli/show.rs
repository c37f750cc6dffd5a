//! `adjourn show`.

use super::client::typed;
use super::context::Context;
use super::failure::Failure;
use super::select::job_id;
use super::table::hanging;
use super::text::clean;
use super::{say, told};
use crate::control::wire::JobAnswer;
use crate::exit::ExitCode;
use crate::job::{HistoryLine, State};

/// Show the whole story of a job, with times and reasons
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The job: its whole id, or its last 8 characters
    #[arg(value_parser = job_id)]
    id: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub async fn run(args: Args, cx: &mut Context) -> Result<ExitCode, Failure> {
    let answer = cx.client()?.get(&["jobs", &args.id], &[]).await?;
    if args.json {
        cx.out.json(&answer)?;
        return Ok(ExitCode::Done);
    }
    let answer: JobAnswer = typed(&answer)?;
    tell(&answer, cx)?;
    Ok(ExitCode::Done)
}

pub(super) fn tell(answer: &JobAnswer, cx: &mut Context) -> Result<(), Failure> {
    let job = &answer.job;
    cx.out.line(format_args!("{}  {}", say::meeting(job), say::painted_outcome(job)))?;
    for (name, value) in facts(answer, cx) {
        let line = hanging(&cx.out, &format!("  {name:<11} "), &value);
        cx.out.line(line)?;
    }
    cx.others(answer)?;
    cx.out.line("")?;
    for line in job.history.iter().flatten() {
        let text = history_line(line, cx);
        cx.out.line(text)?;
    }
    if answer.history_left_out > 0 {
        cx.out.note(format_args!("{} entries from the middle are not kept", answer.history_left_out));
    }
    Ok(())
}

fn facts(answer: &JobAnswer, cx: &Context) -> Vec<(&'static str, String)> {
    let job = &answer.job;
    let exact = |at| say::exact(at, &cx.zone);
    let with_distance = |at| format!("{} ({})", exact(at), say::relative(at, cx.now()));
    let due = match &job.max_duration {
        Some(limit) if job.due.is_never() => {
            format!("{} after its start, which was not seen yet", clean(limit))
        }
        _ => with_distance(job.due),
    };
    let mut facts = vec![("job", job.id.to_string()), ("due", due)];
    facts.extend(
        job.max_duration.as_ref().map(|limit| ("limit", format!("{} after its start", clean(limit)))),
    );
    if !job.reason.is_empty() {
        facts.push(("reason", clean(&job.reason)));
    }
    facts.extend(say::extension(job).map(|text| ("extension", text)));
    facts.extend(job.warnings.iter().map(|warning| {
        let story = told::story(warning, answer.telling.as_ref(), cx);
        ("warning", format!("{} before: {story}", clean(&warning.mark)))
    }));
    facts.extend(job.alarm.as_ref().map(|why| ("alarm", clean(why))));
    facts.extend(job.overdue.then(|| ("overdue", "still alive long after due".to_owned())));
    let gone = job.not_live_since.filter(|_| job.state == State::Waiting);
    facts.extend(gone.map(|at| ("not live", format!("by the listings since {}", with_distance(at)))));
    facts.extend(job.held_until.map(|at| ("held until", with_distance(at))));
    facts.extend(job.instance.as_ref().map(|instance| ("instance", clean(instance.as_str()))));
    facts.extend(job.armed_at.map(|at| ("armed", exact(at))));
    facts.extend(job.end_sent_at.map(|at| {
        let late = job.lateness_ms.map_or_else(String::new, |ms| format!(" ({ms} ms after due)"));
        ("end sent", format!("{}{late}", exact(at)))
    }));
    facts.extend(job.accepted_at.map(|at| ("accepted", exact(at))));
    facts.extend(job.proven_at.map(|at| ("proven", exact(at))));
    if job.reopened.is_empty() {
        facts.extend(job.reopened_at.map(|at| ("reopened", exact(at))));
    }
    facts.extend(job.reopened.iter().map(|again| {
        let became = match (again.outcome, again.over_at) {
            (Some(outcome), Some(at)) => format!(", {outcome} at {}", exact(at)),
            _ => String::new(),
        };
        ("reopened", format!("{} as {}{became}", exact(again.at), clean(again.instance.as_str())))
    }));
    facts.extend(job.next_at.map(|at| ("next", with_distance(at))));
    facts.push(("made", format!("end calls: {}, looks: {}", job.ends, job.looks)));
    facts.push(("origin", format!("{}, submitted {}", clean(&job.origin), exact(job.submitted_at))));
    facts
}

fn history_line(line: &HistoryLine, cx: &Context) -> String {
    let (event, text) = (clean(&line.event), clean(&line.text));
    hanging(&cx.out, &format!("{}  {event:<14} ", say::exact(line.at, &cx.zone)), &text)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::cli::output::Output;
    use crate::control::fake::{NOW, concluded, job};
    use crate::control::wire::Deadline;
    use crate::job::{JobView, Outcome, ReopenedView, UtcMs, WarningView};
    use crate::platform::Telling;

    fn at(ms: i64) -> UtcMs {
        UtcMs(NOW.wall.0 + ms)
    }

    fn warning(mark: &str, told: Option<bool>, at: Option<UtcMs>, why: Option<&str>) -> WarningView {
        let (mark, why) = (mark.to_owned(), why.map(str::to_owned));
        WarningView { mark, told, at, breakout_rooms: u32::from(told == Some(true)), why }
    }

    fn again(instance: &str, ms: i64, outcome: Option<Outcome>) -> ReopenedView {
        let over_at = outcome.map(|_| at(ms + 1_000));
        ReopenedView { instance: instance.into(), at: at(ms), outcome, over_at }
    }

    /// A job of which everything is known.
    fn whole() -> JobView {
        let line =
            |ms, event: &str, text: &str| HistoryLine { at: at(ms), event: event.into(), text: text.into() };
        let done = concluded(job(1, "math", Duration::ZERO), Outcome::Ended, "");
        JobView {
            reason: "proven gone".into(),
            instance: Some("a\u{202e}b".into()),
            armed_at: Some(at(-9_875)),
            end_sent_at: Some(at(2)),
            accepted_at: Some(at(31)),
            proven_at: Some(at(3_100)),
            reopened_at: Some(at(60_000)),
            reopened: vec![again("c", 60_000, None), again("d", 90_000, Some(Outcome::Ended))],
            lateness_ms: Some(2),
            next_at: Some(at(60_000)),
            ends: 1,
            looks: 4,
            extended_from: Some(at(-1_200_000)),
            max_extension_ms: Some(3_600_000),
            extension_left_ms: Some(2_400_000),
            warnings: vec![
                warning("1h", Some(true), Some(at(-3_600_000)), None),
                warning("30m", Some(false), Some(at(-1_800_000)), Some("nobody is there yet")),
                warning("10m", None, Some(at(30_000)), None),
            ],
            history: Some(vec![
                line(-9_875, "looked", "live,\nas expected"),
                line(2, "end-sent", "aimed at a"),
            ]),
            ..JobView::new(&done, NOW)
        }
    }

    #[test]
    fn the_whole_story() {
        let job = whole();
        let others = vec![Deadline {
            id: crate::control::fake::id(2),
            due: at(3_600_000),
            max_duration: None,
            state: State::Held,
        }];
        let (output, out, err) = Output::captured(None);
        let mut cx = Context::test("/nowhere".into(), output);
        let telling = Some(Telling { possible: Some(true), why: None });
        tell(&JobAnswer { job, others, history_left_out: 3, telling }, &mut cx).unwrap();
        insta::assert_snapshot!(out.text(), @r"
        campus/math  ended
          job         019a0000-0000-7000-8000-000000000001
          due         2026-12-01 17:15:00.000 CET (now)
          reason      proven gone
          extension   extended by 20m, 40m of 1h left
          warning     1h before: told at 2026-12-01 16:15:00.000 CET, in 1 breakout room too
          warning     30m before: not told: nobody is there yet
          warning     10m before: to be told at 2026-12-01 17:15:30.000 CET (in 30s)
          instance    a\u{202e}b
          armed       2026-12-01 17:14:50.125 CET
          end sent    2026-12-01 17:15:00.002 CET (2 ms after due)
          accepted    2026-12-01 17:15:00.031 CET
          proven      2026-12-01 17:15:03.100 CET
          reopened    2026-12-01 17:16:00.000 CET as c
          reopened    2026-12-01 17:16:30.000 CET as d, ended at 2026-12-01 17:16:31.000 CET
          next        2026-12-01 17:16:00.000 CET (in 1m)
          made        end calls: 1, looks: 4
          origin      api, submitted 2026-12-01 17:15:00.000 CET
        another deadline of this meeting: 00000002 at 18:15:00 CET, in 1h (held)

        2026-12-01 17:14:50.125 CET  looked         live,␊as expected
        2026-12-01 17:15:00.002 CET  end-sent       aimed at a
        ");
        assert_eq!(err.text(), "3 entries from the middle are not kept\n");
    }
}
