//! Warnings: what is told is so when it leaves.

use super::*;
use crate::platform::Telling;

const MINUTE: Duration = Duration::from_secs(60);

/// Due in five minutes, and inside the window of its only mark.
fn warned_of() -> Submission {
    let limits = LimitsPatch {
        warn: Some(vec![10 * MINUTE]),
        warn_text: Some("{remaining}".to_owned()),
        ..LimitsPatch::default()
    };
    Submission { limits, ..submission(When::In(5 * MINUTE)) }
}

/// A job whose warning is on its way, and does not leave before the gate has a permit.
async fn on_its_way(rig: &Rig) -> (Job, Arc<tokio::sync::Semaphore>) {
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    *rig.platform.hold_warnings.lock().unwrap() = Some(gate.clone());
    let job = rig.handle.submit(warned_of()).await.unwrap().job;
    until("the warning is on its way", async || *rig.platform.warnings.lock().unwrap() == 1).await;
    (job, gate)
}

impl Rig {
    async fn change(&self, job: &Job, change: Change) {
        let by = By::Peer { uid: 0, pid: None };
        self.handle.change(job.id, None, change, by).await.unwrap();
    }

    fn told(&self) -> Vec<String> {
        self.platform.told.lock().unwrap().clone()
    }

    fn facts(&self, job: &Job, name: &str) -> usize {
        let job = self.store.get(job.id).unwrap().unwrap();
        job.history.recent.iter().filter(|entry| entry.fact.name() == name).count()
    }
}

#[tokio::test]
async fn an_extension_calls_off_what_has_not_left_and_the_new_time_is_told() {
    let rig = start(4);
    let (job, gate) = on_its_way(&rig).await;
    rig.change(&job, Change::Extend { by: MINUTE }).await;
    gate.add_permits(2);
    until("the people are told", async || !rig.told().is_empty()).await;
    until("that is written", async || rig.facts(&job, "warning-due") == 1).await;
    assert_eq!(rig.told(), ["6 minutes"]);
    assert_eq!(rig.facts(&job, "warning-put-off"), 1);
}

#[tokio::test]
async fn the_people_are_told_in_their_language() {
    let rig = start(4);
    let german = Some("de".parse().unwrap());
    for warn_text in [None, Some("in {remaining}".to_owned())] {
        let limits = LimitsPatch { warn_text, warn_language: german, ..warned_of().limits };
        let submission = Submission { meeting: "m".into(), limits, ..warned_of() };
        rig.handle.submit(submission).await.unwrap();
    }
    until("the people are told", async || rig.told().len() == 2).await;
    let mut told = rig.told();
    told.sort();
    assert_eq!(told, ["Diese Sitzung wird in 5 Minuten beendet.", "in 5 Minuten"]);
}

#[tokio::test]
async fn a_server_says_whether_anybody_can_be_told() {
    let rig = start(4);
    let telling = async || rig.handle.standing().await.unwrap().telling[&ServerName::from("campus")].clone();
    assert_eq!(telling().await, Telling::default());
    *rig.platform.cannot_warn.lock().unwrap() = true;
    let job = rig.handle.submit(warned_of()).await.unwrap().job;
    until("that is known", async || telling().await.possible == Some(false)).await;
    assert_eq!(telling().await.why.as_deref(), Some("too old"));
    until("that is written", async || rig.facts(&job, "warning-due") == 1).await;
    let told = rig.store.get(job.id).unwrap().unwrap().mark_stories(rig.handle.now().wall).remove(0);
    assert_eq!((told.told, told.why.as_deref()), (Some(false), Some("too old")));
}

#[tokio::test]
async fn a_hold_and_a_cancel_call_it_off_too() {
    for change in [Change::Hold { until: None }, Change::Cancel] {
        let rig = start(4);
        let (job, gate) = on_its_way(&rig).await;
        rig.change(&job, change.clone()).await;
        gate.add_permits(1);
        until("it was called off", async || rig.facts(&job, "warning-put-off") == 1).await;
        assert_eq!((rig.told(), rig.facts(&job, "warning-due")), (vec![], 0), "{change:?}");
        if change != Change::Cancel {
            gate.add_permits(1);
            rig.change(&job, Change::Release { due: None }).await;
            until("the released one is told at once", async || rig.told() == ["5 minutes"]).await;
        }
    }
}

#[tokio::test]
async fn what_does_not_change_the_deadline_calls_nothing_off() {
    let rig = start(4);
    let (job, gate) = on_its_way(&rig).await;
    rig.change(&job, Change::Move { to: job.due }).await;
    gate.add_permits(1);
    until("the people are told", async || rig.told() == ["5 minutes"]).await;
}

#[tokio::test]
async fn it_goes_by_the_clock_that_jobs_go_by() {
    // The wall clock was stepped two hours ahead, and is not believed yet.
    let rig = start_with(4, Arc::default(), Arc::default(), |core| core.trust.offset -= 2 * 3_600_000);
    rig.handle.submit(warned_of()).await.unwrap();
    until("the people are told", async || rig.told() == ["5 minutes"]).await;
}
