//! For the tests: `isolate`, and `run SUITE STATE USER kvm|tcg|auto [NAME=VALUE]`, which prints events as JSON lines
//! and exits with the run's status.

use std::collections::BTreeMap;
use std::env;
use std::io::Write;
use std::process::ExitCode;
use std::sync::atomic::AtomicBool;

use toril_runner::{Accelerator, AcceleratorPolicy, Event, Options, SMOKE, Suite, exit_status, isolate, run};

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["isolate"] => isolate(),
        ["run", suite, state, user, accelerator] => run_suite(suite, state, user, accelerator, None),
        ["run", suite, state, user, accelerator, set] => {
            run_suite(suite, state, user, accelerator, set.split_once('='))
        }
        _ => ExitCode::from(2),
    }
}

fn run_suite(suite: &str, state: &str, user: &str, accelerator: &str, set: Option<(&str, &str)>) -> ExitCode {
    let text = match suite {
        "smoke" => SMOKE.to_owned(),
        path => match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(_) => return ExitCode::from(2),
        },
    };
    let overrides: BTreeMap<String, String> =
        set.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
    let suite = match Suite::parse(suite, &text, &overrides) {
        Ok(suite) => suite,
        Err(problems) => {
            let _ = writeln!(std::io::stderr(), "{problems}");
            return ExitCode::from(2);
        }
    };
    let requested = match accelerator {
        "kvm" => Some(Accelerator::Kvm),
        "tcg" => Some(Accelerator::Tcg),
        _ => None,
    };
    let options = Options {
        accelerator: AcceleratorPolicy { requested, tcg_allowed: true },
        run_as: Some(user.into()),
        state: state.into(),
        ..Options::default()
    };
    let mut print = |event: Event| {
        let line = serde_json::to_string(&event).unwrap_or_default();
        let _ = writeln!(std::io::stdout(), "{line}");
    };
    let summary = run(&suite, &options, &mut print, &AtomicBool::new(false));
    ExitCode::from(exit_status(&summary))
}
