//! Sweeps as tables: at which time, with what live, what is hit, and when is it due?

mod bounds;
mod conditions;
mod laws;
mod renewed;

use std::collections::BTreeMap;
use std::slice;
use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::Time;
use jiff::tz::TimeZone;
use uuid::Uuid;

use super::super::calendar::Days;
use super::super::model::{Exempt, Rule, Select};
use super::*;
use crate::job::{
    BootMs, By, CalledOff, Change, Fact, InstanceId, Job, Key, LiveMeeting, MeetingId, Now, Order, Origin,
    Outcome, ServerName,
};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

fn utc(text: &str) -> UtcMs {
    UtcMs::from(text.parse::<Timestamp>().unwrap())
}

/// Today is 2026-11-03, a Tuesday.
fn at(time: &str) -> UtcMs {
    if time.contains('T') { utc(time) } else { utc(&format!("2026-11-03T{time}:00Z")) }
}

fn time(text: &str) -> Time {
    text.parse().unwrap()
}

/// A rule in earnest, for all meetings, that still lacks a condition.
pub(super) fn rule(name: &str) -> Rule {
    Rule { first_hit_delay: 10 * MINUTE, ..Rule::bare(name, ServerName::from("campus")) }
}

fn max_duration(length: Duration) -> Rule {
    Rule { max_duration: Some(length), ..rule("long") }
}

fn live(meeting: &str, started: Option<&str>, people: Option<u32>) -> LiveMeeting {
    LiveMeeting {
        meeting: MeetingId::from(meeting),
        instance: InstanceId(format!("i-{meeting}")),
        name: String::new(),
        started_at: started.map(at),
        participants: people,
        meta: BTreeMap::new(),
        meta_cut: false,
        breakout_of: None,
    }
}

fn breakout(of: &str, people: Option<u32>) -> LiveMeeting {
    LiveMeeting { breakout_of: Some(of.to_owned()), ..live(&format!("breakout-of-{of}"), None, people) }
}

/// One server, as the engine keeps it: what is remembered, and the jobs.
#[derive(Default)]
struct Bed {
    rules: Vec<Rule>,
    exempt: Vec<Exempt>,
    watch: Watch,
    /// All that ever were, done ones included.
    jobs: Vec<Job>,
    last: Sweep,
    /// How far the wall clock is off.
    stepped: i64,
}

impl Bed {
    fn new(rules: &[Rule]) -> Bed {
        Bed { rules: rules.to_vec(), ..Bed::default() }
    }

    /// Sweeps, and does what the plan says. One line an action and a hit of a rule that only reports.
    fn sweep(&mut self, time: &str, live: &[LiveMeeting]) -> Vec<String> {
        let real = at(time);
        let now = Now { wall: UtcMs(real.0 + self.stepped), boot: BootMs(real.0) };
        self.sweep_at(now, live)
    }

    fn sweep_at(&mut self, now: Now, live: &[LiveMeeting]) -> Vec<String> {
        let allows = |days: &Days, at: UtcMs, _: &TimeZone| {
            !days.except.iter().any(|day| at.to_string().starts_with(day.as_str()))
        };
        self.last = sweep(&self.rules, &self.exempt, &allows, &self.watch, live, now);
        let mut renewed = std::mem::take(&mut self.last);
        let standing = |key: &str| Ok::<_, ()>(Standing::of(self.job(key)));
        renew(&mut renewed, &self.open(), standing).unwrap();
        self.last = renewed;
        self.watch = self.last.watch.clone();
        let mut told: Vec<String> = Vec::new();
        for hit in self.last.hits.iter().filter(|hit| hit.dry_run) {
            told.push(format!("would end {} at {}: {}", hit.live.meeting, short(hit.due), hit.reason));
        }
        for action in plan(&self.last, &self.jobs, live) {
            told.extend(self.act(action, now));
        }
        let again = plan(&self.last, &self.jobs, live);
        let again: Vec<_> = again.iter().filter(|action| self.is_news(action)).collect();
        assert!(again.is_empty(), "the plan is not done: {again:?}");
        told
    }

