//! What can go wrong with capture.

use std::{io, path::PathBuf};

use crate::domain::ids::CgroupId;

/// Why capture could not be started, armed or ended.
#[derive(Debug, thiserror::Error)]
pub enum InterceptError {
    /// Built without the kernel programs.
    #[error(
        "this nodegate was built without its kernel programs: run `cargo xtask build-ebpf`, then build it again"
    )]
    NoObject,
    /// There is no cgroup2 mount.
    #[error("no cgroup2 file system is mounted: `mount -t cgroup2 none /sys/fs/cgroup/unified`")]
    NoCgroup2,
    /// The pins are another daemon's.
    #[error("another nodegate daemon uses {}", .0.display())]
    AlreadyRunning(PathBuf),
    /// A pinned map is not what this daemon would have made.
    #[error("the pinned map {} has another layout than version {version}: stop all agents and remove it", .path.display())]
    ForeignMap {
        /// Where it is pinned.
        path: PathBuf,
        /// The layout version that it claims.
        version: u32,
    },
    /// The kernel did not take the programs.
    #[error("the kernel refused nodegate's programs: {0}")]
    Load(#[from] aya::EbpfError),
    /// A program could not be loaded or attached.
    #[error("program {name}: {source}")]
    Program {
        /// Its name.
        name: &'static str,
        /// The kernel's answer.
        source: aya::programs::ProgramError,
    },
    /// The object lacks something that this daemon counts on.
    #[error("the kernel object lacks {0}: build it again with `cargo xtask build-ebpf`")]
    Incomplete(&'static str),
    /// A map could not be used.
    #[error("map {name}: {source}")]
    Map {
        /// Its name.
        name: &'static str,
        /// The kernel's answer.
        source: aya::maps::MapError,
    },
    /// A system call failed.
    #[error("{what}: {source}")]
    Io {
        /// What was being done.
        what: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// Not a directory below the cgroup2 mount.
    #[error("{} is no cgroup below the cgroup2 mount", .0.display())]
    NotACgroup(PathBuf),
    /// The daemon would capture itself.
    #[error("{0} holds the nodegate daemon itself: its own connections would come back to it")]
    OwnCgroup(String),
    /// The kernel has no place for the guard.
    #[error("{0}")]
    NoGuard(String),
    /// Nobody may look at who moves in.
    #[error("{0}")]
    NoMoves(String),
    /// The cgroup is not captured.
    #[error("cgroup {0} is not captured")]
    NotCaptured(CgroupId),
}

/// Says what was being done when a system call failed.
pub(super) trait Doing<T> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T, InterceptError>;
}

impl<T, E: Into<io::Error>> Doing<T> for Result<T, E> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T, InterceptError> {
        self.map_err(|error| InterceptError::Io { what: what(), source: error.into() })
    }
}
