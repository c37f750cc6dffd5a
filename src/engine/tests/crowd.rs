//! More jobs at one instant than the disk takes writes: they wait for it, and nobody is refused.

use super::super::outbox::AT_ONCE;
use super::*;

const JOBS: usize = 12_000;

#[tokio::test]
async fn twelve_thousand_jobs_at_one_instant_wait_for_the_disk() {
    let rig = start(64);
    let due = system_now().wall + Duration::from_secs(4);
    let of = |n: usize| Submission { meeting: MeetingId(format!("m-{n}")), ..submission(When::At(due)) };
    for receipt in rig.handle.submit_many((0..JOBS).map(of).collect()).await {
        receipt.unwrap();
    }
    rig.store.hold();
    until("the disk has its hands full", async || rig.store.waiting() == AT_ONCE).await;
    until("all are due", async || system_now().wall > due + Duration::from_millis(200)).await;
    let late = rig.handle.clone();
    let more = tokio::spawn(async move { late.submit(submission(When::In(Duration::from_secs(60)))).await });
    let status = rig.handle.status().await.unwrap();
    assert_eq!((rig.store.waiting(), status.store.error), (AT_ONCE, None));
    rig.store.release();
    more.await.unwrap().expect("it waited for its turn");
    until("everything is written", async || rig.handle.status().await.unwrap().store.behind == 0).await;
    let begun = rig.store.select(|job| job.state != State::Waiting).len();
    assert_eq!(begun, JOBS);
    assert_eq!(rig.handle.status().await.unwrap().store.error, None);
}
