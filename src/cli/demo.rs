//! `adjourn demo`: nine meetings on simulated servers of three platforms, ended by a real daemon before your eyes.
//!
//! Everything runs in this process, on loopback and in a temporary directory that is removed afterwards. The verdict on
//! each meeting compares what adjourn says with what the sandbox knows to be true.

mod server;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use super::context::Context as Cx;
use super::failure::Failure;
use super::output::Tone;
use super::say as words;
use super::table::{self, Cell};

use crate::clock;
use crate::config::settings::{ServerSettings, Settings};
use crate::daemon::{Daemon, Options};
use crate::engine::Handle;
use crate::engine::api::{Notice, Service, Submission, When};
use crate::exit::ExitCode;
use crate::job::{By, Change, Job, JobId, JobView, Limits, LimitsPatch, Origin, Outcome, UtcMs};
use crate::sandbox::{Fault, ForgetfulAnswer, Front, sessions};
use crate::store::Checker;
use server::{Server, Trouble};

/// The demo's longest; then whatever is missing counts as wrong.
const AT_MOST: Duration = Duration::from_secs(28);
/// An accepted end call is repeated sooner than in real life.
const RESEND_AFTER: Duration = Duration::from_secs(2);
const PROVE_WITHIN: Duration = Duration::from_secs(10);

/// See adjourn work in half a minute, with simulated servers
///
/// Everything happens on this machine and nothing of it stays.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {}

/// One meeting of the demo.
struct Scene {
    meeting: &'static str,
    story: &'static str,
    server: &'static str,
    due_in: Duration,
    trouble: Option<Trouble>,
    change: Option<Change>,
    outcome: Outcome,
    reopened: bool,
}

impl Scene {
    fn new(meeting: &'static str, story: &'static str, outcome: Outcome) -> Scene {
        let due_in = Duration::from_secs(4);
        Scene {
            meeting,
            story,
            server: "campus",
            due_in,
            trouble: None,
            change: None,
            outcome,
            reopened: false,
        }
    }
}

fn scenes() -> Vec<Scene> {
    let order = |fault: Fault, meeting| Some(Trouble::Meeting(fault.on_meeting(meeting)));
    let once = |fault: Fault, meeting| Some(Trouble::Meeting(fault.on_meeting(meeting).times(1)));
    let session = |fault: sessions::Fault, meeting| Some(Trouble::Session(fault.on_meeting(meeting)));
    vec![
        Scene::new("plain", "ends at its deadline", Outcome::Ended),
        Scene {
            change: Some(Change::Extend { by: Duration::from_secs(3) }),
            ..Scene::new("extended", "its people asked for three seconds more", Outcome::Ended)
        },
        Scene {
            change: Some(Change::Cancel),
            ..Scene::new("cancelled", "somebody thinks better of it", Outcome::Cancelled)
        },
        Scene {
            trouble: once(Fault::Swallow, "swallowed"),
            ..Scene::new(
                "swallowed",
                "the server accepts the first end call and does nothing",
                Outcome::Ended,
            )
        },
        Scene {
            trouble: once(Fault::Recreate { after_ms: 100, participants: 3 }, "reopened"),
            reopened: true,
            ..Scene::new("reopened", "its users open it again 100 ms after the end", Outcome::Ended)
        },
        Scene {
            trouble: order(Fault::EndsItself { in_ms: 3_000 }, "already-over"),
            due_in: Duration::from_secs(5),
            ..Scene::new("already-over", "everybody has left before the deadline", Outcome::AlreadyOver)
        },
        Scene {
            trouble: order(Fault::Forgetful { answer: ForgetfulAnswer::BadGateway }, "forgotten"),
            server: "balanced",
            ..Scene::new(
                "forgotten",
                "its load balancer fails the end call and forgets the meeting",
                Outcome::Unconfirmed,
            )
        },
        Scene {
            trouble: session(sessions::Fault::EndsLate { ms: 2_000 }, "tutoring"),
            server: "videosdk",
            ..Scene::new("tutoring", "VideoSDK says yes, and goes on for two seconds", Outcome::Ended)
        },
        Scene {
            trouble: session(sessions::Fault::Ghost, "telehealth"),
            server: "realtimekit",
            ..Scene::new(
                "telehealth",
                "RealtimeKit sends everybody away and goes on billing: a ghost",
                Outcome::Ended,
            )
        },
    ]
}

