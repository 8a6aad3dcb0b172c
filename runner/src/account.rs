use std::path::Path;
use std::{io, thread};

use rustix::thread::{Gid, Uid, set_thread_groups, set_thread_res_gid, set_thread_res_uid};
use toril_machine::{Command, Machine, Probe, STANDARD_PATH};

use crate::isolation::Spec;

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
    /// The one who may do everything.
    pub(crate) fn root() -> Account {
        Account { name: "root".into(), uid: 0, gid: 0, groups: vec![0], home: "/root".into() }
    }

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

    /// Does something with this user's rights and no others: on a thread of its own, which alone has them.
    pub(crate) fn act<T: Send>(&self, work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
        let as_user = || {
            let groups: Vec<Gid> = self.groups.iter().map(|id| Gid::from_raw(*id)).collect();
            let (uid, gid) = (Uid::from_raw(self.uid), Gid::from_raw(self.gid));
            set_thread_groups(&groups)?;
            set_thread_res_gid(gid, gid, gid)?;
            set_thread_res_uid(uid, uid, uid)?;
            work()
        };
        let panicked = || Err(io::Error::other("it panicked"));
        thread::scope(|scope| scope.spawn(as_user).join().unwrap_or_else(|_| panicked()))
    }

    /// A program that is run with this user's rights, and can gain none.
    pub(crate) fn command(&self, program: &str, args: &[&str]) -> Command {
        let ids = [format!("--reuid={}", self.uid), format!("--regid={}", self.gid)];
        let words = ids.iter().map(String::as_str).chain(["--clear-groups", "--no-new-privs", "--", program]);
        Command::new("setpriv", words.chain(args.iter().copied()))
    }

    /// A program that is run in a cell as this user, in its test's folder.
    pub(crate) fn spec(&self, argv: Vec<String>, folder: &Path) -> Spec {
        let dir = folder.to_string_lossy().into_owned();
        Spec {
            argv,
            env: self.environment(&dir),
            dir,
            uid: self.uid,
            gid: self.gid,
            groups: self.groups.clone(),
            files: 0,
            input: None,
            pin: Vec::new(),
            realtime: None,
            forbids_set_id: false,
        }
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

    #[test]
    fn what_it_does_for_a_user_root_may_do_before_and_after() {
        let root = Account::look_up(&Machine::this(), "root").unwrap();
        if root.act(|| Ok(())).is_err() {
            println!("skipped: it is not root that runs this, and nobody else can become another user");
            return;
        }
        let secret = tempfile::NamedTempFile::new().unwrap();
        let nobody = Account { uid: 65534, gid: 65534, groups: vec![65534], ..root };
        let read = || std::fs::read(secret.path());
        let denied = nobody.act(read).unwrap_err();
        assert_eq!(denied.kind(), io::ErrorKind::PermissionDenied);
        assert!(read().is_ok());
        assert_eq!(nobody.command("id", &["-u"]).output().unwrap(), "65534\n");
    }
}
