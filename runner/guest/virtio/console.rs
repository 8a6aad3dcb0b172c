//! A virtio console, for writing.

use super::Error;
use super::buffer::Buffer;
use super::mmio::{self, Device};
use super::queue::{Part, Queue};

const ID: u32 = 3;
const FEATURE_MULTIPORT: u64 = 1 << 1;
/// Where the configuration says how many ports there may be.
const PORTS_MOST: usize = 4;

/// The queues for control messages, with [`FEATURE_MULTIPORT`].
const CONTROL_IN: u16 = 2;
const CONTROL_OUT: u16 = 3;

/// A control message: port (4 bytes), event (2 bytes), value (2 bytes), and a name after some.
const MESSAGE: usize = 8;
const DEVICE_READY: u16 = 0;
const PORT_ADD: u16 = 1;
const PORT_READY: u16 = 3;
const PORT_OPEN: u16 = 6;
const PORT_NAME: u16 = 7;

const LINE: usize = 4096;

/// A port of a console, which takes whole lines.
pub struct Console {
    out: Queue,
    line: Buffer,
    length: usize,
}

impl Console {
    /// The port of that name, of whichever console has it; where there is no name, the first port of the first console.
    pub fn open(command_line: &str, name: Option<&str>) -> Result<Self, Error> {
        let mut devices = mmio::devices(command_line, ID);
        let out = match name {
            None => first_port(devices.next().ok_or(Error::Missing("virtio console"))?)?,
            Some(name) => devices
                .find_map(|device| named_port(device, name).transpose())
                .unwrap_or(Err(Error::Missing("virtio console with a port of that name")))?,
        };
        Ok(Self { out, line: Buffer::new(LINE), length: 0 })
    }

    /// Writes `text`; the device gets it when it ends a line, or when that gets too long.
    pub fn write(&mut self, text: &str) {
        for chunk in text.as_bytes().chunks(LINE) {
            if self.length + chunk.len() > LINE {
                self.flush();
            }
            self.line.from(self.length).write(chunk);
            self.length += chunk.len();
        }
        if text.ends_with('\n') {
            self.flush();
        }
    }

    fn flush(&mut self) {
        if self.length > 0 {
            self.out.exchange(&[Part::Out(self.line.first(self.length))]);
            self.length = 0;
        }
    }
}

/// A console without names: its only port is the first.
fn first_port(device: Device) -> Result<Queue, Error> {
    device.begin(0)?;
    let out = device.queue(1)?;
    device.start();
    Ok(out)
}

/// Has the console tell its ports, and opens the one of that name, if there is one.
fn named_port(device: Device, name: &str) -> Result<Option<Queue>, Error> {
    if device.begin(FEATURE_MULTIPORT)? & FEATURE_MULTIPORT == 0 {
        return Ok(None);
    }
    let most = device.configuration_u32(PORTS_MOST);
    let mut outs = [const { None }; MOST_PORTS];
    for (port, out) in (0..most).zip(&mut outs) {
        *out = Some(device.queue(out_queue(port))?);
    }
    let mut control = Control::new(device)?;
    device.start();
    let Some(port) = control.find(name) else { return Ok(None) };
    control.send(port, PORT_OPEN, 1);
    Ok(outs.get_mut(port as usize).and_then(Option::take))
}

/// More ports than these are not used; it is what QEMU has.
const MOST_PORTS: usize = 31;

fn out_queue(port: u32) -> u16 {
    if port == 0 { 1 } else { 2 * port as u16 + 3 }
}

/// The messages about ports.
struct Control {
    incoming: Queue,
    outgoing: Queue,
    buffers: [Buffer; Queue::SIZE as usize],
    message: Buffer,
}

/// So often the device is asked before a name counts as unknown: the device answers while it is told.
const PATIENCE: u32 = 100_000;

impl Control {
    fn new(device: Device) -> Result<Self, Error> {
        let (incoming, outgoing) = (device.queue(CONTROL_IN)?, device.queue(CONTROL_OUT)?);
        let buffers = core::array::from_fn(|_| Buffer::new(MESSAGE + 256));
        Ok(Self { incoming, outgoing, buffers, message: Buffer::new(MESSAGE) })
    }

    fn send(&mut self, port: u32, event: u16, value: u16) {
        self.message.write(&port.to_le_bytes());
        self.message.from(4).write(&event.to_le_bytes());
        self.message.from(6).write(&value.to_le_bytes());
        self.outgoing.exchange(&[Part::Out(self.message)]);
    }

    /// The number of the port of that name.
    fn find(&mut self, name: &str) -> Option<u32> {
        for (number, buffer) in (0..).zip(self.buffers) {
            self.incoming.offer(number, &[Part::In(buffer)]);
        }
        self.send(u32::MAX, DEVICE_READY, 1);
        let mut unanswered = 0;
        while unanswered < PATIENCE {
            let Some(done) = self.incoming.take() else {
                unanswered += 1;
                core::hint::spin_loop();
                continue;
            };
            unanswered = 0;
            let buffer = *self.buffers.get(usize::from(done.first))?;
            let (port, event) = (buffer.u32_at(0), buffer.u32_at(4) as u16);
            // QEMU ends the name with a NUL.
            let named = buffer.first(done.written.clamp(MESSAGE, buffer.len())).from(MESSAGE);
            let found =
                event == PORT_NAME && named.bytes().split(|byte| *byte == 0).next() == Some(name.as_bytes());
            self.incoming.offer(done.first, &[Part::In(buffer)]);
            if found {
                return Some(port);
            }
            if event == PORT_ADD {
                self.send(port, PORT_READY, 1);
            }
        }
        None
    }
}
