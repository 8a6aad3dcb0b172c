//! What can be wrong in the whole of an inventory, when all of it is known.

use std::collections::BTreeSet;

use toril_document::Problems;

use super::{Inventory, Member};
use crate::read::{is_reserved, meant};

impl Inventory {
    /// Sees that all that is named is there, and that no group is part of itself.
    pub(super) fn checked(self) -> Result<Inventory, Problems> {
        let mut problems = Problems::default();
        for (name, group) in &self.groups {
            for member in group.hosts.iter().chain(&group.groups).filter(|member| member.name == "all") {
                let message = format!("`all` has all groups in it, and cannot be in `{name}`");
                let help = "name what is to be in it one by one, or use `all` itself".to_owned();
                problems.0.extend(self.problem("I004", &member.span, message, Some(help)));
            }
            for member in group.hosts.iter().filter(|member| member.name != "all") {
                self.check_host(name, member, &mut problems);
            }
            let groups = group.groups.iter().filter(|member| member.name != "all");
            for member in groups.filter(|member| !self.groups.contains_key(&member.name)) {
                let help = meant(&member.name, self.groups.keys().map(String::as_str));
                let message = format!("group `{name}` names a group `{}` that is nowhere", member.name);
                problems.0.extend(self.problem("I003", &member.span, message, help));
            }
            // Ansible has hosts and groups of one name: which is meant matters only where one of them is named.
            if self.hosts.contains_key(name) && !self.told.contains(name) {
                let span = group.hosts.first().or(group.groups.first()).map_or(0..0, |m| m.span.clone());
                let message = format!("`{name}` is the name of a host and of a group");
                problems.0.extend(self.problem("I005", &span, message, None));
            }
        }
        self.cycles(&mut problems);
        problems.or(()).map(|()| self)
    }

    fn check_host(&self, group: &str, member: &Member, problems: &mut Problems) {
        let is_special = is_reserved(&member.name) && Inventory::default().one(&member.name).is_ok();
        if is_special || self.hosts.contains_key(&member.name) {
            return;
        }
        let (message, help) = match self.groups.contains_key(&member.name) {
            true => (
                format!("`{}` is a group, not a host", member.name),
                Some("name it under `groups`".to_owned()),
            ),
            false => {
                let help = meant(&member.name, self.hosts.keys().map(String::as_str));
                let help = help.or_else(|| Some(format!("write [hosts.{:?}]", member.name)));
                (format!("group `{group}` names a host `{}` that is nowhere", member.name), help)
            }
        };
        problems.0.extend(self.problem("I003", &member.span, message, help));
    }

    /// Groups that are part of themselves, each ring once.
    fn cycles(&self, problems: &mut Problems) {
        let mut done = BTreeSet::new();
        for name in self.groups.keys() {
            self.follow(name, &mut Vec::new(), &mut done, problems);
        }
    }

    fn follow<'i>(
        &'i self,
        name: &'i str,
        path: &mut Vec<(&'i str, &'i Member)>,
        done: &mut BTreeSet<&'i str>,
        problems: &mut Problems,
    ) {
        let Some((name, group)) = self.groups.get_key_value(name) else { return };
        if done.contains(name.as_str()) {
            return;
        }
        for member in &group.groups {
            path.push((name, member));
            if let Some(start) = path.iter().position(|(of, _)| *of == member.name) {
                let steps = path.iter().skip(start).map(|(of, member)| match &self.source {
                    Some(source) => format!("`{of}` (line {})", source.line_column(member.span.start).0),
                    None => format!("`{of}`"),
                });
                let ring = steps.collect::<Vec<_>>().join(" has ");
                let message = format!("group `{0}` is part of itself: {ring} has `{0}`", member.name);
                problems.0.extend(self.problem("I004", &member.span, message, None));
            } else {
                self.follow(&member.name, path, done, problems);
            }
            path.pop();
        }
        done.insert(name);
    }
}
