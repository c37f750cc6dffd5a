//! What was acknowledged, and whether what is found after a cut agrees with it. Pure.

use serde_json::Value;

/// A job as an answer showed it, as far as it is compared.
#[derive(Clone, PartialEq, Debug)]
pub struct View {
    pub id: String,
    pub meeting: String,
    pub revision: u64,
    pub due_ms: i64,
    pub state: String,
    pub outcome: Option<String>,
    pub held_until: Option<String>,
    pub reason: String,
    pub ends: u64,
}

impl View {
    pub fn read(job: &Value) -> View {
        let text = |name: &str| job[name].as_str().map(str::to_owned);
        let needed = |name: &str| text(name).unwrap_or_else(|| panic!("no {name} in {job:#}"));
        let due: jiff::Timestamp = needed("due").parse().unwrap();
        View {
            id: needed("id"),
            meeting: needed("meeting"),
            revision: job["revision"].as_u64().unwrap(),
            due_ms: due.as_millisecond(),
            state: needed("state"),
            outcome: text("outcome"),
            held_until: text("held_until"),
            reason: text("reason").unwrap_or_default(),
            ends: job["ends"].as_u64().unwrap(),
        }
    }

    pub fn is_done(&self) -> bool {
        self.state == "done"
    }

    fn is_at_rest(&self) -> bool {
        matches!(self.state.as_str(), "waiting" | "held")
    }

    /// What only a change that counts as a revision may change.
    fn same_words(&self, other: &View) -> bool {
        (self.due_ms, &self.state, &self.outcome, &self.held_until)
            == (other.due_ms, &other.state, &other.outcome, &other.held_until)
    }
}

/// A change that was asked for.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Op {
    Extend { by_ms: i64 },
    Move { due_ms: i64 },
    Hold,
    Release,
    Cancel,
}

/// One job: the last acknowledged answer, and the one change since then whose answer was lost.
#[derive(Clone, Debug)]
pub struct Known {
    pub view: View,
    pub maybe: Option<Op>,
    /// Not compared since it was last asked for.
    pub fresh: bool,
}

impl Known {
    /// As an answer has just shown it.
    pub fn acknowledged(view: View) -> Known {
        Known { view, maybe: None, fresh: true }
    }

    /// As it was found, and agreed with what was known.
    pub fn compared(view: View) -> Known {
        Known { view, maybe: None, fresh: false }
    }

    /// The job as it is now read, against what is known: the sentence says what is wrong.
    pub fn judge(&self, found: Option<&View>, now_ms: i64) -> Result<(), String> {
        let Some(found) = found else { return Err("it was acknowledged, and is gone".to_owned()) };
        let known = &self.view;
        if found.revision < known.revision {
            return Err(format!(
                "revision {} was acknowledged, it is back at {}",
                known.revision, found.revision
            ));
        }
        if found.revision == known.revision {
            return match found.same_words(known) {
                true => Ok(()),
                false => Err(format!("another job under the same revision: acknowledged was {known:?}")),
            };
        }
        if known.is_done() {
            return Err(format!("it was done ({:?}) and has changed", known.outcome));
        }
        let explained = self.by_the_lost_change(found, now_ms) || self.by_the_daemon(found, now_ms);
        if explained { Ok(()) } else { Err(format!("nobody asked for this; known was {self:?}")) }
    }

    fn by_the_lost_change(&self, found: &View, now_ms: i64) -> bool {
        let known = &self.view;
        // The old due may have been reached before the change, which is then the second thing that happened.
        let was_due = known.state == "waiting" && known.due_ms <= now_ms;
        let one_change =
            found.revision == known.revision + 1 || (was_due && found.revision == known.revision + 2);
        match self.maybe {
            Some(Op::Hold) => one_change && found.state == "held" && found.due_ms == known.due_ms,
            Some(Op::Cancel) => found.outcome.as_deref() == Some("cancelled"),
            Some(Op::Release) => one_change && found.state == "waiting" && found.due_ms == known.due_ms,
            Some(Op::Extend { .. } | Op::Move { .. }) => {
                one_change && found.state == known.state && Some(found.due_ms) == self.maybe_due()
            }
            None => false,
        }
    }

    /// Due was reached, by the old word or by the one whose answer was lost.
    fn by_the_daemon(&self, found: &View, now_ms: i64) -> bool {
        let may_fire = self.view.state != "held" || self.maybe == Some(Op::Release);
        let its_due = found.due_ms == self.view.due_ms || Some(found.due_ms) == self.maybe_due();
        let cancelled = found.outcome.as_deref() == Some("cancelled");
        may_fire && its_due && !cancelled && !found.is_at_rest() && found.due_ms <= now_ms
    }