    /// A key that is known makes no second job.
    fn is_news(&self, action: &RuleAction) -> bool {
        match action {
            RuleAction::Submit(hit) => self.job(&key(hit)).is_none(),
            _ => true,
        }
    }

    fn open(&self) -> Vec<Job> {
        self.jobs.iter().filter(|job| !job.is_done()).cloned().collect()
    }

    fn job(&self, key: &str) -> Option<&Job> {
        self.jobs.iter().find(|job| job.key.as_ref().is_some_and(|known| known.key == key))
    }

    fn act(&mut self, action: RuleAction, now: Now) -> Option<String> {
        match action {
            RuleAction::Submit(hit) => {
                if !self.is_news(&RuleAction::Submit(hit.clone())) {
                    return None;
                }
                let id = JobId(Uuid::from_u128(self.jobs.len() as u128));
                self.jobs.push(submitted(&hit, id, now));
                let most = hit.at_most.map_or(String::new(), |most| format!(" (at most {most} inside)"));
                Some(format!("end {} at {}: {}{most}", hit.live.meeting, short(hit.due), hit.reason))
            }
            RuleAction::Move { job, to } => {
                let job = self.jobs.iter_mut().find(|known| known.id == job).unwrap();
                job.record(now, Fact::Moved { to, extension: false, by: By::Schedule });
                if let Origin::Rule { planned, .. } | Origin::Schedule { planned, .. } = &mut job.origin {
                    *planned = to;
                }
                Some(format!("move {} to {}", job.meeting, short(to)))
            }
            RuleAction::Withdraw { job, reason } => {
                let job = self.jobs.iter_mut().find(|known| known.id == job).unwrap();
                *job = job.change(&Change::Withdraw { reason }, By::Schedule, now).unwrap();
                Some(format!("withdraw {}: {}", job.meeting, job.reason))
            }
        }
    }
}

fn submitted(hit: &Hit, id: JobId, now: Now) -> Job {
    let origin = if hit.from_entry {
        Origin::Schedule { name: hit.identity.clone(), of: Some(hit.rule.clone()), planned: hit.due }
    } else {
        Origin::Rule { name: hit.rule.clone(), planned: hit.due }
    };
    let order = Order {
        id,
        at_most: None,
        max_duration: None,
        server: ServerName::from("campus"),
        meeting: hit.live.meeting.clone(),
        only: Some(hit.live.instance.clone()),
        key: Some(Key { key: key(hit), fingerprint: String::new() }),
        limits: hit.limits.clone(),
        due: hit.due,
        origin,
        by: By::Schedule,
    };
    Job::submit(order, now)
}

fn short(at: UtcMs) -> String {
    at.to_string().trim_start_matches("2026-11-03T").trim_end_matches(":00.000Z").to_owned()
}

/// A sweep a minute from `from` up to and with `to`, all with the same listing.
fn minutes(bed: &mut Bed, from: &str, to: &str, live: &[LiveMeeting]) -> Vec<String> {
    let (from, to) = (at(from), at(to));
    let times = (0..).map(|n| from + n * MINUTE).take_while(|at| *at <= to);
    times.flat_map(|at| bed.sweep_at(Now { wall: at, boot: BootMs(at.0) }, live)).collect()
}

#[test]
fn max_duration_counts_from_the_start() {
    let mut bed = Bed::new(&[max_duration(4 * HOUR)]);
    let math = live("math", Some("09:00"), Some(5));
    assert_eq!(bed.sweep("09:01", slice::from_ref(&math)), ["end math at 13:00: it ends 4h after its start"]);
    assert_eq!(minutes(&mut bed, "09:02", "14:00", &[math]), [""; 0]);
}

#[test]
fn a_start_that_is_not_told_is_when_it_was_first_seen() {
    let mut bed = Bed::new(&[max_duration(4 * HOUR)]);
    let math = live("math", None, None);
    assert_eq!(
        bed.sweep("09:01", slice::from_ref(&math)),
        ["end math at 13:01: it ends 4h after it was first seen"]
    );
    // A restart forgets when that was, and the job keeps its time; an edit moves it all the same.
    bed.watch = Watch::default();
    assert_eq!(bed.sweep("11:00", slice::from_ref(&math)), [""; 0]);
    bed.rules = vec![max_duration(5 * HOUR)];
    assert_eq!(
        bed.sweep("11:01", &[math]),
        [
            "end math at 16:00: it ends 5h after it was first seen",
            "withdraw math: rule long does not apply to it any more"
        ]
    );
}

