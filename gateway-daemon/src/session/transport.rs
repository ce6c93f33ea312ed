//! The two ends of a session as buffers over sockets: bytes in, bytes out, bounded, without a task per side.

use std::{
    future::poll_fn,
    io, mem,
    pin::{Pin, pin},
    task::{Context, Poll},
};

use bytes::{Buf, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::TlsStream;

use super::stop::{Reason, Stop};
use crate::audit::{AuditError, Receipt};

/// Reading stops while this much is waiting to be written to the other side.
const BACKLOG_BYTES: usize = 256 * 1024;
/// How much is read at once.
const READ_BYTES: usize = 32 * 1024;

/// A connection, with or without TLS.
#[derive(Debug)]
pub enum Transport {
    /// Plain TCP.
    Plain(TcpStream),
    /// TLS over TCP.
    Tls(Box<TlsStream<TcpStream>>),
    /// None any more: a handshake has it, or had it and failed.
    Gone,
}

impl AsyncRead for Transport {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Gone => Poll::Ready(Ok(())),
        }
    }
}

impl AsyncWrite for Transport {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, data),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, data),
            Self::Gone => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
            Self::Gone => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Gone => Poll::Ready(Ok(())),
        }
    }
}

/// One end of the session.
#[derive(Debug)]
pub struct Side<S> {
    stream: S,
    /// Bytes that came and are not yet understood.
    pub input: BytesMut,
    /// Bytes to be sent.
    pub output: BytesMut,
    /// The peer has closed its sending direction.
    pub ended: bool,
    unflushed: bool,
    /// The last write took less than all of `output`, perhaps in the middle of a message.
    partly_written: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Side<S> {
    /// A side over `stream`, with bytes that were read ahead of it.
    pub fn new(stream: S, input: BytesMut) -> Self {
        Self { stream, input, output: BytesMut::new(), ended: false, unflushed: false, partly_written: false }
    }

    /// Puts whole messages back that came before what is still to be understood.
    pub fn put_back(&mut self, mut messages: BytesMut) {
        if !messages.is_empty() {
            messages.extend_from_slice(&self.input);
            self.input = messages;
        }
    }

    /// Reads once; at the end of the stream `ended` is set.
    ///
    /// # Errors
    /// Those of the socket. Cancel-safe: nothing read is lost.
    pub async fn fill(&mut self) -> io::Result<()> {
        poll_fn(|cx| self.poll_fill(cx)).await
    }

    /// Writes all of `output`.
    ///
    /// # Errors
    /// Those of the socket.
    pub async fn drain(&mut self) -> io::Result<()> {
        poll_fn(|cx| self.poll_drain(cx)).await
    }

    /// Says that nothing more comes, as TLS wants it said, so that the peer can tell an end from a cut.
    ///
    /// # Errors
    /// Those of the socket.
    pub async fn shut_down(&mut self) -> io::Result<()> {
        poll_fn(|cx| Pin::new(&mut self.stream).poll_shutdown(cx)).await
    }

    /// Throws away what was to be sent.
    pub fn discard(&mut self) {
        self.output.clear();
    }

    /// Says nothing more: what was to be sent is thrown away, and a farewell is none of it.
    pub fn fall_silent(&mut self) {
        self.output.clear();
        self.partly_written = true;
    }

    /// Whether the peer may have got only a part of a message, or has been told the last word already: nothing more
    /// can be said to it.
    pub fn is_cut_off(&self) -> bool {
        self.partly_written && self.output.is_empty()
    }

    /// Writes as much of `output` as leaves now.
    ///
    /// # Errors
    /// Those of the socket.
    pub async fn try_drain(&mut self) -> io::Result<()> {
        poll_fn(|cx| match self.poll_drain(cx) {
            Poll::Pending => Poll::Ready(Ok(())),
            ready @ Poll::Ready(_) => ready,
        })
        .await
    }

    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.input.reserve(READ_BYTES);
        match poll_read_buf(&mut self.stream, cx, &mut self.input) {
            Poll::Ready(Ok(0)) => {
                self.ended = true;
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Ok(_)) => Poll::Ready(Ok(())),
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => Poll::Pending,
        }
    }

    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.output.is_empty() {
            match Pin::new(&mut self.stream).poll_write(cx, &self.output) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(written)) => {
                    self.output.advance(written);
                    self.unflushed = true;
                    self.partly_written = !self.output.is_empty();
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return Poll::Pending,
            }
        }
        if self.unflushed {
            match Pin::new(&mut self.stream).poll_flush(cx) {
                Poll::Ready(Ok(())) => self.unflushed = false,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Ready(Ok(()))
    }

    fn has_output(&self) -> bool {
        !self.output.is_empty() || self.unflushed
    }
}

