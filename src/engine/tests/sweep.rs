//! Sweeps: one listing a period, and what rules and jobs that wait for a start make of it. The rule here is a small one of
//! its own: `max-duration`, and `at_most` people.

use std::slice;

use super::*;
use crate::config::Settings;
use crate::engine::weigh::RuleBook;
use crate::schedule::rule::{Allows, Hit, RuleAction, Sweep, Watch};
use crate::schedule::{Entry, Exempt, Feeds, Rule, Schedule};

const HOUR: Duration = Duration::from_secs(3600);

pub(in crate::engine) fn rule(name: &str, max_duration: Duration) -> Rule {
    Rule { max_duration: Some(max_duration), ..Rule::bare(name, "campus".into()) }
}

fn sweep(
    rules: &[Rule],
    _: &[Exempt],
    allows: Allows<'_>,
    watch: &Watch,
    live: &[LiveMeeting],
    now: Now,
) -> Sweep {
    let hit = |rule: &Rule, live: &LiveMeeting| {
        // Nobody is inside: the rule has let it go.
        let began = live.started_at.filter(|_| live.participants != Some(0))?;
        allows(&rule.days, now.wall, &rule.timezone).then_some(())?;
        Some(Hit {
            rule: rule.name.clone(),
            dry_run: rule.dry_run,
            from_entry: rule.meeting.is_some(),
            identity: format!("{}/{}", rule.name, live.instance),
            cause: "max-duration".to_owned(),
            again: 0,
            live: live.clone(),
            due: began + rule.max_duration?,
            earliest: began + rule.max_duration?,
            reason: "it has run long enough".to_owned(),
            at_most: None,
            limits: rule.limits.clone(),
        })
    };
    let hits = rules.iter().flat_map(|rule| live.iter().filter_map(move |live| hit(rule, live)));
    Sweep { watch: watch.clone(), hits: hits.collect(), ..Sweep::default() }
}

fn plan(sweep: &Sweep, open: &[Job], live: &[LiveMeeting]) -> Vec<RuleAction> {
    let hits = &sweep.hits;
    let is = |hit: &Hit, job: &Job| job.key.as_ref().unwrap().key == format!("rule:{}", hit.identity);
    let planned = |job: &Job| match &job.origin {
        Origin::Rule { planned, .. } | Origin::Schedule { planned, .. } => *planned,
        other => panic!("no rule made {other}"),
    };
    let for_hit = |hit: &Hit| match open.iter().find(|job| is(hit, job)) {
        None => Some(RuleAction::Submit(Box::new(hit.clone()))),
        Some(job) if planned(job) != hit.due => Some(RuleAction::Move { job: job.id, to: hit.due }),
        Some(_) => None,
    };
    let mut actions: Vec<RuleAction> = hits.iter().filter_map(for_hit).collect();
    let there = |job: &Job| live.iter().any(|live| Some(&live.instance) == job.only.as_ref());
    let over = open.iter().filter(|job| there(job) && !hits.iter().any(|hit| is(hit, job)));
    let withdraw = |job: &Job| RuleAction::Withdraw {
        job: job.id,
        reason: "the rule does not apply any more".to_owned(),
    };
    actions.extend(over.map(withdraw));
    actions
}

fn settings(rules: Vec<Rule>) -> Settings {
    Settings {
        state_dir: "/nowhere".into(),
        retention: HOUR,
        socket: "/nowhere".into(),
        socket_mode: 0o600,
        socket_group: None,
        servers: BTreeMap::from([("campus".into(), server_settings(4))]),
        schedule: Arc::new(Schedule { rules, ..Schedule::default() }),
    }
}

fn live(started: Duration) -> LiveMeeting {
    LiveMeeting {
        meeting: "math-101".into(),
        instance: "one".into(),
        name: String::new(),
        started_at: Some(system_now().wall - started),
        participants: Some(3),
        meta: BTreeMap::new(),
        meta_cut: false,
        breakout_of: None,
    }
}