#[test]
fn a_hit_by_surprise_gives_notice_once() {
    let mut bed = Bed::new(&[max_duration(4 * HOUR)]);
    let math = live("math", Some("03:00"), Some(5));
    assert_eq!(bed.sweep("09:00", slice::from_ref(&math)), ["end math at 09:10: it ends 4h after its start"]);
    assert_eq!(minutes(&mut bed, "09:01", "09:20", slice::from_ref(&math)), [""; 0]);
    // Nor does a restart that has forgotten everything.
    bed.watch = Watch::default();
    assert_eq!(bed.sweep("09:21", &[math]), [""; 0]);
}

#[test]
fn an_edit_moves_and_gives_notice_too() {
    let mut bed = Bed::new(&[max_duration(8 * HOUR)]);
    let math = live("math", Some("09:00"), Some(5));
    bed.sweep("09:00", slice::from_ref(&math));
    bed.rules = vec![max_duration(6 * HOUR)];
    assert_eq!(bed.sweep("10:00", slice::from_ref(&math)), ["move math to 15:00"]);
    bed.rules = vec![max_duration(HOUR)];
    assert_eq!(bed.sweep("11:00", slice::from_ref(&math)), ["move math to 11:10"]);
    bed.rules = vec![max_duration(Duration::from_secs(1800))];
    assert_eq!(bed.sweep("11:05", slice::from_ref(&math)), [""; 0], "no nearer, no further");
    bed.rules = vec![max_duration(7 * HOUR)];
    assert_eq!(bed.sweep("11:06", &[math]), ["move math to 16:00"]);
}

#[test]
fn what_people_extended_stays_extended() {
    let mut bed = Bed::new(&[max_duration(4 * HOUR)]);
    let math = live("math", Some("09:00"), Some(5));
    bed.sweep("09:00", slice::from_ref(&math));
    let now = Now { wall: at("12:00"), boot: BootMs::default() };
    let by = By::Peer { uid: 0, pid: None };
    bed.jobs[0].record(now, Fact::Moved { to: at("20:00"), extension: true, by });
    assert_eq!(minutes(&mut bed, "12:00", "14:00", &[math]), [""; 0]);
}

#[test]
fn what_a_person_cancelled_is_not_made_again() {
    let mut bed = Bed::new(&[max_duration(4 * HOUR)]);
    let math = live("math", Some("09:00"), Some(5));
    bed.sweep("09:00", slice::from_ref(&math));
    let by = By::Peer { uid: 0, pid: None };
    bed.jobs[0] = bed.jobs[0].change(&Change::Cancel, by, Now::default()).unwrap();
    assert_eq!(minutes(&mut bed, "09:01", "14:00", &[math]), [""; 0]);
}

#[test]
fn rules_that_only_report() {
    let mut bed = Bed::new(&[Rule { dry_run: true, ..max_duration(4 * HOUR) }]);
    let math = live("math", Some("03:00"), Some(5));
    let would = "would end math at 09:10: it ends 4h after its start";
    assert_eq!(bed.sweep("09:00", slice::from_ref(&math)), [would]);
    assert_eq!(bed.sweep("09:30", slice::from_ref(&math)), [would]);
    bed.rules[0].dry_run = false;
    assert_eq!(bed.sweep("09:31", slice::from_ref(&math)), ["end math at 09:41: it ends 4h after its start"]);
    bed.rules[0].dry_run = true;
    let would = "would end math at 09:42: it ends 4h after its start";
    assert_eq!(
        bed.sweep("09:32", slice::from_ref(&math)),
        [would, "withdraw math: rule long only reports now"]
    );
    bed.rules[0].dry_run = false;
    assert_eq!(bed.sweep("09:33", slice::from_ref(&math)), ["end math at 09:43: it ends 4h after its start"]);
    bed.rules.clear();
    assert_eq!(bed.sweep("09:34", &[math]), ["withdraw math: rule long does not apply to it any more"]);
}

