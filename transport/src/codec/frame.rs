use std::io;

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Largest payload of a frame, in bytes.
pub const MAX_FRAME: usize = 16 << 20;

/// Largest payload of a blob frame that a sender makes, in bytes. Longer blobs are sent in pieces.
pub const BLOB_PIECE: usize = 1 << 20;

pub(super) const HEADER: usize = 5;
pub(super) const MESSAGE: u8 = 0;
pub(super) const BLOB: u8 = 1;
pub(super) const END: u8 = 2;

/// One frame as it travels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// The JSON text of one message.
    Message(Vec<u8>),
    /// Raw bytes; what they are was said in a message before.
    Blob(Vec<u8>),
    /// The last frame: the sender is done and has said everything.
    End,
}

impl Frame {
    /// The bytes of this frame, header included.
    ///
    /// # Errors
    /// [`FrameError::TooBig`] when the payload is larger than [`MAX_FRAME`].
    pub fn encode(&self) -> Result<Vec<u8>, FrameError> {
        let mut bytes = Vec::new();
        match self {
            Frame::Message(payload) => put(&mut bytes, MESSAGE, payload)?,
            Frame::Blob(payload) => put(&mut bytes, BLOB, payload)?,
            Frame::End => put(&mut bytes, END, &[])?,
        }
        Ok(bytes)
    }
}

/// What a receiver is handed: a message of its own type, or a piece of a blob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Incoming<T> {
    /// A message.
    Message(T),
    /// A piece of a blob, at most [`MAX_FRAME`] bytes.
    Blob(Vec<u8>),
}

/// Why frames could not be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// The type byte is none that this protocol has.
    #[error("a frame of the unknown type {kind} was received: the other side does not speak this protocol")]
    UnknownType {
        /// The type byte.
        kind: u8,
    },
    /// The header announces more than is allowed.
    #[error("a frame of {length} bytes was announced, more than the {MAX_FRAME} that are allowed")]
    Oversize {
        /// The announced payload, in bytes.
        length: usize,
    },
    /// A message is too large to be sent.
    #[error("a frame of {length} bytes cannot be sent: at most {MAX_FRAME} are allowed")]
    TooBig {
        /// The payload, in bytes.
        length: usize,
    },
    /// The last frame carries a payload.
    #[error("the last frame carries {length} bytes, it must be empty")]
    EndWithPayload {
        /// The announced payload, in bytes.
        length: usize,
    },
    /// Something follows the last frame.
    #[error("data was received after the last frame")]
    AfterEnd,
    /// Something was to be sent after the last frame.
    #[error("nothing can be sent after the last frame")]
    Ended,
    /// The stream ended without a last frame: the other side died or the connection was lost.
    #[error("the stream was cut off before its last frame")]
    Cut,
    /// A message is not what was expected.
    #[error("a message could not be understood as {expected}: {text}")]
    Malformed {
        /// Name of the expected type.
        expected: &'static str,
        /// The beginning of the message.
        text: String,
        /// The JSON reader's reason.
        source: serde_json::Error,
    },
    /// A message could not be turned into JSON.
    #[error("a message of type {kind} could not be written as JSON")]
    Unwritable {
        /// Name of its type.
        kind: &'static str,
        /// The JSON writer's reason.
        source: serde_json::Error,
    },
    /// The stream could not be read.
    #[error("reading frames failed")]
    Read(#[source] io::Error),
    /// The stream could not be written.
    #[error("writing frames failed")]
    Write(#[source] io::Error),
}

fn put(into: &mut Vec<u8>, kind: u8, payload: &[u8]) -> Result<(), FrameError> {
    let length = u32::try_from(payload.len()).ok().filter(|_| payload.len() <= MAX_FRAME);
    let length = length.ok_or(FrameError::TooBig { length: payload.len() })?;
    into.reserve(HEADER + payload.len());
    into.extend_from_slice(&length.to_be_bytes());
    into.push(kind);
    into.extend_from_slice(payload);
    Ok(())
}

pub(crate) fn encode_message<T: Serialize + ?Sized>(
    into: &mut Vec<u8>,
    message: &T,
) -> Result<(), FrameError> {
    let payload = serde_json::to_vec(message)
        .map_err(|source| FrameError::Unwritable { kind: std::any::type_name::<T>(), source })?;
    put(into, MESSAGE, &payload)
}

pub(crate) fn encode_blob(into: &mut Vec<u8>, blob: &[u8]) -> Result<(), FrameError> {
    blob.chunks(BLOB_PIECE).try_for_each(|piece| put(into, BLOB, piece))
}

pub(crate) fn encode_end(into: &mut Vec<u8>) -> Result<(), FrameError> {
    put(into, END, &[])
}

/// What a frame means to a receiver of messages of type `T`; `None` is the end.
pub(crate) fn incoming<T: DeserializeOwned>(frame: Frame) -> Result<Option<Incoming<T>>, FrameError> {
    match frame {
        Frame::Message(json) => serde_json::from_slice(&json)
            .map(|message| Some(Incoming::Message(message)))
            .map_err(|source| FrameError::Malformed {
                expected: std::any::type_name::<T>(),
                text: String::from_utf8_lossy(&json).chars().take(200).collect(),
                source,
            }),
        Frame::Blob(bytes) => Ok(Some(Incoming::Blob(bytes))),
        Frame::End => Ok(None),
    }
}
