use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use toril_inventory::{Feeding, Imported, Inventory};
use toril_machine::Command;

use crate::commands::UsageError;

/// The longest inventory that a command may print, in bytes.
const LONGEST: usize = 64 << 20;

/// Reads an inventory, and asks what it names as its sources. One that nobody has named may not be there.
pub(crate) fn load(path: &Path, may_be_absent: bool) -> Result<Inventory, UsageError> {
    let name = path.to_string_lossy();
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound && may_be_absent => return Ok(Inventory::default()),
        Err(error) => return Err(UsageError::Other(format!("cannot read the inventory {name}: {error}"))),
    };
    let inventory = Inventory::parse(&name, &text)?;
    if inventory.feeds().is_empty() {
        return Ok(inventory);
    }
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let told = inventory.feeds().iter().map(|feed| match &feed.what {
        Feeding::Command(words) => printed(words, directory),
        Feeding::SshConfig(file) => Imported::ssh_config(&directory.join(file)),
    });
    let told = told.collect();
    Ok(inventory.complete(told)?)
}

/// What a command prints, which is started in the directory of the inventory and ends with this program. It may print
/// secrets, so nothing of its standard output is ever repeated.
fn printed(words: &[String], directory: &Path) -> Result<Imported, String> {
    let Some((program, arguments)) = words.split_first() else { return Err("there is no command".into()) };
    let resolved = match program.contains('/') {
        true => std::path::absolute(directory.join(program)).map_err(|error| error.to_string())?,
        false => PathBuf::from(program),
    };
    let mut command =
        Command::new(resolved, arguments).dir(directory).output_limit(LONGEST).group_ends_with_us();
    // Ansible starts in a UTF-8 locale only, and may be anywhere on the user's own path.
    command = command.env("LC_ALL", "C.UTF-8");
    if let Some(path) = std::env::var_os("PATH") {
        command = command.env("PATH", path);
    }
    let finished = command.run().map_err(|error| error.to_string().replace(" on the host", ""))?;
    if !finished.status.success() {
        return Err(command.failed(&finished).to_string());
    }
    if finished.stdout.len() >= LONGEST {
        return Err(format!("`{program}` printed more than {} MiB", LONGEST >> 20));
    }
    let origin = words.join(" ");
    Imported::ansible(&origin, text(&origin, &finished.stdout)?)
}

/// What was printed as text; where it is none is told by its place alone.
fn text<'p>(origin: &str, printed: &'p [u8]) -> Result<&'p str, String> {
    std::str::from_utf8(printed).map_err(|error| {
        let before = printed.get(..error.valid_up_to()).unwrap_or_default();
        let line = before.split(|c| *c == b'\n').count();
        let byte = before.rsplit(|c| *c == b'\n').next().map_or(0, <[u8]>::len) + 1;
        format!("{origin} printed what is no UTF-8, at line {line}, byte {byte}")
    })
}
