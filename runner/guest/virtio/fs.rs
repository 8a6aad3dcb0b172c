//! A client of virtio-fs: enough to read a file of the shared directory and to leave one there.

use core::fmt;

use super::Error;
use super::buffer::Buffer;
use super::fuse::{Connection, Data, Failure, Node, Operation, ROOT};
use super::mmio::{self, Device};
use crate::clock;

const ID: u32 = 26;
/// The queues: one for what must not wait behind others, which is not used here, then those for requests.
const URGENT: u16 = 0;
const REQUESTS: u16 = 1;
const TAG_SIZE: usize = 36;

const MAJOR: u32 = 7;
/// What virtiofsd of QEMU 5.2 asks for at least.
const MINOR: u32 = 31;
/// Opening a file may empty it, and writes may be longer than a page.
const FLAGS: u32 = 1 << 3 | 1 << 5;

/// How to open a file, as Linux numbers it.
const WRITE: u32 = 0o1;
const CREATE: u32 = 0o100;
const TRUNCATE: u32 = 0o1000;
const MODE: u32 = 0o100_644;
const UMASK: u32 = 0o022;

/// The most that a server gives or takes at once where no more was agreed on: 32 pages.
const PIECE: usize = 128 << 10;

/// Why something did not work.
pub enum Problem {
    /// The device.
    Device(Error),
    /// No device has the tag; the tag of another one, if there is one.
    Tag(Option<Tag>),
    /// The server refused.
    Server(&'static str, Failure),
    /// A file ends before its size, or grows.
    Size { said: u64, read: u64 },
    /// The server took less than it was given.
    Short,
    /// The server speaks another version.
    Version(u32, u32),
}

impl fmt::Display for Problem {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Device(error) => error.fmt(to),
            Self::Tag(None) => Error::Missing("virtio-fs device").fmt(to),
            Self::Tag(Some(tag)) => write!(to, "no virtio-fs device has this tag; one has '{}'", tag.text()),
            Self::Server(what, failure) => write!(to, "{what}: {failure}"),
            Self::Size { said, read } => write!(to, "the file has {said} bytes but {read} were read"),
            Self::Short => to.write_str("write: not everything was taken"),
            Self::Version(major, minor) => write!(to, "the server speaks FUSE {major}.{minor}"),
        }
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        Self::Device(error)
    }
}

/// A device's tag, padded with NUL.
pub struct Tag([u8; TAG_SIZE]);

impl Tag {
    fn of(device: Device) -> Self {
        let mut tag = Self([0; TAG_SIZE]);
        device.configuration_bytes(0, &mut tag.0);
        tag
    }

    fn text(&self) -> &str {
        let text = self.0.split(|byte| *byte == 0).next().unwrap_or_default();
        core::str::from_utf8(text).unwrap_or("?")
    }
}

/// A file system that is mounted.
pub struct FileSystem {
    connection: Connection,
    data: Buffer,
}

/// What reading a file gave.
pub struct Content {
    /// How many bytes it has.
    pub length: u64,
    /// The checksum of all of them, as `cksum -a crc32b` and zlib make it.
    pub checksum: u32,
    /// Ticks of the clock that the requests took, the checksum left out.
    pub ticks: u64,
}

impl FileSystem {
    /// The file system of the device with this tag.
    pub fn mount(command_line: &str, tag: &str) -> Result<Self, Problem> {
        let mut other = None;
        for device in mmio::devices(command_line, ID) {
            let its = Tag::of(device);
            if its.text() == tag {
                return Self::connect(device);
            }
            other = Some(its);
        }
        Err(Problem::Tag(other))
    }

    fn connect(device: Device) -> Result<Self, Problem> {
        device.begin(0)?;
        device.queue(URGENT)?;
        let requests = device.queue(REQUESTS)?;
        device.start();
        let mut connection = Connection::new(requests);
        // Version, no reading ahead, flags.
        let arguments = words(&[MAJOR, MINOR, 0, FLAGS]);
        let answer = connection
            .call(Operation::Init, 0, &[arguments.as_flattened()], Data::None)
            .map_err(|failure| Problem::Server("init", failure))?;
        let garbled = Problem::Server("init", Failure::Garbled);
        if answer.len() < 8 {
            return Err(garbled);
        }
        // A newer server speaks the older version of the two.
        let (major, minor) = (answer.u32_at(0), answer.u32_at(4));
        if major != MAJOR || minor < 12 {
            return Err(Problem::Version(major, minor));
        }
        Ok(Self { connection, data: Buffer::new(PIECE) })
    }

