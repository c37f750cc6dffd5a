//! One meeting server: bbb-web's map (what its answers show) and the meetings that really run (the truth).
//!
//! The two differ only by faults: an instance that is alive and not in the map was forgotten.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;

use serde::{Deserialize, Serialize};

use super::Refusal;
use super::truth::{Effect, EndedBy, Hit, InstanceTruth, MeetingTruth};
use super::wire::sha1_hex;
use crate::job::UtcMs;

/// Instances that one server keeps in its truth, ended ones included.
const MAX_INSTANCES: usize = 1_000_000;
/// People in one meeting.
pub(super) const MAX_PARTICIPANTS: u32 = 20_000;
/// End calls kept per instance; later ones are in the request log only.
const MAX_HITS: usize = 1_024;
/// BBB: a meeting goes on to call itself running for so long after the last person left.
const RUNNING_AFTER_LAST_MS: i64 = 60_000;

/// A meeting to be created: what the `create` call takes, and a past if need be.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NewMeeting {
    pub meeting_id: String,
    /// The meetingID if not given.
    pub name: Option<String>,
    /// The node that is to hold it, behind a balancer.
    pub server: Option<String>,
    /// How many are in it from the start.
    pub participants: u32,
    pub attendee_pw: Option<String>,
    pub moderator_pw: Option<String>,
    pub metadata: BTreeMap<String, String>,
    /// Minutes until it ends by itself; 0 for never.
    pub duration_min: u32,
    /// Created so long before now.
    pub created_ago_ms: u32,
    /// The meetingID of its parent: it is a breakout room.
    pub parent: Option<String>,
}

impl Default for NewMeeting {
    fn default() -> NewMeeting {
        NewMeeting {
            meeting_id: String::new(),
            name: None,
            server: None,
            participants: 1,
            attendee_pw: None,
            moderator_pw: None,
            metadata: BTreeMap::new(),
            duration_min: 0,
            created_ago_ms: 0,
            parent: None,
        }
    }
}

impl NewMeeting {
    /// With one person in it.
    pub fn new(meeting_id: &str) -> NewMeeting {
        NewMeeting { meeting_id: meeting_id.to_owned(), ..NewMeeting::default() }
    }
}

/// One run of a meeting.
pub(super) struct Instance {
    pub meeting_id: String,
    pub internal_id: String,
    pub name: String,
    pub created_at: UtcMs,
    /// As the server's own clock had it; part of the internal id.
    pub create_time: i64,
    pub attendee_pw: String,
    pub moderator_pw: String,
    pub metadata: BTreeMap<String, String>,
    pub attendees: Vec<String>,
    pub duration_min: u32,
    /// The internal id of the parent meeting.
    pub parent: Option<String>,
    breakouts: Vec<usize>,
    pub user_joined: bool,
    /// When the last person left; BBB shows it as `endTime`.
    pub emptied_at: Option<UtcMs>,
    pub ending: bool,
    pub ended: Option<(UtcMs, EndedBy)>,
    pub visible: bool,
    hits: Vec<Hit>,
}

impl Instance {
    pub fn running(&self, now: UtcMs) -> bool {
        let lately = |at: UtcMs| now.ms_since(at) < RUNNING_AFTER_LAST_MS;
        !self.attendees.is_empty() || self.emptied_at.is_some_and(lately)
    }

    pub fn hit(&mut self, request: u64, at: UtcMs, effect: Effect) {
        if self.hits.len() < MAX_HITS {
            self.hits.push(Hit { request, at, effect });
        }
    }

    /// Fills up or sends away until so many are in it.
    pub fn set_participants(&mut self, count: u32, now: UtcMs) {
        let count = count.min(MAX_PARTICIPANTS) as usize;
        self.attendees.truncate(count);
        for n in self.attendees.len()..count {
            self.attendees.push(format!("User {}", n + 1));
        }
        self.people_changed(now);
    }

    pub fn join(&mut self, name: &str, now: UtcMs) {
        if self.attendees.len() < MAX_PARTICIPANTS as usize {
            self.attendees.push(name.to_owned());
        }
        self.people_changed(now);
    }

    fn people_changed(&mut self, now: UtcMs) {
        if self.attendees.is_empty() {
            self.emptied_at = self.emptied_at.or(self.user_joined.then_some(now));
        } else {
            self.user_joined = true;
            self.emptied_at = None;
        }
    }

