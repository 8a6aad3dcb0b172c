use crate::{Command, Machine, Probe};

/// An account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// Login name.
    pub name: String,
    /// User id.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
    /// Home directory.
    pub home: String,
    /// Login shell.
    pub shell: String,
}

/// A group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Name.
    pub name: String,
    /// Group id.
    pub gid: u32,
    /// Login names of those who have it as a supplementary group.
    pub members: Vec<String>,
}

impl Machine {
    /// Looks a user up: in the machine's own files, then in whatever else its name service knows.
    pub fn user(&self, name: &str) -> Probe<User> {
        self.account("passwd", name, parse_user, |user| user.name == name)
    }

    /// Looks a group up by name.
    pub fn group(&self, name: &str) -> Probe<Group> {
        self.account("group", name, parse_group, |group| group.name == name)
    }

    /// The name of a user id, or the number where it has none.
    pub fn user_name(&self, uid: u32) -> String {
        match self.account("passwd", &uid.to_string(), parse_user, |user| user.uid == uid) {
            Probe::Known(user) => user.name,
            Probe::Absent | Probe::Unreadable(_) => uid.to_string(),
        }
    }

    /// The name of a group id, or the number where it has none.
    pub fn group_name(&self, gid: u32) -> String {
        match self.account("group", &gid.to_string(), parse_group, |group| group.gid == gid) {
            Probe::Known(group) => group.name,
            Probe::Absent | Probe::Unreadable(_) => gid.to_string(),
        }
    }

    /// Every group id of a user, fresh from the database: a login keeps those it began with.
    pub fn group_ids_of(&self, user: &User) -> Probe<Vec<u32>> {
        if self.is_this() {
            return match Command::new("id", ["-G", &user.name]).output() {
                Ok(text) => Probe::Known(text.split_whitespace().filter_map(|id| id.parse().ok()).collect()),
                Err(error) => Probe::Unreadable(error.to_string()),
            };
        }
        self.read("/etc/group").map(|text| {
            let groups = text.lines().filter_map(parse_group);
            let ids = groups.filter(|group| group.gid == user.gid || group.members.contains(&user.name));
            ids.map(|group| group.gid).collect()
        })
    }

    fn account<T>(
        &self,
        database: &str,
        key: &str,
        parse: fn(&str) -> Option<T>,
        wanted: impl Fn(&T) -> bool,
    ) -> Probe<T> {
        // The plain files first: a process costs more than the rest of a check together.
        match self.read(&format!("/etc/{database}")) {
            Probe::Known(text) => {
                if let Some(found) = text.lines().filter_map(parse).find(|entry| wanted(entry)) {
                    return Probe::Known(found);
                }
            }
            Probe::Absent if !self.is_this() => return Probe::Absent,
            Probe::Unreadable(reason) => return Probe::Unreadable(reason),
            Probe::Absent => {}
        }
        if !self.is_this() || !self.has_other_name_services() {
            return Probe::Absent;
        }
        let command = Command::new("getent", [database, key]);
        match command.run() {
            Ok(finished) if finished.status.success() => {
                let text = String::from_utf8_lossy(&finished.stdout).into_owned();
                match text.lines().filter_map(parse).find(|entry| wanted(entry)) {
                    Some(found) => Probe::Known(found),
                    None => Probe::Unreadable(format!("`{command}` printed no entry that could be read")),
                }
            }
            // getent(1): 2 is "one or more supplied key could not be found".
            Ok(finished) if finished.status.code() == Some(2) => Probe::Absent,
            Ok(finished) => Probe::Unreadable(command.failed(&finished).to_string()),
            Err(error) => Probe::Unreadable(error.to_string()),
        }
    }

    /// Whether nsswitch.conf names a source of accounts other than the files read here.
    fn has_other_name_services(&self) -> bool {
        match self.read("/etc/nsswitch.conf") {
            Probe::Known(text) => text
                .lines()
                .filter(|line| line.starts_with("passwd:") || line.starts_with("group:"))
                .flat_map(|line| line.split_whitespace().skip(1))
                .any(|source| !matches!(source, "files" | "compat" | "systemd") && !source.starts_with('[')),
            Probe::Absent => false,
            Probe::Unreadable(_) => true,
        }
    }
}

fn parse_user(line: &str) -> Option<User> {
    let fields: Vec<&str> = line.split(':').collect();
    let [name, _, uid, gid, _, home, shell] = fields[..] else { return None };
    Some(User {
        name: name.into(),
        uid: uid.parse().ok()?,
        gid: gid.parse().ok()?,
        home: home.into(),
        shell: shell.into(),
    })
}

fn parse_group(line: &str) -> Option<Group> {
    let fields: Vec<&str> = line.split(':').collect();
    let [name, _, gid, members] = fields[..] else { return None };
    let members = members.split(',').filter(|member| !member.is_empty()).map(str::to_owned).collect();
    Some(Group { name: name.into(), gid: gid.parse().ok()?, members })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_of_a_fake_root() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("etc")).unwrap();
        std::fs::write(dir.path().join("etc/passwd"), "broken\ntoril:x:900:901::/home/t:/bin/sh\n").unwrap();
        std::fs::write(dir.path().join("etc/group"), "kvm:x:105:a,toril\ntoril:x:901:\n").unwrap();
        let machine = Machine::at(dir.path());
        let Probe::Known(user) = machine.user("toril") else { panic!("no user") };
        assert_eq!((user.uid, user.home.as_str()), (900, "/home/t"));
        assert_eq!(machine.group_ids_of(&user), Probe::Known(vec![105, 901]));
        assert_eq!(machine.user("nobody"), Probe::Absent);
        assert_eq!(machine.group_name(105), "kvm");
        assert_eq!(machine.group_name(7), "7");
    }

    #[test]
    fn root_of_this_machine() {
        assert_eq!(Machine::this().user("root").map(|user| user.uid), Probe::Known(0));
    }
}
