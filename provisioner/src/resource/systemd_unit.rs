//! `systemd-unit`: whether a unit runs, whether it is started at boot, and its file where it is the recipe's own.

use std::time::Duration;

use toril_document::Table;
use toril_machine::Command;

use super::attributes::Attributes;
use super::file::FileResource;
use super::systemd_unit_files::{self, Enabled, UnitFiles};
use super::{Change, Context, Judged, Kind, Resource, ResourceError, Thing, Wanted, parsed};

/// What the changes of the unit's file are called by.
const FILE: &str = "unit file";

const SUFFIXES: [&str; 9] =
    [".service", ".socket", ".timer", ".path", ".mount", ".automount", ".swap", ".target", ".slice"];

#[derive(Debug)]
struct SystemdUnit {
    name: String,
    enabled: Option<bool>,
    active: Option<bool>,
    masked: Option<bool>,
    file: Option<FileResource>,
}

struct UnitState {
    file: Option<Judged>,
    files: UnitFiles,
    /// `None`: nobody asked, or systemd is not running.
    live: Option<Live>,
}

/// What the running systemd says.
struct Live {
    /// Such as `active`, `inactive`, `failed`.
    state: String,
    /// Whether it knows the unit by a file that has changed since.
    is_stale: bool,
}

pub(super) fn read(table: &mut Table<'_>) -> Option<Box<dyn Resource>> {
    let name = parsed(table, "name", "R037", parse_name);
    let enabled = table.boolean("enabled");
    let active = table.boolean("active");
    let masked = table.boolean("masked");
    let content = table.string("content");
    if [enabled, active, masked].iter().all(Option::is_none) && content.is_none() {
        let message = "nothing is said of the unit: give `enabled`, `active`, `masked` or `content`";
        table.note("R032", table.span(), message, None);
    }
    if masked == Some(true) && (enabled == Some(true) || active == Some(true) || content.is_some()) {
        let message = "a masked unit has no `content`, is not `enabled` and not `active`";
        table.note("R032", table.span(), message, None);
    }
    if let Some(text) =
        content.as_ref().filter(|text| enabled == Some(true) && !systemd_unit_files::has_install(&text.value))
    {
        let help = "give it a section [Install] with WantedBy=multi-user.target".to_owned();
        let message = "this unit cannot be `enabled`: it does not say by what it would be started";
        table.note("R032", text.span.clone(), message, Some(help));
    }
    if let Some(name) = name.as_ref().filter(|name| name.contains("@.") && (enabled.or(active)).is_some()) {
        let message =
            format!("`{name}` is a template: name an instance of it, such as a@b.service of a@.service");
        table.note("R037", table.span(), message, None);
    }
    let name = name?;
    // What is to run or to be started must not be masked.
    let masked = masked.or((enabled == Some(true) || active == Some(true)).then_some(false));
    let file = content.map(|content| FileResource {
        path: format!("/etc/systemd/system/{name}"),
        content: content.value,
        attributes: Attributes { owner: "root".into(), group: "root".into(), mode: 0o644 },
    });
    Some(Box::new(SystemdUnit { name, enabled, active, masked, file }))
}

fn parse_name(name: &str) -> Result<String, String> {
    let good = |c: char| c.is_ascii_alphanumeric() || ":_.@\\-".contains(c);
    if name.is_empty() || name.starts_with(['-', '.', '@']) || !name.chars().all(good) {
        return Err(format!("`{name}` is no name of a unit"));
    }
    match SUFFIXES.iter().any(|suffix| name.ends_with(suffix)) {
        true => Ok(name.to_owned()),
        false => Err(format!("`{name}` is no name of a unit: did you mean `{name}.service`?")),
    }
}

impl SystemdUnit {
    fn systemctl(&self, verb: &str) -> Result<(), ResourceError> {
        let command = Command::new("systemctl", [verb, "--", &self.name]);
        command.deadline(Duration::from_secs(180)).output().map(drop).map_err(ResourceError::new)
    }

