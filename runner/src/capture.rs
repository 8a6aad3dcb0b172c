use std::borrow::Cow;
use std::collections::VecDeque;

use memchr::memchr;

/// How many bytes of a stream's beginning, and of its end, are kept.
const KEPT: usize = 512 << 10;

/// How many bytes the last lines are looked for in.
const TAIL: usize = 64 << 10;

/// What is read of a line, in bytes; the rest of a longer one is dropped.
pub(crate) const LONGEST_LINE: usize = 64 << 10;

/// What is kept of a line or a part of one, in bytes: there may be thousands of them.
const LONGEST_KEPT: usize = 4 << 10;

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

/// A line of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Line<'l> {
    /// Without control characters.
    pub text: &'l str,
    /// Whether it is only the beginning of a line that is longer than is read.
    pub is_cut: bool,
}

impl<'l> Line<'l> {
    pub(crate) fn whole(text: &'l str) -> Line<'l> {
        Line { text, is_cut: false }
    }
}

/// Cuts a stream into lines, which are the same in whatever pieces it comes.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    partial: Vec<u8>,
    /// The line was handed over already, and what follows of it is dropped.
    passes: bool,
}

impl Lines {
    /// Hands over every line that `bytes` complete, and the beginning of one that has become too long.
    pub(crate) fn take(&mut self, bytes: &[u8], mut each: impl FnMut(Line<'_>)) {
        let mut rest = bytes;
        while !rest.is_empty() {
            let end = memchr(b'\n', rest);
            let part = &rest[..end.unwrap_or(rest.len())];
            rest = end.map_or(&[], |end| &rest[end + 1..]);
            if !self.passes {
                let room = LONGEST_LINE - self.partial.len();
                self.partial.extend_from_slice(&part[..part.len().min(room)]);
                self.passes = part.len() > room;
                if self.passes || end.is_some() {
                    self.hand_over(&mut each);
                }
            }
            self.passes = self.passes && end.is_none();
        }
    }

    /// Hands over what is left, at the stream's end.
    pub(crate) fn finish(&mut self, mut each: impl FnMut(Line<'_>)) {
        if !self.partial.is_empty() {
            self.hand_over(&mut each);
        }
    }

    fn hand_over(&mut self, each: &mut impl FnMut(Line<'_>)) {
        let line = self.partial.strip_suffix(b"\r").unwrap_or(&self.partial);
        each(Line { text: &clean(&String::from_utf8_lossy(line)), is_cut: self.passes });
        self.partial.clear();
    }
}

/// As much of a text as is kept of it.
pub(crate) fn kept(text: &str) -> String {
    if text.len() <= LONGEST_KEPT {
        return text.to_owned();
    }
    let shown = (0..=LONGEST_KEPT).rev().find(|end| text.is_char_boundary(*end)).unwrap_or_default();
    format!("{}…", &text[..shown])
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
    use proptest::prelude::*;

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

    /// The lines of a stream that comes in pieces which end at these places.
    fn lines(stream: &[u8], ends: &[usize]) -> Vec<(String, bool)> {
        let (mut lines, mut seen) = (Lines::default(), Vec::new());
        let mut note = |line: Line<'_>| seen.push((line.text.to_owned(), line.is_cut));
        let mut ends: Vec<usize> = ends.iter().map(|end| end % (stream.len() + 1)).collect();
        ends.sort_unstable();
        let mut from = 0;
        for end in ends.into_iter().chain([stream.len()]) {
            lines.take(&stream[from..end], &mut note);
            from = end;
        }
        lines.finish(&mut note);
        seen
    }

    #[test]
    fn lines_are_read_up_to_their_ends_or_to_what_is_read_of_one() {
        let whole = |text: &str| (text.to_owned(), false);
        assert_eq!(lines(b"one\r\ntwo\n\nth\x1b[1mree", &[2, 8]), ["one", "two", "", "three"].map(whole));
        let (longest, longer) = ("x".repeat(LONGEST_LINE), "x".repeat(LONGEST_LINE + 1));
        assert_eq!(lines(format!("{longest}\na").as_bytes(), &[]), [whole(&longest), whole("a")]);
        assert_eq!(lines(format!("{longer}yz\na").as_bytes(), &[]), [(longest, true), whole("a")]);
        let mut endless = Lines::default();
        for _ in 0..100 {
            endless.take(longer.as_bytes(), |_| {});
        }
        assert!(endless.partial.capacity() <= 2 * LONGEST_LINE);
    }

    #[test]
    fn what_is_kept_is_bounded() {
        assert_eq!(kept("short"), "short");
        let long = "é".repeat(LONGEST_KEPT);
        let kept = kept(&format!("x{long}"));
        assert!(kept.ends_with("é…") && kept.len() <= LONGEST_KEPT + "…".len());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn lines_are_the_same_in_whatever_pieces_they_come(
            pieces in prop::collection::vec((any::<u8>(), 0..5usize), 0..12),
            ends in prop::collection::vec(any::<usize>(), 0..12),
        ) {
            const LENGTHS: [usize; 5] = [0, 1, 4 << 10, LONGEST_LINE, LONGEST_LINE + 1];
            let mut stream = Vec::new();
            for (byte, length) in pieces {
                stream.extend(std::iter::repeat_n(byte, LENGTHS[length]));
                stream.extend_from_slice([&b"\n"[..], b"\r\n", b"case a: FAILED (", b"\xc3"][usize::from(byte) % 4]);
            }
            let whole = lines(&stream, &[]);
            prop_assert_eq!(&whole, &lines(&stream, &ends));
            prop_assert!(whole.iter().all(|(line, _)| line.len() <= 3 * LONGEST_LINE));
            let all = stream.iter().filter(|byte| **byte == b'\n').count();
            prop_assert_eq!(whole.len(), all + usize::from(stream.last().is_some_and(|byte| *byte != b'\n')));
        }
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
