//! `adjourn audit`: reads the journal itself, whether or not a daemon runs. Writes nothing.

use std::io;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::check;
use super::client::typed;
use super::context::Context;
use super::failure::Failure;
use super::output::Tone;
use super::show;
use super::text::clean;
use crate::config;
use crate::control::wire::JobAnswer;
use crate::engine::api::Status;
use crate::exit::ExitCode;
use crate::job::{HistoryLine, JobView};
use crate::store::journal::{self, Audit, Finding, Head, Told};
use crate::store::{self, Checker, OpenError, head_at_rest};

/// The shortest end of an id that is looked for.
const MIN_DIGITS: usize = 4;

/// Check the journal, or tell from it what happened to a job
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(subcommand)]
    command: Asked,
}

#[derive(clap::Subcommand, Debug)]
enum Asked {
    /// Find lines that were edited, removed, moved or cut off
    Verify {
        #[command(flatten)]
        place: Place,
        /// A head that was noted down before, as status and the log show it: is it still in the journal?
        #[arg(long, value_name = "SEQ:HASH")]
        head: Option<Head>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Tell the whole story of a job, also what its record has dropped
    Show {
        /// The job: its whole id, or its last 8 characters
        id: String,
        #[command(flatten)]
        place: Place,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

#[derive(clap::Args, Debug)]
struct Place {
    /// Where the journal lies: the state directory of the daemon, instead of what the schedule file says
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// The schedule file, or its directory, that names the state directory [default: /etc/adjourn]
    #[arg(long, value_name = "PATH", env = "ADJOURN_CONFIG", value_delimiter = ':')]
    config: Vec<PathBuf>,
}

pub async fn run(args: Args, cx: &mut Context) -> Result<ExitCode, Failure> {
    match args.command {
        Asked::Verify { place, head, json } => verify(&place.state_dir(cx)?, head, json, cx).await,
        Asked::Show { id, place, json } => show(&place.state_dir(cx)?, &id, json, cx),
    }
}

impl Place {
    fn state_dir(self, cx: &Context) -> Result<PathBuf, Failure> {
        if let Some(dir) = self.state_dir {
            return std::path::absolute(dir).map_err(|e| Failure::usage(format!("--state-dir: {e}")));
        }
        let paths = check::paths_or_default(self.config);
        let loaded = config::load(&paths, &check::environment(true), cx.now().wall);
        loaded.settings.map(|settings| settings.state_dir).ok_or_else(|| {
            Failure::new(ExitCode::Config, "the schedule file does not tell where the state directory is")
                .hint("name it with --state-dir, or see: adjourn check")
        })
    }
}

async fn verify(
    state_dir: &Path,
    noted: Option<Head>,
    json: bool,
    cx: &mut Context,
) -> Result<ExitCode, Failure> {
    let dir = state_dir.join(journal::DIR);
    if !journal::is_there(&dir).map_err(|error| unreadable(&dir, &error))? {
        return Err(no_journal(state_dir));
    }
    // First: what the journal gets meanwhile is beyond it.
    let (store, remark) = store_head(state_dir, cx).await?;
    let mut audit = follow(&dir, store, noted)?;
    audit.notes.extend(remark);
    let aside = look_aside(state_dir)?;
    let code = if audit.findings.is_empty() && aside.findings.is_empty() {
        ExitCode::Done
    } else {
        ExitCode::Refused
    };
    if json {
        cx.out.json(&as_json(&audit, &aside))?;
        return Ok(code);
    }
    for finding in audit.findings.iter().chain(&aside.findings) {
        let place = match finding.line {
            0 => clean(&finding.path.display().to_string()),
            line => clean(&format!("{}:{line}", finding.path.display())),
        };
        cx.out.line(format_args!("{place}: {}", clean(&finding.what)))?;
    }
    for note in audit.notes.iter().chain(&aside.notes) {
        cx.out.note(clean(note));
    }
    cx.out.line(summary(&audit, &aside))?;
    if let Some(last) = audit.last {
        cx.out.line(format_args!("head {last}"))?;
    }
    Ok(code)
}

fn follow(dir: &Path, store: Option<Head>, noted: Option<Head>) -> Result<Audit, Failure> {
    let audit = match journal::verify(dir, store, noted) {
        // A segment that was removed just then, because its time was over.
        Err(e) if e.kind() == io::ErrorKind::NotFound => journal::verify(dir, store, noted),
        audit => audit,
    };
    audit.map_err(|error| unreadable(dir, &error))
}

/// What an earlier start has set aside.
#[derive(Default)]
struct Aside {
    places: Vec<PathBuf>,
    /// Of the journals among them.
    findings: Vec<Finding>,
    notes: Vec<String>,
}

/// A journal that was set aside is a fault for as long as it lies there: its lines are proven by nothing that goes on. A
/// queue that was set aside has been made anew from the journal, and takes nothing from it.
fn look_aside(state_dir: &Path) -> Result<Aside, Failure> {
    let places = store::aside(state_dir).map_err(|error| unreadable(state_dir, &error))?;
    let mut aside = Aside::default();
    for place in &places {
        let dir = place.join(journal::DIR);
        if !dir.is_dir() {
            let note = format!("set aside at an earlier start, a queue: {}", place.display());
            aside.notes.push(note);
            continue;
        }
        let what = "this journal was set aside at an earlier start, because it could not be trusted; once its faults are \
                    understood, move it out of the state directory"
            .to_owned();
        aside.findings.push(Finding { path: dir.clone(), line: 0, what });
        aside.findings.extend(follow(&dir, None, None)?.findings);
    }
    Ok(Aside { places, ..aside })
}

fn no_journal(state_dir: &Path) -> Failure {
    let is_journal = journal::is_there(state_dir).unwrap_or(false);
    let hint = if is_journal {
        "name the state directory, in which journal/ lies, not journal/ itself"
    } else {
        "name the state directory of the daemon with --state-dir; adjourn status tells it"
    };
    Failure::new(ExitCode::Config, format!("there is no journal in {}", state_dir.display())).hint(hint)
}

fn summary(audit: &Audit, aside: &Aside) -> String {
    let lines = match (audit.first, audit.last) {
        (Some(first), Some(last)) => format!("lines {first} to {}", last.seq),
        _ => "no lines".to_owned(),
    };
    let files = format!("{lines}; segments: {}, checkpoints: {}", audit.segments, audit.checkpoints);
    match (audit.findings.len(), aside.findings.len()) {
        (0, 0) => format!("{}: {files}", Tone::Good.paint("sound")),
        (0, faults) => {
            let verdict = Tone::Bad.paint("NOT whole");
            format!("{verdict}: {files}; no faults in the journal in use, in what was set aside: {faults}")
        }
        (faults, 0) => format!("{}: {files}; faults: {faults}", Tone::Bad.paint("NOT sound")),
        (faults, more) => {
            format!(
                "{}: {files}; faults: {faults}, in what was set aside: {more}",
                Tone::Bad.paint("NOT sound")
            )
        }
    }
}

fn as_json(audit: &Audit, aside: &Aside) -> serde_json::Value {
    let findings = audit.findings.iter().chain(&aside.findings).map(|finding| {
        json!({ "file": finding.path.display().to_string(), "line": finding.line, "what": finding.what })
    });
    let findings: Vec<_> = findings.collect();
    let set_aside = aside.places.iter().map(|place| place.display().to_string());
    json!({
        "sound": findings.is_empty(),
        "findings": findings,
        "notes": audit.notes.iter().chain(&aside.notes).collect::<Vec<_>>(),
        "set_aside": set_aside.collect::<Vec<_>>(),
        "lines": audit.lines,
        "first": audit.first,
        "last": audit.last,
        "segments": audit.segments,
        "checkpoints": audit.checkpoints,
    })
}

/// How far the store has come: the daemon says it, or, if none runs, its files do. With what should be remarked.
async fn store_head(state_dir: &Path, cx: &Context) -> Result<(Option<Head>, Option<String>), Failure> {
    if let Ok(answer) = cx.client()?.get(&["status"], &[]).await
        && let Ok(status) = typed::<Status>(&answer)
        && Path::new(&status.store.path) == state_dir
        && let Ok(hash) = status.store.hash.parse()
    {
        return Ok((Some(Head { seq: status.store.sequence, hash }), None));
    }
    match head_at_rest(state_dir, Checker::Child) {
        Ok(head) => Ok((head, None)),
        Err(error @ OpenError::Held { .. }) => Ok((None, Some(format!("{error}, and it does not answer")))),
        Err(error) => Ok((None, Some(error.to_string()))),
    }
}

fn show(state_dir: &Path, id: &str, json: bool, cx: &mut Context) -> Result<ExitCode, Failure> {
    let dir = state_dir.join(journal::DIR);
    let digits = id.bytes().filter(u8::is_ascii_hexdigit).count();
    if digits < MIN_DIGITS || !id.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-') {
        return Err(Failure::usage(format!("{id:?} is no id of a job, nor the end of one")));
    }
    let told = journal::tell(&dir, id).map_err(|error| unreadable(&dir, &error))?;
    let told = told.map_err(|several| {
        let several: Vec<String> = several.iter().map(ToString::to_string).collect();
        Failure::new(ExitCode::Refused, format!("several jobs end with {id}: {}", several.join(", ")))
            .hint("give more of the id")
    })?;
    let Some(told) = told else {
        return Err(Failure::new(
            ExitCode::Refused,
            format!("the journal in {} knows no job {id}", dir.display()),
        )
        .hint("older lines go when their retention is over; adjourn list shows the jobs that there are"));
    };
    let answer = answer(&told, cx);
    if json {
        cx.out.json(&answer)?;
        return Ok(ExitCode::Done);
    }
    show::tell(&answer, cx)?;
    if let Some(at) = told.forgotten {
        let at = cx.moment(at);
        cx.out.note(format_args!("forgotten at {at}: its retention was over"));
    }
    Ok(ExitCode::Done)
}

fn answer(told: &Told, cx: &Context) -> JobAnswer {
    let history = told.entries.iter().map(HistoryLine::new).collect();
    let missing = told.job.history.total().saturating_sub(told.entries.len());
    JobAnswer {
        telling: None,
        job: JobView { history: Some(history), ..JobView::new(&told.job, cx.now()) },
        others: Vec::new(),
        history_left_out: u32::try_from(missing).unwrap_or(u32::MAX),
    }
}

fn unreadable(dir: &Path, error: &io::Error) -> Failure {
    let exit = match error.kind() {
        io::ErrorKind::PermissionDenied => ExitCode::Permission,
        _ => ExitCode::Refused,
    };
    Failure::new(exit, format!("cannot read the journal in {}: {error}", dir.display()))
}
