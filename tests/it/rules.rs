//! Rules and limits from a meeting's start, by way of the real binary: what is live decides.

use adjourn::clock;
use adjourn::job::UtcMs;
use adjourn::sandbox::{Asked, Call, NewMeeting};
use serde_json::{Value, json};

use crate::harness::{Bed, Plan, check_truth, id_of};

const HOUR_MS: u32 = 3_600_000;

fn with_rules(extra: &str) -> Bed {
    Plan { extra: extra.to_owned(), ..Plan::default() }.lay()
}

fn old(bed: &Bed, meeting: &str) -> String {
    bed.create_meeting(NewMeeting { created_ago_ms: 2 * HOUR_MS, ..NewMeeting::new(meeting) })
}

fn jobs(bed: &Bed) -> Vec<Value> {
    bed.json(&["list"])["jobs"].as_array().unwrap().clone()
}

/// When the sandbox was asked for everything that is live there.
fn listings(bed: &Bed) -> Vec<UtcMs> {
    let asked = Asked { call: Some(Call::GetMeetings), ..Asked::default() };
    bed.sandbox.requests(&asked).iter().map(|record| record.received_at).collect()
}

#[test]
fn a_rule_ends_what_has_run_too_long_and_leaves_the_rest_alone() {
    let mut bed = with_rules(
        "[[rule]]\nname = \"one-hour\"\nserver = \"campus\"\nmatch = \"*\"\nexcept-match = \"staff\"\n\
         max-duration = \"1h\"\nfirst-hit-delay = \"0s\"\ndry-run = false\n",
    );
    let instance = old(&bed, "math-101");
    old(&bed, "staff");
    bed.create("young");
    bed.start_daemon();
    bed.wait_for("the rule has ended it", |truth| !truth.instances("math-101")[0].alive());
    let of = |meeting: &str| jobs(&bed).into_iter().find(|job| job["meeting"] == meeting);
    let job = bed.outcome(&id_of(&of("math-101").unwrap()));
    assert_eq!((&job["outcome"], &job["origin"]), (&json!("ended"), &json!("rule:one-hour")), "{job:#}");
    assert_eq!(job["instance"], instance.as_str());
    assert!(job["history"].to_string().contains("rule one-hour applies"), "{job:#}");
    check_truth(&bed, &job);
    // What it has not reached yet is known beforehand, and can be extended.
    let young = of("young").expect("its deadline stands");
    assert_eq!(young["state"], "waiting");
    let (code, said) = bed.says(&["extend", &id_of(&young), "30m"]);
    assert_eq!(code, 0, "{said}");
    assert!(of("staff").is_none() && bed.truth().instances("staff")[0].alive());
    let status = bed.json(&["status"]);
    assert!(status["servers"]["campus"]["last_sweep"].is_string(), "{status:#}");
}

#[test]
fn many_rules_cost_one_listing_a_period_and_only_report_at_first() {
    let rule = |n: usize| {
        format!(
            "[[rule]]\nname = \"r{n}\"\nserver = \"campus\"\nmatch = \"*\"\nmax-duration = \"1h\"\nevery = \"10s\"\n"
        )
    };
    let mut bed = with_rules(&(0..50).map(rule).collect::<String>());
    old(&bed, "math-101");
    bed.start_daemon();
    bed.wait_for("it has been swept three times", |_| listings(&bed).len() >= 3);
    let times = listings(&bed);
    let pauses: Vec<i64> = times.windows(2).map(|pair| pair[1].ms_since(pair[0])).collect();
    assert!(pauses.iter().all(|pause| *pause > 4_900), "{pauses:?}");
    assert!(jobs(&bed).is_empty() && bed.truth().instances("math-101")[0].alive());
    let log = bed.log();
    for n in 0..50 {
        let told = log.matches(&format!("rule r{n} would end")).count();
        assert_eq!(told, 1, "r{n}");
    }
}

