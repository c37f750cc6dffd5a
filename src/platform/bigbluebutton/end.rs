//! What an answer to `end` means, pure.
//!
//! | answer | what it says |
//! |---|---|
//! | SUCCESS | accepted: also where the meeting ends only later, or never |
//! | `notFound`, `invalidPassword`, `validationError`, `invalidMeetingIdentifier` | maybe gone: look |
//! | `unsupportedRequest` | refused for good |
//! | another FAILED | refused for now |
//! | `checksumError`, HTTP 401, 403 | our configuration; nothing about the meeting |
//! | HTTP 429, 503 | not processed, later |
//! | no connection | certainly not sent |
//! | another status, HTML, half a document, no answer | may have taken effect |

use super::answer::Answer;
use super::requests::Problem;
use crate::job::EndAnswer;

/// The keys by which servers say that they know no such meeting, in the wording of their version.
const MAYBE_GONE: [&str; 4] = ["notFound", "invalidPassword", "validationError", "invalidMeetingIdentifier"];

pub(super) fn map_answer(label: &str, answer: Result<Answer, Problem>) -> EndAnswer {
    match answer {
        Ok(answer) if answer.success => EndAnswer::Accepted,
        Ok(answer) => refused(label, &answer),
        Err(Problem::NotSent(why)) => EndAnswer::Unreachable { why, sent: false },
        Err(Problem::Lost { why, .. } | Problem::Unreadable(why)) => {
            EndAnswer::Unreachable { why, sent: true }
        }
        Err(Problem::Throttled { why, retry_after }) => {
            EndAnswer::Throttled { why, retry_after, unavailable: true }
        }
        Err(Problem::Misconfigured(why)) => EndAnswer::Misconfigured { why },
    }
}

fn refused(label: &str, answer: &Answer) -> EndAnswer {
    let has = |known: &[&str]| answer.keys.iter().any(|key| known.contains(&key.as_str()));
    let why = format!("{label} answered end with FAILED ({})", answer.shown());
    if has(&MAYBE_GONE) {
        return EndAnswer::MaybeGone { why };
    }
    EndAnswer::Refused { why, permanent: has(&["unsupportedRequest"]) }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::answer::parse;
    use super::*;

    fn key(key: &str) -> EndAnswer {
        body(&format!("<response><returncode>FAILED</returncode><messageKey>{key}</messageKey></response>"))
    }

    fn body(xml: &str) -> EndAnswer {
        map_answer("campus", Ok(parse(xml.as_bytes()).unwrap_or_else(|why| panic!("{why}"))))
    }

    #[test]
    fn success_is_accepted_whatever_it_says_besides() {
        let accepted = "<response><returncode>SUCCESS</returncode>\
            <messageKey>sentEndMeetingRequest</messageKey></response>";
        assert_eq!(body(accepted), EndAnswer::Accepted);
        assert_eq!(body("<response><returncode>Success</returncode></response>"), EndAnswer::Accepted);
    }

    #[test]
    fn unknown_meetings_are_maybe_gone_in_every_wording() {
        for gone in MAYBE_GONE {
            assert!(matches!(key(gone), EndAnswer::MaybeGone { .. }), "{gone}");
        }
        let list = "<response><returncode>ERROR</returncode><errors><error><key>x</key></error>\
            <error><key>notFound</key></error></errors></response>";
        assert!(matches!(body(list), EndAnswer::MaybeGone { .. }));
    }

    #[test]
    fn other_failures_are_refusals() {
        assert!(matches!(key("unsupportedRequest"), EndAnswer::Refused { permanent: true, .. }));
        assert!(matches!(key("internalError"), EndAnswer::Refused { permanent: false, .. }));
        assert!(matches!(
            body("<response><returncode>FAILED</returncode></response>"),
            EndAnswer::Refused { permanent: false, .. }
        ));
    }

    #[test]
    fn problems_say_whether_the_call_may_have_worked() {
        let map = |problem| map_answer("campus", Err(problem));
        let why = || "w".to_owned();
        assert_eq!(map(Problem::NotSent(why())), EndAnswer::Unreachable { why: why(), sent: false });
        let lost = Problem::Lost { why: why(), status: Some(404) };
        assert_eq!(map(lost), EndAnswer::Unreachable { why: why(), sent: true });
        assert_eq!(map(Problem::Unreadable(why())), EndAnswer::Unreachable { why: why(), sent: true });
        assert_eq!(map(Problem::Misconfigured(why())), EndAnswer::Misconfigured { why: why() });
        let retry_after = Some(Duration::from_secs(3));
        let throttled = Problem::Throttled { why: why(), retry_after };
        assert_eq!(map(throttled), EndAnswer::Throttled { why: why(), retry_after, unavailable: true });
    }
}
