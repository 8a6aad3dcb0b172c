use std::io::{self, IsTerminal};
use std::time::Duration;

use comfy_table::{Table, presets};
use console::style;
use toril_machine::Comparison;
use toril_provisioner::{CheckState, Event as ProvisionEvent};
use toril_runner::{BuildResult, Event as TestEvent, Kept, Outcome, TestResult};

use super::quiet::is_for_the_quiet;
use super::screen::Screen;
use super::{
    Choice, HostOutcome, Promise, Shown, Trial, acceptance, failures, footprint, kept, lines, outcome, plan,
    trial,
};
use crate::agent::RunEvent;
use crate::exit::Status;

/// Everything as lines for people.
pub(super) struct Human {
    verbose: bool,
    /// Whether only what went wrong is told, and the end.
    quiet: bool,
    pub(super) screen: Screen,
}

impl Human {
    pub(super) fn new(verbose: bool, quiet: bool, aside: bool) -> Human {
        Human { verbose, quiet, screen: Screen::new(!quiet, aside) }
    }

    pub(super) fn show(&mut self, host: Option<&str>, shown: &Shown<'_>) {
        if self.quiet && !is_for_the_quiet(shown) {
            return;
        }
        match shown {
            Shown::Choices { recipe, suite, hosts } => self.choices(*recipe, *suite, hosts),
            Shown::Step { text } => self.screen.step(host, text),
            Shown::Note { text } => self.screen.line(host, text),
            Shown::Connected { transport, key_exchange, host_key, weaker, closed_before, uploaded } => {
                if let Some(size) = uploaded {
                    self.screen.line(host, &format!("put the agent there ({})", plan::bytes(*size as u64)));
                }
                if let Some(weaker) = weaker {
                    self.screen.line(host, weaker);
                }
                if self.verbose {
                    let exchange =
                        key_exchange.map_or(String::new(), |name| format!(", key exchange {name}"));
                    let key = host_key.map_or(String::new(), |name| format!(", host key {name}"));
                    let tried = match closed_before {
                        0 => String::new(),
                        _ => format!(", at try {} (closed before the login until then)", closed_before + 1),
                    };
                    self.screen.line(host, &format!("connected by {transport}{exchange}{key}{tried}"));
                }
            }
            Shown::Facts { facts } => {
                lines::of_facts(facts).iter().for_each(|line| self.screen.line(host, line))
            }
            Shown::Fingerprint { fingerprint, id, comparison } => {
                self.screen.line(host, &format!("fingerprint {id}"));
                let values = fingerprint.0.iter();
                values.for_each(|(name, value)| self.screen.print(&format!("  {name} = {value}")));
                if let Some(comparison) = comparison {
                    self.comparison(host, comparison);
                }
            }
            Shown::Compared { comparison } => self.comparison(host, comparison),
            Shown::Checks { checks, all } => {
                let shown = checks.iter().filter(|check| *all || check.state != CheckState::Fine);
                let of = host.unwrap_or("this machine");
                shown.flat_map(lines::of_check).for_each(|text| self.screen.line(Some(of), &text));
            }
            Shown::Plan { plan, matters } => {
                self.screen.line(host, &plan::headline(plan));
                let lines = match self.quiet {
                    true => plan::wrong(plan, *matters),
                    false => plan::lines(plan, self.verbose),
                };
                lines.iter().for_each(|line| self.screen.print(line));
            }
            Shown::Findings { findings, drift } => {
                self.screen.line(host, &plan::findings_headline(findings.len(), *drift));
                findings.iter().flat_map(plan::finding).for_each(|line| self.screen.print(&line));
            }
            Shown::Run { run } => self.run(host, run),
            Shown::Lost { reason } => {
                let reason = reason.lines().next().unwrap_or_default();
                self.screen.line(host, &format!("the connection was lost and is made again ({reason})"));
            }
            Shown::Rebooted { milliseconds } => {
                let time = Duration::from_millis(*milliseconds).as_secs_f64();
                self.screen.line(host, &format!("{}, and back after {time:.1} s", style("rebooted").green()));
            }
            Shown::Artifacts { directory } => {
                self.screen.clear(host);
                self.screen.line(host, &format!("artifacts are in {directory}"));
            }
            Shown::Kept { folders, removed } => {
                kept::lines(folders, *removed).iter().for_each(|line| self.screen.line(host, line));
            }
            Shown::Footprint { footprint, removed } => {
                for line in footprint::lines(footprint, *removed) {
                    self.screen.line(host.filter(|_| !line.starts_with(' ')), &line);
                }
            }
            Shown::RecipeTest { trials, .. } => self.trials(trials),
            Shown::Acceptance { file, complete, promises } => self.acceptance(file, *complete, promises),
            Shown::Problem { doing, error, remedy } => {
                self.screen.clear(host);
                let text = error.replace('\n', "\n  ");
                let remedy = remedy.map(|remedy| format!("\n  {} {remedy}", style("try:").bold()));
                let remedy = remedy.unwrap_or_default();
                self.screen.line(host, &format!("{} {doing}: {text}{remedy}", style("error:").red().bold()));
            }
        }
    }

