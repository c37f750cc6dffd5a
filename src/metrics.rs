//! What is counted, and the text of `/metrics` (OpenMetrics).
//!
//! Gauges are not kept here: every scrape makes them from the one [`Status`] that `status` shows too, so they cannot
//! contradict it, and a server that was taken away leaves none behind. Kept are counters and histograms, since the start
//! of the daemon. Labels are bounded by what is configured and by the words of this program; no meeting, no person, no
//! job is ever one.

mod process;

use std::borrow::Cow;

use axum::http::{Method, StatusCode};
use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{Atomic, Gauge};
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Metric, Registry, Unit};

use crate::clock;
use crate::engine::api::{ServerStatus, Status};
use crate::job::{EndAnswer, Outcome, ServerName, State, Verdict, Warned};

/// Of the answer to a scrape.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Seconds from due to the sending: on time is the first two, a retry or a restart the last ones.
const LATENESS: [f64; 12] = [0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0, 60.0, 600.0];
/// Seconds from asking for a write to having it on disk.
const WRITE: [f64; 12] = [0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 10.0];

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OfServer {
    platform: Cow<'static, str>,
    server: String,
}

impl OfServer {
    fn new(platform: impl Into<Cow<'static, str>>, server: &ServerName) -> OfServer {
        OfServer { platform: platform.into(), server: server.as_str().to_owned() }
    }
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct WithOutcome {
    platform: Cow<'static, str>,
    server: String,
    outcome: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct WithResult {
    platform: Cow<'static, str>,
    server: String,
    result: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OfRule {
    platform: Cow<'static, str>,
    server: String,
    rule: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OfRequest {
    method: &'static str,
    route: String,
    status: u16,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OfLine {
    result: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct InState {
    state: &'static str,
}

/// A server in a snapshot, where the platform is a string.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Shown {
    platform: String,
    server: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Build {
    version: String,
}

type Lateness = Family<OfServer, Histogram, fn() -> Histogram>;

/// What became of a line of an import.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ImportResult {
    Accepted,
    Existing,
    Refused,
}

/// Everything that is counted. One for a daemon, handed to whoever counts.
#[derive(Debug)]
pub struct Metrics {
    outcomes: Family<WithOutcome, Counter>,
    lateness: Lateness,
    end_calls: Family<WithResult, Counter>,
    looks: Family<WithResult, Counter>,
    warnings: Family<WithResult, Counter>,
    sweeps: Family<WithResult, Counter>,
    rule_hits: Family<OfRule, Counter>,
    store_write: Histogram,
    /// Events that a slow listener has missed.
    pub events_dropped: Counter,
    requests: Family<OfRequest, Counter>,
    import_lines: Family<OfLine, Counter>,
}

impl Default for Metrics {
    fn default() -> Metrics {
        Metrics {
            outcomes: Family::default(),
            lateness: Family::new_with_constructor(|| Histogram::new(LATENESS)),
            end_calls: Family::default(),
            looks: Family::default(),
            warnings: Family::default(),
            sweeps: Family::default(),
            rule_hits: Family::default(),
            store_write: Histogram::new(WRITE),
            events_dropped: Counter::default(),
            requests: Family::default(),
            import_lines: Family::default(),
        }
    }
}

impl Metrics {
    pub fn concluded(&self, platform: &'static str, server: &ServerName, outcome: Outcome) {
        let OfServer { platform, server } = OfServer::new(platform, server);
        self.outcomes.get_or_create(&WithOutcome { platform, server, outcome: outcome.as_str() }).inc();
    }

    /// The first end call of a job leaves, so many milliseconds after due.
    pub fn first_call(&self, platform: &'static str, server: &ServerName, late_ms: i64) {
        let seconds = late_ms.max(0) as f64 / 1_000.0;
        self.lateness.get_or_create(&OfServer::new(platform, server)).observe(seconds);
    }

    pub fn end_answered(&self, platform: &'static str, server: &ServerName, answer: &EndAnswer) {
        let OfServer { platform, server } = OfServer::new(platform, server);
        self.end_calls.get_or_create(&WithResult { platform, server, result: end_result(answer) }).inc();
    }

    pub fn warned(&self, platform: &'static str, server: &ServerName, result: &Warned) {
        let OfServer { platform, server } = OfServer::new(platform, server);
        self.warnings.get_or_create(&WithResult { platform, server, result: warn_result(result) }).inc();
    }

    /// What one look at one meeting has shown.
    pub fn looked(&self, platform: &'static str, server: &ServerName, verdict: &Verdict) {
        let OfServer { platform, server } = OfServer::new(platform, server);
        self.looks.get_or_create(&WithResult { platform, server, result: look_result(verdict) }).inc();
    }

    /// A listing for the rules of a server, and whether it was answered.
    pub fn swept(&self, platform: &'static str, server: &ServerName, answered: bool) {
        let OfServer { platform, server } = OfServer::new(platform, server);
        let result = if answered { "ok" } else { "failed" };
        self.sweeps.get_or_create(&WithResult { platform, server, result }).inc();
    }

    /// A rule has made a job. Its name is the operator's.
    pub fn rule_hit(&self, platform: &'static str, server: &ServerName, rule: &str) {
        let OfServer { platform, server } = OfServer::new(platform, server);
        self.rule_hits.get_or_create(&OfRule { platform, server, rule: rule.to_owned() }).inc();
    }

    /// A write begins; the clock stops with [`Write::done`].
    pub fn write(&self) -> Write {
        Write { histogram: self.store_write.clone(), began: clock::boot_micros() }
    }

    /// `route` is the pattern that the request matched, so that ids in paths make no labels.
    pub fn request(&self, method: &Method, route: Option<&str>, status: StatusCode) {
        let known = [Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE];
        let names = ["GET", "POST", "PUT", "PATCH", "DELETE"];
        let method = known.iter().position(|one| one == method).map_or("other", |n| names[n]);
        let route = route.unwrap_or("other").to_owned();
        self.requests.get_or_create(&OfRequest { method, route, status: status.as_u16() }).inc();
    }

    pub fn import_line(&self, result: ImportResult) {
        let result = match result {
            ImportResult::Accepted => "accepted",
            ImportResult::Existing => "existing",
            ImportResult::Refused => "refused",
        };
        self.import_lines.get_or_create(&OfLine { result }).inc();
    }

    /// The answer to a scrape.
    pub fn encode(&self, status: &Status) -> String {
        for (server, shown) in &status.servers {
            self.begin_at_zero(&OfServer::new(shown.platform.clone(), server));
        }
        let mut registry = Registry::default();
        let ours = registry.sub_registry_with_prefix("adjourn");
        self.register(ours);
        register_daemon(ours, status);
        register_store(ours, status);
        register_servers(ours, status);
        process::register(&mut registry);
        let mut text = String::new();
        text::encode(&mut text, &registry).expect("a string takes all that is written");
        text
    }

    /// Every counter of a configured server is there from the first scrape on: `increase()` sees nothing where a counter
    /// appears with a 1, and the first `failed` of a daemon's life must raise its alert.
    fn begin_at_zero(&self, of: &OfServer) {
        let OfServer { platform, server } = of;
        for outcome in Outcome::ALL {
            let (platform, server) = (platform.clone(), server.clone());
            self.outcomes
                .get_or_create(&WithOutcome { platform, server, outcome: outcome.as_str() })
                .inc_by(0);
        }
        for (family, results) in [
            (&self.end_calls, &END_RESULTS[..]),
            (&self.looks, &LOOK_RESULTS[..]),
            (&self.warnings, &WARN_RESULTS[..]),
            (&self.sweeps, &SWEEP_RESULTS[..]),
        ] {
            for result in results {
                let (platform, server) = (platform.clone(), server.clone());
                family.get_or_create(&WithResult { platform, server, result }).inc_by(0);
            }
        }
        drop(self.lateness.get_or_create(of));
    }

    fn register(&self, registry: &mut Registry) {
        registry.register("outcomes", "Jobs done, by outcome", self.outcomes.clone());
        registry.register_with_unit(
            "lateness",
            "From due to the sending of a job's first end call",
            Unit::Seconds,
            self.lateness.clone(),
        );
        registry.register(
            "end_calls",
            "End calls answered, by what the answer meant",
            self.end_calls.clone(),
        );
        registry.register("looks", "Meetings looked at, by what was seen", self.looks.clone());
        registry.register("warnings", "Warnings tried, by what came of it", self.warnings.clone());
        registry.register("sweeps", "Listings for the rules of a server", self.sweeps.clone());
        registry.register("rule_hits", "Jobs that rules have made", self.rule_hits.clone());
        registry.register_with_unit(
            "store_write",
            "From asking for a write to having it on disk, or refused",
            Unit::Seconds,
            self.store_write.clone(),
        );
        registry.register(
            "events_dropped",
            "Events that slow listeners of /v1/events have missed",
            self.events_dropped.clone(),
        );
        registry.register("requests", "Requests at the control socket", self.requests.clone());
        registry.register("import_lines", "Lines of imports that were answered", self.import_lines.clone());
    }
}

/// A write on its way to disk.
#[derive(Debug)]
pub struct Write {
    histogram: Histogram,
    began: i64,
}

impl Write {
    pub fn done(self) {
        let micros = (clock::boot_micros() - self.began).max(0);
        self.histogram.observe(micros as f64 / 1e6);
    }
}

fn register_daemon(registry: &mut Registry, status: &Status) {
    let build: Family<Build, Gauge> = Family::default();
    build.get_or_create(&Build { version: status.version.clone() }).set(1);
    registry.register("build_info", "The version of the daemon", build);
    let jobs: Family<InState, Gauge> = Family::default();
    for state in State::ALL {
        let count = status.jobs.get(&state).copied().unwrap_or(0);
        jobs.get_or_create(&InState { state: state.as_str() }).set(gauge(count));
    }
    registry.register("jobs", "Jobs in the store, by state", jobs);
    simple(registry, "jobs_in_memory", "Jobs due soon or at work", count(status.in_memory));
    simple(registry, "jobs_overdue", "Meetings still alive long after their time", count(status.overdue));
    simple(
        registry,
        "schedule_refused",
        "1: the last edit of the schedule file was refused",
        flag(status.schedule_error.is_some()),
    );
    let next = status.next_due.as_ref().and_then(|at| at.parse::<jiff::Timestamp>().ok());
    if let Some(at) = next {
        registry.register_with_unit(
            "next_due_timestamp",
            "When the next deadline is due, in seconds since 1970",
            Unit::Seconds,
            constant::<f64, std::sync::atomic::AtomicU64>(at.as_millisecond() as f64 / 1_000.0),
        );
    }
}

fn register_store(registry: &mut Registry, status: &Status) {
    let store = &status.store;
    simple(registry, "store_writable", "0: the last write failed", flag(store.error.is_none()));
    simple(registry, "store_jobs_unwritten", "Jobs with changes not on disk yet", count(store.behind));
    if let Some(free) = store.free_bytes {
        registry.register_with_unit(
            "store_free",
            "Room on the disk of the state directory",
            Unit::Bytes,
            constant::<i64, std::sync::atomic::AtomicI64>(gauge(free)),
        );
    }
    simple(registry, "store_sound", "0: the store can no longer be trusted", flag(store.trouble.is_none()));
    simple(registry, "store_journal_sequence", "Number of the journal's last line", gauge(store.sequence));
    for (name, help, bytes) in [
        ("store_queue", "The queue on disk", store.queue_bytes),
        ("store_journal", "The journal on disk", store.journal_bytes),
    ] {
        let value = constant::<i64, std::sync::atomic::AtomicI64>(gauge(bytes));
        registry.register_with_unit(name, help, Unit::Bytes, value);
    }
}

fn register_servers(registry: &mut Registry, status: &Status) {
    type Of = fn(&ServerStatus) -> Option<i64>;
    let gauges: [(&str, &str, Of); 5] = [
        ("server_up", "0: the server does not answer", |server| server.reachable.map(i64::from)),
        ("server_fault", "1: wrong credentials, or the server has lost its state", |server| {
            Some(flag(server.alarm.is_some()))
        }),
        ("server_ends_in_flight", "End calls under way", |server| Some(count(server.ends_in_flight))),
        ("server_ends_queued", "End calls that wait for their turn", |server| {
            Some(count(server.ends_queued))
        }),
        ("server_looks_queued", "Looks that wait for their turn", |server| Some(count(server.looks_queued))),
    ];
    for (name, help, of) in gauges {
        let family: Family<Shown, Gauge> = Family::default();
        for (server, shown) in &status.servers {
            let labels = Shown { platform: shown.platform.clone(), server: server.as_str().to_owned() };
            if let Some(value) = of(shown) {
                family.get_or_create(&labels).set(value);
            }
        }
        registry.register(name, help, family);
    }
}

fn simple(registry: &mut Registry, name: &str, help: &str, value: i64) {
    registry.register(name, help, constant::<i64, std::sync::atomic::AtomicI64>(value));
}

fn constant<N, A: Atomic<N> + Default>(value: N) -> Gauge<N, A>
where
    Gauge<N, A>: Metric,
{
    let gauge = Gauge::<N, A>::default();
    gauge.set(value);
    gauge
}

fn gauge(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn count(value: usize) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn flag(is_set: bool) -> i64 {
    i64::from(is_set)
}

/// Everything that [`end_result`], [`look_result`], [`warn_result`] and [`Metrics::swept`] say.
const END_RESULTS: [&str; 6] =
    ["accepted", "maybe-gone", "refused", "throttled", "misconfigured", "unreachable"];
const LOOK_RESULTS: [&str; 7] =
    ["live", "replaced", "gone", "vanished", "doubtful", "misconfigured", "unreachable"];
const WARN_RESULTS: [&str; 4] = ["delivered", "nobody", "unsupported", "failed"];
const SWEEP_RESULTS: [&str; 2] = ["ok", "failed"];

fn end_result(answer: &EndAnswer) -> &'static str {
    match answer {
        EndAnswer::Accepted => "accepted",
        EndAnswer::MaybeGone { .. } => "maybe-gone",
        EndAnswer::Refused { .. } => "refused",
        EndAnswer::Throttled { .. } => "throttled",
        EndAnswer::Misconfigured { .. } => "misconfigured",
        EndAnswer::Unreachable { .. } => "unreachable",
    }
}

fn warn_result(result: &Warned) -> &'static str {
    match result {
        Warned::Delivered { .. } => "delivered",
        Warned::NotThere => "nobody",
        Warned::Unsupported(_) => "unsupported",
        Warned::Failed { .. } => "failed",
    }
}

fn look_result(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Live(_) | Verdict::Occupied => "live",
        Verdict::Replaced { .. } => "replaced",
        Verdict::Gone { .. } => "gone",
        Verdict::Vanished { .. } => "vanished",
        Verdict::Doubtful { .. } | Verdict::Hopeless { .. } => "doubtful",
        Verdict::Misconfigured { .. } => "misconfigured",
        Verdict::Unreachable { .. } => "unreachable",
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Everything that can show, shows.
    fn everything() -> String {
        let metrics = Metrics::default();
        let campus = ServerName::from("campus");
        metrics.concluded("bigbluebutton", &campus, Outcome::Ended);
        metrics.first_call("bigbluebutton", &campus, 3);
        metrics.end_answered("bigbluebutton", &campus, &EndAnswer::Accepted);
        metrics.looked("bigbluebutton", &campus, &Verdict::Gone { needed: 2 });
        metrics.warned("bigbluebutton", &campus, &Warned::NotThere);
        metrics.swept("bigbluebutton", &campus, true);
        metrics.rule_hit("bigbluebutton", &campus, "four-hours");
        metrics.write().done();
        metrics.events_dropped.inc();
        metrics.request(&Method::GET, Some("/v1/jobs/{id}"), StatusCode::OK);
        metrics.import_line(ImportResult::Accepted);
        let mut status = Status { version: "1.2.3".to_owned(), in_memory: 4, ..Status::default() };
        status.next_due = Some("2026-12-01T17:00:00.500Z".to_owned());
        status.jobs.insert(State::Waiting, 7);
        status.store.free_bytes = Some(1 << 40);
        status.store.trouble = Some("its records are wrong".to_owned());
        (status.store.sequence, status.store.queue_bytes, status.store.journal_bytes) =
            (42, 3 << 20, 1 << 20);
        let server = ServerStatus {
            platform: "bigbluebutton".into(),
            reachable: Some(true),
            ..ServerStatus::default()
        };
        status.servers.insert(campus, server);
        metrics.encode(&status)
    }

    #[track_caller]
    fn check(text: &str, line: &str) {
        assert!(text.lines().any(|known| known == line), "{line}\nis not in\n{text}");
    }

    #[test]
    fn a_scrape_shows_the_snapshot_and_what_was_counted() {
        let text = everything();
        let of = "platform=\"bigbluebutton\",server=\"campus\"";
        check(&text, "adjourn_build_info{version=\"1.2.3\"} 1");
        check(&text, "adjourn_jobs{state=\"waiting\"} 7");
        check(&text, "adjourn_jobs{state=\"done\"} 0");
        check(&text, "adjourn_jobs_in_memory 4");
        check(&text, "adjourn_next_due_timestamp_seconds 1796144400.5");
        check(&text, &format!("adjourn_server_up{{{of}}} 1"));
        check(&text, &format!("adjourn_outcomes_total{{{of},outcome=\"ended\"}} 1"));
        check(&text, &format!("adjourn_lateness_seconds_bucket{{le=\"0.005\",{of}}} 1"));
        check(&text, &format!("adjourn_end_calls_total{{{of},result=\"accepted\"}} 1"));
        check(&text, &format!("adjourn_looks_total{{{of},result=\"gone\"}} 1"));
        check(&text, &format!("adjourn_warnings_total{{{of},result=\"nobody\"}} 1"));
        check(&text, "adjourn_store_write_seconds_count 1");
        check(&text, "adjourn_store_free_bytes 1099511627776");
        check(&text, "adjourn_store_sound 0");
        check(&text, "adjourn_store_journal_sequence 42");
        check(&text, "adjourn_store_queue_bytes 3145728");
        check(&text, "adjourn_store_journal_bytes 1048576");
        check(&text, "adjourn_requests_total{method=\"GET\",route=\"/v1/jobs/{id}\",status=\"200\"} 1");
        check(&text, "adjourn_import_lines_total{result=\"accepted\"} 1");
        assert!(text.ends_with("# EOF\n"), "{text}");
    }

    #[test]
    fn what_may_be_alerted_on_is_there_before_it_happens() {
        let mut status = Status::default();
        let server = ServerStatus { platform: "janus".into(), ..ServerStatus::default() };
        status.servers.insert(ServerName::from("rooms"), server);
        let metrics = Metrics::default();
        let text = metrics.encode(&status);
        let of = "platform=\"janus\",server=\"rooms\"";
        for outcome in Outcome::ALL {
            check(&text, &format!("adjourn_outcomes_total{{{of},outcome=\"{outcome}\"}} 0"));
        }
        check(&text, &format!("adjourn_end_calls_total{{{of},result=\"misconfigured\"}} 0"));
        check(&text, &format!("adjourn_lateness_seconds_count{{{of}}} 0"));
        metrics.concluded("janus", &ServerName::from("rooms"), Outcome::Failed);
        check(&metrics.encode(&status), &format!("adjourn_outcomes_total{{{of},outcome=\"failed\"}} 1"));
    }

    /// What is said of an answer is in the list of what may be said: otherwise it would not be there from the start.
    #[test]
    fn every_result_is_in_its_list() {
        let why = String::new;
        let ends = [
            EndAnswer::Accepted,
            EndAnswer::MaybeGone { why: why() },
            EndAnswer::Misconfigured { why: why() },
        ];
        assert!(ends.iter().all(|answer| END_RESULTS.contains(&end_result(answer))));
        let warned = [Warned::NotThere, Warned::Unsupported(why())];
        assert!(warned.iter().all(|result| WARN_RESULTS.contains(&warn_result(result))));
        let text = everything();
        let told = |line: &str| line.contains("result=") && line.ends_with(" 1");
        assert_eq!(text.lines().filter(|line| told(line)).count(), 5, "{text}");
        for list in [&END_RESULTS[..], &LOOK_RESULTS[..], &WARN_RESULTS[..], &SWEEP_RESULTS[..]] {
            assert!(list.iter().all(|result| text.contains(&format!("result=\"{result}\""))));
        }
    }

    #[test]
    fn the_process_is_told_under_the_names_that_every_program_uses() {
        let text = everything();
        for name in
            ["cpu_seconds_total", "resident_memory_bytes", "virtual_memory_bytes", "open_fds", "max_fds"]
        {
            let line = text.lines().find_map(|line| line.strip_prefix(&format!("process_{name} ")));
            assert!(
                line.is_some_and(|value| value.parse::<f64>().is_ok_and(|value| value >= 0.0)),
                "{name}: {text}"
            );
        }
        assert!(text.contains("process_start_time_seconds "), "{text}");
    }

    #[test]
    fn a_path_makes_no_label() {
        let metrics = Metrics::default();
        metrics.request(&Method::TRACE, None, StatusCode::NOT_FOUND);
        let text = metrics.encode(&Status::default());
        check(&text, "adjourn_requests_total{method=\"other\",route=\"other\",status=\"404\"} 1");
    }

    #[test]
    fn the_readme_names_every_metric_and_no_other() {
        let text = everything();
        let shown: BTreeSet<String> = text
            .lines()
            .filter_map(|line| line.strip_prefix("# TYPE "))
            .map(|line| match line.split_once(' ') {
                Some((name, "counter")) => format!("{name}_total"),
                Some((name, _)) => name.to_owned(),
                None => panic!("{line}"),
            })
            .collect();
        let readme = include_str!("../README.md");
        let told: BTreeSet<String> = readme
            .lines()
            .filter_map(|line| line.strip_prefix("| `"))
            .filter(|line| line.starts_with("adjourn_") || line.starts_with("process_"))
            .map(|rest| rest.split('`').next().unwrap().to_owned())
            .collect();
        assert_eq!(told, shown);
    }
}
