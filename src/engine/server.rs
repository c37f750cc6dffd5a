//! One server as the engine sees it: its lane, what is remembered of it, its probes; and the calls made there.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use super::active::announce;
use super::api::{Notice, ServerStatus};
use super::core::{Core, Inner};
use super::lane::Lane;
use crate::config::settings::ServerSettings;
use crate::job::{
    Aim, BootMs, EndAnswer, Event, InstanceId, Job, JobId, LOCK_WAIT, Limits, Lock, Now, Purpose, ServerName,
    Verdict, Warning,
};
use crate::platform::{EndCall, Fault, Memory, Platform, Probe, Round, Target, Work};
use crate::store::Change;

/// A server whose last probe failed is probed again this often.
const PROBE_EVERY: Duration = Duration::from_secs(60);
/// What is remembered of a server is written at most this often, unless it matters at once.
const REMEMBER_EVERY: Duration = Duration::from_secs(10);
/// An end call without a durable claim waits this long for it, then leaves all the same.
const CLAIM_WAIT: Duration = Duration::from_millis(250);
/// From the decision to send to the sending, the waits for a claim and a lock included: after more than this (the machine
/// was suspended in between) what the look showed need not be true any more.
const DECISION_GOOD: Duration = Duration::from_secs(1);
/// Instances that were called at and are no witnesses any more; the oldest are dropped.
const NO_WITNESSES: usize = 4_096;
/// Instances with end calls that were not accepted; one makes room.
const UNSETTLED: usize = 4_096;

pub(super) struct Server {
    pub platform: Arc<dyn Platform>,
    pub limits: Limits,
    /// How its platform closes rooms.
    pub lock: Lock,
    pub lane: Lane,
    memory: Memory,
    memory_saved: Option<BootMs>,
    /// Instances that we called at: their vanishing says nothing about the server.
    called: VecDeque<InstanceId>,
    /// End calls at an instance that were not accepted (yet), whichever job made them.
    unsettled: BTreeMap<InstanceId, Unsettled>,
    probe_at: Option<BootMs>,
    probing: bool,
    /// Counts the settings that there have been: a probe of old ones says nothing about new ones.
    epoch: u32,
    summary: String,
    reachable: Option<bool>,
    alarm: Option<String>,
    /// Why nobody can be warned there.
    pub no_warnings: Option<String>,
    ends_sent: u64,
    looks_sent: u64,
}

/// A balancer may have forgotten an instance that such a call was meant for, and that is still alive.
#[derive(Clone, Copy, Debug, Default)]
struct Unsettled {
    in_flight: u32,
    failed: bool,
}

impl Server {
    pub fn new(platform: Arc<dyn Platform>, settings: &ServerSettings, memory: Memory, now: Now) -> Server {
        Server {
            platform,
            limits: settings.limits.clone(),
            lock: settings.platform.lock(),
            lane: Lane::new(settings.max_concurrent),
            memory: memory.rebased(now),
            memory_saved: None,
            called: VecDeque::new(),
            unsettled: BTreeMap::new(),
            probe_at: Some(now.boot),
            probing: false,
            epoch: 0,
            summary: "not asked yet".to_owned(),
            reachable: None,
            alarm: None,
            no_warnings: None,
            ends_sent: 0,
            looks_sent: 0,
        }
    }

    /// After a reload: new settings, the same queue and memory. A platform that has stayed is probed only where something
    /// was wrong; whether it can warn anybody is asked anew.
    pub fn replace(&mut self, platform: Arc<dyn Platform>, settings: &ServerSettings, now: Now) {
        self.limits = settings.limits.clone();
        self.lock = settings.platform.lock();
        self.lane.set_max_concurrent(settings.max_concurrent);
        let warns = self.no_warnings.take().is_none();
        let well = self.alarm.take().is_none() && self.reachable == Some(true) && warns;
        if Arc::ptr_eq(&self.platform, &platform) {
            self.probe_at = if well { self.probe_at } else { Some(now.boot) };
            return;
        }
        self.platform = platform;
        self.probe_at = Some(now.boot);
        self.probing = false;
        self.epoch = self.epoch.wrapping_add(1);
    }

