use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};

use sha2::{Digest, Sha256};

/// A file that is to be sent: its bytes, how many they are, and their hash.
#[derive(Debug)]
pub struct Parcel {
    file: File,
    /// In bytes.
    pub size: u64,
    /// SHA-256, in hexadecimal.
    pub sha256: String,
}

impl Parcel {
    /// A file as it is now, which is read once for its hash.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn of(mut file: File) -> io::Result<Parcel> {
        file.seek(SeekFrom::Start(0))?;
        let mut receipt = Receipt::default();
        let mut buffer = vec![0; 256 << 10];
        loop {
            match file.read(&mut buffer)? {
                0 => break,
                count => receipt.take(buffer.get(..count).unwrap_or_default()),
            }
        }
        let size = receipt.size;
        Ok(Parcel { file, size, sha256: receipt.sha256() })
    }

    /// Its bytes from the beginning: at most [`Parcel::size`], however the file grows.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn open(&self) -> io::Result<impl Read + use<>> {
        let mut file = self.file.try_clone()?;
        file.seek(SeekFrom::Start(0))?;
        Ok(file.take(self.size))
    }
}

/// Counts and hashes what passes.
#[derive(Debug, Default)]
pub struct Receipt {
    hasher: Sha256,
    /// Bytes that passed.
    pub size: u64,
}

impl Receipt {
    /// Takes note of a piece.
    pub fn take(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
        self.size += bytes.len() as u64;
    }

    /// SHA-256 of all that passed, in hexadecimal.
    #[must_use]
    pub fn sha256(self) -> String {
        hex::encode(self.hasher.finalize())
    }
}

/// A file that is being written, with the receipt of what went there.
#[derive(Debug)]
pub(crate) struct Counted {
    pub(crate) file: File,
    pub(crate) receipt: Receipt,
}

impl Counted {
    pub(crate) fn into_parcel(self) -> Parcel {
        Parcel { size: self.receipt.size, sha256: self.receipt.sha256(), file: self.file }
    }
}

impl Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write(bytes)?;
        self.receipt.take(bytes.get(..count).unwrap_or_default());
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
