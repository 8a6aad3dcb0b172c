//! An initial RAM disk with one program, which says that it runs and has the machine reset.

use crate::toolkit::contract::{CASE, PASSED};

/// The case that the program reports.
pub(super) const USERLAND: &str = "userland";

/// x86-64 code for Linux: an SSE instruction, write(1, line, length), a wait until it is out, reboot(2). The
/// address of the line and its length are put in.
#[rustfmt::skip]
const CODE: [u8; 72] = [
    0x66, 0x0f, 0xef, 0xc0,             // pxor %xmm0, %xmm0
    0xbf, 0x01, 0x00, 0x00, 0x00,       // mov $1, %edi
    0xbe, 0x00, 0x00, 0x00, 0x00,       // mov $line, %esi
    0xba, 0x00, 0x00, 0x00, 0x00,       // mov $length, %edx
    0xb8, 0x01, 0x00, 0x00, 0x00,       // mov $1, %eax: write
    0x0f, 0x05,                         // syscall
    0xbf, 0x01, 0x00, 0x00, 0x00,       // mov $1, %edi
    0xbe, 0x09, 0x54, 0x00, 0x00,       // mov $0x5409, %esi: TCSBRK
    0xba, 0x01, 0x00, 0x00, 0x00,       // mov $1, %edx
    0xb8, 0x10, 0x00, 0x00, 0x00,       // mov $16, %eax: ioctl
    0x0f, 0x05,                         // syscall
    0xbf, 0xad, 0xde, 0xe1, 0xfe,       // mov $0xfee1dead, %edi
    0xbe, 0x69, 0x19, 0x12, 0x28,       // mov $0x28121969, %esi
    0xba, 0x67, 0x45, 0x23, 0x01,       // mov $0x01234567, %edx: restart
    0xb8, 0xa9, 0x00, 0x00, 0x00,       // mov $169, %eax: reboot
    0x0f, 0x05,                         // syscall
    0xeb, 0xfe,                         // jmp to itself
];
const LINE_AT: usize = 10;
const LENGTH_AT: usize = 15;

/// Where the program is loaded, and the length of what precedes its code: the ELF header and one program header.
const BASE: u32 = 0x40_0000;
const HEADERS: u32 = 64 + 56;

/// The disk, in the format that `cpio -H newc` makes (the kernel's buffer-format.rst).
pub(super) fn image() -> Vec<u8> {
    let mut archive = Vec::new();
    entry(&mut archive, "init", 0o100_755, &program());
    entry(&mut archive, "TRAILER!!!", 0, &[]);
    archive
}

fn entry(archive: &mut Vec<u8>, name: &str, mode: u32, content: &[u8]) {
    let size = |length: usize| u32::try_from(length).unwrap_or(u32::MAX);
    let links = 1;
    // Inode, mode, owner, group, links, time, size, four numbers of devices, the name's length with its end, no sum.
    let fields = [1, mode, 0, 0, links, 0, size(content.len()), 0, 0, 0, 0, size(name.len() + 1), 0];
    archive.extend(b"070701");
    fields.iter().for_each(|field| archive.extend(format!("{field:08x}").into_bytes()));
    archive.extend(name.as_bytes());
    archive.push(0);
    archive.resize(archive.len().next_multiple_of(4), 0);
    archive.extend(content);
    archive.resize(archive.len().next_multiple_of(4), 0);
}

/// An ELF executable of one segment.
fn program() -> Vec<u8> {
    let line = format!("{CASE}{USERLAND}{PASSED}\n").into_bytes();
    let mut code = CODE;
    let at = BASE + HEADERS + CODE.len() as u32;
    code[LINE_AT..LINE_AT + 4].copy_from_slice(&at.to_le_bytes());
    code[LENGTH_AT..LENGTH_AT + 4].copy_from_slice(&(line.len() as u32).to_le_bytes());
    let whole = u64::from(HEADERS) + (code.len() + line.len()) as u64;

    // Of 64 bits, little-endian; then EXEC, x86-64, version 1.
    let mut elf = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\x3e\0\x01\0\0\0".to_vec();
    let (entry, program_headers) = (u64::from(BASE + HEADERS), 64_u64);
    [entry, program_headers, 0].iter().for_each(|word| elf.extend(word.to_le_bytes()));
    elf.extend([0; 4]);
    // Sizes: the header, a program header, one of them; no section headers.
    [64_u16, 56, 1, 64, 0, 0].iter().for_each(|half| elf.extend(half.to_le_bytes()));
    // LOAD, readable and executable; offset, both addresses, both sizes, alignment.
    [1_u32, 5].iter().for_each(|word| elf.extend(word.to_le_bytes()));
    let base = u64::from(BASE);
    [0, base, base, whole, whole, 0x1000].iter().for_each(|word| elf.extend(word.to_le_bytes()));
    elf.extend(code);
    elf.extend(line);
    elf
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_names_its_line() {
        let program = program();
        let line = b"case userland: PASSED\n";
        assert!(program.ends_with(line));
        let number = |at: usize| u32::from_le_bytes(program[at..at + 4].try_into().unwrap()) as usize;
        let code = HEADERS as usize;
        assert_eq!(number(code + LINE_AT) - BASE as usize, program.len() - line.len());
        assert_eq!(number(code + LENGTH_AT), line.len());
    }

    #[test]
    fn the_disk_has_one_file() {
        let image = image();
        let mut rest = &image[..];
        let mut names = Vec::new();
        while let Some(entry) = rest.strip_prefix(b"070701") {
            let field = |number: usize| {
                let digits = std::str::from_utf8(&entry[number * 8..][..8]).unwrap();
                usize::from_str_radix(digits, 16).unwrap()
            };
            let (mode, size, name) = (field(1), field(6), field(11));
            let text = std::str::from_utf8(&entry[104..][..name - 1]).unwrap();
            names.push((text.to_owned(), mode, size));
            let content = (110 + name).next_multiple_of(4);
            rest = &rest[(content + size).next_multiple_of(4)..];
        }
        assert_eq!(rest, b"");
        let whole = program().len();
        assert_eq!(names, [("init".to_owned(), 0o100_755, whole), ("TRAILER!!!".to_owned(), 0, 0)]);
    }
}
