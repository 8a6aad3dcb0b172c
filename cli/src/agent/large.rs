//! Entries of a journal that are larger than a message may be, such as the end of a run with tens of thousands of cases.

use std::io::Write;

use toril_transport::{FrameError, FrameWriter};

use super::{Entry, Report};

/// Largest entry that is sent, in bytes of its JSON text: whoever follows the run has it in memory.
pub(super) const MOST: usize = 512 << 20;

/// Why an entry was not sent.
#[derive(Debug, thiserror::Error)]
pub(super) enum SendError {
    #[error("entry {number} has {length} bytes, more than the {most} that are sent of one")]
    TooLarge { number: u64, length: usize, most: usize },
    #[error(transparent)]
    Frame(#[from] FrameError),
}

/// Sends an entry: in one message if it fits into one, else in pieces.
pub(super) fn send<W: Write>(
    writer: &mut FrameWriter<W>,
    entry: Entry,
    most: usize,
) -> Result<(), SendError> {
    let number = entry.number;
    let report = Report::Entry(Box::new(entry));
    match writer.send(&report) {
        Err(FrameError::TooBig { .. }) => {}
        other => return Ok(other?),
    }
    let Report::Entry(entry) = report else { return Ok(()) };
    let text = serde_json::to_vec(&entry)
        .map_err(|source| FrameError::Unwritable { kind: std::any::type_name::<Entry>(), source })?;
    if text.len() > most {
        return Err(SendError::TooLarge { number, length: text.len(), most });
    }
    writer.send(&Report::LargeEntry { size: text.len() as u64 })?;
    Ok(writer.send_blob(&text)?)
}

/// What has come of an entry that is sent in pieces.
#[derive(Debug)]
pub(crate) struct Pieces {
    text: Vec<u8>,
    size: usize,
}

impl Pieces {
    /// Of an entry of so many bytes; nothing where none is so large.
    pub(crate) fn announced(size: u64) -> Option<Pieces> {
        let size = usize::try_from(size).ok().filter(|size| (1..=MOST).contains(size))?;
        Some(Pieces { text: Vec::new(), size })
    }

    /// Takes a piece.
    pub(crate) fn take(&mut self, piece: &[u8]) {
        self.text.extend_from_slice(piece);
    }

    /// Whether all of it is there.
    pub(crate) fn are_all(&self) -> bool {
        self.text.len() >= self.size
    }

    /// The entry; nothing where it is none, or has not the size that was announced.
    pub(crate) fn entry(self) -> Option<Entry> {
        serde_json::from_slice(&self.text).ok().filter(|_| self.text.len() == self.size)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use toril_transport::{FrameReader, Incoming, MAX_FRAME};

    use super::super::RunEvent;
    use super::*;

    fn entry(number: u64, length: usize) -> Entry {
        Entry { number, event: RunEvent::Failed { error: "x".repeat(length) } }
    }

    #[test]
    fn an_entry_that_no_frame_holds_arrives_whole_and_in_order() {
        let mut bytes = Vec::new();
        let mut writer = FrameWriter::new(&mut bytes);
        for (number, length) in [(0, 3), (1, MAX_FRAME + 5), (2, 3)] {
            send(&mut writer, entry(number, length), MOST).unwrap();
        }
        writer.end().unwrap();
        let mut reader = FrameReader::new(Cursor::new(bytes));
        let (mut seen, mut pieces) = (Vec::new(), None);
        while let Some(incoming) = reader.receive::<Report>().unwrap() {
            match incoming {
                Incoming::Message(Report::Entry(entry)) => seen.push(*entry),
                Incoming::Message(Report::LargeEntry { size }) => pieces = Pieces::announced(size),
                Incoming::Blob(piece) => {
                    pieces.as_mut().unwrap().take(&piece);
                    if let Some(all) = pieces.take_if(|pieces| pieces.are_all()) {
                        seen.push(all.entry().unwrap());
                    }
                }
                other => panic!("{other:?}"),
            }
        }
        let lengths = seen.iter().map(|entry| match &entry.event {
            RunEvent::Failed { error } => (entry.number, error.len()),
            other => panic!("{other:?}"),
        });
        assert_eq!(lengths.collect::<Vec<_>>(), [(0, 3), (1, MAX_FRAME + 5), (2, 3)]);
    }

    #[test]
    fn one_that_is_too_large_even_so_is_told_and_not_begun() {
        let mut bytes = Vec::new();
        let error = send(&mut FrameWriter::new(&mut bytes), entry(7, MAX_FRAME), MAX_FRAME).unwrap_err();
        assert!(error.to_string().starts_with("entry 7 has 167"), "{error}");
        assert!(bytes.is_empty(), "something was sent");
    }

    #[test]
    fn pieces_that_make_no_entry_are_none() {
        assert!(Pieces::announced(0).is_none() && Pieces::announced(u64::MAX).is_none());
        let mut pieces = Pieces::announced(2).unwrap();
        pieces.take(b"{");
        assert!(!pieces.are_all());
        pieces.take(b"} ");
        assert!(pieces.are_all() && pieces.entry().is_none());
    }
}
