//! Telling the people inside: a few at a time on a server, and never in the way of an end call.
//!
//! A server that has no way to tell anybody is asked once; until its settings are read anew nothing more is sent there, and
//! every warning that comes due says why it was not delivered.
//!
//! Between the decision and the line there may be a slow disk and a slow server. A deadline that is changed meanwhile calls
//! off what has not left, before the change is answered.

use std::sync::Arc;
use std::time::Duration;

use jiff::tz::TimeZone;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::active::announce;
use super::api::Notice;
use super::belief::Belief;
use super::core::{Core, Inner};
use crate::clock::Clock;
use crate::job::{
    Event, Filling, JobId, Language, Mark, MeetingId, Remaining, ServerName, WARN_LATEST, Warned,
    Warning as Run, cut, expand,
};
use crate::platform::Warning;

/// A claim that is not durable by then is not waited for any longer.
const CLAIM_WAIT: Duration = Duration::from_millis(250);
/// All the requests of one warning; breakout rooms each need their own.
const WARNING_TIMEOUT: Duration = Duration::from_secs(60);

impl Core {
    /// Lets every warning go for which there is room.
    pub(super) fn pump_warnings(&mut self, name: &ServerName) {
        while let Some(id) = self.servers.get_mut(name).and_then(|server| server.lane.next_warning()) {
            let sends = match self.active.get_mut(&id) {
                Some(active) if active.is_locked() => {
                    active.missed_warning = true;
                    false
                }
                Some(_) => {
                    self.step(id, Event::WarningSlot);
                    let warning = self.active.get(&id).map(|active| active.job.run.warning);
                    matches!(warning, Some(Run::Sending(_)))
                }
                None => false,
            };
            if !sends && let Some(server) = self.servers.get_mut(name) {
                server.lane.warning_answered();
            }
        }
    }

    /// Sends a warning, once its claim is durable or the disk has had its time.
    pub(super) fn warn(&mut self, id: JobId, mark: Mark) {
        let belief = self.belief();
        let Some(active) = self.active.get_mut(&id) else { return };
        let (name, inbox) = (active.job.server.clone(), self.inbox.clone());
        let Some(server) = self.servers.get(&name) else { return };
        let epoch = server.epoch();
        let answer = move |result| {
            // The engine is gone only when the daemon is.
            let _ = inbox.send(Inner::Warned { server: name, epoch, job: id, mark, result });
        };
        if let Some(why) = &server.no_warnings {
            return answer(Warned::Unsupported(why.clone()));
        }
        let (tell, durable) = oneshot::channel();
        active.warning_waiters.push(tell);
        active.recall = CancellationToken::new();
        let (meeting, instance) = (active.job.meeting.clone(), active.job.only.clone());
        let (platform, clock) = (server.platform.clone(), self.clock.clone());
        let (text, language) = (active.job.limits.warn_text.clone(), active.job.limits.language());
        let recall = active.recall.clone();
        let teller =
            Teller { clock: clock.clone(), belief, recall, mark, text, language, meeting: meeting.clone() };
        let warning = Warning { job: id, mark, meeting, instance, line: Arc::new(move || teller.line()) };
        self.tasks.spawn(async move {
            tokio::select! {
                biased;
                _ = durable => {}
                () = clock.sleep(CLAIM_WAIT) => {}
            }
            if let Err(why) = warning.line() {
                return answer(Warned::Failed { why, sent: false });
            }
            let result = tokio::select! {
                biased;
                result = platform.warn(&warning) => result,
                () = clock.sleep(WARNING_TIMEOUT) => {
                    Warned::Failed { why: format!("no answer within {WARNING_TIMEOUT:?}"), sent: true }
                }
            };
            answer(result);
        });
    }

    /// `epoch`: the settings that it was sent by.
    pub(super) fn warned(&mut self, name: &ServerName, epoch: u32, id: JobId, mark: Mark, result: Warned) {
        if let Some(server) = self.servers.get_mut(name) {
            server.lane.warning_answered();
            self.metrics.warned(server.platform.kind(), name, &result);
            if let Warned::Unsupported(why) = &result
                && server.no_warnings.is_none()
                && server.epoch() == epoch
            {
                server.no_warnings = Some(why.clone());
                let text = format!("nobody can be warned there: {why}");
                let at = self.now().wall;
                let notice = Notice::of_server("warnings-unsupported", text, at, name.clone());
                announce(&self.events, vec![notice]);
            }
        }
        self.step(id, Event::Warned { mark, result });
        self.touched.insert(name.clone());
    }
}

/// Makes the lines of one warning.
struct Teller {
    clock: Arc<dyn Clock>,
    belief: Belief,
    recall: CancellationToken,
    mark: Mark,
    text: Option<String>,
    language: Language,
    meeting: MeetingId,
}

impl Teller {
    /// What is told, as of now; the error says why nothing is to be.
    fn line(&self) -> Result<String, String> {
        let (mark, now) = (self.mark, self.belief.of(self.clock.now()));
        if self.recall.is_cancelled() {
            return Err("the deadline was changed before it left".to_owned());
        }
        if now.wall < mark.due - mark.before {
            return Err("the clock was set back before its time".to_owned());
        }
        if now.wall >= mark.due - WARN_LATEST {
            return Err("it would have come too late".to_owned());
        }
        let ours = self.language.text();
        let template = self.text.as_deref().unwrap_or(ours);
        let filling = Filling {
            remaining: Remaining::until(mark.due, now.wall),
            language: self.language,
            due: &mark.due.timestamp().to_zoned(TimeZone::system()).strftime("%Y-%m-%d %H:%M %Z").to_string(),
            meeting: self.meeting.as_str(),
        };
        // Both have been checked; what a rule hits may still have a longer id than its text has room for.
        let text = expand(template, &filling)
            .or_else(|_| expand(ours, &filling))
            .expect("our own text has placeholders that there are");
        Ok(cut(&text))
    }
}
