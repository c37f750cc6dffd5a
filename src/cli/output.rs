//! Where a command writes: answers to stdout, remarks to stderr, both without panics when the reader has left.

use std::fmt::Display;
use std::io::{IsTerminal, Write};

use anstream::{AutoStream, ColorChoice};
use clap::ValueEnum;
use serde::Serialize;

use super::failure::Failure;
use super::text::clean;

/// When to colour.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, ValueEnum)]
pub enum Color {
    #[default]
    Auto,
    Always,
    Never,
}

impl From<Color> for ColorChoice {
    fn from(color: Color) -> ColorChoice {
        match color {
            Color::Auto => ColorChoice::Auto,
            Color::Always => ColorChoice::Always,
            Color::Never => ColorChoice::Never,
        }
    }
}

/// How a word is to stand out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tone {
    Good,
    Doubtful,
    Bad,
    Faint,
}

impl Tone {
    /// The text in the tone's colour; the streams take the colour out where it is not wanted.
    pub fn paint(self, text: impl Display) -> String {
        let code = match self {
            Tone::Good => 32,
            Tone::Doubtful => 33,
            Tone::Bad => 31,
            Tone::Faint => 2,
        };
        format!("\u{1b}[{code}m{text}\u{1b}[0m")
    }
}

pub struct Output {
    out: Box<dyn Write + Send>,
    err: Box<dyn Write + Send>,
    /// Columns, where the answers go to a terminal.
    width: Option<u16>,
    /// Remarks go to a terminal, where one may replace the one before.
    interactive: bool,
}

impl Output {
    pub fn standard(color: Color) -> Output {
        let out = AutoStream::new(std::io::stdout(), color.into());
        let err = AutoStream::new(std::io::stderr(), color.into());
        let width = comfy_table::Table::new().width();
        let interactive = std::io::stderr().is_terminal();
        Output { out: Box::new(out), err: Box::new(err), width, interactive }
    }

    pub fn width(&self) -> Option<u16> {
        self.width
    }

    /// One line (or several) of the answer.
    pub fn line(&mut self, text: impl Display) -> Result<(), Failure> {
        writeln!(self.out, "{text}").map_err(Failure::from)
    }

    /// One JSON value, pretty.
    pub fn json(&mut self, value: &impl Serialize) -> Result<(), Failure> {
        let text = serde_json::to_string_pretty(value).expect("what we show has string keys");
        self.line(text)
    }

    /// One JSON value a line: for streams.
    pub fn json_line(&mut self, value: &impl Serialize) -> Result<(), Failure> {
        let text = serde_json::to_string(value).expect("what we show has string keys");
        self.line(text)?;
        self.flush()
    }

    /// Bytes as they are: completions, manual pages.
    pub fn bytes(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.out.write_all(bytes).map_err(Failure::from)
    }

    pub fn flush(&mut self) -> Result<(), Failure> {
        self.out.flush().map_err(Failure::from)
    }

    /// A remark beside the answer. That nobody reads it is no error.
    pub fn note(&mut self, text: impl Display) {
        let _ = writeln!(self.err, "{text}");
    }

    /// A remark that the next one replaces, on a terminal only; an empty one clears it away.
    pub fn progress(&mut self, text: impl Display) {
        if self.interactive {
            let _ = write!(self.err, "\r\u{1b}[K{text}");
            let _ = self.err.flush();
        }
    }

    /// `error: ...` and, if there is one, `hint: ...`.
    pub fn failure(&mut self, failure: &Failure) {
        if failure.is_quiet() {
            return;
        }
        self.note(format_args!("{} {}", Tone::Bad.paint("error:"), clean(failure.what())));
        if !failure.next().is_empty() {
            self.note(format_args!("{} {}", Tone::Doubtful.paint("hint:"), clean(failure.next())));
        }
    }
}

#[cfg(test)]
pub(crate) mod capture {
    use std::sync::{Arc, Mutex};

    use super::*;

    /// What was written, colours taken out.
    #[derive(Clone, Default)]
    pub(crate) struct Captured(Arc<Mutex<Vec<u8>>>);

    impl Captured {
        pub(crate) fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    impl Write for Captured {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    impl Output {
        pub(crate) fn captured(width: Option<u16>) -> (Output, Captured, Captured) {
            let (out, err) = (Captured::default(), Captured::default());
            let plain = |captured: &Captured| -> Box<dyn Write + Send> {
                Box::new(anstream::StripStream::new(Box::new(captured.clone()) as Box<dyn Write + Send>))
            };
            (Output { out: plain(&out), err: plain(&err), width, interactive: false }, out, err)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::ExitCode;

    #[test]
    fn failures_are_cleaned_and_come_with_their_hint() {
        let (mut output, out, err) = Output::captured(None);
        output
            .failure(&Failure::new(ExitCode::Refused, "no meeting \u{1b}[2J").hint("see `adjourn meetings`"));
        assert_eq!(err.text(), "error: no meeting ␛[2J\nhint: see `adjourn meetings`\n");
        assert_eq!(out.text(), "");
    }

    #[test]
    fn a_broken_pipe_is_not_mentioned() {
        let (mut output, _, err) = Output::captured(None);
        output.failure(&std::io::Error::from(std::io::ErrorKind::BrokenPipe).into());
        assert_eq!(err.text(), "");
    }
}
