//! What is read of the user's ssh configuration, and of options that are written as in it.

use std::fs;
use std::io;
use std::path::Path;

use toril_inventory::{SshConfig, SshConfigItem, SshConfigLine};

use super::super::error::ConnectError;
use super::pattern::{any_matches, any_matches_host};
use super::rekey::Rekey;

/// What holds for a host. The first value of each counts, except of identities.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Config {
    pub(super) host_name: Option<String>,
    pub(super) port: Option<u16>,
    pub(super) user: Option<String>,
    pub(super) identities: Vec<String>,
    pub(super) identities_only: bool,
    pub(super) known_hosts: Option<Vec<String>>,
    /// Those of all users.
    pub(super) global_known_hosts: Option<Vec<String>>,
    /// Whether an unknown key is refused without a question.
    pub(super) strict: Option<bool>,
    /// The agent's socket, as `IdentityAgent` says it.
    pub(super) agent: Option<String>,
    pub(super) jump: Option<String>,
    pub(super) rekey: Option<Rekey>,
}

impl Config {
    /// Options from the command line, each `Name=value`.
    pub(super) fn of_options(options: &[String]) -> Result<Config, ConnectError> {
        let mut config = Config::default();
        for option in options {
            let wrong = || ConnectError::Option { option: option.clone() };
            let line = SshConfigLine::parse(option).ok_or_else(wrong)?;
            if config.take(&line) != Taken::Yes {
                return Err(wrong());
            }
        }
        Ok(config)
    }

    /// Adds what a file says of a host; what is set already stays.
    pub(super) fn add_file(&mut self, file: &Path, host: &str) -> Result<(), ConnectError> {
        let read = SshConfig::read(file)
            .map_err(|error| ConnectError::Configuration { file: error.file, source: error.source })?;
        self.add(&read, host, &Holds::Yes)
    }

    /// The same of the user's own file, which may not be there.
    pub(super) fn add_users_file(&mut self, file: &Path, host: &str) -> Result<(), ConnectError> {
        match fs::symlink_metadata(file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            _ => self.add_file(file, host),
        }
    }

    /// `above`: whether what stands at the place of this holds.
    fn add(&mut self, read: &SshConfig, host: &str, above: &Holds) -> Result<(), ConnectError> {
        let mut holds = above.clone();
        for item in &read.0 {
            let line = match item {
                SshConfigItem::Line(line) => line,
                SshConfigItem::Included(included) => {
                    self.add(included, host, &holds)?;
                    continue;
                }
            };
            match line.keyword.as_str() {
                "host" => {
                    holds = above.and(Holds::of(any_matches(line.words.iter().map(String::as_str), host)))
                }
                "match" => holds = above.and(self.condition(line, host)),
                _ if holds == Holds::No => {}
                _ => {
                    let mut with = self.clone();
                    let taken = with.take(line);
                    if let Holds::Perhaps(condition) = &holds
                        && (taken == Taken::Needed || with != *self)
                    {
                        return Err(needed(condition));
                    }
                    if taken == Taken::Needed {
                        return Err(needed(line));
                    }
                    *self = with;
                }
            }
        }
        Ok(())
    }

    /// What is connected to, where `host` was given.
    pub(super) fn real_name(&self, host: &str) -> String {
        let name = self.host_name.as_ref();
        name.map_or_else(|| host.to_owned(), |name| name.replace("%h", host).replace("%%", "%"))
    }

