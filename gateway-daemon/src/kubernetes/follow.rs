//! List, then watch, for as long as the daemon runs (Kubernetes API concepts, "Efficient detection of changes").
//!
//! A watch goes on from where the one before ended; where the server has forgotten that place (410 Gone), everything
//! is listed again. While the server cannot be reached, what was heard last stays true: nothing is ever forgotten
//! because of an error.

use std::{pin::pin, time::Duration};

use futures_util::StreamExt as _;
use kube::{
    Api, Error,
    api::{ListParams, WatchEvent, WatchParams},
};
use tokio::{sync::watch, time::sleep};

use super::{
    client::{ClientError, Settings, client},
    object::{PodObject, read, resource},
};
use crate::domain::pod::Pods;

/// How long to wait after the first failure; twice as long after each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// `410 Gone`: the place to go on from is forgotten.
const GONE: u16 = 410;
/// How many pods a page of a list holds.
const PAGE: u32 = 250;

/// Tells this node's pods, first and after every change. `None` until the API server has answered once.
///
/// # Errors
/// The settings cannot lead to any API server. Afterwards it never ends by itself.
pub async fn follow(
    settings: &Settings,
    told: watch::Sender<Option<Pods>>,
) -> Result<impl Future<Output = ()> + Send + use<>, ClientError> {
    let api = Api::<PodObject>::all_with(client(settings).await?, &resource());
    let follower = Follower {
        api,
        fields: format!("spec.nodeName={}", settings.node),
        pods: Pods::new(),
        told,
        pause: FIRST_PAUSE,
    };
    Ok(follower.run())
}

struct Follower {
    api: Api<PodObject>,
    fields: String,
    pods: Pods,
    told: watch::Sender<Option<Pods>>,
    pause: Duration,
}

/// Where a watch ended.
enum Place {
    /// It can go on from this version.
    At(String),
    /// The server does not know that place any more.
    Forgotten,
}

impl Follower {
    async fn run(mut self) {
        loop {
            let mut version = self.listed().await;
            while let Place::At(next) = self.watched(version).await {
                version = next;
            }
        }
    }

    /// Lists until it succeeds; answers the version of the list.
    async fn listed(&mut self) -> String {
        loop {
            match self.list().await {
                Ok(version) => {
                    tracing::info!(pods = self.pods.len(), "this node's pods are known");
                    self.pause = FIRST_PAUSE;
                    self.tell();
                    return version;
                }
                Err(error) => self.rest("cannot list this node's pods", &error).await,
            }
        }
    }

    async fn list(&mut self) -> Result<String, Error> {
        let mut params = ListParams::default().fields(&self.fields).limit(PAGE);
        let mut pods = Pods::new();
        loop {
            let page = self.api.list(&params).await?;
            pods.extend(page.items.iter().filter_map(read));
            match page.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => params.continue_token = Some(token),
                None => {
                    self.pods = pods;
                    return Ok(page.metadata.resource_version.unwrap_or_default());
                }
            }
        }
    }

    /// Follows one watch to its end.
    async fn watched(&mut self, mut version: String) -> Place {
        let params = WatchParams::default().fields(&self.fields);
        let events = match self.api.watch(&params, &version).await {
            Ok(events) => events,
            Err(error) => return self.failed(version, &error).await,
        };
        let mut events = pin!(events);
        while let Some(event) = events.next().await {
            match event {
                Ok(WatchEvent::Added(object) | WatchEvent::Modified(object)) => {
                    if let Some((uid, pod)) = read(&object) {
                        self.pods.insert(uid, pod);
                    }
                    version = object.metadata.resource_version.unwrap_or(version);
                    self.tell();
                }
                Ok(WatchEvent::Deleted(object)) => {
                    if let Some((uid, _)) = read(&object) {
                        self.pods.remove(&uid);
                    }
                    version = object.metadata.resource_version.unwrap_or(version);
                    self.tell();
                }
                Ok(WatchEvent::Bookmark(bookmark)) => version = bookmark.metadata.resource_version,
                Ok(WatchEvent::Error(status)) => return self.failed(version, &Error::Api(status)).await,
                Err(error) => return self.failed(version, &error).await,
            }
            self.pause = FIRST_PAUSE;
        }
        // A server that ends every watch at once is not to be asked without a pause.
        sleep(FIRST_PAUSE).await;
        Place::At(version)
    }

    async fn failed(&mut self, version: String, error: &Error) -> Place {
        if matches!(error, Error::Api(status) if status.code == GONE) {
            tracing::info!(
                "the API server has forgotten where the watch was; listing this node's pods again"
            );
            return Place::Forgotten;
        }
        self.rest("the watch of this node's pods broke off", error).await;
        Place::At(version)
    }

    async fn rest(&mut self, what: &str, error: &Error) {
        tracing::warn!(%error, again_in = ?self.pause, "{what}");
        sleep(self.pause).await;
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
    }

    fn tell(&self) {
        self.told.send_replace(Some(self.pods.clone()));
    }
}
