//! Secrets of the Kubernetes API server, read one by one by name: `get` on that secret is all that the daemon needs.

use std::{path::Path, time::Duration};

use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use tokio::time::timeout;

const DEADLINE: Duration = Duration::from_secs(5);

/// The secret as it is now, by a kubeconfig or, without one, the service account of the daemon's own pod. The connection
/// is made for it: logins are rare, and a renewed kubeconfig or token counts at once. An error shows nothing of the
/// secret.
pub(super) async fn read(
    kubeconfig: Option<&Path>,
    namespace: &str,
    name: &str,
    key: &str,
) -> Result<Vec<u8>, String> {
    let read = async {
        let client = connect(kubeconfig).await?;
        Api::<Secret>::namespaced(client, namespace).get(name).await.map_err(|error| explain(&error))
    };
    let secret =
        timeout(DEADLINE, read).await.unwrap_or_else(|_| Err("it did not answer in time".to_owned()))?;
    let value = secret.data.unwrap_or_default().remove(key);
    value.map(|value| value.0).ok_or_else(|| format!("the secret has no key `{key}`"))
}

async fn connect(kubeconfig: Option<&Path>) -> Result<Client, String> {
    let mut config = match kubeconfig {
        None => Config::incluster().map_err(|error| error.to_string())?,
        Some(path) => {
            let unusable = |error: kube::config::KubeconfigError| format!("{}: {error}", path.display());
            let file = Kubeconfig::read_from(path).map_err(unusable)?;
            Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await.map_err(unusable)?
        }
    };
    config.connect_timeout = Some(DEADLINE);
    Client::try_from(config).map_err(|error| error.to_string())
}

/// What the API server says of a refusal names the secret, never its content; what cannot be decoded may quote it.
fn explain(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => format!("the API server answered {}: {}", status.code, status.message),
        kube::Error::SerdeError(_) => "the API server's answer is not a secret".to_owned(),
        other => other.to_string(),
    }
}
