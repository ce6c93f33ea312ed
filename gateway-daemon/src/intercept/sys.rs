//! The system calls that no safe wrapper among our dependencies offers. Nothing else in this room is `unsafe`.
#![expect(unsafe_code, reason = "raw system calls, each with its reason")]

pub(super) mod load;
pub(super) mod process;

use std::{
    ffi::{CString, OsStr},
    io,
    os::{
        fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd},
        unix::{ffi::OsStrExt, fs::MetadataExt},
    },
    path::Path,
};

use gateway_common::flow::{FlowKey, FlowRecord};
use nix::sched::{CloneFlags, setns};
use tokio::io::{Interest, unix::AsyncFd};

/// Commands of bpf(2) that aya does not offer.
const BPF_OBJ_PIN: libc::c_long = 6;
const BPF_OBJ_GET: libc::c_long = 7;
const BPF_MAP_LOOKUP_AND_DELETE_ELEM: libc::c_long = 21;
const BPF_OBJ_GET_INFO_BY_FD: libc::c_long = 15;
const BPF_LINK_UPDATE: libc::c_long = 29;
const BPF_LINK_DETACH: libc::c_long = 34;

/// `SO_NETNS_COOKIE`, since Linux 5.14.
const SO_NETNS_COOKIE: libc::c_int = 71;

/// The part of `union bpf_attr` for BPF_OBJ_GET.
#[repr(C)]
struct ObjectAttr {
    path: u64,
    fd: u32,
    file_flags: u32,
}

/// The part of `union bpf_attr` for BPF_LINK_UPDATE.
#[repr(C)]
struct LinkUpdateAttr {
    link: u32,
    program: u32,
    flags: u32,
    old_program: u32,
}

/// The part of `union bpf_attr` for BPF_OBJ_GET_INFO_BY_FD.
#[repr(C)]
struct InfoAttr {
    fd: u32,
    length: u32,
    info: u64,
}

/// The beginning of `struct bpf_link_info` of a cgroup link.
#[repr(C)]
#[derive(Default)]
struct CgroupLinkInfo {
    kind: u32,
    id: u32,
    program: u32,
    padding: u32,
    cgroup: u64,
}

/// The part of `union bpf_attr` for BPF_LINK_DETACH.
#[repr(C)]
struct LinkDetachAttr {
    link: u32,
}

/// The part of `union bpf_attr` for the commands on map elements.
#[repr(C)]
struct ElementAttr {
    map: u32,
    padding: u32,
    key: u64,
    value: u64,
    flags: u64,
}

fn bpf<T>(command: libc::c_long, attr: &mut T) -> io::Result<libc::c_long> {
    // SAFETY: `attr` is a live, exclusively borrowed prefix of `union bpf_attr` of the size that is given; the
    // pointers in it belong to values that the callers keep alive during the call.
    let answer = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attr), size_of::<T>()) };
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(answer) }
}

/// Opens a pinned BPF object.
pub(super) fn open_pinned(path: &Path) -> io::Result<OwnedFd> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let fd = bpf(BPF_OBJ_GET, &mut ObjectAttr { path: path.as_ptr() as u64, fd: 0, file_flags: 0 })?;
    let fd = RawFd::try_from(fd).map_err(|_| io::Error::other("bpf(2) answered with no descriptor"))?;
    // SAFETY: the kernel has just made this descriptor for us; nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Pins a BPF object.
pub(super) fn pin(object: impl AsFd, path: &Path) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut attr = ObjectAttr { path: path.as_ptr() as u64, fd: number(&object)?, file_flags: 0 };
    bpf(BPF_OBJ_PIN, &mut attr).map(drop)
}

/// Lets a link run another program from now on, without a moment of neither.
pub(super) fn update_link(link: impl AsFd, program: impl AsFd) -> io::Result<()> {
    let mut attr =
        LinkUpdateAttr { link: number(&link)?, program: number(&program)?, flags: 0, old_program: 0 };
    bpf(BPF_LINK_UPDATE, &mut attr).map(drop)
}

/// Takes a link's program off its cgroup at once. Removing the pin would do it too, but some time later.
pub(super) fn detach_link(link: impl AsFd) -> io::Result<()> {
    bpf(BPF_LINK_DETACH, &mut LinkDetachAttr { link: number(&link)? }).map(drop)
}

