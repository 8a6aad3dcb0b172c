//! `config`: what holds here where the command line says nothing.

use std::fmt::Display;
use std::io::{self, Write};

use serde_json::{Map, Value as Json, json};

use super::UsageError;
use crate::arguments::{Config, SchemaOf};
use crate::exit::Status;
use crate::settings::{self, Setting, Settings};

pub(super) fn config(arguments: &Config) -> Result<Status, UsageError> {
    if let Some(kind) = arguments.schema {
        let (name, mut schema) = match kind {
            SchemaOf::Recipe => ("recipe", toril_provisioner::recipe_schema()),
            SchemaOf::Suite => ("suite", toril_runner::Suite::schema()),
            SchemaOf::Inventory => ("inventory", toril_inventory::Inventory::schema()),
            SchemaOf::Toril => ("toril.toml", settings::schema()),
        };
        schema["$schema"] = json!("https://json-schema.org/draft/2020-12/schema");
        schema["title"] = json!(format!("toril: {name}"));
        return print(&format!("{schema:#}\n"));
    }
    let settings = Settings::here()?;
    let rows = rows(&settings);
    if arguments.json {
        let object: Map<String, Json> = rows
            .into_iter()
            .map(|(name, value, from)| (name, json!({ "value": value, "from": from })))
            .collect();
        return print(&format!("{:#}\n", Json::Object(object)));
    }
    let width = rows.iter().map(|(name, ..)| name.len()).max().unwrap_or(0);
    let values = rows.iter().map(|(_, value, _)| value.len()).max().unwrap_or(0);
    let lines = rows.iter().map(|(name, value, from)| format!("{name:<width$}  {value:<values$}  {from}\n"));
    print(&lines.collect::<String>())
}

fn rows(settings: &Settings) -> Vec<(String, String, String)> {
    fn row<T>(name: &str, setting: &Setting<T>, words: impl Display) -> (String, String, String) {
        (name.to_owned(), words.to_string(), setting.origin.to_string())
    }
    let hosts = settings.hosts.value.join(" ");
    let accel = settings.accel.value.map_or("KVM where it works", |accel| accel.name());
    let wait = format!("{}s", settings.wait.value.as_secs());
    let standing = format!("{}s", settings.standing.value.as_secs());
    let transport =
        settings.transport.value.map_or("openssh where it will do, else russh", |transport| transport.name());
    let reports: Vec<String> = settings.reports.value.iter().map(ToString::to_string).collect();
    let reports = reports.join(" ");
    let mut rows = vec![
        row("recipe", &settings.recipe, &settings.recipe.value),
        row("suite", &settings.suite, &settings.suite.value),
        row("hosts", &settings.hosts, if hosts.is_empty() { "none" } else { &hosts }),
        row("inventory", &settings.inventory, settings.inventory.value.display()),
        row("accel", &settings.accel, accel),
        row("wait", &settings.wait, wait),
        row("standing", &settings.standing, standing),
        row("transport", &settings.transport, transport),
        row("reports", &settings.reports, if reports.is_empty() { "none" } else { &reports }),
    ];
    rows.extend(settings.vars.iter().map(|(name, value)| row(&format!("vars.{name}"), value, &value.value)));
    rows.extend(settings.set.iter().map(|(name, value)| row(&format!("set.{name}"), value, &value.value)));
    rows
}

fn print(text: &str) -> Result<Status, UsageError> {
    io::stdout()
        .write_all(text.as_bytes())
        .map(|()| Status::Fine)
        .map_err(|error| UsageError::Other(format!("cannot print: {error}")))
}
