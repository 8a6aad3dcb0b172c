//! What of toril is on a host, and what became of it, as people read of it.

use console::style;

use super::{kept, plan};
use crate::agent::{Footprint, Own};

/// The lines of it.
pub(super) fn lines(footprint: &Footprint, removed: bool) -> Vec<String> {
    if removed { results(&footprint.own) } else { there(footprint) }
}

/// What is there and would go, and what stays.
fn there(Footprint { own, kept, stays }: &Footprint) -> Vec<String> {
    let mut lines = Vec::new();
    match own.len() {
        0 => lines.push("nothing of toril's own is there".to_owned()),
        _ => lines.push(format!("toril's own, {}:", plan::bytes(sum(own)))),
    }
    for own in own {
        lines.push(format!("  {} ({}, {})", own.path.display(), own.what, plan::bytes(own.bytes)));
        let inside = kept.iter().filter(|folder| folder.directory.starts_with(&own.path));
        lines.extend(inside.map(|folder| format!("    {} {}", style("kept").yellow(), kept::words(folder))));
    }
    if !stays.is_empty() {
        lines.push("stays, as recipes or others have made it:".to_owned());
    }
    for made in stays {
        let by_hand = made.by_hand.as_ref().map(|command| format!("; by hand: `{command}`"));
        lines.push(format!("  {}{}", made.what, by_hand.unwrap_or_default()));
    }
    lines
}

/// What could not be removed, and how much was.
fn results(own: &[Own]) -> Vec<String> {
    let (gone, left): (Vec<&Own>, Vec<&Own>) = own.iter().partition(|own| own.trouble.is_none());
    let mut lines = Vec::new();
    if !gone.is_empty() {
        let bytes = plan::bytes(sum(gone.iter().copied()));
        let paths = plan::count(gone.len(), "path");
        lines.push(format!("{} {paths} of toril's own, {bytes}", style("removed").green()));
    }
    for Own { path, trouble, .. } in left {
        let why = trouble.as_deref().unwrap_or_default();
        lines.push(format!("{} {}: {why}", style("not removed").red().bold(), path.display()));
    }
    lines
}

fn sum<'o>(own: impl IntoIterator<Item = &'o Own>) -> u64 {
    own.into_iter().map(|own| own.bytes).sum()
}
