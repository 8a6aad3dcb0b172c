//! What toril promises of a host, judged by what is on record.

use toril_machine::Probe;
use toril_provisioner::{Event, Item, ItemState, Plan, SigningKey};

use super::record::{Record, Stage, StageOutcome};
use super::releases::{expected, is_of};
use crate::agent::RunEvent;
use crate::view::{OF_RECIPE, Promise, Verdict};

/// The resource by which `microvm-host` brings the sources of Debian 10.
const ARCHIVE: &str = "Debian 10's archive";

/// What was seen: it held, or it did not, or it was not tried; and why.
type Seen = (Verdict, String);

fn held(why: impl Into<String>) -> Seen {
    (Verdict::Held, why.into())
}

fn broken(why: impl Into<String>) -> Seen {
    (Verdict::Broken, why.into())
}

fn not_tried(why: impl Into<String>) -> Seen {
    (Verdict::NotTried, why.into())
}

/// Every promise, and what is known of it so far.
pub(super) fn judge(record: &Record) -> Vec<Promise> {
    let mut promises = vec![
        promise("the host is reached, and toril runs there as root", connected(record)),
        promise("the host runs a release that the recipe is for", supported(record)),
        promise("looking changes nothing", looking(record)),
        promise("everything could be looked at", all_seen(record)),
    ];
    promises.extend(release(record));
    promises.extend([
        promise("apt's keys for the release hold", keys(record)),
        promise("an apply brings the host to the recipe", applied(record)),
        promise("a check then finds nothing to change", checked(record)),
        promise("a second apply changes nothing", again(record)),
    ]);
    promises.extend(debian_10(record));
    promises.extend(resources(record));
    promises.push(promise("the suite passes", tested(record)));
    promises.push(promise("drift is named and mended", drift(record)));
    promises
}

fn promise(promise: &str, (verdict, why): Seen) -> Promise {
    Promise { promise: promise.to_owned(), verdict, why }
}

/// Where a stage did not come to its end: that what it shows was not tried.
fn unless_done(record: &Record, stage: Stage) -> Option<Seen> {
    match record.outcome(stage) {
        Some(StageOutcome::Done | StageOutcome::Failed { .. }) => None,
        Some(StageOutcome::Interrupted) => Some(not_tried(format!("{} was interrupted", stage.words()))),
        Some(StageOutcome::NotTried { why }) => Some(not_tried(why.clone())),
        None => Some(not_tried("it has not come to that")),
    }
}

/// How a stage failed that came to its end, in words.
pub(super) fn failure(record: &Record, stage: Stage) -> String {
    let (_, why) = match stage {
        Stage::ReadOnly => looking(record),
        Stage::Check => left(record.check.as_ref()),
        Stage::Test => suite(record),
        Stage::ApplyAgain => second(record),
        Stage::Drift => mended(record),
        Stage::Connect | Stage::Facts | Stage::Apply => converged(record, stage),
    };
    why
}

fn connected(record: &Record) -> Seen {
    match (record.outcome(Stage::Connect), &record.connection) {
        (Some(StageOutcome::Done), Some(connection)) => {
            let server = connection.server.as_deref().unwrap_or(connection.transport);
            let exchange = connection.key_exchange.as_deref().unwrap_or("none");
            let root = match (&record.survey, connection.sudo_password) {
                (None, _) => "root in a way that it has not come to ask for",
                (Some(survey), false) if survey.by_sudo => "root by sudo without a password",
                (Some(survey), true) if survey.by_sudo => "root by sudo, with a password at hand",
                (Some(_), _) => "root by login",
            };
            held(format!("{server}, key exchange {exchange}, {root}"))
        }
        (Some(StageOutcome::Failed { why }), _) => broken(why.clone()),
        _ => unless_done(record, Stage::Connect).unwrap_or_else(|| not_tried("it is not known how")),
    }
}

fn supported(record: &Record) -> Seen {
    let Some(facts) = &record.facts else {
        return unless_done(record, Stage::Facts).unwrap_or_else(|| broken("its facts could not be had"));
    };
    let found = format!(
        "{} {} ({}) on {}, kernel {}",
        facts.os, facts.version, facts.codename, facts.architecture, facts.kernel
    );
    match (&record.plan, record.outcome(Stage::ReadOnly)) {
        (Some(_), _) => held(found),
        (None, Some(StageOutcome::Failed { why })) => broken(format!("{found}: {why}")),
        _ => unless_done(record, Stage::ReadOnly).unwrap_or_else(|| not_tried(found)),
    }
}

