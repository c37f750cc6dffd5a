//! What a world decided about a request, and how that gets onto the wire: answers, waits, broken connections.

use std::time::{Duration, UNIX_EPOCH};

use axum::body::{Body, Bytes};
use axum::http::header::{CONTENT_TYPE, DATE, RETRY_AFTER};
use axum::http::{HeaderValue, Response, StatusCode};
use futures_util::stream::{self, StreamExt};
use tokio_util::sync::CancellationToken;

use super::line::Cord;
use super::pause;
use crate::job::UtcMs;

const MIB: usize = 1024 * 1024;
const CHUNK: usize = 64 * 1024;

/// One HTTP answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Page {
    pub status: u16,
    pub content_type: &'static str,
    /// Seconds.
    pub retry_after: Option<u32>,
    /// The same as a date, where no seconds are given.
    pub retry_at: Option<UtcMs>,
    pub body: String,
    /// So many MiB of well-formed padding go before the last tag of the body.
    pub padding_mib: u32,
}

impl Page {
    pub(super) fn new(status: u16, content_type: &'static str, body: String) -> Page {
        Page { status, content_type, retry_after: None, retry_at: None, body, padding_mib: 0 }
    }

    pub(super) fn text(status: u16, body: &str) -> Page {
        Page::new(status, "text/plain;charset=utf-8", body.to_owned())
    }

    /// A page of whatever stands in front.
    pub(super) fn html(status: u16, title: &str) -> Page {
        let body = format!(
            "<html>\r\n<head><title>{status} {title}</title></head>\r\n<body>\r\n<center><h1>{status} {title}</h1></center>\r\n\
             <hr><center>nginx</center>\r\n</body>\r\n</html>\r\n"
        );
        Page::new(status, "text/html;charset=utf-8", body)
    }
}

/// What is to be done with the connection.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Fate {
    Answer(Page),
    Close { reset: bool },
    Never,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reply {
    pub fate: Fate,
    /// To be waited before the fate is carried out.
    pub delay: Duration,
    /// The server's own clock, for the `Date` header.
    pub date: UtcMs,
}

/// `stopping` ends every wait.
pub(super) async fn carry_out(stopping: &CancellationToken, cord: &Cord, reply: Reply) -> Response<Body> {
    if !reply.delay.is_zero() {
        tokio::select! {
            () = pause(reply.delay) => {}
            () = stopping.cancelled() => {}
        }
    }
    match reply.fate {
        Fate::Answer(page) => answer(page, Some(reply.date)),
        Fate::Close { reset } => {
            cord.sever(reset);
            Response::new(Body::empty())
        }
        Fate::Never => {
            stopping.cancelled().await;
            cord.sever(false);
            Response::new(Body::empty())
        }
    }
}

/// Without a date, hyper tells the real one.
pub(super) fn answer(page: Page, date: Option<UtcMs>) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::from_u16(page.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(page.content_type));
    let retry = page.retry_after.map(HeaderValue::from).or_else(|| http_date(page.retry_at?));
    for (name, value) in [(RETRY_AFTER, retry), (DATE, date.and_then(http_date))] {
        value.and_then(|value| headers.insert(name, value));
    }
    *response.body_mut() = match page.padding_mib {
        0 => Body::from(page.body),
        mib => padded(page.body, mib),
    };
    response
}

/// The world's own time, so that a stepped or skewed clock is seen in the header too.
fn http_date(date: UtcMs) -> Option<HeaderValue> {
    let since_epoch = Duration::from_millis(u64::try_from(date.0).ok()?);
    HeaderValue::try_from(httpdate::fmt_http_date(UNIX_EPOCH.checked_add(since_epoch)?)).ok()
}

/// Sends the padding in chunks and without a length: whoever reads must count for himself.
fn padded(body: String, mib: u32) -> Body {
    const OPEN: &str = "<padding>";
    const CLOSE: &str = "</padding>\n";
    let (head, tail) = body.split_at(body.rfind("</").unwrap_or(body.len()));
    let filler = format!("{OPEN}{}{CLOSE}", "x".repeat(CHUNK - OPEN.len() - CLOSE.len()));
    let chunks = mib as usize * MIB / CHUNK;
    let pieces = stream::iter([Bytes::from(head.to_owned())])
        .chain(stream::iter(std::iter::repeat_n(Bytes::from(filler), chunks)))
        .chain(stream::iter([Bytes::from(tail.to_owned())]));
    Body::from_stream(pieces.map(Ok::<Bytes, std::convert::Infallible>))
}