    /// Reads the whole file, and gives every piece of it to `look`.
    pub fn read(&mut self, path: &str, mut look: impl FnMut(&[u8])) -> Result<Content, Problem> {
        let before = clock::ticks();
        let (node, size) = self.find(path)?;
        let open = words(&[0, 0]);
        let opened = self.call("open", Operation::Open, node, &[open.as_flattened()], 8)?;
        let handle = opened.u64_at(0);
        let mut content = Content { length: 0, checksum: 0, ticks: clock::ticks() - before };
        loop {
            let before = clock::ticks();
            let (low, high) = halves(handle);
            let (offset_low, offset_high) = halves(content.length);
            // Handle, offset, size, and no flags, lock owner or open flags.
            let read = words(&[low, high, offset_low, offset_high, PIECE as u32, 0, 0, 0, 0, 0]);
            let piece = self
                .connection
                .call(Operation::Read, node, &[read.as_flattened()], Data::Receive(self.data))
                .map_err(|failure| Problem::Server("read", failure))?;
            content.ticks += clock::ticks() - before;
            content.length += piece.len() as u64;
            content.checksum = crate::checksum::add(content.checksum, piece.bytes());
            look(piece.bytes());
            if piece.len() < PIECE {
                break;
            }
        }
        self.release(node, handle)?;
        if content.length == size {
            Ok(content)
        } else {
            Err(Problem::Size { said: size, read: content.length })
        }
    }

    /// Asks for the attributes of the root: the least that can be asked.
    pub fn attributes(&mut self) -> Result<(), Problem> {
        let get = words(&[0; 4]);
        self.call("getattr", Operation::GetAttributes, ROOT, &[get.as_flattened()], 16 + 88).map(|_| ())
    }

    /// Makes the file, or empties it, and writes the text to it.
    pub fn write(&mut self, path: &str, text: &str) -> Result<(), Problem> {
        let (node, handle) = match self.find(path) {
            Ok((node, _)) => {
                let open = words(&[WRITE | TRUNCATE, 0]);
                let opened = self.call("open", Operation::Open, node, &[open.as_flattened()], 8)?;
                (node, opened.u64_at(0))
            }
            // As Linux does, and not for a file that is there: the virtiofsd of QEMU 7.2 dies of that.
            Err(Problem::Server(_, Failure::NO_SUCH_FILE)) => self.create(path)?,
            Err(problem) => return Err(problem),
        };
        let (low, high) = halves(handle);
        let data = self.data.first(text.len());
        data.write(text.as_bytes());
        let write = words(&[low, high, 0, 0, data.len() as u32, 0, 0, 0, 0, 0]);
        let taken = self
            .connection
            .call(Operation::Write, node, &[write.as_flattened()], Data::Send(data))
            .map_err(|failure| Problem::Server("write", failure))?;
        if taken.len() < 4 || taken.u32_at(0) as usize != text.len() {
            return Err(Problem::Short);
        }
        self.release(node, handle)
    }

    /// The node and the handle of a new file, open for writing.
    fn create(&mut self, path: &str) -> Result<(Node, u64), Problem> {
        let (parent, name) = match path.rsplit_once('/') {
            Some((folder, name)) => (self.find(folder)?.0, name),
            None => (ROOT, path),
        };
        let create = words(&[WRITE | CREATE, MODE, UMASK, 0]);
        let arguments = [create.as_flattened(), name.as_bytes(), b"\0"];
        // The answer is an entry and then an open file.
        let created = self.call("create", Operation::Create, parent, &arguments, ENTRY_SIZE + 8)?;
        Ok((created.u64_at(0), created.u64_at(ENTRY_SIZE)))
    }

    /// The node and the size of what is at `path`, from the root on.
    fn find(&mut self, path: &str) -> Result<(Node, u64), Problem> {
        let mut found = (ROOT, 0);
        for name in path.split('/').filter(|name| !name.is_empty()) {
            let entry =
                self.call("lookup", Operation::Lookup, found.0, &[name.as_bytes(), b"\0"], ENTRY_SIZE)?;
            // The attributes begin at 40 with the inode's number; the size follows.
            found = (entry.u64_at(0), entry.u64_at(48));
        }
        Ok(found)
    }

    fn release(&mut self, node: Node, handle: u64) -> Result<(), Problem> {
        let (low, high) = halves(handle);
        let release = words(&[low, high, 0, 0, 0, 0]);
        self.call("release", Operation::Release, node, &[release.as_flattened()], 0).map(|_| ())
    }

    /// A call whose answer has `least` bytes or more.
    fn call(
        &mut self,
        what: &'static str,
        operation: Operation,
        node: Node,
        arguments: &[&[u8]],
        least: usize,
    ) -> Result<Buffer, Problem> {
        match self.connection.call(operation, node, arguments, Data::None) {
            Ok(answer) if answer.len() >= least => Ok(answer),
            Ok(_) => Err(Problem::Server(what, Failure::Garbled)),
            Err(failure) => Err(Problem::Server(what, failure)),
        }
    }
}

/// Node, generation, two times of validity in 24 bytes, and 88 bytes of attributes.
const ENTRY_SIZE: usize = 40 + 88;

fn words<const COUNT: usize>(words: &[u32; COUNT]) -> [[u8; 4]; COUNT] {
    words.map(u32::to_le_bytes)
}

fn halves(number: u64) -> (u32, u32) {
    (number as u32, (number >> 32) as u32)
}
