//! Random lives: whatever happens, in whatever order, the laws hold; and once the faults stop, the job comes to its
//! right outcome in bounded time.

use std::time::Duration;

use proptest::prelude::*;

use super::super::*;
use super::sim::{START, doubtful, maybe_gone, misconfigured, no_answer, refused, unreachable};
use super::sim::{hours, mins, order, secs};
use super::world::World;

/// Once the platform tells the truth, due is reached and nobody holds the job: this long, and it is done.
const SETTLES_WITHIN: Duration = mins(40);

/// One random life.
#[derive(Clone, Debug)]
pub struct Scene {
    order: Order,
    aim: Aim,
    /// When `a`, `b` and `c` started: long before every due, around it, or the platform does not say.
    started: [Option<UtcMs>; 3],
    ops: Vec<Op>,
    /// What is really alive once the faults stop.
    truth: Option<&'static str>,
}

#[derive(Clone, Debug)]
enum Op {
    /// Time passes; the job is stepped when it wants to be.
    Pass(i64),
    /// Time passes, and nobody is awake.
    Stall(i64),
    StepClock(i64),
    /// What it shows, and how long its answer lay about.
    Look(Shown, i64),
    Slot,
    End(EndAnswer),
    WarningSlot,
    Warned(Warned),
    Change(Change),
    /// Moved to so long from then.
    ExtendTo(i64),
    MoveTo(i64),
    HoldFor(i64),
    ReleaseTo(i64),
    Crash {
        lost_writes: usize,
        away: i64,
        reboot: bool,
    },
}

