//! `report compare`: what became of hosts between two fingerprints that were kept of them.

use std::path::Path;

use crate::arguments::Compare;
use crate::commands::{UsageError, fingerprint, finish};
use crate::exit::Status;
use crate::view::{HostOutcome, Shown, View};

pub(super) fn compare(arguments: &Compare) -> Result<Status, UsageError> {
    let Compare { before: earlier, after: later, output } = arguments;
    let (before, after) = (fingerprint::read(earlier)?, fingerprint::read(later)?);
    let view = View::new(output);
    let mut outcomes = Vec::new();
    for (host, print) in after.all() {
        let Some(other) = before.of(host) else {
            outcomes.push(missing(host, earlier));
            continue;
        };
        let name = shown(host);
        let comparison = other.compare(print);
        view.show(Some(name), &Shown::Compared { comparison: &comparison });
        let status = if comparison.differences.is_empty() { Status::Fine } else { Status::Drift };
        outcomes.push(HostOutcome { host: name.into(), statuses: vec![status], ..HostOutcome::default() });
    }
    // A fingerprint that is alone was compared with all of them.
    let gone = before.all().filter(|(host, _)| before.is_of_several() && after.of(*host).is_none());
    outcomes.extend(gone.map(|(host, _)| missing(host, later)));
    Ok(finish(&view, &outcomes))
}

/// What nobody can tell of a host that one of the files does not know.
fn missing(host: Option<&str>, file: &Path) -> HostOutcome {
    HostOutcome {
        host: shown(host).into(),
        problem: Some(format!("{} has no fingerprint of it", file.display())),
        statuses: vec![Status::Operation],
        ..HostOutcome::default()
    }
}

fn shown(host: Option<&str>) -> &str {
    host.unwrap_or("a host without a name")
}
