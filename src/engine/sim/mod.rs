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
//! | `rounds` | a round of looks there: listing, single looks and nodes, each with a fate of its own, handed on in parts |
//! | `faults` | what ails an endpoint or a node; old listings; clocks that are off; two servers at one address |
//! | `store` | a disk that is slow, full, unreadable, and forgets on a crash what it has not answered for |
//! | `people` | submit, extend, hold, release, fire, cancel, reload; idempotent repetitions |
//! | `plan` | all of that for one seed, as one flat list |
//! | `draw`, `weather` | what some of them have besides: a schedule with a standing part; what servers, fronts and clocks do |
//! | `standing` | that part: recurring ends, rules, exemptions, and by plain arithmetic what they ask for |
//! | `housekeeping` | ticks that come late, twice or not at all |
//! | `runner` | processes one after another until everything has come to rest |
//! | `check` | the judge: what is known of each job, and the plain laws (durable, never early, last word, ...) |
//! | `laws` | the other laws, one a file, against the truth |
//! | `shrink` | what is left of a failing plan, as a story |
//! | `stopped` | a daemon that was stopped for three days |
//! | `regressions` | what was found, as plans |
//!
//! The same seed gives the same history, byte for byte. `SIM_SEEDS=100000 cargo test --release --lib engine::sim` runs so
//! many; `SIM_FROM=n` begins at another seed; `SIM_SEED=n` runs one and tells its story; with
//! `SIM_SURVEY=1` none of them ends the run, and the broken laws are counted. `.ci/night` runs a night's worth.
//!
//! Deliberately absent: threads (the engine has one loop), the real store and real requests (their own tests), secrets
//! and bad input (invariants 10 and 11 are not visible here), the scheduler itself, calendars, and days on which clocks
//! change (the recurrences' own tests).

mod check;
mod clock;
mod draw;
mod faults;
mod housekeeping;
mod laws;
mod people;
mod plan;
mod platform;
mod regressions;
mod rounds;
mod runner;
mod shrink;
#[expect(clippy::module_inception, reason = "it is what the module is about")]
mod sim;
mod standing;
mod stopped;
mod store;
mod tests;
mod weather;
mod words;
mod world;
