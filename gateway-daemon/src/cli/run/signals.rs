//! Signals as a queue: blocked in the wrapper, read from a signalfd one after the other, with who sent them.

use std::{os::fd::AsFd as _, process::ExitCode, time::Duration};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        resource::{Resource, setrlimit},
        signal::{self, SigHandler, SigSet, SigmaskHow, Signal},
        signalfd::{SfdFlags, SignalFd},
    },
    unistd::Pid,
};
use tokio::time;

use super::ENDING;

/// What a process would send to the command. SIGKILL and SIGSTOP cannot be passed on: they hit the wrapper alone.
const PASSED_ON: [Signal; 9] = [
    Signal::SIGTERM,
    Signal::SIGINT,
    Signal::SIGHUP,
    Signal::SIGQUIT,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGWINCH,
    Signal::SIGCONT,
    Signal::SIGTSTP,
];

/// How long the daemon's answer may take after the child has ended.
const ANSWER_PATIENCE: Duration = Duration::from_secs(2);

const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// The blocked signals of this process, to be read one by one.
pub(super) struct Signals {
    queue: SignalFd,
    inherited: SigSet,
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pending {
    /// A child ended, stopped or went on.
    ChildChanged,
    /// A process sent a signal to this one.
    Sent {
        /// Which.
        signal: Signal,
        /// Who.
        by: Pid,
    },
    /// Nothing to act on: the terminal signalled its whole foreground group, and the command is in it.
    Nothing,
}

impl Signals {
    /// Blocks what is to be queued, from now on.
    pub(super) fn block() -> Result<Self, Errno> {
        // Ignored, as a caller may have left it, it would take the command's exit status away.
        default_disposition(Signal::SIGCHLD);
        let mut set: SigSet = PASSED_ON.into_iter().collect();
        set.add(Signal::SIGCHLD);
        let mut inherited = SigSet::empty();
        signal::sigprocmask(SigmaskHow::SIG_BLOCK, Some(&set), Some(&mut inherited))?;
        let queue = SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
        Ok(Self { queue, inherited })
    }

    /// In the child, before `exec`: signals as this process was given them. What came in between is delivered here.
    pub(super) fn restore(&self) {
        default_disposition(Signal::SIGPIPE);
        let _ = signal::sigprocmask(SigmaskHow::SIG_SETMASK, Some(&self.inherited), None);
    }

    /// The next one; waits for it.
    pub(super) fn next(&self) -> Result<Pending, Errno> {
        loop {
            if let Some(pending) = self.read()? {
                return Ok(pending);
            }
            let mut ready = [PollFd::new(self.queue.as_fd(), PollFlags::POLLIN)];
            match poll(&mut ready, PollTimeout::NONE) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Ready when this process is asked to end (the signal), or a child has ended or the queue is broken (`None`).
    /// Looks at intervals that nobody notices: the wait that this interrupts is a few milliseconds as a rule.
    pub(super) async fn interrupted(&self) -> Option<Signal> {
        loop {
            match self.read_any() {
                Ok(Some((signal, _))) if ENDING.contains(&signal) => return Some(signal),
                // The daemon has killed the child, and its answer, which says why, is about to come.
                Ok(Some((Signal::SIGCHLD, _))) => {
                    time::sleep(ANSWER_PATIENCE).await;
                    return None;
                }
                Err(_) => return None,
                Ok(Some(_)) => {}
                Ok(None) => time::sleep(LOOK_AGAIN).await,
            }
        }
    }

    fn read(&self) -> Result<Option<Pending>, Errno> {
        Ok(self.read_any()?.map(|(signal, by)| match (signal, by) {
            (Signal::SIGCHLD, _) => Pending::ChildChanged,
            (signal, Some(by)) => Pending::Sent { signal, by },
            (_, None) => Pending::Nothing,
        }))
    }

    /// The next signal and the process that sent it; the kernel's own have none.
    fn read_any(&self) -> Result<Option<(Signal, Option<Pid>)>, Errno> {
        let Some(info) = self.queue.read_signal()? else { return Ok(None) };
        let signal = i32::try_from(info.ssi_signo).map_err(|_| Errno::EINVAL).and_then(Signal::try_from)?;
        let by = i32::try_from(info.ssi_pid).ok().filter(|pid| *pid > 0).map(Pid::from_raw);
        // A sender in a pid namespace that is not visible here has the number 0, but its code says that it is one.
        let by = by.or_else(|| (info.ssi_code <= 0).then(|| Pid::from_raw(0)));
        Ok(Some((signal, by)))
    }
}

/// Ends this process as `signal` ended the command, so that the caller sees the same. Without a second core dump.
pub(super) fn die_by(signal: Signal) -> ExitCode {
    let _ = setrlimit(Resource::RLIMIT_CORE, 0, 0);
    default_disposition(signal);
    let set: SigSet = [signal].into_iter().collect();
    let _ = signal::sigprocmask(SigmaskHow::SIG_UNBLOCK, Some(&set), None);
    let _ = signal::raise(signal);
    // Ignored by inheritance, perhaps: the shell's way of saying it is left.
    ExitCode::from(u8::try_from(128 + signal as i32).unwrap_or(1))
}

/// The runtime ignores SIGPIPE and handles SIGSEGV and SIGBUS in this process; nobody else expects that.
fn default_disposition(signal: Signal) {
    #[expect(unsafe_code, reason = "signal has no safe form")]
    // SAFETY: the default disposition runs no handler, and what is replaced only reports overflowing stacks.
    let _ = unsafe { signal::signal(signal, SigHandler::SigDfl) };
}
