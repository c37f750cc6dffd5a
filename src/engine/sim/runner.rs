//! One history: processes come and go on the same disk, in the same world, until everything has come to rest.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::sync::{broadcast, mpsc};
use tokio_util::sync::CancellationToken;
use uuid::{NoContext, Timestamp, Uuid};

use super::check::{Checker, Law, Track, Violation};
use super::clock::{EPOCH, MachineClock, Ms};
use super::housekeeping;
use super::laws::called_in_time::allowance;
use super::people;
use super::plan::{Item, Plan};
use super::platform::SimPlatform;
use super::sim::{Quirk, Sim};
use super::standing::Standing;
use super::store::{self, SimStore};
use super::world::Flavour;
use crate::config::settings::{PlatformSettings, ServerSettings, Settings};
use crate::engine::core::{Core, Makers, Parts};
use crate::engine::weigh::RuleBook;
use crate::engine::{EVENTS, Handle, REQUESTS};
use crate::job::{Job, JobId, Limits, Now, Outcome, ServerName, State, UtcMs};
use crate::platform::network::Network;
use crate::platform::{Platform, bigbluebutton};
use crate::schedule::{Entry, Schedule};

/// When nothing goes wrong any more, everything that is due is done after this, whatever stands there ...
const REST: Ms = 85 * 60_000;
/// ... and before this where the platform always tells the truth.
const REST_OF_VENDOR: Ms = 20 * 60_000;
/// Standing entries and rules are watched for so long after that.
const CALM: Ms = 12 * 60_000;
/// The last look comes a minute after the proof.
const LINGER: Ms = 75_000;
/// An engine that does not start is started again this much later.
const START_AGAIN: Ms = 5_000;

/// What a history came to.
pub struct Report {
    pub violations: Vec<Violation>,
    /// Warnings that left.
    pub told: u64,
    pub effects: u64,
    pub faults: u64,
    pub outcomes: BTreeMap<Outcome, u64>,
    /// As the disk has them at the end.
    pub jobs: Vec<Job>,
    pub story: Vec<String>,
}

/// Why a process is not there any more.
enum Exit {
    Rest,
    Died,
    Crash { away: Ms, reboot: bool, keep: usize },
    Stop { away: Ms },
}

/// The schedule file.
#[derive(Clone, Default)]
pub struct File {
    /// Entries with a time: name, site, room, time.
    pub entries: Vec<(usize, usize, usize, Ms)>,
    pub standing: Standing,
    /// Servers whose url is another's.
    pub moved: BTreeMap<usize, usize>,
}

/// What outlives a process on the people's side.
#[derive(Default)]
pub struct Outside {
    next: usize,
    /// The schedule file as it is now.
    pub file: File,
    /// Requests with a key that nobody has answered.
    pub unanswered: BTreeSet<usize>,
    pub slots: BTreeMap<usize, JobId>,
}

pub fn run(plan: &Plan, quirk: Quirk, tell: bool) -> Report {
    let sim = Sim::new(plan.clone(), quirk, tell);
    let sets_clock = |item: &Item| matches!(item, Item::StepWall { .. } | Item::StartsAhead { .. });
    sim.check.lock().unwrap().keeper.clock_is_set = plan.items.iter().any(sets_clock);
    let outside = Arc::new(Mutex::new(Outside::default()));
    loop {
        sim.check.lock().unwrap().restarted(sim.clock.truth());
        let runtime = runtime(&sim);
        let exit = runtime.block_on(process(&sim, &outside));
        drop(runtime);
        match exit {
            Exit::Rest => break,
            Exit::Died => come_back(&sim, START_AGAIN, false, 0),
            Exit::Crash { away, reboot, keep } => come_back(&sim, away, reboot, keep),
            Exit::Stop { away } => {
                store::close(&sim);
                come_back(&sim, away, false, 0);
            }
        }
    }
    last_questions(&sim);
    let story = sim.story();
    let mut check = sim.check.lock().unwrap();
    for (law, at, what) in check.told.take_broken() {
        check.flag(law, at, what);
    }
    let violations = std::mem::take(&mut check.violations);
    let told = check.told.count;
    let outcomes = check.outcomes.clone();
    let jobs = sim.disk.lock().unwrap().jobs.values().cloned().collect();
    let (effects, faults) = (sim.effects(), sim.faults.load(Ordering::Relaxed));
    Report { violations, told, effects, faults, outcomes, jobs, story }
}

