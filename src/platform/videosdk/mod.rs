//! VideoSDK, both versions of its API.
//!
//! A room (v1: meeting) has sessions, one after the other; a session is what jobs call an instance, and has a record of its
//! own that outlives it. So the proof is a plain one: that record says `end`, or `status` is `ended`. What the API answers
//! to an end call proves nothing: a success shows the session still ongoing, and how one is refused that is over already, no
//! page says.
//!
//! | module | what it does |
//! |---|---|
//! | `token` | mints tokens, or holds a ready-made one |
//! | `requests` | the requests of both versions, signed |
//! | `answer` | JSON to sessions, pages and answers to an end call |
//! | `listing` | walks over pages, complete or not |
//! | `sight` | what was heard of one meeting, made into a raw sighting |
//! | `look` | a round: one listing for all, single reads for what it leaves open |
//! | `probe` | are we configured right, and what is live |
//!
//! `answer` and `sight` are pure, and so are the decisions of the others.
//! A meeting is named by its room id. A custom room id is not: its room is found, but deadlines say so instead of ending it.
//! Not done here: webhooks and warnings (there is no call for one).

mod answer;
mod listing;
mod look;
mod probe;
mod requests;
mod sight;
mod token;

use std::sync::{Mutex, MutexGuard};

use async_trait::async_trait;
use url::Url;

use self::look::Turns;
use self::requests::Api;
pub use self::token::Credentials;
use super::http::Timeouts;
use super::network::Network;
use super::rest::Clock;
use super::{
    EndCall, Fault, Judgement, Listed, LiveMeeting, Memory, Platform, Probe, Round, Target, address,
};
use crate::job::{Aim, EndAnswer, MeetingId, Pin, ServerName};

/// Where the API is, unless the configuration says otherwise.
pub const URL: &str = "https://api.videosdk.live/";

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Version {
    V1,
    V2,
}

impl Version {
    /// The name of the platform.
    pub fn kind(self) -> &'static str {
        match self {
            Version::V1 => "videosdk-v1",
            Version::V2 => "videosdk",
        }
    }
}

#[derive(Clone, PartialEq, Debug)]
pub struct Settings {
    pub version: Version,
    /// Ends in a slash; the version's own path follows.
    pub url: Url,
    pub network: Network,
    pub credentials: Credentials,
}

impl Settings {
    /// Address and API key. The key is shown nowhere, so a hash stands for it.
    pub(super) fn fingerprint(&self) -> String {
        let key = self.credentials.key_hash().unwrap_or_else(|| "token".to_owned());
        format!("{} {} {key}", self.version.kind(), address(&self.url))
    }
}

/// One account.
pub struct VideoSdk {
    fingerprint: String,
    api: Api,
    turns: Mutex<Turns>,
}

impl VideoSdk {
    /// Fails where HTTPS cannot be set up on this machine, or no request can carry the token.
    pub fn new(name: &ServerName, settings: &Settings, clock: Clock) -> Result<VideoSdk, Fault> {
        VideoSdk::with_timeouts(name, settings, clock, Timeouts::default())
    }

    pub fn with_timeouts(
        name: &ServerName,
        settings: &Settings,
        clock: Clock,
        timeouts: Timeouts,
    ) -> Result<VideoSdk, Fault> {
        let fingerprint = settings.fingerprint();
        Ok(VideoSdk {
            fingerprint,
            api: Api::new(name.as_str(), settings, timeouts, clock)?,
            turns: Mutex::default(),
        })
    }

    fn version(&self) -> Version {
        self.api.reader.version
    }

    fn turns(&self) -> MutexGuard<'_, Turns> {
        self.turns.lock().expect("no holder of this lock can panic")
    }
}

#[async_trait]
impl Platform for VideoSdk {
    fn kind(&self) -> &'static str {
        self.version().kind()
    }

    async fn look(&self, targets: &[Target]) -> Round {
        look::look(self, targets).await
    }

    fn fingerprint(&self) -> String {
        self.fingerprint.clone()
    }

    /// Every end call names the session.
    fn aim(&self, _pin: &Pin) -> Aim {
        Aim::Instance
    }

    async fn end(&self, call: &EndCall) -> EndAnswer {
        self.api.end(call).await
    }

    /// Each sighting is taken at its word, and nothing is remembered: a session is over by its own record, which an outage
    /// or a restart of the service cannot make say so, and nothing is concluded from the absence of one that was known.
    fn judge(&self, memory: &Memory, round: &Round, targets: &[Target]) -> Judgement {
        let pairs = targets.iter().zip(&round.sightings);
        let verdicts = pairs.map(|(target, sighting)| sighting.at_its_word(target.instance.as_ref()));
        Judgement { memory: memory.clone(), verdicts: verdicts.collect(), alarms: Vec::new() }
    }

    async fn probe(&self) -> Result<Probe, Fault> {
        probe::probe(self).await
    }

    fn clock_skew_ms(&self) -> Option<i64> {
        self.api.rest.skew().ms()
    }

    async fn meetings(&self) -> Result<Vec<LiveMeeting>, Fault> {
        self.listing().await.map(|listed| listed.live)
    }

    async fn listing(&self) -> Result<Listed, Fault> {
        probe::listing(self).await
    }

    async fn close_room(&self, meeting: &MeetingId) -> Result<(), Fault> {
        match self.version() {
            Version::V1 => Err(Fault::Misconfigured(format!("rooms of {} cannot be locked", self.kind()))),
            Version::V2 => self.api.deactivate(meeting).await,
        }
    }
}

#[cfg(test)]
mod tests;
