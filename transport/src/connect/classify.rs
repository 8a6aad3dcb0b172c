//! Tells from what ssh wrote why it could not connect.

use super::error::{ConnectError, OfferedKey};
use super::log::{last, last_words};

/// `log` is what ssh itself logged with `-v`, `stderr` what it and its jump hosts wrote beside that, `command`
/// connects by hand.
pub(super) fn classify(log: &str, stderr: &str, command: &str) -> ConnectError {
    // A jump host's failure shows in the main log only as a closed connection.
    known(stderr, command).or_else(|| known(log, command)).unwrap_or_else(|| {
        closed(log, stderr)
            .unwrap_or_else(|| ConnectError::Other { lines: last_words(&format!("{stderr}\n{log}"), 8) })
    })
}

fn known(text: &str, command: &str) -> Option<ConnectError> {
    name(text)
        .or_else(|| host_key(text, command))
        .or_else(|| denied(text))
        .or_else(|| handshake_timeout(text))
        .or_else(|| no_connection(text))
}

fn name(text: &str) -> Option<ConnectError> {
    let (name, reason) = last(text, "Could not resolve hostname ")?.split_once(": ").map(owned)?;
    Some(ConnectError::NameNotResolved { name, reason })
}

fn host_key(text: &str, command: &str) -> Option<ConnectError> {
    text.contains("Host key verification failed").then_some(())?;
    let key = last(text, "debug1: Server host key: ")
        .and_then(|line| line.split_once(' ').map(owned))
        .map(|(kind, fingerprint)| OfferedKey { kind, fingerprint });
    if text.contains("REMOTE HOST IDENTIFICATION HAS CHANGED") {
        let known = text.lines().find_map(|line| line.strip_prefix("Offending ")).and_then(|line| {
            let (_, place) = line.split_once(" in ")?;
            let (file, number) = place.trim().rsplit_once(':')?;
            Some(format!("{file}, line {number}"))
        });
        let forget =
            text.lines().map(str::trim).find(|line| line.starts_with("ssh-keygen -f")).map(str::to_owned);
        return Some(ConnectError::HostKeyChanged { key, known, forget });
    }
    if text.contains("REVOKED HOST KEY") {
        return Some(ConnectError::Other { lines: last_words(text, 8) });
    }
    Some(ConnectError::UnknownHostKey { key, by: command.to_owned() })
}

fn denied(text: &str) -> Option<ConnectError> {
    let line = text
        .lines()
        .rev()
        .find(|line| line.contains(": Permission denied (") && !line.starts_with("debug"))?;
    let (who, methods) = line.trim().split_once(": Permission denied (").map(owned)?;
    let mut offered: Vec<String> = Vec::new();
    let mut notes: Vec<String> = Vec::new();
    let mut accepted = None;
    for line in text.lines() {
        if let Some(key) = line.strip_prefix("debug1: Offering public key: ") {
            offered.push(key.split(" agent").next().unwrap_or(key).trim_end_matches(" explicit").to_owned());
        } else if let Some(key) = line.strip_prefix("debug1: Server accepts key: ") {
            accepted = Some(key.split_whitespace().next().unwrap_or(key).to_owned());
        } else if line.starts_with("Load key ")
            || line.contains("are too open")
            || line.contains("not accessible")
        {
            notes.push(line.trim().trim_start_matches("Warning: ").to_owned());
        } else if line.contains("Too many authentication failures") {
            notes.push("too many keys were tried before the right one: name it (identity)".to_owned());
        }
    }
    if let Some(key) = accepted {
        notes.push(format!(
            "the host would accept {key}, but it could not be used to sign: it may have a passphrase"
        ));
    }
    Some(ConnectError::PermissionDenied {
        who,
        methods: methods.trim_end_matches(['.', ')']).replace(',', ", "),
        offered,
        notes,
    })
}

fn handshake_timeout(text: &str) -> Option<ConnectError> {
    text.contains("timed out during banner exchange").then_some(())?;
    let place = last(text, "Connection to ").and_then(|line| {
        let (place, _) = line.split_once(" timed out")?;
        Some(place.to_owned())
    });
    let during = ": it took the connection, but no ssh server spoke";
    Some(ConnectError::TimedOut { place: place.unwrap_or_else(|| "the host".to_owned()), during })
}

fn no_connection(text: &str) -> Option<ConnectError> {
    let (place, reason) = last(text, "ssh: connect to host ")?.rsplit_once(": ").map(owned)?;
    Some(match reason.as_str() {
        "Connection refused" => ConnectError::Refused { place },
        "Connection timed out" | "Operation timed out" => ConnectError::TimedOut { place, during: "" },
        _ => ConnectError::NoRoute { place, reason },
    })
}

fn closed(log: &str, stderr: &str) -> Option<ConnectError> {
    let line = log.lines().rev().find(|line| {
        (line.starts_with("kex_exchange_identification:")
            || line.starts_with("ssh_exchange_identification:")
            || line.starts_with("Connection closed by")
            || line.starts_with("Connection reset by"))
            && !line.contains("banner line")
    })?;
    // ssh says with `-v` that a login has begun. A jump host that was logged in to says that it got no connection.
    let login = ["Authentications that can continue", "Next authentication method", "Authenticated to"];
    let before_login = !login.iter().any(|begun| log.contains(begun)) && !stderr.contains("open failed");
    Some(ConnectError::Closed { line: line.trim().to_owned(), before_login, tries: 1 })
}

