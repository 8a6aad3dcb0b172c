//! Packages that dpkg did not finish, and packages that are held though no recipe says so.

use super::{Finding, recipe_packages};
use crate::apt::Database;
use crate::recipe::Recipe;

pub(super) fn look(recipe: &Recipe, database: &Database) -> Vec<Finding> {
    let interrupted = database.interrupted().map(|name| {
        let state = database.get(name).map_or("", |package| package.state.as_str());
        Finding {
            about: format!("package {name}"),
            what: format!("dpkg did not finish it: it is {state}"),
            remedy: Some("dpkg --configure -a, then apt-get install --fix-broken".into()),
        }
    });
    let mut findings: Vec<Finding> = interrupted.collect();
    if database.pending_updates > 0 {
        findings.push(Finding {
            about: "dpkg".into(),
            what: "it was interrupted, or is at work: its status file is not the whole story".into(),
            remedy: Some("dpkg --configure -a".into()),
        });
    }
    for packages in recipe_packages(recipe).filter(|packages| !packages.says_hold()) {
        for name in &packages.install {
            if let Some(package) = database.get(name).filter(|package| package.held) {
                findings.push(Finding {
                    about: format!("package {name}"),
                    what: format!("it is held at {}, though the recipe does not say so", package.version),
                    remedy: Some(format!("apt-mark unhold {name}, or `hold = true` in the recipe")),
                });
            }
        }
    }
    findings
}