#[test]
fn a_limit_waits_for_the_start_through_a_kill() {
    let mut bed = Bed::start();
    let made = bed.json(&["end", "campus", "math-101", "--max-duration", "2s"]);
    assert_eq!((&made["due"], &made["max_duration"]), (&Value::Null, &json!("2s")), "{made:#}");
    let id = id_of(&made);
    let (_, said) = bed.says(&["list"]);
    assert!(said.contains("2s after start") && !said.contains("9999"), "{said}");
    let (_, said) = bed.says(&["show", &id]);
    assert!(said.contains("2s after its start, which was not seen yet") && !said.contains("9999"), "{said}");
    assert_eq!(bed.says(&["extend", &id, "5m"]).0, 1);
    bed.kill_daemon();
    let began = clock::system_now().wall;
    let instance = bed.create("math-101");
    bed.start_daemon();
    let job = bed.outcome(&id);
    assert_eq!((&job["outcome"], &job["instance"]), (&json!("ended"), &json!(instance)), "{job:#}");
    check_truth(&bed, &job);
    let due: jiff::Timestamp = job["due"].as_str().unwrap().parse().unwrap();
    assert!(UtcMs::from(due).ms_since(began) >= 2_000, "{job:#}");
}

#[test]
fn a_limit_that_has_passed_ends_a_meeting_at_once() {
    let bed = Bed::start();
    old(&bed, "math-101");
    let (code, said) = bed.says(&["end", "campus", "math-101", "--max-duration", "1h", "--wait"]);
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("1h after its start") && said.contains("ended"), "{said}");
    let (code, said) = bed.says(&["end", "campus", "math-101", "--max-duration", "1h", "--now"]);
    assert_eq!(code, 2, "{said}");
}

#[test]
fn many_limits_share_their_listings_and_come_back_from_an_export() {
    let bed = Bed::start();
    let line =
        |n: usize| json!({"server": "campus", "meeting": format!("m-{n}"), "max-duration": "4h"}).to_string();
    let lines: Vec<String> = (0..300).map(line).collect();
    std::fs::write(bed.path("term.ndjson"), lines.join("\n") + "\n").unwrap();
    let (code, said) = bed.says(&["import", "term.ndjson"]);
    assert_eq!(code, 0, "{said}");
    let began = clock::system_now();
    bed.wait_for("they have been looked for twice", |_| listings(&bed).len() >= 2);
    let periods = clock::system_now().since(began).as_secs() / 5;
    assert!(listings(&bed).len() as u64 <= 3 + periods, "{:?}", listings(&bed));
    let (code, exported) = bed.says(&["export"]);
    assert_eq!(code, 0);
    assert_eq!(exported.matches("\"max-duration\":\"4h\"").count(), 300);
    assert!(!exported.contains("\"at\""), "{exported}");
}

#[test]
fn a_breakout_room_is_told_from_a_meeting() {
    let bed = Bed::start();
    bed.create("math-101");
    bed.create_meeting(NewMeeting { parent: Some("math-101".to_owned()), ..NewMeeting::new("group-1") });
    let (code, said) = bed.says(&["meetings", "campus"]);
    assert_eq!(code, 0, "{said}");
    let breakouts: Vec<&str> = said.lines().filter(|line| line.contains("(breakout room)")).collect();
    assert!(breakouts.len() == 1 && breakouts[0].contains("group-1"), "{said}");
}

#[test]
fn an_empty_meeting_ends_unless_somebody_comes() {
    let mut bed = with_rules(
        "[[rule]]\nname = \"nobody\"\nserver = \"campus\"\nempty-for = \"20s\"\ndry-run = false\nevery = \"1h\"\n",
    );
    for meeting in ["deserted", "early"] {
        bed.create_meeting(NewMeeting {
            participants: 0,
            created_ago_ms: HOUR_MS,
            ..NewMeeting::new(meeting)
        });
    }
    bed.start_daemon();
    // The only listing for an hour: what it saw is a deadline.
    bed.wait_for("both have been seen empty", |_| jobs(&bed).len() == 2);
    bed.sandbox.set_participants("early", 1).unwrap();
    let of = |meeting: &str| {
        let job = jobs(&bed).into_iter().find(|job| job["meeting"] == meeting).unwrap();
        bed.outcome(&id_of(&job))
    };
    let (deserted, early) = (of("deserted"), of("early"));
    assert_eq!(deserted["outcome"], "ended", "{deserted:#}");
    assert_eq!(early["outcome"], "cancelled", "{early:#}");
    assert_eq!(early["reason"], "1 person is inside: rule nobody does not apply any more");
    assert!(bed.truth().instances("early")[0].alive());
}
