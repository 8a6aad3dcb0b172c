//! What ssh's log (`-v`) tells about a connection.

/// What is known about a connection, for people. What the way to the host does not have is `None`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConnectionInfo {
    /// `local`, `openssh` or `russh`.
    pub transport: &'static str,
    /// Key exchange algorithm.
    pub key_exchange: Option<String>,
    /// Type and SHA-256 fingerprint of the host's key.
    pub host_key: Option<String>,
    /// Where ssh connected to and how it authenticated, e.g. `127.0.0.1 ([127.0.0.1]:22) using "publickey"`.
    pub authenticated: Option<String>,
    /// What the server says it is, e.g. `OpenSSH_9.2p1 Debian-2`.
    pub server: Option<String>,
    /// What is to be said of a key exchange where the other transport may have had a stronger one.
    pub weaker: Option<String>,
    /// How many connections the host had closed before the login, before this one.
    pub closed_before: u32,
}

/// Reads the log of a connection that was made.
pub(super) fn info(log: &str) -> ConnectionInfo {
    ConnectionInfo {
        transport: "openssh",
        key_exchange: last(log, "debug1: kex: algorithm: "),
        host_key: last(log, "debug1: Server host key: "),
        authenticated: last(log, "Authenticated to ").map(|text| text.trim_end_matches('.').to_owned()),
        server: last(log, "remote software version "),
        weaker: None,
        closed_before: 0,
    }
}

/// What follows `prefix` in the last line that has it: with a jump host, the last one is the host itself.
pub(super) fn last(log: &str, prefix: &str) -> Option<String> {
    log.lines().rev().find_map(|line| line.split_once(prefix)).map(|(_, rest)| rest.trim().to_owned())
}

/// The last lines that are meant for people.
pub(super) fn last_words(log: &str, count: usize) -> String {
    let words = |line: &&str| {
        let chatter = ["debug1:", "OpenSSH_", "Authenticated to", "Transferred:", "Bytes per second:"];
        !line.trim().is_empty() && !chatter.iter().any(|prefix| line.starts_with(prefix))
    };
    let lines: Vec<&str> = log.lines().filter(words).collect();
    lines.get(lines.len().saturating_sub(count)..).unwrap_or_default().join("\n")
}

/// Whether ssh has written its last words.
pub(super) fn ended(log: &str) -> bool {
    log.contains("Transferred: ")
}

/// Why a connection that was made has ended.
pub(super) fn end(log: &str) -> String {
    let since = log.rsplit_once("Entering interactive session").map_or("", |(_, since)| since);
    let words = last_words(since.split_once('\n').map_or("", |(_, since)| since), 1);
    // What it says when it tried to take its leave of a host that was gone already.
    if !words.is_empty() && !words.starts_with("client_loop: send disconnect") {
        words
    } else if since.contains("Transferred:") {
        // ssh says this on a stream that a master in the background does not have.
        "it was closed from the other side".to_owned()
    } else {
        "the ssh process that held it was killed".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_connection_is_explained() {
        let up =
            "Warning: something at the start\ndebug1: Entering interactive session.\ndebug1: pledge: id\n";
        let closed = "debug1: channel 0: free\nTransferred: sent 1, received 2 bytes, in 1.2 seconds\n";
        for (log, expected) in [
            (up.to_owned(), "the ssh process that held it was killed"),
            (format!("{up}{closed}"), "it was closed from the other side"),
            (
                format!("{up}client_loop: send disconnect: Broken pipe\n{closed}"),
                "it was closed from the other side",
            ),
            (
                format!("{up}Timeout, server 192.0.2.1 not responding.\n{closed}"),
                "Timeout, server 192.0.2.1 not responding.",
            ),
        ] {
            assert_eq!(end(&log), expected);
        }
    }
}
