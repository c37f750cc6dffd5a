//! Hits that apply though their job was called off, with and without a memory of it.

use super::*;

const ENDS: &str = "end math at 13:00: it ends 4h after its start";
const OVER: &str = "withdraw math: rule long does not apply to it any more";

fn math(people: u32) -> LiveMeeting {
    live("math", Some("09:00"), Some(people))
}

/// As after a crash, with the file damaged.
fn forget(bed: &mut Bed) {
    bed.watch = Watch::default();
}

#[test]
fn a_rule_that_is_put_back_hits_again_whatever_was_forgotten() {
    let mut bed = Bed::new(&[max_duration(4 * HOUR)]);
    assert_eq!(bed.sweep("09:01", &[math(5)]), [ENDS]);
    for minute in [2, 5, 8] {
        let rules = std::mem::take(&mut bed.rules);
        assert_eq!(bed.sweep(&format!("09:0{minute}"), &[math(5)]), [OVER]);
        bed.rules = rules;
        forget(&mut bed);
        assert_eq!(bed.sweep(&format!("09:0{}", minute + 1), &[math(5)]), [ENDS]);
        // The watch knows of it now, and it goes without.
        assert_eq!(minutes(&mut bed, "09:10", "09:12", &[math(5)]), [""; 0]);
        forget(&mut bed);
        assert_eq!(bed.sweep(&format!("09:1{}", minute + 1), &[math(5)]), [""; 0]);
    }
    assert_eq!(bed.open().len(), 1);
    assert!(bed.open()[0].key.as_ref().unwrap().key.ends_with("#3"));
}

#[test]
fn what_a_person_cancelled_is_not_made_again_whatever_was_forgotten() {
    let mut bed = Bed::new(&[max_duration(4 * HOUR)]);
    bed.sweep("09:01", &[math(5)]);
    let now = Now { wall: at("09:02"), boot: BootMs::default() };
    bed.jobs[0] = bed.jobs[0].change(&Change::Cancel, By::Peer { uid: 0, pid: None }, now).unwrap();
    forget(&mut bed);
    assert_eq!(minutes(&mut bed, "09:03", "09:10", &[math(5)]), [""; 0]);
}

#[test]
fn the_second_job_of_what_is_past_stays_whatever_was_forgotten() {
    let mut bed = Bed::new(&[Rule { max_participant_minutes: Some(10), ..rule("long") }]);
    let job = |bed: &mut Bed, from: &str, to: &str| minutes(bed, from, to, &[math(5)]);
    assert_eq!(job(&mut bed, "10:00", "10:02").len(), 1);
    let rules = std::mem::take(&mut bed.rules);
    assert_eq!(bed.sweep("10:03", &[math(5)]), [OVER]);
    bed.rules = rules;
    assert_eq!(job(&mut bed, "10:04", "10:08").len(), 1, "another one");
    // Counted from nothing, the hit is past, and the second job stays.
    forget(&mut bed);
    assert_eq!(bed.sweep("10:09", &[math(5)]), [""; 0]);
    assert_eq!(bed.open().len(), 1);
}

#[test]
fn a_room_that_the_last_look_found_occupied_is_counted_anew() {
    let rule = Rule { empty_for: Some(20 * MINUTE), ..rule("long") };
    let mut bed = Bed::new(&[rule]);
    let first = minutes(&mut bed, "10:00", "10:19", &[math(0)]);
    assert_eq!(first.len(), 1, "{first:?}");
    // Somebody was inside between two listings.
    let now = Now { wall: at("10:20"), boot: BootMs::default() };
    bed.jobs[0].record(now, Fact::CalledOff { cause: CalledOff::TooMany });
    let (outcome, reason) = (Outcome::Cancelled, "1 person is inside".to_owned());
    bed.jobs[0].record(now, Fact::Concluded { outcome, reason });
    let then = minutes(&mut bed, "10:21", "10:45", &[math(0)]);
    let again = "end math at 10:41: it is empty since 2026-11-03T10:21:00.000Z, and may be for 20m (at most 0 inside)";
    assert_eq!(then, [again]);
}