/// Whether the kernel still runs a cgroup link's program. It does until the cgroup's last socket is gone, even
/// when its directory is not there any more.
pub(super) fn is_attached(link: impl AsFd) -> io::Result<bool> {
    let mut info = CgroupLinkInfo::default();
    let length = u32::try_from(size_of::<CgroupLinkInfo>()).map_err(io::Error::other)?;
    let mut attr = InfoAttr { fd: number(&link)?, length, info: &raw mut info as u64 };
    bpf(BPF_OBJ_GET_INFO_BY_FD, &mut attr)?;
    Ok(info.cgroup != 0)
}

/// Takes a record out of the flow map, in one step.
pub(super) fn take_flow(map: impl AsFd, key: &FlowKey) -> io::Result<Option<FlowRecord>> {
    let mut record = FlowRecord::default();
    let mut attr = ElementAttr {
        map: number(&map)?,
        padding: 0,
        key: std::ptr::from_ref(key) as u64,
        value: &raw mut record as u64,
        flags: 0,
    };
    match bpf(BPF_MAP_LOOKUP_AND_DELETE_ELEM, &mut attr) {
        Ok(_) => Ok(Some(record)),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

fn number(fd: &impl AsFd) -> io::Result<u32> {
    u32::try_from(fd.as_fd().as_raw_fd()).map_err(|_| io::Error::from_raw_os_error(libc::EBADF))
}

/// The cookie of the network namespace that a socket belongs to.
pub(super) fn netns_cookie(socket: impl AsFd) -> io::Result<u64> {
    let mut cookie = 0_u64;
    let mut length = socklen(size_of::<u64>())?;
    // SAFETY: both pointers are to live locals, and `length` is the size of the first.
    let answer = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            SO_NETNS_COOKIE,
            (&raw mut cookie).cast(),
            &raw mut length,
        )
    };
    if answer == 0 { Ok(cookie) } else { Err(io::Error::last_os_error()) }
}

/// Whether a TCP connection is over, so that its client's end may belong to somebody else.
pub(super) fn is_closed(socket: impl AsFd) -> io::Result<bool> {
    /// `TCP_CLOSE`.
    const CLOSED: u8 = 7;
    tcp_state(socket).map(|state| state == CLOSED)
}

/// The state of a TCP socket, as the kernel numbers them.
pub(super) fn tcp_state(socket: impl AsFd) -> io::Result<u8> {
    // `struct tcp_info` begins with the state; the kernel copies as much as is asked for.
    let mut state = 0_u8;
    let mut length = socklen(size_of::<u8>())?;
    // SAFETY: both pointers are to live locals, and `length` is the size of the first.
    let answer = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            (&raw mut state).cast(),
            &raw mut length,
        )
    };
    if answer == 0 { Ok(state) } else { Err(io::Error::last_os_error()) }
}

fn socklen(size: usize) -> io::Result<libc::socklen_t> {
    libc::socklen_t::try_from(size).map_err(io::Error::other)
}

/// Waits for something to become readable. It holds a descriptor of its own, for the same file.
pub(super) fn bell(of: impl AsFd) -> io::Result<AsyncFd<OwnedFd>> {
    let fd = of.as_fd().try_clone_to_owned()?;
    // SAFETY: an `OwnedFd` answers with the same open descriptor for as long as it lives.
    unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }.map_err(io::Error::from)
}

/// Nanoseconds since boot (CLOCK_BOOTTIME), as the kernel programs count them.
pub(super) fn boot_ns() -> io::Result<u64> {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a live local.
    if unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &raw mut now) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let seconds = u64::try_from(now.tv_sec).map_err(io::Error::other)?;
    let nanoseconds = u64::try_from(now.tv_nsec).map_err(io::Error::other)?;
    Ok(seconds.saturating_mul(1_000_000_000).saturating_add(nanoseconds))
}

/// The network namespace that a socket belongs to, as an open file.
pub(super) fn namespace_of(socket: impl AsFd) -> io::Result<std::fs::File> {
    /// `SIOCGSKNS`; see linux/sockios.h.
    const GET_NAMESPACE: libc::c_ulong = 0x894c;
    // SAFETY: this request takes no argument and answers with a descriptor.
    let fd = unsafe { libc::ioctl(socket.as_fd().as_raw_fd(), GET_NAMESPACE) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this descriptor for us; nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) }.into())
}

