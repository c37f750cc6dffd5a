//! Storms: thousands of jobs, several clients at once, and the daemon cut off at any moment, also while it starts.
//!
//! After every cut each acknowledged answer is compared with what the daemon says now, and in the end every deadline with
//! the sandbox's truth. An answer that was lost leaves two possibilities, a refusal leaves none.
//!
//! `CRASH_ROUNDS=2000 cargo test --test it a_storm_of_kills -- --nocapture` runs as many rounds as one likes, `STORM_SEED`
//! repeats what the clients ask for; the moments of the cuts are the machine's.

pub mod client;
mod ledger;
pub mod life;

use std::collections::BTreeSet;
use std::process::Command;
use std::time::Duration;

use adjourn::clock;
use adjourn::sandbox::{Asked, InstanceTruth};
use fastrand::Rng;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::harness::{Bed, PATIENCE, Plan, check_truth};
use client::{Answer, Client, Counts, Submit, Wire};
use ledger::{Known, Shared, View};
use life::{Life, Start};

/// Rounds in an ordinary test run.
const ROUNDS: u32 = 20;
const CLIENTS: u64 = 4;
/// A cut comes so long after the first request, at most.
const LONGEST_ROUND_MS: u64 = 300;
/// Starts that are cut off, in a row, at most.
const MOST_HURRIED: u32 = 3;
const LONGEST_HURRIED_MS: u64 = 400;
/// Starts in a row that may end with 75.
const MOST_RESTARTS: u32 = 5;
/// Jobs of each client that nobody touched and that are compared too, about so many after every cut.
const SAMPLE: usize = 8;
/// Every so many rounds the daemon is left alone until everything due is done.
const CALM_EVERY: u32 = 25;
/// What is claimed to be over needs two looks, and the rounds leave no time for that.
const LIMITS: &str = "prove-within = \"30m\"\n";

/// How a daemon is cut off.
pub trait Cut {
    fn prepare(&self, command: &mut Command);
    fn kill(&self, life: Life) -> Result<(), String>;
    /// The process is gone; what does its state directory look like now?
    fn after(&mut self, bed: &Bed, rng: &mut Rng);
}

/// `kill -9` and nothing else: the disk keeps everything.
pub struct Kill;

impl Cut for Kill {
    fn prepare(&self, _command: &mut Command) {}
    fn kill(&self, life: Life) -> Result<(), String> {
        life.kill()
    }
    fn after(&mut self, _bed: &Bed, _rng: &mut Rng) {}
}

/// What came of a storm.
#[derive(Debug, Default)]
pub struct Figures {
    pub rounds: u32,
    pub cuts: u32,
    pub hurried: u32,
    pub jobs: usize,
    pub requests: Counts,
    pub compared: u64,
    pub outcomes: u64,
    /// Jobs whose call the daemon knows nothing of: the disk was so slow that the call left without its claim, which was
    /// then cut off. The design allows it; many of them on a quick disk are a fault.
    pub unclaimed: BTreeSet<String>,
    pub violations: Vec<String>,
}

pub struct Storm<C> {
    pub bed: Bed,
    pub cut: C,
    pub figures: Figures,
    seed: u64,
    rng: Rng,
    runtime: Runtime,
    clients: Vec<Client>,
    shared: Option<Shared>,
}

impl<C: Cut> Storm<C> {
    pub fn new(cut: impl FnOnce(&Bed) -> C) -> Storm<C> {
        let seed = number("STORM_SEED").unwrap_or_else(|| fastrand::u64(0..u64::from(u32::MAX)));
        let bed = Plan::default().server(LIMITS).lay();
        let cut = cut(&bed);
        let clients = (0..CLIENTS).map(|n| Client::new(format!("client{n}"), seed + n)).collect();
        Storm {
            cut,
            bed,
            figures: Figures::default(),
            seed,
            rng: Rng::with_seed(seed),
            runtime: Runtime::new().unwrap(),
            clients,
            shared: None,
        }
    }

    /// So many rounds, then calm: the figures, with the first violations that were met.
    pub fn run(&mut self, rounds: u32) {
        let mut life = self.start();
        for round in 1..=rounds {
            let Some(alive) = life else { return };
            life = self.round(alive);
            self.figures.rounds = round;
            if !self.figures.violations.is_empty() {
                return;
            }
            if round % CALM_EVERY == 0 {
                self.calm();
                eprintln!("{}", self.summary());
            }
        }
        self.calm();
        self.compare(usize::MAX);
        eprintln!("{}", self.summary());
    }

