//! Cloudflare RealtimeKit, and Dyte, which it was before: the same calls, another host and another credential.
//!
//! A meeting is a room that exists for ever; a session is one run of it and our instance. A session has a record that says
//! LIVE or ENDED, which is the best proof that there is; an end call can only name the meeting. Everything live is one
//! paged listing.
//!
//! | module | what it does |
//! |---|---|
//! | `budget` | what may be asked when: 1,200 requests in 5 minutes and token, all of them refused beyond that |
//! | `requests` | the calls, each with room in the budget |
//! | `answer` | the envelope in its two forms; sessions; what an answer to kick-all means |
//! | `walk` | all pages of the listing, and whether they show everything |
//! | `sight` | what was heard of one meeting, made into a raw sighting |
//! | `look` | a round: one walk for all targets, or the meetings themselves where they are few |
//!
//! Only `requests` and `look` wait for the network; the others are pure.
//! Not done here: warnings (there is no such call) and webhooks. Breakout rooms are meetings of their own.

mod answer;
mod budget;
mod look;
mod requests;
mod sight;
mod walk;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use secrecy::SecretString;
use url::Url;

use self::answer::Session;
use self::budget::{Kind, Purse};
use self::look::Turn;
use self::requests::Api;
use super::http::Timeouts;
use super::network::Network;
use super::rest::Clock;
use super::{
    EndCall, Fault, Judgement, Listed, LiveMeeting, Memory, Platform, Probe, Round, Target, Work, address,
    same_secret,
};
use crate::job::{Aim, BootMs, EndAnswer, MeetingId, Pin, ServerName};

/// Where Cloudflare's API begins, and the legacy one.
pub const CLOUDFLARE: &str = "https://api.cloudflare.com/client/v4/";
pub const LEGACY: &str = "https://api.dyte.io/v2/";
/// Meetings that are known to exist, and need not be asked for again.
const KNOWN: usize = 4_096;
/// For so long: somebody may delete a meeting, and then its 404 proves nothing.
const KNOWN_FOR: Duration = Duration::from_secs(60);

/// Whose app it is, and what proves it.
#[derive(Clone, Debug)]
pub enum Account {
    Cloudflare { account_id: String, app_id: String, token: SecretString },
    Legacy { organization_id: String, secret: SecretString },
}

impl PartialEq for Account {
    fn eq(&self, other: &Account) -> bool {
        match (self, other) {
            (
                Account::Cloudflare { account_id, app_id, token },
                Account::Cloudflare { account_id: other_account, app_id: other_app, token: other },
            ) => (account_id, app_id) == (other_account, other_app) && same_secret(token, other),
            (
                Account::Legacy { organization_id, secret },
                Account::Legacy { organization_id: other_organization, secret: other },
            ) => organization_id == other_organization && same_secret(secret, other),
            _ => false,
        }
    }
}

#[derive(Clone, PartialEq, Debug)]
pub struct Settings {
    /// What comes before `accounts/` (Cloudflare) or `meetings/` (legacy); ends in a slash.
    pub url: Url,
    pub network: Network,
    pub account: Account,
}

impl Settings {
    /// Address and app.
    pub(super) fn fingerprint(&self) -> String {
        let kind = self.account.kind();
        let address = address(&self.url);
        match &self.account {
            Account::Cloudflare { account_id, app_id, .. } => {
                format!("{kind} {address} {account_id} {app_id}")
            }
            Account::Legacy { organization_id, .. } => format!("{kind} {address} {organization_id}"),
        }
    }
}

impl Account {
    fn kind(&self) -> &'static str {
        match self {
            Account::Cloudflare { .. } => "realtimekit",
            Account::Legacy { .. } => "realtimekit-legacy",
        }
    }
}

/// One configured app.
pub struct RealtimeKit {
    kind: &'static str,
    fingerprint: String,
    api: Api,
    /// And when that was answered.
    known: Mutex<HashMap<MeetingId, BootMs>>,
    /// Who is asked for first in the next round, where there were too many for one.
    turn: Mutex<Option<Turn>>,
}

impl RealtimeKit {
    /// Fails only where HTTPS cannot be set up on this machine, or where no header can carry the credential.
    pub fn new(name: &ServerName, settings: &Settings, clock: Clock) -> Result<RealtimeKit, Fault> {
        RealtimeKit::with(name, settings, clock, Timeouts::default(), None)
    }

    fn with(
        name: &ServerName,
        settings: &Settings,
        clock: Clock,
        timeouts: Timeouts,
        purse: Option<Purse>,
    ) -> Result<RealtimeKit, Fault> {
        let (kind, fingerprint) = (settings.account.kind(), settings.fingerprint());
        let api = Api::new(name.to_string(), settings, timeouts, clock, purse)?;
        Ok(RealtimeKit { kind, fingerprint, api, known: Mutex::default(), turn: Mutex::default() })
    }

