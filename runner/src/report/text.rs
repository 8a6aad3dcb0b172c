//! Texts that a guest or a host has said, made fit for a document: serial output has escape sequences and NULs.

/// Without escape sequences, and without control characters but line feeds and tabs.
pub(super) fn clean(text: &str) -> String {
    let mut cleaned = String::with_capacity(text.len());
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        match c {
            '\u{1b}' => skip_sequence(&mut rest),
            '\n' | '\t' => cleaned.push(c),
            // Neither may stand in XML.
            '\u{fffe}' | '\u{ffff}' => {}
            c if c.is_control() => {}
            c => cleaned.push(c),
        }
    }
    cleaned
}

/// On one line, and without what [`clean`] takes away.
pub(super) fn line(text: &str) -> String {
    clean(text).split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The rest of an escape sequence whose escape character was taken. One that is cut off, or is none, takes no more than
/// the text's line.
fn skip_sequence(rest: &mut std::str::Chars<'_>) {
    let ahead = rest.clone();
    let line = ahead.as_str().split('\n').next().unwrap_or_default();
    let length = match line.chars().next() {
        // CSI: parameters, then a letter.
        Some('[') => line
            .char_indices()
            .skip(1)
            .find(|(_, c)| ('\u{40}'..='\u{7e}').contains(c) || !c.is_ascii())
            .map(|(index, c)| index + c.len_utf8()),
        // OSC: a text, then BEL or the escape of ST.
        Some(']') => line.find('\u{7}').map(|index| index + 1).or_else(|| Some(line.find('\u{1b}')? + 1)),
        Some(c) => Some(c.len_utf8()),
        None => Some(0),
    };
    let length = length.unwrap_or(line.len());
    *rest = ahead.as_str().get(length..).unwrap_or_default().chars();
}

/// How many bytes a text takes in XML or HTML at most.
pub(super) fn cost(text: &str) -> usize {
    text.chars().map(char_cost).sum()
}

fn char_cost(c: char) -> usize {
    if matches!(c, '&' | '<' | '>' | '"' | '\'' | '\n' | '\t') { 6 } else { c.len_utf8() }
}

/// The beginning of a text that costs no more than this; says where it was cut.
pub(super) fn clipped(text: &str, most: usize) -> String {
    if cost(text) <= most {
        return text.to_owned();
    }
    let mut left = most.saturating_sub(3);
    let fits = |c: &char| {
        let fits = char_cost(*c) <= left;
        left = left.saturating_sub(char_cost(*c));
        fits
    };
    let kept: String = text.chars().take_while(fits).collect();
    kept + "…"
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_steers_a_terminal_is_taken_away() {
        let serial = "\u{1b}c\u{1b}[?7l\u{1b}[2JSeaBIOS\0\r\n\u{1b}]0;title\u{7}boot\u{1b}[31m red\u{1b}[0m";
        assert_eq!(clean(serial), "SeaBIOS\nboot red");
        assert_eq!(clean("a\u{1b}[31"), "a");
        assert_eq!(clean("a\u{1b}[31\nb"), "a\nb");
        assert_eq!(clean("a\u{1b}"), "a");
        assert_eq!(line("a\n  b\0\tc"), "a b c");
    }

    #[test]
    fn a_cut_is_said() {
        assert_eq!(clipped("abcdefgh", 8), "abcdefgh");
        assert_eq!(clipped("abcdefghi", 8), "abcde…");
        assert_eq!(clipped("<<<", 14), "<…");
    }

    proptest! {
        #[test]
        fn nothing_that_steers_is_left(text in "\\PC*|(?s).*|[\u{1b}\\[\\]0-9;m\u{7}\0a\n]*") {
            let cleaned = clean(&text);
            prop_assert!(cleaned.chars().all(|c| c == '\n' || c == '\t' || !c.is_control()));
            prop_assert_eq!(clean(&cleaned), cleaned);
        }

        #[test]
        fn a_clipped_text_keeps_to_its_cost(text in "(?s).*", most in 3_usize..100) {
            prop_assert!(cost(&clipped(&text, most)) <= most);
        }
    }
}
