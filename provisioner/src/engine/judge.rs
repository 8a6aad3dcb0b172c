//! How every resource of a recipe stands. Looking changes nothing, so whatever need not wait for something else happens at
//! the same time.

use std::panic::resume_unwind;
use std::thread;

use super::plan::{Item, ItemState, state};
use crate::recipe::{Declared, Recipe};
use crate::resource::Context;

/// Judges all resources of a recipe, and does something else while the programs that are asked of it answer.
pub(super) fn judge_all<T>(
    recipe: &Recipe,
    context: Context<'_>,
    meanwhile: impl FnOnce() -> T,
) -> (Vec<Item>, T) {
    let mut items: Vec<Option<Item>> = vec![None; recipe.resources.len()];
    let other = judge_ready(recipe, context, &mut items, meanwhile);
    // What had to wait for answers, and whatever then had to wait for its answers.
    while items.contains(&None) {
        judge_ready(recipe, context, &mut items, || ());
    }
    (items.into_iter().flatten().collect(), other)
}

/// Judges what waits for nothing. Programs answer beside each other, though only so many as the machine has processors for.
fn judge_ready<T>(
    recipe: &Recipe,
    context: Context<'_>,
    items: &mut [Option<Item>],
    meanwhile: impl FnOnce() -> T,
) -> T {
    let most = thread::available_parallelism().map_or(1, usize::from).clamp(2, 8);
    thread::scope(|scope| {
        let mut asked = Vec::new();
        for (index, declared) in recipe.resources.iter().enumerate() {
            // A recipe's resources are in their order.
            let (before, rest) = items.split_at_mut(index);
            let Some(item @ None) = rest.first_mut() else { continue };
            let Some(until) = unsettled(declared, before) else { continue };
            if !until.is_empty() {
                let state = ItemState::Undecidable { until };
                *item = Some(Item { resource: declared.name.clone(), state, notices: Vec::new() });
            } else if !declared.resource.asks_programs() {
                *item = Some(judge(declared, context));
            } else if asked.len() < most {
                asked.push((index, scope.spawn(move || judge(declared, context))));
            }
        }
        let other = meanwhile();
        for (index, answer) in asked {
            items[index] = Some(answer.join().unwrap_or_else(|panic| resume_unwind(panic)));
        }
        other
    })
}

/// The names of those that have to be settled before it makes sense to look at this one. `None`: that is not known yet.
fn unsettled(declared: &Declared, before: &[Option<Item>]) -> Option<Vec<String>> {
    if !declared.resource.decided_by_others() {
        return Some(Vec::new());
    }
    let mut until = Vec::new();
    for item in declared.after.iter().filter_map(|index| before.get(*index)) {
        let item = item.as_ref()?;
        if !item.state.changes().is_empty() || matches!(item.state, ItemState::Undecidable { .. }) {
            until.push(item.resource.clone());
        }
    }
    Some(until)
}

fn judge(declared: &Declared, context: Context<'_>) -> Item {
    let mut judged = declared.resource.judge(context);
    let notices = judged.as_mut().map(|judged| std::mem::take(&mut judged.notices)).unwrap_or_default();
    Item { resource: declared.name.clone(), state: state(declared, judged), notices }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use toril_machine::Machine;

    use super::*;
    use crate::recipe::{Bundle, HostInfo};
    use crate::resource::testing::Fake;

    fn judged(resources: &str, meanwhile: impl FnOnce()) -> Vec<(String, ItemState)> {
        let (fake, machine) = (Fake::new(), Machine::this());
        let text = format!("description = \"d\"\nsupports = [\"debian 12\"]\n{resources}");
        let host = HostInfo { name: "h".into(), user: "u".into() };
        let recipe = Recipe::read(&Bundle::of("r", text, Default::default()), &fake.facts, &host).unwrap();
        let (items, ()) = judge_all(&recipe, fake.context_on(&machine), meanwhile);
        items.into_iter().map(|item| (item.resource, item.state)).collect()
    }

    /// An assertion that leaves a file, and then waits for another one.
    fn assertion(name: &str, leaves: &str, awaits: &str, more: &str) -> String {
        let script = format!("touch {leaves}; until test -e {awaits}; do sleep 0.01; done");
        format!(
            "[[resource]]\nname = \"{name}\"\nassert = {{ command = [\"sh\", \"-c\", \"{script}\"], deadline = \"10s\" }}\n{more}\n"
        )
    }

    #[test]
    fn programs_answer_beside_each_other_and_beside_what_else_is_looked_at() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name).display().to_string();
        let resources = assertion("one", &path("a"), &path("b"), "")
            + &assertion("other", &path("b"), &path("c"), "")
            + &assertion("last", &path("d"), &path("a"), "needs = [\"one\"]");
        let seen = judged(&resources, || {
            assert!(!dir.path().join("d").exists(), "what needs another waits for it");
            fs::write(dir.path().join("c"), "").unwrap();
        });
        let satisfied = |name: &str| (name.to_owned(), ItemState::Satisfied);
        assert_eq!(seen, [satisfied("one"), satisfied("other"), satisfied("last")]);
    }

    #[test]
    fn more_programs_than_processors_are_all_asked() {
        let many: String = (0..20)
            .map(|number| format!("[[resource]]\nname = \"{number}\"\nassert = {{ command = [\"true\"] }}\n"))
            .collect();
        let seen = judged(&many, || ());
        assert_eq!(seen.len(), 20);
        assert!(seen.iter().all(|(_, state)| *state == ItemState::Satisfied));
    }

    #[test]
    fn what_stands_on_something_that_lacks_is_not_asked() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name).display().to_string();
        let resources = "[[resource]]\nname = \"wrong\"\nassert = { command = [\"false\"] }\n".to_owned()
            + &assertion("next", &path("a"), "/", "needs = [\"wrong\"]")
            + &assertion("after it", &path("a"), "/", "needs = [\"next\"]");
        let seen = judged(&resources, || ());
        assert!(matches!(&seen[0].1, ItemState::Drift { .. }), "{seen:?}");
        assert_eq!(seen[1].1, ItemState::Undecidable { until: vec!["wrong".into()] });
        assert_eq!(seen[2].1, ItemState::Undecidable { until: vec!["next".into()] });
        assert!(!dir.path().join("a").exists());
    }
}
