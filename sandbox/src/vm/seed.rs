//! What makes one virtual machine differ from the next, given to its systemd as the credential that has
//! systemd-tmpfiles write files at every boot (systemd.system-credentials(7), QEMU's `opt/io.systemd.credentials`).

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use super::image::{HOST, NAME_SERVER};
use crate::plan::Plan;
use crate::seed::{self, Seed};
use crate::{Error, files};

/// The file with the credential, in a sandbox's directory.
pub(super) const CREDENTIAL: &str = "tmpfiles.extra";

/// Writes the credential of a sandbox whose keys are made.
pub(crate) fn write_credential(host_dir: &Path, plan: &Plan) -> Result<(), Error> {
    let mut lines = String::new();
    for mut seed in seed::seeds(host_dir, plan)? {
        match seed.path {
            "etc/hosts" => seed.content = hosts(&seed.content).into_bytes(),
            "etc/resolv.conf" => seed.content = resolver(&seed.content).into_bytes(),
            _ => {}
        }
        add(&mut lines, &seed);
    }
    let path = host_dir.join(CREDENTIAL);
    files::remove(&path)?;
    drop(files::open_private(&path)?);
    fs::write(&path, lines).map_err(Error::io("write", &path))
}

fn add(lines: &mut String, seed: &Seed) {
    let Seed { path, content, mode, owner } = seed;
    if let Some(parent) = Path::new(path).parent().filter(|_| *owner != 0) {
        let _infallible = writeln!(lines, "d /{} 0700 {owner} {owner} -", parent.display());
    }
    let _infallible = write!(lines, "f+ /{path} {mode:04o} {owner} {owner} - ");
    for byte in content {
        let _infallible = match byte {
            // Begins a specifier.
            b'%' => write!(lines, "%%"),
            byte if byte.is_ascii_alphanumeric() => write!(lines, "{}", char::from(*byte)),
            byte => write!(lines, "\\x{byte:02x}"),
        };
    }
    lines.push('\n');
}

/// This machine's names, where its own addresses are those that QEMU gives it.
fn hosts(text: &[u8]) -> String {
    let mut inside = "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n".to_owned();
    for line in String::from_utf8_lossy(text).lines() {
        let words = line.split('#').next().unwrap_or_default();
        let Some((address, names)) = words.trim().split_once([' ', '\t']) else { continue };
        let names: Vec<_> = names.split_whitespace().filter(|name| !is_local(name)).collect();
        let address = match address {
            // The sandbox's own.
            "127.0.1.1" => address,
            "::1" => HOST,
            address if address.starts_with("127.") => HOST,
            address => address,
        };
        if !names.is_empty() {
            let _infallible = writeln!(inside, "{address} {}", names.join(" "));
        }
    }
    inside
}

fn is_local(name: &str) -> bool {
    matches!(name, "localhost" | "localhost.localdomain" | "ip6-localhost" | "ip6-loopback")
}

/// QEMU asks this machine's name server; where names are searched for is this machine's too.
fn resolver(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    let kept = text.lines().filter(|line| ["search ", "domain "].iter().any(|word| line.starts_with(word)));
    kept.fold(format!("nameserver {NAME_SERVER}\n"), |all, line| all + line + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_lines_of_tmpfiles_d() {
        let mut lines = String::new();
        add(
            &mut lines,
            &Seed { path: "home/a/.ssh/k", content: b"a b\\%\n".into(), mode: 0o600, owner: 1000 },
        );
        assert_eq!(
            lines,
            "d /home/a/.ssh 0700 1000 1000 -\nf+ /home/a/.ssh/k 0600 1000 1000 - a\\x20b\\x5c%%\\x0a\n"
        );
    }

    #[test]
    fn names_of_this_machine_lead_to_it() {
        let outside = "127.0.0.1 localhost\n127.0.0.1\tmirror.example m # x\n::1 localhost ip6-localhost\n\
            192.0.2.1 other\n# c\n\n127.0.1.1 box\n";
        assert_eq!(
            hosts(outside.as_bytes()),
            "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n10.0.2.2 mirror.example m\n\
            192.0.2.1 other\n127.0.1.1 box\n"
        );
        assert_eq!(
            resolver(b"nameserver 127.0.0.53\nsearch example.org\noptions edns0\n"),
            "nameserver 10.0.2.3\nsearch example.org\n"
        );
    }
}