    pub fn epoch(&self) -> u32 {
        self.epoch
    }

    pub fn wake(&self, now: BootMs) -> Option<BootMs> {
        let probe = self.probe_at.filter(|_| !self.probing);
        [self.end_at(now), self.round_at(now), probe].into_iter().flatten().min()
    }

    /// When the next end call may leave, by the lane and by the platform; `None`: none can, whatever the time.
    pub fn end_at(&self, now: BootMs) -> Option<BootMs> {
        let work = Work::End { under_way: self.lane.ends_in_flight() };
        self.lane.wants_end().then(|| self.platform.ready(work).map_or(now, |at| at.max(now)))
    }

    /// The same for the next round of looks.
    pub fn round_at(&self, now: BootMs) -> Option<BootMs> {
        let at = self.lane.round_at(now)?;
        let work = Work::Looks { before_end: self.lane.looks_before_end() };
        Some(self.platform.ready(work).map_or(at, |ready| at.max(ready)))
    }

    pub fn status(&self) -> ServerStatus {
        ServerStatus {
            platform: self.platform.kind().to_owned(),
            summary: self.summary.clone(),
            reachable: self.reachable,
            alarm: self.alarm.clone(),
            no_warnings: self.no_warnings.clone(),
            ends_in_flight: self.lane.ends_in_flight(),
            ends_queued: self.lane.ends_queued(),
            looks_queued: self.lane.looks_queued(),
            ends_sent: self.ends_sent,
            looks_sent: self.looks_sent,
            ..ServerStatus::default()
        }
    }

    pub fn note_answered(&mut self, instance: &InstanceId, answer: &EndAnswer) {
        let Some(unsettled) = self.unsettled.get_mut(instance) else { return };
        unsettled.in_flight = unsettled.in_flight.saturating_sub(1);
        let clean = matches!(answer, EndAnswer::Accepted | EndAnswer::Unreachable { sent: false, .. });
        unsettled.failed |= !clean;
        if !unsettled.failed && unsettled.in_flight == 0 {
            self.unsettled.remove(instance);
        }
    }

    /// A job from before a restart had called at it, and was not accepted.
    pub fn note_failed(&mut self, instance: &InstanceId) {
        self.unsettled.entry(instance.clone()).or_default().failed = true;
    }

    /// What `judge` has to know of a job, with what calls of other jobs have left unsettled.
    fn target(&self, job: &Job, purpose: Purpose) -> Target {
        let target = target(job, purpose);
        let unsettled = job.pin.as_ref().is_some_and(|pin| self.unsettled.contains_key(&pin.instance));
        Target { ends_clean: target.ends_clean && !unsettled, ..target }
    }

    fn note_called(&mut self, instance: &InstanceId) {
        if self.unsettled.len() == UNSETTLED && !self.unsettled.contains_key(instance) {
            self.unsettled.pop_first();
        }
        self.unsettled.entry(instance.clone()).or_default().in_flight += 1;
        if self.called.contains(instance) {
            return;
        }
        if self.called.len() == NO_WITNESSES {
            self.called.pop_front();
        }
        self.called.push_back(instance.clone());
        self.memory.forget_witnesses(&self.called);
    }
}

/// A claim made well ahead has had its time: then the disk is too slow, and the call is not. One made just now, because
/// the job came late or was just taken up again, is waited for: a crash after the call must find it.
fn waits_for_claim(attempt: u32, claim_age: Duration) -> bool {
    attempt > 1 || claim_age < CLAIM_WAIT / 2
}

/// What `judge` has to know of a job, as far as the job itself tells.
pub(super) fn target(job: &Job, purpose: Purpose) -> Target {
    Target {
        job: job.id,
        meeting: job.meeting.clone(),
        purpose,
        instance: job.pin.as_ref().map(|pin| pin.instance.clone()).or_else(|| job.only.clone()),
        pin: job.pin.clone(),
        // A call that was refused, or never left, has had no effect.
        end_sent: job.calls.may_have_ended() || job.run.calling.is_some(),
        accepted: job.calls.accepted.is_some(),
        ends_clean: !job.calls.unclean,
        since: job.pin.as_ref().map(|pin| pin.last_live).or(job.began),
    }
}

