//! `sysctl`: a kernel parameter's value, now and from every boot on.

use std::fs;

use rustix::fs::{StatVfsMountFlags, statvfs};
use toril_document::{Located, Table, Value};

use super::attributes::Attributes;
use super::file::FileResource;
use super::{Change, Context, Judged, Kind, Resource, ResourceError, Thing, Wanted, one_line, parsed};

/// What the changes of the file are called by.
const AT_BOOT: &str = "at boot";

#[derive(Debug)]
struct Sysctl {
    name: String,
    value: String,
    /// Where the kernel shows it.
    path: String,
    /// What sets it at boot: sysctl.d(5).
    at_boot: FileResource,
}

struct SysctlState {
    at_boot: Judged,
    /// `None`: this kernel has no such parameter.
    now: Option<String>,
    /// Whether nobody here can change it.
    read_only: bool,
}

pub(super) fn read(table: &mut Table<'_>) -> Option<Box<dyn Resource>> {
    let name = parsed(table, "name", "R034", parse_name);
    let value = read_value(table);
    let ((name, path), value) = (name?, value?);
    let at_boot = FileResource {
        path: format!("/etc/sysctl.d/65-toril-{}.conf", name.replace('/', ".")),
        content: format!("# Written by toril.\n{name} = {value}\n"),
        attributes: Attributes { owner: "root".into(), group: "root".into(), mode: 0o644 },
    };
    Some(Box::new(Sysctl { name, value, path, at_boot }))
}

/// A parameter's name and its path. As in sysctl.d(5), the first separator tells which of `.` and `/` separates;
/// the other one then stands for the first in the path.
fn parse_name(name: &str) -> Result<(String, String), String> {
    let swapped = |c| match c {
        '.' => '/',
        '/' => '.',
        other => other,
    };
    let path: String = match name.find(['.', '/']).map(|at| &name[at..=at]) {
        Some(".") => name.chars().map(swapped).collect(),
        Some(_) => name.to_owned(),
        None => String::new(),
    };
    let good = |c: char| c.is_ascii_alphanumeric() || "_-./:@".contains(c);
    let bad_part = |part: &str| matches!(part, "" | "." | "..");
    if path.split('/').any(bad_part) || !name.chars().all(good) {
        return Err(format!("`{name}` is no kernel parameter: write it such as net.ipv4.ip_forward"));
    }
    Ok((name.to_owned(), format!("/proc/sys/{path}")))
}

/// Takes the value; most are numbers, and may be written as such.
fn read_value(table: &mut Table<'_>) -> Option<String> {
    if !table.has("value") {
        return parsed(table, "value", "R030", one_line);
    }
    let (_, Located { value, span }) = table.take("value")?;
    let text = match value {
        Value::Integer(number) => Ok(number.to_string()),
        Value::String(text) => one_line(&text),
        other => Err(format!("`value` must be a string or a whole number, not {}", other.kind())),
    };
    text.map_err(|message| table.note("R030", span, message, None)).ok()
}

impl Kind for Sysctl {
    type State = SysctlState;

    fn observe(&self, context: Context<'_>) -> Result<SysctlState, ResourceError> {
        let at_boot = Resource::judge(&self.at_boot, context)?;
        let now = context.machine.read(&self.path).known().map_err(ResourceError)?;
        // A container sees its host's parameters read-only, or is not root in the eyes of the kernel.
        let mount = statvfs(context.machine.path(&self.path));
        let read_only = mount.is_ok_and(|mount| mount.f_flag.contains(StatVfsMountFlags::RDONLY));
        Ok(SysctlState { at_boot, now, read_only })
    }

    fn compare(&self, context: Context<'_>, state: &SysctlState) -> Judged {
        let mut changes = Change::of_part(AT_BOOT, &state.at_boot.changes);
        let mut impossible = None;
        let container = context.facts.container.as_deref();
        match &state.now {
            Some(now) if words(now) == words(&self.value) => {}
            Some(now) if state.read_only => {
                let place = container.map_or("here".into(), |kind| format!("in a container ({kind})"));
                impossible = Some(format!("{} is {}, and read-only {place}", self.name, words(now)));
            }
            Some(now) => changes.push(Change::new("now", words(now), words(&self.value))),
            // A module that the recipe loads may bring it.
            None if context.facts.modules_loadable => {
                changes.push(Change::new("now", "no such parameter", words(&self.value)));
            }
            None => {
                let text =
                    format!("the running kernel has no parameter {}, or does not show it here", self.name);
                impossible = Some(text);
            }
        }
        Judged { changes, impossible, ..Judged::default() }
    }

    fn apply(
        &self,
        context: Context<'_>,
        changes: &[Change],
        log: &mut dyn FnMut(&str),
    ) -> Result<(), ResourceError> {
        let file = Change::for_part(AT_BOOT, changes);
        if !file.is_empty() {
            self.at_boot.apply_with_directory(context, &file, log)?;
        }
        if changes.iter().any(|change| change.what == "now") {
            let place = context.machine.path(&self.path);
            if !place.exists() {
                let text = format!(
                    "the running kernel has no parameter {}; is there a module that brings it?",
                    self.name
                );
                return Err(ResourceError(text));
            }
            fs::write(&place, format!("{}\n", self.value)).map_err(|error| {
                ResourceError(format!("the kernel does not take {} for {}: {error}", self.value, self.name))
            })?;
        }
        Ok(())
    }

