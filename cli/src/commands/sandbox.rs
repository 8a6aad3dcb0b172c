//! `sandbox`: throwaway hosts on this machine.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;

use rustix::process::geteuid;
use toril_inventory::{Host, Reach};
use toril_machine::Machine;
use toril_provisioner::{Bundle, Event, HostInfo, Recipe};
use toril_sandbox::{Accelerator, Kind, Options, Progress, Sandboxes, State};

use super::{UsageError, virtual_machine};
use crate::agent::RunEvent;
use crate::arguments::{Output, Sandbox, VirtualMachine};
use crate::client::chain;
use crate::exit::Status;
use crate::view::{Shown, View};

/// The recipes for what sandboxes need of this machine: all of them, and virtual machines besides.
const RECIPES: [(&str, Kind); 2] =
    [("sandbox-host", Kind::Container), ("sandbox-vm-host", Kind::VirtualMachine)];

/// `toril sandbox …`.
pub(super) fn run(command: &Sandbox) -> Result<Status, UsageError> {
    let view = View::new(&Output { json: false, verbose: false, quiet: false });
    let result = match command {
        Sandbox::Up { name, release, sources, from, disk, machine } => {
            let options = Options {
                machine: machine.vm.then(|| virtual_machine::requested(machine, Accelerator::Tcg)),
                release: *release,
                sources: sources.clone(),
                from: from.clone(),
                disk_limit: *disk,
            };
            options.check().map_err(|error| UsageError::Other(error.to_string()))?;
            up(name, options, machine, &view)
        }
        Sandbox::Down { names, all } => down(names, *all, &view),
        Sandbox::List => list(&view),
        Sandbox::Forget { snapshots } => forget(snapshots, &view),
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
            super::problem(&view, None, "sandbox", &error.into());
            Status::Operation
        }
    })
}

/// The sandbox of a name as a host. It must be up, or be made as what the view then shows by a name.
pub(super) fn host(name: &str, made_as: Option<&str>, view: &View) -> Result<Host, String> {
    if let Some(shown) = made_as {
        need_root().map_err(|error| chain(&error))?;
        // One that was powered off is made anew as what it was.
        let machine = existing(name)?.and_then(|sandbox| sandbox.machine().cloned());
        let options = Options { machine, ..Options::default() };
        return make_up(name, shown, &options, view).map(|sandbox| sandbox.host());
    }
    match existing(name)? {
        Some(sandbox) if sandbox.state() == State::Running => Ok(sandbox.host()),
        Some(sandbox) if sandbox.machine().is_some() => {
            Err(format!("sandbox {name} is not up: `toril sandbox up {name} --vm` makes it anew"))
        }
        _ => Err(format!("sandbox {name} is not up: `toril sandbox up {name}` makes it")),
    }
}

pub(super) fn existing(name: &str) -> Result<Option<toril_sandbox::Sandbox>, String> {
    sandboxes()?.get(name).map_err(|error| chain(&error))
}

fn need_root() -> Result<(), toril_sandbox::Error> {
    match geteuid().is_root() {
        true => Ok(()),
        false => Err(toril_sandbox::Error::NeedsRoot { doing: "making a sandbox" }),
    }
}

fn sandboxes() -> Result<Sandboxes, String> {
    Sandboxes::system().map_err(|error| chain(&error))
}

/// How to get there by hand.
pub(super) fn ssh_words(host: &Host) -> Vec<String> {
    let Reach::Ssh(ssh) = &host.reach else { return Vec::new() };
    let mut words = vec!["ssh".to_owned(), "-o IdentitiesOnly=yes".to_owned()];
    for (option, path) in [("IdentityFile", &ssh.identity), ("UserKnownHostsFile", &ssh.known_hosts)] {
        if let Some(path) = path {
            words.extend(["-o".to_owned(), format!("{option}={}", path.display())]);
        }
    }
    words.extend(ssh.port.iter().flat_map(|port| ["-p".to_owned(), port.to_string()]));
    let user = ssh.user.as_ref().map_or(String::new(), |user| format!("{user}@"));
    words.push(format!("{user}{}", ssh.host));
    words
}

fn up(name: &str, mut options: Options, arguments: &VirtualMachine, view: &View) -> Result<(), String> {
    need_root().map_err(|error| chain(&error))?;
    let is_up = existing(name)?.is_some_and(|sandbox| sandbox.state() == State::Running);
    if arguments.vm && arguments.accel.is_none() && !is_up {
        // Only a guest tells whether KVM works, and only QEMU runs one.
        install_tools(Kind::VirtualMachine, view)?;
        options.machine = Some(virtual_machine::requested(arguments, virtual_machine::accelerator(view)));
    }
    let host = if name == "sandbox" { name.to_owned() } else { format!("sandbox:{name}") };
    let sandbox = make_up(name, &host, &options, view)?;
    let (release, address, port) = (sandbox.release(), sandbox.address(), sandbox.port());
    let kind = kind(&sandbox);
    note(view, &format!("sandbox {name} ({kind}, debian {release}) is up at {address} port {port}"));
    note(view, &format!("  toril up {host}             makes it a microVM host and tests it"));
    note(view, &format!("  {}", ssh_words(&sandbox.host()).join(" ")));
    note(view, &format!("  toril sandbox down {name}   removes it"));
    Ok(())
}

