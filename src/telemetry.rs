//! Logging: to the journal under systemd, to standard error otherwise.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// The environment variable with the filter, e.g. `adjourn=debug`.
pub const FILTER: &str = "ADJOURN_LOG";

/// Libraries speak up only about trouble.
const DEFAULT_FILTER: &str = "warn,adjourn=info";

/// Starts logging. A filter that cannot be understood is reported and replaced by the default.
pub fn init() {
    let wish = std::env::var(FILTER).ok();
    let parsed = wish.as_ref().map(EnvFilter::try_new);
    let complaint = match &parsed {
        Some(Err(error)) => {
            Some(format!("{FILTER} is not understood ({error}); logging with {DEFAULT_FILTER:?}"))
        }
        _ => None,
    };
    let filter = parsed.and_then(Result::ok).unwrap_or_else(|| EnvFilter::new(DEFAULT_FILTER));
    let registry = tracing_subscriber::registry().with(filter);
    // JOURNAL_STREAM says that systemd reads our standard error: then structured fields are worth having.
    let journal = std::env::var_os("JOURNAL_STREAM").and_then(|_| tracing_journald::layer().ok());
    let started = match journal {
        Some(journal) => registry.with(journal).try_init(),
        None => {
            let colour =
                std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
            let plain = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(colour);
            registry.with(plain.with_target(false)).try_init()
        }
    };
    if started.is_err() {
        tracing::debug!("logging was started already");
    }
    if let Some(complaint) = complaint {
        tracing::warn!("{complaint}");
    }
}
