//! Commands about more than one job, and names that are slips.

use super::*;

#[test]
fn a_meeting_or_a_pattern_is_listed_and_asked_about_first() {
    let daemon = Daemon::with(vec![job(2, "math", 2 * HOUR), job(1, "math", HOUR), job(3, "physics", HOUR)]);
    let ran = daemon.check(&["cancel", "campus", "math"], 2, "");
    let asked = "ends campus/math at 18:15:00 CET, in 1h; job 00000001\n\
                 ends campus/math at 19:15:00 CET, in 2h; job 00000002\n\
                 error: nobody is there to be asked: nothing was cancelled\n\
                 hint: look at the list above, then add --yes\n";
    assert_eq!(ran.2, asked);
    assert!(daemon.served.service.changes.lock().unwrap().is_empty());

    daemon.check(
        &["hold", "--match", "ma*", "--yes"],
        0,
        "holds campus/math until it is released (it is due at 18:15:00 CET, in 1h); job 00000001\n\
         holds campus/math until it is released (it is due at 19:15:00 CET, in 2h); job 00000002",
    );
    let ran = daemon.run(&["hold", "campus", "math", "--yes"]);
    let nothing = "error: there is no deadline to hold for campus/math\nhint: see `adjourn list`\n";
    assert_eq!((ran.0, ran.2.as_str()), (1, nothing), "both are held already");
    assert_eq!(daemon.run(&["release", "--server", "campus", "--yes"]).1.lines().count(), 2);

    let ran = daemon.run(&["cancel", "--origin", "a?i", "-y", "--json"]);
    let answer: serde_json::Value = serde_json::from_str(&ran.1).unwrap();
    assert_eq!((ran.0, answer["jobs"].as_array().unwrap().len()), (0, 3), "{}", ran.2);
    assert_eq!(answer["refused"], serde_json::json!([]));
}

#[test]
fn of_several_jobs_one_that_is_refused_keeps_none_of_the_others_back() {
    let daemon = Daemon::start();
    daemon.served.service.refuse_next(RefusalKind::Conflict, "its end was sent", "wait");
    let ran = daemon.run(&["cancel", "campus", "math", "--yes"]);
    assert_eq!((ran.0, ran.1.lines().count()), (1, 1), "{}", ran.1);
    assert!(ran.2.ends_with("not cancelled: job 00000001: its end was sent\n"), "{}", ran.2);
}

#[test]
fn a_wait_for_several_ends_with_the_worst_outcome() {
    let daemon = Daemon::start();
    let socket = daemon.served.socket.clone();
    let waiting = std::thread::spawn(move || run_at(socket, &["wait", "campus", "math"]));
    daemon.followed();
    daemon
        .served
        .service
        .publish(concluded(job(1, "math", HOUR), Outcome::Unconfirmed, "who knows"), "concluded");
    daemon.followed();
    daemon.served.service.publish(concluded(job(2, "math", HOUR), Outcome::Ended, "gone"), "concluded");
    let Ran(code, stdout, _) = waiting.join().unwrap();
    let told = "unconfirmed campus/math: who knows; job 00000001\nended campus/math: gone; job 00000002\n";
    assert_eq!((code, stdout.as_str()), (3, told));
}

#[test]
fn slips_are_errors_without_a_word_of_http() {
    let daemon = Daemon::start();
    for (args, code, part) in [
        (&["list", "--server", "lab"][..], 1, "there is no server lab"),
        (&["export", "--server", "lab"], 1, "there is no server lab"),
        (&["cancel", "--server", "lab"], 1, "there is no server lab"),
        (&["list", "--state", "wating"], 2, "waiting"),
        (&["list", "--outcome", "finished"], 2, "already-over"),
        (&["export", "--state", "wating"], 2, "waiting"),
        (&["list", "--limit", "0"], 2, "0 is not in 1.."),
        (&["list", "--sort", "size"], 2, "newest"),
        (&["show", "math"], 2, "32 hexadecimal digits"),
        (&["cancel", "math"], 2, "a meeting is named by two words"),
        (&["cancel"], 2, "SERVER MEETING, or any of --match"),
        (&["cancel", "00000001", "--match", "x"], 2, "SERVER MEETING, or any of --match"),
        (&["extend", "math", "10m"], 2, "is no job id"),
        (&["fire", ""], 2, "32 hexadecimal digits"),
        (&["meetings", ""], 2, "a value is required"),
        (&["end", "campus", "", "--now"], 2, "a value is required"),
        (&["cancel", "00000009"], 1, "there is no job 00000009"),
    ] {
        let ran = daemon.run(args);
        assert_eq!(ran.0, code, "{args:?}: {}", ran.2);
        assert!(ran.2.contains(part), "{args:?}: {}", ran.2);
        assert!(
            !ran.2.contains("the body") && !ran.2.contains("the query") && !ran.2.contains("/v1"),
            "{}",
            ran.2
        );
    }
    assert!(daemon.run(&["help", "list"]).2.contains("--sort"));
}