    pub fn summary(&self) -> String {
        let Figures { rounds, cuts, hurried, jobs, requests, compared, outcomes, unclaimed, violations } =
            &self.figures;
        format!(
            "seed {}: {rounds} rounds, {cuts} cuts ({hurried} while starting), {jobs} jobs, {} acknowledged, {} \
             refused, {} lost, {compared} compared, {outcomes} outcomes ({} unclaimed), {} violations",
            self.seed,
            requests.acknowledged,
            requests.refused,
            requests.lost,
            unclaimed.len(),
            violations.len(),
        )
    }

    /// What is found wrong is kept: the state directory, as the last daemon left it.
    #[track_caller]
    pub fn assert_no_violation(&self) {
        let violations = &self.figures.violations;
        if violations.is_empty() {
            return;
        }
        let kept = std::env::temp_dir().join(format!("adjourn-storm-{}", self.seed));
        let copied = Command::new("cp").arg("-a").args([&self.bed.path("state"), &kept]).status();
        eprintln!("the state directory is kept in {}: {copied:?}", kept.display());
        panic!("{}\n{}", self.summary(), violations.join("\n"));
    }

    /// Under load, cut off, started again (at times only after some starts that were cut off too), compared.
    fn round(&mut self, life: Life) -> Option<Life> {
        // What the log says is about the last round.
        std::fs::write(self.bed.path("daemon.log"), "").unwrap();
        self.load(life);
        if self.rng.u32(0..3) == 0 {
            for _ in 0..self.rng.u32(1..=MOST_HURRIED) {
                self.hurried_start();
            }
        }
        let life = self.start()?;
        self.compare(SAMPLE);
        Some(life)
    }

    fn load(&mut self, life: Life) {
        let shared = self.shared_id();
        let tasks: Vec<_> = std::mem::take(&mut self.clients)
            .into_iter()
            .map(|client| {
                let wire = Wire::new(self.bed.socket());
                self.runtime.spawn(client.run(wire, self.bed.sandbox.control().clone(), shared.clone()))
            })
            .collect();
        // Not a wait for something: the moment of the cut.
        let moment = Duration::from_millis(self.rng.u64(0..LONGEST_ROUND_MS));
        std::thread::park_timeout(moment);
        self.cut_off(life);
        for task in tasks {
            let mut client = self.runtime.block_on(task).unwrap();
            let counts = std::mem::take(&mut client.counts);
            self.figures.requests.acknowledged += counts.acknowledged;
            self.figures.requests.refused += counts.refused;
            self.figures.requests.lost += counts.lost;
            let (acknowledged, lost) = std::mem::take(&mut client.shared);
            if let Some(shared) = &mut self.shared {
                shared.acknowledged += acknowledged;
                shared.lost += lost;
            }
            self.figures.violations.append(&mut client.wrong);
            self.clients.push(client);
        }
    }

    fn cut_off(&mut self, life: Life) {
        self.figures.cuts += 1;
        if let Err(why) = self.cut.kill(life) {
            self.figures.violations.push(why);
        }
        self.cut.after(&self.bed, &mut self.rng);
    }

    /// A start that is cut off, unless it is faster.
    fn hurried_start(&mut self) {
        let within = Duration::from_millis(self.rng.u64(0..LONGEST_HURRIED_MS));
        match Life::start(&self.bed, Some(within), |command| self.cut.prepare(command)) {
            Start::Ready(life) | Start::Under(life) => {
                self.figures.hurried += 1;
                self.cut_off(life);
            }
            Start::Ended(why) if why.ends_with("exit status: 75") => {}
            Start::Ended(why) => self.figures.violations.push(why),
        }
    }

    /// As systemd does it: what ends with 75 is started again. A child of a killed daemon that has not got to its exec yet
    /// holds the lock for a moment.
    fn start(&mut self) -> Option<Life> {
        for _ in 0..MOST_RESTARTS {
            match Life::start(&self.bed, None, |command| self.cut.prepare(command)) {
                Start::Ready(life) | Start::Under(life) => return Some(life),
                Start::Ended(why) if why.ends_with("exit status: 75") => {}
                Start::Ended(why) => {
                    self.figures.violations.push(format!("{why}\n{}", self.bed.log()));
                    return None;
                }
            }
        }
        self.figures.violations.push(format!("it does not start\n{}", self.bed.log()));
        None
    }

