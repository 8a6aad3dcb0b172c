//! The client's side of the bootstrap.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, timeout};

use crate::channel::{Channel, ChannelError, ChannelReceiver, ChannelSender};
use crate::codec::FrameError;
use crate::hello::{HandshakeError, Hello, not_a_greeting, short};
use crate::image::AgentImage;
use crate::process::{Ending, Exit, Input, Output, Process};
use crate::stderr::Stderr;

use super::error::StartError;
use super::marker::{Marker, Markers};
use super::sudo::{Sudo, classify};

/// How the agent came to be on the host.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Delivery {
    /// It was there.
    Present,
    /// It was sent.
    Uploaded {
        /// What was sent, in bytes.
        bytes: usize,
        /// From the host's request to the agent being in place.
        took: Duration,
    },
}

/// How long each step may take.
#[derive(Debug, Clone)]
pub(crate) struct Limits {
    /// Login shell and sudo.
    pub(crate) shell: Duration,
    /// Between two pieces of an upload.
    pub(crate) stall: Duration,
    /// Unpacking and checking.
    pub(crate) install: Duration,
    /// The greeting.
    pub(crate) hello: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self { shell: seconds(60), stall: seconds(60), install: seconds(120), hello: seconds(30) }
    }
}

/// Why an agent was not started, and whether it was one that the host had.
#[derive(Debug)]
pub(crate) struct NotStarted {
    pub(crate) error: StartError,
    pub(crate) stored: bool,
}

/// Takes a just started bootstrap to a channel with its agent.
pub(crate) async fn drive(
    process: Process,
    image: &AgentImage,
    sudo: &Sudo,
    limits: &Limits,
) -> Result<Channel, NotStarted> {
    let mut driver = Driver {
        stdin: process.stdin,
        stdout: process.stdout,
        stderr: Stderr::collect(process.stderr),
        ending: process.ending,
        markers: Markers::default(),
        buffer: vec![0; 16 << 10],
        sudo,
        image,
    };
    let delivery = driver.deliver(limits).await.map_err(|error| NotStarted { error, stored: false })?;
    let stored = delivery == Delivery::Present;
    driver.greet(delivery, limits.hello).await.map_err(|error| NotStarted { error, stored })
}

struct Driver<'a> {
    stdin: Input,
    stdout: Output,
    stderr: Stderr,
    ending: Ending,
    markers: Markers,
    buffer: Vec<u8>,
    sudo: &'a Sudo,
    image: &'a AgentImage,
}

