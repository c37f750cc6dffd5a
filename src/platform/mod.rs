//! Meeting platforms: one file or folder each, always the same shape: settings, requests, `map_answer` (pure), tests.
//!
//! A platform turns answers into raw sightings and weighs them with a pure `judge`. It decides nothing about a job:
//! that is `job::step`'s. No error that leaves a platform may carry a URL: the checksum and the token are in it.

pub mod bigbluebutton;
pub mod http;
pub mod janus;
pub mod network;
pub mod realtimekit;
pub mod rest;
pub mod videosdk;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use url::Url;

use self::bigbluebutton::BigBlueButton;
use self::janus::Janus;
use self::network::Network;
use self::realtimekit::RealtimeKit;
use self::videosdk::VideoSdk;
use crate::clock::Clock;
pub use crate::job::LiveMeeting;
use crate::job::{
    Aim, BootMs, EndAnswer, InstanceId, JobId, Lock, Mark, MeetingId, Now, Pin, Purpose, ServerName,
    Sighting, Site, Verdict, Warned,
};

/// A server's settings, by its platform. Equal ones (secrets included) need no other platform object.
#[derive(Clone, PartialEq, Debug)]
pub enum PlatformSettings {
    BigBlueButton(bigbluebutton::Settings),
    Janus(janus::Settings),
    VideoSdk(videosdk::Settings),
    RealtimeKit(realtimekit::Settings),
}

impl PlatformSettings {
    /// Where the server, and the nodes behind it, are asked, and how they are reached; with names for people.
    pub fn addresses(&self, name: &ServerName) -> Vec<(String, Url, Network)> {
        let (url, network) = match self {
            PlatformSettings::BigBlueButton(settings) => (&settings.url, &settings.network),
            PlatformSettings::Janus(settings) => (&settings.url, &settings.network),
            PlatformSettings::RealtimeKit(settings) => (&settings.url, &settings.network),
            PlatformSettings::VideoSdk(settings) => (&settings.url, &settings.network),
        };
        let mut addresses = vec![(name.to_string(), url.clone(), network.clone())];
        if let PlatformSettings::BigBlueButton(settings) = self {
            let nodes = settings.nodes.iter();
            addresses.extend(nodes.map(|node| {
                (format!("{name} (node {})", node.name), node.url.clone(), node.network.clone())
            }));
        }
        addresses
    }

    /// Does the platform have a way to tell the people inside? An old server of it may still have none.
    pub fn can_warn(&self) -> bool {
        matches!(self, PlatformSettings::BigBlueButton(_))
    }

    /// Is whoever comes back after the last one has left in a new session of the same meeting?
    pub fn rejoins_are_new(&self) -> bool {
        matches!(self, PlatformSettings::VideoSdk(_) | PlatformSettings::RealtimeKit(_))
    }

    /// What its listings tell of a meeting.
    pub fn tells(&self) -> Tells {
        let all = Tells { participants: true, starts: true, metadata: false };
        match self {
            PlatformSettings::BigBlueButton(_) => Tells { metadata: true, ..all },
            PlatformSettings::Janus(_) => Tells { starts: false, ..all },
            PlatformSettings::VideoSdk(_) => all,
            PlatformSettings::RealtimeKit(_) => Tells { participants: false, ..all },
        }
    }

    /// Address and account, never a secret; so normalised that a written-out port or a slash changes nothing. A new secret
    /// changes nothing either: what was pinned before is still there.
    pub fn fingerprint(&self) -> String {
        match self {
            PlatformSettings::BigBlueButton(settings) => bigbluebutton::fingerprint(&settings.url),
            PlatformSettings::Janus(settings) => format!("janus {}", address(&settings.url)),
            PlatformSettings::VideoSdk(settings) => settings.fingerprint(),
            PlatformSettings::RealtimeKit(settings) => settings.fingerprint(),
        }
    }

