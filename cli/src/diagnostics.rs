use std::fmt;
use std::io::IsTerminal;

use miette::{Diagnostic, GraphicalReportHandler, GraphicalTheme, LabeledSpan, NamedSource, SourceCode};
use toril_document::{Problem, Problems};

/// Every mistake with its file, line and the text underlined, for people.
pub(crate) fn render(problems: &Problems) -> String {
    let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let theme = if colour { GraphicalTheme::unicode() } else { GraphicalTheme::unicode_nocolor() };
    let handler = GraphicalReportHandler::new_themed(theme).with_links(false).with_width(110);
    let mut text = String::new();
    for problem in &problems.0 {
        let shown = Shown::new(problem);
        if handler.render_report(&mut text, &shown).is_err() {
            text.push_str(&problem.to_string());
        }
        text.push('\n');
    }
    let count = problems.0.len();
    text.push_str(&format!(
        "error: {count} mistake{}; no host was touched",
        if count == 1 { "" } else { "s" }
    ));
    text
}

/// A problem in the words of miette.
struct Shown<'p> {
    problem: &'p Problem,
    source: NamedSource<String>,
}

impl<'p> Shown<'p> {
    fn new(problem: &'p Problem) -> Shown<'p> {
        Shown { problem, source: NamedSource::new(&problem.source.name, problem.source.text.clone()) }
    }
}

impl fmt::Debug for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.problem, f)
    }
}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.problem.message)
    }
}

impl std::error::Error for Shown<'_> {}

impl Diagnostic for Shown<'_> {
    fn code<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        Some(Box::new(self.problem.code))
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.problem.help.as_ref().map(|help| Box::new(help) as Box<dyn fmt::Display>)
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        Some(&self.source)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let span = self.problem.span.clone();
        let first_line = &self.problem.source.text[span.start.min(self.problem.source.text.len())..];
        let length = span.len().min(first_line.find('\n').unwrap_or(first_line.len()));
        Some(Box::new(std::iter::once(LabeledSpan::new(None, span.start, length))))
    }
}
