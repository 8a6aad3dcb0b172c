//! What is read of the user's ssh configuration, and of options that are written as in it.

use std::fs;
use std::io;
use std::path::Path;

use super::super::error::ConnectError;
use super::pattern::any_matches;

/// What holds for a host. The first value of each counts, except of identities.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Config {
    pub(super) host_name: Option<String>,
    pub(super) port: Option<u16>,
    pub(super) user: Option<String>,
    pub(super) identities: Vec<String>,
    pub(super) identities_only: bool,
    pub(super) known_hosts: Option<Vec<String>>,
    pub(super) jump: Option<String>,
    /// After how many bytes keys are exchanged anew.
    pub(super) rekey: Option<usize>,
}

impl Config {
    /// Options from the command line, each `Name=value`.
    pub(super) fn of_options(options: &[String]) -> Result<Config, ConnectError> {
        let mut config = Config::default();
        for option in options {
            let wrong = || ConnectError::Option { option: option.clone() };
            let (key, value) = key_and_value(option).ok_or_else(wrong)?;
            if config.take(&key, value) != Taken::Yes {
                return Err(wrong());
            }
        }
        Ok(config)
    }

    /// Adds what the user's file says of a host; what is set already stays.
    pub(super) fn add_file(&mut self, file: &Path, host: &str) -> Result<(), ConnectError> {
        match fs::read_to_string(file) {
            Ok(text) => self.add(&text, host, file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(source) => Err(ConnectError::Configuration { file: file.to_owned(), source }),
        }
    }

    fn add(&mut self, text: &str, host: &str, file: &Path) -> Result<(), ConnectError> {
        let mut holds = true;
        for (number, line) in text.lines().enumerate() {
            let Some((key, value)) = key_and_value(line) else { continue };
            match key.as_str() {
                "host" => holds = any_matches(words(value).iter().map(String::as_str), host),
                // Other conditions than this one are not understood, so what they guard does not hold.
                "match" => holds = value.eq_ignore_ascii_case("all"),
                _ if !holds => {}
                _ => {
                    if self.take(&key, value) == Taken::Needed {
                        let place = format!("{}, line {}", file.display(), number + 1);
                        return Err(ConnectError::NeedsOpenssh {
                            what: format!("{} ({place})", line.trim()),
                        });
                    }
                }
            }
        }
        Ok(())
    }

    fn take(&mut self, key: &str, value: &str) -> Taken {
        let words = words(value);
        let one = words.first().cloned().unwrap_or_default();
        match key {
            "hostname" => first(&mut self.host_name, Some(one)),
            "user" => first(&mut self.user, Some(one)),
            "port" => first(&mut self.port, one.parse().ok()),
            "proxyjump" => first(&mut self.jump, Some(one)),
            "userknownhostsfile" => first(&mut self.known_hosts, Some(words)),
            "rekeylimit" => first(&mut self.rekey, size(&one)),
            "identityfile" => {
                self.identities.push(one);
                Taken::Yes
            }
            "identitiesonly" => {
                self.identities_only |= one.eq_ignore_ascii_case("yes");
                Taken::Yes
            }
            // Without these another host would be reached, or another name looked up.
            "proxycommand" if !one.eq_ignore_ascii_case("none") && self.jump.is_none() => Taken::Needed,
            "hostkeyalias" => Taken::Needed,
            _ => Taken::No,
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Taken {
    Yes,
    /// It says nothing that this reads.
    No,
    /// The host cannot be reached rightly without it.
    Needed,
}

fn first<T>(slot: &mut Option<T>, value: Option<T>) -> Taken {
    if value.is_none() {
        return Taken::No;
    }
    if slot.is_none() {
        *slot = value;
    }
    Taken::Yes
}

/// `Key value` or `Key=value`, the key in lower case; `None` for comments and empty lines.
fn key_and_value(line: &str) -> Option<(String, &str)> {
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') {
        return None;
    }
    let end = line.find(|c: char| c.is_whitespace() || c == '=')?;
    let (key, rest) = line.split_at(end);
    let rest = rest.trim_start();
    Some((key.to_lowercase(), rest.strip_prefix('=').unwrap_or(rest).trim()))
}

/// Words, of which those in double quotes may have spaces.
fn words(value: &str) -> Vec<String> {
    let (mut words, mut word, mut quoted) = (Vec::new(), String::new(), false);
    for c in value.chars() {
        match c {
            '"' => quoted = !quoted,
            c if c.is_whitespace() && !quoted => {
                if !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
            }
            '#' if word.is_empty() && !quoted && !words.is_empty() => return words,
            c => word.push(c),
        }
    }
    if !word.is_empty() {
        words.push(word);
    }
    words
}

/// Bytes, as in `1G`; `default` and what is no number is none.
fn size(text: &str) -> Option<usize> {
    let (digits, factor) = match text.chars().last()?.to_ascii_uppercase() {
        'K' => (text.get(..text.len() - 1)?, 1 << 10),
        'M' => (text.get(..text.len() - 1)?, 1 << 20),
        'G' => (text.get(..text.len() - 1)?, 1 << 30),
        _ => (text, 1),
    };
    digits.parse::<usize>().ok()?.checked_mul(factor)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(text: &str, host: &str) -> Result<Config, String> {
        let mut config = Config::default();
        config.add(text, host, Path::new("c")).map_err(|error| error.to_string()).map(|()| config)
    }

    #[test]
    fn the_first_value_counts() {
        let text = "# mine\nHost web* !web-9\n  HostName = 203.0.113.7\n Port 2222\n IdentityFile \"~/my keys/web\"\n\
                    Host *\n\tPort 22\n User debian # me\n IdentityFile ~/.ssh/id\n ProxyJump gate,inner:23\n";
        let web = of(text, "web-1").unwrap();
        assert_eq!((web.host_name.as_deref(), web.port), (Some("203.0.113.7"), Some(2222)));
        assert_eq!(web.identities, ["~/my keys/web", "~/.ssh/id"]);
        assert_eq!((web.user.as_deref(), web.jump.as_deref()), (Some("debian"), Some("gate,inner:23")));
        assert_eq!(of(text, "web-9").unwrap().port, Some(22));
    }

    #[test]
    fn what_would_lead_elsewhere_is_refused_with_its_place() {
        let text = "Host a\n ProxyCommand nc %h %p\nHost b\n HostKeyAlias c\nMatch user x\n Port 99\n";
        assert!(of(text, "a").unwrap_err().contains("ProxyCommand nc %h %p (c, line 2)"));
        assert!(of(text, "b").unwrap_err().contains("line 4"));
        assert_eq!(of(text, "c").unwrap(), Config::default());
        let options = |text: &str| Config::of_options(&[text.to_owned()]);
        assert_eq!(options("RekeyLimit=2M").unwrap().rekey, Some(2 << 20));
        for wrong in ["StrictHostKeyChecking=no", "Port=x", "nonsense", ""] {
            assert!(matches!(options(wrong), Err(ConnectError::Option { .. })), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn of_the_blocks_that_hold_the_first_counts(
            blocks in proptest::collection::vec((0..5usize, 1u16..), 0..6),
        ) {
            let patterns = [("web", true), ("*", true), ("x w?b", true), ("db", false), ("* !web", false)];
            let text = blocks.iter().map(|(of, port)| format!("Host {}\n\tpOrt = {port}\n", patterns[*of].0));
            let expected = blocks.iter().find(|(of, _)| patterns[*of].1).map(|(_, port)| *port);
            prop_assert_eq!(of(&text.collect::<String>(), "web").unwrap().port, expected);
        }

        #[test]
        fn quoted_values_keep_their_spaces(words_in in proptest::collection::vec("[a-z~/][a-z /]{0,8}", 1..4)) {
            let text = words_in.iter().map(|word| format!("\"{word}\"")).collect::<Vec<_>>().join("  ");
            prop_assert_eq!(words(&text), words_in);
        }

        #[test]
        fn no_text_makes_it_panic(text in "(\\PC|\n){0,200}", host in "\\PC{0,20}") {
            let _ = of(&text, &host);
        }
    }
}
