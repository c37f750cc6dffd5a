//! BigBlueButton.
//!
//! bbb-web answers the API out of a map in memory, akka-apps owns the real meeting, and neither rebuilds from the other
//! after a restart; load balancers in front keep books of their own, which they delete before they forward an `end`. So
//! nothing here believes a single answer:
//!
//! | module | what it does |
//! |---|---|
//! | `requests` | signs the very bytes that are sent; one endpoint a server or node; kinds of problems |
//! | `answer` | XML to answers: whole documents only, elements by path |
//! | `end` | what an answer to `end` means |
//! | `sight` | what was heard of one meeting, made into a raw sighting |
//! | `look` | what a round asks: usually one getMeetings for all targets |
//! | `round` | the round itself: each target is handed on as soon as its own evidence is complete |
//! | `probe` | what stands there, and is our secret right |
//! | `judge`, `memory` | what a sighting is worth: fronts, outages, witnesses, lost state |
//! | `warn` | a line in the chat for the people inside |
//!
//! Only `requests`, `round`, `probe` and `warn` wait for the network; the others are pure.
//! Everything is a GET, because how a POST body enters the checksum changed twice. Redirects are not followed.
//! Not done here: callbacks.

mod answer;
mod end;
mod judge;
mod look;
mod memory;
mod probe;
mod requests;
mod round;
mod sight;
mod warn;

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use secrecy::SecretString;
use url::Url;

#[cfg(test)]
pub(crate) use self::judge::weigh;
use self::requests::{Endpoint, Problem};
use super::http::{Client, Timeouts};
use super::network::Network;
use super::{
    EndCall, Fault, HandOn, Judgement, Listed, LiveMeeting, Memory, Platform, Probe, Round, Target, Telling,
    Warning, address, same_secret,
};
use crate::job::{Aim, EndAnswer, InstanceId, MeetingId, Now, Pin, SIGHTING_GAP, ServerName, Site, Warned};

/// How the server hashes checksums. The default of servers since 2.5 is sha256.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Algorithm {
    Sha1,
    #[default]
    Sha256,
    Sha384,
    Sha512,
}

/// What stands in front, which decides what may be believed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Front {
    #[default]
    Auto,
    Direct,
    Scalelite,
    Balancer,
    /// plugNmeet's BigBlueButton face: it says SUCCESS and no meetings for a database error too, and says of a room that it
    /// is not active while people may still talk.
    PlugNmeet,
}

/// What is made of a front's word where it is no proof.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Believe {
    #[default]
    Proof,
    /// It is taken, and the reason says so.
    Front,
}

/// A server behind a load balancer, asked directly for proof and re-sends.
#[derive(Clone, Debug)]
pub struct NodeSettings {
    /// Its host (and port), for people and for the job's record.
    pub name: String,
    /// The API base, ending in `/api/`.
    pub url: Url,
    pub network: Network,
    pub secret: SecretString,
    pub checksum: Algorithm,
}

impl PartialEq for NodeSettings {
    fn eq(&self, other: &NodeSettings) -> bool {
        let NodeSettings { name, url, network, secret, checksum } = other;
        (&self.name, &self.url, &self.network, &self.checksum) == (name, url, network, checksum)
            && same_secret(&self.secret, secret)
    }
}

#[derive(Clone, Debug)]
pub struct Settings {
    /// The API base, ending in `/api/`.
    pub url: Url,
    pub network: Network,
    pub secret: SecretString,
    pub checksum: Algorithm,
    pub front: Front,
    pub believe: Believe,
    /// `instance-ids`: may end calls name the instance? `None`: where the probe says that they surely may.
    pub instance_ids: Option<bool>,
    pub nodes: Vec<NodeSettings>,
}

impl PartialEq for Settings {
    fn eq(&self, other: &Settings) -> bool {
        let Settings { url, network, secret, checksum, front, believe, instance_ids, nodes } = other;
        (
            &self.url,
            &self.network,
            &self.checksum,
            &self.front,
            &self.believe,
            &self.instance_ids,
            &self.nodes,
        ) == (url, network, checksum, front, believe, instance_ids, nodes)
            && same_secret(&self.secret, secret)
    }
}

