//! From the bytes of a request to the [`World`](super::World) and back.

use axum::body::Body;
use axum::extract::{ConnectInfo, State};
use axum::http::header::AUTHORIZATION;
use axum::http::{Request, Response};

use super::{Control, api};
use crate::sandbox::line::Cord;
use crate::sandbox::reply::{Page, answer, carry_out};

/// Bytes of a request's body.
const MAX_BODY: usize = 64 * 1024;

/// Whatever is not a control route.
pub(super) async fn api(
    State(control): State<Control>,
    ConnectInfo(cord): ConnectInfo<Cord>,
    request: Request<Body>,
) -> Response<Body> {
    let received_us = control.now_us();
    let (parts, body) = request.into_parts();
    let Ok(body) = axum::body::to_bytes(body, MAX_BODY).await else {
        return answer(Page::html(413, "Content Too Large"), None);
    };
    let target = parts.uri.path_and_query().map_or("/", |target| target.as_str());
    let authorization = parts.headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let method = parts.method.as_str();
    let reply = control.request(&api::Request { method, target, authorization, body: &body, received_us });
    carry_out(&control.shared.stopping, &cord, reply).await
}
