//! What apt and dpkg failed at, by what they print: whether it may be gone in a moment, what can be mended, and what
//! to say of it.

use crate::resource::ResourceError;

/// A step of apt's or dpkg's that failed.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) error: ResourceError,
    pub(super) cause: Cause,
}

/// What can be done about it without anybody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Cause {
    /// Somebody else took a lock in between.
    Locked,
    /// A mirror, or the way to it.
    Mirror,
    /// What came from a mirror is not what it should be: what is left of it is of no use either.
    Spoiled,
    /// Apt cannot read its package lists, or its caches of them.
    Lists,
    /// dpkg cannot read these package files, which apt has fetched once: the names that they have there.
    Archives(Vec<String>),
    /// Nothing.
    Other,
}

impl From<ResourceError> for Failure {
    fn from(error: ResourceError) -> Failure {
        Failure { error, cause: Cause::Other }
    }
}

impl Failure {
    /// Of what a program printed that failed. `log`: where all of that is.
    pub(super) fn of(program: &str, args: &[&str], status: &str, output: &str, log: &str) -> Failure {
        Failure { error: explain(program, args, status, output, log), cause: cause(output) }
    }

    /// Of an error that quotes what a program printed.
    pub(super) fn of_error(error: ResourceError) -> Failure {
        // A cache that apt dies of is no better than one that it finds fault with.
        let died =
            ["was killed by signal 11", "was killed by signal 7"].iter().any(|sign| error.0.contains(sign));
        let cause = if died {
            Cause::Lists
        } else {
            cause(&error.0.replace(": E: ", "\nE: ").replace(": W: ", "\nW: "))
        };
        Failure { error, cause }
    }
}

/// The lines of apt's and dpkg's own on what went wrong, without those of packages' scripts, which print anything.
fn own_lines<'t>(output: &'t str, starts: &[&str]) -> Vec<&'t str> {
    let mut goes_on = false;
    let mut lines = Vec::new();
    for line in output.lines() {
        let words = line.trim_start();
        let is_start = starts.iter().any(|start| words.starts_with(start));
        // What such a line says goes on in lines that are indented.
        goes_on = is_start || (goes_on && line.starts_with(' ') && !words.is_empty());
        if goes_on {
            lines.push(line);
        }
    }
    lines
}

const OF_APT: [&str; 3] = ["E: ", "W: ", "Err:"];
const OF_BOTH: [&str; 6] =
    ["E: ", "W: ", "Err:", "dpkg: error", "dpkg-deb: error", "dpkg: dependency problems"];

const SCRIPT: &str = "script subprocess returned error";

fn cause(output: &str) -> Cause {
    let has = |lines: &[&str], signs: &[&str]| {
        lines.iter().any(|line| signs.iter().any(|sign| line.contains(sign)))
    };
    let all = own_lines(output, &OF_BOTH);
    // dpkg's own database is none of apt's lists.
    let apt: Vec<&str> = own_lines(output, &OF_APT);
    let of_lists: Vec<&str> = apt.iter().copied().filter(|line| !line.contains("/var/lib/dpkg/")).collect();
    let of_database = apt.iter().any(|line| line.contains("parse package file /var/lib/dpkg/"));
    let archives = damaged_archives(output);
    if has(&all, &[SCRIPT]) {
        Cause::Other
    } else if has(&all, &LOCK_SIGNS) {
        Cause::Locked
    } else if !archives.is_empty() {
        Cause::Archives(archives)
    } else if has(&of_lists, &LIST_SIGNS) && !of_database {
        Cause::Lists
    } else if has(&apt, &SPOILED_SIGNS) {
        Cause::Spoiled
    } else if has(&apt, &MIRROR_SIGNS) {
        Cause::Mirror
    } else {
        Cause::Other
    }
}

const LOCK_SIGNS: [&str; 5] = [
    "Could not get lock",
    "Unable to acquire the dpkg frontend lock",
    "Unable to lock directory",
    "Unable to lock the administration directory",
    "locked by another process",
];

const LIST_SIGNS: [&str; 8] = [
    "could not be parsed",
    "Unable to parse package file",
    "Problem with MergeList",
    "Encountered a section with no Package: header",
    "cache file is corrupted",
    "cache file is an incompatible version",
    "LZ4F",
    "Unexpected end of file",
];

const SPOILED_SIGNS: [&str; 3] = ["unexpected size", "Mirror sync in progress", "Hash Sum mismatch"];

const MIRROR_SIGNS: [&str; 14] = [
    "Connection reset",
    "Connection failed",
    "Connection timed out",
    "Could not connect",
    "Cannot initiate",
    "Error reading from server",
    "Remote end closed connection",
    "Temporary failure resolving",
    "Undetermined",
    "  500  ",
    "  502  ",
    "  503  ",
    "  504  ",
    "Service Unavailable",
];