impl Side<Transport> {
    /// Takes the plain connection out, for a handshake; [`Side::go_on`] puts back what comes of it.
    pub fn take_plain(&mut self) -> Option<TcpStream> {
        match mem::replace(&mut self.stream, Transport::Gone) {
            Transport::Plain(stream) => Some(stream),
            other => {
                self.stream = other;
                None
            }
        }
    }

    /// Whether what is sent and received is encrypted.
    pub const fn is_encrypted(&self) -> bool {
        matches!(self.stream, Transport::Tls(_))
    }

    /// Goes on under TLS.
    pub fn go_on(&mut self, stream: TlsStream<TcpStream>) {
        self.stream = Transport::Tls(Box::new(stream));
    }

    /// Looks at the first byte that comes without taking it; `None` at the end of the stream.
    ///
    /// # Errors
    /// Those of the socket.
    pub async fn peek(&self) -> io::Result<Option<u8>> {
        let Transport::Plain(stream) = &self.stream else { return Ok(None) };
        let mut first = [0];
        let count = stream.peek(&mut first).await?;
        Ok(first.first().copied().filter(|_| count > 0))
    }
}

/// Reads into the spare capacity of `buffer` and returns how much came.
fn poll_read_buf<S: AsyncRead + Unpin>(
    stream: &mut S,
    cx: &mut Context<'_>,
    buffer: &mut BytesMut,
) -> Poll<io::Result<usize>> {
    // `read_buf` is cancel-safe: a future dropped while pending has read nothing.
    pin!(stream.read_buf(buffer)).poll(cx)
}

/// Whether a side is to be read in this turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reading {
    /// Read when bytes are there.
    On,
    /// Leave what comes in the socket.
    Off,
}

/// Moves bytes until something happened on either side: output written, input read, or an end of stream.
///
/// A side's input is not read while the other side has `BACKLOG_BYTES` to write, so that a slow reader slows
/// its peer instead of filling memory. Nothing is written to the client before `unwritten` says that its events are on
/// disk; it is `None` from then on.
///
/// # Errors
/// The socket's error and the side it came from, that the events will never be on disk, or that the session must end:
/// that is looked at and not waited for, see [`Stop::warns`].
pub async fn turn<C, U>(
    client: &mut Side<C>,
    upstream: &mut Side<U>,
    client_reading: Reading,
    unwritten: &mut Option<Receipt>,
    stop: &Stop,
) -> Result<(), Halt>
where
    C: AsyncRead + AsyncWrite + Unpin,
    U: AsyncRead + AsyncWrite + Unpin,
{
    poll_fn(|cx| {
        if let Some(reason) = stop.told() {
            return Poll::Ready(Err(Halt::Told(reason.clone())));
        }
        let mut progress = false;
        if upstream.has_output() {
            match upstream.poll_drain(cx) {
                Poll::Ready(Ok(())) => progress = true,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(Halt::Io(End::Upstream, error))),
                Poll::Pending => {}
            }
        }
        if client.has_output() && poll_written(unwritten, cx)?.is_ready() {
            match client.poll_drain(cx) {
                Poll::Ready(Ok(())) => progress = true,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(Halt::Io(End::Client, error))),
                Poll::Pending => {}
            }
        }
        if !upstream.ended && client.output.len() < BACKLOG_BYTES {
            match upstream.poll_fill(cx) {
                Poll::Ready(Ok(())) => progress = true,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(Halt::Io(End::Upstream, error))),
                Poll::Pending => {}
            }
        }
        if client_reading == Reading::On && !client.ended && upstream.output.len() < BACKLOG_BYTES {
            match client.poll_fill(cx) {
                Poll::Ready(Ok(())) => progress = true,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(Halt::Io(End::Client, error))),
                Poll::Pending => {}
            }
        }
        if progress { Poll::Ready(Ok(())) } else { Poll::Pending }
    })
    .await
}

fn poll_written(unwritten: &mut Option<Receipt>, cx: &mut Context<'_>) -> Poll<Result<(), Halt>> {
    let Some(receipt) = unwritten.as_ref() else { return Poll::Ready(Ok(())) };
    let written = receipt.poll_durable(cx).map_err(Halt::Audit);
    if written.is_ready() {
        *unwritten = None;
    }
    written
}

/// Why no more bytes are moved.
#[derive(Debug)]
pub enum Halt {
    /// A socket failed.
    Io(End, io::Error),
    /// The record of what the client would see cannot be written.
    Audit(AuditError),
    /// The session must end.
    Told(Reason),
}

/// Which side of the session something came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The agent.
    Client,
    /// The target.
    Upstream,
}
