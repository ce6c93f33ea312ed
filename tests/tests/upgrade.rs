//! One daemon after another: sessions go on while a successor takes over, nothing is unprotected for a moment, and
//! what is installed can be removed whole.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::{
    collections::HashSet,
    env,
    io::{ErrorKind, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use nix::sys::signal::Signal;
use nodegate_tests::{
    agent::Agent,
    daemon::Settings,
    postgres::free_port,
    programs::{self, said, wait_for},
    stage::Stage,
    wire::Client,
};
use serde_json::Value;

fn drain_for(seconds: u32) -> impl FnOnce(&mut Settings) {
    move |settings| settings.more = format!("limits: {{ drain_timeout: {seconds}s }}\n")
}

#[test]
fn a_session_outlives_the_daemon_that_it_began_with() {
    let mut stage = Stage::with(drain_for(60));
    let mut agent = stage.agent();
    let mut before = stage.client(&mut agent);
    assert_eq!(before.query("BEGIN").status, 'T');
    let first = stage.daemon.pid();

    let mut old = stage.daemon.succeed();
    assert_ne!(stage.daemon.status()["pid"], first);
    // The session is the old daemon's still, within its transaction; the rules and the log are there as before.
    let seen = before.query("SELECT email FROM customers WHERE id = 1");
    assert_eq!(seen.status, 'T');
    assert!(!seen.texts()[0][0].contains("hopper"), "{seen:?}");
    assert_eq!(before.query("DROP TABLE customers").errors.len(), 1);
    let mut after = stage.client(&mut agent);
    assert_eq!(after.query("SELECT 1").texts(), [["1"]]);
    let masked = after.query("SELECT email FROM customers WHERE id = 1").texts();
    assert!(!masked[0][0].contains("hopper"), "{masked:?}");
    let records = stage.daemon.audit_search(&["--limit", "0"]);
    let dropped = records.iter().filter(|record| record.to_string().contains("DROP TABLE customers"));
    assert_eq!(dropped.count(), 1, "what the old one does is in the log of the new one");
    assert!(!old.has_ended());
    assert_eq!(before.query("ROLLBACK").status, 'I');
    drop(before);
    wait_for("the old daemon to end with its last session", Duration::from_secs(10), || {
        old.has_ended().then_some(())
    });
    stage.daemon.audit_command(&["verify"]).ok();

    // And once more, with nothing to wait for.
    let mut old = stage.daemon.succeed();
    assert_eq!(after.query("SELECT 1").texts(), [["1"]]);
    drop(after);
    wait_for("the old daemon to end", Duration::from_secs(10), || old.has_ended().then_some(()));
}

/// Has a successor fail that finds out only after it was handed everything.
fn fail_late(stage: &mut Stage) {
    let config = std::fs::read_to_string(stage.daemon.config()).unwrap();
    std::fs::write(stage.daemon.config(), config.replace("dir: policies", "dir: nonsense")).unwrap();
    std::fs::create_dir(stage.daemon.folder().join("nonsense")).unwrap();
    std::fs::write(stage.daemon.folder().join("nonsense").join("x.cedar"), "permit (nonsense").unwrap();
    stage.daemon.fail_to_succeed();
    std::fs::write(stage.daemon.config(), config).unwrap();
}

#[test]
fn a_successor_that_fails_leaves_everything_as_it_was() {
    let mut stage = Stage::with(drain_for(60));
    let mut agent = stage.agent();
    let mut before = stage.client(&mut agent);
    let pid = stage.daemon.pid();
    fail_late(&mut stage);

    wait_for("the admin API to be back", Duration::from_secs(10), || {
        let mut status = stage.daemon.nodegate(&["status", "--json"]);
        (said(&mut status, "", Duration::from_secs(10)).status == 0).then_some(())
    });
    assert_eq!(stage.daemon.status()["pid"], pid);
    assert_eq!(before.query("SELECT 1").texts(), [["1"]]);
    let mut after = stage.client(&mut agent);
    assert_eq!(after.query("SELECT 1").texts(), [["1"]]);
    stage.daemon.audit_command(&["verify"]).ok();
}

/// The status line of an answer on `admin.listen`, over a connection that may serve another question after it.
fn asked(stream: &mut TcpStream, path: &str) -> Option<String> {
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: node\r\n\r\n").ok()?;
    let mut answer = vec![0; 1 << 16];
    let count = stream.read(&mut answer).ok().filter(|count| *count > 0)?;
    String::from_utf8_lossy(&answer[..count]).lines().next().map(str::to_owned)
}

#[test]
fn whoever_watches_and_what_goes_direct_notice_nothing_of_a_successor() {
    let cache = TcpListener::bind("127.0.0.1:0").unwrap();
    let cache_address = cache.local_addr().unwrap();
    let watched = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let mut stage = Stage::with(|settings| {
        settings.listen = Some(watched);
        let port = cache_address.port();
        settings.more_targets.push(format!(
            "{{ name: cache, protocol: tcp, inspect: none, hosts: [\"127.0.0.1\"], ports: [{port}] }}"
        ));
    });
    let mut agent = stage.agent();
    let mut near = agent.connect(cache_address).unwrap();
    let (mut far, peer) = cache.accept().unwrap();
    assert_eq!(peer, near.local_addr().unwrap(), "it goes direct");
    let mut scraper = TcpStream::connect(watched).unwrap();
    assert_eq!(asked(&mut scraper, "/readyz").as_deref(), Some("HTTP/1.1 200 OK"));

    // From here on one connection after another, through everything that follows.
    let stop = Arc::new(AtomicBool::new(false));
    let over = Arc::clone(&stop);
    let connecting = thread::spawn(move || {
        let mut own = Vec::new();
        while !over.load(Ordering::Relaxed) {
            let near = agent.connect(cache_address).expect("what goes direct is never refused");
            own.push(near.local_addr().unwrap());
            thread::sleep(Duration::from_millis(5));
        }
        drop(TcpStream::connect(cache_address));
        (agent, own)
    });
    let over = Arc::clone(&stop);
    let accepting = thread::spawn(move || {
        let mut peers = HashSet::new();
        while let Ok((_, peer)) = cache.accept() {
            if over.load(Ordering::Relaxed) {
                break;
            }
            peers.insert(peer);
        }
        (cache, peers)
    });

    fail_late(&mut stage);
    let ready = |what: &str| {
        wait_for(what, Duration::from_secs(10), || {
            let answer = asked(&mut TcpStream::connect(watched).ok()?, "/readyz")?;
            (answer == "HTTP/1.1 200 OK").then_some(())
        });
    };
    ready("the old daemon to be watched again");
    let mut old = stage.daemon.succeed();
    wait_for("the old daemon to end", Duration::from_secs(10), || old.has_ended().then_some(()));
    ready("the new daemon to be watched");
    assert_eq!(asked(&mut scraper, "/readyz"), None, "what was asked of the old daemon ends with it");
    // For longer than any permission of the old daemon holds.
    thread::sleep(Duration::from_secs(8));
    stop.store(true, Ordering::Relaxed);
    let (mut agent, own) = connecting.join().unwrap();
    let (_cache, peers) = accepting.join().unwrap();
    let strangers = own.iter().filter(|address| !peers.contains(address)).count();
    // The last one may have been made while the end was told.
    assert!(strangers <= 1, "{strangers} of {} came from another socket than the agent's", own.len());

    near.write_all(b"still here").unwrap();
    let mut heard = [0; 10];
    far.read_exact(&mut heard).unwrap();
    assert_eq!(&heard, b"still here");
    let destination = cache_address.to_string();
    wait_for("every one to be recorded, once", Duration::from_secs(10), || {
        let records = stage.daemon.audit_search(&["--kind", "connect", "--limit", "0"]);
        let found = records.iter().filter(|record| record["event"]["destination"] == destination.as_str());
        let allowed = found.filter(|record| record["event"]["outcome"] == "allowed").count();
        (allowed == own.len() + 1).then_some(())
    });
    stage.daemon.audit_command(&["verify"]).ok();

    // The rules are the new daemon's: neither its own door is open to agents nor the cache without a policy.
    let own_door = agent.connect(watched).ok().and_then(|mut door| asked(&mut door, "/metrics"));
    assert_eq!(own_door, None);
    stage.daemon.set_policy("@id(\"nobody\") forbid (principal, action, resource);");
    wait_for("the policy to be in force", Duration::from_secs(10), || {
        let Ok(mut stream) = agent.connect(cache_address) else { return Some(()) };
        stream.set_read_timeout(Some(Duration::from_millis(500))).ok()?;
        let _ = stream.write_all(b"something");
        stream.read(&mut [0]).err().filter(|error| error.kind() == ErrorKind::ConnectionReset).map(drop)
    });
}

#[test]
fn a_daemon_that_is_told_to_stop_lets_sessions_end_and_refuses_new_ones() {
    let mut stage = Stage::with(drain_for(60));
    let mut agent = stage.agent();
    let mut open = stage.client(&mut agent);
    stage.daemon.signal(Signal::SIGTERM);
    wait_for("new connections to be refused", Duration::from_secs(5), || {
        agent.connect(stage.postgres.address()).is_err().then_some(())
    });
    assert_eq!(open.query("SELECT 1").texts(), [["1"]]);
    assert!(stage.daemon.is_alive());
    drop(open);
    wait_for("the daemon to end with its last session", Duration::from_secs(10), || {
        (!stage.daemon.is_alive()).then_some(())
    });
}

#[test]
fn an_agent_cannot_take_over() {
    let mut stage = Stage::new();
    let socket = format!("{}.handover", stage.daemon.socket().display());
    let mut run = stage.daemon.run(Some(&stage.issuer.token("agent-1")));
    run.args(["python3", "-c"]);
    run.arg(format!(
        "import socket\ns = socket.socket(socket.AF_UNIX)\ns.connect({socket:?})\ns.sendall(b'take over\\n')\nprint(s.recv(9))"
    ));
    let told = said(&mut run, "", Duration::from_secs(20));
    assert!(!told.out.contains("yours"), "{told:?}");
    assert!(stage.daemon.is_alive());
    let mut agent = stage.agent();
    stage.client(&mut agent);
}

#[test]
fn an_uninstall_says_what_it_removes_and_nothing_is_left() {
    let mut stage = Stage::new();
    let mut agent = stage.agent();
    stage.client(&mut agent);
    let uninstall = |stage: &Stage| {
        let mut command = Command::new(programs::nodegate());
        said(command.args(["uninstall", "--config"]).arg(stage.daemon.config()), "", Duration::from_secs(20))
    };
    let refused = uninstall(&stage);
    assert_eq!(refused.status, 1);
    assert!(refused.err.contains("another nodegate daemon"), "{refused:?}");
    stage.daemon.kill();
    agent.connect(stage.postgres.address()).expect_err("refused without a daemon");

    let told = uninstall(&stage);
    for what in [
        "nodegate_conn4 of cgroup",
        "nodegate_ncon4 of the whole node",
        "nodegate_moved of the look-out for moves",
        "map FLOWS",
    ] {
        assert!(told.ok().contains(what), "{told:?}");
    }
    assert!(!stage.daemon.pins().exists());
    let stream = agent.connect(stage.postgres.address()).expect("the way is open again");
    assert_eq!(stream.peer_addr().unwrap(), stage.postgres.address());
    assert!(uninstall(&stage).ok().contains("nothing is installed"));
}

/// A server that counts what comes and says it back.
struct Target {
    address: SocketAddr,
    bytes: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Target {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (bytes, stop) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let (counter, over) = (Arc::clone(&bytes), Arc::clone(&stop));
        let thread = thread::spawn(move || {
            while let Ok((mut stream, _)) = listener.accept() {
                if over.load(Ordering::Relaxed) {
                    return;
                }
                let counter = Arc::clone(&counter);
                // One at a time: a probe is a word and its echo.
                let mut word = [0; 64];
                let _ = stream.set_read_timeout(Some(Duration::from_secs(1)));
                if let Ok(count) = stream.read(&mut word) {
                    counter.fetch_add(count.max(1), Ordering::Relaxed);
                    let _ = stream.write_all(&word[..count]);
                }
            }
        });
        Self { address, bytes, stop, thread: Some(thread) }
    }

    fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = std::net::TcpStream::connect(self.address);
        drop(self.thread.take().map(JoinHandle::join));
    }
}

