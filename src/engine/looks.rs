//! Looks at one server: rounds that many jobs share, the single look in an end call's own turn, and what their answers are
//! worth.
//!
//! A round is handed on in parts: what a job waits for is weighed as soon as its own evidence is complete, whatever the
//! rest of the round still waits for.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::time::Duration;

use super::core::{Core, Inner};
use super::lane::Urgency;
use super::server::target;
use crate::job::{Event, Job, JobId, Knowledge, Now, Pin, Purpose, ServerName, Sighting, Verdict};
use crate::platform::{Listed, Memory, Part, Round, Target};
use crate::store::Change;

/// What is remembered of a server is written at most this often, unless it matters at once.
const REMEMBER_EVERY: Duration = Duration::from_secs(10);

/// Where the answers of a look go.
enum Over {
    Round(Urgency),
    /// The turn of the end call that it was made for is given back.
    Turn,
}

impl Core {
    /// Starts the rounds of looks that may start.
    pub(super) fn pump_looks(&mut self, name: &ServerName) {
        Urgency::ALL.into_iter().for_each(|urgency| self.start_round(name, urgency));
    }

    fn start_round(&mut self, name: &ServerName, urgency: Urgency) {
        let now = self.now();
        let Some(server) = self.servers.get_mut(name) else { return };
        if server.round_at(urgency, now.boot).is_none_or(|at| at > now.boot) {
            return;
        }
        let wanted = server.lane.start_round(urgency, now.boot);
        if wanted.is_empty() {
            return;
        }
        let targets: Vec<Target> = wanted
            .into_iter()
            .filter_map(|(id, purpose)| {
                let job = &self.active.get(&id)?.job;
                job.run.looking.map(|_| target(job, purpose, &self.book))
            })
            .collect();
        if targets.is_empty() {
            return server.lane.round_done(urgency, now.boot, Duration::ZERO, true);
        }
        self.send_look(name, targets, Over::Round(urgency));
    }

    /// Looks at one meeting in the turn of its end call.
    pub(super) fn look_in_turn(&mut self, id: JobId) {
        let Some(active) = self.active.get(&id) else { return };
        let (name, target) = (active.job.server.clone(), target(&active.job, Purpose::Last, &self.book));
        self.send_look(&name, vec![target], Over::Turn);
    }

    fn send_look(&mut self, name: &ServerName, targets: Vec<Target>, over: Over) {
        let Some(server) = self.servers.get_mut(name) else { return };
        server.looks_sent += 1;
        let (platform, inbox, clock) = (server.platform.clone(), self.inbox.clone(), self.clock.clone());
        let (server, epoch) = (name.clone(), server.epoch());
        self.tasks.spawn(async move {
            let sent = clock.now();
            // Which targets are still to be handed on, and whether the front was heard at all.
            let rest: Mutex<(Vec<bool>, bool)> = Mutex::new((vec![true; targets.len()], false));
            let hand_on = |part: Part| {
                let mut rest = rest.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                let about: Vec<Target> = part.about.iter().map(|place| targets[*place].clone()).collect();
                part.about.iter().for_each(|place| rest.0[*place] = false);
                rest.1 |= !part.round.trouble.contains_key("");
                // The engine is gone only when the daemon is.
                let (server, targets, round) = (server.clone(), about, part.round);
                let _ = inbox.send(Inner::Round { server, epoch, targets, round });
            };
            platform.look_in_parts(&targets, &hand_on).await;
            let received = clock.now();
            let (left, answered) = {
                let rest = rest.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                let left: Vec<usize> = (0..targets.len()).filter(|place| rest.0[*place]).collect();
                (left, rest.1)
            };
            if !left.is_empty() {
                let why = "the look ended without an answer".to_owned();
                let sightings = left.iter().map(|_| Sighting::Unreachable(why.clone())).collect();
                let (listings, trouble) = (BTreeMap::new(), BTreeMap::new());
                hand_on(Part {
                    about: left,
                    round: Round { sent, received, sightings, listings, trouble, ..Round::default() },
                });
            }
            let took = received.since(sent);
            let _ = inbox.send(match over {
                Over::Round(urgency) => Inner::RoundOver { server, urgency, took, answered },
                Over::Turn => Inner::TurnOver { server, took, answered },
            });
        });
    }

