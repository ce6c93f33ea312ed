//! Removing nodegate from a node: links, maps and labels, without a daemon and without loading anything.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use super::{
    cgroups::Tree,
    error::{Doing, InterceptError},
    kernel::lock,
    links::unlink,
};
use crate::domain::ids::CgroupId;

/// Takes everything off that was pinned below `pins`, and says of each thing what it was. Processes that were captured
/// connect directly from then on. Fails where a daemon runs. What is gone already is no error.
pub fn remove_all(pins: &Path) -> Result<Vec<String>, InterceptError> {
    let mut removed = Vec::new();
    if !pins.exists() {
        return Ok(removed);
    }
    let _lock = lock(pins)?;
    let tree = Tree::find()?;
    let index = tree.index();
    // Those of the node first: they refuse what the programs of a captured cgroup no longer vouch for.
    for (part, what) in
        [("guard", "the guard"), ("node", "the whole node"), ("moves", "the look-out for moves")]
    {
        for program in entries(&pins.join(part))? {
            take_off(&program)?;
            removed.push(format!("{} of {what}", name(&program)));
        }
        remove_dir(&pins.join(part))?;
    }
    for dir in entries(&pins.join("held"))? {
        for program in entries(&dir)? {
            take_off(&program)?;
            removed.push(format!("{} of all pods (cgroup {})", name(&program), name(&dir)));
        }
        remove_dir(&dir)?;
    }
    remove_dir(&pins.join("held"))?;
    for dir in entries(&pins.join("links"))? {
        let id = name(&dir).parse().ok().map(CgroupId);
        let cgroup = id.and_then(|id| index.get(&id)).and_then(|path| tree.resolve(path).ok());
        let place = match &cgroup {
            Some(cgroup) => format!("cgroup {} ({})", cgroup.id, cgroup.path),
            None => format!("cgroup {}, which is gone", name(&dir)),
        };
        for program in entries(&dir)? {
            take_off(&program)?;
            removed.push(format!("{} of {place}", name(&program)));
        }
        remove_dir(&dir)?;
        if let Some(cgroup) = cgroup.filter(|cgroup| cgroup.label().is_some()) {
            cgroup.remove_label();
            removed.push(format!("the label of {place}"));
        }
    }
    remove_dir(&pins.join("links"))?;
    for maps in entries(pins)? {
        for map in entries(&maps)? {
            fs::remove_file(&map).doing(|| format!("remove {}", map.display()))?;
            removed.push(format!("map {} of layout {}", name(&map), name(&maps)));
        }
        remove_dir(&maps)?;
    }
    remove_dir(pins)?;
    Ok(removed)
}

/// Detaches a link of a cgroup at once; others, and what is no link, go with their pin.
fn take_off(pin: &Path) -> Result<(), InterceptError> {
    // A note is a symbolic link that leads nowhere: to whoever follows it, there is nothing to detach.
    let detached = unlink(pin);
    match fs::remove_file(pin) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => detached,
        removed => removed,
    }
    .doing(|| format!("remove {}", pin.display()))
}

fn entries(dir: &Path) -> Result<Vec<PathBuf>, InterceptError> {
    match fs::read_dir(dir) {
        Ok(entries) => Ok(entries.filter_map(Result::ok).map(|entry| entry.path()).collect()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(source) => Err(InterceptError::Io { what: format!("read {}", dir.display()), source }),
    }
}

fn remove_dir(dir: &Path) -> Result<(), InterceptError> {
    match fs::remove_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done.doing(|| format!("remove {}", dir.display())),
    }
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
