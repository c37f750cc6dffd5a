//! What the façades' tests stand on.

use serde_json::Value;

use super::*;
use crate::sandbox::reply::Fate;

/// 2026-12-01T17:00:00Z.
pub(in crate::sandbox) const START: UtcMs = UtcMs(1_796_144_400_000);

/// A world with its clock and a client that knows the credentials.
pub(in crate::sandbox) struct Stage {
    pub world: World,
    pub now: UtcMs,
    pub authorization: String,
}

impl Stage {
    pub fn new(api: impl Api, authorization: String) -> Stage {
        Stage { world: World::new(Arc::new(api), 1_000), now: START, authorization }
    }

    pub fn wait(&mut self, ms: i64) {
        self.now = UtcMs(self.now.0 + ms);
    }

    /// One person joins; gives the id of the session.
    pub fn meeting(&mut self, id: &str) -> String {
        self.world.create_meeting(&NewMeeting::new(id), self.now).unwrap()
    }

    pub fn fault(&mut self, order: FaultOrder) {
        self.world.set_fault(order, self.now).unwrap();
    }

    pub fn send(&mut self, method: &str, target: &str, body: &str) -> Reply {
        let request = Request {
            method,
            target,
            authorization: Some(&self.authorization),
            body: body.as_bytes(),
            received_us: self.now.0 * 1_000 + 7,
        };
        self.world.request(&request, self.now)
    }

    pub fn get(&mut self, target: &str) -> (u16, Value) {
        self.send("GET", target, "").read()
    }

    pub fn post(&mut self, target: &str, body: &str) -> (u16, Value) {
        self.send("POST", target, body).read()
    }

    pub fn truth(&mut self) -> Truth {
        self.world.truth(&Asked::default(), self.now)
    }

    pub fn session(&mut self, id: &str) -> SessionTruth {
        self.truth().session(id).unwrap().clone()
    }

    pub fn effects(&mut self, id: &str) -> Vec<Effect> {
        self.truth().hits(id).iter().map(|hit| hit.effect).collect()
    }
}

impl Reply {
    /// The status, and the body if it is JSON.
    #[track_caller]
    pub(in crate::sandbox) fn read(&self) -> (u16, Value) {
        let Fate::Answer(page) = &self.fate else { panic!("no answer but {:?}", self.fate) };
        (page.status, serde_json::from_str(&page.body).unwrap_or(Value::Null))
    }
}