    fn known(&self) -> MutexGuard<'_, HashMap<MeetingId, BootMs>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn knows(&self, meeting: &MeetingId) -> bool {
        let now = self.api.rest.now().boot;
        self.known().get(meeting).is_some_and(|at| now.since(*at) < KNOWN_FOR)
    }

    fn note_known(&self, meeting: &MeetingId) {
        let now = self.api.rest.now().boot;
        let mut known = self.known();
        if known.len() >= KNOWN {
            known.clear();
        }
        known.insert(meeting.clone(), now);
    }

    /// The order in which the targets are asked for.
    fn in_turn(&self, targets: &[Target]) -> Vec<usize> {
        look::in_turn(targets, self.turn.lock().unwrap_or_else(PoisonError::into_inner).as_ref())
    }

    fn next_turn(&self, first: Option<Turn>) {
        *self.turn.lock().unwrap_or_else(PoisonError::into_inner) = first;
    }

    fn live_meeting(&self, session: Session) -> Option<LiveMeeting> {
        Some(LiveMeeting {
            meeting: MeetingId(session.meeting?),
            instance: session.id,
            name: session.title,
            started_at: session.started_at.and_then(|at| Some(self.api.rest.told(at)?.0)),
            participants: session.participants,
            meta: BTreeMap::new(),
            meta_cut: false,
            breakout_of: None,
        })
    }

    async fn set_status(&self, meeting: &MeetingId, status: &str) -> Result<(), Fault> {
        let answer =
            self.api.set_status(meeting.as_str(), status).await.map_err(|problem| problem.fault())?;
        match answer.pointer("/data/status").and_then(serde_json::Value::as_str) {
            // It may not tell; what it tells must be what was asked for.
            None => Ok(()),
            Some(now) if now == status => Ok(()),
            Some(now) => Err(Fault::Unreachable(format!(
                "{}: the lock was accepted, but the meeting is {:?}, not {status:?}",
                self.api.rest.label,
                self.api.plain(now)
            ))),
        }
    }
}

#[async_trait]
impl Platform for RealtimeKit {
    fn kind(&self) -> &'static str {
        self.kind
    }

    async fn look(&self, targets: &[Target]) -> Round {
        look::look(self, targets).await
    }

    fn fingerprint(&self) -> String {
        self.fingerprint.clone()
    }

    /// RealtimeKit: kick-all knows only the meeting.
    fn aim(&self, _pin: &Pin) -> Aim {
        Aim::Meeting
    }

    async fn end(&self, call: &EndCall) -> EndAnswer {
        answer::map_end(self.api.kick_all(call.meeting.as_str()).await)
    }

    fn judge(&self, memory: &Memory, round: &Round, targets: &[Target]) -> Judgement {
        let seen = targets.iter().zip(&round.sightings);
        let verdicts = seen.map(|(target, seen)| seen.at_its_word(target.instance.as_ref())).collect();
        Judgement { memory: memory.clone(), verdicts, alarms: Vec::new() }
    }

    async fn probe(&self) -> Result<Probe, Fault> {
        let answer = self.api.one_meeting().await.map_err(|problem| problem.fault())?;
        let total = answer.pointer("/paging/total_count").and_then(serde_json::Value::as_u64);
        let meetings = total.map_or_else(String::new, |total| format!("; {total} meetings"));
        let name = match self.kind {
            "realtimekit" => "Cloudflare RealtimeKit",
            _ => "RealtimeKit, legacy (Dyte)",
        };
        Ok(Probe { summary: format!("{name}{meetings}; end calls name the meeting") })
    }

    fn clock_skew_ms(&self) -> Option<i64> {
        self.api.rest.skew().ms()
    }

    async fn meetings(&self) -> Result<Vec<LiveMeeting>, Fault> {
        self.listing().await.map(|listed| listed.live)
    }

    async fn listing(&self) -> Result<Listed, Fault> {
        let walk = self.api.walk(Kind::Other, |_| false).await.map_err(|problem| problem.fault())?;
        match &walk.gap {
            Some(problem) if !walk.is_worth_repeating() && !walk.is_partly_unread() => Err(problem.fault()),
            // What moved while it was read, or cannot all be read, is worth showing all the same.
            _ => {
                // Between two pages, where one ends and another begins, something may slip through unnoticed.
                let complete = walk.is_complete() && walk.pages <= 1;
                let live = walk.into_live().filter_map(|session| self.live_meeting(session)).collect();
                Ok(Listed { live, complete })
            }
        }
    }

    fn ready(&self, work: Work) -> Option<BootMs> {
        let purse = self.api.purse();
        match work {
            Work::End { under_way } => purse.end_at(under_way),
            Work::Looks { before_end: true } => purse.round_at(Kind::Urgent, self.api.pages()),
            Work::Looks { before_end: false } => purse.round_at(Kind::Other, self.api.pages()),
        }
    }

    async fn close_room(&self, meeting: &MeetingId) -> Result<(), Fault> {
        self.set_status(meeting, "INACTIVE").await
    }

    async fn open_room(&self, meeting: &MeetingId) -> Result<(), Fault> {
        self.set_status(meeting, "ACTIVE").await
    }
}

#[cfg(test)]
pub(crate) mod tests;
