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
//! | [`config`] | TOML in three stages, every problem at once; secrets | keeps a secret in a string |
//! | [`clock`] | the only place that reads the time | |
//!
//! Arrows point down only: cli, control, engine to platform, store, schedule to job.

pub mod clock;
pub mod config;
pub mod job;
pub mod platform;
pub mod schedule;
pub mod store;
