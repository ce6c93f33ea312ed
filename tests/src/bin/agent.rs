//! What the tests run as a captured agent where psql will not do: it lends sockets, storms, and takes the time
//! of `connect()`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "test support: trouble must end the test, loudly and at once"
)]

use std::{
    env,
    io::{ErrorKind, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::fd::AsRawFd as _,
    path::Path,
    process::ExitCode,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

use nix::sys::socket::{setsockopt, sockopt};
use nodegate_tests::{agent, dns, wire};
use serde_json::json;

fn main() -> ExitCode {
    let words: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["serve", control] => agent::serve(Path::new(control)).expect("to serve"),
        ["storm", count, threads, every, targets @ ..] => {
            storm(number(count), number(threads), number(every), &addresses(targets));
        }
        ["datagrams", target] => datagrams(addresses(&[target])[0]),
        ["questions", seconds, threads, server, name] => {
            dns::questions(number(seconds) as u64, number(threads), addresses(&[server])[0], name);
        }
        ["ask", name, servers @ ..] => dns::ask(&addresses(servers), name),
        ["probe", marker, target, rate, patience_ms] => {
            probe(
                marker,
                &addresses(&[target]),
                number(rate),
                Duration::from_millis(number(patience_ms) as u64),
            );
        }
        ["impostor", address, heard] => impostor(addresses(&[address])[0], Path::new(heard)),
        ["fetch", target, user, statement] => fetch(addresses(&[target])[0], user, statement),
        ["connect-cost", count, target] => connect_cost(number(count), &addresses(&[target])),
        _ => {
            eprintln!(
                "usage: agent serve SOCKET | probe MARKER ADDRESS RATE PATIENCE_MS | storm COUNT THREADS EVERY ADDRESS… | connect-cost COUNT ADDRESS | \
                 questions SECONDS THREADS ADDRESS NAME | ask NAME ADDRESS… | datagrams ADDRESS | fetch ADDRESS USER STATEMENT | impostor ADDRESS FILE"
            );
            return ExitCode::from(2);
        }
    }
    ExitCode::SUCCESS
}

/// Pretends to be a PostgreSQL server that wants a password in clear text, and writes all that it hears to a file, which
/// is there as soon as it listens.
fn impostor(address: SocketAddr, heard: &Path) {
    let listener = TcpListener::bind(address).expect("an address to listen at");
    let file = std::fs::File::create(heard).expect("a file for what is heard");
    for stream in listener.incoming() {
        let (Ok(mut stream), mut file) = (stream, file.try_clone().expect("the file")) else { continue };
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = stream.read(&mut bytes) {
                file.write_all(&bytes[..count]).expect("to write down what is heard");
                let answer: &[u8] = match bytes[..count] {
                    // SSLRequest: no. Whatever else begins without a letter is a startup message.
                    [0, 0, 0, 8, 4, 210, 22, 47] => b"N",
                    [0, ..] => b"R\0\0\0\x08\0\0\0\x03",
                    _ => return,
                };
                if stream.write_all(answer).is_err() {
                    return;
                }
            }
        });
    }
}

fn number(word: &str) -> usize {
    word.parse().expect("a number")
}

fn addresses(words: &[&str]) -> Vec<SocketAddr> {
    words.iter().map(|word| word.parse().expect("an address")).collect()
}

/// Opens `count` short connections, round robin over the targets. Each asks for TLS, as every libpq does, and
/// reads the answer; each `every`th logs in and runs a query as well. Prints how many did.
fn storm(count: usize, threads: usize, every: usize, targets: &[SocketAddr]) {
    let next = AtomicUsize::new(0);
    let (answered, queried, failed) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
    let started = Instant::now();
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= count {
                        return;
                    }
                    match short_connection(
                        targets[number % targets.len()],
                        (number / targets.len()).is_multiple_of(every),
                    ) {
                        Ok(logged_in) => {
                            answered.fetch_add(1, Ordering::Relaxed);
                            queried.fetch_add(usize::from(logged_in), Ordering::Relaxed);
                        }
                        Err(error) => {
                            if failed.fetch_add(1, Ordering::Relaxed) < 5 {
                                eprintln!("connection {number}: {error}");
                            }
                        }
                    }
                }
            });
        }
    });
    let report = json!({ "answered": answered.into_inner(), "queried": queried.into_inner(),
                         "failed": failed.into_inner(), "seconds": started.elapsed().as_secs_f64() });
    println!("{report}");
}

fn short_connection(target: SocketAddr, logs_in: bool) -> Result<bool, String> {
    let mut stream = TcpStream::connect_timeout(&target, Duration::from_secs(30))
        .map_err(|error| format!("connect: {error}"))?;
    stream.set_read_timeout(Some(Duration::from_mins(1))).expect("a timeout");
    stream.write_all(&wire::ssl_request()).map_err(|error| format!("send: {error}"))?;
    let mut answer = [0];
    stream.read_exact(&mut answer).map_err(|error| format!("answer: {error}"))?;
    if !logs_in {
        return Ok(false);
    }
    let mut client = wire::Client::start(stream).map_err(|error| format!("login: {}", error.text()))?;
    let reply = client.query("SELECT count(*) FROM products");
    if reply.errors.is_empty() { Ok(true) } else { Err(format!("query: {:?}", reply.errors)) }
}