fn runtime(sim: &Arc<Sim>) -> Runtime {
    let clock = sim.clock.clone();
    Builder::new_current_thread().on_thread_park(move || clock.idle()).build().unwrap()
}

fn come_back(sim: &Sim, away: Ms, reboot: bool, keep: usize) {
    store::crash(sim, keep);
    let from = sim.clock.truth();
    sim.clock.pass(away);
    sim.check.lock().unwrap().aways.push((from, from + away));
    sim.clock.restart(reboot);
    sim.lives_again();
    let now = sim.advance();
    sim.say(|| {
        format!("the process is back after {away} ms{}", if reboot { ", the machine rebooted" } else { "" })
    });
    let disk = sim.disk.lock().unwrap();
    sim.check.lock().unwrap().survived(&disk.jobs, now);
}

/// One process, from its start to its end.
async fn process(sim: &Arc<Sim>, outside: &Arc<Mutex<Outside>>) -> Exit {
    let shutdown = CancellationToken::new();
    let Some((handle, engine)) = start(sim, outside, shutdown.clone()) else {
        return Exit::Crash { away: START_AGAIN, reboot: false, keep: 0 };
    };
    people::ask_again(sim, outside, &handle);
    if sim.plan.has_standing() {
        housekeeping::keep(sim, &handle);
    }
    let exit = tokio::select! {
        biased;
        () = sim.death.notified() => return Exit::Died,
        () = sim.give_up.notified() => return Exit::Rest,
        exit = drive(sim, outside, &handle) => exit,
    };
    if let Exit::Stop { .. } = exit {
        sim.say(|| "the process is asked to stop".to_owned());
        shutdown.cancel();
        tokio::select! {
            biased;
            () = sim.death.notified() => return Exit::Died,
            ended = engine => ended.unwrap().unwrap(),
        }
    }
    exit
}

fn start(
    sim: &Arc<Sim>,
    outside: &Arc<Mutex<Outside>>,
    shutdown: CancellationToken,
) -> Option<(Handle, tokio::task::JoinHandle<std::io::Result<()>>)> {
    let (requests, receiver) = mpsc::channel(REQUESTS);
    let (inbox, inner) = mpsc::unbounded_channel();
    let (events, _) = broadcast::channel(EVENTS);
    let clock = Arc::new(MachineClock(sim.clock.clone()));
    let store = SimStore::start(sim);
    let mut core = Core::new(Parts {
        clock: clock.clone(),
        store: store.clone(),
        state_dir: "/simulated".into(),
        servers: BTreeMap::new(),
        events: events.clone(),
        inbox,
    });
    core.makers = makers(sim);
    let metrics = core.metrics.clone();
    let file = outside.lock().unwrap().file.clone();
    sim.restarted(&file.standing);
    let settings = settings(sim, &file);
    if let Err(refusal) = core.start_with(&settings, None) {
        sim.say(|| format!("engine: does not start: {refusal}"));
        return None;
    }
    let engine = tokio::spawn(core.run(receiver, inner, shutdown));
    let reread: Arc<crate::engine::Reread> = Arc::new(|| Err("there is no file".to_owned()));
    let (state_dir, socket) = ("/simulated".into(), "/simulated".into());
    let reloading = Arc::default();
    let read_feeds: Arc<crate::engine::ReadFeeds> = Arc::new(|_, _| Box::pin(async { Default::default() }));
    let lacks_feeds = Arc::default();
    let handle = Handle {
        requests,
        events,
        store,
        clock,
        reread,
        read_feeds,
        lacks_feeds,
        metrics,
        state_dir,
        socket,
        config: Arc::default(),
        reloading,
    };
    Some((handle, engine))
}

fn makers(sim: &Arc<Sim>) -> Makers {
    let (ids, sites) = (sim.clone(), sim.clone());
    Makers {
        rules: RuleBook::default(),
        new_id: Arc::new(move |now| new_id(&ids, now)),
        build: Arc::new(move |name, settings, _| {
            let site = sites.site_of(name);
            let host = host_of(settings);
            let (sim, flavour) = (sites.clone(), sites.plan.sites[host].flavour);
            let took = AtomicI64::default();
            Ok(Arc::new(SimPlatform { sim, site, host, flavour, took }) as Arc<dyn Platform>)
        }),
    }
}

