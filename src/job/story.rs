//! The job in sentences, for `show`, `list` and events. Nothing decides on these.

use std::fmt;
use std::time::Duration;

use super::step::Last;
use super::{
    By, CalledOff, EndAnswer, Fact, Instance, InstanceId, Job, Mark, Purpose, State, UtcMs, Verdict,
};

impl Job {
    /// One sentence: how it ended, or what it is doing.
    pub fn sentence(&self) -> String {
        match &self.guard {
            // What the deadline meant comes first.
            Some(guard) if matches!(self.state, State::Ending | State::Confirming) => {
                format!("{}; opened again: {}", guard.reason, self.at_present())
            }
            _ => self.at_present(),
        }
    }

    fn at_present(&self) -> String {
        if let (Some(why), false) = (&self.alarm, self.is_done()) {
            return format!("cannot go on: {why}");
        }
        match self.state {
            State::Waiting if self.awaits_start => self.awaiting_sentence(),
            State::Waiting => "waiting for its deadline".to_owned(),
            State::Held if self.held_past_due => "held; its deadline passed meanwhile".to_owned(),
            State::Held => match self.held_until {
                Some(until) => format!("held until {until}"),
                None => "held until released".to_owned(),
            },
            State::Ending => self.ending_sentence(),
            State::Confirming => match &self.run.last {
                Last::Alive if self.stubborn => {
                    "the end call was accepted, but the meeting is still alive".to_owned()
                }
                Last::Alive => "the end call was accepted; the meeting is still alive".to_owned(),
                Last::Unsure(why) => format!("the end call was accepted; not proven over yet: {why}"),
                _ => "the end call was accepted; looking for proof".to_owned(),
            },
            State::Guarding => format!("{}; ends what is reopened", self.reason),
            State::Done => self.reason.clone(),
        }
    }

    fn awaiting_sentence(&self) -> String {
        let limit = humantime::format_duration(self.max_duration.unwrap_or_default());
        let first = if self.due.is_never() { "" } else { ", or at its deadline if that comes first" };
        format!("waiting for the meeting to start; it ends {limit} later{first}")
    }

    fn ending_sentence(&self) -> String {
        let run = &self.run;
        if run.queued {
            return "waiting for its turn at the server".to_owned();
        }
        if run.calling.is_some() {
            return "the end call is under way".to_owned();
        }
        match &run.last {
            Last::Unsure(why) => format!("looking before the end call: {why}"),
            _ => "looking before the end call".to_owned(),
        }
    }
}