    /// What its users' front-end would create again.
    pub fn again(&self) -> NewMeeting {
        NewMeeting {
            name: Some(self.name.clone()),
            attendee_pw: Some(self.attendee_pw.clone()),
            moderator_pw: Some(self.moderator_pw.clone()),
            metadata: self.metadata.clone(),
            duration_min: self.duration_min,
            ..NewMeeting::new(&self.meeting_id)
        }
    }

    fn truth(&self) -> InstanceTruth {
        let (ended_at, ended_by) = self.ended.clone().unzip();
        InstanceTruth {
            internal_id: self.internal_id.clone(),
            created_at: self.created_at,
            ended_at,
            ended_by,
            participants: u32::try_from(self.attendees.len()).unwrap_or(u32::MAX),
            visible: self.visible,
            hits: self.hits.clone(),
        }
    }
}

/// All instances of one server. The map holds at most one instance a meeting.
#[derive(Default)]
pub(super) struct Rooms {
    instances: Vec<Instance>,
    by_meeting: HashMap<String, usize>,
    by_internal: BTreeMap<String, usize>,
    /// The latest createTime of each meeting: an internal id is never given twice.
    last_create_time: HashMap<String, i64>,
}

impl Rooms {
    pub fn get(&self, at: usize) -> &Instance {
        &self.instances[at]
    }

    pub fn get_mut(&mut self, at: usize) -> &mut Instance {
        &mut self.instances[at]
    }

    /// The instance in the map under exactly this meetingID.
    pub fn by_meeting(&self, meeting_id: &str) -> Option<usize> {
        self.by_meeting.get(meeting_id).copied()
    }

    /// BBB since 2.6: the given string is tried as a prefix of internal ids first, so that a short hexadecimal meetingID
    /// can mean a stranger's meeting.
    pub fn by_prefix(&self, given: &str) -> Option<usize> {
        let (id, at) = self.by_internal.range::<str, _>((Bound::Included(given), Bound::Unbounded)).next()?;
        id.starts_with(given).then_some(*at)
    }

    /// What the map shows, in the order of creation.
    pub fn visible(&self) -> impl Iterator<Item = usize> {
        let mut shown: Vec<usize> = self.by_meeting.values().copied().collect();
        shown.sort_unstable();
        shown.into_iter()
    }

    /// Every instance that is alive, of one meeting or of all.
    pub fn alive(&self, meeting: Option<&str>) -> Vec<usize> {
        let wanted = |i: &Instance| i.ended.is_none() && meeting.is_none_or(|m| m == i.meeting_id);
        (0..self.instances.len()).filter(|at| wanted(&self.instances[*at])).collect()
    }

    /// The breakout rooms of an instance that are not over.
    pub fn breakouts(&self, parent: usize) -> Vec<usize> {
        let alive = |at: &usize| self.instances[*at].ended.is_none();
        self.instances[parent].breakouts.iter().copied().filter(alive).collect()
    }

    /// Creates an instance and puts it into the map. The caller has made sure that there is none of this meeting.
    pub fn add(&mut self, new: &NewMeeting, now: UtcMs, skew_ms: i64) -> Result<usize, Refusal> {
        if self.instances.len() >= MAX_INSTANCES {
            return Err(Refusal::TooMany("instances", MAX_INSTANCES));
        }
        let parent = match new.parent.as_deref() {
            Some(parent) => Some(self.by_meeting(parent).ok_or_else(|| Refusal::Meeting(parent.to_owned()))?),
            None => None,
        };
        let created_at = UtcMs(now.0 - i64::from(new.created_ago_ms));
        let create_time = self.create_time(&new.meeting_id, created_at.0 + skew_ms);
        let internal_id = format!("{}-{create_time}", sha1_hex(&new.meeting_id));
        let mut instance = Instance {
            meeting_id: new.meeting_id.clone(),
            name: new.name.clone().unwrap_or_else(|| new.meeting_id.clone()),
            created_at,
            create_time,
            attendee_pw: new.attendee_pw.clone().unwrap_or_else(|| format!("ap-{create_time}")),
            moderator_pw: new.moderator_pw.clone().unwrap_or_else(|| format!("mp-{create_time}")),
            metadata: new.metadata.clone(),
            attendees: Vec::new(),
            duration_min: new.duration_min,
            parent: parent.map(|at| self.instances[at].internal_id.clone()),
            breakouts: Vec::new(),
            user_joined: false,
            emptied_at: None,
            ending: false,
            ended: None,
            visible: true,
            hits: Vec::new(),
            internal_id,
        };
        instance.set_participants(new.participants, now);
        let at = self.instances.len();
        if let Some(parent) = parent {
            self.instances[parent].breakouts.push(at);
        }
        self.by_meeting.insert(instance.meeting_id.clone(), at);
        self.by_internal.insert(instance.internal_id.clone(), at);
        self.instances.push(instance);
        Ok(at)
    }

