//! A call leaves after its claim: a process that dies right then leaves one that knows that a call may have gone out.

use super::super::check::{Checker, Law};
use super::super::clock::Ms;
use crate::job::Job;
use crate::platform::EndCall;

impl Checker {
    /// An end call leaves, and nothing is the matter with the disk.
    pub fn claimed_first(&mut self, call: &EndCall, stored: Option<&Job>, now: Ms) {
        let claimed = |job: &Job| job.claimed.is_some() || job.ends >= call.attempt;
        if stored.is_some_and(|job| !claimed(job)) {
            let what =
                format!("job {}: call {} leaves before its claim is written", call.job.short(), call.attempt);
            self.flag(Law::ClaimedFirst, now, what);
        }
    }
}
