//! Fetching packages while what comes before them is applied.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{Scope, ScopedJoinHandle};
use std::time::Instant;

use super::apply::{Tell, milliseconds};
use super::{Event, ItemState};
use crate::apt::{Lists, Prefetched};
use crate::recipe::Recipe;
use crate::resource::{AptPackages, Context, Thing};

/// Where a change makes apt's lists other ones.
const OF_SOURCES: [&str; 2] = ["/etc/apt", "/usr/share/keyrings"];

/// When packages can be fetched that come later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ahead {
    /// The first resource with packages to change.
    pub(super) packages: usize,
    /// From this resource's turn on, nothing changes what apt's lists are.
    pub(super) from: usize,
}

impl Ahead {
    /// Looks ahead from a resource that has to change.
    pub(super) fn of(recipe: &Recipe, at: usize, has_to_change: impl Fn(usize) -> bool) -> Option<Ahead> {
        let resources = &recipe.resources;
        if resources.get(at)?.resource.as_packages().is_some() {
            return None;
        }
        let mut packages =
            (at + 1..resources.len()).filter(|index| resources[*index].resource.as_packages().is_some());
        let packages = packages.find(|index| has_to_change(*index))?;
        let changes_sources = |index: &usize| {
            let mut provided = resources[*index].resource.provides().into_iter();
            provided.any(|thing| match thing {
                Thing::AptSource => true,
                Thing::Path(path) => OF_SOURCES.iter().any(|place| {
                    path.strip_prefix(place).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
                }),
                _ => false,
            })
        };
        let mut last = (at..packages).rev().filter(changes_sources);
        let from = last.find(|index| *index == at || has_to_change(*index)).map_or(at, |index| index + 1);
        Some(Ahead { packages, from })
    }

    /// Whether something is still to be done between: whether a plan will fetch packages beforehand.
    pub(super) fn of_plan<'i>(recipe: &Recipe, states: impl Iterator<Item = &'i ItemState>) -> bool {
        let to_change: Vec<bool> = states.map(|state| !state.changes().is_empty()).collect();
        let has_to_change = |index: usize| to_change.get(index) == Some(&true);
        let Some(first) = to_change.iter().position(|change| *change) else { return false };
        let ahead = Ahead::of(recipe, first, has_to_change);
        ahead.is_some_and(|ahead| (ahead.from..ahead.packages).any(has_to_change))
    }
}

/// What the fetching thread and the engine tell each other.
#[derive(Debug, Default)]
struct Shared {
    /// Nobody wants it any more.
    unwanted: AtomicBool,
    /// Apt's lists are done with, one way or the other.
    lists: Mutex<bool>,
    settled: Condvar,
}

/// Fetching under way.
pub(super) struct Beforehand<'s> {
    shared: Arc<Shared>,
    thread: ScopedJoinHandle<'s, Prefetched>,
}

