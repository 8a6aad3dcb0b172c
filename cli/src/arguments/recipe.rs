//! `toril recipe`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::choices::{Output, Way};
use super::values::{assignment, recipe_release};

#[derive(Debug, Clone, Subcommand)]
pub(crate) enum Recipe {
    /// Say which recipes are built in.
    List,
    /// Say all mistakes of recipes at once, or for which releases they are good. Exits with 2 if there are any.
    Check {
        /// Recipes: files, or names of built-in ones.
        #[arg(required = true, value_name = "RECIPE")]
        recipes: Vec<String>,
    },
    /// Print what a recipe means for a release: a recipe without templates and conditions.
    Show {
        /// The recipe: a file, or the name of a built-in one.
        recipe: String,
        /// The Debian release. Without it 12, or the newest that the recipe supports.
        #[arg(long, value_name = "RELEASE", value_parser = recipe_release)]
        release: Option<toril_provisioner::Release>,
        /// Set a variable of the recipe.
        #[arg(long = "var", value_name = "NAME=VALUE", value_parser = assignment)]
        vars: Vec<(String, String)>,
    },
    /// Write down beside a recipe what it leaves open: the hashes of what comes from outside and, of a host, the versions of
    /// its packages, its kernel, and the hashes of QEMU and virtiofsd. From then on hosts are held to that.
    Lock(RecipeLock),
    /// Try a recipe on sandboxes of all its releases: is it carried out, and nothing left to do; is drift that is made
    /// on purpose named and mended? Needs root. Exits with 4 if not, with 5 if it could not be tried at all.
    Test(RecipeTest),
}

#[derive(Debug, Clone, Args)]
pub(crate) struct RecipeLock {
    /// The host to be written down; without one, only what comes from outside is.
    pub(crate) host: Option<String>,
    /// The recipe: a file, or the name of a built-in one.
    #[arg(long, value_name = "RECIPE")]
    pub(crate) recipe: Option<String>,
    /// Set a variable of the recipe.
    #[arg(long = "var", value_name = "NAME=VALUE", value_parser = assignment)]
    pub(crate) vars: Vec<(String, String)>,
    #[command(flatten)]
    pub(crate) way: Way,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct RecipeTest {
    /// The recipe: a file, or the name of a built-in one.
    pub(crate) recipe: String,
    /// Try it on this Debian release only; may be repeated.
    #[arg(long, value_name = "RELEASE", value_parser = recipe_release)]
    pub(crate) release: Vec<toril_provisioner::Release>,
    /// Make the sandbox of a release from this file of apt sources (deb822), such as `10=archive.sources`.
    #[arg(long, value_name = "RELEASE=FILE", value_parser = release_sources)]
    pub(crate) sources: Vec<(toril_provisioner::Release, PathBuf)>,
    /// Set a variable of the recipe.
    #[arg(long = "var", value_name = "NAME=VALUE", value_parser = assignment)]
    pub(crate) vars: Vec<(String, String)>,
    #[command(flatten)]
    pub(crate) output: Output,
}

fn release_sources(text: &str) -> Result<(toril_provisioner::Release, PathBuf), String> {
    let (release, file) = assignment(text)?;
    Ok((recipe_release(&release)?, file.into()))
}
