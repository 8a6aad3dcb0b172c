use std::borrow::Cow;
use std::collections::VecDeque;

use memchr::memchr;

/// How many bytes of a stream's beginning, and of its end, are kept.
const KEPT: usize = 512 << 10;

/// How many bytes the last lines are looked for in.
const TAIL: usize = 64 << 10;

/// A longer line counts as several.
const LONGEST_LINE: usize = 4 << 10;

/// A stream of any length in bounded memory: its beginning, its end and its size.
#[derive(Debug, Default)]
pub(crate) struct Capture {
    first: Vec<u8>,
    last: VecDeque<u8>,
    /// Bytes that came.
    pub total: u64,
}

impl Capture {
    pub(crate) fn take(&mut self, bytes: &[u8]) {
        self.total += bytes.len() as u64;
        let (first, rest) = bytes.split_at(bytes.len().min(KEPT - self.first.len()));
        self.first.extend_from_slice(first);
        let rest = &rest[rest.len().saturating_sub(KEPT)..];
        let excess = (self.last.len() + rest.len()).saturating_sub(KEPT);
        self.last.drain(..excess);
        self.last.extend(rest);
    }

    /// All that came, if it was not more than is kept; else its beginning and its end, and how much is missing between.
    pub(crate) fn into_bytes(self) -> Vec<u8> {
        let mut bytes = self.first;
        let missing = self.total.saturating_sub((bytes.len() + self.last.len()) as u64);
        if missing > 0 {
            bytes.extend_from_slice(format!("\n[toril: {missing} bytes are left out here]\n").as_bytes());
        }
        bytes.extend(self.last);
        bytes
    }

    /// The last lines, at most `count`, without control characters.
    pub(crate) fn last_lines(&self, count: usize) -> Vec<String> {
        let mut bytes = Vec::new();
        if self.last.len() < KEPT {
            bytes.extend_from_slice(&self.first);
        }
        bytes.extend(&self.last);
        let tail = &bytes[bytes.len().saturating_sub(TAIL)..];
        let text = String::from_utf8_lossy(tail);
        let shown = |line: &str| clean(line).chars().take(LONGEST_SHOWN).collect::<String>();
        let lines: Vec<String> = text.lines().map(shown).filter(|line| !line.trim().is_empty()).collect();
        lines[lines.len().saturating_sub(count)..].to_vec()
    }
}

/// What is shown of a line.
const LONGEST_SHOWN: usize = 500;

/// Cuts a stream into lines.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    partial: Vec<u8>,
}

impl Lines {
    /// Hands over every line that `bytes` complete.
    pub(crate) fn take(&mut self, bytes: &[u8], mut each: impl FnMut(&str)) {
        let mut rest = bytes;
        while !rest.is_empty() {
            let (part, after) = rest.split_at(memchr(b'\n', rest).map_or(rest.len(), |end| end + 1));
            rest = after;
            self.partial.extend_from_slice(part);
            if part.ends_with(b"\n") || self.partial.len() >= LONGEST_LINE {
                self.finish(&mut each);
            }
        }
    }

    /// Hands over what is left, at the stream's end.
    pub(crate) fn finish(&mut self, mut each: impl FnMut(&str)) {
        if !self.partial.is_empty() {
            let line = self.partial.strip_suffix(b"\n").unwrap_or(&self.partial);
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            each(&clean(&String::from_utf8_lossy(line)));
            self.partial.clear();
        }
    }
}

/// A line without escape sequences and other control characters: serial output has them, and no report may.
pub(crate) fn clean(line: &str) -> Cow<'_, str> {
    // Of a flood, hardly a line has any.
    let is_plain = |byte: u8| (b' '..0x7f).contains(&byte) || byte == b'\t';
    if line.bytes().all(is_plain) {
        return Cow::Borrowed(line);
    }
    let mut text = String::with_capacity(line.len());
    let mut characters = line.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '\u{1b}' if characters.peek() == Some(&'[') => {
                characters.next();
                while characters.next().is_some_and(|c| !('@'..='~').contains(&c)) {}
            }
            '\t' => text.push('\t'),
            c if c.is_control() => {}
            c => text.push(c),
        }
    }
    Cow::Owned(text)
}

/// Bytes to text without breaking characters that are cut between two pieces.
#[derive(Debug, Default)]
pub(crate) struct Utf8Stream {
    cut: Vec<u8>,
}

impl Utf8Stream {
    pub(crate) fn take(&mut self, bytes: &[u8]) -> String {
        self.cut.extend_from_slice(bytes);
        let keep = match std::str::from_utf8(&self.cut) {
            // No length: the piece ends within a character.
            Err(error) if error.error_len().is_none() => error.valid_up_to(),
            Ok(_) | Err(_) => self.cut.len(),
        };
        let rest = self.cut.split_off(keep);
        let text = String::from_utf8_lossy(&self.cut).into_owned();
        self.cut = rest;
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_bounded_and_both_ends_are_kept() {
        let mut capture = Capture::default();
        capture.take(b"first line\n");
        for _ in 0..100 {
            capture.take(&[b'x'; 100_000]);
        }
        capture.take(b"\nlast \x1b[1mline\x1b[0m\r\n");
        assert!(capture.first.len() + capture.last.len() <= 2 * KEPT);
        assert!(capture.first.starts_with(b"first line\n"));
        assert_eq!(capture.last_lines(1), ["last line"]);
        assert_eq!(capture.total, 10_000_000 + 11 + 20);
    }

    #[test]
    fn what_is_missing_between_is_said() {
        let mut capture = Capture::default();
        capture.take(b"short\n");
        assert_eq!(capture.into_bytes(), b"short\n");
        let mut capture = Capture::default();
        capture.take(&vec![b'a'; KEPT]);
        capture.take(&vec![b'b'; KEPT + 7]);
        let text = String::from_utf8(capture.into_bytes()).unwrap();
        assert!(text.contains("a\n[toril: 7 bytes are left out here]\nb"));
    }

    #[test]
    fn short_output_is_whole() {
        let mut capture = Capture::default();
        capture.take(b"a\r\n\nb");
        assert_eq!(capture.last_lines(9), ["a", "b"]);
    }

    #[test]
    fn lines_come_whole_however_they_are_cut() {
        let mut lines = Lines::default();
        let mut seen = Vec::new();
        for piece in [&b"on"[..], b"e\r\ntwo\nth", b"ree"] {
            lines.take(piece, |line| seen.push(line.to_owned()));
        }
        lines.finish(|line| seen.push(line.to_owned()));
        assert_eq!(seen, ["one", "two", "three"]);
        let mut longest = 0;
        lines.take(&vec![b'x'; 50_000], |line| longest = longest.max(line.len()));
        assert!(longest > 0 && lines.partial.len() <= 50_000);
    }

    #[test]
    fn characters_cut_in_two() {
        let mut stream = Utf8Stream::default();
        let bytes = "aé".as_bytes();
        assert_eq!(stream.take(&bytes[..2]), "a");
        assert_eq!(stream.take(&bytes[2..]), "é");
        assert_eq!(stream.take(b"\xff!"), "\u{fffd}!");
    }
}
