//! Damaged files: whatever happens to one of them, either everything acknowledged is there, or the daemon says what is
//! wrong and what to do, and exits with 78. Never a silent loss, never a panic.
//!
//! Every file of the state directory, whatever it is for, is truncated, torn and flipped in turn, after `kill -9` and after
//! a clean stop.

use std::fs;
use std::path::{Path, PathBuf};

use fastrand::Rng;
use reqwest::Method;
use serde_json::Value;
use tokio::runtime::Runtime;

use crate::harness::{Bed, copy};
use crate::storm::client::{Answer, Wire};

/// What is acknowledged before the damage.
const JOBS: usize = 30;
/// A sector that was being written when the power went.
const TORN: usize = 512;
/// Flips of one bit, each in a start of its own.
const FLIPS: u64 = 3;
/// Exit code for what only a person can put right.
const CONFIG: i32 = 78;

#[derive(Clone, Copy, Debug)]
enum Damage {
    Empty,
    Half,
    TornTail,
    GarbageTail,
    Flip(u64),
}

impl Damage {
    fn all() -> impl Iterator<Item = Damage> {
        let flips = (0..FLIPS).map(Damage::Flip);
        [Damage::Empty, Damage::Half, Damage::TornTail, Damage::GarbageTail].into_iter().chain(flips)
    }

    fn apply(self, content: &mut Vec<u8>) {
        // Behind its data a file may have room that was reserved and says nothing.
        let data = content.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        let tail = data.saturating_sub(TORN);
        match self {
            Damage::Empty => content.clear(),
            Damage::Half => content.truncate(data / 2),
            Damage::TornTail => content[tail..data].fill(0),
            Damage::GarbageTail => content[tail..data].fill(0xA5),
            Damage::Flip(seed) if data > 0 => {
                let mut rng = Rng::with_seed(seed);
                content[rng.usize(0..data)] ^= 1 << rng.u32(0..8);
            }
            Damage::Flip(_) => {}
        }
    }
}

/// A state directory with acknowledged work in it, that can be damaged again and again.
struct Ward {
    bed: Bed,
    kept: PathBuf,
    jobs: Vec<Value>,
    runtime: Runtime,
}

impl Ward {
    fn new(clean: bool) -> Ward {
        let mut bed = Bed::start();
        let mut jobs = Vec::new();
        for n in 0..JOBS {
            let id = bed.end_in(&format!("meeting-{n}"), "9h");
            if n % 3 == 0 {
                bed.json(&["extend", &id, "10m"]);
            }
            if n % 5 == 0 {
                bed.json(&["hold", &id]);
            }
            jobs.push(bed.show(&id));
        }
        if clean {
            assert_eq!(bed.stop_daemon(), Some(0));
        } else {
            bed.kill_daemon();
        }
        let kept = bed.path("kept");
        copy(&bed.path("state"), &kept);
        Ward { bed, kept, jobs, runtime: Runtime::new().unwrap() }
    }

    fn files(&self) -> Vec<PathBuf> {
        let mut files = Vec::new();
        walk(&self.kept, &mut files);
        files.into_iter().map(|file| file.strip_prefix(&self.kept).unwrap().to_owned()).collect()
    }

    /// What is wrong after a start on this damage, if anything is.
    fn start_on(&mut self, file: &Path, damage: Damage) -> Option<String> {
        let state = self.bed.path("state");
        fs::remove_dir_all(&state).unwrap();
        copy(&self.kept, &state);
        fs::write(self.bed.path("daemon.log"), "").unwrap();
        let mut content = fs::read(state.join(file)).unwrap();
        damage.apply(&mut content);
        fs::write(state.join(file), content).unwrap();
        let wrong = match self.bed.try_start_daemon(|command| command) {
            Ok(()) => self.compare(),
            Err(Some(CONFIG)) => self.explained(),
            Err(code) => Some(format!("exit code {code:?}")),
        };
        let panicked = self.bed.log().contains("panicked at");
        let wrong = wrong.or_else(|| panicked.then(|| "a panic on stderr".to_owned()));
        wrong.map(|wrong| format!("{} {damage:?}: {wrong}", file.display()))
    }

    fn compare(&mut self) -> Option<String> {
        let missing = self.jobs.iter().filter(|known| {
            let found = self.show(known["id"].as_str().unwrap());
            ["revision", "due", "state", "history"].iter().any(|field| found[*field] != known[*field])
        });
        let missing = missing.count();
        self.bed.kill_daemon();
        (missing > 0).then(|| format!("a silent loss: {missing} of {JOBS} jobs are not as acknowledged"))
    }

    fn show(&self, id: &str) -> Value {
        let _inside = self.runtime.enter();
        let wire = Wire::new(self.bed.socket());
        match self.runtime.block_on(wire.ask(Method::GET, &format!("jobs/{id}"), &Value::Null, None)) {
            Answer::Done(_, job) => job,
            Answer::Refused(..) | Answer::Lost => Value::Null,
        }
    }

    /// The last thing that it says names the place and the way back.
    fn explained(&self) -> Option<String> {
        let log = self.bed.log();
        let error = log.lines().rfind(|line| line.contains("error: ")).unwrap_or_default();
        let state = self.bed.path("state").display().to_string();
        let good = error.contains(&state) && (error.contains("mv ") || error.contains("adjourn "));
        (!good).then(|| format!("no way back: {log}"))
    }
}

fn walk(dir: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            walk(&path, files);
        } else {
            files.push(path);
        }
    }
}

#[track_caller]
fn check(clean: bool) {
    let mut ward = Ward::new(clean);
    let mut wrong = Vec::new();
    let files = ward.files();
    assert!(files.len() > 2, "{files:?}");
    for file in &files {
        for damage in Damage::all() {
            wrong.extend(ward.start_on(file, damage));
        }
    }
    assert!(wrong.is_empty(), "{} of {} files:\n{}", wrong.len(), files.len(), wrong.join("\n"));
}

#[test]
fn damage_after_a_kill_loses_nothing_silently() {
    check(false);
}

#[test]
fn damage_after_a_clean_stop_loses_nothing_silently() {
    check(true);
}