fn looking(record: &Record) -> Seen {
    match &record.read_only {
        Some(seen) if seen.changes.is_empty() => {
            held(format!("{} files, modules and processes are as they were", seen.compared))
        }
        Some(seen) => broken(format!(
            "{} differ; if something else was at work there, run this again: {}",
            seen.changes.len(),
            first(&seen.changes)
        )),
        None => unless_done(record, Stage::ReadOnly).unwrap_or_else(|| not_tried("it was not compared")),
    }
}

fn all_seen(record: &Record) -> Seen {
    let Some(plan) = &record.plan else {
        return unless_done(record, Stage::ReadOnly).unwrap_or_else(|| not_tried("there is no plan"));
    };
    let unseen = plan.items.iter().filter_map(|item| match &item.state {
        ItemState::Unreadable { reason } | ItemState::Impossible { reason, accepted: false, .. } => {
            Some(format!("{}: {reason}", item.resource))
        }
        _ => None,
    });
    let unseen: Vec<String> = unseen.collect();
    match unseen.is_empty() {
        true => held(format!("{} resources", plan.items.len())),
        false => broken(first(&unseen)),
    }
}

/// Whether the release is what toril takes it for.
fn release(record: &Record) -> Vec<Promise> {
    let (Some(facts), Some(survey)) = (&record.facts, &record.survey) else { return Vec::new() };
    let Some((kernel, packages)) = expected(&facts.version).filter(|_| facts.os == "debian") else {
        return Vec::new();
    };
    let imitation = || not_tried("the host is an imitation");
    let is_imitation = record.host.imitation.is_some();
    let mut promises: Vec<Promise> = packages
        .iter()
        .map(|wanted| {
            let seen = match survey.version(wanted.package) {
                _ if is_imitation => imitation(),
                None => not_tried("it is not installed"),
                Some(version) if is_of(version, wanted.version) => held(version),
                Some(version) => broken(format!("it is {version}")),
            };
            promise(&format!("{} of the release is {}", wanted.package, wanted.version), seen)
        })
        .collect();
    let seen = match &facts.container {
        _ if is_imitation => imitation(),
        Some(kind) => not_tried(format!("a container ({kind}) has the kernel of its machine")),
        None if is_of(&facts.kernel, kernel) => held(facts.kernel.clone()),
        None => broken(format!("it is {}; another kernel than the release's own may be meant", facts.kernel)),
    };
    promises.push(promise(&format!("the kernel of the release is {kernel}"), seen));
    promises
}

fn keys(record: &Record) -> Seen {
    let (Some(facts), Some(survey)) = (&record.facts, &record.survey) else {
        return unless_done(record, Stage::ReadOnly).unwrap_or_else(|| not_tried("there is no survey"));
    };
    let rings = survey.keyrings.values().filter_map(|ring| match ring {
        Probe::Known(ring) => Some(&ring.keys),
        Probe::Absent | Probe::Unreadable(_) => None,
    });
    let name = format!("/{})", facts.codename);
    let mut own: Vec<&SigningKey> = rings.flatten().filter(|key| key.name.contains(&name)).collect();
    own.sort_by(|one, other| one.fingerprint.cmp(&other.fingerprint));
    own.dedup_by(|one, other| one.fingerprint == other.fingerprint);
    let words = |key: &&SigningKey| {
        let id = key.fingerprint.get(key.fingerprint.len().saturating_sub(16)..).unwrap_or_default();
        match (&key.expires, key.days_left) {
            (Some(day), Some(days)) => format!("{id} until {day} ({days} days)"),
            _ => format!("{id} for ever"),
        }
    };
    let told = own.iter().map(words).collect::<Vec<_>>().join(", ");
    match own.iter().any(|key| key.days_left.is_some_and(|days| days < 0)) {
        _ if own.is_empty() => not_tried(format!("no key on the host is named after {}", facts.codename)),
        true => broken(format!("some have expired: {told}")),
        false => held(told),
    }
}