impl fmt::Display for Fact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fact::Submitted { due, by } if due.is_never() => {
                write!(f, "submitted by {by}; the start of the meeting will tell when it is due")
            }
            Fact::Submitted { due, by } => write!(f, "submitted by {by}, due {due}"),
            Fact::RuleHit { rule, reason } => write!(f, "rule {rule} applies: {reason}"),
            Fact::Started { instance, started_at, due } => since(f, instance, *started_at, *due),
            Fact::Moved { to, extension: true, by } => {
                write!(f, "due moved to {to} by {by}; the plan stays as it was")
            }
            Fact::Moved { to, extension: false, by } => write!(f, "due moved to {to} by {by}"),
            Fact::Held { until, by } => held(f, *until, by),
            Fact::HeldPastDue => f.write_str("due passed while held: it stays held until released"),
            Fact::Released { by } => released(f, by.as_ref()),
            Fact::Looked { purpose, took_ms, verdict } => write!(f, "{purpose}: {verdict} ({took_ms} ms)"),
            Fact::Pinned { pin } => {
                write!(f, "pinned instance {}", pin.instance)?;
                started(f, pin.started_at)
            }
            Fact::Listed
            | Fact::PinDecided
            | Fact::Unproven { .. }
            | Fact::Carried { .. }
            | Fact::Blocked { .. }
            | Fact::CameBack { .. }
            | Fact::MayHaveHit { .. }
            | Fact::LeftAlone { .. }
            | Fact::LeftOpen { .. } => whose(f, self),
            Fact::WarningClaimed(mark) => write!(f, "{mark} may leave from now on"),
            Fact::WarningDue { mark, delivered: true, also, .. } => told(f, *mark, *also),
            Fact::WarningDue { mark, why, .. } => {
                write!(f, "{mark} not delivered: {}", why.as_deref().unwrap_or("nobody knows why"))
            }
            Fact::WarningPutOff { mark, why } => write!(f, "{mark} not delivered yet: {why}"),
            Fact::Claimed => f.write_str("claimed: an end call may leave from now on"),
            Fact::DueReached { late_ms } => write!(f, "due reached, {late_ms} ms late"),
            Fact::EndSent { attempt, aim, instance, looked_ms_ago } => {
                write!(f, "end call {attempt} sent, aimed at the {aim}")?;
                write!(f, "; instance {instance} was seen alive {looked_ms_ago} ms before")
            }
            Fact::EndAnswered { attempt, answer } => write!(f, "end call {attempt} {answer}"),
            Fact::Locked => f.write_str("the room is locked"),
            Fact::LockFailed { why } => write!(f, "the room could not be locked: {why}"),
            Fact::AnswerLost => {
                f.write_str("an end call may have gone out before the restart; its answer is lost")
            }
            Fact::StillThere => f.write_str("the same meeting is still there: ending it again"),
            Fact::Stubborn => f.write_str("still alive a minute after the platform accepted the end call"),
            Fact::Overdue => f.write_str("overdue: not known to be over"),
            Fact::Alarm { why } => write!(f, "configuration fault: {why}"),
            Fact::AlarmOver => f.write_str("the configuration fault is over"),
            Fact::ExpectedLive => {
                f.write_str("it was expected to be live at its deadline, and was not there")
            }
            Fact::Guarding { outcome, reason } => write!(f, "{outcome}: {reason}; keeping it closed"),
            Fact::Reopened { instance } => write!(f, "the meeting was opened again, as instance {instance}"),
            Fact::CalledOff { cause } => f.write_str(called_off(*cause)),
            Fact::Concluded { outcome, reason } => write!(f, "{outcome}: {reason}"),
            Fact::Restarted => f.write_str("taken up again after a restart"),
        }
    }
}

fn since(
    f: &mut fmt::Formatter<'_>,
    instance: &InstanceId,
    started_at: Option<UtcMs>,
    due: UtcMs,
) -> fmt::Result {
    match started_at {
        Some(at) => write!(f, "instance {instance} started at {at}: due {due}"),
        None => write!(f, "instance {instance} is live and does not say since when: due {due}"),
    }
}

fn told(f: &mut fmt::Formatter<'_>, mark: Mark, breakouts: u32) -> fmt::Result {
    match breakouts {
        0 => write!(f, "{mark} delivered"),
        1 => write!(f, "{mark} delivered, to 1 breakout room too"),
        rooms => write!(f, "{mark} delivered, to {rooms} breakout rooms too"),
    }
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "warning (mark {})", humantime::format_duration(self.before))
    }
}

impl fmt::Display for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Purpose::Pin => "look at the pin moment",
            Purpose::Arm => "armed by a look",
            Purpose::BeforeEnd => "look before the end call",
            Purpose::Last => "last look, in the end call's own turn",
            Purpose::Confirm => "look for proof",
            Purpose::Guard => "look whether it was reopened",
            Purpose::After => "last look",
        })
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Verdict::Live(seen) => write!(f, "alive, {}", Shown(seen)),
            Verdict::Replaced { by, counts: true } => write!(f, "replaced by {}", Shown(by)),
            Verdict::Replaced { by, counts: false } => {
                write!(f, "{} is alive, which proves nothing about ours", Shown(by))
            }
            Verdict::Occupied => f.write_str("somebody is in it, instance unknown"),
            Verdict::Gone { .. } => f.write_str("not there"),
            Verdict::Doubtful { why } => write!(f, "doubtful: {why}"),
            Verdict::Vanished { why, .. } => write!(f, "not shown any more: {why}"),
            Verdict::Hopeless { why } => write!(f, "cannot be proven any more: {why}"),
            Verdict::Unreachable { why } => write!(f, "no answer: {why}"),
            Verdict::Misconfigured { why } => write!(f, "refused: {why}"),
        }
    }
}