/// Package files of apt's that dpkg could not read, by the names that they have where apt keeps them.
fn damaged_archives(output: &str) -> Vec<String> {
    let lines: Vec<&str> = output.lines().collect();
    let found = lines.iter().enumerate().filter_map(|(index, line)| {
        let path = line.strip_prefix("dpkg: error processing archive ")?.split(" (").next()?;
        // Of the other things that can be wrong with a package, this is what its file is to blame for.
        let reason = lines.get(index + 1)?;
        let signs =
            ["dpkg-deb ", "not a Debian format archive", "corrupted filesystem", "unexpected end of file"];
        let is_damaged = signs.iter().any(|sign| reason.contains(sign)) && !reason.contains("No space left");
        let name = path.rsplit('/').next().filter(|_| is_damaged)?;
        // Where there are many, dpkg gets a directory of links, which are numbered.
        let name = match path.contains("/apt-dpkg-install-") {
            true => name.split_once('-').map_or(name, |(_, name)| name),
            false => name,
        };
        Some(name.to_owned())
    });
    let mut found: Vec<String> = found.collect();
    found.dedup();
    found
}

/// Signs among apt's and dpkg's own lines, and remedies; the first one that is there counts.
const REMEDIES: [(&str, &str); 18] = [
    (SCRIPT, "a package's own script fails; mend what it says, and run this again: it goes on from there"),
    ("have enough free space", "the disk is too small for this; free some space and run this again"),
    ("Unable to locate package", "no source has this package; look at /etc/apt/sources.list*"),
    ("Temporary failure resolving", "the mirror's name cannot be resolved; look at the host's DNS"),
    (
        "Connection failed",
        "a mirror, or the proxy to it, closed the connection; look at the host's network and at /etc/apt/apt.conf.d",
    ),
    (
        "Could not connect",
        "a mirror, or the proxy to it, cannot be reached; look at the host's network and at /etc/apt/apt.conf.d",
    ),
    (
        "Cannot initiate",
        "a mirror, or the proxy to it, cannot be reached; look at the host's network and at /etc/apt/apt.conf.d",
    ),
    (
        "404  Not Found",
        "a source names a suite that its mirror no longer has; look at /etc/apt/sources.list*",
    ),
    (
        "EXPKEYSIG",
        "a key that signs a source has expired: name the release files that you know by `in-release` of apt-source \
         (microvm-host: the variable `in_release`), or a mirror that is signed anew",
    ),
    (
        "BADSIG",
        "a source is not what was signed: somebody altered it, or it broke on the way; nothing of it is used",
    ),
    ("is not valid yet", "the host's clock is wrong"),
    (
        "Mirror sync in progress",
        "a mirror has lists that do not go together, as while it is brought up to date; run this again later",
    ),
    (
        "Held packages were changed",
        "a package that has to change is held; `apt-mark unhold` it, or say `hold` in the recipe",
    ),
    (
        "but remove is disabled",
        "dependencies are broken, and apt could only mend them by taking packages away: look at `apt-get install \
         --fix-broken`, and decide by hand",
    ),
    (
        "Conflicting values set for option",
        "two lists name the same suite with other options; take one out of use (`replaces` of apt-source)",
    ),
    (
        "you have held broken packages",
        "what is to be installed does not fit what is; does a source lack the updates of what is?",
    ),
    ("was not found", "no source has this release of the package; look at /etc/apt/sources.list*"),
    ("Could not get lock", "somebody else is at work on packages; run this again when that has ended"),
];

/// Turns a failure's output into cause and remedy.
fn explain(program: &str, args: &[&str], status: &str, output: &str, log: &str) -> ResourceError {
    let lines: Vec<&str> = output.lines().filter(|line| !line.trim().is_empty()).collect();
    let is_error = |line: &&str| {
        line.starts_with("E: ")
            || line.contains(SCRIPT)
            || line.starts_with("dpkg: error")
            || line.contains("No space left on device")
    };
    let errors: Vec<&str> = lines.iter().copied().filter(is_error).collect();
    let shown = match errors.is_empty() {
        true => &lines[lines.len().saturating_sub(5)..],
        false => &errors[..errors.len().min(6)],
    };
    ResourceError(format!(
        "`{program} {}` failed ({status}): {}\n  {} (all of its output: {log})",
        args.first().unwrap_or(&""),
        remedy(output),
        shown.join("\n  "),
    ))
}