    pub(super) fn round_over(&mut self, name: &ServerName, urgency: Urgency, took: Duration, answered: bool) {
        let now = self.now();
        let Some(server) = self.servers.get_mut(name) else { return };
        server.lane.round_done(urgency, now.boot, took, answered);
        if answered {
            server.note_answer_time(took);
        }
        self.touched.insert(name.clone());
    }

    /// The single look in an end call's turn is over; what it showed has been weighed.
    pub(super) fn turn_over(&mut self, name: &ServerName, took: Duration, answered: bool) {
        let Some(server) = self.servers.get_mut(name) else { return };
        server.lane.end_answered();
        if answered {
            server.note_answer_time(took);
        }
        self.touched.insert(name.clone());
    }

    /// Weighs a part of a round, and hands each job its verdict.
    pub(super) fn part_answered(&mut self, name: &ServerName, epoch: u32, targets: &[Target], round: &Round) {
        let Some(server) = self.servers.get_mut(name) else { return };
        if server.epoch() != epoch {
            return self.answer_from_before_a_reload(name, targets, round);
        }
        server.note_reachable(name, round.trouble.get("").map_or(Ok(()), |why| Err(why.as_str())));
        let judgement = server.platform.judge(&server.memory, round, targets);
        let kind = server.platform.kind();
        judgement.verdicts.iter().for_each(|verdict| self.metrics.looked(kind, name, verdict));
        self.remember(name, judgement.memory, judgement.alarms);
        self.note_listed(name, round);
        let (sent, received) = (self.believed(round.sent), self.believed(round.received));
        let weighed: Vec<(Verdict, Knowledge)> = targets
            .iter()
            .zip(judgement.verdicts)
            .filter_map(|(target, verdict)| self.knowing(name, target, verdict))
            .collect();
        for (target, (verdict, knows)) in targets.iter().zip(weighed) {
            self.step(
                target.job,
                Event::Looked { purpose: target.purpose, sent, received, verdict, knows: Box::new(knows) },
            );
        }
    }

    /// A listing of the front may come after what a job waited for: that it shows the job's instance is worth knowing, since
    /// some fronts prove nothing about what their listing never showed.
    fn note_listed(&mut self, name: &ServerName, round: &Round) {
        let Some(shown) = round.shown.get("") else { return };
        let unlisted = |job: &Job| {
            let pin = job.pin.as_ref().filter(|pin| !pin.listed && job.server == *name && !job.is_done());
            pin.is_some_and(|pin| shown.iter().any(|(instance, _)| *instance == pin.instance))
        };
        // In an order of their own, so that the same history is the same twice.
        let jobs: BTreeSet<JobId> =
            self.active.values().filter(|active| unlisted(&active.job)).map(|active| active.job.id).collect();
        for job in jobs {
            self.step(job, Event::Listed);
        }
    }

    /// The answer of the server as it was configured before says nothing about the one that the name stands for now.
    fn answer_from_before_a_reload(&mut self, name: &ServerName, targets: &[Target], round: &Round) {
        let (sent, received) = (self.believed(round.sent), self.believed(round.received));
        for target in targets {
            let Some(server) = self.servers.get(name) else { return };
            let knows = Knowledge { site: server.site(target.pin.as_ref()), called_by: None };
            let why = "the server's settings were changed while it was asked".to_owned();
            let verdict = Verdict::Unreachable { why };
            self.step(
                target.job,
                Event::Looked { purpose: target.purpose, sent, received, verdict, knows: Box::new(knows) },
            );
        }
    }

    /// Takes in what a sweep has listed.
    pub(super) fn remember_listing(
        &mut self,
        name: &ServerName,
        epoch: u32,
        listed: &Listed,
        sent: Now,
        received: Now,
    ) {
        let Some(server) = self.servers.get(name).filter(|server| server.epoch() == epoch) else { return };
        let judgement = server.platform.remember(&server.memory, listed, sent, received);
        self.remember(name, judgement.memory, judgement.alarms);
    }

