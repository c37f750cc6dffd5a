//! What came back: a meeting that was given up without proof is shown alive, and gets a new deadline.

use std::time::Duration;

use tokio::sync::oneshot;

use super::api::{Submission, When};
use super::core::Core;
use crate::job::{By, JobId, Limits, Origin};

impl Core {
    /// A meeting that was given up without proof is alive again: a new deadline, due now, for that very instance.
    pub(super) fn end_again(&mut self, id: JobId) {
        let Some(active) = self.active.get(&id) else { return };
        let job = &active.job;
        let Some(pin) = &job.pin else { return };
        let limits = Limits { warn: Vec::new(), keep_closed: Duration::ZERO, ..job.limits.clone() };
        let submission = Submission {
            server: job.server.clone(),
            meeting: job.meeting.clone(),
            when: When::Now,
            max_duration: None,
            only: Some(pin.instance.clone()),
            limits: limits.into(),
            key: Some(format!("again:{id}:{}", pin.instance)),
            hold: None,
            origin: Origin::Again { job: id },
            by: By::Daemon,
        };
        // Nobody waits for the answer: the event and the new job tell.
        let (reply, _) = oneshot::channel();
        self.submit(submission, reply);
    }
}
