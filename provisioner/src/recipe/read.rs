use std::sync::Arc;

use toril_document::{Document, Problems, Source, Value};
use toril_machine::Facts;

use super::arrange::arrange;
use super::head::{self, Head};
use super::hold::{self, Held};
use super::open::OpenSource;
use super::resources::Drafts;
use super::scope::Scope;
use super::{Bundle, HostInfo, Release, sample_facts};
use crate::lock::{Lock, LockedHost};
use crate::resource::{Resource, locked};

/// A recipe read for one machine: templates rendered, resources that are not for it left out, the rest in the order
/// in which they are carried out.
#[derive(Debug)]
pub struct Recipe {
    /// Where it came from, as messages name it.
    pub origin: String,
    /// What it gives a host, in a line.
    pub description: String,
    /// The releases it is written for.
    pub supports: Vec<Release>,
    pub(crate) resources: Vec<Declared>,
    pub(crate) handlers: Vec<Handler>,
}

/// One resource of a recipe.
#[derive(Debug)]
pub(crate) struct Declared {
    pub(crate) name: String,
    /// Whether the recipe fails where this is not possible.
    pub(crate) required: bool,
    /// Positions of the resources that come first.
    pub(crate) after: Vec<usize>,
    /// Positions of the handlers that must follow a change.
    pub(crate) on_change: Vec<usize>,
    /// Its kind's key and what stands there, templates rendered.
    pub(super) body: (&'static str, Value),
    pub(crate) resource: Box<dyn Resource>,
}

impl Declared {
    /// What a lock says of the host, which comes after the packages that bring it.
    fn of_lock(host: LockedHost, others: &[Declared]) -> Declared {
        let packages = others.iter().enumerate().filter(|(_, other)| other.resource.as_packages().is_some());
        Declared {
            name: locked::NAME.into(),
            required: true,
            after: packages.map(|(index, _)| index).collect(),
            on_change: Vec::new(),
            body: ("lock", Value::Table(Vec::new())),
            resource: Box::new(locked::Locked(host)),
        }
    }
}

/// A command that must follow a change, such as a reload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Handler {
    pub(crate) name: String,
    /// The program and its arguments; never empty.
    pub(crate) command: Vec<String>,
}

impl Recipe {
    /// Reads a recipe for a machine of which `facts` are known.
    ///
    /// # Errors
    /// Every mistake in it and in what it includes, each with its place.
    pub fn read(bundle: &Bundle, facts: &Facts, host: &HostInfo) -> Result<Recipe, Problems> {
        Recipe::read_for(bundle, facts, host, Purpose::Host).map(|(recipe, _)| recipe)
    }

    fn read_for(
        bundle: &Bundle,
        facts: &Facts,
        host: &HostInfo,
        purpose: Purpose,
    ) -> Result<(Recipe, Vec<OpenSource>), Problems> {
        let mut problems = Problems::default();
        let lock = hold::read(bundle);
        let readable = lock.is_ok();
        let lock = lock.unwrap_or_else(|more| {
            problems.add(more);
            Lock::default()
        });
        let mut heads = Vec::new();
        for file in &bundle.files {
            match Head::read(file) {
                Ok(head) => heads.push(head),
                Err(more) => {
                    problems.add(more);
                    heads.push(Head::default());
                }
            }
        }
        let mut scope = Scope::new(facts, host);
        // What is included comes first, so that the including recipe's defaults win.
        for (file, head) in bundle.files.iter().zip(&heads).rev() {
            let source = Arc::new(Source { name: file.origin.clone(), text: file.text.clone() });
            problems.add(scope.declare(&source, &head.vars, &bundle.vars));
        }
        problems.add(scope.undeclared(&bundle.vars));
        let mut drafts = Drafts::default();
        let hashes = (readable && purpose != Purpose::Sources).then_some(&lock.hashes);
        for file in bundle.files.iter().rev() {
            let read = Document::read(&file.origin, &file.text, |table| {
                // Read above; taken again, so that what is left is unknown.
                drop(head::read(table));
                drafts.read(table, &scope, &bundle.templates, hashes, facts);
                Some(())
            });
            problems.add(read.err().unwrap_or_default());
        }
        problems.add(std::mem::take(&mut drafts.problems));
        let open = std::mem::take(&mut drafts.open);
        let held = match (purpose, heads.first()) {
            (Purpose::Sources, _) | (_, None) => None,
            (_, Some(head)) => {
                let held = Held { lock: &lock, head, open: &open, real: purpose == Purpose::Host };
                held.hold(&mut drafts.resources, facts).unwrap_or_else(|more| {
                    problems.add(more);
                    None
                })
            }
        };
        let arranged = arrange(drafts);
        if let Err(more) = &arranged {
            problems.add(more.clone());
        }
        problems.or(())?;
        let (mut resources, handlers) = arranged?;
        resources.extend(held.map(|host| Declared::of_lock(host, &resources)));
        let head = heads.into_iter().next().unwrap_or_default();
        let origin = bundle.origin().to_owned();
        let Head { description, supports, .. } = head;
        Ok((Recipe { origin, description, supports, resources, handlers }, open))
    }

