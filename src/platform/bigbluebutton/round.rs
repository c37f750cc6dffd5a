//! One round of looks, answer by answer: each target is handed on as soon as its own evidence is complete.
//!
//! A slow node, a listing that hangs or the questions about other meetings hold no end call up:
//! - Before an end call getMeetingInfo's word that the pinned instance is alive is enough.
//! - Where the listing does not come within [`HEDGE`], what precedes an end call is asked for by getMeetingInfo; after
//!   [`GRACE`] that is all there is, for what has its answer.
//! - Only an instance that no listing has shown yet waits longer for one behind a balancer, which can prove nothing about
//!   what it never listed: until [`GRACE`] before an end call, for the whole (bounded) listing when arming.
//! - Nodes place an instance, and prove it gone; who is placed, and seen alive, does not wait for them.
//!
//! The rest of the round, once all targets are handed on, is waited for a moment longer: a listing feeds the memory, and a
//! failure is trouble to be remembered.

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
use std::sync::Mutex;
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt};
use futures_util::stream::{FuturesUnordered, StreamExt};

use super::answer::{Info, Listing};
use super::look::{self, Answered, Infos, Listings, SINGLE_LOOKS};
use super::probe::lazily;
use super::requests::Problem;
use super::sight::{self, Heard, precedes_end};
use super::{BigBlueButton, Front};
use crate::job::{Instance, InstanceId, MeetingId, Now, Sighting};
use crate::platform::{HandOn, Part, Round, Target};

/// Single questions at the same time.
const PARALLEL: usize = 8;
/// A listing that takes longer gets company.
const HEDGE: Duration = Duration::from_secs(1);
/// What has an answer of its own waits no longer than this for a listing.
const GRACE: Duration = Duration::from_secs(3);
/// The rest of a round is waited for so long once all targets are handed on.
const REST: Duration = Duration::from_millis(1_500);
/// The name of the front among the nodes.
const FRONT: &str = "";

/// What came in.
enum Event {
    Listing(Answered<Listing>),
    Info(MeetingId, Answered<Info>),
    Node(String, Answered<Listing>),
    Running(MeetingId, bool),
    Probed,
    NodeProbed,
    Hedge,
    Grace,
    Rest,
}

struct Asking<'a> {
    bbb: &'a BigBlueButton,
    targets: &'a [Target],
    sent: Now,
    pending: FuturesUnordered<BoxFuture<'a, Event>>,
    asks_listing: bool,
    listing: Option<Answered<Listing>>,
    /// In the order in which they are asked; the first of them are under way.
    queue: VecDeque<MeetingId>,
    under_way: usize,
    wanted: BTreeSet<MeetingId>,
    infos: Infos,
    asked_nodes: BTreeSet<String>,
    nodes: Listings,
    node_times: BTreeMap<String, Now>,
    running: BTreeMap<MeetingId, Option<bool>>,
    probing: bool,
    grace_over: bool,
    resting: bool,
    rest_over: bool,
    /// Who was shown before this round.
    known: HashSet<InstanceId>,
    done: Vec<bool>,
    /// Listings that were handed on.
    fed: BTreeSet<String>,
    front_trouble_told: bool,
}

pub(super) async fn look_in_parts(bbb: &BigBlueButton, targets: &[Target], hand_on: HandOn<'_>) {
    if targets.is_empty() {
        return;
    }
    let mut asking = Asking::begin(bbb, targets);
    loop {
        asking.hand_on(hand_on);
        if asking.is_over() {
            break;
        }
        let Some(event) = asking.pending.next().await else { break };
        asking.take(event);
    }
    asking.finish(hand_on);
}

/// The same as one round.
pub(super) async fn look(bbb: &BigBlueButton, targets: &[Target]) -> Round {
    let sent = bbb.now();
    let parts = Mutex::new(Vec::new());
    look_in_parts(bbb, targets, &|part| parts.lock().expect("no holder of this lock can panic").push(part))
        .await;
    let parts: Vec<Part> = parts.into_inner().expect("no holder of this lock can panic");
    let mut whole = Round { sent, received: bbb.now(), ..Round::default() };
    let mut sightings = BTreeMap::new();
    for Part { about, round } in parts {
        sightings.extend(about.into_iter().zip(round.sightings));
        whole.listings.extend(round.listings);
        whole.shown.extend(round.shown);
        whole.trouble.extend(round.trouble);
    }
    whole.sightings = sightings.into_values().collect();
    whole
}