/// The user namespace that rules over another namespace, as an open file.
pub(super) fn ruling_user_namespace(namespace: impl AsFd) -> io::Result<std::fs::File> {
    /// `NS_GET_USERNS`, `_IO(0xb7, 0x1)`; see ioctl_ns(2).
    const GET_USER_NAMESPACE: libc::c_ulong = 0xb701;
    // SAFETY: this request takes no argument and answers with a descriptor.
    let fd = unsafe { libc::ioctl(namespace.as_fd().as_raw_fd(), GET_USER_NAMESPACE) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this descriptor for us; nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) }.into())
}

/// Whether BPF is among the active security modules; an error where the kernel cannot be asked (before Linux 6.8).
pub(super) fn bpf_is_security_module() -> io::Result<bool> {
    /// `lsm_list_modules(2)`, the same number on every architecture.
    const LIST_MODULES: libc::c_long = 461;
    /// `LSM_ID_BPF`.
    const BPF: u64 = 110;
    let mut modules = [0_u64; 64];
    let mut bytes = u32::try_from(size_of_val(&modules)).map_err(io::Error::other)?;
    // SAFETY: both pointers are to live locals, and `bytes` is the size of the first.
    let count = unsafe { libc::syscall(LIST_MODULES, modules.as_mut_ptr(), &raw mut bytes, 0_u32) };
    let count = usize::try_from(count).map_err(|_| io::Error::last_os_error())?;
    Ok(modules.iter().take(count).any(|module| *module == BPF))
}

/// Sees cgroups as the whole node does, or as its first process does where nothing more is to be seen. A container has a
/// cgroup namespace of its own, from which the cgroups of others look as if they lay above its root. For the thread that
/// calls it and those that it starts from then on.
pub(super) fn join_first_cgroup_namespace() -> io::Result<()> {
    /// `PROC_CGROUP_INIT_INO`: the inode of the namespace that the kernel starts with.
    const FIRST: u64 = 0xefff_fffb;
    let inode = |path: &str| std::fs::metadata(path).map(|metadata| metadata.ino());
    let own = inode("/proc/thread-self/ns/cgroup")?;
    if own == FIRST {
        return Ok(());
    }
    // Process 1 may be one that nobody may look at; process 2 is the kernel's own.
    let processes = ["/proc/1/ns/cgroup", "/proc/2/ns/cgroup"];
    let first = processes.into_iter().find(|path| inode(path).is_ok_and(|found| found == FIRST));
    // A node that is a container itself: its first process sees all that lies within.
    let outer = || processes.into_iter().find(|path| inode(path).is_ok_and(|found| found != own));
    let chosen = first.or_else(outer).ok_or_else(|| {
        io::Error::new(io::ErrorKind::NotFound, "no process of the node's own is to be seen")
    })?;
    setns(std::fs::File::open(chosen)?, CloneFlags::CLONE_NEWCGROUP).map_err(io::Error::from)
}

/// Reads an extended attribute; `None` where it is not set or the file system has none.
pub(super) fn attribute(path: &Path, name: &OsStr) -> io::Result<Option<Vec<u8>>> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let name = CString::new(name.as_bytes())?;
    let mut value = vec![0_u8; 4096];
    // SAFETY: both strings end with NUL and live through the call; the buffer is as long as stated.
    let length =
        unsafe { libc::getxattr(path.as_ptr(), name.as_ptr(), value.as_mut_ptr().cast(), value.len()) };
    match usize::try_from(length) {
        Ok(length) => {
            value.truncate(length);
            Ok(Some(value))
        }
        Err(_) => match io::Error::last_os_error() {
            error if matches!(error.raw_os_error(), Some(libc::ENODATA | libc::EOPNOTSUPP)) => Ok(None),
            error => Err(error),
        },
    }
}

/// Sets an extended attribute.
pub(super) fn set_attribute(path: &Path, name: &OsStr, value: &[u8]) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let name = CString::new(name.as_bytes())?;
    // SAFETY: both strings end with NUL and live through the call; the value is as long as stated.
    let answer =
        unsafe { libc::setxattr(path.as_ptr(), name.as_ptr(), value.as_ptr().cast(), value.len(), 0) };
    if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Removes an extended attribute; one that is not set is removed already.
pub(super) fn remove_attribute(path: &Path, name: &OsStr) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let name = CString::new(name.as_bytes())?;
    // SAFETY: both strings end with NUL and live through the call.
    if unsafe { libc::removexattr(path.as_ptr(), name.as_ptr()) } == 0 {
        return Ok(());
    }
    match io::Error::last_os_error() {
        error if matches!(error.raw_os_error(), Some(libc::ENODATA | libc::EOPNOTSUPP)) => Ok(()),
        error => Err(error),
    }
}
