//! A process to be captured: this test binary again, doing what it is told on its standard input.

use std::{
    io::{self, BufRead, BufReader, IoSlice, IoSliceMut, Read, Write},
    net::{SocketAddr, TcpStream, UdpSocket},
    os::{
        fd::{AsRawFd, OwnedFd, RawFd},
        unix::net::{UnixListener, UnixStream},
    },
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    sys::socket::{
        AddressFamily, Backlog, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockProtocol,
        SockType, SockaddrIn, SockaddrIn6, SockaddrLike, SockaddrStorage, UnixAddr, bind, connect,
        getpeername, getsockname, listen, recv, recvmsg, sendmsg, sendto, setsockopt, socket, sockopt,
    },
    unistd::write,
};

/// What precedes the answers, which share their pipe with the test harness's own words.
const MARK: &str = "> ";

pub struct Agent {
    child: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Agent {
    /// Starts one, in a network namespace by name if one is given.
    pub fn start(netns: Option<&str>) -> Self {
        let binary = std::env::current_exe().unwrap();
        let mut command = match netns {
            None => Command::new(binary),
            Some(name) => {
                let mut command = Command::new("ip");
                command.args(["netns", "exec", name]).arg(binary);
                command
            }
        };
        let mut child = command
            .args([
                "--exact",
                "intercept::tests::agent::obeys",
                "--ignored",
                "--nocapture",
                "--test-threads=1",
            ])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let orders = child.stdin.take().unwrap();
        let answers = BufReader::new(child.stdout.take().unwrap());
        let mut agent = Self { child, orders, answers };
        assert_eq!(agent.ask("ready"), "ready");
        agent
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Gives an order and waits for the answer.
    pub fn ask(&mut self, order: &str) -> String {
        tokio::task::block_in_place(|| {
            writeln!(self.orders, "{order}").unwrap();
            let mut line = String::new();
            loop {
                line.clear();
                assert_ne!(self.answers.read_line(&mut line).unwrap(), 0, "the agent died at `{order}`");
                if let Some((_, answer)) = line.split_once(MARK) {
                    return answer.trim_end().to_owned();
                }
            }
        })
    }

    /// Connects and returns its own end and the peer that it sees.
    pub fn connect(&mut self, order: &str) -> (SocketAddr, SocketAddr) {
        let answer = self.ask(order);
        let mut words = answer.split(' ');
        assert_eq!(words.next(), Some("ok"), "{order}: {answer}");
        (words.next().unwrap().parse().unwrap(), words.next().unwrap().parse().unwrap())
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
#[ignore = "the captured process of the other tests, started by them"]
fn obeys() {
    let mut open: Vec<OwnedFd> = Vec::new();
    for order in io::stdin().lines() {
        let order = order.unwrap();
        let words: Vec<&str> = order.split(' ').collect();
        let answer = match obey(&words, &mut open) {
            Ok(answer) => answer,
            Err(errno) => format!("error {}", errno as i32),
        };
        // Not println!: the harness may want to capture that.
        writeln!(io::stdout(), "\n{MARK}{answer}").unwrap();
    }
}

fn obey(words: &[&str], open: &mut Vec<OwnedFd>) -> Result<String, Errno> {
    match *words {
        ["ready"] => Ok("ready".to_owned()),
        ["tcp", to] => {
            let socket = stream(to)?;
            connect(socket.as_raw_fd(), &*address(to))?;
            keep(socket, open)
        }
        ["tcp-from", from, to] => {
            let socket = stream(to)?;
            bind(socket.as_raw_fd(), &*address(from))?;
            connect(socket.as_raw_fd(), &*address(to))?;
            keep(socket, open)
        }
        ["tcp-on", device, to] => {
            let socket = stream(to)?;
            setsockopt(&socket, sockopt::BindToDevice, &device.into())?;
            connect(socket.as_raw_fd(), &*address(to))?;
            keep(socket, open)
        }
        ["tcp-nonblocking", to] => {
            let socket = socket(family(to), SockType::Stream, SockFlag::SOCK_NONBLOCK, None)?;
            match connect(socket.as_raw_fd(), &*address(to)) {
                Ok(()) | Err(Errno::EINPROGRESS) => {}
                Err(error) => return Err(error),
            }
            let deadline = Instant::now() + Duration::from_secs(5);
            while getpeername::<SockaddrStorage>(socket.as_raw_fd()).is_err() {
                assert!(Instant::now() < deadline, "the connection is not made");
                std::thread::sleep(Duration::from_millis(1));
            }
            keep(socket, open)
        }
        // A socket that is not connected yet, and an attempt with it.
        ["socket", to] => {
            open.push(stream(to)?);
            Ok("ok".to_owned())
        }
        ["udp-socket"] => {
            open.push(socket(AddressFamily::Inet, SockType::Datagram, SockFlag::empty(), None)?);
            Ok("ok".to_owned())
        }
        ["send-latest", to] => {
            let socket = open.last().ok_or(Errno::EBADF)?;
            sendto(socket.as_raw_fd(), b"x", &*address(to), MsgFlags::empty())?;
            Ok("ok".to_owned())
        }
        ["udp-keep", to] => {
            let socket = socket(family(to), SockType::Datagram, SockFlag::empty(), None)?;
            connect(socket.as_raw_fd(), &*address(to))?;
            open.insert(0, socket);
            Ok("ok".to_owned())
        }
        // One that closes when another program runs, as everything that std opens.
        ["udp-until-exec"] => {
            open.push(UdpSocket::bind("127.0.0.1:0").map_err(|error| errno(&error))?.into());
            Ok("ok".to_owned())
        }
        ["raw-keep"] => {
            open.push(socket(AddressFamily::Inet, SockType::Raw, SockFlag::empty(), SockProtocol::Icmp)?);
            Ok("ok".to_owned())
        }
        // A server of its own, and its first visitor, kept apart from what it connects itself.
        ["serve", at] => {
            let socket = stream(at)?;
            setsockopt(&socket, sockopt::ReuseAddr, &true)?;
            bind(socket.as_raw_fd(), &*address(at))?;
            listen(&socket, Backlog::new(8)?)?;
            open.insert(0, socket);
            Ok("ok".to_owned())
        }
        ["accept"] => {
            let listener = open.first().ok_or(Errno::EBADF)?;
            let visitor = nix::sys::socket::accept(listener.as_raw_fd())?;
            open.insert(0, super::bench::owned(visitor));
            Ok("ok".to_owned())
        }
        ["hear"] => {
            let visitor = open.get(1).ok_or(Errno::EBADF)?;
            let mut heard = [0; 64];
            let count = nix::unistd::read(visitor, &mut heard)?;
            Ok(format!("heard {}", String::from_utf8_lossy(&heard[..count])))
        }
        ["write", word] => write(open.last().ok_or(Errno::EBADF)?, word.as_bytes()).map(|_| "ok".to_owned()),
        ["close-latest"] => open.pop().map(|_| "ok".to_owned()).ok_or(Errno::EBADF),
        ["connect", to] => {
            let socket = open.pop().ok_or(Errno::EBADF)?;
            match connect(socket.as_raw_fd(), &*address(to)) {
                Ok(()) => keep(socket, open),
                Err(error) => {
                    open.push(socket);
                    Err(error)
                }
            }
        }
        // Connects by sending: the data goes along with the SYN.
        ["tcp-fastopen", to] => {
            let socket = stream(to)?;
            sendto(
                socket.as_raw_fd(),
                b"early",
                &*address(to),
                MsgFlags::from_bits_retain(libc::MSG_FASTOPEN),
            )?;
            keep(socket, open)
        }
        ["tcp-deferred", to] => {
            let socket = stream(to)?;
            super::bench::defer_connect(&socket)?;
            connect(socket.as_raw_fd(), &*address(to))?;
            write(&socket, b"early")?;
            keep(socket, open)
        }
        ["udp-connect", to] => {
            let socket = socket(family(to), SockType::Datagram, SockFlag::empty(), None)?;
            connect(socket.as_raw_fd(), &*address(to)).map(|()| "ok".to_owned())
        }
        ["udp-send", to] => {
            let socket =
                UdpSocket::bind(if family(to) == AddressFamily::Inet { "0.0.0.0:0" } else { "[::]:0" });
            match socket.and_then(|socket| socket.send_to(b"x", to)) {
                Ok(_) => Ok("ok".to_owned()),
                Err(error) => Err(Errno::from_raw(error.raw_os_error().unwrap_or(0))),
            }
        }
        ["make", kind] => {
            let (family, kind, protocol) = match kind {
                "raw" => (AddressFamily::Inet, SockType::Raw, Some(SockProtocol::Icmp)),
                "ping" => (AddressFamily::Inet, SockType::Datagram, Some(SockProtocol::Icmp)),
                "mptcp" => (AddressFamily::Inet, SockType::Stream, None),
                _ => return Err(Errno::EINVAL),
            };
            if protocol.is_none() {
                return super::bench::mptcp_socket().map(|_| "ok".to_owned());
            }
            socket(family, kind, SockFlag::empty(), protocol).map(|_| "ok".to_owned())
        }
        ["unix", path] => {
            let socket = socket(AddressFamily::Unix, SockType::Stream, SockFlag::empty(), None)?;
            connect(socket.as_raw_fd(), &UnixAddr::new(path)?).map(|()| "ok".to_owned())
        }
        ["unix-in", folder, path] => {
            std::env::set_current_dir(folder).map_err(|error| errno(&error))?;
            obey(&["unix", path], open)
        }
        ["unix-datagram", path] => {
            let socket = socket(AddressFamily::Unix, SockType::Datagram, SockFlag::empty(), None)?;
            sendto(socket.as_raw_fd(), b"x", &UnixAddr::new(path)?, MsgFlags::empty())?;
            Ok("ok".to_owned())
        }
        ["unix-serve", path] => {
            let socket = socket(AddressFamily::Unix, SockType::Stream, SockFlag::empty(), None)?;
            bind(socket.as_raw_fd(), &UnixAddr::new(path)?)?;
            listen(&socket, Backlog::new(8)?)?;
            open.push(socket);
            Ok("ok".to_owned())
        }
        // Connects to where it will be given something.
        ["post", path] => {
            let socket = socket(AddressFamily::Unix, SockType::Stream, SockFlag::empty(), None)?;
            connect(socket.as_raw_fd(), &UnixAddr::new(path)?)?;
            open.push(socket);
            Ok("ok".to_owned())
        }
        ["take"] => take(&open.pop().ok_or(Errno::EBADF)?),
        ["take-accepted"] => {
            let listener = open.last().ok_or(Errno::EBADF)?;
            let listener = UnixListener::from(listener.try_clone().map_err(|error| errno(&error))?);
            take(&listener.accept().map_err(|error| errno(&error))?.0.into())
        }
        ["give-latest", path] => {
            let rights = [open.last().ok_or(Errno::EBADF)?.as_raw_fd()];
            let to = UnixStream::connect(path).map_err(|error| errno(&error))?;
            let message = [ControlMessage::ScmRights(&rights)];
            sendmsg::<()>(to.as_raw_fd(), &[IoSlice::new(b"x")], &message, MsgFlags::empty(), None)?;
            Ok("ok".to_owned())
        }
        ["make-family", kind] => {
            let (family, kind, protocol) = match kind {
                "packet" => (libc::AF_PACKET, libc::SOCK_RAW, 0),
                "vsock" => (libc::AF_VSOCK, libc::SOCK_STREAM, 0),
                "netfilter" => (libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_NETFILTER),
                "routes" => (libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_ROUTE),
                "unix" => (libc::AF_UNIX, libc::SOCK_STREAM, 0),
                _ => return Err(Errno::EINVAL),
            };
            super::bench::raw_socket(family, kind, protocol).map(|_| "ok".to_owned())
        }
        ["disconnect-udp"] => {
            let socket = UdpSocket::bind("127.0.0.1:0").map_err(|_| Errno::EIO)?;
            super::bench::disconnect(&socket)?;
            Ok("ok".to_owned())
        }
        ["option", level, name] => {
            let socket = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::empty(), None)?;
            super::bench::set_option(&socket, number(level), number(name)).map(|()| "ok".to_owned())
        }
        ["command", name] => {
            let socket = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::empty(), None)?;
            super::bench::command(&socket, number(name)).map(|()| "ok".to_owned())
        }
        ["bpf", command, ref words @ ..] => {
            let mut values = [0; 3];
            for (value, word) in values.iter_mut().zip(words) {
                *value = number(word);
            }
            super::bench::bpf(number(command), values).map(|()| "ok".to_owned())
        }
        ["netlink", protocol, ref kinds @ ..] => netlink(number(protocol), kinds),
        // Says something on the latest connection and returns what comes back.
        ["say", word] => {
            let socket = open.pop().ok_or(Errno::ENOTCONN)?;
            let mut stream = TcpStream::from(socket);
            stream.write_all(word.as_bytes()).map_err(|error| errno(&error))?;
            stream.shutdown(std::net::Shutdown::Write).map_err(|error| errno(&error))?;
            let mut reply = String::new();
            stream.read_to_string(&mut reply).map_err(|error| errno(&error))?;
            Ok(format!("heard {reply}"))
        }
        ["close"] => {
            open.clear();
            Ok("closed".to_owned())
        }
        // So many connections, one after the other, to these targets in turn, closed at once.
        ["storm", count, ref targets @ ..] => {
            let count: usize = count.parse().map_err(|_| Errno::EINVAL)?;
            let started = Instant::now();
            for (target, _) in targets.iter().cycle().zip(0..count) {
                let socket = stream(target)?;
                connect(socket.as_raw_fd(), &*address(target))?;
            }
            Ok(format!("ok {}", started.elapsed().as_nanos() / count as u128))
        }
        ["hold", count, target] => {
            for _ in 0..count.parse::<usize>().map_err(|_| Errno::EINVAL)? {
                let socket = stream(target)?;
                connect(socket.as_raw_fd(), &*address(target))?;
                open.push(socket);
            }
            Ok("ok".to_owned())
        }
        _ => Err(Errno::EINVAL),
    }
}

/// Sends messages of these kinds in one go and gives the kernel's verdict on the last. Of their bodies nothing is set but
/// the number of the loopback device, which all of the kinds that have one have at the same place; the family that is
/// missing keeps any from being carried out.
fn netlink(protocol: i32, kinds: &[&str]) -> Result<String, Errno> {
    const ACKNOWLEDGE: u16 = 1 | 4;
    let socket = super::bench::raw_socket(libc::AF_NETLINK, libc::SOCK_RAW, protocol)?;
    let mut messages = Vec::new();
    for kind in kinds {
        messages.extend(32_u32.to_ne_bytes());
        messages.extend(number::<u16>(kind).to_ne_bytes());
        messages.extend(ACKNOWLEDGE.to_ne_bytes());
        messages.extend([0; 12]);
        messages.extend(1_u32.to_ne_bytes());
        messages.extend([0; 8]);
    }
    write(&socket, &messages)?;
    let mut verdict = Errno::UnknownErrno as i32;
    for _ in kinds {
        let mut answer = [0; 4096];
        recv(socket.as_raw_fd(), &mut answer, MsgFlags::MSG_DONTWAIT)?;
        verdict = i32::from_ne_bytes(answer[16..20].try_into().unwrap());
    }
    Ok(format!("verdict {verdict}"))
}

fn number<T: std::str::FromStr>(text: &str) -> T {
    text.parse().unwrap_or_else(|_| panic!("{text} is no number"))
}

/// Waits for what comes over a Unix socket, and says whether a descriptor was among it.
fn take(from: &OwnedFd) -> Result<String, Errno> {
    let mut byte = [0];
    let mut parts = [IoSliceMut::new(&mut byte)];
    let mut space = nix::cmsg_space!([RawFd; 1]);
    let received = recvmsg::<()>(from.as_raw_fd(), &mut parts, Some(&mut space), MsgFlags::empty())?;
    let taken = received
        .cmsgs()?
        .any(|message| matches!(message, ControlMessageOwned::ScmRights(passed) if !passed.is_empty()));
    Ok(if taken { "taken" } else { "nothing" }.to_owned())
}

fn errno(error: &io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or(0))
}

fn stream(to: &str) -> Result<OwnedFd, Errno> {
    socket(family(to), SockType::Stream, SockFlag::SOCK_CLOEXEC, None)
}

fn keep(socket: OwnedFd, open: &mut Vec<OwnedFd>) -> Result<String, Errno> {
    let own: SockaddrStorage = getsockname(socket.as_raw_fd())?;
    let peer: SockaddrStorage = getpeername(socket.as_raw_fd())?;
    open.push(socket);
    Ok(format!("ok {own} {peer}"))
}

fn family(to: &str) -> AddressFamily {
    if to.starts_with('[') { AddressFamily::Inet6 } else { AddressFamily::Inet }
}

fn address(text: &str) -> Box<dyn SockaddrLike> {
    match text.parse::<SocketAddr>().unwrap() {
        SocketAddr::V4(address) => Box::new(SockaddrIn::from(address)),
        SocketAddr::V6(address) => Box::new(SockaddrIn6::from(address)),
    }
}