fn applied(record: &Record) -> Seen {
    unless_done(record, Stage::Apply).unwrap_or_else(|| converged(record, Stage::Apply))
}

fn converged(record: &Record, stage: Stage) -> Seen {
    let errors = failures(record, stage);
    match record.ended(stage) {
        Some(ended) if ended.converged == Some(true) => {
            let counts = ended.applied.unwrap_or_default();
            held(format!("{} changed, {} were fine", counts.changed, counts.satisfied))
        }
        Some(_) if errors.is_empty() => broken("something is left to change after it"),
        Some(_) => broken(first(&errors)),
        None => match record.outcome(stage) {
            Some(StageOutcome::Failed { why }) => broken(why.clone()),
            _ => broken("it did not end"),
        },
    }
}

/// What a run says of resources and jobs that failed.
fn failures(record: &Record, stage: Stage) -> Vec<String> {
    let run = record.runs.iter().find(|run| run.stage == stage);
    let events = run.into_iter().flat_map(|run| &run.events);
    let failed = events.filter_map(|timed| match &timed.event {
        RunEvent::Provision { event: Event::Failed { resource, error } } => {
            Some(format!("{resource}: {error}"))
        }
        RunEvent::Failed { error } => Some(error.clone()),
        _ => None,
    });
    failed.collect()
}

/// Why the apply did not bring a resource about, in its own words.
fn why_not(record: &Record, name: &str) -> Option<String> {
    let run = record.runs.iter().find(|run| run.stage == Stage::Apply)?;
    run.events.iter().rev().find_map(|timed| match &timed.event {
        RunEvent::Provision { event: Event::Failed { resource, error } } if resource == name => {
            Some(error.clone())
        }
        RunEvent::Provision { event: Event::Skipped { resource, reason } } if resource == name => {
            Some(format!("skipped: {reason}"))
        }
        _ => None,
    })
}

fn checked(record: &Record) -> Seen {
    unless_done(record, Stage::Check).unwrap_or_else(|| left(record.check.as_ref()))
}

fn left(plan: Option<&Plan>) -> Seen {
    let Some(plan) = plan else { return broken("it could not be made") };
    let counts = plan.counts();
    let wrong = plan.items.iter().filter(|item| !item.state.changes().is_empty() || is_failed(item));
    let wrong: Vec<String> = wrong.map(|item| item.resource.clone()).collect();
    match counts.drifted + counts.failed {
        0 => held(format!("{} resources", plan.items.len())),
        _ => broken(first(&wrong)),
    }
}

fn is_failed(item: &Item) -> bool {
    matches!(item.state, ItemState::Unreadable { .. } | ItemState::Impossible { accepted: false, .. })
}

fn again(record: &Record) -> Seen {
    unless_done(record, Stage::ApplyAgain).unwrap_or_else(|| second(record))
}

fn second(record: &Record) -> Seen {
    match record.ended(Stage::ApplyAgain).and_then(|ended| ended.applied) {
        Some(counts) if counts.changed > 0 => broken(format!("changed again: {}", counts.changed)),
        Some(counts) if counts.failed == 0 => held(format!("{} were fine", counts.satisfied)),
        _ => converged(record, Stage::ApplyAgain),
    }
}

/// What Debian 10 needs that no other release does.
fn debian_10(record: &Record) -> Vec<Promise> {
    let is_meant = record.plan.iter().flat_map(|plan| &plan.items).any(|item| item.resource == ARCHIVE);
    if !is_meant {
        return Vec::new();
    }
    let waiting = || unless_done(record, Stage::Check);
    let after = record.survey_after.as_ref();
    let releases = after.map(|survey| &survey.release_files);
    let fetched = waiting().unwrap_or_else(|| match releases {
        Some(Probe::Known(files)) => {
            let is_own = |name: &String| name.contains("buster");
            let own = files.iter().filter(|file| file.fields.get("Codename").is_some_and(is_own));
            let own: Vec<String> = own.map(|file| format!("{} {}", file.file, file.sha256)).collect();
            match own.len() {
                4.. => held(own.join(", ")),
                count => broken(format!("{count} of 4 release files are there: {}", own.join(", "))),
            }
        }
        Some(Probe::Unreadable(reason)) => broken(reason.clone()),
        Some(Probe::Absent) | None => broken("apt has fetched none"),
    });
    let qemu =
        waiting().unwrap_or_else(|| match after.and_then(|survey| survey.version("qemu-system-x86")) {
            Some(version) if version.starts_with("1:5.2") && version.contains("~bpo10") => held(version),
            Some(version) => broken(format!("it is {version}")),
            None => broken("it is not installed"),
        });
    vec![
        promise("apt has fetched and verified the archive's release files", fetched),
        promise("QEMU 5.2 is the one of the backports", qemu),
    ]
}

