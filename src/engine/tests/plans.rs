//! Plans against what happens to their jobs meanwhile: a plan never puts an old copy of a job into memory.

use super::super::core::Inner;
use super::active::Active;
use super::reload::settings;
use super::still::{job, pinned, put, still};
use super::*;

const HOUR: Duration = Duration::from_secs(3600);

/// As an entry of the file made it.
fn of_the_file(mut job: Job) -> Job {
    job.origin = Origin::Schedule { name: "exam".to_owned(), of: None, planned: job.due };
    let key = format!("schedule:exam\u{1f}{}\u{1f}\u{1f}{}", job.meeting, job.due.0);
    job.key = Some(Key { key, fingerprint: String::new() });
    job
}

/// Starts with a file that has no entries any more, and goes on until this comes in.
async fn until_there_is(
    core: &mut Core,
    inner: &mut mpsc::UnboundedReceiver<Inner>,
    wanted: impl Fn(&Inner) -> bool,
) -> Inner {
    core.start_with(&settings(&[]), None).unwrap();
    loop {
        let message = tokio::time::timeout(Duration::from_secs(20), inner.recv()).await;
        let message = message.expect("in time").expect("the core holds the other end");
        if wanted(&message) {
            return message;
        }
        core.inner(message);
    }
}

/// Somebody puts the job aside, and is told that it is so.
fn put_aside(core: &mut Core, job: &Job) {
    let by = By::Peer { uid: 0, pid: None };
    let held = job.change(&Change::Hold { until: None }, by, core.now()).unwrap();
    let write = Write::Put { job: Box::new(held.clone()), expected: Some(job.revision) };
    core.store.commit(vec![write], Box::new(|written| written.unwrap()));
    core.active.insert(job.id, Active::written(held));
}

#[tokio::test]
async fn a_plan_is_made_anew_when_a_job_has_come_further_since() {
    let (mut core, mut inner) = still();
    let job = of_the_file(job(1, core.now().wall + HOUR, Origin::Api));
    put(&core, &job);
    let planned = until_there_is(&mut core, &mut inner, |it| matches!(it, Inner::Planned(_))).await;
    put_aside(&mut core, &job);
    let Inner::Planned(Ok(plan)) = &planned else { panic!("{planned:?}") };
    assert_eq!(apply::changed(plan).collect::<Vec<_>>(), [job.id]);
    core.inner(planned);
    assert!(!core.active[&job.id].is_locked(), "what was decided before the hold is not done");
}

#[tokio::test]
async fn what_left_memory_while_a_plan_read_it_is_not_brought_back() {
    let (mut core, mut inner) = still();
    let job = of_the_file(job(1, core.now().wall + HOUR, Origin::Api));
    put(&core, &job);
    let is_fetched = |it: &Inner| matches!(it, Inner::PlanFetched { .. });
    let fetched = until_there_is(&mut core, &mut inner, is_fetched).await;
    put_aside(&mut core, &job);
    core.forget(job.id);
    core.inner(fetched);
    assert!(!core.active.contains_key(&job.id), "what was read is older than the hold");
}

/// An earlier process may have called: that is known before the plan's change is made, and to all jobs.
#[tokio::test]
async fn a_job_that_a_plan_brings_is_known_with_what_it_may_have_done() {
    let (mut core, mut inner) = still();
    let now = core.now();
    let mut late = of_the_file(pinned(1, now.wall));
    late.record(now, Fact::DueReached { late_ms: 0 });
    late.record(now, Fact::Claimed);
    put(&core, &late);
    let is_fetched = |it: &Inner| matches!(it, Inner::PlanFetched { .. });
    let fetched = until_there_is(&mut core, &mut inner, is_fetched).await;
    core.inner(fetched);
    assert!(core.active[&late.id].is_locked());
    assert!(core.book.has_failed(&"i".into()));
}
