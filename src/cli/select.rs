//! Which jobs a command is about: one by its id, those of a meeting, or those that a pattern picks.
//!
//! One id is plain. Whatever else may be more than was meant, so what was picked is listed and asked about first, unless
//! `--yes` says that nobody is there to ask. A change then goes to each job as it was listed: one that was moved
//! meanwhile is refused, and told with its reason.

use reqwest::Method;
use serde_json::{Value, json};

use super::client::{Client, typed};
use super::context::Context;
use super::failure::Failure;
use super::list;
use super::output::Tone;
use super::text::clean;
use crate::control::wire::JobAnswer;
use crate::exit::ExitCode;
use crate::job::{JobView, State};

/// So many jobs are listed before the question; the rest is counted.
const LISTED: usize = 20;

/// `ID`, `SERVER MEETING`, or patterns.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct Selection {
    /// The job: its whole id, or its last 8 characters. Or SERVER MEETING: every deadline of that meeting
    #[arg(value_name = "ID | SERVER MEETING", num_args = 0..=2)]
    what: Vec<String>,
    /// The deadlines of all meetings that match: * is any text, ? any one character
    #[arg(long, value_name = "PATTERN")]
    r#match: Option<String>,
    /// The deadlines on this server
    #[arg(long)]
    server: Option<String>,
    /// The deadlines that came this way: cli, api, schedule:NAME, rule:NAME (with * and ?)
    #[arg(long, value_name = "ORIGIN")]
    origin: Option<String>,
    /// Do not ask before changing more than one id names
    #[arg(long, short)]
    yes: bool,
}

/// What a selection comes to.
#[derive(Debug)]
pub enum Picked {
    /// By its id; whether there is such a job the daemon will say.
    One(String),
    /// Those that were found, what ends next first.
    Many(Vec<JobView>),
}

/// A change of jobs, in words.
#[derive(Clone, Debug)]
pub struct Deed {
    /// `cancel`
    pub verb: &'static str,
    /// `cancelled`
    pub past: &'static str,
    /// Only jobs in these states can be meant.
    pub states: &'static [State],
    /// How the daemon is asked for it, job by job.
    pub method: Method,
    /// What follows the id in that request.
    pub path: Option<&'static str>,
}

/// Every state but `done`.
pub const OPEN: &[State] = &[State::Waiting, State::Held, State::Ending, State::Confirming, State::Guarding];

/// A job's id, whole or its end: for clap.
pub fn job_id(text: &str) -> Result<String, String> {
    let digits = text.chars().filter(|c| *c != '-').count();
    let hexadecimal = text.chars().all(|c| c.is_ascii_hexdigit() || c == '-');
    if hexadecimal && (8..=32).contains(&digits) {
        return Ok(text.to_owned());
    }
    Err("a job's id is 32 hexadecimal digits, of which the last 8 will do; `adjourn list` shows them"
        .to_owned())
}

