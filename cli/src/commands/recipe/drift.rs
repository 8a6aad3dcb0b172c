//! Drift that is made on purpose: for each resource, what a careless hand could do to it.

use std::time::Duration;

use toril_inventory::{Host, Reach};
use toril_machine::Command;
use toril_provisioner::Described;

use crate::commands::sandbox;

/// How long breaking everything may take; removing packages is the slow part.
const DEADLINE: Duration = Duration::from_secs(300);

/// One thing that can be broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::commands) struct Drift {
    /// The resource that must then be named.
    pub(in crate::commands) resource: String,
    /// What is done, in words.
    pub(in crate::commands) what: String,
    /// What is done, as a shell script of root's.
    script: String,
}

impl Drift {
    /// How a resource can be broken without breaking anything else, if there is a way that does not depend on what it
    /// is for.
    pub(in crate::commands) fn of(resource: &Described) -> Option<Drift> {
        let (what, script) = how(resource)?;
        Some(Drift { resource: resource.name.clone(), what, script })
    }
}

fn how(resource: &Described) -> Option<(String, String)> {
    let path = || resource.string("path");
    let in_etc = || resource.paths.iter().map(String::as_str).find(|path| path.starts_with("/etc/"));
    let append = |path: &str| {
        let text = format!("text appended to {path}");
        let quoted = quoted(path);
        (text, format!("test -f {quoted} && printf '\\n# drift\\n' >>{quoted}"))
    };
    match resource.kind {
        "file" | "download" => path().map(append),
        "unpack" | "source-build" => {
            // The slash, because it may be a link.
            let find = format!("find {}/ -type f ! -name '.toril-*' -print -quit", quoted(path()?));
            let script = format!("file=$({find}) && test -n \"$file\" && touch -d @1 \"$file\"");
            Some((format!("the time of a file in {} changed", path()?), script))
        }
        "apt-source" | "kernel-module" | "sysctl" | "systemd-unit" | "udev-rule" => in_etc().map(append),
        "line" if resource.string("line").is_some() => {
            let (file, line) = (quoted(path()?), quoted(resource.string("line")?));
            // Whether it is wanted or unwanted.
            let script = format!(
                "if grep -qxF -e {line} {file}; then text=$(grep -vxF -e {line} {file} || :); \
                 printf '%s\\n' \"$text\" >{file}; else printf '%s\\n' {line} >>{file}; fi"
            );
            Some((format!("its line changed in {}", path()?), script))
        }
        "directory" => {
            let directory = quoted(path()?);
            let script =
                format!("if test -k {directory}; then chmod -t {directory}; else chmod +t {directory}; fi");
            Some((format!("the mode of {} changed", path()?), script))
        }
        // One that is not to be there.
        "symlink" if resource.paths.is_empty() => {
            let (link, target) = (quoted(path()?), quoted(resource.string("target")?));
            Some((format!("{} made", path()?), format!("ln -sfn {target} {link}")))
        }
        "symlink" => {
            let script = format!("ln -sfn /nonexistent/drift {}", quoted(path()?));
            Some((format!("{} made to point elsewhere", path()?), script))
        }
        "user" | "membership" => {
            let key = if resource.kind == "user" { "name" } else { "user" };
            let user = resource.string(key)?;
            match resource.strings("groups").first() {
                Some(group) => {
                    let script = format!("gpasswd --delete {} {}", quoted(user), quoted(group));
                    Some((format!("{user} taken out of group {group}"), script))
                }
                None if resource.kind == "user" => {
                    let script = format!("usermod --shell /bin/false {}", quoted(user));
                    Some((format!("the shell of {user} changed"), script))
                }
                None => None,
            }
        }
        "apt-packages" => {
            let packages: Vec<String> = resource.strings("install").into_iter().map(quoted).collect();
            // The first that nothing else stands on.
            let script = format!(
                "for package in {}; do dpkg --remove \"$package\" && exit 0; done; exit 1",
                packages.join(" ")
            );
            (!packages.is_empty()).then(|| ("a package removed".to_owned(), script))
        }
        // Commands, assertions, groups that own things: how to break them only the recipe's author knows.
        _ => None,
    }
}

