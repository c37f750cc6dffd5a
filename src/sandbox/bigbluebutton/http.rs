//! The API over HTTP: from the bytes of a request to the [`World`](super::world::World) and back.

use axum::body::{Body, Bytes};
use axum::extract::{ConnectInfo, State};
use axum::http::header::ALLOW;
use axum::http::{HeaderValue, Method, Request, Response};

use super::{Control, world};
use crate::sandbox::line::Cord;
use crate::sandbox::reply::{Page, answer, carry_out};

/// A form sent to `create` in place of the query.
const MAX_FORM: usize = 64 * 1024;

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
    carry_out(&control.shared.stopping, &cord, reply).await
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

fn no_page() -> Response<Body> {
    answer(Page::html(404, "Not Found"), None)
}

fn get_only() -> Response<Body> {
    let mut response = answer(Page::html(405, "Method Not Allowed"), None);
    response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET"));
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
