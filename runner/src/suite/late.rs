use std::collections::BTreeMap;
use std::path::Path;

use super::CommandTest;

/// What strings of a suite may name that is known only when a test is started.
pub(super) const ALWAYS: [&str; 1] = ["dirs.test"];

/// What they may name besides in a suite with a source.
pub(super) const SOURCE: &str = "dirs.source";

/// Values for the placeholders that the templates of a suite have left in its strings.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Late(BTreeMap<&'static str, String>);

impl Late {
    /// The directories of a test: its own folder, and the source's where there is one.
    pub(crate) fn of(folder: &Path, source: Option<&Path>) -> Late {
        let mut late = Late::default();
        late.set("dirs.test", folder.to_string_lossy());
        if let Some(source) = source {
            late.set(SOURCE, source.to_string_lossy());
        }
        late
    }

    pub(crate) fn set(&mut self, name: &'static str, value: impl Into<String>) {
        self.0.insert(name, value.into());
    }

    /// The command with values for placeholders.
    pub(crate) fn command(&self, command: &CommandTest) -> CommandTest {
        let env = command.env.iter().map(|(name, value)| (name.clone(), self.render(value)));
        CommandTest { argv: command.argv.iter().map(|word| self.render(word)).collect(), env: env.collect() }
    }

    /// The text with values for placeholders. Reading the suite has seen to it that there is one for each.
    pub(crate) fn render(&self, text: &str) -> String {
        if !text.contains(MARK) {
            return text.to_owned();
        }
        let replace = |text: String, (name, value): (&&str, &String)| text.replace(&placeholder(name), value);
        self.0.iter().fold(text.to_owned(), replace)
    }
}

/// No text that somebody writes begins so.
const MARK: char = '\u{1}';

/// What stands in a string for a value until it is known.
pub(super) fn placeholder(name: &str) -> String {
    format!("{MARK}{name}{MARK}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_take_the_place_of_names() {
        let mut late = Late::default();
        late.set("guest.cid", "7");
        late.set("guest.tag", "data");
        let text = format!("virtiofs,{} cid={}", placeholder("guest.tag"), placeholder("guest.cid"));
        assert_eq!(late.render(&text), "virtiofs,data cid=7");
        assert_eq!(late.render("plain"), "plain");
    }
}
