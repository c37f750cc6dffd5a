//! The truth: which instance of which meeting was alive when, and which end call reached it.

use std::collections::BTreeMap;

use super::clock::Ms;
use crate::job::{InstanceId, JobId, MeetingId};

/// What kind of server stands there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Flavour {
    /// Names the instance in end calls, tells of it for as long as one asks; needs two sightings.
    Vendor,
    /// One BigBlueButton; forgets everything when it is restarted, while people go on talking.
    Direct,
    /// bbblb: forgets a meeting before it forwards the end call.
    Balancer,
    /// The same, but its listing asks the nodes.
    Scalelite,
}

/// One instance of a meeting.
#[derive(Clone, Debug)]
pub struct Life {
    pub id: InstanceId,
    /// Behind a front: which of its nodes holds it.
    pub node: usize,
    pub started: Ms,
    pub ended: Option<Ms>,
    /// Since when the server does not know of it any more.
    pub lost: Option<Ms>,
    /// It was a restart of the only server: where nobody had seen it before, nobody can tell.
    pub by_restart: bool,
    /// An end call whose claim was not durable made the balancer forget it: no crash-proof daemon can know that.
    pub forgiven: bool,
    /// The job whose end call made a balancer forget it.
    pub forgotten_by: Option<JobId>,
    /// The job whose end call it was.
    pub ended_by: Option<JobId>,
}

impl Life {
    pub fn alive_at(&self, at: Ms) -> bool {
        self.started <= at && self.ended.is_none_or(|ended| ended > at)
    }

    /// May a job that a process says is over be alive here? What another job's call did before the last restart is
    /// known only as long as that job is not done.
    pub fn is_forgiven(&self, job: JobId, restarted: Ms) -> bool {
        let by_another = self.forgotten_by.is_some_and(|by| by != job);
        self.forgiven || (by_another && self.lost.is_some_and(|lost| lost < restarted))
    }

    pub fn shown_at(&self, at: Ms) -> bool {
        self.alive_at(at) && self.lost.is_none_or(|lost| lost > at)
    }
}

#[derive(Clone, Debug, Default)]
pub struct Room {
    pub lives: Vec<Life>,
    /// From when on how many people were inside; two if nobody said otherwise.
    inside: Vec<(Ms, u32)>,
    /// People open it again so long after its end, so many times.
    pub rejoin: Option<(Ms, u32)>,
}

impl Room {
    pub fn shown(&self, at: Ms) -> Option<&Life> {
        self.lives.iter().rev().find(|life| life.shown_at(at))
    }

    pub fn inside(&self, at: Ms) -> u32 {
        let known = self.inside.iter().rev().find(|(from, _)| *from <= at);
        known.map_or(SEVERAL, |(_, count)| *count)
    }
}

/// People in a meeting of which nothing else is said.
const SEVERAL: u32 = 2;

/// What happens by itself.
#[derive(Clone, PartialEq, Debug)]
pub enum Coming {
    Start,
    End,
    /// One ends, and the next is there at once.
    Replace,
    /// An end call takes effect; `only`: on this instance, whether the front knows of it or not.
    Effect {
        only: Option<InstanceId>,
        job: JobId,
    },
    LoseState,
    /// The front forgets what stands on a node, for good; people go on talking.
    Forget {
        node: usize,
    },
    /// So many people are inside from now on, whatever instance there is.
    Inside(u32),
}

/// All servers and their meetings.
#[derive(Default)]
pub struct World {
    pub sites: Vec<Vec<Room>>,
    /// The url of a server changes: who was never seen there may be alive elsewhere, and nobody can know.
    pub moves: bool,
    queue: BTreeMap<(Ms, u64), (usize, usize, Coming)>,
    made: u64,
    /// What happened since it was last asked, for the story.
    pub told: Vec<(Ms, String)>,
}

/// Nodes behind every front.
pub const NODES: usize = 2;

/// Where a room stands.
pub fn node_of(room: usize) -> usize {
    room % NODES
}

pub fn meeting_id(site: usize, room: usize) -> MeetingId {
    MeetingId(format!("room-{site}{room}"))
}

impl World {
    pub fn plan(&mut self, at: Ms, site: usize, room: usize, what: Coming) {
        self.made += 1;
        self.queue.insert((at, self.made), (site, room, what));
    }

