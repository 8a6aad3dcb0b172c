use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use toril_machine::Probe;

use super::{Place, Survey};

/// A survey could not be laid out as a root directory.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LayOutError {
    /// A path in it is not absolute, or leads elsewhere.
    #[error("it names {path:?}, which is no absolute path without `.` and `..`")]
    Path {
        /// The path.
        path: String,
    },
    /// Writing failed.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// What was to be written.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl Survey {
    /// Writes below a directory what the machine looked like, so that a [`Machine`](toril_machine::Machine) of that
    /// directory has the same facts and needs the same of a recipe. Owners and devices are left out: it needs no root.
    ///
    /// # Errors
    /// A path that leads out of the directory; nothing is written then. A file that cannot be written.
    pub fn lay_out(&self, root: &Path) -> Result<(), LayOutError> {
        let mut files: Vec<(PathBuf, &str)> = Vec::new();
        for (path, text) in &self.files {
            let place = below(root, path)?;
            if let Probe::Known(text) = text {
                files.push((place, text));
            }
        }
        let status = self.status();
        if let Some(status) = &status {
            files.push((below(root, "/var/lib/dpkg/status")?, status));
        }
        let mut places = Vec::new();
        for (path, place) in &self.places {
            if let Probe::Known(known) = place {
                places.push((below(root, path)?, known));
            }
        }
        for (name, module) in &self.modules {
            let directory = below(root, &format!("/sys/module/{name}"))?;
            if matches!(module, Probe::Known(module) if module.loaded) {
                fs::create_dir_all(&directory)
                    .map_err(|source| LayOutError::Write { path: directory, source })?;
            }
        }
        for (path, text) in files {
            write(&path, text)?;
        }
        for (path, place) in places {
            put(&path, place).map_err(|source| LayOutError::Write { path, source })?;
        }
        Ok(())
    }

    /// dpkg's status file, with what is known of it.
    fn status(&self) -> Option<String> {
        let Probe::Known(packages) = &self.packages else { return None };
        let paragraph = |(name, known): (&String, &String)| {
            let (version, rest) = known.split_once(' ').unwrap_or((known, ""));
            let (architecture, status) = rest.split_once(' ').unwrap_or((rest, ""));
            let name = name.split(':').next().unwrap_or(name);
            let fields =
                [("Package", name), ("Status", status), ("Architecture", architecture), ("Version", version)];
            let told = fields.iter().filter(|(_, value)| !value.is_empty() && *value != "-");
            let lines: String = told.map(|(field, value)| format!("{field}: {value}\n")).collect();
            format!("{lines}\n")
        };
        Some(packages.iter().map(paragraph).collect())
    }
}

/// Where an absolute path stands below a root: never outside of it.
fn below(root: &Path, path: &str) -> Result<PathBuf, LayOutError> {
    let wrong = || LayOutError::Path { path: path.to_owned() };
    let rest = path.strip_prefix('/').ok_or_else(wrong)?;
    let is_plain = |part: &str| Path::new(part).components().all(|part| matches!(part, Component::Normal(_)));
    match !rest.is_empty()
        && rest.split('/').all(|part| !part.is_empty() && is_plain(part))
        && !rest.contains('\0')
    {
        true => Ok(root.join(rest)),
        false => Err(wrong()),
    }
}

fn write(path: &Path, text: &str) -> Result<(), LayOutError> {
    let directory = path.parent().unwrap_or(path);
    fs::create_dir_all(directory)
        .and_then(|()| fs::write(path, text))
        .map_err(|source| LayOutError::Write { path: path.to_owned(), source })
}

/// Directories, and files whose text is not known. Links are not laid out: nothing may be written through one.
fn put(path: &Path, place: &Place) -> io::Result<()> {
    if fs::symlink_metadata(path).is_ok() {
        return Ok(());
    }
    match place.kind.as_str() {
        "directory" => fs::create_dir_all(path),
        "file" | "other" => {
            fs::create_dir_all(path.parent().unwrap_or(path))?;
            fs::write(path, "")
        }
        _ => Ok(()),
    }
}
