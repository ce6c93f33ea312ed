//! Embeds the kernel programs: `$NODEGATE_EBPF_OBJECT`, or what `cargo xtask build-ebpf` left in the target
//! directory. Without them the build goes on, and the daemon says at its start what is missing.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
};

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-env-changed=NODEGATE_EBPF_OBJECT");
    println!("cargo::rerun-if-env-changed=CARGO_TARGET_DIR");
    let out = PathBuf::from(variable("OUT_DIR")?);
    let object = match env::var_os("NODEGATE_EBPF_OBJECT") {
        Some(path) => PathBuf::from(path),
        None => target_dir(&out)?.join("bpf/nodegate-ebpf"),
    };
    println!("cargo::rerun-if-changed={}", object.display());
    let bytes = match fs::read(&object) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            println!(
                "cargo::warning=no kernel programs at {}: run `cargo xtask build-ebpf` and build again; \
                 until then `nodegate daemon` cannot capture anything",
                object.display()
            );
            Vec::new()
        }
        Err(error) => return Err(error),
    };
    fs::write(out.join("nodegate-ebpf"), bytes)
}

/// The target directory: the one that holds a CACHEDIR.TAG above OUT_DIR, however deep `--target` put it.
fn target_dir(out: &Path) -> io::Result<PathBuf> {
    out.ancestors()
        .find(|dir| dir.join("CACHEDIR.TAG").exists())
        .map(Path::to_path_buf)
        .ok_or_else(|| io::Error::other("OUT_DIR lies in no target directory"))
}

fn variable(name: &str) -> io::Result<std::ffi::OsString> {
    env::var_os(name).ok_or_else(|| io::Error::other(format!("cargo sets {name}")))
}
