//! A simulated app: sessions, meetings, the request limit, and answers that a test puts in its mouth.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use serde_json::{Value, json};
use wiremock::matchers::any;
use wiremock::{Mock, MockServer, Request, Respond, ResponseTemplate};

use super::contract::{self, Call};
use crate::job::{BootMs, Now, UtcMs};
use crate::platform::http::Timeouts;
use crate::platform::network::Network;
use crate::platform::realtimekit::budget::Purse;
use crate::platform::realtimekit::{Account, RealtimeKit, Settings};

pub const TOKEN: &str = "cf-t0ken-of-the-app";
/// The clock in every test, ours and the server's.
pub const WALL: i64 = 1_762_418_977_000;
/// Cloudflare: so many requests in so long, and everything is refused for so long beyond it.
const LIMIT: usize = 1_200;
const WINDOW: Duration = Duration::from_secs(300);

#[derive(Clone, Debug)]
pub struct Row {
    pub id: String,
    pub meeting: String,
    pub started: UtcMs,
    /// Live until then; `None`: for ever.
    pub until: Option<BootMs>,
}

#[derive(Default)]
pub struct State {
    pub now: Now,
    pub rows: Vec<Row>,
    pub meetings: BTreeSet<String>,
    pub inactive: BTreeSet<String>,
    /// Rows of a page, whatever is asked for.
    pub page_size: Option<usize>,
    /// One live session ends before each page that is asked for.
    pub restless: bool,
    /// kick-all takes so long.
    pub lingers: Duration,
    /// Answers of a call that come before the app's own; the last one stays.
    pub scripted: BTreeMap<&'static str, VecDeque<ResponseTemplate>>,
    /// Every request: its call and ids.
    pub calls: Vec<(&'static str, Vec<String>)>,
    pub violations: Vec<String>,
    arrivals: VecDeque<BootMs>,
    pub most_in_window: usize,
    refused_until: Option<BootMs>,
    pub refused: usize,
    pub kicked: Vec<(String, Now)>,
}

pub struct App {
    pub server: MockServer,
    pub state: Arc<Mutex<State>>,
    pub legacy: bool,
}

struct Responder {
    state: Arc<Mutex<State>>,
    base: String,
    authorization: String,
}

impl App {
    pub async fn new() -> App {
        App::at("/client/v4/accounts/acc-1/realtime/kit/app-1/", &format!("Bearer {TOKEN}"), false).await
    }

    pub async fn legacy() -> App {
        // base64 of org:cf-t0ken-of-the-app
        App::at("/v2/", "Basic b3JnOmNmLXQwa2VuLW9mLXRoZS1hcHA=", true).await
    }

