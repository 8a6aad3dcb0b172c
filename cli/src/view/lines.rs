//! What several lines say of one thing.

use std::time::Duration;

use console::style;
use toril_machine::{Difference, Facts, LockHolder};
use toril_provisioner::{Check, CheckState, Event as ProvisionEvent};
use toril_runner::{ProbeResult, ProbeState};

use super::plan;

pub(super) fn of_difference(difference: &Difference) -> String {
    format!("  {} {}", style("~").yellow(), change(difference))
}

/// A measured value, which is no difference.
pub(super) fn of_measured(value: &Difference) -> String {
    format!("    {}", style(change(value)).dim())
}

fn change(Difference { name, before, after }: &Difference) -> String {
    let words = |value: &Option<String>| value.clone().unwrap_or_else(|| "none".into());
    format!("{name}: {} → {}", words(before), words(after))
}

/// Who holds a host that is waited for.
pub(super) fn of_waiting(holder: Option<&LockHolder>, waited: Duration) -> String {
    let who = holder.map_or("another run".into(), |holder| {
        format!("{} ({}, pid {})", holder.who, holder.what, holder.pid)
    });
    match waited.as_secs() / 60 {
        0 => format!("waiting: the host is in use by {who}"),
        minutes => format!("waiting for {minutes} min now: the host is in use by {who}"),
    }
}

pub(super) fn of_check(check: &Check) -> Vec<String> {
    let sign = match check.state {
        CheckState::Fine => style("✓").green(),
        CheckState::Unknown => style("?").dim(),
        CheckState::Doubtful => style("!").yellow(),
        CheckState::Bad => style("✗").red().bold(),
    };
    let mut lines = vec![format!("{sign} {}: {}", check.name, check.what)];
    lines.extend(check.remedy.iter().map(|remedy| format!("    try: {remedy}")));
    lines
}

pub(super) fn of_probe(result: &ProbeResult) -> Vec<String> {
    let sign = match (result.state, result.accepted) {
        (ProbeState::Works, _) => style("✓").green(),
        (_, true) => style("!").yellow(),
        (_, false) => style("✗").red().bold(),
    };
    let failing = if result.state == ProbeState::Broken { "does not work: " } else { "" };
    let mut lines = vec![format!("{sign} {}: {failing}{}", result.probe, result.what)];
    lines.extend(result.remedy.iter().map(|remedy| format!("    try: {remedy}")));
    lines
}

pub(super) fn of_facts(facts: &Facts) -> Vec<String> {
    let yes = |flag: bool| if flag { "yes" } else { "no" };
    let mut lines = vec![
        format!(
            "{} {} ({}) on {}, kernel {}",
            facts.os, facts.version, facts.codename, facts.architecture, facts.kernel
        ),
        format!(
            "{} CPUs, {}, microcode {}, virtualisation {}",
            facts.cpus,
            facts.cpu_model,
            facts.microcode.as_deref().unwrap_or("not shown"),
            facts.virtualization.as_deref().unwrap_or("not shown")
        ),
        format!("memory {}, free under /var {}", plan::bytes(facts.memory), plan::bytes(facts.disk_free)),
        format!(
            "itself a guest: {}; container: {}; systemd: {}; udev: {}; can load modules: {}; /dev/kvm: {}",
            yes(facts.guest),
            facts.container.as_deref().unwrap_or("no"),
            yes(facts.systemd),
            yes(facts.udev),
            yes(facts.modules_loadable),
            if facts.kvm_device { "there" } else { "not there" }
        ),
    ];
    for (user, home) in &facts.homes {
        lines.push(format!("home of {user}: {home}"));
    }
    lines.push(match &facts.reboot_pending {
        Some(reason) => format!("a reboot is due: {reason}"),
        None => "no reboot is due".into(),
    });
    lines
}

pub(super) fn of_fetch(event: &ProvisionEvent) -> Vec<String> {
    match event {
        ProvisionEvent::Fetching { resource } => {
            vec![format!("{resource}: downloading beforehand, while others are applied")]
        }
        ProvisionEvent::Fetched { resource, trouble: Some(trouble), .. } => {
            vec![format!("{resource}: not downloaded beforehand: {trouble}")]
        }
        ProvisionEvent::Fetched { resource, packages, bytes, milliseconds, .. } => {
            let time = Duration::from_millis(*milliseconds).as_secs_f64();
            let packages = plan::count(*packages, "package");
            vec![format!(
                "{} {resource}: {packages}, {} ({time:.1} s)",
                style("downloaded").green(),
                plan::bytes(*bytes)
            )]
        }
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_long_a_host_is_waited_for_is_told_after_a_minute() {
        let (who, what) = ("ci@builder".to_owned(), "verify".to_owned());
        let holder = LockHolder { who, what, since: 0, pid: 7 };
        let text = |holder, seconds| of_waiting(holder, Duration::from_secs(seconds));
        assert_eq!(text(Some(&holder), 59), "waiting: the host is in use by ci@builder (verify, pid 7)");
        assert_eq!(text(None, 185), "waiting for 3 min now: the host is in use by another run");
    }
}