struct Shown<'a>(&'a Instance);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "instance {}", self.0.id)?;
        started(f, self.0.started_at)?;
        match self.0.participants {
            Some(n) => write!(f, ", {n} inside"),
            None => Ok(()),
        }
    }
}

/// Whose instance it is, and whose call.
fn whose(f: &mut fmt::Formatter<'_>, fact: &Fact) -> fmt::Result {
    match fact {
        Fact::Unproven { instance } => {
            write!(f, "nothing proves that instance {instance}, which was pinned before, is gone")
        }
        Fact::Listed => f.write_str("a listing shows it as well"),
        Fact::PinDecided => f.write_str("nobody who is live belongs to this deadline"),
        Fact::Carried { by, instance } => {
            write!(f, "the end call of job {} at instance {instance} stands for this one too", by.short())
        }
        Fact::Blocked { why } => write!(f, "blocked, no end call may leave: {why}"),
        Fact::CameBack { instance } => {
            write!(f, "instance {instance} is shown alive again: a new deadline is made for it")
        }
        Fact::MayHaveHit { instances } => {
            let names: Vec<&str> = instances.iter().map(InstanceId::as_str).collect();
            write!(
                f,
                "the call may have hit {} as well: seen shortly before, gone after it",
                names.join(", ")
            )
        }
        Fact::LeftAlone { instance, started_at } => {
            write!(f, "instance {instance} is alive, is not ours and was left alone")?;
            started(f, *started_at)
        }
        Fact::LeftOpen { outcome, reason } => {
            write!(f, "what was opened again could not be kept closed, {outcome}: {reason}")
        }
        _ => Ok(()),
    }
}

fn called_off(cause: CalledOff) -> &'static str {
    match cause {
        CalledOff::Withdrawn => "taken back by the sweep",
        CalledOff::TooMany => "called off by the last look",
    }
}

fn held(f: &mut fmt::Formatter<'_>, until: Option<UtcMs>, by: &By) -> fmt::Result {
    match until {
        Some(until) => write!(f, "held by {by} until {until}"),
        None => write!(f, "held by {by}"),
    }
}

fn released(f: &mut fmt::Formatter<'_>, by: Option<&By>) -> fmt::Result {
    match by {
        Some(by) => write!(f, "released by {by}"),
        None => f.write_str("released: the time given with the hold is over"),
    }
}

fn started(f: &mut fmt::Formatter<'_>, at: Option<UtcMs>) -> fmt::Result {
    at.map_or(Ok(()), |at| write!(f, ", started {at}"))
}

impl fmt::Display for EndAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EndAnswer::Accepted => f.write_str("accepted"),
            EndAnswer::MaybeGone { why } => write!(f, "refused as if the meeting were gone: {why}"),
            EndAnswer::Refused { why, permanent: true } => write!(f, "refused for good: {why}"),
            EndAnswer::Refused { why, permanent: false } => write!(f, "refused: {why}"),
            EndAnswer::Throttled { why, retry_after, .. } => {
                write!(f, "put off: {why}")?;
                let pause = retry_after.map(|pause| Duration::from_secs(pause.as_secs()));
                pause.map_or(Ok(()), |pause| write!(f, ", again in {}", humantime::format_duration(pause)))
            }
            EndAnswer::Misconfigured { why } => write!(f, "refused, credentials: {why}"),
            EndAnswer::Unreachable { why, sent: true } => write!(f, "lost its answer: {why}"),
            EndAnswer::Unreachable { why, sent: false } => write!(f, "did not get through: {why}"),
        }
    }
}

impl fmt::Display for By {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            By::Peer { uid, pid: Some(pid) } => write!(f, "uid {uid} (pid {pid})"),
            By::Peer { uid, pid: None } => write!(f, "uid {uid}"),
            By::Schedule => f.write_str("the schedule file"),
            By::Daemon => f.write_str("adjourn itself"),
        }
    }
}
