//! `adjourn reload`.

use reqwest::Method;
use serde_json::json;

use super::client::typed;
use super::context::Context;
use super::failure::Failure;
use super::say;
use super::text::clean;
use crate::control::wire::{PlannedAction, Reloaded, RuleHit};
use crate::exit::ExitCode;
use crate::job::UtcMs;

/// Have the daemon read its schedule file again
///
/// It is applied as a whole: new entries become jobs, changed times move them, the jobs of removed entries are cancelled. A
/// job that was extended by hand keeps its time unless the file gives another one than before. A file with an error, or a
/// disk that is full, changes nothing, and the old schedule goes on.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Only say what would change, and which live meetings the rules of the file would end
    #[arg(long)]
    dry_run: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub async fn run(args: Args, cx: &mut Context) -> Result<ExitCode, Failure> {
    let body = if args.dry_run { json!({ "dry-run": true }) } else { json!({}) };
    let answer = cx.client()?.send(Method::POST, &["reload"], &body).await;
    let answer = answer.map_err(|failure| with_lines(failure, cx))?;
    if args.json {
        cx.out.json(&answer)?;
        return Ok(ExitCode::Done);
    }
    let reloaded: Reloaded = typed(&answer)?;
    for line in lines(&reloaded, cx) {
        cx.out.line(line)?;
    }
    Ok(ExitCode::Done)
}

/// What is wrong with a file is shown as `adjourn check` does: on lines of its own.
fn with_lines(failure: Failure, cx: &mut Context) -> Failure {
    if !failure.what().contains('\n') {
        return failure;
    }
    failure.what().trim_end().lines().for_each(|line| cx.out.note(clean(line)));
    failure.about("the schedule file has errors")
}

fn lines(reloaded: &Reloaded, cx: &Context) -> Vec<String> {
    let mut changes: Vec<_> = reloaded.changes.iter().collect();
    changes.sort_by(|a, b| (a.action, &a.name).cmp(&(b.action, &b.name)));
    let mut lines: Vec<String> = reloaded.servers.iter().map(|change| clean(&change.to_string())).collect();
    for change in changes {
        let sentence = clean(&change.sentence(|at| time(at, cx)));
        lines.push(format!("{:<7} {sentence}", verb(change.action)));
    }
    if reloaded.is_nothing() {
        lines.push(if reloaded.applied { "nothing has changed" } else { "nothing would change" }.to_owned());
    }
    lines.extend(reloaded.rules.iter().map(|hit| rule(hit, cx)));
    let unseen = reloaded.unseen.iter();
    lines.extend(
        unseen.map(|unseen| {
            clean(&format!("the rules on {} could not be tried: {}", unseen.server, unseen.why))
        }),
    );
    lines.extend(reloaded.unread.iter().map(|unread| clean(&unread.to_string())));
    lines
}

fn verb(action: PlannedAction) -> &'static str {
    match action {
        PlannedAction::Add => "add",
        PlannedAction::Move => "move",
        PlannedAction::Remove => "remove",
        PlannedAction::Miss => "miss",
        PlannedAction::Keep => "keep",
        PlannedAction::Skip => "skip",
        PlannedAction::Refuse => "refuse",
    }
}

fn rule(hit: &RuleHit, cx: &Context) -> String {
    let RuleHit { rule, dry_run, server, meeting, name, due, reason, .. } = hit;
    let only = if *dry_run { " (it only reports, until dry-run = false)" } else { "" };
    let due = time(*due, cx);
    clean(&format!("rule    {rule}: would end {meeting} ({name}) on {server} at {due}, {reason}{only}"))
}

/// `18:00:00 CET (in 45m)`
fn time(at: UtcMs, cx: &Context) -> String {
    format!("{} ({})", say::absolute(at, &cx.zone, cx.now()), say::relative(at, cx.now()))
}
