//! A round of looks at a server of BigBlueButton's kind: a listing, single looks, nodes, each with a fate of its own; a target
//! is handed on as soon as its own evidence is complete.

use std::collections::BTreeMap;

use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt};

use super::clock::Ms;
use super::faults::{Endpoint, Shows};
use super::plan::NetFault;
use super::platform::{SimPlatform, Way};
use super::world::{Flavour, NODES};
use crate::job::{Evidence, Instance, InstanceId, Now, Purpose, Sighting};
use crate::platform::{HandOn, Part, Round, Target};

/// A single look that is answered waits so long for the listing of its round.
const PATIENCE: Ms = 300;
/// A node is waited for so long before an end.
const NODE_PATIENCE: Ms = 1_500;

/// What a question that was answered, or was not, has brought.
struct Answer<T> {
    asked: Now,
    left: Ms,
    /// When the server saw it.
    seen: Ms,
    back: Ms,
    received: Now,
    what: Result<T, Trouble>,
}

#[derive(Clone)]
enum Trouble {
    Unreachable(&'static str),
    Doubtful,
    Misconfigured,
}

/// What a single look says.
enum Info {
    Live(Instance),
    NotFound,
    Occupied,
}

type Shown = Vec<(usize, Instance)>;

enum Heard {
    Patience,
    Listing(Answer<Shown>),
    Info(usize, Answer<Info>),
    Node(usize, Answer<Shown>),
}

/// A round under way.
struct Course<'a> {
    targets: &'a [Target],
    sent: Now,
    listing: Option<Answer<Shown>>,
    /// By target.
    infos: BTreeMap<usize, Answer<Info>>,
    nodes: BTreeMap<usize, Answer<Shown>>,
    handed_on: Vec<bool>,
}

/// What one target has seen, and by which answers: when they left, were seen by the server, and came back.
struct Sight {
    sighting: Sighting,
    times: (Ms, Ms, Ms),
}

pub fn precedes_end(purpose: Purpose) -> bool {
    matches!(purpose, Purpose::Pin | Purpose::Arm | Purpose::BeforeEnd | Purpose::Last)
}

impl SimPlatform {
    pub async fn look_around(&self, targets: &[Target], hand_on: HandOn<'_>) {
        let mut course = Course {
            targets,
            sent: self.sim.machine_now(),
            listing: None,
            infos: BTreeMap::new(),
            nodes: BTreeMap::new(),
            handed_on: vec![false; targets.len()],
        };
        let mut asked = self.questions(targets);
        let mut open = asked.len();
        asked.push(Box::pin(async {
            self.sim.clock.wait(PATIENCE).await;
            Heard::Patience
        }));
        let mut impatient = false;
        while open > 0
            && let Some(heard) = asked.next().await
        {
            match heard {
                Heard::Patience => impatient = true,
                answer => {
                    let more = course.take(self, answer);
                    open = open + more.len() - 1;
                    more.into_iter().for_each(|at| asked.push(self.single_look(targets, at)));
                }
            }
            if impatient && open > 0 {
                let ready: Vec<usize> = course.waiting().filter(|at| course.is_complete(*at)).collect();
                if !ready.is_empty() {
                    self.hand_over(&mut course, ready, hand_on);
                }
            }
        }
        let rest: Vec<usize> = course.waiting().collect();
        // A listing that comes when nobody waits for it any more still tells what else is live there.
        if !rest.is_empty() || (impatient && course.listing.is_some()) {
            self.hand_over(&mut course, rest, hand_on);
        }
    }

    /// What is asked at once.
    fn questions<'a>(&'a self, targets: &'a [Target]) -> FuturesUnordered<BoxFuture<'a, Heard>> {
        let asked: FuturesUnordered<BoxFuture<'a, Heard>> = FuturesUnordered::new();
        if targets.iter().any(|target| target.purpose != Purpose::Last) {
            asked.push(Box::pin(async { Heard::Listing(self.ask_listing().await) }));
        }
        for (at, _) in targets.iter().enumerate().filter(|(_, target)| precedes_end(target.purpose)) {
            asked.push(self.single_look(targets, at));
        }
        if self.sim.has_nodes(self.site) && self.flavour != Flavour::Direct {
            for node in 0..NODES {
                asked.push(Box::pin(async move { Heard::Node(node, self.ask_node(node).await) }));
            }
        }
        asked
    }

