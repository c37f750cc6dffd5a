//! Exit codes: a contract with scripts and with systemd (`RestartPreventExitStatus=78`).

use crate::job::Outcome;

/// What the process says to its caller. 69 and up are those of `sysexits.h`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ExitCode {
    /// Done; for `wait`: the meeting is over.
    Done = 0,
    /// Refused, or the job came to another outcome.
    Refused = 1,
    /// The command line is wrong.
    Usage = 2,
    /// Nothing can prove that the meeting is over: unconfirmed, or vanished.
    Unconfirmed = 3,
    /// The meeting was last seen alive.
    Failed = 4,
    /// The daemon cannot be reached.
    Unreachable = 69,
    /// Try again later: held by another daemon, a wait timed out, the disk is full.
    Temporary = 75,
    /// The user may not do this.
    Permission = 77,
    /// The configuration is wrong; a restart would not help.
    Config = 78,
}

impl ExitCode {
    /// What `wait` answers for an outcome. `absent_ok`: a meeting that never took place is fine.
    /// `nobody`: what vanished was empty when it was last seen, or was never shown; that is no worse than an absence.
    pub fn of_outcome(outcome: Outcome, absent_ok: bool, nobody: bool) -> ExitCode {
        match outcome {
            Outcome::Ended | Outcome::AlreadyOver => ExitCode::Done,
            Outcome::Absent if absent_ok => ExitCode::Done,
            Outcome::Vanished if absent_ok && nobody => ExitCode::Done,
            Outcome::Absent | Outcome::Superseded | Outcome::Cancelled | Outcome::Missed => ExitCode::Refused,
            Outcome::Unconfirmed | Outcome::Vanished => ExitCode::Unconfirmed,
            Outcome::Failed => ExitCode::Failed,
        }
    }
}

impl From<ExitCode> for std::process::ExitCode {
    fn from(code: ExitCode) -> std::process::ExitCode {
        std::process::ExitCode::from(code as u8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_outcome_has_the_documented_code() {
        let codes =
            Outcome::ALL.map(|outcome| (outcome.as_str(), ExitCode::of_outcome(outcome, false, false) as u8));
        let documented = [
            ("ended", 0),
            ("already-over", 0),
            ("absent", 1),
            ("superseded", 1),
            ("cancelled", 1),
            ("missed", 1),
            ("unconfirmed", 3),
            ("failed", 4),
            ("vanished", 3),
        ];
        assert_eq!(codes, documented);
    }

    #[test]
    fn absent_ok_forgives_absence_only() {
        for outcome in Outcome::ALL {
            let code = |absent_ok, nobody| ExitCode::of_outcome(outcome, absent_ok, nobody);
            assert_eq!(code(true, false) != code(false, false), outcome == Outcome::Absent, "{outcome}");
            let nobody_there = matches!(outcome, Outcome::Absent | Outcome::Vanished);
            assert_eq!(code(true, true) != code(false, true), nobody_there, "{outcome}");
        }
    }
}
