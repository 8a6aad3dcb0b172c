use serde::{Deserialize, Serialize};
use similar::TextDiff;

/// One thing that has to change, as data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// What of the resource, such as `mode` or `package socat`.
    pub what: String,
    /// How it is.
    pub before: String,
    /// How it should be.
    pub after: String,
    /// For texts: the unified diff.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub diff: Option<String>,
}

impl Change {
    pub(crate) fn new(
        what: impl Into<String>,
        before: impl Into<String>,
        after: impl Into<String>,
    ) -> Change {
        Change { what: what.into(), before: before.into(), after: after.into(), diff: None }
    }

    /// Says of which part of a resource these changes are.
    pub(super) fn of_part(part: &str, changes: &[Change]) -> Vec<Change> {
        changes
            .iter()
            .map(|change| Change { what: format!("{part}: {}", change.what), ..change.clone() })
            .collect()
    }

    /// Those of the changes that are of this part, as the part itself calls them.
    pub(super) fn for_part(part: &str, changes: &[Change]) -> Vec<Change> {
        let own = changes.iter().filter_map(|change| {
            let what = change.what.strip_prefix(part)?.strip_prefix(": ")?;
            Some(Change { what: what.to_owned(), ..change.clone() })
        });
        own.collect()
    }

    /// A change of a file's text; `None`: there is no such file.
    pub(crate) fn of_text(path: &str, before: Option<&str>, after: &str) -> Change {
        let diff = TextDiff::from_lines(before.unwrap_or_default(), after);
        let name = before.map_or("/dev/null", |_| path);
        let diff = diff.unified_diff().context_radius(2).header(name, path).to_string();
        let lines = |text: &str| match text.lines().count() {
            1 => "1 line".to_owned(),
            count => format!("{count} lines"),
        };
        Change {
            what: "content".into(),
            before: before.map_or("no such file".into(), lines),
            after: lines(after),
            diff: Some(diff),
        }
    }
}
