//! Power cuts: whatever was not synced is gone, or by chance partly there, and still nothing acknowledged is lost.
//!
//! `shim.c` stands between the daemon and the calls that sync, and keeps what each of them made durable; `image` puts that
//! in the place of the state directory after a kill. Nothing here knows which files there are.
//!
//! `POWER_ROUNDS=400 cargo test --test it power_cuts -- --nocapture` for more than the ordinary rounds.

mod image;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use fastrand::Rng;

use crate::harness::{Bed, Plan, under};
use crate::storm::life::Life;
use crate::storm::{Cut, Storm, rounds};
use image::{Image, Luck};

/// `kill -9`, and the disk keeps only what was synced.
struct PowerCut {
    shim: PathBuf,
    state: PathBuf,
    image: Option<Image>,
    lives: u32,
    /// Pages that the cuts have cost.
    lost: u64,
    /// Files whose sync is a lie.
    lies: Option<&'static str>,
}

impl PowerCut {
    fn new(bed: &Bed, shim: PathBuf, lies: Option<&'static str>) -> PowerCut {
        let state = bed.path("state");
        fs::create_dir(&state).unwrap();
        let mut cut = PowerCut { shim, state, image: None, lives: 0, lost: 0, lies };
        cut.next_life();
        cut
    }

    fn next_life(&mut self) {
        self.lives += 1;
        let image = Image::of(&self.state, &self.state.with_extension(format!("image{}", self.lives)));
        self.lies.inspect(|pattern| image.ignore(pattern));
        self.image = Some(image);
    }

    fn cut(&mut self, luck: Luck<'_>) {
        let image = self.image.take().expect("every life has its image");
        self.lost += image.cut(&self.state, luck);
        self.next_life();
    }
}

impl Cut for PowerCut {
    fn prepare(&self, command: &mut Command) {
        let image = self.image.as_ref().expect("every life has its image");
        command
            .env("LD_PRELOAD", &self.shim)
            .env("POWERCUT_STATE", &self.state)
            .env("POWERCUT_IMAGE", image.path());
    }

    fn kill(&self, life: Life) -> Result<(), String> {
        life.kill_group()
    }

    fn after(&mut self, _bed: &Bed, rng: &mut Rng) {
        let luck = if rng.bool() { Luck::Some(rng) } else { Luck::None };
        self.cut(luck);
    }
}

/// The shim, built; or why not.
fn shim(directory: &Path) -> Option<PathBuf> {
    let (source, library) = (directory.join("shim.c"), directory.join("shim.so"));
    fs::write(&source, include_str!("shim.c")).unwrap();
    let built = Command::new("cc")
        .args(["-O2", "-shared", "-fPIC", "-pthread", "-o"])
        .args([&library, &source])
        .status();
    match built {
        Ok(status) => assert!(status.success(), "the shim does not compile"),
        Err(error) => {
            eprintln!("left out: power cuts need a C compiler, and cc does not run: {error}");
            return None;
        }
    }
    Some(library)
}

#[test]
fn a_storm_of_power_cuts_loses_nothing_that_was_acknowledged() {
    let directory = tempfile::tempdir().unwrap();
    let Some(shim) = shim(directory.path()) else { return };
    let mut storm = Storm::new(|bed| PowerCut::new(bed, shim, None));
    storm.run(rounds("POWER_ROUNDS"));
    eprintln!("{} pages that were not synced were dropped", storm.cut.lost);
    storm.assert_no_violation();
    assert!(storm.cut.lost > 0, "no cut has cost anything: is there a shim?");
}

#[test]
fn a_sync_that_is_a_lie_is_found_out() {
    let directory = tempfile::tempdir().unwrap();
    let Some(shim) = shim(directory.path()) else { return };
    let mut storm = Storm::new(|bed| PowerCut::new(bed, shim, Some("*")));
    storm.run(5);
    assert!(!storm.figures.violations.is_empty(), "{}", storm.summary());
}

#[test]
fn only_what_was_synced_outlives_a_cut() {
    let directory = tempfile::tempdir().unwrap();
    let Some(shim) = shim(directory.path()) else { return };
    let bed = Plan::default().lay();
    let mut cut = PowerCut::new(&bed, shim, None);
    let state = cut.state.clone();
    let run = |cut: &PowerCut, script: &str| {
        let mut shell = Command::new("sh");
        shell.args(["-ec", script]).current_dir(&cut.state);
        cut.prepare(&mut shell);
        assert!(shell.status().unwrap().success(), "{script}");
    };
    let read = |name: &str| fs::read_to_string(state.join(name)).ok();

    run(&cut, "printf one > data; sync data");
    cut.cut(Luck::None);
    assert_eq!(read("data"), None, "its name was not synced");

    run(
        &cut,
        "printf one > data; sync data; sync .; mkdir sub; printf x > sub/file; sync sub/file; sync sub",
    );
    cut.cut(Luck::None);
    assert_eq!((read("data").as_deref(), read("sub/file")), (Some("one"), None));

    run(&cut, "printf two > data; printf new > fresh; sync .");
    cut.cut(Luck::None);
    assert_eq!((read("data").as_deref(), read("fresh").as_deref()), (Some("one"), Some("")));

    run(&cut, "printf two > aside; sync aside; mv aside data");
    cut.cut(Luck::None);
    assert_eq!((read("data").as_deref(), read("aside")), (Some("one"), None));
    assert!(cut.lost > 0);
}

/// A sync that went to the kernel directly would be missing in the image, and the daemon be blamed for it.
#[test]
fn no_sync_goes_around_the_shim() {
    let directory = tempfile::tempdir().unwrap();
    let Some(shim) = shim(directory.path()) else { return };
    let mut bed = Plan::default().lay();
    let cut = PowerCut::new(&bed, shim, None);
    let trace = bed.path("trace");
    let calls = "trace=fsync,fdatasync,sync_file_range,sync,syncfs,msync";
    if Command::new("strace").arg("-V").output().is_err() {
        return eprintln!("left out: strace does not run here");
    }
    bed.start_daemon_as(|mut daemon| {
        cut.prepare(&mut daemon);
        under("strace", &["-f", "-e", calls, "-o", trace.to_str().unwrap()], &daemon)
    });
    bed.end_in("math-101", "9h");
    // The daemon itself: a tracer that is killed leaves it running.
    let lock = fs::read_to_string(bed.path("state/lock")).unwrap();
    let killed = Command::new("kill").args(["-9", lock.trim()]).status().unwrap();
    assert!(killed.success());
    bed.wait_for_exit();
    let image = cut.image.as_ref().unwrap().path().join("inodes");
    assert!(fs::read_dir(image).unwrap().count() > 0, "the shim has seen the store");
    let trace = fs::read_to_string(trace).unwrap();
    let around: Vec<&str> = trace.lines().filter(|line| line.contains("sync")).collect();
    assert_eq!(around, [""; 0], "{trace}");
}
