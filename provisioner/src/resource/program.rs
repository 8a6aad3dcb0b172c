//! A program that a recipe names, run as the user it says.

use std::time::Duration;

use rustix::process::geteuid;
use toril_machine::{Command, Machine, Probe};

use super::Wanted;

/// A program, its arguments, and how it is run.
#[derive(Debug, Clone)]
pub(super) struct Program {
    /// Never empty.
    pub(super) words: Vec<String>,
    pub(super) run_as: Option<String>,
    pub(super) dir: Option<String>,
    pub(super) deadline: Duration,
}

impl Program {
    /// What runs it. Absent: there is no such user.
    pub(super) fn command(&self, machine: &Machine) -> Probe<Command> {
        if !machine.is_this() {
            let reason = "commands cannot be run for a machine that is not this one";
            return Probe::Unreadable(reason.into());
        }
        let name = self.run_as.as_deref().unwrap_or("root");
        let user = match machine.user(name) {
            Probe::Known(user) => user,
            Probe::Absent => return Probe::Absent,
            Probe::Unreadable(reason) => return Probe::Unreadable(reason),
        };
        let words = self.words.iter().map(String::as_str);
        let itself = self.run_as.is_none() || user.uid == geteuid().as_raw();
        let mut command = match itself {
            true => Command::new(&self.words[0], words.skip(1)),
            // setpriv reads the groups from the database: a login keeps those it began with.
            false => {
                let ids = [format!("--reuid={}", user.uid), format!("--regid={}", user.gid)];
                let ids = ids.iter().map(String::as_str).chain(["--init-groups", "--"]);
                Command::new("setpriv", ids.chain(words))
            }
        };
        if self.run_as.is_some() || std::env::var_os("HOME").is_none() {
            command = command.env("HOME", &user.home).env("USER", name).env("LOGNAME", name);
        }
        if let Some(dir) = &self.dir {
            command = command.dir(dir);
        }
        Probe::Known(command.deadline(self.deadline))
    }

    /// What it stands on: its user, its directory, the paths among its words, and all packages.
    pub(super) fn follows(&self) -> Vec<Wanted> {
        let user = self.run_as.iter().map(|user| Wanted::User(user.clone()));
        let paths = self.words.iter().filter(|word| word.starts_with('/'));
        let paths = paths.chain(&self.dir).map(|path| Wanted::path(path));
        user.chain(paths).chain([Wanted::Packages]).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(words: &[&str], run_as: Option<&str>) -> Program {
        Program {
            words: words.iter().map(|word| (*word).to_owned()).collect(),
            run_as: run_as.map(str::to_owned),
            dir: Some("/".into()),
            deadline: Duration::from_secs(5),
        }
    }

    #[test]
    fn runs_as_another_user_with_that_users_home() {
        if !geteuid().is_root() {
            eprintln!("skipped: only root can run programs as others");
            return;
        }
        let program = program(&["sh", "-c", "id -un; echo $HOME; pwd"], Some("daemon"));
        let Probe::Known(command) = program.command(&Machine::this()) else { panic!("no user daemon") };
        assert_eq!(command.output().unwrap(), "daemon\n/usr/sbin\n/\n");
    }

    #[test]
    fn a_user_that_is_not_there_is_told_from_a_failure() {
        let program = program(&["true"], Some("toril-nobody"));
        assert!(matches!(program.command(&Machine::this()), Probe::Absent));
        assert!(matches!(program.command(&Machine::at("/nonexistent")), Probe::Unreadable(_)));
    }
}