impl<'s> Beforehand<'s> {
    pub(super) fn begin<'e: 's>(
        scope: &'s Scope<'s, 'e>,
        resource: &str,
        packages: Vec<&'e AptPackages>,
        context: Context<'e>,
        tell: Tell<'e>,
    ) -> Beforehand<'s> {
        let shared = Arc::new(Shared::default());
        let (theirs, resource) = (Arc::clone(&shared), resource.to_owned());
        tell(Event::Fetching { resource: resource.clone() });
        let thread = scope.spawn(move || {
            // Whatever becomes of this thread: the engine waits for it.
            let _settled = Settled(&theirs);
            let start = Instant::now();
            let is_over = || context.is_stopped() || theirs.unwanted.load(Ordering::Relaxed);
            let mut log = |line: &str| {
                let line = format!("beforehand: {line}");
                tell(Event::Progress { resource: resource.clone(), line });
            };
            let lists_done = || theirs.settle();
            let fetched = AptPackages::prefetch_together(&packages, context, &is_over, &lists_done, &mut log);
            let (packages, bytes) = *fetched.packages.as_ref().unwrap_or(&(0, 0));
            let trouble = fetched.packages.as_ref().err().map(|error| match is_over() {
                true => "the run did not come to it".to_owned(),
                false => error.to_string(),
            });
            let milliseconds = milliseconds(start);
            tell(Event::Fetched { resource, packages, bytes, milliseconds, trouble });
            fetched
        });
        Beforehand { shared, thread }
    }

    /// Waits until apt's lock on the lists is free again: whatever else uses apt would fail on it. Tells that it does.
    pub(super) fn wait_for_lists(&self, told: &dyn Fn(&str)) {
        let lists = self.shared.lists.lock().unwrap_or_else(PoisonError::into_inner);
        if *lists {
            return;
        }
        told("waiting: apt's lists are being fetched, under a lock that this may need");
        let settled = self.shared.settled.wait_while(lists, |done| !*done);
        drop(settled.unwrap_or_else(PoisonError::into_inner));
    }

    /// Waits for its end: it is the packages' turn. The lists, where they were fetched.
    pub(super) fn join(self) -> Option<Lists> {
        self.thread.join().ok()?.lists
    }

    /// Ends it: the packages' turn has not come.
    pub(super) fn end(self) {
        self.shared.unwanted.store(true, Ordering::Relaxed);
        // Whatever it came to, it has told that.
        let _ = self.thread.join();
    }
}

/// Has the lists done with when it is dropped.
struct Settled<'t>(&'t Shared);

impl Drop for Settled<'_> {
    fn drop(&mut self) {
        self.0.settle();
    }
}

impl Shared {
    fn settle(&self) {
        *self.lists.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.settled.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::{Bundle, HostInfo};
    use crate::resource::testing::Fake;

    const RESOURCES: &str = r#"
        description = "d"
        supports = ["debian 12"]
        [[resource]]
        name = "file"
        file = { path = "/srv/a", content = "x" }
        [[resource]]
        name = "preferences"
        file = { path = "/etc/apt/preferences.d/x", content = "x" }
        [[resource]]
        name = "other file"
        file = { path = "/etc/aptitude", content = "x" }
        [[resource]]
        name = "packages"
        apt-packages = { install = ["a"] }
        [[resource]]
        name = "more packages"
        apt-packages = { install = ["b"] }
        "#;

    #[test]
    fn packages_are_fetched_once_nothing_changes_the_sources_any_more() {
        let fake = Fake::new();
        let host = HostInfo { name: "h".into(), user: "u".into() };
        let bundle = Bundle::of("r", RESOURCES, Default::default());
        let recipe = Recipe::read(&bundle, &fake.facts, &host).unwrap();
        let of = |at: usize, changing: &[usize]| {
            let ahead = Ahead::of(&recipe, at, |index| changing.contains(&index));
            ahead.map(|ahead| (ahead.packages, ahead.from))
        };
        assert_eq!(of(0, &[0, 3]), Some((3, 0)));
        assert_eq!(of(0, &[0, 4]), Some((4, 0)));
        assert_eq!(of(0, &[0, 1, 3]), Some((3, 2)), "the preferences come first");
        assert_eq!(of(1, &[1, 2, 3]), Some((3, 2)));
        assert_eq!(of(0, &[0, 2]), None, "no package lacks");
        assert_eq!(of(3, &[3, 4]), None, "they are the first thing to be done");
        let drift = ItemState::Unreadable { reason: String::new() };
        let change = || crate::resource::Change::new("w", "b", "a");
        let plan = |changing: &[usize]| {
            let states: Vec<ItemState> = (0..5)
                .map(|index| match changing.contains(&index) {
                    true => ItemState::Drift { changes: vec![change()] },
                    false => drift.clone(),
                })
                .collect();
            Ahead::of_plan(&recipe, states.iter())
        };
        assert!(plan(&[0, 3]) && plan(&[0, 1, 2, 3]) && plan(&[2, 3, 4]));
        assert!(!plan(&[0, 1, 3]) && !plan(&[3, 4]) && !plan(&[0]) && !plan(&[]));
    }
}
