//! What will end when: from the entries, the rules and the queue. Pure.
//!
//! An open job stands for the entry or the occurrence that it was made from: it knows of extensions and holds. An
//! occurrence whose job is done already (cancelled by hand, fired early) will not come again, and is shown as skipped with
//! that reason; so is one that a calendar excludes. Nothing here is a promise for a job that does not exist yet: calendars
//! and feeds may change until then.
//!
//! Bounded: the earliest [`MAX_ITEMS`] are shown, and [`Preview::complete_until`] says how far that reaches.

use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashSet};

use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

use super::ends::{Skip, Skipped, ends};
use super::feed::{Feeds, Source};
use super::ical::Remarks;
use super::model::{Entry, Recurring, Rule, Schedule};
use super::{expand, rule};
use crate::job::{
    InstanceId, Job, JobId, Limits, MeetingId, Origin, Outcome, ServerName, State, UtcMs, rfc3339,
    rfc3339_option,
};

/// Deadlines that a preview shows.
pub const MAX_ITEMS: usize = 10_000;
/// Closing times that a preview shows of one rule.
const MAX_CLOSINGS: usize = 5;
/// Events of one feed that are named as ending nothing.
const MAX_SKIPS: usize = 20;

/// What is asked for: after `now`, up to and including `until`.
#[derive(Clone, Debug)]
pub struct Span {
    pub now: UtcMs,
    pub until: UtcMs,
    /// Of this server alone.
    pub server: Option<ServerName>,
}

/// What is known of the queue.
#[derive(Clone, Debug, Default)]
pub struct Open {
    /// Open jobs that are due within the span, or at work.
    pub jobs: Vec<Job>,
    /// Not all of them are there: those that are due up to this time.
    pub complete_until: Option<UtcMs>,
    /// Their run is not live any more: at their time they only prove that it is over.
    pub gone: BTreeSet<JobId>,
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Preview {
    #[serde(with = "rfc3339")]
    pub from: UtcMs,
    #[serde(with = "rfc3339")]
    pub until: UtcMs,
    /// Earlier than `until` where there is more than can be shown: up to here nothing is left out.
    #[serde(with = "rfc3339")]
    pub complete_until: UtcMs,
    /// In the order of their times.
    pub items: Vec<Item>,
    pub rules: Vec<RuleLine>,
    /// What may come otherwise, such as a calendar that was never read.
    pub notes: Vec<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// It is a job already.
    Job,
    /// It will be one.
    Planned,
    /// It would be, but something stands against it.
    Skipped,
}

/// One deadline.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Item {
    #[serde(with = "rfc3339")]
    pub due: UtcMs,
    /// The same in the time zone of its entry: RFC 9557, `2026-12-01T10:15:00+01:00[Europe/Berlin]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local: Option<String>,
    pub server: ServerName,
    pub meeting: MeetingId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<InstanceId>,
    pub kind: Kind,
    /// As jobs show it: `cli`, `api`, `schedule:NAME`, `rule:NAME`.
    pub origin: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<JobId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<State>,
    /// The due time as planned, where people have extended it.
    #[serde(default, with = "rfc3339_option", skip_serializing_if = "Option::is_none")]
    pub extended_from: Option<UtcMs>,
    /// When the people inside are told.
    pub warnings: Vec<Instant>,
    /// Exceptions, what the clocks do on that day, holds.
    pub notes: Vec<String>,
}

/// An instant in a list, as text.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Instant(#[serde(with = "rfc3339")] pub UtcMs);

/// One rule: what it asks for cannot be known before the meetings run.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct RuleLine {
    pub name: String,
    pub server: ServerName,
    pub dry_run: bool,
    /// One sentence.
    pub text: String,
    /// The next times at which it closes what runs.
    pub closes: Vec<Instant>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
}

/// What the entries ask for, before the queue is asked about it.
struct Planned {
    entry: Entry,
    notes: Vec<String>,
    /// Why it does not happen.
    skipped: Option<String>,
}