pub fn run(_: Args, cx: &mut Cx) -> Result<ExitCode, Failure> {
    // A reader that has left is a failure of its own kind, and no error.
    perform(cx).map_err(|error| match error.downcast::<Failure>() {
        Ok(failure) => failure,
        Err(error) => Failure::new(ExitCode::Refused, format!("{error:#}")),
    })
}

fn perform(cx: &mut Cx) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Runtime::new().context("starting")?;
    let directory =
        tempfile::Builder::new().prefix("adjourn-demo-").tempdir().context("a temporary directory")?;
    let right = runtime.block_on(async {
        tokio::select! {
            right = demo(directory.path(), cx) => right,
            _ = tokio::signal::ctrl_c() => bail!("interrupted"),
        }
    })?;
    directory.close().context("removing the temporary directory")?;
    Ok(if right { ExitCode::Done } else { ExitCode::Refused })
}

async fn demo(directory: &Path, cx: &mut Cx) -> anyhow::Result<bool> {
    let servers = BTreeMap::from([
        ("campus", Server::bigbluebutton(Front::Direct).await?),
        ("balanced", Server::bigbluebutton(Front::Balancer).await?),
        ("videosdk", Server::videosdk().await?),
        ("realtimekit", Server::realtimekit().await?),
    ]);
    let daemon = start_daemon(directory, &servers).await?;
    let version = env!("CARGO_PKG_VERSION");
    say(cx, format_args!("adjourn {version} against simulated servers on this machine\n"))?;

    let scenes = scenes();
    let mut events = daemon.handle.events();
    let begun = clock::system_now().wall;
    let mut jobs = Vec::new();
    for scene in &scenes {
        jobs.push(set_up(scene, &servers[scene.server], &daemon.handle, begun).await?.id);
    }
    let mut stage = Stage::new(&scenes, cx);
    stage.open(cx)?;
    let told = tokio::time::timeout(AT_MOST, tell(&mut events, begun, &mut stage, &jobs, cx)).await;
    let right = verdict(&scenes, &jobs, &daemon.handle, &servers, cx)?;
    let _nobody_will_check_this_journal = daemon.drain().await;
    for server in servers.into_values() {
        server.stop().await;
    }
    match told {
        Ok(told) => told?,
        Err(_) => say(cx, format_args!("\nnot finished within {} s", AT_MOST.as_secs()))?,
    }
    Ok(right)
}

async fn start_daemon(directory: &Path, demo: &BTreeMap<&str, Server>) -> anyhow::Result<Daemon> {
    let limits = Limits { resend_after: RESEND_AFTER, prove_within: PROVE_WITHIN, ..Limits::default() };
    let mut servers = BTreeMap::new();
    for (name, server) in demo {
        let platform = server.settings().context("a sandbox's address")?;
        let settings = ServerSettings { platform, limits: limits.clone(), max_concurrent: 16 };
        servers.insert((*name).into(), settings);
    }
    let settings = Settings {
        state_dir: directory.join("state"),
        retention: Duration::from_secs(3600),
        socket: directory.join("control.sock"),
        socket_mode: 0o600,
        socket_group: None,
        servers,
        schedule: Arc::default(),
    };
    let reread = Arc::new(|| Err("the demo has no schedule file".to_owned()));
    let options = Options { settings, reread, checker: Checker::Child, config: Vec::new(), inherited: None };
    Daemon::start(options).await.context("the daemon did not start")
}

