use std::fmt;
use std::ops::Range;
use std::sync::Arc;

/// A document's text and what to call it in messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// A path, or a name such as `built-in microvm-host`.
    pub name: String,
    /// The whole text.
    pub text: String,
}

impl Source {
    /// The line (from 1) and column (from 1, in characters) of a byte offset; an offset past the end is the end.
    pub fn line_column(&self, offset: usize) -> (usize, usize) {
        let mut end = offset.min(self.text.len());
        while !self.text.is_char_boundary(end) {
            end -= 1;
        }
        let before = &self.text[..end];
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or(before).chars().count() + 1;
        (line, column)
    }
}

/// One mistake in a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// A stable number, explained in the book's reference, such as `D003`.
    pub code: &'static str,
    /// What is wrong.
    pub message: String,
    /// The document.
    pub source: Arc<Source>,
    /// The bytes of the document that are wrong.
    pub span: Range<usize>,
    /// What to do about it, such as the nearest right word.
    pub help: Option<String>,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (line, column) = self.source.line_column(self.span.start);
        write!(f, "{}:{line}:{column}: {} [{}]", self.source.name, self.message, self.code)?;
        match &self.help {
            Some(help) => write!(f, " ({help})"),
            None => Ok(()),
        }
    }
}

/// Every mistake found in one or more documents; never empty when returned as an error.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

impl Problems {
    /// Adds what another reading found; a mistake that was found before counts once.
    pub fn add(&mut self, more: Problems) {
        for problem in more.0 {
            if !self.0.contains(&problem) {
                self.0.push(problem);
            }
        }
    }

    /// `Ok(value)` where nothing was found wrong, else the mistakes in the order of their places.
    ///
    /// # Errors
    /// The mistakes themselves.
    pub fn or<T>(mut self, value: T) -> Result<T, Problems> {
        if self.0.is_empty() {
            return Ok(value);
        }
        self.0.sort_by(|a, b| (&a.source.name, a.span.start).cmp(&(&b.source.name, b.span.start)));
        Err(self)
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}
