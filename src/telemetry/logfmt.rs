//! Lines as `ts=2026-12-01T17:00:00.002Z level=info msg="..." server=campus job=1a2b3c4d`.

use std::fmt::{self, Write};

use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use crate::clock;

/// The format; it knows nothing of spans, of which we have none.
pub struct Logfmt;

impl<S, N> FormatEvent<S, N> for Logfmt
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut line = Line::default();
        event.record(&mut line);
        let level = event.metadata().level().as_str().to_ascii_lowercase();
        write!(writer, "ts={} level={level}", clock::system_now().wall)?;
        if let Some(message) = &line.message {
            write!(writer, " msg={}", quoted(message))?;
        }
        writeln!(writer, "{}", line.fields)
    }
}

#[derive(Default)]
struct Line {
    message: Option<String>,
    fields: String,
}

impl Line {
    fn add(&mut self, field: &Field, value: String) {
        if field.name() == "message" {
            self.message = Some(value);
        } else {
            let _a_string_takes_it = write!(self.fields, " {}={}", field.name(), quoted(&value));
        }
    }
}

impl Visit for Line {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.add(field, format!("{value:?}"));
    }
}

/// As it is, or in quotes where a reader could take it apart.
fn quoted(value: &str) -> String {
    let plain = |c: char| !c.is_whitespace() && !c.is_control() && !matches!(c, '"' | '=' | '\\');
    if !value.is_empty() && value.chars().all(plain) {
        return value.to_owned();
    }
    let mut quoted = String::from("\"");
    for c in value.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '\n' => quoted.push_str("\\n"),
            c if c.is_control() => quoted.extend(c.escape_unicode()),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Captured(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Captured {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_line_is_pairs_that_can_be_taken_apart() {
        let captured = Captured::default();
        let writer = captured.clone();
        let layer = tracing_subscriber::fmt().event_format(Logfmt).with_writer(move || writer.clone());
        tracing::subscriber::with_default(layer.finish(), || {
            let meeting = "a \"b\"\n\u{1b}[2J";
            tracing::warn!(server = %"campus", meeting, job = "1a2b3c4d", looks = 3, "it \\ ended");
        });
        let text = String::from_utf8(captured.0.lock().unwrap().clone()).unwrap();
        let (time, rest) = text.split_once(' ').unwrap();
        assert!(time.starts_with("ts=20") && time.ends_with('Z'), "{time}");
        let pairs =
            r#"level=warn msg="it \\ ended" server=campus meeting="a \"b\"\n\u{1b}[2J" job=1a2b3c4d looks=3"#;
        assert_eq!(rest.trim_end(), pairs);
    }
}
