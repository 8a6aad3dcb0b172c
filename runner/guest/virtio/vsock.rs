//! Stream connections over virtio-vsock, one at a time.

use core::fmt;

use super::Error;
use super::buffer::Buffer;
use super::mmio;
use super::queue::{Part, Queue};
use crate::clock;

const ID: u32 = 19;
const RECEIVE: u16 = 0;
const SEND: u16 = 1;
const EVENTS: u16 = 2;

/// The host, for its guests.
const HOST: u64 = 2;
const STREAM: u16 = 1;

/// A packet's header: both CIDs (8 bytes each), both ports, length (4 each), type, operation (2 each), flags, room for
/// what is received and how much of that was taken out (4 each).
const HEADER: usize = 44;
/// The room for what a packet brings.
const PIECE: usize = 4096;
/// The most that is sent in a packet, and the most that Linux takes in one.
const SENT: usize = 64 << 10;
/// The host sends no more than this before it hears that it was taken out.
const ROOM: u32 = 64 << 10;
/// Each has a descriptor for its header and one for the rest.
const BUFFERS: usize = Queue::SIZE as usize / 2;

const REQUEST: u16 = 1;
const RESPONSE: u16 = 2;
const RESET: u16 = 3;
const SHUTDOWN: u16 = 4;
const DATA: u16 = 5;
const CREDIT_UPDATE: u16 = 6;
const CREDIT_REQUEST: u16 = 7;

/// In the flags of a shutdown: no more is read, no more is sent.
const READS_NO_MORE: u32 = 1;
const SENDS_NO_MORE: u32 = 2;

/// Guests choose ports for their side from here on.
const FIRST_PORT: u32 = 0x7000_0000;
/// How long the host has to answer a request, and to close a connection that is done: seconds, at any CPU's rate.
const PATIENCE: u64 = 8 << 30;

/// Why something did not work.
#[derive(Clone, Copy)]
pub enum Problem {
    /// The device.
    Device(Error),
    /// Nobody listens.
    Refused,
    /// Nothing at all came back.
    NoAnswer,
    /// The host ended the connection too early.
    Closed,
    /// A line longer than the guest has room for.
    LongLine,
}

impl fmt::Display for Problem {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Device(error) => error.fmt(to),
            Self::Refused => to.write_str("the host refused the connection: nothing listens on that port"),
            Self::NoAnswer => to.write_str(
                "the host did not answer: perhaps nothing listens on that port, or nothing serves the device",
            ),
            Self::Closed => to.write_str("the host closed the connection too early"),
            Self::LongLine => to.write_str("the line is too long"),
        }
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        Self::Device(error)
    }
}

/// The device.
pub struct Vsock {
    receive: Queue,
    send: Queue,
    cid: u64,
    incoming: [(Buffer, Buffer); BUFFERS],
    header: Buffer,
    /// What the last packet brought.
    data: Buffer,
    outgoing: Buffer,
    next_port: u32,
    /// Who asked for a connection while there was another.
    waiting: [Option<Packet>; 8],
}

/// A packet that came, without what it brought.
#[derive(Clone, Copy)]
struct Packet {
    peer_cid: u64,
    peer_port: u32,
    port: u32,
    length: usize,
    operation: u16,
    flags: u32,
    room: u32,
    taken: u32,
}

/// One connection.
struct Connection {
    peer_cid: u64,
    peer_port: u32,
    port: u32,
    sent: u32,
    received: u32,
    told: u32,
    peer_room: u32,
    peer_taken: u32,
    /// What the other side does no more: the flags of a shutdown.
    closed: u32,
    reset: bool,
}

/// A line that came, without its end.
pub struct Line {
    bytes: [u8; PIECE],
    length: usize,
}

impl Line {
    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

impl Vsock {
    /// The first device.
    pub fn open(command_line: &str) -> Result<Self, Problem> {
        let device = mmio::devices(command_line, ID).next().ok_or(Error::Missing("virtio-vsock device"))?;
        device.begin(0)?;
        let (mut receive, send) = (device.queue(RECEIVE)?, device.queue(SEND)?);
        // Nothing is expected of it: events are about migration.
        device.queue(EVENTS)?;
        let cid = u64::from(device.configuration_u32(0)) | u64::from(device.configuration_u32(4)) << 32;
        device.start();
        let incoming = core::array::from_fn(|_| (Buffer::new(HEADER), Buffer::new(PIECE)));
        for (number, (header, data)) in (0..).zip(incoming) {
            receive.offer(number * 2, &[Part::In(header), Part::In(data)]);
        }
        let (header, data, outgoing) = (Buffer::new(HEADER), Buffer::new(PIECE), Buffer::new(SENT));
        let waiting = [None; 8];
        Ok(Self { receive, send, cid, incoming, header, data, outgoing, next_port: FIRST_PORT, waiting })
    }

    /// The guest's number.
    pub fn cid(&self) -> u64 {
        self.cid
    }

