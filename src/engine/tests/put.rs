//! Creating or moving a deadline by its key.

use super::*;

#[tokio::test]
async fn a_put_is_a_new_plan_also_at_the_time_that_people_extended_to() {
    let rig = start(1);
    let hour = Duration::from_secs(3600);
    let limits = LimitsPatch { max_extension: Some(hour), ..LimitsPatch::default() };
    let planned = system_now().wall + hour;
    let keyed =
        |at| Submission { key: Some("k".to_owned()), limits: limits.clone(), ..submission(When::At(at)) };
    let job = rig.handle.submit(keyed(planned)).await.unwrap().job;
    let by = By::Peer { uid: 0, pid: None };
    let extend = || Change::ExtendTo { until: planned + hour };
    let extended = rig.handle.change(job.id, None, extend(), by.clone()).await.unwrap().job;
    assert_eq!(extended.extension_left(), Some(Duration::ZERO));
    let more = Change::Extend { by: Duration::from_secs(1) };
    let refused = rig.handle.change(job.id, None, more, by).await.unwrap_err();
    assert!(
        refused.kind == RefusalKind::Conflict && refused.detail.contains("max-extension is 1h"),
        "{refused}"
    );
    let anew = rig.handle.put(keyed(planned + hour)).await.unwrap().job;
    assert_eq!((anew.id, anew.due, anew.extension_left()), (job.id, planned + hour, Some(hour)));
    // The same once more changes nothing.
    assert_eq!(rig.handle.put(keyed(planned + hour)).await.unwrap().job.revision, anew.revision);
}

#[tokio::test]
async fn a_put_that_repeats_the_old_time_undoes_a_move_that_is_on_its_way() {
    let rig = start(1);
    let at = |secs| When::At(system_now().wall + Duration::from_secs(secs));
    let (first, second) = (at(600), at(1200));
    let put = |when| Submission { key: Some("k".to_owned()), ..submission(when) };
    rig.handle.put(put(first)).await.unwrap();
    let (moved, back) = tokio::join!(rig.handle.put(put(second)), rig.handle.put(put(first)));
    let last = rig.handle.store().get(moved.unwrap().job.id).unwrap().unwrap();
    assert_eq!(When::At(last.due), first, "the last word wins: {:?}", back.unwrap().job.due);
}
