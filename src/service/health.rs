//! Standard gRPC health: the services follow the node's readiness, `live` always serves.

use tokio_util::task::AbortOnDropHandle;
use tonic_health::ServingStatus;
use tonic_health::pb::health_server::{Health, HealthServer};
use tonic_health::server::HealthReporter;

use crate::message::Phase;
use crate::runtime::ViewReceiver;

/// The services that follow readiness; the empty name is the server as a whole.
const FOLLOWING: [&str; 3] = ["", "roundtable.v1.Kv", "roundtable.v1.Tables"];

/// The health service, and the task that keeps it true.
pub(super) async fn service(
    view: ViewReceiver,
) -> (HealthServer<impl Health>, AbortOnDropHandle<()>) {
    let (reporter, service) = tonic_health::server::health_reporter();
    // The library begins with "serving": nobody may see that before the node does.
    for name in FOLLOWING {
        reporter.set_service_status(name, ServingStatus::NotServing).await;
    }
    let follower = tokio::spawn(follow(reporter, view));
    (service, AbortOnDropHandle::new(follower))
}

async fn follow(reporter: HealthReporter, mut view: ViewReceiver) {
    reporter.set_service_status("live", ServingStatus::Serving).await;
    loop {
        let serving = view
            .borrow_and_update()
            .as_ref()
            .is_some_and(|view| matches!(view.phase, Phase::Serving));
        let status = if serving { ServingStatus::Serving } else { ServingStatus::NotServing };
        for name in FOLLOWING {
            reporter.set_service_status(name, status).await;
        }
        if view.changed().await.is_err() {
            // The node is gone; what it said last was not that it serves, or the process ends.
            return;
        }
    }
}
