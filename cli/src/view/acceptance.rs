//! What came of a host's acceptance.

use console::style;
use serde::Serialize;

use super::plan::count;

/// What a promise begins with that is of a single resource of the recipe.
pub(crate) const OF_RECIPE: &str = "recipe: ";

/// Something that toril promises of a host, and whether it held there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Promise {
    pub(crate) promise: String,
    pub(crate) verdict: Verdict,
    /// What was seen; for what was not tried, why not.
    pub(crate) why: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Verdict {
    Held,
    Broken,
    NotTried,
}

impl Verdict {
    fn word(self) -> String {
        match self {
            Verdict::Held => style("held     ").green().to_string(),
            Verdict::Broken => style("broken   ").red().bold().to_string(),
            Verdict::NotTried => style("not tried").yellow().to_string(),
        }
    }
}

/// What is shown at the end: the promises, then what to do with the file. Without `verbose`, what is the same of many is
/// said once.
pub(super) fn lines(file: &str, complete: bool, promises: &[Promise], verbose: bool) -> Vec<String> {
    let line = |verdict: Verdict, promise: &str, why: &str| {
        format!("  {}  {promise}: {}", verdict.word(), why.replace('\n', "\n             "))
    };
    let alike = |promise: &Promise| promises.iter().filter(|other| is_alike(other, promise)).count();
    let mut lines = Vec::new();
    for (index, promise) in promises.iter().enumerate() {
        match if verbose { 1 } else { alike(promise) } {
            0..=2 => lines.push(line(promise.verdict, &promise.promise, &promise.why)),
            // With the first of them.
            _ if promises.iter().take(index).any(|other| is_alike(other, promise)) => {}
            number if promise.verdict == Verdict::Held => {
                lines.push(line(Verdict::Held, &format!("{number} resources of the recipe"), &promise.why));
            }
            number => lines.push(line(Verdict::NotTried, &format!("{number} promises"), &promise.why)),
        }
    }
    let number = |verdict| promises.iter().filter(|promise| promise.verdict == verdict).count();
    lines.push(format!(
        "{} held, {} broken, {} not tried",
        count(number(Verdict::Held), "promise"),
        number(Verdict::Broken),
        number(Verdict::NotTried)
    ));
    let part = if complete { "All of it is in" } else { "As far as it came, it is in" };
    lines.push(format!("{part} {file}: text that can be read before it is sent."));
    lines.push(
        "It holds no passwords and no private keys. The host's names, and those of its people, are replaced; the names \
         of its package mirrors are not."
            .to_owned(),
    );
    lines
}

/// Whether it is enough to say of many such promises how many they are: those that were not tried for the same reason, and
/// the recipe's resources that held alike.
fn is_alike(one: &Promise, other: &Promise) -> bool {
    let is_resource = |promise: &Promise| promise.promise.starts_with(OF_RECIPE);
    one.verdict == other.verdict
        && one.why == other.why
        && match one.verdict {
            Verdict::Held => is_resource(one) && is_resource(other),
            Verdict::NotTried => true,
            Verdict::Broken => false,
        }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_alike_is_said_once() {
        let promise =
            |promise: &str, verdict, why: &str| Promise { promise: promise.into(), verdict, why: why.into() };
        let mut promises = vec![promise("looking changes nothing", Verdict::Held, "so")];
        for name in ["a", "b", "c"] {
            promises.push(promise(&format!("{OF_RECIPE}{name}"), Verdict::Held, "it was so before"));
            promises.push(promise(name, Verdict::NotTried, "not now"));
            promises.push(promise(name, Verdict::Broken, "no"));
        }
        let shown = lines("f.json", true, &promises, false);
        let words: Vec<String> =
            shown.iter().map(|line| console::strip_ansi_codes(line).trim().to_owned()).collect();
        assert_eq!(
            words[..7],
            [
                "held       looking changes nothing: so",
                "held       3 resources of the recipe: it was so before",
                "not tried  3 promises: not now",
                "broken     a: no",
                "broken     b: no",
                "broken     c: no",
                "4 promises held, 3 broken, 3 not tried",
            ]
        );
        assert_eq!(lines("f.json", true, &promises, true).len(), promises.len() + 3);
    }
}