impl Selection {
    /// What is meant, read from the daemon where it is more than an id.
    pub async fn pick(&self, client: &Client, deed: &Deed) -> Result<Picked, Failure> {
        let patterns = self.r#match.is_some() || self.server.is_some() || self.origin.is_some();
        let mut query = match &self.what[..] {
            [id] if !patterns => return job_id(id).map(Picked::One).map_err(|why| not_an_id(id, &why)),
            [server, meeting] if !patterns => {
                vec![("server", server.clone()), ("meeting", meeting.clone())]
            }
            [] if patterns => Vec::new(),
            _ => return Err(how(deed)),
        };
        query.extend(self.server.iter().map(|server| ("server", server.clone())));
        query.extend(self.r#match.iter().map(|pattern| ("match", pattern.clone())));
        query.extend(self.origin.iter().map(|origin| ("origin", origin.clone())));
        let states: Vec<&str> = deed.states.iter().map(|state| state.as_str()).collect();
        query.extend([("state", states.join(",")), ("sort", "due".to_owned())]);
        let (jobs, _) = list::pages(client, query, usize::MAX).await?;
        if jobs.is_empty() {
            let what = format!("there is no deadline to {} for {}", deed.verb, self.named());
            return Err(Failure::new(ExitCode::Refused, what).hint("see `adjourn list`"));
        }
        jobs.iter().map(typed).collect::<Result<_, Failure>>().map(Picked::Many)
    }

    /// Lists what was picked, and asks. False: it was not meant.
    pub fn confirm(&self, jobs: &[JobView], deed: &Deed, cx: &mut Context) -> Result<(), Failure> {
        for job in jobs.iter().take(LISTED) {
            let sentence = cx.sentence(job);
            cx.out.note(sentence);
        }
        if let Some(more) = jobs.len().checked_sub(LISTED).filter(|more| *more > 0) {
            cx.out.note(format_args!("and {more} more"));
        }
        if self.yes {
            return Ok(());
        }
        let deadlines = if jobs.len() == 1 { "this deadline" } else { "these deadlines" };
        let question = format!("{} {deadlines} ({})? [y/N] ", deed.verb, jobs.len());
        match cx.ask(&question) {
            Some(answer) if matches!(answer.trim(), "y" | "Y" | "yes" | "Yes") => Ok(()),
            Some(_) => Err(Failure::new(ExitCode::Refused, "nothing was changed")),
            None => Err(Failure::usage(format!("nobody is there to be asked: nothing was {}", deed.past))
                .hint("look at the list above, then add --yes")),
        }
    }

    /// Changes what is meant, after a question where that is more than one id names.
    pub async fn change(
        &self,
        deed: &Deed,
        body: &Value,
        json: bool,
        cx: &mut Context,
        tell: impl Fn(&JobAnswer, &mut Context) -> Result<(), Failure>,
    ) -> Result<ExitCode, Failure> {
        let client = cx.client()?;
        let target = |id: &str| -> Vec<String> {
            ["jobs", id].into_iter().chain(deed.path).map(str::to_owned).collect()
        };
        let jobs = match self.pick(&client, deed).await? {
            Picked::One(id) => {
                let answer = client.send(deed.method.clone(), &borrowed(&target(&id)), body).await?;
                if json {
                    cx.out.json(&answer)?;
                } else {
                    tell(&typed(&answer)?, cx)?;
                }
                return Ok(ExitCode::Done);
            }
            Picked::Many(jobs) => jobs,
        };
        self.confirm(&jobs, deed, cx)?;
        let (mut done, mut refused, mut code) = (Vec::new(), Vec::new(), ExitCode::Done);
        for job in &jobs {
            let path = target(&job.id.to_string());
            match client.send_if(deed.method.clone(), &borrowed(&path), body, job.revision).await {
                Ok(answer) if json => done.push(answer),
                Ok(answer) => tell(&JobAnswer { others: Vec::new(), ..typed(&answer)? }, cx)?,
                Err(failure) if failure.status().is_none() => return Err(failure),
                Err(failure) => {
                    code = failure.exit();
                    let (label, id) = (Tone::Bad.paint(format_args!("not {}:", deed.past)), job.id.short());
                    cx.out.note(format_args!("{label} job {id}: {}", clean(failure.what())));
                    refused.push(json!({ "id": job.id, "detail": failure.what(), "hint": failure.next() }));
                }
            }
        }
        if json {
            cx.out.json(&json!({ "jobs": done, "refused": refused }))?;
        }
        Ok(code)
    }

    /// In the words of the command line.
    fn named(&self) -> String {
        let mut parts: Vec<String> = Vec::new();
        if let [server, meeting] = &self.what[..] {
            parts.push(format!("{server}/{meeting}"));
        }
        parts.extend(self.r#match.iter().map(|pattern| format!("--match {pattern}")));
        parts.extend(self.server.iter().map(|server| format!("--server {server}")));
        parts.extend(self.origin.iter().map(|origin| format!("--origin {origin}")));
        parts.join(" ")
    }
}

fn borrowed(path: &[String]) -> Vec<&str> {
    path.iter().map(String::as_str).collect()
}

fn not_an_id(text: &str, why: &str) -> Failure {
    Failure::usage(format!("{text:?} is no job id: {why}"))
        .hint("a meeting is named by two words: SERVER MEETING")
}

fn how(deed: &Deed) -> Failure {
    let verb = deed.verb;
    let what = format!("{verb} takes a job's id, SERVER MEETING, or any of --match, --server and --origin");
    Failure::usage(what).hint(format!(
        "`adjourn {verb} 1a2b3c4d`, `adjourn {verb} campus math-101`, `adjourn {verb} --match 'exam-*'`"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_checked_before_anybody_is_asked() {
        for good in ["1a2b3c4d", "019a0000-0000-7000-8000-000000000001", "1A2B3C4D"] {
            assert_eq!(job_id(good).as_deref(), Ok(good));
        }
        for bad in
            ["", "1a2b3c4", "math-101", "../status", "019a0000-0000-7000-8000-0000000000012", "--------"]
        {
            assert!(job_id(bad).is_err(), "{bad}");
        }
    }
}
