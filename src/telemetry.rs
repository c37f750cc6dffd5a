//! Logging: to the journal under systemd, to standard error otherwise.
//!
//! In the journal every field of a line is one of its own: `ADJOURN_SERVER`, `ADJOURN_MEETING`, `ADJOURN_JOB`,
//! `ADJOURN_EVENT`, so that `journalctl ADJOURN_JOB=1a2b3c4d` tells a job's story. For collectors that read standard error
//! there are JSON and logfmt. A meeting that went as it should is one line at INFO; its steps are at DEBUG.

mod logfmt;

use anstream::ColorChoice;
use rustix::fs::fstat;
use tracing::Subscriber;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

use logfmt::Logfmt;

/// The environment variable with the filter, e.g. `adjourn=debug`.
pub const FILTER: &str = "ADJOURN_LOG";
/// The environment variable with the format: `plain`, `json` or `logfmt`.
pub const FORMAT: &str = "ADJOURN_LOG_FORMAT";

/// Libraries speak up only about trouble.
const DEFAULT_FILTER: &str = "warn,adjourn=info";
/// What the fields of a line begin with in the journal.
const FIELDS: &str = "ADJOURN";

/// How lines are written to standard error.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Format {
    Plain,
    Json,
    Logfmt,
}

/// Starts logging. A filter or a format that cannot be understood is reported and replaced by the default. `color`: where
/// the lines go to a terminal, or where they may not be coloured in spite of it.
pub fn init(color: ColorChoice) {
    let mut complaints = Vec::new();
    let filter = filter(&mut complaints);
    let (layer, started) = match format(&mut complaints) {
        None if goes_to_the_journal() => match tracing_journald::layer() {
            Ok(journal) => (None, Some(journal.with_field_prefix(Some(FIELDS.to_owned())))),
            Err(_) => (Some(on_stderr(Format::Plain, color)), None),
        },
        format => (Some(on_stderr(format.unwrap_or(Format::Plain), color)), None),
    };
    if tracing_subscriber::registry().with(layer).with(started).with(filter).try_init().is_err() {
        tracing::debug!("logging was started already");
    }
    for complaint in complaints {
        tracing::warn!("{complaint}");
    }
}

fn filter(complaints: &mut Vec<String>) -> EnvFilter {
    let wish = std::env::var(FILTER).ok().map(EnvFilter::try_new);
    match wish {
        Some(Ok(filter)) => return filter,
        Some(Err(error)) => {
            complaints.push(format!("{FILTER} is not understood ({error}); logging with {DEFAULT_FILTER:?}"));
        }
        None => {}
    }
    EnvFilter::new(DEFAULT_FILTER)
}

/// `None`: nobody has asked for one.
fn format(complaints: &mut Vec<String>) -> Option<Format> {
    let wish = std::env::var(FORMAT).ok().filter(|wish| !wish.is_empty())?;
    let known = format_named(&wish);
    if known.is_none() {
        complaints.push(format!("{FORMAT} is {wish:?}; it may be plain, json or logfmt"));
    }
    known
}

fn format_named(name: &str) -> Option<Format> {
    match name {
        "plain" => Some(Format::Plain),
        "json" => Some(Format::Json),
        "logfmt" => Some(Format::Logfmt),
        _ => None,
    }
}

/// `JOURNAL_STREAM` names the device and the inode of the journal's socket. It is inherited by whatever a service starts, so
/// it counts only as long as standard error still is that socket.
fn goes_to_the_journal() -> bool {
    let Ok(named) = std::env::var("JOURNAL_STREAM") else { return false };
    fstat(std::io::stderr()).is_ok_and(|file| format!("{}:{}", file.st_dev, file.st_ino) == named)
}

fn on_stderr<S>(format: Format, color: ColorChoice) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let layer = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    match format {
        Format::Plain => layer.with_ansi(color != ColorChoice::Never).with_target(false).boxed(),
        Format::Json => layer.with_ansi(false).json().flatten_event(true).with_target(false).boxed(),
        Format::Logfmt => layer.with_ansi(false).event_format(Logfmt).boxed(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_have_names() {
        for (name, format) in [("plain", Format::Plain), ("json", Format::Json), ("logfmt", Format::Logfmt)] {
            assert_eq!(format_named(name), Some(format));
        }
        assert_eq!(format_named("JSON "), None);
    }
}
