//! The API over HTTP: from the bytes of a request to the [`World`](super::world::World) and back.

use std::time::{Duration, UNIX_EPOCH};

use axum::body::{Body, Bytes};
use axum::extract::{ConnectInfo, State};
use axum::http::header::{ALLOW, CONTENT_TYPE, DATE, RETRY_AFTER};
use axum::http::{HeaderValue, Method, Request, Response, StatusCode};
use futures_util::stream::{self, StreamExt};

use super::Control;
use super::answers::{self, Page};
use super::world::{self, Fate, Reply};
use crate::job::UtcMs;
use crate::sandbox::line::Cord;
use crate::sandbox::pause;

/// A form sent to `create` in place of the query.
const MAX_FORM: usize = 64 * 1024;
const MIB: usize = 1024 * 1024;
const CHUNK: usize = 64 * 1024;

/// Whatever is not a control route: one call at one of the servers.
pub(super) async fn api(
    State(control): State<Control>,
    ConnectInfo(cord): ConnectInfo<Cord>,
    request: Request<Body>,
) -> Response<Body> {
    let received_us = control.now_us();
    let (parts, body) = request.into_parts();
    let Some((server, call)) = split_path(parts.uri.path()) else { return no_page() };
    let Some(server) = control.server(server) else { return no_page() };
    let form = match (&parts.method, call) {
        (&Method::GET, _) => None,
        // BBB: create takes a body (slides), and its parameters from a form if the query is empty.
        (&Method::POST, "create") => axum::body::to_bytes(body, MAX_FORM).await.ok(),
        _ => return get_only(),
    };
    let query = parts.uri.query().filter(|q| !q.is_empty()).or(form_text(form.as_ref())).unwrap_or("");
    let reply = control.request(&world::Request { server, call, query, received_us });
    carry_out(&control, &cord, reply).await
}

/// `/bigbluebutton/api/end` is the front's, `/node1/bigbluebutton/api/end` a node's.
fn split_path(path: &str) -> Option<(&str, &str)> {
    let (server, rest) = match path.strip_prefix("/bigbluebutton/api") {
        Some(rest) => ("front", rest),
        None => path.strip_prefix('/')?.split_once("/bigbluebutton/api")?,
    };
    let call = if rest.is_empty() { "" } else { rest.strip_prefix('/')? };
    (!server.contains('/') && !call.contains('/')).then_some((server, call))
}

fn form_text(form: Option<&Bytes>) -> Option<&str> {
    std::str::from_utf8(form?).ok()
}

async fn carry_out(control: &Control, cord: &Cord, reply: Reply) -> Response<Body> {
    if !reply.delay.is_zero() {
        tokio::select! {
            () = pause(reply.delay) => {}
            () = control.stopping() => {}
        }
    }
    match reply.fate {
        Fate::Answer(page) => answer(page, reply.date),
        Fate::Close { reset } => {
            cord.sever(reset);
            Response::new(Body::empty())
        }
        Fate::Never => {
            control.stopping().await;
            cord.sever(false);
            Response::new(Body::empty())
        }
    }
}

fn answer(page: Page, date: UtcMs) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::from_u16(page.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(page.content_type));
    if let Some(seconds) = page.retry_after {
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    if let Some(date) = http_date(date) {
        headers.insert(DATE, date);
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

fn no_page() -> Response<Body> {
    plain(answers::html(404, "Not Found"))
}

fn get_only() -> Response<Body> {
    let mut response = plain(answers::html(405, "Method Not Allowed"));
    response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET"));
    response
}

fn plain(page: Page) -> Response<Body> {
    let mut response = Response::new(Body::from(page.body));
    *response.status_mut() = StatusCode::from_u16(page.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(page.content_type));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_name_the_server_and_the_call() {
        assert_eq!(split_path("/bigbluebutton/api"), Some(("front", "")));
        assert_eq!(split_path("/bigbluebutton/api/"), Some(("front", "")));
        assert_eq!(split_path("/bigbluebutton/api/end"), Some(("front", "end")));
        assert_eq!(split_path("/node1/bigbluebutton/api/getMeetings"), Some(("node1", "getMeetings")));
        assert_eq!(split_path("/a/b/bigbluebutton/api/end"), None);
        assert_eq!(split_path("/bigbluebutton/apis"), None);
        assert_eq!(split_path("/bigbluebutton/api/end/x"), None);
        assert_eq!(split_path("/"), None);
    }
}
