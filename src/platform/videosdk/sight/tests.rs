use super::*;
use crate::job::StartRange;
use crate::job::{Instance, JobId, Now, Pin, Purpose};

const ROOM: &str = "room";

fn live(id: &str) -> Session {
    Session {
        id: Some(InstanceId::from(id)),
        room: Some(ROOM.to_owned()),
        started_at: Some(UtcMs(60_000)),
        ..Session::default()
    }
}

fn over(id: &str) -> Session {
    Session { over: true, ..live(id) }
}

fn elsewhere(id: &str) -> Session {
    Session { room: Some("elsewhere".to_owned()), ..live(id) }
}

fn nameless() -> Session {
    Session { id: None, ..live("") }
}

fn lists(sessions: &[Session]) -> Listing {
    Listing { sessions: sessions.to_vec(), gap: None, pages: 1 }
}

fn long(sessions: &[Session]) -> Listing {
    Listing { pages: 2, ..lists(sessions) }
}

fn moved(sessions: &[Session]) -> Listing {
    Listing { gap: Some(Gap::Moved("moved".to_owned())), ..lists(sessions) }
}

fn fails(problem: Problem) -> Listing {
    Listing { gap: Some(Gap::Problem(problem)), ..lists(&[]) }
}

fn refused(status: u16) -> Problem {
    Problem::Refused { why: format!("HTTP {status}"), status }
}

fn lost() -> Problem {
    Problem::Unreachable { why: "lost".to_owned(), sent: true }
}

fn target(instance: Option<&str>) -> Target {
    let instance = instance.map(InstanceId::from);
    Target {
        job: JobId(uuid::Uuid::nil()),
        meeting: MeetingId::from(ROOM),
        purpose: Purpose::Confirm,
        pin: None,
        instance,
        end_sent: false,
        accepted: false,
        ends_clean: true,
        since: None,
    }
}

fn pinned(id: &str) -> Target {
    let pin = Pin {
        instance: id.into(),
        started_at: None,
        listed: false,
        node: None,
        site: None,
        last_live: Now::default(),
    };
    Target { pin: Some(pin), ..target(Some(id)) }
}

fn nothing() -> Heard {
    Heard::nothing(Version::V2)
}

fn listed(listing: Listing) -> Heard {
    Heard { listing: Some(listing), ..nothing() }
}

impl Heard {
    fn record(mut self, id: &str, record: Result<Session, Problem>) -> Heard {
        self.records.insert(id.into(), record);
        self
    }

    fn room(mut self, listing: Listing) -> Heard {
        self.rooms.insert(ROOM.into(), listing);
        self
    }

    fn custom(mut self, listing: Listing) -> Heard {
        self.custom_rooms.insert(ROOM.into(), listing);
        self
    }

    fn v1(mut self) -> Heard {
        self.version = Version::V1;
        self
    }
}

fn instance(id: &str, listed: bool) -> Instance {
    // The server's clock is 10 s ahead.
    Instance {
        id: id.into(),
        started_at: Some(UtcMs(50_000)),
        start: Some(StartRange::around(UtcMs(50_000))),
        participants: None,
        listed,
        node: None,
        shown_at: None,
        asked_at: None,
    }
}

#[track_caller]
fn check(target: &Target, heard: Heard, expected: Sighting) {
    assert_eq!(
        sight(target, &heard, |at| Some((UtcMs(at.0 - 10_000), StartRange::around(UtcMs(50_000))))),
        expected
    );
}

#[track_caller]
fn check_doubtful(target: &Target, heard: Heard, part: &str) {
    match sight(target, &heard, |_| None) {
        Sighting::Doubtful(why) => assert!(why.contains(part), "{why}"),
        other => panic!("{other:?}"),
    }
}

const NOT_THERE: Sighting = Sighting::NotThere(Evidence { listing: true, info: false, node: false });

#[test]
fn a_meeting_without_a_known_session() {
    let one = target(None);
    check(&one, listed(lists(&[elsewhere("x"), live("s")])), Sighting::Live(instance("s", true)));
    check(&one, listed(moved(&[live("s")])), Sighting::Live(instance("s", true)));
    check(&one, listed(lists(&[elsewhere("x"), over("s")])), NOT_THERE);
    check(&one, listed(lists(&[nameless(), live("s")])), Sighting::Live(instance("s", true)));
    check(&one, listed(lists(&[nameless()])), Sighting::Occupied);
    check_doubtful(&one, listed(moved(&[elsewhere("x")])), "moved");
    let unplaced = Session { room: None, ..live("s") };
    check_doubtful(&one, listed(lists(&[unplaced])), "in which room");
    check_doubtful(&one, nothing(), "not asked");
    check(&one, listed(fails(lost())), Sighting::Unreachable("lost".to_owned()));
    check(
        &one,
        listed(fails(Problem::Misconfigured("key".to_owned()))),
        Sighting::Misconfigured("key".to_owned()),
    );
    check_doubtful(&one, listed(fails(refused(402))), "402");
}

