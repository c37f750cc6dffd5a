//! What systemd is told: ready, reloading, stopping, and one line of status. Without systemd, nothing happens.

use std::time::Duration;

use sd_notify::NotifyState;
use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;

use crate::engine::Handle;
use crate::engine::api::{Service, Status};
use crate::job::State;

/// The status line is renewed at most this often.
const STATUS_EVERY: Duration = Duration::from_secs(5);

fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "systemd was not told");
    }
}

pub fn ready() {
    notify(&[NotifyState::Ready]);
}

pub fn stopping() {
    notify(&[NotifyState::Stopping, NotifyState::Status("stopping: waiting for answers under way")]);
}

/// `RELOADING=1` with the time of day that systemd wants to see with it.
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => notify(&[NotifyState::Reloading, now]),
        Err(error) => tracing::debug!(%error, "systemd was not told"),
    }
}

/// Keeps `STATUS=` current: with every event, but not more often than every few seconds.
pub async fn keep_status(handle: Handle, shutdown: CancellationToken) {
    let mut events = handle.events();
    loop {
        if let Ok(status) = handle.status().await {
            notify(&[NotifyState::Status(&line(&status))]);
        }
        let pause = tokio::time::timeout(STATUS_EVERY, std::future::pending::<()>());
        let next = async {
            // Whether the pause is over is all that it says.
            let _ = pause.await;
            events.recv().await
        };
        tokio::select! {
            () = shutdown.cancelled() => return,
            event = next => if let Err(RecvError::Closed) = event { return },
        }
    }
}

fn line(status: &Status) -> String {
    let count = |states: &[State]| -> u64 { states.iter().filter_map(|state| status.jobs.get(state)).sum() };
    let mut line = format!(
        "{} waiting, {} at work, {} held",
        count(&[State::Waiting]),
        count(&[State::Ending, State::Confirming, State::Guarding]),
        count(&[State::Held]),
    );
    if let Some(next) = &status.next_due {
        line.push_str(&format!("; next {next}"));
    }
    let down: Vec<&str> = status
        .servers
        .iter()
        .filter(|(_, server)| server.alarm.is_some() || server.reachable == Some(false))
        .map(|(name, _)| name.as_str())
        .collect();
    if !down.is_empty() {
        line.push_str(&format!("; TROUBLE: {}", down.join(", ")));
    }
    if status.clock.doubt.is_some() {
        line.push_str("; CLOCK NOT BELIEVED");
    }
    if status.store.error.is_some() {
        line.push_str("; STORE CANNOT BE WRITTEN");
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::api::ServerStatus;

    #[test]
    fn the_status_line_names_what_is_wrong() {
        let mut status = Status::default();
        status.jobs.insert(State::Waiting, 3);
        status.jobs.insert(State::Confirming, 1);
        assert_eq!(line(&status), "3 waiting, 1 at work, 0 held");
        let down = ServerStatus { reachable: Some(false), ..ServerStatus::default() };
        status.servers.insert("campus".into(), down);
        status.store.error = Some("disk full".to_owned());
        status.clock.doubt = Some("it was stepped".to_owned());
        assert_eq!(
            line(&status),
            "3 waiting, 1 at work, 0 held; TROUBLE: campus; CLOCK NOT BELIEVED; STORE CANNOT BE WRITTEN"
        );
    }
}