    /// Connects to a port of the host.
    pub fn connect(&mut self, port: u32) -> Result<Conversation<'_>, Problem> {
        let mut connection = Connection::new(HOST, port, self.next_port);
        self.next_port += 1;
        self.control(&connection, REQUEST, 0);
        let since = clock::ticks();
        loop {
            if clock::ticks().wrapping_sub(since) > PATIENCE {
                return Err(Problem::NoAnswer);
            }
            let Some(packet) = self.poll() else { continue };
            let ours = self.take(&mut connection, &packet);
            if connection.reset {
                return Err(Problem::Refused);
            }
            if ours && packet.operation == RESPONSE {
                return Ok(Conversation { device: self, connection });
            }
        }
    }

    /// Waits for a line on a port of the guest, and answers it: with `prefix`, a space and the line, or with the line
    /// alone. A connection that ends without a line does not count.
    pub fn answer(&mut self, port: u32, prefix: Option<&str>) -> Result<Line, Problem> {
        loop {
            let request = self.request(port);
            let mut connection = Connection::new(request.peer_cid, request.peer_port, port);
            connection.heed(&request);
            self.control(&connection, RESPONSE, 0);
            let line = match self.line(&mut connection) {
                Err(Problem::Closed) => {
                    self.close(&mut connection);
                    continue;
                }
                line => line?,
            };
            if let Some(prefix) = prefix {
                self.write(&mut connection, prefix.as_bytes())?;
                self.write(&mut connection, b" ")?;
            }
            self.write(&mut connection, line.bytes())?;
            self.write(&mut connection, b"\n")?;
            self.close(&mut connection);
            return Ok(line);
        }
    }

    /// The next request for a connection to that port.
    fn request(&mut self, port: u32) -> Packet {
        loop {
            let waiting = self.waiting.iter_mut().find_map(Option::take);
            let packet = waiting.unwrap_or_else(|| self.packet());
            if packet.operation == REQUEST && packet.port == port {
                return packet;
            }
            self.refuse(&packet);
        }
    }

    /// A line: what comes up to its end, or to the end of what is sent.
    fn line(&mut self, connection: &mut Connection) -> Result<Line, Problem> {
        let mut line = Line { bytes: [0; PIECE], length: 0 };
        loop {
            if connection.reset || connection.closed & SENDS_NO_MORE != 0 {
                let whole = line.length > 0 && !connection.reset;
                return if whole { Ok(line) } else { Err(Problem::Closed) };
            }
            let packet = self.wait_for(connection);
            let came = if packet.operation == DATA { self.data.first(packet.length) } else { continue };
            let end = came.bytes().iter().position(|byte| *byte == b'\n');
            let piece = came.first(end.unwrap_or(came.len()));
            let room = line.bytes.get_mut(line.length..line.length + piece.len());
            room.ok_or(Problem::LongLine)?.copy_from_slice(piece.bytes());
            line.length += piece.len();
            if end.is_some() {
                return Ok(line);
            }
        }
    }

    /// Sends bytes, as fast as the other side takes them.
    fn write(&mut self, connection: &mut Connection, bytes: &[u8]) -> Result<(), Problem> {
        for piece in bytes.chunks(SENT) {
            self.outgoing.write(piece);
            self.push(connection, piece.len())?;
        }
        Ok(())
    }

    /// Sends the first `length` bytes of what is outgoing.
    fn push(&mut self, connection: &mut Connection, length: usize) -> Result<(), Problem> {
        let mut left = self.outgoing.first(length);
        while left.len() > 0 {
            let piece = left.first(left.len().min(connection.credit()));
            if piece.len() == 0 {
                self.wait_for(connection);
            }
            if connection.reset || connection.closed & READS_NO_MORE != 0 {
                return Err(Problem::Closed);
            }
            if piece.len() > 0 {
                self.send(connection, DATA, 0, Some(piece));
                connection.sent = connection.sent.wrapping_add(piece.len() as u32);
            }
            left = left.from(piece.len());
        }
        Ok(())
    }

    /// Says that the guest is done, and waits until the host has seen that: what was sent is lost to a host that has not
    /// when the guest ends.
    fn close(&mut self, connection: &mut Connection) {
        if connection.reset {
            return;
        }
        self.control(connection, SHUTDOWN, READS_NO_MORE | SENDS_NO_MORE);
        let since = clock::ticks();
        while !connection.reset && clock::ticks().wrapping_sub(since) < PATIENCE {
            if let Some(packet) = self.poll() {
                self.take(connection, &packet);
            }
        }
        if !connection.reset {
            self.control(connection, RESET, 0);
        }
    }

    /// Waits for the next packet of the connection; what it brought is in `data`. Others are seen to meanwhile.
    fn wait_for(&mut self, connection: &mut Connection) -> Packet {
        loop {
            let packet = self.packet();
            if self.take(connection, &packet) {
                return packet;
            }
        }
    }

