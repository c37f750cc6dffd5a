//! One round of looks: a complete walk of everything live, or, for few targets, the meetings themselves.
//!
//! What a walk leaves open is asked one by one, so many in a round at most and a few at a time: an end call's meeting with
//! two sessions, the record of a session that is missing, whether a meeting exists at all.

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::stream::{self, StreamExt};

use super::RealtimeKit;
use super::answer::Problem;
use super::budget::Kind;
use super::requests::Api;
use super::sight::{self, Heard, Question, only_watches, precedes_end};
use super::walk::Walk;
use crate::job::{MeetingId, Sighting};
use crate::platform::{Round, Target};

/// Single questions in one round, at most.
const SINGLES: usize = 32;
/// Of those at the same time.
const PARALLEL: usize = 8;
/// The records of so many missing sessions are asked for, because one record proves at once what a second walk would.
const FEW_MISSING: usize = 8;
/// About so many requests go into the look at one meeting by itself.
const SINGLE_COST: usize = 2;

pub(super) async fn look(rtk: &RealtimeKit, targets: &[Target]) -> Round {
    let sent = rtk.api.rest.now();
    let none = Round {
        sent,
        received: sent,
        sightings: Vec::new(),
        listings: BTreeMap::new(),
        trouble: BTreeMap::new(),
    };
    if targets.is_empty() {
        return none;
    }
    rtk.api.purse().begin_round();
    let urgent = targets.iter().any(|target| precedes_end(target.purpose));
    let kind = if urgent { Kind::Urgent } else { Kind::Other };
    let walk = match is_few(targets, rtk.api.pages()) {
        true => None,
        false => Some(rtk.api.walk(kind, |walk| shows_all(walk, targets)).await),
    };
    let walk = match walk.transpose() {
        Ok(walk) => walk,
        Err(problem) => return Round { received: rtk.api.rest.now(), ..failed(none, &problem, targets) },
    };
    let answers = ask_singles(rtk, kind, walk.as_ref(), targets).await;
    let trouble = trouble(walk.as_ref(), &answers);
    let sightings = answers.into_iter().map(|answer| answer.sighting).collect();
    Round { received: rtk.api.rest.now(), sightings, trouble, ..none }
}

/// Is asking meeting by meeting cheaper than a walk?
fn is_few(targets: &[Target], pages: usize) -> bool {
    let meetings: HashSet<&MeetingId> = targets.iter().map(|target| &target.meeting).collect();
    meetings.len() * SINGLE_COST <= pages.max(SINGLE_COST)
}

/// Everything that is asked for is there, and nothing that is missing matters.
fn shows_all(walk: &Walk, targets: &[Target]) -> bool {
    targets.iter().all(|target| match &target.instance {
        Some(id) if !only_watches(target.purpose) => walk.get(id).is_some(),
        _ => !walk.live_in(target.meeting.as_str()).is_empty(),
    })
}

fn failed(none: Round, problem: &Problem, targets: &[Target]) -> Round {
    let trouble = problem.is_outage().then(|| (String::new(), problem.why().to_owned()));
    let sightings = vec![problem.sighting(); targets.len()];
    Round { sightings, trouble: trouble.into_iter().collect(), ..none }
}

struct Answer {
    sighting: Sighting,
    /// The server answered something usable.
    usable: bool,
    outage: Option<String>,
}

async fn ask_singles(rtk: &RealtimeKit, kind: Kind, walk: Option<&Walk>, targets: &[Target]) -> Vec<Answer> {
    let missing = |walk: &&Walk| {
        let pinned = targets.iter().filter_map(|target| target.instance.as_ref());
        pinned.filter(|id| walk.get(id).is_none()).count() > FEW_MISSING
    };
    let many_missing = walk.as_ref().is_some_and(missing);
    let left = AtomicUsize::new(SINGLES);
    let round = sight::Round { walk, many_missing };
    let asked = targets.iter().map(|target| ask_about(rtk, kind, target, &round, &left));
    let asked: Vec<_> = asked.collect();
    stream::iter(asked).buffered(PARALLEL).collect().await
}

/// Asks until the sighting is clear; every question is asked once at most.
async fn ask_about(
    rtk: &RealtimeKit,
    kind: Kind,
    target: &Target,
    round: &sight::Round<'_>,
    left: &AtomicUsize,
) -> Answer {
    let mut heard = Heard { skew: rtk.api.rest.skew(), ..Heard::default() };
    if rtk.knows(&target.meeting) {
        heard.meeting = Some(Ok(()));
    }
    let mut answer = Answer { sighting: Sighting::Occupied, usable: false, outage: None };
    loop {
        let question = match sight::sight(target, round, &heard) {
            Ok(sighting) => {
                answer.usable |= answer.outage.is_none();
                return Answer { sighting, ..answer };
            }
            Err(question) => question,
        };
        let asked = left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        let refusal = asked.is_err().then(|| too_many(&rtk.api));
        let problem = ask(rtk, kind, target, question, refusal, &mut heard).await;
        heard.skew = rtk.api.rest.skew();
        match problem {
            Some(problem) if problem.is_outage() => answer.outage = Some(problem.why().to_owned()),
            Some(Problem::NotNow { .. }) => {}
            _ => answer.usable = true,
        }
    }
}

/// Asks one question, unless it is refused; what is wrong with the answer.
async fn ask(
    rtk: &RealtimeKit,
    kind: Kind,
    target: &Target,
    question: Question,
    refusal: Option<Problem>,
    heard: &mut Heard,
) -> Option<Problem> {
    let meeting = target.meeting.as_str();
    let asked = refusal.is_none();
    match (question, refusal) {
        (Question::Active, Some(refusal)) => heard.active = Some(Err(refusal)),
        (Question::Record, Some(refusal)) => heard.record = Some(Err(refusal)),
        (Question::Meeting, Some(refusal)) => heard.meeting = Some(Err(refusal)),
        (Question::Active, None) => heard.active = Some(rtk.api.active(kind, meeting).await),
        (Question::Record, None) => {
            let id = target.instance.as_ref().map_or("", |id| id.as_str());
            heard.record = Some(rtk.api.session(kind, id).await);
        }
        (Question::Meeting, None) => {
            heard.meeting = Some(rtk.api.meeting(kind, meeting).await);
        }
    }
    if asked && question != Question::Meeting {
        heard.shown_at.get_or_insert_with(|| rtk.api.rest.now());
    }
    if matches!(heard.meeting, Some(Ok(()))) {
        rtk.note_known(&target.meeting);
    }
    let problem = match question {
        Question::Active => heard.active.as_ref()?.as_ref().err(),
        Question::Record => heard.record.as_ref()?.as_ref().err(),
        Question::Meeting => heard.meeting.as_ref()?.as_ref().err(),
    };
    problem.cloned()
}

fn too_many(api: &Api) -> Problem {
    let why = format!("{}: not asked yet, too many meetings in doubt at once", api.rest.label);
    Problem::NotNow { why, pause: Duration::ZERO }
}

/// Any usable answer shows that the server is there.
fn trouble(walk: Option<&Walk>, answers: &[Answer]) -> BTreeMap<String, String> {
    let gap = walk.and_then(|walk| walk.gap.as_ref()).filter(|gap| gap.is_outage());
    let usable = walk.is_some() || answers.iter().any(|answer| answer.usable);
    let outage = answers.iter().find_map(|answer| answer.outage.clone());
    let why = outage.or_else(|| gap.map(|gap| gap.why().to_owned())).filter(|_| !usable);
    why.map(|why| (String::new(), why)).into_iter().collect()
}
