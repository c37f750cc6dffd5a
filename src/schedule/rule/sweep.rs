//! One sweep: the rules of a server against a complete listing of what is live there.
//!
//! Each condition of a rule is a hit of its own, so that people see, warn of and extend it as early as it is known; of
//! several on one meeting the earliest ends it, as of several jobs.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use jiff::tz::TimeZone;

use super::super::calendar::Days;
use super::super::model::{Exempt, Rule, Select};
use super::closing::{Closing, Weekdays, closings};
use super::describe::{clock, hours, span};
use super::glob::Glob;
use super::watch::{Asked, Crowd, MAX_WATCHED, Seen, Spell, Watch};
use super::{Hit, Sweep};
use crate::job::{LiveMeeting, MeetingId, Now, UtcMs};

const MINUTE: Duration = Duration::from_secs(60);
/// Hits of one sweep; those of rules that only report are counted by themselves.
const MAX_HITS: usize = 100_000;
/// A closing becomes a hit so long before.
const CLOSING_AHEAD: Duration = Duration::from_secs(24 * 3600);
/// A closing that nobody saw coming (the daemon was down, the rule is new) still counts for so long.
const CATCH_UP: Duration = Duration::from_secs(3600);

/// May something be ended at this instant, by these calendars? Days are those of the zone.
pub type Allows<'a> = &'a dyn Fn(&Days, UtcMs, &TimeZone) -> bool;

/// Applies the rules of one server to a complete listing of what is live there. Pure.
///
/// `now`: when the listing came. A listing that failed, or is not complete, is no sweep.
pub fn sweep(
    rules: &[Rule],
    exempt: &[Exempt],
    allows: Allows<'_>,
    watch: &Watch,
    live: &[LiveMeeting],
    now: Now,
) -> Sweep {
    let book = Book::new(rules, exempt, allows, now.wall);
    let every = rules.iter().map(|rule| rule.every).min().unwrap_or(MINUTE);
    let (watched, step) = (watch.watched(now, every), watch.step(now));
    let (breakouts, astray) = (breakouts(live), astray(live));
    let mut sweep = Sweep { watch: Watch { last: Some(now), ..Watch::default() }, ..Sweep::default() };
    for meeting in live.iter().filter(|meeting| meeting.breakout_of.is_none()) {
        let run = (meeting.meeting.clone(), meeting.instance.clone());
        if sweep.watch.seen.contains_key(&run) {
            continue;
        }
        if sweep.watch.seen.len() == MAX_WATCHED {
            (sweep.skipped, sweep.blind) = (sweep.skipped + 1, true);
            continue;
        }
        let mut seen = watch.seen.get(&run).cloned().unwrap_or_else(|| Seen::new(now));
        seen.shift(step);
        let crowd = Crowd { astray, ..crowd(meeting, &breakouts) };
        seen.look(meeting, crowd, watched, now);
        book.apply(meeting, &mut seen, &mut sweep);
        seen.settle();
        sweep.watch.seen.insert(run, seen);
    }
    sweep
}

/// How many are in the breakout rooms of an instance, or of a meeting.
fn breakouts(live: &[LiveMeeting]) -> HashMap<&str, Crowd> {
    let mut rooms: HashMap<&str, Crowd> = HashMap::new();
    for (room, of) in live.iter().filter_map(|room| Some((room, room.breakout_of.as_deref()?))) {
        let sum = rooms.entry(of).or_insert(Crowd { people: Some(0), ..Crowd::default() });
        sum.people = sum.people.zip(room.participants).map(|(a, b)| a.saturating_add(b));
        sum.in_breakouts = sum.in_breakouts.saturating_add(room.participants.unwrap_or(0));
    }
    rooms
}

/// Is somebody in a breakout room of which it is not known whose it is?
fn astray(live: &[LiveMeeting]) -> bool {
    let mut lost = live
        .iter()
        .filter(|room| room.participants != Some(0))
        .filter_map(|room| room.breakout_of.as_deref())
        .peekable();
    if lost.peek().is_none() {
        return false;
    }
    let whole = live.iter().filter(|meeting| meeting.breakout_of.is_none());
    let names: HashSet<&str> =
        whole.flat_map(|meeting| [meeting.instance.as_str(), meeting.meeting.as_str()]).collect();
    lost.any(|of| !names.contains(of))
}

/// Who is in a meeting, its breakout rooms included.
fn crowd(meeting: &LiveMeeting, breakouts: &HashMap<&str, Crowd>) -> Crowd {
    let (instance, id) = (meeting.instance.as_str(), meeting.meeting.as_str());
    let names = [Some(instance), (id != instance).then_some(id)];
    let own = Crowd { people: meeting.participants, ..Crowd::default() };
    names.into_iter().flatten().filter_map(|name| breakouts.get(name)).fold(own, |sum, rooms| Crowd {
        people: sum.people.zip(rooms.people).map(|(a, b)| a.saturating_add(b)),
        in_breakouts: sum.in_breakouts.saturating_add(rooms.in_breakouts),
        ..sum
    })
}

