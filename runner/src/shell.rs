use std::time::Duration;

/// A word as a shell takes it for one.
pub(crate) fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./,:=+@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// The words as one shell command, run as a user.
pub(crate) fn by_hand(
    user: &str,
    env: &[(String, String)],
    argv: &[String],
    limit: Option<Duration>,
) -> String {
    let mut words = Vec::new();
    if user != "root" {
        words.extend(["sudo".to_owned(), "-u".into(), quoted(user)]);
    }
    if !env.is_empty() {
        words.push("env".into());
        words.extend(env.iter().map(|(name, value)| quoted(&format!("{name}={value}"))));
    }
    if let Some(limit) = limit {
        words.extend(["timeout".to_owned(), limit.as_secs().max(1).to_string()]);
    }
    words.extend(argv.iter().map(|word| quoted(word)));
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_reads_the_words_back() {
        let words = ["printf", "%s|", "", "a b", "it's", "$HOME", "*", "-M", "microvm,acpi=off", "ü"];
        let argv: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        let line = by_hand("root", &[("A".into(), "x y".into())], &argv, Some(Duration::from_secs(5)));
        let output = std::process::Command::new("sh").args(["-c", &line]).output().unwrap();
        let expected: String = words[2..].iter().map(|word| format!("{word}|")).collect();
        assert_eq!(String::from_utf8(output.stdout).unwrap(), expected, "{line}");
    }

    #[test]
    fn another_user_by_sudo() {
        assert_eq!(by_hand("toril", &[], &["true".into()], None), "sudo -u toril true");
    }
}
