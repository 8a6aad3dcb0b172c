//! Whether KVM runs real instructions, found out without QEMU: before anything is installed.

#![expect(unsafe_code, reason = "a guest's memory is lent to the kernel")]

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::ptr::{self, NonNull};
use std::time::Duration;

use kvm_bindings::{KVM_MAX_CPUID_ENTRIES, kvm_userspace_memory_region};
use kvm_ioctls::{Cap, Kvm, VcpuExit, VcpuFd, VmFd};
use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};
use serde::{Deserialize, Serialize};

use crate::{Command, CommandError};

const DEVICE: &str = "/dev/kvm";

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kvm", rename_all = "kebab-case")]
pub enum KvmTrial {
    /// The instructions were carried out.
    Works,
    /// There is no /dev/kvm.
    Missing,
    /// /dev/kvm is there and is none.
    NoDevice,
    /// This user may not open it.
    Forbidden,
    /// It cannot be used; where that failed, and why.
    Refused {
        /// Such as `making a virtual machine`.
        step: String,
        /// Why.
        error: String,
    },
    /// A guest was made and its instructions were not carried out; how it ended.
    Broken {
        /// Such as `KVM internal error 1`.
        how: String,
    },
    /// A guest was made and did not come to its end.
    Hangs {
        /// How long it was given, in seconds.
        seconds: u64,
    },
}

impl fmt::Display for KvmTrial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KvmTrial::Works => write!(f, "{DEVICE} runs real instructions"),
            KvmTrial::Missing => write!(f, "there is no {DEVICE}"),
            KvmTrial::NoDevice => write!(f, "{DEVICE} is there and is no device"),
            KvmTrial::Forbidden => write!(f, "{DEVICE} may not be opened"),
            KvmTrial::Refused { step, error } => write!(f, "{DEVICE} fails at {step}: {error}"),
            KvmTrial::Hangs { seconds } => {
                write!(f, "{DEVICE} opens but guests hang under it: no end within {seconds} s")
            }
            KvmTrial::Broken { how } => write!(f, "{DEVICE} opens but guests die under it: {how}"),
        }
    }
}

/// Where the guest's one page is, in its memory.
const PAGE: u64 = 0x1000;
const PAGE_SIZE: usize = 0x1000;

/// Where the guest says that it is done, and what.
const PORT: u16 = 0xf4;
const DONE: u8 = 0x55;

/// 32-bit code. A hypervisor that emulates instead of running knows hardly any SSE and MMX: such a KVM ends here in an
/// internal error, though it runs trivial guests.
#[rustfmt::skip]
const CODE: [u8; 26] = [
    0x0f, 0x28, 0xc1,             // movaps %xmm1, %xmm0
    0x66, 0x0f, 0xfe, 0xc1,       // paddd %xmm1, %xmm0
    0x0f, 0x6f, 0xc1,             // movq %mm1, %mm0
    0x0f, 0x77,                   // emms
    0xb9, 0x10, 0x00, 0x00, 0x00, // mov $0x10, %ecx: the time-stamp counter
    0x0f, 0x32,                   // rdmsr
    0x0f, 0xa2,                   // cpuid
    0xb0, DONE,                   // mov $DONE, %al
    0xe6, PORT as u8,             // out %al, $PORT
    0xf4,                         // hlt
];

/// Control register bits: protected mode, the coprocessor's, SSE's. Intel's manual, volume 3, 2.5.
const CR0: u64 = 1 | 1 << 1 | 1 << 4 | 1 << 5;
const CR4: u64 = 1 << 9 | 1 << 10;

/// [`try_kvm`] in a process of its own, which is killed where KVM hangs. `command` is the command line that gets there
/// and prints what came of it as JSON.
///
/// # Errors
/// It could not be started, or printed something else.
pub fn try_kvm_apart(command: &[OsString]) -> Result<KvmTrial, String> {
    const DEADLINE: Duration = Duration::from_secs(2);
    let (program, args) = command.split_first().ok_or("there is no command")?;
    match Command::new(program, args).deadline(DEADLINE).output() {
        Ok(printed) => serde_json::from_str(&printed)
            .map_err(|error| format!("cannot understand what the trial of KVM printed: {error}")),
        Err(CommandError::TimedOut { .. }) => Ok(KvmTrial::Hangs { seconds: DEADLINE.as_secs() }),
        Err(error) => Err(format!("cannot try KVM: {error}")),
    }
}

/// Has KVM run a few real instructions in a virtual machine of one page. It may hang where KVM does: to be called in a
/// process that can be killed.
pub fn try_kvm() -> KvmTrial {
    match std::fs::metadata(DEVICE) {
        Ok(metadata) if !metadata.file_type().is_char_device() => return KvmTrial::NoDevice,
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return KvmTrial::Missing,
        Err(error) => return refused("looking at it", error),
    }
    let kvm = match Kvm::new() {
        Ok(kvm) => kvm,
        Err(error) if [errno::EACCES, errno::EPERM].contains(&error.errno()) => return KvmTrial::Forbidden,
        Err(error) => return refused("opening it", error),
    };
    if kvm.get_api_version() != 12 {
        return refused("asking for its version", format!("it is {}, and not 12", kvm.get_api_version()));
    }
    match Guest::new(&kvm) {
        Ok(mut guest) => guest.run(),
        Err((step, error)) => refused(step, error),
    }
}

/// errno(3), as far as it matters here.
mod errno {
    pub(super) const EPERM: i32 = 1;
    pub(super) const EINTR: i32 = 4;
    pub(super) const EACCES: i32 = 13;
}