    pub(super) fn finish(&mut self, outcomes: &[HostOutcome], status: Status) {
        self.screen.clear_all();
        if !outcomes.is_empty() {
            self.outcomes(outcomes);
        }
        if status != Status::Fine {
            self.screen.print(&format!("exit status {}", status.number()));
        }
    }

    fn outcomes(&mut self, outcomes: &[HostOutcome]) {
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        table.set_header(["HOST", "RECIPE", "TESTS", "GUESTS UNDER", "TIME", "RESULT"]);
        for outcome in outcomes {
            let accelerator = outcome.tests.as_ref().and_then(|tests| tests.accelerator);
            table.add_row([
                outcome.host.clone(),
                outcome.recipe_words(),
                outcome.tests_words(),
                accelerator.map_or("–".into(), |accelerator| accelerator.to_string()),
                format!("{:.1} s", outcome.time.as_secs_f64()),
                outcome.status_words().to_owned(),
            ]);
        }
        self.table(&table);
        if let Some(summary) = outcome::summary(outcomes) {
            self.screen.print("");
            self.screen.print(&summary);
        }
        for outcome in outcomes {
            if let Some(problem) = &outcome.problem {
                self.screen.print(&format!("{}: {problem}", outcome.host));
            }
        }
        if self.quiet {
            failures::skipped(outcomes).iter().for_each(|line| self.screen.print(line));
        }
        failures::lines(outcomes, !self.quiet).iter().for_each(|line| self.screen.print(line));
        outcomes.iter().filter_map(failures::artifacts).for_each(|line| self.screen.print(&line));
        outcomes.iter().filter_map(kept::hint).for_each(|line| self.screen.print(&line));
    }

    fn comparison(&mut self, host: Option<&str>, comparison: &Comparison) {
        let number = plan::count(comparison.differences.len(), "difference");
        self.screen.line(host, &format!("{number} from the fingerprint before"));
        comparison
            .differences
            .iter()
            .for_each(|difference| self.screen.print(&lines::of_difference(difference)));
        comparison.measured.iter().for_each(|value| self.screen.print(&lines::of_measured(value)));
    }

    fn trials(&mut self, trials: &[Trial]) {
        self.screen.clear_all();
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        table.set_header(trial::HEADER);
        for trial in trials {
            table.add_row(trial::row(trial));
        }
        self.table(&table);
        trials.iter().flat_map(trial::remarks).for_each(|line| self.screen.print(&line));
    }

    fn acceptance(&mut self, file: &str, complete: bool, promises: &[Promise]) {
        self.screen.clear_all();
        self.screen.print("");
        acceptance::lines(file, complete, promises, self.verbose)
            .iter()
            .for_each(|line| self.screen.print(line));
    }

    fn table(&mut self, table: &Table) {
        self.screen.print("");
        for line in table.lines() {
            self.screen.print(line.trim_end());
        }
    }

    fn choices(&mut self, recipe: Option<&Choice>, suite: Option<&Choice>, hosts: &[String]) {
        let words = |choice: &Choice| {
            let origin = if choice.origin == choice.name { "a file" } else { &choice.origin };
            let chosen = if choice.chosen == "built-in" {
                "by default".into()
            } else {
                format!("by {}", choice.chosen)
            };
            let description = Some(&choice.description).filter(|description| !description.is_empty());
            let description = description.map_or_else(String::new, |text| format!(": {text}"));
            format!("{} ({origin}, chosen {chosen}){description}", choice.name)
        };
        if let Some(recipe) = recipe {
            self.screen.print(&format!("recipe  {}", words(recipe)));
        }
        if let Some(suite) = suite {
            self.screen.print(&format!("suite   {}", words(suite)));
        }
        self.screen.print(&format!("hosts   {}", hosts.join(", ")));
    }

