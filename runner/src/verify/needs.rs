use super::{Probe, ProbeResult, ProbeState, Verified};
use crate::suite::{Action, Test};

impl Verified {
    /// Why there is no point in running a test, because of something that it needs and that was seen not to work.
    pub(crate) fn speaks_against(&self, test: &Test) -> Option<String> {
        // One that ran out of time may have been slow only, and a test has a deadline of its own.
        let speaks = |result: &ProbeResult| match result.state {
            ProbeState::Works => false,
            ProbeState::Untried => true,
            ProbeState::Broken => !result.timed_out,
        };
        let result = needs(test)
            .into_iter()
            .find_map(|probe| self.probes.iter().find(|result| result.probe == probe && speaks(result)))?;
        let failing = if result.state == ProbeState::Broken { "does not work here: " } else { "" };
        Some(format!("it needs {}, which {failing}{}", result.probe.needed(), result.what))
    }
}

/// What a test cannot do without.
fn needs(test: &Test) -> Vec<Probe> {
    let Action::Guest(guest) = &test.action else { return Vec::new() };
    // A daemon that the suite names is another than the one that was tried.
    let share = guest.share.as_ref().is_some_and(|share| share.virtiofsd.is_none());
    let wanted = [
        (Probe::Boot, true),
        (Probe::VirtioFs, share),
        (Probe::Vsock, guest.vsock),
        (Probe::Forwarding, !guest.forward.is_empty()),
    ];
    wanted.into_iter().filter(|(_, wanted)| *wanted).map(|(probe, _)| probe).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::suite::Suite;

    #[test]
    fn a_test_is_kept_from_what_it_needs_and_nothing_else() {
        let text = r#"
            [[test]]
            name = "command"
            command = ["true"]
            [[test]]
            name = "plain"
            [test.guest]
            kernel = "builtin:toolkit"
            [[test]]
            name = "share"
            [test.guest]
            kernel = "builtin:toolkit"
            share = { dir = "/srv", tag = "t" }
            [[test]]
            name = "own daemon"
            [test.guest]
            kernel = "builtin:toolkit"
            share = { dir = "/srv", tag = "t", virtiofsd = "/opt/virtiofsd" }
            [[test]]
            name = "forward"
            [test.guest]
            kernel = "builtin:toolkit"
            vsock = true
            forward = ["4000:80"]
        "#;
        let suite = Suite::parse("s", text, &BTreeMap::new()).unwrap();
        let skipped = |broken: Probe| -> Vec<&str> {
            let result = |probe| ProbeResult {
                probe,
                state: if probe == broken { ProbeState::Broken } else { ProbeState::Works },
                what: "why".into(),
                remedy: None,
                accepted: true,
                // An abort may take its time.
                milliseconds: 3000,
                timed_out: false,
            };
            let verified = Verified { probes: Probe::ALL.map(result).to_vec(), ..Verified::default() };
            let tests = suite.tests.iter().filter(|test| verified.speaks_against(test).is_some());
            tests.map(|test| test.name.as_str()).collect()
        };
        assert_eq!(skipped(Probe::Acceleration), [""; 0], "what guests run under is decided elsewhere");
        assert_eq!(skipped(Probe::Boot), ["plain", "share", "own daemon", "forward"]);
        assert_eq!(skipped(Probe::VirtioFs), ["share"]);
        assert_eq!(skipped(Probe::Vsock), ["forward"]);
        assert_eq!(skipped(Probe::Forwarding), ["forward"]);
        let late = ProbeResult {
            probe: Probe::Boot,
            state: ProbeState::Broken,
            what: "no end within 2 s".into(),
            remedy: None,
            accepted: false,
            milliseconds: 2040,
            timed_out: true,
        };
        let late = Verified { probes: vec![late], ..Verified::default() };
        assert!(suite.tests.iter().all(|test| late.speaks_against(test).is_none()), "slow is not broken");
    }
}
