//! How the API server is reached: a kubeconfig, or what a pod finds in itself.

use std::{path::PathBuf, time::Duration};

use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};

/// How long a connection may take to stand: the next attempt may meet a server that is alive.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// What this room needs to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// This node's name.
    pub node: String,
    /// `None` for the service account of the daemon's own pod.
    pub kubeconfig: Option<PathBuf>,
}

/// Why there can be no connection to the API server, whether it runs or not.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The kubeconfig cannot be used.
    #[error("the kubeconfig {} cannot be used: {source}", .path.display())]
    Kubeconfig {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: kube::config::KubeconfigError,
    },
    /// Not in a pod.
    #[error(
        "there is no service account of a pod here, and no kubeconfig is named in the configuration: {0}"
    )]
    InCluster(#[from] kube::config::InClusterError),
    /// Certificates or keys cannot be used.
    #[error("no connection to the API server can be set up: {0}")]
    Setup(#[from] kube::Error),
}

/// A client of the API server; it connects when it is used.
pub(super) async fn client(settings: &Settings) -> Result<Client, ClientError> {
    let mut config = match &settings.kubeconfig {
        None => Config::incluster()?,
        Some(path) => {
            let unusable = |source| ClientError::Kubeconfig { path: path.clone(), source };
            let file = Kubeconfig::read_from(path).map_err(unusable)?;
            Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await.map_err(unusable)?
        }
    };
    config.connect_timeout = Some(CONNECT_TIMEOUT);
    Ok(Client::try_from(config)?)
}
