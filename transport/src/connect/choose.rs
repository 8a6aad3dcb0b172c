//! Which client carries a connection.

use toril_inventory::{Ssh, Transport};

use super::error::ConnectError;
use super::{Options, russh};

/// What carries the connection to a host: what was told, else OpenSSH where there is an `ssh`, unless the host's key
/// is pinned or the private key is in the environment, which OpenSSH cannot use.
///
/// # Errors
/// [`ConnectError::OnlyRussh`] when OpenSSH was told for what it cannot do.
pub fn chosen(ssh: &Ssh, options: &Options) -> Result<Transport, ConnectError> {
    choose(ssh, options, russh::key().is_some(), || which::which("ssh").is_ok())
}

fn choose(
    ssh: &Ssh,
    options: &Options,
    in_environment: bool,
    has_ssh: impl Fn() -> bool,
) -> Result<Transport, ConnectError> {
    let only_russh = if !options.host_keys.is_empty() || !ssh.host_key.is_empty() {
        Some("a pinned host key")
    } else if in_environment && ssh.identity.is_none() {
        Some("a private key in the environment")
    } else {
        None
    };
    match (options.transport.or(ssh.transport).or(options.usual_transport), only_russh) {
        (Some(Transport::Openssh), Some(what)) => Err(ConnectError::OnlyRussh { what }),
        (Some(told), _) => Ok(told),
        (None, None) if has_ssh() => Ok(Transport::Openssh),
        (None, _) => Ok(Transport::Russh),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_told_counts_and_then_what_there_is() {
        use Transport::{Openssh, Russh};
        let pin = || vec!["SHA256:x".to_owned()];
        for (line, host, usual, pinned, key, has_ssh, expected) in [
            (None, None, None, false, false, true, Some(Openssh)),
            (None, None, None, false, false, false, Some(Russh)),
            (None, None, None, true, false, true, Some(Russh)),
            (None, None, None, false, true, true, Some(Russh)),
            (None, None, Some(Russh), false, false, true, Some(Russh)),
            (None, Some(Openssh), Some(Russh), false, false, false, Some(Openssh)),
            (Some(Russh), Some(Openssh), None, false, false, true, Some(Russh)),
            (Some(Openssh), None, None, true, false, true, None),
            (None, None, Some(Openssh), false, true, true, None),
        ] {
            let ssh = Ssh { transport: host, ..Ssh::default() };
            let host_keys = if pinned { pin() } else { Vec::new() };
            let options =
                Options { transport: line, usual_transport: usual, host_keys, ..Options::default() };
            let got = choose(&ssh, &options, key, || has_ssh).ok();
            assert_eq!(got, expected, "{line:?} {host:?} {usual:?} {pinned} {key} {has_ssh}");
        }
    }
}