    fn ask(&self, context: Context<'_>) -> Result<Option<Live>, ResourceError> {
        if !context.facts.systemd || (self.active.is_none() && self.file.is_none()) {
            return Ok(None);
        }
        if !context.machine.is_this() {
            return Err(ResourceError("systemd is asked only on the machine that it runs".into()));
        }
        let args = ["show", "--property=ActiveState", "--property=NeedDaemonReload", "--", &self.name];
        let text = Command::new("systemctl", args).output().map_err(ResourceError::new)?;
        let value = |key: &str| {
            let mut entries = text.lines().filter_map(|line| line.split_once('='));
            entries.find(|(name, _)| *name == key).map(|(_, value)| value.trim().to_owned())
        };
        let state = value("ActiveState")
            .ok_or_else(|| ResourceError(format!("systemd does not say whether {} is active", self.name)))?;
        Ok(Some(Live { state, is_stale: value("NeedDaemonReload").as_deref() == Some("yes") }))
    }
}

impl Kind for SystemdUnit {
    type State = UnitState;

    fn observe(&self, context: Context<'_>) -> Result<UnitState, ResourceError> {
        let file = self.file.as_ref().map(|file| Resource::judge(file, context)).transpose()?;
        Ok(UnitState {
            file,
            files: systemd_unit_files::observe(context.machine, &self.name)?,
            live: self.ask(context)?,
        })
    }

    fn compare(&self, _: Context<'_>, state: &UnitState) -> Judged {
        let mut changes: Vec<Change> = Vec::new();
        let mut impossible = Vec::new();
        if let Some(file) = &state.file {
            changes.extend(Change::of_part(FILE, &file.changes));
        }
        let has_new_file = !changes.is_empty();
        let yes_no = |flag: bool| if flag { "yes" } else { "no" };
        if let Some(masked) = self.masked.filter(|masked| *masked != state.files.masked) {
            changes.push(Change::new("masked", yes_no(!masked), yes_no(masked)));
        }
        match (self.enabled, state.files.enabled) {
            (Some(true), Enabled::No) => changes.push(Change::new("enabled", "no", "yes")),
            (Some(true), Enabled::NoUnit) => {
                changes.push(Change::new("enabled", "no such unit", "yes"));
            }
            (Some(true), Enabled::Static) if has_new_file => {
                changes.push(Change::new("enabled", "no", "yes"));
            }
            (Some(true), Enabled::Static) => {
                let text = "cannot be enabled: it has no section [Install], and others start it";
                impossible.push(format!("{} {text}", self.name));
            }
            (Some(false), Enabled::Yes) => changes.push(Change::new("enabled", "yes", "no")),
            (None, _) | (Some(true), Enabled::Yes) | (Some(false), _) => {}
        }
        match &state.live {
            None if self.active == Some(true) => {
                impossible.push(format!("systemd is not running here, so {} cannot be started", self.name));
            }
            None => {}
            Some(live) => {
                if live.is_stale && self.file.is_some() {
                    changes.push(Change::new("known to systemd", "an older unit file", "this one"));
                }
                let runs = matches!(live.state.as_str(), "active" | "reloading");
                let may_run = runs || live.state == "activating";
                match self.active {
                    Some(true) if !runs => changes.push(Change::new("active", &live.state, "active")),
                    Some(false) if may_run => changes.push(Change::new("active", &live.state, "inactive")),
                    Some(_) | None => {}
                }
            }
        }
        let impossible = (!impossible.is_empty()).then(|| impossible.join("; "));
        Judged { changes, impossible, ..Judged::default() }
    }

    fn apply(
        &self,
        context: Context<'_>,
        changes: &[Change],
        log: &mut dyn FnMut(&str),
    ) -> Result<(), ResourceError> {
        let is_to = |what: &str, after: &str| {
            changes.iter().any(|change| change.what == what && change.after == after)
        };
        if is_to("masked", "no") {
            self.systemctl("unmask")?;
        }
        let file_changes = Change::for_part(FILE, changes);
        let has_new_file = !file_changes.is_empty() || is_to("known to systemd", "this one");
        if let Some(file) = self.file.as_ref().filter(|_| !file_changes.is_empty()) {
            file.apply_with_directory(context, &file_changes, log)?;
        }
        if has_new_file && context.facts.systemd {
            let reload = Command::new("systemctl", ["daemon-reload"]).deadline(Duration::from_secs(90));
            reload.output().map_err(ResourceError::new)?;
        }
        for (what, after, verb) in [
            ("enabled", "yes", "enable"),
            ("enabled", "no", "disable"),
            ("active", "active", "start"),
            ("active", "inactive", "stop"),
        ] {
            if is_to(what, after) {
                self.systemctl(verb)?;
            }
        }
        // What already runs, runs by the older file.
        if has_new_file && context.facts.systemd && self.active == Some(true) && !is_to("active", "active") {
            self.systemctl("try-restart")?;
        }
        if is_to("masked", "yes") { self.systemctl("mask") } else { Ok(()) }
    }

