use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use toril_machine::Probe as Look;

use super::bench::{Bench, time};
use super::{Answer, OwnKernel, initrd, remedy};
use crate::accelerator::Accelerator;
use crate::verdict::Outcome;

/// How long a kernel of a distribution may take to its first program: it has a hundred times more to do than the guests
/// of the other probes.
const DEADLINE: Duration = Duration::from_secs(15);

/// The same where the machine is a guest itself.
const NESTED_DEADLINE: Duration = Duration::from_secs(90);

const NONE: &str = "none is needed: guests bring kernels of their own";
const EMULATED: &str = "`toril verify HOST --require host-kernel` boots it emulated, which takes seconds";
const BROKEN: &str = "what runs short programs and no real kernel emulates instructions: choose another flavour or provider; \
    or have guests emulated, by `--accel tcg`";

impl Bench<'_> {
    /// The host's own kernel, up to its first program: no guest of a few KB runs as much of a processor.
    pub(super) fn host_kernel(
        &self,
        accelerator: Accelerator,
        figures: &mut BTreeMap<String, String>,
    ) -> Answer {
        let untried = |why: String, remedy: &str| Answer::untried(why, remedy).accepted(true);
        if accelerator == Accelerator::Tcg && self.background.own_kernel != OwnKernel::Always {
            return untried("guests are emulated here, and it is for KVM".into(), EMULATED);
        }
        let kernel = match find(Path::new("/boot")) {
            Ok(kernel) => kernel,
            Err(why) => return untried(why, NONE),
        };
        let made = self.stage.directory.of_root(&self.stage.account).and_then(|folder| {
            fs::copy(&kernel, folder.path().join(KERNEL))?;
            fs::write(folder.path().join(INITRD), initrd::image())?;
            // Some distributions keep their kernels for root.
            for name in [KERNEL, INITRD] {
                fs::set_permissions(folder.path().join(name), Permissions::from_mode(0o444))?;
            }
            Ok(folder)
        });
        let folder = match made {
            Ok(folder) => folder,
            Err(error) => return untried(format!("cannot read {}: {error}", kernel.display()), NONE),
        };
        let directory = folder.path().to_string_lossy();
        let mut test = match self.test("host-kernel", accelerator, &[("directory", &*directory)]) {
            Ok(test) => test,
            Err(why) => return untried(why, remedy::REINSTALL),
        };
        test.deadline = if self.background.guest { NESTED_DEADLINE } else { DEADLINE };
        let executed = self.run(&test, accelerator);
        let name = kernel.display();
        if executed.verdict.outcome != Outcome::Passed {
            let why = &executed.verdict.reason;
            let remedy = if accelerator == Accelerator::Kvm { BROKEN } else { remedy::REINSTALL };
            return Answer::of_guest(&executed, format!("{name} under {accelerator}: {why}"), remedy);
        }
        let took = time(executed.times.ran.unwrap_or(executed.times.wall));
        figures.insert("host-kernel-time".into(), took.clone());
        Answer::works(format!("{name} boots under {accelerator} and runs its first program, in {took}"))
    }
}

const KERNEL: &str = "host-kernel";
const INITRD: &str = "host-initrd";

/// The kernel that runs, or the newest that is there. An error is why there is none.
fn find(boot: &Path) -> Result<PathBuf, String> {
    let running = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let running = boot.join(format!("vmlinuz-{}", running.trim()));
    if running.is_file() {
        return Ok(running);
    }
    let entries = match Look::of_io(fs::read_dir(boot), &boot.to_string_lossy()) {
        Look::Known(entries) => entries,
        Look::Absent => return Err(format!("there is no {}", boot.display())),
        Look::Unreadable(why) => return Err(why),
    };
    let kernels = entries.filter_map(Result::ok).filter_map(|entry| {
        let is_kernel = entry.file_name().to_string_lossy().starts_with("vmlinuz-");
        let metadata = fs::metadata(entry.path()).ok().filter(|metadata| is_kernel && metadata.is_file())?;
        Some((metadata.modified().ok()?, entry.path()))
    });
    let newest = kernels.max().map(|(_, path)| path);
    newest.ok_or_else(|| format!("there is no kernel in {} (vmlinuz-*)", boot.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_kernel_stands_in_for_one_that_is_gone() {
        let boot = tempfile::tempdir().unwrap();
        let why = find(boot.path()).unwrap_err();
        assert!(why.starts_with("there is no kernel in "), "{why}");
        for name in ["System.map-6.1", "vmlinuz-5.10", "vmlinuz-6.1"] {
            fs::write(boot.path().join(name), "").unwrap();
        }
        let old = fs::File::options().write(true).open(boot.path().join("vmlinuz-6.1")).unwrap();
        old.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
        assert_eq!(find(boot.path()).unwrap(), boot.path().join("vmlinuz-5.10"));
        let running = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
        let running = boot.path().join(format!("vmlinuz-{}", running.trim()));
        fs::write(&running, "").unwrap();
        assert_eq!(find(boot.path()).unwrap(), running);
        assert!(find(&boot.path().join("none")).unwrap_err().starts_with("there is no /"));
    }
}
