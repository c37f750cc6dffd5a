//! Commands against a daemon without an engine, over a real socket.

use std::time::Duration;

use clap::CommandFactory;
use tokio::runtime::Runtime;

use super::*;
use crate::control::fake::{NOW, Served, concluded, id, job};
use crate::engine::api::RefusalKind;
use crate::job::{Fact, Job, Outcome};
use output::Output;

mod select;

const HOUR: Duration = Duration::from_secs(3600);

struct Daemon {
    runtime: Runtime,
    served: Served,
}

/// What a command did: its exit status, stdout, stderr.
struct Ran(u8, String, String);

impl Daemon {
    /// Two deadlines of one meeting.
    fn start() -> Daemon {
        Daemon::with(vec![job(1, "math", HOUR), job(2, "math", 2 * HOUR)])
    }

    fn with(jobs: Vec<Job>) -> Daemon {
        let runtime = Runtime::new().unwrap();
        let served = runtime.block_on(async { Served::new(jobs) });
        Daemon { runtime, served }
    }

    fn run(&self, args: &[&str]) -> Ran {
        run_at(self.served.socket.clone(), args)
    }

    /// Runs to this exit status; the output is what it printed on stdout.
    #[track_caller]
    fn check(&self, args: &[&str], code: u8, stdout: &str) -> Ran {
        let ran = self.run(args);
        assert_eq!((ran.0, ran.1.trim_end()), (code, stdout), "stderr: {}", ran.2);
        ran
    }

    /// Until somebody who follows the events has read a job: from then on it waits.
    fn followed(&self) {
        let reads = self.served.service.store.reads.lock().unwrap();
        reads.recv_timeout(Duration::from_secs(60)).expect("a client reads the job");
    }
}

fn run_at(socket: PathBuf, args: &[&str]) -> Ran {
    let (output, out, err) = Output::captured(None);
    let cli = match Cli::try_parse_from([&["adjourn"], args].concat()) {
        Ok(cli) => cli,
        Err(error) => return Ran(2, String::new(), error.to_string()),
    };
    let mut cx = Context::test(socket, output);
    let code = dispatch(cli.command, None, &mut cx).unwrap_or_else(|failure| {
        cx.out.failure(&failure);
        failure.exit()
    });
    Ran(code as u8, out.text(), err.text())
}

#[test]
fn the_command_line_is_well_formed() {
    Cli::command().debug_assert();
}

#[test]
fn end_says_when_and_whether_the_meeting_is_live() {
    let daemon = Daemon::start();
    daemon.check(
        &["end", "campus", "math/101 ü", "--at", "18:00"],
        0,
        "ends campus/math/101 ü at 18:00:00 CET, in 45m; job 00000066\n\
         campus/math/101 ü is live now: \"Mathematics\\u{202e} 101␊\", 23 participants, since 17:05:00 CET, 10m ago",
    );
    daemon.check(
        &["end", "campus", "math", "--in", "1h 30m"],
        0,
        "ends campus/math at 18:45:00 CET, in 1h 30m; job 00000067\n\
         another deadline of this meeting: 00000001 at 18:15:00 CET, in 1h (waiting); it comes first\n\
         another deadline of this meeting: 00000002 at 19:15:00 CET, in 2h (waiting)\n\
         campus/math is not live now",
    );
    let zone = ["--timezone", "America/New_York"];
    let args = [&["end", "campus", "x", "--at", "2026-12-01 13:00"], &zone[..]].concat();
    let ran = daemon.run(&args);
    assert!(ran.1.starts_with("ends campus/x at 13:00:00 EST, in 1h 45m; job "), "{}", ran.1);
    let origin = daemon.served.service.submissions.lock().unwrap()[0].origin.clone();
    assert_eq!(origin, crate::job::Origin::Cli);
}

#[test]
fn a_long_duration_arrives_as_it_was_given() {
    let daemon = Daemon::start();
    let ran = daemon.run(&["end", "campus", "m", "--in", "45d", "--late-limit", "30d"]);
    assert!(ran.0 == 0 && ran.1.contains("in 45d; job"), "{}{}", ran.1, ran.2);
    let submission = daemon.served.service.submissions.lock().unwrap()[0].clone();
    assert_eq!(submission.limits.late_limit, Some(30 * 24 * HOUR));
}

