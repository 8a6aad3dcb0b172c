//! A command over a channel, with streams as every process has them.

use std::sync::Arc;
use std::time::Duration;

use russh::client::Msg;
use russh::{Channel, ChannelMsg};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::sync::oneshot;

use super::client::Link;
use super::guard::{CLOSED, look};
use crate::process::{Exit, Process};

/// How much waits between this program and the library, in bytes.
const BETWEEN: usize = 256 << 10;
/// The largest piece that is sent, in bytes.
const PIECE: usize = 32 << 10;
/// Standard error's number in the protocol (RFC 4254).
const STDERR: u32 = 1;
/// How long the reason of an end may take to be known.
const REASON: Duration = Duration::from_millis(400);

/// Joins a channel on which a command was started to streams.
pub(super) fn process(channel: Channel<Msg>, link: Arc<Link>) -> Process {
    let (stdin, mut from) = duplex(BETWEEN);
    let (to_stdout, stdout) = duplex(BETWEEN);
    let (to_stderr, stderr) = duplex(BETWEEN);
    let (ended, ending) = oneshot::channel();
    let (mut read, write) = channel.split();
    let sending = tokio::spawn(async move {
        let mut piece = vec![0; PIECE];
        while let Ok(count @ 1..) = from.read(&mut piece).await {
            let bytes = piece.get(..count).unwrap_or_default().to_vec();
            if write.data_bytes(bytes).await.is_err() {
                return;
            }
        }
        // The channel may be closed already.
        let _ = write.eof().await;
    });
    tokio::spawn(async move {
        let (mut out, mut err) = (Some(to_stdout), Some(to_stderr));
        let mut exit = None;
        while let Some(message) = read.wait().await {
            match message {
                ChannelMsg::Data { data } => pass(&mut out, &data).await,
                ChannelMsg::ExtendedData { data, ext: STDERR } => pass(&mut err, &data).await,
                ChannelMsg::ExitStatus { exit_status } => {
                    exit = Some(Exit::Status(i32::try_from(exit_status).unwrap_or(i32::MAX)));
                }
                ChannelMsg::ExitSignal { .. } => exit = Some(Exit::Killed),
                ChannelMsg::Eof => (out, err) = (None, None),
                ChannelMsg::Close => break,
                _ => {}
            }
        }
        // Nobody reads what is still to be sent: whoever writes it is to notice.
        sending.abort();
        drop((out, err));
        let exit = match exit {
            Some(exit) => exit,
            None => lost(&link).await,
        };
        // Nobody may be interested in it.
        let _ = ended.send(exit);
    });
    Process {
        stdin: Box::new(stdin),
        stdout: Box::new(stdout),
        stderr: Box::new(stderr),
        ending: Box::pin(async move { ending.await.unwrap_or(Exit::Unknown) }),
    }
}

/// What nobody reads any more is dropped.
async fn pass(stream: &mut Option<DuplexStream>, data: &[u8]) {
    if let Some(open) = stream
        && open.write_all(data).await.is_err()
    {
        *stream = None;
    }
}

/// The channel ended without a word about the command.
async fn lost(link: &Link) -> Exit {
    let known = async {
        loop {
            if let Some(reason) = look(&link.record).end.clone() {
                return Exit::ConnectionLost { reason };
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    match tokio::time::timeout(REASON, known).await {
        Ok(exit) => exit,
        Err(_) if link.is_closed() => Exit::ConnectionLost { reason: CLOSED.into() },
        Err(_) => Exit::Unknown,
    }
}
