//! Bytes between two sockets, in both directions, until both have ended. Each direction ends by itself, so a half-closed
//! connection stays half-closed; what breaks on one side breaks on the other.
//!
//! A buffer is there while bytes are under way, and gone while a connection idles.

use std::{
    fmt, io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    io::AsyncWriteExt,
    net::{
        TcpStream,
        tcp::{ReadHalf, WriteHalf},
    },
    sync::mpsc,
    time::{Instant, sleep_until},
};

use super::{
    ending::reset,
    stop::{Reason, Stop},
};

/// Read and written at once, in each direction.
const BUFFER_BYTES: usize = 64 * 1024;
/// Pieces that wait for whoever looks on. Beyond that the bytes go on unseen.
const TAPPED_PIECES: usize = 256;

/// How a relay ended.
#[derive(Debug)]
pub struct Ended {
    /// Bytes from the client to the target.
    pub sent_bytes: u64,
    /// Bytes from the target to the client.
    pub received_bytes: u64,
    how: How,
}

#[derive(Debug)]
enum How {
    Closed,
    Idle,
    Told(Reason),
    Broken(End, io::Error),
}

#[derive(Debug, Clone, Copy)]
enum End {
    Client,
    Target,
}

impl Ended {
    /// Why it had to end, where somebody said so.
    pub const fn told(&self) -> Option<&Reason> {
        match &self.how {
            How::Told(reason) => Some(reason),
            _ => None,
        }
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.how {
            How::Closed => f.write_str("both sides closed")?,
            How::Idle => f.write_str("the session was idle for longer than limits.idle_timeout")?,
            How::Told(reason) => write!(f, "{reason}")?,
            How::Broken(End::Client, error) => write!(f, "client: {error}")?,
            How::Broken(End::Target, error) => write!(f, "target: {error}")?,
        }
        write!(f, "; {} bytes sent, {} received", self.sent_bytes, self.received_bytes)
    }
}

/// What is shown of a relay.
#[derive(Debug, Default)]
pub struct Taps {
    /// Of what the client sends.
    pub client: Option<Tap>,
    /// Of what the target sends.
    pub target: Option<Tap>,
}

/// Shows what one side sends to somebody who looks on. The relay never waits for them.
#[derive(Debug)]
pub struct Tap {
    pieces: mpsc::Sender<Bytes>,
    behind: Arc<AtomicBool>,
}

/// Who looks on.
#[derive(Debug)]
pub struct Tapped {
    pieces: mpsc::Receiver<Bytes>,
    behind: Arc<AtomicBool>,
}

impl Tap {
    /// A tap, and who looks on.
    pub fn new() -> (Self, Tapped) {
        let (sender, pieces) = mpsc::channel(TAPPED_PIECES);
        let behind = Arc::new(AtomicBool::new(false));
        (Self { pieces: sender, behind: Arc::clone(&behind) }, Tapped { pieces, behind })
    }

    /// `false` when nobody looks on any more.
    fn show(&self, bytes: &[u8]) -> bool {
        match self.pieces.try_send(Bytes::copy_from_slice(bytes)) {
            Ok(()) => true,
            Err(mpsc::error::TrySendError::Full(_)) => {
                self.behind.store(true, Ordering::Release);
                false
            }
            Err(mpsc::error::TrySendError::Closed(_)) => false,
        }
    }
}

impl Tapped {
    /// The next piece; `None` when that side has sent its last, or [`Self::is_behind`].
    pub async fn next(&mut self) -> Option<Bytes> {
        self.pieces.recv().await
    }

    /// Whether bytes went on unseen, since this side was too slow.
    pub fn is_behind(&self) -> bool {
        self.behind.load(Ordering::Acquire)
    }
}

/// Passes bytes on until both directions have ended, one has broken, neither has moved for as long as `idle`, or the
/// session is told to end. What does not end by itself is reset on both sides.
pub async fn relay(
    mut client: TcpStream,
    mut target: TcpStream,
    idle: Option<Duration>,
    taps: Taps,
    stop: &Stop,
) -> Ended {
    let (sent, received) = (Progress::new(), Progress::new());
    let how = {
        let (mut from_client, mut to_client) = client.split();
        let (mut from_target, mut to_target) = target.split();
        let there = pump(&mut from_client, End::Client, &mut to_target, End::Target, &sent, taps.client);
        let back = pump(&mut from_target, End::Target, &mut to_client, End::Client, &received, taps.target);
        tokio::select! {
            both = async { tokio::try_join!(there, back) } => match both {
                Ok(_) => How::Closed,
                Err((end, error)) => How::Broken(end, error),
            },
            () = idled(idle, &sent, &received) => How::Idle,
            reason = stop.heard() => How::Told(reason),
        }
    };
    if !matches!(how, How::Closed) {
        reset(&client);
        reset(&target);
    }
    Ended { sent_bytes: sent.bytes(), received_bytes: received.bytes(), how }
}

/// One direction, to its end.
async fn pump(
    from: &mut ReadHalf<'_>,
    reading: End,
    to: &mut WriteHalf<'_>,
    writing: End,
    progress: &Progress,
    mut tap: Option<Tap>,
) -> Result<(), (End, io::Error)> {
    loop {
        from.readable().await.map_err(|error| (reading, error))?;
        let mut buffer = Vec::with_capacity(BUFFER_BYTES);
        loop {
            match from.try_read_buf(&mut buffer) {
                Ok(0) => {
                    return match to.shutdown().await {
                        // It has closed both its directions already.
                        Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(()),
                        done => done.map_err(|error| (writing, error)),
                    };
                }
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err((reading, error)),
            }
            if tap.as_ref().is_some_and(|tap| !tap.show(&buffer)) {
                tap = None;
            }
            to.write_all(&buffer).await.map_err(|error| (writing, error))?;
            progress.moved(buffer.len());
            buffer.clear();
        }
    }
}

