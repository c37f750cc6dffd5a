//! What every command is given: the way to the daemon, the way out, the zone, the clock.

use std::io::IsTerminal;
use std::path::PathBuf;

use jiff::tz::TimeZone;

use super::client::Client;
use super::failure::Failure;
use super::output::{Color, Output};
use super::say;
use crate::clock;
use crate::control::wire::{Deadline, JobAnswer};
use crate::job::{JobView, Now, UtcMs};

pub struct Context {
    socket: PathBuf,
    pub out: Output,
    /// Times are read and shown in this zone.
    pub zone: TimeZone,
    clock: fn() -> Now,
    /// Reads what somebody answers; `None`: nobody is there.
    pub reply: fn() -> Option<String>,
}

impl Context {
    pub fn standard(socket: PathBuf, color: Color) -> Context {
        let out = Output::standard(color);
        Context { socket, out, zone: TimeZone::system(), clock: clock::system_now, reply }
    }

    pub fn client(&self) -> Result<Client, Failure> {
        Client::new(&self.socket)
    }

    pub fn now(&self) -> Now {
        (self.clock)()
    }

    /// Asks whoever sits at the terminal; `None`: nobody does.
    pub fn ask(&mut self, question: &str) -> Option<String> {
        self.out.question(question);
        (self.reply)()
    }

    /// `18:00:00 CET, in 45m`.
    pub fn moment(&self, at: UtcMs) -> String {
        say::moment(at, &self.zone, self.now())
    }

    /// `at 18:00:00 CET, in 45m`, or `4h after its start`.
    pub fn due(&self, at: UtcMs, max_duration: Option<&str>) -> String {
        say::due(at, max_duration, &self.zone, self.now())
    }

    pub fn sentence(&self, job: &JobView) -> String {
        say::sentence(job, &self.zone, self.now())
    }

    /// What became of the job by a change, and which other deadlines its meeting has.
    pub fn report(&mut self, answer: &JobAnswer) -> Result<(), Failure> {
        let sentence = self.sentence(&answer.job);
        self.out.line(sentence)?;
        self.others(answer)
    }

    /// The other deadlines of the same meeting: the earliest of all wins.
    pub fn others(&mut self, answer: &JobAnswer) -> Result<(), Failure> {
        for other in &answer.others {
            let wins = if other.due < answer.job.due { "; it comes first" } else { "" };
            let deadline = self.deadline(other);
            self.out.line(format_args!("another deadline of this meeting: {deadline}{wins}"))?;
        }
        Ok(())
    }

    /// `1a2b3c4d at 18:00:00 CET, in 45m (waiting)`.
    pub fn deadline(&self, deadline: &Deadline) -> String {
        let due = self.due(deadline.due, deadline.max_duration.as_deref());
        format!("{} {due} ({})", deadline.id.short(), deadline.state)
    }
}

/// One line from the terminal.
fn reply() -> Option<String> {
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        return None;
    }
    let mut line = String::new();
    stdin.read_line(&mut line).ok().filter(|read| *read > 0).map(|_| line)
}

#[cfg(test)]
impl Context {
    /// Talks to this socket at the fake daemon's time, in Berlin.
    pub(crate) fn test(socket: PathBuf, out: Output) -> Context {
        let zone = TimeZone::get("Europe/Berlin").unwrap();
        Context { socket, out, zone, clock: || crate::control::fake::NOW, reply: || None }
    }
}
