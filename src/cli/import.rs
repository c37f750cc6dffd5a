//! `adjourn import`.
//!
//! The input goes to the daemon as it is, and the answers come back meanwhile: neither is ever held as a whole.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::{Stream, StreamExt};
use reqwest::Body;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::client::typed;
use super::context::Context;
use super::failure::Failure;
use super::output::Tone;
use super::text::clean;
use crate::control::wire::{Imported, ProblemDocument};
use crate::control::{MAX_LINE_BYTES, check_line};
use crate::exit::ExitCode;

/// Bytes read from the input at a time.
const CHUNK_BYTES: usize = 64 * 1024;
/// Chunks read ahead of the daemon.
const CHUNKS_AHEAD: usize = 4;
/// The progress is renewed after so many answers.
const PROGRESS_LINES: u64 = 1_000;
/// What the daemon says of a line that has no way on.
const AGAIN: &str = "import the same file again: a line with a key makes no second job";

/// Submit many deadlines, one a line
///
/// Each line is a JSON object as `POST /v1/jobs` takes it, and may have a "key":
/// {"server":"campus","meeting":"math-101","at":"2026-12-01T18:00:00+01:00","key":"booking-4711"}.
/// A line that is refused stops nothing. With keys, the same file can be imported again without making any job twice; with
/// --replace, times that were changed in it move their jobs.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The file; `-` is standard input
    #[arg(default_value = "-")]
    file: PathBuf,
    /// Print the answer to every line as JSON
    #[arg(long)]
    json: bool,
    /// A line whose key has made a job already moves that job to the time of the line
    #[arg(long, conflicts_with = "dry_run")]
    replace: bool,
    /// Check syntax and times without the daemon, and submit nothing
    #[arg(long, conflicts_with = "json")]
    dry_run: bool,
}

type Input = Box<dyn Read + Send>;

pub async fn run(args: Args, cx: &mut Context) -> Result<ExitCode, Failure> {
    let name = clean(&args.file.display().to_string());
    let input = open(&args).map_err(|error| unreadable(&name, &error))?;
    if args.dry_run {
        return dry_run(&mut BufReader::with_capacity(CHUNK_BYTES, input), &name, cx);
    }
    let trouble = Trouble::default();
    let client = cx.client()?;
    let mut tally = Tally { replace: args.replace, ..Tally::default() };
    let sent = async {
        let response = client.import(Body::wrap_stream(chunks(input, trouble.clone())), args.replace).await?;
        let mut answers =
            Lines::new(response.bytes_stream().map(|chunk| chunk.map_err(|e| client.unreachable(e))));
        while let Some(line) = answers.next().await? {
            tally.answer(&line, args.json, cx)?;
        }
        Ok(())
    };
    let sent: Result<(), Failure> = sent.await;
    cx.out.progress("");
    if let Some(error) = trouble.take() {
        tally.report(args.json, cx)?;
        return Err(unreadable(&name, &error).hint(AGAIN));
    }
    if let Err(failure) = sent {
        if tally.last > 0 {
            cx.out.note(format_args!("it broke off after line {}, whose answer came; {AGAIN}", tally.last));
        }
        return Err(failure);
    }
    tally.report(args.json, cx)?;
    Ok(if tally.refused == 0 { ExitCode::Done } else { ExitCode::Refused })
}

fn open(args: &Args) -> io::Result<Input> {
    if args.file.as_os_str() == "-" {
        return Ok(Box::new(io::stdin()));
    }
    Ok(Box::new(File::open(&args.file)?))
}

fn unreadable(name: &str, error: &io::Error) -> Failure {
    Failure::usage(format!("cannot read {name}: {error}")).hint("name a file, or - for standard input")
}

/// Why the input could not be read to its end: the request only breaks off.
#[derive(Clone, Default)]
struct Trouble(Arc<Mutex<Option<io::Error>>>);

impl Trouble {
    fn set(&self, error: io::Error) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
    }

    fn take(&self) -> Option<io::Error> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Read by a thread that is not waited for: it may wait for a terminal long after the daemon has left.
fn chunks(mut input: Input, trouble: Trouble) -> impl Stream<Item = io::Result<Vec<u8>>> + Send {
    let (send, chunks) = mpsc::channel(CHUNKS_AHEAD);
    let own = trouble.clone();
    let reader = std::thread::Builder::new().spawn(move || {
        loop {
            let mut chunk = vec![0; CHUNK_BYTES];
            let read = match input.read(&mut chunk) {
                Ok(0) => return,
                Ok(length) => {
                    chunk.truncate(length);
                    Ok(chunk)
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    let kind = error.kind();
                    trouble.set(error);
                    Err(kind.into())
                }
            };
            let failed = read.is_err();
            if send.blocking_send(read).is_err() || failed {
                return;
            }
        }
    });
    if let Err(error) = reader {
        own.set(error);
    }
    ReceiverStream::new(chunks)
}

