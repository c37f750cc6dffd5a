//! Two thousand meetings due at one instant on an app that refuses everything for five minutes to whoever asks more than
//! 1,200 times in five: the heart, the lane and the platform as they are, on a clock that is set.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use super::super::callbook::CallBook;
use super::super::lane::Urgency;
use super::super::server::{Server, target};
use super::super::wakes::Wakes;
use super::server_settings;
use crate::job::*;
use crate::platform::realtimekit::tests::app::App;
use crate::platform::{EndCall, Memory, Round, Target};

/// How long an end call and a round take.
const CALL: Duration = Duration::from_millis(150);
const ROUND: Duration = Duration::from_millis(600);

/// What comes back later.
enum Pending {
    Answered {
        job: JobId,
        attempt: u32,
        answer: EndAnswer,
    },
    /// `urgency` is absent for a look in an end call's turn.
    Round {
        targets: Vec<Target>,
        round: Round,
        urgency: Option<Urgency>,
    },
}

struct Rig {
    app: App,
    server: Server,
    jobs: BTreeMap<JobId, Job>,
    planned: BTreeMap<JobId, Wake>,
    wakes: Wakes,
    pending: BTreeMap<(BootMs, usize), Pending>,
    calls: Vec<EndCall>,
    in_turn: Vec<JobId>,
    count: usize,
    /// What each round of looks cost, by purpose.
    rounds: Vec<(Purpose, usize)>,
}

impl Rig {
    fn new(app: App, max_concurrent: usize) -> Rig {
        let now = app.state().now;
        let platform = Arc::new(app.platform());
        let server = Server::new(platform, &server_settings(max_concurrent), Memory::default(), now);
        Rig {
            app,
            server,
            jobs: BTreeMap::new(),
            planned: BTreeMap::new(),
            wakes: Wakes::default(),
            pending: BTreeMap::new(),
            calls: Vec::new(),
            in_turn: Vec::new(),
            count: 0,
            rounds: Vec::new(),
        }
    }

    fn submit(&mut self, n: u128, due: UtcMs) {
        // Ids are drawn at random in life: the arms are spread by them.
        let id = JobId(Uuid::from_u128(n.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835)));
        let order = Order {
            id,
            server: "events".into(),
            meeting: MeetingId(format!("m-{n}")),
            only: None,
            key: None,
            limits: Limits::default(),
            at_most: None,
            max_duration: None,
            due,
            origin: Origin::Api,
            by: By::Schedule,
        };
        let job = Job::submit(order, self.app.state().now);
        self.jobs.insert(id, job);
        self.step(id, Event::Tick);
    }

    fn step(&mut self, id: JobId, event: Event) {
        let now = self.app.state().now;
        let Some(job) = self.jobs.remove(&id) else { return };
        let (job, effects) = step(job, event, now);
        for effect in effects {
            match effect {
                Effect::Look(purpose) => self.server.lane.queue_look(id, purpose),
                Effect::QueueEnd { next } => self.server.lane.queue_end(id, job.ends == 0, next),
                Effect::LookInTurn => self.in_turn.push(id),
                Effect::Call { attempt, resend, .. } => {
                    let (meeting, pin) = (job.meeting.clone(), job.pin.clone().unwrap());
                    self.calls.push(EndCall { job: id, meeting, pin, attempt, resend });
                }
                Effect::QueueWarning | Effect::Warn(_) => panic!("nobody is warned here"),
                Effect::EndAgain => panic!("nothing comes back here"),
            }
        }
        let wake = job.wake(now);
        let old = self.planned.insert(id, wake).unwrap_or_default();
        self.wakes.remove(id, old);
        self.wakes.insert(id, wake);
        self.jobs.insert(id, job);
    }

    fn later(&mut self, after: Duration, pending: Pending) {
        self.count += 1;
        let at = self.app.state().now.boot + after;
        self.pending.insert((at, self.count), pending);
    }

    /// As the engine pumps a lane.
    async fn pump(&mut self) {
        let now = self.app.state().now.boot;
        while self.server.end_at(now).is_some_and(|at| at <= now)
            && let Some(id) = self.server.lane.next_end()
        {
            let site = self.server.site(self.jobs[&id].pin.as_ref());
            let before = self.calls.len() + self.in_turn.len();
            self.step(id, Event::Slot { site, carrier: None });
            if self.calls.len() + self.in_turn.len() == before {
                self.server.lane.end_answered();
            }
        }
        for call in std::mem::take(&mut self.calls) {
            let answer = self.server.platform.end(&call).await;
            self.later(CALL, Pending::Answered { job: call.job, attempt: call.attempt, answer });
        }
        for id in std::mem::take(&mut self.in_turn) {
            let targets = vec![target(&self.jobs[&id], Purpose::Last, &CallBook::default())];
            let round = self.server.platform.look(&targets).await;
            self.later(CALL, Pending::Round { targets, round, urgency: None });
        }
        for urgency in Urgency::ALL {
            self.pump_round(urgency).await;
        }
    }

    async fn pump_round(&mut self, urgency: Urgency) {
        let now = self.app.state().now.boot;
        if self.server.round_at(urgency, now).is_some_and(|at| at <= now) {
            let wanted = self.server.lane.start_round(urgency, now);
            let book = CallBook::default();
            let targets: Vec<Target> =
                wanted.iter().map(|(id, purpose)| target(&self.jobs[id], *purpose, &book)).collect();
            let before = self.app.state().calls.len();
            let round = self.server.platform.look(&targets).await;
            let cost = self.app.state().calls.len() - before;
            self.rounds.push((targets[0].purpose, cost));
            self.later(ROUND, Pending::Round { targets, round, urgency: Some(urgency) });
        }
    }

    fn deliver(&mut self, pending: Pending) {
        let now = self.app.state().now;
        match pending {
            Pending::Answered { job, attempt, answer } => {
                self.server.lane.end_answered();
                self.step(job, Event::Answered { attempt, answer });
            }
            Pending::Round { targets, round, urgency } => {
                let answered = !round.trouble.contains_key("");
                match urgency {
                    Some(urgency) => self.server.lane.round_done(urgency, now.boot, ROUND, answered),
                    None => self.server.lane.end_answered(),
                }
                let judged = self.server.platform.judge(&Memory::default(), &round, &targets);
                for (target, verdict) in targets.iter().zip(judged.verdicts) {
                    let Target { job, purpose, .. } = *target;
                    let site = self.server.site(self.jobs[&job].pin.as_ref());
                    let knows = Box::new(Knowledge { site, called_by: None });
                    self.step(
                        job,
                        Event::Looked { purpose, sent: round.sent, received: now, verdict, knows },
                    );
                }
            }
        }
    }

    /// Until every job is done and nothing is left to come, or too much time has passed.
    async fn run(&mut self, at_most: Duration) {
        let end = self.app.state().now.boot + at_most;
        loop {
            let now = self.app.state().now;
            while let Some(&(at, n)) = self.pending.keys().next()
                && at <= now.boot
            {
                let pending = self.pending.remove(&(at, n)).unwrap();
                self.deliver(pending);
            }
            for id in self.wakes.take_due(now) {
                self.step(id, Event::Tick);
            }
            self.pump().await;
            if now.boot >= end || self.jobs.values().all(|job| job.is_done() && !job.after_look) {
                return;
            }
            let rounds = Urgency::ALL.map(|urgency| self.server.round_at(urgency, now.boot));
            let lane = [self.server.end_at(now.boot)].into_iter().chain(rounds);
            let next = self.pending.keys().next().map(|(at, _)| *at);
            let wakes = self.wakes.first();
            let wall = wakes.wall.map(|at| now.boot + Duration::from_millis(at.0.abs_diff(now.wall.0)));
            let next = lane.chain([next, wakes.boot, wall]).flatten().min();
            let pause = next.map_or(Duration::from_secs(1), |next| next.since(now.boot));
            self.app.pass(pause.max(Duration::from_millis(1)));
        }
    }

    fn outcomes(&self) -> BTreeMap<Option<Outcome>, usize> {
        let mut outcomes = BTreeMap::new();
        self.jobs.values().for_each(|job| *outcomes.entry(job.outcome).or_default() += 1);
        outcomes
    }
}

