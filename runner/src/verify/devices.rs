use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::bench::{Bench, metric, time, token, value};
use super::{Answer, remedy};
use crate::accelerator::Accelerator;
use crate::execute::Executed;
use crate::suite::{Action, Forward};
use crate::toolkit::contract::VSOCK_LINES;
use crate::verdict::Outcome;

type Figures = BTreeMap<String, String>;

/// How much of a file is read, to see how fast that goes.
const FILE_SIZE: usize = 4 << 20;

/// How much is sent through a vsock for the same purpose: emulated guests send a few MiB a second.
const SENT: usize = 1 << 20;

/// How often a client tries again to reach the guest, which is still on its way up.
const AGAIN: Duration = Duration::from_millis(10);

/// Ports of vsocks, of which nobody else on a host uses many.
const FIRST_PORT: u32 = 20_000;
const PORTS: u32 = 40_000;

impl Bench<'_> {
    pub(super) fn boot(&self, accelerator: Accelerator, figures: &mut Figures) -> Answer {
        let executed = match self.test("boot", accelerator, &[]) {
            Ok(test) => self.run(&test, accelerator),
            Err(why) => return Answer::untried(why, remedy::REINSTALL),
        };
        if executed.verdict.outcome != Outcome::Passed {
            let why = &executed.verdict.reason;
            return Answer::of_guest(&executed, format!("{why} (under {accelerator})"), remedy::boot(why));
        }
        let mut times = Vec::new();
        if let Some(first) = executed.times.first_output {
            figures.insert("first-byte".into(), time(first));
            times.push(format!("its first byte came after {}", time(first)));
        }
        if let Some(ran) = executed.times.ran {
            figures.insert("boot-time".into(), time(ran));
            times.push(format!("from its start to its end it took {}", time(ran)));
        }
        figures.insert("wall-time".into(), time(executed.times.wall));
        times.push(format!("all in all {}", time(executed.times.wall)));
        Answer::works(format!("a microvm guest boots under {accelerator}: {}", times.join(", ")))
    }

    pub(super) fn virtio_fs(&self, accelerator: Accelerator, figures: &mut Figures) -> Answer {
        const FILE: &str = "random";
        let made = token().and_then(|token| {
            let folder = self.stage.directory.for_test(&self.stage.account)?;
            let mut content = format!("{token}\n").into_bytes();
            content.resize(FILE_SIZE, b'.');
            let path = folder.path().join(FILE);
            self.stage.account.act(|| fs::write(&path, &content))?;
            Ok((token, folder))
        });
        let (token, folder) = match made {
            Ok(made) => made,
            Err(error) => {
                return Answer::untried(format!("cannot make a file to share: {error}"), remedy::REINSTALL);
            }
        };
        let directory = folder.path().to_string_lossy();
        let vars = [("directory", &*directory), ("file", FILE)];
        let executed = match self.test("virtio-fs", accelerator, &vars) {
            Ok(test) => self.run(&test, accelerator),
            Err(why) => return Answer::untried(why, remedy::REINSTALL),
        };
        if executed.verdict.outcome != Outcome::Passed {
            let why = &executed.verdict.reason;
            let advice =
                if why.contains("there is no virtiofsd") { remedy::RECIPE } else { remedy::REINSTALL };
            return Answer::of_guest(&executed, why, advice);
        }
        match value(&executed, "virtio-fs-read") {
            Some(read) if read == token => {}
            read => {
                let read = read.unwrap_or("nothing");
                let what =
                    format!("the guest read `{read}` from a file in which the host had written `{token}`");
                return Answer::broken(what, remedy::REINSTALL);
            }
        }
        let mut what = format!("the guest read a random file of {} MiB", FILE_SIZE >> 20);
        measured("virtio-fs", "the least request", &executed, figures, &mut what);
        Answer::works(what)
    }

    pub(super) fn vsock(&self, accelerator: Accelerator, figures: &mut Figures) -> Answer {
        let (ours, theirs, port) = match (token(), token(), port()) {
            (Ok(ours), Ok(theirs), Ok(port)) => (ours, theirs, port.to_string()),
            _ => return Answer::untried("cannot read /dev/urandom", remedy::REINSTALL),
        };
        let (lines, bytes) = ("again ".repeat(VSOCK_LINES), SENT.to_string());
        let vars = [
            ("token", &*theirs),
            ("answer", &*ours),
            ("port", &*port),
            ("lines", &*lines),
            ("bytes", &*bytes),
        ];
        let executed = match self.test("vsock", accelerator, &vars) {
            Ok(test) => self.run(&test, accelerator),
            Err(why) => return Answer::untried(why, remedy::REINSTALL),
        };
        if let Some(answer) = self.no_vsock(&executed) {
            return answer;
        }
        let expected = format!("{ours} {theirs}");
        match value(&executed, "vsock-connect") {
            Some(heard) if heard == expected => {}
            heard => {
                let heard = heard.unwrap_or("nothing");
                let what = format!("the guest sent `{theirs}` and heard `{heard}`, not `{expected}`");
                return Answer::broken(what, remedy::REINSTALL);
            }
        }
        let mut what = "the guest and the host exchanged random messages".to_owned();
        if let Some(micros) = metric(&executed, "vsock-time") {
            let took = time(Duration::from_micros(micros));
            what.push_str(&format!(", from connecting to the answer in {took}"));
            figures.insert("vsock-time".into(), took);
        }
        measured("vsock", "a line and its answer", &executed, figures, &mut what);
        Answer::works(what)
    }

    pub(super) fn forwarding(&self, accelerator: Accelerator, figures: &mut Figures) -> Answer {
        // Where there is no vsock either, this is still the host's to mend.
        if let Err(why) = self.stage.tools.socat(&self.stage.account) {
            return Answer::broken(why, remedy::RECIPE);
        }
        let (ours, theirs, to) = match (token(), token(), port()) {
            (Ok(ours), Ok(theirs), Ok(port)) => (ours, theirs, port),
            _ => return Answer::untried("cannot read /dev/urandom", remedy::REINSTALL),
        };
        let from = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|free| free.local_addr());
        let from: SocketAddr = match from {
            Ok(from) => from,
            Err(error) => {
                return Answer::untried(format!("there is no free TCP port: {error}"), "see `ss -tl`");
            }
        };
        let port = to.to_string();
        let mut test = match self.test("forwarding", accelerator, &[("answer", &*theirs), ("port", &*port)]) {
            Ok(test) => test,
            Err(why) => return Answer::untried(why, remedy::REINSTALL),
        };
        if let Action::Guest(guest) = &mut test.action {
            guest.forward = vec![Forward { from: from.port(), to }];
        }
        let over = AtomicBool::new(false);
        let until = Instant::now() + self.deadline(accelerator);
        let (executed, answer) = thread::scope(|scope| {
            let client = scope.spawn(|| ask(from, &ours, until, &over));
            let executed = self.run(&test, accelerator);
            over.store(true, Ordering::Relaxed);
            (executed, client.join().unwrap_or_default())
        });
        if let Some(answer) = self.no_vsock(&executed) {
            return answer;
        }
        let expected = format!("{theirs} {ours}");
        match answer {
            Some((heard, took)) if heard == expected => {
                figures.insert("forwarding-time".into(), time(took));
                let took = time(took);
                Answer::works(format!(
                    "a TCP client reached the guest through socat, and had its answer in {took}"
                ))
            }
            heard => {
                let heard = heard.map_or("nothing".to_owned(), |(heard, _)| heard);
                let what = format!("the TCP client sent `{ours}` and heard `{heard}`, not `{expected}`");
                Answer::broken(what, remedy::REINSTALL)
            }
        }
    }

    /// Why vsock does not work, if it does not.
    fn no_vsock(&self, executed: &Executed) -> Option<Answer> {
        if executed.verdict.outcome == Outcome::Passed {
            return None;
        }
        let why = executed.verdict.reason.clone();
        if !why.contains("has no vsock") {
            let socat = why.contains("socat");
            let advice = if socat { remedy::RECIPE } else { remedy::REINSTALL };
            return Some(Answer::of_guest(executed, why, advice));
        }
        let missing = why.contains("there is no /dev/vhost-vsock");
        let why = if missing { "/dev/vhost-vsock is missing".to_owned() } else { why };
        // A container has what it was given; on another host it is the recipe's to bring.
        Some(if self.background.container {
            Answer::untried(why, remedy::CONTAINER_VSOCK).accepted(true)
        } else if missing {
            Answer::broken(why, remedy::VSOCK)
        } else {
            Answer::broken(why, remedy::RECIPE)
        })
    }
}