    fn run(&mut self, host: Option<&str>, event: &RunEvent) {
        match event {
            RunEvent::Began { .. } => {}
            RunEvent::Waiting { holder, waited } => {
                let text = lines::of_waiting(holder.as_ref(), Duration::from_secs(*waited));
                // Where something moves, that it still waits needs no line of its own.
                match *waited > 0 && io::stderr().is_terminal() {
                    true => self.screen.step(host, &text),
                    false => self.screen.line(host, &text),
                }
            }
            RunEvent::Provision { event } => self.provision(host, event),
            RunEvent::Test { event } => self.test(host, event),
            RunEvent::Verify { result } => {
                self.screen.clear(host);
                lines::of_probe(result).iter().for_each(|text| self.screen.line(host, text));
            }
            RunEvent::Rebooting { reason, .. } => self.screen.line(host, &format!("rebooting: {reason}")),
            RunEvent::Failed { error } => {
                self.screen.line(host, &format!("{} {error}", style("error:").red().bold()))
            }
            RunEvent::Ended { ended } => {
                self.screen.clear(host);
                if ended.stopped {
                    self.screen.line(host, "stopped before the end, as was asked");
                }
            }
        }
    }

    fn provision(&mut self, host: Option<&str>, event: &ProvisionEvent) {
        match event {
            ProvisionEvent::Started { resource } => self.screen.step(host, resource),
            ProvisionEvent::Progress { resource, line } => {
                let waiting = line.starts_with("waiting: ");
                match self.verbose || (waiting && !io::stderr().is_terminal()) {
                    true => {
                        self.screen.line(host, &format!("{} {line}", style(format!("{resource}:")).dim()))
                    }
                    false => self.screen.step(host, &format!("{resource}: {line}")),
                }
            }
            ProvisionEvent::Fetching { .. } | ProvisionEvent::Fetched { .. } => {
                lines::of_fetch(event).iter().for_each(|line| self.screen.line(host, line));
            }
            ProvisionEvent::Changed { resource, changes, milliseconds } => {
                let time = Duration::from_millis(*milliseconds).as_secs_f64();
                self.screen.line(host, &format!("{} {resource} ({time:.1} s)", style("changed").green()));
                if self.verbose {
                    changes.iter().flat_map(plan::change).for_each(|line| self.screen.print(&line));
                }
            }
            ProvisionEvent::Failed { resource, error } => {
                self.screen.line(host, &format!("{} {resource}: {error}", style("failed").red().bold()));
            }
            ProvisionEvent::Skipped { resource, reason } => {
                self.screen.line(host, &format!("{} {resource}: {reason}", style("skipped").yellow()));
            }
            ProvisionEvent::Verified { plan } if plan.is_empty() => {
                self.screen.line(host, "observed once more: nothing left to change");
                for line in plan::lines(plan, false) {
                    self.screen.print(&line);
                }
            }
            ProvisionEvent::Verified { plan } => {
                self.screen.line(host, &format!("observed once more: {}", plan::headline(plan)));
            }
        }
    }

