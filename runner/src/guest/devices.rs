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
    /// QEMU's words for its other side, such as `socket,fd=3`.
    pub backend: String,
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
            let (kind, rest) = console.backend.split_once(',').unwrap_or((&console.backend, ""));
            add("-chardev", format!("{kind},id=console{index},{rest}"));
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
            consoles: vec![ConsoleDevice { name: "report".into(), backend: "socket,fd=3".into() }],
            debugger: Some(1234),
        };
        assert_eq!(
            devices.arguments("64M").join(" "),
            "-object memory-backend-memfd,id=memory0,size=64M,share=on -numa node,memdev=memory0 \
             -chardev socket,id=share0,path=/t/fs,,1 -device vhost-user-fs-device,chardev=share0,tag=data \
             -device vhost-vsock-device,guest-cid=7 -device virtio-serial-device \
             -chardev socket,id=console0,fd=3 -device virtconsole,chardev=console0,name=report \
             -gdb tcp:127.0.0.1:1234"
        );
        assert_eq!(Devices::default().arguments("64M"), [""; 0]);
    }
}