fn make_up(
    name: &str,
    shown: &str,
    options: &Options,
    view: &View,
) -> Result<toril_sandbox::Sandbox, String> {
    make(name, shown, options, view).map_err(|error| error.to_string())
}

/// Why a sandbox could not be made.
#[derive(Debug, thiserror::Error)]
pub(super) enum MakeError {
    #[error("{0}")]
    Tools(String),
    #[error("{}", chain(.0))]
    Sandbox(toril_sandbox::Error),
}

impl MakeError {
    /// Whether it is of no use to try again on this machine.
    pub(super) fn is_not_possible_here(&self) -> bool {
        matches!(self, MakeError::Sandbox(error) if error.is_not_possible_here())
    }
}

/// Makes a sandbox, and what that needs of this machine. The view shows it as the host `shown`.
pub(super) fn make(
    name: &str,
    shown: &str,
    options: &Options,
    view: &View,
) -> Result<toril_sandbox::Sandbox, MakeError> {
    need_root().map_err(MakeError::Sandbox)?;
    let kind = options.machine.as_ref().map_or(Kind::Container, |_| Kind::VirtualMachine);
    install_tools(kind, view).map_err(MakeError::Tools)?;
    let mut tell = |progress: Progress| {
        let text = match progress {
            Progress::WaitingForBase => {
                "waiting for another toril that builds the sandboxes' base".to_owned()
            }
            Progress::BuildingBase { step } => format!("building the sandboxes' base, once: {step}"),
            Progress::Starting => "starting the sandbox".into(),
            Progress::SuiteGone { suite } => {
                return note(view, &format!("the mirror has no {suite}: it is left out of the sandbox"));
            }
            Progress::PortTaken { port } => format!("port {port} was taken; trying another"),
            _ => return,
        };
        view.show(Some(shown), &Shown::Step { text: &text });
    };
    let sandboxes = Sandboxes::system().map_err(MakeError::Sandbox)?;
    let made = sandboxes.up(name, options, &mut tell).map_err(MakeError::Sandbox);
    view.at_rest(Some(shown));
    made
}

/// `virtual machine, TCG`
fn kind(sandbox: &toril_sandbox::Sandbox) -> String {
    match sandbox.machine() {
        Some(machine) => format!("{}, {}", sandbox.kind(), machine.accelerator),
        None => sandbox.kind().to_string(),
    }
}

/// Installs what sandboxes need here by toril's own recipes, after saying so.
fn install_tools(kind: Kind, view: &View) -> Result<(), String> {
    for (recipe, kind) in RECIPES.into_iter().filter(|(_, of)| *of == Kind::Container || *of == kind) {
        let missing = toril_sandbox::missing_tools(kind);
        if !missing.is_empty() {
            install(recipe, &missing, view)?;
        }
    }
    Ok(())
}

fn install(recipe: &str, missing: &[&str], view: &View) -> Result<(), String> {
    let text = format!(
        "sandboxes need programs that this machine lacks ({}): applying the recipe {recipe} to it",
        missing.join(", ")
    );
    note(view, &text);
    let built_in = toril_recipes::find(recipe).ok_or("the recipe for sandboxes is not built in")?;
    let bundle = Bundle::of(format!("built-in {recipe}"), built_in.text, BTreeMap::new());
    let name = recipe;
    let machine = Machine::this();
    let facts = machine.facts().map_err(|error| error.to_string())?;
    let host = HostInfo { name: "local".into(), user: "root".into() };
    let recipe = Recipe::read(&bundle, &facts, &host).map_err(|problems| problems.to_string())?;
    let plan = toril_provisioner::plan(&recipe, &machine, &facts).map_err(|error| error.to_string())?;
    view.show(Some("local"), &Shown::Plan { plan: &plan, matters: false });
    let mut sink = |event: Event| {
        view.show(Some("local"), &Shown::Run { run: &RunEvent::Provision { event } });
    };
    let applied = toril_provisioner::apply(&recipe, &machine, &facts, &mut sink, &AtomicBool::new(false))
        .map_err(|error| error.to_string());
    view.at_rest(Some("local"));
    match applied?.converged() {
        true => Ok(()),
        false => Err(format!("the recipe {name} could not be applied to this machine")),
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
                "{:<20} {state:<5} {:<10} {:<21} {}",
                sandbox.name(),
                format!("debian {}", sandbox.release()),
                kind(&sandbox),
                format_args!("{}:{}", sandbox.address(), sandbox.port())
            ),
        );
    }
    for snapshot in sandboxes()?.snapshots().map_err(|error| chain(&error))? {
        note(view, &format!("{:<20} a snapshot of debian {}", snapshot.name, snapshot.release()));
    }
    Ok(())
}

fn forget(names: &[String], view: &View) -> Result<(), String> {
    for name in names {
        let text = match sandboxes()?.remove_snapshot(name).map_err(|error| chain(&error))? {
            true => format!("snapshot {name} is gone"),
            false => format!("there was no snapshot {name}"),
        };
        note(view, &text);
    }
    Ok(())
}

fn note(view: &View, text: &str) {
    view.show(None, &Shown::Note { text });
}