    fn single_look<'a>(&'a self, targets: &'a [Target], at: usize) -> BoxFuture<'a, Heard> {
        Box::pin(async move { Heard::Info(at, self.ask_info(&targets[at]).await) })
    }

    /// Those of which the listing knows nothing, and that nobody has asked about.
    fn not_shown(&self, listing: &Answer<Shown>, targets: &[Target]) -> Vec<usize> {
        let shown = |target: &Target| {
            let room = self.room(&target.meeting);
            let listed = listing.what.as_ref().ok();
            listed.is_some_and(|shown| shown.iter().any(|(at, _)| Some(*at) == room))
        };
        let absent = |(_, target): &(usize, &Target)| !precedes_end(target.purpose) && !shown(target);
        targets.iter().enumerate().filter(absent).map(|(at, _)| at).collect()
    }

    fn hand_over(&self, course: &mut Course<'_>, about: Vec<usize>, hand_on: HandOn<'_>) {
        let targets: Vec<Target> = about.iter().map(|at| course.targets[*at].clone()).collect();
        let mut sightings = Vec::new();
        for (at, target) in about.iter().zip(&targets) {
            let Sight { sighting, times } = course.sight(self, *at);
            self.sim.check.lock().unwrap().looked(target, &sighting, times);
            sightings.push(sighting);
            course.handed_on[*at] = true;
        }
        let received = self.sim.machine_now();
        let (listings, shown, trouble) = (course.listings(), course.shown(), course.troubles());
        let round = Round { sent: course.sent, received, sightings, listings, shown, trouble };
        self.hand_on(Part { about, round }, hand_on);
    }

    async fn answer<T>(
        &self,
        way: (Option<NetFault>, Way),
        (asked, left): (Now, Ms),
        seen: impl FnOnce(Option<NetFault>, Ms) -> Result<T, Trouble>,
    ) -> Answer<T> {
        let (fault, way) = way;
        let (at, what) = match way {
            Way::Failed { why, .. } => (self.sim.clock.truth(), Err(Trouble::Unreachable(why))),
            Way::Through { then } => {
                let at = self.sim.advance();
                let what = seen(fault, at);
                self.sim.clock.wait(then).await;
                (at, what)
            }
        };
        let (back, received) = (self.sim.clock.truth(), self.sim.machine_now());
        Answer { asked, left, seen: at, back, received, what }
    }

    async fn ask_listing(&self) -> Answer<Shown> {
        let left = (self.sim.machine_now(), self.sim.clock.truth());
        let way = self.ask(Endpoint::Listing, None).await;
        self.answer(way, left, |fault, at| match fault {
            Some(NetFault::Doubtful) if self.sim.chance(0, 2) > 0 => Err(Trouble::Doubtful),
            Some(NetFault::Misconfigured) => Err(Trouble::Misconfigured),
            Some(NetFault::Blink) => Ok(Vec::new()),
            _ => Ok(self.listed(at)),
        })
        .await
    }

    /// What the front lists at this time.
    pub fn listed(&self, at: Ms) -> Vec<(usize, Instance)> {
        let when = match self.sim.lists(self.site) {
            Some(Shows::Nothing) => return Vec::new(),
            Some(Shows::Old(age)) => at - at.rem_euclid(age),
            None => at,
        };
        let rooms = self.sim.plan.sites[self.host].rooms;
        let of = |room| Some((room, Instance { listed: true, ..self.shown_in(room, when)? }));
        // One more than the plan's: somebody else's, by which a loss can be told.
        (0..=rooms).filter_map(of).collect()
    }

    async fn ask_info(&self, target: &Target) -> Answer<Info> {
        let left = (self.sim.machine_now(), self.sim.clock.truth());
        let way = self.ask(Endpoint::Info, self.room(&target.meeting)).await;
        self.answer(way, left, |fault, at| match (fault, self.shown(&target.meeting, at)) {
            (Some(NetFault::Misconfigured), _) => Err(Trouble::Misconfigured),
            (Some(NetFault::Doubtful), _) if self.sim.chance(0, 2) > 0 => Err(Trouble::Doubtful),
            (Some(NetFault::Occupied), Some(_)) if self.sim.chance(0, 2) > 0 => Ok(Info::Occupied),
            (Some(NetFault::Blink), _) | (_, None) => Ok(Info::NotFound),
            (_, Some(instance)) => Ok(Info::Live(instance)),
        })
        .await
    }