#[test]
fn the_listing_of_the_room_counts_more_than_that_of_everything() {
    let one = target(None);
    let heard = || listed(moved(&[]));
    check(&one, heard().room(lists(&[live("s")])), Sighting::Live(instance("s", true)));
    check(&one, heard().room(lists(&[])).custom(lists(&[])), NOT_THERE);
    check(&one, nothing().v1().room(lists(&[over("s")])), NOT_THERE);
    check(&one, nothing().v1().room(lists(&[over("s"), live("t")])), Sighting::Live(instance("t", true)));
}

#[test]
fn a_custom_room_id_is_never_absent() {
    let one = target(None);
    let alias = Session { custom_room: Some(ROOM.to_owned()), ..elsewhere("s") };
    check_doubtful(&one, listed(lists(std::slice::from_ref(&alias))), "its room id, elsewhere");
    check_doubtful(&one, nothing().room(lists(&[])).custom(lists(&[alias])), "its room id, elsewhere");
    check_doubtful(&one, nothing().room(lists(&[])), "not asked");
    check(&one, nothing().room(lists(&[])).custom(lists(&[elsewhere("x")])), NOT_THERE);
    check(&one, nothing().room(lists(&[])).custom(fails(refused(402))), NOT_THERE);
    check_doubtful(&one, nothing().room(lists(&[])).custom(moved(&[])), "moved");
    let unreachable = Sighting::Unreachable("lost".to_owned());
    check(&one, nothing().room(lists(&[])).custom(fails(lost())), unreachable);
}

#[test]
fn a_known_session_is_over_by_its_record_alone() {
    let ours = pinned("s");
    check(&ours, listed(lists(&[live("s")])), Sighting::Live(instance("s", true)));
    check(&ours, listed(lists(&[])).record("s", Ok(live("s"))), Sighting::Live(instance("s", false)));
    check(&ours, listed(lists(&[])).record("s", Ok(over("s"))), Sighting::Over { next: None });
    check(&ours, nothing().record("s", Ok(live("s"))), Sighting::Live(instance("s", false)));
    // What shows nothing, or another, says nothing about it.
    for seen in [lists(&[]), lists(&[live("t")]), lists(&[over("t")])] {
        check_doubtful(&ours, listed(seen.clone()), "not asked");
        check_doubtful(&ours, listed(seen.clone()).record("s", Err(refused(404))), "proves nothing");
        check_doubtful(&ours, listed(seen.clone()).record("s", Err(refused(402))), "proves nothing");
        check_doubtful(&ours, listed(seen.clone()).record("s", Err(refused(400))), "400");
        check(&ours, listed(seen).record("s", Err(lost())), Sighting::Unreachable("lost".to_owned()));
    }
}

#[test]
fn over_also_says_what_else_is_live_in_the_room() {
    let ours = pinned("s");
    let heard = |heard: Heard| heard.record("s", Ok(over("s")));
    let next = |id| Sighting::Over { next: Some(instance(id, true)) };
    check(&ours, heard(listed(lists(&[live("t"), elsewhere("x")]))), next("t"));
    check(&ours, heard(nothing().room(lists(&[over("s"), live("t")]))), next("t"));
    check(&ours, heard(nothing().room(lists(&[over("s")]))), Sighting::Over { next: None });
    check(&ours, heard(listed(moved(&[live("t")]))), next("t"));
    check_doubtful(&ours, heard(listed(moved(&[]))), "session s is over, but not what else");
    check_doubtful(&ours, heard(nothing()), "session s is over, but not what else");
    check(&ours, heard(listed(lists(&[nameless()]))), Sighting::Occupied);
    check(&ours, heard(listed(fails(lost()))), Sighting::Unreachable("lost".to_owned()));
    // A listing that still shows it is late.
    check(&ours, heard(nothing().room(lists(&[live("s")]))), Sighting::Over { next: None });
}