    /// Are both of them one account at one address? One address with two secrets is two accounts (Scalelite's tenants).
    pub fn is_same_account(&self, other: &PlatformSettings) -> bool {
        let same_credentials = match (self, other) {
            (PlatformSettings::BigBlueButton(a), PlatformSettings::BigBlueButton(b)) => {
                same_secret(&a.secret, &b.secret)
            }
            // Which account a ready-made token is for, it need not say.
            (PlatformSettings::VideoSdk(a), PlatformSettings::VideoSdk(b)) => {
                a.credentials.key_hash().is_some() || a.credentials == b.credentials
            }
            _ => true,
        };
        same_credentials && self.fingerprint() == other.fingerprint()
    }

    /// Why no meeting there can have this id, and what to do.
    pub fn meeting_fault(&self, meeting: &MeetingId) -> Option<(String, String)> {
        match self {
            PlatformSettings::Janus(settings) => settings.meeting_fault(meeting),
            PlatformSettings::BigBlueButton(_)
            | PlatformSettings::VideoSdk(_)
            | PlatformSettings::RealtimeKit(_) => None,
        }
    }

    /// How rooms can be closed there.
    pub fn lock(&self) -> Lock {
        match self {
            PlatformSettings::BigBlueButton(_) => Lock::No,
            PlatformSettings::Janus(_) => Lock::Reversible,
            PlatformSettings::VideoSdk(settings) => match settings.version {
                videosdk::Version::V1 => Lock::No,
                videosdk::Version::V2 => Lock::Permanent,
            },
            PlatformSettings::RealtimeKit(_) => Lock::Reversible,
        }
    }
}

/// An address as a fingerprint has it: [`Url`] has made scheme and host small and has dropped a default port.
fn address(url: &Url) -> String {
    url.as_str().trim_end_matches('/').to_owned()
}

/// For settings that are compared whole.
fn same_secret(a: &SecretString, b: &SecretString) -> bool {
    a.expose_secret() == b.expose_secret()
}

/// What the listings of a platform tell of every meeting.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tells {
    /// Always, how many are inside.
    pub participants: bool,
    /// When it started.
    pub starts: bool,
    /// What whoever created it has noted.
    pub metadata: bool,
}

/// The registry: one line a platform.
pub fn build(
    name: &ServerName,
    settings: &PlatformSettings,
    clock: Arc<dyn Clock>,
) -> anyhow::Result<Arc<dyn Platform>> {
    Ok(match settings {
        PlatformSettings::BigBlueButton(settings) => {
            Arc::new(BigBlueButton::new(name, settings, Arc::new(move || clock.now()))?)
        }
        PlatformSettings::Janus(settings) => {
            Arc::new(Janus::new(name, settings, Arc::new(move || clock.now()))?)
        }
        PlatformSettings::VideoSdk(settings) => {
            Arc::new(VideoSdk::new(name, settings, Arc::new(move || clock.now()))?)
        }
        PlatformSettings::RealtimeKit(settings) => {
            Arc::new(RealtimeKit::new(name, settings, Arc::new(move || clock.now()))?)
        }
    })
}

/// What one job wants to know of its meeting. Holds what `judge` must know of the job.
#[derive(Clone, PartialEq, Debug)]
pub struct Target {
    pub job: JobId,
    pub meeting: MeetingId,
    pub purpose: Purpose,
    /// The pinned instance, or the one that `--instance` names.
    pub instance: Option<InstanceId>,
    /// What is known of the pinned instance; `None` while none is pinned.
    pub pin: Option<Pin>,
    /// An end call to the pinned instance may have taken effect: accepted, without an answer, or under way.
    pub end_sent: bool,
    /// An end call of ours to the pinned instance was accepted.
    pub accepted: bool,
    /// Every end call so far was answered with acceptance (true where none was made).
    pub ends_clean: bool,
    /// Since when an outage of the server matters: the pinned instance was last seen alive then, or the job's first look.
    pub since: Option<Now>,
}

/// One part of a round of looks, handed on as soon as its own evidence is complete.
#[derive(Clone, PartialEq, Debug)]
pub struct Part {
    /// The targets that it is about, by their place in what was asked for; in the order of the round's sightings.
    pub about: Vec<usize>,
    pub round: Round,
}

