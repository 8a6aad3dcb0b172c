//! What was chosen, on the command line or where it says nothing: recipes, suites and hosts, read and checked before a
//! host is contacted.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use toril_inventory::{Chosen, Inventory};
use toril_provisioner::{Bundle, HostInfo, LockFile, Recipe, RecipeFile};
use toril_runner::{Accelerator, AcceleratorChoice, Action, BuiltInSuite, Source, Suite};

use super::UsageError;
use super::inventory;
use super::privileges;
use crate::arguments::{
    Accel, AcceleratorArgument, Output, RecipeChoice, Reporting, Running, SuiteChoice, Way,
};
use crate::settings::{Origin, Setting, Settings, Variable};
use crate::view::{Choice, Reports, View};

/// A suite that is free of mistakes: its choice, its document's name, its text and its variables.
pub(super) struct ChosenSuite {
    pub(super) choice: Choice,
    pub(super) document: String,
    pub(super) text: String,
    pub(super) vars: BTreeMap<String, String>,
    /// Variables that the suite has and the command line does not set, so that the inventory may decide.
    pub(super) open: BTreeSet<String>,
    /// Whether it has guests of which it does not say itself that they are emulated.
    pub(super) needs_kvm: bool,
    pub(super) has_guests: bool,
    /// How many tests of it are wanted.
    pub(super) tests: usize,
    /// What tree it tests, and the directory that the repository is looked for from.
    pub(super) source: Option<(Source, PathBuf)>,
}

impl ChosenSuite {
    /// Its variables on a host: what the inventory says is stronger than toril.toml, weaker than the command line.
    pub(super) fn vars_of(&self, host: &Chosen) -> Result<BTreeMap<String, String>, UsageError> {
        let mut vars = self.vars.clone();
        let own = host.set.iter().filter(|(name, _)| self.open.contains(name.as_str()));
        let own: Vec<(String, String)> = own.map(|(name, said)| (name.clone(), said.value.clone())).collect();
        if !own.is_empty() {
            vars.extend(own);
            Suite::parse(&self.document, &self.text, &vars)?;
        }
        Ok(vars)
    }
}

/// A recipe that is free of mistakes, and what of its variables the inventory may still decide.
pub(super) struct ChosenRecipe {
    pub(super) choice: Choice,
    bundle: Bundle,
    /// Variables that the recipe has.
    declared: BTreeSet<String>,
    /// Those that the command line sets, against which nothing else counts.
    given: BTreeSet<String>,
    /// Whether only the command line may set them.
    unprivileged: bool,
}

impl ChosenRecipe {
    /// The recipe with a host's own variables: stronger than toril.toml, weaker than the command line. Variables that the
    /// recipe does not have are for other recipes.
    pub(super) fn of(&self, host: &Chosen) -> Result<Bundle, UsageError> {
        let mut bundle = self.bundle.clone();
        let own = host
            .vars
            .iter()
            .filter(|(name, _)| self.declared.contains(name.as_str()) && !self.given.contains(name.as_str()));
        let mut places = Vec::new();
        for (name, said) in own {
            bundle.vars.insert(name.clone(), said.value.clone());
            places.push(format!("`{name}` from {}", said.place));
        }
        if self.unprivileged && !places.is_empty() {
            return Err(privileges::of_variables(&places.join(", ")));
        }
        if !places.is_empty()
            && let Err(problems) = Recipe::check(&bundle, &sample())
        {
            // A variable that cannot be had is not there either, which need not be told.
            let wrong = problems.0.iter().filter(|problem| problem.code != "R002");
            let messages: Vec<&str> = wrong.map(|problem| problem.message.as_str()).collect();
            return Err(UsageError::Other(format!(
                "the recipe cannot have the variables of {}: {} ({})",
                host.name,
                messages.join("; "),
                places.join(", ")
            )));
        }
        Ok(bundle)
    }
}

/// Chooses by the command line, and by the settings where it says nothing.
pub(super) struct Chooser {
    settings: Settings,
}

impl Chooser {
    pub(super) fn here() -> Result<Chooser, UsageError> {
        Ok(Chooser { settings: Settings::here()? })
    }

