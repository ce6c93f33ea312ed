//! How a kubelet names the cgroups of pods: by its cgroup driver and the pod's quality of service (kubelet's container
//! manager: `pod_container_manager_linux.go`, `cgroup_manager_linux.go`).
//!
//! | driver | a pod's cgroup |
//! |---|---|
//! | cgroupfs | `kubepods/pod<uid>`, `kubepods/burstable/pod<uid>`, `kubepods/besteffort/pod<uid>` |
//! | systemd | `kubepods.slice/kubepods-pod<uid>.slice`, `kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod<uid>.slice` and so on, with `_` for `-` in the uid |
//!
//! Below it lie the containers, whatever their runtime calls them (`<id>`, `cri-containerd-<id>.scope`,
//! `crio-<id>.scope`, with or without `crio-conmon-…` beside it): they need no names here, since the pod's cgroup holds
//! all of them. A kubelet with `--cgroup-root` puts the tree below that, and under the systemd driver repeats it in
//! every name (`kubelet.slice/kubelet-kubepods.slice/…`).

use crate::domain::pod::PodUid;

/// What a path is in the kubelet's tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// The cgroup that holds all pods.
    Root,
    /// A pod's own cgroup.
    Pod(PodUid),
}

/// Reads a path below the mount. Only the first tree on the way counts: what lies inside a pod is the pod's own
/// naming.
pub(super) fn place(path: &str) -> Option<Place> {
    let mut parts = path.trim_matches('/').split('/');
    let root = parts.find(|part| root_stem(part).is_some())?;
    let stem = root_stem(root)?;
    let is_slice = root.strip_suffix(".slice").is_some();
    let Some(first) = parts.next() else { return Some(Place::Root) };
    let (name, stem) = match quality(first, stem, is_slice) {
        None => (first, stem.to_owned()),
        Some(stem) => (parts.next()?, stem),
    };
    if parts.next().is_some() {
        return None;
    }
    let uid = if is_slice {
        let uid = name.strip_suffix(".slice")?.strip_prefix(&stem)?.strip_prefix("-pod")?;
        PodUid::new(&uid.replace('_', "-"))
    } else {
        PodUid::new(name.strip_prefix("pod")?)
    };
    uid.map(Place::Pod)
}

/// The name of the root without `.slice`.
fn root_stem(part: &str) -> Option<&str> {
    match part.strip_suffix(".slice") {
        Some(stem) => (stem == "kubepods" || stem.ends_with("-kubepods")).then_some(stem),
        None => (part == "kubepods").then_some(part),
    }
}

/// The stem of names below a quality-of-service cgroup, where `part` is one.
fn quality(part: &str, stem: &str, is_slice: bool) -> Option<String> {
    ["burstable", "besteffort"].into_iter().find_map(|class| {
        if is_slice {
            let below = format!("{stem}-{class}");
            (part.strip_suffix(".slice")? == below).then_some(below)
        } else {
            (part == class).then(|| stem.to_owned())
        }
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::{Place, PodUid, place};

    const UID: &str = "0f3a8f2e-6d0b-4f0e-9b4e-2f6f3f1c9a77";
    const ESCAPED: &str = "0f3a8f2e_6d0b_4f0e_9b4e_2f6f3f1c9a77";

    #[test]
    fn pods_are_found_under_both_drivers_and_in_every_class() {
        let pod = Some(Place::Pod(PodUid::new(UID).unwrap()));
        for path in [
            format!("/kubepods/pod{UID}"),
            format!("/kubepods/burstable/pod{UID}"),
            format!("/kubepods/besteffort/pod{UID}"),
            format!("/kubepods.slice/kubepods-pod{ESCAPED}.slice"),
            format!("/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{ESCAPED}.slice"),
            format!("/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod{ESCAPED}.slice"),
            format!("/kubelet/kubepods/burstable/pod{UID}"),
            format!(
                "/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-burstable.slice/\
                 kubelet-kubepods-burstable-pod{ESCAPED}.slice"
            ),
            format!("/docker/4711/kubelet/kubepods/pod{UID}"),
        ] {
            assert_eq!(place(&path), pod, "{path}");
        }
        let of_a_file = place("/kubepods/burstable/pod4f0e9b4e2f6f3f1c9a770f3a8f2e6d0b");
        assert!(matches!(of_a_file, Some(Place::Pod(uid)) if uid.is_static()));
    }

    #[test]
    fn roots_are_found() {
        for path in
            ["/kubepods", "/kubepods.slice", "/kubelet/kubepods", "/kubelet.slice/kubelet-kubepods.slice"]
        {
            assert_eq!(place(path), Some(Place::Root), "{path}");
        }
    }

    #[test]
    fn what_lies_beside_or_inside_is_no_pod() {
        for path in [
            "/".to_owned(),
            "/system.slice/containerd.service".to_owned(),
            "/kubepods/burstable".to_owned(),
            "/kubepods.slice/kubepods-burstable.slice".to_owned(),
            format!("/kubepods/burstable/pod{UID}/4711"),
            format!("/kubepods.slice/kubepods-pod{ESCAPED}.slice/cri-containerd-4711.scope"),
            // A pod that calls a cgroup of its own like another pod's.
            format!("/kubepods/pod{UID}/kubepods/pod{UID}"),
            format!("/kubepods/pod{UID}/kubepods"),
            // The names of one driver under the root of the other.
            format!("/kubepods.slice/pod{UID}"),
            format!("/kubepods/kubepods-pod{ESCAPED}.slice"),
            format!("/kubepods.slice/kubepods-burstable.slice/kubepods-besteffort-pod{ESCAPED}.slice"),
            format!("/mykubepods/pod{UID}"),
            "/kubepods/pod../pod".to_owned(),
        ] {
            assert_eq!(place(&path), None, "{path}");
        }
    }
}
