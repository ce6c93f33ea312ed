//! The pinned links of each captured cgroup: `<pins>/links/<cgroup id>/<program>`, and beside them, as a
//! symbolic links that point nowhere, the label and what captured the cgroup. bpffs holds no regular files. Those of
//! cgroups whose unknown pods are held are in `<pins>/held/`, those of the whole node in `<pins>/node/`.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use aya::programs::{CgroupAttachMode, Program, ProgramError, links::FdLink};
use gateway_common::state::Standing;

use super::{
    capture::Origin,
    cgroups::Cgroup,
    error::{Doing, InterceptError},
    kernel::{Kernel, NODE_PROGRAMS, PROGRAMS, held},
    sys, unix,
};
use crate::domain::ids::CgroupId;

const LABEL: &str = "label";
const NODE: &str = "node";
const HELD: &str = "held";
const ORIGIN: &str = "origin";

/// A cgroup that pins exist for.
#[derive(Debug)]
pub(super) struct Pinned {
    pub cgroup: CgroupId,
    pub label: Option<String>,
    pub origin: Origin,
}

/// What became of the pins of a cgroup that is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reaped {
    /// They are removed.
    Gone,
    /// Sockets of it live on.
    NotYet,
}

impl Kernel {
    /// Arms a cgroup: its links run this daemon's programs when this returns. Links that are there already are
    /// switched over in one step; a cgroup that was captured is captured at every moment of it.
    pub fn arm(&self, cgroup: &Cgroup, label: Option<&str>, origin: Origin) -> Result<(), InterceptError> {
        let pins = self.pins_of(cgroup.id);
        fs::create_dir_all(&pins).doing(|| format!("create {}", pins.display()))?;
        self.remember_label(cgroup.id, label)?;
        remember(&pins, ORIGIN, Some(origin.name()))
            .doing(|| format!("remember what captured {}", cgroup.path))?;
        self.mark(cgroup.id, Standing::Captured)?;
        self.link_all(cgroup, &pins)
    }

    /// Refuses everything below a cgroup that has no standing of its own, from when this returns.
    pub fn hold(&self, cgroup: &Cgroup) -> Result<(), InterceptError> {
        let pins = self.pins.join(HELD).join(cgroup.id.to_string());
        fs::create_dir_all(&pins).doing(|| format!("create {}", pins.display()))?;
        self.mark(cgroup.id, Standing::Held)?;
        self.link_all(cgroup, &pins)
    }

    /// Holds nothing below that cgroup any more, which need not exist.
    pub fn hold_no_more(&self, cgroup: CgroupId) -> Result<(), InterceptError> {
        let pins = self.pins.join(HELD).join(cgroup.to_string());
        unlink_all(&pins, cgroup)?;
        self.unmark_captured(cgroup)
    }

