use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value as Json;
use toril_document::{Document, Located, Problems, Source, Table, Value};
use toril_inventory::Transport;

use crate::arguments::Accel;
use crate::view::ReportChoice;

/// A `toril.toml`: any of the settings, each with the line that it stands on.
#[derive(Debug, Default)]
pub(crate) struct SettingsFile {
    pub(crate) path: PathBuf,
    pub(crate) recipe: Option<(String, usize)>,
    pub(crate) suite: Option<(String, usize)>,
    pub(crate) hosts: Option<(Vec<String>, usize)>,
    pub(crate) inventory: Option<(String, usize)>,
    pub(crate) accel: Option<(Accel, usize)>,
    pub(crate) wait: Option<(Duration, usize)>,
    pub(crate) standing: Option<(Duration, usize)>,
    pub(crate) transport: Option<(Transport, usize)>,
    pub(crate) reports: Option<(Vec<ReportChoice>, usize)>,
    /// Variables of the recipe.
    pub(crate) vars: BTreeMap<String, (String, usize)>,
    /// Variables of the suite.
    pub(crate) set: BTreeMap<String, (String, usize)>,
}

impl SettingsFile {
    /// Reads a file's text; paths in it start at its directory.
    pub(crate) fn parse(path: &Path, text: &str) -> Result<SettingsFile, Problems> {
        Document::read(path.to_string_lossy(), text, |table| {
            let directory = path.parent().unwrap_or(Path::new(""));
            Some(SettingsFile { path: path.to_owned(), ..read(table, directory) })
        })
    }
}

/// The JSON Schema of `toril.toml`.
pub(crate) fn schema() -> Json {
    Document::shape(|table| drop(read(table, Path::new("")))).json_schema()
}

fn read(table: &mut Table<'_>, directory: &Path) -> SettingsFile {
    table.rename("toril.toml");
    let source = std::sync::Arc::clone(table.source());
    let line = |span: &std::ops::Range<usize>| Source::line_column(&source, span.start).0;
    // A built-in's name stays as it is; whatever looks like a file is one, beside toril.toml.
    let place = |text: Located<String>| {
        let line = line(&text.span);
        let is_file = text.value.contains('/') || text.value.ends_with(".toml");
        let value =
            if is_file { directory.join(&text.value).to_string_lossy().into_owned() } else { text.value };
        (value, line)
    };
    let recipe = table.string("recipe").map(place);
    let suite = table.string("suite").map(place);
    let hosts = table.strings("hosts").map(|hosts| {
        let line = hosts.first().map_or(0, |host| line(&host.span));
        (hosts.into_iter().map(|host| host.value).collect(), line)
    });
    let inventory = table.string("inventory").map(place);
    let accel = table.string("accel").and_then(|text| match text.value.as_str() {
        "kvm" => Some((Accel::Kvm, line(&text.span))),
        "tcg" => Some((Accel::Tcg, line(&text.span))),
        _ => {
            table.note("D006", text.span, "`accel` must be kvm or tcg", None);
            None
        }
    });
    let mut duration = |key| {
        let text = table.string(key)?;
        match toril_document::parse_duration(&text.value) {
            Ok(duration) => Some((duration, line(&text.span))),
            Err(message) => {
                table.note("D006", text.span, message, None);
                None
            }
        }
    };
    let wait = duration("wait");
    let standing = duration("standing");
    let transport = table.string("transport").and_then(|text| {
        let transport = Transport::parse(&text.value).map(|transport| (transport, line(&text.span)));
        if transport.is_none() {
            table.note("D006", text.span, "`transport` must be openssh or russh", None);
        }
        transport
    });
    let reports = table.strings("reports").map(|texts| {
        let first = texts.first().map_or(0, |text| line(&text.span));
        let mut reports = Vec::new();
        for text in texts {
            match ReportChoice::parse(&text.value) {
                Ok(report) => reports.push(report.below(directory)),
                Err(message) => table.note("D006", text.span, message, None),
            }
        }
        (reports, first)
    });
    let vars = variables(table, "vars", &line);
    let set = variables(table, "set", &line);
    SettingsFile {
        path: PathBuf::new(),
        recipe,
        suite,
        hosts,
        inventory,
        accel,
        wait,
        standing,
        transport,
        reports,
        vars,
        set,
    }
}

fn variables(
    table: &mut Table<'_>,
    key: &'static str,
    line: &dyn Fn(&std::ops::Range<usize>) -> usize,
) -> BTreeMap<String, (String, usize)> {
    let entries = table.table(key).map(|mut inner| inner.take_all()).unwrap_or_default();
    let mut variables = BTreeMap::new();
    for (name, value) in entries {
        match value.value {
            Value::String(text) => drop(variables.insert(name.value, (text, line(&value.span)))),
            other => {
                let message = format!("variable `{}` must be a string, not {}", name.value, other.kind());
                table.note("D004", value.span, message, None);
            }
        }
    }
    variables
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_have_lines_and_paths_start_at_the_file() {
        let text = "recipe = \"microvm-host\"\nsuite = \"ci/suite.toml\"\nhosts = [\"a\", \"b\"]\nwait = \"5m\"\n[set]\nmode = \"x\"\n";
        let file = SettingsFile::parse(Path::new("/p/toril.toml"), text).unwrap();
        assert_eq!(file.recipe, Some(("microvm-host".into(), 1)));
        assert_eq!(file.suite, Some(("/p/ci/suite.toml".into(), 2)));
        assert_eq!(file.hosts.unwrap().1, 3);
        assert_eq!(file.wait, Some((Duration::from_secs(300), 4)));
        assert_eq!(file.set["mode"], ("x".into(), 6));
    }

    #[test]
    fn every_mistake_has_its_place() {
        let text = "recpie = \"x\"\naccel = \"fast\"\nwait = \"soon\"\n[vars]\nn = 1\n";
        let problems = SettingsFile::parse(Path::new("t"), text).unwrap_err().to_string();
        for expected in ["t:1:1: unknown key `recpie`", "t:2:9: ", "t:3:8: ", "t:5:5: "] {
            assert!(problems.contains(expected), "{expected:?} is not in {problems}");
        }
    }

    #[test]
    fn the_schema_knows_the_keys() {
        let schema = schema();
        assert_eq!(schema["properties"]["hosts"]["type"], "array");
        assert_eq!(schema["additionalProperties"], false);
    }
}
