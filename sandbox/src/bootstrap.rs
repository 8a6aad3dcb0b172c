//! The call of mmdebstrap, and what its failures mean.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::options::Progress;
use crate::sources::Apt;
use crate::{Error, Release, files, tools};

/// What containers have of a small cloud image beyond `apt` and the essential packages, as far as the work here meets
/// it: sshd, sudo, and udev, whose installation makes the group kvm.
pub(crate) const PACKAGES: &str = "ca-certificates,iproute2,kmod,openssh-server,procps,sudo,udev";
/// The user that cloud images log in as, in the groups that cloud-init gives it.
pub(crate) const USER: &str = "chroot \"$1\" useradd --create-home --shell /bin/bash --uid 1000 \
     --groups adm,audio,cdrom,dialout,dip,floppy,plugdev,sudo,video debian";
/// What makes /bin and the like links into /usr where packages do not; the same as Debian's installer does.
const MERGED_USR: &str = "for dir in bin sbin lib lib32 lib64 libx32; do \
     mkdir -p \"$1/usr/$dir\" && ln -s \"usr/$dir\" \"$1/$dir\"; done";

/// How a Debian is made.
pub(crate) struct Bootstrap<'b> {
    pub release: Release,
    /// Beyond `apt` and the essential ones.
    pub packages: &'static str,
    /// A script that is run on the file system when the packages are there; its argument is the file system.
    pub hook: Option<&'static str>,
    /// A directory for this alone.
    pub work: &'b Path,
    /// Kept open for as long as anything of it runs, so that nobody sweeps below it.
    pub lock: &'b File,
    /// Where what it says is kept.
    pub log: &'b Path,
}

impl Bootstrap<'_> {
    /// Makes the file system, and returns what of `apt` it was made from: pockets that the release can do without and
    /// that the mirror does not have are left out.
    pub fn run(&self, rootfs: &Path, apt: &Apt, progress: &mut dyn FnMut(Progress)) -> Result<Apt, Error> {
        match self.attempt(rootfs, apt, progress) {
            Err(Error::SuiteGone { suites, .. }) if suites.iter().all(|suite| self.is_spare(suite)) => {
                for suite in &suites {
                    progress(Progress::SuiteGone { suite: suite.clone() });
                }
                files::remove(rootfs)?;
                let left = apt.without(&suites)?;
                self.attempt(rootfs, &left, progress).map(|()| left)
            }
            result => result.map(|()| apt.clone()),
        }
    }

    fn is_spare(&self, suite: &str) -> bool {
        ["-updates", "-backports"].iter().any(|pocket| suite == self.release.suite(pocket))
    }

    /// Runs mmdebstrap so that nothing of it outlives this thread: it ends with its parent, its processes with it, and
    /// its mounts with them.
    fn attempt(&self, rootfs: &Path, apt: &Apt, progress: &mut dyn FnMut(Progress)) -> Result<(), Error> {
        let Bootstrap { release, packages, work, log: log_path, .. } = self;
        let sources = work.join("debian.sources");
        fs::write(&sources, &apt.sources).map_err(Error::io("write", &sources))?;
        let stdin = self.lock.try_clone().map_err(Error::io("duplicate the lock of", work))?;
        let mut log = File::create(log_path).map_err(Error::io("write", log_path))?;
        let stdout = log.try_clone().map_err(Error::io("duplicate", log_path))?;
        let failed =
            |how: String| Error::Build { how, tail: files::tail(log_path), log: log_path.to_path_buf() };
        let script = match self.hook {
            Some(text) => {
                let path = work.join("hook.sh");
                fs::write(&path, text).map_err(Error::io("write", &path))?;
                Some(format!("--customize-hook=sh '{}' \"$1\"", path.display()))
            }
            None => None,
        };
        let hook = release.is_merged_by_the_installer().then(|| format!("--setup-hook={MERGED_USR}"));
        let mut command = Command::new("setpriv");
        command
            .args([
                "--pdeathsig",
                "KILL",
                "unshare",
                "--mount",
                "--propagation",
                "private",
                "--pid",
                "--fork",
            ])
            .args(["--kill-child=KILL", "--mount-proc", "mmdebstrap", "--mode=root", "--variant=minbase"])
            .args([
                "--format=directory",
                &format!("--include={packages}"),
                &format!("--customize-hook={USER}"),
            ])
            .args(hook)
            .args(script)
            .args(apt.settings.iter().map(|line| format!("--aptopt={}", line.trim_end_matches(';'))))
            .arg(release.codename)
            .arg(rootfs)
            .arg("./debian.sources")
            .current_dir(work)
            .env("PATH", tools::search_path())
            .env("TMPDIR", work)
            .env("LC_ALL", "C.UTF-8")
            .env("DEBIAN_FRONTEND", "noninteractive")
            .stdin(stdin)
            .stdout(stdout)
            .stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|error| failed(format!("could not be started: {error}")))?;
        let mut refused = Refused::default();
        if let Some(stderr) = child.stderr.take() {
            for line in BufReader::new(stderr).split(b'\n') {
                let line = line.map_err(Error::io("read what mmdebstrap says in", work))?;
                let line = String::from_utf8_lossy(&line);
                writeln!(log, "{line}").map_err(Error::io("write", log_path))?;
                refused.take(&line);
                if let Some(step) = line.strip_prefix("I: ") {
                    progress(Progress::BuildingBase { step: format!("{release}: {step}") });
                }
            }
        }
        let status = child.wait().map_err(|error| failed(format!("was lost: {error}")))?;
        match (status.success(), refused) {
            (true, _) => Ok(()),
            (false, Refused { suites, .. }) if !suites.is_empty() => {
                Err(Error::SuiteGone { release: *release, suites })
            }
            (false, Refused { keys, .. }) if !keys.is_empty() => {
                Err(Error::UnknownKeys { release: *release, keys: keys.join(", ") })
            }
            (false, _) => Err(failed(format!("ended with {status}"))),
        }
    }
}

/// What apt says of sources that it does not take.
#[derive(Debug, Default, PartialEq, Eq)]
struct Refused {
    suites: Vec<String>,
    keys: Vec<String>,
}

impl Refused {
    fn take(&mut self, line: &str) {
        let gone = line.strip_suffix(" Release' does not have a Release file.");
        if let Some((_, suite)) = gone.and_then(|line| line.rsplit_once(' ')) {
            self.suites.push(suite.to_owned());
        }
        let keys = line.split("NO_PUBKEY ").skip(1).filter_map(|rest| rest.split_whitespace().next());
        for key in keys {
            if !self.keys.iter().any(|known| known == key) {
                self.keys.push(key.to_owned());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_apt_refuses_is_understood() {
        let mut refused = Refused::default();
        for line in [
            "E: The repository 'http://mirror.example/debian bullseye-backports Release' does not have a Release file.",
            "E: apt-get update --error-on=any failed",
            "W: GPG error: http://mirror.example/debian trixie InRelease: NO_PUBKEY 6ED0 NO_PUBKEY 78DB",
            "Err: NO_PUBKEY 6ED0",
        ] {
            refused.take(line);
        }
        let strings = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        assert_eq!(
            refused,
            Refused { suites: strings(&["bullseye-backports"]), keys: strings(&["6ED0", "78DB"]) }
        );
    }
}
