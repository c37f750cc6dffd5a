//! Turns in the lane: none is lost, and none is kept by a job that does not use it.

use tokio::sync::Semaphore;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

/// Of so many meetings that are due at once the first call hangs, and the others wait for their turn: the jobs, in the order
/// of their turns, and what lets calls be answered.
async fn waiting_for_turns(rig: &Rig, meetings: usize) -> (Vec<JobId>, Arc<Semaphore>) {
    let gate = Arc::new(Semaphore::new(0));
    *rig.platform.hold_ends.lock().unwrap() = Some(gate.clone());
    let mut jobs = Vec::new();
    for n in 0..meetings {
        let meeting = MeetingId(format!("math-{n}"));
        let submission = Submission { meeting, ..submission(When::In(SECOND)) };
        jobs.push(rig.handle.submit(submission).await.unwrap().job.id);
    }
    until("one is called and the others wait", async || lane(rig).await == (1, meetings - 1)).await;
    // What has been learnt by then is written.
    SystemClock.sleep(SECOND / 10).await;
    let stored = |id: &JobId| rig.store.get(*id).unwrap().unwrap();
    jobs.sort_by_key(|id| (stored(id).ends == 0, *id));
    (jobs, gate)
}

/// Calls under way, and those that wait.
async fn lane(rig: &Rig) -> (usize, usize) {
    let status = rig.handle.status().await.unwrap();
    let server = &status.servers[&ServerName::from("campus")];
    (server.ends_in_flight, server.ends_queued)
}

/// The change came to nothing: the job is what it was, and still waits for its call.
#[tokio::test]
async fn a_turn_that_comes_while_the_job_is_locked_is_asked_for_again() {
    let rig = start(1);
    let (jobs, gate) = waiting_for_turns(&rig, 2).await;
    rig.store.hold();
    let (handle, second) = (rig.handle.clone(), jobs[1]);
    let by = By::Peer { uid: 0, pid: None };
    let change = Change::Extend { by: 60 * SECOND };
    let extended = tokio::spawn(async move { handle.change(second, None, change, by).await });
    until("the change is on its way", async || rig.store.waiting() > 0).await;
    gate.add_permits(1);
    until("the turn has come", async || lane(&rig).await == (0, 0)).await;
    assert_eq!(rig.platform.calls.lock().unwrap().len(), 1, "not while it is being changed");
    rig.store.fail(true);
    rig.store.release();
    assert!(extended.await.unwrap().is_err());
    rig.store.fail(false);
    until("it is called at", async || rig.platform.calls.lock().unwrap().len() == 2).await;
    assert_eq!(lane(&rig).await, (1, 0), "in a turn of its own");
    gate.add_permits(1);
}

/// The same of a warning, for which there is room only when another one has been told.
#[tokio::test]
async fn a_warning_whose_turn_comes_while_the_job_is_locked_is_told_all_the_same() {
    let rig = start(1);
    let gate = Arc::new(Semaphore::new(0));
    *rig.platform.hold_warnings.lock().unwrap() = Some(gate.clone());
    let limits = LimitsPatch { warn: Some(vec![600 * SECOND]), ..LimitsPatch::default() };
    let mut jobs = Vec::new();
    for n in 0..5 {
        let meeting = MeetingId(format!("math-{n}"));
        let warned = Submission { meeting, limits: limits.clone(), ..submission(When::In(300 * SECOND)) };
        jobs.push(rig.handle.submit(warned).await.unwrap().job.id);
    }
    until("four are on their way", async || *rig.platform.warnings.lock().unwrap() == 4).await;
    SystemClock.sleep(SECOND / 10).await;
    rig.store.hold();
    let (handle, last) = (rig.handle.clone(), jobs[4]);
    let by = By::Peer { uid: 0, pid: None };
    let held = tokio::spawn(async move { handle.change(last, None, Change::Hold { until: None }, by).await });
    until("the change is on its way", async || rig.store.waiting() > 0).await;
    gate.add_permits(4);
    until("four are told", async || rig.platform.told.lock().unwrap().len() == 4).await;
    rig.store.fail(true);
    rig.store.release();
    assert!(held.await.unwrap().is_err());
    rig.store.fail(false);
    gate.add_permits(1);
    until("the fifth is told", async || rig.platform.told.lock().unwrap().len() == 5).await;
}

/// What is being written is not changed by anything else: it would be lost when that is durable.
#[tokio::test]
async fn what_happens_to_a_locked_job_waits() {
    let (mut core, _inner) = still::still();
    let mut unlisted = still::pinned(1, system_now().wall + 60 * SECOND);
    unlisted.pin.as_mut().unwrap().listed = false;
    let id = unlisted.id;
    let mut locked = active::Active::written(unlisted.clone());
    locked.lock(active::Writing::Plan(Box::new(unlisted)), system_now());
    core.active.insert(id, locked);
    assert!(!core.step(id, Event::Listed));
    let active = &core.active[&id];
    assert_eq!((active.deferred.len(), active.job.pin.as_ref().unwrap().listed), (1, false));
}

#[tokio::test]
async fn a_turn_that_nobody_uses_is_given_back() {
    let rig = start(1);
    let (jobs, gate) = waiting_for_turns(&rig, 3).await;
    let by = By::Peer { uid: 0, pid: None };
    rig.handle.change(jobs[1], None, Change::Hold { until: None }, by).await.unwrap();
    gate.add_permits(100);
    until("the last one is called", async || rig.platform.calls.lock().unwrap().len() == 2).await;
    until("no turn is kept", async || lane(&rig).await == (0, 0)).await;
}
