//! Fingerprints of hosts that are kept in files, to compare with.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::Value;
use toril_machine::Fingerprint;

use super::UsageError;

/// By host; under no name where the file does not name one.
#[derive(Debug, Default)]
pub(super) struct Stored(BTreeMap<Option<String>, Fingerprint>);

impl Stored {
    /// That of a host. A file with one fingerprint only is for every host.
    pub(super) fn of(&self, host: Option<&str>) -> Option<&Fingerprint> {
        let own = self.0.get(&host.map(str::to_owned));
        own.or_else(|| self.0.values().next().filter(|_| !self.is_of_several()))
    }

    pub(super) fn is_of_several(&self) -> bool {
        self.0.len() > 1
    }

    /// All of them, by host.
    pub(super) fn all(&self) -> impl Iterator<Item = (Option<&str>, &Fingerprint)> {
        self.0.iter().map(|(host, print)| (host.as_deref(), print))
    }
}

/// Reads events as `--json` prints them, of `facts --fingerprint` or of a run of tests; the last of a host counts.
pub(super) fn read(path: &Path) -> Result<Stored, UsageError> {
    let shown = path.display();
    let text = fs::read_to_string(path)
        .map_err(|error| UsageError::Other(format!("cannot read the fingerprint {shown}: {error}")))?;
    let mut stored = Stored::default();
    for value in text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()) {
        let print = ["/fingerprint", "/run/ended/fingerprint"].iter().find_map(|at| value.pointer(at));
        let print = print.and_then(|print| serde_json::from_value(print.clone()).ok());
        if let Some(print) = print {
            stored.0.insert(value["host"].as_str().map(str::to_owned), print);
        }
    }
    match stored.0.is_empty() {
        true => Err(UsageError::Other(format!(
            "there is no fingerprint in {shown}: write one with `toril facts HOST --fingerprint --json > FILE`"
        ))),
        false => Ok(stored),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_of_several_hosts() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        let text = concat!(
            r#"{"event":"fingerprint","host":"a","fingerprint":{"kernel":"1"},"id":"x"}"#,
            "\nno json\n",
            r#"{"event":"run","host":"a","run":{"kind":"ended","ended":{"fingerprint":{"kernel":"2"}}}}"#,
            "\n",
            r#"{"event":"run","host":"b","run":{"kind":"ended","ended":{"fingerprint":{"kernel":"3"}}}}"#,
        );
        fs::write(&path, text).unwrap();
        let earlier = read(&path).unwrap();
        assert_eq!(earlier.of(Some("a")).unwrap().0["kernel"], "2");
        assert_eq!(earlier.of(Some("b")).unwrap().0["kernel"], "3");
        assert!(earlier.of(Some("c")).is_none());
        fs::write(&path, text.lines().next().unwrap()).unwrap();
        assert!(read(&path).unwrap().of(Some("c")).is_some());
        fs::write(&path, "{}").unwrap();
        assert!(read(&path).is_err());
    }
}