    /// Keeps what is known of a server now, and says what an operator should hear.
    fn remember(&mut self, name: &ServerName, mut memory: Memory, alarms: Vec<String>) {
        let now = self.now();
        let Some(server) = self.servers.get_mut(name) else { return };
        memory.forget_witnesses(self.book.instances());
        let changed = memory != server.memory;
        let urgent = memory.differs_materially(&server.memory);
        server.memory = memory;
        let stale = server.memory_saved.is_none_or(|at| now.boot >= at + REMEMBER_EVERY);
        if urgent || (stale && changed) {
            server.memory_saved = Some(now.boot);
            let change = Change::Remember { server: name.clone(), memory: server.memory.clone() };
            // What could not be written is written with the next round.
            self.store.commit(vec![change], Box::new(|_| ()));
        }
        for alarm in alarms {
            self.server_alarm(name, alarm);
        }
    }

    /// The verdict with what the engine knows beside it.
    fn knowing(&self, name: &ServerName, target: &Target, verdict: Verdict) -> Option<(Verdict, Knowledge)> {
        let server = self.servers.get(name)?;
        let site = server.site(target.pin.as_ref());
        let instance = target.pin.as_ref().map(|pin| &pin.instance);
        let called_by = instance
            .and_then(|instance| self.book.may_have_been_ended_by(instance))
            .filter(|(by, _)| *by != target.job);
        let being_called =
            instance.is_some_and(|instance| self.book.is_being_called_by_another(instance, target.job));
        let verdict = match (verdict, moved_away(target.pin.as_ref(), &site.fingerprint)) {
            (Verdict::Gone { .. } | Verdict::Vanished { .. }, Some(why)) => Verdict::Hopeless { why },
            (Verdict::Replaced { by, .. }, Some(_)) => Verdict::Replaced { by, counts: false },
            (Verdict::Gone { .. }, None) if being_called => {
                let why =
                    "not there, but another job's end call is under way: its answer tells whose end it is";
                Verdict::Doubtful { why: why.to_owned() }
            }
            (Verdict::Hopeless { why }, _) if self.waits_for_another_call(target) => {
                Verdict::Doubtful { why }
            }
            (verdict, _) => verdict,
        };
        Some((verdict, Knowledge { site, called_by }))
    }

    /// What speaks against a proof is a call of another job that had no answer when this was asked.
    fn waits_for_another_call(&self, target: &Target) -> bool {
        let failed = target.pin.as_ref().is_some_and(|pin| self.book.has_failed(&pin.instance));
        let own_failed = self.active.get(&target.job).is_none_or(|active| active.job.calls.unclean);
        !target.ends_clean && !own_failed && !failed
    }
}

/// Why nothing that this address says can prove a meeting over that was pinned at another one.
fn moved_away(pin: Option<&Pin>, here: &str) -> Option<String> {
    let pin = pin?;
    let there = pin.site.as_deref().filter(|there| *there != here && !here.is_empty())?;
    Some(format!(
        "instance {} was pinned at {there}, and the server's address or account has been changed since: its absence here \
         proves nothing",
        pin.instance
    ))
}

#[cfg(test)]
mod tests {
    use super::super::active::Active;
    use super::super::tests::still::{pinned, still};
    use super::*;
    use crate::job::{Aim, EndAnswer, Instance, InstanceId, UtcMs};
    use crate::platform::{NodeMemory, Platform};

    fn campus() -> ServerName {
        "campus".into()
    }

    fn other() -> JobId {
        JobId(uuid::Uuid::from_u128(99))
    }

    fn gone() -> Verdict {
        Verdict::Gone { needed: 2 }
    }

    /// A core with this job at work.
    fn core_with(job: &Job) -> Core {
        let (mut core, _) = still();
        core.active.insert(job.id, Active::written(job.clone()));
        core
    }

    #[track_caller]
    fn knowing(core: &Core, job: &Job, verdict: Verdict) -> (Verdict, Knowledge) {
        let target = target(job, Purpose::Confirm, &core.book);
        core.knowing(&campus(), &target, verdict).expect("the server is known")
    }

