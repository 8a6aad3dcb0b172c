//! `toril acceptance`.

use std::path::PathBuf;

use clap::Args;

use super::choices::{RecipeChoice, Running, SuiteChoice, Way};

#[derive(Debug, Clone, Args)]
pub(crate) struct Acceptance {
    /// The host.
    #[arg(required_unless_present = "fixture")]
    pub(crate) host: Option<String>,
    /// Look, prove that looking changed nothing, and do no more.
    #[arg(long, conflicts_with_all = ["yes", "inject_drift"])]
    pub(crate) read_only: bool,
    /// Change the host without asking.
    #[arg(long, short)]
    pub(crate) yes: bool,
    /// At the end, break on the host one or two small things that the recipe keeps, and see that they are named and
    /// mended.
    #[arg(long)]
    pub(crate) inject_drift: bool,
    /// The file to write. Without it `toril-acceptance-DATE-TIME.json` in the current directory.
    #[arg(long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// Make of the file of an acceptance a root directory that looks like its host, for tests; contacts no host.
    #[arg(long, num_args = 2, value_names = ["FILE", "DIRECTORY"], conflicts_with_all = ["host", "output"])]
    pub(crate) fixture: Option<Vec<PathBuf>>,
    #[command(flatten)]
    pub(crate) recipe: RecipeChoice,
    #[command(flatten)]
    pub(crate) suite: SuiteChoice,
    #[command(flatten)]
    pub(crate) running: Running,
    #[command(flatten)]
    pub(crate) way: Way,
}
