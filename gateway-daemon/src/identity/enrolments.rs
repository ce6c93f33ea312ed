//! Enrolled identities in a file, so that a restarted daemon knows the workloads that are still there. What is kept
//! is what a signature has proved, never the token: it is of no use anywhere else, and ends when the token would.
//!
//! The kernel counts cgroups anew after a reboot, so the file is bound to one boot; and to the issuers'
//! settings, since what they were checked against must not have changed.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::settings::IssuerSettings;
use crate::domain::{ids::CgroupId, principal::Principal};

const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// The file's content.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Content {
    boot: String,
    issuers: String,
    enrolled: BTreeMap<u64, Principal>,
}

/// The file.
#[derive(Debug)]
pub(super) struct Enrolments {
    path: PathBuf,
    content: Content,
}

impl Enrolments {
    /// Reads the file, or begins anew where there is none, or one of another boot or of other settings.
    ///
    /// # Errors
    /// The file is there and cannot be read.
    pub(super) fn open(path: &Path, issuers: &[IssuerSettings]) -> io::Result<Self> {
        let boot = fs::read_to_string(BOOT_ID)?.trim().to_owned();
        let issuers = format!("{issuers:?}");
        let kept = match fs::read(path) {
            Ok(bytes) => serde_json::from_slice::<Content>(&bytes).ok(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        let content = kept.filter(|kept| kept.boot == boot && kept.issuers == issuers).unwrap_or(Content {
            boot,
            issuers,
            enrolled: BTreeMap::new(),
        });
        Ok(Self { path: path.to_owned(), content })
    }

    /// What was enrolled when the file was written.
    pub(super) fn iter(&self) -> impl Iterator<Item = (CgroupId, &Principal)> {
        self.content.enrolled.iter().map(|(cgroup, principal)| (CgroupId(*cgroup), principal))
    }

    /// Keeps an identity.
    ///
    /// # Errors
    /// The file cannot be written; what it held before is still there.
    pub(super) fn keep(&mut self, cgroup: CgroupId, principal: &Principal) -> io::Result<()> {
        self.content.enrolled.insert(cgroup.0, principal.clone());
        self.write()
    }

    /// Forgets one.
    ///
    /// # Errors
    /// The file cannot be written; what it held before is still there.
    pub(super) fn forget(&mut self, cgroup: CgroupId) -> io::Result<()> {
        if self.content.enrolled.remove(&cgroup.0).is_none() {
            return Ok(());
        }
        self.write()
    }

    fn write(&self) -> io::Result<()> {
        let new = self.path.with_extension("new");
        let mut file =
            fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        file.write_all(&serde_json::to_vec(&self.content).map_err(io::Error::other)?)?;
        fs::rename(&new, &self.path)
    }
}
