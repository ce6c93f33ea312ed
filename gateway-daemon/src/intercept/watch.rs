//! A look-out for the end of captured cgroups: their `cgroup.events` files change when the last process leaves.

use std::{
    collections::HashMap,
    io,
    sync::{Arc, Mutex},
};

use nix::{
    errno::Errno,
    sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor},
};

use super::{capture::Core, cgroups::Cgroup, kernel::held, sys};
use crate::domain::ids::CgroupId;

#[derive(Debug)]
pub(super) struct Watch {
    inotify: Inotify,
    watched: Mutex<HashMap<WatchDescriptor, CgroupId>>,
}

impl Watch {
    pub fn new() -> io::Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
        Ok(Self { inotify, watched: Mutex::new(HashMap::new()) })
    }

    pub fn add(&self, cgroup: &Cgroup) -> io::Result<()> {
        // Held over both steps, so that an event finds its cgroup.
        let mut watched = held(&self.watched);
        let watch = self.inotify.add_watch(&cgroup.events_file(), AddWatchFlags::IN_MODIFY)?;
        watched.insert(watch, cgroup.id);
        Ok(())
    }

    pub fn remove(&self, cgroup: CgroupId) {
        let mut watched = held(&self.watched);
        let stale: Vec<_> =
            watched.iter().filter(|(_, of)| **of == cgroup).map(|(watch, _)| *watch).collect();
        for watch in stale {
            watched.remove(&watch);
            // It vanishes by itself together with the file.
            let _ = self.inotify.rm_watch(watch);
        }
    }

    /// The cgroups of which something was heard, once something was.
    fn read(&self) -> Result<Vec<CgroupId>, Errno> {
        let events = self.inotify.read_events()?;
        let watched = held(&self.watched);
        let mut heard: Vec<CgroupId> =
            events.iter().filter_map(|event| watched.get(&event.wd).copied()).collect();
        heard.sort_unstable();
        heard.dedup();
        Ok(heard)
    }
}

/// Looks after cgroups of which something is heard, until the task is aborted.
pub(super) async fn follow(core: Arc<Core>) {
    let bell = match sys::bell(&core.watch.inotify) {
        Ok(bell) => bell,
        Err(error) => {
            tracing::error!(%error, "cannot watch captured cgroups");
            return;
        }
    };
    while let Ok(mut ready) = bell.readable().await {
        match core.watch.read() {
            Ok(heard) => {
                for cgroup in heard {
                    let core = Arc::clone(&core);
                    tokio::spawn(async move { core.look_after(cgroup).await });
                }
            }
            Err(Errno::EAGAIN) => ready.clear_ready(),
            Err(error) => {
                tracing::error!(%error, "cannot watch captured cgroups");
                return;
            }
        }
    }
}
