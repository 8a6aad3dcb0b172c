use std::collections::HashMap;

use toril_document::{Document, Located, Problems, Table, Value, nearest};
use toril_machine::Facts;

use super::scope::Scope;
use super::{Bundle, HostInfo, Release, when};
use crate::resource::{self, Resource};

/// A recipe read for one machine: templates rendered, resources that are not for it left out, the rest in the order
/// in which they are carried out.
#[derive(Debug)]
pub struct Recipe {
    /// What it gives a host, in a line.
    pub description: String,
    /// The releases it is written for.
    pub supports: Vec<Release>,
    pub(crate) resources: Vec<Declared>,
}

/// One resource of a recipe.
#[derive(Debug)]
pub struct Declared {
    pub(crate) name: String,
    /// Whether the recipe fails where this is not possible.
    pub(crate) required: bool,
    /// Positions of the resources that come first.
    pub(crate) after: Vec<usize>,
    pub(crate) resource: Box<dyn Resource>,
}

/// A resource as it stands in the file, before the others it needs are known.
struct Draft {
    name: Located<String>,
    needs: Vec<Located<String>>,
    enabled: bool,
    required: bool,
    resource: Box<dyn Resource>,
}

impl Recipe {
    /// Reads a recipe for a machine of which `facts` are known.
    ///
    /// # Errors
    /// Every mistake in it, each with its place.
    pub fn read(bundle: &Bundle, facts: &Facts, host: &HostInfo) -> Result<Recipe, Problems> {
        Document::read(&bundle.origin, &bundle.text, |table| read(table, bundle, facts, host))
    }

    /// Reads a recipe as it would be on every release it supports, before any host is contacted.
    ///
    /// # Errors
    /// Every mistake in it, each once and with its place.
    pub fn check(bundle: &Bundle, host: &HostInfo) -> Result<Recipe, Problems> {
        let newest = Release::parse("debian 12").map(super::sample_facts);
        let Ok(facts) = newest else { return Err(Problems::default()) };
        let recipe = Recipe::read(bundle, &facts, host)?;
        let mut problems = Problems::default();
        for release in &recipe.supports {
            if let Err(more) = Recipe::read(bundle, &super::sample_facts(*release), host) {
                problems.0.extend(
                    more.0.into_iter().filter(|problem| !problems.0.contains(problem)).collect::<Vec<_>>(),
                );
            }
        }
        problems.or(recipe)
    }

    /// The names of its resources, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.resources.iter().map(|declared| declared.name.as_str())
    }
}

fn read(table: &mut Table<'_>, bundle: &Bundle, facts: &Facts, host: &HostInfo) -> Option<Recipe> {
    table.rename("the recipe");
    let description = table.required_string("description").map(|text| text.value);
    let supports = table.required_strings("supports").unwrap_or_default();
    let supports = supports.into_iter().filter_map(|text| match Release::parse(&text.value) {
        Ok(release) => Some(release),
        Err(message) => {
            table.note("R004", text.span, message, None);
            None
        }
    });
    let supports: Vec<Release> = supports.collect();
    let mut scope = Scope::new(facts, host);
    let defaults = table.table("vars").map(|mut vars| vars.take_all()).unwrap_or_default();
    scope.declare(table, defaults, &bundle.vars);
    let drafts: Vec<Draft> = table
        .tables_rendered("resource", |table, value| scope.render(table, value))
        .into_iter()
        .filter_map(|resource| read_resource(resource, facts))
        .collect();
    let resources = arrange(table, drafts);
    Some(Recipe { description: description?, supports, resources: resources? })
}

