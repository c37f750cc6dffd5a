//! What is to happen in a history, drawn from a seed: one flat list, so that a failing one can be cut down item by item.

use std::time::Duration;

use fastrand::Rng;

use super::clock::Ms;
use super::faults::{Ail, Endpoint, Shows};
use super::standing::Standing;
use super::world::{Coming, Flavour};
use crate::job::LimitsPatch;

#[derive(Clone, Debug)]
pub struct Plan {
    pub seed: u64,
    pub sites: Vec<Site>,
    pub items: Vec<Item>,
    /// The process dies at its so-manieth effect.
    pub crash_at: Option<u64>,
}

#[derive(Clone, Debug)]
pub struct Site {
    pub flavour: Flavour,
    pub rooms: usize,
    pub max_concurrent: usize,
}

#[derive(Clone, PartialEq, Debug)]
pub enum Item {
    Submit {
        at: Ms,
        slot: usize,
        order: SimOrder,
    },
    Change {
        at: Ms,
        slot: usize,
        ask: Ask,
    },
    /// The schedule file now has these entries (name, site, room, time), and is read again.
    Reload {
        at: Ms,
        entries: Vec<(usize, usize, usize, Ms)>,
    },
    /// The standing part of the schedule file is this from now on; `read`: and the file is read again.
    Standing {
        at: Ms,
        standing: Standing,
        read: bool,
    },
    /// Somebody changes the next job of a recurring end.
    ChangeNext {
        at: Ms,
        name: usize,
        ask: Ask,
    },
    Status {
        at: Ms,
    },
    World {
        at: Ms,
        site: usize,
        room: usize,
        what: Coming,
    },
    Rejoin {
        site: usize,
        room: usize,
        after: Ms,
        times: u32,
    },
    Net {
        from: Ms,
        to: Ms,
        site: usize,
        fault: NetFault,
        percent: u8,
    },
    /// bbb-web is started anew: nobody listens for a while, then nothing is known, and people go on talking.
    Restart {
        at: Ms,
        site: usize,
    },
    /// One endpoint fares badly, everything else is well.
    Part {
        from: Ms,
        to: Ms,
        site: usize,
        part: Endpoint,
        ail: Ail,
    },
    /// A node behind the front fares badly, and every question about what stands on it.
    Node {
        from: Ms,
        to: Ms,
        site: usize,
        node: usize,
        ail: Ail,
    },
    /// The server is configured with its nodes.
    Nodes {
        site: usize,
    },
    /// The front leaves out what stands on this node, and knows of nothing there; people go on talking.
    Offline {
        from: Ms,
        to: Ms,
        site: usize,
        node: usize,
    },
    /// The front's listing is not to be relied on.
    Lists {
        from: Ms,
        to: Ms,
        site: usize,
        shows: Shows,
    },
    /// The clock by which starts are told, and that of the Date header, are off.
    Skew {
        from: Ms,
        to: Ms,
        site: usize,
        starts: Ms,
        header: Ms,
    },
    /// Starts are told in seconds.
    Seconds {
        site: usize,
    },
    /// The server is at the same address as another one.
    Twin {
        site: usize,
        of: usize,
    },
    /// The url of the server is that of another one from now on, and the file is read again.
    Moves {
        at: Ms,
        site: usize,
        to: usize,
    },
    /// The machine comes up with its wall clock so far ahead.
    StartsAhead {
        by: Ms,
    },
    Disk {
        from: Ms,
        to: Ms,
        fault: DiskFault,
    },
    StepWall {
        at: Ms,
        by: i64,
    },
    /// The machine sleeps: time passes and nothing runs.
    Suspend {
        at: Ms,
        pause: Ms,
    },
    /// Of the writes on their way, `keep` have reached the disk.
    Crash {
        at: Ms,
        away: Ms,
        reboot: bool,
        keep: usize,
    },
    Stop {
        at: Ms,
        away: Ms,
    },
}

#[derive(Clone, PartialEq, Debug)]
pub struct SimOrder {
    pub site: usize,
    pub room: usize,
    pub when: SimWhen,
    pub only: Only,
    pub limits: LimitsPatch,
    /// With an idempotency key, people ask again until they are answered.
    pub keyed: bool,
}