#[test]
fn end_passes_its_limits_on() {
    let daemon = Daemon::start();
    let args = [
        "end",
        "campus",
        "m",
        "--now",
        "--key",
        "k1",
        "--instance",
        "i-1",
        "--expect",
        "live",
        "--lock",
        "permanent",
    ];
    let limits =
        ["--keep-closed", "10m", "--late-limit", "0s", "--give-up-after", "2h", "--prove-within", "30m"];
    let extension = ["--max-extension", "45m"];
    let ran = daemon.run(&[&args[..], &limits[..], &extension[..]].concat());
    assert!(ran.1.starts_with("ends campus/m now; job "), "{}{}", ran.1, ran.2);
    let submission = daemon.served.service.submissions.lock().unwrap()[0].clone();
    assert_eq!(submission.key.as_deref(), Some("k1"));
    assert_eq!(submission.only.unwrap().as_str(), "i-1");
    let limits = submission.limits;
    let minutes = |n: u64| Some(Duration::from_secs(60 * n));
    assert_eq!((limits.keep_closed, limits.late_limit), (minutes(10), minutes(0)));
    assert_eq!((limits.give_up_after, limits.prove_within), (minutes(120), minutes(30)));
    assert_eq!(limits.max_extension, minutes(45));
    assert_eq!(limits.expect, Some(crate::job::Expect::Live));
    assert_eq!(limits.lock, Some(crate::job::Lock::Permanent));
}

#[test]
fn a_dry_run_submits_nothing_and_knows_the_servers() {
    let daemon = Daemon::start();
    daemon.check(
        &["end", "campus", "math/101 ü", "--at", "18:00", "--dry-run"],
        0,
        "would end campus/math/101 ü at 18:00:00 CET, in 45m; nothing was submitted\n\
         campus/math/101 ü is live now: \"Mathematics\\u{202e} 101␊\", 23 participants, since 17:05:00 CET, 10m ago\n\
         {\"at\":\"2026-12-01T17:00:00.000Z\",\"meeting\":\"math/101 ü\",\"server\":\"campus\"}",
    );
    let ran = daemon.run(&["end", "lab", "m", "--now", "--dry-run"]);
    assert_eq!(
        (ran.0, ran.2.as_str()),
        (1, "error: there is no server lab\nhint: the configuration names campus\n")
    );
    let ran = daemon.run(&["end", "campus", "m", "--now", "--dry-run", "--keep-closed", "25h"]);
    let told = "error: keep-closed is \"1day 1h\", more than 1d\nhint: give 1d or less\n";
    assert_eq!((ran.0, ran.2.as_str()), (1, told));
    daemon.served.service.refuse_next(RefusalKind::Invalid, "the room cannot be closed", "leave lock out");
    assert_eq!(daemon.run(&["end", "campus", "m", "--now", "--dry-run"]).0, 1);
    assert!(
        daemon.run(&["end", "campus", "math", "--in", "90m", "--dry-run"]).1.contains("00000001 at 18:15:00")
    );
    assert!(daemon.served.service.submissions.lock().unwrap().is_empty());
}

#[test]
fn wrong_usage_is_two_and_refusals_are_told_with_their_hint() {
    let daemon = Daemon::start();
    for (args, part) in [
        (&["end", "campus", "m"][..], "--at"),
        (&["end", "campus", "m", "--now", "--in", "5m"], "cannot be used with"),
        (&["end", "campus", "m", "--in", "soon"], "write it like 90m"),
        (&["end", "campus", "m", "--in", "10M"], "minutes are m: 10m"),
        (
            &["end", "campus", "m", "--at", "17:00"],
            "17:00:00 CET has passed (15m ago)\nhint: for Wed 2026-12-02 17:00:00 CET, in 23h 45m, give \"tomorrow 17:00\"",
        ),
        (&["end", "campus", "m", "--at", "2027-03-28 02:30"], "does not exist in Europe/Berlin"),
        (&["end", "campus", "m", "--now", "--timezone", "Mars/Olympus"], "no such time zone"),
        (&["extend", "00000001"], "either a duration or --until"),
        (&["list", "--since", "whenever"], "is not a time"),
    ] {
        let ran = daemon.run(args);
        assert_eq!(ran.0, 2, "{args:?}");
        assert!(ran.2.contains(part), "{args:?}: {}", ran.2);
    }
    assert!(daemon.served.service.submissions.lock().unwrap().is_empty());

    daemon.served.service.refuse_next(RefusalKind::KeyReused, "the key k is taken \u{1b}[2J", "take another");
    let ran = daemon.run(&["end", "campus", "m", "--now", "--key", "k"]);
    assert_eq!((ran.0, ran.2.as_str()), (1, "error: the key k is taken ␛[2J\nhint: take another\n"));
    daemon.served.service.refuse_next(RefusalKind::StoreFailed, "the disk is full", "make room");
    assert_eq!(daemon.run(&["cancel", "00000001"]).0, 75);
}

