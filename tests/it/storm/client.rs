//! One client of the storm: asks for one thing after another over the control socket until an answer fails to come.

use std::path::Path;

use adjourn::clock;
use adjourn::sandbox::{Control, NewMeeting};
use fastrand::Rng;
use reqwest::Method;
use serde_json::{Value, json};

use super::ledger::{Known, Op, View};

/// Requests of one client in one round.
const MOST_REQUESTS: usize = 40;
/// Jobs that a client looks after; beyond, it changes what there is.
const MOST_JOBS: usize = 400;
const HOUR_MS: i64 = 3_600_000;

/// What became of a request.
pub enum Answer {
    Done(u16, Value),
    Refused(u16, Value),
    /// It may have happened, or not.
    Lost,
}

/// The control socket.
#[derive(Clone)]
pub struct Wire {
    http: reqwest::Client,
}

impl Wire {
    pub fn new(socket: &Path) -> Wire {
        let http = reqwest::Client::builder()
            .unix_socket(socket)
            .http1_only()
            .no_proxy()
            .tls_certs_only([])
            .timeout(std::time::Duration::from_secs(20))
            .build()
            .unwrap();
        Wire { http }
    }

    pub async fn ask(
        &self,
        method: Method,
        path: &str,
        body: &Value,
        header: Option<(&str, &str)>,
    ) -> Answer {
        let mut request = self.http.request(method, format!("http://adjourn/v1/{path}")).json(body);
        if let Some((name, value)) = header {
            request = request.header(name, value);
        }
        let Ok(response) = request.send().await else { return Answer::Lost };
        let status = response.status().as_u16();
        let Ok(body) = response.json().await else { return Answer::Lost };
        match status {
            200..300 => Answer::Done(status, body),
            // Its time was up: what was asked for may still happen.
            504 => Answer::Lost,
            _ => Answer::Refused(status, body),
        }
    }
}

/// A submit, kept to be sent again word for word.
#[derive(Clone, Debug)]
pub struct Submit {
    pub key: String,
    pub body: Value,
    /// `PUT` by key rather than `POST`.
    pub put: bool,
}

impl Submit {
    pub async fn send(&self, wire: &Wire) -> Answer {
        if self.put {
            return wire
                .ask(Method::PUT, &format!("jobs/by-key/campus/{}", self.key), &self.body, None)
                .await;
        }
        wire.ask(Method::POST, "jobs", &self.body, Some(("idempotency-key", &self.key))).await
    }
}

/// Counts of what the storm did.
#[derive(Clone, Copy, Default, Debug)]
pub struct Counts {
    pub acknowledged: u64,
    pub refused: u64,
    pub lost: u64,
}

/// A client with the jobs that it alone changes.
pub struct Client {
    pub name: String,
    pub rng: Rng,
    pub jobs: Vec<(Known, Submit)>,
    /// Submits whose answer was lost.
    pub lost: Vec<Submit>,
    pub counts: Counts,
    /// Of this round: extensions of the shared job that were acknowledged, and that may have happened.
    pub shared: (u64, u64),
    /// What must not be, seen while asking.
    pub wrong: Vec<String>,
    submitted: u64,
}

impl Client {
    pub fn new(name: String, seed: u64) -> Client {
        Client {
            name,
            rng: Rng::with_seed(seed),
            jobs: Vec::new(),
            lost: Vec::new(),
            counts: Counts::default(),
            shared: (0, 0),
            wrong: Vec::new(),
            submitted: 0,
        }
    }

    /// Until an answer fails to come, or the round's requests are used up.
    pub async fn run(mut self, wire: Wire, sandbox: Control, shared: String) -> Client {
        for _ in 0..MOST_REQUESTS {
            let went_on = match self.rng.u32(0..100) {
                0..20 => self.submit(&wire, &sandbox).await,
                20..30 => self.extend_shared(&wire, &shared).await,
                30..40 => self.be_refused(&wire).await,
                _ => self.change(&wire).await,
            };
            if !went_on {
                break;
            }
        }
        self
    }

    async fn submit(&mut self, wire: &Wire, sandbox: &Control) -> bool {
        let open = self.jobs.iter().filter(|(known, _)| !known.view.is_done()).count();
        if open >= MOST_JOBS {
            return self.change(wire).await;
        }
        self.submitted += 1;
        let meeting = format!("{}-{}", self.name, self.submitted);
        let near = self.rng.u32(0..3) == 0;
        let put = !near && self.rng.bool();
        let body = if near {
            sandbox
                .create_meeting(&NewMeeting { created_ago_ms: 60_000, ..NewMeeting::new(&meeting) })
                .unwrap();
            json!({"server": "campus", "meeting": meeting, "in": format!("{}ms", self.rng.u32(100..3_000))})
        } else {
            json!({"server": "campus", "meeting": meeting, "at": instant(self.far())})
        };
        let submit = Submit { key: format!("key-{meeting}"), body, put };
        match self.count(submit.send(wire).await) {
            Answer::Done(_, job) => {
                self.jobs.push((Known::acknowledged(View::read(&job)), submit));
                true
            }
            Answer::Refused(status, body) => self.is_wrong(format!("a new job was refused: {status} {body}")),
            Answer::Lost => {
                self.lost.push(submit);
                false
            }
        }
    }