#[test]
fn what_is_over_is_for_the_job_to_prove() {
    let mut bed = Bed::new(&[max_duration(4 * HOUR)]);
    bed.sweep("09:00", &[live("math", Some("09:00"), Some(5))]);
    assert_eq!(bed.sweep("09:01", &[]), [""; 0]);
    bed.rules.clear();
    assert_eq!(bed.sweep("09:02", &[]), [""; 0]);
    // Another instance of the same meeting is another one.
    let next = LiveMeeting { instance: InstanceId::from("i-2"), ..live("math", Some("09:03"), None) };
    assert_eq!(bed.sweep("09:04", &[next]), [""; 0]);
}

#[test]
fn a_call_that_was_sent_is_left_alone() {
    let mut bed = Bed::new(&[max_duration(4 * HOUR)]);
    let math = live("math", Some("09:00"), Some(5));
    bed.sweep("09:00", slice::from_ref(&math));
    bed.jobs[0].end_sent_at = Some(at("13:00"));
    bed.rules = vec![max_duration(8 * HOUR)];
    assert_eq!(bed.sweep("13:01", slice::from_ref(&math)), [""; 0]);
    bed.rules.clear();
    assert_eq!(bed.sweep("13:02", &[math]), [""; 0]);
}

#[test]
fn several_conditions_are_several_deadlines() {
    let rule = Rule { close_at: Some(time("22:00")), ..max_duration(4 * HOUR) };
    let mut bed = Bed::new(&[rule]);
    assert_eq!(
        bed.sweep("09:00", &[live("math", Some("09:00"), Some(5))]),
        ["end math at 13:00: it ends 4h after its start", "end math at 22:00: rooms close at 22:00 UTC"]
    );
}

#[test]
fn who_is_meant() {
    let list = |globs: &[&str]| globs.iter().map(|glob| (*glob).to_owned()).collect::<Vec<String>>();
    let mut math = live("math-101", Some("09:00"), None);
    math.name = "Mathematics".to_owned();
    math.meta = BTreeMap::from([("bbb-origin".to_owned(), "Moodle 4".to_owned())]);
    let meta = |glob: &str| BTreeMap::from([("bbb-origin".to_owned(), glob.to_owned())]);
    let cases = [
        (Select::default(), true),
        (Select { matches: list(&["physics-*", "math-*"]), ..Select::default() }, true),
        (Select { matches: list(&["math-101"]), ..Select::default() }, true),
        (Select { matches: list(&["math-10"]), ..Select::default() }, false),
        (Select { matches: list(&["*"]), except: list(&["*-101"]), ..Select::default() }, false),
        (Select { names: list(&["Math*"]), ..Select::default() }, true),
        (Select { names: list(&["math*"]), ..Select::default() }, false),
        (Select { meta: meta("Moodle*"), ..Select::default() }, true),
        (Select { meta: meta("Greenlight*"), ..Select::default() }, false),
        (Select { names: list(&["Math*"]), meta: meta("G*"), ..Select::default() }, false),
    ];
    for (select, hit) in cases {
        let mut bed = Bed::new(&[Rule { select: select.clone(), ..max_duration(4 * HOUR) }]);
        assert_eq!(bed.sweep("09:00", slice::from_ref(&math)).len(), usize::from(hit), "{select:?}");
        // The same words exempt it.
        let mut bed = Bed::new(&[max_duration(4 * HOUR)]);
        bed.exempt = vec![Exempt { server: None, meeting: None, select: select.clone() }];
        assert_eq!(bed.sweep("09:00", slice::from_ref(&math)).len(), usize::from(!hit), "exempt {select:?}");
        bed.exempt[0].server = Some(ServerName::from("library"));
        assert_eq!(
            bed.sweep("09:00", slice::from_ref(&math)).len(),
            usize::from(hit),
            "elsewhere {select:?}"
        );
    }
    let mut unnamed = live("math-101", None, None);
    unnamed.meta.clear();
    let mut bed =
        Bed::new(&[Rule { select: Select { meta: meta("*"), ..Select::default() }, ..max_duration(HOUR) }]);
    assert_eq!(bed.sweep("09:00", &[unnamed]), [""; 0], "a key that is not there matches nothing");
}

