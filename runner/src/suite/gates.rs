use toril_document::Table;

use super::Pattern;
use super::read::note_pattern;
use crate::gate::{Gate, Metric};

/// How many runs a gate is judged on, unless it says otherwise.
const RUNS: u32 = 5;

/// The limits on metrics, `[[test.gate]]`.
pub(super) fn read_gates(table: &mut Table<'_>, is_guest: bool) -> Vec<Gate> {
    let mut gates: Vec<Gate> = Vec::new();
    for gate in table.tables("gate") {
        let place = gate.span();
        let Some(gate) = read_gate(gate, is_guest) else { continue };
        if gates.iter().any(|other| other.name == gate.name) {
            let help = Some("give one a `name` of its own".into());
            table.note("S010", place, format!("there are two gates named `{}`", gate.name), help);
        }
        gates.push(gate);
    }
    gates
}

fn read_gate(mut table: Table<'_>, is_guest: bool) -> Option<Gate> {
    table.rename("a `gate`");
    let place = table.span();
    let word = table.required_string("metric");
    let name = table.string("name").map(|name| name.value);
    let marker = read_pattern(&mut table, "marker");
    let pattern = read_pattern(&mut table, "pattern");
    let unit = table.string("unit");
    let at_most = table.number("at-most");
    let at_least = table.number("at-least");
    let runs = table.integer("runs", 3..=99).and_then(|count| u32::try_from(count).ok()).unwrap_or(RUNS);
    let imagined = table.is_imagined();
    let note = |message: String, help: Option<String>| {
        if !imagined {
            table.note("S010", place.clone(), message, help);
        }
    };
    if runs.is_multiple_of(2) {
        note(format!("`runs` must be odd, so that one sample is the median: not {runs}"), None);
    }
    match (at_least, at_most) {
        (None, None) => note("the gate has no limit".into(), Some("write at-most or at-least".into())),
        (Some(least), Some(most)) if least > most => {
            note(format!("nothing is at least {least} and at most {most}"), None);
        }
        _ => {}
    }
    let is_time = word.as_ref().is_some_and(|word| word.value != "value");
    if let Some(unit) = unit.as_ref().filter(|unit| is_time && Gate::per_microsecond(&unit.value).is_none()) {
        note(format!("`{}` is no unit of time: write us, ms or s", unit.value), None);
    }
    let metric = match word.as_ref().map(|word| word.value.as_str()) {
        Some("boot-time") => {
            if !is_guest {
                note("a command has no boot-time: that is for guests".into(), None);
            }
            Some(Metric::BootTime)
        }
        Some("wall-time") => match marker.clone() {
            Some(marker) => Some(Metric::WallTime(marker)),
            None => {
                note("it is not said which line ends the time".into(), Some("write marker = \"…\"".into()));
                None
            }
        },
        Some("value") => match pattern.clone() {
            Some(pattern) if pattern.has_group("value") => Some(Metric::Value(pattern)),
            Some(_) => {
                note("the pattern has no group `value`".into(), Some("write (?<value>…)".into()));
                None
            }
            None => {
                let help = "write pattern = \"… (?<value>[0-9.]+) …\"".to_owned();
                note("it is not said where the value stands".into(), Some(help));
                None
            }
        },
        Some(other) => {
            note(format!("`{other}` is no metric: write boot-time, wall-time or value"), None);
            None
        }
        None => None,
    };
    let used = match &metric {
        Some(Metric::WallTime(_)) => (true, false),
        Some(Metric::Value(_)) => (false, true),
        _ => (false, false),
    };
    if metric.is_some() && ((marker.is_some(), pattern.is_some()) != used) {
        note("`marker` is for wall-time only, `pattern` for value only".into(), None);
    }
    table.finish();
    let word = word?.value;
    let unit = unit.map_or_else(|| if is_time { "ms".to_owned() } else { String::new() }, |unit| unit.value);
    Some(Gate { name: name.unwrap_or(word), metric: metric?, unit, at_most, at_least, runs })
}

