//! What a host can do for guests, shown by guests that do it: that /dev/kvm, virtiofsd or /dev/vhost-vsock are there
//! proves nothing.

mod acceleration;
mod bench;
mod devices;
mod host_kernel;
mod initrd;
mod model;
mod native;
mod needs;
mod remedy;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

pub use model::{OwnKernel, Probe, ProbeResult, ProbeState, Verified};

use crate::accelerator::{Accelerator, KvmState};
use crate::execute::{Executed, Stage};
use crate::run::Options;
use bench::Bench;

/// What is known of a host before guests are booted on it.
pub struct Background<'b> {
    /// Whether it is a container, which has the devices of another machine or none.
    pub container: bool,
    /// Whether it is itself a guest.
    pub guest: bool,
    /// When the host's own kernel is booted.
    pub own_kernel: OwnKernel,
    /// What counts even where hosts of its kind cannot have it.
    pub required: &'b [Probe],
    /// Finds out, without a guest of QEMU's, why KVM is as it is, and what to do about it; asked only where guests do not
    /// run under it.
    pub kvm: &'b dyn Fn() -> Option<(String, Option<String>)>,
}

/// How long a probe may take under KVM.
const DEADLINE: Duration = Duration::from_secs(2);

/// The same where the machine is a guest itself: KVM inside an emulated one works, though slowly.
const NESTED_DEADLINE: Duration = Duration::from_secs(10);

/// The same for emulated guests, which are slower the more else the machine has to do.
const EMULATED_DEADLINE: Duration = Duration::from_secs(5);

/// What came of one probe, before it is known what it was.
struct Answer {
    state: ProbeState,
    what: String,
    remedy: Option<String>,
    accepted: bool,
    timed_out: bool,
}

impl Answer {
    fn works(what: impl Into<String>) -> Answer {
        let state = ProbeState::Works;
        Answer { state, what: what.into(), remedy: None, accepted: false, timed_out: false }
    }

    fn broken(what: impl Into<String>, remedy: impl Into<String>) -> Answer {
        let state = ProbeState::Broken;
        let remedy = Some(remedy.into());
        Answer { state, what: what.into(), remedy, accepted: false, timed_out: false }
    }

    fn untried(what: impl Into<String>, remedy: impl Into<String>) -> Answer {
        let state = ProbeState::Untried;
        let what = format!("cannot be tried: {}", what.into());
        Answer { state, what, remedy: Some(remedy.into()), accepted: false, timed_out: false }
    }

    /// For a guest that came to this end.
    fn of_guest(executed: &Executed, what: impl Into<String>, remedy: impl Into<String>) -> Answer {
        Answer { timed_out: executed.timed_out, ..Answer::broken(what, remedy) }
    }

    fn accepted(self, accepted: bool) -> Answer {
        Answer { accepted, ..self }
    }
}

/// Boots guests as the user `run_as` that show what this machine can do for them; each probe is told as it ends.
/// `options` say which QEMU, and whether emulated guests will do. Nothing that was started is left afterwards.
pub fn verify(
    options: &Options,
    run_as: &str,
    background: &Background<'_>,
    sink: &mut dyn FnMut(&ProbeResult),
    stop: &AtomicBool,
) -> Verified {
    let mut verified = Verified::default();
    let bench = remedy::find_qemu(&options.qemu)
        .and_then(|()| Stage::set_up(options, run_as, stop))
        .map(|stage| Bench { stage, background, emulation: options.accelerator.tcg_allowed });
    for probe in Probe::ALL {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        if probe == Probe::HostKernel && background.own_kernel == OwnKernel::Never {
            continue;
        }
        let start = Instant::now();
        let answer = match &bench {
            Ok(bench) => bench.answer(probe, &mut verified),
            Err(why) => Answer::untried(why.clone(), remedy::RECIPE),
        };
        let Answer { state, what, remedy, accepted, timed_out } = answer;
        let accepted = accepted && !background.required.contains(&probe);
        // What was ended in its middle says nothing of the host.
        if stop.load(Ordering::Relaxed) && state != ProbeState::Works {
            break;
        }
        let milliseconds = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
        let result = ProbeResult { probe, state, what, remedy, accepted, milliseconds, timed_out };
        sink(&result);
        verified.probes.push(result);
    }
    verified.stopped = stop.load(Ordering::Relaxed);
    verified
}

impl Bench<'_> {
    fn answer(&self, probe: Probe, verified: &mut Verified) -> Answer {
        let figures = &mut verified.figures;
        let accelerator = verified.accelerator.unwrap_or(Accelerator::Tcg);
        match probe {
            Probe::Acceleration => {
                let (state, answer) = self.acceleration(figures);
                verified.accelerator =
                    Some(if state == KvmState::Usable { Accelerator::Kvm } else { Accelerator::Tcg });
                verified.kvm = Some(state);
                answer
            }
            Probe::Boot => self.boot(accelerator, figures),
            Probe::HostKernel => self.host_kernel(accelerator, figures),
            Probe::VirtioFs => self.virtio_fs(accelerator, figures),
            Probe::Vsock => self.vsock(accelerator, figures),
            Probe::Forwarding => self.forwarding(accelerator, figures),
        }
    }
}
