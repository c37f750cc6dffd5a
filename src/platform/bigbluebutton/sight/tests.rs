use super::*;
use crate::job::{InstanceId, JobId, MeetingId, Now, Pin, UtcMs};

const MATHS: &str = "math-101";

fn entry(meeting: &str, internal: &str) -> Entry {
    Entry {
        meeting: Some(meeting.to_owned()),
        internal: (!internal.is_empty()).then(|| internal.into()),
        started_at: Some(UtcMs(1000)),
        ..Entry::default()
    }
}

fn listing(entries: &[(&str, &str)]) -> Result<Listing, Problem> {
    Ok(Listing::new(entries.iter().map(|(meeting, internal)| entry(meeting, internal)).collect()))
}

fn lost() -> Problem {
    Problem::Lost { why: "HTTP 404".to_owned(), status: Some(404) }
}

fn html() -> Problem {
    Problem::Unreadable("is not the API's".to_owned())
}

fn shows(meeting: &str, internal: &str) -> Result<Info, Problem> {
    Ok(Info::Live(Box::new(entry(meeting, internal))))
}

fn target(meeting: &str, purpose: Purpose) -> Target {
    Target {
        job: JobId(uuid::Uuid::nil()),
        meeting: MeetingId::from(meeting),
        purpose,
        instance: None,
        pin: None,
        end_sent: false,
        accepted: false,
        ends_clean: true,
        since: None,
    }
}

fn pinned(instance: &str, node: Option<&str>, purpose: Purpose) -> Target {
    let instance = InstanceId::from(instance);
    let pin = Pin {
        instance: instance.clone(),
        started_at: None,
        listed: true,
        node: node.map(str::to_owned),
        site: None,
        last_live: Now::default(),
    };
    Target { instance: Some(instance), pin: Some(pin), ..target(MATHS, purpose) }
}

/// What a round heard; the defaults are a complete, empty listing and nothing else.
struct Case {
    listing: Result<Listing, Problem>,
    info: Option<Result<Info, Problem>>,
    running: bool,
    nodes: BTreeMap<String, Result<Listing, Problem>>,
    names_instances: bool,
    lists_truly: bool,
    stale: Vec<InstanceId>,
}

impl Case {
    fn new(listing: Result<Listing, Problem>, info: Option<Result<Info, Problem>>) -> Case {
        Case {
            listing,
            info,
            running: false,
            nodes: BTreeMap::new(),
            names_instances: false,
            lists_truly: false,
            stale: Vec::new(),
        }
    }

    fn node(mut self, name: &str, listing: Result<Listing, Problem>) -> Case {
        self.nodes.insert(name.to_owned(), listing);
        self
    }

    fn sight(&self, target: &Target) -> Sighting {
        let names = |_: Option<&str>| self.names_instances;
        let heard = Heard {
            listing: Some(&self.listing),
            info: self.info.as_ref(),
            running: self.running,
            nodes: &self.nodes,
            names_instances: &names,
            lists_truly: self.lists_truly,
            is_stale: &|id| self.stale.contains(id),
        };
        sight(target, &heard)
    }
}

fn live(id: &str, listed: bool, node: Option<&str>) -> Sighting {
    Sighting::Live(Instance {
        id: id.into(),
        started_at: Some(UtcMs(1000)),
        start: None,
        participants: None,
        listed,
        node: node.map(str::to_owned),
        shown_at: None,
        asked_at: None,
    })
}

fn absent(listing: bool, info: bool, node: bool) -> Sighting {
    Sighting::NotThere(Evidence { listing, info, node })
}

#[track_caller]
fn check(case: &Case, target: &Target, expected: &Sighting) {
    assert_eq!(&case.sight(target), expected);
}

