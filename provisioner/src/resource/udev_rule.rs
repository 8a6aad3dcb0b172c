//! `udev-rule`: who may use a device: the rule, and the device node as it is now.

use std::fs;
use std::os::unix::fs::FileTypeExt;
use std::time::Duration;

use toril_document::Table;
use toril_machine::{Command, Probe};

use super::attributes::{Attributes, parse_mode};
use super::file::FileResource;
use super::{Change, Context, Judged, Kind, Resource, ResourceError, Thing, Wanted, is_name, read_name};

/// What the changes of the rule's file are called by.
const RULE: &str = "rule";

#[derive(Debug)]
struct UdevRule {
    device: String,
    node: Attributes,
    rule: FileResource,
}

struct RuleState {
    rule: Judged,
    /// `None`: there is no such device.
    node: Option<Result<Attributes, &'static str>>,
}

pub(super) fn read(table: &mut Table<'_>) -> Option<Box<dyn Resource>> {
    let device = read_name(table, "device");
    let group = table.required_string("group");
    let mode = table.parsed("mode", parse_mode).unwrap_or(0o660);
    if let Some(group) = group.as_ref().filter(|group| !is_name(&group.value)) {
        table.note("R011", group.span.clone(), format!("`{}` is no name of a group", group.value), None);
    }
    let (device, group) = (device?, group?.value);
    // static_node: the node of a module that is not loaded yet gets the same permissions, see udev(7).
    let content = format!(
        "# Written by toril.\nKERNEL==\"{device}\", GROUP=\"{group}\", MODE=\"{mode:04o}\", OPTIONS+=\"static_node={device}\"\n"
    );
    let rule = FileResource {
        path: format!("/etc/udev/rules.d/65-toril-{device}.rules"),
        content,
        attributes: Attributes { owner: "root".into(), group: "root".into(), mode: 0o644 },
    };
    let node = Attributes { owner: "root".into(), group, mode };
    Some(Box::new(UdevRule { device, node, rule }))
}

impl UdevRule {
    fn path(&self) -> String {
        format!("/dev/{}", self.device)
    }
}

impl Kind for UdevRule {
    type State = RuleState;

    fn observe(&self, context: Context<'_>) -> Result<RuleState, ResourceError> {
        let rule = Resource::judge(&self.rule, context)?;
        let metadata = Probe::of_io(fs::symlink_metadata(context.machine.path(self.path())), &self.path());
        let node = metadata.known().map_err(ResourceError)?.map(|metadata| {
            match metadata.file_type().is_char_device() {
                true => Ok(Attributes::of(&metadata, context.machine)),
                false => Err("something that is no character device"),
            }
        });
        Ok(RuleState { rule, node })
    }

    fn compare(&self, _: Context<'_>, state: &RuleState) -> Judged {
        let mut changes = Change::of_part(RULE, &state.rule.changes);
        let mut impossible = None;
        match &state.node {
            None => {}
            Some(Ok(now)) => {
                changes.extend(Change::of_part(&self.path(), &self.node.compare(now)));
            }
            Some(Err(what)) => impossible = Some(format!("{} is {what}", self.path())),
        }
        Judged { changes, impossible, ..Judged::default() }
    }

    fn apply(
        &self,
        context: Context<'_>,
        changes: &[Change],
        log: &mut dyn FnMut(&str),
    ) -> Result<(), ResourceError> {
        let rule = Change::for_part(RULE, changes);
        if !rule.is_empty() {
            self.rule.apply_with_directory(context, &rule, log)?;
        }
        if context.facts.udev {
            let sysname = format!("--sysname-match={}", self.device);
            for args in [&["control", "--reload"][..], &["trigger", &sysname, "--settle"][..]] {
                let command = Command::new("udevadm", args).deadline(Duration::from_secs(30));
                command.output().map_err(ResourceError::new)?;
            }
        }
        // A static node has no device that an event could be triggered for, and a container has no device manager.
        match self.observe(context)?.node {
            Some(Ok(now)) if !self.node.compare(&now).is_empty() => {
                self.node.apply(&self.path(), context.machine)
            }
            _ => Ok(()),
        }
    }

    fn provides(&self) -> Vec<Thing> {
        vec![Thing::Path(self.path()), Thing::Path(self.rule.path.clone())]
    }

    fn follows(&self) -> Vec<Wanted> {
        let mut wanted = Kind::follows(&self.rule);
        wanted.extend([Wanted::Group(self.node.group.clone()), Wanted::Packages]);
        wanted
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::testing::Fake;

    #[test]
    fn a_device_that_is_not_there_needs_only_its_rule() {
        let fake = Fake::new();
        let resource = UdevRule {
            device: "kvm".into(),
            node: Attributes { owner: "root".into(), group: "kvm".into(), mode: 0o660 },
            rule: FileResource {
                path: "/etc/rule".into(),
                content: "x\n".into(),
                attributes: Attributes { owner: "root".into(), group: "root".into(), mode: 0o644 },
            },
        };
        assert_eq!(fake.changes(&resource), ["rule: content: no such file → 1 line"]);
        std::fs::create_dir(fake.path("dev")).unwrap();
        std::fs::write(fake.path("dev/kvm"), "").unwrap();
        let judged = Resource::judge(&resource, fake.context()).unwrap();
        assert_eq!(judged.impossible.as_deref(), Some("/dev/kvm is something that is no character device"));
    }
}
