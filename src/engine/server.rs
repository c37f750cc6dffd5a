//! One server as the engine sees it: its lane, what is remembered of it, its probes; and the calls made there.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use super::active::announce;
use super::api::{Notice, ServerStatus};
use super::callbook::CallBook;
use super::core::{Core, Inner};
use super::lane::{Lane, Urgency};
use crate::config::settings::ServerSettings;
use crate::job::{
    Aim, BootMs, EndAnswer, Event, Job, JobId, LOCK_WAIT, Limits, Lock, Now, Pin, Purpose, ServerName, Site,
    State, Warning,
};
use crate::platform::{EndCall, Fault, Memory, Platform, Probe, Target, Telling, Work};

/// A server whose last probe failed is probed again this often.
const PROBE_EVERY: Duration = Duration::from_secs(60);
/// An end call without a durable claim waits this long for it, then leaves all the same.
const CLAIM_WAIT: Duration = Duration::from_millis(250);
/// From the decision to send to the sending, the waits for a claim and a lock included: after more than this (the machine
/// was suspended in between) what the look showed need not be true any more.
const DECISION_GOOD: Duration = Duration::from_secs(1);

pub(super) struct Server {
    pub platform: Arc<dyn Platform>,
    pub limits: Limits,
    /// How its platform closes rooms.
    pub lock: Lock,
    pub lane: Lane,
    pub(super) memory: Memory,
    pub(super) memory_saved: Option<BootMs>,
    /// How long answers to looks took lately: the longest of them, fading.
    answer_time: Duration,
    probe_at: Option<BootMs>,
    probing: bool,
    /// Counts the settings that there have been: a probe of old ones says nothing about new ones.
    epoch: u32,
    summary: String,
    pub(super) reachable: Option<bool>,
    /// Why it does not answer at present.
    silent: Option<String>,
    pub(super) alarm: Option<String>,
    /// Why nobody can be warned there.
    pub no_warnings: Option<String>,
    ends_sent: u64,
    pub(super) looks_sent: u64,
}