fn remedy(output: &str) -> String {
    // A full disk is said by whoever met it, and whatever else failed did so for that.
    if output.contains("No space left on device") {
        return "the disk is full; free some space and run this again".into();
    }
    let own = own_lines(output, &OF_BOTH);
    let lost = own.iter().find_map(|line| {
        let (before, _) = line.split_once(" needs to be reinstalled, but I can't find an archive for it")?;
        before.rsplit(' ').next()
    });
    if let Some(name) = lost {
        return format!(
            "{name} is damaged, and no source has its package: add the source that does, or give it up by `dpkg --remove \
             --force-remove-reinstreq {name}`; then run this again"
        );
    }
    let known = REMEDIES.iter().find(|(sign, _)| own.iter().any(|line| line.contains(sign)));
    known.map_or("see its errors", |(_, remedy)| remedy).to_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(output: &str) -> (Cause, String) {
        let failure = Failure::of("apt-get", &["install", "a"], "exit status: 100", output, "/log");
        (failure.cause, failure.error.to_string())
    }

    proptest! {
        #[test]
        fn any_output_is_judged(text in r"(dpkg: error processing archive |E: |W: |Err:|/x-y\.deb \(|[a-z :\n(/-]|é){0,40}") {
            let _ = of(&text);
        }
    }

    #[test]
    fn a_full_disk_is_recognised() {
        let output = "Unpacking a ...\ndpkg: error processing archive /x.deb (--unpack):\n cannot copy: failed to write (No space left on device)\nE: Sub-process /usr/bin/dpkg returned an error code (1)\n";
        let (cause, error) = of(output);
        assert!(error.contains("the disk is full") && error.contains("Sub-process"), "{error}");
        assert_eq!(cause, Cause::Other);
    }

    #[test]
    fn what_a_script_prints_is_none_of_apts() {
        let output = "Setting up a (1) ...\nCould not connect to the database at localhost:5432\nCould not get lock\n\
            dpkg: error processing package a (--configure):\n installed a package post-installation script subprocess \
            returned error exit status 1\nErrors were encountered while processing:\n a\nE: Sub-process /usr/bin/dpkg \
            returned an error code (1)\n";
        let (cause, error) = of(output);
        assert_eq!(cause, Cause::Other);
        assert!(error.contains("a package's own script fails"), "{error}");
    }

    #[test]
    fn causes_are_told_by_apts_own_lines() {
        let cause = |output: &str| of(output).0;
        for locked in [
            "E: Could not get lock /var/lib/dpkg/lock-frontend. It is held by process 7 (apt-get)\n",
            "E: Unable to lock directory /var/lib/apt/lists/\n",
            "dpkg: error: dpkg frontend lock was locked by another process with pid 7\n",
        ] {
            assert_eq!(cause(locked), Cause::Locked, "{locked}");
        }
        for mirror in [
            "E: Failed to fetch http://m/x  503  Service Unavailable [IP: 1.1.1.1 80]\n",
            "E: Failed to fetch http://m/x  502  Bad Gateway [IP: 1.1.1.1 80]\n",
            "E: Failed to fetch http://m/x  Cannot initiate the connection to m:80 (::1).\n",
            "Err:1 http://m b InRelease\n  Undetermined Error [IP: 1.1.1.1 80]\n",
        ] {
            assert_eq!(cause(mirror), Cause::Mirror, "{mirror}");
        }
        let spoiled = "E: Failed to fetch http://m/Packages.gz  File has unexpected size (5 != 6). Mirror sync in progress?\n";
        assert_eq!(cause(spoiled), Cause::Spoiled);
        assert_eq!(cause("E: Unable to locate package x\n"), Cause::Other);
        for lists in [
            "E: Unable to parse package file /var/lib/apt/lists/m_Packages (1)\n",
            "E: The package lists or status file could not be parsed or opened.\n",
            "E: The package cache file is corrupted\n",
            "E: LZ4F: /var/lib/apt/lists/m_Packages.lz4 Read error (ERROR_frameHeader_incomplete)\n",
        ] {
            assert_eq!(cause(lists), Cause::Lists, "{lists}");
        }
        let database = "E: Unable to parse package file /var/lib/dpkg/status (1)\nE: The package lists or status file could not be parsed or opened.\n";
        assert_eq!(cause(database), Cause::Other);
        let quoted = ResourceError(
            "`apt-cache policy` exited with status 100: E: The package cache file is corrupted".into(),
        );
        assert_eq!(Failure::of_error(quoted).cause, Cause::Lists);
    }

    #[test]
    fn archives_that_dpkg_cannot_read_are_named() {
        let output = "dpkg-deb: error: '/var/cache/apt/archives/a_1_all.deb' is not a Debian format archive\n\
            dpkg: error processing archive /var/cache/apt/archives/a_1_all.deb (--unpack):\n \
            dpkg-deb --control subprocess returned error exit status 2\n\
            dpkg: error processing archive /tmp/apt-dpkg-install-x1/12-b-c_2%3a1_all.deb (--unpack):\n \
            dpkg-deb --control subprocess returned error exit status 2\n\
            dpkg: error processing archive /var/cache/apt/archives/d_1_all.deb (--unpack):\n \
            trying to overwrite '/e', which is also in package f 1\n\
            E: Sub-process /usr/bin/dpkg returned an error code (1)\n";
        assert_eq!(of(output).0, Cause::Archives(vec!["a_1_all.deb".into(), "b-c_2%3a1_all.deb".into()]));
    }

    #[test]
    fn a_damaged_package_that_is_nowhere_is_named_with_what_to_do() {
        let output = "E: The package old needs to be reinstalled, but I can't find an archive for it.\n";
        let (_, error) = of(output);
        assert!(error.contains("`dpkg --remove --force-remove-reinstreq old`"), "{error}");
    }
}
