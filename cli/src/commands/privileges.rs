//! `--unprivileged`: what a project's files may not have done on a host.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use toril_provisioner::Bundle;
use toril_runner::Suite;

use super::UsageError;
use crate::agent::TEST_USER;
use crate::settings::{Origin, Variable};

/// The directories whose files a push may change.
pub(super) struct Project(Vec<PathBuf>);

impl Project {
    /// What these directories are part of: each up to the outermost one that is a git work tree or has a toril.toml.
    pub(super) fn around(directories: &[&Path]) -> Result<Project, UsageError> {
        let trees = directories.iter().map(|directory| {
            let real = directory.canonicalize().map_err(|error| {
                let directory = directory.display();
                UsageError::Other(format!(
                    "--unprivileged: cannot tell which tree {directory} is of: {error}"
                ))
            })?;
            Ok(outermost(&real))
        });
        Ok(Project(trees.collect::<Result<_, UsageError>>()?))
    }

    /// The tree that a file is of, by its name or by what a link there leads to.
    fn tree_of(&self, file: &Path) -> io::Result<Option<&Path>> {
        let directory = file.parent().filter(|parent| !parent.as_os_str().is_empty());
        let named = directory.unwrap_or(Path::new(".")).canonicalize()?;
        let real = file.canonicalize()?;
        let tree = self.0.iter().find(|tree| [&named, &real].iter().any(|path| path.starts_with(tree)));
        Ok(tree.map(PathBuf::as_path))
    }

    /// The tree of a recipe's file, by its origin. What cannot be looked at is not known to be of none.
    fn tree_of_origin(&self, origin: &str) -> Result<Option<&Path>, UsageError> {
        if origin.strip_prefix("built-in ").is_some_and(|name| toril_recipes::find(name).is_some()) {
            return Ok(None);
        }
        self.tree_of(Path::new(origin)).map_err(|error| {
            UsageError::Other(format!(
                "--unprivileged: cannot tell whether {origin} is of the tree that is tested: {error}"
            ))
        })
    }
}

fn outermost(directory: &Path) -> PathBuf {
    let begins =
        |path: &&Path| [".git", "toril.toml"].iter().any(|name| path.join(name).symlink_metadata().is_ok());
    directory.ancestors().filter(begins).last().unwrap_or(directory).to_owned()
}

/// Refuses a suite of which anything runs as another user than the one that has no rights.
pub(super) fn of_suite(suite: &Suite) -> Result<(), UsageError> {
    let mut found = Vec::new();
    if suite.run_as != TEST_USER {
        found.push(format!("tests run as {} (`run-as`)", suite.run_as));
    }
    for test in &suite.tests {
        if test.companion.as_ref().is_some_and(|companion| companion.as_root) {
            found.push(format!("the companion of the test `{}` runs as root (`as-root`)", test.name));
        }
    }
    if found.is_empty() {
        return Ok(());
    }
    Err(UsageError::Other(format!(
        "--unprivileged: nothing of a suite may run as another user than `{TEST_USER}`, and in {} {}; take that out of \
         the suite, or give the command without --unprivileged",
        suite.name,
        found.join(", and ")
    )))
}

/// Refuses a recipe, which is carried out as root, in which the project's files have a part: one that they name or
/// consist of, and variables of it that are not set on the command line.
pub(super) fn of_recipe(
    name: &str,
    origin: &Origin,
    vars: &BTreeMap<String, Variable>,
    bundle: &Bundle,
    project: &Project,
) -> Result<(), UsageError> {
    if let Origin::File { .. } = origin {
        return Err(UsageError::Other(format!(
            "--unprivileged: a recipe is carried out as root, and `{name}` is named by {origin}; name the recipe on the \
             command line, such as `--recipe microvm-host`, or give the command without --unprivileged"
        )));
    }
    let templates = bundle.templates.iter().flat_map(|template| &template.file);
    for file in bundle.files.iter().chain(templates) {
        if let Some(tree) = project.tree_of_origin(&file.origin)? {
            return Err(UsageError::Other(format!(
                "--unprivileged: a recipe is carried out as root, and {} is of the tree that is tested ({}), whose files a \
                 push may change; name a built-in recipe, such as `--recipe microvm-host`, or a file outside of that tree, or \
                 give the command without --unprivileged",
                file.origin,
                tree.display()
            )));
        }
    }
    let declared = bundle.declared();
    let set: Vec<&str> = vars.keys().filter(|name| declared.contains(*name)).map(String::as_str).collect();
    if set.is_empty() {
        Ok(())
    } else {
        Err(of_variables(&format!("`{}` from toril.toml", set.join("`, `"))))
    }
}

/// Refuses a lock of the recipe that is the project's, as root installs the versions that it names. `unlocked`: not even its
/// hashes count.
pub(super) fn of_lock(bundle: &mut Bundle, unlocked: bool, project: &Project) -> Result<(), UsageError> {
    let Some(lock) = &bundle.lock else { return Ok(()) };
    let Some(tree) = project.tree_of_origin(&lock.file.origin)? else { return Ok(()) };
    if !unlocked {
        return Err(UsageError::Other(format!(
            "--unprivileged: root installs what a recipe's lock says, and {} is of the tree that is tested ({}), whose files a \
             push may change; leave the lock aside by --unlocked, keep it beside a recipe outside of that tree, or give the \
             command without --unprivileged",
            lock.file.origin,
            tree.display()
        )));
    }
    bundle.lock = None;
    Ok(())
}

/// Says that these variables of a recipe come from files.
pub(super) fn of_variables(places: &str) -> UsageError {
    UsageError::Other(format!(
        "--unprivileged: a recipe is carried out as root, and its variables are not all of the command line: {places}; \
         set them by `--var`, or give the command without --unprivileged"
    ))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn what_is_of_a_project_is_told_by_its_name_and_by_what_a_link_leads_to() {
        let dir = tempfile::tempdir().unwrap();
        let at = |path: &str| dir.path().join(path);
        for path in ["tree/.git", "tree/sub/deep", "beside"] {
            fs::create_dir_all(at(path)).unwrap();
        }
        for path in ["tree/sub/toril.toml", "tree/mine.toml", "beside/theirs.toml"] {
            fs::write(at(path), "").unwrap();
        }
        symlink(at("tree/mine.toml"), at("beside/in.toml")).unwrap();
        symlink(at("beside/theirs.toml"), at("tree/out.toml")).unwrap();
        symlink(at("tree"), at("beside/tree")).unwrap();
        let project = Project::around(&[&at("tree/sub/deep")]).unwrap();
        for path in [
            "tree/mine.toml",
            "beside/../tree/mine.toml",
            "beside/in.toml",
            "tree/out.toml",
            "beside/tree/out.toml",
        ] {
            assert!(project.tree_of(&at(path)).unwrap().is_some(), "{path}");
        }
        assert_eq!(project.tree_of(&at("beside/theirs.toml")).unwrap(), None);
        assert!(project.tree_of(&at("beside/nothing.toml")).is_err());
        let both = Project::around(&[&at("tree"), &at("beside")]).unwrap();
        assert!(both.tree_of(&at("beside/theirs.toml")).unwrap().is_some());
    }
}