#[test]
fn changes_say_what_will_become_of_the_job() {
    let daemon = Daemon::with(vec![job(1, "math", HOUR)]);
    for (args, stdout) in [
        (
            &["extend", "00000001", "10m"][..],
            "ends campus/math at 18:25:00 CET, in 1h 10m; job 00000001\nextended by 10m",
        ),
        (
            &["extend", "campus", "math", "--until", "19:00"],
            "ends campus/math at 19:00:00 CET, in 1h 45m; job 00000001",
        ),
        (
            &["hold", "00000001", "--for", "30m"],
            "holds campus/math until 17:45:00 CET, in 30m (it is due at 19:00:00 CET, in 1h 45m); job 00000001",
        ),
        (
            &["hold", "00000001"],
            "holds campus/math until it is released (it is due at 19:00:00 CET, in 1h 45m); job 00000001",
        ),
        (
            &["release", "00000001", "--until", "2026-12-02 08:00"],
            "ends campus/math at Wed 2026-12-02 08:00:00 CET, in 14h 45m; job 00000001",
        ),
        (&["fire", "00000001"], "ends campus/math now; job 00000001"),
        (
            &["cancel", "00000001"],
            "cancelled campus/math, due at 17:15:00 CET, now: cancelled by hand; job 00000001",
        ),
    ] {
        daemon.check(args, 0, stdout);
    }
    let ran = daemon.run(&["extend", "campus", "nobody", "5m"]);
    assert_eq!((ran.0, ran.2.contains("no open deadline")), (1, true), "{}", ran.2);
}

#[test]
fn a_meeting_extended_in_part_is_told_in_full() {
    let daemon = Daemon::start();
    daemon.served.service.refuse_next(RefusalKind::Conflict, "its end was sent", "wait");
    let ran = daemon.check(
        &["extend", "campus", "math", "10m"],
        1,
        "ends campus/math at 19:25:00 CET, in 2h 10m; job 00000002",
    );
    let stays = "not extended: job 00000001: its end was sent\n\
                 job 00000001 stays due at 18:15:00 CET, in 1h (waiting)\n\
                 the earliest deadline counts: the meeting still ends at 18:15:00 CET, in 1h\n";
    assert_eq!(ran.2, stays);
}

#[test]
fn an_extension_says_what_is_left_of_its_limit() {
    let mut limited = job(1, "math", HOUR);
    limited.limits.max_extension = Some(HOUR);
    let daemon = Daemon::with(vec![limited, job(2, "math", 2 * HOUR)]);
    daemon.check(
        &["extend", "00000001", "30m"],
        0,
        "ends campus/math at 18:45:00 CET, in 1h 30m; job 00000001\n\
         another deadline of this meeting: 00000002 at 19:15:00 CET, in 2h (waiting)\n\
         extended by 30m, 30m of 1h left",
    );
    daemon.check(
        &["extend", "campus", "math", "10m"],
        0,
        "ends campus/math at 18:55:00 CET, in 1h 40m; job 00000001; 20m of 1h left\n\
         ends campus/math at 19:25:00 CET, in 2h 10m; job 00000002",
    );
    let ran = daemon.run(&["extend", "00000001", "30m"]);
    assert_eq!((ran.0, ran.1.as_str()), (1, ""));
    let part = "may be extended by 20m more: max-extension is 1h, 40m are used";
    assert!(ran.2.contains(part), "{}", ran.2);
    let shown = daemon.run(&["show", "00000001"]).1;
    assert!(shown.contains("extension   extended by 40m, 20m of 1h left"), "{shown}");
}

