//! What many jobs say in the log at once, said once.
//!
//! Behind a load balancer every class that ends early vanishes, and at the full hour many do together: that is one line of
//! the log a server, with the first few names. A run that was left alone is told once, however many deadlines leave it alone,
//! and as a warning where it started so shortly before due that people who lost their line may be in it. Whoever listens
//! to events hears each of them all the same.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::active::{log, tell};
use super::api::Notice;
use super::core::Core;
use crate::job::{BootMs, InstanceId, JobView, Outcome, ServerName};

/// What vanishes in one listing is concluded within this.
const GATHERED_FOR: Duration = Duration::from_secs(2);
/// Meetings that are named.
const NAMED: usize = 3;
/// A run that started so shortly before due may be our people, who have come back.
const SHORTLY: Duration = Duration::from_secs(60);
/// Runs left alone that are remembered as told.
const REMEMBERED: usize = 1_000;

/// What is not in the log yet, and what need not be told again.
#[derive(Debug, Default)]
pub(super) struct Chorus {
    vanished: BTreeMap<ServerName, Vec<Notice>>,
    tell_at: Option<BootMs>,
    left_alone: BTreeSet<(ServerName, InstanceId)>,
}

impl Core {
    /// Sends the events of a job to whoever listens, and to the log as far as they are worth a line of their own.
    pub(super) fn announce_in_chorus(&mut self, notices: Vec<Notice>) {
        let now = self.now().boot;
        for notice in &notices {
            if has_vanished(notice) {
                self.chorus.vanished.entry(notice.server.clone()).or_default().push(notice.clone());
                self.chorus.tell_at.get_or_insert(now + GATHERED_FOR);
            } else if let Some(instance) = came_back_perhaps(notice) {
                self.chorus.warn_once(notice, instance);
            } else {
                log(notice);
            }
        }
        tell(&self.events, notices);
    }

    pub(super) fn tell_chorus(&mut self) {
        let now = self.now().boot;
        if self.chorus.tell_at.is_some_and(|at| now >= at) {
            self.chorus.tell();
        }
    }
}

impl Chorus {
    pub fn wake(&self) -> Option<BootMs> {
        self.tell_at
    }

    fn tell(&mut self) {
        self.tell_at = None;
        for (server, notices) in std::mem::take(&mut self.vanished) {
            match notices.as_slice() {
                [one] => log(one),
                many => tracing::info!(%server, event = "concluded", "{}", together(many)),
            }
        }
    }

    fn warn_once(&mut self, notice: &Notice, instance: &InstanceId) {
        if self.left_alone.len() >= REMEMBERED {
            self.left_alone.clear();
        }
        if !self.left_alone.insert((notice.server.clone(), instance.clone())) {
            return;
        }
        let Notice { server, job, text, .. } = notice;
        let (id, meeting) =
            job.as_ref().map_or((String::new(), ""), |job| (job.id.short(), job.meeting.as_str()));
        tracing::warn!(
            %server, meeting, job = id, event = "left-alone",
            "{text}: it began within a minute before due, as people do who lost their line; keep-closed would end it"
        );
    }
}

/// What has been gathered is told when the daemon stops, too.
impl Drop for Chorus {
    fn drop(&mut self) {
        self.tell();
    }
}

fn has_vanished(notice: &Notice) -> bool {
    let outcome = notice.job.as_ref().and_then(|job| job.outcome);
    notice.event == "concluded" && outcome == Some(Outcome::Vanished)
}

/// The run that was left alone, if our own people may be in it.
fn came_back_perhaps(notice: &Notice) -> Option<&InstanceId> {
    let job: &JobView = notice.job.as_ref().filter(|_| notice.event == "left-alone")?;
    let left = job.left_alone.as_ref()?;
    let started = left.started_at?;
    (job.due - SHORTLY <= started && started <= job.due).then_some(&left.instance)
}

/// `7 meetings have vanished: a, b, c and 4 more`
fn together(notices: &[Notice]) -> String {
    let names = notices.iter().filter_map(|notice| Some(notice.job.as_ref()?.meeting.as_str()));
    let named: Vec<&str> = names.take(NAMED).collect();
    let more = match notices.len() - named.len() {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!("{} meetings have vanished: {}{more}", notices.len(), named.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::fake::{NOW, concluded, job};
    use crate::job::{Job, LeftAloneView, Now, UtcMs};

    fn notice(event: &str, job: JobView) -> Notice {
        let at = NOW.wall.to_string();
        let (event, text) = (event.to_owned(), "said".to_owned());
        Notice { event, text, at, server: "campus".into(), job: Some(job), told: None }
    }

    fn view(job: &Job) -> JobView {
        JobView::new(job, Now::default())
    }

    #[test]
    fn many_that_vanish_are_one_line_with_a_few_names() {
        let vanished = |n: u32| {
            let job = concluded(job(n, &format!("m{n}"), Duration::ZERO), Outcome::Vanished, "");
            notice("concluded", view(&job))
        };
        let many: Vec<Notice> = (1..=7).map(vanished).collect();
        assert!(many.iter().all(has_vanished));
        assert_eq!(together(&many), "7 meetings have vanished: m1, m2, m3 and 4 more");
        assert_eq!(together(&many[..2]), "2 meetings have vanished: m1, m2");
        let ended = concluded(job(8, "m8", Duration::ZERO), Outcome::Ended, "");
        assert!(!has_vanished(&notice("concluded", view(&ended))));
    }

    #[test]
    fn a_run_that_began_within_a_minute_before_due_may_be_our_people() {
        let waiting = job(1, "math", Duration::ZERO);
        let perhaps = |event: &str, before_due_ms: Option<i64>| {
            let started_at = before_due_ms.map(|ms| UtcMs(waiting.due.0 - ms));
            let left = LeftAloneView { instance: "b".into(), started_at };
            came_back_perhaps(&notice(event, JobView { left_alone: Some(left), ..view(&waiting) })).is_some()
        };
        assert!(perhaps("left-alone", Some(0)) && perhaps("left-alone", Some(60_000)));
        assert!(!perhaps("left-alone", Some(60_001)) && !perhaps("left-alone", Some(-1)));
        assert!(!perhaps("left-alone", None) && !perhaps("concluded", Some(0)));
    }
}
