//! Pods: which of the kubelet's cgroups are captured, which pass, and what becomes of those that nobody has told us of.
//!
//! With [`UnknownPods::Hold`] the cgroup that holds all pods bears our programs as well, and everything below it is
//! refused that has no standing of its own. The kubelet makes a pod's cgroup before the pod's first process, so a pod
//! has no way out from its first instruction until its label is known, whether this daemon is quick, slow or gone.
//! With [`UnknownPods::Pass`] a pod is armed when its cgroup and its label are both known, and is free until then.
//!
//! A pod that was captured stays so as long as its cgroup lives: whoever may change labels in the API server need not
//! be somebody who may let an agent go.

use std::{
    collections::{HashMap, HashSet},
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use gateway_common::state::Standing;

use super::{
    capture::{Core, Origin},
    cgroups::{Cgroup, path_of_process},
    error::{Doing, InterceptError},
    kernel::held,
    kubepods::{Place, place},
    labels::Change,
};
use crate::domain::{
    ids::CgroupId,
    pod::{PodUid, Pods, Wish},
};

/// What becomes of a pod whose labels are not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnknownPods {
    /// It has no way out.
    Hold,
    /// It is not captured.
    Pass,
}

/// What is known of pods and of their cgroups.
#[derive(Debug, Default)]
pub(super) struct KnownPods(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    /// As the API server told last; `None` before it was asked.
    pods: Option<Pods>,
    /// Cgroups of pods that are there.
    cgroups: HashMap<CgroupId, (PodUid, Cgroup)>,
    /// Cgroups that hold all pods.
    roots: HashMap<CgroupId, Cgroup>,
    /// Cgroups that may pass.
    passing: HashSet<CgroupId>,
    /// Cgroups that were let go by a command: no label captures them anew.
    released: HashSet<CgroupId>,
}

impl Core {
    /// The daemon itself may run in a pod, whose connections must neither come back to it nor be held.
    pub fn exempt_own_pod(&self) -> Result<(), InterceptError> {
        if self.settings.pods.is_none() {
            return Ok(());
        }
        let own = self.own_place()?;
        let own_pod = ancestors(&own).find(|path| matches!(place(path), Some(Place::Pod(_))));
        let Some(path) = own_pod else { return Ok(()) };
        let cgroup = self.tree.resolve(self.tree.join(path).as_path())?;
        self.let_pass(&cgroup)
    }

    /// The daemon's own path below the mount. In a cgroup namespace that could not be left, the path that the kernel
    /// tells is none of the tree's, and the tree is searched for the process.
    fn own_place(&self) -> Result<String, InterceptError> {
        let pid = std::process::id();
        let told = path_of_process(pid).doing(|| "find the daemon's own cgroup".to_owned())?;
        let holds = |dir: &Path| {
            let processes = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
            processes.lines().any(|line| line.parse() == Ok(pid))
        };
        if holds(&self.tree.join(&told)) {
            return Ok(told);
        }
        let found = self.tree.index().into_values().find(|dir| holds(dir));
        let found = found.and_then(|dir| Some(self.tree.resolve(&dir).ok()?.path));
        Ok(found.unwrap_or(told))
    }

    /// Notes a cgroup of the kubelet's tree and gives it its standing.
    pub async fn judge_pod(self: &Arc<Self>, cgroup: &Cgroup) {
        if self.settings.pods.is_none() {
            return;
        }
        let done = match place(&cgroup.path) {
            None => return,
            Some(Place::Root) => self.meet_root(cgroup).await,
            Some(Place::Pod(uid)) => {
                held(&self.pods.0).cgroups.insert(cgroup.id, (uid.clone(), cgroup.clone()));
                self.decide(&uid, cgroup).await
            }
        };
        if let Err(error) = done {
            tracing::error!(cgroup = %cgroup.path, %error, "a pod's cgroup cannot be given its standing");
        }
    }

    async fn meet_root(&self, cgroup: &Cgroup) -> Result<(), InterceptError> {
        let asked = {
            let mut known = held(&self.pods.0);
            known.roots.insert(cgroup.id, cgroup.clone());
            known.pods.is_some()
        };
        if asked { self.close_root(cgroup).await } else { Ok(()) }
    }

    /// Holds everything below that has no standing of its own.
    async fn close_root(&self, cgroup: &Cgroup) -> Result<(), InterceptError> {
        if self.settings.pods != Some(UnknownPods::Hold)
            || self.kernel.standing(cgroup.id) == Some(Standing::Held)
        {
            return Ok(());
        }
        let _changes = self.changes.lock().await;
        self.kernel.hold(cgroup)?;
        tracing::info!(cgroup = %cgroup.path, "pods that nobody has told us of are held");
        Ok(())
    }

    /// Takes in what is known of this node's pods now.
    pub async fn know_pods(self: &Arc<Self>, pods: &Pods) -> Result<(), InterceptError> {
        let (cgroups, roots) = {
            let mut known = held(&self.pods.0);
            known.pods = Some(pods.clone());
            (
                known.cgroups.values().cloned().collect::<Vec<_>>(),
                known.roots.values().cloned().collect::<Vec<_>>(),
            )
        };
        for (uid, cgroup) in cgroups {
            // One pod's trouble is not to keep the others waiting.
            if let Err(error) = self.decide(&uid, &cgroup).await {
                tracing::error!(cgroup = %cgroup.path, %error, "a pod's cgroup cannot be given its standing");
            }
        }
        // Last, so that no pod is held whose label has just become known.
        for root in roots {
            self.close_root(&root).await?;
        }
        Ok(())
    }

