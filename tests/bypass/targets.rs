//! The targets of one network namespace: a process that prints what arrives, and what has arrived so far.

use std::{
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Duration,
};

use nix::sys::signal::Signal;
use nodegate_tests::{netns::Netns, programs};

/// A running target process.
#[derive(Debug)]
pub struct Targets {
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Targets {
    /// Starts the targets of a namespace (`None` is the host's), and waits until they listen.
    pub fn start(ways: &Path, netns: Option<&Netns>, port: u16, words: &[&str]) -> Self {
        let mut command = netns.map_or_else(|| Command::new(ways), |netns| netns.command(ways));
        command.arg("serve").arg(port.to_string()).args(words);
        Self::run(command)
    }

    /// Runs such a command.
    pub fn run(mut command: Command) -> Self {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("targets");
        let output = BufReader::new(child.stdout.take().expect("their output"));
        let lines = Arc::new(Mutex::new(Vec::new()));
        let filled = Arc::clone(&lines);
        thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                filled.lock().unwrap_or_else(PoisonError::into_inner).push(line);
            }
        });
        let targets = Self { child, lines };
        programs::wait_for("the targets to listen", Duration::from_secs(10), || {
            targets.since(0).iter().any(|line| line == "ready").then_some(())
        });
        targets
    }

    /// How many lines there are.
    pub fn count(&self) -> usize {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// The lines from a count on.
    pub fn since(&self, count: usize) -> Vec<String> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)[count..].to_vec()
    }
}

impl Drop for Targets {
    fn drop(&mut self) {
        programs::end(&mut self.child, Signal::SIGKILL);
    }
}
