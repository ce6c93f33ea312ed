//! From one daemon to the next, without a connection lost in between. On a socket of its own, beside the admin socket:
//!
//! 1. the new one: `take over`;
//! 2. the old one stops its admin API, lets go of the pins and of the audit log, and says `yours`. It accepts as
//!    before; whoever waits for an audit record waits;
//! 3. the new one starts over the pins: from some moment on its listeners get the connections. `serving`, it says;
//! 4. the old one accepts what is still in its queues and closes its listeners. Its sessions go on; their audit events
//!    go over this very socket to the new one, which has the log.
//!
//! Until `serving`, the old one takes everything back when the new one goes away.

use std::{
    fs, io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{UnixListener, UnixStream},
    time::{sleep, timeout},
};
use tracing::{info, warn};

use crate::{
    admin::Peer,
    audit::AuditLog,
    config::checked::Config,
    connection::Gateway,
    intercept::{Intercept, Successor},
};

const TAKE_OVER: &[u8; 10] = b"take over\n";
const YOURS: &[u8; 10] = b"yours....\n";
const SERVING: &[u8; 10] = b"serving..\n";

/// For the old daemon to let go: requests of its admin API that are under way have their time.
const LETTING_GO: Duration = Duration::from_secs(30);
/// For the new daemon to start.
const STARTING: Duration = Duration::from_mins(1);
/// For a successor that gave up to be gone.
const TAKING_BACK: Duration = Duration::from_secs(30);
/// A process that was sent to the old listener and lost the processor before its SYN left has so long to come.
const STRAGGLERS: Duration = Duration::from_secs(1);

fn path(admin: &Path) -> PathBuf {
    let mut path = admin.as_os_str().to_owned();
    path.push(".handover");
    PathBuf::from(path)
}

/// Where a successor asks.
pub(super) struct Socket {
    listener: Option<UnixListener>,
    path: PathBuf,
}

impl Socket {
    /// Opens it. The lock of the admin socket is held, so a file that is there is nobody's.
    pub(super) fn open(admin: &Path) -> io::Result<Self> {
        let path = path(admin);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(&path)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
        Ok(Self { listener: Some(listener), path })
    }

    /// Frees the socket.
    pub(super) fn close(&mut self) {
        if self.listener.take().is_some() {
            // What stays is removed by the next start.
            let _ = fs::remove_file(&self.path);
        }
    }

    /// Waits for one who may take over and asks for it.
    pub(super) async fn heir(&self, gateway: &Gateway) -> Heir {
        loop {
            let Some(listener) = &self.listener else { return std::future::pending().await };
            match listener.accept().await {
                Ok((mut stream, _)) => {
                    let mut asked = [0; 10];
                    let read = timeout(Duration::from_secs(1), stream.read_exact(&mut asked)).await;
                    if !matches!(read, Ok(Ok(_))) || asked != *TAKE_OVER {
                        continue;
                    }
                    match may_take_over(&stream, gateway) {
                        Ok(true) => return Heir(stream),
                        Ok(false) => warn!("one who may not asked to take over"),
                        Err(error) => warn!(%error, "one asked to take over who cannot be identified"),
                    }
                }
                Err(error) => {
                    warn!(%error, "cannot accept a successor");
                    sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.close();
    }
}

/// Root outside of every captured cgroup may; the file's mode says the same, but not to a captured root.
fn may_take_over(stream: &UnixStream, gateway: &Gateway) -> io::Result<bool> {
    let peer = Peer::of(stream)?;
    let captured = gateway.intercept.workload_of_pid(peer.pid)?.is_some();
    peer.ensure_alive()?;
    Ok(peer.uid == 0 && !captured)
}

/// The daemon that takes over.
pub(super) struct Heir(UnixStream);

impl Heir {
    /// Hands everything over but the sessions. After an error everything is this daemon's again.
    pub(super) async fn bequeath(self, intercept: &Intercept, audit: &AuditLog) -> io::Result<()> {
        let Self(mut stream) = self;
        let pins = intercept.let_go().await;
        audit.let_go().await;
        let serves = async {
            stream.write_all(YOURS).await?;
            let mut word = [0; 10];
            stream.read_exact(&mut word).await?;
            if word == *SERVING {
                Ok(())
            } else {
                Err(io::Error::other("it does not speak as a successor does"))
            }
        };
        let serves = timeout(STARTING, serves).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        if let Err(error) = serves {
            // Closed first: one that still starts must see that nobody waits for it.
            drop(stream);
            let patience = Instant::now() + TAKING_BACK;
            // It may need a moment to end, and holds the locks until then.
            while let Err(error) = audit.take_back() {
                if Instant::now() > patience {
                    return Err(io::Error::other(error));
                }
                sleep(Duration::from_millis(50)).await;
            }
            while let Err(error) = intercept.take_back(&pins) {
                if Instant::now() > patience {
                    return Err(io::Error::other(error));
                }
                sleep(Duration::from_millis(50)).await;
            }
            return Err(error);
        }
        // Nothing is captured or released here any more, whoever asks.
        std::mem::forget(pins);
        let stream = stream.into_std()?;
        stream.set_nonblocking(false)?;
        audit.forward(stream)?;
        sleep(STRAGGLERS).await;
        intercept.stop_accepting(Successor::Serves);
        Ok(())
    }
}

/// The daemon that was there.
pub(super) struct Predecessor(UnixStream);

/// Asks the daemon that runs to let go; `None` when none does.
pub(super) async fn ask(config: &Config) -> io::Result<Option<Predecessor>> {
    let mut stream = match UnixStream::connect(path(&config.admin.socket)).await {
        Ok(stream) => stream,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    info!("asking the daemon that runs to hand over");
    stream.write_all(TAKE_OVER).await?;
    let mut word = [0; 10];
    timeout(LETTING_GO, stream.read_exact(&mut word)).await.map_err(|_| io::ErrorKind::TimedOut)??;
    if word == *YOURS {
        Ok(Some(Predecessor(stream)))
    } else {
        Err(io::Error::other("what listens there is no daemon of this kind"))
    }
}

impl Predecessor {
    /// Tells it that this daemon serves, and records what its sessions still do.
    pub(super) async fn release(self, audit: AuditLog) {
        let Self(mut stream) = self;
        if let Err(error) = stream.write_all(SERVING).await {
            warn!(%error, "the daemon before is gone, and its sessions with it");
            return;
        }
        tokio::spawn(async move {
            match audit.record_for(stream).await {
                Ok(()) => info!("the daemon before has ended"),
                Err(error) => warn!(%error, "lost touch with the daemon before"),
            }
        });
    }
}
