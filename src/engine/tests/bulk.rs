//! Many submissions at once.

use tokio::sync::oneshot;

use super::super::bulk::prepare;
use super::super::requests::Request;
use super::*;

fn keyed(n: u64, key: &str) -> Submission {
    let meeting = format!("meeting-{n}").as_str().into();
    Submission { meeting, key: Some(key.to_owned()), ..submission(When::In(Duration::from_secs(90_000 + n))) }
}

fn kinds(answers: &[Result<Receipt, Refusal>]) -> Vec<Result<bool, RefusalKind>> {
    answers.iter().map(|answer| answer.as_ref().map(|r| r.created).map_err(|r| r.kind)).collect()
}

#[tokio::test]
async fn many_are_one_commit_and_what_is_far_stays_out_of_memory() {
    let rig = start(1);
    let mut events = rig.handle.events();
    let mut many: Vec<Submission> = (0..300).map(|n| keyed(n, &format!("k{n}"))).collect();
    many.push(submission(When::In(Duration::from_secs(30))));
    let commits = *rig.store.commits.lock().unwrap();
    let answers = rig.handle.submit_many(many.clone()).await;
    assert!(answers.iter().all(|answer| answer.as_ref().unwrap().created));
    assert_eq!(*rig.store.commits.lock().unwrap() - commits, 1);
    assert_eq!(rig.store.jobs.lock().unwrap().len(), 301);
    assert_eq!(rig.handle.status().await.unwrap().in_memory, 1);
    let mut heard = std::collections::BTreeSet::new();
    while heard.len() < 301 {
        let notice = events.recv().await.unwrap();
        assert_eq!(notice.event, "submitted");
        heard.insert(notice.job.as_ref().unwrap().id);
    }
    let again = rig.handle.submit_many(many[..300].to_vec()).await;
    for (first, second) in answers.iter().zip(&again) {
        let (first, second) = (first.as_ref().unwrap(), second.as_ref().unwrap());
        assert_eq!((first.job.id, second.created), (second.job.id, false));
    }
}

#[tokio::test]
async fn every_submission_has_its_answer_in_its_place() {
    let rig = start(1);
    let before = rig.handle.submit(keyed(0, "known")).await.unwrap();
    let elsewhere = Submission { server: "elsewhere".into(), ..keyed(3, "c") };
    let past = Submission { when: When::At(UtcMs(1)), ..keyed(4, "d") };
    let answers = rig
        .handle
        .submit_many(vec![
            keyed(0, "known"),
            keyed(1, "a"),
            elsewhere,
            past,
            keyed(1, "a"),
            keyed(2, "a"),
            keyed(5, "known"),
            keyed(6, "schedule:exam"),
            keyed(7, "b"),
        ])
        .await;
    use RefusalKind::{Invalid, KeyReused};
    assert_eq!(
        kinds(&answers),
        [
            Ok(false),
            Ok(true),
            Err(Invalid),
            Err(Invalid),
            Ok(false),
            Err(KeyReused),
            Err(KeyReused),
            Err(Invalid),
            Ok(true)
        ]
    );
    assert_eq!(answers[0].as_ref().unwrap().job.id, before.job.id);
    assert_eq!(answers[4].as_ref().unwrap().job.id, answers[1].as_ref().unwrap().job.id);
    assert_eq!(rig.store.jobs.lock().unwrap().len(), 3);
    assert!(rig.handle.submit_many(Vec::new()).await.is_empty());
}

#[tokio::test]
async fn the_same_request_is_the_same_by_whatever_way_it_comes() {
    let rig = start(1);
    let by_cli = Submission { origin: Origin::Cli, by: By::Peer { uid: 7, pid: Some(7) }, ..keyed(1, "a") };
    let answers = rig.handle.submit_many(vec![keyed(1, "a")]).await;
    let again = rig.handle.submit(by_cli).await.unwrap();
    assert_eq!((again.job.id, again.created), (answers[0].as_ref().unwrap().job.id, false));
}

#[tokio::test]
async fn a_key_that_was_taken_meanwhile_is_looked_up_again_and_the_rest_is_written() {
    let rig = start(1);
    let batch = vec![keyed(1, "a"), keyed(2, "b"), keyed(3, "c")];
    let stale = prepare(&*rig.store, batch);
    let a = rig.handle.submit(keyed(1, "a")).await.unwrap().job;
    rig.handle.submit(keyed(9, "b")).await.unwrap();
    let (reply, answers) = oneshot::channel();
    rig.handle.requests.send(Request::SubmitMany(stale, reply)).await.unwrap();
    let answers = answers.await.unwrap();
    assert_eq!(kinds(&answers), [Ok(false), Err(RefusalKind::KeyReused), Ok(true)]);
    assert_eq!(answers[0].as_ref().unwrap().job.id, a.id);
    assert_eq!(rig.store.jobs.lock().unwrap().len(), 3);
}

#[tokio::test]
async fn a_full_disk_refuses_them_all_and_leaves_nothing_behind() {
    let rig = start(1);
    rig.store.fail(true);
    let soon = submission(When::In(Duration::from_secs(30)));
    let answers = rig.handle.submit_many(vec![keyed(1, "a"), soon.clone()]).await;
    assert_eq!(kinds(&answers), [Err(RefusalKind::StoreFailed); 2]);
    assert_eq!(rig.handle.status().await.unwrap().in_memory, 0);
    rig.store.fail(false);
    let answers = rig.handle.submit_many(vec![keyed(1, "a"), soon]).await;
    assert_eq!(kinds(&answers), [Ok(true); 2]);
}

#[tokio::test]
async fn a_job_can_come_held_and_then_its_time_may_have_passed() {
    let rig = start(1);
    let held = |when, until| Submission { hold: Some(Hold { until }), ..submission(when) };
    let (past, future) = (UtcMs(1), system_now().wall + Duration::from_secs(3_600));
    let answers = rig
        .handle
        .submit_many(vec![
            held(When::In(Duration::from_secs(60)), None),
            held(When::At(past), None),
            held(When::At(past), Some(UtcMs(0))),
            held(When::At(future), Some(future - Duration::from_secs(60))),
        ])
        .await;
    assert_eq!(kinds(&answers), [Ok(true), Ok(true), Err(RefusalKind::Invalid), Ok(true)]);
    for answer in answers.iter().flatten() {
        assert_eq!(rig.store.get(answer.job.id).unwrap().unwrap().state, State::Held);
    }
    assert!(rig.platform.calls.lock().unwrap().is_empty());
}