/// One session ends and another begins between two pages: their totals agree, and who began is on neither.
#[test]
fn what_several_pages_do_not_show_is_not_absent_until_its_room_says_so() {
    let (ours, unknown, named) = (pinned("s"), target(None), target(Some("s")));
    let ended = || listed(long(&[elsewhere("x")])).record("s", Ok(over("s")));
    check_doubtful(&ours, ended(), "the listing of its room was not asked for");
    assert!(ended().wants_room(&ours));
    check(&ours, ended().room(lists(&[live("t")])), Sighting::Over { next: Some(instance("t", true)) });
    check(&ours, ended().room(lists(&[])), Sighting::Over { next: None });

    let seen = || listed(long(&[elsewhere("x")]));
    check_doubtful(&unknown, seen(), "not asked");
    assert!(seen().wants_room(&unknown) && seen().room(lists(&[])).wants_custom_room(&unknown));
    check_doubtful(&unknown, seen().room(lists(&[])), "by custom room id");
    check(&unknown, seen().room(lists(&[])).custom(lists(&[])), NOT_THERE);
    check_doubtful(&named, seen().record("s", Err(refused(404))), "not asked");
    // What is shown is shown, and old sessions of a room may fill pages.
    check(&unknown, listed(long(&[live("s")])), Sighting::Live(instance("s", true)));
    check(&unknown, nothing().v1().room(long(&[over("s")])), NOT_THERE);
}

#[test]
fn a_session_that_was_only_named_may_be_absent() {
    let named = target(Some("s"));
    let heard = |seen| listed(seen).record("s", Err(refused(404)));
    check(&named, heard(lists(&[])), NOT_THERE);
    check(&named, heard(lists(&[live("t")])), Sighting::Live(instance("t", true)));
    check_doubtful(&named, heard(moved(&[])), "moved");
    check_doubtful(&named, listed(lists(&[])).record("s", Err(refused(422))), "422");
}

#[test]
fn a_session_of_another_room_is_not_ours() {
    let record = |session| nothing().room(lists(&[])).record("s", Ok(session));
    check_doubtful(&pinned("s"), record(elsewhere("s")), "of the room elsewhere");
    let over_elsewhere = Session { over: true, ..elsewhere("s") };
    check_doubtful(&pinned("s"), record(over_elsewhere), "of the room elsewhere");
    let unplaced = Session { room: None, ..over("s") };
    check(&pinned("s"), record(unplaced), Sighting::Over { next: None });
}

#[test]
fn ids_that_no_request_can_carry_are_not_asked_for() {
    for id in ["", ".", ".."] {
        let hostile = pinned(id);
        assert_eq!(nothing().wants_record(&hostile), None);
        check_doubtful(&hostile, listed(lists(&[])), "no request can ask");
    }
    let slashes = pinned("a/../b c");
    assert_eq!(nothing().wants_record(&slashes), slashes.instance.as_ref());
}

#[test]
fn only_open_questions_are_asked() {
    let (ours, named, unknown) = (pinned("s"), target(Some("s")), target(None));
    let record = |heard: &Heard, target: &Target| heard.wants_record(target).is_some();
    assert!(!record(&listed(lists(&[live("s")])), &ours));
    assert!(record(&listed(lists(&[live("t")])), &ours) && record(&nothing(), &named));
    assert!(!record(&nothing(), &unknown));

    assert!(nothing().wants_room(&unknown) && listed(moved(&[])).wants_room(&unknown));
    assert!(!listed(lists(&[])).wants_room(&unknown) && !listed(moved(&[live("s")])).wants_room(&unknown));
    assert!(!nothing().wants_room(&ours), "its record says more");
    assert!(!nothing().record("s", Ok(live("s"))).wants_room(&ours));
    assert!(nothing().record("s", Ok(over("s"))).wants_room(&ours));
    assert!(!listed(lists(&[])).record("s", Ok(over("s"))).wants_room(&ours));
    assert!(nothing().record("s", Err(refused(404))).wants_room(&named));
    assert!(!nothing().record("s", Err(refused(404))).wants_room(&ours));
    assert!(!nothing().record("s", Err(lost())).wants_room(&named));

    assert!(nothing().room(lists(&[])).wants_custom_room(&unknown));
    assert!(!nothing().v1().room(lists(&[])).wants_custom_room(&unknown));
    assert!(!nothing().room(lists(&[live("s")])).wants_custom_room(&unknown));
    assert!(!nothing().room(lists(&[nameless()])).wants_custom_room(&unknown));
    assert!(!nothing().room(moved(&[])).wants_custom_room(&unknown));
    assert!(!nothing().room(lists(&[])).wants_custom_room(&ours));
    assert!(!listed(lists(&[])).wants_custom_room(&unknown));
}
