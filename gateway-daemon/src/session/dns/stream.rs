//! DNS over TCP: a captured connection to port 53. Questions are answered as soon as they can be, in whichever order
//! (RFC 7766 §6.2.1.1); the numbers tell the client which is which.

use std::{io, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinSet,
    time::timeout,
};

use super::{Dns, Transport};
use crate::{
    domain::flow::Flow,
    protocol::dns::{Frames, frame},
};

/// A connection on which nothing happens is closed after this time.
const IDLE: Duration = Duration::from_secs(30);
/// Questions of one connection that are answered at once; then it is read no further.
const AT_ONCE: usize = 16;
/// How much is read in one go.
const CHUNK_BYTES: usize = 4096;

/// How a connection ended that had to be ended.
#[derive(Debug, thiserror::Error)]
pub enum TcpRefusal {
    /// Nothing happened for too long.
    #[error("nothing happened on the connection for too long")]
    Idle,
    /// The client's end broke.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl Dns {
    /// Answers the questions of one connection until the client has no more.
    ///
    /// # Errors
    /// The connection broke, or nothing happened on it. It is over in any case.
    pub async fn serve_stream(
        self: &Arc<Self>,
        flow: Arc<Flow>,
        stream: TcpStream,
    ) -> Result<(), TcpRefusal> {
        let (mut reading, mut writing) = stream.into_split();
        let mut frames = Frames::default();
        let mut answering = JoinSet::new();
        let mut chunk = [0; CHUNK_BYTES];
        let mut open = true;
        loop {
            while answering.len() < AT_ONCE
                && let Some(message) = frames.next_message()
            {
                let (dns, flow) = (Arc::clone(self), Arc::clone(&flow));
                answering.spawn(async move { dns.answer(&flow, &message, Transport::Tcp).await });
            }
            if !open && answering.is_empty() {
                return Ok(());
            }
            let has_room = answering.len() < AT_ONCE;
            let turn = async {
                tokio::select! {
                    Some(answered) = answering.join_next() => {
                        if let Ok(Some(message)) = answered
                            && let Some(framed) = frame(&message)
                        {
                            writing.write_all(&framed).await?;
                        }
                    }
                    read = reading.read(&mut chunk), if open && has_room => {
                        let count = read?;
                        open = count > 0;
                        frames.add(chunk.get(..count).unwrap_or_default());
                    }
                }
                Ok::<(), io::Error>(())
            };
            timeout(IDLE, turn).await.map_err(|_| TcpRefusal::Idle)??;
        }
    }
}