/// What will end when. `known` gives the job that an entry was made into, the open one before a done one.
pub fn preview<E>(
    schedule: &Schedule,
    feeds: &Feeds,
    span: &Span,
    open: Open,
    mut known: impl FnMut(&Entry) -> Result<Option<Job>, E>,
) -> Result<Preview, E> {
    let zones = zones(schedule);
    let wanted = wanted(schedule, feeds, span);
    let mut complete_until = earliest(wanted.complete_until, open.complete_until, span.until);
    let mut shown: HashSet<JobId> = open.jobs.iter().map(|job| job.id).collect();
    let stand_for: HashSet<String> = open.jobs.iter().filter_map(identity).map(str::to_owned).collect();
    let mut items: Vec<Item> = Vec::new();
    let mut jobs = open.jobs.clone();
    for planned in wanted.planned {
        if planned.skipped.is_none() && stand_for.contains(&planned.entry.identity) {
            continue;
        }
        match known(&planned.entry)? {
            Some(job) if !job.is_done() => {
                if shown.insert(job.id) {
                    jobs.push(job);
                }
            }
            job => items.push(planned_item(planned, job.as_ref(), &zones, span.now)),
        }
    }
    let within = |job: &Job| job.due <= span.until && span.is_asked_for(&job.server) && !job.is_done();
    let (gone, there): (Vec<&Job>, Vec<&Job>) =
        jobs.iter().filter(|job| within(job)).partition(|job| open.gone.contains(&job.id));
    items.extend(there.into_iter().map(|job| job_item(job, &zones, span.now)));
    items.sort_by(|a, b| (a.due, &a.server, &a.meeting).cmp(&(b.due, &b.server, &b.meeting)));
    if items.len() > MAX_ITEMS {
        // What is due at the same instant as the first one left out is not complete.
        complete_until = complete_until.min(UtcMs(items[MAX_ITEMS].due.0 - 1));
    }
    items.retain(|item| item.due <= complete_until);
    let rules = schedule.rules.iter().filter(|rule| span.is_asked_for(&rule.server));
    Ok(Preview {
        from: span.now,
        until: span.until,
        complete_until,
        items,
        rules: rules.map(|rule| rule_line(rule, schedule, feeds, span)).collect(),
        notes: notes(schedule, feeds, span).into_iter().chain(told_gone(gone.len())).collect(),
    })
}

impl Span {
    fn is_asked_for(&self, server: &ServerName) -> bool {
        self.server.as_ref().is_none_or(|asked| asked == server)
    }
}

fn earliest(a: Option<UtcMs>, b: Option<UtcMs>, until: UtcMs) -> UtcMs {
    a.into_iter().chain(b).fold(until, UtcMs::min)
}

// What the entries ask for.

struct Wanted {
    planned: Vec<Planned>,
    complete_until: Option<UtcMs>,
}

fn wanted(schedule: &Schedule, feeds: &Feeds, span: &Span) -> Wanted {
    let mut first = Earliest::default();
    for entry in schedule.entries.iter().filter(|entry| span.is_asked_for(&entry.server)) {
        if entry.at > span.now && entry.at <= span.until {
            let planned = || Planned { entry: entry.clone(), notes: Vec::new(), skipped: None };
            first.offer(entry.at, planned);
        }
    }
    for recurring in schedule.recurring.iter().filter(|entry| span.is_asked_for(&entry.server)) {
        for occurrence in recurring.recurrence.between(span.now, span.until) {
            let planned = || occurring(recurring, &occurrence, schedule, feeds);
            if !first.offer(occurrence.at, planned) {
                break;
            }
        }
    }
    for end in schedule.calendar_ends.iter().filter(|end| span.is_asked_for(&end.server)) {
        let Some(found) = ends(end, &schedule.calendars, feeds, span.now, span.until) else { continue };
        for entry in found.entries {
            let at = entry.at;
            let notes = found.clock_notes.get(&entry.identity).cloned().into_iter().collect();
            first.offer(at, || Planned { entry, notes, skipped: None });
        }
        for Skip { reason, entry, .. } in found.excepted.first {
            let Some(entry) = entry else { continue };
            first.offer(entry.at, || Planned { entry: *entry, notes: Vec::new(), skipped: Some(reason) });
        }
    }
    first.done()
}

fn occurring(
    recurring: &Recurring,
    occurrence: &super::recurrence::Occurrence,
    schedule: &Schedule,
    feeds: &Feeds,
) -> Planned {
    let zone = recurring.recurrence.zone();
    Planned {
        entry: expand::occurrence_entry(recurring, occurrence.at),
        notes: occurrence.note.iter().map(ToString::to_string).collect(),
        skipped: recurring.days.allows(&schedule.calendars, feeds, occurrence.at, zone).err(),
    }
}

/// The earliest [`MAX_ITEMS`] of what is offered.
#[derive(Default)]
struct Earliest {
    /// The latest on top.
    kept: BinaryHeap<(UtcMs, usize)>,
    planned: BTreeMap<usize, Planned>,
    offered: usize,
    /// The earliest time that was turned away.
    refused: Option<UtcMs>,
}