    fn provides(&self) -> Vec<Thing> {
        Kind::provides(&self.at_boot)
    }

    fn follows(&self) -> Vec<Wanted> {
        let mut wanted = Kind::follows(&self.at_boot);
        wanted.push(Wanted::KernelModules);
        wanted
    }
}

/// The kernel separates the numbers of a list by tabs, and ends a value with a line break.
fn words(value: &str) -> String {
    value.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::testing::{self, Fake};

    fn fake(value: &str) -> Fake {
        let fake = Fake::new();
        fs::create_dir_all(fake.path("proc/sys/net/ipv4")).unwrap();
        fs::write(fake.path("proc/sys/net/ipv4/tcp_rmem"), value).unwrap();
        fake
    }

    fn resource() -> Box<dyn Resource> {
        testing::read("sysctl = { name = \"net.ipv4.tcp_rmem\", value = \"1 2  3\" }").unwrap()
    }

    #[test]
    fn now_and_at_boot_are_told_apart_and_mended() {
        let fake = fake("4\t2\t3\n");
        assert_eq!(
            fake.changes(&*resource()),
            ["at boot: content: no such file → 2 lines", "now: 4 2 3 → 1 2 3"]
        );
        fake.apply(&*resource());
        assert_eq!(fake.changes(&*resource()), [""; 0]);
        let file = fake.path("etc/sysctl.d/65-toril-net.ipv4.tcp_rmem.conf");
        assert_eq!(fs::read_to_string(file).unwrap(), "# Written by toril.\nnet.ipv4.tcp_rmem = 1 2  3\n");
        fs::write(fake.path("proc/sys/net/ipv4/tcp_rmem"), "1\t2\t4\n").unwrap();
        assert_eq!(fake.changes(&*resource()), ["now: 1 2 4 → 1 2 3"]);
    }

    #[test]
    fn a_kernel_without_it_that_cannot_get_it() {
        let mut fake = Fake::new();
        assert!(fake.changes(&*resource()).contains(&"now: no such parameter → 1 2 3".to_owned()));
        fake.facts.modules_loadable = false;
        let judged = resource().judge(fake.context()).unwrap();
        assert_eq!(judged.changes.len(), 1, "the file for the next boot");
        assert!(judged.impossible.unwrap().contains("no parameter net.ipv4.tcp_rmem"));
    }

    #[test]
    fn what_is_read_only_is_not_possible_here() {
        let mut fake = fake("4\n");
        fake.facts.container = Some("toril-sandbox".into());
        let Some((name, path)) = parse_name("net.ipv4.tcp_rmem").ok() else { panic!("a good name") };
        let at_boot = FileResource {
            path: "/etc/f".into(),
            content: String::new(),
            attributes: Attributes { owner: "root".into(), group: "root".into(), mode: 0o644 },
        };
        let resource = Sysctl { name, value: "1".into(), path, at_boot };
        let state = SysctlState { at_boot: Judged::default(), now: Some("4\n".into()), read_only: true };
        let judged = resource.compare(fake.context(), &state);
        assert_eq!(judged.changes, []);
        assert_eq!(
            judged.impossible.unwrap(),
            "net.ipv4.tcp_rmem is 4, and read-only in a container (toril-sandbox)"
        );
    }

    #[test]
    fn names_become_paths_as_sysctl_has_them() {
        let path = |name| parse_name(name).map(|(_, path)| path).ok();
        assert_eq!(path("vm.swappiness").as_deref(), Some("/proc/sys/vm/swappiness"));
        assert_eq!(
            path("net.ipv4.conf.eth0/1.forwarding").as_deref(),
            Some("/proc/sys/net/ipv4/conf/eth0.1/forwarding")
        );
        assert_eq!(
            path("net/ipv4/conf/eth0.1/forwarding").as_deref(),
            Some("/proc/sys/net/ipv4/conf/eth0.1/forwarding")
        );
        for bad in ["", "vm", "vm.", ".vm", "../etc/passwd", "vm.//.x", "a/../b", "vm swappiness.x", "a.*"] {
            assert_eq!(path(bad), None, "{bad}");
        }
    }

    #[test]
    fn wrong_words_are_refused() {
        testing::refuses(&[
            ("sysctl = { name = \"swappiness\", value = \"1\" }", "is no kernel parameter"),
            ("sysctl = { name = \"vm.swappiness\", value = true }", "`value` must be a string or"),
            ("sysctl = { name = \"vm.swappiness\" }", "`value` is missing"),
            ("sysctl = { name = \"vm.swappiness\", valeu = \"1\" }", "did you mean `value`?"),
            ("sysctl = { name = \"vm.swappiness\", value = \"1\\n2\" }", "must be one line"),
        ]);
    }
}
