//! The sandbox against `bigbluebutton`'s ways: on the pure world first, then over HTTP.

mod calls;
mod faults;
mod fronts;
mod http;

use std::time::Duration;

use quick_xml::Reader;
use quick_xml::events::Event;

use super::world::{Request, World};
use super::*;
use crate::sandbox::reply::{Fate, Page};

/// 2026-12-01T17:00:00Z.
const START: i64 = 1_796_144_400_000;

/// A world, its clock and a client that signs.
struct Stage {
    world: World,
    now: UtcMs,
}

impl Stage {
    fn new(settings: Settings) -> Stage {
        Stage { world: World::new(settings), now: UtcMs(START) }
    }

    fn version(version: Version) -> Stage {
        Stage::new(Settings { version, ..Settings::default() })
    }

    fn front(front: Front) -> Stage {
        Stage::new(Settings { front, ..Settings::default() })
    }

    fn wait(&mut self, ms: i64) {
        self.now = UtcMs(self.now.0 + ms);
    }

    /// Creates a meeting with one person in it; gives its internal id.
    fn meeting(&mut self, id: &str) -> String {
        self.world.create_meeting(&NewMeeting::new(id), self.now).unwrap()
    }

    fn fault(&mut self, order: FaultOrder) -> u64 {
        self.world.set_fault(order, self.now).unwrap()
    }

    /// One signed call at the front.
    fn call(&mut self, call: &str, query: &str) -> Reply {
        self.call_at("front", call, query)
    }

    fn call_at(&mut self, server: &str, call: &str, query: &str) -> Reply {
        let secret = if server == "front" { DEMO_SECRET } else { DEMO_NODE_SECRET };
        let checksum = Hash::Sha256.checksum(call, query, secret);
        let query = if query.is_empty() { String::new() } else { format!("{query}&") };
        self.raw(server, call, &format!("{query}checksum={checksum}"))
    }

    fn raw(&mut self, server: &str, call: &str, query: &str) -> Reply {
        let server = self.world.server(server).unwrap();
        let request = Request { server, call, query, received_us: self.now.0 * 1_000 + 7 };
        self.world.request(&request, self.now)
    }

    fn end(&mut self, meeting: &str) -> Reply {
        self.call("end", &format!("meetingID={meeting}"))
    }

    fn info(&mut self, meeting: &str) -> Reply {
        self.call("getMeetingInfo", &format!("meetingID={meeting}"))
    }

    fn list(&mut self) -> Reply {
        self.call("getMeetings", "")
    }

    fn truth(&mut self) -> Truth {
        self.world.truth(&Asked::default(), self.now)
    }

    fn instance(&mut self, internal_id: &str) -> InstanceTruth {
        self.truth().instance(internal_id).unwrap().clone()
    }

    fn effects(&mut self, internal_id: &str) -> Vec<Effect> {
        self.truth().hits(internal_id).iter().map(|hit| hit.effect).collect()
    }

    fn last(&self) -> Record {
        self.world.last_request().unwrap().clone()
    }
}

impl Reply {
    #[track_caller]
    fn page(&self) -> &Page {
        match &self.fate {
            Fate::Answer(page) => page,
            other => panic!("no answer but {other:?}"),
        }
    }

    /// The body of an answer of the API: well-formed and HTTP 200.
    #[track_caller]
    fn body(&self) -> &str {
        let page = self.page();
        assert_eq!(page.status, 200, "{}", page.body);
        assert!(well_formed(&page.body), "{}", page.body);
        &page.body
    }

    #[track_caller]
    fn has(&self, element: &str, value: &str) {
        let wanted = format!("<{element}>{value}</{element}>");
        assert!(self.body().contains(&wanted), "no {wanted} in {}", self.body());
    }

    #[track_caller]
    fn succeeded(&self) {
        self.has("returncode", "SUCCESS");
    }

    #[track_caller]
    fn failed(&self, key: &str) {
        self.has("returncode", "FAILED");
        self.has("messageKey", key);
    }

    #[track_caller]
    fn status(&self, status: u16) {
        assert_eq!(self.page().status, status);
    }
}

/// Does every element end that was begun?
fn well_formed(body: &str) -> bool {
    let mut reader = Reader::from_str(body);
    let mut depth = 0;
    loop {
        match reader.read_event() {
            Ok(Event::Start(_)) => depth += 1,
            Ok(Event::End(_)) => depth -= 1,
            Ok(Event::Eof) => return depth == 0,
            Ok(_) => {}
            Err(_) => return false,
        }
    }
}

#[test]
fn the_well_formed_check_can_fail() {
    assert!(well_formed("<a><b/>x</a>"));
    assert!(!well_formed("<a><b>x</b>"));
    assert!(!well_formed("<a></b>"));
}