    /// Whether the conditions of a `Match` hold. Not all are understood; what one of them rules out does not matter.
    fn condition(&self, line: &SshConfigLine, host: &str) -> Holds {
        let name = self.real_name(host);
        let mut all = Holds::Yes;
        let mut words = line.words.iter().map(String::as_str);
        while let Some(word) = words.next() {
            let (wanted, criterion) = match word.strip_prefix('!') {
                Some(criterion) => (false, criterion.to_lowercase()),
                None => (true, word.to_lowercase()),
            };
            let text = match criterion.as_str() {
                "all" => {
                    all = all.and(Holds::of(wanted));
                    continue;
                }
                "host" => name.as_str(),
                "originalhost" => host,
                "canonical" | "final" => {
                    all = all.and(Holds::Perhaps(line.clone()));
                    continue;
                }
                _ => {
                    words.next();
                    all = all.and(Holds::Perhaps(line.clone()));
                    continue;
                }
            };
            let matches = any_matches_host(words.next().unwrap_or_default().split(','), text);
            all = all.and(Holds::of(matches == wanted));
        }
        all
    }

    fn take(&mut self, line: &SshConfigLine) -> Taken {
        let words = line.words.clone();
        let one = words.first().cloned().unwrap_or_default();
        match line.keyword.as_str() {
            "hostname" => first(&mut self.host_name, Some(one)),
            "user" => first(&mut self.user, Some(one)),
            "port" => first(&mut self.port, one.parse().ok()),
            "proxyjump" => first(&mut self.jump, Some(one)),
            "userknownhostsfile" => first(&mut self.known_hosts, Some(words)),
            "globalknownhostsfile" => first(&mut self.global_known_hosts, Some(words)),
            "identityagent" => first(&mut self.agent, Some(one)),
            "stricthostkeychecking" => {
                let value = one.to_ascii_lowercase();
                first(&mut self.strict, Some(value == "yes" || value == "true"));
                // Nothing here accepts a key that nobody has seen.
                if matches!(value.as_str(), "yes" | "true" | "ask") { Taken::Yes } else { Taken::No }
            }
            "rekeylimit" => first(&mut self.rekey, Rekey::parse(&one, words.get(1).map(String::as_str))),
            "identityfile" => {
                self.identities.push(one);
                Taken::Yes
            }
            "identitiesonly" => {
                self.identities_only |= one.eq_ignore_ascii_case("yes");
                Taken::Yes
            }
            // The first that is said of a proxy counts, of either sort.
            "proxycommand" if one.eq_ignore_ascii_case("none") => first(&mut self.jump, Some(one)),
            // Without these another host would be reached, or another name looked up.
            "proxycommand" if self.jump.is_none() => Taken::Needed,
            "hostkeyalias" => Taken::Needed,
            // These would refuse a host that is taken without them.
            "revokedhostkeys" | "knownhostscommand" if !one.eq_ignore_ascii_case("none") => Taken::Needed,
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

/// Whether the lines of a block are said of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Holds {
    Yes,
    No,
    /// By a condition that only OpenSSH can judge.
    Perhaps(SshConfigLine),
}

impl Holds {
    fn of(holds: bool) -> Holds {
        if holds { Holds::Yes } else { Holds::No }
    }

    /// Whether this and something else hold.
    fn and(&self, other: Holds) -> Holds {
        match (self, other) {
            (Holds::No, _) | (_, Holds::No) => Holds::No,
            (Holds::Perhaps(line), _) => Holds::Perhaps(line.clone()),
            (Holds::Yes, other) => other,
        }
    }
}

/// The host cannot be reached rightly without what this line says.
fn needed(line: &SshConfigLine) -> ConnectError {
    ConnectError::NeedsOpenssh { what: format!("{} ({})", line.text, line.place) }
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(text: &str, host: &str) -> Result<Config, String> {
        let mut config = Config::default();
        let read = SshConfig::parse(Path::new("c"), text);
        config.add(&read, host, &Holds::Yes).map_err(|error| error.to_string()).map(|()| config)
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
        let text = "Host a\n ProxyCommand nc %h %p\nHost b\n HostKeyAlias c\n\
                    Host d\n Port 1\nMatch user x\n Port 99\nHost c\n";
        assert!(of(text, "a").unwrap_err().contains("ProxyCommand nc %h %p (c, line 2)"));
        assert!(of(text, "b").unwrap_err().contains("line 4"));
        assert!(of(text, "c").unwrap_err().contains("Match user x (c, line 7)"));
        assert_eq!(of(text, "d").unwrap().port, Some(1), "it has a port already");
        for refuses in ["RevokedHostKeys /etc/ssh/revoked", "KnownHostsCommand /usr/bin/keys %H"] {
            assert!(of(refuses, "h").unwrap_err().contains(refuses), "{refuses}");
        }
        assert_eq!(of("RevokedHostKeys none\nKnownHostsCommand none\n", "h").unwrap(), Config::default());
        let forwards = "Match exec true\n ForwardAgent yes\n LocalForward 1 h:1\n";
        assert_eq!(of(forwards, "c").unwrap(), Config::default(), "it leads nowhere else");
        let options = |text: &str| Config::of_options(&[text.to_owned()]);
        assert_eq!(options("StrictHostKeyChecking=yes").unwrap().strict, Some(true));
        for wrong in
            ["StrictHostKeyChecking=no", "RevokedHostKeys=/x", "RekeyLimit=15", "Port=x", "nonsense", ""]
        {
            assert!(matches!(options(wrong), Err(ConnectError::Option { .. })), "{wrong}");
        }
    }

    #[test]
    fn whether_a_new_key_is_asked_about_is_said_by_the_first() {
        for (text, expected) in [
            ("StrictHostKeyChecking yes\n", Some(true)),
            ("StrictHostKeyChecking ask\nStrictHostKeyChecking yes\n", Some(false)),
            ("StrictHostKeyChecking accept-new\nStrictHostKeyChecking yes\n", Some(false)),
            ("", None),
        ] {
            assert_eq!(of(text, "h").unwrap().strict, expected, "{text}");
        }
    }

    #[test]
    fn conditions_that_are_understood_are_followed() {
        for (condition, port) in [
            ("all", Some(99)),
            ("host 203.0.113.*", Some(99)),
            ("originalhost web,db", Some(99)),
            ("originalhost WEB", Some(99)),
            ("!originalhost db", Some(99)),
            ("originalhost db", None),
            ("originalhost db exec \"true\"", None),
            ("host web", None),
        ] {
            let text = format!("Host web\n HostName 203.0.113.7\nMatch {condition}\n Port 99\n");
            assert_eq!(of(&text, "web").unwrap().port, port, "{condition}");
        }
        for condition in ["exec true", "final", "user x", "originalhost web localuser x", "something new"] {
            assert!(of(&format!("Match {condition}\n Port 99\n"), "web").is_err(), "{condition}");
        }
    }

    #[test]
    fn included_files_are_read_where_they_are_included() {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(directory.path().join(name), text).unwrap();
        let here = directory.path().display();
        write(
            "config",
            &format!("Host web\n Include {here}/of-web\nHost *\n Include {here}/more-*\n Port 22\n"),
        );
        write("of-web", "User anna\nHost db\n Port 2\nMatch exec true\n");
        write("more-1", "Host web db\n Port 2222\n");
        let of = |host: &str| {
            let mut config = Config::default();
            config.add_users_file(&directory.path().join("config"), host).map(|()| config)
        };
        let (web, db) = (of("web").unwrap(), of("db").unwrap());
        assert_eq!((web.user.as_deref(), web.port), (Some("anna"), Some(2222)));
        assert_eq!((db.user.as_deref(), db.port), (None, Some(2222)));
        assert_eq!(of("other").unwrap().port, Some(22));
        write("more-1", "Match exec true\n Port 99\n");
        let error = of("other").unwrap_err().to_string();
        assert!(error.contains("Match exec true") && error.contains("more-1, line 1"), "{error}");
        fs::remove_file(directory.path().join("config")).unwrap();
        assert_eq!(of("web").unwrap(), Config::default());
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
        fn no_text_makes_it_panic(text in "(\\PC|\n){0,200}", host in "\\PC{0,20}") {
            let _ = of(&text, &host);
        }
    }
}
