//! CRC-32 (IEEE 802.3), as zlib, gzip and Python's `zlib.crc32` make it.

const POLYNOMIAL: u32 = 0xedb8_8320;

const TABLE: [u32; 256] = table();

const fn table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut index = 0;
    while index < table.len() {
        let mut value = index as u32;
        let mut bit = 0;
        while bit < 8 {
            value = if value & 1 == 1 { value >> 1 ^ POLYNOMIAL } else { value >> 1 };
            bit += 1;
        }
        table[index] = value;
        index += 1;
    }
    table
}

/// The checksum of what has the checksum `before`, and then `bytes`; of nothing it is 0.
pub fn add(before: u32, bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!before, |value, byte| value >> 8 ^ TABLE[usize::from(value as u8 ^ *byte)])
}
