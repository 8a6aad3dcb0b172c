//! The shell text that is run on a host. Only a file name, a hash and fixed options are put into it.

use std::path::Path;

use crate::hello::short;
use crate::image::{AGENT_PREFIX, AgentImage};

use super::sudo::Sudo;

/// Where agents are kept on a host.
const DIRECTORY: &str = "/var/lib/toril/agents";

const USER: &str = include_str!("user.sh");
const ROOT: &str = include_str!("root.sh");
const LOCAL: &str = include_str!("local.sh");

/// The two parts of the bootstrap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Script {
    /// Run as the login user: becomes root.
    pub(crate) user: String,
    /// Run as root: becomes the agent.
    pub(crate) root: String,
}

impl Script {
    /// For another host, where the program may have to be delivered.
    pub(crate) fn deliver(image: &AgentImage, sudo: &Sudo) -> Self {
        Self { user: user(sudo), root: root(DIRECTORY, image.id()) }
    }

    /// For this machine.
    pub(crate) fn in_place(image: &AgentImage, sudo: &Sudo) -> Self {
        Self { user: user(sudo), root: one_line(LOCAL).replace("@PROGRAM@", &quoted(image.path())) }
    }
}

/// One command for the login shell of a host.
pub(crate) fn remote_command(script: &Script) -> String {
    format!("exec /bin/sh -c '{}' toril '{}'", script.user, script.root)
}

fn user(sudo: &Sudo) -> String {
    one_line(USER).replace("@SUDO@", sudo.options())
}

fn root(directory: &str, id: &str) -> String {
    one_line(ROOT)
        .replace("@DIR@", directory)
        .replace("@NAME@", &format!("{AGENT_PREFIX}{}", short(id)))
        .replace("@SHA@", id)
}

/// Without comments and line ends.
fn one_line(script: &str) -> String {
    script.lines().filter(|line| !line.starts_with('#')).collect::<Vec<_>>().join(" ")
}

fn quoted(path: &Path) -> String {
    format!("'{}'", path.display().to_string().replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::{Read, Write};
    use std::os::unix::fs::PermissionsExt;
    use std::process::{Command, Stdio};

    use flate2::Compression;
    use flate2::read::GzEncoder;
    use sha2::{Digest, Sha256};

    use super::*;

    const PROGRAM: &[u8] = b"#!/bin/sh\necho \"started as $1\"; cat\n";

    #[test]
    fn every_login_shell_passes_the_scripts_on_unchanged() {
        let id = "ab".repeat(32);
        for script in [user(&Sudo::default()), root(DIRECTORY, &id), one_line(LOCAL)] {
            assert!(!script.contains(['\'', '\\', '!', '\n']), "{script}");
        }
        assert!(root(DIRECTORY, &id).contains("n=toril-abababababababababababababababab;"));
    }

    /// Runs the root part on a directory of its own and returns what it wrote.
    fn run(directory: &Path, id: &str, input: &[u8]) -> String {
        let script = root(directory.to_str().unwrap(), id);
        let mut child = Command::new("/bin/sh")
            .args(["-c", &script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // A script that refuses may not read all of it.
        let _ = child.stdin.take().unwrap().write_all(input);
        let output = child.wait_with_output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stderr), "");
        String::from_utf8(output.stdout).unwrap()
    }

    fn upload(program: &[u8]) -> (Vec<u8>, usize) {
        let mut compressed = Vec::new();
        GzEncoder::new(program, Compression::fast()).read_to_end(&mut compressed).unwrap();
        let size = compressed.len();
        let mut input = format!("{size}\n").into_bytes();
        input.extend(compressed);
        (input, size)
    }

    fn names(directory: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(directory)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_missing_agent_is_taken_once_and_input_after_it_is_left_to_it() {
        let home = tempfile::tempdir().unwrap();
        let directory = home.path().join("toril/agents");
        let id = hex::encode(Sha256::digest(PROGRAM));
        let (mut input, _) = upload(PROGRAM);
        input.extend(b"first words");
        let output = run(&directory, &id, &input);
        assert_eq!(output, "toril-agent: missing\ntoril-agent: ready\nstarted as agent\nfirst words");
        let output = run(&directory, &id, b"again");
        assert_eq!(output, "toril-agent: ready\nstarted as agent\nagain");
        assert_eq!(names(&directory), [format!("toril-{}", short(&id))]);
        assert_eq!(fs::metadata(&directory).unwrap().permissions().mode() & 0o7777, 0o755);
        let agent = directory.join(format!("toril-{}", short(&id)));
        assert_eq!(fs::metadata(agent).unwrap().permissions().mode() & 0o7777, 0o755);
    }

    #[test]
    fn what_is_not_the_agent_is_refused_and_leaves_nothing() {
        let id = hex::encode(Sha256::digest(PROGRAM));
        let (whole, _) = upload(PROGRAM);
        let (other, _) = upload(b"something else");
        let mut damaged = whole.clone();
        let middle = damaged.len() - 20;
        damaged[middle] ^= 1;
        for (what, input, reason) in [
            ("truncated", &whole[..whole.len() - 1], "refused upload gzip: stdin: unexpected end of file"),
            ("nothing", &b""[..], "refused upload "),
            ("another program", &other[..], "refused hash "),
            ("damaged", &damaged[..], "refused "),
        ] {
            let directory = tempfile::tempdir().unwrap();
            let output = run(directory.path(), &id, input);
            assert!(output.contains(reason), "{what}: {output}");
            assert!(!output.contains("ready"), "{what}: {output}");
            assert_eq!(names(directory.path()), [""; 0], "{what}");
        }
    }

    #[test]
    fn old_agents_are_pruned_but_never_the_one_just_taken() {
        let directory = tempfile::tempdir().unwrap();
        let later = std::time::SystemTime::now() + std::time::Duration::from_secs(86_400);
        for number in 0..7 {
            // As on a host whose clock was set back: all of them look newer.
            let file = fs::File::create(directory.path().join(format!("toril-{number:032}"))).unwrap();
            file.set_modified(later + std::time::Duration::from_secs(number)).unwrap();
        }
        let id = hex::encode(Sha256::digest(PROGRAM));
        let output = run(directory.path(), &id, &upload(PROGRAM).0);
        assert!(output.ends_with("started as agent\n"), "{output}");
        let names = names(directory.path());
        assert_eq!(names.len(), 6, "{names:?}");
        assert!(names.contains(&format!("toril-{}", short(&id))), "{names:?}");
        assert!(names.contains(&format!("toril-{:032}", 6)), "{names:?}");
    }

    #[test]
    fn a_directory_that_is_a_link_is_not_trusted() {
        let home = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/tmp", home.path().join("link")).unwrap();
        let output = run(&home.path().join("link"), &"00".repeat(32), b"");
        assert!(output.starts_with("toril-agent: refused owner "), "{output}");
    }

    #[test]
    fn a_path_is_quoted() {
        assert_eq!(quoted(Path::new("/a b/it's")), r"'/a b/it'\''s'");
    }
}
