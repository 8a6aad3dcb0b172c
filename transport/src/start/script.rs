//! The shell text that is run on a host. Only a file name, a hash and fixed options are put into it.

use std::path::Path;

use crate::hello::short;
use crate::image::{AGENT_PREFIX, AgentImage};

use super::sudo::Sudo;

/// Where agents are kept on a host.
const PARENT: &str = "/var/lib/toril";

const USER: &str = include_str!("user.sh");
const ROOT: &str = include_str!("root.sh");
const LOCAL: &str = include_str!("local.sh");

/// What is to be done with a program that the host has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stored {
    /// It is run, if its place, owner, mode and size are right.
    Run,
    /// It is replaced: it did not come up.
    Replace,
}

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
    pub(crate) fn deliver(image: &AgentImage, sudo: &Sudo, stored: Stored) -> Self {
        Self { user: user(sudo), root: root(PARENT, image.id(), image.size(), stored) }
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

fn root(parent: &str, id: &str, size: u64, stored: Stored) -> String {
    let size = match stored {
        Stored::Run => size.to_string(),
        // No file has this size.
        Stored::Replace => "none".into(),
    };
    one_line(ROOT)
        .replace("@PARENT@", parent)
        .replace("@SIZE@", &size)
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
        let root = |stored| root(PARENT, &id, 12, stored);
        for script in [user(&Sudo::default()), root(Stored::Run), root(Stored::Replace), one_line(LOCAL)] {
            assert!(!script.contains(['\'', '\\', '!', '\n']), "{script}");
        }
        assert!(root(Stored::Run).contains("n=toril-abababababababababababababababab;"));
    }

    /// Runs the root part on a directory of its own and returns what it wrote.
    fn run(parent: &Path, id: &str, input: &[u8]) -> String {
        run_as(parent, id, input, Stored::Run)
    }

    fn run_as(parent: &Path, id: &str, input: &[u8], stored: Stored) -> String {
        let script = root(parent.to_str().unwrap(), id, PROGRAM.len() as u64, stored);
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
        let parent = home.path().join("toril");
        let directory = parent.join("agents");
        let id = hex::encode(Sha256::digest(PROGRAM));
        let (mut input, _) = upload(PROGRAM);
        input.extend(b"first words");
        let output = run(&parent, &id, &input);
        assert_eq!(output, "toril-agent: missing\ntoril-agent: ready\nstarted as agent\nfirst words");
        let output = run(&parent, &id, b"again");
        assert_eq!(output, "toril-agent: ready\nstarted as agent\nagain");
        let output = run_as(&parent, &id, &input, Stored::Replace);
        assert_eq!(output, "toril-agent: missing\ntoril-agent: ready\nstarted as agent\nfirst words");
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
            assert_eq!(names(&directory.path().join("agents")), [""; 0], "{what}");
        }
    }

    #[test]
    fn old_agents_are_pruned_but_never_the_one_just_taken() {
        let home = tempfile::tempdir().unwrap();
        let directory = home.path().join("agents");
        fs::create_dir(&directory).unwrap();
        let later = std::time::SystemTime::now() + std::time::Duration::from_secs(86_400);
        for number in 0..7 {
            // As on a host whose clock was set back: all of them look newer.
            let file = fs::File::create(directory.join(format!("toril-{number:032}"))).unwrap();
            file.set_modified(later + std::time::Duration::from_secs(number)).unwrap();
        }
        let id = hex::encode(Sha256::digest(PROGRAM));
        let output = run(home.path(), &id, &upload(PROGRAM).0);
        assert!(output.ends_with("started as agent\n"), "{output}");
        let names = names(&directory);
        assert_eq!(names.len(), 6, "{names:?}");
        assert!(names.contains(&format!("toril-{}", short(&id))), "{names:?}");
        assert!(names.contains(&format!("toril-{:032}", 6)), "{names:?}");
    }

    /// A case's name, or the place that it is about, and what is done there.
    type Spoiling<'a> = (&'a str, &'a dyn Fn(&Path));

    /// A home with an agent's directory and a program in it.
    fn with_agent(program: &[u8], mode: u32) -> (tempfile::TempDir, std::path::PathBuf, String) {
        let home = tempfile::tempdir().unwrap();
        let directory = home.path().join("agents");
        fs::create_dir(&directory).unwrap();
        let id = hex::encode(Sha256::digest(PROGRAM));
        let agent = directory.join(format!("toril-{}", short(&id)));
        fs::write(&agent, program).unwrap();
        fs::set_permissions(&agent, PermissionsExt::from_mode(mode)).unwrap();
        (home, agent, id)
    }

    #[test]
    fn a_directory_that_others_may_have_put_something_into_is_not_trusted() {
        let mode = |path: &Path, mode| fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
        let chown = |path: &Path| std::os::unix::fs::lchown(path, Some(4242), None);
        let link = |home: &Path| {
            fs::rename(home.join("agents"), home.join("elsewhere")).unwrap();
            std::os::unix::fs::symlink("elsewhere", home.join("agents")).unwrap();
        };
        let cases: [Spoiling; 6] = [
            ("agents", &link),
            ("agents", &|home| mode(&home.join("agents"), 0o775)),
            ("agents", &|home| mode(&home.join("agents"), 0o1757)),
            ("agents", &|home| chown(&home.join("agents")).unwrap()),
            ("", &|home| mode(home, 0o770)),
            ("", &|home| chown(home).unwrap()),
        ];
        let may_chown = rustix::process::geteuid().is_root();
        for (number, (place, spoil)) in cases.into_iter().enumerate() {
            if !may_chown && [3, 5].contains(&number) {
                continue;
            }
            let (home, _, id) = with_agent(PROGRAM, 0o755);
            assert_eq!(run(home.path(), &id, b""), "toril-agent: ready\nstarted as agent\n", "{number}");
            spoil(home.path());
            let output = run(home.path(), &id, b"");
            let place = home.path().join(place).display().to_string();
            let expected = format!("toril-agent: refused owner {}", place.trim_end_matches('/'));
            assert_eq!(output.trim_end(), expected, "{number}");
        }
    }

    #[test]
    fn a_program_that_is_not_as_it_was_stored_is_replaced() {
        let (whole, _) = upload(PROGRAM);
        let cases: [Spoiling; 4] = [
            ("cut off", &|agent| fs::write(agent, &PROGRAM[..10]).unwrap()),
            ("others may write", &|agent| {
                fs::set_permissions(agent, PermissionsExt::from_mode(0o757)).unwrap()
            }),
            ("a link", &|agent| {
                fs::rename(agent, agent.with_extension("moved")).unwrap();
                std::os::unix::fs::symlink(agent.with_extension("moved"), agent).unwrap();
            }),
            ("somebody else's", &|agent| std::os::unix::fs::lchown(agent, Some(4242), None).unwrap()),
        ];
        let may_chown = rustix::process::geteuid().is_root();
        for (what, spoil) in cases.into_iter().take(if may_chown { 4 } else { 3 }) {
            let (home, agent, id) = with_agent(PROGRAM, 0o755);
            spoil(&agent);
            let output = run(home.path(), &id, &whole);
            assert_eq!(output, "toril-agent: missing\ntoril-agent: ready\nstarted as agent\n", "{what}");
            assert!(fs::symlink_metadata(&agent).unwrap().is_file(), "{what}");
            assert_eq!(run(home.path(), &id, b""), "toril-agent: ready\nstarted as agent\n", "{what}");
        }
    }

    #[test]
    fn a_path_is_quoted() {
        assert_eq!(quoted(Path::new("/a b/it's")), r"'/a b/it'\''s'");
    }
}