fn read_resource(mut table: Table<'_>, facts: &Facts) -> Option<Draft> {
    let name = table.required_string("name");
    if let Some(name) = &name {
        table.rename(format!("resource `{}`", name.value));
    }
    let enabled = table.table("when").is_none_or(|when| when::holds(when, facts));
    let needs = table.strings("needs").unwrap_or_default();
    let required = required(&mut table);
    let place = table.span();
    let kinds: Vec<_> = resource::KINDS.iter().filter(|kind| table.has(kind.key)).collect();
    let resource = match kinds[..] {
        [kind] => table.table(kind.key).and_then(|mut body| {
            let resource = (kind.read)(&mut body);
            body.finish();
            resource
        }),
        [] => {
            // The kinds become known words, so that a mistyped one is answered with the nearest.
            resource::KINDS.iter().for_each(|kind| drop(table.take(kind.key)));
            table.note("R005", place, "a resource must have one kind and this has none", Some(kinds_help()));
            None
        }
        [first, second, ..] => {
            let message =
                format!("a resource has one kind, and this has `{}` and `{}`", first.key, second.key);
            kinds.iter().for_each(|kind| drop(table.take(kind.key)));
            table.note("R005", place, message, Some("write two resources".into()));
            None
        }
    };
    table.finish();
    Some(Draft { name: name?, needs, enabled, required, resource: resource? })
}

/// `required` is a boolean, or a template that gives one.
fn required(table: &mut Table<'_>) -> bool {
    match table.take("required") {
        None => true,
        Some((_, value)) => match value.value {
            Value::Boolean(flag) => flag,
            Value::String(text) if text == "true" => true,
            Value::String(text) if text == "false" => false,
            _ => {
                table.note("R006", value.span, "`required` must be true or false", None);
                true
            }
        },
    }
}

fn kinds_help() -> String {
    let kinds: Vec<&str> = resource::KINDS.iter().map(|kind| kind.key).collect();
    format!("kinds: {}", kinds.join(", "))
}