    /// What of a recipe comes from outside and is not pinned by it, on whatever release: [`Bundle::lock`] has to.
    ///
    /// # Errors
    /// Every other mistake in it, each once and with its place.
    pub fn open_sources(bundle: &Bundle, host: &HostInfo) -> Result<Vec<OpenSource>, Problems> {
        let mut open: Vec<OpenSource> = Vec::new();
        let mut problems = Problems::default();
        for release in releases(bundle) {
            match Recipe::read_for(bundle, &sample_facts(release), host, Purpose::Sources) {
                Ok((_, more)) => {
                    open.extend(more.into_iter().filter(|source| !open.contains(source)).collect::<Vec<_>>());
                }
                Err(more) => problems.add(more),
            }
        }
        problems.or(open)
    }

    /// Reads a recipe as it would be on every release it supports, before any host is contacted.
    ///
    /// # Errors
    /// Every mistake in it, each once and with its place.
    pub fn check(bundle: &Bundle, host: &HostInfo) -> Result<Recipe, Problems> {
        let mut problems = Problems::default();
        let mut newest = None;
        for release in releases(bundle) {
            match Recipe::read_for(bundle, &sample_facts(release), host, Purpose::Sample) {
                Ok((recipe, _)) => newest = Some(recipe),
                Err(more) => problems.add(more),
            }
        }
        match newest {
            Some(recipe) => problems.or(recipe),
            None => Err(problems),
        }
    }

    /// The names of its resources, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.resources.iter().map(|declared| declared.name.as_str())
    }
}

/// What a recipe is read for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    /// A machine, which its lock must know.
    Host,
    /// Its mistakes.
    Sample,
    /// What of it comes from outside, before there is a lock that pins it.
    Sources,
}

