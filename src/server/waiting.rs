//! The HTTP port while there is no node behind it yet: its process waits to be let into a cluster, or
//! its store is being opened. Probes and people get an answer from the first moment on, and are told
//! what is waited for. Knows nothing of nodes.

use std::io;
use std::os::fd::AsFd;

use axum::Router;
use axum::extract::State;
use axum::response::Html;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::status_page;
use crate::telemetry::{Telemetry, render};

use super::http::{metrics_answer, readiness};

/// How far a process without a node has come.
#[derive(Clone, Debug)]
struct Step {
    phase: &'static str,
    why: String,
}

/// Answers on the HTTP port until it is dropped.
#[derive(Debug)]
pub(super) struct Waiting {
    step: watch::Sender<Step>,
    /// Ends the answers.
    _serving: DropGuard,
}

impl Waiting {
    /// Answers on `listener`, which stays the caller's: whoever serves it next loses no connection.
    /// Must be called within a tokio runtime.
    ///
    /// # Errors
    /// The system has no more file descriptors.
    pub(super) fn serve(listener: Option<&TcpListener>) -> io::Result<Waiting> {
        let (phase, why) = ("opening", "the store is being opened".to_owned());
        let (step, seen) = watch::channel(Step { phase, why });
        let closing = CancellationToken::new();
        if let Some(listener) = listener {
            let same = std::net::TcpListener::from(listener.as_fd().try_clone_to_owned()?);
            let page = serve(TcpListener::from_std(same)?, seen, closing.clone());
            tokio::spawn(async move {
                if let Err(error) = page.await {
                    tracing::error!(%error, "the http port failed");
                }
            });
        }
        Ok(Waiting { step, _serving: closing.drop_guard() })
    }

    /// The cluster has not let the node in yet.
    pub(super) fn joins(&self, why: &str) {
        self.step.send_replace(Step { phase: "joining", why: why.to_owned() });
    }

    /// Nothing but the store is waited for.
    pub(super) fn opens(&self) {
        let why = "the store is being opened".to_owned();
        self.step.send_replace(Step { phase: "opening", why });
    }
}

type Seen = watch::Receiver<Step>;

async fn serve(listener: TcpListener, seen: Seen, closing: CancellationToken) -> io::Result<()> {
    let ready = async |State(seen): State<Seen>| {
        let step = seen.borrow().clone();
        readiness(false, step.phase, &step.why)
    };
    let page = async |State(seen): State<Seen>| {
        let step = seen.borrow().clone();
        Html(status_page::render_waiting(step.phase, &step.why))
    };
    let router = Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .route("/metrics", get(async || metrics_answer(render(&Telemetry::default(), None))))
        .route("/", get(page))
        .with_state(seen);
    axum::serve(listener, router).with_graceful_shutdown(closing.cancelled_owned()).await
}
