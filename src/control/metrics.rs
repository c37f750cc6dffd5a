//! `GET /metrics`: for Prometheus.

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};

use super::App;
use super::problem::Problem;
use crate::metrics::CONTENT_TYPE;

pub(super) async fn metrics(State(app): State<App>) -> Result<Response, Problem> {
    let status = app.service.status().await?;
    let text = app.service.metrics().encode(&status);
    Ok(([(header::CONTENT_TYPE, CONTENT_TYPE)], text).into_response())
}