/// Takes the parts of a round as they come.
pub type HandOn<'a> = &'a (dyn Fn(Part) + Send + Sync);

/// One round of looks at a server: a few requests that answer many targets.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Round {
    /// When its first request was sent and its last answer received.
    pub sent: Now,
    pub received: Now,
    /// One raw sighting a target, in the order of the targets.
    pub sightings: Vec<Sighting>,
    /// The instances that the complete listings of this round showed and that may be witnesses, by the node that was asked
    /// (`""` is the front).
    pub listings: BTreeMap<String, Vec<InstanceId>>,
    /// All instances that those listings showed but for breakout rooms, and whether people are in them.
    pub shown: BTreeMap<String, Vec<(InstanceId, bool)>>,
    /// Nodes (`""` is the front) with an outage in this round, or without any usable answer, and why.
    pub trouble: BTreeMap<String, String>,
}

/// What is remembered of a server between looks. Persisted, so that an outage across a restart of the daemon is noticed.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Memory {
    /// By node; `""` is the front.
    pub nodes: BTreeMap<String, NodeMemory>,
    /// Of which place it is, see [`Platform::fingerprint`]; `None`: of the present one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub site: Option<String>,
}

impl Memory {
    /// As read by a process that has restarted.
    pub fn rebased(mut self, now: Now) -> Memory {
        for node in self.nodes.values_mut() {
            let outages = [node.trouble.as_mut(), node.lost.as_mut()].into_iter().flatten();
            let of_outages = outages.flat_map(|outage| [Some(&mut outage.began), outage.ended.as_mut()]);
            let marks = [
                &mut node.last_good,
                &mut node.lost_state,
                &mut node.covers_from,
                &mut node.unwatched,
                &mut node.marred,
                &mut node.last_listing,
                &mut node.vanished,
            ];
            for stamp in marks.map(Option::as_mut).into_iter().chain(of_outages).flatten() {
                *stamp = stamp.rebased(now);
            }
        }
        self
    }

    /// What of it is good for the place with this fingerprint: nothing, if it comes from another one.
    pub fn of_site(self, fingerprint: &str) -> Memory {
        let site = Some(fingerprint.to_owned());
        match &self.site {
            Some(other) if other != fingerprint => Memory { site, ..Memory::default() },
            _ => Memory { site, ..self },
        }
    }

    /// Instances that we called at are no witnesses.
    pub fn forget_witnesses<'a>(&mut self, called: impl IntoIterator<Item = &'a InstanceId> + Clone) {
        for node in self.nodes.values_mut() {
            let outages = [node.trouble.as_mut(), node.lost.as_mut()].into_iter().flatten();
            let lists = outages.map(|outage| &mut outage.witnesses);
            for list in lists.chain([&mut node.witnesses, &mut node.peopled]) {
                list.retain(|witness| !called.clone().into_iter().any(|called| called == witness));
            }
        }
    }

    /// Something other than the time of the last answer, and who is where, has changed.
    pub fn differs_materially(&self, other: &Memory) -> bool {
        let essence = |memory: &Memory| -> Memory {
            let mut memory = memory.clone();
            for node in memory.nodes.values_mut() {
                (node.last_good, node.last_listing) = (None, None);
                node.peopled.clear();
            }
            memory
        };
        essence(self) != essence(other)
    }
}

#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct NodeMemory {
    /// A few live instances that no job of ours is ending, from the last complete listing.
    pub witnesses: Vec<InstanceId>,
    /// The last usable answer.
    pub last_good: Option<Now>,
    /// The current or latest outage.
    pub trouble: Option<Trouble>,
    /// All witnesses vanished at once, or an outage hid whether they would have: what was alive before can no longer be
    /// proven over by its absence.
    pub lost_state: Option<Now>,
    /// The outage of that mark, after more than one listing: a witness that is shown again clears the mark.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost: Option<Trouble>,
    /// Since when all this is remembered; `None`: by an older version, for as long as it matters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub covers_from: Option<Now>,
    /// The end of the latest time in which nobody looked for long, and for which no witness can speak.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unwatched: Option<Now>,
    /// The end of the latest outage that no witness was seen to survive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub marred: Option<Now>,
    /// When the latest complete listing was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_listing: Option<Now>,
    /// Instances with people in them, as the latest complete listing showed them; some of very many.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub peopled: Vec<InstanceId>,
    /// When several of these were gone at once: a balancer may have lost a node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vanished: Option<Now>,
    /// Its clock is so far off that its starts are not believed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub clock_off: bool,
}