impl<'a> Asking<'a> {
    fn begin(bbb: &'a BigBlueButton, targets: &'a [Target]) -> Asking<'a> {
        look::note_targets(bbb, targets);
        let asks_listing = !targets.iter().all(look::is_last);
        let mut asking = Asking {
            bbb,
            targets,
            sent: bbb.now(),
            pending: FuturesUnordered::new(),
            asks_listing,
            listing: None,
            queue: VecDeque::new(),
            under_way: 0,
            wanted: BTreeSet::new(),
            infos: Infos::new(),
            asked_nodes: look::asked_nodes(bbb, targets),
            nodes: Listings::new(),
            node_times: BTreeMap::new(),
            running: BTreeMap::new(),
            probing: bbb.needs_probe() && asks_listing,
            grace_over: false,
            resting: false,
            rest_over: false,
            known: bbb.notes().shown_before.clone(),
            done: vec![false; targets.len()],
            fed: BTreeSet::new(),
            front_trouble_told: false,
        };
        for target in targets.iter().filter(|target| look::asks_early(bbb, target, targets.len())) {
            asking.want(&target.meeting);
        }
        asking.ask_infos();
        if asks_listing {
            asking.ask_listing();
        }
        asking.ask_nodes();
        if asking.probing {
            asking.pending.push(
                async {
                    lazily(&bbb.front).await;
                    Event::Probed
                }
                .boxed(),
            );
        }
        asking
    }

    fn ask_listing(&mut self) {
        let (bbb, timeout) = (self.bbb, look::listing_timeout(self.bbb, self.targets));
        let listing = async move {
            let asked = bbb.now();
            let is = bbb.front.listing(timeout).await;
            Event::Listing(Answered { asked, at: bbb.now(), is })
        };
        self.pending.push(listing.boxed());
        self.remind(HEDGE, || Event::Hedge);
        self.remind(GRACE, || Event::Grace);
    }

    fn ask_nodes(&mut self) {
        let (bbb, timeout) = (self.bbb, look::node_timeout(self.bbb, self.targets));
        for name in self.asked_nodes.clone() {
            let Some(node) = bbb.nodes.get(&name) else { continue };
            self.pending.push(
                async move {
                    bbb.probe_node_by_the_way(node).await;
                    Event::NodeProbed
                }
                .boxed(),
            );
            let listing = async move {
                let asked = bbb.now();
                let is = node.listing(timeout).await;
                Event::Node(name, Answered { asked, at: bbb.now(), is })
            };
            self.pending.push(listing.boxed());
        }
    }

    fn remind(&mut self, after: Duration, event: fn() -> Event) {
        // As the requests' own time-outs, this bounds a wait for the network and is no time of any deadline.
        let timer = tokio::time::timeout(after, std::future::pending::<()>());
        self.pending.push(timer.map(move |_| event()).boxed());
    }

    /// Puts a meeting on the list of those that getMeetingInfo is asked about, if it has room.
    fn want(&mut self, meeting: &MeetingId) {
        if self.wanted.len() < SINGLE_LOOKS && self.wanted.insert(meeting.clone()) {
            self.queue.push_back(meeting.clone());
        }
    }

    fn ask_infos(&mut self) {
        while self.under_way < PARALLEL
            && let Some(meeting) = self.queue.pop_front()
        {
            self.under_way += 1;
            let bbb = self.bbb;
            let info = async move {
                let asked = bbb.now();
                let is = bbb.front.info(&meeting).await;
                Event::Info(meeting, Answered { asked, at: bbb.now(), is })
            };
            self.pending.push(info.boxed());
        }
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Listing(answer) => {
                if let Ok(listing) = &answer.is {
                    look::note_listing(self.bbb, listing, answer.asked);
                }
                let late = |target: &&Target| {
                    !look::is_last(target) && look::asks_late(self.bbb, target, &answer.is, &self.known)
                };
                let late: Vec<MeetingId> =
                    self.targets.iter().filter(late).map(|target| target.meeting.clone()).collect();
                late.iter().for_each(|meeting| self.want(meeting));
                self.listing = Some(answer);
            }
            Event::Info(meeting, answer) => {
                self.under_way -= 1;
                self.infos.insert(meeting, answer);
            }
            Event::Node(name, answer) => {
                self.node_times.insert(name.clone(), answer.asked);
                self.nodes.insert(name, answer.is);
            }
            Event::Running(meeting, is_running) => {
                self.running.insert(meeting, Some(is_running));
            }
            Event::Probed => self.probing = false,
            Event::NodeProbed => {}
            Event::Hedge => self.hedge(precedes_end),
            Event::Grace => {
                self.grace_over = true;
                if self.bbb.front() == Front::Direct {
                    self.hedge(|_| true);
                }
            }
            Event::Rest => self.rest_over = true,
        }
        self.ask_infos();
        self.ask_running();
    }

    /// The listing lets itself be waited for.
    fn hedge(&mut self, whom: fn(&Target) -> bool) {
        if self.listing.is_some() {
            return;
        }
        let open = self.targets.iter().zip(&self.done).filter(|(target, done)| !**done && whom(target));
        let meetings: Vec<MeetingId> = open.map(|(target, _)| target.meeting.clone()).collect();
        meetings.iter().for_each(|meeting| self.want(meeting));
    }

    /// Of those whose listing and getMeetingInfo have come to nothing.
    fn ask_running(&mut self) {
        let (bbb, targets) = (self.bbb, self.targets);
        for target in targets {
            let meeting = &target.meeting;
            let asked = self.running.contains_key(meeting) || self.running.len() >= SINGLE_LOOKS;
            if asked || look::is_last(target) || self.waits_for_front(target) {
                continue;
            }
            if self.hear(target, look::asks_running) {
                self.running.insert(meeting.clone(), None);
                let running = async move {
                    let answer = bbb.front.running(meeting.as_str()).await;
                    let is_running =
                        answer.is_ok_and(|answer| answer.success && answer.running == Some(true));
                    Event::Running(meeting.clone(), is_running)
                };
                self.pending.push(running.boxed());
            }
        }
    }

    /// Is an answer of the front about this target still to come?
    fn waits_for_front(&self, target: &Target) -> bool {
        let info = self.wanted.contains(&target.meeting) && !self.infos.contains_key(&target.meeting);
        let listing = self.asks_listing && self.listing.is_none() && !look::is_last(target);
        info || listing
    }

    fn hear<T>(&self, target: &Target, of: impl FnOnce(&Heard<'_>) -> T) -> T {
        let bbb = self.bbb;
        let names_instances = |node: Option<&str>| bbb.names_instances(node);
        let asked = self.listing.as_ref().map(|listing| listing.asked);
        let is_stale = |id: &InstanceId| {
            let denied = bbb.notes().denied.get(id).copied();
            denied.is_some_and(|at| asked.is_some_and(|asked| at.boot <= asked.boot))
        };
        of(&Heard {
            listing: self.listing.as_ref().map(|listing| &listing.is).filter(|_| !look::is_last(target)),
            info: self.infos.get(&target.meeting).map(|info| &info.is),
            running: self.running.get(&target.meeting) == Some(&Some(true)),
            nodes: &self.nodes,
            names_instances: &names_instances,
            lists_truly: bbb.front() == Front::Scalelite,
            is_stale: &is_stale,
        })
    }

    fn is_complete(&self, target: &Target) -> bool {
        let sighting = self.hear(target, |heard| sight::sight(target, heard));
        let ours = match &sighting {
            Sighting::Live(instance) => target.instance.as_ref().is_none_or(|id| *id == instance.id),
            _ => false,
        };
        let front_is_heard = match self.infos.get(&target.meeting).map(|info| &info.is) {
            Some(Ok(Info::Live(entry))) if ours && entry.internal.is_some() => self.is_enough(target),
            Some(_) => self.grace_over && (precedes_end(target) && !look::arms(target) || self.is_direct()),
            None => false,
        };
        if !front_is_heard && (self.waits_for_front(target) || self.probing) {
            return false;
        }
        if self.running.get(&target.meeting) == Some(&None) {
            return false;
        }
        !self.waits_for_nodes(target, ours)
    }

    /// getMeetingInfo shows it alive. Must a listing show it too?
    fn is_enough(&self, target: &Target) -> bool {
        if look::arms(target) {
            return self.is_direct() && self.grace_over;
        }
        let listed = target.pin.as_ref().is_some_and(|pin| pin.listed);
        listed || self.is_direct() || look::is_last(target) || self.grace_over
    }

    fn is_direct(&self) -> bool {
        self.bbb.front() == Front::Direct
    }

    /// A node places what is alive, and proves what is not.
    fn waits_for_nodes(&self, target: &Target, alive: bool) -> bool {
        let open = |name: &String| !self.nodes.contains_key(name);
        match target.pin.as_ref().map(|pin| pin.node.as_ref()) {
            Some(Some(_)) if alive => false,
            Some(Some(node)) if self.asked_nodes.contains(node) => open(node),
            _ if target.instance.is_none() && !alive => false,
            _ if look::is_last(target) => false,
            _ => self.asked_nodes.iter().any(open),
        }
    }

    /// Hands on whoever is complete, those together whose evidence was asked for at the same time.
    fn hand_on(&mut self, hand_on: HandOn<'_>) {
        let open = (0..self.targets.len()).filter(|at| !self.done[*at]);
        let ready: Vec<usize> = open.filter(|at| self.is_complete(&self.targets[*at])).collect();
        self.pass(&ready, hand_on);
    }

    fn pass(&mut self, ready: &[usize], hand_on: HandOn<'_>) {
        let mut parts: BTreeMap<i64, (Now, Vec<(usize, Sighting)>)> = BTreeMap::new();
        for at in ready.iter().copied() {
            let target = &self.targets[at];
            self.done[at] = true;
            let sighting = self.hear(target, |heard| sight::sight(target, heard));
            let info = self.infos.get(&target.meeting);
            let listing = self.listing.as_ref().map(|listing| &listing.is);
            if let Some(info) = info {
                look::note_denials(
                    self.bbb,
                    &target.meeting,
                    info,
                    listing.and_then(|listing| listing.as_ref().ok()),
                );
            }
            look::note(self.bbb, &sighting, listing, info, &self.nodes);
            let (asked, sighting) = self.dated(target, sighting);
            parts.entry(asked.boot.0).or_insert_with(|| (asked, Vec::new())).1.push((at, sighting));
        }
        // A listing counts from when it was asked for, whatever the targets' own answers do.
        let asked = self.listing.as_ref().map(|listing| listing.asked);
        if let Some(asked) = asked.filter(|asked| !parts.is_empty() && !parts.contains_key(&asked.boot.0))
            && !self.fed.contains(FRONT)
        {
            let news = self.news(asked);
            hand_on(Part { about: Vec::new(), round: news });
        }
        for (_, (sent, shown)) in parts {
            let (about, sightings) = shown.into_iter().unzip();
            let round = Round { sent, sightings, ..self.news(sent) };
            hand_on(Part { about, round });
        }
    }

    /// With the time at which the evidence was asked for, and what is alive with the time of its own answer.
    fn dated(&self, target: &Target, sighting: Sighting) -> (Now, Sighting) {
        let info = self.infos.get(&target.meeting).map(|info| (info.asked, info.at));
        let listing = self.listing.as_ref().map(|listing| (listing.asked, listing.at));
        let Sighting::Live(instance) = sighting else {
            let nodes = self.node_times.values().copied();
            let all = info.into_iter().chain(listing).map(|(asked, _)| asked).chain(nodes);
            return (all.min_by_key(|at| at.boot).unwrap_or(self.sent), sighting);
        };
        let id = &instance.id;
        let by_info = match self.infos.get(&target.meeting).map(|info| &info.is) {
            Some(Ok(Info::Live(entry))) => info.filter(|_| entry.internal.as_ref() == Some(id)),
            _ => None,
        };
        let shows = |listing: &Answered<Listing>| {
            listing.is.as_ref().is_ok_and(|listing| listing.instance(id).is_some())
        };
        let by_listing = listing.filter(|_| self.listing.as_ref().is_some_and(shows));
        let by_node =
            instance.node.as_ref().and_then(|node| self.node_times.get(node)).map(|asked| (*asked, *asked));
        let shown = by_info.into_iter().chain(by_listing).max_by_key(|(asked, _)| asked.boot).or(by_node);
        let (asked, at) = shown.unwrap_or((self.sent, self.sent));
        (asked, Sighting::Live(Instance { shown_at: Some(at), asked_at: Some(asked), ..instance }))
    }

    /// What the memory has to learn besides, each once: listings, and trouble.
    fn news(&mut self, sent: Now) -> Round {
        let bbb = self.bbb;
        let mut news = Round { sent, received: bbb.now(), ..Round::default() };
        let front = self.listing.as_ref().and_then(|listing| listing.is.as_ref().ok()).map(|is| (FRONT, is));
        let nodes = self.nodes.iter().filter_map(|(name, is)| Some((name.as_str(), is.as_ref().ok()?)));
        for (name, listing) in front.into_iter().chain(nodes) {
            if self.fed.insert(name.to_owned()) {
                news.listings.insert(name.to_owned(), look::witnesses(bbb, listing));
                news.shown.insert(name.to_owned(), look::shown(listing));
            }
        }
        let failed = self.nodes.iter().filter_map(|(name, is)| Some((name.clone(), is.as_ref().err()?)));
        news.trouble.extend(failed.map(|(name, problem)| (name, problem.why().to_owned())));
        if !self.front_trouble_told
            && let Some(why) = self.front_trouble()
        {
            self.front_trouble_told = true;
            news.trouble.insert(FRONT.to_owned(), why);
        }
        news
    }

    /// Any sign of an outage counts, also where a later request of the same round was answered: a restart may lie between.
    fn front_trouble(&self) -> Option<String> {
        let listing = self.listing.iter().filter_map(|listing| listing.is.as_ref().err());
        let mut problems = listing.chain(self.infos.values().filter_map(|info| info.is.as_ref().err()));
        let heard_info =
            self.infos.values().any(|info| matches!(info.is, Ok(Info::Live(_) | Info::NotFound)));
        let running = self.running.values().any(|running| *running == Some(true));
        let usable = self.listing.as_ref().is_some_and(|listing| listing.is.is_ok()) || heard_info || running;
        // Whether nothing is usable is known when everything is in.
        let open = (self.asks_listing && self.listing.is_none()) || self.infos.len() < self.wanted.len();
        let first = problems.clone().next().filter(|_| !usable && !open);
        let outage = problems.find(|problem| match problem {
            // Our own single looks may have been too many.
            Problem::Throttled { .. } => !usable && !open,
            other => other.is_outage(),
        });
        outage.or(first).map(|problem| problem.why().to_owned())
    }

    fn is_over(&mut self) -> bool {
        if !self.done.iter().all(|done| *done) {
            return false;
        }
        let open = (self.asks_listing && self.listing.is_none())
            || self.infos.len() < self.wanted.len()
            || self.nodes.len() < self.asked_nodes.len();
        if open && !self.resting {
            self.resting = true;
            self.remind(REST, || Event::Rest);
        }
        !open || self.rest_over
    }

    fn finish(mut self, hand_on: HandOn<'_>) {
        let left: Vec<usize> = (0..self.targets.len()).filter(|at| !self.done[*at]).collect();
        self.pass(&left, hand_on);
        let sent = self.listing.as_ref().map_or(self.sent, |listing| listing.asked);
        let told = self.front_trouble_told;
        let news = self.news(sent);
        let new_trouble = self.front_trouble_told != told;
        if new_trouble || !news.listings.is_empty() {
            hand_on(Part { about: Vec::new(), round: news });
        }
    }
}
