//! Accepting: every stream gets the record that the kernel filed under its client's end, or is closed.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use gateway_common::{
    address::Address,
    flow::{FlowKey, FlowRecord},
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::mpsc,
    time::sleep,
};

use super::{kernel::Kernel, sys};
use crate::domain::{
    address::{ClientAddr, OriginalDestination},
    flow::Flow,
    ids::{CgroupId, FlowId, NetnsCookie},
};

/// How long to wait before trying again when there are no descriptors.
const BREATH: Duration = Duration::from_millis(20);

/// A captured connection, attributed.
#[derive(Debug)]
pub struct Arrival {
    /// What the kernel recorded of it.
    pub flow: Flow,
    /// The agent's end of it.
    pub stream: TcpStream,
}

/// A connection that came to the listener without having been captured. It has been closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unattributed {
    /// The network namespace.
    pub netns: NetnsCookie,
    /// Who connected.
    pub client: ClientAddr,
}

/// Where a listener is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    /// Its network namespace.
    pub netns: NetnsCookie,
    /// Its port.
    pub port: u16,
}

/// What the accept loops share.
#[derive(Debug)]
pub(super) struct Gate {
    pub kernel: Arc<Kernel>,
    pub next_flow: Arc<AtomicU64>,
    pub arrivals: mpsc::Sender<Arrival>,
    pub unattributed: mpsc::Sender<Unattributed>,
}

impl Gate {
    /// Accepts until the listener is dropped with the task, or nobody takes arrivals any more.
    pub async fn accept_all(self: Arc<Self>, listener: Arc<TcpListener>, place: Place) {
        let netns = place.netns;
        loop {
            match listener.accept().await {
                Ok((stream, client)) => {
                    if let Some(arrival) = self.admit(stream, client, place)
                        && self.arrivals.send(arrival).await.is_err()
                    {
                        return;
                    }
                }
                Err(error) if concerns_one_connection(&error) => {}
                Err(error) => {
                    tracing::warn!(%netns, %error, "cannot accept");
                    sleep(BREATH).await;
                }
            }
        }
    }

    /// Finds out whose connection this is.
    ///
    /// The record lies under the client's end, which is the client's alone only while its connection lives. A
    /// connection that was reset before it was accepted may have passed its end on to another process, so the
    /// connection must be seen alive *after* the record was taken.
    fn admit(&self, stream: TcpStream, client: SocketAddr, place: Place) -> Option<Arrival> {
        let Place { netns, port } = place;
        // A listener for both versions of IP shows IPv4 addresses as mapped ones.
        let client = SocketAddr::new(client.ip().to_canonical(), client.port());
        let key = FlowKey::new(netns.0, address(client.ip()), client.port(), port);
        if sys::is_closed(&stream).unwrap_or(true) {
            self.clear_away(&key);
            return None;
        }
        let record = match self.kernel.take_flow(&key) {
            Ok(Some(record)) => record,
            Ok(None) => {
                self.turn_away(stream, client, netns);
                return None;
            }
            Err(error) => {
                tracing::error!(%error, "cannot look up a flow record");
                self.turn_away(stream, client, netns);
                return None;
            }
        };
        if sys::is_closed(&stream).unwrap_or(true) {
            return None;
        }
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "cannot switch Nagle's algorithm off");
        }
        let id = FlowId(self.next_flow.fetch_add(1, Ordering::Relaxed));
        Some(Arrival { flow: flow(id, &record, client), stream })
    }

    /// A connection that died in the queue: its record goes, unless it is another's by now.
    fn clear_away(&self, key: &FlowKey) {
        if let Ok(Some(record)) = self.kernel.take_flow(key)
            && record.ended_at == 0
        {
            self.kernel.return_flow(key, &record);
        }
    }

    fn turn_away(&self, stream: TcpStream, client: SocketAddr, netns: NetnsCookie) {
        // Closing with a reset tells the client at once.
        let _ = stream.set_zero_linger();
        drop(stream);
        let unattributed = Unattributed { netns, client: ClientAddr(client) };
        tracing::debug!(%netns, %client, "turned an unattributed connection away");
        // For information only: whoever does not read must not make us remember.
        let _ = self.unattributed.try_send(unattributed);
    }
}

/// accept(2) hands on errors of the connection itself; the next one may be fine.
fn concerns_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted
    ) || matches!(
        error.raw_os_error(),
        Some(libc::EPROTO | libc::ENETDOWN | libc::EHOSTDOWN | libc::EHOSTUNREACH | libc::ENETUNREACH)
    )
}

pub(super) fn address(ip: IpAddr) -> Address {
    Address::from_octets(match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
        IpAddr::V6(ip) => ip.octets(),
    })
}

pub(super) fn socket_addr(address: Address, port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::from(address.octets()).to_canonical(), port)
}

/// The task's name up to its end, with whatever is no text replaced.
pub(super) fn comm(bytes: &[u8]) -> String {
    let name = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(name).into_owned()
}

pub(super) fn flow(id: FlowId, record: &FlowRecord, client: SocketAddr) -> Flow {
    Flow {
        id,
        captured_cgroup: CgroupId(record.captured_cgroup),
        cgroup: CgroupId(record.cgroup),
        pid: record.tgid,
        tid: record.tid,
        uid: record.uid,
        comm: comm(&record.comm),
        netns: NetnsCookie(record.netns),
        connected_at_boot_ns: record.connected_at,
        original_destination: OriginalDestination::new(socket_addr(record.address, record.port)),
        client: ClientAddr(client),
    }
}