/// An outage as seen from here: from the last usable answer before it to the first one after.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Trouble {
    pub began: Now,
    pub ended: Option<Now>,
    /// The witnesses known before it.
    pub witnesses: Vec<InstanceId>,
}

/// What `judge` makes of a round.
#[derive(Clone, PartialEq, Debug)]
pub struct Judgement {
    pub memory: Memory,
    /// In the order of the targets.
    pub verdicts: Vec<Verdict>,
    /// Things that an operator should hear once (a server lost its state).
    pub alarms: Vec<String>,
}

/// One end call.
#[derive(Clone, PartialEq, Debug)]
pub struct EndCall {
    pub job: JobId,
    pub meeting: MeetingId,
    pub pin: Pin,
    pub attempt: u32,
    /// An earlier call to this instance was accepted, or may have been.
    pub resend: bool,
}

/// Makes the line that is told if it leaves now; the error says why none is wanted any more.
pub type Line = dyn Fn() -> Result<String, String> + Send + Sync;

/// One line for the people inside.
#[derive(Clone)]
pub struct Warning {
    pub job: JobId,
    pub mark: Mark,
    pub meeting: MeetingId,
    /// This one and no other.
    pub instance: Option<InstanceId>,
    pub line: Arc<Line>,
}

impl Warning {
    /// To be asked right before each request that tells somebody: meanwhile time has passed, and the deadline may have
    /// been changed.
    pub fn line(&self) -> Result<String, String> {
        (self.line)()
    }
}

/// What a probe found out.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Probe {
    /// One sentence for `status`: version hints, what stands in front.
    pub summary: String,
}

/// Why a server gave no usable answer.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Fault {
    #[error("{0}")]
    Unreachable(String),
    #[error("{0}")]
    Misconfigured(String),
}

/// What the engine is about to start on a server.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Work {
    /// One more end call, while so many others have been let go and not been answered.
    End { under_way: usize },
    /// A round of looks; `before_end`: an end call waits for one of them.
    Looks { before_end: bool },
}

/// What is live on a server.
#[derive(Clone, PartialEq, Debug)]
pub struct Listed {
    pub live: Vec<LiveMeeting>,
    /// `false`: something that is live may be missing, because the listing moved while it was read, or could not all be
    /// read.
    pub complete: bool,
}