impl Server {
    pub fn new(platform: Arc<dyn Platform>, settings: &ServerSettings, memory: Memory, now: Now) -> Server {
        let memory = memory.rebased(now).of_site(&platform.fingerprint());
        Server {
            platform,
            limits: settings.limits.clone(),
            lock: settings.platform.lock(),
            lane: Lane::new(settings.max_concurrent),
            memory,
            memory_saved: None,
            answer_time: Duration::ZERO,
            probe_at: Some(now.boot),
            probing: false,
            epoch: 0,
            summary: "not asked yet".to_owned(),
            reachable: None,
            silent: None,
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
        self.memory = std::mem::take(&mut self.memory).of_site(&platform.fingerprint());
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
        let rounds = Urgency::ALL.map(|urgency| self.round_at(urgency, now));
        [self.end_at(now), probe].into_iter().chain(rounds).flatten().min()
    }

    /// When the next end call may leave, by the lane and by the platform; `None`: none can, whatever the time.
    pub fn end_at(&self, now: BootMs) -> Option<BootMs> {
        let work = Work::End { under_way: self.lane.ends_in_flight() };
        self.lane.wants_end().then(|| self.platform.ready(work).map_or(now, |at| at.max(now)))
    }

    /// The same for the next round of looks.
    pub fn round_at(&self, urgency: Urgency, now: BootMs) -> Option<BootMs> {
        let at = self.lane.round_at(urgency, now)?;
        let work = Work::Looks { before_end: urgency == Urgency::BeforeEnd };
        Some(self.platform.ready(work).map_or(at, |ready| at.max(ready)))
    }

    /// Can the people inside be told there?
    pub fn telling(&self) -> Telling {
        self.no_warnings.clone().map_or_else(|| self.platform.telling(), Telling::impossible)
    }

    pub fn status(&self) -> ServerStatus {
        ServerStatus {
            platform: self.platform.kind().to_owned(),
            summary: self.silent.clone().unwrap_or_else(|| self.summary.clone()),
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

    /// A look was answered after this time.
    pub fn note_answer_time(&mut self, took: Duration) {
        self.answer_time = took.max(self.answer_time.mul_f64(0.75));
    }

    /// What the heart has to know of this server, about a pin there.
    pub fn site(&self, pin: Option<&Pin>) -> Site {
        let site = self.platform.site(pin);
        Site { answer_time: self.answer_time.max(site.answer_time), ..site }
    }

    /// Says once when a server stops answering, and once when it is back.
    pub fn note_reachable(&mut self, name: &ServerName, heard: Result<(), &str>) {
        let reachable = heard.is_ok();
        if let Err(why) = heard {
            if self.reachable != Some(false) {
                tracing::warn!(server = %name, "cannot be reached: {why}");
            }
            self.silent = Some(why.to_owned());
        } else if self.silent.take().is_some() {
            tracing::warn!(server = %name, "answers again");
        }
        self.reachable = Some(reachable);
    }
}

/// A claim made well ahead has had its time: then the disk is too slow, and the call is not. One made just now, because
/// the job came late or was just taken up again, is waited for: a crash after the call must find it.
fn waits_for_claim(attempt: u32, claim_age: Duration) -> bool {
    attempt > 1 || claim_age < CLAIM_WAIT / 2
}

/// What `judge` has to know of a job: what the job itself tells, and what other jobs' calls at its instance came to.
pub(super) fn target(job: &Job, purpose: Purpose, book: &CallBook) -> Target {
    let pinned = job.pin.as_ref().map(|pin| &pin.instance);
    let by_another = pinned.and_then(|instance| book.accepted_by(instance));
    let unsettled = pinned.is_some_and(|instance| book.is_unsettled(instance));
    let accepted = job.calls.accepted.is_some() || by_another.is_some();
    Target {
        job: job.id,
        meeting: job.meeting.clone(),
        purpose,
        instance: pinned.cloned().or_else(|| job.only.clone()),
        pin: job.pin.clone(),
        // A call that was refused, or never left, has had no effect.
        end_sent: job.calls.may_have_ended() || job.run.calling.is_some() || accepted,
        accepted,
        ends_clean: !job.calls.unclean && !unsettled,
        since: job.last_live().or(job.began),
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
            let keeps_turn = match self.active.get_mut(&id) {
                Some(active) if active.is_locked() => {
                    active.missed_slot = true;
                    false
                }
                Some(active) => {
                    let site = server.site(active.job.pin.as_ref());
                    let carrier = self.carrier(id);
                    self.step(id, Event::Slot { site, carrier })
                }
                None => false,
            };
            if !keeps_turn && let Some(server) = self.servers.get_mut(name) {
                server.lane.end_answered();
            }
        }
    }

    /// The other job at work whose end call at this job's instance is under way or was accepted.
    fn carrier(&self, id: JobId) -> Option<JobId> {
        let pin = self.active.get(&id)?.job.pin.as_ref()?;
        let carrier = self.book.carrier(&pin.instance).filter(|carrier| *carrier != id)?;
        let at_work = |job: &Job| matches!(job.state, State::Ending | State::Confirming);
        let calls_there = |job: &Job| job.pin.as_ref().is_some_and(|its| its.instance == pin.instance);
        self.active
            .get(&carrier)
            .is_some_and(|active| at_work(&active.job) && calls_there(&active.job))
            .then_some(carrier)
    }

    /// A turn in the lane that came while the job was locked is asked for again.
    pub(super) fn queue_what_was_missed(&mut self, id: JobId) {
        let Some(active) = self.active.get_mut(&id) else { return };
        let end = std::mem::take(&mut active.missed_slot) && active.job.run.queued;
        let warning = std::mem::take(&mut active.missed_warning) && active.job.run.warning == Warning::Queued;
        let (name, first) = (active.job.server.clone(), active.job.ends == 0);
        let Some(server) = self.servers.get_mut(&name).filter(|_| end || warning) else { return };
        if end {
            server.lane.queue_end(id, first, false);
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
        self.book.sent(&call.pin.instance, id);
        server.memory.forget_witnesses(self.book.instances());
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
                server.note_reachable(name, Ok(()));
                server.alarm = None;
            }
            Err(Fault::Unreachable(why)) => {
                server.note_reachable(name, Err(&why));
                server.summary = why;
            }
            Err(Fault::Misconfigured(why)) => {
                server.reachable = Some(true);
                self.server_alarm(name, why);
            }
        }
    }

    /// Says once what an operator should hear about a server.
    pub(super) fn server_alarm(&mut self, name: &ServerName, why: String) {
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
    use super::super::active::Active;
    use super::super::tests::still::{self, pinned, still};
    use super::*;
    use crate::job::{Fact, InstanceId, Origin, UtcMs};

    #[test]
    fn only_a_first_call_whose_claim_has_had_its_time_leaves_without_it() {
        assert!(!waits_for_claim(1, crate::job::CLAIM_LEAD));
        assert!(waits_for_claim(1, Duration::ZERO));
        assert!(waits_for_claim(2, Duration::from_secs(15)));
    }

    fn job() -> Job {
        still::job(1, UtcMs(0), Origin::Api)
    }

    #[test]
    fn a_call_counts_as_sent_only_while_it_may_have_had_an_effect() {
        let end_sent = |answer: Option<EndAnswer>| {
            let mut job = job();
            let sent =
                Fact::EndSent { attempt: 1, aim: Aim::Meeting, instance: "x".into(), looked_ms_ago: 0 };
            job.record(Now::default(), sent);
            job.run.calling = answer.is_none().then_some(1);
            if let Some(answer) = answer {
                job.record(Now::default(), Fact::EndAnswered { attempt: 1, answer });
            }
            target(&job, Purpose::BeforeEnd, &CallBook::default()).end_sent
        };
        let why = String::new;
        assert!(end_sent(None), "under way");
        assert!(end_sent(Some(EndAnswer::Accepted)));
        assert!(end_sent(Some(EndAnswer::Unreachable { why: why(), sent: true })));
        assert!(!end_sent(Some(EndAnswer::Unreachable { why: why(), sent: false })));
        assert!(!end_sent(Some(EndAnswer::Misconfigured { why: why() })));
        assert!(!end_sent(Some(EndAnswer::MaybeGone { why: why() })));
    }

    /// What other jobs' calls at the instance came to counts for this one: accepted, failed or still under way.
    #[test]
    fn what_other_jobs_called_at_is_known() {
        let (other, instance) = (JobId(uuid::Uuid::from_u128(99)), InstanceId::from("x"));
        let mut job = job();
        job.record(Now::default(), Fact::DueReached { late_ms: 0 });
        let of = |job: &Job, book: &CallBook| {
            let target = target(job, Purpose::Confirm, book);
            (target.end_sent, target.accepted, target.ends_clean)
        };
        let mut book = CallBook::default();
        assert_eq!(target(&job, Purpose::BeforeEnd, &book).since, job.began, "nobody was seen yet");
        let (id, site, node) = (instance.clone(), None, None);
        let pin = Pin { instance: id, started_at: None, listed: true, node, site, last_live: Now::default() };
        job.record(Now::default(), Fact::Pinned { pin });
        assert_eq!(of(&job, &book), (false, false, true));
        book.sent(&instance, other);
        assert_eq!(of(&job, &book), (false, false, false), "nobody knows yet what comes of it");
        book.answered(&instance, other, &EndAnswer::Accepted, Now::default());
        assert_eq!(of(&job, &book), (true, true, true));
        book.sent(&instance, other);
        let lost = EndAnswer::Unreachable { why: String::new(), sent: true };
        book.answered(&instance, other, &lost, Now::default());
        assert_eq!(of(&job, &book), (true, true, false));
        job.record(Now::default(), Fact::EndAnswered { attempt: 1, answer: lost });
        assert!(!target(&job, Purpose::Confirm, &CallBook::default()).ends_clean, "its own call");
    }

    /// A clock that stands where it was set.
    struct Set(std::sync::Mutex<Now>);

    impl crate::clock::Clock for Set {
        fn now(&self) -> Now {
            *self.0.lock().expect("nobody panics with it")
        }
    }

    /// The decision was made; then time did something else than pass.
    #[tokio::test]
    async fn a_call_does_not_leave_when_its_decision_is_not_true_any_more() {
        let later = |now: Now, wall: i64, boot: i64| Now {
            wall: UtcMs(now.wall.0 + wall),
            boot: BootMs(now.boot.0 + boot),
        };
        for (wall, boot, why) in [(-60_000, 10, "set back"), (20_000, 20_000, "slept")] {
            let (mut core, mut inner) = still();
            let decided = core.clock.now();
            let job = pinned(1, decided.wall);
            let clock = Arc::new(Set(std::sync::Mutex::new(decided)));
            core.clock = clock.clone();
            core.active.insert(job.id, Active::written(job.clone()));
            core.call(job.id, 2, Aim::Instance, false, false);
            *clock.0.lock().expect("nobody panics with it") = later(decided, wall, boot);
            let Some(Inner::Answered { answer, .. }) = inner.recv().await else { panic!("no answer") };
            let EndAnswer::Unreachable { why: told, sent: false } = &answer else { panic!("{answer:?}") };
            assert!(told.contains(why), "{told}");
        }
    }

    #[tokio::test]
    async fn who_is_done_carries_nothing() {
        let now = crate::clock::system_now();
        let (mut core, _inner) = still();
        let (mut one, two) = (pinned(1, now.wall), pinned(2, now.wall));
        one.record(now, Fact::DueReached { late_ms: 0 });
        core.book.sent(&"i".into(), one.id);
        core.book.answered(&"i".into(), one.id, &EndAnswer::Accepted, now);
        for job in [&one, &two] {
            core.active.insert(job.id, Active::written(job.clone()));
        }
        assert_eq!((core.carrier(two.id), core.carrier(one.id)), (Some(one.id), None));
        let outcome = crate::job::Outcome::Unconfirmed;
        one.record(now, Fact::Concluded { outcome, reason: String::new() });
        core.active.insert(one.id, Active::written(one));
        assert_eq!(core.carrier(two.id), None, "the next one calls");
    }
}
