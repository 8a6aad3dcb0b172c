//! `kernel-module`: a module that is loaded now and at every boot.

use std::time::Duration;

use toril_document::Table;
use toril_machine::{Command, Probe};

use super::attributes::Attributes;
use super::file::FileResource;
use super::{Change, Context, Judged, Kind, Resource, ResourceError, Thing, Wanted, read_name};

/// What the changes of the file are called by.
const AT_BOOT: &str = "at boot";

#[derive(Debug)]
struct KernelModule {
    name: String,
    /// What has systemd load it at boot: modules-load.d(5).
    at_boot: FileResource,
}

struct ModuleState {
    at_boot: Judged,
    loaded: bool,
}

pub(super) fn read(table: &mut Table<'_>) -> Option<Box<dyn Resource>> {
    let name = read_name(table, "name")?;
    let at_boot = FileResource {
        path: format!("/etc/modules-load.d/toril-{name}.conf"),
        content: format!("# Written by toril.\n{name}\n"),
        attributes: Attributes { owner: "root".into(), group: "root".into(), mode: 0o644 },
    };
    Some(Box::new(KernelModule { name, at_boot }))
}

impl Kind for KernelModule {
    type State = ModuleState;

    fn observe(&self, context: Context<'_>) -> Result<ModuleState, ResourceError> {
        let at_boot = Resource::judge(&self.at_boot, context)?;
        // The kernel's own spelling has underscores. A built-in has an entry here only if it has parameters, so one
        // without is found in the list that comes with the kernel.
        let name = self.name.replace('-', "_");
        let loaded = match context.machine.exists(&format!("/sys/module/{name}")) {
            Probe::Known(()) => true,
            Probe::Absent => self.is_built_in(context, &name)?,
            Probe::Unreadable(reason) => return Err(ResourceError(reason)),
        };
        Ok(ModuleState { at_boot, loaded })
    }

    fn compare(&self, context: Context<'_>, state: &ModuleState) -> Judged {
        let mut changes = Change::of_part(AT_BOOT, &state.at_boot.changes);
        let mut impossible = None;
        if !state.loaded && context.facts.modules_loadable {
            changes.push(Change::new("loaded", "no", "yes"));
        } else if !state.loaded {
            impossible = Some(match &context.facts.container {
                Some(kind) => {
                    format!("{} is not loaded, and a container ({kind}) cannot load modules", self.name)
                }
                None => format!(
                    "{} is not loaded, and there are no modules of the running kernel {} (reboot into the installed one?)",
                    self.name, context.facts.kernel
                ),
            });
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
        if changes.iter().any(|change| change.what == "loaded") {
            let command =
                Command::new("modprobe", ["--", self.name.as_str()]).deadline(Duration::from_secs(30));
            command.output().map_err(ResourceError::new)?;
        }
        Ok(())
    }

    fn provides(&self) -> Vec<Thing> {
        let mut provided = Kind::provides(&self.at_boot);
        provided.push(Thing::KernelModule);
        provided
    }

    fn follows(&self) -> Vec<Wanted> {
        Kind::follows(&self.at_boot)
    }
}

impl KernelModule {
    fn is_built_in(&self, context: Context<'_>, name: &str) -> Result<bool, ResourceError> {
        let list = context.machine.read(&format!("/lib/modules/{}/modules.builtin", context.facts.kernel));
        let list = list.known().map_err(ResourceError)?.unwrap_or_default();
        let file =
            |line: &str| line.rsplit('/').next().unwrap_or(line).trim_end_matches(".ko").replace('-', "_");
        Ok(list.lines().any(|line| file(line) == name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::testing::Fake;

    fn resource() -> Box<dyn Resource> {
        Box::new(KernelModule {
            name: "vhost_vsock".into(),
            at_boot: FileResource {
                path: "/etc/m.conf".into(),
                content: "vhost_vsock\n".into(),
                attributes: Attributes { owner: "root".into(), group: "root".into(), mode: 0o644 },
            },
        })
    }

    #[test]
    fn loaded_and_at_boot_are_told_apart() {
        let fake = Fake::new();
        assert_eq!(
            fake.changes(&*resource()),
            ["at boot: content: no such file → 1 line", "loaded: no → yes"]
        );
        std::fs::create_dir_all(fake.path("sys/module/vhost_vsock")).unwrap();
        assert_eq!(fake.changes(&*resource()), ["at boot: content: no such file → 1 line"]);
    }

    #[test]
    fn a_container_has_the_file_but_not_the_module() {
        let mut fake = Fake::new();
        fake.facts.modules_loadable = false;
        fake.facts.container = Some("toril-sandbox".into());
        let judged = resource().judge(fake.context()).unwrap();
        assert_eq!(judged.changes.len(), 1);
        assert!(judged.impossible.unwrap().contains("container (toril-sandbox) cannot load modules"));
    }

    #[test]
    fn what_is_built_in_counts_as_loaded() {
        let fake = Fake::new();
        let modules = format!("lib/modules/{}", fake.facts.kernel);
        std::fs::create_dir_all(fake.path(&modules)).unwrap();
        let list = "kernel/drivers/vhost/vhost-vsock.ko\n";
        std::fs::write(fake.path(&format!("{modules}/modules.builtin")), list).unwrap();
        assert_eq!(fake.changes(&*resource()), ["at boot: content: no such file → 1 line"]);
    }
}