/// An engine that has been running for a while, and whose one server shows this.
fn sweeping(live: Option<LiveMeeting>) -> Rig {
    restarted(Arc::default(), live)
}

fn restarted(store: Arc<MemStore>, live: Option<LiveMeeting>) -> Rig {
    started(store, live, RuleBook { sweep, plan })
}

fn started(store: Arc<MemStore>, live: Option<LiveMeeting>, book: RuleBook) -> Rig {
    let platform = Arc::new(Scripted::default());
    *platform.live.lock().unwrap() = Some(live.into_iter().collect());
    let built = platform.clone();
    start_with(4, store, platform, move |core| {
        core.makers.build = Arc::new(move |_, _, _| Ok(built.clone()));
        core.makers.rules = book;
        core.settings = Some(Arc::new(settings(Vec::new())));
    })
}

impl Rig {
    async fn apply(&self, rules: Vec<Rule>) {
        self.handle.apply(Arc::new(settings(rules)), Feeds::default()).await.unwrap();
    }

    fn shows(&self, live: Option<LiveMeeting>) {
        *self.platform.live.lock().unwrap() = Some(live.into_iter().collect());
    }

    fn listings(&self) -> u32 {
        *self.platform.listings.lock().unwrap()
    }

    fn jobs(&self) -> Vec<Job> {
        self.store.select(|_| true)
    }

    /// A listing that was asked for after this has been weighed.
    async fn apply_and_sweep(&self, rules: Vec<Rule>) {
        self.handle.clock.sleep(Duration::from_millis(2)).await;
        let from = Some(system_now().wall.to_string());
        self.apply(rules).await;
        self.until(async || self.server().await.last_sweep >= from).await;
        // What it made is on its way to the store, which answers at once.
        self.server().await;
    }

    async fn server(&self) -> ServerStatus {
        self.handle.status().await.unwrap().servers[&ServerName::from("campus")].clone()
    }

    async fn until(&self, mut met: impl AsyncFnMut() -> bool) {
        let wait = async {
            while !met().await {
                self.handle.clock.sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), wait).await.expect("it does not come");
    }
}

