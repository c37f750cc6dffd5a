//! What servers, fronts and clocks do to a plan besides, drawn from a stream of chance of its own: slow and dead endpoints
//! and nodes, old listings, fronts that forget, clocks that are off, next classes, two servers at one address.

use fastrand::Rng;

use super::clock::Ms;
use super::faults::{Ail, Endpoint, Shows};
use super::plan::{Item, Plan, SimWhen, Site};
use super::standing::{HOUR, MINUTE, SECOND};
use super::world::{Coming, Flavour, NODES};

/// One plan in so many has some.
const ONE_IN: u64 = 2;

/// A kind of trouble.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Endpoints,
    Nodes,
    Listings,
    Forgets,
    Skew,
    NextClass,
    Twin,
    Moves,
    AheadAtStart,
    StepsBack,
}

const KINDS: [Kind; 10] = [
    Kind::Endpoints,
    Kind::Nodes,
    Kind::Listings,
    Kind::Forgets,
    Kind::Skew,
    Kind::NextClass,
    Kind::Twin,
    Kind::Moves,
    Kind::AheadAtStart,
    Kind::StepsBack,
];

impl Plan {
    /// Adds trouble where this seed has some.
    pub fn with_weather(mut self) -> Plan {
        let mut rng = Rng::with_seed(self.seed ^ 0x77ea_74e2);
        if rng.u64(0..ONE_IN) != 0 {
            return self;
        }
        let forgets = self.items.iter().any(|item| matches!(item, Item::Restart { .. }));
        let kinds: &[Kind] = match (forgets, self.has_standing()) {
            // What hides a loss of state may take from the daemon what would have told it of that.
            (true, _) => &[Kind::NextClass],
            (_, true) => &[Kind::Endpoints, Kind::Nodes],
            _ => &KINDS,
        };
        let mut dues = Vec::new();
        for item in &self.items {
            if let Item::Submit { order, .. } = item
                && let SimWhen::At(due) = order.when
            {
                dues.push((order.site, order.room, due));
            }
        }
        let mut drawer = Drawer { rng, sites: self.sites, dues, items: Vec::new() };
        for _ in 0..drawer.rng.usize(1..=3) {
            let kind = drawer.pick(kinds);
            drawer.draw(kind);
        }
        self.sites = drawer.sites;
        self.items.append(&mut drawer.items);
        self
    }
}

struct Drawer {
    rng: Rng,
    sites: Vec<Site>,
    /// Of the deadlines: server, room, and when.
    dues: Vec<(usize, usize, Ms)>,
    items: Vec<Item>,
}

impl Drawer {
    fn one_in(&mut self, n: u32) -> bool {
        self.rng.u32(0..n) == 0
    }