    #[tokio::test]
    async fn while_another_jobs_call_is_under_way_nothing_is_decided() {
        let job = pinned(1, UtcMs(0));
        let mut core = core_with(&job);
        let hopeless = || Verdict::Hopeless { why: "a call failed".to_owned() };
        assert_eq!(knowing(&core, &job, gone()).0, gone());
        assert_eq!(knowing(&core, &job, hopeless()).0, hopeless());
        core.book.sent(&"i".into(), other());
        assert!(matches!(knowing(&core, &job, gone()).0, Verdict::Doubtful { .. }));
        assert!(matches!(knowing(&core, &job, hopeless()).0, Verdict::Doubtful { .. }));
    }

    #[tokio::test]
    async fn a_job_is_not_ended_by_its_own_call_as_if_by_another_ones() {
        let job = pinned(1, UtcMs(0));
        for (by, told) in [(job.id, None), (other(), Some(other()))] {
            let mut core = core_with(&job);
            core.book.sent(&"i".into(), by);
            core.book.answered(&"i".into(), by, &EndAnswer::Accepted, Now::default());
            assert_eq!(knowing(&core, &job, gone()).1.called_by.map(|(by, _)| by), told);
        }
    }

    #[tokio::test]
    async fn at_another_address_nothing_proves_it_over() {
        let mut job = pinned(1, UtcMs(0));
        job.pin.as_mut().expect("pinned").site = Some("https://old".to_owned());
        let core = core_with(&job);
        assert!(matches!(knowing(&core, &job, gone()).0, Verdict::Hopeless { .. }));
        let by = Instance::listed("j");
        let replaced = knowing(&core, &job, Verdict::Replaced { by: by.clone(), counts: true }).0;
        assert_eq!(replaced, Verdict::Replaced { by, counts: false });
    }

    #[tokio::test]
    async fn an_answer_from_before_a_reload_shows_nothing() {
        for (epoch, seen) in [(0, true), (7, false)] {
            let mut job = pinned(1, crate::clock::system_now().wall + Duration::from_secs(600));
            job.pin = None;
            let (mut core, now) = (core_with(&job), crate::clock::system_now());
            let target = target(&job, Purpose::Arm, &core.book);
            let sightings = vec![Sighting::Live(Instance::listed("i"))];
            let round = Round { sent: now, received: now, sightings, ..Round::default() };
            core.part_answered(&campus(), epoch, &[target], &round);
            assert_eq!(core.active[&job.id].job.last_seen.is_some(), seen, "{epoch}");
        }
    }

    #[tokio::test]
    async fn a_listing_that_comes_late_tells_whom_it_shows() {
        let mut job = pinned(1, crate::clock::system_now().wall + Duration::from_secs(60));
        job.pin.as_mut().expect("pinned").listed = false;
        let (mut core, now) = (core_with(&job), crate::clock::system_now());
        let shown = [(String::new(), vec![(InstanceId::from("i"), true)])].into();
        let round = Round { sent: now, received: now, shown, ..Round::default() };
        core.part_answered(&campus(), 0, &[], &round);
        assert!(core.active[&job.id].job.pin.as_ref().is_some_and(|pin| pin.listed));
    }

    #[tokio::test]
    async fn what_was_called_at_is_no_witness_for_any_server() {
        let job = pinned(1, UtcMs(0));
        let mut core = core_with(&job);
        let witness = |core: &mut Core| {
            let known = NodeMemory { witnesses: vec!["i".into()], ..NodeMemory::default() };
            let server = core.servers.get_mut(&campus()).expect("configured");
            server.memory.nodes.insert(String::new(), known);
        };
        let is_witness = |core: &Core| !core.servers[&campus()].memory.nodes[""].witnesses.is_empty();
        // By the next listing that anybody reads ...
        witness(&mut core);
        core.book.sent(&"i".into(), other());
        let (listed, now) = (Listed { live: Vec::new(), complete: false }, Now::default());
        core.remember_listing(&campus(), 0, &listed, now, now);
        assert!(!is_witness(&core));
        // ... and at once where the call is made.
        witness(&mut core);
        core.call(job.id, 1, Aim::Meeting, false, false);
        assert!(!is_witness(&core));
    }