    /// A recipe that is free of mistakes; beside a suite with `--unprivileged`, one that the project's files have no part in.
    pub(super) fn recipe(
        &self,
        arguments: &RecipeChoice,
        suite: Option<&SuiteChoice>,
    ) -> Result<ChosenRecipe, UsageError> {
        let Setting { value: name, origin: chosen } = given(arguments.recipe.as_ref(), &self.settings.recipe);
        let (origin, text) = find_recipe(&name)?;
        let vars = variables(&self.settings.vars, &arguments.vars);
        let mut bundle = load(&name, &origin, text, vars)?;
        let unprivileged = suite.filter(|suite| suite.unprivileged);
        if let Some(suite) = unprivileged {
            let project = self.project(suite)?;
            privileges::of_recipe(&name, &chosen, &self.settings.vars, &bundle, &project)?;
            privileges::of_lock(&mut bundle, arguments.unlocked, &project)?;
        }
        let mut seen = origin;
        if let Some(lock) = bundle.lock.as_mut().filter(|_| !arguments.unlocked) {
            lock.only_hashes = false;
            seen.push_str(&format!(", locked by {}", lock.file.origin));
        }
        let recipe = Recipe::check(&bundle, &sample())?;
        let (chosen, description) = (chosen.to_string(), recipe.description);
        let choice = Choice { name, origin: seen, chosen, description };
        let given = arguments.vars.iter().map(|(name, _)| name.clone()).collect();
        let unprivileged = unprivileged.is_some();
        Ok(ChosenRecipe { choice, declared: bundle.declared(), bundle, given, unprivileged })
    }

    /// What a push may change: the project here, and that of the suite.
    fn project(&self, suite: &SuiteChoice) -> Result<privileges::Project, UsageError> {
        let suite = given(suite.suite.as_ref(), &self.settings.suite).value;
        let directory = match BuiltInSuite::find(&suite) {
            Some(_) => PathBuf::from("."),
            None => suite_directory(&suite),
        };
        privileges::Project::around(&[Path::new("."), &directory])
    }

    /// A recipe as it is before it is locked, and its name.
    pub(super) fn to_lock(
        &self,
        argument: Option<&String>,
        vars: &[(String, String)],
    ) -> Result<(String, Bundle), UsageError> {
        let name = given(argument, &self.settings.recipe).value;
        let bundle = named(&name, variables(&self.settings.vars, vars))?;
        Ok((name, bundle))
    }

    /// A suite that is free of mistakes.
    pub(super) fn suite(&self, arguments: &SuiteChoice) -> Result<ChosenSuite, UsageError> {
        let Setting { value: name, origin: chosen } = given(arguments.suite.as_ref(), &self.settings.suite);
        let built_in = BuiltInSuite::find(&name).map(|suite| suite.text);
        let known: Vec<&str> = BuiltInSuite::ALL.iter().map(|suite| suite.name).collect();
        let (origin, text) = find("suite", &name, built_in, &known)?;
        let vars = variables(&self.settings.set, &arguments.set);
        let document = document_name(&name, &origin);
        let suite = Suite::parse(&document, &text, &vars)?;
        if arguments.unprivileged {
            privileges::of_suite(&suite)?;
        }
        let wanted = suite.tests.iter().filter(|test| toril_runner::is_wanted(&arguments.filter, &test.name));
        let tests = wanted.count();
        if tests == 0 {
            let names: Vec<&str> = suite.tests.iter().map(|test| test.name.as_str()).collect();
            let filters = arguments.filter.join(", ");
            return Err(UsageError::Other(format!(
                "no test matches --filter {filters}; there are: {}",
                names.join(", ")
            )));
        }
        let has_guests = suite.tests.iter().any(|test| matches!(test.action, Action::Guest(_)));
        let needs_kvm = has_guests && suite.accelerator != AcceleratorChoice::Only(Accelerator::Tcg);
        let directory = suite_directory(&origin);
        let source = source_of(suite.source, arguments.reference.as_deref(), &document)?;
        let source = source.map(|source| (source, directory));
        let choice = Choice { name, origin, chosen: chosen.to_string(), description: suite.description };
        let given = |name: &String| arguments.set.iter().any(|(set, _)| set == name);
        let open = suite.vars.into_keys().filter(|name| !given(name)).collect();
        Ok(ChosenSuite { choice, document, text, vars, open, needs_kvm, has_guests, tests, source })
    }

    /// The hosts that were named, each once.
    pub(super) fn targets(&self, hosts: &[String], way: &Way) -> Result<Vec<Chosen>, UsageError> {
        let hosts = if hosts.is_empty() { &self.settings.hosts.value } else { hosts };
        if hosts.is_empty() {
            let text = "no host is named: give one, such as `sandbox` or `debian@203.0.113.7`, or write `hosts` in toril.toml";
            return Err(UsageError::Other(text.into()));
        }
        let inventory = self.inventory(way.inventory.as_ref())?;
        let resolve =
            |host: &String| inventory.resolve(host).map_err(|error| UsageError::Other(error.to_string()));
        let found = UsageError::in_any(hosts.iter().map(resolve))?;
        let mut targets: Vec<Chosen> = Vec::new();
        for (host, found) in hosts.iter().zip(found) {
            for error in &found.left_out {
                // There is nobody left to tell if this fails.
                drop(writeln!(io::stderr(), "left out of `{host}`: {error}"));
            }
            for found in found.hosts {
                if !targets.iter().any(|known| known.name == found.name) {
                    targets.push(found);
                }
            }
        }
        let machines = Arc::new(inventory.machines());
        targets.iter_mut().for_each(|target| target.machines = Arc::clone(&machines));
        Ok(targets)
    }