/// The rules, prepared for many meetings.
struct Book<'a> {
    rules: Vec<Prepared<'a>>,
    /// Rules for exactly one meeting, or for a few that they name.
    by_meeting: HashMap<&'a str, Vec<usize>>,
    /// All others.
    by_glob: Vec<usize>,
    exempt: Vec<(Option<&'a MeetingId>, Wanted<'a>)>,
    allows: Allows<'a>,
    now: UtcMs,
}

struct Prepared<'a> {
    rule: &'a Rule,
    wanted: Wanted<'a>,
    moments: Vec<Closing>,
    windows: Vec<Closing>,
}

/// What a selection makes of metadata that the platform had more of than is kept.
#[derive(Clone, Copy, PartialEq)]
enum Doubt {
    /// A rule hits only what is known to be meant.
    Excludes,
    /// What may be exempt is.
    Includes,
}

/// A [`Select`], taken apart.
struct Wanted<'a> {
    matches: Vec<Glob<'a>>,
    except: Vec<Glob<'a>>,
    names: Vec<Glob<'a>>,
    meta: Vec<(&'a str, Glob<'a>)>,
}

impl<'a> Wanted<'a> {
    fn new(select: &'a Select) -> Wanted<'a> {
        let globs = |all: &'a [String]| all.iter().map(|glob| Glob::new(glob)).collect();
        Wanted {
            matches: globs(&select.matches),
            except: globs(&select.except),
            names: globs(&select.names),
            meta: select.meta.iter().map(|(key, glob)| (key.as_str(), Glob::new(glob))).collect(),
        }
    }

    fn has(&self, meeting: &LiveMeeting, doubt: Doubt) -> bool {
        let any = |globs: &[Glob<'_>], text: &str| globs.iter().any(|glob| glob.matches(text));
        let id = meeting.meeting.as_str();
        (self.matches.is_empty() || any(&self.matches, id))
            && !any(&self.except, id)
            && (self.names.is_empty() || any(&self.names, &meeting.name))
            && self.meta.iter().all(|(key, glob)| match meeting.meta.get(*key) {
                Some(text) => glob.matches(text),
                None => meeting.meta_cut && doubt == Doubt::Includes,
            })
    }
}

/// One reason to end an instance.
struct Cause {
    /// Tells it from the other ones of the rule.
    label: String,
    /// By the rule alone.
    at: UtcMs,
    /// A job of this cause that was planned from here on is as good (what is counted from when it was first seen is counted
    /// anew after a restart).
    from: UtcMs,
    /// The room opens again: nothing is ended from then on.
    until: UtcMs,
    notice: Duration,
    at_most: Option<u32>,
    reason: String,
    /// Decides on which day it is.
    day: UtcMs,
    /// Makes no job any more, but one that there is stays.
    past: bool,
}

impl Cause {
    fn new(rule: &Rule, label: String, at: UtcMs, reason: String) -> Cause {
        Cause {
            label,
            at,
            from: at,
            until: UtcMs(i64::MAX),
            notice: rule.first_hit_delay,
            at_most: None,
            reason,
            day: at,
            past: false,
        }
    }

    /// A time that everybody can know beforehand is kept to the minute: notice is only for what is over it when it is first
    /// seen. A room that opens five minutes before closing time closes with the others.
    fn known_beforehand(self, now: UtcMs) -> Cause {
        let notice = if self.at > now { Duration::ZERO } else { self.notice };
        Cause { notice, ..self }
    }
}

impl<'a> Book<'a> {
    fn new(rules: &'a [Rule], exempt: &'a [Exempt], allows: Allows<'a>, now: UtcMs) -> Book<'a> {
        let server = rules.first().map(|rule| &rule.server);
        let exempt =
            exempt.iter().filter(|exempt| exempt.server.is_none() || exempt.server.as_ref() == server);
        let mut book = Book {
            rules: Vec::with_capacity(rules.len()),
            by_meeting: HashMap::new(),
            by_glob: Vec::new(),
            exempt: exempt.map(|exempt| (exempt.meeting.as_ref(), Wanted::new(&exempt.select))).collect(),
            allows,
            now,
        };
        for (index, rule) in rules.iter().enumerate() {
            let prepared = book.prepare(rule);
            let named: Option<HashSet<&str>> = match &rule.meeting {
                Some(meeting) => Some(HashSet::from([meeting.as_str()])),
                None => prepared.wanted.matches.iter().map(Glob::exact).collect(),
            };
            match named.filter(|named| !named.is_empty()) {
                Some(named) => {
                    for id in named {
                        book.by_meeting.entry(id).or_default().push(index);
                    }
                }
                None => book.by_glob.push(index),
            }
            book.rules.push(prepared);
        }
        book
    }

    fn prepare(&self, rule: &'a Rule) -> Prepared<'a> {
        let (mut moments, mut windows) = closings(rule, self.now);
        for all in [&mut moments, &mut windows] {
            all.retain(|closing| self.by_calendar(rule, closing.from));
        }
        Prepared { rule, wanted: Wanted::new(&rule.select), moments, windows }
    }

    fn by_calendar(&self, rule: &Rule, at: UtcMs) -> bool {
        rule.days == Days::default() || (self.allows)(&rule.days, at, &rule.timezone)
    }

    /// Does the rule apply on that day?
    fn on_day(&self, rule: &Rule, at: UtcMs) -> bool {
        let weekday = || at.timestamp().to_zoned(rule.timezone.clone()).weekday();
        (rule.weekdays == Weekdays::ALL || rule.weekdays.has(weekday())) && self.by_calendar(rule, at)
    }

    /// All hits on one instance.
    fn apply(&self, meeting: &LiveMeeting, seen: &mut Seen, sweep: &mut Sweep) {
        let named = self.by_meeting.get(meeting.meeting.as_str()).into_iter().flatten();
        let exempt = self.is_exempt(meeting);
        for index in named.chain(&self.by_glob) {
            let prepared = &self.rules[*index];
            // What an entry says of its own meeting is no rule's business.
            let applies = match &prepared.rule.meeting {
                Some(only) => *only == meeting.meeting,
                None => !exempt && prepared.wanted.has(meeting, Doubt::Excludes),
            };
            if !applies {
                continue;
            }
            for cause in self.causes(prepared, seen) {
                let reports = prepared.rule.dry_run;
                let already = if reports { sweep.dry } else { sweep.hits.len() - sweep.dry };
                if already == MAX_HITS {
                    sweep.skipped += 1;
                    sweep.blind |= !reports;
                    continue;
                }
                self.hit(prepared.rule, cause, meeting, seen, sweep);
            }
        }
    }

    fn is_exempt(&self, meeting: &LiveMeeting) -> bool {
        self.exempt.iter().any(|(only, wanted)| {
            only.is_none_or(|only| *only == meeting.meeting) && wanted.has(meeting, Doubt::Includes)
        })
    }

    fn hit(&self, rule: &Rule, cause: Cause, live: &LiveMeeting, seen: &mut Seen, sweep: &mut Sweep) {
        let asked = Asked {
            rule: &rule.name,
            cause: &cause.label,
            dry_run: rule.dry_run,
            earliest: cause.at,
            notice: cause.notice,
        };
        let noted = if cause.past { None } else { seen.note(&asked, cause.until, self.now) };
        let identity = |again: u32| {
            let identity = format!("{}/{}/{}/{}", rule.name, cause.label, live.instance, live.meeting);
            nth(&identity, again)
        };
        let Some((due, again)) = noted else {
            if !rule.dry_run {
                sweep.kept.insert(identity(seen.known(&asked)));
            }
            return;
        };
        sweep.dry += usize::from(rule.dry_run);
        sweep.hits.push(Hit {
            rule: rule.name.clone(),
            dry_run: rule.dry_run,
            from_entry: rule.meeting.is_some(),
            identity: identity(again),
            cause: cause.label,
            again,
            live: live.clone(),
            due,
            earliest: cause.from.min(due),
            reason: cause.reason,
            at_most: cause.at_most,
            limits: rule.limits.clone(),
        });
    }

    /// Why a rule would end an instance, and when.
    fn causes(&self, prepared: &Prepared<'_>, seen: &Seen) -> Vec<Cause> {
        let rule = prepared.rule;
        let mut causes: Vec<Cause> = Vec::new();
        let too_long = rule.max_duration.map(|length| too_long(rule, length, seen));
        causes.extend(too_long.map(|cause| cause.known_beforehand(self.now)));
        causes.extend(rule.empty_for.zip(seen.empty).and_then(|(time, spell)| self.empty(rule, time, spell)));
        causes.extend(rule.alone_for.zip(seen.alone).and_then(|(time, spell)| self.alone(rule, time, spell)));
        causes.extend(rule.max_participant_minutes.map(|most| self.used_up(rule, most, seen)));
        causes.retain(|cause| self.on_day(rule, cause.day));
        // Closings were chosen by the day on which they begin.
        let (start, _) = seen.start();
        let closings = self.moments(prepared, start).into_iter().chain(self.windows(prepared, start));
        causes.extend(closings.map(|cause| cause.known_beforehand(self.now)));
        causes
    }

    fn empty(&self, rule: &Rule, time: Duration, spell: Spell) -> Option<Cause> {
        let reason = format!("it is empty since {}, and may be for {}", spell.since, span(time));
        let cause = Cause::new(rule, format!("empty-for={}", spell.id.0), spell.since + time, reason);
        // Nobody is inside who needs notice.
        (self.now + lead(rule) >= cause.at).then_some(Cause {
            notice: Duration::ZERO,
            at_most: Some(0),
            ..cause
        })
    }

    fn alone(&self, rule: &Rule, time: Duration, spell: Spell) -> Option<Cause> {
        let reason =
            format!("one participant is alone in it since {}, and may be for {}", spell.since, span(time));
        let cause = Cause::new(rule, format!("alone-for={}", spell.id.0), spell.since + time, reason);
        (self.now + lead(rule) >= cause.at).then_some(Cause { at_most: Some(1), ..cause })
    }

    /// What was counted never becomes less, but some of it may be forgotten over a restart: a job that there is stays.
    fn used_up(&self, rule: &Rule, most: u64, seen: &Seen) -> Cause {
        let reason = format!("it has used {most} participant minutes");
        let label = format!("max-participant-minutes={most}");
        let past = seen.participant_minutes() < most;
        // Its time is the notice after it was first seen.
        let cause = Cause::new(rule, label, seen.start().0, reason);
        Cause { past, day: self.now, from: UtcMs(i64::MIN), ..cause }
    }

    /// The next closing, and the last one that it has lived through.
    fn moments(&self, prepared: &Prepared<'_>, start: UtcMs) -> Vec<Cause> {
        let rule = prepared.rule;
        let lived = prepared.moments.iter().filter(|closing| closing.from > start);
        let (passed, ahead): (Vec<&Closing>, Vec<&Closing>) =
            lived.partition(|closing| closing.from <= self.now);
        let ahead = ahead.first().filter(|closing| closing.from <= self.now + CLOSING_AHEAD);
        let last = passed.len().saturating_sub(1);
        let passed = passed.iter().enumerate().map(|(n, closing)| (*closing, n < last));
        passed
            .chain(ahead.map(|closing| (*closing, false)))
            .map(|(closing, older)| {
                let time = rule.close_at.unwrap_or_default();
                let reason = format!("rooms close at {}", clock(time, &rule.timezone));
                let cause = Cause::new(rule, format!("close-at={}", closing.day), closing.from, reason);
                Cause { past: older || closing.from + CATCH_UP < self.now, ..cause }
            })
            .collect()
    }

    /// What runs when the rooms close, and what is started while they are closed.
    fn windows(&self, prepared: &Prepared<'_>, start: UtcMs) -> Vec<Cause> {
        let rule = prepared.rule;
        let lived = prepared.windows.iter().filter(|window| window.until.is_some_and(|until| until > start));
        let ahead = prepared.windows.iter().find(|window| window.from > self.now).map(|window| window.from);
        let near = lived.filter(|window| {
            window.from <= self.now || (Some(window.from) == ahead && window.from <= self.now + CLOSING_AHEAD)
        });
        near.filter_map(|window| {
            let until = window.until?;
            let reason = format!("rooms are closed {}", hours(rule.closed?, &rule.timezone));
            let label = format!("closed={}", window.day);
            let cause = Cause::new(rule, label, window.from.max(start), reason);
            Some(Cause { until, past: until <= self.now, ..cause })
        })
        .collect()
    }
}

/// `max-duration`.
fn too_long(rule: &Rule, length: Duration, seen: &Seen) -> Cause {
    let (start, told) = seen.start();
    let mut label = "max-duration".to_owned();
    let mut reason = format!("it ends {} after its start", span(length));
    if !told {
        // After a restart it would be counted from later. A job that there is keeps its time, unless the rule is edited.
        label = format!("{label}={}", span(length).replace(' ', ""));
        reason = format!("it ends {} after it was first seen", span(length));
    }
    let cause = Cause::new(rule, label, start + length, reason);
    Cause { from: if told { cause.at } else { UtcMs(i64::MIN) }, ..cause }
}

/// The identity of a hit that was over so many times before.
pub(super) fn nth(first: &str, again: u32) -> String {
    if again > 0 { format!("{first}#{again}") } else { first.to_owned() }
}

/// So long before its time a hit is made whose condition may yet cease.
fn lead(rule: &Rule) -> Duration {
    let warn = rule.limits.warn.iter().max().copied().unwrap_or_default();
    rule.first_hit_delay.max(warn) + rule.every
}
