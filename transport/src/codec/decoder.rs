use super::frame::{BLOB, END, Frame, FrameError, HEADER, MAX_FRAME, MESSAGE};

/// Turns bytes, in pieces of any size, into frames. It does no input or output itself.
///
/// Memory grows with what was received, never with what a header announces. After an error the stream
/// cannot be trusted any more; every later call fails too.
#[derive(Debug, Default)]
pub struct Decoder {
    buffer: Vec<u8>,
    taken: usize,
    ended: bool,
}

impl Decoder {
    /// Adds received bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.taken > 0 {
            self.buffer.drain(..self.taken);
            self.taken = 0;
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole frame, or `None` when more bytes are needed.
    ///
    /// # Errors
    /// [`FrameError`] when the bytes are not frames of this protocol, or follow the last one.
    pub fn take(&mut self) -> Result<Option<Frame>, FrameError> {
        let rest = self.buffer.get(self.taken..).unwrap_or_default();
        if self.ended {
            return if rest.is_empty() { Ok(None) } else { Err(FrameError::AfterEnd) };
        }
        let Some((&[a, b, c, d, kind], body)) = rest.split_first_chunk::<HEADER>() else {
            return Ok(None);
        };
        let length = u32::from_be_bytes([a, b, c, d]) as usize;
        match kind {
            MESSAGE | BLOB if length > MAX_FRAME => return Err(FrameError::Oversize { length }),
            END if length > 0 => return Err(FrameError::EndWithPayload { length }),
            MESSAGE | BLOB | END => {}
            _ => return Err(FrameError::UnknownType { kind }),
        }
        let Some(payload) = body.get(..length) else { return Ok(None) };
        let payload = payload.to_vec();
        self.taken += HEADER + length;
        Ok(Some(match kind {
            MESSAGE => Frame::Message(payload),
            BLOB => Frame::Blob(payload),
            _ => {
                self.ended = true;
                Frame::End
            }
        }))
    }

    /// Whether the last frame was taken.
    #[must_use]
    pub fn ended(&self) -> bool {
        self.ended
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn frame() -> impl Strategy<Value = Frame> {
        (any::<bool>(), vec(any::<u8>(), 0..300))
            .prop_map(|(message, bytes)| if message { Frame::Message(bytes) } else { Frame::Blob(bytes) })
    }

    fn all(decoder: &mut Decoder) -> Result<Vec<Frame>, FrameError> {
        let mut frames = Vec::new();
        while let Some(frame) = decoder.take()? {
            frames.push(frame);
        }
        Ok(frames)
    }

    proptest! {
        #[test]
        fn any_split_of_any_frames_round_trips(frames in vec(frame(), 0..8), cuts in vec(1usize..64, 1..40)) {
            let mut sent = frames;
            sent.push(Frame::End);
            let bytes: Vec<u8> = sent.iter().flat_map(|frame| frame.encode().unwrap()).collect();
            let mut decoder = Decoder::default();
            let mut received = Vec::new();
            let mut rest = bytes.as_slice();
            for cut in cuts.iter().cycle() {
                if rest.is_empty() { break; }
                let (piece, after) = rest.split_at((*cut).min(rest.len()));
                decoder.push(piece);
                received.extend(all(&mut decoder).unwrap());
                rest = after;
            }
            prop_assert!(decoder.ended());
            prop_assert_eq!(received, sent);
        }

        #[test]
        fn random_bytes_never_panic(pieces in vec(vec(any::<u8>(), 0..50), 0..20)) {
            let mut decoder = Decoder::default();
            for piece in pieces {
                decoder.push(&piece);
                let _ = all(&mut decoder);
            }
        }
    }

    #[test]
    fn what_is_not_a_frame_is_an_error() {
        for (bytes, expected) in [
            (vec![0, 0, 0, 0, 9], "unknown type 9"),
            (vec![1, 0, 0, 1, 0], "16777217 bytes was announced"),
            (vec![0, 0, 0, 1, 2], "must be empty"),
            (vec![0, 0, 0, 0, 2, 0], "after the last frame"),
        ] {
            let mut decoder = Decoder::default();
            decoder.push(&bytes);
            let error = all(&mut decoder).unwrap_err().to_string();
            assert!(error.contains(expected), "{bytes:?} gave {error}");
            assert!(all(&mut decoder).is_err(), "{bytes:?} was forgotten");
        }
    }

    #[test]
    fn the_largest_frame_passes_and_one_byte_more_does_not() {
        let largest = Frame::Blob(vec![7; MAX_FRAME]);
        let mut decoder = Decoder::default();
        decoder.push(&largest.encode().unwrap());
        assert_eq!(decoder.take().unwrap(), Some(largest));
        assert!(matches!(Frame::Blob(vec![7; MAX_FRAME + 1]).encode(), Err(FrameError::TooBig { .. })));
    }
}
