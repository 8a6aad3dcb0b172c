//! Finds the bootstrap's lines among whatever a login shell prints before them.

/// How much may come before a line of the bootstrap, in bytes.
pub(crate) const NOISE: usize = 64 << 10;

const WORD: &str = "toril-agent: ";

/// What the bootstrap says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Marker {
    /// The agent follows.
    Ready,
    /// The agent must be sent.
    Missing,
    /// It cannot be started: a keyword and its details.
    Refused { why: String, details: String },
}

/// Searches for the next marker in a stream.
#[derive(Debug, Default)]
pub(crate) struct Markers {
    buffer: Vec<u8>,
}

impl Markers {
    /// Adds received bytes and returns the next marker, if one is complete. `Err` when too much came
    /// without one.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Result<Option<Marker>, ()> {
        self.buffer.extend_from_slice(bytes);
        let mut from = 0;
        while let Some(at) = find(self.buffer.get(from..).unwrap_or_default(), WORD.as_bytes()) {
            let start = from + at + WORD.len();
            let rest = self.buffer.get(start..).unwrap_or_default();
            let Some(length) = rest.iter().position(|byte| *byte == b'\n') else { break };
            let line = String::from_utf8_lossy(rest.get(..length).unwrap_or_default()).into_owned();
            if let Some(marker) = marker(&line) {
                self.buffer.drain(..=start + length);
                return Ok(Some(marker));
            }
            from = start;
        }
        if self.buffer.len() > NOISE { Err(()) } else { Ok(None) }
    }

    /// What was received and is no marker.
    pub(crate) fn rest(self) -> Vec<u8> {
        self.buffer
    }
}

fn marker(line: &str) -> Option<Marker> {
    match line {
        "ready" => Some(Marker::Ready),
        "missing" => Some(Marker::Missing),
        _ => {
            let refusal = line.strip_prefix("refused ")?;
            let (why, details) = refusal.split_once(' ').unwrap_or((refusal, ""));
            Some(Marker::Refused { why: why.to_owned(), details: details.trim().to_owned() })
        }
    }
}

fn find(bytes: &[u8], word: &[u8]) -> Option<usize> {
    bytes.windows(word.len()).position(|window| window == word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markers_are_found_after_noise_and_what_follows_is_kept() {
        let text = b"Welcome!\ntoril-agent: what?\nno newline toril-agent: ready\n\0\0\0\x05";
        for size in 1..text.len() {
            let mut markers = Markers::default();
            let mut found = Vec::new();
            for piece in text.chunks(size) {
                found.extend(markers.push(piece).unwrap());
            }
            assert_eq!(found, [Marker::Ready], "in pieces of {size}");
            assert_eq!(markers.rest(), b"\0\0\0\x05");
        }
    }

    #[test]
    fn a_refusal_has_a_reason_and_details() {
        let marker = Markers::default().push(b"toril-agent: refused space a b c\n").unwrap();
        assert_eq!(marker, Some(Marker::Refused { why: "space".into(), details: "a b c".into() }));
        let marker = Markers::default().push(b"toril-agent: refused no-sudo\n").unwrap();
        assert_eq!(marker, Some(Marker::Refused { why: "no-sudo".into(), details: String::new() }));
    }

    #[test]
    fn endless_noise_is_given_up() {
        let mut markers = Markers::default();
        assert!((0..70).any(|_| markers.push(&[b'x'; 1024]).is_err()));
    }
}
