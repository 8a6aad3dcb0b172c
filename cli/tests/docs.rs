//! The book says what the program does: kinds and their keys, problem numbers, options and examples.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests too")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use toril_document::Problems;
use toril_inventory::Inventory;
use toril_provisioner::{Bundle, HostInfo, Lock, LockFile, Recipe, RecipeFile, kind_shapes};
use toril_runner::Suite;

/// The program itself, which is not asked for a recipe or a host that it could reach.
const TORIL: &str = env!("CARGO_BIN_EXE_toril");

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// All files below a directory whose names end like this.
fn files(directory: &Path, end: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path, end));
        } else if path.to_str().unwrap().ends_with(end) {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn page(name: &str) -> String {
    fs::read_to_string(root().join("docs/src/reference").join(name)).unwrap()
}

fn toril(arguments: &[&str], dir: &Path) -> Output {
    command(arguments, dir).output().unwrap()
}

fn command(arguments: &[&str], dir: &Path) -> Command {
    let mut command = Command::new(TORIL);
    // What the user of this machine has set up must not be looked at.
    command.args(arguments).current_dir(dir).env_clear().env("XDG_CONFIG_HOME", "/nonexistent");
    command
}

/// What stands below `## NAME`, by name.
fn sections(page: &str) -> BTreeMap<&str, &str> {
    let sections = page.split("\n## ").skip(1);
    sections.map(|section| section.split_once('\n').unwrap()).collect()
}

/// The keys of every table whose header begins with `| key |`.
fn keys(section: &str) -> BTreeSet<String> {
    let mut keys = BTreeSet::new();
    let mut in_table = false;
    for line in section.lines() {
        in_table = line.starts_with("| key |") || (in_table && line.starts_with('|'));
        let cell = line.trim_start_matches('|').split('|').next().unwrap().trim();
        if let Some(key) = cell.strip_prefix('`').and_then(|rest| rest.strip_suffix('`')).filter(|_| in_table)
        {
            keys.insert(key.to_owned());
        }
    }
    keys
}

#[test]
fn every_kind_has_a_section_with_exactly_its_keys() {
    let page = page("resources.md");
    let sections = sections(&page);
    let kinds = kind_shapes();
    let names: BTreeSet<&str> = kinds.iter().map(|(kind, _)| *kind).collect();
    assert_eq!(sections.keys().copied().collect::<BTreeSet<_>>(), names);
    for (kind, shape) in kinds {
        let told: BTreeSet<String> = shape.keys().into_iter().map(|(name, ..)| name).collect();
        assert_eq!(keys(sections[kind]), told, "the keys of `{kind}`: on the page, and in its reader");
    }
}

#[test]
fn the_settings_page_has_exactly_the_keys_of_toril_toml() {
    let output = toril(&["config", "--schema", "toril"], &root());
    let schema: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let told: BTreeSet<String> = schema["properties"].as_object().unwrap().keys().cloned().collect();
    assert_eq!(keys(&page("settings.md")), told);
}

#[test]
fn what_config_prints_is_as_shown() {
    let page = page("settings.md");
    let (_, shown) = sections(&page)["toril config"].split_once("```text\n").unwrap();
    let dir = tempfile::tempdir().unwrap();
    let text = "recipe = \"microvm-host\"\nhosts = [\"sandbox\"]\n\n[set]\nmode = \"fail\"\n";
    fs::write(dir.path().join("toril.toml"), text).unwrap();
    let output = command(&["config"], dir.path()).env("TORIL_WAIT", "5m").output().unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    let printed = printed.replace(dir.path().to_str().unwrap(), "/home/anna/project");
    assert_eq!(shown.split("```").next().unwrap(), printed);
}

/// The blocks of the book that are marked as `toml KIND`: where they stand, and their text.
fn examples(kind: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for path in files(&root().join("docs/src"), ".md") {
        let text = fs::read_to_string(&path).unwrap();
        let opening = format!("```toml {kind}");
        let mut lines = text.lines().enumerate();
        while let Some((number, line)) = lines.next() {
            if line == opening {
                let block: Vec<&str> = lines.by_ref().map(|(_, l)| l).take_while(|l| *l != "```").collect();
                found.push((format!("{}:{}", path.display(), number + 1), block.join("\n")));
            }
        }
    }
    assert!(!found.is_empty(), "the book has no example of a {kind}");
    found
}

#[test]
fn no_example_of_a_resource_is_left_unchecked() {
    for path in files(&root().join("docs/src"), ".md") {
        let text = fs::read_to_string(&path).unwrap();
        for block in text.split("\n```toml\n").skip(1) {
            let block = block.split("\n```").next().unwrap();
            assert!(!block.contains("[[resource]]"), "{}: mark this `toml recipe`:\n{block}", path.display());
        }
    }
}

/// Texts beside recipes, marked as `hbs NAME`.
fn write_templates(directory: &Path) {
    for path in files(&root().join("docs/src"), ".md") {
        let text = fs::read_to_string(&path).unwrap();
        for block in text.split("\n```hbs ").skip(1) {
            let (name, rest) = block.split_once('\n').unwrap();
            fs::write(directory.join(name), format!("{}\n", rest.split("\n```").next().unwrap())).unwrap();
        }
    }
}

#[test]
fn the_examples_of_recipes_are_recipes() {
    let dir = tempfile::tempdir().unwrap();
    write_templates(dir.path());
    for (place, text) in examples("recipe") {
        fs::write(dir.path().join("example.toml"), text).unwrap();
        let output = toril(&["recipe", "check", "example.toml"], dir.path());
        let printed = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat();
        assert_eq!(output.status.code(), Some(0), "{place}: {printed}");
    }
}

/// The recipe of a lock is marked as `toml recipe NAME`, with the name that the lock has for it.
#[test]
fn the_example_of_a_lock_holds_its_recipe() {
    for (place, text) in examples("lock") {
        let file = RecipeFile { origin: place.clone(), text };
        let name = Lock::read(&file).unwrap().recipe;
        for (_, recipe) in examples(&format!("recipe {name}")) {
            let lock = Some(LockFile { file: file.clone(), only_hashes: false });
            can_be_read(&place, &Bundle { lock, ..Bundle::of(&*name, recipe, BTreeMap::new()) });
        }
    }
}

/// Each kind is shown at work.
#[test]
fn every_kind_has_an_example() {
    let page = page("resources.md");
    for (kind, section) in sections(&page) {
        let (_, example) = section.split_once("\n```toml recipe\n").expect(kind);
        assert!(
            example.contains(&format!("\n{kind} = ")) || example.contains(&format!("\n[resource.{kind}]")),
            "the example of `{kind}` does not have it"
        );
    }
}

#[test]
fn the_examples_of_other_files_can_be_read() {
    fn good<T>(place: &str, result: Result<T, Problems>) {
        assert!(result.is_ok(), "{place}: {}", result.err().unwrap());
    }
    for (place, text) in examples("suite") {
        good(&place, Suite::parse("example", &text, &BTreeMap::new()));
    }
    for (place, text) in examples("inventory") {
        good(&place, Inventory::parse("example", &text));
    }
    let dir = tempfile::tempdir().unwrap();
    for (place, text) in examples("settings") {
        fs::write(dir.path().join("toril.toml"), text).unwrap();
        let output = toril(&["config"], dir.path());
        assert!(output.status.success(), "{place}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

/// That the recipe that holds by default may have these variables, and that suites find their user with them.
fn fit_the_recipe(place: &str, vars: BTreeMap<String, String>) {
    assert!(!vars.contains_key("user"), "{place}: tests run as `toril`, whatever `user` is");
    let recipe = toril_recipes::find("microvm-host").unwrap();
    can_be_read(place, &Bundle::of("built-in microvm-host", recipe.text, vars));
}

fn can_be_read(place: &str, recipe: &Bundle) {
    let host = HostInfo { name: "sample".into(), user: "debian".into() };
    let read = Recipe::check(recipe, &host);
    assert!(read.is_ok(), "{place}: {}", read.err().unwrap());
}

/// Of the inventory's variables those count that the recipe has; in toril.toml there may be no others.
#[test]
fn the_variables_in_examples_are_some_that_the_recipe_can_have() {
    for (place, text) in examples("inventory") {
        let inventory = Inventory::parse("example", &text).unwrap();
        // One may have sources only.
        let hosts = inventory.resolve("all").map_or(Vec::new(), |found| found.hosts);
        for host in hosts {
            let vars = host.vars.into_iter().map(|(name, said)| (name, said.value));
            fit_the_recipe(&place, vars.collect());
        }
    }
    let dir = tempfile::tempdir().unwrap();
    for (place, text) in examples("settings") {
        fs::write(dir.path().join("toril.toml"), text).unwrap();
        let output = toril(&["config", "--json"], dir.path());
        let values: BTreeMap<String, serde_json::Value> = serde_json::from_slice(&output.stdout).unwrap();
        let vars = values.into_iter().filter_map(|(name, told)| {
            Some((name.strip_prefix("vars.")?.to_owned(), told["value"].as_str().unwrap().to_owned()))
        });
        fit_the_recipe(&place, vars.collect());
    }
}

/// `"R031"` in a source is `| R031 |` on the page, and the other way round.
#[test]
fn every_problem_number_is_explained() {
    let is_number = |text: &str| {
        text.len() == 4
            && text.is_ascii()
            && "DRSI".contains(&text[..1])
            && text[1..].bytes().all(|byte| byte.is_ascii_digit())
    };
    let mut used = BTreeSet::new();
    for part in ["document", "provisioner", "runner", "inventory", "cli"] {
        for path in files(&root().join(part).join("src"), ".rs") {
            let text = fs::read_to_string(path).unwrap();
            used.extend(text.split('"').filter(|text| is_number(text)).map(str::to_owned));
        }
    }
    let page = page("problems.md");
    let rows = page.lines().filter_map(|line| line.strip_prefix("| ")?.get(..4));
    let explained: BTreeSet<String> = rows.filter(|text| is_number(text)).map(str::to_owned).collect();
    assert_eq!(explained, used);
}

/// What stands between backticks in the first cells of a table's rows.
fn first_cells(table: &str) -> BTreeSet<&str> {
    let rows =
        table.lines().skip_while(|line| !line.starts_with('|')).take_while(|line| line.starts_with('|'));
    rows.flat_map(|row| row.split('|').nth(1).unwrap().split('`').skip(1).step_by(2)).collect()
}

#[test]
fn the_variables_of_each_built_in_recipe_are_on_the_page() {
    let page = page("recipes.md");
    let (_, section) = page.split_once("\n## Built-in recipes\n").unwrap();
    for recipe in toril_recipes::ALL {
        let declared = Bundle::of(recipe.name, recipe.text, BTreeMap::new()).declared();
        let (_, told) = section.split_once(&format!("\n`{}` (Debian", recipe.name)).expect(recipe.name);
        let told = if declared.is_empty() { BTreeSet::new() } else { first_cells(told) };
        assert_eq!(told, declared.iter().map(String::as_str).collect(), "the variables of {}", recipe.name);
    }
}

/// But for those that only tests read.
#[test]
fn every_variable_of_the_environment_is_on_the_page() {
    let is_variable = |text: &&str| {
        let name = text.strip_prefix("TORIL_").filter(|name| !name.is_empty() && !name.starts_with("TEST"));
        name.is_some_and(|name| name.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_'))
    };
    let mut read = BTreeSet::new();
    for part in ["cli", "inventory", "machine", "provisioner", "runner", "sandbox", "transport"] {
        for path in files(&root().join(part).join("src"), ".rs") {
            let text = fs::read_to_string(path).unwrap();
            read.extend(text.split('"').filter(is_variable).map(str::to_owned));
        }
    }
    let page = page("commands.md");
    let table = sections(&page)["Environment"];
    let told = first_cells(table).into_iter().filter(is_variable).map(str::to_owned);
    assert_eq!(told.collect::<BTreeSet<_>>(), read);
}

/// Every option that `--help` shows stands on the page, in the section of its command or in one that is for several.
#[test]
fn every_option_is_on_the_page_of_commands() {
    let page = page("commands.md");
    let commands: [&[&str]; 26] = [
        &["acceptance"],
        &["up"],
        &["apply"],
        &["check"],
        &["test"],
        &["run"],
        &["facts"],
        &["doctor"],
        &["verify"],
        &["attach"],
        &["cancel"],
        &["clean"],
        &["uninstall"],
        &["config"],
        &["disconnect"],
        &["inventory", "list"],
        &["inventory", "show"],
        &["recipe", "list"],
        &["recipe", "check"],
        &["recipe", "show"],
        &["recipe", "lock"],
        &["recipe", "test"],
        &["report", "merge"],
        &["sandbox", "up"],
        &["sandbox", "down"],
        &["sandbox", "snapshot"],
    ];
    for command in commands {
        let name = format!("toril {}", command.join(" "));
        assert!(page.contains(&name), "`{name}` is not on the page");
        let output = toril(&[command, &["--help"]].concat(), &root());
        let help = String::from_utf8(output.stdout).unwrap();
        let options = help.lines().filter(|line| line.trim_start().starts_with('-'));
        for option in options.flat_map(|line| line.split([' ', ','])).filter(|word| word.starts_with("--")) {
            let on_page = page.split(['`', ' ']).any(|word| word == option) || option == "--help";
            assert!(on_page, "`{option}` of `{name}` is not on the page");
        }
    }
}
