//! Pages of jobs.

use super::*;

#[tokio::test]
async fn pages_go_through_all_jobs_newest_first() {
    let daemon = start();
    let (_, first) = daemon.get("/v1/jobs?limit=2").await;
    assert_eq!((&first["jobs"][0]["id"], &first["next"]), (&json!(id(3)), &json!(id(2))));
    let (_, last) = daemon.get(&format!("/v1/jobs?limit=2&before={}", id(2))).await;
    assert_eq!((&last["jobs"][0]["id"], &last["next"]), (&json!(id(1)), &json!(null)));
    let ids = async |query: &str| {
        let (_, page) = daemon.get(&format!("/v1/jobs?{query}")).await;
        page["jobs"].as_array().unwrap_or_else(|| panic!("{page}")).len()
    };
    assert_eq!(ids("state=waiting,held").await, 2);
    assert_eq!(ids("state=done&outcome=ended").await, 1);
    assert_eq!(ids("outcome=failed").await, 0);
    assert_eq!(ids("origin=a*&match=?ath").await, 2);
    assert_eq!(ids("origin=schedule:*").await, 0);
    assert_eq!(ids("meeting=old").await, 1);
    assert_eq!(ids("meeting=ol").await, 0);
    let unknown = daemon.get("/v1/jobs?server=lab").await;
    Peerless::check_problem(unknown, 404, "not-found", "there is no server lab");
    let unknown = daemon.get("/v1/jobs/export?server=lab").await;
    Peerless::check_problem(unknown, 404, "not-found", "there is no server lab");
    assert_eq!(ids("since=2026-12-01T19:00:00%2B01:00").await, 1);
    assert_eq!(ids("until=2026-12-01T17:30:00Z").await, 2);
    let (_, due) = daemon.get("/v1/jobs?sort=due&limit=2").await;
    assert_eq!((&due["jobs"][0]["id"], &due["jobs"][1]["id"]), (&json!(id(1)), &json!(id(2))));
    let (_, done) = daemon.get(&format!("/v1/jobs?sort=due&before={}", due["next"].as_str().unwrap())).await;
    assert_eq!((&done["jobs"][0]["id"], &done["next"]), (&json!(id(3)), &Value::Null));
    for (query, detail) in [
        ("limit=0", "limit: must be 1 to 1000"),
        ("limit=1001", "limit: must be 1 to 1000"),
        ("limit=many", "limit"),
        ("state=dead", "\"dead\" is no state; there are waiting, held"),
        ("sort=size", "unknown variant `size`"),
        ("since=2026-12-01T19:00:00+01:00", "since"),
        ("before=xyz", "before"),
    ] {
        let refused = daemon.get(&format!("/v1/jobs?{query}")).await;
        Peerless::check_problem(refused, 400, "bad-request", detail);
    }
}