    async fn extend_shared(&mut self, wire: &Wire, shared: &str) -> bool {
        let path = format!("jobs/{shared}/extend");
        match self.count(wire.ask(Method::POST, &path, &json!({"by": "1s"}), None).await) {
            Answer::Done(..) => self.shared.0 += 1,
            Answer::Refused(status, body) => return self.is_wrong(format!("extend: {status} {body}")),
            Answer::Lost => {
                self.shared.1 += 1;
                return false;
            }
        }
        true
    }

    /// What must be refused, and must then not have happened.
    async fn be_refused(&mut self, wire: &Wire) -> bool {
        let Some(index) = self.pick() else { return true };
        let (known, submit) = &self.jobs[index];
        let answer = if self.rng.bool() {
            let other = Submit {
                body: json!({"server": "campus", "meeting": "another", "in": "9h"}),
                ..submit.clone()
            };
            other.send(wire).await
        } else {
            let path = format!("jobs/{}", known.view.id);
            wire.ask(Method::PATCH, &path, &json!({"in": "9h"}), Some(("if-match", "\"999999\""))).await
        };
        self.jobs[index].0.fresh = true;
        match self.count(answer) {
            Answer::Done(status, body) => self.is_wrong(format!("not refused: {status} {body}")),
            Answer::Refused(..) => true,
            // It cannot have happened.
            Answer::Lost => false,
        }
    }

    async fn change(&mut self, wire: &Wire) -> bool {
        let Some(index) = self.pick() else { return true };
        let view = self.jobs[index].0.view.clone();
        if is_near(&view) && self.rng.u32(0..3) > 0 {
            // Most of what is due soon is left to become due.
            return true;
        }
        let op = self.choose(&view);
        let answer = match op {
            Op::Extend { by_ms } => {
                let path = format!("jobs/{}/extend", view.id);
                wire.ask(Method::POST, &path, &json!({"by": format!("{by_ms}ms")}), None).await
            }
            Op::Move { due_ms } if self.jobs[index].1.put => {
                let body = json!({"meeting": view.meeting, "at": instant(due_ms)});
                Submit { body, ..self.jobs[index].1.clone() }.send(wire).await
            }
            Op::Move { due_ms } => {
                let (path, revision) = (format!("jobs/{}", view.id), format!("\"{}\"", view.revision));
                wire.ask(Method::PATCH, &path, &json!({"at": instant(due_ms)}), Some(("if-match", &revision)))
                    .await
            }
            Op::Hold => wire.ask(Method::POST, &format!("jobs/{}/hold", view.id), &json!({}), None).await,
            Op::Release => {
                wire.ask(Method::POST, &format!("jobs/{}/release", view.id), &json!({}), None).await
            }
            Op::Cancel => wire.ask(Method::DELETE, &format!("jobs/{}", view.id), &json!({}), None).await,
        };
        match self.count(answer) {
            Answer::Done(_, job) => self.jobs[index].0 = Known::acknowledged(View::read(&job)),
            // Too late, or its due passed while it was held: all is as it was.
            Answer::Refused(..) => {}
            Answer::Lost => {
                self.jobs[index].0.maybe = Some(op);
                self.jobs[index].0.fresh = true;
                return false;
            }
        }
        true
    }

    fn choose(&mut self, view: &View) -> Op {
        let held = view.state == "held";
        // What is due soon stays so, or is moved out of the way.
        let most = if is_near(view) { 1_000 } else { 60_000 };
        match self.rng.u32(0..100) {
            0..30 => Op::Extend { by_ms: i64::from(self.rng.u32(1..most)) },
            30..45 => Op::Move { due_ms: self.far() },
            45..50 => Op::Cancel,
            _ if held => Op::Release,
            _ => Op::Hold,
        }
    }

    /// One of the jobs that are not done, rather a late one.
    fn pick(&mut self) -> Option<usize> {
        let open: Vec<usize> =
            (0..self.jobs.len()).filter(|&index| !self.jobs[index].0.view.is_done()).collect();
        let recent = &open[open.len().saturating_sub(40)..];
        let from = if self.rng.bool() { recent } else { &open };
        self.rng.choice(from.iter().copied())
    }

    fn far(&mut self) -> i64 {
        clock::system_now().wall.0 + HOUR_MS * 48 + i64::from(self.rng.u32(0..36_000_000))
    }

    fn count(&mut self, answer: Answer) -> Answer {
        match answer {
            Answer::Done(..) => self.counts.acknowledged += 1,
            Answer::Refused(..) => self.counts.refused += 1,
            Answer::Lost => self.counts.lost += 1,
        }
        answer
    }

    fn is_wrong(&mut self, what: String) -> bool {
        self.wrong.push(format!("{}: {what}", self.name));
        true
    }
}

fn is_near(view: &View) -> bool {
    view.due_ms < clock::system_now().wall.0 + HOUR_MS
}

fn instant(ms: i64) -> String {
    adjourn::job::UtcMs(ms).to_string()
}
