//! Frames: a length, a type and a payload, and the three ways to read and write them.

mod blocking;
mod decoder;
mod frame;

pub use blocking::{FrameReader, FrameWriter};
pub use decoder::Decoder;
pub use frame::{BLOB_PIECE, Frame, FrameError, Incoming, MAX_FRAME};
pub(crate) use frame::{encode_blob, encode_end, encode_message, incoming};