impl Core {
    /// Gives every end call that may leave now its last word.
    pub(super) fn pump_ends(&mut self, name: &ServerName) {
        let now = self.now().boot;
        while let Some(server) = self.servers.get_mut(name)
            && server.end_at(now).is_some_and(|at| at <= now)
            && let Some(id) = server.lane.next_end()
        {
            let platform = server.platform.clone();
            let sends = match self.active.get_mut(&id) {
                Some(active) if active.is_locked() => {
                    active.missed_slot = true;
                    false
                }
                Some(active) => {
                    let aim = active.job.pin.as_ref().map_or(Aim::Meeting, |pin| platform.aim(pin));
                    let ends = active.job.ends;
                    self.step(id, Event::Slot { aim });
                    self.active.get(&id).is_some_and(|active| active.job.ends > ends)
                }
                None => false,
            };
            if !sends && let Some(server) = self.servers.get_mut(name) {
                server.lane.end_answered();
            }
        }
    }

    /// A turn in the lane that came while the job was locked is asked for again.
    pub(super) fn queue_what_was_missed(&mut self, id: JobId) {
        let Some(active) = self.active.get_mut(&id) else { return };
        let end = std::mem::take(&mut active.missed_slot) && active.job.run.queued;
        let warning = std::mem::take(&mut active.missed_warning) && active.job.run.warning == Warning::Queued;
        let (name, first) = (active.job.server.clone(), active.job.ends == 0);
        let Some(server) = self.servers.get_mut(&name).filter(|_| end || warning) else { return };
        if end {
            server.lane.queue_end(id, first);
        }
        if warning {
            server.lane.queue_warning(id);
        }
        self.touched.insert(name);
    }

    /// Closes a room; gives what tells when that has been answered.
    fn close_room(&self, platform: Arc<dyn Platform>, call: &EndCall) -> oneshot::Receiver<()> {
        let (job, meeting, inbox) = (call.job, call.meeting.clone(), self.inbox.clone());
        let (tell, told) = oneshot::channel();
        self.tasks.spawn(async move {
            let result = platform.close_room(&meeting).await.map_err(|fault| fault.to_string());
            let _ = inbox.send(Inner::Locked { job, result });
            let _ = tell.send(());
        });
        told
    }

    /// Sends an end call. The decision has been made; only a claim that is not durable yet, and a lock that was asked for,
    /// may delay it, and not for long.
    pub(super) fn call(&mut self, id: JobId, attempt: u32, aim: Aim, resend: bool, lock: bool) {
        let decided = self.now();
        let Some(active) = self.active.get_mut(&id) else { return };
        let Some(pin) = active.job.pin.clone() else { return };
        let (name, due) = (active.job.server.clone(), active.job.due);
        let claim_age = active.job.claimed.map_or(Duration::ZERO, |at| decided.since(at));
        let durable = (waits_for_claim(attempt, claim_age) && !active.claim_is_durable()).then(|| {
            let (tell, told) = oneshot::channel();
            active.claim_waiters.push(tell);
            told
        });
        let first = active.job.ends == 1;
        let instance = pin.instance.clone();
        let call = EndCall { job: id, meeting: active.job.meeting.clone(), pin, attempt, resend };
        let Some(server) = self.servers.get_mut(&name) else { return };
        server.ends_sent += 1;
        server.note_called(&call.pin.instance);
        let (platform, clock, inbox) = (server.platform.clone(), self.clock.clone(), self.inbox.clone());
        let locked = lock.then(|| self.close_room(platform.clone(), &call));
        let metrics = self.metrics.clone();
        self.tasks.spawn(async move {
            if let Some(told) = locked {
                tokio::select! {
                    biased;
                    _ = told => {}
                    () = clock.sleep(LOCK_WAIT) => {}
                }
            }
            if let Some(told) = durable {
                // Told, or waited long enough: a slow disk delays no end.
                tokio::select! {
                    biased;
                    _ = told => {}
                    () = clock.sleep(CLAIM_WAIT) => {}
                }
            }
            let now = clock.now();
            let answer = if now.wall < due {
                EndAnswer::Unreachable { why: "the clock was set back before due".to_owned(), sent: false }
            } else if now.boot.since(decided.boot) > DECISION_GOOD {
                EndAnswer::Unreachable { why: "the machine slept before it left".to_owned(), sent: false }
            } else {
                if first {
                    metrics.first_call(platform.kind(), &name, now.wall.ms_since(due));
                }
                tracing::debug!(%aim, attempt, job = %call.job.short(), "end call leaves");
                platform.end(&call).await
            };
            // The engine is gone only when the daemon is.
            let _ = inbox.send(Inner::Answered { server: name, job: call.job, instance, attempt, answer });
        });
    }