/// A verdict, before it is known when the instance started.
#[derive(Clone, Debug)]
enum Shown {
    Live(&'static str),
    Replaced(&'static str, bool),
    Nobody(Verdict),
}

impl Scene {
    fn instance(&self, id: &str) -> Instance {
        let started_at = match id {
            "a" => self.started[0],
            "b" => self.started[1],
            _ => self.started[2],
        };
        let start = started_at.map(StartRange::around);
        Instance {
            id: id.into(),
            started_at,
            start,
            participants: None,
            listed: true,
            node: None,
            shown_at: None,
            asked_at: None,
        }
    }

    fn verdict(&self, shown: &Shown) -> Verdict {
        match shown {
            Shown::Live(id) => Verdict::Live(self.instance(id)),
            Shown::Replaced(id, counts) => Verdict::Replaced { by: self.instance(id), counts: *counts },
            Shown::Nobody(verdict) => verdict.clone(),
        }
    }

    /// Plays it to its end, every step under the laws.
    fn play(&self) -> World {
        let mut world = World::new(self.order.clone(), self.aim);
        for op in &self.ops {
            self.apply(&mut world, op);
            world.check_rest();
        }
        world
    }

    /// Plays it, then lets all faults stop.
    pub fn play_and_settle(&self) -> World {
        let truth = self.truth.map(|id| self.instance(id));
        let mut world = self.play();
        if !world.job.is_done() {
            // On guard it has been told of an end already, truthfully or not.
            let told = world.job.state == State::Guarding;
            let alive = settle(&mut world, truth);
            let outcome = world.job.outcome.expect("it came to an outcome");
            if let Some(alive) = alive.filter(|_| outcome.claims_gone() && !told) {
                let ours = world.is_ours(&alive);
                assert!(!ours, "{outcome}, but {} is alive: {:#?}", alive.id, world.happened());
            }
        }
        let done = (world.job.outcome, world.job.revision, world.job.ends);
        world.pass(7_200_000);
        assert_eq!((world.job.outcome, world.job.revision, world.job.ends), done, "done is done");
        world
    }

    fn apply(&self, world: &mut World, op: &Op) {
        let now = world.now.wall;
        match op {
            Op::Pass(ms) => world.pass(*ms),
            Op::Stall(ms) => world.stall(*ms),
            Op::StepClock(ms) => world.step_clock(*ms),
            Op::Look(shown, handled_after) => world.look_says(self.verdict(shown), *handled_after),
            Op::Slot => world.slot(),
            Op::End(answer) => world.end_says(answer.clone()),
            Op::WarningSlot => world.warning_slot(),
            Op::Warned(result) => world.warning_says(result.clone()),
            Op::Change(change) => world.change(change),
            Op::ExtendTo(ms) => world.change(&Change::ExtendTo { until: UtcMs(now.0 + ms) }),
            Op::MoveTo(ms) => world.change(&Change::Move { to: UtcMs(now.0 + ms) }),
            Op::HoldFor(ms) => world.change(&Change::Hold { until: Some(UtcMs(now.0 + ms)) }),
            Op::ReleaseTo(ms) => world.change(&Change::Release { due: Some(UtcMs(now.0 + ms)) }),
            Op::Crash { lost_writes, away, reboot } => world.crash(*lost_writes, *away, *reboot),
        }
    }
}

/// From now on everything is answered truthfully and soon. Gives back what is alive at the end.
fn settle(world: &mut World, mut alive: Option<Instance>) -> Option<Instance> {
    if world.job.state == State::Held {
        world.change(&Change::Fire);
    }
    let to_due = world.job.due.ms_since(world.now.wall).max(0);
    let patience =
        Duration::from_millis(to_due.unsigned_abs()) + world.job.limits.keep_closed + SETTLES_WITHIN;
    let give_up = world.now.boot + patience;
    while !world.job.is_done() {
        assert!(world.now.boot < give_up, "not done after {patience:?}: {:#?}", world.job);
        if world.asked.is_some() {
            world.pass(30);
            let verdict = truthful(&world.job, alive.as_ref());
            world.look_says(verdict, 0);
        } else if world.queued > 0 {
            world.slot();
        } else if !world.in_flight.is_empty() {
            world.pass(30);
            world.end_says(EndAnswer::Accepted);
            alive = None;
        } else {
            let wait = world.to_wake().expect("the job waits for something");
            world.pass(wait);
        }
    }
    alive
}

fn truthful(job: &Job, alive: Option<&Instance>) -> Verdict {
    let asked = job.pin.as_ref().map(|pin| &pin.instance).or(job.only.as_ref());
    match (alive, asked) {
        (None, _) => Verdict::Gone { needed: 2 },
        (Some(alive), Some(asked)) if alive.id != *asked => {
            Verdict::Replaced { by: alive.clone(), counts: true }
        }
        (Some(alive), _) => Verdict::Live(alive.clone()),
    }
}

// Strategies.

pub fn scenes() -> impl Strategy<Value = Scene> {
    let started = prop_oneof![
        4 => Just(Some(START.wall - hours(1))),
        2 => (0_i64..60_000).prop_map(|ms| Some(UtcMs(START.wall.0 + ms))),
        1 => Just(None),
    ];
    let started = [started.clone(), started.clone(), started];
    let ops = prop::collection::vec(ops(), 1..90);
    let aims = prop::sample::select(vec![Aim::Instance, Aim::Meeting]);
    (orders(), aims, started, ops, prop::option::of(ids()))
        .prop_map(|(order, aim, started, ops, truth)| Scene { order, aim, started, ops, truth })
}

fn orders() -> impl Strategy<Value = Order> {
    let limits = (
        prop::sample::select(vec![secs(0), mins(1), hours(24)]),
        prop::sample::select(vec![mins(2), hours(24)]),
        prop::sample::select(vec![secs(30), hours(1)]),
        prop::sample::select(vec![secs(0), secs(0), mins(3)]),
        prop::sample::select(vec![vec![], vec![secs(30)], vec![mins(2), secs(40), secs(15)]]),
        prop::sample::select(vec![None, None, Some(secs(0)), Some(secs(30))]),
    );
    let only = prop::option::weighted(0.2, Just(InstanceId::from("a")));
    (0_u64..40, only, limits).prop_map(
        |(due_in, only, (late, give_up, prove, keep_closed, warn, max_extension))| {
            let mut order = order(START.wall + secs(due_in));
            order.only = only;
            order.limits.late_limit = late;
            order.limits.give_up_after = give_up;
            order.limits.prove_within = prove;
            order.limits.keep_closed = keep_closed;
            order.limits.warn = warn;
            order.limits.max_extension = max_extension;
            order
        },
    )
}

fn ops() -> impl Strategy<Value = Op> {
    prop_oneof![
        10 => durations().prop_map(Op::Pass),
        2 => durations().prop_map(Op::Stall),
        1 => prop_oneof![-4_000_i64..4_000, -4_000_000_i64..4_000_000].prop_map(Op::StepClock),
        16 => (verdicts(), prop_oneof![3 => Just(0), 1 => 0_i64..20_000]).prop_map(|(v, ms)| Op::Look(v, ms)),
        8 => Just(Op::Slot),
        8 => answers().prop_map(Op::End),
        5 => Just(Op::WarningSlot),
        5 => warned().prop_map(Op::Warned),
        3 => changes(),
        2 => (0_usize..6, durations(), any::<bool>())
            .prop_map(|(lost_writes, away, reboot)| Op::Crash { lost_writes, away, reboot }),
    ]
}

fn durations() -> impl Strategy<Value = i64> {
    prop_oneof![
        1 => 0_i64..10,
        4 => 10_i64..3_000,
        4 => 1_000_i64..20_000,
        2 => 20_000_i64..400_000,
        1 => 400_000_i64..8_000_000,
    ]
}

fn verdicts() -> impl Strategy<Value = Shown> {
    let nobody = prop_oneof![
        7 => (1_u8..=2).prop_map(|needed| Verdict::Gone { needed }),
        1 => Just(Verdict::Occupied),
        1 => Just(Verdict::Vanished { why: "not shown".to_owned(), believed: false }),
        1 => Just(doubtful()),
        2 => Just(unreachable()),
        1 => Just(misconfigured()),
        1 => prop::bool::weighted(0.2).prop_map(|hopeless| match hopeless {
            true => Verdict::Hopeless { why: "lost its state".to_owned() },
            false => unreachable(),
        }),
    ];
    prop_oneof![
        8 => ids().prop_map(Shown::Live),
        2 => (ids(), any::<bool>()).prop_map(|(id, counts)| Shown::Replaced(id, counts)),
        13 => nobody.prop_map(Shown::Nobody),
    ]
}

fn ids() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["a", "a", "a", "b", "c"])
}

