//! FUSE messages (linux/fuse.h, version 7.31), as virtio-fs carries them.

use core::fmt;

use super::buffer::Buffer;
use super::queue::{Part, Queue};

/// What is asked for.
#[derive(Clone, Copy)]
#[repr(u32)]
pub enum Operation {
    Lookup = 1,
    GetAttributes = 3,
    Open = 14,
    Read = 15,
    Write = 16,
    Release = 18,
    Init = 26,
    Create = 35,
}

/// Why it was not done.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// The other side's error number, of Linux.
    Errno(i32),
    /// An answer that is none, by its length or number.
    Garbled,
}

impl Failure {
    /// The file is not there.
    pub const NO_SUCH_FILE: Self = Self::Errno(2);
}

impl fmt::Display for Failure {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = match self {
            Self::Garbled => return to.write_str("the answer is garbled"),
            Self::Errno(number) => *number,
        };
        let meaning = match number {
            1 => "operation not permitted",
            2 => "no such file",
            5 => "input/output error",
            13 => "permission denied",
            17 => "file exists",
            20 => "not a directory",
            21 => "is a directory",
            28 => "no space left",
            30 => "read-only file system",
            38 => "not implemented",
            71 => "protocol error",
            95 => "not supported",
            _ => return write!(to, "error {number}"),
        };
        write!(to, "error {number}, {meaning}")
    }
}

const REQUEST_HEADER: usize = 40;
const ANSWER_HEADER: usize = 16;
/// Room for the arguments of every operation with a name, and for every answer but read data.
const MESSAGE: usize = 4096;

/// A connection to the file system's server.
pub struct Connection {
    queue: Queue,
    request: Buffer,
    answer: Buffer,
    number: u64,
}

/// What is transferred besides the messages.
pub enum Data {
    None,
    /// Sent after the arguments.
    Send(Buffer),
    /// Received in place of the answer's arguments.
    Receive(Buffer),
}

/// The number of a file or directory; the root has [`ROOT`].
pub type Node = u64;

/// The directory that is shared.
pub const ROOT: Node = 1;

impl Connection {
    /// Over that queue.
    pub fn new(queue: Queue) -> Self {
        Self { queue, request: Buffer::new(MESSAGE), answer: Buffer::new(MESSAGE), number: 0 }
    }

    /// Asks and waits for the answer: what follows its header, in `data` where that receives. Nothing limits the time.
    pub fn call(
        &mut self,
        operation: Operation,
        node: Node,
        arguments: &[&[u8]],
        data: Data,
    ) -> Result<Buffer, Failure> {
        let mut length = REQUEST_HEADER;
        for argument in arguments {
            self.request.from(length).write(argument);
            length += argument.len();
        }
        let sent = if let Data::Send(buffer) = &data { buffer.len() } else { 0 };
        self.number += 1;
        // Length, operation, number, node; user and group 0, process 0, no extensions.
        self.request.write(&((length + sent) as u32).to_le_bytes());
        self.request.from(4).write(&(operation as u32).to_le_bytes());
        self.request.from(8).write(&self.number.to_le_bytes());
        self.request.from(16).write(&node.to_le_bytes());

        let asked = Part::Out(self.request.first(length));
        let body = self.answer.from(ANSWER_HEADER);
        let header = self.answer.first(ANSWER_HEADER);
        let (written, body) = match data {
            Data::None => (self.queue.exchange(&[asked, Part::In(self.answer)]), body),
            Data::Send(buffer) => {
                (self.queue.exchange(&[asked, Part::Out(buffer), Part::In(self.answer)]), body)
            }
            Data::Receive(buffer) => {
                (self.queue.exchange(&[asked, Part::In(header), Part::In(buffer)]), buffer)
            }
        };
        let told = header.u32_at(0) as usize;
        let fits = (ANSWER_HEADER..=ANSWER_HEADER + body.len()).contains(&told);
        if written < ANSWER_HEADER || !fits || header.u64_at(8) != self.number {
            return Err(Failure::Garbled);
        }
        match header.u32_at(4) as i32 {
            0 => Ok(body.first(told - ANSWER_HEADER)),
            error => Err(Failure::Errno(error.saturating_neg())),
        }
    }
}