    /// Captures a pod, or lets it pass, or leaves it as it is while nothing is known of it.
    async fn decide(self: &Arc<Self>, uid: &PodUid, cgroup: &Cgroup) -> Result<(), InterceptError> {
        let (wish, label) = {
            let known = held(&self.pods.0);
            match known.pods.as_ref().and_then(|pods| pods.get(uid)) {
                _ if known.released.contains(&cgroup.id) => return Ok(()),
                Some(pod) => (pod.wish, pod.label()),
                // Whoever puts files into the kubelet's directory owns the node, and the API server itself may be one.
                None if uid.is_static() => (Wish::Pass, String::new()),
                None => return Ok(()),
            }
        };
        match wish {
            Wish::Capture => self.take_in_pod(cgroup, &label).await,
            Wish::Pass => {
                let _changes = self.changes.lock().await;
                let captured = self.captured().get(&cgroup.id).cloned();
                let passing = held(&self.pods.0).passing.contains(&cgroup.id);
                match captured {
                    Some(captured) if captured.origin == Origin::Pod => {
                        let reason =
                            "its pod's label was removed; it stays captured while it lives".to_owned();
                        self.keep(cgroup.id, reason);
                        Ok(())
                    }
                    Some(_) => Ok(()),
                    None if passing => Ok(()),
                    None => self.let_pass(cgroup),
                }
            }
        }
    }

    async fn take_in_pod(self: &Arc<Self>, cgroup: &Cgroup, label: &str) -> Result<(), InterceptError> {
        if self.captured().contains_key(&cgroup.id) {
            return Ok(());
        }
        let _changes = self.changes.lock().await;
        if self.captured().contains_key(&cgroup.id) || !cgroup.is_there() {
            return Ok(());
        }
        held(&self.pods.0).passing.remove(&cgroup.id);
        self.take_in(cgroup.clone(), Some(label), Origin::Pod).await?;
        // Its sandbox may have moved into the cgroup already, and not yet into its namespace.
        self.serve_newcomers(cgroup.id);
        tracing::info!(cgroup = %cgroup.path, label, "a pod is captured");
        if let Some(captured) = self.captured().get(&cgroup.id) {
            self.announce(Change::Captured(captured.workload()));
        }
        Ok(())
    }

    /// Nothing below is refused or redirected, unless it is captured for itself.
    fn let_pass(&self, cgroup: &Cgroup) -> Result<(), InterceptError> {
        // Below what is captured, nothing may be let through.
        if self.nearest_captured(&cgroup.path).is_some() {
            return Ok(());
        }
        self.kernel.mark(cgroup.id, Standing::Passing)?;
        held(&self.pods.0).passing.insert(cgroup.id);
        Ok(())
    }

    /// A pod was let go by command: it passes from now on, where others are held.
    pub fn pass_released_pod(&self, cgroup: &Cgroup) -> Result<(), InterceptError> {
        held(&self.pods.0).released.insert(cgroup.id);
        self.let_pass(cgroup)
    }

    /// Goes on with what the daemon before us had marked for pods, before anything is known of them: who passed,
    /// passes, and where unknown pods were held, they are. Marks of cgroups that are gone, or that are not meant any
    /// more, are removed. The caller holds `changes`.
    pub fn take_over_pods(&self, index: &HashMap<CgroupId, PathBuf>) -> Result<(), InterceptError> {
        self.kernel.adopt_marks(Standing::Passing, |id| index.contains_key(&id))?;
        for (id, standing) in self.kernel.marks() {
            let is_there = index.contains_key(&id) && self.settings.pods.is_some();
            match standing {
                Some(Standing::Passing) if is_there => {
                    held(&self.pods.0).passing.insert(id);
                }
                Some(Standing::Passing) => self.kernel.unmark_captured(id)?,
                _ => {}
            }
        }
        for id in self.kernel.holding() {
            match index.get(&id) {
                Some(dir) if self.settings.pods == Some(UnknownPods::Hold) => {
                    self.kernel.hold(&self.tree.resolve(dir)?)?;
                }
                _ => self.kernel.hold_no_more(id)?,
            }
        }
        Ok(())
    }

    /// Holds again what was held, after a successor did not come to serve.
    pub fn take_back_pods(&self) -> Result<(), InterceptError> {
        let roots: Vec<Cgroup> = held(&self.pods.0).roots.values().cloned().collect();
        let mut held = roots.iter().filter(|root| self.kernel.standing(root.id) == Some(Standing::Held));
        held.try_for_each(|root| self.kernel.hold(root))
    }

    /// Takes the standing of pods away whose cgroups are gone.
    pub fn forget_missing_pods(&self) {
        let mut known = held(&self.pods.0);
        let gone: Vec<CgroupId> = known
            .cgroups
            .values()
            .map(|(_, cgroup)| cgroup)
            .chain(known.roots.values())
            .filter(|cgroup| !cgroup.is_there())
            .map(|cgroup| cgroup.id)
            .collect();
        for id in gone {
            known.cgroups.remove(&id);
            known.released.remove(&id);
            let closed = known.roots.remove(&id).is_some();
            let passed = known.passing.remove(&id);
            let done = match (closed, passed) {
                (true, _) => self.kernel.hold_no_more(id),
                (false, true) => self.kernel.unmark_captured(id),
                (false, false) => Ok(()),
            };
            if let Err(error) = done {
                tracing::warn!(cgroup = %id, %error, "cannot forget a pod that is gone");
            }
        }
    }
}

/// A path and those above it, from the top.
fn ancestors(path: &str) -> impl Iterator<Item = &str> {
    path.match_indices('/').map(|(at, _)| at).skip(1).chain([path.len()]).filter_map(|end| path.get(..end))
}
