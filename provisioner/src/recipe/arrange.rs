//! The order of a recipe's resources: by `needs`, by what is evident, and otherwise as they stand.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use toril_document::{Located, Problem, Problems, Source, nearest};

use super::read::{Declared, Handler};
use super::resources::{Draft, Drafts, HandlerDraft};

/// Puts resources in order and leaves out those that are not for this machine.
pub(super) fn arrange(drafts: Drafts) -> Result<(Vec<Declared>, Vec<Handler>), Problems> {
    let Drafts { resources: drafts, handlers, .. } = drafts;
    let mut problems = Problems::default();
    let mut note =
        |code, source: &Arc<Source>, span: &Range<usize>, message: String, help: Option<String>| {
            let (source, span) = (Arc::clone(source), span.clone());
            problems.0.push(Problem { code, message, source, span, help });
        };
    let mut positions: HashMap<&str, usize> = HashMap::new();
    for (index, draft) in drafts.iter().enumerate() {
        if positions.insert(&draft.name.value, index).is_some() {
            let message = format!("there are two resources named `{}`", draft.name.value);
            note("R007", &draft.source, &draft.name.span, message, None);
        }
    }
    let mut handler_positions: HashMap<&str, usize> = HashMap::new();
    for (index, HandlerDraft { source, name, .. }) in handlers.iter().enumerate() {
        if handler_positions.insert(&name.value, index).is_some() {
            note("R007", source, &name.span, format!("there are two handlers named `{}`", name.value), None);
        }
    }
    let mut after: Vec<Vec<usize>> = Vec::new();
    let mut on_change: Vec<Vec<usize>> = Vec::new();
    for draft in &drafts {
        let mut find = |key: &str, what: &str, positions: &HashMap<&str, usize>, named: &Located<String>| {
            let position = positions.get(named.value.as_str()).copied();
            if position.is_none() {
                let help = nearest(&named.value, positions.keys().copied());
                let help = help.map(|word| format!("did you mean `{word}`?"));
                let message = format!("`{key}` names `{}`, which is no {what} of this recipe", named.value);
                note("R008", &draft.source, &named.span, message, help);
            }
            position
        };
        after.push(
            draft.needs.iter().filter_map(|need| find("needs", "resource", &positions, need)).collect(),
        );
        let handlers = draft.on_change.iter();
        on_change.push(
            handlers.filter_map(|name| find("on-change", "handler", &handler_positions, name)).collect(),
        );
    }
    add_evident(&drafts, &mut after);
    let order = sort(&after).unwrap_or_else(|cycle| {
        let names: Vec<&str> = cycle.iter().map(|index| drafts[*index].name.value.as_str()).collect();
        if let Some(first) = cycle.first().map(|index| &drafts[*index]) {
            let message = format!("these resources wait for each other: {}", names.join(" → "));
            note("R009", &first.source, &first.name.span, message, None);
        }
        Vec::new()
    });
    problems.or(())?;
    let handlers = handlers.into_iter().map(|draft| draft.handler).collect();
    Ok((keep(drafts, &after, on_change, &order), handlers))
}

/// The resources that are for this machine, in order. What needs one that is left out waits for what that one needs.
fn keep(
    drafts: Vec<Draft>,
    after: &[Vec<usize>],
    mut on_change: Vec<Vec<usize>>,
    order: &[usize],
) -> Vec<Declared> {
    let kept: Vec<usize> = order.iter().copied().filter(|index| drafts[*index].enabled).collect();
    let places: HashMap<usize, usize> = kept.iter().enumerate().map(|(new, old)| (*old, new)).collect();
    let mut drafts: Vec<Option<Draft>> = drafts.into_iter().map(Some).collect();
    let declared = kept.iter().filter_map(|old| {
        let draft = drafts[*old].take()?;
        let mut first = Vec::new();
        reachable(after, &places, *old, &mut first);
        Some(Declared {
            name: draft.name.value,
            required: draft.required,
            after: first,
            on_change: std::mem::take(&mut on_change[*old]),
            body: draft.body?,
            resource: draft.resource?,
        })
    });
    declared.collect()
}

fn reachable(after: &[Vec<usize>], places: &HashMap<usize, usize>, from: usize, found: &mut Vec<usize>) {
    for next in &after[from] {
        match places.get(next) {
            Some(place) if !found.contains(place) => found.push(*place),
            Some(_) => {}
            None => reachable(after, places, *next, found),
        }
    }
}

/// Adds what is evident to what the recipe says, which wins where the two contradict each other.
fn add_evident(drafts: &[Draft], after: &mut [Vec<usize>]) {
    let said = after.to_vec();
    for (index, edges) in after.iter_mut().enumerate() {
        let contradicts = |other: &usize| leads(&said, *other, index, &mut vec![false; said.len()]);
        edges.extend(evident(drafts, index).into_iter().filter(|other| !contradicts(other)));
        edges.sort_unstable();
        edges.dedup();
    }
}

/// Whether one resource waits for another.
fn leads(after: &[Vec<usize>], from: usize, to: usize, seen: &mut [bool]) -> bool {
    if std::mem::replace(&mut seen[from], true) {
        return false;
    }
    after[from].iter().any(|next| *next == to || leads(after, *next, to, seen))
}

/// What a resource comes after without being told: what provides the things it stands on.
fn evident(drafts: &[Draft], index: usize) -> Vec<usize> {
    let draft = &drafts[index];
    let Some(resource) = &draft.resource else { return Vec::new() };
    let wanted = resource.follows();
    let explicit = !draft.needs.is_empty();
    let provides = |other: &Draft| {
        let provided = other.resource.as_ref().map(|resource| resource.provides()).unwrap_or_default();
        wanted.iter().any(|wanted| provided.iter().any(|thing| wanted.met_by(thing, explicit)))
    };
    let others = drafts.iter().enumerate().filter(|(other, _)| *other != index);
    others.filter(|(_, other)| provides(other)).map(|(other, _)| other).collect()
}

/// A stable topological order, or a cycle.
fn sort(after: &[Vec<usize>]) -> Result<Vec<usize>, Vec<usize>> {
    fn visit(
        node: usize,
        after: &[Vec<usize>],
        state: &mut [u8],
        path: &mut Vec<usize>,
        order: &mut Vec<usize>,
    ) -> bool {
        match state[node] {
            2 => return true,
            1 => {
                path.push(node);
                return false;
            }
            _ => {}
        }
        state[node] = 1;
        path.push(node);
        if !after[node].iter().all(|next| visit(*next, after, state, path, order)) {
            return false;
        }
        path.pop();
        state[node] = 2;
        order.push(node);
        true
    }
    let mut state = vec![0; after.len()];
    let (mut path, mut order) = (Vec::new(), Vec::new());
    for node in 0..after.len() {
        if !visit(node, after, &mut state, &mut path, &mut order) {
            let last = path.last().copied().unwrap_or(node);
            let start = path.iter().position(|entry| *entry == last).unwrap_or(0);
            return Err(path.split_off(start));
        }
    }
    Ok(order)
}
