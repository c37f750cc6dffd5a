//! A core that nobody runs: it is asked one thing at a time.

use super::*;
use crate::platform;

/// With one server, `campus`, whose platform is a direct BigBlueButton that is never asked; and what comes in.
pub(in crate::engine) fn still() -> (Core, mpsc::UnboundedReceiver<core::Inner>) {
    let (clock, settings) = (Arc::new(SystemClock), server_settings(1));
    let built = platform::build(&"campus".into(), &settings.platform, clock.clone()).unwrap();
    let server = Server::new(built, &settings, Memory::default(), system_now());
    let (inbox, inner) = mpsc::unbounded_channel();
    let parts = Parts {
        clock,
        store: Arc::new(MemStore::default()),
        state_dir: "/nowhere".into(),
        servers: BTreeMap::from([("campus".into(), server)]),
        events: broadcast::channel(EVENTS).0,
        inbox,
    };
    (Core::new(parts), inner)
}

/// A job on a meeting of `campus`.
pub(in crate::engine) fn job(n: u128, due: UtcMs, origin: Origin) -> Job {
    let order = Order {
        id: JobId(uuid::Uuid::from_u128(n)),
        server: "campus".into(),
        meeting: "math-101".into(),
        only: None,
        key: None,
        limits: Limits::default(),
        at_most: None,
        max_duration: None,
        due,
        origin,
        by: By::Peer { uid: 0, pid: None },
    };
    Job::submit(order, system_now())
}

/// The same, with instance `i` pinned, which a listing showed.
pub(in crate::engine) fn pinned(n: u128, due: UtcMs) -> Job {
    let (now, mut job) = (system_now(), job(n, due, Origin::Api));
    let (node, site) = (None, None);
    let pin = Pin { instance: "i".into(), started_at: None, listed: true, node, site, last_live: now };
    job.record(now, Fact::Pinned { pin });
    job
}

/// It is in the store, and nowhere else.
pub(in crate::engine) fn put(core: &Core, job: &Job) {
    let change = Write::Put { job: Box::new(job.clone()), expected: None };
    core.store.commit(vec![change], Box::new(|written| written.unwrap()));
}