#[derive(Clone, Copy, PartialEq, Debug)]
pub enum SimWhen {
    /// The true time at which the wall clock would show it if nobody sets it.
    At(Ms),
    In(Ms),
    Now,
    /// So long after the start of the meeting.
    AfterStart(Ms),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Only {
    Any,
    /// The instance that is alive at the time.
    Current,
    /// One that is over, or will never be.
    Other,
}

#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Ask {
    Extend(Ms),
    MoveTo(Ms),
    Hold(Option<Ms>),
    Release(Option<Ms>),
    Fire,
    Cancel,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NetFault {
    /// Nobody listens: nothing is sent.
    Refused,
    /// Requests vanish, and time out.
    BlackHole,
    /// The request is lost behind the front, the answer is an error.
    LostBefore,
    /// The request takes effect, its answer is lost.
    LostAfter,
    /// Answers take so long.
    Late(Ms),
    /// Accepted, takes effect so much later.
    Lagging(Ms),
    /// Accepted, and nothing happens.
    Zombie,
    /// The request arrives once more, so much later.
    Twice(Ms),
    NotNow,
    Never,
    Throttled(Ms),
    Misconfigured,
    Doubtful,
    Occupied,
    /// Not there for a moment, though it is.
    Blink,
    /// Whoever writes into the chat waits for ever; everything else is well.
    ChatHangs,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DiskFault {
    Slow(Ms),
    Full,
    Unreadable,
}

impl Item {
    /// When it begins, and when it is over.
    pub fn span(&self) -> (Ms, Ms) {
        match self {
            Item::Submit { at, .. }
            | Item::Change { at, .. }
            | Item::Reload { at, .. }
            | Item::Standing { at, .. }
            | Item::ChangeNext { at, .. }
            | Item::Status { at }
            | Item::World { at, .. }
            | Item::Moves { at, .. }
            | Item::StepWall { at, .. } => (*at, *at),
            Item::Rejoin { .. }
            | Item::Nodes { .. }
            | Item::Seconds { .. }
            | Item::Twin { .. }
            | Item::StartsAhead { .. } => (0, 0),
            Item::Restart { at, .. } => (*at, at + RESTART),
            Item::Net { from, to, .. }
            | Item::Part { from, to, .. }
            | Item::Node { from, to, .. }
            | Item::Offline { from, to, .. }
            | Item::Lists { from, to, .. }
            | Item::Skew { from, to, .. }
            | Item::Disk { from, to, .. } => (*from, *to),
            Item::Suspend { at, pause } => (*at, at + pause),
            Item::Crash { at, away, .. } | Item::Stop { at, away } => (*at, at + away),
        }
    }

    /// Done by the driver at its time; the rest is there from the start.
    pub fn is_driven(&self) -> bool {
        matches!(
            self,
            Item::Submit { .. }
                | Item::Change { .. }
                | Item::Reload { .. }
                | Item::Standing { .. }
                | Item::ChangeNext { .. }
                | Item::Status { .. }
                | Item::Moves { .. }
                | Item::StepWall { .. }
                | Item::Suspend { .. }
                | Item::Crash { .. }
                | Item::Stop { .. }
        )
    }
}

impl Plan {
    pub fn has_standing(&self) -> bool {
        self.items.iter().any(|item| matches!(item, Item::Standing { .. }))
    }

    pub fn sorted(mut self) -> Plan {
        self.items.sort_by_key(|item| item.span().0);
        self
    }

    /// After this nothing goes wrong any more, and nobody wants anything new.
    pub fn quiet_from(&self) -> Ms {
        self.items.iter().map(|item| item.span().1).max().unwrap_or(0)
    }

    pub fn generate(seed: u64) -> Plan {
        let mut maker = Maker { rng: Rng::with_seed(seed), dues: Vec::new(), items: Vec::new() };
        let sites = maker.sites();
        maker.meetings(&sites);
        maker.jobs(&sites);
        maker.people();
        if maker.one_in(4) {
            maker.schedule(&sites);
        }
        let forgets = maker.state_loss(&sites);
        maker.network(&sites);
        if !forgets {
            // A crash or a slow disk on top may take from the daemon what would have told it of the loss.
            maker.disk();
            maker.crashes();
        }
        // Nor may the machine sleep over it.
        if !forgets && maker.one_in(3) {
            maker.clocks();
        }
        maker.warnings(seed);
        Plan { seed, sites, items: maker.items, crash_at: None }.with_standing().with_weather().sorted()
    }
}

/// The first job is due not before this.
const FIRST_DUE: Ms = 30_000;
const LAST_DUE: Ms = 420_000;
/// bbb-web cannot be restarted in less than twenty seconds.
pub const RESTART: Ms = 25_000;
/// Two sightings are two seconds apart, so that what is shorter cannot pass for a proof.
const BLINK: Ms = 1_800;

struct Maker {
    rng: Rng,
    dues: Vec<Ms>,
    items: Vec<Item>,
}

impl Maker {
    fn one_in(&mut self, n: u32) -> bool {
        self.rng.u32(0..n) == 0
    }

    fn pick<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.rng.usize(0..of.len())].clone()
    }