fn answers() -> impl Strategy<Value = EndAnswer> {
    let throttled = |ms| EndAnswer::Throttled {
        why: "slow".to_owned(),
        retry_after: Some(Duration::from_millis(ms)),
        unavailable: false,
    };
    prop_oneof![
        8 => Just(EndAnswer::Accepted),
        2 => Just(maybe_gone()),
        2 => prop::bool::weighted(0.1).prop_map(refused),
        1 => (0_u64..100_000).prop_map(throttled),
        1 => Just(EndAnswer::Misconfigured { why: "checksumError".to_owned() }),
        2 => any::<bool>().prop_map(no_answer),
    ]
}

fn warned() -> impl Strategy<Value = Warned> {
    let failed = |sent| Warned::Failed { why: "timed out".to_owned(), sent };
    prop_oneof![
        3 => Just(Warned::Delivered { instance: Some("a".into()), also: 0 }),
        3 => Just(Warned::NotThere),
        1 => Just(Warned::Unsupported("too old".to_owned())),
        2 => any::<bool>().prop_map(failed),
    ]
}

fn changes() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => (0_u64..60_000).prop_map(|ms| Op::Change(Change::Extend { by: Duration::from_millis(ms) })),
        1 => (-5_000_i64..60_000).prop_map(Op::ExtendTo),
        2 => (-5_000_i64..60_000).prop_map(Op::MoveTo),
        1 => Just(Op::Change(Change::Hold { until: None })),
        1 => (0_i64..60_000).prop_map(Op::HoldFor),
        2 => Just(Op::Change(Change::Release { due: None })),
        2 => (-5_000_i64..60_000).prop_map(Op::ReleaseTo),
        2 => Just(Op::Change(Change::Fire)),
        1 => prop::bool::weighted(0.3).prop_map(|cancel| Op::Change(match cancel {
            true => Change::Cancel,
            false => Change::Fire,
        })),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_sequence_of_events_breaks_the_laws(scene in scenes()) {
        scene.play();
    }

    #[test]
    fn a_life_is_the_same_without_its_warnings(mut scene in scenes()) {
        for op in &mut scene.ops {
            // How much a crash takes with it is counted in writes, and those are not the same.
            if let Op::Crash { lost_writes, .. } = op {
                *lost_writes = 0;
            }
        }
        let warned = scene.play();
        scene.order.limits.warn.clear();
        let quiet = scene.play();
        prop_assert_eq!(warned.facts_of_the_end(), quiet.facts_of_the_end());
        prop_assert_eq!(warned.called, quiet.called);
    }

    #[test]
    fn once_the_faults_stop_every_job_comes_to_its_right_outcome(scene in scenes()) {
        scene.play_and_settle();
    }
}
