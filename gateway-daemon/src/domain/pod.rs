//! This node's pods, as the API server describes them.

use std::{collections::HashMap, fmt, sync::Arc};

/// A pod's unique id, as the kubelet names its cgroup: the `metadata.uid`, or for a static pod the hash of its file.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PodUid(Arc<str>);

impl PodUid {
    /// Takes `metadata.uid` or a hash: hexadecimal digits and dashes, at least 32 bytes.
    pub fn new(text: &str) -> Option<Self> {
        let plain = |byte: u8| byte.is_ascii_hexdigit() || byte == b'-';
        ((32..=36).contains(&text.len()) && text.bytes().all(plain)).then(|| Self(text.into()))
    }

    /// Whether it is the hash of a file in the kubelet's own directory: such a pod exists before, and without, any API
    /// server, and only who owns the node makes one.
    pub fn is_static(&self) -> bool {
        self.0.len() == 32 && !self.0.contains('-')
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PodUid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a pod asks for by its label `nodegate.dev/capture`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// `"true"`.
    Capture,
    /// Anything else.
    Pass,
}

/// One pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pod {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its service account.
    pub service_account: String,
    /// Whether it is to be captured.
    pub wish: Wish,
}

impl Pod {
    /// What its workload is called: `namespace/pod/service account`.
    pub fn label(&self) -> String {
        format!("{}/{}/{}", self.namespace, self.name, self.service_account)
    }
}

/// All pods of a node, by id.
pub type Pods = HashMap<PodUid, Pod>;

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::PodUid;

    #[test]
    fn ids_are_plain_and_those_of_files_are_told_apart() {
        let ordinary = PodUid::new("0f3a8f2e-6d0b-4f0e-9b4e-2f6f3f1c9a77").unwrap();
        assert!(!ordinary.is_static());
        assert!(PodUid::new("4f0e9b4e2f6f3f1c9a770f3a8f2e6d0b").unwrap().is_static());
        for text in ["", "x", "../../../../../../../../../etc/passwd", "0f3a8f2e_6d0b_4f0e_9b4e_2f6f3f1c9a77"]
        {
            assert_eq!(PodUid::new(text), None, "{text}");
        }
    }
}