fn read_pattern(table: &mut Table<'_>, key: &'static str) -> Option<Pattern> {
    let text = table.string(key)?;
    note_pattern(table, &text)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::Suite;

    fn parse(gates: &str) -> Result<Suite, Vec<String>> {
        let text = format!("[[test]]\nname = \"t\"\ncommand = [\"true\"]\n{gates}");
        let problems = Suite::parse("s.toml", &text, &BTreeMap::new());
        problems.map_err(|problems| problems.0.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn every_metric() {
        let suite = parse(
            r#"
[[test.gate]]
metric = "wall-time"
marker = "^ready"
at-most = 20
[[test.gate]]
name = "throughput"
metric = "value"
pattern = "^rate (?<value>[0-9.]+)"
unit = "MiB/s"
at-least = 1.5
runs = 7
"#,
        )
        .unwrap();
        let [wall, value] = &suite.tests[0].gates[..] else { panic!("two gates") };
        assert_eq!(
            (wall.name.as_str(), wall.unit.as_str(), wall.at_most, wall.runs),
            ("wall-time", "ms", Some(20.0), 5)
        );
        assert_eq!(
            (value.name.as_str(), value.unit.as_str(), value.at_least, value.runs),
            ("throughput", "MiB/s", Some(1.5), 7)
        );
        let guest = "[[test]]\nname = \"g\"\n[test.guest]\nkernel = \"/k\"\nends = \"reset\"\n[[test.gate]]\nmetric = \"boot-time\"\nat-most = 9\n";
        let suite = Suite::parse("s.toml", guest, &BTreeMap::new()).unwrap();
        assert_eq!(suite.tests[0].gates[0].metric, Metric::BootTime);
        assert!(suite.tests[0].cases.is_none());
    }

    #[test]
    fn every_mistake() {
        for (gate, expected) in [
            ("metric = \"boot-time\"\nat-most = 1", "a command has no boot-time"),
            ("metric = \"wall-time\"\nat-most = 1", "it is not said which line ends the time"),
            ("metric = \"value\"\nat-most = 1", "it is not said where the value stands"),
            ("metric = \"value\"\npattern = \"x\"\nat-most = 1", "the pattern has no group `value`"),
            ("metric = \"wall-time\"\nmarker = \"x\"", "the gate has no limit"),
            (
                "metric = \"wall-time\"\nmarker = \"x\"\nat-most = 1\nat-least = 2",
                "nothing is at least 2 and at most 1",
            ),
            ("metric = \"wall-time\"\nmarker = \"x\"\nat-most = 1\nunit = \"m\"", "`m` is no unit of time"),
            ("metric = \"wall-time\"\nmarker = \"x\"\nat-most = 1\nruns = 4", "`runs` must be odd"),
            ("metric = \"wall-time\"\nmarker = \"x\"\nat-most = 1\nruns = 1", "`runs` must be from 3 to 99"),
            ("metric = \"wall-time\"\nmarker = \"x\"\nat-most = \"1\"", "`at-most` must be a number"),
            (
                "metric = \"wall-time\"\nmarker = \"x\"\npattern = \"y\"\nat-most = 1",
                "`marker` is for wall-time only",
            ),
            ("metric = \"speed\"\nat-most = 1", "`speed` is no metric"),
            ("at-most = 1", "`metric` is missing in a `gate`"),
        ] {
            let lines = parse(&format!("[[test.gate]]\n{gate}\n")).unwrap_err();
            assert!(lines.iter().any(|line| line.contains(expected)), "{gate}: {lines:#?}");
        }
        let two = "[[test.gate]]\nmetric = \"wall-time\"\nmarker = \"x\"\nat-most = 1\n".repeat(2);
        assert!(parse(&two).unwrap_err()[0].contains("there are two gates named `wall-time`"));
    }
}
