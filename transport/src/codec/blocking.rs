use std::io::{Read, Write};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::decoder::Decoder;
use super::frame::{BLOB_PIECE, FrameError, Incoming, encode_blob, encode_end, encode_message, incoming};

/// Writes frames to a blocking stream; each call is flushed.
#[derive(Debug)]
pub struct FrameWriter<W> {
    stream: W,
    ended: bool,
}

impl<W: Write> FrameWriter<W> {
    /// Writes to `stream`.
    pub fn new(stream: W) -> Self {
        Self { stream, ended: false }
    }

    /// Sends a message.
    ///
    /// # Errors
    /// [`FrameError`] when the message is not JSON, is larger than a frame, or cannot be written.
    pub fn send<T: Serialize + ?Sized>(&mut self, message: &T) -> Result<(), FrameError> {
        let mut bytes = Vec::new();
        encode_message(&mut bytes, message)?;
        self.write(&bytes)
    }

    /// Sends a blob in pieces. An empty blob sends nothing: its length belongs into a message before it.
    ///
    /// # Errors
    /// [`FrameError`] when it cannot be written.
    pub fn send_blob(&mut self, blob: &[u8]) -> Result<(), FrameError> {
        let mut bytes = Vec::new();
        for piece in blob.chunks(BLOB_PIECE) {
            bytes.clear();
            encode_blob(&mut bytes, piece)?;
            self.write(&bytes)?;
        }
        Ok(())
    }

    /// Sends the last frame. Nothing can be sent after it.
    ///
    /// # Errors
    /// [`FrameError`] when it cannot be written.
    pub fn end(&mut self) -> Result<(), FrameError> {
        let mut bytes = Vec::new();
        encode_end(&mut bytes)?;
        self.write(&bytes)?;
        self.ended = true;
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), FrameError> {
        if self.ended {
            return Err(FrameError::Ended);
        }
        self.stream.write_all(bytes).and_then(|()| self.stream.flush()).map_err(FrameError::Write)
    }
}

/// Reads frames from a blocking stream.
#[derive(Debug)]
pub struct FrameReader<R> {
    stream: R,
    decoder: Decoder,
    buffer: Box<[u8]>,
}

impl<R: Read> FrameReader<R> {
    /// Reads from `stream`.
    pub fn new(stream: R) -> Self {
        Self { stream, decoder: Decoder::default(), buffer: vec![0; 64 << 10].into() }
    }

    /// Waits for the next message or piece of a blob; `None` after the last frame.
    ///
    /// # Errors
    /// [`FrameError::Cut`] when the stream ends before the last frame; the other variants when it cannot be
    /// read or is not understood.
    pub fn receive<T: DeserializeOwned>(&mut self) -> Result<Option<Incoming<T>>, FrameError> {
        loop {
            if let Some(frame) = self.decoder.take()? {
                return incoming(frame);
            }
            if self.decoder.ended() {
                return Ok(None);
            }
            match self.stream.read(&mut self.buffer) {
                Ok(0) => return Err(FrameError::Cut),
                Ok(count) => self.decoder.push(self.buffer.get(..count).unwrap_or_default()),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(FrameError::Read(error)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::super::frame::Frame;
    use super::*;

    fn sent(fill: impl FnOnce(&mut FrameWriter<&mut Vec<u8>>)) -> FrameReader<Cursor<Vec<u8>>> {
        let mut bytes = Vec::new();
        fill(&mut FrameWriter::new(&mut bytes));
        FrameReader::new(Cursor::new(bytes))
    }

    #[test]
    fn messages_and_blobs_arrive_and_then_the_end() {
        let blob = vec![3; 2 * BLOB_PIECE + 5];
        let mut reader = sent(|writer| {
            writer.send("hello").unwrap();
            writer.send_blob(&blob).unwrap();
            writer.end().unwrap();
            assert!(matches!(writer.send("more"), Err(FrameError::Ended)));
        });
        assert_eq!(reader.receive::<String>().unwrap(), Some(Incoming::Message("hello".into())));
        let mut pieces = Vec::new();
        while let Some(piece) = reader.receive::<String>().unwrap() {
            let Incoming::Blob(bytes) = piece else { panic!("{piece:?}") };
            pieces.push(bytes);
        }
        assert_eq!(pieces.iter().map(Vec::len).collect::<Vec<_>>(), [BLOB_PIECE, BLOB_PIECE, 5]);
        assert_eq!(pieces.concat(), blob);
        assert_eq!(reader.receive::<String>().unwrap(), None);
    }

    #[test]
    fn a_stream_without_its_last_frame_is_cut() {
        let mut reader = sent(|writer| writer.send("hello").unwrap());
        reader.receive::<String>().unwrap();
        assert!(matches!(reader.receive::<String>(), Err(FrameError::Cut)));
    }

    #[test]
    fn a_message_of_another_type_is_shown() {
        let mut reader = sent(|writer| writer.send("hello").unwrap());
        let error = reader.receive::<u32>().unwrap_err().to_string();
        assert!(error.contains("u32") && error.contains("hello"), "{error}");
    }

    #[test]
    fn a_frame_is_taken_as_it_was_encoded() {
        let mut reader = FrameReader::new(Cursor::new(Frame::Blob(vec![1]).encode().unwrap()));
        assert_eq!(reader.receive::<()>().unwrap(), Some(Incoming::Blob(vec![1])));
    }
}
