//! Whether the place that packages come from answers, or the proxy before it.

use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

use toril_machine::{Command, Machine};

use super::{Check, CheckState};
use crate::apt;

const NAME: &str = "mirror";

/// How long an address has time to answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// More addresses of one name than this are not tried.
const MOST_ADDRESSES: usize = 3;

pub(super) fn check(machine: &Machine) -> Check {
    let uris = match apt::mirrors(machine) {
        Ok(uris) => uris,
        Err(error) => return unknown(error.to_string()),
    };
    let Some((scheme, host, port)) = uris.iter().find_map(|uri| endpoint(uri)) else {
        let remedy = "name a mirror in /etc/apt/sources.list, or by an apt-source in the recipe";
        return Check::trouble(NAME, CheckState::Doubtful, "apt has no source on the network", remedy);
    };
    let (host, port) = proxy(&scheme).unwrap_or((host, port));
    match addresses(&host) {
        Err(why) => Check::trouble(
            NAME,
            CheckState::Doubtful,
            format!("{host} has no address: {why}"),
            "check /etc/resolv.conf on the host; the mirror of a retired release is gone for good",
        ),
        Ok(addresses) => {
            let reached = addresses
                .iter()
                .take(MOST_ADDRESSES)
                .map(|address| TcpStream::connect_timeout(&SocketAddr::new(*address, port), PATIENCE));
            match reached.reduce(|one, other| one.or(other)) {
                Some(Ok(_)) => Check::fine(NAME, format!("{host} port {port} answers")),
                Some(Err(error)) => Check::trouble(
                    NAME,
                    CheckState::Doubtful,
                    format!("{host} port {port} does not answer: {error}"),
                    "check the host's network, firewall and apt's proxy settings",
                ),
                None => unknown(format!("{host} has no address")),
            }
        }
    }
}

fn unknown(what: String) -> Check {
    Check::trouble(NAME, CheckState::Unknown, what, "see `apt-get update` on the host")
}

/// Scheme, name and port of `http://h:3142/debian`. Other ways than http (files, media, transports of packages) are none
/// that could be tried here.
fn endpoint(uri: &str) -> Option<(String, String, u16)> {
    let (scheme, rest) = uri.split_once("://")?;
    let standard = match scheme {
        "http" => 80,
        "https" => 443,
        _ => return None,
    };
    let authority = rest.split('/').next()?;
    let authority = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    // An IPv6 address has colons of its own, and stands in brackets.
    let (host, port) = match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, rest)) => (host, rest.strip_prefix(':')),
        None => authority.split_once(':').map_or((authority, None), |(host, port)| (host, Some(port))),
    };
    let port = match port {
        Some(port) => port.parse().ok()?,
        None => standard,
    };
    (!host.is_empty()).then(|| (scheme.to_owned(), host.to_owned(), port))
}

/// What apt would ask instead.
fn proxy(scheme: &str) -> Option<(String, u16)> {
    let key = format!("Acquire::{scheme}::Proxy");
    let printed = Command::new("apt-config", ["shell", "PROXY", &key]).deadline(PATIENCE).output().ok()?;
    let value = printed.trim().strip_prefix("PROXY=")?.trim_matches('\'');
    endpoint(value).map(|(_, host, port)| (host, port))
}

/// By getent: a static program must not load the host's name service modules.
fn addresses(host: &str) -> Result<Vec<IpAddr>, String> {
    if let Ok(address) = host.parse() {
        return Ok(vec![address]);
    }
    let command = Command::new("getent", ["ahosts", host]).deadline(2 * PATIENCE);
    let printed = command.output().map_err(|error| error.to_string())?;
    let mut found: Vec<IpAddr> = Vec::new();
    for address in printed.lines().filter_map(|line| line.split_whitespace().next()?.parse().ok()) {
        if !found.contains(&address) {
            found.push(address);
        }
    }
    if found.is_empty() { Err("getent knows none".into()) } else { Ok(found) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_and_ports_of_mirrors() {
        let of = |uri| endpoint(uri).map(|(_, host, port)| (host, port));
        assert_eq!(of("http://deb.example/debian"), Some(("deb.example".into(), 80)));
        assert_eq!(of("https://u:p@deb.example:8443/"), Some(("deb.example".into(), 8443)));
        assert_eq!(of("http://[::1]:3142/debian"), Some(("::1".into(), 3142)));
        assert_eq!(
            [of("cdrom:[Debian]/"), of("file:///srv"), of("http:///x"), of("http://h:x/")],
            [None, None, None, None]
        );
    }

    proptest! {
        #[test]
        fn any_uri_is_read_or_not(uri in r"(https?://)?[a-z0-9.:@\[\]/]*") {
            if let Some((_, host, _)) = endpoint(&uri) {
                prop_assert!(!host.is_empty() && uri.contains(&host));
            }
        }
    }
}
