//! The base of virtual machines: what of a Debian makes it one that boots.

use std::fs;
use std::path::{Path, PathBuf};

use toril_machine::Command;

use super::disk;
use crate::base::{Flavour, write};
use crate::{Error, files};

/// What Debian's cloud images have beyond a container's base: a kernel, the service manager, and logins as sessions.
const PACKAGES: &str = "ca-certificates,dbus,init,iproute2,kmod,libpam-systemd,linux-image-cloud-amd64,openssh-server,\
    procps,sudo,systemd-sysv,udev";

/// How a base of virtual machines differs from a container's.
pub(crate) const IMAGE: Flavour = Flavour {
    prefix: "vm-debian-",
    recipe: "1",
    packages: PACKAGES,
    lowest: "disk.raw",
    made_of: None,
    hook: None,
    finish: make_image,
};

/// What QEMU shows as this machine's 127.0.0.1, and its name server.
pub(super) const HOST: &str = "10.0.2.2";
pub(super) const NAME_SERVER: &str = "10.0.2.3";

const NETWORK: &str = "[Match]\nType=ether\n\n[Network]\nAddress=10.0.2.15/24\nGateway=10.0.2.2\nIPv6AcceptRA=no\n\
    LinkLocalAddressing=no\n";
const FSTAB: &str = "/dev/vda / ext4 rw,discard,errors=remount-ro 0 1\n";
/// Waited for by nobody here, and slow where everything is emulated.
const MASKED: [&str; 2] = ["e2scrub_reap.service", "systemd-networkd-wait-online.service"];

/// Turns the file system in `base` into a disk image, with its kernel beside it.
fn make_image(base: &Path, rootfs: &Path) -> Result<(), Error> {
    write(&rootfs.join("etc/fstab"), FSTAB.as_bytes(), 0o644)?;
    write(&rootfs.join("etc/systemd/network/20-ethernet.network"), NETWORK.as_bytes(), 0o644)?;
    for apt in ["etc/apt/sources.list.d/debian.sources", "etc/apt/apt.conf.d/90mirror"] {
        let path = rootfs.join(apt);
        if path.exists() {
            let text = fs::read_to_string(&path).map_err(Error::io("read", &path))?;
            write(&path, seen_from_inside(&text).as_bytes(), 0o644)?;
        }
    }
    for (verb, units) in [("enable", ["systemd-networkd.service", "ssh.service"]), ("mask", MASKED)] {
        let mut args = vec![rootfs.as_os_str(), "systemctl".as_ref(), verb.as_ref()];
        args.extend(units.iter().map(std::ffi::OsStr::new));
        Command::new("chroot", args).output()?;
    }
    let boot = rootfs.join("boot");
    for (file, name) in [("vmlinuz-", KERNEL), ("initrd.img-", INITRD)] {
        let found = files::list(&boot)?.into_iter().find(|name| name.starts_with(file));
        let found = found.ok_or_else(|| Error::Corrupt {
            path: boot.clone(),
            problem: format!("the package of the kernel left no {file}* there"),
        })?;
        let from = boot.join(found);
        fs::copy(&from, base.join(name)).map_err(Error::io("copy", &from))?;
    }
    disk::make_base(rootfs, &base.join(IMAGE.lowest))?;
    files::remove(rootfs)
}

/// In a base's directory.
const KERNEL: &str = "vmlinuz";
const INITRD: &str = "initrd.img";

/// The kernel and the initial RAM disk that belong to a base's disk.
pub(super) fn boot_files(base_disk: &Path) -> (PathBuf, PathBuf) {
    (base_disk.with_file_name(KERNEL), base_disk.with_file_name(INITRD))
}

/// A proxy or mirror on this machine itself has another address inside.
fn seen_from_inside(text: &str) -> String {
    let hosts = ["127.0.0.1", "localhost", "[::1]"];
    hosts.iter().fold(text.to_owned(), |text, host| {
        ["/", ":", "\""]
            .iter()
            .fold(text, |text, end| text.replace(&format!("//{host}{end}"), &format!("//{HOST}{end}")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_this_machine_are_translated() {
        for (outside, inside) in [
            ("http://127.0.0.1/debian", "http://10.0.2.2/debian"),
            ("Proxy \"http://localhost:3128\";", "Proxy \"http://10.0.2.2:3128\";"),
            ("http://localhost.example/ http://127.0.0.10/", "http://localhost.example/ http://127.0.0.10/"),
            ("http://mirror.example/debian", "http://mirror.example/debian"),
        ] {
            assert_eq!(seen_from_inside(outside), inside);
        }
    }
}