/// The address alone: the same one with two secrets is one server (Scalelite's tenants), and a new secret changes nothing.
/// `/api` is a part of it that people write or leave out.
pub(super) fn fingerprint(url: &Url) -> String {
    let address = address(url);
    format!("bigbluebutton {}", address.strip_suffix("/api").unwrap_or(&address))
}

type Clock = Arc<dyn Fn() -> Now + Send + Sync>;

/// plugNmeet: `end` waits up to 10 s for the people to go, and says meanwhile that the room is not active.
const PLUGNMEET_SETTLE: Duration = Duration::from_secs(12);
/// Passwords, names on nodes and instances that jobs are about: so many of each are remembered.
const NOTES: usize = 4096;

/// One configured server, with what was learnt of it since the start.
pub struct BigBlueButton {
    label: String,
    fingerprint: String,
    settings_front: Front,
    believe: Believe,
    instance_ids: Option<bool>,
    front: Endpoint,
    nodes: BTreeMap<String, Endpoint>,
    clock: Clock,
    notes: Mutex<Notes>,
}

/// In memory only: everything that must survive a restart is in the job or in [`Memory`].
struct Notes {
    passwords: Recent<InstanceId, SecretString>,
    /// The name under which a node knows an instance.
    on_nodes: Recent<(String, InstanceId), MeetingId>,
    /// Instances that jobs are about: their end says nothing about the server.
    ours: Recent<InstanceId, ()>,
    /// Instances that getMeetingInfo denied though the listing showed them, and when it did.
    denied: Recent<InstanceId, Now>,
    /// A listing that was asked for later still showed one of them.
    caught_stale: bool,
    /// Whom the latest listing showed.
    shown_before: HashSet<InstanceId>,
}

/// Where an end call goes, and what it names.
struct Route<'a> {
    endpoint: &'a Endpoint,
    meeting: String,
    aim: Aim,
}

impl BigBlueButton {
    /// Fails only where HTTPS cannot be set up on this machine.
    pub fn new(name: &ServerName, settings: &Settings, clock: Clock) -> Result<BigBlueButton, Fault> {
        BigBlueButton::with_timeouts(name, settings, clock, Timeouts::default())
    }

    pub fn with_timeouts(
        name: &ServerName,
        settings: &Settings,
        clock: Clock,
        timeouts: Timeouts,
    ) -> Result<BigBlueButton, Fault> {
        let client = |network: &Network| Client::new(timeouts, network).map_err(Fault::Misconfigured);
        let endpoint = |label, url: &Url, secret: &SecretString, algorithm, client, front| {
            Endpoint::new(label, url.clone(), secret.clone(), algorithm, client, Arc::clone(&clock), front)
        };
        let Settings { url, network, secret, checksum, front, .. } = settings;
        let front = endpoint(name.to_string(), url, secret, *checksum, client(network)?, *front);
        let mut nodes = BTreeMap::new();
        for node in &settings.nodes {
            let (label, client) = (format!("{name} (node {})", node.name), client(&node.network)?);
            let endpoint = endpoint(label, &node.url, &node.secret, node.checksum, client, Front::Direct);
            nodes.insert(node.name.clone(), endpoint);
        }
        Ok(BigBlueButton {
            label: name.to_string(),
            fingerprint: fingerprint(&settings.url),
            settings_front: settings.front,
            believe: settings.believe,
            instance_ids: settings.instance_ids,
            front,
            nodes,
            clock: Arc::clone(&clock),
            notes: Mutex::new(Notes {
                passwords: Recent::new(NOTES),
                on_nodes: Recent::new(NOTES),
                ours: Recent::new(NOTES),
                denied: Recent::new(NOTES),
                caught_stale: false,
                shown_before: HashSet::new(),
            }),
        })
    }

    fn now(&self) -> Now {
        (self.clock)()
    }

