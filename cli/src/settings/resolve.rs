use std::collections::BTreeMap;
use std::env;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use toril_document::Problems;
use toril_inventory::Transport;

use super::SettingsFile;
use crate::arguments::Accel;
use crate::view::ReportChoice;

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Origin {
    CommandLine,
    Environment(&'static str),
    File { path: PathBuf, line: usize },
    BuiltIn,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::CommandLine => f.write_str("the command line"),
            Origin::Environment(name) => write!(f, "the environment ({name})"),
            Origin::File { path, line } => write!(f, "{}:{line}", path.display()),
            Origin::BuiltIn => f.write_str("built-in"),
        }
    }
}

/// A value and where it came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Setting<T> {
    pub(crate) value: T,
    pub(crate) origin: Origin,
}

/// A variable's value, and where it came from.
pub(crate) type Variable = Setting<String>;

/// What holds where the command line says nothing.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) recipe: Setting<String>,
    pub(crate) suite: Setting<String>,
    pub(crate) hosts: Setting<Vec<String>>,
    pub(crate) inventory: Setting<PathBuf>,
    pub(crate) accel: Setting<Option<Accel>>,
    pub(crate) wait: Setting<Duration>,
    pub(crate) standing: Setting<Duration>,
    /// None: OpenSSH where it will do, as each host's connection decides.
    pub(crate) transport: Setting<Option<Transport>>,
    pub(crate) reports: Setting<Vec<ReportChoice>>,
    /// Variables of the recipe.
    pub(crate) vars: BTreeMap<String, Variable>,
    /// Variables of the suite.
    pub(crate) set: BTreeMap<String, Variable>,
}

/// Why the settings could not be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SettingsError {
    #[error(transparent)]
    Problems(#[from] Problems),
    #[error("cannot read {}: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("the environment variable {name} is {value:?}: {reason}")]
    Environment { name: &'static str, value: String, reason: String },
}

impl Settings {
    /// The settings that hold in a directory, for this user and environment.
    pub(crate) fn here() -> Result<Settings, SettingsError> {
        let directory =
            env::current_dir().map_err(|source| SettingsError::Read { path: ".".into(), source })?;
        let mut files = Vec::new();
        for path in [project_file(&directory), user_file()].into_iter().flatten() {
            files.extend(read(&path)?);
        }
        Settings::of(&|name| env::var(name).ok().filter(|value| !value.is_empty()), &files)
    }

    /// The settings of an environment and files, the first of which wins.
    fn of(
        environment: &dyn Fn(&str) -> Option<String>,
        files: &[SettingsFile],
    ) -> Result<Settings, SettingsError> {
        let accel = |text: &str| match text {
            "kvm" => Ok(Some(Accel::Kvm)),
            "tcg" => Ok(Some(Accel::Tcg)),
            _ => Err("it must be kvm or tcg".to_owned()),
        };
        let words = |text: &str| Ok(text.split_whitespace().map(str::to_owned).collect::<Vec<_>>());
        let reports = |text: &str| text.split_whitespace().map(ReportChoice::parse).collect();
        let text = |text: &str| Ok(text.to_owned());
        let pick = Pick { environment, files };
        Ok(Settings {
            recipe: pick.one("TORIL_RECIPE", text, |f| f.recipe.clone(), "microvm-host".into())?,
            suite: pick.one("TORIL_SUITE", text, |f| f.suite.clone(), "smoke".into())?,
            hosts: pick.one("TORIL_HOSTS", words, |f| f.hosts.clone(), Vec::new())?,
            inventory: pick.one(
                "TORIL_INVENTORY",
                |text| Ok(PathBuf::from(text)),
                |f| f.inventory.clone().map(|(path, line)| (path.into(), line)),
                "inventory.toml".into(),
            )?,
            accel: pick.one(
                "TORIL_ACCEL",
                accel,
                |f| f.accel.map(|(accel, line)| (Some(accel), line)),
                None,
            )?,
            wait: pick.one("TORIL_WAIT", toril_document::parse_duration, |f| f.wait, Duration::ZERO)?,
            standing: pick.one(
                "TORIL_STANDING",
                toril_document::parse_duration,
                |f| f.standing,
                Duration::ZERO,
            )?,
            transport: pick.one(
                "TORIL_TRANSPORT",
                |text| {
                    Transport::parse(text).map(Some).ok_or_else(|| "it must be openssh or russh".to_owned())
                },
                |f| f.transport.map(|(transport, line)| (Some(transport), line)),
                None,
            )?,
            reports: pick.one("TORIL_REPORTS", reports, |f| f.reports.clone(), Vec::new())?,
            vars: pick.variables(|file| &file.vars),
            set: pick.variables(|file| &file.set),
        })
    }
}

struct Pick<'s> {
    environment: &'s dyn Fn(&str) -> Option<String>,
    files: &'s [SettingsFile],
}