impl Driver<'_> {
    /// Sees that the agent is on the host, and says how it came there.
    async fn deliver(&mut self, limits: &Limits) -> Result<Delivery, StartError> {
        let mut delivery = Delivery::Present;
        loop {
            let (limit, doing) = match delivery {
                Delivery::Present => (limits.shell, "becoming root"),
                Delivery::Uploaded { .. } => (limits.install, "unpacking the agent"),
            };
            match self.marker(limit, doing).await? {
                Marker::Ready => return Ok(delivery),
                Marker::Missing => {
                    let begun = Instant::now();
                    let bytes = self.upload(limits.stall).await?;
                    delivery = Delivery::Uploaded { bytes, took: begun.elapsed() };
                }
                Marker::Refused { why, details } => return Err(self.refused(&why, details)),
            }
        }
    }

    /// The next marker, answering sudo meanwhile.
    async fn marker(&mut self, limit: Duration, doing: &'static str) -> Result<Marker, StartError> {
        let deadline = Instant::now() + limit;
        // What came together with the last marker.
        let mut read = Some(0);
        loop {
            if let Some(count) = read {
                let bytes = self.buffer.get(..count).unwrap_or_default();
                match self.markers.push(bytes) {
                    Ok(Some(marker)) => return Ok(marker),
                    Ok(None) => {}
                    Err(()) => return Err(StartError::Noise { beginning: self.noise(5) }),
                }
            }
            read = tokio::select! {
                count = self.stdout.read(&mut self.buffer) => match count {
                    Ok(count @ 1..) => Some(count),
                    Ok(0) | Err(_) => return Err(self.ended().await),
                },
                asked = self.stderr.prompted() => {
                    self.answer(asked).await?;
                    None
                }
                () = tokio::time::sleep_until(deadline) => {
                    let stderr = self.stderr.tail();
                    return Err(StartError::TimedOut { doing, seconds: limit.as_secs(), stderr });
                }
            };
        }
    }

    async fn answer(&mut self, asked: usize) -> Result<(), StartError> {
        match self.sudo {
            Sudo::Password(password) if asked == 1 => {
                // When it cannot be sent, the end of standard output says why.
                let _ = self.stdin.write_all(&password.line()).await;
                let _ = self.stdin.flush().await;
                Ok(())
            }
            _ => Err(StartError::WrongPassword),
        }
    }

    /// Sends the program, and stops early when the host has something to say.
    async fn upload(&mut self, stall: Duration) -> Result<usize, StartError> {
        let image = self.image.clone();
        let compressed = tokio::task::spawn_blocking(move || image.compressed().map(<[u8]>::len)).await;
        compressed
            .map_err(|source| StartError::Spawn { doing: "compressing it", source: source.into() })??;
        let program = self.image.compressed()?;
        let size = format!("{}\n", program.len());
        for mut rest in [size.as_bytes(), program] {
            while !rest.is_empty() {
                tokio::select! {
                    written = self.stdin.write(rest) => match written {
                        Ok(count @ 1..) => rest = rest.get(count..).unwrap_or_default(),
                        // The end of standard output says why.
                        Ok(0) | Err(_) => return Ok(program.len()),
                    },
                    count = self.stdout.read(&mut self.buffer) => {
                        let Ok(count @ 1..) = count else { return Err(self.ended().await) };
                        let bytes = self.buffer.get(..count).unwrap_or_default();
                        match self.markers.push(bytes) {
                            Ok(Some(Marker::Refused { why, details })) => return Err(self.refused(&why, details)),
                            Ok(_) => {}
                            Err(()) => return Err(StartError::Noise { beginning: self.noise(5) }),
                        }
                    }
                    () = tokio::time::sleep(stall) => {
                        let stderr = self.stderr.tail();
                        let doing = "the agent was uploaded";
                        return Err(StartError::TimedOut { doing, seconds: stall.as_secs(), stderr });
                    }
                }
            }
        }
        let _ = self.stdin.flush().await;
        Ok(program.len())
    }

    /// What a refusal of the script means.
    fn refused(&self, why: &str, details: String) -> StartError {
        match why {
            "no-sudo" => StartError::NoSudoProgram,
            "hash" => StartError::HashMismatch { sent: self.image.id().to_owned(), received: details },
            "space" => StartError::NoSpace { needed: self.image.size(), details },
            "owner" => StartError::Untrusted { directory: details },
            "upload" => StartError::Upload { details },
            _ => StartError::Write { details },
        }
    }

    /// Standard output ended without a marker.
    async fn ended(&mut self) -> StartError {
        let stderr = self.stderr.rest().await;
        let exit = self.exit().await;
        if let Exit::ConnectionLost { reason } = exit {
            return StartError::ConnectionLost { reason };
        }
        classify(&stderr).unwrap_or_else(|| {
            let output = format!("{stderr}\n{}", self.noise(20)).trim().to_owned();
            StartError::Other { exit, output }
        })
    }

    async fn exit(&mut self) -> Exit {
        timeout(Duration::from_secs(2), &mut self.ending).await.unwrap_or(Exit::Unknown)
    }

    /// The first lines of what is not the bootstrap's.
    fn noise(&mut self, lines: usize) -> String {
        let bytes = std::mem::take(&mut self.markers).rest();
        let text: String = String::from_utf8_lossy(&bytes).chars().take(1000).collect();
        text.lines().take(lines).collect::<Vec<_>>().join("\n")
    }

    /// Exchanges greetings with an agent that should be there.
    async fn greet(self, delivery: Delivery, limit: Duration) -> Result<Channel, StartError> {
        let mut sender = ChannelSender::new(self.stdin);
        let mut receiver = ChannelReceiver::new(self.stdout, &self.markers.rest(), self.stderr, self.ending);
        let ours = Hello::new(short(self.image.id()));
        let meeting = async {
            // If it cannot be sent, reading says why.
            let _ = sender.send(&ours).await;
            receiver.frame().await
        };
        let first = timeout(limit, meeting).await.map_err(|_| StartError::TimedOut {
            doing: "greeting the agent",
            seconds: limit.as_secs(),
            stderr: receiver.stderr(),
        })?;
        let theirs = match first {
            Ok(first) => ours.judge(first),
            Err(FrameError::Cut | FrameError::Read(_)) => return Err(died(receiver.cut().await)),
            Err(other) => not_a_greeting(other),
        };
        let theirs = theirs.map_err(|error: HandshakeError| StartError::Handshake(error))?;
        Ok(Channel::new(sender, receiver, delivery, theirs.build))
    }
}

/// Why an agent that was executed said nothing.
fn died(cut: ChannelError) -> StartError {
    let ChannelError::Cut { exit, stderr } = cut else {
        return StartError::Died { exit: Exit::Unknown, stderr: String::new() };
    };
    match exit {
        Exit::ConnectionLost { reason } => StartError::ConnectionLost { reason },
        // What POSIX has a shell say when exec fails.
        Exit::Status(126) => StartError::NotExecutable { stderr },
        exit => StartError::Died { exit, stderr },
    }
}