    fn shared_id(&mut self) -> String {
        if self.shared.is_none() {
            let body = json!({"server": "campus", "meeting": "shared", "in": "2000h"});
            match self.ask(Method::POST, "jobs", &body) {
                Answer::Done(_, job) => self.shared = Some(Shared::new(View::read(&job))),
                Answer::Refused(..) | Answer::Lost => panic!("nothing can be submitted\n{}", self.bed.log()),
            }
        }
        self.shared.as_ref().map(|shared| shared.view.id.clone()).unwrap_or_default()
    }

    /// Everything that this round has touched, and some of the rest.
    fn compare(&mut self, sample: usize) {
        let wire = self.wire();
        let mut clients = std::mem::take(&mut self.clients);
        for client in &mut clients {
            self.send_again(client, &wire);
            for index in 0..client.jobs.len() {
                let chosen = sample >= client.jobs.len() || self.rng.usize(0..client.jobs.len()) < sample;
                if chosen || client.jobs[index].0.fresh {
                    let (known, submit) = &mut client.jobs[index];
                    self.compare_one(known, submit, &wire);
                }
            }
        }
        self.clients = clients;
        self.figures.jobs = self.clients.iter().map(|client| client.jobs.len()).sum();
        if let Some(mut shared) = self.shared.take() {
            let found = self.read(&wire, &shared.view.id);
            let judged = shared.judge(found.as_ref());
            self.note(&shared.view.id, judged);
            if let Some(found) = found {
                shared = Shared::new(found);
            }
            self.shared = Some(shared);
        }
    }

    fn compare_one(&mut self, known: &mut Known, submit: &Submit, wire: &Wire) {
        let found = self.read(wire, &known.view.id);
        let judged = known.judge(found.as_ref(), clock::system_now().wall.0);
        self.note(&known.view.id, judged);
        if let Some(found) = found {
            *known = Known::compared(found);
        }
        if !submit.put && self.rng.u32(0..8) == 0 {
            let again = self.runtime.block_on(submit.send(wire));
            let same = matches!(&again, Answer::Done(200, job) if job["id"] == known.view.id.as_str());
            let judged = if same { Ok(()) } else { Err(format!("its key {} is forgotten", submit.key)) };
            self.note(&known.view.id, judged);
        }
    }

    /// What was not answered is sent again under its key: then it is acknowledged.
    fn send_again(&mut self, client: &mut Client, wire: &Wire) {
        for submit in std::mem::take(&mut client.lost) {
            match self.runtime.block_on(submit.send(wire)) {
                Answer::Done(_, job) => {
                    client.jobs.push((Known::acknowledged(View::read(&job)), submit));
                }
                Answer::Refused(status, body) => {
                    self.figures.violations.push(format!("{submit:?} was refused: {status} {body}"));
                }
                Answer::Lost => self.figures.violations.push(format!("{submit:?} got no answer in calm")),
            }
        }
    }

    fn note(&mut self, id: &str, judged: Result<(), String>) {
        self.figures.compared += 1;
        if let Err(why) = judged {
            let story = match self.ask(Method::GET, &format!("jobs/{id}"), &Value::Null) {
                Answer::Done(_, job) | Answer::Refused(_, job) => format!("{job:#}"),
                Answer::Lost => "no answer".to_owned(),
            };
            self.figures
                .violations
                .push(format!("round {}: job {id}: {why}\n{story}", self.figures.rounds + 1));
        }
    }

    fn read(&self, wire: &Wire, id: &str) -> Option<View> {
        match self.runtime.block_on(wire.ask(Method::GET, &format!("jobs/{id}"), &Value::Null, None)) {
            Answer::Done(_, job) => Some(View::read(&job)),
            Answer::Refused(..) | Answer::Lost => None,
        }
    }

    fn wire(&self) -> Wire {
        // The client's runtime is this one.
        let _inside = self.runtime.enter();
        Wire::new(self.bed.socket())
    }

    fn ask(&self, method: Method, path: &str, body: &Value) -> Answer {
        self.runtime.block_on(self.wire().ask(method, path, body, None))
    }

    /// Left alone until everything due is done; then every outcome is held against the truth.
    fn calm(&mut self) {
        let wire = self.wire();
        let mut clients = std::mem::take(&mut self.clients);
        for (known, submit) in clients.iter_mut().flat_map(|client| &mut client.jobs) {
            let near = submit.body.get("in").is_some();
            if near && !known.view.is_done() && self.figures.violations.is_empty() {
                self.outcome(known, &wire);
            }
        }
        // Concluded jobs stay in the comparisons; their meetings are over.
        self.clients = clients;
    }

