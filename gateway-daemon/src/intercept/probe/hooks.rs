//! The hooks and helpers, each tried by a program of a few instructions.

use std::{
    fs::{self, File},
    io,
    os::fd::AsFd,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
};

use aya::{maps::MapType, sys::is_map_supported};

use super::{Check, node};
use crate::intercept::sys::load::{Instruction, attach, program};

/// `BPF_PROG_TYPE_CGROUP_SOCK`.
const CGROUP_SOCK: u32 = 9;
/// `BPF_PROG_TYPE_SOCK_OPS`.
const SOCK_OPS: u32 = 13;
/// `BPF_PROG_TYPE_CGROUP_SOCK_ADDR`.
const CGROUP_SOCK_ADDR: u32 = 18;
/// `BPF_CGROUP_INET4_CONNECT`.
const INET4_CONNECT: u32 = 10;

/// A program that lets everything pass.
const PASS: &[Instruction] = &[Instruction::set(0, 1), Instruction::EXIT];

/// Where programs are attached.
struct Hook {
    name: &'static str,
    program: u32,
    attach: u32,
    cost: &'static str,
}

const fn hook(name: &'static str, program: u32, attach: u32, cost: &'static str) -> Hook {
    Hook { name, program, attach, cost }
}

/// What nodegate attaches to every captured cgroup.
const HOOKS: &[Hook] = &[
    hook("connect4", CGROUP_SOCK_ADDR, INET4_CONNECT, "IPv4 connections are not captured"),
    hook("connect6", CGROUP_SOCK_ADDR, 11, "IPv6 connections are not captured"),
    hook("sendmsg4", CGROUP_SOCK_ADDR, 14, "IPv4 datagrams leave unseen"),
    hook("sendmsg6", CGROUP_SOCK_ADDR, 15, "IPv6 datagrams leave unseen"),
    hook(
        "recvmsg4",
        CGROUP_SOCK_ADDR,
        19,
        "answers to redirected IPv4 datagrams come from a strange address",
    ),
    hook(
        "recvmsg6",
        CGROUP_SOCK_ADDR,
        20,
        "answers to redirected IPv6 datagrams come from a strange address",
    ),
    hook("getpeername4", CGROUP_SOCK_ADDR, 29, "IPv4 clients see the daemon's address as their peer"),
    hook("getpeername6", CGROUP_SOCK_ADDR, 30, "IPv6 clients see the daemon's address as their peer"),
    hook("sock-create", CGROUP_SOCK, 2, "raw, ping, SCTP and MPTCP sockets are made unseen"),
    hook("sock-ops", SOCK_OPS, 3, "connections cannot be attributed"),
];

/// Helpers that the programs call, tried in a `connect4` program. Those of `ctx` get it in `r1`.
const HELPERS: &[(&str, i32, Option<i32>, &str)] = &[
    ("netns-cookie", 122, None, "namespaces cannot be told apart"),
    ("socket-cookie", 46, None, "sockets cannot be told apart"),
    ("ancestor-cgroup", 123, Some(1), "cgroups below a captured one are not recognised"),
    ("set-retval", 187, Some(0), "a refusal cannot bear its own error number"),
    ("boot-time", 125, None, "a dead daemon cannot be told from a living one"),
];

/// Every hook, helper and kind of map.
pub(super) fn checks() -> Vec<Check> {
    let cgroup = ProbeCgroup::new();
    let mut checks: Vec<Check> = HOOKS
        .iter()
        .map(|hook| {
            let found = try_hook(hook.program, hook.attach, cgroup.as_ref());
            Check::required(hook.name, hook.cost, found)
        })
        .collect();
    checks.extend(
        HELPERS.iter().map(|(name, helper, argument, cost)| {
            Check::required(name, cost, try_helper(*helper, *argument))
        }),
    );
    checks.push(map("ring-buffer", MapType::RingBuf, "refusals are not reported"));
    checks.push(map("sk-storage", MapType::SkStorage, "nothing can be remembered of a socket"));
    checks.push(map("lpm-trie", MapType::LpmTrie, "no flow can go direct in the kernel"));
    checks
}

fn try_hook(kind: u32, attach_type: u32, cgroup: Result<&ProbeCgroup, &io::Error>) -> Result<String, String> {
    // Programs of these two types have had one place to go from the start, and name none when they are loaded.
    let expected = if kind == SOCK_OPS { 0 } else { attach_type };
    let loaded = program(kind, expected, PASS).map_err(|error| format!("does not load: {error}"))?;
    let cgroup = cgroup.map_err(|error| format!("loads; no cgroup to attach it to: {error}"))?;
    attach(loaded.as_fd(), &cgroup.directory, attach_type)
        .map(|_| "loads and attaches".to_owned())
        .map_err(|error| format!("loads, but does not attach: {error}"))
}

fn try_helper(helper: i32, argument: Option<i32>) -> Result<String, String> {
    let mut instructions: Vec<Instruction> =
        argument.map(|value| Instruction::set(1, value)).into_iter().collect();
    instructions.push(Instruction::call(helper));
    instructions.extend_from_slice(PASS);
    program(CGROUP_SOCK_ADDR, INET4_CONNECT, &instructions)
        .map(|_| format!("helper {helper} can be called"))
        .map_err(|error| format!("helper {helper} cannot be called: {error}"))
}

fn map(name: &'static str, kind: MapType, cost: &'static str) -> Check {
    let found = match is_map_supported(kind) {
        Ok(true) => Ok("can be made".to_owned()),
        Ok(false) => Err("this kernel has none".to_owned()),
        Err(error) => Err(format!("cannot be tried: {error}")),
    };
    Check::required(name, cost, found)
}

/// A cgroup of the probe's own, gone when dropped.
struct ProbeCgroup {
    path: PathBuf,
    directory: File,
}

impl ProbeCgroup {
    fn new() -> io::Result<Self> {
        let mount = node::cgroup2_mount().ok_or_else(|| io::Error::other("no cgroup2 is mounted"))?;
        // Two probes of one process may run at once, in tests.
        let path = unused_name(&mount);
        fs::create_dir(&path)?;
        match File::open(&path) {
            Ok(directory) => Ok(Self { path, directory }),
            Err(error) => {
                let _ = fs::remove_dir(&path);
                Err(error)
            }
        }
    }
}

impl Drop for ProbeCgroup {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir(&self.path) {
            tracing::warn!(cgroup = %self.path.display(), %error, "the cgroup of the probe is left");
        }
    }
}

fn unused_name(mount: &Path) -> PathBuf {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    mount.join(format!("nodegate-doctor-{}-{number}", std::process::id()))
}
