//! Cgroups of our own making, for `nodegate run`: armed before the process moves in, gone when the last one left.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use super::{
    capture::{Captured, Core, Origin, make_dir},
    cgroups::Cgroup,
    error::{Doing, InterceptError},
    sys,
};
use crate::domain::{flow::Workload, ids::CgroupId};

/// How long processes may take to die, and the kernel to let go of their cgroup.
const PATIENCE: Duration = Duration::from_secs(10);
/// How the directory of a run begins.
const PREFIX: &str = "run-";

impl Core {
    /// Makes a captured cgroup and moves a process into it. Nothing is left behind when any step fails, and the
    /// process is where it was.
    pub async fn start_run(&self, pid: u32, label: Option<&str>) -> Result<Workload, InterceptError> {
        let _changes = self.changes.lock().await;
        let cgroup = self.make_run()?;
        let id = cgroup.id;
        match self.move_in(cgroup.clone(), pid, label).await {
            Ok(workload) => Ok(workload),
            Err(error) => {
                if let Err(error) = self.let_go(id) {
                    tracing::warn!(cgroup = %cgroup.path, %error, "cannot take back what was armed");
                }
                let _ = fs::remove_dir(&cgroup.dir);
                Err(error)
            }
        }
    }

    async fn move_in(
        &self,
        cgroup: Cgroup,
        pid: u32,
        label: Option<&str>,
    ) -> Result<Workload, InterceptError> {
        let id = cgroup.id;
        self.take_in(cgroup.clone(), label, Origin::Run).await?;
        let namespace = format!("/proc/{pid}/ns/net");
        self.serve_namespace(Path::new(&namespace), id).await?;
        cgroup.adopt(pid).doing(|| format!("move process {pid} to {}", cgroup.path))?;
        Ok(Workload { cgroup: id, path: cgroup.path, label: label.map(str::to_owned) })
    }

    /// Ends a run: whatever still lives in it is killed, and the cgroup is removed. One that is gone is ended.
    pub async fn end_run(&self, id: CgroupId) -> Result<(), InterceptError> {
        let Some(captured) = self.settled(id).await else { return Ok(()) };
        if captured.origin != Origin::Run {
            return Err(InterceptError::NotCaptured(id));
        }
        self.clear_out(captured.cgroup).await
    }

    /// Something happened to a captured cgroup: ends a run that everybody left, forgets a cgroup that is gone.
    pub async fn look_after(self: &Arc<Self>, id: CgroupId) {
        let Some(Captured { cgroup, origin, .. }) = self.settled(id).await else { return };
        if cgroup.is_there() && cgroup.is_populated() {
            return self.serve_newcomers(id);
        }
        let path = cgroup.path.clone();
        let ended = match origin {
            Origin::Run => self.clear_out(cgroup).await,
            _ if cgroup.is_there() => return self.release_if_unlabelled(id).await,
            _ => {
                let _changes = self.changes.lock().await;
                self.retire(id)
            }
        };
        match ended {
            Ok(()) => tracing::debug!(cgroup = %path, "ended"),
            Err(error) => tracing::warn!(cgroup = %path, %error, "cannot clear away"),
        }
    }

    /// A captured cgroup that nobody is about to fill.
    async fn settled(&self, id: CgroupId) -> Option<Captured> {
        let _changes = self.changes.lock().await;
        self.captured().get(&id).cloned()
    }

    /// It stays armed until nobody is left in it. Doing this twice, even at the same time, is doing it once;
    /// nobody else waits for the dead meanwhile.
    async fn clear_out(&self, cgroup: Cgroup) -> Result<(), InterceptError> {
        let dying = cgroup.clone();
        blocking(move || dying.kill(PATIENCE))
            .await
            .doing(|| format!("kill what is left in {}", cgroup.path))?;
        let dead = cgroup.clone();
        blocking(move || dead.remove(PATIENCE)).await.doing(|| format!("remove {}", cgroup.path))?;
        let _changes = self.changes.lock().await;
        self.retire(cgroup.id)
    }

    /// Looks at the runs that a daemon before us left: empty ones are removed, the others armed if they are not.
    pub async fn clear_leftovers(self: &Arc<Self>) -> Result<(), InterceptError> {
        let parent = self.run_parent();
        let Ok(entries) = fs::read_dir(&parent) else { return Ok(()) };
        for entry in entries.filter_map(Result::ok) {
            let Ok(cgroup) = self.tree.resolve(&entry.path()) else { continue };
            if self.origin_by_place(&cgroup).is_none() {
                continue;
            }
            let known = self.captured().contains_key(&cgroup.id);
            if known {
                self.look_after(cgroup.id).await;
                continue;
            }
            let _changes = self.changes.lock().await;
            if cgroup.is_populated() {
                let label = cgroup.label();
                self.take_in(cgroup, label.as_deref(), Origin::Run).await?;
            } else {
                blocking(move || cgroup.remove(PATIENCE))
                    .await
                    .doing(|| "remove a left-over run".to_owned())?;
            }
        }
        Ok(())
    }

    /// `Run` for a cgroup that we made, which its place tells.
    pub fn origin_by_place(&self, cgroup: &Cgroup) -> Option<Origin> {
        let ours = cgroup.dir.parent() == Some(&self.run_parent())
            && cgroup
                .dir
                .file_name()
                .and_then(|name| name.to_str())
                .is_some_and(|name| name.starts_with(PREFIX));
        ours.then_some(Origin::Run)
    }

    fn make_run(&self) -> Result<Cgroup, InterceptError> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let parent = self.run_parent();
        make_dir(&parent)?;
        let now = sys::boot_ns().doing(|| "read CLOCK_BOOTTIME".to_owned())? / 1_000_000;
        let name = format!("{PREFIX}{now:x}-{:x}", COUNT.fetch_add(1, Ordering::Relaxed));
        let dir = parent.join(name);
        fs::create_dir(&dir).doing(|| format!("create {}", dir.display()))?;
        self.tree.resolve(&dir)
    }

    fn run_parent(&self) -> PathBuf {
        self.tree.join(&self.settings.run_parent)
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> std::io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(std::io::Error::other)?
}
