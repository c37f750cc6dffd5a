//! The standing part of a plan, drawn from a stream of chance of its own, so that the other plans stay as they are.

use fastrand::Rng;

use super::clock::Ms;
use super::plan::{Ask, DiskFault, Item, NetFault, Only, Plan, SimOrder, SimWhen, Site};
use super::standing::{DAY, Limit, MINUTE, Repeat, SECOND, SimRule, Standing, ZONES};
use super::world::Coming;
use crate::job::LimitsPatch;

/// One plan in so many has a standing part.
const ONE_IN: u64 = 5;
/// Slots from here on are jobs that wait for the start of their meeting.
const MAX_DURATIONS: usize = 100;

impl Plan {
    /// Adds a standing part where this seed has one.
    pub fn with_standing(mut self) -> Plan {
        let mut rng = Rng::with_seed(self.seed ^ 0x57a2_d126);
        if rng.u64(0..ONE_IN) != 0 {
            return self;
        }
        let until = [20, 35, 60][rng.usize(0..3)] * MINUTE;
        let forgets = self.items.iter().any(|item| matches!(item, Item::Restart { .. }));
        let mut drawer = Drawer { rng, sites: self.sites.clone(), items: Vec::new(), until, forgets };
        drawer.file();
        drawer.people();
        drawer.network();
        if !forgets {
            drawer.outages();
        }
        drawer.items.push(Item::Status { at: until });
        self.items.append(&mut drawer.items);
        self
    }
}

struct Drawer {
    rng: Rng,
    sites: Vec<Site>,
    items: Vec<Item>,
    until: Ms,
    /// A server loses its state: who pins an instance long before its end by a listing alone cannot know of that.
    forgets: bool,
}

impl Drawer {
    fn one_in(&mut self, n: u32) -> bool {
        self.rng.u32(0..n) == 0
    }

