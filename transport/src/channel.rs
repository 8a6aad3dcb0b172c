//! The client's end of the frames that are exchanged with a running agent.

use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::codec::{
    BLOB_PIECE, Decoder, FrameError, Incoming, encode_blob, encode_end, encode_message, incoming,
};
use crate::process::{Ending, Exit, Input, Output};
use crate::start::Delivery;
use crate::stderr::Stderr;

/// How long an agent may take to say its last when it is told that the client is done.
const LAST_WORDS: Duration = Duration::from_secs(10);
/// How long the end of a process may take to be known once its output has ended.
const ENDING: Duration = Duration::from_secs(2);

/// A running agent.
///
/// Dropping it (or either half) closes the agent's input without a last frame, which tells the agent that
/// its client was lost.
pub struct Channel {
    sender: ChannelSender,
    receiver: ChannelReceiver,
    delivery: Delivery,
    build: String,
}

/// Why a channel does not work any more.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChannelError {
    /// The agent's output ended without its last frame: this is never the end of a run.
    #[error("the agent was lost before it had said everything: {exit}{}", said(stderr))]
    Cut {
        /// How the agent ended, as far as is known.
        exit: Exit,
        /// The last of its standard error, possibly empty.
        stderr: String,
    },
    /// What was sent or received is no frame of this protocol.
    #[error("the agent was not understood{}", said(stderr))]
    Frame {
        /// What is wrong with it.
        source: FrameError,
        /// The last of the agent's standard error, possibly empty.
        stderr: String,
    },
    /// The agent takes no more input; why is known to the receiver.
    #[error("nothing more can be sent to the agent")]
    Send(#[source] FrameError),
    /// The agent did not end in time after it was told to.
    #[error("the agent did not end within {} s after it was told to", LAST_WORDS.as_secs())]
    Silent,
}

/// Standard error as the end of a message.
pub(crate) fn said(stderr: &str) -> String {
    if stderr.is_empty() { String::new() } else { format!("; it said:\n{stderr}") }
}

/// The half of a [`Channel`] that sends.
pub struct ChannelSender {
    stream: Input,
    pending: Vec<u8>,
    ended: bool,
}

/// The half of a [`Channel`] that receives.
pub struct ChannelReceiver {
    stream: Output,
    decoder: Decoder,
    buffer: Box<[u8]>,
    stderr: Stderr,
    ending: Option<Ending>,
}

impl ChannelSender {
    pub(crate) fn new(stream: Input) -> Self {
        Self { stream, pending: Vec::new(), ended: false }
    }

    /// Sends a message. When the future is dropped half-way, the next call sends the rest first.
    ///
    /// # Errors
    /// [`ChannelError::Send`].
    pub async fn send<T: Serialize + ?Sized>(&mut self, message: &T) -> Result<(), ChannelError> {
        self.queue(|pending| encode_message(pending, message))?;
        self.flush().await
    }

    /// Sends a blob in pieces of [`BLOB_PIECE`]. An empty blob sends nothing. Not to be dropped half-way.
    ///
    /// # Errors
    /// [`ChannelError::Send`].
    pub async fn send_blob(&mut self, blob: &[u8]) -> Result<(), ChannelError> {
        for piece in blob.chunks(BLOB_PIECE) {
            self.queue(|pending| encode_blob(pending, piece))?;
            self.flush().await?;
        }
        Ok(())
    }

    /// Sends the last frame: the client is done. Nothing can be sent after it.
    ///
    /// # Errors
    /// [`ChannelError::Send`].
    pub async fn end(&mut self) -> Result<(), ChannelError> {
        self.queue(encode_end)?;
        self.ended = true;
        self.flush().await
    }

    fn queue(
        &mut self,
        encode: impl FnOnce(&mut Vec<u8>) -> Result<(), FrameError>,
    ) -> Result<(), ChannelError> {
        if self.ended {
            return Err(ChannelError::Send(FrameError::Ended));
        }
        encode(&mut self.pending).map_err(ChannelError::Send)
    }

    async fn flush(&mut self) -> Result<(), ChannelError> {
        let failed = |error| ChannelError::Send(FrameError::Write(error));
        while !self.pending.is_empty() {
            let count = self.stream.write(&self.pending).await.map_err(failed)?;
            if count == 0 {
                return Err(failed(std::io::ErrorKind::WriteZero.into()));
            }
            self.pending.drain(..count);
        }
        self.stream.flush().await.map_err(failed)
    }
}

impl ChannelReceiver {
    pub(crate) fn new(stream: Output, already: &[u8], stderr: Stderr, ending: Ending) -> Self {
        let mut decoder = Decoder::default();
        decoder.push(already);
        Self { stream, decoder, buffer: vec![0; 64 << 10].into(), stderr, ending: Some(ending) }
    }