    /// Everything up to now, in order.
    pub fn advance(&mut self, now: Ms) {
        while let Some(next) = self.queue.first_entry()
            && next.key().0 <= now
        {
            let ((at, _), (site, room, what)) = next.remove_entry();
            self.happen(at, site, room, what);
        }
    }

    fn happen(&mut self, at: Ms, site: usize, room: usize, what: Coming) {
        match what {
            Coming::Start => self.start(at, site, room),
            Coming::End => {
                self.end(at, site, room, None, None);
            }
            Coming::Replace => {
                self.end(at, site, room, None, None);
                self.start(at, site, room);
            }
            Coming::Effect { only, job } => {
                if self.end(at, site, room, only.as_ref(), Some(job))
                    && let Some((after, times)) = self.sites[site][room].rejoin
                {
                    self.sites[site][room].rejoin = (times > 1).then_some((after, times - 1));
                    self.plan(at + after, site, room, Coming::Start);
                }
            }
            Coming::Inside(count) => {
                self.sites[site][room].inside.push((at, count));
                self.told.push((at, format!("world: {count} people are in {}", meeting_id(site, room))));
            }
            Coming::Forget { node } => {
                self.lose(at, site, false, |life| life.node == node);
                self.told.push((at, format!("world: the front of server {site} forgets node {node}")));
            }
            Coming::LoseState => {
                self.lose(at, site, true, |_| true);
                self.told.push((at, format!("world: server {site} restarts and forgets every meeting")));
            }
        }
    }

    fn lose(&mut self, at: Ms, site: usize, by_restart: bool, there: impl Fn(&Life) -> bool) {
        let lives = self.sites[site].iter_mut().flat_map(|room| &mut room.lives);
        for life in lives.filter(|life| life.ended.is_none() && life.lost.is_none() && there(life)) {
            life.lost = Some(at);
            life.by_restart = by_restart;
        }
    }

    fn start(&mut self, at: Ms, site: usize, room: usize) {
        let place = &mut self.sites[site][room];
        if place.shown(at).is_some() {
            return;
        }
        // A front that has forgotten one opens the next on a node that is free of it.
        let taken = |node: &usize| place.lives.iter().any(|life| life.alive_at(at) && life.node == *node);
        let nodes = (0..NODES).map(|more| (node_of(room) + more) % NODES);
        let Some(node) =
            nodes.into_iter().find(|node| place.lives.iter().all(|life| life.by_restart) || !taken(node))
        else {
            return;
        };
        let id = InstanceId(format!("{}-run{}", meeting_id(site, room), place.lives.len() + 1));
        self.told.push((at, format!("world: {id} starts")));
        let life = Life {
            id,
            node,
            started: at,
            ended: None,
            lost: None,
            by_restart: false,
            forgiven: false,
            forgotten_by: None,
            ended_by: None,
        };
        place.lives.push(life);
    }

    /// True: something has ended.
    fn end(
        &mut self,
        at: Ms,
        site: usize,
        room: usize,
        only: Option<&InstanceId>,
        by: Option<JobId>,
    ) -> bool {
        let lives = &mut self.sites[site][room].lives;
        let hit = |life: &&mut Life| match only {
            Some(only) => life.alive_at(at) && *only == life.id,
            None => life.shown_at(at),
        };
        let found = lives.iter_mut().rev().find(hit);
        let Some(life) = found else { return false };
        life.ended = Some(at);
        life.ended_by = by;
        let how = by.map_or("ends by itself".to_owned(), |job| format!("is ended by job {}", job.short()));
        self.told.push((at, format!("world: {} {how}", life.id)));
        true
    }

    #[expect(clippy::unused_self, reason = "a question to the world, as its neighbours")]
    pub fn room(&self, meeting: &MeetingId) -> Option<(usize, usize)> {
        let digits = meeting.as_str().strip_prefix("room-")?;
        let (site, room) = digits.split_at_checked(1)?;
        Some((site.parse().ok()?, room.parse().ok()?))
    }

    pub fn lives(&self, meeting: &MeetingId) -> &[Life] {
        self.room(meeting).map_or(&[], |(site, room)| &self.sites[site][room].lives)
    }

    pub fn life(&self, meeting: &MeetingId, id: &InstanceId) -> Option<&Life> {
        self.lives(meeting).iter().find(|life| life.id == *id)
    }
}
