//! Whether a file is a kernel that QEMU's microvm can start by PVH.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};

use object::elf::{EM_386, EM_X86_64, FileHeader32, FileHeader64, PT_NOTE};
use object::read::elf::{FileHeader, ProgramHeader};
use object::{LittleEndian, ReadCache, ReadRef};

/// The note that says where such a kernel is entered: XEN_ELFNOTE_PHYS32_ENTRY.
const ENTRY: u32 = 18;

/// Where a compressed Linux kernel says that it is one.
const LINUX: (usize, &[u8]) = (0x202, b"HdrS");

/// What a file is instead of a kernel that can be started by PVH.
#[derive(Debug, thiserror::Error)]
pub enum NoKernel {
    /// It cannot be read.
    #[error(transparent)]
    Unreadable(#[from] io::Error),
    /// The file in which distributions have their kernels.
    #[error(
        "it is a compressed Linux kernel (bzImage), no ELF file; give its vmlinux, built with CONFIG_PVH"
    )]
    Compressed,
    /// Another file.
    #[error("it is no ELF file")]
    NoElf,
    /// One for another processor.
    #[error("it is an ELF file for another machine than x86 (e_machine {0})")]
    Foreign(u16),
    /// A part of it is not what it should be, or missing.
    #[error("as an ELF file it is damaged or cut off: {0}")]
    Damaged(object::read::Error),
    /// A program, say.
    #[error("it is an ELF file without a PVH note (XEN_ELFNOTE_PHYS32_ENTRY in a segment PT_NOTE)")]
    NoNote,
}

/// Looks for what QEMU looks for: an ELF file for x86, of 32 or 64 bits, with a PVH note.
///
/// # Errors
/// It is no such file.
pub fn check_pvh_kernel(file: &File) -> Result<(), NoKernel> {
    let (mut file, mut head) = (file, Vec::new());
    file.seek(SeekFrom::Start(0))?;
    file.take(0x400).read_to_end(&mut head)?;
    let cache = ReadCache::new(file);
    match head.as_slice() {
        [0x7f, b'E', b'L', b'F', 1, ..] => check::<FileHeader32<LittleEndian>, _>(&cache),
        [0x7f, b'E', b'L', b'F', ..] => check::<FileHeader64<LittleEndian>, _>(&cache),
        head if head.get(LINUX.0..).is_some_and(|rest| rest.starts_with(LINUX.1)) => {
            Err(NoKernel::Compressed)
        }
        _ => Err(NoKernel::NoElf),
    }
}

fn check<'f, Elf: FileHeader<Endian = LittleEndian>, F: ReadRef<'f>>(file: F) -> Result<(), NoKernel> {
    let header = Elf::parse(file).map_err(NoKernel::Damaged)?;
    let endian = header.endian().map_err(NoKernel::Damaged)?;
    let machine = header.e_machine(endian);
    if machine != EM_X86_64 && machine != EM_386 {
        return Err(NoKernel::Foreign(machine));
    }
    for segment in header.program_headers(endian, file).map_err(NoKernel::Damaged)? {
        if segment.p_type(endian) != PT_NOTE {
            continue;
        }
        let mut notes = segment.notes(endian, file).map_err(NoKernel::Damaged)?;
        while let Some(note) =
            notes.as_mut().map_or(Ok(None), |notes| notes.next()).map_err(NoKernel::Damaged)?
        {
            // Its name should be `Xen`, and QEMU does not look at it.
            if note.n_type(endian) == ENTRY {
                return Ok(());
            }
        }
    }
    Err(NoKernel::NoNote)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use proptest::prelude::*;

    use super::*;
    use crate::toolkit::IMAGE;

    fn told(bytes: &[u8]) -> String {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        check_pvh_kernel(&file).map_or_else(|error| error.to_string(), |()| "a kernel".into())
    }

    fn with(at: usize, bytes: &[u8]) -> Vec<u8> {
        let mut image = IMAGE.to_vec();
        image[at..at + bytes.len()].copy_from_slice(bytes);
        image
    }

    /// A file of 32 bits that is a header, a segment and a note.
    fn small(note: u32) -> Vec<u8> {
        let mut file = b"\x7fELF\x01\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\x03\0".to_vec();
        // The version, the entry, where segments and sections begin, flags.
        file.extend([1, 0, 52, 0, 0].map(u32::to_le_bytes).concat());
        // The header's size, a segment's size, one of them, no section.
        file.extend([52, 32, 1, 0, 0, 0].map(u16::to_le_bytes).concat());
        file.extend([4, 84, 0, 0, 20, 20, 4, 4].map(u32::to_le_bytes).concat());
        file.extend([4, 4, note].map(u32::to_le_bytes).concat());
        file.extend(b"Xen\0\0\0\x10\0");
        file
    }

    #[test]
    fn a_kernel_has_a_pvh_note_and_nothing_else_is_one() {
        let note = IMAGE.windows(8).position(|part| part == b"\x12\0\0\0Xen\0").unwrap();
        let linux = [&[0; 0x202], b"HdrS".as_slice(), &[0; 100]].concat();
        assert_eq!(told(IMAGE), "a kernel");
        assert_eq!(told(&small(18)), "a kernel");
        for (bytes, expected) in [
            (Vec::new(), "it is no ELF file"),
            (b"\x7fEL".to_vec(), "it is no ELF file"),
            (linux, "it is a compressed Linux kernel (bzImage), "),
            (with(18, &[183, 0]), "it is an ELF file for another machine than x86 (e_machine 183)"),
            (with(5, &[2]), "as an ELF file it is damaged or cut off: "),
            (IMAGE[..100].to_vec(), "as an ELF file it is damaged or cut off: "),
            (with(note, &[1]), "it is an ELF file without a PVH note "),
            (small(1), "it is an ELF file without a PVH note "),
            (std::fs::read("/proc/self/exe").unwrap(), "it is an ELF file without a PVH note "),
        ] {
            let told = told(&bytes);
            assert!(told.starts_with(expected), "{told:?} is not {expected:?}");
        }
    }

    proptest! {
        #[test]
        fn any_file_is_looked_at(
            writes in prop::collection::vec((0..400_usize, any::<u8>()), 0..20),
            length in 0..=IMAGE.len(),
        ) {
            let mut image = IMAGE.to_vec();
            for (at, byte) in writes {
                image[at] = byte;
            }
            told(&image);
            told(&image[..length]);
        }
    }
}