    fn pick<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.rng.usize(0..of.len())].clone()
    }

    fn site(&mut self) -> usize {
        self.rng.usize(0..self.sites.len())
    }

    fn due(&mut self) -> (usize, usize, Ms) {
        if self.dues.is_empty() {
            return (0, 0, self.rng.i64(MINUTE..6 * MINUTE));
        }
        self.rng.choice(&self.dues).copied().expect("there is one")
    }

    /// From a while before a deadline, or around it.
    fn span(&mut self) -> (Ms, Ms) {
        let (_, _, due) = self.due();
        let before = self.pick(&[-500, 0, 250, 2 * SECOND, 9 * SECOND, 15 * SECOND, MINUTE]);
        let from = (due - before).max(0);
        (from, from + self.pick(&[2, 5, 12, 30, 90, 200]) * SECOND)
    }

    fn draw(&mut self, kind: Kind) {
        match kind {
            Kind::Endpoints => self.endpoints(),
            Kind::Nodes => self.nodes(),
            Kind::Listings => self.listings(),
            Kind::Forgets => self.forgets(),
            Kind::Skew => self.skew(),
            Kind::NextClass => self.next_classes(),
            Kind::Twin if self.sites.len() > 1 => {
                self.sites[1].flavour = self.sites[0].flavour;
                self.items.push(Item::Twin { site: 1, of: 0 });
            }
            Kind::Moves if self.sites.len() > 1 => self.moves(),
            Kind::AheadAtStart => {
                let by = self.pick(&[40 * SECOND, 2 * HOUR, 3 * HOUR, 30 * HOUR]);
                let at = self.pick(&[5, 40, 200, 280]) * SECOND;
                self.items.push(Item::StartsAhead { by });
                self.items.push(Item::StepWall { at, by: -by });
            }
            Kind::StepsBack => {
                let ((at, _), by) = (self.span(), self.pick(&[1, 3, 7]) * HOUR);
                self.items.push(Item::StepWall { at, by: -by });
                if self.one_in(2) {
                    let at = at + self.pick(&[10 * SECOND, 4 * MINUTE, 20 * MINUTE]);
                    self.items.push(Item::StepWall { at, by });
                }
            }
            Kind::Twin | Kind::Moves => {}
        }
    }

    fn ail(&mut self) -> Ail {
        match self.rng.u32(0..5) {
            0 => Ail::Hangs,
            1 => Ail::Lost,
            _ => Ail::Slow(self.pick(&[300, 1_200, 2_500, 5_000, 8_000])),
        }
    }

    fn endpoints(&mut self) {
        for _ in 0..self.rng.usize(1..=3) {
            let ((from, to), site, ail) = (self.span(), self.site(), self.ail());
            let all = [Endpoint::Listing, Endpoint::Listing, Endpoint::Info, Endpoint::End, Endpoint::Probe];
            let part = self.pick(&all);
            self.items.push(Item::Part { from, to, site, part, ail });
        }
    }

    fn nodes(&mut self) {
        let site = self.site();
        if self.one_in(2) {
            self.items.push(Item::Nodes { site });
        }
        for _ in 0..self.rng.usize(1..=2) {
            let ((from, to), ail) = (self.span(), self.ail());
            let node = self.rng.usize(0..NODES);
            self.items.push(Item::Node { from, to, site, node, ail });
        }
    }

    fn listings(&mut self) {
        let site = self.site();
        let shows = match self.sites[site].flavour {
            Flavour::Balancer => Shows::Old(self.pick(&[3, 10, 20, 60]) * SECOND),
            Flavour::Direct => Shows::Nothing,
            _ => return,
        };
        let (from, to) = self.span();
        self.items.push(Item::Lists { from, to, site, shows });
    }

    fn forgets(&mut self) {
        let site = self.site();
        if !matches!(self.sites[site].flavour, Flavour::Balancer | Flavour::Scalelite) {
            return;
        }
        if self.one_in(2) {
            // Somebody else's, so that the front has something to show.
            let room = self.sites[site].rooms;
            self.items.push(Item::World { at: 0, site, room, what: Coming::Start });
        }
        if self.one_in(3) {
            self.items.push(Item::Nodes { site });
        }
        let ((from, to), node) = (self.span(), self.rng.usize(0..NODES));
        if self.one_in(2) {
            self.items.push(Item::Offline { from, to, site, node });
        } else {
            self.items.push(Item::World { at: from, site, room: 0, what: Coming::Forget { node } });
        }
    }

    fn skew(&mut self) {
        let site = self.site();
        if self.one_in(4) {
            return self.items.push(Item::Seconds { site });
        }
        let direct = self.sites[site].flavour == Flavour::Direct;
        let far = [5, 30, 59, 90, 1_800, 7_200];
        // Where nothing corrects it, a start is good to a minute.
        let by = if direct { self.pick(&far) } else { self.pick(&far[..2]) } * SECOND;
        let by = if self.rng.bool() { by } else { -by };
        let (from, to) = if self.one_in(2) { (0, 12 * MINUTE) } else { self.span() };
        let (starts, header) = match self.rng.u32(0..3) {
            0 => (0, by),
            1 if direct => (by, by),
            _ if direct => (by, by),
            _ => (by, 0),
        };
        self.items.push(Item::Skew { from, to, site, starts, header });
    }

    /// Another class opens in the same room, before or after the end of the one before.
    fn next_classes(&mut self) {
        for _ in 0..self.rng.usize(1..=2) {
            let (site, room, due) = self.due();
            let before =
                [300, 600, 1_500, 3_000, 9_000, 11_000, 20_000, 60_000, -300, -1_500, -5_000, -20_000];
            let at = (due - self.pick(&before) + self.rng.i64(-50..50)).max(0);
            if self.one_in(2) {
                self.items.push(Item::World { at, site, room, what: Coming::Replace });
            } else {
                let end = (at - self.pick(&[100, 2_000, 20_000])).max(0);
                self.items.push(Item::World { at: end, site, room, what: Coming::End });
                self.items.push(Item::World { at, site, room, what: Coming::Start });
            }
        }
    }

    fn moves(&mut self) {
        let (at, _) = self.span();
        self.sites[1].flavour = self.sites[0].flavour;
        self.items.push(Item::Moves { at, site: 0, to: 1 });
        if self.one_in(2) {
            let at = at + self.pick(&[20, 90]) * SECOND;
            self.items.push(Item::Moves { at, site: 0, to: 0 });
        }
    }
}
