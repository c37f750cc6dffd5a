//! What stands in front: load balancers that forget before they forward.
//!
//! * **Scalelite** deletes its own record of a meeting before it forwards `end`, so info says `notFound` even where the
//!   meeting lives on; its listing asks every node live and skips those that do not answer.
//! * **The other kind** (bbblb) forgets before it forwards too, but lists only what it remembers, and forgets everything on
//!   a node that did not answer one poll.
//!
//! Both know meetingIDs only, never internal ids. They speak to their nodes inside this process; a fault of the node's
//! line counts there as a failed call.

use std::collections::HashMap;

use super::Front;
use super::answers::{self, Outcome};
use super::faults::Fault;
use super::meeting_server::{forgotten, listing, no_meetings};
use super::truth::Effect;
use super::wire::Call;
use super::world::{Kind, Visit, World};

/// Which node holds which meeting, as the balancer remembers it.
#[derive(Default)]
pub(super) struct Records(HashMap<String, usize>);

impl Records {
    pub fn remember(&mut self, meeting: &str, node: usize) {
        self.0.insert(meeting.to_owned(), node);
    }

    pub fn node_of(&self, meeting: &str) -> Option<usize> {
        self.0.get(meeting).copied()
    }

    /// Forgets one meeting, or all.
    pub fn forget(&mut self, meeting: Option<&str>) {
        match meeting {
            Some(meeting) => drop(self.0.remove(meeting)),
            None => self.0.clear(),
        }
    }

    fn forget_node(&mut self, node: usize) {
        self.0.retain(|_, at| *at != node);
    }
}

impl World {
    /// One call at the balancer.
    pub(super) fn balancer(&mut self, visit: &mut Visit) -> Outcome {
        self.poll_nodes();
        match visit.call {
            Call::Probe => self.balancer_probe(),
            Call::GetMeetings => self.balancer_listing(visit),
            Call::SendChatMessage if self.settings.front == Front::Scalelite => {
                Outcome::failed("unsupportedRequest", "This request is not supported.")
            }
            Call::Create => self.balancer_create(visit),
            _ => self.balancer_one(visit),
        }
    }

    fn balancer_probe(&self) -> Outcome {
        let mut inner = String::new();
        answers::element(&mut inner, "version", "2.0");
        match self.settings.front {
            Front::Scalelite => answers::element(&mut inner, "build", "1.6.0"),
            _ => answers::element(&mut inner, "info", "Served by a load balancer"),
        }
        Outcome::Success { key: "", inner }
    }

    fn records(&mut self) -> Option<&mut Records> {
        match &mut self.servers[0].kind {
            Kind::Balancer(records) => Some(records),
            Kind::Meetings(_) => None,
        }
    }

    fn record(&mut self, meeting: &str) -> Option<usize> {
        self.records()?.node_of(meeting)
    }

    /// bbblb polls its nodes in the background and forgets all meetings of one that fails once. Here the poll is part of
    /// each call, which comes to the same while the fault stands.
    fn poll_nodes(&mut self) {
        if self.settings.front != Front::Balancer || self.faults.active().is_empty() {
            return;
        }
        for node in 1..self.servers.len() {
            if self.line_is_broken(node)
                && let Some(records) = self.records()
            {
                records.forget_node(node);
            }
        }
    }

    fn balancer_listing(&mut self, visit: &mut Visit) -> Outcome {
        let off = |f: &Fault| matches!(f, Fault::ListingDisabled).then_some(());
        if self.take(0, visit, off).is_some() {
            return no_meetings();
        }
        let live = self.settings.front == Front::Scalelite;
        let mut elements = String::new();
        for node in 1..self.servers.len() {
            if self.line(node, visit).is_some() {
                continue;
            }
            let known = match self.records() {
                Some(records) if !live => records.0.clone(),
                _ => HashMap::new(),
            };
            let wanted = |meeting: &str| live || known.get(meeting) == Some(&node);
            elements.push_str(&self.listed(node, visit, wanted));
        }
        listing(&elements)
    }

    fn balancer_create(&mut self, visit: &mut Visit) -> Outcome {
        let Some(meeting) = visit.given().map(str::to_owned) else { return missing_id() };
        let node = self.record(&meeting).unwrap_or(1);
        let answer = self.forward(node, visit);
        if let (Outcome::Success { .. }, Some(records)) = (&answer, self.records()) {
            records.remember(&meeting, node);
        }
        answer
    }

    fn balancer_one(&mut self, visit: &mut Visit) -> Outcome {
        let Some(meeting) = visit.given().map(str::to_owned) else { return missing_id() };
        let Some(node) = self.record(&meeting) else {
            return match visit.call {
                Call::IsMeetingRunning => {
                    Outcome::Success { key: "", inner: "<running>false</running>\n".to_owned() }
                }
                _ => Outcome::not_found(),
            };
        };
        if visit.call != Call::End {
            return self.forward(node, visit);
        }
        if let Some(records) = self.records() {
            records.forget(Some(&meeting));
        }
        let forgetful = |f: &Fault| if let Fault::Forgetful { answer } = f { Some(*answer) } else { None };
        match self.take(0, visit, forgetful) {
            Some(answer) => {
                self.hit_forgotten(node, &meeting, visit);
                forgotten(answer)
            }
            None => self.forward(node, visit),
        }
    }

    /// Notes an end call that the balancer took to mean the node's instance and never passed on.
    fn hit_forgotten(&mut self, node: usize, meeting: &str, visit: &mut Visit) {
        let Some(rooms) = self.rooms_mut(node) else { return };
        let Some(at) = rooms.by_meeting(meeting) else { return };
        let room = rooms.get_mut(at);
        room.hit(visit.n, visit.now, Effect::Forgotten);
        visit.instance = Some(room.internal_id.clone());
    }

    /// Passes a call on to a node. What is wrong with the node's line is a failed call here.
    fn forward(&mut self, node: usize, visit: &mut Visit) -> Outcome {
        let failed = || Outcome::failed("internalError", "Unable to access meeting on server.");
        if self.line(node, visit).is_some() {
            return failed();
        }
        let answer = self.call(node, visit);
        let lost = self.take(node, visit, |f| matches!(f, Fault::AnswerLost).then_some(()));
        match answer {
            Outcome::Success { .. } | Outcome::Failed { .. } if lost.is_none() => answer,
            _ => failed(),
        }
    }
}

fn missing_id() -> Outcome {
    Outcome::failed("missingParamMeetingID", "You must specify a meeting ID for the meeting.")
}
