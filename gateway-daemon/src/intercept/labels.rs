//! Labelled cgroups: the attribute `user.nodegate.identity` on a directory captures it, as long as it is there.
//!
//! What captured a cgroup ends its capture: a command, a pod, or the label. A label ends it only where the workload
//! itself cannot have taken it off. Where it can (it owns the directory, or runs as a root that sees the tree
//! writable), a label that is gone or changed is reported and nothing more; the capture then ends when nobody is left
//! in the cgroup, or by `nodegate capture remove`. A label inside a captured cgroup counts under the same condition,
//! since it would give part of the workload another name.

use std::{path::Path, sync::Arc};

use nix::errno::Errno;

use super::{
    capture::{Captured, Core, Origin},
    cgroups::{Cgroup, children},
    error::InterceptError,
    lookout::News,
    reach::is_within_reach,
    sys,
};
use crate::domain::{flow::Workload, flow::is_label, ids::CgroupId};

/// What is captured has changed without anybody having asked for it on the admin socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Its label, or its pod's, captured it.
    Captured(Workload),
    /// It has another label than before; what was known of it is another's.
    Relabelled {
        /// With the new label.
        workload: Workload,
        /// The one before.
        before: Option<String>,
    },
    /// It is not captured any more.
    Released(Workload),
    /// Its cgroup was removed.
    Gone(Workload),
    /// Something asked for less capture and was not followed.
    Kept {
        /// What stays as it is.
        workload: Workload,
        /// One sentence.
        reason: String,
    },
}

/// Looks at everything in scope and then follows what happens, until the task is aborted.
pub(super) async fn follow(core: Arc<Core>) {
    let bell = match sys::bell(&core.lookout) {
        Ok(bell) => bell,
        Err(error) => {
            tracing::error!(%error, "labels are not noticed any more");
            return;
        }
    };
    while let Ok(mut ready) = bell.readable().await {
        match core.lookout.read() {
            Ok(news) => {
                for news in news {
                    core.hear(news).await;
                }
            }
            Err(Errno::EAGAIN) => ready.clear_ready(),
            Err(error) => {
                tracing::error!(%error, "labels are not noticed any more");
                return;
            }
        }
    }
}

impl Core {
    async fn hear(self: &Arc<Self>, news: News) {
        match news {
            News::Came(dir) => {
                self.meet(&dir).await;
                // A container's cgroup inside a captured one, whose process is about to come.
                let around = self.tree.resolve(&dir).ok().and_then(|made| self.nearest_captured(&made.path));
                if let Some(around) = around {
                    self.serve_newcomers(around.cgroup.id);
                }
            }
            News::Changed(dir) => self.look_at(&dir).await,
            News::Went(dir) => self.miss(&dir).await,
            News::Lost => {
                tracing::warn!("more cgroups changed than the kernel remembers; all are looked at again");
                self.survey().await;
            }
        }
    }

    /// Looks at every cgroup in scope, and at what is captured and gone.
    pub async fn survey(self: &Arc<Self>) {
        self.meet(self.tree.root()).await;
        for cgroup in self.vanished() {
            self.look_after(cgroup).await;
        }
        self.forget_missing_pods();
    }

    /// Watches and looks at a directory and everything below.
    async fn meet(self: &Arc<Self>, dir: &Path) {
        let mut todo = vec![dir.to_path_buf()];
        while let Some(dir) = todo.pop() {
            if !self.is_in_scope(&dir) {
                continue;
            }
            if let Err(error) = self.lookout.watch(&dir)
                && dir.exists()
            {
                tracing::error!(
                    cgroup = %dir.display(), %error,
                    "labels of this cgroup and below are not noticed (fs.inotify.max_user_watches?)"
                );
            }
            self.look_at(&dir).await;
            todo.extend(children(&dir));
        }
    }

    /// What lies below the configured root, and the way to it.
    fn is_in_scope(&self, dir: &Path) -> bool {
        let root = self.tree.join(&self.settings.root);
        dir.starts_with(&root) || root.starts_with(dir)
    }

    async fn look_at(self: &Arc<Self>, dir: &Path) {
        let Ok(cgroup) = self.tree.resolve(dir) else { return };
        if !dir.starts_with(self.tree.join(&self.settings.root)) {
            return;
        }
        self.judge_pod(&cgroup).await;
        let known = self.captured().contains_key(&cgroup.id);
        if !known && cgroup.raw_label().is_none() {
            return;
        }
        let _changes = self.changes.lock().await;
        // Read again: another look may have been quicker, and whoever comes last has seen the last state.
        let known = self.captured().get(&cgroup.id).cloned();
        let label = cgroup.raw_label();
        let done = match (known, label) {
            (None, Some(label)) => self.label_appeared(cgroup, &label).await,
            (Some(known), label) if known.origin.heeds_labels() => {
                self.label_changed(&known, label.as_deref())
            }
            (None, None) | (Some(_), _) => Ok(()),
        };
        if let Err(error) = done {
            tracing::error!(cgroup = %dir.display(), %error, "cannot follow the label of a cgroup");
        }
    }

