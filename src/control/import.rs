//! `POST /v1/jobs/import`: one submit a line in, one answer a line out, as long as the client likes.
//!
//! Lines are gathered into batches, each batch is one durable commit, and only then its lines are answered, in order.
//! While one batch is on its way to the disk the next is read; what is read beyond that stays in the socket, and so does
//! everything while the client does not read its answers. So the memory that an import takes does not grow with it.
//!
//! A bad line is refused in its place and stops nothing. A body that breaks off is never taken for a whole one: its last,
//! unfinished line is dropped, and the answer breaks off too.

use std::sync::Arc;

use axum::body::{Body, BodyDataStream, Bytes};
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;
use futures_util::future::join_all;
use futures_util::stream::{self, StreamExt};
use serde::Deserialize;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::body::Submit;
use super::extract::{Params, no_if_match, parse};
use super::jobs::origin;
use super::lines::{Line, Lines, MAX_LINE_BYTES};
use super::peer::Peer;
use super::problem::Problem;
use super::wire::Imported;
use super::{App, KEEP_ALIVE, MAX_IMPORTS};
use crate::engine::api::{Service, Submission};
use crate::job::{By, Now, Origin};
use crate::metrics::{ImportResult, Metrics};

/// A batch is full with so many lines, or so many bytes of them.
const BATCH_LINES: usize = 512;
const BATCH_BYTES: usize = 256 * 1024;
/// UTF-8's.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
/// One on its way to the disk, one being read.
const BATCHES_AT_ONCE: usize = 2;

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ImportParams {
    /// A line whose key has made a job already moves that job to the time of the line.
    #[serde(default)]
    replace: bool,
}

/// The lines of one commit: what each asks for, or why it is refused already.
type Batch = Vec<(u64, Result<Submission, Problem>)>;

pub(super) async fn import(
    State(app): State<App>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Params(params): Params<ImportParams>,
    headers: HeaderMap,
    request: Request,
) -> Result<Response, Problem> {
    no_if_match(&headers)?;
    if headers.contains_key("idempotency-key") {
        let hint = "give each line a key of its own: \"key\": \"booking-4711\"";
        return Err(Problem::bad_request("an import as a whole has no idempotency key", hint));
    }
    let Ok(slot) = app.imports.clone().try_acquire_owned() else {
        let detail = format!("{MAX_IMPORTS} imports are at work already");
        return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "busy", detail, "wait for one of them"));
    };
    let input = Input {
        body: request.into_body().into_data_stream(),
        lines: Lines::default(),
        ended: false,
        shutdown: app.shutdown.clone(),
        reader: Reader { service: app.service.clone(), origin: origin(&headers), by: peer.into() },
    };
    let mut tally =
        Tally { metrics: app.service.metrics(), by: peer.into(), accepted: 0, existing: 0, refused: 0 };
    let service = app.service;
    let answers = stream::unfold(Some(input), next)
        .map(move |batch| carry_out(service.clone(), batch, params.replace))
        .buffered(BATCHES_AT_ONCE)
        .map(move |answers| {
            let _held = &slot;
            answers.map(|answers| tally.written(&answers))
        });
    let kind = [(header::CONTENT_TYPE, "application/x-ndjson")];
    Ok((kind, Body::from_stream(answers)).into_response())
}

/// What is still to come of the body.
struct Input {
    body: BodyDataStream,
    lines: Lines,
    ended: bool,
    shutdown: CancellationToken,
    reader: Reader,
}

/// The next batch, empty when a while has passed without one; `None` after the last, or after an error.
async fn next(input: Option<Input>) -> Option<(Result<Batch, axum::Error>, Option<Input>)> {
    let mut input = input?;
    match timeout(KEEP_ALIVE, input.batch()).await {
        Ok(Ok(batch)) if batch.is_empty() => None,
        Ok(Ok(batch)) => Some((Ok(batch), Some(input))),
        Ok(Err(error)) => Some((Err(error), None)),
        Err(_) => Some((Ok(Batch::new()), Some(input))),
    }
}

impl Input {
    /// Waits for the first line, then takes what is there. Empty at the end. Nothing is lost if this is dropped while it
    /// waits: it waits only with an empty batch.
    async fn batch(&mut self) -> Result<Batch, axum::Error> {
        let (mut batch, mut bytes) = (Batch::new(), 0);
        let now = self.reader.service.now();
        while batch.len() < BATCH_LINES && bytes < BATCH_BYTES {
            if let Some(line) = self.lines.take() {
                bytes += line.text.as_ref().map_or(0, Bytes::len);
                batch.push((line.number, self.reader.read(line, now)));
            } else if self.ended {
                let last = self.lines.finish();
                batch.extend(last.map(|line| (line.number, self.reader.read(line, now))));
                return Ok(batch);
            } else if batch.is_empty() {
                let chunk = tokio::select! {
                    biased;
                    () = self.shutdown.cancelled() => Some(Err(axum::Error::new("the daemon is stopping"))),
                    chunk = self.body.next() => chunk,
                };
                self.feed(chunk)?;
            } else {
                match self.body.next().now_or_never() {
                    Some(chunk) => self.feed(chunk)?,
                    None => return Ok(batch),
                }
            }
        }
        Ok(batch)
    }

    fn feed(&mut self, chunk: Option<Result<Bytes, axum::Error>>) -> Result<(), axum::Error> {
        match chunk {
            Some(chunk) => self.lines.feed(chunk?),
            None => self.ended = true,
        }
        Ok(())
    }
}

