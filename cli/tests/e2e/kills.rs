//! Killed clients, killed agents and cut connections, in the middle of `apply` and of `test`: nothing runs on that
//! should not, and the same command then converges.

mod scene;

use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use self::scene::{SOON, Scene, kill, soon};
use crate::harness::{Running, Sandbox, Toril, by_openssh, command_line};

#[test]
fn kills_of_the_client_in_apply_end_no_run() {
    let Some(scene) = Scene::of_apt("client") else { return };
    let client = scene.applying(&[]);
    client.signal(9);
    drop(client);
    // All that served the client ends, and the work goes on.
    soon("the end of the front", || {
        scene.sandbox.process_ids().iter().all(|(_, line)| !line.ends_with(" agent")).then_some(())
    });
    scene.process(" agent-worker ");
    scene.process("sh -c until [ -e");
    scene.master_ends();
    let mut attached = scene.call(&["attach", &scene.host(), "--json"]).spawn();
    attached.wait_for("\"kind\":\"began\"");
    scene.let_go();
    scene.told_everything(&attached.wait().exits(0));
    scene.call(&["attach", &scene.host()]).run().exits(0).shows("changed a program");
    scene.has_converged();
}

#[test]
fn kills_of_the_front_in_apply_are_got_over() {
    let Some(scene) = Scene::of_apt("front") else { return };
    let client = scene.applying(&["--json"]);
    let front = scene.front();
    kill(front);
    soon("another front", || (scene.front() != front).then_some(()));
    scene.let_go();
    scene.told_everything(&client.wait().exits(0));
    scene.has_converged();
}

#[test]
fn kills_of_the_worker_in_apply_leave_apt_to_its_end_and_the_next_waits_for_it() {
    let Some(scene) = Scene::of_apt("worker") else { return };
    let client = scene.applying(&[]);
    kill(scene.process(" agent-worker "));
    let died = client.wait().exits(1);
    died.shows("the agent's worker died before the run ended").shows("give the same command again");
    scene.call(&["attach", &scene.host()]).run().exits(1).shows("the agent's worker died");
    // The lock of the killed run is free; that of apt is not.
    scene.process("sh -c until [ -e");
    let mut next = scene.apply(&["--verbose"]).spawn();
    next.wait_for(" of 10m");
    // Nor does an interrupt have to wait for it.
    next.signal(2);
    next.wait().exits(1).shows("the run was stopped while it waited for ");
    let mut next = scene.apply(&["--verbose"]).spawn();
    next.wait_for(" of 10m");
    scene.let_go();
    next.wait().exits(0);
    scene.has_converged();
}

#[test]
fn kills_of_the_worker_in_a_download_leave_nothing_of_it() {
    let Some(sandbox) = Sandbox::fresh("download") else { return };
    let scene = Scene::of(sandbox);
    // It begins to answer, and says no more.
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    server.set_nonblocking(true).unwrap();
    let keys = format!(
        "url = \"http://{}/f\", path = \"/srv/f\", sha256 = \"{}\"",
        server.local_addr().unwrap(),
        "0".repeat(64)
    );
    let text = format!(
        "description = \"d\"\nsupports = [\"debian 12\"]\n[[resource]]\nname = \"r\"\ndownload = {{ {keys} }}\n"
    );
    fs::write(&scene.recipe, text).unwrap();
    let client = scene.apply(&[]).spawn();
    let (mut stream, _) = soon("a request", || server.accept().ok());
    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nbeginning").unwrap();
    let files = "find /var/lib/toril/downloads /var/lib/toril/unfinished /srv -mindepth 1 || :";
    soon("the beginning", || scene.sandbox.sudo(files).contains(&"0".repeat(64)).then_some(()));
    scene.process("apt-helper ");
    kill(scene.process(" agent-worker "));
    client.wait().exits(1).shows("the agent's worker died before the run ended");
    scene.is_gone("apt-helper ");
    soon("the removal of the beginning", || scene.sandbox.sudo(files).is_empty().then_some(()));
    scene.left_nothing();
}

