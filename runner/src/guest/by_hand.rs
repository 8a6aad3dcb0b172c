use std::path::{Path, PathBuf};
use std::time::Duration;

use super::Devices;
use super::devices::{ConsoleDevice, OtherSide};
use crate::shell::{by_hand, quoted};
use crate::suite::Late;

/// A command for a shell that does by hand, on the host, what a guest test did: a guest, and what it needs.
#[derive(Debug)]
pub(crate) struct ByHand {
    user: String,
    /// Where it keeps its sockets and copies.
    folder: PathBuf,
    limit: Duration,
    needs_folder: bool,
    copies: Vec<(PathBuf, PathBuf)>,
    helpers: Vec<Helper>,
    pub devices: Devices,
    pub late: Late,
}

/// A process that a guest needs.
#[derive(Debug, Default)]
pub(crate) struct Helper {
    pub argv: Vec<String>,
    pub env: Vec<(String, String)>,
    pub as_root: bool,
    /// The socket that shows that it is ready.
    pub makes: Option<PathBuf>,
    /// Whether it is started after the guest.
    pub after: bool,
    /// What the guest prints before it is started, if it is started after the guest.
    pub heard: Option<String>,
}

impl ByHand {
    /// For a guest that runs as `user`; `folder` is the test's own, which is gone by then.
    pub(crate) fn new(user: &str, folder: &Path, source: Option<&Path>, limit: Duration) -> ByHand {
        let name = folder.file_name().unwrap_or_default().to_string_lossy();
        let folder = Path::new("/tmp").join(format!("toril-{name}"));
        let late = Late::of(&folder, source);
        ByHand {
            user: user.to_owned(),
            folder,
            limit,
            needs_folder: false,
            copies: Vec::new(),
            helpers: Vec::new(),
            devices: Devices::default(),
            late,
        }
    }

    /// A file of this name in its folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// A fresh copy of a directory.
    pub(crate) fn copy_of(&mut self, dir: &Path) -> PathBuf {
        let copy = self.path("share");
        self.copies.push((dir.to_owned(), copy.clone()));
        copy
    }

    pub(crate) fn helper(&mut self, helper: Helper) {
        self.needs_folder = true;
        self.helpers.push(helper);
    }

    /// A console whose lines are shown at the end.
    pub(crate) fn console(&mut self, name: &str) {
        self.needs_folder = true;
        let other_side = OtherSide::File(self.path(name));
        self.devices.consoles.push(ConsoleDevice { name: name.to_owned(), other_side });
    }

    /// The whole of it, for QEMU's arguments.
    pub(crate) fn script(&self, qemu: &[String], pin: &[usize], realtime: Option<u8>) -> String {
        let guest = self.guest(qemu, pin, realtime);
        let folder = quoted(&self.folder.to_string_lossy());
        let named = |text: &String| text.contains(&*self.folder.to_string_lossy());
        if !self.needs_folder && !qemu.iter().any(named) {
            return guest;
        }
        let mut steps = vec![format!("mkdir -m 777 {folder}")];
        for (from, to) in &self.copies {
            let words = ["cp", "-a", "--", &from.to_string_lossy(), &to.to_string_lossy()];
            steps.push(by_hand(&self.user, &[], &words.map(str::to_owned), None));
        }
        let mut lines = vec![steps.join(" && ")];
        lines.extend(self.helpers.iter().map(|helper| self.background(helper)));
        lines.push(guest);
        let consoles = self.devices.consoles.iter().map(|console| self.path(&console.name));
        lines.extend(consoles.map(|path| format!("{}cat {}", self.sudo(), quoted(&path.to_string_lossy()))));
        lines.push(format!("{}rm -rf {folder}", self.sudo()));
        lines.join("\n")
    }

    fn guest(&self, qemu: &[String], pin: &[usize], realtime: Option<u8>) -> String {
        let pinned = pin.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        let mut argv = Vec::new();
        if !pin.is_empty() {
            argv.extend(["taskset".to_owned(), "--cpu-list".into(), pinned]);
        }
        argv.extend(qemu.iter().cloned());
        let mut line = by_hand(&self.user, &[], &argv, Some(self.limit));
        if let Some(priority) = realtime {
            // Only root may give it, and it is kept.
            line = format!("{}chrt --rr {priority} {line}", self.sudo());
        }
        if self.helpers.iter().any(|helper| helper.heard.is_some()) {
            line.push_str(&format!(" | tee {}", self.output()));
        }
        line
    }

    /// Where the guest's output is read while it runs, for the shell.
    fn output(&self) -> String {
        quoted(&self.path("output").to_string_lossy())
    }

    fn sudo(&self) -> &'static str {
        if self.user == "root" { "" } else { "sudo " }
    }

    fn background(&self, helper: &Helper) -> String {
        let user = if helper.as_root { "root" } else { &self.user };
        let mut line = by_hand(user, &helper.env, &helper.argv, Some(self.limit));
        if helper.as_root {
            line.insert_str(0, self.sudo());
        }
        match (&helper.heard, &helper.makes) {
            (Some(pattern), _) => {
                let pattern = quoted(pattern);
                let (folder, output) = (quoted(&self.folder.to_string_lossy()), self.output());
                let heard = format!("tr -d '\\r' <{output} | grep -qP -e {pattern}");
                format!("(while [ -d {folder} ] && ! {heard}; do sleep 0.1; done 2>/dev/null; {line}) &")
            }
            (None, _) if helper.after => format!("(sleep 1; {line}) &"),
            (None, Some(socket)) => {
                let socket = quoted(&socket.to_string_lossy());
                let sudo = self.sudo();
                format!("{line} & until [ -S {socket} ]; do sleep 0.1; done; {sudo}chmod 666 {socket}")
            }
            (None, None) => format!("{line} &\nsleep 1"),
        }
    }
}
