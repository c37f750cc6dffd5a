//! Simulated meeting platforms on loopback, faults included: for `adjourn sandbox`, `adjourn demo`, tests and benchmarks.
//!
//! Each platform is a folder with a pure world of its own. Here is what all of them stand on: the listening socket, TLS,
//! connections that break on order, the time that is handed in.

pub mod bigbluebutton;
mod line;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::bail;
use tokio::net::TcpListener;

pub use bigbluebutton::{
    ActiveFault, Answered, Asked, Call, Control, Counters, DEMO_NODE_SECRET, DEMO_SECRET, Effect, EndedBy,
    Fault, FaultOrder, ForgetfulAnswer, Front, Hash, Hit, InstanceTruth, MeetingTruth, NewMeeting, Observer,
    Options, Outage, Record, Refusal, Sandbox, Settings, Truth, UnknownAnswer, Version, command, serve,
};
pub use line::TlsFiles;

/// Microseconds since the Unix epoch, UTC.
pub type TimeSource = Arc<dyn Fn() -> i64 + Send + Sync>;

/// The sandbox has no access control of its own: it is reachable from this machine only.
async fn bind(listen: SocketAddr) -> anyhow::Result<TcpListener> {
    if !listen.ip().is_loopback() {
        bail!("refused to listen on {listen}: the sandbox serves loopback only; take 127.0.0.1 or [::1]");
    }
    let busy = |error: &io::Error| error.kind() == io::ErrorKind::AddrInUse;
    TcpListener::bind(listen).await.map_err(|error| match busy(&error) {
        true => anyhow::anyhow!("{listen} is in use; choose another port with --listen"),
        false => anyhow::Error::new(error).context(format!("cannot listen on {listen}")),
    })
}

/// The clock module owns sleeping; this wait decides nothing, it only makes an answer late.
async fn pause(time: Duration) {
    // Nothing ever arrives: the error is the end of the wait.
    let _ = tokio::time::timeout(time, std::future::pending::<()>()).await;
}