/// The releases that a recipe supports. One that supports nothing is wrong in itself: any release shows how.
fn releases(bundle: &Bundle) -> Vec<Release> {
    let supports = bundle.files.first().and_then(|file| Head::read(file).ok()).unwrap_or_default().supports;
    if supports.is_empty() { Release::ALL.to_vec() } else { supports }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::{RecipeFile, sample_facts};

    fn bundle(text: &str) -> Bundle {
        Bundle::of("r.toml", text, Default::default())
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
    fn templates_travel_with_the_recipe_and_their_mistakes_have_their_places() {
        let load = |text: &'static str| {
            let recipe = format!(
                "{HEAD}[vars]\nteam = \"us\"\n[[resource]]\nname = \"t\"\n\
                 template = {{ path = \"/etc/t\", source = \"t.hbs\", mode = \"0600\" }}\n"
            );
            let root = RecipeFile { origin: "d/r.toml".into(), text: recipe };
            let none = |_: &str, _: &str| Err("not there".to_owned());
            let find = move |name: &str, from: &str| {
                assert_eq!((name, from), ("t.hbs", "d/r.toml"));
                match text {
                    "" => Err("not there".to_owned()),
                    text => Ok(RecipeFile { origin: "d/t.hbs".into(), text: text.into() }),
                }
            };
            Bundle::load(root, Default::default(), &none, &find).unwrap()
        };
        let shown = |text| Recipe::check(&load(text), &host()).map(|recipe| recipe.describe()[0].to_string());
        let good = shown("<{{ vars.team }}> & {{#if (eq vars.team \"us\")}}yes{{else}}no{{/if}}\n").unwrap();
        assert!(good.contains("file = {") && good.contains("<us> & yes"), "{good}");
        let problems =
            |text| -> Vec<String> { shown(text).unwrap_err().0.iter().map(ToString::to_string).collect() };
        let two = problems("one\n  {{ vars.taem }}\n{{#if (same vars.team \"x\")}}{{/if}}\n");
        assert_eq!(two.len(), 2, "{two:?}");
        assert!(two[0].starts_with("d/t.hbs:2:6: unknown variable `vars.taem`"), "{two:?}");
        assert!(two[1].starts_with("d/t.hbs:3:") && two[1].contains("unknown helper `same`"), "{two:?}");
        let syntax = problems("one\n{{#if vars.team}}\n");
        assert!(syntax.len() == 1 && syntax[0].contains("d/t.hbs:"), "{syntax:?}");
        let missing = problems("");
        assert!(missing[0].contains("cannot read the template `t.hbs`: not there [R041]"), "{missing:?}");
        assert_eq!(problems("{{ vars.te\u{e9} }}").len(), 1);
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
    fn what_counts_may_depend_on_variables() {
        let text = format!(
            "{HEAD}[vars]\nqemu = \"distro\"\nflag = true\n
            [[resource]]\nname = \"a\"\ngroup = {{ name = \"a\" }}\nwhen = {{ vars = {{ qemu = [\"distro\", \"micro\"], flag = \"true\" }} }}
            [[resource]]\nname = \"b\"\ngroup = {{ name = \"b\" }}\nwhen = {{ vars-not = {{ qemu = [\"distro\", \"micro\"] }} }}
            [[resource]]\nname = \"c\"\ngroup = {{ name = \"c\" }}\nwhen = {{ vars = {{ qemu = \"micro\" }} }}"
        );
        let names = |qemu: &str| {
            let vars = [("qemu".to_owned(), qemu.to_owned())].into();
            let recipe = Recipe::check(&Bundle::of("r.toml", text.clone(), vars), &host()).unwrap();
            recipe.names().collect::<Vec<_>>().join(" ")
        };
        assert_eq!((names("distro"), names("micro"), names("/q")), ("a".into(), "a c".into(), "b".into()));
        for (when, expected) in [
            ("vars = { qmu = \"x\" }", "unknown variable `vars.qmu` [R003] (did you mean `qemu`?)"),
            ("vars = { qemu = 3 }", "`qemu` is compared with a string"),
            ("vars = \"x\"", "vars"),
        ] {
            let body = format!(
                "[vars]\nqemu = \"x\"\n[[resource]]\nname = \"a\"\ngroup = {{ name = \"a\" }}\nwhen = {{ {when} }}\n"
            );
            let found = problems(&body).join("\n");
            assert!(found.contains(expected), "{expected:?} is not in {found:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_recipe_is_read_or_has_mistakes_with_places(
            body in r#"(\[\[resource\]\]\n|\[vars\]\n|name = "[a-z]"\n|group = \{ name = "[a-z{} .]*" \}\n|needs = \["[a-z]"\]\n|when = \{ [a-z]* = "12" \}\n|[a-z]+ = [0-9"]+\n){0,12}"#
        ) {
            if let Err(problems) = Recipe::check(&bundle(&format!("{HEAD}{body}")), &host()) {
                proptest::prop_assert!(!problems.0.is_empty());
            }
        }
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
    fn what_the_caller_sets_reaches_other_defaults_and_flags_are_flags() {
        let text = format!(
            "{HEAD}[vars]\na = \"x\"\nb = \"{{{{ vars.a }}}}-b\"\nflag = false\n
            [[resource]]\nname = \"r\"\ngroup = {{ name = \"{{{{#if vars.flag}}}}on{{{{else}}}}{{{{ vars.b }}}}{{{{/if}}}}\" }}"
        );
        let read = |vars: &[(&str, &str)]| {
            let vars = vars.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
            Recipe::check(&Bundle::of("r.toml", text.clone(), vars), &host())
        };
        let group =
            |vars: &[(&str, &str)]| format!("{:?}", read(vars).unwrap().resources[0].resource.provides());
        assert_eq!(group(&[("a", "y")]), "[Group(\"y-b\")]");
        assert_eq!(group(&[("flag", "true")]), "[Group(\"on\")]");
        assert!(
            read(&[("flag", "maybe")]).unwrap_err().to_string().contains("is true or false, not `maybe`")
        );
        assert!(read(&[("flga", "true")]).unwrap_err().to_string().contains("did you mean `flag`"));
    }

    #[test]
    fn what_is_included_comes_first_and_the_including_recipe_wins() {
        let file = |origin: &str, text: &str| RecipeFile { origin: origin.into(), text: text.into() };
        let root = format!(
            "{HEAD}includes = [\"base\"]\n[vars]\nname = \"root\"\n[[resource]]\nname = \"top\"\ngroup = {{ name = \"t\" }}"
        );
        let base = format!(
            "{HEAD}[vars]\nname = \"base\"\n[[resource]]\nname = \"low\"\ngroup = {{ name = \"{{{{ vars.name }}}}\" }}"
        );
        let find = |name: &str, _: &str| match name {
            "base" => Ok(file("base", &base)),
            _ => Err("there is none".to_owned()),
        };
        let bundle = Bundle::load(file("root", &root), Default::default(), &find, &find).unwrap();
        let recipe = Recipe::check(&bundle, &host()).unwrap();
        assert_eq!(recipe.names().collect::<Vec<_>>(), ["low", "top"]);
        assert_eq!(format!("{:?}", recipe.resources[0].resource.provides()), "[Group(\"root\")]");
        let wrong =
            Bundle::load(file("root", &root.replace("base", "bsae")), Default::default(), &find, &find);
        assert!(wrong.unwrap_err().to_string().starts_with("root:3:13: cannot include `bsae`"));
    }

    #[test]
    fn all_mistakes_come_in_one_go() {
        let body = "[[resource]]\nname = \"x\"\ngroup = { name = 3 }\n[[resource]]\nname = \"x\"\nuser = { nam = \"u\" }\n";
        assert!(problems(body).len() >= 3, "{:#?}", problems(body));
    }
}
