//! What is said to whoever wants to hear little.

use toril_provisioner::Event as ProvisionEvent;
use toril_runner::{Event as TestEvent, ProbeState};

use super::Shown;
use crate::agent::RunEvent;

/// What is said although the user wants to hear little: what went wrong, and what a command is all about.
pub(super) fn is_for_the_quiet(shown: &Shown<'_>) -> bool {
    match shown {
        Shown::Problem { .. }
        | Shown::Facts { .. }
        | Shown::Fingerprint { .. }
        | Shown::Compared { .. }
        | Shown::Checks { .. }
        | Shown::Kept { .. }
        | Shown::Footprint { .. }
        | Shown::RecipeTest { .. }
        | Shown::Acceptance { .. } => true,
        Shown::Plan { plan, matters } => {
            let counts = plan.counts();
            counts.failed > 0 || *matters && counts.drifted > 0
        }
        Shown::Findings { drift, .. } => *drift,
        Shown::Run { run } => is_wrong(run),
        _ => false,
    }
}

/// Whether it tells of something that went wrong in a run. Tests that failed are told of at its end.
fn is_wrong(run: &RunEvent) -> bool {
    match run {
        RunEvent::Failed { .. } => true,
        RunEvent::Ended { ended } => ended.stopped,
        RunEvent::Verify { result } => result.state != ProbeState::Works && !result.accepted,
        RunEvent::Provision { event: ProvisionEvent::Failed { .. } } => true,
        RunEvent::Provision { event: ProvisionEvent::Verified { plan } } => !plan.is_empty(),
        RunEvent::Test { event: TestEvent::BuildEnded(build) } => build.trouble.is_some(),
        RunEvent::Test { event: TestEvent::AttemptEnded { .. } } => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use toril_runner::{Probe, ProbeResult};

    use super::*;

    fn probe(state: ProbeState, accepted: bool) -> RunEvent {
        let (probe, what) = (Probe::Vsock, String::new());
        RunEvent::Verify {
            result: ProbeResult {
                probe,
                state,
                what,
                remedy: None,
                accepted,
                milliseconds: 0,
                timed_out: false,
            },
        }
    }

    #[test]
    fn the_quiet_hear_what_went_wrong_and_nothing_else() {
        let failed =
            ProvisionEvent::Failed { resource: "socat".into(), error: "the mirror is silent".into() };
        for wrong in [
            RunEvent::Failed { error: "no user toril".into() },
            RunEvent::Provision { event: failed },
            probe(ProbeState::Untried, false),
        ] {
            assert!(is_for_the_quiet(&Shown::Run { run: &wrong }), "{wrong:?}");
        }
        for fine in [
            probe(ProbeState::Untried, true),
            probe(ProbeState::Works, false),
            RunEvent::Provision { event: ProvisionEvent::Started { resource: "socat".into() } },
        ] {
            assert!(!is_for_the_quiet(&Shown::Run { run: &fine }), "{fine:?}");
        }
    }
}
