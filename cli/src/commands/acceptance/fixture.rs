//! From the file of an acceptance to a root directory that looks like its host.

use std::fs;
use std::path::Path;

use serde::Deserialize;
use toril_machine::Machine;
use toril_provisioner::{Plan, Survey};

use super::record::FORMAT;
use crate::arguments::Output;
use crate::commands::{UsageError, problem};
use crate::exit::Status;
use crate::view::{Shown, View};

/// The largest file that is read, in bytes.
const LARGEST: u64 = 64 << 20;

/// What a file tells of its host, as far as it is needed here.
#[derive(Debug, Deserialize)]
struct Sent {
    host: SentHost,
    survey: Option<Survey>,
    plan: Option<Plan>,
}

#[derive(Debug, Deserialize)]
struct SentHost {
    kind: String,
    imitation: Option<String>,
}

/// `toril acceptance --fixture FILE DIRECTORY`.
pub(super) fn make(file: &Path, directory: &Path, output: &Output) -> Result<Status, UsageError> {
    let shown = file.display();
    let size =
        fs::metadata(file).map_err(|error| UsageError::Other(format!("cannot read {shown}: {error}")))?.len();
    if size > LARGEST {
        return Err(UsageError::Other(format!(
            "{shown} has {size} bytes, and more than {LARGEST} are not read"
        )));
    }
    let text = fs::read_to_string(file)
        .map_err(|error| UsageError::Other(format!("cannot read {shown}: {error}")))?;
    let sent = read(&text).map_err(|error| UsageError::Other(format!("{shown}: {error}")))?;
    let is_empty = match fs::read_dir(directory) {
        Ok(mut entries) => entries.next().is_none(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => true,
        Err(error) => {
            return Err(UsageError::Other(format!("cannot look into {}: {error}", directory.display())));
        }
    };
    if !is_empty {
        return Err(UsageError::Other(format!("{} is not empty: name a new directory", directory.display())));
    }
    let view = View::new(output);
    let status = match lay_out(&sent, directory) {
        Ok(text) => {
            view.show(None, &Shown::Note { text: &text });
            Status::Fine
        }
        Err(error) => {
            problem(&view, None, "making the fixture", &error.into());
            Status::Operation
        }
    };
    Ok(view.finish(&[], status))
}

/// Reads a file of this format.
fn read(text: &str) -> Result<Sent, String> {
    #[derive(Deserialize)]
    struct Head {
        format: Option<String>,
    }
    let head: Head = serde_json::from_str(text).map_err(|error| format!("it is no JSON object: {error}"))?;
    match head.format {
        Some(format) if format == FORMAT => {
            serde_json::from_str(text).map_err(|error| format!("it is not as {FORMAT} is: {error}"))
        }
        Some(other) => Err(format!("its format is {other:?}, and this toril reads {FORMAT}")),
        None => Err("it is no file of `toril acceptance`: it names no format".to_owned()),
    }
}

/// Lays the host out, and says what came of it.
fn lay_out(sent: &Sent, directory: &Path) -> Result<String, String> {
    let survey = sent.survey.as_ref().ok_or("its acceptance ended before the host was surveyed")?;
    fs::create_dir_all(directory).map_err(|error| format!("cannot make {}: {error}", directory.display()))?;
    survey.lay_out(directory).map_err(|error| error.to_string())?;
    let facts = Machine::at(directory).facts().map_err(|error| error.to_string())?;
    let label = match (&sent.host.imitation, sent.host.kind.as_str()) {
        (Some(what), _) => format!("a sandbox: {what}"),
        (None, kind) => format!("a host of the kind {kind}"),
    };
    // What a test compares with is beside what it looks at.
    let plan =
        sent.plan.as_ref().map(|plan| serde_json::to_string_pretty(plan).map(|text| format!("{text}\n")));
    let plan = plan.transpose().map_err(|error| error.to_string())?;
    let notes = [
        (
            "toril-fixture.txt",
            Some(format!("Made by `toril acceptance --fixture` of {label}, {}.\n", survey.taken)),
        ),
        ("toril-plan.json", plan),
    ];
    for (name, text) in notes {
        let Some(text) = text else { continue };
        let path = directory.join(name);
        fs::write(&path, text).map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    }
    Ok(format!(
        "{}: a root directory like {label}: {} {} ({}), kernel {}",
        directory.display(),
        facts.os,
        facts.version,
        facts.codename,
        facts.kernel
    ))
}

#[cfg(test)]
mod tests;
