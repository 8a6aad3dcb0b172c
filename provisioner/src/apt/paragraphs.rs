//! Paragraphs of fields as dpkg writes them: deb822(5). Nothing is copied: dpkg's database has thousands of fields of which
//! a few are wanted.

use memchr::memchr;

/// The fields of one paragraph, and their values as they stand, with the lines that continue them.
#[derive(Debug, Default)]
pub(super) struct Paragraph<'t>(Vec<(&'t str, &'t str)>);

impl<'t> Paragraph<'t> {
    pub(super) fn get(&self, name: &str) -> Option<&'t str> {
        self.0.iter().find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| *value)
    }
}

/// The paragraphs of a text; a line that is no part of one is an error, and the last thing that is told.
pub(super) fn paragraphs<'t>(text: &'t str) -> impl Iterator<Item = Result<Paragraph<'t>, String>> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let mut paragraph = Paragraph::default();
        while !rest.is_empty() {
            let end = memchr(b'\n', rest.as_bytes()).unwrap_or(rest.len());
            let (line, after) = (&rest[..end], rest.get(end + 1..).unwrap_or_default());
            if line.trim().is_empty() {
                rest = after;
                if paragraph.0.is_empty() { continue } else { break }
            }
            let Some((name, value)) = line.split_once(':').filter(|_| !line.starts_with([' ', '\t'])) else {
                rest = "";
                let line: String = line.chars().take(60).collect();
                return Some(Err(format!("`{line}` is no field")));
            };
            // The value is one piece of the text, however many lines it has.
            let begin = &rest[line.len() - value.len()..];
            let end = end_of_value(begin);
            rest = &begin[end..];
            paragraph.0.push((name.trim_end(), begin[..end].trim()));
        }
        (!paragraph.0.is_empty()).then_some(Ok(paragraph))
    })
}

/// Where the next field or the end of the paragraph begins: after the first line end that no continuation follows.
fn end_of_value(text: &str) -> usize {
    let mut end = 0;
    loop {
        match memchr(b'\n', &text.as_bytes()[end..]) {
            None => return text.len(),
            Some(length) => end += length + 1,
        }
        let next = &text[end..];
        if !next.starts_with([' ', '\t']) || next.lines().next().is_none_or(|line| line.trim().is_empty()) {
            return end;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Vec<Result<Vec<(&str, &str)>, String>> {
        paragraphs(text).map(|paragraph| paragraph.map(|paragraph| paragraph.0)).collect()
    }

    #[test]
    fn fields_with_their_lines() {
        let text = "\n\nPackage: a\nDepends: b,\n c\n\td\nEmpty:\n \t\nPackage: é\nText:\n one\n .\n";
        let first = vec![("Package", "a"), ("Depends", "b,\n c\n\td"), ("Empty", "")];
        let second = vec![("Package", "é"), ("Text", "one\n .")];
        assert_eq!(read(text), [Ok(first), Ok(second)]);
        assert_eq!(paragraphs("package: a").next().unwrap().unwrap().get("Package"), Some("a"));
        assert_eq!(read(""), []);
    }

    #[test]
    fn what_is_no_field_is_named_and_ends_it() {
        let no_field = |line: &str| Err(format!("`{line}` is no field"));
        assert_eq!(read("Package: a\nrubbish\nb: c\n"), [no_field("rubbish")]);
        assert_eq!(read("a: b\n\n c: d\n"), [Ok(vec![("a", "b")]), no_field(" c: d")]);
    }
}
