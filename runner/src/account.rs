use toril_machine::{Machine, Probe, STANDARD_PATH};

/// The user that tests run as, with the groups that the database gives it now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Account {
    pub name: String,
    pub uid: u32,
    pub gid: u32,
    pub groups: Vec<u32>,
    pub home: String,
}

/// The user cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AccountError {
    #[error(
        "there is no user `{0}`, whom the tests run as: apply the recipe to this host, or name another user"
    )]
    Missing(String),
    #[error("cannot look up the user `{name}`, whom the tests run as: {why}")]
    Unreadable { name: String, why: String },
}

impl Account {
    pub(crate) fn look_up(machine: &Machine, name: &str) -> Result<Account, AccountError> {
        let unreadable = |why| AccountError::Unreadable { name: name.to_owned(), why };
        let user = match machine.user(name) {
            Probe::Known(user) => user,
            Probe::Absent => return Err(AccountError::Missing(name.to_owned())),
            Probe::Unreadable(why) => return Err(unreadable(why)),
        };
        let groups = match machine.group_ids_of(&user) {
            Probe::Known(groups) => groups,
            Probe::Absent => vec![user.gid],
            Probe::Unreadable(why) => return Err(unreadable(why)),
        };
        Ok(Account { name: user.name, uid: user.uid, gid: user.gid, groups, home: user.home })
    }

    /// The environment of its tests: what a login would give it, and nothing of the runner's own. Home is the test's own
    /// folder, so that a test reads no settings that another one left.
    pub(crate) fn environment(&self, directory: &str) -> Vec<(String, String)> {
        let pairs = [
            ("PATH", STANDARD_PATH),
            ("LC_ALL", "C.UTF-8"),
            ("HOME", directory),
            ("USER", &self.name),
            ("LOGNAME", &self.name),
            ("TMPDIR", directory),
        ];
        pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_is_known_and_nobody_else_is_made_up() {
        let root = Account::look_up(&Machine::this(), "root").unwrap();
        assert_eq!((root.uid, root.groups.contains(&0)), (0, true));
        let error = Account::look_up(&Machine::this(), "toril-no-such-user").unwrap_err();
        assert!(error.to_string().contains("there is no user `toril-no-such-user`"), "{error}");
    }
}