fn owned((a, b): (&str, &str)) -> (String, String) {
    (a.trim().to_owned(), b.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Texts that OpenSSH 9.2 wrote against a real server (Debian 12, `ssh -v`), without its chatter about files.
    macro_rules! capture {
        ($name:literal) => {
            include_str!(concat!("captures/", $name))
        };
    }

    fn of(log: &str, stderr: &str) -> ConnectError {
        classify(log, stderr, "ssh -p 22722 127.0.9.9")
    }

    #[test]
    fn failures_are_told_apart() {
        for (log, stderr, expected) in [
            (
                capture!("unresolved.log"),
                "",
                "the name no-such-host.invalid has no address: Name or service not known",
            ),
            (capture!("refused.log"), "", "127.0.9.9 port 1 refused the connection: nothing listens there"),
            (
                capture!("silent.log"),
                "",
                "127.0.9.9 port 22723 did not answer in time: it took the connection, but no ssh server spoke",
            ),
            (
                "ssh: connect to host 192.0.2.1 port 22: Connection timed out\n",
                "",
                "192.0.2.1 port 22 did not answer in time",
            ),
            (
                "ssh: connect to host 192.0.2.1 port 22: No route to host\n",
                "",
                "there is no way to 192.0.2.1 port 22: No route to host",
            ),
            (
                "ssh: connect to host 2001:db8::1 port 22: Network is unreachable\n",
                "",
                "there is no way to 2001:db8::1 port 22: Network is unreachable",
            ),
            (
                capture!("unknown_ask.log"),
                "",
                "the host's key is not known: it offers ssh-ed25519 SHA256:xgNbb8n0lYodJuoYwkZUTWh7crS13b94GZHuoAJgWNM",
            ),
            (
                capture!("unknown_strict.log"),
                "",
                "the host's key is not known: it offers ssh-ed25519 SHA256:xgNbb8n0lYodJuoYwkZUTWh7crS13b94GZHuoAJgWNM",
            ),
            (
                capture!("closed.log"),
                "",
                "the host closed the connection during the handshake: Connection closed by 127.0.9.9 port 22723",
            ),
            // The jump host is what could not be reached.
            (
                capture!("jumpref.log"),
                capture!("jumpref.stderr"),
                "127.0.9.9 port 1 refused the connection: nothing listens there",
            ),
            (
                "",
                capture!("badopt.stderr"),
                "ssh could not connect:\ncommand-line: line 0: Bad configuration option: nonsense",
            ),
            (
                "Unable to negotiate with 192.0.2.1 port 22: no matching host key type found. Their offer: ssh-dss\n",
                "",
                "ssh could not connect:\nUnable to negotiate with 192.0.2.1 port 22: no matching host key type found. Their offer: ssh-dss",
            ),
        ] {
            assert_eq!(of(log, stderr).to_string(), expected);
        }
    }

    #[test]
    fn an_unknown_key_is_accepted_by_hand() {
        let remedy = of(capture!("unknown_ask.log"), "").remedy();
        assert!(remedy.contains("compare") && remedy.ends_with("ssh -p 22722 127.0.9.9"), "{remedy}");
    }

    #[test]
    fn a_changed_key_is_loud() {
        let error = of(capture!("changed.log"), "");
        let text = error.to_string();
        assert!(text.starts_with("THE HOST'S KEY HAS CHANGED"), "{text}");
        assert!(text.contains("SHA256:xgNbb8n0lYodJuoYwkZUTWh7crS13b94GZHuoAJgWNM"), "{text}");
        assert!(text.ends_with("known is another one: badkh, line 1"), "{text}");
        assert!(
            error.remedy().contains("ssh-keygen -f \"badkh\" -R \"[127.0.9.9]:22722\""),
            "{}",
            error.remedy()
        );
    }

    #[test]
    fn a_denial_says_what_was_tried() {
        let denied = of(capture!("denied.log"), "").to_string();
        assert_eq!(
            denied,
            "root@127.0.9.9: permission denied; the host accepts: publickey, keyboard-interactive; \
             offered were: id2 ED25519 SHA256:BDSA8S4lhtpIw5sHuA+wTdLjhOZuTC8rVJHee2hGDxs"
        );
        let passphrase = of(capture!("passphrase.log"), "").to_string();
        assert!(
            passphrase.ends_with(
                "the host would accept idp, but it could not be used to sign: it may have a passphrase"
            ),
            "{passphrase}"
        );
        let missing = classify(capture!("nofile.log"), capture!("nofile.stderr"), "").to_string();
        assert!(missing.contains("no key was offered"), "{missing}");
    }

    #[test]
    fn before_the_login_is_another_time_than_during_it() {
        let is_before = |log: &str, stderr: &str| match of(log, stderr) {
            ConnectError::Closed { before_login, .. } => before_login,
            other => panic!("{other:?}"),
        };
        assert!(is_before(capture!("closed.log"), ""));
        let reset = "kex_exchange_identification: read: Connection reset by peer\nConnection reset by 192.0.2.1 port 22\n";
        let full = "debug1: kex_exchange_identification: banner line 0: Exceeded MaxStartups\n";
        assert!(is_before(reset, "") && is_before(&format!("{full}{reset}"), ""));
        let jumped = "Connection closed by UNKNOWN port 65535\n";
        assert!(is_before(jumped, capture!("closed.log")));
        let unreached =
            "channel 0: open failed: connect failed: Connection refused\nstdio forwarding failed\n";
        assert!(!is_before(jumped, unreached));
        let login = "debug1: Authentications that can continue: publickey\n";
        assert!(!is_before(&format!("{login}Connection closed by 192.0.2.1 port 22\n"), ""));
    }

    #[test]
    fn no_text_makes_it_panic() {
        for text in [
            "",
            "\n\n",
            "ssh: connect to host ",
            ": Permission denied (",
            "Offending \nHost key verification failed",
        ] {
            let _ = of(text, text).to_string();
        }
    }
}