    fn outcome(&mut self, known: &mut Known, wire: &Wire) {
        let began = clock::system_now();
        let job = loop {
            let now = clock::system_now();
            let path = format!("jobs/{}", known.view.id);
            let job = match self.runtime.block_on(wire.ask(Method::GET, &path, &Value::Null, None)) {
                Answer::Done(_, job) => job,
                Answer::Refused(..) | Answer::Lost => Value::Null,
            };
            let view = (!job.is_null()).then(|| View::read(&job));
            let judged = known.judge(view.as_ref(), now.wall.0);
            let broken = judged.is_err();
            self.note(&known.view.id, judged);
            let Some(view) = view.filter(|_| !broken) else { return };
            *known = Known::compared(view.clone());
            if view.state == "held" || (view.state == "waiting" && view.due_ms > now.wall.0 + 60_000) {
                let judged = self.not_hit_after(&view, &last_word(&job));
                return self.note(&view.id, judged);
            }
            if view.is_done() {
                break job;
            }
            if now.since(began) > PATIENCE {
                return self.note(&view.id, Err("it gets no outcome".to_owned()));
            }
            // The outcome comes with time: a few looks, seconds apart.
            std::thread::park_timeout(Duration::from_millis(20));
        };
        self.check_outcome(&known.view.clone(), &job);
    }

    fn check_outcome(&mut self, view: &View, job: &Value) {
        self.figures.outcomes += 1;
        check_truth(&self.bed, job);
        let instances = self.instances(&view.meeting);
        let hit = instances.iter().any(|instance| !instance.hits.is_empty());
        let lines = job["history"].as_array().map_or(&[][..], Vec::as_slice);
        let concluded = lines.iter().filter(|line| line["event"] == "concluded").count();
        let judged = match view.outcome.as_deref() {
            _ if concluded != 1 => Err(format!("it was concluded {concluded} times")),
            Some("ended") if hit => Ok(()),
            Some("cancelled") => self.not_hit_after(view, &last_word(job)),
            Some("already-over" | "absent") if hit => {
                self.figures.unclaimed.insert(view.id.clone());
                Ok(())
            }
            other => Err(format!("{other:?} is not the truth: {instances:?}")),
        };
        self.note(&view.id, judged);
    }

    /// A call that left before the last word was the old deadline's: the job knows of it, unless its claim was cut off
    /// together with the daemon.
    fn not_hit_after(&mut self, view: &View, last_word: &str) -> Result<(), String> {
        if view.ends > 0 || view.reason.contains("may have been") {
            return Ok(());
        }
        let word: jiff::Timestamp = last_word.parse().unwrap();
        let instances = self.instances(&view.meeting);
        let hits: Vec<i64> =
            instances.iter().flat_map(|instance| &instance.hits).map(|hit| hit.at.0).collect();
        if hits.iter().any(|at| *at > word.as_millisecond()) {
            return Err(format!("it was put off at {last_word}, and ended: {instances:?}"));
        }
        if !hits.is_empty() {
            self.figures.unclaimed.insert(view.id.clone());
        }
        Ok(())
    }

    fn instances(&self, meeting: &str) -> Vec<InstanceTruth> {
        let asked = Asked { meeting: Some(meeting.to_owned()), since: u64::MAX, ..Asked::default() };
        self.bed.sandbox.truth(&asked).instances(meeting).into_iter().cloned().collect()
    }
}

/// When somebody last changed the job.
fn last_word(job: &Value) -> String {
    let words = ["submitted", "moved", "held", "released", "concluded"];
    let lines = job["history"].as_array().map_or(&[][..], Vec::as_slice);
    let last = lines.iter().rfind(|line| words.iter().any(|word| line["event"] == *word));
    last.and_then(|line| line["at"].as_str()).unwrap_or_else(|| panic!("no history in {job:#}")).to_owned()
}

pub fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} must be a number, not {text:?}")))
}

pub fn rounds(variable: &str) -> u32 {
    number(variable).map_or(ROUNDS, |rounds| u32::try_from(rounds).unwrap())
}

#[test]
fn a_storm_of_kills_loses_nothing_that_was_acknowledged() {
    let mut storm = Storm::new(|_| Kill);
    storm.run(rounds("CRASH_ROUNDS"));
    storm.assert_no_violation();
}