async fn burst(meetings: u128, max_concurrent: usize) -> (Rig, UtcMs) {
    let app = App::new().await;
    (0..meetings).for_each(|n| app.live(&format!("m-{n}"), &format!("s-{n}")));
    app.state().lingers = Duration::from_secs(3);
    let due = app.state().now.wall + Duration::from_secs(60);
    let mut rig = Rig::new(app, max_concurrent);
    (0..meetings).for_each(|n| rig.submit(n, due));
    (rig, due)
}

#[tokio::test]
async fn two_thousand_meetings_due_at_once_are_all_ended_within_the_limit() {
    let (mut rig, due) = burst(2_000, 256).await;
    rig.run(Duration::from_secs(3_600)).await;
    assert_eq!(rig.outcomes(), BTreeMap::from([(Some(Outcome::Ended), 2_000)]));
    let state = rig.app.state();
    assert_eq!(state.refused, 0);
    assert!(state.most_in_window <= 1_100, "{}", state.most_in_window);
    let late: Vec<i64> = state.kicked.iter().map(|(_, at)| at.wall.ms_since(due)).collect();
    let last = late.iter().max().unwrap() / 1_000;
    let on_time = late.iter().filter(|ms| **ms < 5_000).count();
    let arms = rig.rounds.iter().filter(|(purpose, _)| *purpose == Purpose::Arm);
    println!("on time {on_time}, last after {last} s, most in a window {}", state.most_in_window);
    let requests: usize = rig.rounds.iter().map(|(_, cost)| cost).sum();
    println!("{} rounds of {requests} requests: {:?}", rig.rounds.len(), rig.rounds);
    assert_eq!(late.len(), 2_000, "one call for each");
    assert!(late.iter().all(|ms| *ms >= 0) && on_time >= 900, "{on_time}");
    // Whose turn comes when the shared listing is old looks once more by itself: two requests for each of these.
    assert!(last < 900, "the others leave as soon as the window allows: {last} s");
    assert!(arms.count() <= 3, "{:?}", rig.rounds);
    assert!(rig.rounds.len() <= 60, "{:?}", rig.rounds);
}
