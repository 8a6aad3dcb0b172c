//! Connections that stay for the next command.

use std::fs;
use std::io::Read;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use crate::harness::{Finished, Sandbox, Toril, by_openssh, toril};

#[test]
fn a_connection_stays_is_used_again_and_is_ended() {
    if !by_openssh() {
        return;
    }
    let Some(sandbox) = Sandbox::fresh("standing") else { return };
    // Of its own, so that nobody else's connections are there.
    let runtime = tempfile::tempdir().unwrap();
    let place = runtime.path().to_str().unwrap();
    let call = |arguments: &[&str]| Toril::new(arguments).env("XDG_RUNTIME_DIR", place).run();
    let facts = || call(&["facts", &sandbox.host(), "--standing", "5m", "--quiet"]).exits(0);
    facts();
    let directory = runtime.path().join("toril-0");
    assert_eq!(fs::metadata(&directory).unwrap().permissions().mode() & 0o777, 0o700);
    let sockets = || {
        let entries = fs::read_dir(&directory).unwrap().flatten();
        entries
            .filter(|entry| entry.file_type().unwrap().is_socket())
            .map(|entry| entry.path())
            .collect::<Vec<_>>()
    };
    // ssh's own log of the connection tells of each login.
    let logins = || {
        let logs = fs::read_dir(&directory).unwrap().flatten().map(|entry| entry.path());
        let logs = logs.filter(|path| path.extension().is_some_and(|end| end == "log"));
        logs.map(|path| fs::read_to_string(path).unwrap().matches("Authenticated to ").count()).sum::<usize>()
    };
    let first = sockets();
    assert!(first.len() == 1 && first[0].as_os_str().len() + 17 <= 104, "{first:?}");
    assert_eq!(logins(), 1);
    facts();
    assert_eq!(logins(), 1, "it was not used again");
    assert_eq!(sockets(), first, "it is used again");
    // Another option, another connection.
    call(&["facts", &sandbox.host(), "--standing", "5m", "-o", "Compression=yes"]).exits(0);
    assert_eq!(sockets().len(), 2);

    // The host's side of all of them ends, as when it is rebooted.
    // It ends the one that this comes by, too.
    sandbox.try_ssh("kill $(grep -l 'sshd: [d]ebian' /proc/[0-9]*/cmdline | cut -d/ -f3)");
    facts();
    assert!(!sockets().is_empty());

    // The host hangs and dies only when it is asked for a session: that the connection is lost is shown by its use alone.
    let sessions: Vec<String> = sandbox
        .process_ids()
        .into_iter()
        .filter(|(_, line)| line.starts_with("sshd: debian"))
        .map(|(pid, _)| pid.to_string())
        .collect();
    assert!(sessions.len() >= 2, "{sessions:?}");
    let signal = |name: &str| {
        assert!(Command::new("kill").arg(name).args(&sessions).status().unwrap().success());
    };
    signal("-STOP");
    let asking = Toril::new(&["facts", &sandbox.host(), "--standing", "5m", "--quiet"]);
    let asking = asking.env("XDG_RUNTIME_DIR", place).spawn();
    sleep(Duration::from_secs(1));
    signal("-KILL");
    asking.wait().exits(0);
    assert_eq!(sockets().len(), 1, "another one has taken its place");

    let ended = |finished: Finished| finished.exits(0).shows("ended ");
    ended(call(&["disconnect", &sandbox.host()]));
    assert_eq!(sockets(), Vec::<std::path::PathBuf>::new());
    call(&["disconnect"]).exits(0).shows("no connection was open");
    // Somebody else may have made the directory.
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o755)).unwrap();
    call(&["facts", &sandbox.host(), "--standing", "5m"]).exits(1).shows("not yours alone");
    toril(&["facts", &sandbox.host()]).exits(0);
}

#[test]
fn a_connection_that_has_all_the_sessions_it_may_have_is_left_to_those_who_use_it() {
    if !by_openssh() {
        return;
    }
    let Some(sandbox) = Sandbox::fresh("sessions") else { return };
    sandbox.sudo("echo MaxSessions 1 >> /etc/ssh/sshd_config; kill -HUP 1; sleep 1");
    let runtime = tempfile::tempdir().unwrap();
    let place = runtime.path().to_str().unwrap();
    let facts = || {
        let call = Toril::new(&["facts", &sandbox.host(), "--standing", "5m", "--quiet"]);
        call.env("XDG_RUNTIME_DIR", place).run().exits(0)
    };
    facts();
    let sockets = || {
        let entries = fs::read_dir(runtime.path().join("toril-0")).unwrap().flatten();
        let sockets = entries.filter(|entry| entry.file_type().unwrap().is_socket());
        sockets.map(|entry| entry.path()).collect::<Vec<_>>()
    };
    let first = sockets();
    let mut user = Command::new("ssh")
        .arg("-S")
        .arg(&first[0])
        .args(["standing", "echo here; exec cat"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    user.stdout.as_mut().unwrap().read_exact(&mut [0; 5]).unwrap();
    facts();
    assert_eq!(sockets(), first);
    assert!(user.try_wait().unwrap().is_none(), "the session of another has ended");
    drop(user.stdin.take());
    assert!(user.wait().unwrap().success());
    Toril::new(&["disconnect"]).env("XDG_RUNTIME_DIR", place).run().exits(0).shows("ended 1 connection");
}
