//! Why a command did not do what it was asked: one sentence, a hint, an exit code.

use std::fmt;
use std::io;

use crate::exit::ExitCode;

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failure {
    what: String,
    hint: String,
    exit: ExitCode,
    /// The status of the daemon's answer, if it answered.
    status: Option<u16>,
    /// Nobody reads the output any more: leave without a word.
    quiet: bool,
}

impl Failure {
    pub fn new(exit: ExitCode, what: impl Into<String>) -> Failure {
        Failure { what: what.into(), hint: String::new(), exit, status: None, quiet: false }
    }

    pub fn usage(what: impl Into<String>) -> Failure {
        Failure::new(ExitCode::Usage, what)
    }

    /// The daemon refused with this status.
    pub fn refused(status: u16, what: impl Into<String>) -> Failure {
        Failure { status: Some(status), ..Failure::new(exit_of(status), what) }
    }

    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Failure {
        self.hint = hint.into();
        self
    }

    /// The same failure, said in other words.
    #[must_use]
    pub fn about(mut self, what: &str) -> Failure {
        what.clone_into(&mut self.what);
        self
    }

    pub fn what(&self) -> &str {
        &self.what
    }

    /// What to do next; may be empty.
    pub fn next(&self) -> &str {
        &self.hint
    }

    pub fn exit(&self) -> ExitCode {
        self.exit
    }

    pub fn status(&self) -> Option<u16> {
        self.status
    }

    pub fn is_quiet(&self) -> bool {
        self.quiet
    }

    /// The daemon is away, or is about to be: worth another try by whoever waits.
    pub fn is_away(&self) -> bool {
        self.exit == ExitCode::Unreachable || self.exit == ExitCode::Temporary
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl std::error::Error for Failure {}

/// 503, 504 and 507 pass by themselves; everything else is a refusal.
fn exit_of(status: u16) -> ExitCode {
    match status {
        503 | 504 | 507 => ExitCode::Temporary,
        _ => ExitCode::Refused,
    }
}

/// From writing the output: a broken pipe is no error.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Failure { quiet: true, ..Failure::new(ExitCode::Done, "nobody reads the output") };
        }
        Failure::new(ExitCode::Refused, format!("cannot write the output: {error}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_have_their_exit_codes() {
        for (status, exit) in [
            (400, 1),
            (404, 1),
            (409, 1),
            (412, 1),
            (413, 1),
            (422, 1),
            (500, 1),
            (502, 1),
            (503, 75),
            (504, 75),
            (507, 75),
        ] {
            assert_eq!(Failure::refused(status, "").exit() as u8, exit, "{status}");
        }
    }

    #[test]
    fn a_broken_pipe_is_no_error() {
        let gone = Failure::from(io::Error::from(io::ErrorKind::BrokenPipe));
        assert!(gone.is_quiet());
        assert_eq!(gone.exit(), ExitCode::Done);
        let full = Failure::from(io::Error::from(io::ErrorKind::StorageFull));
        assert!(!full.is_quiet());
        assert_eq!(full.exit(), ExitCode::Refused);
    }
}
