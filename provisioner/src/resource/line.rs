//! `line`: a line in a file that something else writes. The rest of the file stays byte for byte.

use std::fs;
use std::io::Read;
use std::os::unix::fs::MetadataExt;

use regex_lite::Regex;
use toril_document::Table;
use toril_machine::{FileAttributes, Probe, write_atomically};

use super::attributes::open_regular;
use super::{
    Change, Context, Judged, Kind, Resource, ResourceError, Thing, Wanted, one_line, parsed, read_path,
};

#[derive(Debug)]
struct Line {
    path: String,
    edit: Edit,
    create: bool,
}

/// What is to be done with a text.
#[derive(Debug)]
enum Edit {
    /// The line is there, in the place of the one that matches.
    Present { line: String, matching: Option<Regex> },
    /// No line is this one or matches.
    Absent { line: Option<String>, matching: Option<Regex> },
}

struct LineState {
    /// The text now and the text then. `None`: there is no such file.
    file: Option<(Vec<u8>, Vec<u8>, FileAttributes)>,
}

pub(super) fn read(table: &mut Table<'_>) -> Option<Box<dyn Resource>> {
    let path = read_path(table, "path");
    let absent = table.boolean("absent").unwrap_or(false);
    let create = table.boolean("create").unwrap_or(false);
    let pattern = |text: &str| Regex::new(text).map_err(|error| format!("`{text}` is no pattern: {error}"));
    let (has_line, has_pattern) = (table.has("line"), table.has("matching"));
    let matching = match has_pattern {
        true => Some(parsed(table, "matching", "R031", pattern)?),
        false => {
            drop(table.take("matching"));
            None
        }
    };
    let edit = match absent {
        true if !has_line && !has_pattern => {
            let message = "`absent` needs a `line` or what is `matching`";
            table.note("R032", table.span(), message, None);
            drop(table.take("line"));
            None
        }
        true if !has_line => {
            drop(table.take("line"));
            Some(Edit::Absent { line: None, matching })
        }
        true => {
            parsed(table, "line", "R030", one_line).map(|line| Edit::Absent { line: Some(line), matching })
        }
        false => parsed(table, "line", "R030", one_line).map(|line| Edit::Present { line, matching }),
    };
    if absent && create {
        table.note("R032", table.span(), "`absent` and `create` do not go together", None);
    }
    Some(Box::new(Line { path: path?, edit: edit?, create }))
}

impl Edit {
    /// The text as it should be.
    ///
    /// # Errors
    /// It is not clear which line is meant.
    fn of(&self, text: &[u8]) -> Result<Vec<u8>, String> {
        let lines: Vec<_> = text.split_inclusive(|byte| *byte == b'\n').map(split_end).collect();
        match self {
            Edit::Absent { line, matching } => {
                let goes =
                    |content: &[u8]| is_line(line.as_deref(), content) || matches(matching.as_ref(), content);
                let kept = lines.iter().filter(|(content, _)| !goes(content));
                Ok(kept.flat_map(|(content, end)| [*content, *end]).collect::<Vec<_>>().concat())
            }
            Edit::Present { line, matching } => match place(&lines, line, matching.as_ref())? {
                Place::There => Ok(text.to_vec()),
                Place::At(index) => {
                    let mut parts: Vec<&[u8]> =
                        lines.iter().flat_map(|(content, end)| [*content, *end]).collect();
                    parts[2 * index] = line.as_bytes();
                    Ok(parts.concat())
                }
                Place::End => {
                    let end = if text.is_empty() || text.ends_with(b"\n") { "" } else { "\n" };
                    Ok([text, end.as_bytes(), line.as_bytes(), b"\n"].concat())
                }
            },
        }
    }
}

/// Where a line belongs.
enum Place {
    There,
    /// In the place of the line with this index.
    At(usize),
    End,
}

/// Lines that are comments are taken only where no other matches: many files have their defaults as comments.
fn place(lines: &[(&[u8], &[u8])], line: &str, matching: Option<&Regex>) -> Result<Place, String> {
    let (comments, effective): (Vec<usize>, Vec<usize>) = (0..lines.len())
        .filter(|index| matches(matching, lines[*index].0))
        .partition(|index| matches!(lines[*index].0.trim_ascii_start().first(), Some(b'#' | b';')));
    let is_it = |index: &usize| is_line(Some(line), lines[*index].0);
    match effective[..] {
        [] if (0..lines.len()).any(|index| is_it(&index)) => Ok(Place::There),
        [] => Ok(comments.first().map_or(Place::End, |first| Place::At(*first))),
        _ if effective.iter().all(is_it) => Ok(Place::There),
        [one] => Ok(Place::At(one)),
        _ => {
            let numbers: Vec<String> = effective.iter().map(|index| (index + 1).to_string()).collect();
            Err(format!(
                "lines {} all match; narrow the pattern to the one that is meant",
                numbers.join(", ")
            ))
        }
    }
}

