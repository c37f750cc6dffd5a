//! Telling the people inside: a line in the public chat, from 3.0 on.
//!
//! | answer to `sendChatMessage` | what it says |
//! |---|---|
//! | SUCCESS | delivered; whether it was shown, nobody says |
//! | `meetingNotFound` | unknown, or nobody inside |
//! | `unsupportedRequest` (Scalelite), a page instead of the API's answer (before 3.0) | there is no such call |
//! | another FAILED, HTTP 429, 503, no connection | not delivered |
//! | no answer, another status from a server that has the call | may have been shown |
//!
//! Breakout rooms hear nothing of their parent's chat: each gets its own line. The meeting is asked for first: who it is for
//! may be named by its instance, and a short id may have found another one. That takes its time: each line is made, and
//! may be called off, right before it leaves.

use futures_util::future::join_all;

use super::answer::{Answer, Entry, Info};
use super::requests::Problem;
use super::{BigBlueButton, Front};
use crate::job::Warned;
use crate::platform::{Telling, Warning};

/// Lines on their way to breakout rooms at once.
const AT_ONCE: usize = 4;
/// By these a server says that nobody can hear it.
const NOBODY: [&str; 3] = ["meetingNotFound", "notFound", "invalidMeetingIdentifier"];

/// What the last probe says of it. Another balancer than Scalelite may pass the call on, or not.
pub(super) fn telling(bbb: &BigBlueButton) -> Telling {
    if bbb.front() == Front::Scalelite {
        return Telling::impossible("Scalelite has no sendChatMessage".to_owned());
    }
    let has_call = bbb.front.known().seen.as_ref().is_some_and(|seen| seen.takes_instances);
    Telling { possible: has_call.then_some(true), why: None }
}

pub(super) async fn warn(bbb: &BigBlueButton, warning: &Warning) -> Warned {
    let entry = match bbb.front.info(&warning.meeting).await {
        Ok(Info::Live(entry)) if entry.is_called(warning.meeting.as_str()) => entry,
        Ok(Info::Live(_)) => return unsent(format!("{} answered about another meeting", bbb.front.label)),
        Ok(Info::NotFound) => return Warned::NotThere,
        Ok(Info::Unclear(why)) => {
            return unsent(format!("{}: the answer to getMeetingInfo {why}", bbb.front.label));
        }
        Err(problem) => return unsent(problem.why().to_owned()),
    };
    if warning.instance.is_some() && warning.instance != entry.internal {
        return Warned::NotThere;
    }
    let named = entry.internal.as_ref().filter(|_| bbb.names_instances(None));
    let meeting = named.map_or(warning.meeting.as_str(), |instance| instance.as_str());
    let text = match warning.line() {
        Ok(text) => text,
        Err(why) => return unsent(why),
    };
    let told = bbb.front.say(meeting, &text).await;
    // A dead backend looks like a missing page; where a probe has seen 3.0, it is not the call that is missing.
    let has_call = bbb.front.known().seen.as_ref().is_some_and(|seen| seen.takes_instances);
    let told = map_answer(&bbb.front.label, told, has_call);
    match told {
        Warned::Unsupported(_) => told,
        _ => with_breakouts(told, tell_breakouts(bbb, &entry, warning).await, *entry),
    }
}

/// How many of them were told. After a request without an answer, and once it is not wanted any more, no more are sent.
async fn tell_breakouts(bbb: &BigBlueButton, entry: &Entry, warning: &Warning) -> usize {
    let mut told = 0;
    for rooms in entry.breakouts.chunks(AT_ONCE) {
        let Ok(text) = warning.line() else { break };
        let answers = join_all(rooms.iter().map(|room| bbb.front.say(room, &text))).await;
        told += answers.iter().flatten().filter(|answer| answer.success).count();
        if answers.iter().any(|answer| answer.as_ref().is_err_and(Problem::is_outage)) {
            break;
        }
    }
    told
}

/// Whoever sits in a breakout room is one of the people inside.
fn with_breakouts(told: Warned, also: usize, entry: Entry) -> Warned {
    match told {
        Warned::Delivered { .. } => Warned::Delivered { instance: entry.internal, also },
        _ if also > 0 => Warned::Delivered { instance: entry.internal, also },
        other => other,
    }
}

fn unsent(why: String) -> Warned {
    Warned::Failed { why, sent: false }
}

/// `has_call`: the server is known to have it.
fn map_answer(label: &str, answer: Result<Answer, Problem>, has_call: bool) -> Warned {
    let has = |answer: &Answer, known: &[&str]| answer.keys.iter().any(|key| known.contains(&key.as_str()));
    match answer {
        Ok(answer) if answer.success => Warned::Delivered { instance: None, also: 0 },
        Ok(answer) if has(&answer, &NOBODY) => Warned::NotThere,
        Ok(answer) if has(&answer, &["unsupportedRequest"]) => {
            Warned::Unsupported(format!("{label} has no sendChatMessage (unsupportedRequest)"))
        }
        Ok(answer) => unsent(format!("{label} answered sendChatMessage with FAILED ({})", answer.shown())),
        Err(Problem::Lost { status: Some(status @ (404 | 500)), .. }) if !has_call => {
            let why =
                format!("{label} has no sendChatMessage (HTTP {status}): BigBlueButton has it from 3.0");
            Warned::Unsupported(why)
        }
        Err(Problem::Lost { why, .. } | Problem::Unreadable(why)) => Warned::Failed { why, sent: true },
        Err(problem) => unsent(problem.why().to_owned()),
    }
}
