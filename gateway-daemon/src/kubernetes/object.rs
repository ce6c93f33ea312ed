//! A pod, as much of it as is read: the rest is left where it came from.

use kube::api::{ApiResource, NotUsed, Object};
use serde::{Deserialize, Serialize};

use crate::domain::pod::{Pod, PodUid, Wish};

/// The label that asks for capture.
const LABEL: &str = "nodegate.dev/capture";
/// On the API server's image of a static pod: the id under which the kubelet runs it.
const STATIC_UID: &str = "kubernetes.io/config.hash";
/// The account of a pod that names none.
const DEFAULT_ACCOUNT: &str = "default";

/// A pod from the API server.
pub(super) type PodObject = Object<Spec, NotUsed>;

/// What is read of `spec`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Spec {
    service_account_name: Option<String>,
}

/// Where pods are found.
pub(super) fn resource() -> ApiResource {
    ApiResource {
        group: String::new(),
        version: "v1".to_owned(),
        api_version: "v1".to_owned(),
        kind: "Pod".to_owned(),
        plural: "pods".to_owned(),
    }
}

/// The pod, under the id that its cgroup bears; `None` for an object that is no whole pod.
pub(super) fn read(object: &PodObject) -> Option<(PodUid, Pod)> {
    let metadata = &object.metadata;
    let static_uid = metadata.annotations.as_ref().and_then(|annotations| annotations.get(STATIC_UID));
    let uid = PodUid::new(static_uid.or(metadata.uid.as_ref())?)?;
    let label = metadata.labels.as_ref().and_then(|labels| labels.get(LABEL));
    let account = object.spec.service_account_name.as_deref().filter(|account| !account.is_empty());
    let pod = Pod {
        namespace: metadata.namespace.clone()?,
        name: metadata.name.clone()?,
        service_account: account.unwrap_or(DEFAULT_ACCOUNT).to_owned(),
        wish: if label.is_some_and(|value| value == "true") { Wish::Capture } else { Wish::Pass },
    };
    Some((uid, pod))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use serde_json::{Value, json};

    use super::{PodObject, Wish, read};

    fn pod(metadata: &Value, spec: &Value) -> Option<(String, String, Wish)> {
        let object: PodObject = serde_json::from_value(
            json!({ "apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec }),
        )
        .unwrap();
        read(&object).map(|(uid, pod)| (uid.to_string(), pod.label(), pod.wish))
    }

    #[test]
    fn a_pod_is_read_with_its_wish_and_its_account() {
        let uid = "0f3a8f2e-6d0b-4f0e-9b4e-2f6f3f1c9a77";
        let metadata =
            |labels: &Value| json!({ "namespace": "ci", "name": "runner", "uid": uid, "labels": labels });
        let labelled = pod(
            &metadata(&json!({ "nodegate.dev/capture": "true" })),
            &json!({ "serviceAccountName": "agent", "containers": [{ "name": "a" }] }),
        );
        assert_eq!(labelled, Some((uid.to_owned(), "ci/runner/agent".to_owned(), Wish::Capture)));
        for labels in [json!({}), json!({ "nodegate.dev/capture": "false" }), Value::Null] {
            assert_eq!(
                pod(&metadata(&labels), &json!({})),
                Some((uid.to_owned(), "ci/runner/default".to_owned(), Wish::Pass))
            );
        }
    }

    #[test]
    fn a_static_pod_is_known_by_the_id_that_its_cgroup_bears() {
        let hash = "4f0e9b4e2f6f3f1c9a770f3a8f2e6d0b";
        let metadata = json!({
            "namespace": "kube-system", "name": "etcd-node", "uid": "0f3a8f2e-6d0b-4f0e-9b4e-2f6f3f1c9a77",
            "annotations": { "kubernetes.io/config.hash": hash },
        });
        assert_eq!(pod(&metadata, &json!({})).unwrap().0, hash);
    }

    #[test]
    fn what_has_no_usable_id_is_no_pod() {
        let metadata = json!({ "namespace": "ci", "name": "runner", "uid": "../.." });
        assert_eq!(pod(&metadata, &json!({})), None);
    }
}
