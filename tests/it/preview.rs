//! What will end when, and how far it may be pushed: through the binary.

use std::time::Duration;

use adjourn::clock;
use serde_json::Value;

use crate::harness::{Bed, Plan, id_of};

const HOUR: Duration = Duration::from_secs(3600);

/// An entry that is due in 3 hours, and a rule that closes at ten in the evening, every day.
fn schedule() -> (String, String) {
    let due = (clock::system_now().wall + 3 * HOUR).to_string();
    let text = format!(
        "[[end]]\nname = \"exam\"\nserver = \"campus\"\nmeeting = \"room-1\"\nat = \"{due}\"\nmax-extension = \"1h\"\n\
         [[rule]]\nname = \"nights\"\nserver = \"campus\"\nclose-at = \"22:00\"\ntimezone = \"UTC\"\n"
    );
    (due, text)
}

fn items(bed: &Bed, args: &[&str]) -> Vec<Value> {
    let preview = bed.json(&[&["preview"], args].concat());
    assert_eq!(preview["until"], preview["complete_until"], "{preview:#}");
    preview["items"].as_array().unwrap().clone()
}

#[test]
fn the_schedule_the_queue_and_the_rules_in_one_view() {
    let (due, extra) = schedule();
    let bed = Plan { extra, ..Plan::default() }.start();
    let by_hand = bed.end_in("room-2", "1h");
    let seen = items(&bed, &[]);
    assert_eq!(seen.len(), 2, "{seen:#?}");
    assert_eq!((&seen[0]["job"], &seen[0]["origin"]), (&by_hand.clone().into(), &"cli".into()));
    assert_eq!((&seen[1]["due"], &seen[1]["origin"]), (&due.clone().into(), &"schedule:exam".into()));
    assert_eq!((&seen[1]["kind"], &seen[1]["state"]), (&"job".into(), &"waiting".into()));

    let exam = seen[1]["job"].as_str().unwrap().to_owned();
    let (code, said) = bed.says(&["extend", &exam, "40m"]);
    assert!(code == 0 && said.contains("extended by 40m, 20m of 1h left"), "{said}");
    let (code, said) = bed.says(&["extend", &exam, "21m"]);
    assert!(code == 1 && said.contains("may be extended by 20m more"), "{said}");
    assert_eq!(items(&bed, &[])[1]["extended_from"], due);
    let (code, said) = bed.says(&["preview", "--days", "2", "--server", "campus"]);
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("campus/room-1") && said.contains("extended from "), "{said}");
    assert!(said.contains("rule nights: ") && said.contains("(dry run); next at "), "{said}");
    assert_eq!(bed.says(&["preview", "--server", "nowhere"]).0, 1);

    bed.says(&["cancel", &exam]);
    let seen = items(&bed, &[]);
    assert_eq!((&seen[1]["kind"], &seen[1]["due"]), (&"skipped".into(), &due.into()), "{seen:#?}");
    assert_eq!(seen[1]["job"], exam);
}

#[test]
fn files_are_seen_before_a_reload_and_without_a_daemon() {
    let bed = Plan::default().lay();
    let (due, extra) = schedule();
    bed.write_schedule("", &extra);
    let file = bed.schedule();
    let seen = items(&bed, &["--file", file.to_str().unwrap()]);
    assert_eq!(seen.len(), 1, "{seen:#?}");
    assert_eq!((&seen[0]["kind"], &seen[0]["due"]), (&"planned".into(), &due.into()));
    assert_eq!(bed.says(&["preview"]).0, 69);
}

/// One deadline of the meeting is at its limit: the other is moved, and the answer says that it is not enough.
#[test]
fn a_meeting_extended_in_part_is_told_and_is_no_success() {
    let bed = Bed::start();
    let submit = |more: &[&str]| {
        let args = [&["end", "campus", "room-1"], more].concat();
        id_of(&bed.json(&args))
    };
    let limited = submit(&["--in", "1h", "--max-extension", "0s"]);
    let free = submit(&["--in", "2h"]);
    let (code, said) = bed.says(&["extend", "campus", "room-1", "10m"]);
    assert_eq!(code, 1, "{said}");
    assert!(said.contains(&format!("not extended: job {}", &limited[limited.len() - 8..])), "{said}");
    assert!(said.contains("the meeting still ends at "), "{said}");
    assert_eq!(bed.json(&["show", &limited])["extension_left_ms"], 0);
    assert!(bed.json(&["show", &free])["extended_from"].is_string());
}