/// Can the people inside be told that the end comes?
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Telling {
    /// `None`: that is known only when it is tried.
    pub possible: Option<bool>,
    /// Why not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

impl Telling {
    pub fn impossible(why: String) -> Telling {
        Telling { possible: Some(false), why: Some(why) }
    }
}

/// One configured server of a platform. Implementations keep their own short-lived caches (passwords, clock skew, what a
/// probe said); everything that must survive a restart is in the job or in [`Memory`].
#[async_trait]
pub trait Platform: Send + Sync {
    /// `bigbluebutton`, ...
    fn kind(&self) -> &'static str;

    /// Looks at all targets with as few requests as it can. Never fails as a whole: trouble is a sighting.
    async fn look(&self, targets: &[Target]) -> Round;

    /// Looks at all targets and hands each on, once, as soon as its own evidence is complete: what other targets, other
    /// nodes or slower questions of the same round still wait for holds no end call up.
    async fn look_in_parts(&self, targets: &[Target], hand_on: HandOn<'_>) {
        let round = self.look(targets).await;
        hand_on(Part { about: (0..targets.len()).collect(), round });
    }

    /// What an end call for this pin would name; decided without I/O from the last probe.
    fn aim(&self, pin: &Pin) -> Aim;

    /// What the heart has to know of this server when it weighs what a look showed of this pin; without I/O.
    fn site(&self, pin: Option<&Pin>) -> Site {
        Site {
            fingerprint: self.fingerprint(),
            aim: pin.map_or(Aim::Meeting, |pin| self.aim(pin)),
            shares_last_look: true,
            settle: Duration::ZERO,
            apart: crate::job::SIGHTING_GAP,
            answer_time: Duration::ZERO,
        }
    }

    /// Address and account (never a secret), so normalised that a written-out port or a slash changes nothing. Pins,
    /// witnesses and memory hold only for the place that they come from.
    fn fingerprint(&self) -> String {
        String::new()
    }

    async fn end(&self, call: &EndCall) -> EndAnswer;

    /// Weighs a round against the memory. Pure: same input, same answer.
    fn judge(&self, memory: &Memory, round: &Round, targets: &[Target]) -> Judgement;

    /// Takes what a listing showed outside of any round, such as a rule's sweep, into the memory: who is known to be there
    /// testifies later that the server kept its meetings. Pure; no verdicts. `sent` and `received`: of the listing.
    fn remember(&self, memory: &Memory, _listed: &Listed, _sent: Now, _received: Now) -> Judgement {
        Judgement { memory: memory.clone(), verdicts: Vec::new(), alarms: Vec::new() }
    }

    /// A harmless signed read: are we configured right, and what is out there?
    async fn probe(&self) -> Result<Probe, Fault>;

    /// What is live, as far as it is shown.
    async fn meetings(&self) -> Result<Vec<LiveMeeting>, Fault>;

    /// The same, and whether it is all there is.
    async fn listing(&self) -> Result<Listed, Fault> {
        Ok(Listed { live: self.meetings().await?, complete: true })
    }

    /// What the last complete listing showed, and when; perhaps to an earlier process. Told before a sweep, for platforms
    /// that can tell runs of a meeting apart only by what they remember.
    fn recall(&self, _shown: &mut dyn Iterator<Item = (MeetingId, Pin)>, _at: Now) {}

    /// The server's clock minus ours, in milliseconds, as the `Date` header of its last answer says. `None`: no answer has
    /// told yet, or nothing of the kind is known.
    fn clock_skew_ms(&self) -> Option<i64> {
        None
    }

    /// Where a platform refuses whoever asks too much: not before when this may start; `None`: now. Asked before every end
    /// call and every round; what is let go is expected to be started.
    fn ready(&self, _work: Work) -> Option<BootMs> {
        None
    }

    /// Why no meeting there can have this id, and what to do; see [`PlatformSettings::meeting_fault`].
    fn meeting_fault(&self, _meeting: &MeetingId) -> Option<(String, String)> {
        None
    }

    /// Closes the room, so that nobody comes back after the end. Only where [`PlatformSettings::lock`] says that it can be
    /// closed in the way that was asked for; one that is closed already is no fault.
    async fn close_room(&self, _meeting: &MeetingId) -> Result<(), Fault> {
        Err(Fault::Misconfigured(format!("rooms of {} cannot be locked", self.kind())))
    }

    /// Would [`Platform::warn`] reach anybody? As far as that is known without asking.
    fn telling(&self) -> Telling {
        Telling::impossible(format!("{} has no way to tell the people inside", self.kind()))
    }

    /// Tells the people inside what [`Warning::line`] says at that moment. Where that is possible, see
    /// [`PlatformSettings::can_warn`].
    async fn warn(&self, _warning: &Warning) -> Warned {
        Warned::Unsupported(format!("{} has no way to tell the people inside", self.kind()))
    }

    /// Undoes a reversible lock.
    async fn open_room(&self, _meeting: &MeetingId) -> Result<(), Fault> {
        Err(Fault::Misconfigured(format!("rooms of {} cannot be unlocked", self.kind())))
    }
}
