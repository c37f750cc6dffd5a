//! adjourn ends online meetings on time, and proves that they ended.
//!
//! # The code map
//!
//! | module | owns | never |
//! |---|---|---|
//!
//! Arrows point down only: cli, control, engine to platform, store, schedule to job.