    fn test(&mut self, host: Option<&str>, event: &TestEvent) {
        match event {
            TestEvent::RunStarted { suite, tests, left_out, run_as, .. } => {
                let plural = if tests.len() == 1 { "" } else { "s" };
                let others = if *left_out > 0 { format!("; {left_out} left out") } else { String::new() };
                let count = tests.len();
                self.screen
                    .line(host, &format!("suite {suite}: {count} test{plural} as user {run_as}{others}"));
            }
            TestEvent::SourceReady { source, .. } => {
                self.screen.line(host, &format!("source  {source}"));
            }
            TestEvent::BuildStarted { build } => self.screen.step(host, &format!("building {build}")),
            TestEvent::BuildEnded(build) => self.build(host, build),
            TestEvent::AcceleratorChosen { accelerator: _, reason } => self.screen.line(host, reason),
            TestEvent::TestStarted { test } => self.screen.step(host, test),
            TestEvent::AwaitsDebugger { test, port } => self.screen.line(
                host,
                &format!(
                    "{test} waits for gdb at 127.0.0.1:{port} of the host, and runs when it says `continue`"
                ),
            ),
            TestEvent::Case { test, case } => {
                self.screen.step(host, &format!("{test}: {}", case.name));
                if self.verbose {
                    self.screen.print(&format!("      {}", failures::case(case)));
                }
            }
            TestEvent::Output { text, .. } => self.screen.raw(text),
            TestEvent::AttemptEnded { test, number, of, attempt } => {
                let word = style(attempt.outcome.words()).yellow().bold();
                let reason = &attempt.reason;
                self.screen.line(
                    host,
                    &format!("{word} {test}, attempt {number} of {of}: {reason}; it is tried again"),
                );
                let told =
                    failures::told(&attempt.cases, &attempt.diagnosis, &attempt.last_lines, usize::MAX);
                told.iter().for_each(|line| self.screen.print(line));
            }
            TestEvent::TestEnded(result) => {
                self.screen.take_back();
                self.result(host, result);
            }
            TestEvent::ArtifactsKept(kept) => self.artifacts(host, kept),
            TestEvent::FolderKept(folder) => self.screen.line(host, &kept::line(host, folder)),
            TestEvent::RunEnded(_) => self.screen.clear(host),
        }
    }

    fn artifacts(&mut self, host: Option<&str>, kept: &Kept) {
        if let Some(trouble) = &kept.trouble {
            self.screen.line(host, &format!("{} {trouble}", style("warning:").yellow().bold()));
        }
        if kept.left_out > 0 {
            let files = plan::count(usize::try_from(kept.left_out).unwrap_or(usize::MAX), "file");
            self.screen
                .line(host, &format!("{files} of what the tests printed could not be kept on the host"));
        }
        if self.verbose {
            self.screen.line(host, &format!("artifacts are in {} on the host", kept.directory));
        }
    }

    fn build(&mut self, host: Option<&str>, build: &BuildResult) {
        self.screen.clear(host);
        let time = Duration::from_millis(build.duration_ms).as_secs_f64();
        let name = style(&build.build).bold();
        match &build.trouble {
            None => {
                let outputs = build.outputs.iter().map(|output| {
                    let file = output.path.rsplit('/').next().unwrap_or_default();
                    format!("{file}, {}", plan::bytes(output.size))
                });
                let outputs = outputs.collect::<Vec<_>>().join("; ");
                self.screen
                    .line(host, &format!("{} {name} in {time:.1} s ({outputs})", style("built").green()));
            }
            Some(trouble) => {
                let word = style("not built").red().bold();
                self.screen.line(host, &format!("{word} {name} ({time:.1} s): {trouble}"));
                failures::of_build(build, usize::MAX).iter().for_each(|line| self.screen.print(line));
            }
        }
    }

    fn result(&mut self, host: Option<&str>, result: &TestResult) {
        let word = match result.outcome {
            Outcome::Passed => style(result.outcome.words()).green(),
            Outcome::Skipped => style(result.outcome.words()).yellow(),
            Outcome::Flaky => style(result.outcome.words()).yellow().bold(),
            _ => style(result.outcome.words()).red().bold(),
        };
        let time = Duration::from_millis(result.duration_ms).as_secs_f64();
        let under = result.accelerator.map_or(String::new(), |accelerator| format!(", {accelerator}"));
        let cases = match result.cases.len() {
            0 => String::new(),
            1 => ", 1 case".into(),
            count => format!(", {count} cases"),
        };
        let reason = if result.reason.is_empty() { String::new() } else { format!(": {}", result.reason) };
        self.screen.line(host, &format!("{word} {} ({time:.2} s{cases}{under}){reason}", result.test));
        for warning in &result.warnings {
            self.screen.print(&format!("      {} {warning}", style("warning:").yellow()));
        }
        if result.outcome == Outcome::Passed || result.outcome == Outcome::Skipped {
            return;
        }
        failures::details(result, usize::MAX).iter().for_each(|line| self.screen.print(line));
    }
}