#[test]
fn a_preview_of_the_daemon_and_one_of_a_file() {
    let daemon = Daemon::start();
    let ran = daemon.run(&["preview", "--days", "1", "--server", "campus"]);
    assert_eq!((ran.0, ran.1.lines().count()), (0, 3), "{}{}", ran.1, ran.2);
    assert!(ran.1.contains("18:15:00 CET  17:15:00Z  in 1h  campus/math  api   00000001"), "{}", ran.1);
    let json: serde_json::Value = serde_json::from_str(&daemon.run(&["preview", "--json"]).1).unwrap();
    assert_eq!(json["items"].as_array().unwrap().len(), 2);
    let ran = daemon.run(&["preview", "--server", "lab"]);
    assert_eq!((ran.0, ran.2.lines().next()), (1, Some("error: there is no server lab")));
    assert_eq!(daemon.run(&["preview", "--days", "367"]).0, 2);

    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("plan.toml");
    let text = "[servers.rooms]\nplatform = \"janus\"\nurl = \"http://127.0.0.1:7188/admin\"\n\
                admin-secret = { file = \"SECRET\" }\n[[end]]\nname = \"exam\"\nserver = \"rooms\"\nmeeting = \"1234\"\n\
                at = \"2026-12-02T18:00:00+01:00\"\n";
    let secret = dir.path().join("secret");
    std::fs::write(&secret, "x").unwrap();
    std::fs::write(&file, text.replace("SECRET", secret.to_str().unwrap())).unwrap();
    let nowhere = PathBuf::from("/nowhere");
    let ran = run_at(nowhere.clone(), &["preview", "--file", file.to_str().unwrap()]);
    assert_eq!((ran.0, ran.1.lines().count()), (0, 2), "{}{}", ran.1, ran.2);
    let line = "Wed 2026-12-02 18:00:00 CET  17:00:00Z  in 1d  rooms/1234  schedule:exam       planned";
    assert!(ran.1.contains(line), "{}", ran.1);
    let tokyo = text.replace("18:00:00+01:00", "18:00:00[Asia/Tokyo]");
    std::fs::write(&file, tokyo.replace("SECRET", secret.to_str().unwrap())).unwrap();
    let ran = run_at(nowhere.clone(), &["preview", "--file", file.to_str().unwrap(), "--no-secrets"]);
    let line = "Wed 2026-12-02 18:00:00 JST  09:00:00Z  in 16h 45m  rooms/1234  schedule:exam       planned";
    assert!(ran.1.contains(line), "{}", ran.1);
    std::fs::write(&file, text.replace("{ file = \"SECRET\" }", "{ credential = \"janus\" }")).unwrap();
    let ran = run_at(nowhere.clone(), &["preview", "--file", file.to_str().unwrap()]);
    assert!(ran.0 == 0 && ran.2.contains("this secret is not checked"), "{}", ran.2);
    let quiet = run_at(nowhere.clone(), &["check", "--no-secrets", file.to_str().unwrap()]);
    assert!(quiet.0 == 0 && !quiet.2.contains("this secret"), "{}{}", quiet.1, quiet.2);
    std::fs::write(&file, "[servers.rooms\n").unwrap();
    assert_eq!(run_at(nowhere, &["preview", "--file", file.to_str().unwrap()]).0, 78);
}

#[test]
fn unlock_opens_a_room_again() {
    let daemon = Daemon::start();
    daemon.check(&["unlock", "campus", "math"], 0, "campus/math is open again");
    let ran = daemon.run(&["unlock", "lab", "math"]);
    assert_eq!((ran.0, ran.2.lines().next()), (1, Some("error: there is no server lab")));
}

