//! The smallest agent: greets, and sends back every message and blob. Some messages make it misbehave.
//! The integration tests deliver it to a real sshd.

use std::io::{stdin, stdout};
use std::process::ExitCode;

use serde::{Deserialize, Serialize};
use toril_transport::{FrameReader, FrameWriter, Incoming, handshake_agent};

#[derive(Debug, Serialize, Deserialize)]
enum Request {
    /// Say this.
    Echo(String),
    /// Send a blob of this many bytes.
    Make(usize),
    /// Tell the user id and the program.
    Who,
    /// Exit without a last frame, after saying why on standard error.
    Fail,
    /// Kill this process.
    Die,
}

fn main() -> ExitCode {
    match serve() {
        Ok(status) => status,
        Err(error) => {
            #[expect(clippy::print_stderr, reason = "standard error of an agent is for such messages")]
            {
                eprintln!("echo agent: {error}");
            }
            ExitCode::FAILURE
        }
    }
}

fn serve() -> Result<ExitCode, Box<dyn std::error::Error>> {
    if std::env::args().nth(1).as_deref() != Some("agent") {
        return Err("the only argument is `agent`".into());
    }
    let mut reader = FrameReader::new(stdin().lock());
    let mut writer = FrameWriter::new(stdout().lock());
    handshake_agent(&mut reader, &mut writer)?;
    while let Some(incoming) = reader.receive()? {
        match incoming {
            Incoming::Blob(bytes) => writer.send_blob(&bytes)?,
            Incoming::Message(Request::Echo(text)) => writer.send(&text)?,
            Incoming::Message(Request::Make(size)) => writer.send_blob(&vec![0x5a; size])?,
            Incoming::Message(Request::Who) => {
                let exe = std::env::current_exe()?;
                let uid = std::os::unix::fs::MetadataExt::uid(&std::fs::metadata("/proc/self")?);
                writer.send(&format!("{uid} {} {}", std::process::id(), exe.display()))?;
            }
            Incoming::Message(Request::Fail) => return Err("told to fail".into()),
            Incoming::Message(Request::Die) => {
                std::process::Command::new("/bin/sh")
                    .args(["-c", &format!("kill -KILL {}", std::process::id())])
                    .status()?;
            }
        }
    }
    writer.end()?;
    Ok(ExitCode::SUCCESS)
}
