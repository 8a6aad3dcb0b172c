//! `user`: an account, its home and shell, and the groups it is a member of (others are left alone).

use toril_document::Table;
use toril_machine::{Command, Probe, User};

use super::{
    Change, Context, Judged, Kind, Resource, ResourceError, Thing, Wanted, is_name, read_name, read_path,
};

#[derive(Debug)]
struct UserResource {
    name: String,
    system: bool,
    home: String,
    shell: String,
    groups: Vec<String>,
}

struct UserState {
    user: User,
    groups: Vec<String>,
}

pub(super) fn read(table: &mut Table<'_>) -> Option<Box<dyn Resource>> {
    let name = read_name(table, "name");
    let system = table.boolean("system").unwrap_or(false);
    let home = match table.has("home") {
        true => read_path(table, "home"),
        false => {
            // Taken all the same, so that it is a known word.
            drop(table.take("home"));
            name.as_ref().map(|name| format!("/home/{name}"))
        }
    };
    let shell = match table.has("shell") {
        true => read_path(table, "shell"),
        false => {
            drop(table.take("shell"));
            Some(if system { "/usr/sbin/nologin".into() } else { "/bin/bash".into() })
        }
    };
    let groups = table.strings("groups").unwrap_or_default();
    for group in groups.iter().filter(|group| !is_name(&group.value)) {
        table.note("R011", group.span.clone(), format!("`{}` is no name of a group", group.value), None);
    }
    let groups = groups.into_iter().map(|group| group.value).collect();
    Some(Box::new(UserResource { name: name?, system, home: home?, shell: shell?, groups }))
}

impl Kind for UserResource {
    type State = Option<UserState>;

    fn observe(&self, context: Context<'_>) -> Result<Option<UserState>, ResourceError> {
        let Some(user) = context.machine.user(&self.name).known().map_err(ResourceError)? else {
            return Ok(None);
        };
        let mut groups = Vec::new();
        for name in &self.groups {
            match context.machine.group(name) {
                Probe::Known(group) if group.gid == user.gid || group.members.contains(&self.name) => {
                    groups.push(name.clone());
                }
                Probe::Known(_) | Probe::Absent => {}
                Probe::Unreadable(reason) => return Err(ResourceError(reason)),
            }
        }
        Ok(Some(UserState { user, groups }))
    }

    fn compare(&self, _: Context<'_>, state: &Option<UserState>) -> Judged {
        let mut changes = Vec::new();
        let Some(UserState { user, groups }) = state else {
            changes.push(Change::new("user", "not there", &self.name));
            changes.extend(self.groups.iter().map(|group| membership(group)));
            return Judged { changes, impossible: None };
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
        Judged { changes, impossible: None }
    }

    fn apply(
        &self,
        _: Context<'_>,
        changes: &[Change],
        _: &mut dyn FnMut(&str),
    ) -> Result<(), ResourceError> {
        let groups = self.groups.join(",");
        let run = |program: &str, args: &[&str]| {
            let all = args.iter().copied().chain(["--", self.name.as_str()]);
            Command::new(program, all).output().map(drop).map_err(ResourceError::new)
        };
        if changes.iter().any(|change| change.what == "user") {
            let mut args =
                vec!["--user-group", "--create-home", "--home-dir", &self.home, "--shell", &self.shell];
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
        let missing: Vec<&str> =
            changes.iter().filter_map(|change| change.what.strip_prefix("member of ")).collect();
        match missing.is_empty() {
            true => Ok(()),
            false => run("usermod", &["--append", "--groups", &missing.join(",")]),
        }
    }

    fn provides(&self) -> Vec<Thing> {
        vec![Thing::User(self.name.clone()), Thing::Group(self.name.clone()), Thing::Path(self.home.clone())]
    }

    fn follows(&self) -> Vec<Wanted> {
        let groups = self.groups.iter().map(|group| Wanted::Group(group.clone()));
        groups.chain([Wanted::Above(self.home.clone())]).collect()
    }
}

fn membership(group: &str) -> Change {
    Change::new(format!("member of {group}"), "no", "yes")
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
