//! Simulated meeting platforms on loopback, faults included: for `adjourn sandbox`, `adjourn demo`, tests and benchmarks.
//!
//! Each platform is a folder with a pure world of its own. Here is what all of them stand on: the listening socket, TLS,
//! connections that break on order, the time that is handed in.

pub mod bigbluebutton;
pub mod command;
mod line;
mod listening;
pub mod realtimekit;
mod reply;
pub mod sessions;
pub mod videosdk;

use std::sync::Arc;
use std::time::Duration;

pub use bigbluebutton::{
    ActiveFault, Answered, Asked, Call, Control, Counters, DEMO_NODE_SECRET, DEMO_SECRET, Effect, EndedBy,
    Fault, FaultOrder, ForgetfulAnswer, Front, Hash, Hit, InstanceTruth, MeetingTruth, NewMeeting, Observer,
    Options, Outage, Record, Refusal, Sandbox, Settings, Truth, UnknownAnswer, Version, serve,
};
pub use line::TlsFiles;

/// Microseconds since the Unix epoch, UTC.
pub type TimeSource = Arc<dyn Fn() -> i64 + Send + Sync>;

/// The clock module owns sleeping; this wait decides nothing, it only makes an answer late.
async fn pause(time: Duration) {
    // Nothing ever arrives: the error is the end of the wait.
    let _ = tokio::time::timeout(time, std::future::pending::<()>()).await;
}