    /// A node is asked directly; what its front thinks of it is no matter.
    async fn ask_node(&self, node: usize) -> Answer<Shown> {
        let left = (self.sim.machine_now(), self.sim.clock.truth());
        let way = async {
            let way = self.fare(None, self.sim.node_ail(self.site, node)).await;
            (None, way)
        };
        let way = tokio::select! {
            biased;
            way = way => way,
            () = self.sim.clock.wait(NODE_PATIENCE) => (None, Way::Failed { why: "timed out", sent: true }),
        };
        self.answer(way, left, |_, at| {
            let rooms = self.sim.plan.sites[self.host].rooms;
            Ok((0..=rooms).filter_map(|room| Some((room, self.on_node(node, room, at)?))).collect())
        })
        .await
    }
}

impl Course<'_> {
    /// Those that have not been handed on.
    fn waiting(&self) -> impl Iterator<Item = usize> {
        (0..self.targets.len()).filter(|at| !self.handed_on[*at])
    }

    /// Whom else must be asked about, one by one?
    fn take(&mut self, server: &SimPlatform, heard: Heard) -> Vec<usize> {
        match heard {
            Heard::Patience => {}
            Heard::Info(at, answer) => {
                self.infos.insert(at, answer);
            }
            Heard::Node(node, answer) => {
                self.nodes.insert(node, answer);
            }
            Heard::Listing(answer) => {
                let more = server.not_shown(&answer, self.targets);
                self.listing = Some(answer);
                return more;
            }
        }
        Vec::new()
    }

    /// Has its own answer come, and does nothing else matter?
    fn is_complete(&self, at: usize) -> bool {
        let target = &self.targets[at];
        precedes_end(target.purpose)
            && self.infos.get(&at).is_some_and(|info| matches!(info.what, Ok(Info::Live(_))))
    }

    fn sight(&self, server: &SimPlatform, at: usize) -> Sight {
        let target = &self.targets[at];
        let room = server.room(&target.meeting);
        let in_listing = |answer: &Answer<Shown>| -> Option<Instance> {
            let shown = answer.what.as_ref().ok()?;
            shown.iter().find(|(at, _)| Some(*at) == room).map(|(_, instance)| instance.clone())
        };
        let info = self.infos.get(&at);
        let by_info = info.and_then(|info| match &info.what {
            Ok(Info::Live(instance)) => Some((instance.clone(), times(info), (info.asked, info.received))),
            _ => None,
        });
        let by_listing = self
            .listing
            .as_ref()
            .and_then(|answer| Some((in_listing(answer)?, times(answer), (answer.asked, answer.received))));
        let listed = by_listing.as_ref().map(|(instance, ..)| instance.id.clone());
        let wanted = |instance: &Instance| target.instance.as_ref() == Some(&instance.id);
        let mut on_nodes = self
            .nodes
            .values()
            .filter_map(|answer| Some((in_listing(answer)?, times(answer), (answer.asked, answer.received))));
        let on_node = on_nodes.find(|(instance, ..)| wanted(instance));
        let candidates = [&by_info, &by_listing, &on_node];
        let found = candidates.iter().filter_map(|found| found.as_ref());
        let pinned = found.clone().find(|(instance, ..)| wanted(instance));
        if let Some((instance, times, (asked, received))) = pinned.or_else(|| found.clone().next()) {
            let listed = listed.as_ref() == Some(&instance.id);
            let node = self.holder(&instance.id);
            let (asked_at, shown_at) = (Some(*asked), Some(*received));
            let instance = Instance { listed, node, asked_at, shown_at, ..instance.clone() };
            return Sight { sighting: Sighting::Live(instance), times: *times };
        }
        self.absent(target, info)
    }

    /// The node whose listing shows it.
    fn holder(&self, id: &InstanceId) -> Option<String> {
        let shows = |answer: &Answer<Shown>| {
            answer.what.as_ref().is_ok_and(|shown| shown.iter().any(|(_, instance)| instance.id == *id))
        };
        self.nodes.iter().find(|(_, answer)| shows(answer)).map(|(node, _)| node_name(*node))
    }

    /// Nothing shows it alive.
    fn absent(&self, target: &Target, info: Option<&Answer<Info>>) -> Sight {
        let listing = self.listing.as_ref();
        let node = target.pin.as_ref().and_then(|pin| pin.node.as_deref());
        let by_node = self.nodes.iter().find(|(at, _)| node == Some(node_name(**at).as_str()));
        let asked = [listing.map(times), info.map(times), by_node.map(|(_, answer)| times(answer))];
        let asked: Vec<(Ms, Ms, Ms)> = asked.into_iter().flatten().collect();
        let times = (
            asked.iter().map(|times| times.0).min().unwrap_or(0),
            asked.iter().map(|times| times.1).min().unwrap_or(0),
            asked.iter().map(|times| times.2).max().unwrap_or(0),
        );
        let mut sighting = None;
        if let Some((_, answer)) = by_node {
            let evidence = Evidence { listing: true, info: false, node: true };
            sighting = Some(match &answer.what {
                Ok(_) => Sighting::NotThere(evidence),
                Err(trouble) => trouble.sighting(),
            });
        }
        let info_says = info.map(|info| &info.what);
        if let Some(Ok(Info::Occupied)) = info_says {
            sighting.get_or_insert(Sighting::Occupied);
        }
        let listed = listing.is_some_and(|answer| answer.what.is_ok());
        let not_found = matches!(info_says, Some(Ok(Info::NotFound)));
        if listed || not_found {
            let evidence = Evidence { listing: listed, info: not_found, node: false };
            sighting.get_or_insert(Sighting::NotThere(evidence));
        }
        let troubles = listing.and_then(|answer| answer.what.as_ref().err());
        let trouble = troubles.or(info.and_then(|info| info.what.as_ref().err()));
        let sighting = sighting.or(trouble.map(Trouble::sighting));
        let sighting = sighting.unwrap_or(Sighting::Unreachable("nothing was asked".to_owned()));
        Sight { sighting, times }
    }

    /// Who is live by the listings, and whether somebody is inside.
    fn shown(&self) -> BTreeMap<String, Vec<(InstanceId, bool)>> {
        let people = |instance: &Instance| (instance.id.clone(), instance.participants != Some(0));
        let all = |answer: &Answer<Shown>| -> Option<Vec<(InstanceId, bool)>> {
            Some(answer.what.as_ref().ok()?.iter().map(|(_, instance)| people(instance)).collect())
        };
        let front = self.listing.as_ref().and_then(all).map(|all| (String::new(), all));
        let nodes = self.nodes.iter().filter_map(|(node, answer)| Some((node_name(*node), all(answer)?)));
        front.into_iter().chain(nodes).collect()
    }

    fn listings(&self) -> BTreeMap<String, Vec<InstanceId>> {
        let ids = |answer: &Answer<Shown>| -> Option<Vec<InstanceId>> {
            Some(answer.what.as_ref().ok()?.iter().map(|(_, instance)| instance.id.clone()).collect())
        };
        let front = self.listing.as_ref().and_then(ids).map(|ids| (String::new(), ids));
        let nodes = self.nodes.iter().filter_map(|(node, answer)| Some((node_name(*node), ids(answer)?)));
        front.into_iter().chain(nodes).collect()
    }

    fn troubles(&self) -> BTreeMap<String, String> {
        let of = |trouble: Option<&Trouble>| match trouble {
            Some(Trouble::Unreachable(why)) => Some((*why).to_owned()),
            _ => None,
        };
        let listing = self.listing.as_ref().and_then(|answer| of(answer.what.as_ref().err()));
        let info = self.infos.values().find_map(|info| of(info.what.as_ref().err()));
        let front = listing.or(info).map(|why| (String::new(), why));
        let nodes = self.nodes.iter();
        let nodes =
            nodes.filter_map(|(node, answer)| Some((node_name(*node), of(answer.what.as_ref().err())?)));
        front.into_iter().chain(nodes).collect()
    }
}

impl Trouble {
    fn sighting(&self) -> Sighting {
        match self {
            Trouble::Unreachable(why) => Sighting::Unreachable((*why).to_owned()),
            Trouble::Doubtful => Sighting::Doubtful("the answer is cut off".to_owned()),
            Trouble::Misconfigured => Sighting::Misconfigured("checksumError".to_owned()),
        }
    }
}

fn times<T>(answer: &Answer<T>) -> (Ms, Ms, Ms) {
    (answer.left, answer.seen, answer.back)
}

fn node_name(node: usize) -> String {
    format!("node-{node}")
}
