//! `init`: the files that a project begins with.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use rustix::process::geteuid;
use toril_inventory::{Ssh, is_reserved};

use super::UsageError;
use crate::arguments::{Ci, Init};
use crate::exit::Status;
use crate::source::Git;

/// For documentation, and nobody's: RFC 5737.
const SOMEWHERE: &str = "203.0.113.7";
/// Whom the images of Debian's clouds log in.
const SOMEBODY: &str = "debian";

const SECRETS: &str = "\nThe workflow wants two secrets:
  TORIL_SSH_KEY   the private key that logs in to the host. Make one for CI alone, which is no file of the project:
                    ssh-keygen -t ed25519 -N '' -f ~/.ssh/toril-ci
                  add ~/.ssh/toril-ci.pub to ~/.ssh/authorized_keys on the host, and store what this prints:
                    base64 -w0 ~/.ssh/toril-ci
  TORIL_HOST_KEY  the fingerprint of the host's key. In the provider's console, where nobody is between you and the
                  host (OVH: Instances, the host, VNC console), run: ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub
and, as plain variables, TORIL_URL and TORIL_SHA256: which toril it is to download.
";

pub(super) fn init(arguments: &Init) -> Result<Status, UsageError> {
    let host = arguments.host.as_deref().unwrap_or("");
    if is_reserved(host) {
        return Err(UsageError::Other(no_address(host)));
    }
    let ssh = match host {
        "" => Ssh { user: Some(SOMEBODY.into()), ..parse(SOMEWHERE)? },
        host => parse(host)?,
    };
    let mut files = vec![
        ("toril.toml", include_str!("toril.toml").to_owned()),
        ("inventory.toml", inventory(&ssh)),
        ("suite.toml", include_str!("suite.toml").to_owned()),
    ];
    files.extend(arguments.ci.map(|ci| match ci {
        Ci::Github => (".github/workflows/toril.yml", include_str!("github.yml").to_owned()),
        Ci::Gitlab => (".gitlab-ci.yml", include_str!("gitlab.yml").to_owned()),
        Ci::Travis => (".travis.yml", include_str!("travis.yml").to_owned()),
    }));
    let there: Vec<&str> = files
        .iter()
        .map(|(name, _)| *name)
        .filter(|name| fs::symlink_metadata(arguments.dir.join(name)).is_ok())
        .collect();
    if !there.is_empty() {
        return Err(UsageError::Other(format!(
            "in {} there is already {}; nothing was written: move them away, or name another place with --dir",
            arguments.dir.display(),
            there.join(", ")
        )));
    }
    let (mut made, mut said) = (Made::default(), String::new());
    for (name, text) in &files {
        let path = arguments.dir.join(name);
        made.file(&path, text).map_err(|error| {
            UsageError::Other(format!("cannot write {}: {error}; nothing was left behind", path.display()))
        })?;
        said.push_str(&format!("wrote {name}\n"));
    }
    made.stays();
    if host.is_empty() {
        said.push_str(&format!("\nReplace {SOMEWHERE} in inventory.toml by your host's address.\n"));
    }
    said.push_str(&next(&arguments.dir));
    if arguments.ci.is_some() {
        said.push_str(SECRETS);
    }
    // There is nobody left to tell if this fails.
    drop(io::stdout().write_all(said.as_bytes()));
    Ok(Status::Fine)
}

/// What to type next, in lines that work as they stand.
fn next(directory: &Path) -> String {
    let mut text = String::new();
    if directory != Path::new(".") {
        text.push_str(&format!("\nGo on there:\n  cd {}\n", in_shell(&directory.display().to_string())));
    }
    let known = Git::at(directory).root().and_then(|root| Git::at(&root).tracked());
    let add = match known {
        Ok(files) if !files.is_empty() => None,
        Ok(_) => Some("git add --all"),
        Err(_) => Some("git init && git add --all"),
    };
    if let Some(add) = add {
        text.push_str(&format!(
            "\nTested is what git knows of the project, which is nothing yet:\n  {add}\n"
        ));
    }
    let sudo = if geteuid().is_root() { "" } else { "sudo " };
    text.push_str(&format!(
        "\nTry it without a host:\n  {sudo}toril up sandbox\nOn the host itself:\n  toril up ci-host\n"
    ));
    text
}

/// A word of a shell's line.
fn in_shell(word: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._+-".contains(&byte);
    match word.bytes().all(is_plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', "'\\''")),
    }
}

fn parse(host: &str) -> Result<Ssh, UsageError> {
    Ssh::parse(host).map_err(|error| UsageError::Other(error.to_string()))
}

/// Why a name that toril has a meaning for is not written into an inventory.
fn no_address(host: &str) -> String {
    let (meaning, instead) = match host {
        "local" => ("this machine", "; `toril up local` needs no inventory"),
        "all" => ("all hosts of an inventory", ""),
        _ => ("a throwaway host on this machine", "; `toril up sandbox` needs no inventory"),
    };
    format!(
        "`{host}` stands for {meaning} and is no address to be written down: give that of the host to test on, as \
         [user@]host[:port], or none, to write it into inventory.toml later{instead}"
    )
}

/// Files and directories that were made, which are removed again unless all were.
#[derive(Default)]
struct Made(Vec<PathBuf>);

impl Made {
    /// A new file, with the directories that it needs. One that is there by now is left as it is.
    fn file(&mut self, path: &Path, text: &str) -> io::Result<()> {
        let above = path.ancestors().skip(1).filter(|above| !above.as_os_str().is_empty());
        let missing: Vec<&Path> = above.take_while(|above| !above.exists()).collect();
        for directory in missing.into_iter().rev() {
            fs::create_dir(directory)?;
            self.0.push(directory.to_owned());
        }
        let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
        self.0.push(path.to_owned());
        file.write_all(text.as_bytes())?;
        // A full disk may show only now.
        file.sync_all()
    }

    fn stays(mut self) {
        self.0.clear();
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        for path in self.0.iter().rev() {
            // What cannot be removed is named by the next call.
            let _ = fs::remove_file(path).or_else(|_| fs::remove_dir(path));
        }
    }
}

fn inventory(ssh: &Ssh) -> String {
    let user = match &ssh.user {
        Some(user) => format!("user = {}", quoted(user)),
        None => format!("# user = \"{SOMEBODY}\""),
    };
    let port = match ssh.port {
        Some(port) => format!("port = {port}"),
        None => "# port = 22".into(),
    };
    include_str!("inventory.toml")
        .replace("\"@ADDRESS@\"", &quoted(&ssh.host))
        .replace("@USER@", &user)
        .replace("@PORT@", &port)
}

/// A string of TOML. Nothing that an address may have needs more than this.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}
