//! `adjourn demo`: seven meetings on a simulated BigBlueButton, ended by a real daemon before your eyes.
//!
//! Everything runs in this process, on loopback and in a temporary directory that is removed afterwards. The verdict on
//! each meeting compares what adjourn says with what the sandbox knows to be true.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use super::context::Context as Cx;
use super::failure::Failure;
use super::{clean, table};
use crate::clock;
use crate::config::settings::{PlatformSettings, ServerSettings, Settings};
use crate::daemon::{Daemon, Options};
use crate::engine::Handle;
use crate::engine::api::{Notice, Service, Submission, When};
use crate::exit::ExitCode;
use crate::job::{By, Change, Job, JobId, JobView, Limits, LimitsPatch, Origin, Outcome, UtcMs};
use crate::platform::bigbluebutton;
use crate::sandbox::{self, Asked, Fault, FaultOrder, ForgetfulAnswer, Front, NewMeeting, Sandbox};
use crate::store::Checker;

/// The demo's longest; then whatever is missing counts as wrong.
const AT_MOST: Duration = Duration::from_secs(28);
/// An accepted end call is repeated sooner than in real life.
const RESEND_AFTER: Duration = Duration::from_secs(2);
const PROVE_WITHIN: Duration = Duration::from_secs(10);

/// See adjourn work in half a minute, with a simulated server
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
    fault: Option<FaultOrder>,
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
            fault: None,
            change: None,
            outcome,
            reopened: false,
        }
    }
}

fn scenes() -> Vec<Scene> {
    let order = |fault: Fault, meeting| Some(fault.on_meeting(meeting));
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
            fault: order(Fault::Swallow, "swallowed").map(|order| order.times(1)),
            ..Scene::new(
                "swallowed",
                "the server accepts the first end call and does nothing",
                Outcome::Ended,
            )
        },
        Scene {
            fault: order(Fault::Recreate { after_ms: 100, participants: 3 }, "reopened")
                .map(|order| order.times(1)),
            reopened: true,
            ..Scene::new("reopened", "its users open it again 100 ms after the end", Outcome::Ended)
        },
        Scene {
            fault: order(Fault::EndsItself { in_ms: 3_000 }, "already-over"),
            due_in: Duration::from_secs(5),
            ..Scene::new("already-over", "everybody has left before the deadline", Outcome::AlreadyOver)
        },
        Scene {
            fault: order(Fault::Forgetful { answer: ForgetfulAnswer::BadGateway }, "forgotten"),
            server: "balanced",
            ..Scene::new(
                "forgotten",
                "its load balancer fails the end call and forgets the meeting",
                Outcome::Unconfirmed,
            )
        },
    ]
}

pub fn run(_: Args, cx: &mut Cx) -> Result<ExitCode, Failure> {
    perform(cx).map_err(|error| Failure::new(ExitCode::Refused, format!("{error:#}")))
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
    let campus = start_sandbox(Front::Direct).await?;
    let balanced = start_sandbox(Front::Balancer).await?;
    let sandboxes = BTreeMap::from([("campus", &campus), ("balanced", &balanced)]);
    let daemon = start_daemon(directory, &sandboxes).await?;
    say(
        cx,
        format_args!(
            "adjourn {} against a simulated BigBlueButton on {}\n",
            env!("CARGO_PKG_VERSION"),
            campus.address()
        ),
    )?;

    let scenes = scenes();
    let mut events = daemon.handle.events();
    let begun = clock::system_now().wall;
    let mut jobs = Vec::new();
    for scene in &scenes {
        let sandbox = sandboxes[scene.server];
        jobs.push(set_up(scene, sandbox, &daemon.handle, begun).await?.id);
    }
    let told = tokio::time::timeout(AT_MOST, tell(&mut events, begun, &scenes, &jobs, cx)).await;
    let right = verdict(&scenes, &jobs, &daemon.handle, &sandboxes, cx)?;
    daemon.drain().await;
    campus.stop().await;
    balanced.stop().await;
    match told {
        Ok(told) => told?,
        Err(_) => say(cx, format_args!("\nnot finished within {} s", AT_MOST.as_secs()))?,
    }
    Ok(right)
}

async fn start_sandbox(front: Front) -> anyhow::Result<Sandbox> {
    let mut options = sandbox::Options::new(Arc::new(clock::wall_micros));
    options.settings.front = front;
    Sandbox::start(options).await
}

async fn start_daemon(directory: &Path, sandboxes: &BTreeMap<&str, &Sandbox>) -> anyhow::Result<Daemon> {
    let limits = Limits { resend_after: RESEND_AFTER, prove_within: PROVE_WITHIN, ..Limits::default() };
    let server = |sandbox: &Sandbox| -> anyhow::Result<ServerSettings> {
        let platform = PlatformSettings::BigBlueButton(bigbluebutton::Settings {
            url: sandbox.url().parse().context("the sandbox's address")?,
            secret: sandbox.secret().to_owned().into(),
            checksum: bigbluebutton::Algorithm::Sha256,
            front: bigbluebutton::Front::Auto,
            instance_ids: None,
            nodes: Vec::new(),
        });
        Ok(ServerSettings { platform, limits: limits.clone(), max_concurrent: 16 })
    };
    let mut servers = BTreeMap::new();
    for (name, sandbox) in sandboxes {
        servers.insert((*name).into(), server(sandbox)?);
    }
    let settings = Settings {
        state_dir: directory.join("state"),
        retention: Duration::from_secs(3600),
        socket: directory.join("control.sock"),
        socket_mode: 0o600,
        socket_group: None,
        servers,
        entries: Vec::new(),
    };
    let reread = Arc::new(|| Err("the demo has no schedule file".to_owned()));
    let options = Options { settings, reread, checker: Checker::Child, inherited: None };
    Daemon::start(options).await.context("the daemon did not start")
}

