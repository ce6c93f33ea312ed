//! Hands what the API server says of this node's pods to capture.

use std::time::Duration;

use tokio::{sync::watch, time::timeout};

use crate::{
    config::checked,
    domain::pod::Pods,
    intercept::Intercept,
    kubernetes::{self, ClientError},
};

/// How long the first start waits for the API server before unknown pods are held: the pods that run already are
/// not to be cut off for the time that one request takes.
const FIRST_ANSWER: Duration = Duration::from_secs(5);

/// Follows the pods for as long as the daemon runs. Returns when the first list has been taken in, or when the API
/// server does not answer in time; unknown pods are held from then on, where the configuration says so.
///
/// # Errors
/// The configuration leads to no API server.
pub(super) async fn follow(settings: &checked::Kubernetes, intercept: &Intercept) -> Result<(), ClientError> {
    let settings =
        kubernetes::Settings { node: settings.node.clone(), kubeconfig: settings.kubeconfig.clone() };
    let (told, mut known) = watch::channel(None);
    tokio::spawn(kubernetes::follow(&settings, told).await?);
    if timeout(FIRST_ANSWER, known.changed()).await.is_err() {
        tracing::warn!("the API server does not answer; pods of which nothing is known are held");
    }
    take_in(intercept, &mut known).await;
    let intercept = intercept.clone();
    tokio::spawn(async move {
        while known.changed().await.is_ok() {
            take_in(&intercept, &mut known).await;
        }
    });
    Ok(())
}

async fn take_in(intercept: &Intercept, known: &mut watch::Receiver<Option<Pods>>) {
    let pods = known.borrow_and_update().clone().unwrap_or_default();
    if let Err(error) = intercept.know_pods(&pods).await {
        tracing::error!(%error, "cannot capture, hold or let pass as pods ask for");
    }
}
