//! A call as its user sees it.

use std::fs;
use std::io::{ErrorKind, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::program::{Finished, Toril};

/// Calls toril where the test documents are.
pub(crate) fn seen(arguments: &[&str]) -> String {
    Place::with_documents().seen(arguments)
}

/// A folder to call toril in, which is called PLACE in what is seen.
pub(crate) struct Place(TempDir);

impl Place {
    pub(crate) fn empty() -> Place {
        Place(TempDir::new().unwrap())
    }

    fn with_documents() -> Place {
        let place = Place::empty();
        let documents = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/behaviour/documents");
        for entry in fs::read_dir(documents).unwrap() {
            let path = entry.unwrap().path();
            fs::copy(&path, place.path().join(path.file_name().unwrap())).unwrap();
        }
        place
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.0.path().canonicalize().unwrap()
    }

    /// Writes a file.
    pub(crate) fn write(&self, name: &str, text: &str) {
        let path = self.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Writes a program. By another process: a file that this one has open for writing is open as well in what another
    /// thread has just forked, and until that is a program of its own, the file cannot be executed.
    pub(crate) fn script(&self, name: &str, text: &str) {
        let mut install = Command::new("install");
        install.args(["-m", "755", "/dev/stdin"]).arg(self.path().join(name));
        let mut install = install.stdin(Stdio::piped()).spawn().unwrap();
        install.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        assert!(install.wait().unwrap().success());
    }

    pub(crate) fn seen(&self, arguments: &[&str]) -> String {
        self.look(Toril::new(arguments).dir(&self.path()), arguments)
    }

    pub(crate) fn look(&self, call: Toril, arguments: &[&str]) -> String {
        self.told(&call.run(), arguments)
    }

    pub(crate) fn told(&self, finished: &Finished, arguments: &[&str]) -> String {
        shown(finished, arguments).replace(self.path().to_str().unwrap(), "PLACE")
    }
}

/// A call and all that came of it.
pub(crate) fn shown(finished: &Finished, arguments: &[&str]) -> String {
    let quoted = |word: &&str| {
        if word.is_empty() || word.contains(' ') { format!("'{word}'") } else { (*word).into() }
    };
    let words = arguments.iter().map(quoted).collect::<Vec<String>>();
    let status = finished.status.code().unwrap();
    let mut text = format!("$ {}\n", [vec!["toril".to_owned()], words].concat().join(" "));
    for (name, output) in [("standard output", &finished.stdout), ("standard error", &finished.stderr)] {
        if !output.is_empty() {
            text.push_str(&format!("---- {name}\n{output}"));
        }
    }
    text.push_str(&format!("---- exit status {status}\n"));
    text
}

/// A place where a host could be, which notes whether anybody came.
pub(crate) struct Trap(TcpListener);

impl Trap {
    pub(crate) fn set() -> Trap {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        Trap(listener)
    }

    pub(crate) fn port(&self) -> u16 {
        self.0.local_addr().unwrap().port()
    }

    /// What toril calls it.
    fn host(&self) -> String {
        format!("nobody@127.0.0.1:{}", self.port())
    }

    /// Whether somebody came.
    pub(crate) fn was_met(&self) -> bool {
        match self.0.accept() {
            Ok(_) => true,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
                false
            }
        }
    }

    /// Calls toril with this host, which it must leave alone, as the last argument.
    #[track_caller]
    pub(crate) fn seen(&self, arguments: &[&str]) -> String {
        let host = self.host();
        let arguments: Vec<&str> = arguments.iter().copied().chain([host.as_str()]).collect();
        let text = seen(&arguments).replace(&host, "HOST");
        assert!(!self.was_met(), "the host was contacted:\n{text}");
        text
    }
}