    async fn at(base: &str, authorization: &str, legacy: bool) -> App {
        let now = Now { wall: UtcMs(WALL), boot: BootMs(1_000_000) };
        let state = Arc::new(Mutex::new(State { now, ..State::default() }));
        let responder = Responder {
            state: Arc::clone(&state),
            base: base.to_owned(),
            authorization: authorization.to_owned(),
        };
        let server = MockServer::builder().disable_request_recording().start().await;
        Mock::given(any()).respond_with(responder).mount(&server).await;
        App { server, state, legacy }
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub fn settings(&self) -> Settings {
        let base = if self.legacy { "/v2/" } else { "/client/v4/" };
        let account = if self.legacy {
            Account::Legacy { organization_id: "org".to_owned(), secret: TOKEN.into() }
        } else {
            let (account_id, app_id) = ("acc-1".to_owned(), "app-1".to_owned());
            Account::Cloudflare { account_id, app_id, token: TOKEN.into() }
        };
        Settings {
            url: format!("{}{base}", self.server.uri()).parse().unwrap(),
            network: Network::default(),
            account,
        }
    }

    /// With a budget of its own, of which nothing is used.
    pub fn platform(&self) -> RealtimeKit {
        let state = Arc::clone(&self.state);
        let clock: crate::platform::rest::Clock = Arc::new(move || state.lock().unwrap().now);
        let timeouts = Timeouts {
            connect: Duration::from_secs(5),
            total: Duration::from_secs(10),
            listing: Duration::from_secs(10),
        };
        let purse = Some(Purse::full(Arc::clone(&clock)));
        RealtimeKit::with(&"events".into(), &self.settings(), clock, timeouts, purse).unwrap()
    }

    /// Meeting `m`, live in session `s`.
    pub fn live(&self, meeting: &str, session: &str) {
        let mut state = self.state();
        let started = state.now.wall - Duration::from_secs(60);
        state.meetings.insert(meeting.to_owned());
        state.rows.push(Row { id: session.to_owned(), meeting: meeting.to_owned(), started, until: None });
    }

    pub fn end(&self, session: &str) {
        let mut state = self.state();
        let now = state.now.boot;
        state.rows.iter_mut().filter(|row| row.id == session).for_each(|row| row.until = Some(now));
    }

    pub fn says(&self, call: &'static str, answer: ResponseTemplate) {
        self.state().scripted.entry(call).or_default().push_back(answer);
    }

    pub fn pass(&self, time: Duration) {
        let mut state = self.state();
        state.now = Now { wall: state.now.wall + time, boot: state.now.boot + time };
    }

    /// The calls since the last time.
    pub fn calls(&self) -> Vec<&'static str> {
        self.state().calls.drain(..).map(|(name, _)| name).collect()
    }
}

/// Every request must have been one that the API knows.
impl Drop for App {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            assert_eq!(self.state().violations, [""; 0]);
        }
    }
}

impl Respond for Responder {
    fn respond(&self, request: &Request) -> ResponseTemplate {
        let mut state = self.state.lock().unwrap();
        let (call, ids) = match contract::recognise(&self.base, request) {
            Ok(known) => known,
            Err(why) => {
                state.violations.push(why);
                return failure(404, "no such route");
            }
        };
        state.calls.push((call.name, ids.clone()));
        if state.is_too_much() {
            return failure(429, "slow down").insert_header("retry-after", "300");
        }
        if let Some(script) = state.scripted.get_mut(call.name)
            && let Some(next) = if script.len() > 1 { script.pop_front() } else { script.front().cloned() }
        {
            return next;
        }
        if request.headers.get("authorization").is_none_or(|value| *value != *self.authorization) {
            return failure(401, "Unauthorized");
        }
        let id = ids.first().map_or("", String::as_str);
        let query: BTreeMap<String, String> = request.url.query_pairs().into_owned().collect();
        state.answer(call, id, &query, &request.body)
    }
}

impl State {
    /// The real limit: everything is refused for five minutes beyond it.
    fn is_too_much(&mut self) -> bool {
        let now = self.now.boot;
        while self.arrivals.front().is_some_and(|at| now >= *at + WINDOW) {
            self.arrivals.pop_front();
        }
        self.arrivals.push_back(now);
        self.most_in_window = self.most_in_window.max(self.arrivals.len());
        if self.arrivals.len() > LIMIT {
            self.refused_until = Some(now + WINDOW);
        }
        let refused = self.refused_until.is_some_and(|until| now < until);
        self.refused += usize::from(refused);
        refused
    }