#[test]
fn listings() {
    let done = concluded(job(3, "old", HOUR), Outcome::Unconfirmed, "nothing can prove it");
    let daemon = Daemon::with(vec![job(1, "math", HOUR), job(2, "math/101 ü", 26 * HOUR), done]);
    let listed = daemon.run(&["list"]).1;
    let ids: Vec<&str> = listed.lines().map(|line| line.split(' ').next().unwrap()).collect();
    assert_eq!(ids, ["ID", "00000001", "00000002", "00000003"]);
    daemon.check(&["list", "--state", "held"], 0, "");
    let ran = daemon.run(&["list", "--limit", "2", "--json"]);
    let page: serde_json::Value = serde_json::from_str(&ran.1).unwrap();
    assert_eq!(
        (page["jobs"].as_array().unwrap().len(), &page["next"]),
        (2, &serde_json::json!(format!("due-{}-{}", (NOW.wall + 26 * HOUR).0, id(2))))
    );
    insta::assert_snapshot!(daemon.run(&["meetings", "campus"]).1, @r"
    MEETING     NAME                      STARTED  PEOPLE  ENDS
    math/101 ü  Mathematics\u{202e} 101␊  10m ago  23      00000002 at Wed 2026-12-02 19:15:00 CET, in 1d 2h (waiting)
    ");
    insta::assert_snapshot!(daemon.run(&["status"]).1, @r"
    adjourn 0.1.0, pid 4711, since 17:15:00 CET, now
    jobs      2 waiting, 1 done; 0 in memory
    next      nothing is planned
    store     /var/lib/adjourn/queue

    SERVER  PLATFORM       REACHED  ENDS                           LOOKS             SUMMARY
    campus  bigbluebutton  yes      0 sent, 0 in flight, 0 queued  0 sent, 0 queued  BigBlueButton 3.0
    ");
    let ran = daemon.run(&["list", "--state", "dead"]);
    assert!(ran.0 == 2 && ran.2.contains("invalid value 'dead'"), "{}", ran.2);
    let moved = "move    exam: math-101 on campus moved from 18:00:00 CET (in 45m) to 19:00:00 CET (in 1h 45m), the file \
                 gives another time";
    daemon.check(&["reload"], 0, moved);
    let rehearsed = daemon.run(&["reload", "--dry-run"]).1;
    let rule = "rule    four hours: would end all-day (All ␛[31mday) on campus at 17:25:00 CET (in 10m), it has run for 5h (it only \
                reports, until dry-run = false)\nthe rules on events could not be tried: no answer within 6 s\nthe feed calendar.example.org \
                (calendars.holidays) cannot be read: its server answers 500; until it can, no meeting ends by it, and no \
                calendar takes it into account\n";
    assert_eq!(rehearsed, format!("{moved}\n{rule}"));
}

#[test]
fn a_long_listing_goes_through_all_pages() {
    let daemon = Daemon::with((1..=1500).map(|n| job(n, "m", HOUR)).collect());
    let ran = daemon.run(&["list", "--limit", "1400"]);
    assert_eq!(ran.1.lines().count(), 1401);
    assert!(ran.2.contains("there are more"));
    let ran = daemon.run(&["list", "--limit", "2000", "--json"]);
    let page: serde_json::Value = serde_json::from_str(&ran.1).unwrap();
    assert_eq!((page["jobs"].as_array().unwrap().len(), &page["next"]), (1500, &serde_json::Value::Null));
}

#[test]
fn wait_turns_the_outcome_into_the_exit_status() {
    for (outcome, args, code) in [
        (Outcome::Ended, &[][..], 0),
        (Outcome::AlreadyOver, &[], 0),
        (Outcome::Absent, &[], 1),
        (Outcome::Absent, &["--absent-ok"], 0),
        (Outcome::Superseded, &["--absent-ok"], 1),
        (Outcome::Cancelled, &[], 1),
        (Outcome::Missed, &[], 1),
        (Outcome::Unconfirmed, &[], 3),
        (Outcome::Vanished, &[], 3),
        (Outcome::Vanished, &["--absent-ok"], 0),
        (Outcome::Failed, &[], 4),
    ] {
        let daemon = Daemon::with(vec![concluded(job(1, "math", HOUR), outcome, "so it was")]);
        let stdout = format!("{outcome} campus/math: so it was; job 00000001");
        daemon.check(&[&["wait", "00000001"], args].concat(), code, &stdout);
    }
}

#[test]
fn wait_hears_the_end_and_outlives_a_restart() {
    let mut daemon = Daemon::start();
    let socket = daemon.served.socket.clone();
    let waiting = std::thread::spawn(move || run_at(socket, &["wait", "00000001", "--timeout", "1m"]));
    daemon.followed();
    daemon.served.service.publish(job(2, "math", HOUR), "moved");
    let end = concluded(job(1, "math", HOUR), Outcome::Ended, "gone");
    let Daemon { runtime, served } = &mut daemon;
    runtime.block_on(served.restart(|service| service.publish(end, "concluded")));
    let Ran(code, stdout, stderr) = waiting.join().unwrap();
    assert_eq!((code, stdout.as_str()), (0, "ended campus/math: gone; job 00000001\n"));
    assert_eq!(stderr, "the daemon went away; waiting for it to come back\n");
}

#[test]
fn wait_is_over_when_guarding_begins_unless_told_otherwise() {
    let mut guarded = job(1, "math", HOUR);
    guarded.record(NOW, Fact::Guarding { outcome: Outcome::Absent, reason: "never there".into() });
    let daemon = Daemon::with(vec![guarded.clone()]);
    daemon.check(
        &["wait", "00000001"],
        1,
        "absent campus/math: never there; ends what is reopened; job 00000001",
    );
    daemon.followed();

    let socket = daemon.served.socket.clone();
    let waiting = std::thread::spawn(move || run_at(socket, &["wait", "00000001", "--guarded"]));
    daemon.followed();
    daemon.served.service.publish(concluded(guarded, Outcome::Ended, "at last"), "concluded");
    let Ran(code, stdout, _) = waiting.join().unwrap();
    assert_eq!((code, stdout.as_str()), (0, "ended campus/math: at last; job 00000001\n"));
}

#[test]
fn wait_gives_up_in_time_and_at_once_where_there_is_nothing_to_wait_for() {
    let daemon = Daemon::start();
    let ran = daemon.run(&["wait", "00000001", "--timeout", "50ms"]);
    assert_eq!((ran.0, ran.2.contains("adjourn show 00000001")), (75, true), "{}", ran.2);
    assert_eq!(daemon.run(&["wait", "ffffffff"]).0, 1);
    let nowhere = daemon.served.socket.with_file_name("nobody.sock");
    assert_eq!(run_at(nowhere, &["wait", "00000001"]).0, 69);
}

#[test]
fn end_and_wait_in_one() {
    let daemon = Daemon::with(Vec::new());
    let socket = daemon.served.socket.clone();
    let waiting = std::thread::spawn(move || run_at(socket, &["end", "campus", "m", "--now", "--wait"]));
    daemon.followed();
    let made = daemon.served.service.store.jobs.lock().unwrap()[0].clone();
    daemon.served.service.publish(concluded(made, Outcome::Failed, "it lives"), "concluded");
    let Ran(code, stdout, _) = waiting.join().unwrap();
    let expected = "ends campus/m now; job 00000064\ncampus/m is not live now\nfailed campus/m: it lives; job 00000064\n";
    assert_eq!((code, stdout.as_str()), (4, expected));
}

#[test]
fn completions_and_manual_pages_are_whole() {
    let nowhere = PathBuf::from("/nowhere");
    for shell in ["bash", "zsh", "fish"] {
        let ran = run_at(nowhere.clone(), &["completions", shell]);
        assert!(ran.0 == 0 && ran.1.contains("keep-closed"), "{shell}");
    }
    let ran = run_at(nowhere.clone(), &["man"]);
    assert!(ran.1.contains(".TH adjourn 1"));
    let dir = tempfile::tempdir().unwrap();
    run_at(nowhere, &["man", "--dir", dir.path().to_str().unwrap()]);
    let pages = std::fs::read_dir(dir.path()).unwrap().count();
    let pages_of = |command: &clap::Command| 1 + command.get_subcommands().count();
    assert_eq!(pages, 1 + Cli::command().get_subcommands().map(pages_of).sum::<usize>());
    assert!(std::fs::read_to_string(dir.path().join("adjourn-end.1")).unwrap().contains("keep"));
}
