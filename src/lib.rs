//! adjourn ends online meetings on time, and proves that they ended.
//!
//! # The code map
//!
//! | module | owns | never |
//! |---|---|---|
//! | [`job`] | the pure heart: the job, `step`, the confirmation rule, what people may change | a clock, I/O, async |
//! | [`store`] | the durable queue; the only place that knows sled | decides about a job |
//! | [`platform`] | one file or folder a meeting platform: requests, answers, `judge` | decides about a job |
//! | [`clock`] | the only place that reads the time | |
//!
//! Arrows point down only: cli, control, engine to platform, store, schedule to job.

pub mod clock;
pub mod job;
pub mod platform;
pub mod store;