/// Turns lines into submissions.
struct Reader {
    service: Arc<dyn Service>,
    origin: Origin,
    by: By,
}

impl Reader {
    fn read(&self, line: Line, now: Now) -> Result<Submission, Problem> {
        read_line(&line, self.origin.clone(), self.by.clone(), now)
    }
}

fn read_line(line: &Line, origin: Origin, by: By, now: Now) -> Result<Submission, Problem> {
    let Some(text) = &line.text else {
        let detail = format!("the line is longer than {MAX_LINE_BYTES} bytes");
        return Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", detail, "one job a line"));
    };
    // Editors of other systems begin a file with a byte order mark, and files are put one behind the other.
    let text = text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text);
    if text.contains(&0) {
        let detail = "the line holds NUL bytes, as UTF-16 does".to_owned();
        return Err(Problem::bad_request(detail, "save the file as UTF-8"));
    }
    // The careful parser says where an error is, and reads everything twice for that.
    let submit = serde_json::from_slice(text).or_else(|_| parse::<Submit>(text));
    let submission = submit.and_then(|mut submit| {
        let key = submit.take_key()?;
        submit.submission(None, key, origin, by, now)
    });
    submission.map_err(Problem::of_a_line)
}

/// Is this a line that an import takes, as far as can be told without the daemon's configuration? What is wrong, and what
/// to do.
pub fn check_line(text: &[u8], now: Now) -> Result<Checked, (String, String)> {
    let fits = text.len() <= MAX_LINE_BYTES;
    let line = Line { number: 0, text: fits.then(|| Bytes::copy_from_slice(text)) };
    let by = By::Peer { uid: 0, pid: None };
    let submission = read_line(&line, Origin::Cli, by, now).and_then(|submission| {
        crate::engine::due(&submission, now)?;
        Ok(submission)
    });
    let said = |problem: Problem| (problem.detail().to_owned(), problem.hint().to_owned());
    submission.map(|submission| Checked { has_key: submission.key.is_some() }).map_err(said)
}

#[cfg(test)]
pub(super) fn read_text(text: &[u8], now: Now) -> Result<Submission, Problem> {
    let line = Line { number: 1, text: Some(Bytes::copy_from_slice(text)) };
    read_line(&line, Origin::Api, By::Peer { uid: 0, pid: None }, now)
}

/// A line that passed [`check_line`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Checked {
    pub has_key: bool,
}

/// Durable when it returns. The answers are in the order of the lines.
async fn carry_out(
    service: Arc<dyn Service>,
    batch: Result<Batch, axum::Error>,
    replace: bool,
) -> Result<Vec<Imported>, axum::Error> {
    let batch = batch?;
    let mut submissions = Vec::with_capacity(batch.len());
    let mut places = Vec::with_capacity(batch.len());
    for (line, read) in batch {
        let refused = read.map(|submission| submissions.push(submission)).err();
        places.push((line, refused));
    }
    let mut receipts = Vec::new();
    if replace {
        // Asked for in their order, answered together: what is written at once is one commit.
        let asked = submissions.into_iter().map(|submission| async {
            if submission.key.is_some() {
                service.put(submission).await
            } else {
                service.submit(submission).await
            }
        });
        receipts = join_all(asked).await;
    } else if !submissions.is_empty() {
        receipts = service.submit_many(submissions).await;
    }
    let mut receipts = receipts.into_iter();
    let one = |(line, refused): (u64, Option<Problem>)| match refused {
        Some(problem) => Imported::refused(line, problem.document()),
        None => match receipts.next() {
            Some(Ok(receipt)) => Imported::accepted(line, &receipt),
            Some(Err(refusal)) => Imported::refused(line, Problem::from(refusal).document()),
            None => Imported::refused(line, Problem::internal("the line got no answer").document()),
        },
    };
    Ok(places.into_iter().map(one).collect())
}

/// What has become of the lines; says so in the log when the import ends, one way or the other.
struct Tally {
    metrics: Arc<Metrics>,
    by: By,
    accepted: u64,
    existing: u64,
    refused: u64,
}

impl Tally {
    /// The answers as they go out. None at all: a blank line, so that the client hears that we are still there.
    fn written(&mut self, answers: &[Imported]) -> Bytes {
        let mut text = Vec::new();
        for answer in answers {
            let (count, result) = match answer {
                Imported { error: Some(_), .. } => (&mut self.refused, ImportResult::Refused),
                Imported { existing: true, .. } => (&mut self.existing, ImportResult::Existing),
                _ => (&mut self.accepted, ImportResult::Accepted),
            };
            *count += 1;
            self.metrics.import_line(result);
            serde_json::to_writer(&mut text, answer).expect("an answer is plain data");
            text.push(b'\n');
        }
        if answers.is_empty() {
            text.push(b'\n');
        }
        Bytes::from(text)
    }
}

impl Drop for Tally {
    fn drop(&mut self) {
        let Tally { accepted, existing, refused, by, .. } = self;
        let by = match by {
            By::Peer { uid, .. } => format!("uid {uid}"),
            By::Schedule => "the schedule".to_owned(),
            By::Daemon => "the daemon".to_owned(),
        };
        if *refused > 0 {
            tracing::warn!(
                accepted,
                existing,
                refused,
                by,
                "an import has ended, with lines that were refused"
            );
        } else {
            tracing::info!(accepted, existing, refused, by, "an import has ended");
        }
    }
}