/// Waits until neither direction has moved for as long as `idle`; for ever without one.
async fn idled(idle: Option<Duration>, sent: &Progress, received: &Progress) {
    let Some(idle) = idle else { return std::future::pending().await };
    loop {
        let until = sent.last().max(received.last()) + idle;
        if until <= Instant::now() {
            return;
        }
        sleep_until(until).await;
    }
}

/// How far one direction is.
struct Progress {
    began: Instant,
    bytes: AtomicU64,
    /// Milliseconds since the beginning.
    last_ms: AtomicU64,
}

impl Progress {
    fn new() -> Self {
        Self { began: Instant::now(), bytes: AtomicU64::new(0), last_ms: AtomicU64::new(0) }
    }

    fn moved(&self, bytes: usize) {
        self.bytes.fetch_add(u64::try_from(bytes).unwrap_or(u64::MAX), Ordering::Relaxed);
        let since = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last_ms.store(since, Ordering::Relaxed);
    }

    fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    fn last(&self) -> Instant {
        self.began + Duration::from_millis(self.last_ms.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]
mod tests {
    use std::time::Duration;

    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::{TcpListener, TcpStream},
    };

    use tokio::task::JoinHandle;

    use super::{Ended, Tap, Taps, relay};
    use crate::session::stop::{Reason, Register};

    fn spawn_relay(near: TcpStream, far: TcpStream, idle: Option<Duration>, taps: Taps) -> JoinHandle<Ended> {
        let stop = Register::default().enter();
        tokio::spawn(async move { relay(near, far, idle, taps, &stop).await })
    }

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (near, far) = tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
        (near.unwrap(), far.unwrap().0)
    }

    #[tokio::test]
    async fn a_half_closed_connection_still_gets_its_answer() {
        let ((mut client, near), (far, mut target)) = (pair().await, pair().await);
        let relayed = spawn_relay(near, far, None, Taps::default());
        let question = vec![7_u8; 300_000];
        let asked = question.clone();
        let asking = tokio::spawn(async move {
            client.write_all(&asked).await.unwrap();
            client.shutdown().await.unwrap();
            let mut answer = Vec::new();
            client.read_to_end(&mut answer).await.unwrap();
            answer
        });
        let mut heard = Vec::new();
        target.read_to_end(&mut heard).await.unwrap();
        assert_eq!(heard, question);
        target.write_all(b"yes").await.unwrap();
        drop(target);
        assert_eq!(asking.await.unwrap(), b"yes");
        let ended = relayed.await.unwrap();
        assert_eq!((ended.sent_bytes, ended.received_bytes), (300_000, 3));
    }

    #[tokio::test]
    async fn what_breaks_on_one_side_breaks_on_the_other() {
        let ((mut client, near), (far, target)) = (pair().await, pair().await);
        let relayed = spawn_relay(near, far, None, Taps::default());
        target.set_zero_linger().unwrap();
        drop(target);
        let broken = client.read_u8().await.unwrap_err();
        assert_eq!(broken.kind(), std::io::ErrorKind::ConnectionReset);
        assert!(relayed.await.unwrap().to_string().starts_with("target: "));
    }

    #[tokio::test]
    async fn an_idle_session_ends_and_a_busy_one_does_not() {
        let ((mut client, near), (far, _target)) = (pair().await, pair().await);
        let relayed = spawn_relay(near, far, Some(Duration::from_millis(200)), Taps::default());
        for _ in 0..6 {
            client.write_all(b"x").await.unwrap();
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert!(!relayed.is_finished());
        assert!(relayed.await.unwrap().to_string().contains("idle"));
    }

    #[tokio::test]
    async fn bytes_go_on_when_whoever_looks_on_is_too_slow_or_gone() {
        let ((mut client, near), (far, mut target)) = (pair().await, pair().await);
        let (tap, mut tapped) = Tap::new();
        let relayed = spawn_relay(near, far, None, Taps { client: Some(tap), target: None });
        client.write_all(b"first").await.unwrap();
        assert_eq!(tapped.next().await.unwrap(), "first");
        let mut echoed = vec![0; 5];
        target.read_exact(&mut echoed).await.unwrap();
        for _ in 0..600 {
            client.write_all(b"x").await.unwrap();
            target.read_u8().await.unwrap();
        }
        assert!(tapped.is_behind());
        while tapped.next().await.is_some() {}
        drop((client, target));
        assert_eq!(relayed.await.unwrap().sent_bytes, 605);
    }

    #[tokio::test]
    async fn a_session_that_is_told_to_end_is_reset_on_both_sides_and_says_what_it_passed() {
        let ((mut client, near), (far, mut target)) = (pair().await, pair().await);
        let register = Register::default();
        let stop = register.enter();
        let relayed = tokio::spawn(async move { relay(near, far, None, Taps::default(), &stop).await });
        client.write_all(b"four").await.unwrap();
        target.read_exact(&mut [0; 4]).await.unwrap();
        register.end_all(&Reason::Drained);
        assert_eq!(client.read_u8().await.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
        assert_eq!(target.read_u8().await.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
        let ended = relayed.await.unwrap();
        assert!(ended.to_string().contains("nodegate stops") && ended.to_string().contains("4 bytes sent"));
        assert_eq!(ended.told(), Some(&Reason::Drained));
    }
}
