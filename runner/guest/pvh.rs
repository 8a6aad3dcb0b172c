//! What the loader tells a PVH guest.

use core::ffi::{CStr, c_char};

const MAGIC: u32 = 0x336e_c578;

/// The beginning of Xen's `hvm_start_info`; what follows in version 1 (memory map) is not needed here.
#[repr(C)]
struct Layout {
    magic: u32,
    _version: u32,
    _flags: u32,
    _modules: u32,
    _module_list: u64,
    command_line: u64,
    _rsdp: u64,
}

/// What the loader handed over.
pub struct StartInfo(*const Layout);

impl StartInfo {
    /// The start info at a physical address. Panics if there is none.
    ///
    /// # Safety
    /// `address` must be what the loader handed over.
    pub unsafe fn at(address: u64) -> Self {
        assert!(address != 0, "the loader gave no PVH start info");
        let info = Self(address as *const Layout);
        // SAFETY: the address is below 4 GiB as it came in EBX, so it is mapped; nothing is assumed of its alignment.
        let magic = unsafe { (&raw const (*info.0).magic).read_unaligned() };
        assert!(magic == MAGIC, "no PVH start info at its place");
        info
    }

    /// The kernel command line; empty if there is none or if it is not UTF-8.
    pub fn command_line(&self) -> &'static str {
        // SAFETY: the magic says that this is a start info, and nobody writes to it any more.
        let address = unsafe { (&raw const (*self.0).command_line).read_unaligned() };
        if address == 0 {
            return "";
        }
        // SAFETY: the protocol promises a string that ends with a NUL, and nobody writes to it any more.
        let text = unsafe { CStr::from_ptr(address as *const c_char) };
        text.to_str().unwrap_or_default()
    }
}
