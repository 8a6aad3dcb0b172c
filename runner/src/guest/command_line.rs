use std::path::Path;

use super::Devices;
use crate::accelerator::Accelerator;
use crate::suite::{GuestSettings, Late};

/// How QEMU is started for a guest. The options are those that 5.2, 7.2 and 10 have in common.
#[derive(Debug, Clone)]
pub(crate) struct QemuCommand<'g> {
    pub qemu: &'g str,
    pub guest: &'g GuestSettings,
    pub kernel: &'g Path,
    pub accelerator: Accelerator,
    pub sandbox: Sandbox,
    pub devices: &'g Devices,
    /// Its `append` and `qemu-args` with what is known only now.
    pub late: &'g Late,
}

/// What QEMU may not do once its sandbox is on.
const SANDBOX: &str = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny";

/// Whether QEMU confines itself; one built without seccomp cannot, nor can one on a host that has no such thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sandbox {
    On,
    Off,
}

impl Sandbox {
    /// Why QEMU refuses its sandbox, if that is what this line of it says: QEMU puts before an error the option that it is
    /// about, with its value.
    pub(crate) fn refusal(line: &str) -> Option<&str> {
        let (_program, said) = line.split_once(": ")?;
        let why = said.strip_prefix("-sandbox ")?.strip_prefix(SANDBOX)?.strip_prefix(": ")?;
        // With these it goes on.
        let goes_on = ["warning: ", "info: "].iter().any(|mark| why.starts_with(mark));
        (!goes_on).then_some(why)
    }
}

/// What the guest is connected to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Channels<'m> {
    /// The runner: its monitor is the open file of this number, and it waits for the monitor's `cont`.
    Runner {
        /// A number, or what stands for it.
        monitor: &'m str,
    },
    /// A terminal.
    ByHand,
}

impl QemuCommand<'_> {
    /// The program and its arguments.
    pub(crate) fn argv(&self, channels: Channels<'_>) -> Vec<String> {
        let mut argv: Vec<String> = vec![self.qemu.into()];
        let mut add = |words: &[&str]| argv.extend(words.iter().map(|word| (*word).to_owned()));
        // With ACPI, firmware would run and the virtio devices would not be on the kernel's command line.
        add(&["-M", "microvm,acpi=off"]);
        match self.accelerator {
            Accelerator::Kvm => add(&["-accel", "kvm", "-cpu", "host"]),
            Accelerator::Tcg => add(&["-accel", "tcg", "-cpu", "max"]),
        }
        let memory = memory(self.guest.memory);
        add(&["-m", &memory, "-smp", &self.guest.cpus.to_string()]);
        add(&["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]);
        // vhost-user refuses the legacy kind.
        add(&["-global", "virtio-mmio.force-legacy=false"]);
        if self.sandbox == Sandbox::On {
            add(&["-sandbox", SANDBOX]);
        }
        add(&["-chardev", "stdio,id=serial0,signal=off", "-serial", "chardev:serial0"]);
        add(&["-device", "isa-debug-exit,iobase=0xf4,iosize=0x04"]);
        if let Channels::Runner { monitor } = channels {
            add(&["-chardev", &format!("socket,id=monitor0,fd={monitor}")]);
            add(&["-mon", "chardev=monitor0,mode=control", "-S"]);
        } else if self.devices.debugger.is_some() {
            add(&["-S"]);
        }
        argv.extend(self.devices.arguments(&memory));
        argv.extend(["-kernel".to_owned(), self.kernel.to_string_lossy().into_owned()]);
        if !self.guest.append.is_empty() {
            argv.extend(["-append".to_owned(), self.late.render(&self.guest.append)]);
        }
        argv.extend(self.guest.qemu_args.iter().map(|word| self.late.render(word)));
        argv
    }
}

/// Bytes in the largest unit that needs no fraction.
fn memory(bytes: u64) -> String {
    match bytes {
        _ if bytes.is_multiple_of(1 << 20) => format!("{}M", bytes >> 20),
        _ if bytes.is_multiple_of(1 << 10) => format!("{}K", bytes >> 10),
        _ => format!("{bytes}B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::suite::{ExpectedEnd, Kernel};

    #[test]
    fn by_hand_is_the_same_without_the_runners_channels() {
        let guest = GuestSettings {
            cpus: 2,
            append: "mode=pass".into(),
            qemu_args: vec!["-s".into()],
            ..GuestSettings::new(Kernel::Toolkit, ExpectedEnd::ExitStatus(33))
        };
        let command = QemuCommand {
            qemu: "qemu-system-x86_64",
            guest: &guest,
            kernel: Path::new("/k"),
            accelerator: Accelerator::Kvm,
            sandbox: Sandbox::On,
            devices: &Devices::default(),
            late: &Late::default(),
        };
        let ours = command.argv(Channels::Runner { monitor: "7" }).join(" ");
        let by_hand = command.argv(Channels::ByHand).join(" ");
        let channels = " -chardev socket,id=monitor0,fd=7 -mon chardev=monitor0,mode=control -S";
        assert!(ours.contains(channels), "{ours}");
        assert_eq!(ours.replace(channels, ""), by_hand);
        assert!(by_hand.contains("-accel kvm -cpu host -m 64M -smp 2"), "{by_hand}");
        assert!(by_hand.ends_with("-kernel /k -append mode=pass -s"), "{by_hand}");
    }

    #[test]
    fn a_refusal_of_the_sandbox_is_known_by_the_option_before_it() {
        for why in [
            // Built without seccomp, both; on a host without it, the first.
            "There is no option group 'sandbox'",
            "-sandbox support is not enabled in this QEMU binary",
            // 3.1
            "failed to install seccomp syscall filter in the kernel",
            // Later; of the lists' names the first is the older one.
            "failed to initialize seccomp context",
            "failed to add seccomp blacklist rules: Invalid argument",
            "failed to add seccomp denylist rules: Invalid argument",
            "failed to set seccomp rawrc attribute: Invalid argument",
            "failed to set seccomp thread synchronization: Operation not permitted",
            "failed to load seccomp syscall filter in kernel: Operation not permitted",
        ] {
            for program in ["qemu-system-x86_64", "2019-04-04T20:55:22.897386Z qemu-system-x86_64"] {
                let line = format!("{program}: -sandbox {SANDBOX}: {why}");
                assert_eq!(Sandbox::refusal(&line), Some(why), "{line}");
            }
        }
        for line in [
            "qemu-system-x86_64: error reading initrd /srv/sandbox/initrd: Failed to open file \
             \u{201c}/srv/sandbox/initrd\u{201d}: No such file or directory",
            "qemu: could not load initrd '/srv/sandbox/initrd'",
            "qemu-system-x86_64: -drive file=/srv/seccomp/-sandbox: Could not open '/srv/seccomp/-sandbox': No such file or directory",
            // The suite's own.
            "qemu-system-x86_64: -sandbox on,obsolete=foo: invalid argument for obsolete",
            "-sandbox",
            "",
        ] {
            assert_eq!(Sandbox::refusal(line), None, "{line}");
        }
        let warned = format!("qemu-system-x86_64: -sandbox {SANDBOX}: warning: it is deprecated");
        assert_eq!(Sandbox::refusal(&warned), None);
    }

    #[test]
    fn memory_in_the_largest_unit() {
        assert_eq!([memory(64 << 20), memory(512 << 10), memory(1000)], ["64M", "512K", "1000B"]);
    }
}
