//! Following the daemon's events.

use std::collections::VecDeque;
use std::future::pending;
use std::time::Duration;

use tokio::time::timeout;

use super::client::Client;
use super::failure::Failure;
use super::sse::{Event, Parser};
use crate::engine::api::Notice;
use crate::exit::ExitCode;

/// Between two tries to reach a daemon that went away: this at first, doubling ...
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// ... up to this.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// One subscription. It exists once the daemon has said hello: from then on nothing is missed.
pub struct Events {
    client: Client,
    response: reqwest::Response,
    parser: Parser,
    ready: VecDeque<Event>,
}

/// What the stream says.
#[derive(Debug)]
pub enum Heard {
    Notice(Box<Notice>),
    /// So many events were lost: read again what matters.
    Lagged(u64),
}

impl Events {
    /// Subscribes to what happens to this job, or to everything.
    pub async fn subscribe(client: &Client, job: Option<&str>) -> Result<Events, Failure> {
        let response = client.events(job).await?;
        let parser = Parser::default();
        let mut events = Events { client: client.clone(), response, parser, ready: VecDeque::new() };
        match events.event().await? {
            Some(event) if event.name == "hello" => Ok(events),
            Some(event) => Err(garbled(&format!("it began with {:?}", event.name))),
            None => Err(gone()),
        }
    }

    /// `None`: the daemon has closed the stream.
    pub async fn next(&mut self) -> Result<Option<Heard>, Failure> {
        let Some(event) = self.event().await? else { return Ok(None) };
        if event.name == "lagged" {
            let missed = serde_json::from_str::<serde_json::Value>(&event.data).ok();
            return Ok(Some(Heard::Lagged(missed.and_then(|data| data["missed"].as_u64()).unwrap_or(0))));
        }
        let notice = serde_json::from_str(&event.data).map_err(|error| garbled(&error.to_string()))?;
        Ok(Some(Heard::Notice(Box::new(notice))))
    }

    async fn event(&mut self) -> Result<Option<Event>, Failure> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Ok(Some(event));
            }
            let Some(bytes) = self.response.chunk().await.map_err(|error| self.client.unreachable(error))?
            else {
                return Ok(None);
            };
            self.ready.extend(self.parser.push(&bytes).map_err(|error| garbled(&error.to_string()))?);
        }
    }
}

fn garbled(why: &str) -> Failure {
    Failure::new(ExitCode::Refused, format!("the daemon's events are not understood: {why}"))
        .hint("is the daemon of the same version? see `adjourn status`")
}

fn gone() -> Failure {
    Failure::new(ExitCode::Unreachable, "the daemon went away").hint("see `systemctl status adjourn`")
}

/// The pauses between tries to find the daemon again.
#[derive(Debug)]
pub struct Patience {
    pause: Duration,
}

impl Patience {
    pub fn new() -> Patience {
        Patience { pause: FIRST_PAUSE }
    }

    pub async fn pause(&mut self) {
        // There is nothing to be woken by: a daemon that starts tells nobody.
        let _ = timeout(self.pause, pending::<()>()).await;
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
    }
}