fn new_id(sim: &Sim, now: Now) -> JobId {
    let count = sim.ids.fetch_add(1, Ordering::Relaxed);
    let seconds = now.wall.0.unsigned_abs() / 1_000;
    let time = Uuid::new_v7(Timestamp::from_unix(NoContext, seconds, 0)).as_u128() >> 80 << 80;
    // The seed spreads arms and back-offs; the count keeps ids apart.
    let spread = u128::from(sim.plan.seed.wrapping_mul(0x9e37_79b9) & 0xffff) << 32;
    JobId(Uuid::from_u128(time | (7 << 76) | (2 << 62) | spread | u128::from(count)))
}

pub fn server(site: usize) -> ServerName {
    ServerName(format!("server-{site}"))
}

/// Whose meetings are found at the url.
fn host_of(settings: &PlatformSettings) -> usize {
    let host = match settings {
        PlatformSettings::BigBlueButton(settings) => settings.url.host_str(),
        _ => None,
    };
    let host = host.and_then(|name| name.strip_suffix(".invalid"));
    host.and_then(|name| name.strip_prefix("host-")?.parse().ok()).expect("hosts are numbered")
}

pub fn settings(sim: &Sim, file: &File) -> Settings {
    let host = |at: usize| file.moved.get(&at).copied().unwrap_or_else(|| sim.home(at));
    let spec = |at: usize, site: &super::plan::Site| ServerSettings {
        platform: PlatformSettings::BigBlueButton(bigbluebutton::Settings {
            url: format!("http://host-{}.invalid/bigbluebutton/api/", host(at)).parse().unwrap(),
            network: Network::default(),
            secret: format!("unused-{at}").into(),
            checksum: bigbluebutton::Algorithm::Sha256,
            front: bigbluebutton::Front::Direct,
            believe: bigbluebutton::Believe::Proof,
            instance_ids: None,
            nodes: Vec::new(),
        }),
        limits: Limits::default(),
        max_concurrent: site.max_concurrent,
    };
    let entry = |(name, site, room, at): &(usize, usize, usize, Ms)| Entry {
        identity: format!("entry-{name}"),
        of: None,
        server: server(*site),
        meeting: sim.meeting(*site, *room),
        instance: None,
        at: UtcMs(EPOCH + at),
        limits: Limits::default(),
    };
    Settings {
        state_dir: "/simulated".into(),
        retention: Duration::from_secs(30 * 24 * 3600),
        socket: "/simulated".into(),
        socket_mode: 0o660,
        socket_group: None,
        servers: sim.plan.sites.iter().enumerate().map(|(at, site)| (server(at), spec(at, site))).collect(),
        schedule: Arc::new(Schedule {
            entries: file.entries.iter().map(entry).collect(),
            ..file.standing.seen_with(sim.quirk).schedule()
        }),
    }
}

/// Does what the plan says, each thing at its time, then waits for everything to come to rest.
async fn drive(sim: &Arc<Sim>, outside: &Arc<Mutex<Outside>>, handle: &Handle) -> Exit {
    loop {
        let next = outside.lock().unwrap().next;
        let Some(item) = sim.plan.items.get(next) else { break };
        outside.lock().unwrap().next += 1;
        if !item.is_driven() {
            continue;
        }
        sim.clock.until(item.span().0).await;
        sim.advance();
        match item {
            Item::StepWall { by, .. } => {
                sim.faults.fetch_add(1, Ordering::Relaxed);
                sim.clock.step_wall(*by);
                sim.say(|| format!("the wall clock is set by {by} ms"));
            }
            Item::Suspend { pause, .. } => {
                sim.faults.fetch_add(1, Ordering::Relaxed);
                sim.say(|| format!("the machine sleeps for {pause} ms"));
                sim.check.lock().unwrap().sleeps(sim.machine_now().wall);
                sim.clock.pass(*pause);
            }
            Item::Crash { away, reboot, keep, .. } => {
                sim.faults.fetch_add(1, Ordering::Relaxed);
                sim.say(|| format!("the process is killed, {keep} writes on their way make it"));
                return Exit::Crash { away: *away, reboot: *reboot, keep: *keep };
            }
            Item::Stop { away, .. } => return Exit::Stop { away: *away },
            _ => people::act(sim, outside, handle, next),
        }
    }
    if sim.plan.has_standing() {
        retire(sim, outside, handle).await;
    }
    rest(sim, handle).await;
    Exit::Rest
}