/// Breaks a host, and returns what could be broken: a package may be what others stand on. `ssh_options` are those that
/// a host needs which is no sandbox.
pub(in crate::commands) fn inject(
    host: &Host,
    ssh_options: &[String],
    drifts: &[Drift],
) -> Result<Vec<Drift>, String> {
    let mut script = String::from("export DEBIAN_FRONTEND=noninteractive\n");
    for (index, drift) in drifts.iter().enumerate() {
        script.push_str(&format!("( {} ) </dev/null >/dev/null 2>&1 && echo {index}\n", drift.script));
    }
    script.push_str("exit 0\n");
    let command = root_shell(host, ssh_options).stdin(script).deadline(DEADLINE);
    let printed = command.output().map_err(|error| error.to_string())?;
    let done: Vec<usize> = printed.lines().filter_map(|line| line.trim().parse().ok()).collect();
    let broken = drifts.iter().enumerate().filter(|(index, _)| done.contains(index));
    Ok(broken.map(|(_, drift)| drift.clone()).collect())
}

/// A shell of root's on a host, for what it is given on its standard input.
fn root_shell(host: &Host, ssh_options: &[String]) -> Command {
    const SHELL: &str = "if test $(id -u) = 0; then exec sh; else exec sudo -n sh; fi";
    let batch = ["-o", "BatchMode=yes", "-o", "LogLevel=ERROR"].map(str::to_owned).into_iter();
    match &host.reach {
        Reach::Local => Command::new("sh", ["-c", SHELL]),
        Reach::Ssh(_) if host.sandbox => {
            let words = sandbox::ssh_words(host).into_iter().skip(1);
            let plain = ["-F", "none"].map(str::to_owned).into_iter();
            Command::new("ssh", plain.chain(batch).chain(words).chain([SHELL.to_owned()]))
        }
        Reach::Ssh(ssh) => {
            let own = ssh_options.iter().flat_map(|option| ["-o".to_owned(), option.clone()]);
            let port = ssh.port.iter().flat_map(|port| ["-p".to_owned(), port.to_string()]);
            let user = ssh.user.iter().flat_map(|user| ["-l".to_owned(), user.clone()]);
            let file = ssh.config.iter().flat_map(|file| ["-F".to_owned(), file.display().to_string()]);
            let words = file.chain(own).chain(batch).chain(port).chain(user);
            Command::new("ssh", words.chain(["--".to_owned(), ssh.host.clone(), SHELL.to_owned()]))
        }
    }
}

/// As one word of a shell's.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use toril_provisioner::{Bundle, HostInfo, Recipe, Release, sample_facts};

    use super::*;

    fn drifts(resources: &str) -> Vec<String> {
        let text = format!("description = \"d\"\nsupports = [\"debian 12\"]\n{resources}");
        let facts = sample_facts(Release::parse("debian 12").unwrap());
        let host = HostInfo { name: "h".into(), user: "u".into() };
        let recipe = Recipe::read(&Bundle::of("r.toml", text, Default::default()), &facts, &host).unwrap();
        let described = recipe.describe();
        described.iter().map(|d| Drift::of(d).map_or("none".into(), |drift| drift.what)).collect()
    }

    #[test]
    fn what_can_be_broken_and_what_not() {
        let all = drifts(
            "[[resource]]\nname = \"a\"\nfile = { path = \"/srv/it's\", content = \"\" }
             [[resource]]\nname = \"b\"\ngroup = { name = \"g\" }
             [[resource]]\nname = \"c\"\nuser = { name = \"u\", groups = [\"g\"] }
             [[resource]]\nname = \"d\"\nuser = { name = \"v\" }
             [[resource]]\nname = \"e\"\nkernel-module = { name = \"m\" }
             [[resource]]\nname = \"f\"\napt-packages = { install = [\"p\"] }
             [[resource]]\nname = \"g\"\nudev-rule = { device = \"kvm\", group = \"g\" }
             [[resource]]\nname = \"h\"\nassert = { command = [\"true\"] }\n",
        );
        assert_eq!(
            all,
            [
                "text appended to /srv/it's",
                "none",
                "u taken out of group g",
                "the shell of v changed",
                "text appended to /etc/modules-load.d/toril-m.conf",
                "a package removed",
                "text appended to /etc/udev/rules.d/65-toril-kvm.rules",
                "none",
            ]
        );
    }

    #[test]
    fn words_of_a_shell() {
        assert_eq!(quoted("it's"), r"'it'\''s'");
    }
}