/// Orders resources by `needs` and by what is evident, keeping the file's order where neither says anything.
fn arrange(table: &Table<'_>, drafts: Vec<Draft>) -> Option<Vec<Declared>> {
    let mut positions: HashMap<String, usize> = HashMap::new();
    for (index, draft) in drafts.iter().enumerate() {
        if positions.insert(draft.name.value.clone(), index).is_some() {
            let message = format!("there are two resources named `{}`", draft.name.value);
            table.note("R007", draft.name.span.clone(), message, None);
        }
    }
    let mut after: Vec<Vec<usize>> = Vec::new();
    for (index, draft) in drafts.iter().enumerate() {
        let mut edges = evident(&drafts, index);
        for need in &draft.needs {
            match positions.get(&need.value) {
                Some(position) => edges.push(*position),
                None => {
                    let help = nearest(&need.value, positions.keys().map(String::as_str));
                    let message =
                        format!("`needs` names `{}`, which is no resource of this recipe", need.value);
                    table.note(
                        "R008",
                        need.span.clone(),
                        message,
                        help.map(|word| format!("did you mean `{word}`?")),
                    );
                }
            }
        }
        edges.sort_unstable();
        edges.dedup();
        after.push(edges);
    }
    let order = match sort(&after) {
        Ok(order) => order,
        Err(cycle) => {
            let names: Vec<&str> = cycle.iter().map(|index| drafts[*index].name.value.as_str()).collect();
            let place = cycle.first().map_or(0..0, |index| drafts[*index].name.span.clone());
            table.note(
                "R009",
                place,
                format!("these resources wait for each other: {}", names.join(" → ")),
                None,
            );
            return None;
        }
    };
    // Only now are those left out that are not for this machine: what needs them then waits for what they need.
    let kept: Vec<usize> = order.into_iter().filter(|index| drafts[*index].enabled).collect();
    let places: HashMap<usize, usize> = kept.iter().enumerate().map(|(new, old)| (*old, new)).collect();
    let mut drafts: Vec<Option<Draft>> = drafts.into_iter().map(Some).collect();
    let resources = kept.iter().filter_map(|old| {
        let draft = drafts[*old].take()?;
        let mut first = Vec::new();
        reachable(&after, &places, *old, &mut first);
        Some(Declared {
            name: draft.name.value,
            required: draft.required,
            after: first,
            resource: draft.resource,
        })
    });
    Some(resources.collect())
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

/// What a resource comes after without being told: what provides the things it stands on.
fn evident(drafts: &[Draft], index: usize) -> Vec<usize> {
    let draft = &drafts[index];
    let wanted = draft.resource.follows();
    let explicit = !draft.needs.is_empty();
    let provides = |other: &Draft| {
        let provided = other.resource.provides();
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::sample_facts;

    fn bundle(text: &str) -> Bundle {
        Bundle { origin: "r.toml".into(), text: text.into(), vars: Default::default() }
    }

    fn host() -> HostInfo {
        HostInfo { name: "h".into(), user: "debian".into() }
    }

    const HEAD: &str = "description = \"d\"\nsupports = [\"debian 12\"]\n";

    fn problems(body: &str) -> Vec<String> {
        let error = Recipe::check(&bundle(&format!("{HEAD}{body}")), &host()).unwrap_err();
        error.0.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn order_is_by_what_is_evident_and_by_needs() {
        let text = format!(
            "{HEAD}
            [[resource]]\nname = \"file\"\nfile = {{ path = \"/srv/a/f\", content = \"\", owner = \"u\" }}
            [[resource]]\nname = \"user\"\nuser = {{ name = \"u\", groups = [\"g\"] }}
            [[resource]]\nname = \"directory\"\ndirectory = {{ path = \"/srv/a\" }}\nneeds = [\"last\"]
            [[resource]]\nname = \"group\"\ngroup = {{ name = \"g\" }}
            [[resource]]\nname = \"last\"\ngroup = {{ name = \"h\" }}"
        );
        let recipe = Recipe::check(&bundle(&text), &host()).unwrap();
        assert_eq!(recipe.names().collect::<Vec<_>>(), ["group", "user", "last", "directory", "file"]);
    }

    #[test]
    fn what_is_not_for_a_machine_is_left_out_and_passes_its_order_on() {
        let text = format!(
            "{HEAD}
            [[resource]]\nname = \"c\"\ngroup = {{ name = \"c\" }}\nneeds = [\"b\"]
            [[resource]]\nname = \"b\"\ngroup = {{ name = \"b\" }}\nneeds = [\"a\"]\nwhen = {{ debian = \"10\" }}
            [[resource]]\nname = \"a\"\ngroup = {{ name = \"a\" }}"
        );
        let facts = sample_facts(Release::parse("debian 12").unwrap());
        let recipe = Recipe::read(&bundle(&text), &facts, &host()).unwrap();
        assert_eq!(recipe.names().collect::<Vec<_>>(), ["a", "c"]);
        assert_eq!(recipe.resources[1].after, [0]);
    }

    #[test]
    fn mistakes_are_named_with_the_nearest_right_word() {
        for (body, expected) in [
            ("[vars]\nname = 1.5\n", "variable `name` must be a string"),
            (
                "[[resource]]\nname = \"x\"\ngroup = { name = \"{{ vars.nam }}\" }\n",
                "unknown variable `vars.nam`",
            ),
            ("[[resource]]\nname = \"x\"\ngruop = { name = \"a\" }\n", "did you mean `group`?"),
            ("[[resource]]\nname = \"x\"\ngroup = { nmae = \"a\" }\n", "did you mean `name`?"),
            ("[[resource]]\nname = \"x\"\n", "must have one kind"),
            (
                "[[resource]]\nname = \"x\"\ngroup = { name = \"a\" }\nneeds = [\"y\"]\n",
                "is no resource of this recipe",
            ),
            (
                "[[resource]]\nname = \"x\"\ngroup = { name = \"a\" }\nneeds = [\"x\"]\n",
                "wait for each other: x → x",
            ),
            (
                "[[resource]]\nname = \"x\"\ngroup = { name = \"a\" }\nwhen = { debain = \"12\" }\n",
                "did you mean `debian`?",
            ),
            (
                "[[resource]]\nname = \"x\"\ngroup = { name = \"{{ shout host.name }}\" }\n",
                "unknown helper `shout`",
            ),
            (
                "[[resource]]\nname = \"x\"\nfile = { path = \"etc\", content = \"\" }\n",
                "must be an absolute path",
            ),
        ] {
            let found = problems(body).join("\n");
            assert!(found.contains(expected), "{expected:?} is not in {found:?}");
        }
    }

    #[test]
    fn all_mistakes_come_in_one_go() {
        let body = "[[resource]]\nname = \"x\"\ngroup = { name = 3 }\n[[resource]]\nname = \"x\"\nuser = { nam = \"u\" }\n";
        assert!(problems(body).len() >= 3, "{:#?}", problems(body));
    }
}
