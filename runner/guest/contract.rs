//! What the guest promises to whoever starts it: its command line, what it prints and how it ends.
//! One file for both sides: the guest is built with it and the runner reads it.

/// What the header line, the guest's first, begins with; the guest's version follows.
pub const HEADER: &str = "toril-guest: ";

/// The last line of a guest that came to its end, whatever its cases said.
pub const END: &str = "toril-guest: end";

/// What a case line begins with. The whole of it is `case NAME: PASSED` or `case NAME: FAILED (REASON)`;
/// a NAME has no spaces.
pub const CASE: &str = "case ";

/// What follows the name of a case that passed.
pub const PASSED: &str = ": PASSED";

/// What follows the name of a case that failed; the reason follows in brackets.
pub const FAILED: &str = ": FAILED";

/// What a line begins with that tells a number: `metric NAME: VALUE UNIT`, VALUE a whole number.
pub const METRIC: &str = "metric ";

/// What a line begins with that tells text from elsewhere: `value NAME: TEXT`, up to the end of the line.
pub const VALUE: &str = "value ";

/// What the line of a guest that panics begins with; an exception that nothing expected is a panic too.
pub const PANIC: &str = "panic: ";

/// What every line of the storm of `mode=exception` begins with.
pub const EXCEPTION: &str = "Exception: ";

/// The real cases, in the order in which they run. `cases=N` runs the first N; beyond the last it starts over
/// with the names `long-mode-2` and so on.
pub const CASES: [&str; 5] = ["long-mode", "sse", "page-fault", "msr", "interrupt"];

/// The cases that `cases=all` adds to those.
pub const MORE_CASES: [&str; 4] = ["mmx", "x87", "apic", "ring3"];

/// What a line of counted work begins with: `work KIND: begin COUNT`, and `work KIND: end COUNT`. The metrics
/// `work-KIND-ticks` and `work-KIND-time` (us, with a timer) follow.
pub const WORK: &str = "work ";

/// What `work=KIND:COUNT,KIND:COUNT` asks for: this much, whatever the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// Multiplications in registers.
    Integer,
    /// Changes of memory, of half a MiB.
    Memory,
    /// The instruction `cpuid`, which a hypervisor has to answer.
    Cpuid,
    /// Writing to an I/O port that QEMU has to answer.
    Port,
}

impl Work {
    /// Every kind.
    pub const ALL: [Self; 4] = [Self::Integer, Self::Memory, Self::Cpuid, Self::Port];

    /// The kind's name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Integer => "integer",
            Self::Memory => "memory",
            Self::Cpuid => "cpuid",
            Self::Port => "port",
        }
    }

    /// The kind of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// The case of `fs=TAG`: the file system with this tag was mounted.
pub const FS_MOUNT: &str = "virtio-fs-mount";

/// The case of `read=PATH`: the file was read. With it come the values `virtio-fs-read` (the beginning of its first
/// line) and `virtio-fs-crc32`, and the metrics `virtio-fs-bytes`, `virtio-fs-ticks`, `virtio-fs-time` (us) and
/// `virtio-fs-rate` (KiB/s), and `virtio-fs-latency` (us), the shortest of some requests for the attributes of the root.
/// The last three need a timer (`pit=on`).
pub const FS_READ: &str = "virtio-fs-read";

/// The case of `write=PATH`: the text of `token=` was written to the file.
pub const FS_WRITE: &str = "virtio-fs-write";

/// The case of `vsock-connect=PORT`: the guest connected to this port of the host (CID 2), sent the text of `token=` as
/// a line and got a line back, which is the value of the same name; the metrics `vsock-ticks` and `vsock-time` (us) say
/// how long that took. With `vsock-measure=BYTES` it then sends [`VSOCK_LINES`] empty lines, each of which is to be answered
/// by a line (the metric `vsock-latency`, in us: of the shortest), and so many bytes, which are to be answered by a line
/// when all of them are there (the metric `vsock-rate`, in KiB/s).
pub const VSOCK_CONNECT: &str = "vsock-connect";

/// How many lines `vsock-measure=` sends.
pub const VSOCK_LINES: usize = 8;

/// The case of `vsock-listen=PORT`: somebody connected to this port of the guest, sent a line, which is the value of the
/// same name, and was answered by a line: the text of `token=` and a space where there is one, then the line.
pub const VSOCK_LISTEN: &str = "vsock-listen";

/// The value, told when the guest can be connected to: its CID and the port, as `CID:PORT`.
pub const VSOCK_LISTENING: &str = "vsock-listening";

/// The I/O port of `-device isa-debug-exit,iobase=0xf4,iosize=4`, which the guest ends through. Without the
/// device it ends in a triple fault.
pub const EXIT_PORT: u16 = 0xf4;

/// Written to [`EXIT_PORT`] at a clean end; QEMU's exit status is twice the value plus one. A failed case changes nothing about it: the case lines tell.
pub const EXIT_ENDED: u8 = 0x10;

/// Written to [`EXIT_PORT`] after a panic.
pub const EXIT_PANICKED: u8 = 0x11;

/// What `mode=` on the guest's command line asks for; `pass` where there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Header, every case, [`END`], clean end.
    Pass,
    /// The same, but the last case is reported as failed.
    Fail,
    /// Header and first case, then the CPU halts for ever.
    Hang,
    /// Prints nothing and ends cleanly.
    Silent,
    /// Header and first case, then a panic.
    Panic,
    /// Header and first case, then a triple fault: a reset, which `-no-reboot` makes an exit with status 0.
    TripleFault,
    /// Header, then lines without end as fast as the serial port takes them.
    Flood,
    /// Header and first case, then a clean end without [`END`].
    Incomplete,
    /// Header and first case, then [`EXCEPTION`] lines without end.
    Exception,
    /// As `pass`, but the first case is reported a second time.
    Duplicate,
    /// As `pass`, but the last case is not reported.
    Missing,
    /// As `pass`, but the last case comes after [`END`].
    Late,
    /// As `pass`, but without the header, and without [`END`].
    Headless,
    /// Header, then nothing for ever; an NMI (QMP's `inject-nmi`) makes it report its first case and end.
    Stuck,
    /// Header, then nothing for ever; an NMI makes it panic and die of a triple fault.
    Fragile,
}

impl Mode {
    /// Every mode.
    pub const ALL: [Self; 15] = [
        Self::Pass,
        Self::Fail,
        Self::Hang,
        Self::Silent,
        Self::Panic,
        Self::TripleFault,
        Self::Flood,
        Self::Incomplete,
        Self::Exception,
        Self::Duplicate,
        Self::Missing,
        Self::Late,
        Self::Headless,
        Self::Stuck,
        Self::Fragile,
    ];

    /// The mode's name, as written after `mode=`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::Hang => "hang",
            Self::Silent => "silent",
            Self::Panic => "panic",
            Self::TripleFault => "triple-fault",
            Self::Flood => "flood",
            Self::Incomplete => "incomplete",
            Self::Exception => "exception",
            Self::Duplicate => "duplicate",
            Self::Missing => "missing",
            Self::Late => "late",
            Self::Headless => "headless",
            Self::Stuck => "stuck",
            Self::Fragile => "fragile",
        }
    }

    /// The mode of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mode| mode.name() == name)
    }
}
