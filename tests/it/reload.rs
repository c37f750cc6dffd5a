//! The schedule file, read again by a running daemon.

use crate::harness::Bed;

fn entry(name: &str, at: &str) -> String {
    format!("[[end]]\nname = \"{name}\"\nserver = \"campus\"\nmeeting = \"{name}-room\"\nat = {at}\n")
}

/// The lines without how far off the times are.
#[track_caller]
fn lines(bed: &Bed, args: &[&str]) -> Vec<String> {
    let (code, said) = bed.says(args);
    assert_eq!(code, 0, "{said}");
    let without = |line: &str| {
        let parts: Vec<&str> = line.split(" (in ").collect();
        let rest = parts[1..].iter().map(|part| part.split_once(')').map_or(*part, |(_, rest)| rest));
        format!("{}{}", parts[0], rest.collect::<String>())
    };
    said.lines().map(without).collect()
}

#[track_caller]
fn jobs(bed: &Bed) -> Vec<(String, String, String)> {
    let listed = bed.json(&["list"]);
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    let job = |job: &serde_json::Value| (text(&job["meeting"]), text(&job["due"]), text(&job["state"]));
    listed["jobs"].as_array().unwrap().iter().map(job).collect()
}

#[test]
fn a_dry_run_says_what_a_reload_would_do_and_changes_nothing() {
    let bed = Bed::start();
    bed.write_schedule(
        "",
        &(entry("exam", "2099-01-01T10:00:00Z") + &entry("lecture", "2099-01-02T10:00:00Z")),
    );
    let added = [
        "add     exam: exam-room on campus ends at Thu 2099-01-01 10:00:00 UTC",
        "add     lecture: lecture-room on campus ends at Fri 2099-01-02 10:00:00 UTC",
    ];
    assert_eq!(lines(&bed, &["reload", "--dry-run"]), added);
    assert!(jobs(&bed).is_empty());
    assert_eq!(lines(&bed, &["reload"]), added);
    let before = jobs(&bed);
    assert_eq!(before.len(), 2);

    let edited = entry("exam", "2099-01-01T11:00:00Z") + &entry("seminar", "2099-01-03T10:00:00Z");
    bed.write_schedule("max-concurrent = 3", &edited);
    let edits = [
        "server campus changed",
        "add     seminar: seminar-room on campus ends at Sat 2099-01-03 10:00:00 UTC",
        "move    exam: exam-room on campus moved from Thu 2099-01-01 10:00:00 UTC to Thu 2099-01-01 11:00:00 UTC, the \
         file gives another time",
        "remove  lecture: lecture-room on campus not ended at Fri 2099-01-02 10:00:00 UTC any more, its entry is gone",
    ];
    assert_eq!(lines(&bed, &["reload", "--dry-run"]), edits);
    assert_eq!(jobs(&bed), before);
    let answer = bed.json(&["reload", "--dry-run"]);
    assert_eq!((&answer["applied"], &answer["changes"][0]["action"]), (&false.into(), &"move".into()));
    assert_eq!(answer["changes"][0]["to"], "2099-01-01T11:00:00.000Z");
    assert_eq!(lines(&bed, &["reload"]), edits);
    assert_ne!(jobs(&bed), before);

    bed.write_schedule("max-concurrent = 3 # as ever", &format!("# a comment\n{edited}"));
    assert_eq!(lines(&bed, &["reload", "--dry-run"]), ["nothing would change"]);
    assert_eq!(lines(&bed, &["reload"]), ["nothing has changed"]);
}

#[test]
fn a_job_that_was_extended_by_hand_stays_until_the_file_gives_another_time() {
    let bed = Bed::start();
    bed.write_schedule("", &entry("exam", "2099-01-01T10:00:00Z"));
    let id = bed.json(&["reload"])["changes"][0]["job"].as_str().unwrap().to_owned();
    bed.json(&["extend", &id, "30m"]);
    let stays = "keep    exam: exam-room on campus stays at Thu 2099-01-01 10:30:00 UTC, extended by hand";
    assert_eq!(lines(&bed, &["reload"]), [stays, "nothing has changed"]);
    bed.write_schedule("", &entry("exam", "2099-01-01T11:00:00Z"));
    let said = lines(&bed, &["reload", "--dry-run"]).concat();
    assert!(said.contains("it had been extended by hand"), "{said}");
    assert_eq!(bed.show(&id)["due"], "2099-01-01T10:30:00.000Z");
    bed.run(&["reload"]);
    assert_eq!(bed.show(&id)["due"], "2099-01-01T11:00:00.000Z");
}

#[test]
fn a_broken_file_says_where_and_a_dry_run_of_it_leaves_no_trace() {
    let bed = Bed::start();
    bed.write_schedule("", &entry("exam", "2099-01-01T10:00:00Z"));
    bed.run(&["reload"]);
    let before = jobs(&bed);
    bed.write_schedule("", &entry("exam", "\"tomorrow\""));
    let (code, said) = bed.says(&["reload", "--dry-run"]);
    assert!(code != 0 && said.contains("tomorrow"), "{code}: {said}");
    assert!(said.lines().count() > 3 && !said.contains('\u{240a}'), "on lines of its own: {said}");
    assert!(bed.json(&["status"])["schedule_error"].is_null());
    assert_ne!(bed.says(&["reload"]).0, 0);
    assert!(bed.json(&["status"])["schedule_error"].is_string());
    assert_eq!(jobs(&bed), before);
}
