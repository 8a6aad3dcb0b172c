//! The first message of both sides.

use std::io::{Read, Write};

use serde::{Deserialize, Serialize};

use crate::codec::{FrameError, FrameReader, FrameWriter, Incoming};
use crate::image::{AGENT_PREFIX, SHORT_ID};

/// Version of the protocol: of the frames and of the messages in them.
pub const PROTOCOL: u32 = 1;

const MAGIC: &str = "toril";

/// What each side says first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// Always `toril`.
    pub magic: String,
    /// [`PROTOCOL`] of the side that speaks.
    pub protocol: u32,
    /// Version and content id of the program that speaks, for messages to people.
    pub build: String,
}

/// Why the two sides do not understand each other.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HandshakeError {
    /// The first frame is not a greeting.
    #[error("the other side is not toril: its first message was {first}")]
    NotToril {
        /// What it was instead.
        first: String,
    },
    /// The protocols differ.
    #[error(
        "this is toril {ours}, the other side is toril {theirs}: they speak different protocols; use the same build on both sides"
    )]
    Protocol {
        /// Build and protocol of this side.
        ours: String,
        /// Build and protocol of the other side.
        theirs: String,
    },
    /// The greeting could not be exchanged.
    #[error("the agent and its client could not greet each other")]
    Frame(#[from] FrameError),
}

impl Hello {
    pub(crate) fn new(id: &str) -> Self {
        let build = format!("{} ({id})", env!("CARGO_PKG_VERSION"));
        Self { magic: MAGIC.into(), protocol: PROTOCOL, build }
    }

    /// The greeting of the running program, which knows its content id when it was delivered as an agent.
    fn of_this_program() -> Self {
        let name = std::fs::read_link("/proc/self/exe").ok();
        let name = name.as_ref().and_then(|path| path.file_name()).and_then(|name| name.to_str());
        Self::new(name.and_then(|name| name.strip_prefix(AGENT_PREFIX)).unwrap_or("in place"))
    }

    /// Judges the first frame of the other side.
    pub(crate) fn judge(&self, first: Option<Incoming<Hello>>) -> Result<Hello, HandshakeError> {
        let theirs = match first {
            Some(Incoming::Message(hello)) if hello.magic == MAGIC => hello,
            Some(Incoming::Message(hello)) => return Err(HandshakeError::NotToril { first: hello.magic }),
            Some(Incoming::Blob(_)) => return Err(HandshakeError::NotToril { first: "a blob".into() }),
            None => return Err(HandshakeError::NotToril { first: "an end".into() }),
        };
        if theirs.protocol != self.protocol {
            return Err(HandshakeError::Protocol { ours: self.name(), theirs: theirs.name() });
        }
        Ok(theirs)
    }

    fn name(&self) -> String {
        format!("{}, protocol {}", self.build, self.protocol)
    }
}

/// The short form of a content id that names an agent.
pub(crate) fn short(id: &str) -> &str {
    id.get(..SHORT_ID).unwrap_or(id)
}

/// The agent's greeting: says who it is, and waits for the client to do so.
///
/// # Errors
/// [`HandshakeError`] when the client speaks another protocol, or goes away.
pub fn handshake_agent<R: Read, W: Write>(
    reader: &mut FrameReader<R>,
    writer: &mut FrameWriter<W>,
) -> Result<Hello, HandshakeError> {
    let ours = Hello::of_this_program();
    writer.send(&ours)?;
    let first = reader.receive();
    ours.judge(first.or_else(not_a_greeting)?)
}

/// A message that is no greeting says what it was instead.
pub(crate) fn not_a_greeting<T>(error: FrameError) -> Result<T, HandshakeError> {
    match error {
        FrameError::Malformed { text, .. } => Err(HandshakeError::NotToril { first: text }),
        other => Err(HandshakeError::Frame(other)),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    fn meet<T: Serialize>(first: &T) -> Result<Hello, HandshakeError> {
        let mut bytes = Vec::new();
        FrameWriter::new(&mut bytes).send(first).unwrap();
        handshake_agent(&mut FrameReader::new(Cursor::new(bytes)), &mut FrameWriter::new(Vec::new()))
    }

    #[test]
    fn equal_protocols_meet() {
        assert_eq!(meet(&Hello::new("abc")).unwrap(), Hello::new("abc"));
    }

    #[test]
    fn another_protocol_is_named_with_both_versions() {
        let theirs = Hello { protocol: 7, build: "9.9.9 (feed)".into(), ..Hello::new("x") };
        let error = meet(&theirs).unwrap_err().to_string();
        assert!(error.contains("9.9.9 (feed), protocol 7"), "{error}");
        assert!(
            error.contains(&format!("{} (in place), protocol {PROTOCOL}", env!("CARGO_PKG_VERSION"))),
            "{error}"
        );
    }

    #[test]
    fn what_is_no_greeting_is_shown() {
        let error = meet(&"GET / HTTP/1.1").unwrap_err().to_string();
        assert!(error.contains("GET / HTTP"), "{error}");
    }
}
