//! A look-out over the cgroup tree: directories that come, go and change, heard of by inotify alone.
//!
//! The kernel reports that a directory came or went to who watches its parent, and that its attributes changed to
//! who watches itself. So every directory is watched, and it is watched before it is read: what happens in between
//! is heard of, what happened before is seen.

use std::{
    collections::HashMap,
    io,
    os::fd::{AsFd, BorrowedFd},
    path::{Path, PathBuf},
    sync::Mutex,
};

use nix::{
    errno::Errno,
    sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor},
};

use super::kernel::held;

/// What was heard of a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum News {
    /// It was made; what lies below it may have been made before anybody watched.
    Came(PathBuf),
    /// Its owner, mode or an extended attribute changed.
    Changed(PathBuf),
    /// It was removed.
    Went(PathBuf),
    /// More happened than the kernel remembers: everything has to be looked at again.
    Lost,
}

#[derive(Debug)]
pub(super) struct Lookout {
    inotify: Inotify,
    watched: Mutex<HashMap<WatchDescriptor, PathBuf>>,
}

impl Lookout {
    pub fn new() -> io::Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
        Ok(Self { inotify, watched: Mutex::new(HashMap::new()) })
    }

    /// Watches a directory; one that is watched already is watched once.
    pub fn watch(&self, dir: &Path) -> io::Result<()> {
        let flags = AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_ATTRIB
            | AddWatchFlags::IN_ONLYDIR
            | AddWatchFlags::IN_DONT_FOLLOW;
        // Held over both steps, so that an event finds its directory.
        let mut watched = held(&self.watched);
        let watch = self.inotify.add_watch(dir, flags)?;
        watched.insert(watch, dir.to_path_buf());
        Ok(())
    }

    /// What was heard since the last time, in order.
    pub fn read(&self) -> Result<Vec<News>, Errno> {
        let events = self.inotify.read_events()?;
        let mut watched = held(&self.watched);
        let mut news = Vec::new();
        for event in events {
            if event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW) {
                news.push(News::Lost);
                continue;
            }
            if event.mask.contains(AddWatchFlags::IN_IGNORED) {
                watched.remove(&event.wd);
                continue;
            }
            let Some(dir) = watched.get(&event.wd) else { continue };
            if !event.mask.contains(AddWatchFlags::IN_ISDIR) {
                continue;
            }
            let heard = match event.name {
                // The parent hears of it too, by name; the directory's own watch is enough.
                None if event.mask.contains(AddWatchFlags::IN_ATTRIB) => News::Changed(dir.clone()),
                Some(name) if event.mask.contains(AddWatchFlags::IN_CREATE) => News::Came(dir.join(name)),
                Some(name) if event.mask.contains(AddWatchFlags::IN_DELETE) => News::Went(dir.join(name)),
                _ => continue,
            };
            if news.last() != Some(&heard) {
                news.push(heard);
            }
        }
        Ok(news)
    }
}

impl AsFd for Lookout {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }
}