async fn hears_of_server(events: &mut broadcast::Receiver<Arc<Notice>>, event: &str) -> Arc<Notice> {
    let wait = async {
        loop {
            let notice = events.recv().await.unwrap();
            if notice.event == event {
                return notice;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(20), wait).await.expect(event)
}

#[tokio::test]
async fn a_rule_ends_what_has_run_too_long_and_no_other_run() {
    let rig = sweeping(Some(live(5 * HOUR)));
    let mut events = rig.handle.events();
    rig.apply(vec![rule("four-hours", 4 * HOUR)]).await;
    let hit = hears_of_server(&mut events, "rule-hit").await;
    assert_eq!(hit.text, "rule four-hours applies: it has run long enough");
    let id = hit.job.as_ref().unwrap().id;
    let done = rig.hears(&mut events, "concluded", id).await;
    assert_eq!(done.job.as_ref().unwrap().outcome, Some(Outcome::Ended));
    let job = rig.store.get(id).unwrap().unwrap();
    assert_eq!((job.only, job.origin.to_string()), (Some("one".into()), "rule:four-hours".to_owned()));
    assert_eq!(rig.jobs().len(), 1);
}

#[tokio::test]
async fn the_hit_of_an_entry_is_a_job_of_the_schedule() {
    let rig = sweeping(Some(live(HOUR)));
    let of_entry = Rule { meeting: Some("math-101".into()), ..rule("exam", 4 * HOUR) };
    rig.apply(vec![of_entry]).await;
    rig.until(async || !rig.jobs().is_empty()).await;
    let job = &rig.jobs()[0];
    assert_eq!(job.origin.to_string(), "schedule:exam");
    assert_eq!(job.armed_at, None, "it was seen, but is not armed");
}

#[tokio::test]
async fn what_a_person_cancelled_or_extended_stays_so() {
    let rig = sweeping(Some(live(HOUR)));
    let rules = || vec![rule("four-hours", 4 * HOUR), rule("six-hours", 6 * HOUR)];
    rig.apply(rules()).await;
    rig.until(async || rig.jobs().len() == 2).await;
    let of = |name: &str| rig.jobs().into_iter().find(|job| job.origin.rule() == Some(name)).unwrap();
    let by = || By::Peer { uid: 0, pid: None };
    rig.handle.change(of("four-hours").id, None, Change::Cancel, by()).await.unwrap();
    let extended = of("six-hours").due + HOUR;
    rig.handle.change(of("six-hours").id, None, Change::Extend { by: HOUR }, by()).await.unwrap();
    rig.apply_and_sweep(rules()).await;
    assert_eq!(rig.jobs().len(), 2);
    assert_eq!(of("four-hours").outcome, Some(Outcome::Cancelled));
    assert_eq!(of("six-hours").due, extended);

    rig.apply(vec![rule("six-hours", 8 * HOUR)]).await;
    rig.until(async || of("six-hours").due == extended + HOUR).await;
}

#[tokio::test]
async fn a_hit_that_is_over_takes_its_job_back_also_after_a_restart() {
    let there = live(HOUR);
    let rig = sweeping(Some(there.clone()));
    rig.apply(vec![rule("four-hours", 4 * HOUR)]).await;
    rig.until(async || !rig.jobs().is_empty()).await;
    rig.shutdown.cancel();
    let rig = restarted(rig.store.clone(), Some(there.clone()));
    rig.apply_and_sweep(vec![rule("four-hours", 4 * HOUR)]).await;
    assert!(!rig.jobs()[0].is_done() && rig.jobs().len() == 1);
    rig.shows(Some(LiveMeeting { participants: Some(0), ..there }));
    rig.apply(vec![rule("four-hours", 4 * HOUR)]).await;
    rig.until(async || rig.jobs()[0].is_done()).await;
    let job = &rig.jobs()[0];
    assert_eq!(job.outcome, Some(Outcome::Cancelled));
    assert_eq!(job.reason, "the rule does not apply any more");
}

#[tokio::test]
async fn the_deadline_of_a_room_that_is_gone_is_marked_and_stays_as_it_is() {
    let there = live(HOUR);
    let rig = sweeping(Some(there.clone()));
    let rules = || vec![rule("four-hours", 4 * HOUR)];
    let gone = async || rig.handle.standing().await.unwrap().gone;
    rig.apply(rules()).await;
    rig.until(async || rig.jobs().len() == 1).await;
    assert!(gone().await.is_empty());
    rig.shows(None);
    *rig.platform.partly.lock().unwrap() = true;
    rig.apply_and_sweep(rules()).await;
    assert!(gone().await.is_empty(), "a listing that may lack something says nothing");
    *rig.platform.partly.lock().unwrap() = false;
    rig.apply_and_sweep(rules()).await;
    assert_eq!(gone().await.into_keys().collect::<Vec<_>>(), [rig.jobs()[0].id]);
    // It may have been forgotten: the deadline is there if it is shown again.
    assert!(!rig.jobs()[0].is_done());
    rig.shows(Some(there));
    rig.apply_and_sweep(rules()).await;
    assert!(gone().await.is_empty() && rig.jobs().len() == 1);
}

#[tokio::test]
async fn a_rule_that_is_gone_takes_its_jobs_along() {
    let rig = sweeping(Some(live(HOUR)));
    rig.apply(vec![rule("four-hours", 4 * HOUR)]).await;
    rig.until(async || !rig.jobs().is_empty()).await;
    rig.apply(Vec::new()).await;
    rig.until(async || rig.jobs()[0].is_done()).await;
    rig.is_done_listing().await;
    // Put back, it hits again, though nothing but the job that was withdrawn remembers.
    rig.apply(vec![rule("four-hours", 4 * HOUR)]).await;
    rig.until(async || rig.jobs().len() == 2).await;
    rig.apply_and_sweep(vec![rule("four-hours", 4 * HOUR)]).await;
    assert_eq!(rig.jobs().iter().filter(|job| !job.is_done()).count(), 1);
    assert_eq!(rig.jobs().len(), 2);
}

impl Rig {
    /// With nothing left to look for, ticks ask for no listing.
    async fn is_done_listing(&self) {
        self.apply(Vec::new()).await;
        self.until(async || self.server().await.last_sweep.is_none()).await;
        let before = self.listings();
        self.apply(Vec::new()).await;
        self.handle.tick();
        self.server().await;
        assert_eq!(self.listings(), before);
    }
}

#[tokio::test]
async fn a_dry_run_reports_once_and_does_nothing() {
    let rig = sweeping(Some(live(5 * HOUR)));
    let mut events = rig.handle.events();
    let dry = || vec![Rule { dry_run: true, ..rule("four-hours", 4 * HOUR) }];
    rig.apply(dry()).await;
    let told = hears_of_server(&mut events, "rule-would-hit").await;
    assert!(
        told.text.starts_with("rule four-hours would end \"math-101\" (instance \"one\") at "),
        "{}",
        told.text
    );
    rig.apply_and_sweep(dry()).await;
    assert!(rig.jobs().is_empty());
    while let Ok(notice) = events.try_recv() {
        assert_ne!(notice.event, "rule-would-hit");
    }
}

#[tokio::test]
async fn one_listing_a_server_and_period_however_many_rules_and_ticks_there_are() {
    let rig = sweeping(Some(live(HOUR)));
    let rules = (0..50).map(|n| rule(&format!("r{n}"), 4 * HOUR)).collect();
    rig.apply(rules).await;
    rig.until(async || rig.jobs().len() == 50).await;
    for _ in 0..100 {
        rig.handle.tick();
        rig.server().await;
    }
    assert_eq!(rig.listings(), 1);
}

#[tokio::test]
async fn sweeps_come_in_the_rhythm_of_the_rules_and_nobody_has_to_ask() {
    let rig = sweeping(Some(live(HOUR)));
    let every = Duration::from_millis(50);
    rig.apply(vec![Rule { every, ..rule("four-hours", 4 * HOUR) }]).await;
    rig.until(async || rig.listings() >= 5).await;
}

#[tokio::test]
async fn a_rule_makes_no_more_than_it_may_and_says_so() {
    let rig = sweeping(Some(live(HOUR)));
    let mut events = rig.handle.events();
    let one = live(HOUR);
    let many = |from: usize| -> Vec<LiveMeeting> {
        let other = |n| LiveMeeting {
            meeting: format!("m-{n}").as_str().into(),
            instance: format!("i-{n}").as_str().into(),
            ..one.clone()
        };
        (from..from + 10).map(other).collect()
    };
    *rig.platform.live.lock().unwrap() = Some(many(0));
    let few = || vec![Rule { max_open: 3, ..rule("four-hours", 4 * HOUR) }];
    rig.apply(few()).await;
    let told = hears_of_server(&mut events, "rule-full").await;
    assert!(told.text.contains("rule four-hours leaves 7 meetings alone"), "{}", told.text);
    rig.until(async || rig.jobs().len() == 3).await;
    // Ever new ones, while those of before are done or gone, are not made either.
    *rig.platform.live.lock().unwrap() = Some(many(100));
    rig.apply_and_sweep(few()).await;
    assert_eq!(rig.jobs().len(), 3);
    assert!(rig.server().await.sweep_error.unwrap().contains("max-open"));
}

#[tokio::test]
async fn a_listing_that_fails_changes_nothing() {
    let there = live(HOUR);
    let rig = sweeping(Some(there.clone()));
    rig.apply(vec![rule("four-hours", 4 * HOUR)]).await;
    rig.until(async || !rig.jobs().is_empty()).await;
    let before = rig.jobs();
    *rig.platform.live.lock().unwrap() = None;
    rig.apply(vec![rule("six-hours", 6 * HOUR)]).await;
    rig.until(async || rig.server().await.sweep_error.is_some()).await;
    assert_eq!(rig.server().await.sweep_error.as_deref(), Some("down"));
    assert_eq!(rig.jobs(), before);
    rig.shows(Some(there));
    rig.apply(vec![rule("four-hours", 4 * HOUR)]).await;
    rig.until(async || rig.server().await.sweep_error.is_none()).await;
    assert_eq!(rig.jobs(), before);
}

#[tokio::test]
async fn a_platform_that_has_no_room_is_not_listed_for_rules() {
    let rig = sweeping(Some(live(HOUR)));
    *rig.platform.ready.lock().unwrap() = Some(BootMs(i64::MAX));
    rig.apply(vec![rule("four-hours", 4 * HOUR)]).await;
    rig.handle.tick();
    rig.server().await;
    assert_eq!(rig.listings(), 0);
    *rig.platform.ready.lock().unwrap() = None;
    let swept = async || {
        rig.handle.tick();
        rig.server().await.last_sweep.is_some()
    };
    rig.until(swept).await;
}

#[tokio::test]
async fn a_full_disk_costs_no_hit() {
    let rig = sweeping(Some(live(HOUR)));
    rig.store.fail(true);
    let rules = || vec![rule("four-hours", 4 * HOUR)];
    rig.apply_and_sweep(rules()).await;
    assert!(rig.jobs().is_empty());
    rig.store.fail(false);
    rig.apply(rules()).await;
    rig.until(async || rig.jobs().len() == 1).await;
}

#[tokio::test]
async fn a_rehearsal_names_what_would_be_hit_and_changes_nothing() {
    let rig = sweeping(Some(live(HOUR)));
    let rehearse =
        async |rules| rig.handle.rehearse(Arc::new(settings(rules)), Feeds::default()).await.unwrap();
    let rules = || vec![rule("four-hours", 4 * HOUR)];
    let rehearsed = rehearse(rules()).await;
    assert_eq!(rehearsed.rules.len(), 1);
    let hit = &rehearsed.rules[0];
    assert_eq!((hit.rule.as_str(), hit.meeting.as_str()), ("four-hours", "math-101"));
    assert!(rig.jobs().is_empty());
    *rig.platform.live.lock().unwrap() = None;
    let rehearsed = rehearse(rules()).await;
    assert_eq!(rehearsed.unseen[0].why, "down");
    assert!(rehearse(Vec::new()).await.unseen.is_empty());
}

#[tokio::test]
async fn what_a_partial_listing_does_not_show_keeps_what_was_counted() {
    let there = LiveMeeting { started_at: None, ..live(HOUR) };
    let rig = started(Arc::default(), Some(there.clone()), RuleBook::default());
    let mut events = rig.handle.events();
    let dry = || vec![Rule { dry_run: true, ..rule("four-hours", 4 * HOUR) }];
    rig.apply_and_sweep(dry()).await;
    let told = hears_of_server(&mut events, "rule-would-hit").await;
    *rig.platform.partly.lock().unwrap() = true;
    rig.shows(None);
    rig.apply_and_sweep(dry()).await;
    rig.shows(Some(there));
    rig.apply_and_sweep(dry()).await;
    assert_eq!(hears_of_server(&mut events, "rule-would-hit").await.text, told.text, "the same deadline");
}

#[tokio::test]
async fn a_server_that_a_reload_takes_away_gets_no_job_more() {
    let rig = sweeping(Some(live(HOUR)));
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    *rig.platform.hold_listings.lock().unwrap() = Some(gate.clone());
    rig.apply(vec![rule("four-hours", 4 * HOUR)]).await;
    rig.until(async || rig.listings() == 1).await;
    rig.store.hold();
    let entry = Entry {
        identity: "night".to_owned(),
        of: None,
        server: "lab".into(),
        meeting: "night".into(),
        instance: None,
        at: system_now().wall + HOUR,
        limits: Limits::default(),
    };
    let moved = Settings {
        servers: BTreeMap::from([("lab".into(), server_settings(4))]),
        schedule: Arc::new(Schedule { entries: vec![entry], ..Schedule::default() }),
        ..settings(Vec::new())
    };
    let handle = rig.handle.clone();
    let reload = tokio::spawn(async move { handle.apply(Arc::new(moved), Feeds::default()).await });
    rig.until(async || rig.store.waiting() == 1).await;
    gate.add_permits(1);
    rig.until(async || rig.handle.metrics.encode(&Status::default()).contains("sweeps_total{")).await;
    rig.server().await;
    assert_eq!(rig.store.waiting(), 1, "nothing but the plan is on its way");
    rig.store.release();
    reload.await.unwrap().unwrap();
    assert!(rig.jobs().iter().all(|job| job.server.as_str() == "lab"));
}

fn limited(max_duration: Duration) -> Submission {
    Submission { max_duration: Some(max_duration), ..submission(When::AfterStart) }
}

#[tokio::test]
async fn a_job_waits_for_its_meeting_to_start_also_across_a_restart() {
    let rig = sweeping(None);
    rig.apply(Vec::new()).await;
    let job = rig.handle.submit(limited(4 * HOUR)).await.unwrap().job;
    assert!(job.due.is_never());
    rig.until(async || rig.server().await.last_sweep.is_some()).await;
    assert_eq!(rig.jobs(), slice::from_ref(&job));
    assert_eq!(rig.handle.status().await.unwrap().next_due, None);
    rig.shutdown.cancel();

    let began = live(HOUR);
    let rig = restarted(rig.store.clone(), Some(began.clone()));
    let mut events = rig.handle.events();
    rig.apply(Vec::new()).await;
    let started = rig.hears(&mut events, "started", job.id).await;
    let view = started.job.as_ref().unwrap();
    assert_eq!(view.due, began.started_at.unwrap() + 4 * HOUR);
    assert_eq!(view.instance, Some("one".into()));
    rig.is_done_listing().await;
}

#[tokio::test]
async fn what_runs_too_long_when_its_limit_comes_ends_at_once() {
    let rig = sweeping(Some(live(30 * HOUR)));
    rig.apply(Vec::new()).await;
    let mut events = rig.handle.events();
    let job = rig.handle.submit(limited(4 * HOUR)).await.unwrap().job;
    let done = rig.hears(&mut events, "concluded", job.id).await;
    assert_eq!(done.job.as_ref().unwrap().outcome, Some(Outcome::Ended));
}

#[tokio::test]
async fn many_jobs_that_wait_share_a_listing() {
    let rig = sweeping(None);
    rig.apply(Vec::new()).await;
    for n in 0..40 {
        let meeting = format!("m-{n}").as_str().into();
        rig.handle.submit(Submission { meeting, ..limited(HOUR) }).await.unwrap();
        rig.handle.tick();
    }
    rig.until(async || rig.server().await.last_sweep.is_some()).await;
    assert_eq!(rig.listings(), 1, "the next comes seconds later");
}

#[tokio::test]
async fn keys_of_rules_and_keep_closed_with_a_limit_are_refused() {
    let rig = sweeping(None);
    let stolen = Submission { key: Some("rule:x".to_owned()), ..limited(HOUR) };
    assert!(rig.handle.submit(stolen).await.unwrap_err().detail.contains("\"rule:\""));
    let limits = LimitsPatch { keep_closed: Some(HOUR), ..LimitsPatch::default() };
    let kept = Submission { limits, ..limited(HOUR) };
    assert!(rig.handle.submit(kept).await.unwrap_err().detail.contains("keep-closed"));
    let put = |limit| Submission { key: Some("k".to_owned()), ..limited(limit) };
    let first = rig.handle.put(put(HOUR)).await.unwrap();
    assert_eq!(rig.handle.put(put(HOUR)).await.unwrap().job.id, first.job.id);
    assert_eq!(rig.handle.put(put(2 * HOUR)).await.unwrap_err().kind, RefusalKind::Conflict);
}