    fn notes(&self) -> MutexGuard<'_, Notes> {
        self.notes.lock().expect("no holder of this lock can panic")
    }

    fn password(&self, instance: &InstanceId) -> Option<SecretString> {
        self.notes().passwords.get(instance).cloned()
    }

    /// What stands in front, as configured or as a probe saw it; [`Front::Auto`]: not known yet.
    fn front(&self) -> Front {
        self.front.front()
    }

    /// May an end call name the instance, sent to this node or (`None`) to the front?
    fn names_instances(&self, node: Option<&str>) -> bool {
        let endpoint = match node {
            Some(name) => match self.nodes.get(name) {
                Some(endpoint) => endpoint,
                None => return self.names_instances(None),
            },
            None if self.front() == Front::Direct => &self.front,
            None => return false,
        };
        let known = endpoint.known();
        let surely = known.seen.as_ref().is_some_and(|seen| seen.takes_instances);
        !known.instances_refused && self.instance_ids.unwrap_or(surely)
    }

    fn place(&self) -> judge::Place<'_> {
        judge::Place { label: &self.label, front: self.front(), believe: self.believe }
    }

    /// May a listing serve as the last look? Not one that may be a cached one.
    fn shares_last_look(&self) -> bool {
        match self.front() {
            Front::Scalelite => true,
            Front::Direct => !self.notes().caught_stale,
            Front::Balancer | Front::PlugNmeet | Front::Auto => false,
        }
    }

    fn clock_alarm(&self, ahead: i64) -> String {
        let off = humantime::format_duration(Duration::from_secs(ahead.unsigned_abs() / 1000));
        let how = if ahead > 0 { "ahead" } else { "behind" };
        format!(
            "the clock of {} is {off} {how}: when its meetings started is not believed, and max-duration counts from when \
             they are first seen (set its clock, or ours)",
            self.label
        )
    }

    fn needs_probe(&self) -> bool {
        self.settings_front == Front::Auto
            || (self.settings_front == Front::Direct && self.instance_ids.is_none())
    }

    async fn probe_node_by_the_way(&self, node: &Endpoint) {
        if self.instance_ids.is_none() {
            probe::lazily(node).await;
        }
    }

    /// The node that holds the instance is asked by instance wherever it takes that, because it cannot forget. A call by
    /// the meeting's name goes to the front, which keeps its books; only a repeated one goes to the node, because a
    /// balancer no longer reaches what it forgot with the first.
    fn route(&self, call: &EndCall) -> Route<'_> {
        let instance = &call.pin.instance;
        let node = call.pin.node.as_ref().and_then(|name| Some((name, self.nodes.get(name)?)));
        let aim = self.aim(&call.pin);
        if aim == Aim::Instance {
            let endpoint = node.map_or(&self.front, |(_, node)| node);
            return Route { endpoint, meeting: instance.to_string(), aim };
        }
        if let Some((name, node)) = node.filter(|_| call.resend)
            && let Some(meeting) = self.notes().on_nodes.get(&(name.clone(), instance.clone()))
        {
            return Route { endpoint: node, meeting: meeting.to_string(), aim };
        }
        Route { endpoint: &self.front, meeting: call.meeting.to_string(), aim }
    }
}

