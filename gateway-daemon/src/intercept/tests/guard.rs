//! What only a security module can refuse: control sockets, exotic families, sockets in messages. On a kernel that runs
//! no BPF programs as one, the same tests hold it to saying so.

use std::{
    io::IoSlice,
    net::{TcpListener, TcpStream},
    os::{
        fd::AsRawFd,
        unix::{
            fs::symlink,
            net::{UnixDatagram, UnixListener},
        },
    },
    path::PathBuf,
};

use nix::{
    errno::Errno,
    sys::socket::{ControlMessage, MsgFlags, sendmsg},
};

use super::{
    agent::Agent,
    bench::{Ground, error},
};
use crate::{
    domain::promise::promise,
    intercept::{RefusalReason, probe},
};

/// Whether this kernel can do it; where it cannot, it has to say so.
pub(super) fn is_guarded() -> bool {
    // These are not the guard's to keep.
    let others = ["moved-processes", "existing-connections"].map(|name| promise(name).unwrap());
    let broken = probe::broken(&others);
    let names: Vec<_> = broken.iter().map(|broken| broken.promise.name).collect();
    let all = ["af-packet", "privileged-processes", "received-sockets", "socket-families", "unix-aliases"];
    assert!(names.is_empty() || all.iter().all(|name| names.contains(name)), "{names:?}");
    names.is_empty()
}

fn outcome(refusal: Errno) -> String {
    if is_guarded() { error(refusal) } else { "ok".to_owned() }
}

/// Whether Unix sockets are looked at at all, be it only by the name that the caller gives.
fn sees_unix() -> bool {
    probe::broken(&[]).iter().all(|broken| broken.promise.name != "unix-connect")
}

/// A path that the list of this ground's captures denies.
fn denied(ground: &Ground, name: &str) -> PathBuf {
    PathBuf::from(format!("/tmp/{}-{name}", ground.settings().run_parent))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn control_sockets_are_refused_by_whatever_way_they_are_named_unless_their_server_is_captured() {
    let ground = Ground::new();
    let mut capture = ground.start().await;
    let (stream, datagram) = (denied(&ground, "stream"), denied(&ground, "datagram"));
    let _stream = UnixListener::bind(&stream).unwrap();
    let _datagram = UnixDatagram::bind(&datagram).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (alias, free) = (folder.path().join("alias"), folder.path().join("free"));
    symlink(&stream, &alias).unwrap();
    let _free = UnixListener::bind(&free).unwrap();
    let orders: Vec<String> = [("unix", &stream), ("unix", &alias), ("unix-datagram", &datagram)]
        .iter()
        .map(|(kind, path)| format!("{kind} {}", path.display()))
        .chain([format!("unix-in /tmp {}", stream.file_name().unwrap().to_str().unwrap())])
        .collect();

    let mut agent = Agent::start(None);
    for order in &orders {
        assert_eq!(agent.ask(order), "ok", "the control of {order}");
    }
    capture.intercept.start_run(agent.pid(), None).await.unwrap();
    for order in &orders {
        // The caller's name for it is the server's, or leads to it.
        let by_name = order.contains(stream.to_str().unwrap()) || order.contains(datagram.to_str().unwrap());
        if is_guarded() || (sees_unix() && by_name) {
            assert_eq!(agent.ask(order), error(Errno::EPERM), "{order}");
            let refusal = capture.refusal().await;
            assert_eq!(refusal.reason, RefusalReason::ControlSocket);
            assert_eq!(refusal.control_socket, ground.settings().unix_sockets.denied.first().cloned());
        } else {
            assert_eq!(agent.ask(order), "ok", "{order}");
        }
    }
    assert_eq!(agent.ask(&format!("unix {}", free.display())), "ok", "all others are as they were");

    let (mut server, _) = capture.run(None, "server").await;
    let own = denied(&ground, "own");
    assert_eq!(server.ask(&format!("unix-serve {}", own.display())), "ok");
    let harmless = folder.path().join("harmless");
    symlink(&own, &harmless).unwrap();
    let reached = agent.ask(&format!("unix {}", harmless.display()));
    assert_eq!(reached, "ok", "its server is captured itself");
    for path in [stream, datagram, own] {
        std::fs::remove_file(path).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn families_beside_the_known_ones_are_refused() {
    let ground = Ground::new();
    let mut capture = ground.start().await;
    let mut agent = Agent::start(None);
    for kind in ["packet", "vsock", "netfilter"] {
        assert_eq!(agent.ask(&format!("make-family {kind}")), "ok", "the control of {kind}");
    }
    capture.intercept.start_run(agent.pid(), None).await.unwrap();
    for kind in ["packet", "vsock", "netfilter"] {
        assert_eq!(agent.ask(&format!("make-family {kind}")), outcome(Errno::EAFNOSUPPORT), "{kind}");
        if is_guarded() {
            assert_eq!(capture.refusal().await.reason, RefusalReason::SocketKind);
        }
    }
    for kind in ["unix", "routes"] {
        assert_eq!(agent.ask(&format!("make-family {kind}")), "ok", "{kind} stays");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_is_passed_in_from_outside_does_not_arrive() {
    let ground = Ground::new();
    let mut capture = ground.start().await;
    let target = TcpListener::bind("127.0.0.1:0").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("post");
    let post = UnixListener::bind(&path).unwrap();
    let pass = |agent: &mut Agent, what: &dyn AsRawFd| {
        assert_eq!(agent.ask(&format!("post {}", path.display())), "ok");
        let (to, _) = post.accept().unwrap();
        let rights = [what.as_raw_fd()];
        let message = [ControlMessage::ScmRights(&rights)];
        sendmsg::<()>(to.as_raw_fd(), &[IoSlice::new(b"x")], &message, MsgFlags::empty(), None).unwrap();
        agent.ask("take")
    };
    let connection = TcpStream::connect(target.local_addr().unwrap()).unwrap();
    let mut agent = Agent::start(None);
    assert_eq!(pass(&mut agent, &connection), "taken", "the control");
    capture.intercept.start_run(agent.pid(), None).await.unwrap();
    // What it had taken before it brings along, which is another matter.
    assert_eq!(capture.refusal().await.reason, RefusalReason::ExistingEnded);
    // Where the descriptor is withheld, older kernels also say that the message was cut (ENOBUFS).
    let expected: &[&str] = if is_guarded() { &["nothing", "error 105"] } else { &["taken"] };
    let outcome = pass(&mut agent, &connection);
    assert!(expected.contains(&outcome.as_str()), "{outcome}");
    if is_guarded() {
        assert_eq!(capture.refusal().await.reason, RefusalReason::SocketReceived);
    }
    // Listening sockets are handed to services so, and Unix sockets lead to nobody else.
    assert_eq!(pass(&mut agent, &target), "taken");
    assert_eq!(pass(&mut agent, &post), "taken");
    // What one captured process gives another stays theirs.
    let (mut maker, _) = capture.run(None, "maker").await;
    maker.connect("tcp 192.0.2.1:5432");
    let heirs = folder.path().join("heirs");
    assert_eq!(agent.ask(&format!("unix-serve {}", heirs.display())), "ok");
    assert_eq!(maker.ask(&format!("give-latest {}", heirs.display())), "ok");
    assert_eq!(agent.ask("take-accepted"), "taken");
}
