use std::path::PathBuf;

/// What a guest has besides the first serial port, as QEMU is to be told of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Devices {
    pub share: Option<ShareDevice>,
    pub vsock: Option<VsockDevice>,
    pub consoles: Vec<ConsoleDevice>,
    /// The port of 127.0.0.1 at which a debugger is waited for, before the guest is started.
    pub debugger: Option<u16>,
}

/// A virtio-fs device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ShareDevice {
    /// Where its daemon listens.
    pub socket: PathBuf,
    pub tag: String,
}

/// A vsock device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum VsockDevice {
    /// The kernel's.
    Vhost { cid: u32 },
    /// That of a daemon, which listens there.
    User { socket: PathBuf },
}

/// A virtio-console.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ConsoleDevice {
    pub name: String,
    pub other_side: OtherSide,
}

/// Where what is written to a console goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum OtherSide {
    File(PathBuf),
    /// A pipe; the number that it has in QEMU. QEMU throws away what a console's other side does not take at once, and a
    /// guest may write each letter by itself: a socket is full after some 280 of them, while a pipe puts them together.
    Pipe(String),
}

impl Devices {
    /// QEMU's arguments; `memory` is the guest's, as it stands after `-m`.
    pub(crate) fn arguments(&self, memory: &str) -> Vec<String> {
        let mut arguments = Vec::new();
        let mut add = |option: &str, value: String| arguments.extend([option.to_owned(), value]);
        if self.share.is_some() || matches!(self.vsock, Some(VsockDevice::User { .. })) {
            // A daemon reads and writes the guest's memory.
            add("-object", format!("memory-backend-memfd,id=memory0,size={memory},share=on"));
            add("-numa", "node,memdev=memory0".into());
        }
        if let Some(share) = &self.share {
            add("-chardev", format!("socket,id=share0,path={}", escaped(&share.socket)));
            add("-device", format!("vhost-user-fs-device,chardev=share0,tag={}", share.tag));
        }
        match &self.vsock {
            Some(VsockDevice::Vhost { cid }) => add("-device", format!("vhost-vsock-device,guest-cid={cid}")),
            Some(VsockDevice::User { socket }) => {
                add("-chardev", format!("socket,id=vsock0,path={}", escaped(socket)));
                add("-device", "vhost-user-vsock-device,chardev=vsock0".into());
            }
            None => {}
        }
        if !self.consoles.is_empty() {
            add("-device", "virtio-serial-device".into());
        }
        for (index, console) in self.consoles.iter().enumerate() {
            let path = match &console.other_side {
                OtherSide::File(path) => escaped(path),
                OtherSide::Pipe(number) => {
                    add("-add-fd", format!("fd={number},set={}", index + 1));
                    // A pipe cannot be truncated, which is what is done unless it is appended to.
                    format!("/dev/fdset/{},append=on", index + 1)
                }
            };
            add("-chardev", format!("file,id=console{index},path={path}"));
            add("-device", format!("virtconsole,chardev=console{index},name={}", console.name));
        }
        if let Some(port) = self.debugger {
            add("-gdb", format!("tcp:127.0.0.1:{port}"));
        }
        arguments
    }
}

/// A path within an option, whose parts commas separate.
fn escaped(path: &std::path::Path) -> String {
    path.to_string_lossy().replace(',', ",,")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_of_them() {
        let devices = Devices {
            share: Some(ShareDevice { socket: "/t/fs,1".into(), tag: "data".into() }),
            vsock: Some(VsockDevice::Vhost { cid: 7 }),
            consoles: vec![ConsoleDevice { name: "report".into(), other_side: OtherSide::Pipe("3".into()) }],
            debugger: Some(1234),
        };
        assert_eq!(
            devices.arguments("64M").join(" "),
            "-object memory-backend-memfd,id=memory0,size=64M,share=on -numa node,memdev=memory0 \
             -chardev socket,id=share0,path=/t/fs,,1 -device vhost-user-fs-device,chardev=share0,tag=data \
             -device vhost-vsock-device,guest-cid=7 -device virtio-serial-device \
             -add-fd fd=3,set=1 -chardev file,id=console0,path=/dev/fdset/1,append=on -device virtconsole,chardev=console0,name=report \
             -gdb tcp:127.0.0.1:1234"
        );
        assert_eq!(Devices::default().arguments("64M"), [""; 0]);
    }
}
