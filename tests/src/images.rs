//! Container images that a test packs itself, of Debian's one busybox, so that no registry is asked for any.

use std::{fs, os::unix::fs::symlink, path::Path, process::Command};

use aws_lc_rs::digest::{SHA256, digest};
use serde_json::json;

use super::{leftovers, programs::succeed};

/// Writes an archive of images as `docker save` would: each name has its own words to begin with, and all share one
/// layer.
pub fn write(archive: &Path, images: &[(&str, &[&str])]) {
    let folder = leftovers::folder(&leftovers::unique_name());
    let root = folder.join("root");
    for name in ["bin", "proc", "sys", "dev", "etc", "tmp", "run", "var/run/secrets/nodegate"] {
        fs::create_dir_all(root.join(name)).expect("a root file system");
    }
    fs::copy("/bin/busybox", root.join("bin/busybox")).expect("Debian's busybox-static");
    symlink("busybox", root.join("bin/sh")).expect("a shell");
    pack(&root, &folder.join("layer.tar"), &["."]);
    let layer = sha256(&fs::read(folder.join("layer.tar")).expect("the layer"));
    let (mut manifest, mut files) = (Vec::new(), vec!["layer.tar".to_owned(), "manifest.json".to_owned()]);
    for (name, entry) in images {
        let config = json!({ "architecture": "amd64", "os": "linux", "history": [],
            "config": { "Entrypoint": entry, "Env": ["PATH=/bin"] },
            "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{layer}")] } })
        .to_string();
        let file = format!("{}.json", sha256(config.as_bytes()));
        fs::write(folder.join(&file), config).expect("an image's description");
        manifest.push(json!({ "Config": file, "RepoTags": [name], "Layers": ["layer.tar"] }));
        files.push(file);
    }
    fs::write(folder.join("manifest.json"), json!(manifest).to_string()).expect("the manifest");
    pack(&folder, archive, &files);
    let _ = fs::remove_dir_all(&folder);
}

fn pack<S: AsRef<str>>(folder: &Path, archive: &Path, names: &[S]) {
    let mut tar = Command::new("tar");
    tar.args(["--owner=0", "--group=0", "-C"]).arg(folder).arg("-cf").arg(archive);
    succeed(tar.args(names.iter().map(AsRef::as_ref)));
}

/// A digest in hexadecimal digits.
pub(super) fn sha256(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    digest(&SHA256, bytes).as_ref().iter().fold(String::new(), |mut all, byte| {
        let _ = write!(all, "{byte:02x}");
        all
    })
}
