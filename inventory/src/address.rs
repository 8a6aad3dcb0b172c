use crate::Ssh;

/// A host on the command line could not be understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` {verdict}: {reason}")]
pub struct AddressError {
    text: String,
    verdict: &'static str,
    reason: String,
}

impl AddressError {
    pub(crate) fn new(text: &str, reason: impl Into<String>) -> AddressError {
        AddressError { text: text.to_owned(), verdict: "is not a host", reason: reason.into() }
    }

    /// Of a host, or of hosts, that there are.
    pub(crate) fn unusable(text: &str, reason: impl Into<String>) -> AddressError {
        AddressError { verdict: "cannot be used", ..AddressError::new(text, reason) }
    }
}

impl Ssh {
    /// Reads `[user@]host[:port]`; an IPv6 address stands in brackets.
    ///
    /// # Errors
    /// Says which part cannot be right.
    pub fn parse(text: &str) -> Result<Ssh, AddressError> {
        let wrong = |reason: &str| AddressError::new(text, reason);
        if text.contains(['{', '}']) {
            return Err(wrong("{ and } are in no address: it may be a template that nobody has filled in"));
        }
        let (user, rest) = match text.rsplit_once('@') {
            Some((user, rest)) => (Some(user), rest),
            None => (None, text),
        };
        if user.is_some_and(|user| {
            user.is_empty() || user.starts_with('-') || user.contains(char::is_whitespace)
        }) {
            return Err(wrong("the user before @ is no login name"));
        }
        let (host, port) = match rest.strip_prefix('[') {
            Some(inner) => {
                let (host, after) = inner.split_once(']').ok_or_else(|| wrong("a [ without its ]"))?;
                match after.strip_prefix(':') {
                    Some(port) => (host, Some(port)),
                    None if after.is_empty() => (host, None),
                    None => return Err(wrong("after ] comes nothing, or : and a port")),
                }
            }
            None => match rest.split_once(':') {
                Some((_, more)) if more.contains(':') => {
                    return Err(wrong("write an IPv6 address as [ADDRESS]:PORT"));
                }
                Some((host, port)) => (host, Some(port)),
                None => (rest, None),
            },
        };
        // A leading dash would be an option for ssh.
        if host.is_empty() || host.starts_with('-') || host.contains(|c: char| c.is_whitespace() || c == '/')
        {
            return Err(wrong("there is no host name in it"));
        }
        let port = match port {
            None => None,
            Some(port) => match port.parse::<u16>() {
                Ok(number) if number > 0 => Some(number),
                _ => return Err(wrong("the port is a number from 1 to 65535")),
            },
        };
        Ok(Ssh { host: host.into(), user: user.map(str::to_owned), port, ..Ssh::default() })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parts(text: &str) -> Option<(Option<String>, String, Option<u16>)> {
        Ssh::parse(text).ok().map(|ssh| (ssh.user, ssh.host, ssh.port))
    }

    #[test]
    fn addresses() {
        let user = |name: &str| Some(name.to_owned());
        assert_eq!(parts("h"), Some((None, "h".into(), None)));
        assert_eq!(parts("debian@203.0.113.7"), Some((user("debian"), "203.0.113.7".into(), None)));
        assert_eq!(parts("a@b:2222"), Some((user("a"), "b".into(), Some(2222))));
        assert_eq!(parts("[::1]:22"), Some((None, "::1".into(), Some(22))));
        assert_eq!(parts("u@[fe80::1%eth0]"), Some((user("u"), "fe80::1%eth0".into(), None)));
        for wrong in [
            "",
            "@h",
            "u@",
            "-oProxyCommand=x",
            "u@-x",
            "h:0",
            "h:70000",
            "h:x",
            "::1",
            "[::1",
            "[::1]x",
            "a b",
            "{{inventory_hostname}}.example.com",
            "{{user}}@h",
        ] {
            assert_eq!(parts(wrong), None, "{wrong:?}");
        }
    }

    proptest! {
        #[test]
        fn never_panics_and_never_gives_an_option(text in ".*") {
            if let Ok(ssh) = Ssh::parse(&text) {
                prop_assert!(!ssh.host.starts_with('-') && !ssh.host.is_empty());
                let is_template = ssh.host.contains(['{', '}']);
                prop_assert!(!is_template);
                prop_assert!(!ssh.user.unwrap_or_default().starts_with('-'));
            }
        }
    }
}