/// Each resource of the recipe, as the check after the apply saw it.
fn resources(record: &Record) -> Vec<Promise> {
    let Some(plan) = &record.plan else { return Vec::new() };
    let item = |item: &Item| {
        let after =
            record.check.iter().flat_map(|plan| &plan.items).find(|after| after.resource == item.resource);
        let error = why_not(record, &item.resource);
        let seen = match (after.map(|after| &after.state), error) {
            (Some(ItemState::Satisfied), _) if item.state == ItemState::Satisfied => held("it was so before"),
            (Some(ItemState::Satisfied), _) => held("it was brought about"),
            (_, Some(error)) => broken(error),
            (Some(ItemState::Impossible { reason, accepted: true, .. }), None) => {
                not_tried(format!("not possible here, which the recipe accepts: {reason}"))
            }
            (Some(ItemState::Impossible { reason, .. } | ItemState::Unreadable { reason }), None) => {
                broken(reason.clone())
            }
            (Some(ItemState::Unjudged { reason }), None) => not_tried(reason.clone()),
            (Some(ItemState::Undecidable { until }), None) => {
                not_tried(format!("it waits for {}", until.join(", ")))
            }
            (Some(ItemState::Drift { changes }), None) => {
                let words = changes
                    .iter()
                    .map(|change| format!("{}: {} → {}", change.what, change.before, change.after));
                broken(format!("it has to change: {}", words.collect::<Vec<_>>().join("; ")))
            }
            (None, None) => {
                unless_done(record, Stage::Check).unwrap_or_else(|| not_tried("the check does not have it"))
            }
        };
        promise(&format!("{OF_RECIPE}{}", item.resource), seen)
    };
    plan.items.iter().map(item).collect()
}

fn tested(record: &Record) -> Seen {
    unless_done(record, Stage::Test).unwrap_or_else(|| suite(record))
}

fn suite(record: &Record) -> Seen {
    let Some(summary) = record.ended(Stage::Test).and_then(|ended| ended.tested.as_ref()) else {
        return converged(record, Stage::Test);
    };
    let under =
        summary.accelerator.map_or("no accelerator".to_owned(), |accelerator| accelerator.to_string());
    let words = summary.results.iter().map(|result| {
        let reason = if result.reason.is_empty() { String::new() } else { format!(" ({})", result.reason) };
        format!("{} {}{reason}", result.test, result.outcome.words())
    });
    let words = format!("under {under}: {}", words.collect::<Vec<_>>().join(", "));
    if toril_runner::exit_status(summary) == 0 { held(words) } else { broken(words) }
}

fn drift(record: &Record) -> Seen {
    unless_done(record, Stage::Drift).unwrap_or_else(|| mended(record))
}

fn mended(record: &Record) -> Seen {
    let Some(drift) = &record.drift else { return broken("it could not be tried to its end") };
    let whats = drift.broken.iter().map(|(resource, what)| format!("{resource}: {what}"));
    let whats = whats.collect::<Vec<_>>().join("; ");
    match drift.broken.len() {
        0 => broken("nothing could be broken"),
        count if drift.named.len() == count && drift.mended.len() == count => held(whats),
        count => broken(format!(
            "of {count} ({whats}) {} were named and {} mended",
            drift.named.len(),
            drift.mended.len()
        )),
    }
}

/// The first few of what may be many.
fn first(all: &[String]) -> String {
    const SHOWN: usize = 5;
    let shown = all.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join("; ");
    match all.len() {
        0..=SHOWN => shown,
        more => format!("{shown}; and {} more", more - SHOWN),
    }
}

#[cfg(test)]
mod tests;