    fn create_time(&mut self, meeting_id: &str, wanted: i64) -> i64 {
        match self.last_create_time.get_mut(meeting_id) {
            Some(last) => {
                *last = wanted.max(*last + 1);
                *last
            }
            None => {
                self.last_create_time.insert(meeting_id.to_owned(), wanted);
                wanted
            }
        }
    }

    /// Takes an instance out of the map. It lives on.
    pub fn forget(&mut self, at: usize) {
        let instance = &mut self.instances[at];
        if std::mem::take(&mut instance.visible) {
            self.by_meeting.remove(&instance.meeting_id);
            self.by_internal.remove(&instance.internal_id);
        }
    }

    /// Ends an instance. BBB: ended meetings are not kept in the map.
    pub fn finish(&mut self, at: usize, by: EndedBy, when: UtcMs) {
        self.forget(at);
        let instance = &mut self.instances[at];
        instance.attendees = Vec::new();
        instance.ended = Some((when, by));
    }

    pub fn truth(&self, server: &str, meeting: Option<&str>) -> Vec<MeetingTruth> {
        let mut by_meeting: BTreeMap<&str, Vec<InstanceTruth>> = BTreeMap::new();
        for instance in self.instances.iter().filter(|i| meeting.is_none_or(|m| m == i.meeting_id)) {
            by_meeting.entry(&instance.meeting_id).or_default().push(instance.truth());
        }
        let named = |(meeting_id, instances): (&str, _)| MeetingTruth {
            server: server.to_owned(),
            meeting_id: meeting_id.to_owned(),
            instances,
        };
        by_meeting.into_iter().map(named).collect()
    }
}

/// Does this look like an internal id: 40 hexadecimal digits, a dash, a time?
pub(super) fn looks_internal(given: &str) -> bool {
    given.split_once('-').is_some_and(|(hash, time)| {
        hash.len() == 40
            && hash.bytes().all(|b| b.is_ascii_hexdigit())
            && !time.is_empty()
            && time.bytes().all(|b| b.is_ascii_digit())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UtcMs = UtcMs(1_800_000_000_000);

    #[test]
    fn an_internal_id_is_the_hash_and_the_create_time_and_never_given_twice() {
        let mut rooms = Rooms::default();
        let first = rooms.add(&NewMeeting::new("room-1"), NOW, 0).unwrap();
        assert_eq!(rooms.get(first).internal_id, "0e9770ee13188deca3cd34f598eb93650a2f97c3-1800000000000");
        assert!(looks_internal(&rooms.get(first).internal_id));
        rooms.finish(first, EndedBy::Itself, NOW);
        let second = rooms.add(&NewMeeting::new("room-1"), NOW, 0).unwrap();
        assert_ne!(rooms.get(first).internal_id, rooms.get(second).internal_id);
        assert_eq!(rooms.by_meeting("room-1"), Some(second));
        assert!(rooms.get(first).attendees.is_empty() && !rooms.get(first).visible);
    }

    #[test]
    fn a_short_prefix_finds_a_stranger() {
        let mut rooms = Rooms::default();
        let at = rooms.add(&NewMeeting::new("room-1"), NOW, 0).unwrap();
        assert_eq!(rooms.by_prefix("0e9"), Some(at));
        assert_eq!(rooms.by_prefix("0ea"), None);
        assert_eq!(rooms.by_prefix("room-1"), None);
        rooms.forget(at);
        assert_eq!(rooms.by_prefix("0e9"), None);
        assert_eq!(rooms.alive(None), [at], "forgotten is not over");
    }

    #[test]
    fn running_goes_on_for_a_minute_after_the_last_person() {
        let mut rooms = Rooms::default();
        let at = rooms.add(&NewMeeting { participants: 0, ..NewMeeting::new("m") }, NOW, 0).unwrap();
        let room = rooms.get_mut(at);
        assert!(!room.running(NOW) && room.emptied_at.is_none(), "nobody was ever in it");
        room.set_participants(2, NOW);
        assert!(room.running(NOW));
        room.set_participants(0, NOW);
        assert_eq!(room.emptied_at, Some(NOW));
        assert!(room.running(UtcMs(NOW.0 + 59_999)));
        assert!(!room.running(UtcMs(NOW.0 + 60_000)));
        room.join("Ann", UtcMs(NOW.0 + 70_000));
        assert!(room.running(UtcMs(NOW.0 + 70_000)) && room.emptied_at.is_none());
    }
}