#[track_caller]
fn check_doubtful(case: &Case, target: &Target, why: &str) {
    match case.sight(target) {
        Sighting::Doubtful(found) => assert!(found.contains(why), "{found:?} is not {why:?}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_listing_shows_the_meeting_by_its_exact_id() {
    let case = Case::new(listing(&[("math-1010", "x"), (MATHS, "i"), ("Math-101", "y")]), None);
    check(&case, &target(MATHS, Purpose::Arm), &live("i", true, None));
    let case = Case::new(listing(&[("math-1010", "x")]), None);
    check(&case, &target(MATHS, Purpose::Arm), &absent(true, false, false));
}

#[test]
fn positive_evidence_of_info_beats_a_lagging_listing() {
    let case = Case::new(listing(&[]), Some(shows(MATHS, "i")));
    check(&case, &target(MATHS, Purpose::Arm), &live("i", false, None));
    check(&case, &pinned("i", None, Purpose::Confirm), &live("i", false, None));
}

#[test]
fn the_pinned_instance_is_itself_under_another_name() {
    let case = Case::new(listing(&[("tenant-math-101", "i")]), None);
    check(&case, &pinned("i", None, Purpose::Confirm), &live("i", true, None));
    check(&case, &target(MATHS, Purpose::Confirm), &absent(true, false, false));
}

#[test]
fn the_pinned_instance_beats_another_of_the_same_name() {
    let case = Case::new(listing(&[(MATHS, "new"), (MATHS, "i")]), None);
    check(&case, &pinned("i", None, Purpose::Confirm), &live("i", true, None));
    let case = Case::new(listing(&[(MATHS, "new")]), None);
    check(&case, &pinned("i", None, Purpose::Confirm), &live("new", true, None));
}

#[test]
fn absence_needs_a_complete_listing_or_a_not_found() {
    let unpinned = target(MATHS, Purpose::Confirm);
    check(&Case::new(listing(&[]), Some(Ok(Info::NotFound))), &unpinned, &absent(true, true, false));
    check(&Case::new(Err(html()), Some(Ok(Info::NotFound))), &unpinned, &absent(false, true, false));
    check(&Case::new(listing(&[]), Some(Err(lost()))), &unpinned, &absent(true, false, false));
    check(&Case::new(Err(lost()), None), &unpinned, &Sighting::Unreachable("HTTP 404".to_owned()));
    check(
        &Case::new(Err(lost()), Some(Err(lost()))),
        &unpinned,
        &Sighting::Unreachable("HTTP 404".to_owned()),
    );
    check_doubtful(&Case::new(Err(lost()), Some(Err(html()))), &unpinned, "not the API's");
    check_doubtful(&Case::new(Err(html()), Some(Err(lost()))), &unpinned, "not the API's");
    let unclear = Some(Ok(Info::Unclear("is a failure (internalError)".to_owned())));
    check_doubtful(&Case::new(Err(lost()), unclear), &unpinned, "internalError");
    check_doubtful(&Case::new(Err(lost()), Some(shows("other", "z"))), &unpinned, "another meeting");
    let secret = Problem::Misconfigured("secret".to_owned());
    let case = Case::new(Err(secret), Some(Err(html())));
    check(&case, &unpinned, &Sighting::Misconfigured("secret".to_owned()));
}

#[test]
fn is_meeting_running_is_believed_only_when_it_says_yes() {
    let mut case = Case::new(Err(html()), Some(Err(html())));
    check_doubtful(&case, &target(MATHS, Purpose::Confirm), "not the API's");
    case.running = true;
    check(&case, &target(MATHS, Purpose::Confirm), &Sighting::Occupied);
}

#[test]
fn an_answer_without_an_instance_is_only_an_occupied_meeting() {
    let case = Case::new(listing(&[(MATHS, "")]), None);
    check(&case, &target(MATHS, Purpose::Arm), &Sighting::Occupied);
    let case = Case::new(listing(&[(MATHS, "")]), Some(shows(MATHS, "i")));
    check(&case, &target(MATHS, Purpose::Arm), &live("i", false, None));
}

#[test]
fn names_that_may_be_prefixes_of_internal_ids() {
    let hash = "183f0bf3a0982a127bdb8161e0c44eb696b3e75c";
    for id in ["1", "cafe", "12345678", hash, &format!("{hash}-"), &format!("{hash}-153")] {
        assert!(may_be_prefix(id), "{id}");
    }
    let uuid = "5cf490a7-2c9a-3571-a48c-134ef58d47c2";
    for id in ["", "CAFE", "math", uuid, &format!("{hash}-1-2"), &format!("{hash}-x"), &format!("{hash}0")] {
        assert!(!may_be_prefix(id), "{id}");
    }
    assert!(!may_be_prefix("ääääääääääääääääääääääää"), "cut between characters");
}

#[test]
fn a_name_that_resolves_to_a_stranger_lets_no_end_call_follow() {
    let all = [("cafe", "0f-1"), ("other", "9a-1")];
    let stranger = Some(shows("other", "9a-1"));
    for purpose in [Purpose::Arm, Purpose::BeforeEnd] {
        let case = Case::new(listing(&all), stranger.clone());
        check_doubtful(&case, &target("cafe", purpose), "another meeting");
    }
    let case = Case::new(listing(&all), stranger);
    check(&case, &target("cafe", Purpose::Confirm), &live("0f-1", true, None));
    let case = Case::new(listing(&all), Some(shows("cafe", "0f-1")));
    check(&case, &target("cafe", Purpose::Arm), &live("0f-1", true, None));
}

#[test]
fn the_listing_alone_shows_the_prefix_hazard() {
    let case = Case::new(listing(&[("cafe", "0f-1"), ("other", "cafe00-1")]), None);
    check_doubtful(&case, &target("cafe", Purpose::BeforeEnd), "cafe00-1");
    let case = Case::new(listing(&[("cafe", "0f-1"), ("other", "9a-1")]), None);
    check(&case, &target("cafe", Purpose::BeforeEnd), &live("0f-1", true, None));
}

#[test]
fn a_name_that_could_not_be_checked_lets_no_end_call_follow() {
    let case = Case::new(listing(&[("cafe", "0f-1")]), Some(Err(lost())));
    check_doubtful(&case, &target("cafe", Purpose::BeforeEnd), "could not be checked");
    let case = Case::new(listing(&[(MATHS, "i")]), Some(Err(lost())));
    check(&case, &target(MATHS, Purpose::BeforeEnd), &live("i", true, None));
}

#[test]
fn calls_that_name_the_instance_fear_no_prefix() {
    let mut case =
        Case::new(listing(&[("cafe", "0f-1"), ("other", "cafe00-1")]), Some(shows("other", "cafe00-1")));
    case.names_instances = true;
    check(&case, &target("cafe", Purpose::BeforeEnd), &live("0f-1", true, None));
}

/// A balancer's cached listing still shows the ended instance, while the name already leads to the next one.
#[test]
fn a_stale_listing_lets_no_end_call_follow() {
    let case = Case::new(listing(&[(MATHS, "i")]), Some(shows(MATHS, "new")));
    check_doubtful(&case, &pinned("i", None, Purpose::BeforeEnd), "would hit that one");
    check(&case, &pinned("i", None, Purpose::Confirm), &live("i", true, None));
}

#[test]
fn a_stranger_is_no_evidence_for_a_meeting_that_is_not_listed() {
    let case = Case::new(listing(&[("other", "cafe00-1")]), Some(shows("other", "cafe00-1")));
    check(&case, &target("cafe", Purpose::Arm), &absent(true, false, false));
}

#[test]
fn nodes_say_which_one_holds_the_instance() {
    let case = Case::new(listing(&[(MATHS, "i")]), None)
        .node("n1", listing(&[("x", "x")]))
        .node("n2", listing(&[("renamed", "i")]));
    check(&case, &target(MATHS, Purpose::Arm), &live("i", true, Some("n2")));
}

#[test]
fn the_node_tells_what_the_front_forgot() {
    let case = Case::new(listing(&[]), None).node("n1", listing(&[("renamed", "i")]));
    check(&case, &pinned("i", Some("n1"), Purpose::Confirm), &live("i", false, Some("n1")));
    check(&case, &pinned("i", None, Purpose::Confirm), &live("i", false, Some("n1")));
    let case = Case::new(listing(&[(MATHS, "new")]), None).node("n1", listing(&[("renamed", "i")]));
    check(&case, &pinned("i", Some("n1"), Purpose::Confirm), &live("i", false, Some("n1")));
}

#[test]
fn the_absence_on_its_node_is_what_counts() {
    let confirm = pinned("i", Some("n1"), Purpose::Confirm);
    let case = Case::new(listing(&[]), None).node("n1", listing(&[]));
    check(&case, &confirm, &absent(true, false, true));
    let case = Case::new(Err(lost()), None).node("n1", listing(&[]));
    check(&case, &confirm, &absent(true, false, true));
    let case = Case::new(listing(&[]), None).node("n1", Err(lost()));
    check(&case, &confirm, &Sighting::Unreachable("HTTP 404".to_owned()));
    let case = Case::new(listing(&[(MATHS, "i")]), None).node("n1", Err(lost()));
    check(&case, &confirm, &live("i", true, Some("n1")));
    let case = Case::new(listing(&[(MATHS, "new")]), None).node("n1", Err(lost()));
    check(&case, &confirm, &live("new", true, None));
}

#[test]
fn a_meeting_of_the_same_name_on_a_node_is_not_ours_unless_the_front_says_so() {
    let case = Case::new(listing(&[]), Some(Ok(Info::NotFound))).node("n1", listing(&[(MATHS, "z")]));
    check(&case, &target(MATHS, Purpose::Arm), &absent(true, true, false));
}

#[test]
fn a_meeting_whose_breakout_room_is_listed_is_not_over() {
    let room = |parent: &str| Entry {
        breakout: true,
        parent: Some(parent.to_owned()),
        ..entry("math-101-room-1", "room-1")
    };
    let target = pinned("i-1", None, Purpose::Confirm);
    check_doubtful(&Case::new(Ok(Listing::new(vec![room("i-1")])), None), &target, "breakout room room-1");
    check(&Case::new(Ok(Listing::new(vec![room("i-2")])), None), &target, &absent(true, false, false));
    let held = pinned("i-1", Some("n"), Purpose::Confirm);
    let on_node = Case::new(listing(&[]), None).node("n", Ok(Listing::new(vec![room("i-1")])));
    check_doubtful(&on_node, &held, "breakout room room-1");
}

#[test]
fn who_is_in_a_breakout_room_is_inside() {
    let main = || Entry { participants: Some(0), ..entry(MATHS, "i-1") };
    let room = |parent: &str, people| Entry {
        breakout: true,
        parent: Some(parent.to_owned()),
        participants: Some(people),
        ..entry("math-101-room-1", "room-1")
    };
    let target = pinned("i-1", None, Purpose::BeforeEnd);
    let people = |case: &Case| match case.sight(&target) {
        Sighting::Live(instance) => instance.participants,
        other => panic!("{other:?}"),
    };
    let rooms = || vec![main(), room("i-1", 2), room(MATHS, 1), room("i-2", 8)];
    let by_front = Case { names_instances: true, ..Case::new(Ok(Listing::new(rooms())), None) };
    assert_eq!(people(&by_front), Some(3));
    assert_eq!(people(&by_front.node("n", Ok(Listing::new(rooms())))), Some(3), "listed twice, there once");
    let info = Info::Live(Box::new(main()));
    let by_info = Case { names_instances: true, ..Case::new(Ok(Listing::new(rooms())), Some(Ok(info))) };
    assert_eq!(people(&by_info), Some(3));
}