/// Creates the meeting, its fault and its deadline.
async fn set_up(scene: &Scene, server: &Server, handle: &Handle, begun: UtcMs) -> anyhow::Result<Job> {
    server.create(scene.meeting)?;
    if let Some(trouble) = &scene.trouble {
        server.trouble(trouble.clone())?;
    }
    let by = By::Peer { uid: rustix::process::getuid().as_raw(), pid: None };
    let submission = Submission {
        server: scene.server.into(),
        meeting: scene.meeting.into(),
        when: When::At(begun + scene.due_in),
        max_duration: None,
        only: None,
        limits: LimitsPatch::default(),
        key: None,
        hold: None,
        origin: Origin::Cli,
        by: by.clone(),
    };
    let receipt = handle.submit(submission).await?;
    match &scene.change {
        Some(change) => Ok(handle.change(receipt.job.id, None, change.clone(), by).await?.job),
        None => Ok(receipt.job),
    }
}

/// Prints the events until every job is done.
async fn tell(
    events: &mut broadcast::Receiver<Arc<Notice>>,
    begun: UtcMs,
    stage: &mut Stage<'_>,
    jobs: &[JobId],
    cx: &mut Cx,
) -> anyhow::Result<()> {
    let mut open: Vec<JobId> = jobs.to_vec();
    while !open.is_empty() {
        let notice = match events.recv().await {
            Ok(notice) => notice,
            Err(RecvError::Lagged(_)) => continue,
            Err(RecvError::Closed) => bail!("the daemon is gone"),
        };
        let Some(view) = &notice.job else { continue };
        let Some(at) = jobs.iter().position(|job| *job == view.id) else { continue };
        let since = clock::system_now().wall.ms_since(begun);
        stage.show(at, view, &notice.text, since, cx)?;
        if notice.event == "concluded" {
            open.retain(|job| *job != view.id);
        }
    }
    Ok(())
}

/// What is seen while it happens: on a terminal one line a meeting, which changes in place; elsewhere one a step.
struct Stage<'a> {
    scenes: &'a [Scene],
    lines: Vec<String>,
    /// Columns, where lines change in place.
    width: Option<usize>,
}

/// Columns of the names of the demo's meetings, and of outcomes.
const NAMES: usize = 13;
const OUTCOMES: usize = 12;

