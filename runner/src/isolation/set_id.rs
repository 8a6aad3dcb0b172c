//! What a daemon that is root must not do for a guest: make programs that run with root's rights.

use std::collections::BTreeMap;

use seccompiler::{
    BackendError, BpfProgram, Error, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition,
    SeccompFilter, SeccompRule, TargetArch, apply_filter,
};

/// The bits of a file's mode by which a program runs with the rights of the file's owner or group.
const BITS: [u64; 2] = [0o4000, 0o2000];

/// The calls that give a mode, and which of their arguments it is. Of those that open a file, it is 0 where none is made.
const CALLS: [(i64, u8); 9] = [
    (libc::SYS_chmod, 1),
    (libc::SYS_fchmod, 1),
    (libc::SYS_fchmodat, 2),
    (libc::SYS_fchmodat2, 2),
    (libc::SYS_mknod, 1),
    (libc::SYS_mknodat, 2),
    (libc::SYS_creat, 1),
    (libc::SYS_open, 2),
    (libc::SYS_openat, 3),
];

/// Those whose arguments cannot be looked at.
const HIDDEN: [i64; 2] = [libc::SYS_openat2, libc::SYS_io_uring_setup];

/// Keeps this thread, and what it starts, from making files that run with their owner's or group's rights, for good. An error
/// is why it cannot be kept from that.
pub(super) fn forbid_set_id() -> Result<(), String> {
    let forbid = || apply_filter(&filter()?);
    forbid().map_err(|error| format!("cannot keep it from making programs with root's rights: {error}"))
}

fn filter() -> Result<BpfProgram, Error> {
    let rules = |argument: u8| -> Result<Vec<SeccompRule>, BackendError> {
        let rule = |bit: u64| {
            let set = SeccompCmpOp::MaskedEq(bit);
            SeccompRule::new(vec![SeccompCondition::new(argument, SeccompCmpArgLen::Dword, set, bit)?])
        };
        BITS.map(rule).into_iter().collect()
    };
    let mut calls = BTreeMap::new();
    for (call, argument) in CALLS {
        calls.insert(call, rules(argument)?);
    }
    calls.extend(HIDDEN.map(|call| (call, Vec::new())));
    let refused = SeccompAction::Errno(libc::EPERM.unsigned_abs());
    let filter = SeccompFilter::new(calls, SeccompAction::Allow, refused, TargetArch::x86_64)?;
    Ok(filter.try_into()?)
}

#[cfg(test)]
mod tests {
    use std::fs::{self, DirBuilder, OpenOptions, Permissions};
    use std::io;
    use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
    use std::process::Command;
    use std::thread;

    use super::*;

    #[test]
    fn a_thread_and_its_programs_give_no_rights_away_and_do_all_else() {
        let folder = tempfile::tempdir().unwrap();
        let of = |name: &str| folder.path().join(name);
        fs::write(of("file"), "").unwrap();
        let mode = |mode: u32| fs::set_permissions(of("file"), Permissions::from_mode(mode));
        let make = |name: &str, mode: u32| {
            OpenOptions::new().write(true).create_new(true).mode(mode).open(of(name)).map(drop)
        };
        let refused = |done: io::Result<()>| {
            assert_eq!(done.unwrap_err().kind(), io::ErrorKind::PermissionDenied);
        };
        // A filter is of the thread that asks for it, and stays.
        let held = thread::scope(|scope| {
            let work = || {
                forbid_set_id().unwrap();
                for set in [0o4755, 0o2755, 0o6000] {
                    refused(mode(set));
                    refused(make("made", set));
                }
                mode(0o1755).unwrap();
                make("made", 0o777).unwrap();
                DirBuilder::new().mode(0o755).create(of("directory")).unwrap();
                fs::read(of("file")).unwrap();
                let script = "chmod u+s file && exit 1; chmod g+s file && exit 2; chmod 700 file";
                Command::new("sh").args(["-c", script]).current_dir(folder.path()).output().unwrap()
            };
            scope.spawn(work).join().unwrap()
        });
        assert!(held.status.success(), "{held:?}");
        assert_eq!(fs::metadata(of("file")).unwrap().mode() & 0o7777, 0o700);
        mode(0o4755).unwrap();
    }
}