impl Pick<'_> {
    fn one<T>(
        &self,
        name: &'static str,
        parse: impl Fn(&str) -> Result<T, String>,
        get: impl Fn(&SettingsFile) -> Option<(T, usize)>,
        built_in: T,
    ) -> Result<Setting<T>, SettingsError> {
        if let Some(value) = (self.environment)(name) {
            return match parse(&value) {
                Ok(value) => Ok(Setting { value, origin: Origin::Environment(name) }),
                Err(reason) => Err(SettingsError::Environment { name, value, reason }),
            };
        }
        let found = self.files.iter().find_map(|file| {
            let (value, line) = get(file)?;
            Some(Setting { value, origin: Origin::File { path: file.path.clone(), line } })
        });
        Ok(found.unwrap_or(Setting { value: built_in, origin: Origin::BuiltIn }))
    }

    fn variables<'f>(
        &'f self,
        get: impl Fn(&'f SettingsFile) -> &'f BTreeMap<String, (String, usize)>,
    ) -> BTreeMap<String, Variable> {
        let mut variables = BTreeMap::new();
        for file in self.files.iter().rev() {
            for (name, (value, line)) in get(file) {
                let origin = Origin::File { path: file.path.clone(), line: *line };
                variables.insert(name.clone(), Setting { value: value.clone(), origin });
            }
        }
        variables
    }
}

/// The project's file: in this directory or the nearest one above that has it.
fn project_file(directory: &Path) -> Option<PathBuf> {
    directory.ancestors().map(|above| above.join("toril.toml")).find(|path| path.is_file())
}

fn user_file() -> Option<PathBuf> {
    let set = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let directory = set("XDG_CONFIG_HOME").or_else(|| Some(set("HOME")?.join(".config")))?;
    Some(directory.join("toril/toril.toml"))
}

fn read(path: &Path) -> Result<Option<SettingsFile>, SettingsError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(SettingsFile::parse(path, &text)?)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(SettingsError::Read { path: path.to_owned(), source }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, text: &str) -> SettingsFile {
        SettingsFile::parse(Path::new(path), text).unwrap()
    }

    #[test]
    fn environment_then_project_then_user_then_built_in() {
        let files = [
            file("/p/toril.toml", "suite = \"project\"\nrecipe = \"project\"\n[vars]\na = \"project\"\n"),
            file("/u/toril.toml", "suite = \"user\"\naccel = \"tcg\"\n[vars]\na = \"user\"\nb = \"user\"\n"),
        ];
        let environment = |name: &str| (name == "TORIL_RECIPE").then(|| "environment".to_owned());
        let settings = Settings::of(&environment, &files).unwrap();
        assert_eq!(settings.recipe.value, "environment");
        assert_eq!(
            (settings.suite.value.as_str(), settings.suite.origin.to_string().as_str()),
            ("project", "/p/toril.toml:1")
        );
        assert_eq!(settings.accel.origin.to_string(), "/u/toril.toml:2");
        assert_eq!(settings.inventory.origin, Origin::BuiltIn);
        assert_eq!(
            (settings.vars["a"].value.as_str(), settings.vars["b"].value.as_str()),
            ("project", "user")
        );
    }

    #[test]
    fn a_wrong_environment_variable_is_named() {
        let environment = |name: &str| (name == "TORIL_WAIT").then(|| "soon".to_owned());
        let error = Settings::of(&environment, &[]).unwrap_err().to_string();
        assert!(error.starts_with("the environment variable TORIL_WAIT is \"soon\": "), "{error}");
    }
}