    fn pick<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.rng.usize(0..of.len())].clone()
    }

    fn moment(&mut self) -> Ms {
        // Around a full minute, when most of it happens.
        let minute = self.rng.i64(0..self.until / MINUTE) * MINUTE;
        let near = [-12_000, -9_000, -250, -1, 0, 1, 50, 900, 3_000, 20_000];
        (minute + self.pick(&near)).max(0)
    }

    fn place(&mut self) -> (usize, usize) {
        let site = self.rng.usize(0..self.sites.len());
        (site, self.rng.usize(0..self.sites[site].rooms))
    }

    /// What the schedule file says at first, and what becomes of it.
    fn file(&mut self) {
        let mut standing = Standing { ahead: self.pick(&[10, 20, 30]) * MINUTE, ..Standing::default() };
        for name in 0..self.rng.usize(1..=4) {
            let repeat = self.repeat(name);
            standing.repeats.push(repeat);
        }
        let rules = if self.forgets { 0 } else { self.rng.usize(0..=2) };
        for name in 0..rules {
            let rule = self.rule(name);
            standing.rules.push(rule);
        }
        if self.one_in(3) {
            let place = self.place();
            standing.exempt.push(place);
        }
        let at = if self.one_in(3) { self.rng.i64(0..MINUTE) } else { 0 };
        self.items.push(Item::Standing { at, standing: standing.clone(), read: true });
        let mut times: Vec<Ms> = (0..self.rng.usize(0..=3)).map(|_| self.moment().max(at + SECOND)).collect();
        times.sort_unstable();
        for at in times {
            let before = standing.clone();
            self.edit(&mut standing);
            let read = !self.one_in(4);
            self.items.push(Item::Standing { at, standing: standing.clone(), read });
            if self.one_in(4) {
                // A slip, soon put right.
                let at = at + self.pick(&[2, 30, 200]) * SECOND;
                standing = before;
                self.items.push(Item::Standing { at, standing: standing.clone(), read: true });
            }
        }
    }

    fn repeat(&mut self, name: usize) -> Repeat {
        let (site, room) = self.place();
        let zone = self.pick(&ZONES);
        let every = self.pick(&[3, 4, 5, 6, 10, 12, 15, 20]);
        let minutes = match self.rng.u32(0..4) {
            0 => vec![self.rng.i64(0..20), self.rng.i64(20..40), self.rng.i64(40..60)],
            _ => (0..60).filter(|minute| minute % every == 0).collect(),
        };
        let second = self.pick(&[0, 0, 0, 17, 59]);
        let late_limit = self.pick(&[0, 5 * SECOND, 2 * MINUTE, 30 * MINUTE, DAY]);
        let warn = if self.one_in(3) { vec![2 * MINUTE, 30 * SECOND] } else { Vec::new() };
        let (hour, weekday) = (None, None);
        Repeat { name, site, room, minutes, second, hour, weekday, zone, late_limit, warn }
    }

    fn rule(&mut self, name: usize) -> SimRule {
        let (site, room) = self.place();
        let from = self.rng.i64(3..self.until / MINUTE);
        let closed = Limit::Closed(from * MINUTE, (from + self.pick(&[2, 10])) * MINUTE);
        let span = self.pick(&[2, 4, 9]) * MINUTE;
        let what = self.pick(&[
            Limit::MaxDuration(span),
            Limit::MaxDuration(span),
            Limit::EntryMaxDuration(span),
            closed,
            Limit::EmptyFor(span),
            Limit::AloneFor(span),
        ]);
        let named = matches!(what, Limit::EntryMaxDuration(_)) || self.one_in(2);
        SimRule {
            name,
            site,
            room: named.then_some(room),
            what,
            dry_run: self.one_in(6),
            first_hit_delay: self.pick(&[0, 20, 120]) * SECOND,
            every: self.pick(&[10, 30, 60]) * SECOND,
        }
    }

    /// One thing about the file changes.
    fn edit(&mut self, standing: &mut Standing) {
        let count = standing.repeats.len();
        match self.rng.u32(0..6) {
            0 => {
                let name = standing.repeats.iter().map(|it| it.name + 1).max().unwrap_or(0);
                let repeat = self.repeat(name);
                standing.repeats.push(repeat);
            }
            1 if count > 0 => {
                standing.repeats.swap_remove(self.rng.usize(0..count));
            }
            2 if count > 0 => {
                // Other times.
                let at = self.rng.usize(0..count);
                let Repeat { minutes, second, .. } = self.repeat(0);
                standing.repeats[at] = Repeat { minutes, second, ..standing.repeats[at].clone() };
            }
            3 if count > 0 => {
                // Another meeting under the same name.
                let at = self.rng.usize(0..count);
                (standing.repeats[at].site, standing.repeats[at].room) = self.place();
            }
            4 => {
                standing.rules.clear();
            }
            _ if self.forgets => {}
            _ => {
                let name = standing.rules.iter().map(|it| it.name + 1).max().unwrap_or(0);
                let rule = self.rule(name);
                standing.rules.push(rule);
            }
        }
    }

    fn people(&mut self) {
        for site in 0..self.sites.len() {
            for room in 0..self.sites[site].rooms {
                // They go on meeting, whatever ends.
                let after = self.pick(&[15, 40, 90]) * SECOND;
                self.items.push(Item::Rejoin { site, room, after, times: 40 });
                let at = self.moment();
                self.items.push(Item::World { at, site, room, what: Coming::Start });
            }
        }
        for _ in 0..self.rng.usize(0..6) {
            let (site, room) = self.place();
            let (at, count) = (self.moment(), self.pick(&[0, 0, 1, 1, 3]));
            self.items.push(Item::World { at, site, room, what: Coming::Inside(count) });
        }
        let limits = if self.forgets { 0 } else { self.rng.usize(0..3) };
        for slot in 0..limits {
            let ((site, room), at) = (self.place(), self.moment());
            let when = SimWhen::AfterStart(self.pick(&[1, 3, 8]) * MINUTE);
            let limits = LimitsPatch::default();
            let order = SimOrder { site, room, when, only: Only::Any, limits, keyed: true };
            self.items.push(Item::Submit { at, slot: MAX_DURATIONS + slot, order });
        }
        for _ in 0..self.rng.usize(0..3) {
            let (at, name) = (self.moment(), self.rng.usize(0..3));
            let pause = self.pick(&[5, 45, 200]) * SECOND;
            let ask = self.pick(&[Ask::Extend(pause), Ask::Cancel, Ask::Hold(Some(at + pause))]);
            self.items.push(Item::ChangeNext { at, name, ask });
        }
    }

    fn network(&mut self) {
        let faults = [
            NetFault::Refused,
            NetFault::BlackHole,
            NetFault::LostBefore,
            NetFault::LostAfter,
            NetFault::Late(4_000),
            NetFault::Late(100_000),
            NetFault::Lagging(20_000),
            NetFault::Twice(8_000),
            NetFault::NotNow,
            NetFault::Misconfigured,
            NetFault::Doubtful,
            NetFault::Blink,
            NetFault::ChatHangs,
            NetFault::ChatHangs,
        ];
        for _ in 0..self.rng.usize(0..4) {
            let fault = self.pick(&faults);
            let from = self.moment();
            let to =
                from + if fault == NetFault::Blink { 1_800 } else { self.pick(&[4, 30, 90, 400]) * SECOND };
            let (site, percent) = (self.rng.usize(0..self.sites.len()), self.pick(&[30, 100]));
            self.items.push(Item::Net { from, to, site, fault, percent });
        }
    }

    fn outages(&mut self) {
        for _ in 0..self.rng.usize(0..3) {
            let from = self.moment();
            let to = from + self.pick(&[2, 30, 90]) * SECOND;
            let fault =
                self.pick(&[DiskFault::Slow(600), DiskFault::Full, DiskFault::Full, DiskFault::Unreadable]);
            self.items.push(Item::Disk { from, to, fault });
        }
        for _ in 0..self.rng.usize(0..3) {
            let at = self.moment();
            let away = self.pick(&[50, 4 * SECOND, 2 * MINUTE, 11 * MINUTE, 70 * MINUTE, 3 * DAY]);
            let keep = self.rng.usize(0..3);
            let item = match self.rng.u32(0..4) {
                0 => Item::Stop { at, away },
                1 if away < DAY => Item::Suspend { at, pause: away },
                _ => Item::Crash { at, away, reboot: self.one_in(3), keep },
            };
            self.items.push(item);
        }
    }
}