    /// Waits for the next message or piece of a blob; `None` after the agent's last frame. It may be dropped
    /// half-way: nothing is lost.
    ///
    /// # Errors
    /// [`ChannelError::Cut`] when the agent or the connection is gone, [`ChannelError::Frame`] when what it
    /// says is not understood.
    pub async fn receive<T: DeserializeOwned>(&mut self) -> Result<Option<Incoming<T>>, ChannelError> {
        match self.frame().await {
            Ok(incoming) => Ok(incoming),
            Err(FrameError::Cut | FrameError::Read(_)) => Err(self.cut().await),
            Err(source) => Err(ChannelError::Frame { source, stderr: self.stderr.tail() }),
        }
    }

    /// As [`ChannelReceiver::receive`], with the bare reason.
    pub(crate) async fn frame<T: DeserializeOwned>(&mut self) -> Result<Option<Incoming<T>>, FrameError> {
        loop {
            if let Some(frame) = self.decoder.take()? {
                return incoming(frame);
            }
            if self.decoder.ended() {
                return Ok(None);
            }
            match self.stream.read(&mut self.buffer).await.map_err(FrameError::Read)? {
                0 => return Err(FrameError::Cut),
                count => self.decoder.push(self.buffer.get(..count).unwrap_or_default()),
            }
        }
    }

    /// What the agent said on standard error so far: the last 8 KiB.
    #[must_use]
    pub fn stderr(&self) -> String {
        self.stderr.tail()
    }

    /// The error for an output that ended too early.
    pub(crate) async fn cut(&mut self) -> ChannelError {
        ChannelError::Cut { stderr: self.stderr.rest().await, exit: self.exit().await }
    }

    async fn exit(&mut self) -> Exit {
        let Some(ending) = &mut self.ending else { return Exit::Unknown };
        match tokio::time::timeout(ENDING, ending).await {
            Ok(exit) => {
                self.ending = None;
                exit
            }
            Err(_) => Exit::Unknown,
        }
    }

    /// As [`Channel::close`], for a channel that was split.
    ///
    /// # Errors
    /// As [`Channel::close`].
    pub async fn close(mut self, mut sender: ChannelSender) -> Result<(), ChannelError> {
        if !sender.ended {
            // An agent that has already ended does not listen any more; what it said decides.
            let _ = tokio::time::timeout(LAST_WORDS, sender.end()).await;
        }
        let rest = async {
            while self.receive::<serde::de::IgnoredAny>().await?.is_some() {}
            Ok(())
        };
        let rest = tokio::time::timeout(LAST_WORDS, rest).await;
        drop(sender);
        // Its process ends by itself: sudo takes its time for that.
        rest.unwrap_or(Err(ChannelError::Silent))
    }
}

impl Channel {
    pub(crate) fn new(
        sender: ChannelSender,
        receiver: ChannelReceiver,
        delivery: Delivery,
        build: String,
    ) -> Self {
        Self { sender, receiver, delivery, build }
    }

    /// Sends a message; see [`ChannelSender::send`].
    ///
    /// # Errors
    /// [`ChannelError::Send`].
    pub async fn send<T: Serialize + ?Sized>(&mut self, message: &T) -> Result<(), ChannelError> {
        self.sender.send(message).await
    }

    /// Sends a blob; see [`ChannelSender::send_blob`].
    ///
    /// # Errors
    /// [`ChannelError::Send`].
    pub async fn send_blob(&mut self, blob: &[u8]) -> Result<(), ChannelError> {
        self.sender.send_blob(blob).await
    }

    /// Sends the last frame; see [`ChannelSender::end`].
    ///
    /// # Errors
    /// [`ChannelError::Send`].
    pub async fn end(&mut self) -> Result<(), ChannelError> {
        self.sender.end().await
    }

    /// Receives a message or a piece of a blob; see [`ChannelReceiver::receive`].
    ///
    /// # Errors
    /// [`ChannelError::Cut`] and [`ChannelError::Frame`].
    pub async fn receive<T: DeserializeOwned>(&mut self) -> Result<Option<Incoming<T>>, ChannelError> {
        self.receiver.receive().await
    }

    /// How the agent came to be on the host.
    #[must_use]
    pub fn delivery(&self) -> &Delivery {
        &self.delivery
    }

    /// Version and content id that the agent named.
    #[must_use]
    pub fn agent_build(&self) -> &str {
        &self.build
    }

    /// Both halves, to send while something is being received.
    #[must_use]
    pub fn split(self) -> (ChannelSender, ChannelReceiver) {
        (self.sender, self.receiver)
    }

    /// Tells the agent that the client is done, and reads away what it still says up to its last frame.
    ///
    /// # Errors
    /// [`ChannelError::Cut`] when it went away without its last frame, [`ChannelError::Silent`] when it does
    /// not end within 10 s.
    pub async fn close(self) -> Result<(), ChannelError> {
        self.receiver.close(self.sender).await
    }
}