    /// Whether the packet is of the connection, which then knows what it says.
    fn take(&mut self, connection: &mut Connection, packet: &Packet) -> bool {
        if packet.peer_port != connection.peer_port || packet.port != connection.port {
            let place = self.waiting.iter_mut().find(|place| place.is_none());
            match place {
                Some(place) if packet.operation == REQUEST => *place = Some(*packet),
                _ => self.refuse(packet),
            }
            return false;
        }
        connection.heed(packet);
        // At the latest when half of the room is used the other side hears what was taken out.
        let news = connection.received.wrapping_sub(connection.told) >= ROOM / 2;
        if packet.operation == CREDIT_REQUEST || news {
            connection.told = connection.received;
            self.control(connection, CREDIT_UPDATE, 0);
        }
        true
    }

    /// Tells the sender of a packet that belongs to nothing that it does.
    fn refuse(&mut self, packet: &Packet) {
        if packet.operation != RESET {
            let nothing = Connection::new(packet.peer_cid, packet.peer_port, packet.port);
            self.control(&nothing, RESET, 0);
        }
    }

    fn packet(&mut self) -> Packet {
        loop {
            if let Some(packet) = self.poll() {
                return packet;
            }
            core::hint::spin_loop();
        }
    }

    /// A packet that has come; its buffers are the device's again, and what it brought is in `data`.
    fn poll(&mut self) -> Option<Packet> {
        let done = self.receive.take()?;
        let (header, data) = *self.incoming.get(usize::from(done.first / 2))?;
        let packet = Packet {
            peer_cid: header.u64_at(0),
            peer_port: header.u32_at(16),
            port: header.u32_at(20),
            length: (header.u32_at(24) as usize).min(PIECE),
            operation: (header.u32_at(28) >> 16) as u16,
            flags: header.u32_at(32),
            room: header.u32_at(36),
            taken: header.u32_at(40),
        };
        self.data.write(data.first(packet.length).bytes());
        self.receive.offer(done.first, &[Part::In(header), Part::In(data)]);
        Some(packet)
    }

    fn control(&mut self, connection: &Connection, operation: u16, flags: u32) {
        self.send(connection, operation, flags, None);
    }

    fn send(&mut self, connection: &Connection, operation: u16, flags: u32, data: Option<Buffer>) {
        let header = self.header;
        header.write(&self.cid.to_le_bytes());
        header.from(8).write(&connection.peer_cid.to_le_bytes());
        let words = [
            connection.port,
            connection.peer_port,
            data.map_or(0, |data| data.len() as u32),
            u32::from(STREAM) | u32::from(operation) << 16,
            flags,
            ROOM,
            connection.received,
        ];
        header.from(16).write(words.map(u32::to_le_bytes).as_flattened());
        match data {
            None => self.send.exchange(&[Part::Out(header)]),
            Some(data) => self.send.exchange(&[Part::Out(header), Part::Out(data)]),
        };
    }
}

/// A connection to a port of the host, which has taken it.
pub struct Conversation<'d> {
    device: &'d mut Vsock,
    connection: Connection,
}

impl Conversation<'_> {
    /// Sends `text` as a line, and returns the line that comes back.
    pub fn ask(&mut self, text: &str) -> Result<Line, Problem> {
        self.device.write(&mut self.connection, text.as_bytes())?;
        self.device.write(&mut self.connection, b"\n")?;
        self.device.line(&mut self.connection)
    }

    /// Sends so many bytes, whatever they are, and returns the line that comes back.
    pub fn load(&mut self, bytes: usize) -> Result<Line, Problem> {
        let mut left = bytes;
        while left > 0 {
            let piece = left.min(SENT);
            self.device.push(&mut self.connection, piece)?;
            left -= piece;
        }
        self.device.line(&mut self.connection)
    }

    /// Ends it.
    pub fn end(mut self) {
        self.device.close(&mut self.connection);
    }
}

impl Connection {
    fn new(peer_cid: u64, peer_port: u32, port: u32) -> Self {
        Self {
            peer_cid,
            peer_port,
            port,
            sent: 0,
            received: 0,
            told: 0,
            peer_room: 0,
            peer_taken: 0,
            closed: 0,
            reset: false,
        }
    }

    /// Notes what a packet says of the connection.
    fn heed(&mut self, packet: &Packet) {
        self.peer_room = packet.room;
        self.peer_taken = packet.taken;
        match packet.operation {
            RESET => self.reset = true,
            SHUTDOWN => self.closed |= packet.flags,
            DATA => self.received = self.received.wrapping_add(packet.length as u32),
            _ => {}
        }
    }

    /// How many bytes the other side has room for.
    fn credit(&self) -> usize {
        let under_way = self.sent.wrapping_sub(self.peer_taken);
        self.peer_room.saturating_sub(under_way) as usize
    }
}
