//! Where a command writes: answers to stdout, remarks to stderr, both without panics when the reader has left.

use std::fmt::Display;
use std::io::{IsTerminal, Write};

use anstream::stream::RawStream;
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

impl Color {
    /// What this comes to for a stream: the one place where it is decided, for answers, remarks, findings and the log.
    /// `auto` heeds NO_COLOR, CLICOLOR, CLICOLOR_FORCE and TERM, and whether the stream is a terminal.
    pub fn of(self, stream: &impl RawStream) -> ColorChoice {
        match self {
            Color::Auto => AutoStream::choice(stream),
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
    color: Color,
}

impl Output {
    pub fn standard(color: Color) -> Output {
        let (out, err) = (std::io::stdout(), std::io::stderr());
        let (for_out, for_err) = (color.of(&out), color.of(&err));
        let (out, err) = (AutoStream::new(out, for_out), AutoStream::new(err, for_err));
        let width = comfy_table::Table::new().width();
        let interactive = std::io::stderr().is_terminal();
        Output { out: Box::new(out), err: Box::new(err), width, interactive, color }
    }

    /// What was asked for on the command line.
    pub fn color(&self) -> Color {
        self.color
    }

    pub fn width(&self) -> Option<u16> {
        self.width
    }

    /// Lines of the answer may be written over: they go to a terminal, and control sequences with them.
    pub fn redraws(&self) -> bool {
        self.width.is_some() && self.color.of(&std::io::stdout()) != ColorChoice::Never
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

    /// A remark that stays on its line, for the answer.
    pub fn question(&mut self, text: &str) {
        if self.interactive {
            let _ = write!(self.err, "{text}");
            let _ = self.err.flush();
        }
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
            (
                Output { out: plain(&out), err: plain(&err), width, interactive: false, color: Color::Auto },
                out,
                err,
            )
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