fn refused(step: &str, error: impl fmt::Display) -> KvmTrial {
    KvmTrial::Refused { step: step.into(), error: error.to_string() }
}

type Step<T> = Result<T, (&'static str, String)>;

fn at<T, E: fmt::Display>(step: &'static str, result: Result<T, E>) -> Step<T> {
    result.map_err(|error| (step, error.to_string()))
}

/// A virtual machine of one page and one processor.
struct Guest {
    cpu: VcpuFd,
    // Dropped after the processor, and before the page that it was lent.
    _machine: VmFd,
    _page: Page,
}

impl Guest {
    fn new(kvm: &Kvm) -> Step<Guest> {
        let machine = at("making a virtual machine", kvm.create_vm())?;
        if machine.check_extension(Cap::SetTssAddr) {
            // Intel's processors want it; kvm_vm_ioctl_set_tss_addr in the kernel's documentation of KVM.
            at("giving it a task state", machine.set_tss_address(0xfffb_d000))?;
        }
        let page = at("taking memory", Page::with(&CODE))?;
        let region = kvm_userspace_memory_region {
            slot: 0,
            flags: 0,
            guest_phys_addr: PAGE,
            memory_size: PAGE_SIZE as u64,
            userspace_addr: page.0.as_ptr() as u64,
        };
        // SAFETY: the page is there as long as the virtual machine is, and nobody else uses it.
        at("giving it memory", unsafe { machine.set_user_memory_region(region) })?;
        let cpu = at("making a processor", machine.create_vcpu(0))?;
        let features = at("asking for features", kvm.get_supported_cpuid(KVM_MAX_CPUID_ENTRIES))?;
        at("setting features", cpu.set_cpuid2(&features))?;
        let mut special = at("reading its registers", cpu.get_sregs())?;
        for segment in [
            &mut special.cs,
            &mut special.ds,
            &mut special.es,
            &mut special.fs,
            &mut special.gs,
            &mut special.ss,
        ] {
            // All of the memory, 32 bits wide.
            (segment.base, segment.limit, segment.selector) = (0, u32::MAX, 16);
            (segment.type_, segment.present, segment.s, segment.db, segment.g) = (3, 1, 1, 1, 1);
        }
        (special.cs.type_, special.cs.selector) = (11, 8);
        (special.cr0, special.cr4) = (CR0, CR4);
        at("setting its registers", cpu.set_sregs(&special))?;
        let mut registers = at("reading its registers", cpu.get_regs())?;
        // Bit 1 of the flags is always set.
        (registers.rip, registers.rflags) = (PAGE, 2);
        at("setting its registers", cpu.set_regs(&registers))?;
        Ok(Guest { cpu, _machine: machine, _page: page })
    }

    fn run(&mut self) -> KvmTrial {
        let broken = |how: String| KvmTrial::Broken { how };
        loop {
            match self.cpu.run() {
                Ok(VcpuExit::IoOut(PORT, [DONE])) => return KvmTrial::Works,
                Ok(VcpuExit::InternalError) => {}
                Ok(VcpuExit::FailEntry(reason, _)) => {
                    return broken(format!("the processor refuses to enter it (reason {reason:#x})"));
                }
                Ok(VcpuExit::Shutdown) => return broken("it triple-faulted".into()),
                Ok(other) => return broken(format!("it stopped with {other:?}")),
                Err(error) if error.errno() == errno::EINTR => continue,
                Err(error) => return broken(format!("running it fails: {error}")),
            }
            // SAFETY: the kernel has just said that this is what it filled in.
            let suberror = unsafe { self.cpu.get_kvm_run().__bindgen_anon_1.internal.suberror };
            return broken(format!("KVM internal error {suberror}{}", explained(suberror)));
        }
    }
}

/// `KVM_INTERNAL_ERROR_*` of the kernel's linux/kvm.h.
fn explained(suberror: u32) -> &'static str {
    match suberror {
        1 => " (it emulates instructions, and does not know one of them)",
        2 | 3 => " (an exception came at a time where it cannot be delivered)",
        _ => "",
    }
}

/// A page of memory.
struct Page(NonNull<u8>);

impl Page {
    fn with(content: &[u8]) -> io::Result<Page> {
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: the kernel chooses a place that is free.
        let page = unsafe { mmap_anonymous(ptr::null_mut(), PAGE_SIZE, protection, MapFlags::PRIVATE)? };
        let page = NonNull::new(page.cast::<u8>()).ok_or(io::ErrorKind::OutOfMemory)?;
        // SAFETY: the page is new, and larger than the content.
        unsafe { ptr::copy_nonoverlapping(content.as_ptr(), page.as_ptr(), content.len().min(PAGE_SIZE)) };
        Ok(Page(page))
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        // SAFETY: it was made by `with`, and the virtual machine that used it is gone. A page that stays is no harm.
        let _ = unsafe { munmap(self.0.as_ptr().cast(), PAGE_SIZE) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_fits_and_ends_at_the_port() {
        assert!(CODE.len() < PAGE_SIZE);
        assert!(CODE.ends_with(&[0xb0, DONE, 0xe6, 0xf4, 0xf4]));
    }

    /// Whatever this machine has, it is told, and in words that name the device.
    #[test]
    fn this_machines_kvm_is_told() {
        let trial = try_kvm();
        assert!(trial.to_string().contains(DEVICE), "{trial:?}");
        assert_eq!(trial == KvmTrial::Missing, !std::path::Path::new(DEVICE).exists());
    }
}