    /// The cgroups whose unknown pods are held.
    pub fn holding(&self) -> Vec<CgroupId> {
        let entries = fs::read_dir(self.pins.join(HELD)).into_iter().flatten().filter_map(Result::ok);
        entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok().map(CgroupId)).collect()
    }

    fn link_all(&self, cgroup: &Cgroup, pins: &Path) -> Result<(), InterceptError> {
        let directory = File::open(&cgroup.dir).doing(|| format!("open {}", cgroup.dir.display()))?;
        let mut programs = held(&self.programs);
        for name in PROGRAMS {
            let program = programs.program_mut(name).ok_or(InterceptError::Incomplete(name))?;
            link(program, &directory, &pins.join(name))
                .map_err(|source| InterceptError::Program { name, source })?;
        }
        drop(programs);
        if let Some(unix) = &self.unix {
            for (name, _) in unix::PROGRAMS {
                unix.link(name, &directory, &pins.join(name)).doing(|| format!("attach {name}"))?;
            }
        }
        remove_foreign_links(pins, if self.unix.is_some() { UnixLinks::Ours } else { UnixLinks::Foreign })
            .doing(|| format!("detach programs of another version from {}", cgroup.path))
    }

    /// Arms the whole node at the root of the cgroup tree, in the same way.
    pub fn arm_node(&self, root: &Path) -> Result<(), InterceptError> {
        let pins = self.pins.join(NODE);
        fs::create_dir_all(&pins).doing(|| format!("create {}", pins.display()))?;
        let directory = File::open(root).doing(|| format!("open {}", root.display()))?;
        let mut programs = held(&self.programs);
        for name in NODE_PROGRAMS {
            let program = programs.program_mut(name).ok_or(InterceptError::Incomplete(name))?;
            link(program, &directory, &pins.join(name))
                .map_err(|source| InterceptError::Program { name, source })?;
        }
        drop(programs);
        remove_foreign_links(&pins, UnixLinks::Foreign)
            .doing(|| "detach programs of another version from the node".to_owned())
    }

    /// Takes the links off a cgroup, which need not exist any more.
    pub fn disarm(&self, cgroup: CgroupId) -> Result<(), InterceptError> {
        unlink_all(&self.pins_of(cgroup), cgroup)?;
        self.unmark_captured(cgroup)
    }

    /// Removes the pins of a cgroup whose directory is gone, once its last socket is gone as well. Until then
    /// its sockets, which may be in the hands of another captured process, are captured like any other.
    pub fn reap(&self, cgroup: CgroupId) -> Result<Reaped, InterceptError> {
        let pins = self.pins_of(cgroup);
        for name in PROGRAMS {
            match sys::open_pinned(&pins.join(name)) {
                Ok(link) => {
                    let attached = sys::is_attached(link);
                    if attached.doing(|| format!("look at {name} of cgroup {cgroup}"))? {
                        return Ok(Reaped::NotYet);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(source) => {
                    return Err(InterceptError::Io {
                        what: format!("open {name} of cgroup {cgroup}"),
                        source,
                    });
                }
            }
        }
        self.disarm(cgroup)?;
        Ok(Reaped::Gone)
    }

    /// Whether a cgroup has pins.
    pub fn is_armed(&self, cgroup: CgroupId) -> bool {
        self.pins_of(cgroup).exists()
    }

    /// The cgroups that pins exist for.
    pub fn pinned(&self) -> Result<Vec<Pinned>, InterceptError> {
        let links = self.pins.join("links");
        let entries = fs::read_dir(&links).doing(|| format!("read {}", links.display()))?;
        let mut pinned = Vec::new();
        for entry in entries {
            let entry = entry.doing(|| format!("read {}", links.display()))?;
            let Some(id) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            let note =
                |name| fs::read_link(entry.path().join(name)).ok()?.into_os_string().into_string().ok();
            let origin = note(ORIGIN).map_or(Origin::Command, |name| Origin::from_name(&name));
            pinned.push(Pinned { cgroup: CgroupId(id), label: note(LABEL), origin });
        }
        Ok(pinned)
    }

    /// Changes the label that the pins remember, which need to be there.
    pub fn remember_label(&self, cgroup: CgroupId, label: Option<&str>) -> Result<(), InterceptError> {
        remember(&self.pins_of(cgroup), LABEL, label)
            .doing(|| format!("remember the label of cgroup {cgroup}"))
    }

    fn pins_of(&self, cgroup: CgroupId) -> PathBuf {
        self.pins.join("links").join(cgroup.to_string())
    }
}

/// Takes the links of a cgroup off it and removes their pins with everything beside them.
fn unlink_all(pins: &Path, cgroup: CgroupId) -> Result<(), InterceptError> {
    for name in PROGRAMS.iter().rev() {
        unlink(&pins.join(name)).doing(|| format!("detach {name} from cgroup {cgroup}"))?;
    }
    absent_is_fine(remove_foreign_links(pins, UnixLinks::Foreign))
        .doing(|| format!("detach programs of another version from cgroup {cgroup}"))?;
    for note in [LABEL, ORIGIN] {
        remember(pins, note, None).doing(|| format!("forget the {note} of cgroup {cgroup}"))?;
    }
    absent_is_fine(fs::remove_dir(pins)).doing(|| format!("remove {}", pins.display()))
}

/// Writes a note beside the links, or removes it.
fn remember(pins: &Path, name: &str, text: Option<&str>) -> io::Result<()> {
    let path = pins.join(name);
    absent_is_fine(fs::remove_file(&path))?;
    text.map_or(Ok(()), |text| symlink(text, path))
}

fn absent_is_fine(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Makes the link that is pinned at `pin` run `program`, or makes such a link.
fn link(program: &mut Program, cgroup: &File, pin: &Path) -> Result<(), ProgramError> {
    match sys::open_pinned(pin) {
        Ok(link) => match sys::update_link(link, program.fd()?) {
            Ok(()) => return Ok(()),
            // The link's cgroup is gone, and this one has inherited its number.
            Err(error) if error.raw_os_error() == Some(libc::ENOLINK) => fs::remove_file(pin)?,
            Err(error) => return Err(error.into()),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error.into()),
    }
    let link = attach(program, cgroup)?;
    link.pin(pin).map(drop).map_err(|error| io::Error::other(error).into())
}

/// Whether this daemon uses the hooks of Unix sockets.
#[derive(Clone, Copy, PartialEq, Eq)]
enum UnixLinks {
    Ours,
    Foreign,
}

/// Another version of the daemon may have had programs that this one does not have: two sets of programs on one
/// cgroup would not agree on who has seen what.
fn remove_foreign_links(pins: &Path, unix_hooks: UnixLinks) -> io::Result<()> {
    for entry in fs::read_dir(pins)? {
        let name = entry?.file_name();
        let ours = name.to_str().is_some_and(|name| {
            let unix =
                unix_hooks == UnixLinks::Ours && unix::PROGRAMS.iter().any(|(known, _)| *known == name);
            unix || [LABEL, ORIGIN].contains(&name)
                || PROGRAMS.contains(&name)
                || NODE_PROGRAMS.contains(&name)
        });
        if !ours {
            unlink(&pins.join(name))?;
        }
    }
    Ok(())
}

/// Takes the link that is pinned at `pin` off its cgroup, if there is one.
pub(super) fn unlink(pin: &Path) -> io::Result<()> {
    let link = match sys::open_pinned(pin) {
        Ok(link) => link,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    match sys::detach_link(link) {
        // The kernel has detached it already, together with the cgroup.
        Err(error) if error.raw_os_error() == Some(libc::ENOLINK) => {}
        detached => detached?,
    }
    absent_is_fine(fs::remove_file(pin))
}

fn attach(program: &mut Program, cgroup: &File) -> Result<FdLink, ProgramError> {
    // No flag at all: a link always shares its cgroup with other programs, and the kernel takes no mode for it.
    let mode = CgroupAttachMode::Single;
    let link = match program {
        Program::SockOps(program) => {
            let id = program.attach(cgroup, mode)?;
            FdLink::try_from(program.take_link(id)?)
        }
        Program::CgroupSockAddr(program) => {
            let id = program.attach(cgroup, mode)?;
            FdLink::try_from(program.take_link(id)?)
        }
        Program::CgroupSock(program) => {
            let id = program.attach(cgroup, mode)?;
            FdLink::try_from(program.take_link(id)?)
        }
        _ => return Err(ProgramError::UnexpectedProgramType),
    };
    link.map_err(|error| io::Error::other(error).into())
}
