//! The deadlines of a meeting, extended together.

use super::*;
use crate::job::Origin;

#[tokio::test]
async fn extending_a_meeting_moves_all_its_deadlines() {
    let daemon = start();
    let body = json!({ "by": "10m" });
    let (_, answer) = daemon.post("/v1/servers/campus/meetings/math/extend", body.clone()).await;
    let due: Vec<&str> =
        answer["jobs"].as_array().unwrap().iter().map(|j| j["due"].as_str().unwrap()).collect();
    assert_eq!(due, ["2026-12-01T17:25:00.000Z", "2026-12-01T18:25:00.000Z"]);

    daemon.served.service.refuse_next(RefusalKind::Conflict, "its end was sent", "wait");
    let (status, answer) = daemon.post("/v1/servers/campus/meetings/math/extend", body.clone()).await;
    assert_eq!((status, answer["jobs"].as_array().unwrap().len()), (200, 1));
    assert_eq!(answer["refused"][0]["id"], json!(id(1)));
    assert_eq!(
        (&answer["refused"][0]["status"], &answer["refused"][0]["hint"]),
        (&json!(409), &json!("wait"))
    );

    daemon.served.service.store.jobs.lock().unwrap().push(job(8, "a/b ü", HOUR));
    let (status, _) = daemon.post("/v1/servers/campus/meetings/a%2Fb%20%C3%BC/extend", body.clone()).await;
    assert_eq!(status, 200);
    daemon.served.service.refuse_next(RefusalKind::Conflict, "its end was sent", "wait");
    let refused = daemon.post("/v1/servers/campus/meetings/a%2Fb%20%C3%BC/extend", body.clone()).await;
    Peerless::check_problem(refused, 409, "conflict", "its end was sent");
    let of = |mut job: Job| {
        let planned = job.due;
        job.origin = Origin::Schedule { name: job.id.to_string(), of: Some("daily".to_owned()), planned };
        job
    };
    let days = [of(job(20, "daily", HOUR)), of(job(21, "daily", 25 * HOUR)), job(22, "daily", 26 * HOUR)];
    daemon.served.service.store.jobs.lock().unwrap().extend(days);
    let (_, answer) = daemon.post("/v1/servers/campus/meetings/daily/extend", body.clone()).await;
    let ids = |key: &str| -> Vec<String> {
        answer[key].as_array().unwrap().iter().map(|job| job["id"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(ids("jobs"), [id(20).to_string(), id(22).to_string()]);
    assert_eq!(ids("later"), [id(21).to_string()], "tomorrow's class keeps its deadline");
    let none = daemon.post("/v1/servers/campus/meetings/nobody/extend", body).await;
    Peerless::check_problem(none, 404, "not-found", "campus/nobody has no open deadline");
}