impl Earliest {
    /// False: there is no room for this one, nor for any that comes later.
    fn offer(&mut self, at: UtcMs, planned: impl FnOnce() -> Planned) -> bool {
        if self.kept.len() >= MAX_ITEMS {
            match self.kept.peek() {
                Some((latest, _)) if at < *latest => {
                    if let Some((latest, gone)) = self.kept.pop() {
                        self.planned.remove(&gone);
                        self.refuse(latest);
                    }
                }
                _ => {
                    self.refuse(at);
                    return false;
                }
            }
        }
        self.kept.push((at, self.offered));
        self.planned.insert(self.offered, planned());
        self.offered += 1;
        true
    }

    fn refuse(&mut self, at: UtcMs) {
        self.refused = Some(self.refused.map_or(at, |known| known.min(at)));
    }

    fn done(self) -> Wanted {
        let complete_until = self.refused.map(|at| UtcMs(at.0 - 1));
        Wanted { planned: self.planned.into_values().collect(), complete_until }
    }
}

// Items.

/// The zones of the entries, by their names.
type Zones<'a> = BTreeMap<&'a str, TimeZone>;

fn zones(schedule: &Schedule) -> Zones<'_> {
    let recurring = schedule.recurring.iter();
    let recurring = recurring.map(|entry| (entry.name.as_str(), entry.recurrence.zone().clone()));
    let feeds =
        schedule.calendar_ends.iter().filter_map(|end| Some((end.name.as_str(), end.timezone.clone()?)));
    let single = schedule.zones.iter().map(|(identity, zone)| (identity.as_str(), zone.clone()));
    recurring.chain(feeds).chain(single).collect()
}

/// The identity of the entry that a job was made from.
fn identity(job: &Job) -> Option<&str> {
    match &job.origin {
        Origin::Schedule { name, .. } => Some(name),
        _ => None,
    }
}

fn planned_item(planned: Planned, done: Option<&Job>, zones: &Zones<'_>, now: UtcMs) -> Item {
    let Planned { entry, mut notes, skipped } = planned;
    let over = done.map(|job| {
        let outcome = job.outcome.map_or("done", Outcome::as_str);
        format!("job {} is done already ({outcome})", job.id.short())
    });
    let against = skipped.or(over);
    let zone = zones.get(entry.of.as_deref().unwrap_or(&entry.identity));
    let kind = if against.is_some() { Kind::Skipped } else { Kind::Planned };
    let warnings = if kind == Kind::Planned { warnings(&entry.limits, entry.at, now) } else { Vec::new() };
    notes.extend(against.map(|why| format!("skipped: {why}")));
    Item {
        due: entry.at,
        local: zone.map(|zone| local(entry.at, zone)),
        kind,
        origin: format!("schedule:{}", entry.of.as_ref().unwrap_or(&entry.identity)),
        server: entry.server,
        meeting: entry.meeting,
        instance: entry.instance,
        job: done.map(|job| job.id),
        state: done.map(|job| job.state),
        extended_from: None,
        warnings,
        notes,
    }
}

fn job_item(job: &Job, zones: &Zones<'_>, now: UtcMs) -> Item {
    let of = match &job.origin {
        Origin::Schedule { name, of, .. } => Some(of.as_deref().unwrap_or(name)),
        _ => None,
    };
    let zone = of.and_then(|name| zones.get(name));
    let waits = job.state == State::Waiting;
    let mut notes = Vec::new();
    if !waits {
        notes.push(job.sentence());
    }
    Item {
        due: job.due,
        local: zone.map(|zone| local(job.due, zone)),
        server: job.server.clone(),
        meeting: job.meeting.clone(),
        instance: job.only.clone(),
        kind: Kind::Job,
        origin: job.origin.to_string(),
        job: Some(job.id),
        state: Some(job.state),
        extended_from: job.extended_from.filter(|planned| *planned < job.due),
        warnings: if waits { warnings(&job.limits, job.due, now) } else { Vec::new() },
        notes,
    }
}

/// Those that are still to come.
fn warnings(limits: &Limits, due: UtcMs, now: UtcMs) -> Vec<Instant> {
    limits.warn.iter().map(|mark| Instant(due - *mark)).filter(|Instant(at)| *at > now).collect()
}

fn local(at: UtcMs, zone: &TimeZone) -> String {
    at.timestamp().to_zoned(zone.clone()).to_string()
}

// Rules and doubts.

