//! The HTTP port: liveness, readiness, metrics and a page for people.

use core::convert::Infallible;
use core::time::Duration;
use std::future::IntoFuture;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::message::{Phase, View};
use crate::runtime::Handle;
use crate::status_page::{self, phase_text};
use crate::telemetry;

/// Serves the port until `closing` is cancelled.
///
/// # Errors
/// The listener failed.
pub(super) async fn serve(
    listener: TcpListener,
    handle: Handle,
    closing: CancellationToken,
) -> std::io::Result<()> {
    let router = Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .route("/", get(page))
        .with_state(handle.clone());
    let serving = axum::serve(listener, router).with_graceful_shutdown(closing.cancelled_owned());
    tokio::select! {
        ended = serving.into_future() => ended,
        never = slices(handle) => match never {},
    }
}

/// Has what is counted told apart by time.
async fn slices(handle: Handle) -> Infallible {
    let mut ends = tokio::time::interval(telemetry::SLICE);
    let mut began = ends.tick().await;
    handle.telemetry().end_slice(Duration::ZERO);
    loop {
        let now = ends.tick().await;
        handle.telemetry().end_slice(now - began);
        began = now;
    }
}

fn newest(handle: &Handle) -> Option<Arc<View>> {
    handle.view().borrow().clone()
}

/// 200 when the node serves; else 503 and why, as JSON.
async fn ready(State(handle): State<Handle>) -> Response {
    let view = newest(&handle);
    let (phase, why) = match &view {
        Some(view) => phase_text(&view.phase),
        None => ("starting", ""),
    };
    let serving = view.as_ref().is_some_and(|view| matches!(view.phase, Phase::Serving));
    readiness(serving, phase, why)
}

/// The answer of `/readyz`.
pub(super) fn readiness(serving: bool, phase: &str, why: &str) -> Response {
    let reasons: Vec<&str> = Some(why).filter(|why| !why.is_empty()).into_iter().collect();
    let body = serde_json::json!({ "ready": serving, "phase": phase, "reasons": reasons });
    let status = if serving { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, [(header::CONTENT_TYPE, "application/json")], format!("{body}\n")).into_response()
}

async fn metrics(State(handle): State<Handle>) -> Response {
    metrics_answer(telemetry::render(handle.telemetry(), newest(&handle)))
}

/// The answer of `/metrics`.
pub(super) fn metrics_answer(text: String) -> Response {
    const FORMAT: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, FORMAT)], text).into_response()
}

async fn page(State(handle): State<Handle>) -> Response {
    const POLICY: &str = "default-src 'self'; style-src 'self' 'unsafe-inline'";
    let page = status_page::render(newest(&handle).as_deref(), &handle.telemetry().recent());
    ([(header::CONTENT_SECURITY_POLICY, POLICY)], Html(page)).into_response()
}
