//! Patterns of host names, as ssh_config(5) and known_hosts have them.

/// Whether `text` is of a pattern with `*` and `?`.
pub(super) fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut p, mut t) = (0, 0);
    // Where the last star stands, and how much it has swallowed.
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        match (pattern.get(p), text.get(t)) {
            (Some(b'*'), _) => {
                star = Some((p, t));
                p += 1;
            }
            (Some(a), Some(b)) if *a == b'?' || a == b => {
                p += 1;
                t += 1;
            }
            _ => match star {
                Some((at, from)) => {
                    star = Some((at, from + 1));
                    p = at + 1;
                    t = from + 1;
                }
                None => return false,
            },
        }
    }
    pattern.get(p..).unwrap_or_default().iter().all(|byte| *byte == b'*')
}

/// Whether `text` is of one of the patterns, and of none that begins with `!`.
pub(super) fn any_matches<'a>(patterns: impl IntoIterator<Item = &'a str>, text: &str) -> bool {
    let mut found = false;
    for pattern in patterns {
        match pattern.strip_prefix('!') {
            Some(pattern) if matches(pattern, text) => return false,
            Some(_) => {}
            None => found |= matches(pattern, text),
        }
    }
    found
}

/// The same of a host's name, in which large and small letters are alike.
pub(super) fn any_matches_host<'a>(patterns: impl IntoIterator<Item = &'a str>, host: &str) -> bool {
    let patterns: Vec<String> = patterns.into_iter().map(str::to_ascii_lowercase).collect();
    any_matches(patterns.iter().map(String::as_str), &host.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn patterns() {
        for (pattern, text, expected) in [
            ("*", "", true),
            ("*.example.com", "a.b.example.com", true),
            ("*.example.com", "example.com", false),
            ("web-?", "web-1", true),
            ("web-?", "web-12", false),
            ("a*b*c", "axxbyyc", true),
            ("a*b*c", "axxbyy", false),
            ("", "x", false),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
        assert!(!any_matches(["*", "!secret"], "secret"));
        assert!(any_matches(["!secret", "*"], "open"));
        assert!(!any_matches(["Open"], "open") && any_matches_host(["OP*"], "Open"));
        assert!(!any_matches_host(["*", "!Secret"], "secret"));
    }

    proptest! {
        #[test]
        fn every_text_is_of_itself_and_of_a_star(text in "[a-z.0-9]{0,20}", more in ".{0,20}") {
            prop_assert!(matches(&text, &text));
            let start = format!("{}*", text);
            let whole = format!("{}{}", text, more);
            prop_assert!(matches(&start, &whole));
        }
    }
}