/// Creates the meeting, its fault and its deadline.
async fn set_up(scene: &Scene, sandbox: &Sandbox, handle: &Handle, begun: UtcMs) -> anyhow::Result<Job> {
    sandbox.create_meeting(&NewMeeting { participants: 3, ..NewMeeting::new(scene.meeting) })?;
    if let Some(order) = &scene.fault {
        sandbox.set_fault(order.clone())?;
    }
    let by = By::Peer { uid: rustix::process::getuid().as_raw(), pid: None };
    let submission = Submission {
        server: scene.server.into(),
        meeting: scene.meeting.into(),
        when: When::At(begun + scene.due_in),
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
    scenes: &[Scene],
    jobs: &[JobId],
    cx: &mut Cx,
) -> anyhow::Result<()> {
    let mut open: Vec<JobId> = jobs.to_vec();
    let mut told_story: Vec<JobId> = Vec::new();
    while !open.is_empty() {
        let notice = match events.recv().await {
            Ok(notice) => notice,
            Err(RecvError::Lagged(_)) => continue,
            Err(RecvError::Closed) => bail!("the daemon is gone"),
        };
        let Some(view) = &notice.job else { continue };
        let Some(at) = jobs.iter().position(|job| *job == view.id) else { continue };
        if !told_story.contains(&view.id) {
            told_story.push(view.id);
            say(cx, format_args!("           {:<13} {}", scenes[at].meeting, scenes[at].story))?;
        }
        let since = clock::system_now().wall.ms_since(begun);
        let seconds = since as f64 / 1_000.0;
        say(cx, format_args!("{seconds:>8.3} s {:<13} {}", scenes[at].meeting, clean(&notice.text)))?;
        if notice.event == "concluded" {
            open.retain(|job| *job != view.id);
        }
    }
    Ok(())
}

fn say(cx: &mut Cx, text: std::fmt::Arguments<'_>) -> anyhow::Result<()> {
    cx.out.line(text).and_then(|()| cx.out.flush()).map_err(|failure| anyhow::anyhow!("{}", failure.what()))
}

/// The table, and whether everything came out as it should, in the eyes of the sandbox too.
fn verdict(
    scenes: &[Scene],
    jobs: &[JobId],
    handle: &Handle,
    sandboxes: &BTreeMap<&str, &Sandbox>,
    cx: &mut Cx,
) -> anyhow::Result<bool> {
    let mut rows = Vec::new();
    let mut all_right = true;
    for (scene, id) in scenes.iter().zip(jobs) {
        let job = handle.store().get(*id)?.context("a job is gone")?;
        let right = judge(scene, &job, sandboxes[scene.server]);
        all_right &= right.is_ok();
        rows.push(row(scene, &job, right));
    }
    let heads = ["meeting", "due", "late by", "proof after", "outcome", "reason", ""];
    let table = table::table(&cx.out, &heads, rows);
    say(cx, format_args!("\n{table}"))?;
    let conclusion = if all_right { "every outcome is the right one" } else { "SOMETHING IS WRONG" };
    say(cx, format_args!("\n{conclusion}"))?;
    Ok(all_right)
}

fn row(scene: &Scene, job: &Job, right: anyhow::Result<()>) -> Vec<String> {
    let view = JobView::new(job, clock::system_now());
    let ms = |from: Option<UtcMs>, to: Option<UtcMs>| match (from, to) {
        (Some(from), Some(to)) => format!("{} ms", to.ms_since(from)),
        _ => "-".to_owned(),
    };
    let reopened = if job.reopened_at.is_some() { " (reopened)" } else { "" };
    vec![
        scene.meeting.to_owned(),
        view.due.timestamp().strftime("%H:%M:%S%.3f").to_string(),
        ms(Some(view.due), view.end_sent_at),
        ms(view.end_sent_at, view.proven_at),
        format!("{}{reopened}", view.outcome.map_or("none", Outcome::as_str)),
        clean(&view.reason),
        right.map_or_else(|wrong| format!("WRONG: {wrong:#}"), |()| "right".to_owned()),
    ]
}

/// Compares what adjourn says with the truth.
fn judge(scene: &Scene, job: &Job, sandbox: &Sandbox) -> anyhow::Result<()> {
    ensure!(job.outcome == Some(scene.outcome), "should be {}", scene.outcome);
    ensure!(job.reopened_at.is_some() == scene.reopened, "reopened is reported wrongly");
    let truth = sandbox.truth(&Asked::default());
    let instances = truth.instances(scene.meeting);
    let first = instances.first().context("the meeting was never there")?;
    let over = matches!(scene.outcome, Outcome::Ended | Outcome::AlreadyOver);
    ensure!(first.alive() != over, "the sandbox says otherwise");
    ensure!(first.hits.iter().all(|hit| hit.at >= job.due), "ended early");
    for next in instances.iter().skip(1) {
        ensure!(next.hits.is_empty() && next.alive(), "the reopened meeting was hit");
    }
    Ok(())
}