#[test]
fn metadata_that_was_cut_may_exempt_and_is_no_reason_to_end_anything() {
    let cut = LiveMeeting {
        meta: BTreeMap::from([("a".to_owned(), "x".to_owned())]),
        meta_cut: true,
        ..live("math", Some("09:00"), None)
    };
    let whole = LiveMeeting { meta_cut: false, ..cut.clone() };
    let select = |key: &str, glob: &str| Select {
        meta: BTreeMap::from([(key.to_owned(), glob.to_owned())]),
        ..Select::default()
    };
    let exempts = |select: Select, live: &LiveMeeting| {
        let mut bed = Bed::new(&[max_duration(HOUR)]);
        bed.exempt = vec![Exempt { server: None, meeting: None, select }];
        bed.sweep("09:00", slice::from_ref(live)).is_empty()
    };
    assert!(exempts(select("exam", "yes"), &cut) && !exempts(select("exam", "yes"), &whole));
    assert!(!exempts(select("a", "y"), &cut), "what was kept is known");
    let mut bed = Bed::new(&[Rule { select: select("exam", "*"), ..max_duration(HOUR) }]);
    assert_eq!(bed.sweep("09:00", &[cut]), [""; 0]);
}

#[test]
fn an_entry_with_a_length_is_for_its_own_meeting_whatever_is_exempt() {
    let own = Rule {
        meeting: Some(MeetingId::from("math*")),
        first_hit_delay: Duration::ZERO,
        ..max_duration(HOUR)
    };
    let mut bed = Bed::new(&[own, max_duration(2 * HOUR)]);
    let meeting = Some(MeetingId::from("math*"));
    bed.exempt = vec![Exempt { server: None, meeting, select: Select::default() }];
    let [starred, other] = ["math*", "math-1"].map(|id| live(id, Some("09:00"), None));
    assert_eq!(
        bed.sweep("09:00", &[starred.clone(), other]),
        ["end math* at 10:00: it ends 1h after its start", "end math-1 at 11:00: it ends 2h after its start"]
    );
    assert!(is_from_sweep(&bed.jobs[0]));
    assert_eq!(bed.jobs[0].origin.to_string(), "schedule:long");
    // Without notice it ends at once what is over its time already, and no earlier than now.
    let mut bed = Bed::new(&bed.rules);
    assert_eq!(bed.sweep("12:00", &[starred])[0], "end math* at 12:00: it ends 1h after its start");
}

#[test]
fn a_step_of_the_wall_clock_ends_nobody() {
    let mut bed = Bed::new(&[Rule { empty_for: Some(30 * MINUTE), ..rule("empty") }]);
    let empty = live("math", None, Some(0));
    bed.sweep("09:00", slice::from_ref(&empty));
    bed.stepped = 3_600_000;
    assert_eq!(bed.sweep("09:01", slice::from_ref(&empty)), [""; 0]);
    for minute in 2..19 {
        assert_eq!(bed.sweep(&format!("09:{minute:02}"), slice::from_ref(&empty)), [""; 0]);
    }
    assert_eq!(bed.sweep("09:19", slice::from_ref(&empty)).len(), 1);
    assert_eq!(short(bed.jobs[0].due), "10:30", "09:30, on a clock that is an hour ahead");
    bed.stepped = 0;
    assert_eq!(bed.sweep("09:20", &[empty]), ["move math to 09:30"]);
}