fn rule_line(rule: &Rule, schedule: &Schedule, feeds: &Feeds, span: &Span) -> RuleLine {
    let closings = rule::upcoming(rule, span.now, span.until).map(|closing| closing.from);
    let applies = |at: &UtcMs| rule.days.allows(&schedule.calendars, feeds, *at, &rule.timezone).is_ok();
    RuleLine {
        name: rule.name.clone(),
        server: rule.server.clone(),
        dry_run: rule.dry_run,
        text: rule::describe(rule),
        closes: closings.filter(applies).map(Instant).take(MAX_CLOSINGS).collect(),
        zone: rule.timezone.iana_name().map(str::to_owned),
    }
}

/// What is not in here though it might be meant: calendars that nobody has read, and events that end nothing.
fn notes(schedule: &Schedule, feeds: &Feeds, span: &Span) -> Vec<String> {
    let mut unread: BTreeSet<&str> = BTreeSet::new();
    let recurring = schedule.recurring.iter().map(|entry| (&entry.server, &entry.days));
    let asking = schedule.calendar_ends.iter().map(|end| (&end.server, &end.days));
    let rules = schedule.rules.iter().map(|rule| (&rule.server, &rule.days));
    for (server, days) in recurring.chain(asking).chain(rules) {
        if span.is_asked_for(server) {
            unread.extend(days.unknown(&schedule.calendars, feeds, span.now));
        }
    }
    let tell = |name: &str| {
        let source = schedule.calendars.get(name).and_then(|calendar| calendar.source.as_ref());
        match source.and_then(|source| feeds.get(source)) {
            None => format!("the feed of calendar {name} was never read: it changes nothing yet"),
            Some(_) => {
                format!("the feed of calendar {name} has too many events: what is left out changes nothing")
            }
        }
    };
    let mut notes: Vec<String> = unread.into_iter().map(tell).collect();
    for end in schedule.calendar_ends.iter().filter(|end| span.is_asked_for(&end.server)) {
        match ends(end, &schedule.calendars, feeds, span.now, span.until) {
            None => notes.push(format!("{}: its feed was never read, so its ends are not shown", end.name)),
            Some(found) => {
                told_skips(&end.name, &found.excepted, &mut notes);
                told_skips(&end.name, &found.skipped, &mut notes);
                told_feed(&end.name, &end.source, feeds, &found.remarks, &mut notes);
            }
        }
    }
    notes
}

/// Of one feed: what was left out of it before anything was worked out, how the rest is understood, and whether it is the
/// newest copy.
fn told_feed(name: &str, source: &Source, feeds: &Feeds, remarks: &Remarks, notes: &mut Vec<String>) {
    let Some(feed) = feeds.get(source) else { return };
    notes.extend(feed.held().map(|why| format!("{name}: {why}")));
    let problems = feed.problems();
    for problem in problems.first.iter().take(MAX_SKIPS) {
        notes.push(format!("{name}: an event is left out: {problem}"));
    }
    let more = problems.count.saturating_sub(problems.first.len().min(MAX_SKIPS));
    if more > 0 {
        notes.push(format!("{name}: {more} more events are left out"));
    }
    for remark in remarks.first.iter().take(MAX_SKIPS) {
        notes.push(format!("{name}: {remark}"));
    }
    let more = remarks.count.saturating_sub(remarks.first.len().min(MAX_SKIPS));
    if more > 0 {
        notes.push(format!("{name}: {more} more remarks on its events"));
    }
}

/// Of deadlines whose room is not live any more.
fn told_gone(count: usize) -> Option<String> {
    let what = match count {
        0 => return None,
        1 => "1 deadline of a rule is".to_owned(),
        many => format!("{many} deadlines of rules are"),
    };
    Some(format!("{what} not shown: what was to end there is not live any more (adjourn list has them)"))
}

fn told_skips(name: &str, skipped: &Skipped, notes: &mut Vec<String>) {
    // What a calendar takes out has a row of its own.
    let untold = || skipped.first.iter().filter(|skip| skip.entry.is_none());
    for Skip { at, summary, reason, .. } in untold().take(MAX_SKIPS) {
        let at = at.map_or_else(String::new, |at| format!(" at {at}"));
        notes.push(format!("{name}: {summary:?}{at} ends nothing: {reason}"));
    }
    let rows = skipped.first.len() - untold().count();
    let more = skipped.count.saturating_sub(rows + untold().count().min(MAX_SKIPS));
    if more > 0 {
        notes.push(format!("{name}: {more} more events end nothing"));
    }
}

#[cfg(test)]
mod tests;