    /// Around a deadline, where it matters most; now and then anywhere.
    fn moment(&mut self) -> Ms {
        if self.one_in(6) || self.dues.is_empty() {
            return self.rng.i64(0..LAST_DUE);
        }
        let due = self.dues[self.rng.usize(0..self.dues.len())];
        let near =
            [-30_000, -12_000, -10_000, -9_000, -2_000, -300, -250, -249, -100, -1, 0, 1, 5, 20, 50, 250];
        let later = [1_000, 2_000, 3_500, 7_500, 13_000, 16_000, 40_000, 62_000, 90_000];
        let at = if self.one_in(3) { self.pick(&later) } else { self.pick(&near) };
        let jitter = if self.one_in(2) { self.rng.i64(-60..60) } else { 0 };
        (due + at + jitter).max(0)
    }

    fn short_while(&mut self) -> Ms {
        self.pick(&[300, 1_500, 4_000, 12_000, 30_000, 90_000])
    }

    fn sites(&mut self) -> Vec<Site> {
        let all = [Flavour::Vendor, Flavour::Direct, Flavour::Direct, Flavour::Balancer, Flavour::Scalelite];
        (0..self.rng.usize(1..=2))
            .map(|_| Site {
                flavour: self.pick(&all),
                rooms: self.rng.usize(1..=3),
                max_concurrent: self.pick(&[1, 2, 8]),
            })
            .collect()
    }

    fn meetings(&mut self, sites: &[Site]) {
        for (site, spec) in sites.iter().enumerate() {
            for room in 0..spec.rooms {
                if !self.one_in(8) {
                    let at = if self.one_in(3) { self.rng.i64(0..60_000) } else { 0 };
                    self.items.push(Item::World { at, site, room, what: Coming::Start });
                }
                if self.one_in(3) {
                    let after = self.pick(&[0, 5, 700, 2_500, 10_000, 50_000]);
                    self.items.push(Item::Rejoin { site, room, after, times: self.rng.u32(1..=3) });
                }
            }
        }
    }

    fn jobs(&mut self, sites: &[Site]) {
        let common = self.rng.i64(FIRST_DUE..LAST_DUE);
        for slot in 0..self.rng.usize(1..=6) {
            let site = self.rng.usize(0..sites.len());
            let room = self.rng.usize(0..sites[site].rooms);
            let due = if self.one_in(2) { common } else { self.rng.i64(FIRST_DUE..LAST_DUE) };
            self.dues.push(due);
            let at = match self.rng.u32(0..4) {
                0 => (due - self.pick(&[100, 260, 1_000, 9_000, 15_000])).max(0),
                _ => self.rng.i64(0..FIRST_DUE.min(due - 1)),
            };
            let when = match self.rng.u32(0..8) {
                0 => SimWhen::Now,
                1 => SimWhen::In(due - at),
                _ => SimWhen::At(due),
            };
            let only = self.pick(&[Only::Any, Only::Any, Only::Any, Only::Any, Only::Current, Only::Other]);
            let order = SimOrder { site, room, when, only, limits: self.limits(), keyed: self.one_in(3) };
            self.items.push(Item::Submit { at, slot, order });
        }
        for _ in 0..self.rng.usize(0..3) {
            let site = self.rng.usize(0..sites.len());
            let room = self.rng.usize(0..sites[site].rooms);
            let what = self.pick(&[Coming::Start, Coming::End, Coming::Replace, Coming::Replace]);
            let at = self.moment();
            self.items.push(Item::World { at, site, room, what });
        }
    }

    fn limits(&mut self) -> LimitsPatch {
        let secs = |n: &u64| Duration::from_secs(*n);
        let mut patch = LimitsPatch::default();
        if self.one_in(4) {
            patch.keep_closed = Some(self.pick(&[40, 120, 300].each_ref().map(secs)));
        }
        if self.one_in(4) {
            patch.late_limit = Some(self.pick(&[0, 5, 60].each_ref().map(secs)));
        }
        if self.one_in(4) {
            patch.prove_within = Some(self.pick(&[60, 600].each_ref().map(secs)));
        }
        if self.one_in(6) {
            patch.give_up_after = Some(self.pick(&[120, 900].each_ref().map(secs)));
        }
        if self.one_in(6) {
            patch.resend_after = Some(self.pick(&[1, 5, 30].each_ref().map(secs)));
        }
        patch
    }

    /// From a chance of its own, so that the same seed is otherwise the same history.
    fn warnings(&mut self, seed: u64) {
        let mut rng = Rng::with_seed(seed ^ 0x0a11);
        let marks: [&[u64]; 4] = [&[], &[20], &[60, 30], &[200, 45, 15]];
        for item in &mut self.items {
            if let Item::Submit { order, .. } = item {
                let marks = marks[rng.usize(0..marks.len())];
                order.limits.warn = Some(marks.iter().copied().map(Duration::from_secs).collect());
            }
        }
    }