    async fn label_appeared(&self, cgroup: Cgroup, label: &str) -> Result<(), InterceptError> {
        if self.origin_by_place(&cgroup) == Some(Origin::Run) {
            // Somebody else's run, or one of ours that is about to begin or to end.
            return Ok(());
        }
        let enclosing = self.nearest_captured(&cgroup.path);
        if let Some(enclosing) = &enclosing
            && is_within_reach(&cgroup.dir, &enclosing.cgroup.processes())
        {
            self.keep(
                enclosing.cgroup.id,
                format!("the label on {} could be the workload's own doing", cgroup.path),
            );
            return Ok(());
        }
        let label = usable(label, &cgroup);
        let id = cgroup.id;
        if let Err(error) = self.take_in(cgroup, label, Origin::Label).await {
            // Half-armed is not armed, and a label that cannot be followed must not leave links behind.
            if self.captured().get(&id).is_none() {
                self.let_go(id)?;
            }
            return Err(error);
        }
        if let Some(captured) = self.captured().get(&id) {
            tracing::info!(cgroup = %captured.cgroup.path, label, "captured by its label");
            self.announce(Change::Captured(captured.workload()));
        }
        Ok(())
    }

    fn label_changed(&self, known: &Captured, label: Option<&str>) -> Result<(), InterceptError> {
        let id = known.cgroup.id;
        let wanted = label.and_then(|label| usable(label, &known.cgroup));
        if label.is_some() && wanted == known.label.as_deref() {
            self.settle(id);
            return Ok(());
        }
        if label.is_none() && known.label.is_none() && known.origin != Origin::Label {
            return Ok(());
        }
        if is_within_reach(&known.cgroup.dir, &known.cgroup.processes()) {
            self.keep(id, "its label was changed by somebody who may be the workload itself".to_owned());
            return Ok(());
        }
        if label.is_none() && known.origin == Origin::Label {
            return self.release_unlabelled(known);
        }
        self.kernel.remember_label(id, wanted)?;
        let Some(workload) = self.relabel(id, wanted) else { return Ok(()) };
        self.settle(id);
        tracing::info!(cgroup = %workload.path, label = wanted, before = known.label, "relabelled");
        self.announce(Change::Relabelled { workload, before: known.label.clone() });
        Ok(())
    }

    /// Ends the capture of a cgroup whose label is gone, if it was the label that captured it. The caller holds
    /// `changes`.
    fn release_unlabelled(&self, known: &Captured) -> Result<(), InterceptError> {
        self.let_go(known.cgroup.id)?;
        tracing::info!(cgroup = %known.cgroup.path, "released: its label was removed");
        self.announce(Change::Released(known.workload()));
        Ok(())
    }

    /// Nobody is left in a cgroup: a label that was taken off counts now, whoever did it, unless the directory is
    /// somebody else's than root's, who may have a process elsewhere.
    pub async fn release_if_unlabelled(&self, id: CgroupId) {
        let _changes = self.changes.lock().await;
        let Some(known) = self.captured().get(&id).cloned() else { return };
        let unlabelled = known.origin == Origin::Label && known.cgroup.raw_label().is_none();
        if unlabelled
            && !is_within_reach(&known.cgroup.dir, &known.cgroup.processes())
            && let Err(error) = self.release_unlabelled(&known)
        {
            tracing::error!(cgroup = %known.cgroup.path, %error, "cannot release a cgroup");
        }
    }

    /// A directory was removed, and with it what was captured there.
    async fn miss(self: &Arc<Self>, dir: &Path) {
        let gone: Vec<CgroupId> = self
            .captured()
            .values()
            .filter(|captured| captured.cgroup.dir == dir && !captured.cgroup.is_there())
            .map(|captured| captured.cgroup.id)
            .collect();
        for cgroup in gone {
            self.look_after(cgroup).await;
        }
        self.forget_missing_pods();
    }

    /// Says once that a cgroup stays as it is.
    pub fn keep(&self, id: CgroupId, reason: String) {
        if let Some(workload) = self.first_dispute(id) {
            tracing::warn!(cgroup = %workload.path, reason, "the capture stays as it is");
            self.announce(Change::Kept { workload, reason });
        }
    }

    pub fn announce(&self, change: Change) {
        // Nobody listens any more when the daemon stops.
        let _ = self.news.send(change);
    }
}

/// The label, if it can be shown and compared; a cgroup with another one is captured all the same.
fn usable<'a>(label: &'a str, cgroup: &Cgroup) -> Option<&'a str> {
    if is_label(label) {
        return Some(label);
    }
    tracing::warn!(cgroup = %cgroup.path, "its label is none that can be used; it is captured without a name");
    None
}