    fn maybe_due(&self) -> Option<i64> {
        match self.maybe {
            Some(Op::Extend { by_ms }) => Some(self.view.due_ms + by_ms),
            Some(Op::Move { due_ms }) => Some(due_ms),
            _ => None,
        }
    }
}

/// The job that all clients extend by a second again and again: no extension may be lost, none may count twice.
#[derive(Clone, Debug)]
pub struct Shared {
    pub view: View,
    pub acknowledged: u64,
    pub lost: u64,
}

impl Shared {
    pub fn new(view: View) -> Shared {
        Shared { view, acknowledged: 0, lost: 0 }
    }

    pub fn judge(&self, found: Option<&View>) -> Result<(), String> {
        let Some(found) = found else { return Err("it was acknowledged, and is gone".to_owned()) };
        let happened = found.revision.saturating_sub(self.view.revision);
        let moved = u64::try_from(found.due_ms - self.view.due_ms).unwrap_or(u64::MAX);
        let possible = self.acknowledged..=self.acknowledged + self.lost;
        if possible.contains(&happened) && moved == happened * 1_000 {
            return Ok(());
        }
        Err(format!("{happened} extensions, due moved by {moved} ms; possible are {possible:?}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view() -> View {
        View {
            id: "1".to_owned(),
            meeting: "math-101".to_owned(),
            revision: 3,
            due_ms: 50_000,
            state: "waiting".to_owned(),
            outcome: None,
            held_until: None,
            reason: String::new(),
            ends: 0,
        }
    }

    #[track_caller]
    fn check(maybe: Option<Op>, found: Option<View>, good: bool) {
        let judged = Known { maybe, ..Known::acknowledged(view()) }.judge(found.as_ref(), 40_000);
        assert_eq!(judged.is_ok(), good, "{judged:?}");
    }

    #[test]
    fn what_was_acknowledged_must_be_there_or_a_later_word() {
        let later = |due_ms| Some(View { revision: 4, due_ms, ..view() });
        let extend = Some(Op::Extend { by_ms: 5_000 });
        check(None, Some(view()), true);
        check(None, None, false);
        check(None, Some(View { revision: 2, ..view() }), false);
        check(None, Some(View { due_ms: 1, ..view() }), false);
        check(None, later(55_000), false);
        check(extend, later(55_000), true);
        check(extend, later(60_000), false);
        check(extend, Some(view()), true);
        check(Some(Op::Hold), Some(View { revision: 4, state: "held".to_owned(), ..view() }), true);
        check(None, Some(View { revision: 4, state: "held".to_owned(), ..view() }), false);
    }

    #[test]
    fn the_daemon_acts_by_itself_only_when_due() {
        let ending = |due_ms| Some(View { revision: 5, state: "ending".to_owned(), due_ms, ..view() });
        check(None, ending(50_000), false);
        let due = Known::acknowledged(View { due_ms: 30_000, ..view() });
        assert_eq!(due.judge(ending(30_000).as_ref(), 40_000), Ok(()));
        let held = Known::acknowledged(View { state: "held".to_owned(), ..due.view });
        assert!(held.judge(ending(30_000).as_ref(), 40_000).is_err());
        let done = View { state: "done".to_owned(), outcome: Some("ended".to_owned()), ..held.view };
        let again = View { revision: 9, ..done.clone() };
        assert!(Known::acknowledged(done).judge(Some(&again), 40_000).is_err());
    }

    #[test]
    fn a_lost_change_may_have_come_just_after_due() {
        for (due_ms, revision, good) in [(30_000, 5, true), (30_000, 6, false), (50_000, 5, false)] {
            let known = Known { maybe: Some(Op::Hold), ..Known::acknowledged(View { due_ms, ..view() }) };
            let held = View { revision, due_ms, state: "held".to_owned(), ..view() };
            assert_eq!(known.judge(Some(&held), 40_000).is_ok(), good, "due {due_ms}, revision {revision}");
        }
    }

    #[test]
    fn no_extension_is_lost_and_none_counts_twice() {
        let shared = Shared { view: view(), acknowledged: 2, lost: 1 };
        for (revision, due_ms, good) in
            [(5, 52_000, true), (6, 53_000, true), (4, 51_000, false), (7, 54_000, false), (5, 53_000, false)]
        {
            let found = View { revision, due_ms, ..view() };
            assert_eq!(shared.judge(Some(&found)).is_ok(), good, "{revision} {due_ms}");
        }
    }
}