    /// Starts a round of looks, if one may start.
    pub(super) fn pump_looks(&mut self, name: &ServerName) {
        let now = self.now();
        let Some(server) = self.servers.get_mut(name) else { return };
        if server.round_at(now.boot).is_none_or(|at| at > now.boot) {
            return;
        }
        let wanted = server.lane.start_round(now.boot);
        if wanted.is_empty() {
            return;
        }
        let targets: Vec<Target> = wanted
            .into_iter()
            .filter_map(|(id, purpose)| {
                let job = &self.active.get(&id)?.job;
                job.run.looking.map(|_| server.target(job, purpose))
            })
            .collect();
        if targets.is_empty() {
            return server.lane.round_done(now.boot, Duration::ZERO, true);
        }
        server.looks_sent += 1;
        let (platform, inbox, server) = (server.platform.clone(), self.inbox.clone(), name.clone());
        self.tasks.spawn(async move {
            let round = platform.look(&targets).await;
            let _ = inbox.send(Inner::Round { server, targets, round });
        });
    }

    pub(super) fn round_done(&mut self, name: &ServerName, targets: &[Target], round: Round) {
        let now = self.now();
        let Some(server) = self.servers.get_mut(name) else { return };
        let answered = !round.trouble.contains_key("");
        server.lane.round_done(now.boot, round.received.since(round.sent), answered);
        server.reachable = Some(answered);
        let judgement = server.platform.judge(&server.memory, &round, targets);
        let mut memory = judgement.memory;
        memory.forget_witnesses(&server.called);
        let urgent = memory.differs_materially(&server.memory);
        server.memory = memory;
        let stale = server.memory_saved.is_none_or(|at| now.boot >= at + REMEMBER_EVERY);
        if urgent || stale {
            server.memory_saved = Some(now.boot);
            let change = Change::Remember { server: name.clone(), memory: server.memory.clone() };
            // What could not be written is written with the next round.
            self.store.commit(vec![change], Box::new(|_| ()));
        }
        let kind = server.platform.kind();
        judgement.verdicts.iter().for_each(|verdict| self.metrics.looked(kind, name, verdict));
        for alarm in judgement.alarms {
            self.server_alarm(name, alarm);
        }
        let (sent, received) = (self.believed(round.sent), self.believed(round.received));
        let waits = |target: &Target| self.waits_for_another_call(name, target);
        let waiting: Vec<bool> = targets.iter().map(waits).collect();
        for ((target, mut verdict), waits) in targets.iter().zip(judgement.verdicts).zip(waiting) {
            if waits && let Verdict::Hopeless { why } = verdict {
                verdict = Verdict::Doubtful { why };
            }
            let event = Event::Looked { purpose: target.purpose, sent, received, verdict };
            self.step(target.job, event);
        }
    }

    /// What speaks against a proof is a call of another job that had no answer when this was asked.
    fn waits_for_another_call(&self, name: &ServerName, target: &Target) -> bool {
        let failed = |instance| {
            let server = self.servers.get(name)?;
            server.unsettled.get(instance).map(|unsettled| unsettled.failed)
        };
        let instance = target.pin.as_ref().map(|pin| &pin.instance);
        let own_failed = self.active.get(&target.job).is_none_or(|active| active.job.calls.unclean);
        !target.ends_clean && !own_failed && instance.and_then(failed) != Some(true)
    }