impl<'a> Stage<'a> {
    fn new(scenes: &'a [Scene], cx: &Cx) -> Stage<'a> {
        let width = cx.out.width().filter(|_| cx.out.redraws()).map(usize::from);
        Stage { scenes, lines: Vec::new(), width }
    }

    /// What is going to happen to each.
    fn open(&mut self, cx: &mut Cx) -> anyhow::Result<()> {
        for scene in self.scenes {
            if self.width.is_none() {
                let head = format!("{:<NAMES$} {:<OUTCOMES$} ", scene.meeting, "waiting");
                whole(cx, &head, scene.story)?;
                continue;
            }
            let line = self.line(scene, "waiting", None, scene.story);
            say(cx, format_args!("{line}"))?;
            self.lines.push(line);
        }
        if self.width.is_none() {
            say(cx, format_args!(""))?;
        }
        Ok(())
    }

    fn show(&mut self, at: usize, job: &JobView, text: &str, since: i64, cx: &mut Cx) -> anyhow::Result<()> {
        let scene = &self.scenes[at];
        if self.width.is_none() {
            let seconds = since as f64 / 1_000.0;
            let head = format!("{seconds:>8.3} s  {:<NAMES$} ", scene.meeting);
            return whole(cx, &head, &words::shortened(text));
        }
        let (outcome, text) = (words::outcome(job), words::shortened(text));
        // The conclusion begins with the word that stands before it already.
        let text = text.strip_prefix(outcome).and_then(|rest| rest.strip_prefix(": ")).unwrap_or(&text);
        self.lines[at] = self.line(scene, outcome, words::tone(job), text);
        // Up to the first line, and each line anew.
        let anew: Vec<String> = self.lines.iter().map(|line| format!("\r\u{1b}[K{line}")).collect();
        say(cx, format_args!("\u{1b}[{}A{}", anew.len(), anew.join("\n")))
    }

    fn line(&self, scene: &Scene, state: &str, tone: Option<Tone>, text: &str) -> String {
        let state = format!("{state:<OUTCOMES$}");
        let state = tone.map_or_else(|| state.clone(), |tone| tone.paint(&state));
        let room = self.width.map_or(usize::MAX, |width| width.saturating_sub(NAMES + OUTCOMES + 3));
        let mut pieces = table::wrapped(text, room.saturating_sub(1)).into_iter();
        let mut text = pieces.next().unwrap_or_default();
        if pieces.next().is_some() {
            text.push('…');
        }
        format!("{:<NAMES$} {state} {text}", scene.meeting)
    }
}

/// A line that nothing is written over: what a terminal has no room for goes on under its text.
fn whole(cx: &mut Cx, head: &str, text: &str) -> anyhow::Result<()> {
    let line = table::hanging(&cx.out, head, text);
    say(cx, format_args!("{line}"))
}

fn say(cx: &mut Cx, text: std::fmt::Arguments<'_>) -> anyhow::Result<()> {
    Ok(cx.out.line(text).and_then(|()| cx.out.flush())?)
}

/// The table, and whether everything came out as it should, in the eyes of the sandbox too.
fn verdict(
    scenes: &[Scene],
    jobs: &[JobId],
    handle: &Handle,
    servers: &BTreeMap<&str, Server>,
    cx: &mut Cx,
) -> anyhow::Result<bool> {
    let mut rows = Vec::new();
    let mut all_right = true;
    for (scene, id) in scenes.iter().zip(jobs) {
        let job = handle.store().get(*id)?.context("a job is gone")?;
        let right = judge(scene, &job, &servers[scene.server]);
        all_right &= right.is_ok();
        rows.push(row(scene, &job, right));
    }
    let heads = ["MEETING", "OUTCOME", "LATE BY", "PROVEN AFTER", "TRUE", "WHY"];
    let table = table::table(&cx.out, &heads, rows);
    say(cx, format_args!("\nWhat adjourn says, and whether the simulated servers agree\n\n{table}"))?;
    let conclusion = if all_right {
        Tone::Good.paint("every outcome is the right one")
    } else {
        Tone::Bad.paint("SOMETHING IS WRONG")
    };
    say(cx, format_args!("\n{conclusion}"))?;
    Ok(all_right)
}

fn row(scene: &Scene, job: &Job, right: anyhow::Result<()>) -> Vec<Cell> {
    let view = JobView::new(job, clock::system_now());
    let ms = |from: Option<UtcMs>, to: Option<UtcMs>| match (from, to) {
        (Some(from), Some(to)) => format!("{} ms", to.ms_since(from)),
        _ => "-".to_owned(),
    };
    let reopened = if was_reopened(job) { ", reopened" } else { "" };
    let (judged, tone) = match &right {
        Ok(()) => ("yes".to_owned(), Tone::Good),
        Err(wrong) => (format!("NO: {wrong:#}"), Tone::Bad),
    };
    vec![
        scene.meeting.to_owned().into(),
        Cell::toned(format!("{}{reopened}", words::outcome(&view)), words::tone(&view)),
        ms(Some(view.due), view.end_sent_at).into(),
        ms(view.end_sent_at, view.proven_at).into(),
        Cell::toned(judged, Some(tone)),
        words::shortened(&view.reason).into(),
    ]
}

/// Is another run of the meeting told, be it that it was there when the proof came, or that it was opened afterwards?
fn was_reopened(job: &Job) -> bool {
    job.reopened_at.is_some() || job.left_alone.is_some()
}

/// Compares what adjourn says with the truth.
fn judge(scene: &Scene, job: &Job, server: &Server) -> anyhow::Result<()> {
    ensure!(job.outcome == Some(scene.outcome), "should be {}", scene.outcome);
    ensure!(was_reopened(job) == scene.reopened, "reopened is reported wrongly");
    let runs = server.runs(scene.meeting);
    let first = runs.first().context("the meeting was never there")?;
    let over = matches!(scene.outcome, Outcome::Ended | Outcome::AlreadyOver);
    ensure!(first.alive != over, "the sandbox says otherwise");
    ensure!(first.hits.iter().all(|hit| *hit >= job.due), "ended early");
    for next in runs.iter().skip(1) {
        ensure!(next.hits.is_empty() && next.alive, "the reopened meeting was hit");
    }
    Ok(())
}
