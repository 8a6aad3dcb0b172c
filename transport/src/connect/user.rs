//! Who this program's user is.

use std::fs;
use std::process::{Command, Stdio};

/// The login name of this program's user: as the environment has it, else as the user database does, since a job of cron's or
/// systemd's may have no such variable. `None` where neither knows one.
#[must_use]
pub fn login_name() -> Option<String> {
    let variable = |name: &&str| std::env::var(name).ok().filter(|name| !name.is_empty());
    ["USER", "LOGNAME"].iter().find_map(variable).or_else(database_name)
}

/// The login name of this program's user as the user database has it.
pub(super) fn database_name() -> Option<String> {
    let id = rustix::process::getuid().as_raw().to_string();
    let local = || fs::read_to_string("/etc/passwd").ok().and_then(|text| name_in(&text, &id));
    local().or_else(|| name_in(&ask_database(&id)?, &id))
}

/// `getent` is asked, as a static program must not load the modules of the system's database.
fn ask_database(id: &str) -> Option<String> {
    let output = Command::new("getent").args(["passwd", "--", id]).stdin(Stdio::null()).output().ok()?;
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn name_in(text: &str, id: &str) -> Option<String> {
    text.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next().filter(|name| !name.is_empty())?;
        (fields.nth(1) == Some(id)).then(|| name.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_is_that_of_the_user_id() {
        let text = "root:x:0:0:root:/root:/bin/bash\n# 7\nanna:x:1000:100::/home/anna:/bin/sh\n:x:7:7::/:\n";
        for (id, expected) in [("0", Some("root")), ("1000", Some("anna")), ("100", None), ("7", None)] {
            assert_eq!(name_in(text, id).as_deref(), expected, "{id}");
        }
    }
}