fn is_line(line: Option<&str>, content: &[u8]) -> bool {
    line.is_some_and(|line| line.as_bytes() == content)
}

fn matches(matching: Option<&Regex>, content: &[u8]) -> bool {
    matching.is_some_and(|pattern| pattern.is_match(&String::from_utf8_lossy(content)))
}

/// A line without its end, and the end: a line break, one of DOS, or nothing at the end of a file.
fn split_end(line: &[u8]) -> (&[u8], &[u8]) {
    let content = line.strip_suffix(b"\n").unwrap_or(line);
    let content = content.strip_suffix(b"\r").filter(|_| line.ends_with(b"\n")).unwrap_or(content);
    line.split_at(content.len())
}

impl Line {
    fn edit(&self, text: &[u8]) -> Result<Vec<u8>, ResourceError> {
        self.edit.of(text).map_err(|error| ResourceError(format!("{}: {error}", self.path)))
    }
}

impl Kind for Line {
    type State = LineState;

    fn observe(&self, context: Context<'_>) -> Result<LineState, ResourceError> {
        let place = context.machine.path(&self.path);
        let metadata = Probe::of_io(fs::symlink_metadata(&place), &self.path);
        let Some(metadata) = metadata.known().map_err(ResourceError)? else {
            return Ok(LineState { file: None });
        };
        if metadata.is_symlink() {
            let target = fs::read_link(&place).map(|target| target.display().to_string());
            let target = target.unwrap_or_else(|error| error.to_string());
            return Err(ResourceError(format!(
                "{} is a link to {target}; name that file instead",
                self.path
            )));
        }
        let failed = |error| ResourceError(format!("cannot read {}: {error}", self.path));
        let Some(mut file) = open_regular(&place).map_err(failed)? else {
            return Err(ResourceError(format!("{} is not a file", self.path)));
        };
        let (metadata, mut text) = (file.metadata().map_err(failed)?, Vec::new());
        file.read_to_end(&mut text).map_err(failed)?;
        let attributes =
            FileAttributes { uid: metadata.uid(), gid: metadata.gid(), mode: metadata.mode() & 0o7777 };
        let after = self.edit(&text)?;
        Ok(LineState { file: Some((text, after, attributes)) })
    }

    fn compare(&self, _: Context<'_>, state: &LineState) -> Judged {
        let Some((before, after, _)) = &state.file else {
            return match &self.edit {
                Edit::Absent { .. } => Judged::default(),
                Edit::Present { line, .. } if self.create => {
                    vec![Change::of_text(&self.path, None, &format!("{line}\n"))].into()
                }
                Edit::Present { .. } => {
                    vec![Change::new("file", "not there", "there, with this line")].into()
                }
            };
        };
        if after == before {
            return Judged::default();
        }
        let (before, after) = (String::from_utf8_lossy(before), String::from_utf8_lossy(after));
        vec![Change::of_text(&self.path, Some(&before), &after)].into()
    }

    fn apply(
        &self,
        context: Context<'_>,
        _: &[Change],
        _: &mut dyn FnMut(&str),
    ) -> Result<(), ResourceError> {
        let (text, attributes) = match self.observe(context)?.file {
            Some((_, after, attributes)) => (after, Some(attributes)),
            None if self.create => (self.edit(b"")?, None),
            None => {
                let text = format!("there is no {}; `create = true` makes it with just this line", self.path);
                return Err(ResourceError(text));
            }
        };
        write_atomically(&context.machine.path(&self.path), &text, attributes).map_err(ResourceError::new)
    }

    fn provides(&self) -> Vec<Thing> {
        self.create.then(|| Thing::Path(self.path.clone())).into_iter().collect()
    }