    fn provides(&self) -> Vec<Thing> {
        self.file.iter().map(|file| Thing::Path(file.path.clone())).collect()
    }

    fn follows(&self) -> Vec<Wanted> {
        // Packages bring most units, and the programs of the others.
        self.file.iter().flat_map(Kind::follows).chain([Wanted::Packages]).collect()
    }

    fn may_use_apt(&self) -> bool {
        true
    }

    fn asks_programs(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::testing::{self, Fake};

    fn unit(enabled: Option<bool>, active: Option<bool>) -> SystemdUnit {
        SystemdUnit { name: "a.service".into(), enabled, active, masked: None, file: None }
    }

    fn state(enabled: Enabled, live: Option<&str>) -> UnitState {
        UnitState {
            file: None,
            files: UnitFiles { enabled, masked: false },
            live: live.map(|state| Live { state: state.into(), is_stale: false }),
        }
    }

    #[test]
    fn enabled_and_active_are_told_apart() {
        let fake = Fake::new();
        let judge = |wanted: Option<bool>, enabled, live| {
            let judged = unit(wanted, wanted).compare(fake.context(), &state(enabled, live));
            let changes = judged.changes.iter().map(|c| format!("{}: {} → {}", c.what, c.before, c.after));
            (changes.collect::<Vec<_>>().join(", "), judged.impossible.unwrap_or_default())
        };
        let on = Some(true);
        assert_eq!(judge(on, Enabled::Yes, Some("active")), (String::new(), String::new()));
        assert_eq!(judge(on, Enabled::No, Some("active")).0, "enabled: no → yes");
        assert_eq!(judge(on, Enabled::Yes, Some("failed")).0, "active: failed → active");
        assert_eq!(judge(on, Enabled::NoUnit, Some("inactive")).0.matches('→').count(), 2);
        assert!(judge(on, Enabled::Static, Some("active")).1.contains("no section [Install]"));
        let off = Some(false);
        assert_eq!(judge(off, Enabled::Yes, Some("activating")).0.matches('→').count(), 2);
        assert_eq!(judge(off, Enabled::NoUnit, None), (String::new(), String::new()));
    }

    #[test]
    fn without_a_running_systemd_only_the_boot_can_be_seen_to() {
        let fake = Fake::new();
        let judged = unit(Some(true), Some(true)).compare(fake.context(), &state(Enabled::No, None));
        assert_eq!(judged.changes, [Change::new("enabled", "no", "yes")]);
        assert_eq!(judged.impossible.unwrap(), "systemd is not running here, so a.service cannot be started");
    }

    #[test]
    fn the_file_is_written_where_there_is_no_systemd() {
        let mut fake = Fake::new();
        fake.facts.systemd = false;
        let text =
            "systemd-unit = { name = \"a.service\", content = \"[Service]\\nExecStart=/bin/true\\n\" }";
        let resource = testing::read(text).unwrap();
        assert_eq!(fake.changes(&*resource), ["unit file: content: no such file → 2 lines"]);
        fake.apply(&*resource);
        assert_eq!(fake.changes(&*resource), [""; 0]);
        std::fs::write(fake.path("etc/systemd/system/a.service"), "[Service]\n").unwrap();
        assert_eq!(fake.changes(&*resource), ["unit file: content: 1 line → 2 lines"]);
    }

    #[test]
    fn wrong_words_are_refused() {
        testing::refuses(&[
            ("systemd-unit = { name = \"ssh\", enabled = true }", "did you mean `ssh.service`?"),
            ("systemd-unit = { name = \"../x.service\", enabled = true }", "is no name of a unit"),
            (
                "systemd-unit = { name = \"a@.service\", active = true }",
                "is a template: name an instance of it",
            ),
            ("systemd-unit = { name = \"a.service\" }", "nothing is said of the unit"),
            ("systemd-unit = { name = \"a.service\", enabled = true, masked = true }", "a masked unit"),
            (
                "systemd-unit = { name = \"a.service\", enabled = true, content = \"\" }",
                "cannot be `enabled`",
            ),
            ("systemd-unit = { name = \"a.service\", enable = true }", "did you mean `enabled`?"),
        ]);
    }
}
