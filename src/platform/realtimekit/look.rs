//! One round of looks: a complete walk of everything live, or, for few targets, the meetings themselves.
//!
//! What a walk leaves open is asked one by one, so many in a round at most and a few at a time: an end call's meeting with
//! two sessions, the record of a session that is missing, whether a meeting exists at all. Targets take turns. The same
//! questions are what is left where the listing fails.

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::stream::{self, StreamExt};

use super::RealtimeKit;
use super::answer::Problem;
use super::budget::Kind;
use super::requests::Api;
use super::sight::{self, Heard, Question, arms, only_watches, precedes_end};
use super::walk::Walk;
use crate::job::{JobId, MeetingId, Sighting};
use crate::platform::{Round, Target};

/// Single questions in one round, at most.
const SINGLES: usize = 32;
/// So many of them may go without an answer before no more are asked.
const LOST: usize = 4;
/// Single questions at the same time.
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
        shown: BTreeMap::new(),
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
    let (walk, failure) = match walk.transpose() {
        Ok(mut walk) => {
            if let Some(walk) = &mut walk
                && walk.pages > 1
                && walk.is_complete()
                && are_many_missing(walk, targets)
            {
                rtk.api.reread(kind, walk).await;
            }
            (walk, None)
        }
        Err(problem) if concerns_all(&problem) => {
            return Round { received: rtk.api.rest.now(), ..failed(none, &problem, targets) };
        }
        Err(problem) => (None, Some(problem)),
    };
    let answers = ask_singles(rtk, kind, walk.as_ref(), failure.as_ref(), targets).await;
    let trouble = trouble(walk.as_ref(), failure.as_ref(), &answers);
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

/// Too many are not shown to ask for each by itself.
fn are_many_missing(walk: &Walk, targets: &[Target]) -> bool {
    let missing = |target: &&Target| match &target.instance {
        Some(id) => walk.get(id).is_none(),
        None => !arms(target.purpose) && walk.live_in(target.meeting.as_str()).is_empty(),
    };
    targets.iter().filter(missing).count() > FEW_MISSING
}

/// Would every other question hear the same?
fn concerns_all(problem: &Problem) -> bool {
    !matches!(problem, Problem::Lost(_) | Problem::Missing(_) | Problem::Refused(_))
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
    /// One of its questions was not asked.
    refused: bool,
}

/// `failure`: why there is no walk, where one was tried.
async fn ask_singles(
    rtk: &RealtimeKit,
    kind: Kind,
    walk: Option<&Walk>,
    failure: Option<&Problem>,
    targets: &[Target],
) -> Vec<Answer> {
    let many_missing = walk.is_some_and(|walk| are_many_missing(walk, targets));
    let share = Share {
        left: AtomicUsize::new(SINGLES),
        lost: AtomicUsize::new(0),
        refusal: failure.cloned().unwrap_or_else(|| too_many(&rtk.api)),
    };
    let round = sight::Round { walk, many_missing };
    let order = rtk.in_turn(targets);
    let asked = order.iter().map(|at| ask_about(rtk, kind, &targets[*at], &round, &share));
    let asked: Vec<_> = asked.collect();
    let answers: Vec<Answer> = stream::iter(asked).buffered(PARALLEL).collect().await;
    let first_refused = answers.iter().position(|answer| answer.refused);
    rtk.next_turn(first_refused.map(|at| turn_of(&targets[order[at]])));
    let mut answers: Vec<(usize, Answer)> = order.into_iter().zip(answers).collect();
    answers.sort_unstable_by_key(|(at, _)| *at);
    answers.into_iter().map(|(_, answer)| answer).collect()
}

/// The single questions of a round.
struct Share {
    left: AtomicUsize,
    /// Without an answer.
    lost: AtomicUsize,
    /// What those hear that are not asked for.
    refusal: Problem,
}

impl Share {
    /// `Some`: not to be asked.
    fn refuse(&self) -> Option<Problem> {
        let broken = self.lost.load(Ordering::Relaxed) >= LOST;
        let one = |left: usize| if broken { None } else { left.checked_sub(1) };
        let taken = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one);
        taken.is_err().then(|| self.refusal.clone())
    }
}

/// By what targets take turns.
pub(super) type Turn = (MeetingId, JobId);

fn turn_of(target: &Target) -> Turn {
    (target.meeting.clone(), target.job)
}

/// The order in which targets are asked for: from `first` on, and then those before it.
pub(super) fn in_turn(targets: &[Target], first: Option<&Turn>) -> Vec<usize> {
    let mut order: Vec<usize> = (0..targets.len()).collect();
    order.sort_by_cached_key(|at| {
        let turn = turn_of(&targets[*at]);
        (first.is_some_and(|first| turn < *first), turn)
    });
    order
}

/// Asks until the sighting is clear; every question is asked once at most.
async fn ask_about(
    rtk: &RealtimeKit,
    kind: Kind,
    target: &Target,
    round: &sight::Round<'_>,
    share: &Share,
) -> Answer {
    let mut heard = Heard { answered: rtk.api.rest.now().wall, ..Heard::default() };
    if rtk.knows(&target.meeting) {
        heard.meeting = Some(Ok(()));
    }
    let mut answer = Answer { sighting: Sighting::Occupied, usable: false, outage: None, refused: false };
    loop {
        let question = match sight::sight(target, round, &heard) {
            Ok(sighting) => {
                answer.usable |= answer.outage.is_none() && !answer.refused;
                return Answer { sighting, ..answer };
            }
            Err(question) => question,
        };
        let refusal = share.refuse();
        let asked = refusal.is_none();
        answer.refused |= !asked;
        let problem = ask(rtk, kind, target, question, refusal, &mut heard).await;
        heard.answered = rtk.api.rest.now().wall;
        match problem {
            Some(problem) if problem.is_outage() => {
                share.lost.fetch_add(usize::from(asked), Ordering::Relaxed);
                answer.outage = Some(problem.why().to_owned());
            }
            _ if !asked => {}
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
    if question == Question::Meeting && matches!(heard.meeting, Some(Ok(()))) {
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
fn trouble(walk: Option<&Walk>, failure: Option<&Problem>, answers: &[Answer]) -> BTreeMap<String, String> {
    let gap = walk.and_then(|walk| walk.gap.as_ref()).or(failure).filter(|gap| gap.is_outage());
    let usable = walk.is_some() || answers.iter().any(|answer| answer.usable);
    let outage = answers.iter().find_map(|answer| answer.outage.clone());
    let why = outage.or_else(|| gap.map(|gap| gap.why().to_owned())).filter(|_| !usable);
    why.map(|why| (String::new(), why)).into_iter().collect()
}
