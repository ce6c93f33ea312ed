//! The question on its way to the server that was meant, from the agent's own network namespace.

use std::{io, net::SocketAddr};

use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::{Instant, sleep_until, timeout_at},
};

use super::{Dns, Transport};
use crate::{
    domain::{flow::Flow, ids::NetnsCookie},
    protocol::dns::{Answer, LONGEST_MESSAGE_BYTES, Mismatch, Query, frame, put_upstream},
};

/// A question is sent again after this part of the time-out: datagrams get lost.
const TRIES: u32 = 2;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoAnswer {
    #[error("nothing came in time")]
    Late,
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Mismatch(#[from] Mismatch),
}

impl Dns {
    /// Asks the server that was meant. An answer that was cut off is asked for again over TCP.
    pub(super) async fn ask(
        &self,
        flow: &Flow,
        query: &Query,
        transport: Transport,
    ) -> Result<Answer, NoAnswer> {
        let server = flow.original_destination.socket_addr();
        let until = Instant::now() + self.settings.timeout;
        if transport == Transport::Udp {
            let answer = self.ask_by_datagram(flow.netns, server, query, until).await?;
            if !answer.truncated {
                return Ok(answer);
            }
            // A server without TCP has at least said that there is more.
            return Ok(self.ask_by_stream(flow.netns, server, query, until).await.unwrap_or(answer));
        }
        self.ask_by_stream(flow.netns, server, query, until).await
    }

    async fn ask_by_datagram(
        &self,
        netns: NetnsCookie,
        server: SocketAddr,
        query: &Query,
        until: Instant,
    ) -> Result<Answer, NoAnswer> {
        let socket = self.intercept.datagram_upstream(netns, server).await?;
        let id = number()?;
        let message = put_upstream(query, id);
        let between = self.settings.timeout / TRIES;
        socket.send(&message).await?;
        let mut again = Instant::now() + between;
        let mut buffer = vec![0; LONGEST_MESSAGE_BYTES];
        loop {
            tokio::select! {
                received = socket.recv(&mut buffer) => {
                    let received = buffer.get(..received?).unwrap_or_default().to_vec();
                    match Answer::read(received, query, id) {
                        // Somebody else's guess: the server's own answer may still come.
                        Err(Mismatch::Foreign) => {}
                        answer => return Ok(answer?),
                    }
                }
                () = sleep_until(again.min(until)) => {
                    if Instant::now() >= until {
                        return Err(NoAnswer::Late);
                    }
                    socket.send(&message).await?;
                    again += between;
                }
            }
        }
    }

    async fn ask_by_stream(
        &self,
        netns: NetnsCookie,
        server: SocketAddr,
        query: &Query,
        until: Instant,
    ) -> Result<Answer, NoAnswer> {
        let id = number()?;
        let exchange = async {
            let mut stream = self.intercept.connect_upstream(netns, server).await?;
            let message = frame(&put_upstream(query, id)).ok_or(io::ErrorKind::InvalidData)?;
            stream.write_all(&message).await?;
            let length = stream.read_u16().await?;
            let mut message = Vec::new();
            stream.take(u64::from(length)).read_to_end(&mut message).await?;
            Ok::<_, io::Error>(message)
        };
        let message = timeout_at(until, exchange).await.map_err(|_| NoAnswer::Late)??;
        Ok(Answer::read(message, query, id)?)
    }
}

/// A number that nobody can guess.
fn number() -> io::Result<u16> {
    let mut bytes = [0; 2];
    SystemRandom::new().fill(&mut bytes).map_err(|_| io::Error::other("no randomness"))?;
    Ok(u16::from_be_bytes(bytes))
}
