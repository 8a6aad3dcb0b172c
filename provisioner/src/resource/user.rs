//! `user`: an account, its home and shell, and the groups it is a member of (others are left alone).

use toril_document::Table;
use toril_machine::{Command, Probe, User};

use super::{
    Change, Context, Judged, Kind, Resource, ResourceError, Thing, Wanted, names, optional_path, read_name,
};

#[derive(Debug)]
struct UserResource {
    name: String,
    system: bool,
    home: String,
    shell: String,
    groups: Vec<String>,
}

pub(super) struct UserState {
    user: User,
    /// Those of the groups asked for that it is in.
    pub(super) groups: Vec<String>,
}

pub(super) fn read(table: &mut Table<'_>) -> Option<Box<dyn Resource>> {
    let name = read_name(table, "name");
    let system = table.boolean("system").unwrap_or(false);
    let home = optional_path(table, "home").or_else(|| Some(format!("/home/{}", name.as_ref()?)));
    let shell = if system { "/usr/sbin/nologin" } else { "/bin/bash" };
    let shell = optional_path(table, "shell").unwrap_or(shell.into());
    let groups = table.strings("groups").unwrap_or_default();
    let groups = names(table, groups, "a group");
    Some(Box::new(UserResource { name: name?, system, home: home?, shell, groups }))
}

impl Kind for UserResource {
    type State = Option<UserState>;

    fn observe(&self, context: Context<'_>) -> Result<Option<UserState>, ResourceError> {
        observe(context, &self.name, &self.groups)
    }

    fn compare(&self, _: Context<'_>, state: &Option<UserState>) -> Judged {
        let mut changes = Vec::new();
        let Some(UserState { user, groups }) = state else {
            changes.push(Change::new("user", "not there", &self.name));
            changes.extend(self.groups.iter().map(|group| membership(group)));
            return changes.into();
        };
        if user.home != self.home {
            changes.push(Change::new("home", &user.home, &self.home));
        }
        if user.shell != self.shell {
            changes.push(Change::new("shell", &user.shell, &self.shell));
        }
        changes.extend(
            self.groups.iter().filter(|group| !groups.contains(group)).map(|group| membership(group)),
        );
        changes.into()
    }

    fn apply(
        &self,
        context: Context<'_>,
        changes: &[Change],
        _: &mut dyn FnMut(&str),
    ) -> Result<(), ResourceError> {
        let groups = self.groups.join(",");
        let run = |program: &str, args: &[&str]| {
            let all = args.iter().copied().chain(["--", self.name.as_str()]);
            Command::new(program, all).output().map(drop).map_err(ResourceError::new)
        };
        if changes.iter().any(|change| change.what == "user") {
            let mut args = vec!["--create-home", "--home-dir", &self.home, "--shell", &self.shell];
            // useradd does not make a group that is there already.
            match context.machine.group(&self.name).known().map_err(ResourceError)? {
                Some(_) => args.extend(["--gid", &self.name]),
                None => args.push("--user-group"),
            }
            if self.system {
                args.push("--system");
            }
            if !groups.is_empty() {
                args.extend(["--groups", &groups]);
            }
            return run("useradd", &args);
        }
        for change in changes {
            match change.what.as_str() {
                "home" => run("usermod", &["--home", &self.home])?,
                "shell" => run("usermod", &["--shell", &self.shell])?,
                _ => {}
            }
        }
        join_groups(&self.name, changes)
    }

    fn provides(&self) -> Vec<Thing> {
        vec![Thing::User(self.name.clone()), Thing::Group(self.name.clone()), Thing::Path(self.home.clone())]
    }

    fn follows(&self) -> Vec<Wanted> {
        let groups = self.groups.iter().map(|group| Wanted::Group(group.clone()));
        groups.chain([Wanted::Above(self.home.clone())]).collect()
    }
}

/// Looks a user up, and which of the groups it is in.
pub(super) fn observe(
    context: Context<'_>,
    name: &str,
    wanted: &[String],
) -> Result<Option<UserState>, ResourceError> {
    let Some(user) = context.machine.user(name).known().map_err(ResourceError)? else { return Ok(None) };
    let mut groups = Vec::new();
    for group in wanted {
        match context.machine.group(group) {
            Probe::Known(found) if found.gid == user.gid || found.members.iter().any(|m| m == name) => {
                groups.push(group.clone());
            }
            Probe::Known(_) | Probe::Absent => {}
            Probe::Unreadable(reason) => return Err(ResourceError(reason)),
        }
    }
    Ok(Some(UserState { user, groups }))
}

/// A user's becoming a member of a group, as a change.
pub(super) fn membership(group: &str) -> Change {
    Change::new(format!("member of {group}"), "no", "yes")
}

/// Carries out those of the changes that are memberships.
pub(super) fn join_groups(user: &str, changes: &[Change]) -> Result<(), ResourceError> {
    let missing: Vec<&str> =
        changes.iter().filter_map(|change| change.what.strip_prefix("member of ")).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let groups = missing.join(",");
    let command = Command::new("usermod", ["--append", "--groups", &groups, "--", user]);
    command.output().map(drop).map_err(ResourceError::new)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::testing::Fake;

    fn resource(name: &str, home: &str) -> UserResource {
        UserResource {
            name: name.into(),
            system: true,
            home: home.into(),
            shell: "/usr/sbin/nologin".into(),
            groups: vec!["kvm".into(), "games".into()],
        }
    }

    #[test]
    fn what_differs_is_named_one_by_one() {
        let fake = Fake::new();
        assert_eq!(fake.changes(&resource("toril", "/home/t")), ["member of games: no → yes"]);
        assert_eq!(
            fake.changes(&resource("toril", "/srv")),
            ["home: /home/t → /srv", "member of games: no → yes"]
        );
        assert_eq!(
            fake.changes(&resource("new", "/srv")),
            ["user: not there → new", "member of kvm: no → yes", "member of games: no → yes"]
        );
    }
}
