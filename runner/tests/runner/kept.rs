//! A run whose folder stays: with the files that its tests have left, and nothing else.

use std::fs;
use std::path::Path;

use toril_runner::{Event, kept_folders, remove_kept_folders};

use crate::place::{place, processes, shell};

#[test]
fn a_run_that_is_kept_leaves_files_and_neither_processes_nor_sockets() {
    let Some(mut place) = place(false) else { return };
    place.options.keep = Some("me@here".into());
    // The second attempt's folder is the one that stays, and the socket in it does not.
    let script = r#"pwd; echo "$HOME" > "$HOME/mine"; sleep 1234567 & 
        perl -MIO::Socket::UNIX -e 'IO::Socket::UNIX->new(Local => "s", Listen => 1) or exit 9'; exit 7"#;
    let (summary, events) = place.run(&shell(script, "retries = 1"));
    let folder = summary.folder.unwrap();
    assert!(folder.kept && folder.trouble.is_none(), "{folder:?}");
    assert!(events.contains(&Event::FolderKept((*folder).clone())));
    assert!(summary.results[0].reason.contains("exit status 7"), "{:?}", summary.results);
    let left: Vec<_> = fs::read_dir(&folder.directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    let tests: Vec<_> = left.iter().filter(|path| path.is_dir()).collect();
    let [test] = tests[..] else { panic!("not one folder of a test: {left:?}") };
    assert_eq!(fs::read_to_string(test.join("mine")).unwrap(), format!("{}\n", test.display()));
    assert_eq!(fs::read_dir(test).unwrap().count(), 1, "the socket is there");
    assert_eq!(processes("sleep 1234567").len(), 0);

    let kept = kept_folders(place.state.path()).unwrap();
    let [one] = &kept[..] else { panic!("{kept:?}") };
    let purpose = one.of.as_ref().unwrap();
    assert_eq!((one.directory.as_path(), &*purpose.who), (Path::new(&folder.directory), "me@here"));
    assert_eq!(purpose.suite, "test.toml");
    assert_eq!(remove_kept_folders(place.state.path()).unwrap(), kept);
    assert!(!Path::new(&folder.directory).exists());
}
