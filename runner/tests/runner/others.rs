//! What is others' on a host is not told of to a suite that names it.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use toril_runner::Outcome;

use crate::place::place;

#[test]
fn a_build_makes_nothing_out_of_files_that_its_user_cannot_come_to() {
    let Some(place) = place(false) else { return };
    let home = place.state.path().join("home");
    fs::create_dir(&home).unwrap();
    fs::write(home.join("secret"), "secret").unwrap();
    fs::set_permissions(&home, Permissions::from_mode(0o700)).unwrap();
    let secret = home.join("secret").display().to_string();
    let suite = |output: &str| {
        format!(
            "[[build]]\nname = \"b\"\ndir = \"/\"\noutputs = [\"{output}\"]\ncommand = [\"true\"]\n\
             [[test]]\nname = \"t\"\ncommand = [\"true\"]\n"
        )
    };
    // There or not, the answer is the same.
    for output in [secret.clone(), home.join("nothing").display().to_string()] {
        let result = place.result(&suite(&output));
        let reason = format!("cannot look at its output {output}: Permission denied");
        assert!(result.outcome == Outcome::Error && result.reason.contains(&reason), "{result:#?}");
    }
}
