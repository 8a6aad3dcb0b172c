//! How long the keys hold that the release's package lists are signed with.

use std::fs;
use std::time::SystemTime;

use toril_machine::{Facts, Machine, Probe};

use super::{Check, CheckState};
use crate::apt::keyring;

const NAME: &str = "archive keys";

/// Debian's, of its package debian-archive-keyring: not armoured, all keys in one.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

const REMEDY: &str = "install a newer debian-archive-keyring in time; for a release that is archived, pin its lists (`in-release` of an apt-source), \
    as the recipe for Debian 10 does";

pub(super) fn check(machine: &Machine, facts: &Facts, now: SystemTime) -> Check {
    match Probe::of_io(fs::read(machine.path(KEYRING)), KEYRING) {
        Probe::Known(bytes) => judge(&keyring::keys(&bytes), &facts.codename, now),
        Probe::Absent => unknown(format!("there is no {KEYRING}")),
        Probe::Unreadable(why) => unknown(why),
    }
}

fn unknown(what: String) -> Check {
    Check::trouble(NAME, CheckState::Unknown, what, "see `apt-get update` on the host")
}

fn judge(keys: &[keyring::Key], codename: &str, now: SystemTime) -> Check {
    let suites = [codename.to_owned()];
    if let Some(ends) = keyring::ends(keys, &suites, now) {
        return Check::trouble(NAME, CheckState::Doubtful, ends, REMEDY);
    }
    match keyring::first_end(keys, &suites, now) {
        _ if keys.is_empty() => unknown(format!("{KEYRING} has no keys")),
        Some(end) => Check::fine(NAME, format!("the first {end}")),
        None => Check::fine(NAME, "none ever expires"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn keys_that_end_within_a_year_are_told() {
        const DAY: u64 = 86400;
        let day = |days| SystemTime::UNIX_EPOCH + Duration::from_secs(days * DAY);
        let key = |name: &str, end: Option<u64>| keyring::Key {
            fingerprint: String::new(),
            name: format!("Debian Stable Release Key ({name}) <release@debian.example>"),
            expires: end.map(day),
        };
        let keys = [key("11/bullseye", Some(500)), key("12/bookworm", Some(1000)), key("13/trixie", None)];
        let of = |codename, today| {
            let check = judge(&keys, codename, day(today));
            (check.state, check.what)
        };
        let fine = (CheckState::Fine, "the first expires on 1972-09-27, in 900 days".into());
        assert_eq!(of("bookworm", 100), fine);
        let near = "`Debian Stable Release Key (11/bullseye)` expires on 1971-05-16, in 364 days";
        assert_eq!(of("bullseye", 136), (CheckState::Doubtful, near.into()));
        assert!(of("bullseye", 501).1.ends_with("expired on 1971-05-16, 1 day ago"));
        assert_eq!(of("trixie", 100), (CheckState::Fine, "none ever expires".into()));
        assert_eq!(judge(&[], "trixie", day(1)).state, CheckState::Unknown);
    }
}
