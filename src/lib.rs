//! adjourn ends online meetings on time, and proves that they ended.
//!
//! # The code map
//!
//! | module | owns | never |
//! |---|---|---|
//! | [`job`] | the pure heart: the job, `step`, the confirmation rule, what people may change | a clock, I/O, async |
//! | [`schedule`] | the entries of the schedule file against the jobs that there are; pure | I/O |
//! | [`store`] | the durable queue; the only place that knows sled | decides about a job |
//! | [`platform`] | one file or folder a meeting platform: requests, answers, `judge` | decides about a job |
//! | [`engine`] | the due loop, one lane a server, recovery, drain | knows a platform by name |
//! | [`control`] | HTTP over the Unix socket | acknowledges what is not durable |
//! | [`cli`] | one file a subcommand; a client of `control` | prints a stranger's string uncleaned |
//! | [`config`] | TOML in three stages, every problem at once; secrets | keeps a secret in a string |
//! | [`sandbox`] | simulated platforms, faults included, and the truth about them | leaves loopback |
//! | [`daemon`] | start and drain, in that order | |
//! | [`doctor`] | what a deadline depends on, looked at before it does | changes anything |
//! | [`clock`] | the only place that reads the time | |
//! | [`feeds`] | reading iCalendar feeds, and the last good copy of each | decides what a feed means |
//! | [`housekeeping`] | what is done now and then; tokio-cron-scheduler's only user | holds a deadline |
//! | [`metrics`] | what is counted, and the text of `/metrics` | a label that strangers choose |
//! | [`systemd`], [`telemetry`], [`exit`], [`group`] | readiness and status, logging, exit codes, groups by name | |
//! | [`shortage`] | which faults of the machine pass | |
//!
//! Arrows point down only: cli, control, engine to platform, store, schedule to job.

pub mod cli;
pub mod clock;
pub mod config;
pub mod control;
pub mod daemon;
pub mod doctor;
pub mod engine;
pub mod exit;
pub mod feeds;
pub mod group;
pub mod housekeeping;
pub mod job;
pub mod metrics;
pub mod platform;
pub mod sandbox;
pub mod schedule;
pub mod shortage;
pub mod store;
pub mod systemd;
pub mod telemetry;

use std::path::Path;

/// glibc keeps what a flood of clients or one large listing took, in an arena a thread: hundreds of MB for good. jemalloc
/// gives it back, by threads of its own in the background. Figures in `benches/README.md`.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// The whole program.
pub fn main() -> std::process::ExitCode {
    let mut args = std::env::args_os().skip(1);
    // The daemon runs itself again to take a first look at its store.
    if args.next().is_some_and(|first| first == store::CHECK_ARG) {
        let generation = args.next().unwrap_or_default();
        return store::check_child_main(Path::new(&generation));
    }
    // And so it does to take a first look at a feed.
    let mut args = std::env::args_os().skip(1);
    if args.next().is_some_and(|first| first == feeds::TRIAL_ARG) {
        let rest: Vec<String> = args.map(|arg| arg.to_string_lossy().into_owned()).collect();
        return feeds::trial_child_main(&rest);
    }
    cli::run().into()
}