    fn answer(
        &mut self,
        call: &'static Call,
        id: &str,
        query: &BTreeMap<String, String>,
        body: &[u8],
    ) -> ResponseTemplate {
        let now = self.now.boot;
        let active = |row: &&mut Row| row.meeting == id && row.is_live(now);
        let answer = match call.name {
            "sessions" => self.page(query),
            "session" => match self.rows.iter().find(|row| row.id == id) {
                Some(row) => success(row.json(now)),
                None => return failure(404, "session not found"),
            },
            "active-session" => match self.rows.iter_mut().rev().find(active) {
                Some(row) => success(row.json(now)),
                None => return failure(404, "no active session"),
            },
            "kick-all" => match self.rows.iter_mut().rev().find(active) {
                Some(row) => {
                    row.until = Some(row.until.unwrap_or(now + self.lingers).min(now + self.lingers));
                    self.kicked.push((id.to_owned(), self.now));
                    success(json!({ "action": "kick_all", "kicked_participants_count": 1 }))
                }
                None => return failure(404, "no active session"),
            },
            "meetings" => {
                let mut all = success(json!([]));
                all["paging"] =
                    json!({ "total_count": self.meetings.len(), "start_offset": 1, "end_offset": 1 });
                all
            }
            _ if !self.meetings.contains(id) => return failure(404, "meeting not found"),
            "lock" => {
                let body: Value = serde_json::from_slice(body).unwrap();
                let status = body["status"].as_str().unwrap_or_default().to_owned();
                if status == "INACTIVE" {
                    self.inactive.insert(id.to_owned())
                } else {
                    self.inactive.remove(id)
                };
                success(json!({ "id": id, "status": status }))
            }
            _ => {
                let status = if self.inactive.contains(id) { "INACTIVE" } else { "ACTIVE" };
                success(json!({ "id": id, "status": status }))
            }
        };
        if let Err(why) = contract::check_answer(call, &answer) {
            self.violations.push(why);
        }
        ok(answer)
    }

    fn page(&mut self, query: &BTreeMap<String, String>) -> Value {
        let now = self.now.boot;
        let number = |key: &str| query[key].parse::<usize>().unwrap();
        if self.restless
            && let Some(row) = self.rows.iter_mut().find(|row| row.is_live(now))
        {
            row.until = Some(now);
        }
        let live: Vec<&Row> = self.rows.iter().filter(|row| row.is_live(now)).collect();
        let size = self.page_size.unwrap_or(usize::MAX).min(number("per_page"));
        let start = (number("page_no") - 1) * size;
        let page: Vec<Value> = live.iter().skip(start).take(size).map(|row| row.json(now)).collect();
        let mut answer = success(json!({ "sessions": page }));
        answer["paging"] =
            json!({ "total_count": live.len(), "start_offset": start, "end_offset": start + page.len() });
        answer
    }
}

impl Row {
    pub fn is_live(&self, now: BootMs) -> bool {
        self.until.is_none_or(|until| now < until)
    }

    /// With every field that the API promises.
    pub fn json(&self, now: BootMs) -> Value {
        let started = self.started.to_string();
        let live = self.is_live(now);
        json!({
            "id": self.id, "associated_id": self.meeting, "meeting_display_name": format!("Room {}", self.meeting),
            "type": "meeting", "status": if live { "LIVE" } else { "ENDED" },
            "live_participants": if live { 3 } else { 0 }, "max_concurrent_participants": 3, "minutes_consumed": 7.5,
            "organization_id": "app-1", "started_at": started, "created_at": started, "updated_at": started,
            "breakout_rooms": []
        })
    }
}

pub fn success(data: Value) -> Value {
    json!({ "success": true, "data": data })
}

pub fn ok(answer: Value) -> ResponseTemplate {
    answer_of(200, answer)
}

/// The platform's own form.
pub fn failure(status: u16, message: &str) -> ResponseTemplate {
    answer_of(status, json!({ "success": false, "error": { "code": status, "message": message } }))
}

/// The gateway's.
pub fn gateway(status: u16, code: u32, message: &str) -> ResponseTemplate {
    let errors = json!([{ "code": code, "message": message }]);
    answer_of(status, json!({ "success": false, "errors": errors, "messages": [], "result": null }))
}

pub fn html(status: u16) -> ResponseTemplate {
    ResponseTemplate::new(status).set_body_raw("<!DOCTYPE html><html>Just a moment...</html>", "text/html")
}

pub fn answer_of(status: u16, body: Value) -> ResponseTemplate {
    // Without it the mock tells the real date, and start times are corrected for that.
    ResponseTemplate::new(status).set_body_json(body).insert_header("Date", "Thu, 06 Nov 2025 08:49:37 GMT")
}