    /// The one host of this name.
    pub(super) fn target(&self, host: &str, way: &Way) -> Result<Chosen, UsageError> {
        self.host(host, way.inventory.as_ref())
    }

    /// The same, of an inventory.
    pub(super) fn host(&self, host: &str, inventory: Option<&PathBuf>) -> Result<Chosen, UsageError> {
        let inventory = self.inventory(inventory)?;
        if inventory.is_group(host) && !inventory.is_host(host) {
            return Err(UsageError::Other(format!("`{host}` is a group, and one host is wanted")));
        }
        let mut found = inventory.one(host).map_err(|error| UsageError::Other(error.to_string()))?;
        found.machines = Arc::new(inventory.machines());
        Ok(found)
    }

    /// The inventory that the command line names, or the settings, with all that its sources tell.
    pub(super) fn inventory(&self, argument: Option<&PathBuf>) -> Result<Inventory, UsageError> {
        let Setting { value: path, origin } = given(argument, &self.settings.inventory);
        inventory::load(&path, origin == Origin::BuiltIn)
    }

    /// The variables of recipes that toril.toml sets.
    pub(super) fn recipe_variables(&self) -> &BTreeMap<String, Variable> {
        &self.settings.vars
    }

    /// The variables of suites that toril.toml sets.
    pub(super) fn suite_variables(&self) -> &BTreeMap<String, Variable> {
        &self.settings.set
    }

    /// Whether the settings name any host.
    pub(super) fn has_hosts(&self) -> bool {
        !self.settings.hosts.value.is_empty()
    }

    /// How long to wait for another run on a host to end.
    pub(super) fn wait(&self, running: &Running) -> Duration {
        running.wait.unwrap_or(self.settings.wait.value)
    }

    /// The view of a command's work on these hosts, which reports as the command line or the settings say.
    pub(super) fn view(
        &self,
        output: &Output,
        reporting: &Reporting,
        hosts: &[String],
    ) -> Result<View, UsageError> {
        let given = &reporting.report;
        let choices = if given.is_empty() { &self.settings.reports.value } else { given };
        let reports = Reports::begin(choices.clone(), hosts, output.json).map_err(UsageError::Other)?;
        Ok(View::reporting(output, reports))
    }

    /// The accelerator that was asked for.
    pub(super) fn accelerator(&self, argument: AcceleratorArgument) -> Option<Accelerator> {
        argument.accel.or(self.settings.accel.value).map(|accel| match accel {
            Accel::Kvm => Accelerator::Kvm,
            Accel::Tcg => Accelerator::Tcg,
        })
    }
}

/// Where the repository of a suite is looked for: beside its file, or here if it is built in.
fn suite_directory(origin: &str) -> PathBuf {
    let directory =
        Path::new(origin).parent().filter(|parent| origin != "built-in" && !parent.as_os_str().is_empty());
    directory.unwrap_or(Path::new(".")).to_owned()
}

/// The suite's source, of the commit that the command line names if it names one.
fn source_of(
    source: Option<Source>,
    reference: Option<&str>,
    document: &str,
) -> Result<Option<Source>, UsageError> {
    let Some(reference) = reference else { return Ok(source) };
    toril_runner::check_reference(reference).map_err(|why| UsageError::Other(format!("--ref: {why}")))?;
    match source {
        Some(Source::Fetch { url, .. }) => Ok(Some(Source::Fetch { url, reference: reference.to_owned() })),
        Some(Source::Tree { .. } | Source::Ref(_)) => Ok(Some(Source::Ref(reference.to_owned()))),
        None => Err(UsageError::Other(format!(
            "--ref {reference}: {document} tests no tree: say with [source] where it comes from, such as tree = \".\""
        ))),
    }
}

/// Both, or the mistakes of both.
pub(super) fn both<A, B>(
    first: Result<A, UsageError>,
    second: Result<B, UsageError>,
) -> Result<(A, B), UsageError> {
    match (first, second) {
        (Ok(first), Ok(second)) => Ok((first, second)),
        (Err(first), Err(second)) => Err(first.and(second)),
        (Err(error), _) | (_, Err(error)) => Err(error),
    }
}

fn given<T: Clone>(argument: Option<&T>, setting: &Setting<T>) -> Setting<T> {
    match argument {
        Some(value) => Setting { value: value.clone(), origin: Origin::CommandLine },
        None => setting.clone(),
    }
}