/// Tells how fast a device is, and how long the least that can be done with it takes.
fn measured(device: &str, least: &str, executed: &Executed, figures: &mut Figures, what: &mut String) {
    let (rate, latency) = (format!("{device}-rate"), format!("{device}-latency"));
    if let Some(kib) = metric(executed, &rate) {
        let shown = format!("{} MiB/s", kib >> 10);
        what.push_str(&format!(", {shown}"));
        figures.insert(rate, shown);
    }
    if let Some(micros) = metric(executed, &latency) {
        let took = time(Duration::from_micros(micros));
        what.push_str(&format!(", {least} in {took}"));
        figures.insert(latency, took);
    }
}

fn port() -> std::io::Result<u32> {
    let random = token()?;
    Ok(FIRST_PORT + u32::from_str_radix(&random[..8], 16).unwrap_or_default() % PORTS)
}

/// Sends a line until somebody answers with one: what forwards is there before the guest is.
fn ask(to: SocketAddr, line: &str, until: Instant, over: &AtomicBool) -> Option<(String, Duration)> {
    let once = || -> std::io::Result<Option<(String, Duration)>> {
        let left = until.saturating_duration_since(Instant::now()).max(AGAIN);
        let start = Instant::now();
        let mut stream = TcpStream::connect_timeout(&to, left)?;
        stream.set_read_timeout(Some(left))?;
        stream.write_all(format!("{line}\n").as_bytes())?;
        let mut answer = String::new();
        BufReader::new(stream).read_line(&mut answer)?;
        let answer = answer.trim_end().to_owned();
        Ok(Some((answer, start.elapsed())).filter(|(answer, _)| !answer.is_empty()))
    };
    while Instant::now() < until && !over.load(Ordering::Relaxed) {
        match once() {
            Ok(Some(answer)) => return Some(answer),
            // Nobody listens yet, or the guest does not.
            Ok(None) | Err(_) => thread::sleep(AGAIN),
        }
    }
    None
}