#[test]
fn kills_of_the_connection_in_apply_are_got_over() {
    if !by_openssh() {
        return;
    }
    let Some(scene) = Scene::of_apt("cut") else { return };
    let client = scene.applying(&["--json"]);
    // On this side, and then on the host's.
    let front = scene.front();
    let master = soon("the master", || scene.master());
    kill(master);
    soon("another master", || scene.master().filter(|other| *other != master));
    soon("another front", || (scene.front() != front).then_some(()));
    let front = scene.front();
    scene.cut_off(front);
    soon("one more front", || (scene.front() != front).then_some(()));
    scene.let_go();
    scene.told_everything(&client.wait().exits(0));
    scene.has_converged();
}

/// The worker does not come up before it is let go, so the client has not heard of a run when it loses its connection.
#[test]
fn kills_before_the_run_is_known_begin_it_once() {
    if !by_openssh() {
        return;
    }
    const WAIT: &str =
        "#!/bin/sh\nuntil [ -e /tmp/go ]; do sleep 0.05; done\nexec /usr/bin/setsid.real \"$@\"\n";
    let Some(sandbox) = Sandbox::fresh("begin") else { return };
    let scene = Scene::of(sandbox);
    scene.sandbox.sudo(&format!(
        "mv /usr/bin/setsid /usr/bin/setsid.real; printf \"%s\" \"$(cat <<\"END\"\n{WAIT}END\n)\" > /usr/bin/setsid; chmod 755 /usr/bin/setsid"
    ));
    let suite = Path::new(&scene.recipe).with_file_name("once.toml");
    let text = "description = \"d\"\nrun-as = \"debian\"\n[[test]]\nname = \"once\"\n\
        command = [\"sh\", \"-c\", \"echo ran >> /tmp/ran\"]\n";
    fs::write(&suite, text).unwrap();
    let begin = || {
        let client =
            scene.call(&["test", &scene.host(), "--json", "--suite", suite.to_str().unwrap()]).spawn();
        (client, scene.process(" agent-worker "), scene.front())
    };
    let lose: [&dyn Fn(u32); 3] = [
        // The worker's program is gone with the front: the next front begins the run.
        &|front| kill(front),
        // The front is still there, and its worker comes up: the next front follows it.
        &|_| kill(scene.master().unwrap()),
        &|front| scene.cut_off(front),
    ];
    for (number, lose) in lose.into_iter().enumerate() {
        let (mut client, waiting, front) = begin();
        lose(front);
        client.wait_for("\"event\":\"lost\"");
        soon("another front", || (scene.fronts().iter().any(|other| *other != front)).then_some(()));
        assert!(command_line(waiting).contains(" agent-worker "), "the first worker is not there any more");
        scene.let_go();
        scene.told_everything(&client.wait().exits(0));
        scene.sandbox.is_clean();
        let once = format!("{}\n", number + 1);
        assert_eq!(scene.sandbox.sudo("grep -c ran /tmp/ran"), once, "runs of the test");
        assert_eq!(scene.sandbox.sudo("ls /var/lib/toril/journals | wc -l"), once, "journals");
        scene.sandbox.sudo("rm /tmp/go");
    }
    scene.left_nothing();
}

