//! A plan, or a change, as lines for people.

use console::style;
use toril_provisioner::{Change, Finding, Item, ItemState, Plan};

/// The plan's first line: how much is to change.
pub(super) fn headline(plan: &Plan) -> String {
    let counts = plan.counts();
    let total = plan.items.len();
    let mut text = match counts.drifted {
        0 => format!("nothing to change in {}", count(total, "resource")),
        1 => format!("1 of {} has to change", count(total, "resource")),
        drifted => format!("{drifted} of {total} resources have to change"),
    };
    if counts.failed > 0 {
        text.push_str(&format!("; {} cannot be had or looked at", counts.failed));
    }
    let packages = |change: &Change| change.what.starts_with("package ");
    match plan.estimate {
        Some(estimate) if estimate.packages > 0 => {
            let packages = count(estimate.packages, "package");
            text.push_str(&format!("; {packages}, {} to download", bytes(estimate.download)));
        }
        Some(_) => text.push_str("; nothing to download"),
        None if plan.items.iter().any(|item| item.state.changes().iter().any(packages)) => {
            let lacks_lists = |step: &String| step == "fetch the package lists: there are none";
            text.push_str(match plan.package_steps.iter().any(lacks_lists) {
                true => "; download size not known before the host has package lists",
                false => "; download size not known, as apt does not tell it",
            });
        }
        None => {}
    }
    match &plan.reboot {
        Some(reason) => text.push_str(&format!("; a reboot is due ({reason})")),
        None if counts.drifted > 0 => text.push_str("; no reboot"),
        None => {}
    }
    text
}

/// The plan, resource by resource; those that are fine only with `verbose`, or where there is something to say of them.
pub(super) fn lines(plan: &Plan, verbose: bool) -> Vec<String> {
    let mut lines: Vec<String> = plan.items.iter().flat_map(|item| item_lines(item, verbose)).collect();
    if !plan.package_steps.is_empty() {
        lines.push(format!("  {}", style("packages, in one go:").bold()));
        lines.extend(plan.package_steps.iter().map(|step| format!("      {step}")));
    }
    lines
}

/// What of the plan is wrong: resources that cannot be had or looked at, and with `drift` those that have to change.
pub(super) fn wrong(plan: &Plan, drift: bool) -> Vec<String> {
    let is_wrong = |item: &&Item| match &item.state {
        ItemState::Drift { .. } => drift,
        ItemState::Impossible { accepted, changes, .. } => !accepted || drift && !changes.is_empty(),
        ItemState::Unreadable { .. } => true,
        ItemState::Satisfied | ItemState::Undecidable { .. } | ItemState::Unjudged { .. } => false,
    };
    plan.items.iter().filter(is_wrong).flat_map(|item| item_lines(item, false)).collect()
}

fn item_lines(item: &Item, verbose: bool) -> Vec<String> {
    let mut lines = Vec::new();
    match &item.state {
        ItemState::Satisfied if verbose => lines.push(format!("  {} {}", style("=").dim(), item.resource)),
        ItemState::Satisfied => {}
        ItemState::Drift { changes } => {
            lines.push(format!("  {} {}", style("~").yellow(), style(&item.resource).bold()));
            lines.extend(changes.iter().flat_map(change));
        }
        ItemState::Impossible { reason, accepted, changes } => {
            let sign = if *accepted { style("·").dim() } else { style("✗").red() };
            let words =
                if *accepted { "not possible here, accepted by the recipe" } else { "not possible here" };
            lines.push(format!("  {sign} {}: {words}: {reason}", style(&item.resource).bold()));
            lines.extend(changes.iter().flat_map(change));
        }
        ItemState::Undecidable { until } => {
            let until = until.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
            lines.push(format!(
                "  {} {}: not decidable until {until} is done",
                style("?").dim(),
                item.resource
            ));
        }
        ItemState::Unjudged { reason } => {
            lines.push(format!("  {} {}: an apply will tell: {reason}", style("?").dim(), item.resource));
        }
        ItemState::Unreadable { reason } => {
            lines.push(format!(
                "  {} {}: could not look: {reason}",
                style("✗").red(),
                style(&item.resource).bold()
            ));
        }
    }
    let notices = item.notices.iter();
    lines.extend(notices.map(|notice| format!("  {} {}: {notice}", style("!").yellow(), item.resource)));
    lines
}

/// One change: a line, and the diff below it.
pub(super) fn change(change: &Change) -> Vec<String> {
    let mut lines = vec![format!("      {}: {} → {}", change.what, change.before, change.after)];
    for line in change.diff.iter().flat_map(|diff| diff.lines()) {
        let line = match line.as_bytes().first() {
            Some(b'+') => style(line).green(),
            Some(b'-') => style(line).red(),
            _ => style(line).dim(),
        };
        lines.push(format!("        {line}"));
    }
    lines
}

/// How much is wrong beyond the recipe.
pub(super) fn findings_headline(number: usize, drift: bool) -> String {
    let counts = if drift { "drift by --strict" } else { "no drift without --strict" };
    format!("{} beyond the recipe ({counts})", count(number, "finding"))
}

/// One of them, and what to do about it.
pub(super) fn finding(finding: &Finding) -> Vec<String> {
    let mut lines =
        vec![format!("  {} {}: {}", style("!").yellow(), style(&finding.about).bold(), finding.what)];
    lines.extend(finding.remedy.iter().map(|remedy| format!("      try: {remedy}")));
    lines
}

/// Such as `1 test` or `3 tests`.
pub(super) fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

/// Such as `31.4 MiB`.
#[expect(clippy::cast_precision_loss, reason = "one decimal is shown")]
pub(super) fn bytes(count: u64) -> String {
    let units = [("GiB", 30), ("MiB", 20), ("KiB", 10)];
    let unit = units.into_iter().find(|(_, shift)| count >> shift > 0);
    unit.map_or(format!("{count} B"), |(name, shift)| {
        format!("{:.1} {name}", count as f64 / (1_u64 << shift) as f64)
    })
}
