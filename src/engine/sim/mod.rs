//! The real engine in a simulated world: clocks, disks, servers and people that misbehave, drawn from a seed.
//!
//! Nothing of the engine is replaced: its loop, lanes, recovery and requests, and the pure heart, run as they do in the
//! daemon, on one thread, against
//!
//! | module | what it is |
//! |---|---|
//! | `clock` | true time, a wall clock that is set, sleep, reboots; time passes only while no task can run |
//! | `world` | the truth: which instance was alive when, which end call reached it |
//! | `platform` | servers of several kinds, and everything that can become of a request; BigBlueButton's own `judge` |
//! | `store` | a disk that is slow, full, unreadable, and forgets on a crash what it has not answered for |
//! | `people` | submit, extend, hold, release, fire, cancel, reload; idempotent repetitions |
//! | `plan`, `draw` | all of that for one seed, as one flat list; in some of them a schedule with a standing part |
//! | `standing` | that part: recurring ends, rules, exemptions, and by plain arithmetic what they ask for |
//! | `housekeeping` | ticks that come late, twice or not at all |
//! | `runner` | processes one after another until everything has come to rest |
//! | `check` | the judge: the laws (durable, never early, right instance, every occurrence once, ...) against the truth |
//! | `shrink` | what is left of a failing plan, as a story |
//! | `stopped` | a daemon that was stopped for three days |
//! | `regressions` | what was found, as plans |
//!
//! The same seed gives the same history, byte for byte. `SIM_SEEDS=100000 cargo test --release --lib engine::sim` runs so
//! many; `SIM_FROM=n` begins at another seed; `SIM_SEED=n` runs one and tells its story.
//!
//! Deliberately absent: threads (the engine has one loop), the real store and real requests (their own tests), secrets
//! and bad input (invariants 10 and 11 are not visible here), the scheduler itself, calendars, and days on which clocks
//! change (the recurrences' own tests).

mod check;
mod clock;
mod draw;
mod housekeeping;
mod people;
mod plan;
mod platform;
mod regressions;
mod runner;
mod shrink;
#[expect(clippy::module_inception, reason = "it is what the module is about")]
mod sim;
mod standing;
mod stopped;
mod store;
mod tests;
mod told;
mod world;
