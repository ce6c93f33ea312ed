//! The command's process: forked, held at a pipe, released to `exec`, waited for.

use std::{
    ffi::{CString, OsString},
    fs::File,
    io::{Read as _, Write as _},
    os::{fd::OwnedFd, unix::ffi::OsStringExt as _},
    path::Path,
};

use nix::{
    errno::Errno,
    fcntl::OFlag,
    sys::{
        signal::{self, Signal},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::{ForkResult, Pid, execvp, execvpe, fork, pipe2},
};

use super::{NOT_STARTED, NotStarted, signals::Signals, trust};

/// Not found, as shells say it.
const NOT_FOUND: u8 = 127;

/// What the child waits for: the authority's certificate between these. Without the end, the wrapper has died over it.
const GO: &[u8] = b"!";
const END: &[u8] = b"\0";

/// A child that has not been let go: it is killed when this is dropped.
pub(super) struct Child {
    running: Option<Running>,
    gate: File,
}

/// The command.
#[derive(Debug, Clone, Copy)]
pub(super) struct Running {
    pid: Pid,
}

/// How the command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    Exited(u8),
    Killed(Signal),
}

impl Child {
    /// Forks. The child does nothing before [`release`](Self::release).
    pub(super) fn fork(
        command: &[OsString],
        signals: &Signals,
        scratch: Option<&Path>,
    ) -> Result<Self, NotStarted> {
        let arguments: Vec<CString> = command
            .iter()
            .map(|argument| CString::new(argument.clone().into_vec()).map_err(|_| NotStarted::Argument))
            .collect::<Result<_, _>>()?;
        let (opened, gate) =
            pipe2(OFlag::O_CLOEXEC).map_err(|error| NotStarted::System("make a pipe", error))?;
        if std::fs::read_dir("/proc/self/task").map_or(0, Iterator::count) != 1 {
            return Err(NotStarted::Threads);
        }
        #[expect(unsafe_code, reason = "fork has no safe form")]
        // SAFETY: this process has a single thread, as was just counted: no lock can be held by another thread
        // that the child lacks, so the child may do whatever this process may do.
        match unsafe { fork() }.map_err(|error| NotStarted::System("fork", error))? {
            ForkResult::Parent { child } => {
                Ok(Self { running: Some(Running { pid: child }), gate: File::from(gate) })
            }
            ForkResult::Child => {
                drop(gate);
                wait_then_exec(opened, &arguments, signals, scratch)
            }
        }
    }

    pub(super) fn pid(&self) -> u32 {
        self.running.map_or(0, |running| running.pid.as_raw().unsigned_abs())
    }

    /// Lets the child become the command, which is to trust `authority` (PEM).
    pub(super) fn release(mut self, authority: &str) -> Result<Running, Errno> {
        let go = [GO, authority.as_bytes(), END].concat();
        self.gate.write_all(&go).map_err(|error| error.raw_os_error().map_or(Errno::EIO, Errno::from_raw))?;
        self.running.take().ok_or(Errno::ECHILD)
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if let Some(running) = self.running {
            // It may have ended already; it is this process's own child either way.
            let _ = signal::kill(running.pid, Signal::SIGKILL);
            let _ = waitpid(running.pid, None);
        }
    }
}

impl Running {
    /// How it ended, if it has. When it stopped at the terminal's wish, this process stops as well, so that a shell
    /// that controls the job sees it, and goes on when the shell lets it.
    pub(super) fn ending(self) -> Result<Option<Ending>, Errno> {
        loop {
            match waitpid(self.pid, Some(WaitPidFlag::WNOHANG | WaitPidFlag::WUNTRACED)) {
                Ok(WaitStatus::Stopped(_, Signal::SIGTSTP | Signal::SIGTTIN | Signal::SIGTTOU)) => {
                    signal::raise(Signal::SIGSTOP)?;
                }
                Ok(WaitStatus::StillAlive) => return Ok(None),
                Ok(status) => {
                    if let Some(ending) = ending(status) {
                        return Ok(Some(ending));
                    }
                }
                Err(Errno::EINTR) => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Waits without handling signals; the last resort.
    pub(super) fn wait(self) -> Ending {
        loop {
            match waitpid(self.pid, None) {
                Ok(status) => {
                    if let Some(ending) = ending(status) {
                        return ending;
                    }
                }
                Err(Errno::EINTR) => {}
                Err(_) => return Ending::Exited(1),
            }
        }
    }

    /// Passes on a signal that the process `by` sent to this one.
    pub(super) fn pass_on(self, signal: Signal, by: Pid) {
        // The command signals its process group: it has had its own already.
        if by != self.pid {
            // It may have ended in the meantime; that is noticed next.
            let _ = signal::kill(self.pid, signal);
        }
    }
}

fn ending(status: WaitStatus) -> Option<Ending> {
    match status {
        WaitStatus::Exited(_, status) => Some(Ending::Exited(u8::try_from(status & 0xff).unwrap_or(1))),
        WaitStatus::Signaled(_, signal, _) => Some(Ending::Killed(signal)),
        _ => None,
    }
}

/// In the child: nothing but waiting until the pipe says go, or closes because the wrapper is gone.
fn wait_then_exec(opened: OwnedFd, arguments: &[CString], signals: &Signals, scratch: Option<&Path>) -> ! {
    let mut go = Vec::new();
    if File::from(opened).read_to_end(&mut go).is_err() {
        exit(NOT_STARTED);
    }
    let Some(authority) = go.strip_prefix(GO).and_then(|go| go.strip_suffix(END)) else { exit(NOT_STARTED) };
    let environment = scratch.map(|scratch| trust::environment(&String::from_utf8_lossy(authority), scratch));
    signals.restore();
    let Some(program) = arguments.first() else { exit(NOT_STARTED) };
    let Err(error) = match &environment {
        Some(environment) => execvpe(program, arguments, environment),
        None => execvp(program, arguments),
    };
    let status = if error == Errno::ENOENT { NOT_FOUND } else { NOT_STARTED };
    eprintln!("nodegate run: {}: {}", program.to_string_lossy(), error.desc());
    exit(status)
}

fn exit(status: u8) -> ! {
    std::process::exit(i32::from(status))
}