/// The lines of the answer.
struct Lines<S> {
    chunks: S,
    begun: Vec<u8>,
    /// Of `begun`, handed out already.
    used: usize,
}

impl<S, B> Lines<S>
where
    S: Stream<Item = Result<B, Failure>> + Unpin,
    B: AsRef<[u8]>,
{
    fn new(chunks: S) -> Lines<S> {
        Lines { chunks, begun: Vec::new(), used: 0 }
    }

    /// The next line that is not blank.
    async fn next(&mut self) -> Result<Option<Vec<u8>>, Failure> {
        loop {
            let rest = &self.begun[self.used..];
            if let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                let line = rest[..end].to_vec();
                self.used += end + 1;
                if !line.is_empty() {
                    return Ok(Some(line));
                }
                continue;
            }
            let Some(chunk) = self.chunks.next().await else { return Ok(None) };
            self.begun.drain(..self.used);
            self.used = 0;
            self.begun.extend_from_slice(chunk?.as_ref());
        }
    }
}

#[derive(Debug, Default)]
struct Tally {
    /// What is there already is moved.
    replace: bool,
    accepted: u64,
    existing: u64,
    refused: u64,
    /// The last line that was answered.
    last: u64,
}

impl Tally {
    fn answer(&mut self, line: &[u8], json: bool, cx: &mut Context) -> Result<(), Failure> {
        let value = serde_json::from_slice(line).unwrap_or_default();
        let answer: Imported = typed(&value)?;
        self.last = answer.line;
        if json {
            cx.out.bytes(line)?;
            cx.out.bytes(b"\n")?;
        }
        match &answer.error {
            Some(error) => {
                self.refused += 1;
                let ProblemDocument { detail, hint } = typed(error)?;
                refused(answer.line, &detail, &hint, cx);
            }
            None if answer.existing => self.existing += 1,
            None => self.accepted += 1,
        }
        if answer.line.is_multiple_of(PROGRESS_LINES) {
            cx.out.progress(format_args!("{} lines: {}", answer.line, self.sums()));
        }
        Ok(())
    }

    fn sums(&self) -> String {
        let existing = if self.replace { "moved or the same" } else { "existing" };
        format!("{} accepted, {} {existing}, {} refused", self.accepted, self.existing, self.refused)
    }

    /// With `--json` the answers are on stdout, and this is a remark.
    fn report(&self, json: bool, cx: &mut Context) -> Result<(), Failure> {
        if json {
            cx.out.note(self.sums());
            return Ok(());
        }
        cx.out.line(self.sums())
    }
}

fn refused(line: u64, detail: &str, hint: &str, cx: &mut Context) {
    cx.out.progress("");
    let label = Tone::Bad.paint(format_args!("line {line}:"));
    let detail = detail.strip_prefix("the line: ").unwrap_or(detail);
    cx.out.note(format_args!("{label} {} ({})", clean(detail), clean(hint)));
}

fn dry_run(input: &mut impl BufRead, name: &str, cx: &mut Context) -> Result<ExitCode, Failure> {
    let (mut number, mut good, mut bad, mut keyless) = (0_u64, 0_u64, 0_u64, 0_u64);
    while let Some(line) = bounded_line(input).map_err(|error| unreadable(name, &error))? {
        number += 1;
        if line.trim_ascii().is_empty() {
            continue;
        }
        match check_line(&line, cx.now()) {
            Ok(checked) => {
                good += 1;
                keyless += u64::from(!checked.has_key);
            }
            Err((detail, hint)) => {
                bad += 1;
                refused(number, &detail, &hint, cx);
            }
        }
    }
    cx.out.line(format_args!(
        "{good} lines are good, {bad} are not; only syntax and times were checked, nothing was submitted"
    ))?;
    if keyless > 0 {
        cx.out.note(format_args!(
            "{keyless} lines have no key: importing them again would make their jobs again"
        ));
    }
    Ok(if bad == 0 { ExitCode::Done } else { ExitCode::Refused })
}

/// The next line without its end; of one that is too long, so much that it shows.
fn bounded_line(input: &mut impl BufRead) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    let most = MAX_LINE_BYTES + 2;
    if input.take(most as u64).read_until(b'\n', &mut line)? == 0 {
        return Ok(None);
    }
    if line.last() == Some(&b'\n') {
        line.pop();
    } else if line.len() == most {
        input.skip_until(b'\n')?;
    }
    Ok(Some(line))
}