#[test]
fn interrupts_in_apply_end_it_at_a_safe_point_or_leave_at_once() {
    let Some(scene) = Scene::of_apt("ctrlc") else { return };
    let text = fs::read_to_string(&scene.recipe).unwrap();
    let later = "[[resource]]\nname = \"later\"\nfile = { path = \"/etc/later\", content = \"x\\n\" }\nneeds = [\"a program\"]\n";
    fs::write(&scene.recipe, format!("{text}\n{later}")).unwrap();

    let mut client = scene.applying(&[]);
    client.signal(2);
    client.wait_for("stopping at the next safe point");
    // apt is not torn apart; what is left is not begun.
    sleep(Duration::from_secs(2));
    scene.process("sh -c until [ -e");
    scene.let_go();
    let stopped = client.wait().exits(1).shows("stopped before the end, as was asked");
    stopped.shows("changed a program").shows("skipped later: the run was stopped");
    scene.sandbox.sudo("test ! -e /etc/later");
    scene.left_nothing();
    scene.sandbox.is_clean();

    scene.sandbox.sudo("rm /tmp/go; apt-get remove -qq make -o DPkg::Pre-Invoke::=true & sleep 1; touch /tmp/go; wait; rm /tmp/go");
    let mut client = scene.applying(&[]);
    client.signal(2);
    client.wait_for("stopping at the next safe point");
    client.signal(2);
    client.wait().exits(1);
    scene.master_ends();
    scene.let_go();
    scene.call(&["attach", &scene.host()]).run().exits(1).shows("stopped before the end");
    scene.left_nothing();
    scene.apply(&[]).run().exits(0);
    scene.has_converged();
}

#[test]
fn interrupts_before_anything_was_done_end_it_at_once() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let host = format!("debian@127.0.0.1:{}", silent.local_addr().unwrap().port());
    let files = tempfile::tempdir().unwrap();
    let path = files.path().to_str().unwrap();
    let call = Toril::new(&["check", &host, "--connect-timeout", "600s"]).env("TMPDIR", path);
    let mut client = call.env("XDG_RUNTIME_DIR", path).spawn();
    client.wait_for("hosts ");
    let _connection = silent.accept().unwrap();
    client.signal(2);
    client.wait().exits(1).takes_at_most(SOON).shows("interrupted before anything was done");
    assert_eq!(fs::read_dir(path).unwrap().count(), 0, "something is left");
}

/// Ctrl-C on a terminal goes to all of its foreground's processes. The machine itself is here one of a sandbox, which
/// has the program as its agent.
#[test]
fn interrupts_of_a_terminal_leave_the_agent_of_the_machine_itself_alone() {
    let Some(sandbox) = Sandbox::fresh("local") else { return };
    let scene = Scene::of(sandbox);
    scene.call(&["facts", &scene.host()]).run().exits(0);
    let suite = fs::read_to_string(waiting_suite(&scene)).unwrap();
    // A shell with job control makes a process group of the client, as one on a terminal does.
    let script = r#"
        set -m
        $(ls -t /var/lib/toril/agents/toril-* | head -n 1) test local --suite /tmp/suite.toml > /tmp/out 2>&1 &
        until ps -e -o args | grep -q "^sleep 0.05"; do sleep 0.1; done
        ps -e -o pid=,sid=,args= | grep " agent$" | { read -r pid sid rest; test $pid = $sid; echo own session; }
        kill -INT -- -$!; status=0; wait $! || status=$?; cat /tmp/out; echo ended with $status
    "#;
    scene.sandbox.sudo(&format!("cat > /tmp/suite.toml <<'END'\n{suite}END\n"));
    let seen = scene.sandbox.sudo(&format!("bash -euc '{script}'"));
    for text in ["own session", "skipped waits", "stopped before the end, as was asked", "ended with 1"] {
        assert!(seen.contains(text), "{text:?} is not shown: {seen}");
    }
    scene.sandbox.is_clean();
}

