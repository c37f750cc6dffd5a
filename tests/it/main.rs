//! One integration binary: the real `adjourn` against a sandbox whose truth the tests know.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test that panics has failed, and says so"
)]

mod audit;
mod bad_input;
mod calendars;
mod cli;
mod clock;
mod compact;
mod control;
mod crash;
mod damage;
mod disk;
mod doctor;
mod faults;
mod harness;
mod import;
mod janus;
mod platforms;
mod powercut;
mod preview;
mod readme;
mod recurring;
mod reload;
mod rules;
mod shortage;
mod signals;
mod storm;
mod upgrade;
mod warnings;