/// Connects so many times a second, says its marker and expects it back, until its standard input ends. Prints what
/// became of the attempts.
fn probe(marker: &str, targets: &[SocketAddr], rate: usize, patience: Duration) {
    let stop = AtomicBool::new(false);
    let (echoed, connected, refused, failed) =
        (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
    let pause = Duration::from_secs(1) * PROBERS / u32::try_from(rate).expect("a rate");
    let started = Instant::now();
    thread::scope(|scope| {
        for _ in 0..PROBERS {
            scope.spawn(|| {
                let mut next = Instant::now();
                while !stop.load(Ordering::Relaxed) {
                    let count = match probe_once(marker.as_bytes(), targets[0], patience) {
                        Ok(true) => &echoed,
                        Ok(false) => &connected,
                        Err(error) if error.kind() == ErrorKind::ConnectionRefused => &refused,
                        Err(error) => {
                            if failed.load(Ordering::Relaxed) < 5 {
                                eprintln!("probe: {error}");
                            }
                            &failed
                        }
                    };
                    count.fetch_add(1, Ordering::Relaxed);
                    next += pause;
                    match next.checked_duration_since(Instant::now()) {
                        Some(left) => thread::sleep(left),
                        // What was missed while the machine was busy is made up for, as far as it is not long ago.
                        None => next = next.max(Instant::now().checked_sub(OWED).unwrap_or(next)),
                    }
                }
            });
        }
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        stop.store(true, Ordering::Relaxed);
    });
    let report = json!({ "echoed": echoed.into_inner(), "connected": connected.into_inner(),
                         "refused": refused.into_inner(), "failed": failed.into_inner(),
                         "seconds": started.elapsed().as_secs_f64() });
    println!("{report}");
}

/// Threads of a prober: enough for its rate while each attempt waits for an answer that does not come.
const PROBERS: u32 = 24;
/// So far behind may each of them be.
const OWED: Duration = Duration::from_secs(1);

/// Whether the marker came back over a connection that was made. It ends with a reset, which leaves no port behind.
fn probe_once(marker: &[u8], target: SocketAddr, patience: Duration) -> std::io::Result<bool> {
    let mut stream = TcpStream::connect(target)?;
    let at_once = libc::linger { l_onoff: 1, l_linger: 0 };
    setsockopt(&stream, sockopt::Linger, &at_once)?;
    stream.set_read_timeout(Some(patience))?;
    let mut back = vec![0; marker.len()];
    Ok(stream.write_all(marker).and_then(|()| stream.read_exact(&mut back)).is_ok() && back == marker)
}

/// Sends a datagram in each of three ways, and prints what came of it.
fn datagrams(target: SocketAddr) {
    use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrStorage, sendmmsg};
    let any = if target.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let said = |result: std::io::Result<()>| match result {
        Ok(()) => "sent".to_owned(),
        Err(error) => format!("refused ({})", error.raw_os_error().unwrap_or(0)),
    };
    let socket = UdpSocket::bind(any).expect("a socket");
    println!("{}", said(socket.send_to(b"one", target).map(drop)));
    let connected = UdpSocket::bind(any).expect("a socket");
    let sent = connected.connect(target).and_then(|()| connected.send(b"two").map(drop));
    println!("connected: {}", said(sent));
    let mut headers = MultiHeaders::preallocate(1, None);
    let parts = [[std::io::IoSlice::new(b"three")]];
    let to = [Some(SockaddrStorage::from(target))];
    let sent = sendmmsg(socket.as_raw_fd(), &mut headers, &parts, to, [], MsgFlags::empty());
    println!("sendmmsg: {}", said(sent.map(drop).map_err(std::io::Error::from)));
}

/// Runs one statement and looks at nothing of its result but how long it is, so that the time is the servers'.
fn fetch(target: SocketAddr, user: &str, statement: &str) {
    let stream = TcpStream::connect(target).expect("a connection");
    let mut client =
        wire::Client::start_as(stream, &[("user", user), ("database", "shop")]).expect("a login");
    let started = Instant::now();
    client.send(b'Q', &[statement.as_bytes(), b"\0"].concat());
    let bytes = client.skip_to_ready().expect("a result");
    println!("{}", json!({ "bytes": bytes, "seconds": started.elapsed().as_secs_f64() }));
}

/// Takes the time of `connect()` alone, again and again, and prints the median and the 99th percentile.
fn connect_cost(count: usize, targets: &[SocketAddr]) {
    let mut nanoseconds: Vec<u128> = (0..count)
        .map(|_| {
            let started = Instant::now();
            let stream = TcpStream::connect(targets[0]).expect("a connection");
            let took = started.elapsed().as_nanos();
            drop(stream);
            took
        })
        .collect();
    nanoseconds.sort_unstable();
    let at = |share: usize| nanoseconds[(nanoseconds.len() * share / 100).min(nanoseconds.len() - 1)];
    println!("{}", json!({ "median_ns": at(50), "p99_ns": at(99), "count": count }));
}
