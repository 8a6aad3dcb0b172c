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
    /// The same for what runs as root where the guest does not.
    roots: Option<PathBuf>,
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
    /// Whether it would go on when the guest has ended.
    pub stays: bool,
}

/// Runs its arguments until the folder before them is gone. What `timeout` runs is a process group, so that the last command
/// ends nothing but that.
const WHILE_THERE: &str = r#""$@" & while [ -d "$0" ]; do sleep 0.1; done; kill 0"#;

impl ByHand {
    /// For a guest that runs as `user`; `folder` is the test's own, which is gone by then.
    pub(crate) fn new(user: &str, folder: &Path, source: Option<&Path>, limit: Duration) -> ByHand {
        let name = folder.file_name().unwrap_or_default().to_string_lossy();
        let folder = Path::new("/tmp").join(format!("toril-{name}"));
        let late = Late::of(&folder, source);
        ByHand {
            user: user.to_owned(),
            folder,
            roots: None,
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

    /// Where a daemon has its socket and its copy. One that runs as root follows whatever is there by then: for that, it is a
    /// folder in which root alone gives names.
    pub(crate) fn place(&mut self, as_root: bool) -> PathBuf {
        if !as_root || self.user == "root" {
            return self.folder.clone();
        }
        let mut name = self.folder.file_name().unwrap_or_default().to_owned();
        name.push("-root");
        self.roots.insert(self.folder.with_file_name(name)).clone()
    }

    /// A fresh copy of a directory, in such a place.
    pub(crate) fn copy_of(&mut self, dir: &Path, place: &Path) -> PathBuf {
        let copy = place.join("share");
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
        let mut lines = vec![self.preparation()];
        lines.extend(self.helpers.iter().map(|helper| self.background(helper)));
        lines.push(guest);
        for console in &self.devices.consoles {
            let words = ["cat".to_owned(), self.path(&console.name).to_string_lossy().into_owned()];
            lines.push(by_hand(&self.user, &[], &words, None));
        }
        let roots = self.roots.as_ref().map(|roots| format!(" {}", quoted(&roots.to_string_lossy())));
        lines.push(format!("{}rm -rf {folder}{}", self.sudo(), roots.unwrap_or_default()));
        lines.push("}".into());
        lines.join("\n")
    }

    /// Makes the folders and the copies. The rest is done only where these are new: whoever runs on the host may have made them
    /// before, for what runs as root to find.
    fn preparation(&self) -> String {
        let mut steps = vec![format!("mkdir -m 1777 {}", quoted(&self.folder.to_string_lossy()))];
        if let Some(roots) = &self.roots {
            steps.push(format!("{}mkdir -m 711 {}", self.sudo(), quoted(&roots.to_string_lossy())));
        }
        for (from, to) in &self.copies {
            let (from, to) = (from.join("."), to.to_string_lossy());
            let by_user = |words: &[&str]| {
                let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
                by_hand(&self.user, &[], &words, None)
            };
            steps.push(match self.roots {
                Some(_) => format!("{}install -d -o {} {}", self.sudo(), quoted(&self.user), quoted(&to)),
                None => by_user(&["mkdir", &to]),
            });
            steps.push(by_user(&["cp", "-a", "--", &from.to_string_lossy(), &to]));
        }
        steps.join(" && ") + " && {"
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
        let mut argv = helper.argv.clone();
        if helper.stays {
            let folder = self.folder.to_string_lossy();
            argv.splice(0..0, ["sh", "-c", WHILE_THERE, &*folder].map(str::to_owned));
        }
        let mut line = by_hand(user, &helper.env, &argv, Some(self.limit));
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
                let mut line = format!("{line} & until [ -S {socket} ]; do sleep 0.1; done");
                if helper.as_root && self.user != "root" {
                    line.push_str(&format!("; sudo chmod 666 {socket}"));
                }
                line
            }
            (None, None) => format!("{line} &\nsleep 1"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shared(user: &str, as_root: bool) -> String {
        let mut hand = ByHand::new(user, Path::new("/runs/test-1"), None, Duration::from_secs(9));
        let place = hand.place(as_root);
        let copy = hand.copy_of(Path::new("/srv/d"), &place).to_string_lossy().into_owned();
        let makes = Some(place.join("v.sock"));
        hand.helper(Helper { argv: vec!["v".into(), copy], as_root, makes, ..Helper::default() });
        hand.console("report");
        hand.script(&["qemu".into()], &[], None)
    }

    #[test]
    fn nothing_goes_on_when_the_guest_has_ended() {
        let place = tempfile::tempdir().unwrap();
        let limit = Duration::from_secs(60);
        let mut hand = ByHand::new("root", Path::new("test-1"), None, limit);
        hand.folder = place.path().join("f");
        // Its own child has its pipe as well, and so has to end with it.
        let argv = ["sh", "-c", "sleep 600 & sleep 600"].map(str::to_owned).to_vec();
        hand.helper(Helper { argv, stays: true, ..Helper::default() });
        let script = hand.script(&["true".into()], &[], None);
        let begun = std::time::Instant::now();
        let ended = std::process::Command::new("sh").args(["-c", &script]).output().unwrap();
        assert!(ended.status.success() && begun.elapsed() < limit / 2, "{script}\n{ended:?}");
    }

    #[test]
    fn what_runs_as_root_finds_what_root_has_put_there() {
        assert_eq!(
            shared("toril", true).lines().collect::<Vec<_>>(),
            [
                "mkdir -m 1777 /tmp/toril-test-1 && sudo mkdir -m 711 /tmp/toril-test-1-root && \
                 sudo install -d -o toril /tmp/toril-test-1-root/share && \
                 sudo -u toril cp -a -- /srv/d/. /tmp/toril-test-1-root/share && {",
                "sudo timeout 9 v /tmp/toril-test-1-root/share & \
                 until [ -S /tmp/toril-test-1-root/v.sock ]; do sleep 0.1; done; \
                 sudo chmod 666 /tmp/toril-test-1-root/v.sock",
                "sudo -u toril timeout 9 qemu",
                "sudo -u toril cat /tmp/toril-test-1/report",
                "sudo rm -rf /tmp/toril-test-1 /tmp/toril-test-1-root",
                "}",
            ]
        );
        // Of all that is the guest's user's, root does nothing but remove it.
        let by_user = shared("toril", false);
        let roots: Vec<&str> = by_user.split("sudo ").filter(|step| !step.starts_with("-u toril ")).collect();
        assert_eq!(roots[1..], ["rm -rf /tmp/toril-test-1\n}"], "{by_user}");
        assert!(!shared("root", true).contains("sudo"));
    }
}
