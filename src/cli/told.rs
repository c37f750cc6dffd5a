//! Whether the people inside are, or were, told that the end comes; and if not, why.

use super::context::Context;
use super::say;
use super::text::clean;
use crate::control::wire::JobAnswer;
use crate::job::{Now, WARN_LATEST, WarningView};
use crate::platform::Telling;

/// What a deadline that was just made will do; `None`: nobody is to be told.
pub fn plan(answer: &JobAnswer, now: Now) -> Option<String> {
    let marks = say::list(&answer.job.warn)?;
    if answer.job.due - WARN_LATEST <= now.wall {
        return Some("nobody inside is told: that is done 10s before at the latest".to_owned());
    }
    let server = clean(answer.job.server.as_str());
    Some(match answer.telling.as_ref().map(parts).unwrap_or_default() {
        (Some(true), _) => format!("the people inside are told {marks} before"),
        (Some(false), why) => format!("nobody inside can be told {marks} before: {why}"),
        (None, _) => {
            format!(
                "the people inside are told {marks} before, if {server} has a way (known once it is tried)"
            )
        }
    })
}

/// What has become of one mark, or will.
pub fn story(warning: &WarningView, telling: Option<&Telling>, cx: &Context) -> String {
    let exact = |at| say::exact(at, &cx.zone);
    let why = clean(warning.why.as_deref().unwrap_or("nobody knows why"));
    match (warning.told, warning.at) {
        (Some(true), at) => {
            let at = at.map_or_else(String::new, |at| format!(" at {}", exact(at)));
            let rooms = match warning.breakout_rooms {
                0 => String::new(),
                1 => ", in 1 breakout room too".to_owned(),
                rooms => format!(", in {rooms} breakout rooms too"),
            };
            format!("told{at}{rooms}")
        }
        (Some(false), _) => format!("not told: {why}"),
        (None, _) if warning.why.is_some() => format!("not told yet: {why}"),
        (None, None) => "not told yet".to_owned(),
        (None, Some(at)) => {
            let at = format!("{} ({})", exact(at), say::relative(at, cx.now()));
            match telling.map(parts).unwrap_or_default() {
                (Some(true), _) => format!("to be told at {at}"),
                (Some(false), why) => format!("nobody can be told at {at}: {why}"),
                (None, _) => format!("to be told at {at}, if the server has a way"),
            }
        }
    }
}

/// Is it possible, and if not, why?
fn parts(telling: &Telling) -> (Option<bool>, String) {
    (telling.possible, clean(telling.why.as_deref().unwrap_or("the server has no way")))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::control::fake::{NOW, job};
    use crate::job::JobView;

    #[track_caller]
    fn check(due_in: u64, possible: Option<bool>, expected: &str) {
        let job = JobView::new(&job(1, "math", Duration::from_secs(due_in)), NOW);
        let job = JobView { warn: vec!["10m".to_owned(), "1m".to_owned()], ..job };
        let why = (possible == Some(false)).then(|| "too old".to_owned());
        let telling = Some(Telling { possible, why });
        let answer = JobAnswer { job, others: Vec::new(), history_left_out: 0, telling };
        assert_eq!(plan(&answer, NOW).as_deref(), Some(expected));
    }

    #[test]
    fn that_they_are_told_is_said_only_where_they_are() {
        check(3_600, Some(true), "the people inside are told 10m and 1m before");
        check(3_600, Some(false), "nobody inside can be told 10m and 1m before: too old");
        let unknown =
            "the people inside are told 10m and 1m before, if campus has a way (known once it is tried)";
        check(3_600, None, unknown);
        check(10, Some(true), "nobody inside is told: that is done 10s before at the latest");
    }
}