#[test]
fn a_start_that_wavers_moves_nothing() {
    let mut bed = Bed::new(&[max_duration(4 * HOUR)]);
    let mut math = live("math", Some("09:00"), Some(5));
    bed.sweep("09:01", slice::from_ref(&math));
    for off in [900, -1_200, 4_000, -4_000] {
        math.started_at = Some(UtcMs(at("09:00").0 + off));
        assert_eq!(bed.sweep("09:02", slice::from_ref(&math)), [""; 0]);
        bed.watch = Watch::default();
        assert_eq!(bed.sweep("09:02", slice::from_ref(&math)), [""; 0], "after a restart");
    }
}

#[test]
fn a_watch_survives_a_restart() {
    let mut bed = Bed::new(&[Rule { empty_for: Some(30 * MINUTE), ..max_duration(4 * HOUR) }]);
    let empty = live("math", Some("03:00"), Some(0));
    minutes(&mut bed, "09:00", "09:10", slice::from_ref(&empty));
    let kept = serde_json::to_string(&bed.watch).unwrap();
    let read: Watch = serde_json::from_str(&kept).unwrap();
    assert_eq!(serde_json::to_string(&read).unwrap(), kept);
    // The machine was booted meanwhile.
    let now =
        |minute: u32| Now { wall: at("09:10") + MINUTE * minute, boot: BootMs(i64::from(minute) * 60_000) };
    bed.watch = read.rebased(now(1));
    assert_eq!(bed.sweep_at(now(1), slice::from_ref(&empty)), [""; 0]);
    for minute in 2..=9 {
        bed.sweep_at(now(minute), slice::from_ref(&empty));
    }
    assert_eq!(bed.jobs.iter().map(|job| short(job.due)).collect::<Vec<_>>(), ["09:10", "09:30"]);
}

#[test]
fn what_is_no_longer_live_is_forgotten() {
    let mut bed = Bed::new(&[max_duration(4 * HOUR)]);
    let all: Vec<LiveMeeting> = (0..100).map(|n| live(&format!("m{n}"), Some("09:00"), Some(1))).collect();
    bed.sweep("09:00", &all);
    bed.sweep("09:01", &all[..1]);
    let kept = serde_json::to_value(&bed.watch).unwrap();
    assert_eq!(kept["seen"].as_array().unwrap().len(), 1);
}

#[test]
fn a_meeting_that_is_listed_twice_is_hit_once() {
    let mut bed = Bed::new(&[max_duration(4 * HOUR)]);
    let math = live("math", Some("09:00"), Some(5));
    assert_eq!(bed.sweep("09:00", &[math.clone(), math]).len(), 1);
}

#[test]
fn sentences() {
    let four = Rule { name: "four-hours".to_owned(), dry_run: true, ..max_duration(4 * HOUR) };
    assert_eq!(describe(&four), "four-hours: whatever matches * on campus ends 4h after its start (dry run)");
    let own = Rule { meeting: Some(MeetingId::from("math")), dry_run: false, ..four };
    assert_eq!(describe(&own), "four-hours: math on campus ends 4h after its start");
    let select = Select {
        matches: vec!["a*".to_owned(), "b*".to_owned()],
        except: vec!["*-exam".to_owned()],
        names: vec!["*Lab*".to_owned()],
        meta: BTreeMap::from([("bbb-origin".to_owned(), "Moodle*".to_owned())]),
    };
    let everything = Rule {
        select,
        close_at: Some(time("22:00")),
        closed: Some((time("22:00"), time("06:30:15"))),
        empty_for: Some(10 * MINUTE),
        alone_for: Some(30 * MINUTE),
        max_participant_minutes: Some(6000),
        timezone: TimeZone::get("Europe/Berlin").unwrap(),
        weekdays: Weekdays::parse("Mon-Fri").unwrap(),
        days: Days { only: vec!["term".to_owned()], except: vec!["holidays".to_owned(), "exams".to_owned()] },
        ..rule("all")
    };
    assert_eq!(
        describe(&everything),
        "all: whatever matches a* or b* but not *-exam, is named *Lab*, has bbb-origin Moodle* on campus ends at 22:00 \
         Europe/Berlin or from 22:00 to 06:30:15 Europe/Berlin or when it is empty for 10m or when one participant is \
         alone for 30m or after 6000 participant minutes, on Mon-Fri, only term, except holidays, exams"
    );
}