/// A test that ends when it is told to.
fn waiting_suite(scene: &Scene) -> String {
    let path = Path::new(&scene.recipe).with_file_name("suite.toml");
    let text = "description = \"waits\"\nrun-as = \"debian\"\ndeadline = \"10m\"\n[[test]]\nname = \"waits\"\n\
        command = [\"sh\", \"-c\", \"echo begun; until [ -e /tmp/go ]; do sleep 0.05; done\"]\n\
        [[test]]\nname = \"after\"\ncommand = [\"true\"]\n";
    fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn kills_and_interrupts_in_test_leave_nothing_of_it() {
    let Some(sandbox) = Sandbox::fresh("test") else { return };
    let scene = Scene::of(sandbox);
    let suite = waiting_suite(&scene);
    let host = scene.host();
    let arguments = ["test", &host, "--suite", &suite];
    let begin = |more: &[&str]| {
        let running = scene.call(&[&arguments, more].concat()).spawn();
        scene.process("sleep 0.05");
        running
    };

    // The worker: the test's processes go with it.
    let client = begin(&[]);
    kill(scene.process(" agent-worker "));
    scene.is_gone("until [ -e");
    client.wait().exits(1).shows("the agent's worker died before the run ended");

    // The front and the connection, with one client that sees it all.
    let client = begin(&["--json"]);
    let front = scene.front();
    kill(front);
    soon("another front", || (scene.front() != front).then_some(()));
    let front = scene.front();
    scene.cut_off(front);
    soon("one more front", || (scene.front() != front).then_some(()));
    scene.sandbox.ssh("touch /tmp/go");
    scene.told_everything(&client.wait().exits(0));
    scene.sandbox.is_clean();

    // The client: the run goes on to its end.
    scene.sandbox.ssh("rm /tmp/go");
    let client = begin(&[]);
    client.signal(9);
    drop(client);
    scene.master_ends();
    scene.process("until [ -e");
    scene.sandbox.ssh("touch /tmp/go");
    scene.call(&["attach", &host]).run().exits(0).shows("passed waits").shows("passed after");
    scene.sandbox.is_clean();
    scene.left_nothing();

    // Ctrl-C once, then twice.
    scene.sandbox.ssh("rm /tmp/go");
    let client = begin(&[]);
    client.signal(2);
    let stopped = client.wait().exits(1).takes_at_most(SOON);
    stopped.shows("skipped waits").shows("skipped after").shows("stopped before the end, as was asked");
    scene.sandbox.is_clean();
    scene.left_nothing();
    let mut client = begin(&[]);
    client.signal(2);
    client.wait_for("stopping");
    client.signal(2);
    client.wait().exits(1).takes_at_most(SOON);
    scene.master_ends();
    scene.sandbox.is_clean();

    // And all is as if nothing had been.
    scene.sandbox.ssh("touch /tmp/go");
    scene.call(&arguments).run().exits(0).shows("2 passed");
    scene.sandbox.is_clean();
    scene.left_nothing();
}

#[test]
fn kills_while_a_guest_hangs_take_the_guest_along() {
    let Some(sandbox) = Sandbox::provisioned("guest") else { return };
    let scene = Scene::of(sandbox);
    let host = scene.host();
    let hang = ["test", &host, "--filter", "boot", "--set", "mode=hang", "--accel", "tcg"];
    let begin = |more: &[&str]| {
        let running = scene.call(&[&hang, more].concat()).spawn();
        scene.process("qemu-system-x86_64 ");
        running
    };
    let client = begin(&[]);
    kill(scene.process(" agent-worker "));
    scene.is_gone("qemu-system-x86_64 ");
    client.wait().exits(1).shows("the agent's worker died before the run ended");

    let client = begin(&["--json"]);
    scene.cut_off(scene.front());
    let lost = begin_attached(&scene, &host);
    lost.signal(9);
    drop(lost);
    // The client comes back and sees the guest's verdict; nobody else is needed for it.
    let finished = client.wait().exits(4);
    assert_eq!(finished.results()[0]["outcome"], "timed-out", "{finished}");
    scene.told_everything(&finished);
    scene.sandbox.is_clean();
    scene.call(&["attach", &host]).run().exits(4).shows("timed out boot");
    scene.call(&["test", &host, "--accel", "tcg"]).run().exits(0);
    scene.sandbox.is_clean();
}

/// One more client that follows the run.
fn begin_attached(scene: &Scene, host: &str) -> Running {
    let mut attached = scene.call(&["attach", host]).spawn();
    attached.wait_for("1 test as user");
    attached
}

/// A guest with a shared directory, beside which a companion runs.
const PARTS: &str = r#"
description = "d"
[[test]]
name = "t"
deadline = "10m"
cases = "toril"
[test.guest]
kernel = "builtin:toolkit"
append = "cases=1 seconds=500 fs={{ guest.tag }} read=input"
share = { dir = "/srv/share", tag = "data" }
[test.companion]
command = ["socat", "TCP-LISTEN:0,bind=127.0.0.1,fork", "PIPE"]
"#;

/// Asserts that of a run nothing is left but its journal.
#[track_caller]
fn is_swept(scene: &Scene, since: Instant) {
    let left = || {
        // A connection is the client's, whose ssh takes its own time to notice that it was killed.
        let is_of_run = |line: &String| !line.contains(": sshd: ");
        let processes: Vec<String> = scene.sandbox.processes().into_iter().filter(is_of_run).collect();
        let found = "find /var/lib/toril/runs -mindepth 1; find /var/lib/toril/journals -type p -o -name source.tar.gz; \
            find / -xdev -type s -path \"*toril*\"; grep -e toril /proc/mounts || :";
        let files = if processes.is_empty() { scene.sandbox.sudo(found) } else { String::new() };
        (processes, files)
    };
    loop {
        let (processes, files) = left();
        if processes.is_empty() && files.is_empty() {
            return;
        }
        // All of it would stay for minutes if nobody ended it.
        assert!(since.elapsed() < SOON, "left after {SOON:?}: {processes:#?}\n{files}");
        sleep(Duration::from_millis(20));
    }
}

#[test]
fn kills_and_cancels_leave_no_process_socket_or_directory() {
    let Some(sandbox) = Sandbox::provisioned("swept") else { return };
    let scene = Scene::of(sandbox);
    let host = scene.host();
    scene
        .sandbox
        .sudo("mkdir -p /srv/share; echo from the host > /srv/share/input; chmod -R a+rX /srv/share");
    let suite = Path::new(&scene.recipe).with_file_name("parts.toml");
    fs::write(&suite, PARTS).unwrap();
    let begin = || {
        let client =
            scene.call(&["test", &host, "--accel", "tcg", "--suite", suite.to_str().unwrap()]).spawn();
        for part in ["qemu-system-x86_64 ", "virtiofsd ", "socat TCP-LISTEN"] {
            scene.process(part);
        }
        client
    };
    scene.call(&["cancel", &host]).run().exits(1).shows("no run is at work on this host; the newest, ");

    // The client of the killed run is told, and so is who asks later.
    let client = begin();
    kill(scene.process(" agent-worker "));
    let killed = Instant::now();
    client.wait().exits(1).shows("the agent's worker died before the run ended: it was killed");
    is_swept(&scene, killed);
    let attached = scene.call(&["attach", &host]).run().exits(1);
    attached.shows("the agent's worker died before the run ended: it was killed");
    assert_eq!(scene.journal().last().unwrap()["kind"], "ended");
    scene.call(&["cancel", &host]).run().exits(1).shows("no run is at work on this host");

    // Its client does not have to be there.
    let client = begin();
    client.signal(9);
    drop(client);
    let cancelled = scene.call(&["cancel", &host]).run().exits(0);
    is_swept(&scene, Instant::now());
    cancelled.shows("skipped t").shows("stopped before the end, as was asked");
    let name = scene.sandbox.sudo("ls /var/lib/toril/journals | tail -n 1");
    let again = scene.call(&["cancel", &host, name.trim()]).run().exits(1);
    again.shows(&format!("run {} has ended already", name.trim()));
    scene.call(&["cancel", &host, "no-such"]).run().exits(1).shows("the host knows of no run no-such");
    scene.master_ends();
    scene.call(&["attach", &host]).run().exits(1).shows("stopped before the end, as was asked");
    scene.left_nothing();
}