    fn follows(&self) -> Vec<Wanted> {
        let own = match self.create {
            true => Wanted::Above(self.path.clone()),
            false => Wanted::path(&self.path),
        };
        // Packages bring most of the files that recipes edit.
        vec![own, Wanted::Packages]
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::resource::testing::{self, Fake};

    fn edit(line: &str, matching: Option<&str>, before: &str) -> String {
        let matching = matching.map(|pattern| Regex::new(pattern).unwrap());
        let edit = Edit::Present { line: line.into(), matching };
        let after = edit.of(before.as_bytes()).unwrap();
        assert_eq!(edit.of(&after).unwrap(), after, "idempotent");
        String::from_utf8(after).unwrap()
    }

    #[test]
    fn the_line_is_added_put_in_place_or_found() {
        for (matching, before, after) in [
            (None, "", "k 1\n"),
            (None, "a\n", "a\nk 1\n"),
            (None, "a", "a\nk 1\n"),
            (None, "k 1\na\n", "k 1\na\n"),
            (Some("^#?k "), "a\n#k 0\nb\n", "a\nk 1\nb\n"),
            (Some("^#?k "), "a\r\n#k 0\r\nb", "a\r\nk 1\r\nb"),
            (Some("^#?k "), "#k 0\nk 2\nb\n", "#k 0\nk 1\nb\n"),
            (Some("^#?k "), "#k 0\nk 1\nb\n", "#k 0\nk 1\nb\n"),
            (Some("^#?k "), "#k 0\n#k 2\n", "k 1\n#k 2\n"),
            (Some("^old"), "old\n", "k 1\n"),
            (Some("^#?k "), "b\nk 0", "b\nk 1"),
            (Some("^#?k "), "b\n", "b\nk 1\n"),
        ] {
            assert_eq!(edit("k 1", matching, before), after, "{before:?}");
        }
    }

    #[test]
    fn bytes_that_are_no_text_stay() {
        let edit = Edit::Present { line: "k".into(), matching: None };
        assert_eq!(edit.of(b"\xff\x00\r\nx").unwrap(), b"\xff\x00\r\nx\nk\n");
    }

    #[test]
    fn where_several_lines_are_meant_none_is_touched() {
        let fake = Fake::new();
        fs::write(fake.path("etc/f"), "k 0\na\nk 2\n").unwrap();
        let resource =
            testing::read("line = { path = \"/etc/f\", line = \"k 1\", matching = '^k\\b' }").unwrap();
        let error = resource.judge(fake.context()).unwrap_err();
        let expected = "/etc/f: lines 1, 3 all match; narrow the pattern to the one that is meant";
        assert_eq!(error.to_string(), expected);
    }

    #[test]
    fn is_mended_and_keeps_mode_and_the_rest() {
        let fake = Fake::new();
        let resource =
            testing::read("line = { path = \"/etc/f\", line = \"k 1\", matching = '^k\\b' }").unwrap();
        fs::write(fake.path("etc/f"), "a\nk 0\nb").unwrap();
        fs::set_permissions(fake.path("etc/f"), fs::Permissions::from_mode(0o600)).unwrap();
        let judged = resource.judge(fake.context()).unwrap();
        let diff = judged.changes[0].diff.as_deref().unwrap();
        assert!(diff.contains("-k 0\n+k 1\n"), "{diff}");
        fake.apply(&*resource);
        assert_eq!(fake.changes(&*resource), [""; 0]);
        assert_eq!(fs::read_to_string(fake.path("etc/f")).unwrap(), "a\nk 1\nb");
        assert_eq!(fs::metadata(fake.path("etc/f")).unwrap().mode() & 0o7777, 0o600);
    }

    #[test]
    fn absent_takes_away_what_matches_and_a_missing_file_is_fine() {
        let fake = Fake::new();
        let resource =
            testing::read("line = { path = \"/etc/f\", absent = true, matching = \"^k\" }").unwrap();
        assert_eq!(fake.changes(&*resource), [""; 0]);
        fs::write(fake.path("etc/f"), "k\na\nk 0\n").unwrap();
        assert_eq!(fake.changes(&*resource), ["content: 3 lines → 1 line"]);
        fake.apply(&*resource);
        assert_eq!(fs::read_to_string(fake.path("etc/f")).unwrap(), "a\n");
    }

    #[test]
    fn a_missing_file_is_made_only_when_told() {
        let fake = Fake::new();
        let resource = testing::read("line = { path = \"/etc/f\", line = \"k\" }").unwrap();
        assert_eq!(fake.changes(&*resource), ["file: not there → there, with this line"]);
        let error = resource.apply(fake.context(), &[], &mut |_| {}).unwrap_err();
        assert!(error.to_string().contains("create = true"), "{error}");
        let resource = testing::read("line = { path = \"/etc/f\", line = \"k\", create = true }").unwrap();
        fake.apply(&*resource);
        assert_eq!(fs::read_to_string(fake.path("etc/f")).unwrap(), "k\n");
        assert_eq!(fake.changes(&*resource), [""; 0]);
    }

    #[test]
    fn a_link_is_not_followed() {
        let fake = Fake::new();
        std::os::unix::fs::symlink("passwd", fake.path("etc/f")).unwrap();
        let resource = testing::read("line = { path = \"/etc/f\", line = \"k\" }").unwrap();
        let error = resource.judge(fake.context()).unwrap_err();
        assert_eq!(error.to_string(), "/etc/f is a link to passwd; name that file instead");
    }

    #[test]
    fn wrong_words_are_refused() {
        testing::refuses(&[
            ("line = { path = \"/f\", line = \"a\\nb\" }", "must be one line"),
            ("line = { path = \"/f\", line = \"a\", matching = \"(\" }", "`(` is no pattern"),
            ("line = { path = \"/f\", absent = true }", "needs a `line`"),
            ("line = { path = \"/f\", line = \"a\", absent = true, create = true }", "do not go together"),
            ("line = { path = \"/f\", line = \"a\", maching = \"a\" }", "did you mean `matching`?"),
            ("line = { path = \"/f\" }", "`line` is missing"),
        ]);
    }
}
