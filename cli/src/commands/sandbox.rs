//! `sandbox`: throwaway hosts on this machine.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;

use rustix::process::geteuid;
use toril_inventory::{Host, Reach};
use toril_machine::Machine;
use toril_provisioner::{Bundle, Event, HostInfo, Recipe};
use toril_sandbox::{Options, Progress, Sandboxes, State};

use super::UsageError;
use crate::agent::RunEvent;
use crate::arguments::{Output, Sandbox};
use crate::client::chain;
use crate::exit::Status;
use crate::view::{Shown, View};

/// The recipe for what sandboxes need of this machine.
const RECIPE: &str = "sandbox-host";

/// `toril sandbox …`.
pub(super) fn run(command: &Sandbox) -> Result<Status, UsageError> {
    let view = View::new(&Output { json: false, verbose: false });
    let result = match command {
        Sandbox::Up { name, from, disk } => {
            up(name, &Options { from: from.clone(), disk_limit: *disk }, &view)
        }
        Sandbox::Down { names, all } => down(names, *all, &view),
        Sandbox::List => list(&view),
        Sandbox::Snapshot { name, snapshot } => {
            let text = format!("sandbox {name} is down, and its disk is kept as snapshot {snapshot}");
            sandboxes()
                .and_then(|all| all.snapshot(name, snapshot).map_err(|error| chain(&error)))
                .map(|_| note(&view, &text))
        }
    };
    Ok(match result {
        Ok(()) => Status::Fine,
        Err(error) => {
            view.show(None, &Shown::Problem { doing: "sandbox", error: &error });
            Status::Operation
        }
    })
}

/// The sandbox of a name as a host. It must be up, or `make` be set.
pub(super) fn host(name: &str, make: bool, view: &View) -> Result<Host, String> {
    if make {
        return make_up(name, &Options::default(), view).map(|sandbox| sandbox.host());
    }
    let sandbox = sandboxes()?.get(name).map_err(|error| chain(&error))?;
    match sandbox {
        Some(sandbox) if sandbox.state() == State::Running => Ok(sandbox.host()),
        _ => Err(format!("sandbox {name} is not up: `toril sandbox up {name}` makes it")),
    }
}

fn sandboxes() -> Result<Sandboxes, String> {
    Sandboxes::system().map_err(|error| chain(&error))
}

/// How to get there by hand.
fn ssh_command(host: &Host) -> String {
    let Reach::Ssh(ssh) = &host.reach else { return String::new() };
    let mut words = vec!["ssh".to_owned()];
    for (option, path) in [("IdentityFile", &ssh.identity), ("UserKnownHostsFile", &ssh.known_hosts)] {
        if let Some(path) = path {
            words.push(format!("-o {option}={}", path.display()));
        }
    }
    words.extend(ssh.port.map(|port| format!("-p {port}")));
    let user = ssh.user.as_ref().map_or(String::new(), |user| format!("{user}@"));
    words.push(format!("{user}{}", ssh.host));
    words.join(" ")
}

fn up(name: &str, options: &Options, view: &View) -> Result<(), String> {
    let sandbox = make_up(name, options, view)?;
    let host = if name == "sandbox" { name.to_owned() } else { format!("sandbox:{name}") };
    note(view, &format!("sandbox {name} is up at {} port {}", sandbox.address(), sandbox.port()));
    note(view, &format!("  toril up {host}             makes it a microVM host and tests it"));
    note(view, &format!("  {}", ssh_command(&sandbox.host())));
    note(view, &format!("  toril sandbox down {name}   removes it"));
    Ok(())
}

fn make_up(name: &str, options: &Options, view: &View) -> Result<toril_sandbox::Sandbox, String> {
    if !geteuid().is_root() {
        return Err(
            "making a sandbox needs root (namespaces, mounts, owners of files): run it again with sudo"
                .into(),
        );
    }
    install_tools(view)?;
    let mut tell = |progress: Progress| {
        let text = match progress {
            Progress::WaitingForBase => {
                "waiting for another toril that builds the sandboxes' base".to_owned()
            }
            Progress::BuildingBase { step } => format!("building the sandboxes' base, once: {step}"),
            Progress::Starting => "starting the sandbox".into(),
            Progress::PortTaken { port } => format!("port {port} was taken; trying another"),
            _ => return,
        };
        view.show(None, &Shown::Step { text: &text });
    };
    sandboxes()?.up(name, options, &mut tell).map_err(|error| chain(&error))
}

/// Installs what sandboxes need here by toril's own recipe, after saying so.
fn install_tools(view: &View) -> Result<(), String> {
    let missing = toril_sandbox::missing_tools();
    if missing.is_empty() {
        return Ok(());
    }
    let text = format!(
        "sandboxes need programs that this machine lacks ({}): applying the recipe {RECIPE} to it",
        missing.join(", ")
    );
    note(view, &text);
    let built_in = toril_recipes::find(RECIPE).ok_or("the recipe for sandboxes is not built in")?;
    let bundle = Bundle {
        origin: format!("built-in {RECIPE}"),
        text: built_in.text.to_owned(),
        vars: BTreeMap::new(),
    };
    let machine = Machine::this();
    let facts = machine.facts().map_err(|error| error.to_string())?;
    let host = HostInfo { name: "local".into(), user: "root".into() };
    let recipe = Recipe::read(&bundle, &facts, &host).map_err(|problems| problems.to_string())?;
    let plan = toril_provisioner::plan(&recipe, &machine, &facts).map_err(|error| error.to_string())?;
    view.show(Some("local"), &Shown::Plan { plan: &plan });
    let mut sink = |event: Event| {
        view.show(Some("local"), &Shown::Run { run: &RunEvent::Provision { event } });
    };
    let applied = toril_provisioner::apply(&recipe, &machine, &facts, &mut sink, &AtomicBool::new(false))
        .map_err(|error| error.to_string())?;
    match applied.converged() {
        true => Ok(()),
        false => Err(format!("the recipe {RECIPE} could not be applied to this machine")),
    }
}

fn down(names: &[String], all: bool, view: &View) -> Result<(), String> {
    let sandboxes = sandboxes()?;
    if all {
        let gone = sandboxes.down_all().map_err(|error| chain(&error))?;
        note(
            view,
            &format!("gone: {}", if gone.is_empty() { "none was there".into() } else { gone.join(", ") }),
        );
        return Ok(());
    }
    for name in names {
        let text = match sandboxes.down(name).map_err(|error| chain(&error))? {
            true => format!("sandbox {name} is gone"),
            false => format!("there was no sandbox {name}"),
        };
        note(view, &text);
    }
    Ok(())
}

fn list(view: &View) -> Result<(), String> {
    let all = sandboxes()?.list().map_err(|error| chain(&error))?;
    if all.is_empty() {
        note(view, "no sandboxes; `toril sandbox up` makes one");
    }
    for sandbox in all {
        let state = match sandbox.state() {
            State::Running => "up",
            State::Dead => "dead",
        };
        note(
            view,
            &format!(
                "{:<20} {state:<5} {}",
                sandbox.name(),
                format_args!("{}:{}", sandbox.address(), sandbox.port())
            ),
        );
    }
    Ok(())
}

fn note(view: &View, text: &str) {
    view.show(None, &Shown::Note { text });
}
