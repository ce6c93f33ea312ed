//! The least that any proxy with a durable record can do: it understands nothing, forwards bytes, and keeps each reply
//! back until a record of the request is on disk. One thread, no locks: all that came in one turn shares one commit.
//! What nodegate is slower than this is nodegate's own; the rest is the disk's and the network's.

use std::{
    collections::HashMap,
    fs::File,
    io::{ErrorKind, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    os::unix::fs::FileExt as _,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
};

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

/// As much as nodegate writes for a statement: that it was judged, and how it ended.
const RECORD_BYTES: usize = 1000;
/// The file's size, laid out ahead; then it begins anew.
const FILE_BYTES: u64 = 16 << 20;
/// Looks up from time to time whether it is to end.
const TURN_MS: u16 = 200;

/// A running one; ended on drop.
pub struct Recorder {
    address: SocketAddr,
    ends: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Recorder {
    /// Starts one before `target`, with its file in `folder`.
    pub fn start(target: SocketAddr, folder: &Path) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a listener");
        listener.set_nonblocking(true).expect("a listener that does not block");
        let address = listener.local_addr().expect("its address");
        let ends = Arc::new(AtomicBool::new(false));
        let file = File::create(folder.join("recorder")).expect("a file");
        file.write_all_at(&vec![b'\n'; usize::try_from(FILE_BYTES).expect("its size")], 0).expect("space");
        file.sync_all().expect("on disk");
        let epoll = Epoll::new(EpollCreateFlags::empty()).expect("epoll");
        epoll.add(&listener, EpollEvent::new(EpollFlags::EPOLLIN, LISTENER)).expect("the listener watched");
        let mut loops = Loop {
            epoll,
            listener,
            target,
            pairs: HashMap::new(),
            accepted: 0,
            file,
            at: 0,
            asked: 0,
            waiting: Vec::new(),
            bytes: vec![0; 64 * 1024],
        };
        let ended = Arc::clone(&ends);
        let thread = thread::spawn(move || {
            while !ended.load(Ordering::Relaxed) {
                loops.turn();
            }
        });
        Self { address, ends, thread: Some(thread) }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

const LISTENER: u64 = u64::MAX;

struct Pair {
    client: TcpStream,
    server: TcpStream,
    /// Something was asked whose record is not on disk yet.
    owes: bool,
    /// Replies that wait for it.
    kept: Vec<u8>,
}

struct Loop {
    epoll: Epoll,
    listener: TcpListener,
    target: SocketAddr,
    /// By an even number; one more is the server's side.
    pairs: HashMap<u64, Pair>,
    accepted: u64,
    file: File,
    at: u64,
    /// Requests since the last commit.
    asked: usize,
    /// Whose.
    waiting: Vec<u64>,
    bytes: Vec<u8>,
}

impl Loop {
    fn turn(&mut self) {
        let mut events = [EpollEvent::empty(); 64];
        let count = match self.epoll.wait(&mut events, EpollTimeout::from(TURN_MS)) {
            Ok(count) => count,
            Err(nix::errno::Errno::EINTR) => 0,
            Err(error) => panic!("epoll: {error}"),
        };
        for event in &events[..count] {
            match event.data() {
                LISTENER => self.accept(),
                number => {
                    if self.forward(number).is_none() {
                        // Closing its sockets ends their being watched.
                        self.pairs.remove(&(number & !1));
                    }
                }
            }
        }
        if self.asked > 0 {
            self.commit();
        }
    }

    fn accept(&mut self) {
        let client = match self.listener.accept() {
            Ok((client, _)) => client,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return,
            Err(error) => panic!("accept: {error}"),
        };
        let server = TcpStream::connect(self.target).expect("the target");
        self.accepted += 2;
        let number = self.accepted;
        for (stream, side) in [(&client, 0), (&server, 1)] {
            stream.set_nonblocking(true).expect("a socket that does not block");
            stream.set_nodelay(true).expect("a socket that does not gather");
            let event = EpollEvent::new(EpollFlags::EPOLLIN, number | side);
            self.epoll.add(stream, event).expect("a socket watched");
        }
        self.pairs.insert(number, Pair { client, server, owes: false, kept: Vec::new() });
    }

    /// Moves what has come on one side; `None` when that side has ended.
    fn forward(&mut self, number: u64) -> Option<()> {
        let pair = self.pairs.get_mut(&(number & !1))?;
        let from_client = number & 1 == 0;
        let count = match (if from_client { &pair.client } else { &pair.server }).read(&mut self.bytes) {
            Ok(0) => return None,
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Some(()),
            Err(_) => return None,
        };
        let bytes = self.bytes.get(..count)?;
        if from_client {
            self.asked += 1;
            if !pair.owes {
                pair.owes = true;
                self.waiting.push(number);
            }
            // Requests and replies of these measurements are far smaller than a socket's buffer.
            pair.server.write_all(bytes).ok()
        } else if pair.owes {
            pair.kept.extend_from_slice(bytes);
            Some(())
        } else {
            pair.client.write_all(bytes).ok()
        }
    }

    fn commit(&mut self) {
        let records = vec![b'x'; RECORD_BYTES * self.asked];
        if self.at + records.len() as u64 > FILE_BYTES {
            self.at = 0;
        }
        self.file.write_all_at(&records, self.at).expect("written");
        self.file.sync_data().expect("on disk");
        self.at += records.len() as u64;
        self.asked = 0;
        for number in std::mem::take(&mut self.waiting) {
            let Some(pair) = self.pairs.get_mut(&number) else { continue };
            pair.owes = false;
            // Who has gone needs no reply.
            let _ = pair.client.write_all(&pair.kept);
            pair.kept.clear();
        }
    }
}
