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

#[cfg(test)]
mod tests {
    use super::super::active::Active;
    use super::super::core::Inner;
    use super::super::tests::still::{pinned, still};
    use crate::job::InstanceId;

    #[tokio::test]
    async fn the_new_deadline_is_for_that_very_instance_once_and_asks_for_nothing_more() {
        let (mut core, mut inner) = still();
        let mut old = pinned(1, core.now().wall);
        old.limits.keep_closed = std::time::Duration::from_secs(600);
        old.limits.warn = vec![std::time::Duration::from_secs(60)];
        let id = old.id;
        core.active.insert(id, Active::written(old));
        core.end_again(id);
        let Ok(Inner::Submitted { job, .. }) = inner.try_recv() else { panic!("no new job") };
        assert_eq!(job.only.as_ref().map(InstanceId::as_str), Some("i"));
        assert!(job.limits.keep_closed.is_zero() && job.limits.warn.is_empty());
        assert_eq!(job.origin.to_string(), format!("again:{id}"));
        core.end_again(id);
        assert!(inner.try_recv().is_err(), "one is enough");
    }
}
