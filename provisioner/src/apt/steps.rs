use std::fmt;

use super::state::AptState;

/// A part of what it takes to have packages, in the order of carrying out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// Others are at work; who.
    Wait(String),
    /// What dpkg left unfinished is finished; in words.
    Configure(String),
    /// Lists that apt could not read are taken away: their paths.
    Discard(Vec<String>),
    /// The package lists are fetched; why.
    Fetch(String),
    /// One transaction.
    Install {
        packages: Vec<String>,
        /// Those that are unpacked anew.
        damaged: Vec<String>,
        /// Installed packages that need what is not there, and what.
        broken: Vec<String>,
    },
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::Wait(who) => write!(f, "wait for {who}"),
            Step::Configure(what) => write!(f, "dpkg was interrupted: finish {what}"),
            Step::Discard(paths) => {
                write!(f, "remove {}, which apt cannot use", count(paths, "package list"))
            }
            Step::Fetch(why) => write!(f, "fetch the package lists: {why}"),
            Step::Install { packages, damaged, broken } => {
                let mut parts = Vec::new();
                if !packages.is_empty() {
                    parts.push(format!("install {}", some(packages, "package")));
                }
                if !damaged.is_empty() {
                    parts.push(format!("unpack anew {}", some(damaged, "damaged package")));
                }
                if !broken.is_empty() {
                    parts.push(format!("mend broken dependencies of {}", some(broken, "package")));
                }
                write!(f, "{}", parts.join(", "))
            }
        }
    }
}

/// From how things are to what is to be done.
pub(crate) fn steps(state: &AptState, packages: &[&str]) -> Vec<Step> {
    let mut steps = Vec::new();
    steps.extend(state.holder.as_ref().map(|holder| Step::Wait(holder.to_string())));
    if !state.unconfigured.is_empty() {
        steps.push(Step::Configure(format!("configuring {}", some(&state.unconfigured, "package"))));
    } else if state.pending_updates > 0 {
        steps.push(Step::Configure("writing its database".into()));
    }
    if packages.is_empty() && state.damaged.is_empty() && state.broken.is_empty() {
        return steps;
    }
    let truncated = &state.indexes.truncated;
    // What was fetched a moment ago is as good as what would be fetched now.
    if !truncated.is_empty() || !state.indexes.fresh {
        // What is half-downloaded, apt itself goes on with.
        if !truncated.is_empty() {
            steps.push(Step::Discard(truncated.clone()));
        }
        steps.push(Step::Fetch(state.indexes.describe()));
    }
    let packages = packages.iter().map(|name| (*name).to_owned()).collect();
    let (damaged, broken) = (state.damaged.clone(), state.broken.clone());
    steps.push(Step::Install { packages, damaged, broken });
    steps
}

fn count(names: &[String], what: &str) -> String {
    format!("{} {what}{}", names.len(), if names.len() == 1 { "" } else { "s" })
}

/// Such as `2 packages (a, b)`.
fn some(names: &[String], what: &str) -> String {
    const MOST: usize = 8;
    let more = if names.len() > MOST { ", …" } else { "" };
    format!("{} ({}{more})", count(names, what), names[..names.len().min(MOST)].join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apt::indexes::Indexes;

    fn words(state: &AptState, packages: &[&str]) -> Vec<String> {
        steps(state, packages).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn each_state_has_its_step() {
        let none = AptState::default();
        assert_eq!(
            words(&none, &["a"]),
            ["fetch the package lists: there are none", "install 1 package (a)"]
        );
        assert_eq!(words(&none, &[]), [""; 0]);
        let interrupted = AptState { unconfigured: vec!["x".into(), "y".into()], ..AptState::default() };
        assert_eq!(words(&interrupted, &[]), ["dpkg was interrupted: finish configuring 2 packages (x, y)"]);
        let broken = AptState { broken: vec!["x needs y (>= 2)".into()], ..AptState::default() };
        assert_eq!(words(&broken, &[])[1], "mend broken dependencies of 1 package (x needs y (>= 2))");
        let fresh = AptState {
            indexes: Indexes { count: 1, fresh: true, ..Indexes::default() },
            ..AptState::default()
        };
        assert_eq!(words(&fresh, &["a"]), ["install 1 package (a)"]);
        let journal = AptState { pending_updates: 1, ..AptState::default() };
        assert_eq!(words(&journal, &[]), ["dpkg was interrupted: finish writing its database"]);
        let indexes = Indexes { count: 1, truncated: vec!["l".into()], ..Indexes::default() };
        let half = Indexes { count: 1, partial: vec!["p".into()], ..Indexes::default() };
        let half = AptState { indexes: half, ..AptState::default() };
        assert_eq!(words(&half, &["a"])[0], "fetch the package lists: 1 list half-downloaded");
        let damaged = AptState { damaged: vec!["z".into()], indexes, ..AptState::default() };
        assert_eq!(
            words(&damaged, &["a"]),
            [
                "remove 1 package list, which apt cannot use",
                "fetch the package lists: 1 list cut off",
                "install 1 package (a), unpack anew 1 damaged package (z)"
            ]
        );
    }
}