/// A process that connects again and again.
struct Prober(Child);

impl Prober {
    fn start(mut command: Command, target: SocketAddr, rate: u32, patience_ms: u32) -> Self {
        command.args(["probe", "probe", &target.to_string(), &rate.to_string(), &patience_ms.to_string()]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        Self(command.spawn().unwrap())
    }

    /// Stops it and returns what it counted.
    fn report(mut self) -> Value {
        drop(self.0.stdin.take());
        let mut out = String::new();
        self.0.stdout.take().unwrap().read_to_string(&mut out).unwrap();
        self.0.wait().unwrap();
        serde_json::from_str(out.trim()).unwrap_or_else(|_| panic!("no report: {out}"))
    }
}

impl Drop for Prober {
    fn drop(&mut self) {
        programs::end(&mut self.0, Signal::SIGKILL);
    }
}

/// `cargo xtask test --restarts N` sets how often; a few times are enough to see that it works at all.
const ROUNDS: &str = "NODEGATE_PROBER_ROUNDS";

#[test]
fn a_prober_gets_nothing_through_restarts_kills_stops_and_upgrades() {
    let rounds: usize = env::var(ROUNDS).map_or(8, |rounds| rounds.parse().expect("a number"));
    let mut stage = Stage::with(drain_for(1));
    let (forbidden, open) = (Target::start(), Target::start());
    // The control: outside, the very same prober gets through.
    let control = Prober::start(Command::new(programs::agent()), forbidden.address, 100, 2000);
    wait_for("the control to get through", Duration::from_secs(10), || (forbidden.bytes() > 0).then_some(()));
    assert!(control.report()["echoed"].as_u64() > Some(0));
    thread::sleep(Duration::from_millis(200));
    let before = forbidden.bytes();

    let mut run = stage.daemon.run(Some(&stage.issuer.token("agent-1")));
    run.arg(programs::agent());
    let captured = Prober::start(run, forbidden.address, 1100, 20);
    let free = Prober::start(Command::new(programs::agent()), open.address, 200, 10_000);
    wait_for("both probers to be at it", Duration::from_secs(20), || {
        (stage.daemon.counter("flows_total") > 0 && open.bytes() > 0).then_some(())
    });
    for round in 0..rounds {
        match round % 4 {
            0 => {
                stage.daemon.kill();
                thread::sleep(Duration::from_millis(50));
                stage.daemon.restart();
            }
            1 => drop(stage.daemon.succeed()),
            2 => {
                stage.daemon.terminate();
                stage.daemon.restart();
            }
            _ => {
                stage.daemon.signal(Signal::SIGSTOP);
                // Now and then for longer than the kernel side takes it for alive.
                thread::sleep(Duration::from_secs(if round % 40 == 3 { 6 } else { 1 }));
                stage.daemon.signal(Signal::SIGCONT);
            }
        }
        thread::sleep(Duration::from_millis(100));
    }
    let (captured, free) = (captured.report(), free.report());
    let attempts =
        ["echoed", "connected", "refused", "failed"].iter().filter_map(|how| captured[how].as_f64());
    let rate = attempts.sum::<f64>() / captured["seconds"].as_f64().unwrap();
    eprintln!("{rounds} rounds; captured, {rate:.0} attempts a second: {captured}; uncaptured: {free}");
    assert_eq!(forbidden.bytes(), before, "bytes of a captured cgroup arrived");
    assert_eq!(captured["echoed"], 0, "{captured}");
    assert!(captured["refused"].as_u64() > Some(0), "no daemon was missed: {captured}");
    assert!(captured["connected"].as_u64() > Some(0), "no daemon was met: {captured}");
    assert_eq!(
        (&free["failed"], &free["refused"], &free["connected"]),
        (&0.into(), &0.into(), &0.into()),
        "{free}"
    );
    // And what is captured works as ever.
    let mut agent: Agent = stage.agent();
    let mut client: Client = stage.client(&mut agent);
    assert_eq!(client.query("SELECT 1").texts(), [["1"]]);
    stage.daemon.audit_command(&["verify"]).ok();
}