/// What stands in the file goes on for a while in which nothing goes wrong, and is then taken out of it.
async fn retire(sim: &Arc<Sim>, outside: &Mutex<Outside>, handle: &Handle) {
    sim.clock.until(sim.plan.quiet_from().max(sim.clock.truth()) + CALM).await;
    sim.at_rest();
    outside.lock().unwrap().file.standing = Standing::default();
    sim.say(|| "people: nothing stands in the schedule file any more".to_owned());
    sim.check.lock().unwrap().file_says(&Standing::default(), sim.clock.wall(), sim.clock.truth());
    if !people::reload(sim, outside, handle).await {
        let now = sim.clock.truth();
        sim.check.lock().unwrap().flag(Law::ComesBack, now, "the schedule file cannot be reloaded any more");
        sim.give_up.notify_one();
        std::future::pending::<()>().await;
    }
}

async fn rest(sim: &Arc<Sim>, handle: &Handle) {
    sim.clock.until(sim.plan.quiet_from()).await;
    let mut quiet_since = sim.clock.truth();
    loop {
        let Some((due, vendor)) = open(sim) else {
            // A job that was held a moment ago may have been released.
            sim.clock.wait(LINGER).await;
            if open(sim).is_none() {
                break;
            }
            continue;
        };
        // A due that a clock step has put hours ahead is waited for.
        quiet_since = quiet_since.max(due.min(sim.clock.truth()));
        let bound = if vendor { REST_OF_VENDOR } else { REST };
        if sim.clock.truth() > quiet_since.max(due) + bound {
            break;
        }
        sim.clock.wait(30_000).await;
    }
    let status = handle.engine_status().await.expect("the engine is there");
    let behind = status.store.behind;
    let recovered = sim.disk.lock().unwrap().last_put_succeeded;
    if behind > 0 || (recovered && status.store.error.is_some()) {
        let what = format!("{behind} jobs are not written, error {:?}", status.store.error);
        sim.check.lock().unwrap().flag(Law::FullDisk, sim.clock.truth(), what);
    }
}

/// When the last job that has to come to an end is due; `true`: all of them are with a vendor.
fn open(sim: &Sim) -> Option<(Ms, bool)> {
    let disk = sim.disk.lock().unwrap();
    let waits = |job: &&Job| !job.is_done() && job.state != State::Held && !job.due.is_never();
    let open = disk.jobs.values().filter(waits);
    let vendor = |job: &Job| sim.plan.sites[sim.site_of(&job.server)].flavour == Flavour::Vendor;
    open.map(|job| (sim.clock.truth_of(job.due), vendor(job)))
        .reduce(|(a, all), (b, vendor)| (a.max(b), all && vendor))
}

/// When all is over: is everything done that should be, and was it done in time?
fn last_questions(sim: &Sim) {
    let disk = sim.disk.lock().unwrap();
    let mut check = sim.check.lock().unwrap();
    let now = sim.clock.truth();
    if sim.clock.is_busy_loop() {
        check.flag(Law::Bounded, now, "the engine is in a busy loop");
        return;
    }
    check.survived(&disk.jobs, now);
    check.settle_refusals();
    for job in disk.jobs.values() {
        let waits = job.is_done() || job.state == State::Held || job.due.is_never();
        if !waits && !is_beyond_proof(sim, &check, job) {
            let what = format!("job {} is still {}: {}", job.id.short(), job.state, job.sentence());
            check.flag(Law::ComesBack, now, what);
        }
    }
    let mut late = Vec::new();
    for (id, track) in &check.tracks {
        if let Some((law, in_time)) = allowance(sim, &check.aways, track) {
            let due = sim.clock.truth_of(track.job.due);
            let first = track.calls.first().map(|call| call.at - due);
            if first.is_none_or(|late| late > in_time) && !check.is_carried(track, due + in_time) {
                late.push((
                    law,
                    due,
                    format!("job {}: its first call left {first:?} ms after due", id.short()),
                ));
            }
        }
    }
    late.into_iter().for_each(|(law, at, what)| check.flag(law, at, what));
}

/// Somebody else is in the meeting, and nothing that this server says can prove that ours is over: the job waits for its
/// `give-up-after`.
fn is_beyond_proof(sim: &Sim, check: &Checker, job: &Job) -> bool {
    let vendor = sim.plan.sites[sim.site_of(&job.server)].flavour == Flavour::Vendor;
    !vendor && check.tracks.get(&job.id).is_some_and(Track::sees_another)
}