    #[tokio::test]
    async fn what_matters_is_remembered_at_once_and_the_rest_every_ten_seconds() {
        let (mut core, _) = still();
        let saved = |core: &Core| core.servers[&campus()].memory_saved;
        let (long_ago, now) = (crate::job::BootMs(1), core.now());
        let remember = |core: &mut Core, known: NodeMemory, before| {
            core.servers.get_mut(&campus()).expect("configured").memory_saved = Some(before);
            let memory = Memory { nodes: [(String::new(), known)].into(), site: None };
            core.remember(&campus(), memory, Vec::new());
        };
        let quiet = NodeMemory { last_good: Some(now), ..NodeMemory::default() };
        remember(&mut core, quiet.clone(), now.boot);
        assert_eq!(saved(&core), Some(now.boot), "not yet");
        remember(&mut core, NodeMemory { last_good: None, ..quiet.clone() }, long_ago);
        assert_ne!(saved(&core), Some(long_ago));
        remember(
            &mut core,
            NodeMemory { lost_state: Some(now), ..quiet },
            crate::job::BootMs(now.boot.0 - 1),
        );
        assert_ne!(saved(&core), Some(crate::job::BootMs(now.boot.0 - 1)), "at once");
    }

    /// The last look of the next call is asked as much earlier.
    #[tokio::test]
    async fn the_turn_of_a_single_look_is_given_back_and_what_it_took_is_learnt() {
        let (mut core, _) = still();
        let took = Duration::from_millis(700);
        for (answered, expected) in [(false, Duration::ZERO), (true, took)] {
            let lane = &mut core.servers.get_mut(&campus()).expect("configured").lane;
            lane.queue_end(other(), true, false);
            assert_eq!((lane.next_end(), lane.ends_in_flight()), (Some(other()), 1), "{answered}");
            core.turn_over(&campus(), took, answered);
            let server = &core.servers[&campus()];
            assert_eq!((server.site(None).answer_time, server.lane.ends_in_flight()), (expected, 0));
        }
    }

    #[test]
    fn a_pin_from_another_address_is_never_proven_gone_here() {
        let pin = |site: Option<&str>| Pin {
            instance: "i".into(),
            started_at: None,
            listed: true,
            node: None,
            site: site.map(str::to_owned),
            last_live: Now::default(),
        };
        assert!(moved_away(Some(&pin(Some("https://old"))), "https://new").is_some());
        assert_eq!(moved_away(Some(&pin(Some("https://old"))), "https://old"), None);
        assert_eq!(moved_away(Some(&pin(None)), "https://new"), None, "pinned by an older version");
        assert_eq!(moved_away(None, "https://new"), None);
    }

    /// A platform that answers nothing, not even that it cannot.
    struct Silent;

    #[async_trait::async_trait]
    impl Platform for Silent {
        fn kind(&self) -> &'static str {
            "silent"
        }

        async fn look(&self, _: &[Target]) -> Round {
            Round::default()
        }

        async fn look_in_parts(&self, _: &[Target], _: crate::platform::HandOn<'_>) {}

        fn aim(&self, _: &Pin) -> Aim {
            Aim::Meeting
        }

        async fn end(&self, _: &crate::platform::EndCall) -> EndAnswer {
            EndAnswer::Accepted
        }

        fn judge(&self, memory: &Memory, _: &Round, _: &[Target]) -> crate::platform::Judgement {
            crate::platform::Judgement { memory: memory.clone(), verdicts: Vec::new(), alarms: Vec::new() }
        }

        async fn probe(&self) -> Result<crate::platform::Probe, crate::platform::Fault> {
            Ok(crate::platform::Probe { summary: String::new() })
        }

        async fn meetings(&self) -> Result<Vec<crate::platform::LiveMeeting>, crate::platform::Fault> {
            Ok(Vec::new())
        }
    }

    #[tokio::test]
    async fn every_look_is_answered_whatever_the_platform_does() {
        let (mut core, mut inner) = still();
        let job = pinned(1, UtcMs(0));
        core.active.insert(job.id, Active::written(job.clone()));
        core.servers.get_mut(&campus()).expect("configured").platform = std::sync::Arc::new(Silent);
        core.look_in_turn(job.id);
        let Some(Inner::Round { targets, round, .. }) = inner.recv().await else { panic!("no answer") };
        assert_eq!((targets.len(), targets[0].job), (1, job.id));
        assert!(matches!(round.sightings[..], [Sighting::Unreachable(_)]));
        assert!(matches!(inner.recv().await, Some(Inner::TurnOver { .. })));
    }
}
