use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::time::Duration;

use super::{Background, DEADLINE, EMULATED_DEADLINE, NESTED_DEADLINE};
use crate::accelerator::Accelerator;
use crate::execute::{Executed, Stage};
use crate::suite::{Suite, Test};
use crate::toolkit::contract::{METRIC, VALUE};

const PROBES: &str = include_str!("probes.toml");

/// Where the probes' guests run.
pub(super) struct Bench<'b> {
    pub stage: Stage<'b>,
    pub background: &'b Background<'b>,
    /// Whether emulated guests will do.
    pub emulation: bool,
}

impl Bench<'_> {
    /// The test of a probe, with these variables.
    pub(super) fn test(
        &self,
        name: &str,
        accelerator: Accelerator,
        vars: &[(&str, &str)],
    ) -> Result<Test, String> {
        let vars: BTreeMap<String, String> =
            vars.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let suite = Suite::parse("verify", PROBES, &vars).map_err(|problems| problems.to_string())?;
        let test = suite.tests.into_iter().find(|test| test.name == name);
        let mut test = test.ok_or_else(|| format!("there is no probe {name}"))?;
        test.deadline = self.deadline(accelerator);
        Ok(test)
    }

    pub(super) fn deadline(&self, accelerator: Accelerator) -> Duration {
        match accelerator {
            Accelerator::Kvm if self.background.guest => NESTED_DEADLINE,
            Accelerator::Kvm => DEADLINE,
            Accelerator::Tcg => EMULATED_DEADLINE,
        }
    }

    pub(super) fn run(&self, test: &Test, accelerator: Accelerator) -> Executed {
        self.stage.execute(test, Some(accelerator), &mut |_| {})
    }
}

/// What the guest told by that name.
pub(super) fn value<'e>(executed: &'e Executed, name: &str) -> Option<&'e str> {
    told(&executed.last_lines, VALUE, name)
}

/// A number that the guest measured, without its unit.
pub(super) fn metric(executed: &Executed, name: &str) -> Option<u64> {
    told(&executed.last_lines, METRIC, name)?.split(' ').next()?.parse().ok()
}

fn told<'l>(lines: &'l [String], kind: &str, name: &str) -> Option<&'l str> {
    lines.iter().find_map(|line| line.trim_end().strip_prefix(kind)?.strip_prefix(name)?.strip_prefix(": "))
}

/// Sixteen hexadecimal digits that nobody can have guessed.
pub(super) fn token() -> io::Result<String> {
    let mut bytes = [0; 8];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(format!("{:016x}", u64::from_ne_bytes(bytes)))
}

/// As people read it: whole milliseconds, or microseconds where it is less than one.
pub(super) fn time(duration: Duration) -> String {
    match duration.as_millis() {
        0 => format!("{} us", duration.as_micros()),
        milliseconds => format!("{milliseconds} ms"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_guests_tell_is_found_by_its_name() {
        let lines =
            ["value a: x y", "metric a-b: 7 us", "metric a: 9 us\r", "[qemu] value q: z"].map(str::to_owned);
        assert_eq!(told(&lines, VALUE, "a"), Some("x y"));
        assert_eq!(told(&lines, METRIC, "a"), Some("9 us"));
        assert_eq!([told(&lines, VALUE, "q"), told(&lines, VALUE, "b")], [None, None]);
    }

    #[test]
    fn the_probes_are_a_suite() {
        let suite = Suite::parse("verify", PROBES, &BTreeMap::new()).unwrap();
        assert_eq!(suite.tests.len(), super::super::Probe::ALL.len());
        for probe in super::super::Probe::ALL {
            assert!(suite.tests.iter().any(|test| test.name == probe.name()), "{probe}");
        }
    }
}
