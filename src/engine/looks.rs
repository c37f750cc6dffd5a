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
    use super::*;
    use crate::job::Now;

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
}
