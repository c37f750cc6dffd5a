//! Random batches, failing ones among them, against a plain map; the store is closed and opened in between.

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
pub(super) enum Step {
    Submit { n: u64, due: i64, key: Option<u8>, meeting: u8 },
    Move { n: u64, to: i64, stale: bool },
    Hold { n: u64 },
    Finish { n: u64, at: i64, outcome: Outcome },
    Remove { n: u64 },
}

pub(super) fn step() -> impl Strategy<Value = Step> {
    let n = 0..12_u64;
    let outcome = proptest::sample::select(Outcome::ALL.to_vec());
    prop_oneof![
        4 => (n.clone(), -50..50_i64, proptest::option::of(0..3_u8), 0..2_u8)
            .prop_map(|(n, due, key, meeting)| Step::Submit { n, due, key, meeting }),
        3 => (n.clone(), -50..50_i64, proptest::bool::weighted(0.1))
            .prop_map(|(n, to, stale)| Step::Move { n, to, stale }),
        1 => n.clone().prop_map(|n| Step::Hold { n }),
        2 => (n.clone(), 0..50_i64, outcome).prop_map(|(n, at, outcome)| Step::Finish { n, at, outcome }),
        2 => n.prop_map(|n| Step::Remove { n }),
    ]
}

pub(super) type Model = BTreeMap<JobId, Job>;

/// What a step asks of the store, as things stand in the model.
pub(super) fn change(model: &Model, step: &Step) -> Change {
    let known = |n: u64| model.get(&id(n)).cloned();
    match *step {
        Step::Submit { n, due, key, meeting } => {
            let key = key.map(|k| Key { key: format!("key{k}"), fingerprint: String::new() });
            let order = Order { key, meeting: format!("m{meeting}").as_str().into(), ..order(n, due) };
            new(&Job::submit(order, now(1)))
        }
        Step::Move { n, to, stale } => {
            let job = known(n).unwrap_or_else(|| job(n, 0));
            update(&moved(&job, to), job.revision + u64::from(stale))
        }
        Step::Hold { n } => {
            let mut job = known(n).unwrap_or_else(|| job(n, 0));
            let revision = job.revision;
            job.record(now(3), Fact::Held { until: None, by: By::Schedule });
            update(&job, revision)
        }
        Step::Finish { n, at, outcome } => {
            let mut job = known(n).unwrap_or_else(|| job(n, 0));
            let revision = job.revision;
            job.record(now(at), Fact::Concluded { outcome, reason: "r".into() });
            update(&job, revision)
        }
        Step::Remove { n } => Change::Remove(id(n)),
    }
}

/// The contract, as plainly as possible. Is the change allowed?
pub(super) fn apply(model: &mut Model, change: &Change) -> bool {
    match change {
        Change::Put { job, expected } => {
            let fits = model.get(&job.id).map(|old| old.revision) == *expected;
            let taken = job.key.as_ref().is_some_and(|key| {
                model
                    .values()
                    .any(|other| other.id != job.id && other.key.as_ref().is_some_and(|k| k.key == key.key))
            });
            if fits && !taken {
                model.insert(job.id, (**job).clone());
            }
            fits && !taken
        }
        Change::Remove(id) => {
            let allowed = model.get(id).is_none_or(Job::is_done);
            if allowed {
                model.remove(id);
            }
            allowed
        }
        Change::Remember { .. } => true,
    }
}

pub(super) fn check_all(queue: &Queue, model: &Model) {
    let newest_first: Vec<Job> = model.values().rev().cloned().collect();
    assert_same(queue.page(&Filter::default(), None, 99), newest_first.clone());
    let mut counts = Counts::new();
    for job in model.values() {
        *counts.entry(job.state).or_default() += 1;
    }
    let real: Counts = queue.counts().unwrap().into_iter().filter(|(_, n)| *n > 0).collect();
    assert_eq!(real, counts);
    let records = compact::records(queue);
    let weight = records.iter().filter(|(key, _)| !key.starts_with(b"meta/")).map(|(k, v)| k.len() + v.len());
    assert_eq!(queue.size().unwrap().live, weight.sum::<usize>() as u64);

    let mut by_wake: Vec<Job> = model.values().filter(|job| job.index_wake().is_some()).cloned().collect();
    by_wake.sort_by_key(|job| (job.index_wake(), job.id));
    assert_same(queue.next_wake(UtcMs(i64::MIN)), by_wake.first().and_then(Job::index_wake));
    assert_same(queue.due_before(UtcMs(i64::MAX), None, 99), by_wake);
    for meeting in ["m0", "m1", "math"].map(MeetingId::from) {
        let of_it = model.values().filter(|job| job.meeting == meeting && !job.is_done());
        let mut of_it: Vec<Job> = of_it.cloned().collect();
        of_it.sort_by_key(|job| (job.due, job.id));
        assert_same(queue.of_meeting(&"campus".into(), &meeting), of_it);
    }
    for key in ["key0", "key1", "key2"] {
        let holder = model.values().find(|job| job.key.as_ref().is_some_and(|k| k.key == key));
        assert_same(queue.by_key(&"campus".into(), key), holder.map(|job| job.id));
    }
    let mut finished: Vec<JobId> = model.values().filter(|job| job.is_done()).map(|job| job.id).collect();
    let mut found = queue.done_before(UtcMs(i64::MAX), 99).unwrap();
    finished.sort();
    found.sort();
    assert_eq!(found, finished);
    for n in 0..12 {
        assert_same(
            queue.by_suffix(&id(n).short(), 9),
            model.get(&id(n)).map(|job| job.id).into_iter().collect(),
        );
    }
    let open_only = Filter { states: vec![State::Waiting, State::Held], ..Filter::default() };
    let open: Vec<Job> =
        newest_first.into_iter().filter(|job| open_only.states.contains(&job.state)).collect();
    assert_same(queue.page(&open_only, None, 99), open);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_store_is_a_map(
        batches in proptest::collection::vec(
            (proptest::collection::vec(step(), 1..5), proptest::bool::weighted(0.15)),
            1..25,
        )
    ) {
        let dir = tempfile::tempdir().unwrap();
        let mut queue = open(dir.path());
        let mut model = Model::new();
        for (steps, reopen) in batches {
            let mut next = model.clone();
            let mut batch = Vec::new();
            let mut allowed = true;
            for step in &steps {
                let change = change(&next, step);
                allowed &= apply(&mut next, &change);
                batch.push(change);
            }
            prop_assert_eq!(commit(&queue, batch).is_ok(), allowed);
            if allowed {
                model = next;
            }
            if reopen {
                drop(queue);
                queue = open(dir.path());
            }
            check_all(&queue, &model);
        }
    }
}
