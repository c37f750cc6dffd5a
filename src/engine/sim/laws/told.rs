//! The judge of what the people inside are told.

use std::collections::BTreeMap;

use super::super::check::Law;
use super::super::clock::Ms;
use crate::job::{Job, JobId, Mark, UtcMs, WARN_LATEST, Warned};
use crate::platform::Warning;

/// On their way to one server.
const AT_ONCE: u32 = 4;

/// One warning that left.
struct Line {
    mark: Mark,
    epoch: u32,
    /// The claim was on the disk.
    claimed: bool,
    /// May it have been shown? Nobody knows while it is on its way.
    shown: Option<bool>,
}

#[derive(Default)]
pub struct Told {
    /// Since the job's due time last changed.
    lines: BTreeMap<JobId, Vec<Line>>,
    in_flight: BTreeMap<usize, u32>,
    epoch: u32,
    pub count: u64,
    broken: Vec<(Law, Ms, String)>,
}

impl Told {
    pub fn restarted(&mut self) {
        self.epoch += 1;
        self.in_flight.clear();
    }

    /// A new due time arms all marks again.
    pub fn moved(&mut self, job: JobId) {
        self.lines.remove(&job);
    }

    /// `walls`: the least and the most that the clock may be taken for.
    pub fn leaves(
        &mut self,
        site: usize,
        warning: &Warning,
        stored: Option<&Job>,
        (now, (least, wall)): (Ms, (UtcMs, UtcMs)),
    ) {
        let Warning { job, mark, .. } = warning;
        let mut broken =
            |law, what: String| self.broken.push((law, now, format!("job {}: {what}", job.short())));
        let in_flight = self.in_flight.entry(site).or_default();
        *in_flight += 1;
        if *in_flight > AT_ONCE {
            broken(Law::Bounded, format!("{in_flight} warnings at once on server {site}"));
        }
        if wall < mark.due - mark.before || least >= mark.due - WARN_LATEST {
            broken(Law::ToldOnce, format!("told {} ms before due, at {mark:?}", mark.due.ms_since(wall)));
        }
        let lines = self.lines.entry(*job).or_default();
        let epoch = self.epoch;
        let counts = |line: &&Line| line.claimed || line.epoch == epoch;
        let before = lines.iter().filter(|line| line.mark == *mark && line.shown != Some(false));
        if before.clone().any(|line| counts(&line)) {
            broken(Law::ToldOnce, format!("told twice, at {mark:?}"));
        }
        let claims = |job: &&Job| job.due == mark.due && job.warnings.claimed == Some(mark.before);
        let claimed = stored.as_ref().is_some_and(claims);
        lines.push(Line { mark: *mark, epoch, claimed, shown: None });
        self.count += 1;
    }

    /// One that has left is waited for no longer.
    pub fn over(&mut self, site: usize) {
        let in_flight = self.in_flight.entry(site).or_default();
        *in_flight = in_flight.saturating_sub(1);
    }

    pub fn answered(&mut self, warning: &Warning, result: &Warned) {
        let shown = matches!(result, Warned::Delivered { .. } | Warned::Failed { sent: true, .. });
        let lines = self.lines.get_mut(&warning.job).into_iter().flatten();
        if let Some(line) = lines.rev().find(|line| line.mark == warning.mark && line.shown.is_none()) {
            line.shown = Some(shown);
        }
    }

    pub fn take_broken(&mut self) -> Vec<(Law, Ms, String)> {
        std::mem::take(&mut self.broken)
    }
}