    pub(super) fn pump_probe(&mut self, name: &ServerName) {
        let now = self.now().boot;
        let Some(server) = self.servers.get_mut(name) else { return };
        if server.probing || server.probe_at.is_none_or(|at| at > now) {
            return;
        }
        server.probing = true;
        let (platform, inbox, epoch) = (server.platform.clone(), self.inbox.clone(), server.epoch);
        let server = name.clone();
        self.tasks.spawn(async move {
            let result = platform.probe().await;
            let _ = inbox.send(Inner::Probed { server, epoch, result });
        });
    }

    pub(super) fn probed(&mut self, name: &ServerName, epoch: u32, result: Result<Probe, Fault>) {
        let now = self.now().boot;
        let Some(server) = self.servers.get_mut(name).filter(|server| server.epoch == epoch) else { return };
        server.probing = false;
        server.probe_at = result.is_err().then(|| now + PROBE_EVERY);
        match result {
            Ok(probe) => {
                tracing::info!(server = %name, "{}", probe.summary);
                server.summary = probe.summary;
                server.reachable = Some(true);
                server.alarm = None;
            }
            Err(Fault::Unreachable(why)) => {
                if server.reachable != Some(false) {
                    tracing::warn!(server = %name, "cannot be reached: {why}");
                }
                server.summary = why;
                server.reachable = Some(false);
            }
            Err(Fault::Misconfigured(why)) => {
                server.reachable = Some(true);
                self.server_alarm(name, why);
            }
        }
    }

    /// Says once what an operator should hear about a server.
    fn server_alarm(&mut self, name: &ServerName, why: String) {
        let Some(server) = self.servers.get_mut(name) else { return };
        if server.alarm.as_ref() == Some(&why) {
            return;
        }
        server.alarm = Some(why.clone());
        let notice = Notice::of_server("server-alarm", why, self.now().wall, name.clone());
        announce(&self.events, vec![notice]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::{By, Fact, Order, Origin, UtcMs};

    #[test]
    fn only_a_first_call_whose_claim_has_had_its_time_leaves_without_it() {
        assert!(!waits_for_claim(1, crate::job::CLAIM_LEAD));
        assert!(waits_for_claim(1, Duration::ZERO));
        assert!(waits_for_claim(2, Duration::from_secs(15)));
    }

    #[test]
    fn a_call_counts_as_sent_only_while_it_may_have_had_an_effect() {
        let end_sent = |answer: Option<EndAnswer>| {
            let mut job = Job::submit(
                Order {
                    id: JobId(uuid::Uuid::nil()),
                    server: "campus".into(),
                    meeting: "math-101".into(),
                    only: None,
                    key: None,
                    limits: Limits::default(),
                    at_most: None,
                    max_duration: None,
                    due: UtcMs(0),
                    origin: Origin::Api,
                    by: By::Peer { uid: 0, pid: None },
                },
                Now::default(),
            );
            let sent =
                Fact::EndSent { attempt: 1, aim: Aim::Meeting, instance: "x".into(), looked_ms_ago: 0 };
            job.record(Now::default(), sent);
            job.run.calling = answer.is_none().then_some(1);
            if let Some(answer) = answer {
                job.record(Now::default(), Fact::EndAnswered { attempt: 1, answer });
            }
            target(&job, Purpose::BeforeEnd).end_sent
        };
        let why = String::new;
        assert!(end_sent(None), "under way");
        assert!(end_sent(Some(EndAnswer::Accepted)));
        assert!(end_sent(Some(EndAnswer::Unreachable { why: why(), sent: true })));
        assert!(!end_sent(Some(EndAnswer::Unreachable { why: why(), sent: false })));
        assert!(!end_sent(Some(EndAnswer::Misconfigured { why: why() })));
        assert!(!end_sent(Some(EndAnswer::MaybeGone { why: why() })));
    }
}