fn variables(
    settings: &BTreeMap<String, Variable>,
    arguments: &[(String, String)],
) -> BTreeMap<String, String> {
    let settings = settings.iter().map(|(name, variable)| (name.clone(), variable.value.clone()));
    settings.chain(arguments.iter().cloned()).collect()
}

/// A recipe by the name of a built-in one or by its file, and all that it includes.
pub(super) fn named(name: &str, vars: BTreeMap<String, String>) -> Result<Bundle, UsageError> {
    let (origin, text) = find_recipe(name)?;
    load(name, &origin, text, vars)
}

fn find_recipe(name: &str) -> Result<(String, String), UsageError> {
    let built_in = toril_recipes::find(name).map(|recipe| recipe.text);
    let known: Vec<&str> = toril_recipes::ALL.iter().map(|recipe| recipe.name).collect();
    find("recipe", name, built_in, &known)
}

/// A recipe and all that it includes.
pub(super) fn load(
    name: &str,
    origin: &str,
    text: String,
    vars: BTreeMap<String, String>,
) -> Result<Bundle, UsageError> {
    let root = RecipeFile { origin: document_name(name, origin), text };
    let lock = find_lock(name)?;
    Ok(Bundle { lock, ..Bundle::load(root, vars, &included, &template)? })
}

/// Where the lock of a recipe is: beside its file; here, if it is built in.
pub(super) fn lock_path(name: &str) -> PathBuf {
    match toril_recipes::find(name) {
        Some(_) => format!("{name}.lock").into(),
        None => Path::new(name).with_extension("lock"),
    }
}

/// The lock of a recipe, of which only the hashes count unless somebody says more.
fn find_lock(name: &str) -> Result<Option<LockFile>, UsageError> {
    let path = lock_path(name);
    let origin = path.display().to_string();
    match fs::read_to_string(&path) {
        Ok(text) => Ok(Some(LockFile { file: RecipeFile { origin, text }, only_hashes: true })),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(UsageError::Other(format!("cannot read the lock {origin}: {error}"))),
    }
}

/// A host for checking recipes: no template may depend on more of one than that it has a name and a login.
pub(super) fn sample() -> HostInfo {
    HostInfo { name: "sample".into(), user: "debian".into() }
}

/// A recipe that another one includes: a built-in, or a file beside the one that names it.
fn included(name: &str, from: &str) -> Result<RecipeFile, String> {
    if let Some(recipe) = toril_recipes::find(name) {
        return Ok(RecipeFile { origin: format!("built-in {name}"), text: recipe.text.to_owned() });
    }
    let path = Path::new(from).parent().unwrap_or(Path::new("")).join(name);
    let text = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(RecipeFile { origin: path.to_string_lossy().into_owned(), text })
}

/// The largest text that a resource may be rendered from, in bytes.
const LARGEST_TEMPLATE: u64 = 1 << 20;

/// The text of a template, which is in the directory of the recipe that names it, or below it.
fn template(name: &str, from: &str) -> Result<RecipeFile, String> {
    use std::path::Component;
    let is_below = Path::new(name).components().all(|part| matches!(part, Component::Normal(_)));
    if !is_below || name.is_empty() {
        return Err("it must be a path in the directory of the recipe, such as `app.conf.hbs`".into());
    }
    let path = Path::new(from).parent().unwrap_or(Path::new("")).join(name);
    let shown = path.display();
    let size = fs::metadata(&path).map_err(|error| format!("{shown}: {error}"))?.len();
    if size > LARGEST_TEMPLATE {
        return Err(format!("{shown} has {size} bytes, and more than {LARGEST_TEMPLATE} are not taken"));
    }
    let text = fs::read_to_string(&path).map_err(|error| format!("{shown}: {error}"))?;
    Ok(RecipeFile { origin: path.to_string_lossy().into_owned(), text })
}

/// The text of a built-in or of a file, and where it came from.
fn find(
    what: &str,
    name: &str,
    built_in: Option<&str>,
    known: &[&str],
) -> Result<(String, String), UsageError> {
    if let Some(text) = built_in {
        return Ok(("built-in".into(), text.to_owned()));
    }
    match fs::read_to_string(name) {
        Ok(text) => Ok((name.to_owned(), text)),
        Err(error) => {
            let known = known.join(", ");
            Err(UsageError::Other(format!(
                "no {what} `{name}`: {error}; give a file, or one of the built-in: {known}"
            )))
        }
    }
}

fn document_name(name: &str, origin: &str) -> String {
    if origin == "built-in" { format!("built-in {name}") } else { origin.to_owned() }
}