    fn people(&mut self) {
        let jobs = self.dues.len();
        for _ in 0..self.rng.usize(0..5) {
            let slot = self.rng.usize(0..jobs);
            let at = self.moment();
            let pause = self.pick(&[5, 300, 5_000, 30_000, 120_000]);
            let ask = match self.rng.u32(0..9) {
                0..3 => Ask::Extend(pause),
                3 => Ask::MoveTo(at + pause),
                4 => Ask::Hold(self.rng.bool().then_some(at + pause)),
                5 => Ask::Hold(None),
                6 => Ask::Fire,
                7 => Ask::Cancel,
                _ => Ask::Release(self.rng.bool().then_some(at + pause)),
            };
            self.items.push(Item::Change { at, slot, ask });
            if let Ask::Hold(None) = ask {
                let at = at + self.pick(&[20, 3_000, 40_000]);
                let to = self.rng.bool().then_some(at + pause);
                self.items.push(Item::Change { at, slot, ask: Ask::Release(to) });
            }
        }
        if self.one_in(3) {
            let at = self.moment();
            self.items.push(Item::Status { at });
        }
    }

    fn schedule(&mut self, sites: &[Site]) {
        for _ in 0..self.rng.usize(1..=3) {
            let at = self.rng.i64(0..LAST_DUE);
            let mut entries = Vec::new();
            for name in 0..self.rng.usize(0..3) {
                let site = name % sites.len();
                let room = name % sites[site].rooms;
                entries.push((name, site, room, self.rng.i64(FIRST_DUE..LAST_DUE)));
            }
            self.items.push(Item::Reload { at, entries });
        }
    }

    fn state_loss(&mut self, sites: &[Site]) -> bool {
        let Some(site) = sites.iter().position(|site| site.flavour == Flavour::Direct && site.rooms > 1)
        else {
            return false;
        };
        if !self.one_in(4) {
            return false;
        }
        let at = self.moment();
        self.items.push(Item::Restart { at, site });
        true
    }

    fn network(&mut self, sites: &[Site]) {
        let faults = [
            NetFault::Refused,
            NetFault::BlackHole,
            NetFault::LostBefore,
            NetFault::LostAfter,
            NetFault::Late(700),
            NetFault::Late(4_000),
            NetFault::Late(100_000),
            NetFault::Lagging(3_000),
            NetFault::Lagging(20_000),
            NetFault::Zombie,
            NetFault::Twice(5),
            NetFault::Twice(8_000),
            NetFault::NotNow,
            NetFault::Never,
            NetFault::Throttled(20_000),
            NetFault::Misconfigured,
            NetFault::Doubtful,
            NetFault::Occupied,
        ];
        for _ in 0..self.rng.usize(0..5) {
            let from = self.moment();
            let to = from + self.short_while();
            let (fault, site) = (self.pick(&faults), self.rng.usize(0..sites.len()));
            let percent = self.pick(&[30, 60, 100]);
            self.items.push(Item::Net { from, to, site, fault, percent });
        }
        if self.one_in(3) {
            let (from, site) = (self.moment(), self.rng.usize(0..sites.len()));
            let (to, fault) = (from + BLINK, NetFault::Blink);
            self.items.push(Item::Net { from, to, site, fault, percent: 100 });
        }
    }

    fn disk(&mut self) {
        for _ in 0..self.rng.usize(0..3) {
            let from = self.moment();
            let to = from + self.short_while();
            let fault = match self.rng.u32(0..5) {
                0 | 1 => DiskFault::Slow(self.pick(&[100, 600, 5_000, 30_000])),
                2 | 3 => DiskFault::Full,
                _ => DiskFault::Unreadable,
            };
            self.items.push(Item::Disk { from, to, fault });
        }
    }

    fn crashes(&mut self) {
        for _ in 0..self.rng.usize(0..4).saturating_sub(1) {
            let at = self.moment();
            let away = self.pick(&[10, 200, 1_000, 5_000, 30_000, 200_000, 4_000_000]);
            let (stops, reboot, keep) = (self.one_in(4), self.one_in(3), self.rng.usize(0..3));
            let crash = Item::Crash { at, away, reboot, keep };
            self.items.push(if stops { Item::Stop { at, away } } else { crash });
        }
    }

    fn clocks(&mut self) {
        for _ in 0..self.rng.usize(1..3) {
            let at = self.moment();
            if self.one_in(3) {
                let pause = self.pick(&[400, 3_000, 20_000, 300_000, 3_000_000]);
                self.items.push(Item::Suspend { at, pause });
                continue;
            }
            let by = self.pick(&[5, 300, 5_000, 60_000, 1_800_000, 5_400_000, 10_800_000]);
            let by = if self.rng.bool() { by } else { -by };
            self.items.push(Item::StepWall { at, by });
            if self.one_in(2) {
                let back = at + self.pick(&[10, 2_000, 200_000, 400_000]);
                self.items.push(Item::StepWall { at: back, by: -by });
            }
        }
    }
}
