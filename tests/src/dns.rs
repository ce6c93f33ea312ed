//! A real DNS server (dnsmasq), and questions to it: by `dig`, and byte by byte.

use std::{
    fs::{self, File},
    net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::{
    daemon::{Daemon, Settings, Target},
    issuer::Issuer,
    leftovers,
    netns::Netns,
    programs,
};

/// A server that knows some names below `test`, and says of all others there that they do not exist.
#[derive(Debug)]
pub struct Dnsmasq {
    child: Child,
    address: IpAddr,
    folder: PathBuf,
}

/// A loopback address of the test's own, whose port 53 is free.
pub fn own_address() -> IpAddr {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    let number = (std::process::id() << 5 | NEXT.fetch_add(1, Ordering::Relaxed) & 0x1f) & 0x001f_ffff;
    // 127.32.0.0/11: out of the way of what systems use near the beginning, and of the daemon's own addresses.
    Ipv4Addr::from(0x7f20_0000 | number).into()
}

impl Dnsmasq {
    /// Starts one in this network namespace, with these of dnsmasq's options: `--address=/shop.test/10.0.0.7`.
    pub fn start(options: &[&str]) -> Self {
        Self::at(own_address(), None, options)
    }

    /// Starts one at this address, perhaps in another network namespace.
    pub fn at(address: IpAddr, netns: Option<&Netns>, options: &[&str]) -> Self {
        let name = leftovers::unique_name();
        let folder = leftovers::folder(&name);
        let log = folder.join("log");
        let mut command = match netns {
            None => Command::new("setpriv"),
            Some(netns) => netns.command(Path::new("setpriv")),
        };
        command.args([
            "--pdeathsig",
            "KILL",
            "--",
            "dnsmasq",
            "--keep-in-foreground",
            "--conf-file=/dev/null",
        ]);
        command.args(["--no-resolv", "--no-hosts", "--bind-interfaces", "--pid-file=", "--user=root"]);
        command.args(["--local=/test/", "--log-queries", "--log-facility=-"]);
        command.arg(format!("--listen-address={address}")).args(options);
        let errors = File::create(&log).expect("its log");
        let child =
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(errors).spawn().expect("dnsmasq");
        let mut server = Self { child, address, folder };
        programs::wait_for("dnsmasq to start", Duration::from_secs(10), || {
            if let Ok(Some(status)) = server.child.try_wait() {
                panic!("dnsmasq ended with {status}: {}", server.log());
            }
            server.log().contains("started").then_some(())
        });
        server
    }

    /// Where it is.
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// Everything that it has been asked, as it logs it.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    /// How often it was asked for this name, in whatever letters.
    pub fn asked_for(&self, name: &str) -> usize {
        let asked = format!("] {name} from");
        self.log().to_ascii_lowercase().matches(&asked).count()
    }

    /// A command that gives what runs in it this server as the only one, for resolvers that read `/etc/resolv.conf`.
    pub fn as_resolver(&self, more: &str) -> Vec<String> {
        let file = self.folder.join("resolv.conf");
        fs::write(&file, format!("nameserver {}\n{more}", self.address)).expect("a resolv.conf");
        let script = format!("mount --bind {} /etc/resolv.conf && exec \"$@\"", file.display());
        ["unshare", "--mount", "--", "sh", "-c", &script, "sh"].map(str::to_owned).to_vec()
    }
}

impl Drop for Dnsmasq {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("dnsmasq's log:\n{}", self.log());
        }
        programs::end(&mut self.child, Signal::SIGKILL);
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// The words of a `dig` that asks this server once, without a user's own settings.
pub fn dig_words(server: IpAddr, more: &[&str]) -> Vec<String> {
    let mut words = ["dig", "-r", "+time=3", "+tries=1"].map(str::to_owned).to_vec();
    words.push(format!("@{server}"));
    words.extend(more.iter().map(|word| (*word).to_owned()));
    words
}

/// A query without EDNS, as resolvers that know nothing better send it.
pub fn query(id: u16, name: &str, kind: u16) -> Vec<u8> {
    let mut message = id.to_be_bytes().to_vec();
    message.extend(b"\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00");
    for label in name.split('.') {
        message.push(u8::try_from(label.len()).expect("a short label"));
        message.extend(label.bytes());
    }
    message.push(0);
    message.extend(kind.to_be_bytes());
    message.extend(1_u16.to_be_bytes());
    message
}

/// Asks all servers from one socket that is connected to none, as musl does, then one of them connected, as glibc
/// does. Prints who answered what: `10.0.0.1:53 id 1 rcode 0 answers 1`.
pub fn ask(servers: &[SocketAddr], name: &str) {
    let any = if servers[0].is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(any).expect("a socket");
    socket.set_read_timeout(Some(Duration::from_secs(8))).expect("a timeout");
    for (id, server) in (1..).zip(servers) {
        socket.send_to(&query(id, name, 1), server).expect("to send");
    }
    let mut buffer = [0; 1500];
    for _ in servers {
        let (count, from) = socket.recv_from(&mut buffer).expect("an answer");
        say(&from, &buffer[..count]);
    }
    let socket = UdpSocket::bind(any).expect("a socket");
    socket.set_read_timeout(Some(Duration::from_secs(8))).expect("a timeout");
    socket.connect(servers[0]).expect("to connect");
    socket.send(&query(99, name, 1)).expect("to send");
    let count = socket.recv(&mut buffer).expect("an answer");
    say(&socket.peer_addr().expect("its peer"), &buffer[..count]);
}

/// Asks one server again and again, `threads` at once, each from a socket of its own, and prints how often it was
/// answered in a second and the median wait.
pub fn questions(seconds: u64, threads: usize, server: SocketAddr, name: &str) {
    let end = Instant::now() + Duration::from_secs(seconds);
    let asker = || {
        let socket = UdpSocket::bind("0.0.0.0:0").expect("a socket");
        socket.set_read_timeout(Some(Duration::from_secs(8))).expect("a timeout");
        socket.connect(server).expect("to connect");
        let (question, mut buffer, mut waits) = (query(7, name, 1), [0; 1500], Vec::new());
        while Instant::now() < end {
            let started = Instant::now();
            socket.send(&question).expect("to send");
            socket.recv(&mut buffer).expect("an answer");
            assert_eq!(buffer[3] & 15, 0, "a question was refused");
            waits.push(started.elapsed());
        }
        waits
    };
    let mut waits: Vec<Duration> = thread::scope(|scope| {
        let askers: Vec<_> = (0..threads).map(|_| scope.spawn(asker)).collect();
        askers.into_iter().flat_map(|asker| asker.join().expect("answers")).collect()
    });
    waits.sort_unstable();
    let per_second = waits.len() as u64 / seconds;
    println!("{}", json!({ "per_second": per_second, "median_us": waits[waits.len() / 2].as_micros() }));
}

/// Measures questions to a real server, direct and captured in turns, and prints both and their ratio.
pub fn compare(seconds: u32, rounds: usize) {
    let server = Dnsmasq::start(&["--address=/web.shop.test/10.0.0.7", "--dns-forward-max=1000"]);
    let issuer = Issuer::start();
    let mut settings =
        Settings::new(vec![Target::shop("shop", "127.0.0.1:5432".parse().expect("an address"))]);
    "@id(\"all-names\") permit (principal, action == Action::\"dns:resolve\", resource);"
        .clone_into(&mut settings.policy);
    "dns: { queries_per_second: 1000000 }\n".clone_into(&mut settings.more);
    let daemon = Daemon::start(&settings, &issuer);
    println!("\nDNS over UDP, dnsmasq; each captured question is judged and on disk before it is asked");
    println!("{:<22} {:>9} {:>9} {:>9}  {:>16}", "", "direct/s", "captured", "/direct", "added latency µs");
    for threads in [1, 16] {
        let ask = |mut command: Command| {
            command.args(["questions", &seconds.to_string(), &threads.to_string()]);
            command.args([SocketAddr::new(server.address(), 53).to_string(), "web.shop.test".to_owned()]);
            let told = programs::said(&mut command, "", Duration::from_secs(u64::from(seconds) + 30));
            let told: Value = serde_json::from_str(told.ok()).expect("an account");
            ["per_second", "median_us"].map(|key| told[key].as_f64().expect("a number"))
        };
        let mut runs: [Vec<[f64; 2]>; 2] = Default::default();
        for _ in 0..rounds {
            runs[0].push(ask(Command::new(programs::agent())));
            let mut captured = daemon.run(Some(&issuer.token("bench")));
            captured.arg(programs::agent());
            runs[1].push(ask(captured));
        }
        let [direct, captured] = runs.map(|mut of_way| {
            of_way.sort_unstable_by(|one, other| one[0].total_cmp(&other[0]));
            of_way[of_way.len() / 2]
        });
        println!(
            "{:<22} {:>9.0} {:>9.0} {:>9.2}  {:>16.0}",
            format!("{threads} at once"),
            direct[0],
            captured[0],
            captured[0] / direct[0],
            captured[1] - direct[1]
        );
    }
}

fn say(from: &SocketAddr, message: &[u8]) {
    let number = |at: usize| u16::from_be_bytes([message[at], message[at + 1]]);
    println!("{from} id {} rcode {} answers {}", number(0), number(2) & 15, number(6));
}
