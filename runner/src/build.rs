use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::Instant;

use crate::artifacts::{Artifact, Artifacts, Subject};
use crate::capture::Capture;
use crate::event::{BuildResult, Built, Event};
use crate::execute::Stage;
use crate::shell::{by_hand, quoted};
use crate::step::Step;
use crate::suite::{Build, CommandTest, Late};

/// How many of a compiler's last lines are told.
const LAST_LINES: usize = 20;

impl Stage<'_> {
    /// Makes what the tests need, one build after the other. One that fails does not keep the others from being tried.
    pub(crate) fn build_all(
        &self,
        builds: &[&Build],
        artifacts: &Artifacts,
        tell: &dyn Fn(Event),
    ) -> Vec<BuildResult> {
        let mut results = Vec::new();
        for build in builds {
            if self.stop.load(Ordering::Relaxed) {
                break;
            }
            tell(Event::BuildStarted { build: build.name.clone() });
            let (result, printed) = self.build(build);
            tell(Event::BuildEnded(Box::new(result.clone())));
            let output = Artifact::of_stream("output", printed);
            let files = vec![Artifact::of_json("result.json", &result), output];
            artifacts.keep(&Subject::Build(build.name.clone()), None, files);
            results.push(result);
        }
        results
    }

    /// What came of a build, and what it printed.
    fn build(&self, build: &Build) -> (BuildResult, Capture) {
        let mut printed = Capture::default();
        let start = Instant::now();
        let dir = self.source.as_ref().map_or_else(|| build.dir.clone(), |source| source.join(&build.dir));
        let mut result = BuildResult {
            build: build.name.clone(),
            trouble: None,
            duration_ms: 0,
            outputs: Vec::new(),
            last_lines: Vec::new(),
            reproduce: String::new(),
        };
        match self.built(build, &dir, &mut result, &mut printed) {
            Ok(outputs) => result.outputs = outputs,
            Err(trouble) => result.trouble = Some(trouble),
        }
        result.duration_ms = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
        (result, printed)
    }

    /// Runs the build, and looks for what it made. An error is why that cannot be used.
    fn built(
        &self,
        build: &Build,
        dir: &Path,
        result: &mut BuildResult,
        printed: &mut Capture,
    ) -> Result<Vec<Built>, String> {
        let folder = self.directory.for_test(&self.account);
        let folder = folder.map_err(|error| format!("cannot make the build's folder: {error}"))?;
        let late = Late::of(folder.path(), self.source.as_deref());
        let CommandTest { argv, env } = late.command(&build.command);
        let command = by_hand(&self.account.name, &env, &argv, None);
        result.reproduce = format!("cd {} && {command}", quoted(&dir.to_string_lossy()));
        let outputs: Vec<PathBuf> = build.outputs.iter().map(|output| dir.join(output)).collect();
        let before: Vec<Stamp> = self.as_user(|| outputs.iter().map(|output| Stamp::of(output)).collect())?;
        let (deadline, output_limit) = (build.deadline, build.output_limit);
        let step = Step { argv: &argv, env: &env, dir, deadline, output_limit };
        let end = step.run(&self.account, &self.options.isolate, self.stop, folder.path());
        self.leave(folder, None);
        *printed = end.printed;
        match end.trouble {
            Some(trouble) => Err(trouble),
            None => self.as_user(|| {
                outputs.iter().zip(&before).map(|(output, before)| fresh(output, before)).collect()
            }),
        }
        .inspect_err(|_| result.last_lines = printed.last_lines(LAST_LINES))
    }

    /// Looks at files with the test user's rights: a suite may name any of the host's, and what is told of them is for who wrote it.
    fn as_user<T: Send>(&self, look: impl FnOnce() -> Result<T, String> + Send) -> Result<T, String> {
        let looked = self.account.act(|| Ok(look()));
        looked.unwrap_or_else(|error| Err(format!("cannot become user {}: {error}", self.account.name)))
    }
}

/// What tells whether a file was written since it was looked at; nothing where there is no file.
#[derive(Debug, PartialEq, Eq)]
struct Stamp(Option<Written>);

/// Whatever writes a file changes one of these: the time of its last change cannot be set.
#[derive(Debug, PartialEq, Eq)]
struct Written {
    file: (u64, u64),
    size: u64,
    changed: (i64, i64),
}

impl Stamp {
    fn of(path: &Path) -> Result<Stamp, String> {
        match fs::metadata(path) {
            Ok(file) => Ok(Stamp(Some(Written {
                file: (file.dev(), file.ino()),
                size: file.len(),
                changed: (file.ctime(), file.ctime_nsec()),
            }))),
            Err(error) if is_missing(&error) => Ok(Stamp(None)),
            Err(error) => Err(format!("cannot look at its output {}: {error}", path.display())),
        }
    }
}

fn is_missing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// The output, if it was made since it was stamped; else why it is none.
fn fresh(path: &Path, before: &Stamp) -> Result<Built, String> {
    let shown = path.display();
    let file = fs::metadata(path).map_err(|error| match is_missing(&error) {
        true => format!("it said that all is well, and there is no output {shown}"),
        false => format!("cannot look at its output {shown}: {error}"),
    })?;
    if !file.is_file() {
        return Err(format!("its output {shown} is no regular file"));
    }
    if file.len() == 0 {
        return Err(format!("it said that all is well, and its output {shown} is empty"));
    }
    if Stamp::of(path)? == *before {
        return Err(format!(
            "it said that all is well, and did not make its output {shown}, which is the one that was there before"
        ));
    }
    Ok(Built { path: shown.to_string(), size: file.len() })
}

#[cfg(test)]
mod tests {
    use std::thread;
    use std::time::Duration;

    use super::*;

    #[test]
    fn only_what_was_written_since_is_an_output() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("kernel.elf");
        let none = Stamp::of(&file).unwrap();
        assert!(fresh(&file, &none).unwrap_err().contains("there is no output"));
        fs::write(&file, "").unwrap();
        assert!(fresh(&file, &none).unwrap_err().contains("is empty"));
        fs::write(&file, "kernel").unwrap();
        assert_eq!(fresh(&file, &none).unwrap().size, 6);
        let stale = Stamp::of(&file).unwrap();
        assert!(fresh(&file, &stale).unwrap_err().contains("did not make its output"));
        // The kernel's clock for files has ticks.
        thread::sleep(Duration::from_millis(20));
        fs::write(&file, "kernel").unwrap();
        assert!(fresh(&file, &stale).is_ok());
        assert!(fresh(dir.path(), &none).unwrap_err().contains("no regular file"));
        assert!(fresh(&file.join("x"), &none).unwrap_err().contains("there is no output"));
    }

    #[test]
    fn a_time_that_was_set_makes_no_output_new_and_none_old() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("kernel.elf");
        fs::write(&file, "kernel").unwrap();
        let stamp = Stamp::of(&file).unwrap();
        thread::sleep(Duration::from_millis(20));
        // Such as a compiler that makes the same bytes with the same time each time.
        fs::write(&file, "kernel").unwrap();
        let before = std::time::SystemTime::UNIX_EPOCH;
        fs::File::options().write(true).open(&file).unwrap().set_modified(before).unwrap();
        assert!(fresh(&file, &stamp).is_ok());
    }
}
