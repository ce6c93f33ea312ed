//! A process that connects where it is told to, and a target that counts who arrives.

use std::{
    collections::HashSet,
    io::{BufRead as _, BufReader, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use nix::sys::signal::Signal;

use super::programs;

/// Connects by a shell's own means, so that it needs nothing but a shell.
const SCRIPT: &str = "while read host port; do if (exec 3<>/dev/tcp/$host/$port) 2>/dev/null; then echo ok; else echo refused; fi; done";

/// A process that connects where it is told to. Its shell and the one that connects are both in its cgroup.
#[derive(Debug)]
pub struct Probe {
    child: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Probe {
    /// Starts one through `wrapper`, to which its own words are added, as root.
    pub fn root(wrapper: Command) -> Self {
        Self::start(wrapper, &[])
    }

    /// The same as an ordinary user without any rights.
    pub fn user(wrapper: Command) -> Self {
        Self::start(
            wrapper,
            &["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all"],
        )
    }

    fn start(mut wrapper: Command, before: &[&str]) -> Self {
        wrapper.args(before).args(["bash", "-c", SCRIPT]);
        let mut child =
            wrapper.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("the probe to start");
        let orders = child.stdin.take().expect("its input");
        let answers = BufReader::new(child.stdout.take().expect("its output"));
        let mut probe = Self { child, orders, answers };
        // Port 1 is nobody's: the answer only shows that it runs, in its cgroup.
        probe.reaches("127.0.0.1:1".parse().expect("an address"));
        probe
    }

    /// Whether a connection comes about; to whom is for the target to say.
    pub fn reaches(&mut self, target: SocketAddr) -> bool {
        writeln!(self.orders, "{} {}", target.ip(), target.port()).expect("the probe to listen");
        let mut line = String::new();
        self.answers.read_line(&mut line).expect("the probe to answer");
        match line.trim_end() {
            "ok" => true,
            "refused" => false,
            other => panic!("the probe answered {other:?}"),
        }
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        programs::end(&mut self.child, Signal::SIGKILL);
    }
}

/// Who has come so far.
#[derive(Debug, Default)]
struct Arrivals {
    count: usize,
    /// Of connections that are the test's own; a port may be used again.
    own: HashSet<SocketAddr>,
}

/// A target that counts the connections that reach it.
#[derive(Debug)]
pub struct Target {
    address: SocketAddr,
    arrived: Arc<Mutex<Arrivals>>,
    stop: Arc<AtomicBool>,
    server: Option<JoinHandle<()>>,
}

impl Target {
    /// Opens one on loopback.
    pub fn new() -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").expect("a port for the target"))
    }

    /// Serves a listener that may belong to another network namespace.
    pub fn on(listener: TcpListener) -> Self {
        let address = listener.local_addr().expect("its address");
        let (arrived, stop) = (Arc::new(Mutex::new(Arrivals::default())), Arc::new(AtomicBool::new(false)));
        listener.set_nonblocking(true).expect("a listener that can be polled");
        let (counted, stopped) = (Arc::clone(&arrived), Arc::clone(&stop));
        let server = thread::spawn(move || {
            while !stopped.load(Ordering::Acquire) {
                if let Ok((_, from)) = listener.accept() {
                    let mut counted = counted.lock().expect("no panic while it is held");
                    if !counted.own.remove(&from) {
                        counted.count += 1;
                    }
                } else {
                    thread::sleep(Duration::from_millis(2));
                }
            }
        });
        Self { address, arrived, stop, server: Some(server) }
    }

    /// Where it is.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many connections have arrived, once those of now are counted: a connection of the test's own goes last.
    pub fn reached(&self) -> usize {
        let arrived = || self.arrived.lock().expect("no panic while it is held");
        let from = {
            // Held, so that it is known as the test's own before it is accepted.
            let mut arrived = arrived();
            let last = TcpStream::connect(self.address).expect("the way is open outside of capture");
            let from = last.local_addr().expect("its address");
            arrived.own.insert(from);
            from
        };
        programs::wait_for("the target to count", Duration::from_secs(5), || {
            (!arrived().own.contains(&from)).then_some(())
        });
        arrived().count
    }
}

impl Default for Target {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(server) = self.server.take() {
            let _ = server.join();
        }
    }
}
