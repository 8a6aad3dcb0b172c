//! All of torokernel's continuous integration in one command, with what can be had here.

use std::fs;
use std::time::Duration;

use crate::harness::{Finished, Sandbox, toril};
use crate::sources::Repository;

/// Stands in for the files of Toro's release, which are not to be had here: a compiler that knows its version and nothing
/// else, and units that are one file without content. Says the hashes of both.
const RELEASE: &str = r#"
mkdir -p /srv/release
cd /srv/release
printf '#!/bin/sh\ntest "$1" = -iV && echo 3.2.2\n' > ppcx64
chmod 755 ppcx64
: > system.ppu
tar -cf ppcx64.tar ppcx64
tar -cf x86_64-toro-rtl.tar system.ppu
sha256sum ppcx64.tar x86_64-toro-rtl.tar | cut -c -64
"#;

/// What the suite's tests launch.
const KERNELS: [&str; 7] = [
    "process/TestProcess.elf",
    "memory/TestMemory.elf",
    "misc/TestPerCPUAlign.elf",
    "filesystem/TestFilesystem.elf",
    "networking/TestNetworking.elf",
    "benchmarks/TestBootTime.elf",
    "benchmarks/TestKernelInitTime.elf",
];

/// A checkout whose kernels stand in for Toro's, which nothing here can build: they are the toolkit's, as it is on the host.
fn checkout(sandbox: &Sandbox) -> Repository {
    let companion = "import time\nprint('Launching client test')\ntime.sleep(20)\n";
    let files = [
        (".gitignore", "*.elf\n"),
        ("tests/networking/testnetworking.py", companion),
        ("tests/filesystem/testfiles/bigfile", "x"),
    ];
    let repository = Repository::with("", &files);
    let kernel = sandbox.read_bytes("/var/lib/toril/kernels/toolkit-*.elf");
    for name in KERNELS {
        let path = repository.path().join("tests").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, &kernel).unwrap();
    }
    repository
}

#[test]
fn one_command_makes_the_host_and_judges_kernels_that_are_not_toros() {
    let Some(sandbox) = Sandbox::provisioned("toro") else { return };
    let host = sandbox.host();
    toril(&["test", &host, "--filter", "boot"]).exits(0);
    let repository = checkout(&sandbox);
    let hashes = sandbox.sudo(RELEASE);
    let (compiler, units) = hashes.trim().split_once('\n').unwrap();
    let vars = [
        "toro_release=file:///srv/release".to_owned(),
        format!("toro_compiler_sha256={compiler}"),
        format!("toro_units_sha256={units}"),
    ];
    let call = |command: &str, paths: &str, more: &[&str]| -> Finished {
        let paths = format!("toro_paths={paths}");
        let mut words = vec![command, &host, "--recipe", "torokernel", "--var", &paths];
        words.extend(vars.iter().flat_map(|var| ["--var", var]));
        words.extend(more);
        repository.toril(&words).deadline(Duration::from_secs(900)).run()
    };
    let leads_to = |link: &str, target: &str| {
        assert_eq!(sandbox.sudo(&format!("readlink {link}; test -x {link}")), format!("{target}\n"));
    };

    // They end well, and without a word of what Toro's tests say: that is no success.
    let up = call("up", "head", &["--suite", "torokernel", "--json"]).exits(4);
    let results = up.results();
    assert_eq!(results.len(), KERNELS.len(), "{up}");
    for result in &results {
        assert_ne!(result["outcome"], "passed", "{result}{up}");
    }
    for result in &results[..4] {
        assert_eq!(result["outcome"], "incomplete", "{result}{up}");
    }
    sandbox.is_clean();
    leads_to("/root/source-fpc", "/opt/toro");
    leads_to("/root/qemuforvmm/build/qemu-system-x86_64", "/usr/bin/qemu-system-x86_64");
    leads_to("/root/virtiofsd/target/release/virtiofsd", "/usr/lib/qemu/virtiofsd");
    leads_to("/root/socat-vsock/socat", "/usr/bin/socat");
    assert_eq!(sandbox.sudo("/root/source-fpc/compiler/ppcx64 -iV"), "3.2.2\n");
    sandbox.sudo("test -e /root/source-fpc/rtl/units/x86_64-toro/system.ppu");
    call("check", "head", &[]).exits(0).shows("nothing to change");

    // As after a QEMU of the backports, on a host that has no lists of what its mirrors have.
    sandbox.sudo("rm /usr/lib/qemu/virtiofsd; rm -rf /var/lib/apt/lists/*");
    call("check", "head", &[]).exits(3).shows("virtiofsd that a newer QEMU has lost");
    for (paths, link) in [
        ("2021", "/root/qemuforvmm/build/tools/virtiofsd/virtiofsd"),
        ("head", "/root/virtiofsd/target/release/virtiofsd"),
    ] {
        call("apply", paths, &[]).exits(0);
        leads_to(link, "/usr/local/lib/toril/virtiofsd");
        call("check", paths, &[]).exits(0).shows("nothing to change");
    }
    leads_to("/root/fpc-3.2.0", "/opt/toro");
    leads_to("/root/qemuforvmm/build/x86_64-softmmu/qemu-system-x86_64", "/usr/bin/qemu-system-x86_64");
}
