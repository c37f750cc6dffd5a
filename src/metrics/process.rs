//! The daemon's own process, under the names that every exporter gives them: from `/proc/self`, at every scrape.

use std::fs;
use std::sync::atomic::{AtomicI64, AtomicU64};

use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::{Registry, Unit};
use rustix::process::{Resource, getrlimit};

use super::constant;

/// `USER_HZ`, in which Linux counts the time of processes for its users, on every architecture we know.
const TICKS_A_SECOND: f64 = 100.0;
/// Where in `/proc/self/stat`, counted from behind the name of the program.
const UTIME: usize = 11;
const STIME: usize = 12;
const STARTED: usize = 19;
const VIRTUAL: usize = 20;
const RESIDENT: usize = 21;

/// What cannot be read is left out.
pub(super) fn register(registry: &mut Registry) {
    let registry = registry.sub_registry_with_prefix("process");
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = fields(&stat);
    let field = |at: usize| fields.get(at).copied();
    if let (Some(user), Some(system)) = (field(UTIME), field(STIME)) {
        let cpu = Counter::<f64, AtomicU64>::default();
        cpu.inc_by((user as f64 + system as f64) / TICKS_A_SECOND);
        registry.register_with_unit("cpu", "Time on a CPU, of users and of the system", Unit::Seconds, cpu);
    }
    if let (Some(boot), Some(after)) = (booted_at(), field(STARTED)) {
        let started = constant::<f64, AtomicU64>(boot as f64 + after as f64 / TICKS_A_SECOND);
        registry.register_with_unit("start_time", "Since 1970", Unit::Seconds, started);
    }
    let pages =
        field(RESIDENT).map(|pages| pages * i64::try_from(rustix::param::page_size()).unwrap_or(4096));
    for (name, help, bytes) in
        [("virtual_memory", "Addresses taken", field(VIRTUAL)), ("resident_memory", "Memory in use", pages)]
    {
        if let Some(bytes) = bytes {
            registry.register_with_unit(name, help, Unit::Bytes, constant::<i64, AtomicI64>(bytes));
        }
    }
    if let Ok(open) = fs::read_dir("/proc/self/fd") {
        let open = i64::try_from(open.count()).unwrap_or(i64::MAX);
        registry.register("open_fds", "Open files and connections", constant::<i64, AtomicI64>(open));
    }
    if let Some(most) = getrlimit(Resource::Nofile).current.and_then(|most| i64::try_from(most).ok()) {
        registry.register("max_fds", "How many may be open", constant::<i64, AtomicI64>(most));
    }
}

/// The numbers behind the name, which stands in parentheses and may hold anything.
fn fields(stat: &str) -> Vec<i64> {
    let behind = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    behind.split_ascii_whitespace().map(|field| field.parse().unwrap_or(0)).collect()
}

/// Seconds since 1970.
fn booted_at() -> Option<i64> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_and_spaces_is_skipped() {
        let stat = "4711 (a) b (c)) S 1 2 3 4 5 6 7 8 9 10 1234 55 0 0 20 0 8 0 9876 1000000 250 18446744073709551615";
        let fields = fields(stat);
        let picked = [UTIME, STIME, STARTED, VIRTUAL, RESIDENT].map(|at| fields[at]);
        assert_eq!(picked, [1234, 55, 9876, 1_000_000, 250]);
    }
}
