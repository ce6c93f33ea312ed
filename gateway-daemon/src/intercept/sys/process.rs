//! What another process has open, and its end: by a descriptor of the process, so that its number may be given to
//! another meanwhile (`pidfd_open(2)`, Linux 5.3; `pidfd_getfd(2)`, 5.6).

use std::{
    io,
    os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd},
    thread,
};

use super::socklen;

/// A process by its number, or one thread of it, which the kernel gives since Linux 6.9.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::intercept) enum Which {
    Process,
    Thread,
}

/// A descriptor of a process.
pub(in crate::intercept) fn open(pid: u32, which: Which) -> io::Result<OwnedFd> {
    /// `PIDFD_THREAD`
    const ONE_THREAD: libc::c_int = libc::O_EXCL;
    let flags = if which == Which::Thread { ONE_THREAD } else { 0 };
    // SAFETY: takes no pointers.
    owned(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, flags) })
}

/// Another descriptor for what a process has open under that number.
pub(in crate::intercept) fn duplicate(process: impl AsFd, number: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: takes no pointers.
    owned(unsafe { libc::syscall(libc::SYS_pidfd_getfd, process.as_fd().as_raw_fd(), number, 0) })
}

/// Whether two threads have the same table of descriptors; not where nobody can tell.
pub(in crate::intercept) fn share_descriptors(one: u32, other: u32) -> bool {
    /// `KCMP_FILES`
    const FILES: libc::c_int = 2;
    // SAFETY: takes no pointers.
    unsafe { libc::syscall(libc::SYS_kcmp, one, other, FILES, 0, 0) == 0 }
}

/// Ends a process. Without `CAP_KILL` a process is ended by its own user alone: then a thread of its own becomes that
/// user for this one call, and ends with it.
pub(in crate::intercept) fn kill(process: &OwnedFd, user: u32) -> io::Result<()> {
    let signal = |process: RawFd| {
        // SAFETY: the pointer is null, which the call allows.
        let answer = unsafe {
            libc::syscall(
                libc::SYS_pidfd_send_signal,
                process,
                libc::SIGKILL,
                std::ptr::null::<libc::siginfo_t>(),
                0,
            )
        };
        if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    };
    let number = process.as_raw_fd();
    match signal(number) {
        Err(error) if error.raw_os_error() == Some(libc::EPERM) => {}
        done => return done,
    }
    let as_user = move || {
        const SAME: libc::c_long = -1;
        // SAFETY: takes no pointers. The system call itself, unlike the library's function, is about this thread alone.
        let changed = unsafe { libc::syscall(libc::SYS_setresuid, SAME, libc::c_long::from(user), SAME) };
        if changed != 0 {
            return Err(io::Error::last_os_error());
        }
        signal(number)
    };
    thread::Builder::new()
        .name("end".to_owned())
        .spawn(as_user)?
        .join()
        .unwrap_or_else(|_| Err(io::Error::other("the thread that was to end a process is gone")))
}

/// An option of a socket that is one number.
pub(in crate::intercept) fn option(socket: impl AsFd, option: libc::c_int) -> io::Result<i32> {
    let mut value = 0_i32;
    let mut length = socklen(size_of::<i32>())?;
    // SAFETY: both pointers are to live locals, and `length` is the size of the first.
    let answer = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            option,
            (&raw mut value).cast(),
            &raw mut length,
        )
    };
    if answer == 0 { Ok(value) } else { Err(io::Error::last_os_error()) }
}

fn owned(answer: libc::c_long) -> io::Result<OwnedFd> {
    let fd = RawFd::try_from(answer).ok().filter(|fd| *fd >= 0).ok_or_else(io::Error::last_os_error)?;
    // SAFETY: the kernel has just made this descriptor for us; nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
