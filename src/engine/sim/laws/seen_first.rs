//! No call that can name only the meeting leaves without a look of its own, within its time, that saw the instance.

use super::super::check::Track;
use super::super::clock::Ms;
use crate::job::InstanceId;

/// Asked at most so long before the call leaves ...
const ASKED: Ms = 2_000;
/// ... or, of a slower server, answered so long before.
const ANSWERED: Ms = 500;

impl Track {
    /// The error says what the call that leaves now lacks.
    pub fn seen_first(&self, instance: &InstanceId, now: Ms) -> Result<(), String> {
        let usable = || self.seen.iter().rev().filter(|seen| seen.usable);
        let shows = |shown: &Option<(InstanceId, _)>| shown.as_ref().is_some_and(|(id, _)| id == instance);
        if !usable().next().is_some_and(|last| shows(&last.shown)) {
            return Err(format!("calls at the meeting though the last look did not show {instance}"));
        }
        let own = usable().take_while(|seen| shows(&seen.shown)).filter(|seen| seen.before_end);
        let in_time = |ago: &(Ms, Ms)| ago.0 <= ASKED || ago.1 <= ANSWERED;
        let mut ago = own.map(|seen| (now - seen.sent, now - seen.received));
        let first = ago.clone().next();
        if ago.any(|ago| in_time(&ago)) {
            return Ok(());
        }
        Err(match first {
            Some((asked, answered)) => {
                format!(
                    "calls at the meeting {asked} ms after its look was asked, {answered} ms after the answer"
                )
            }
            None => format!("calls at the meeting on a look that was not for it, which showed {instance}"),
        })
    }
}