#[async_trait]
impl Platform for BigBlueButton {
    fn kind(&self) -> &'static str {
        "bigbluebutton"
    }

    async fn look(&self, targets: &[Target]) -> Round {
        round::look(self, targets).await
    }

    async fn look_in_parts(&self, targets: &[Target], hand_on: HandOn<'_>) {
        round::look_in_parts(self, targets, hand_on).await;
    }

    fn aim(&self, pin: &Pin) -> Aim {
        if self.names_instances(pin.node.as_deref()) { Aim::Instance } else { Aim::Meeting }
    }

    fn fingerprint(&self) -> String {
        self.fingerprint.clone()
    }

    async fn end(&self, call: &EndCall) -> EndAnswer {
        let Route { endpoint, meeting, aim } = self.route(call);
        let password = self.password(&call.pin.instance);
        let answer = endpoint.end(&meeting, password.as_ref()).await;
        // Before 2.6 an internal id breaks the call; from now on the meeting is named.
        if aim == Aim::Instance && matches!(answer, Err(Problem::Lost { status: Some(500), .. })) {
            endpoint.known().instances_refused = true;
        }
        end::map_answer(&endpoint.label, answer)
    }

    fn judge(&self, memory: &Memory, round: &Round, targets: &[Target]) -> Judgement {
        let mut judgement = judge::judge(self.place(), memory, round, targets);
        let is_off = self.front.clock_is_off();
        let known = judgement.memory.nodes.entry(String::new()).or_default();
        let was_off = std::mem::replace(&mut known.clock_off, is_off.is_some());
        judgement.alarms.extend(is_off.filter(|_| !was_off).map(|ms| self.clock_alarm(ms)));
        judgement
    }

    fn remember(&self, memory: &Memory, listed: &Listed, sent: Now, received: Now) -> Judgement {
        let notes = self.notes();
        judge::remember(self.place(), memory, listed, |id| notes.ours.has(id), sent, received)
    }

    fn site(&self, pin: Option<&Pin>) -> Site {
        let (info, listing) = self.front.paces();
        let shares = self.shares_last_look();
        Site {
            fingerprint: self.fingerprint(),
            aim: pin.map_or(Aim::Meeting, |pin| self.aim(pin)),
            shares_last_look: shares,
            settle: if self.front() == Front::PlugNmeet { PLUGNMEET_SETTLE } else { Duration::ZERO },
            apart: SIGHTING_GAP,
            answer_time: if shares { listing.max(info) } else { info },
        }
    }

    async fn probe(&self) -> Result<Probe, Fault> {
        probe::probe(self).await
    }

    fn clock_skew_ms(&self) -> Option<i64> {
        self.front.skew_ms()
    }

    fn telling(&self) -> Telling {
        warn::telling(self)
    }

    async fn warn(&self, warning: &Warning) -> Warned {
        warn::warn(self, warning).await
    }

    async fn meetings(&self) -> Result<Vec<LiveMeeting>, Fault> {
        let listing = self.front.listing(self.front.listing_timeout()).await;
        let listing = listing.map_err(|problem| problem.fault())?;
        Ok(listing.entries.into_iter().filter_map(live_meeting).collect())
    }
}

/// `None`: without an internal id, which servers have told for a decade, there is no instance to name.
fn live_meeting(entry: answer::Entry) -> Option<LiveMeeting> {
    Some(LiveMeeting {
        meeting: MeetingId(entry.meeting?),
        instance: entry.internal?,
        name: entry.name.unwrap_or_default(),
        started_at: entry.started_at,
        participants: entry.participants,
        meta: entry.meta,
        // Its internal id; some versions tell only that there is one.
        meta_cut: entry.meta_cut,
        breakout_of: entry.breakout.then(|| entry.parent.unwrap_or_default()),
    })
}

/// The latest entries of a map; the oldest makes room.
struct Recent<K, V> {
    bound: usize,
    values: HashMap<K, V>,
    order: VecDeque<K>,
}

impl<K: Clone + Eq + Hash, V> Recent<K, V> {
    fn new(bound: usize) -> Recent<K, V> {
        Recent { bound, values: HashMap::new(), order: VecDeque::new() }
    }

    fn put(&mut self, key: K, value: V) {
        if self.values.insert(key.clone(), value).is_some() {
            return;
        }
        self.order.push_back(key);
        if self.order.len() > self.bound
            && let Some(oldest) = self.order.pop_front()
        {
            self.values.remove(&oldest);
        }
    }

    fn get(&self, key: &K) -> Option<&V> {
        self.values.get(key)
    }

    fn has(&self, key: &K) -> bool {
        self.values.contains_key(key)
    }

    fn forget(&mut self, key: &K) {
        if self.values.remove(key).is_some() {
            self.order.retain(|known| known != key);
        }
    }
}

#[cfg(test)]
mod tests;

#[cfg(test)]
mod recent_tests {
    use super::*;

    #[test]
    fn the_oldest_makes_room() {
        let mut recent = Recent::new(2);
        for key in [1, 2, 1, 3] {
            recent.put(key, key * 10);
        }
        assert_eq!((recent.get(&1), recent.get(&2), recent.get(&3)), (None, Some(&20), Some(&30)));
    }
}
