//! From a name and a port to an open socket.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::process::Stdio;
use std::task::{Context, Poll};

use rustix::net::sockopt::set_tcp_quickack;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio::time::{Instant, timeout, timeout_at};

use super::super::Options;
use super::super::error::ConnectError;
use super::route::Hop;

/// A socket that acknowledges at once what it has read. sshd sends its next small packet only then, and the kernel would
/// put it off by 40 ms, unless there is something to send along.
#[derive(Debug)]
pub(super) struct Prompt(TcpStream);

impl AsyncRead for Prompt {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.0).poll_read(context, buffer);
        if matches!(read, Poll::Ready(Ok(()))) {
            // It holds for what has come only, and only costs time when it fails.
            let _ = set_tcp_quickack(&self.0, true);
        }
        read
    }
}

impl AsyncWrite for Prompt {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}

/// Opens a socket to the first address that answers.
pub(super) async fn open(hop: &Hop, options: &Options) -> Result<Prompt, ConnectError> {
    let deadline = Instant::now() + options.connect_timeout;
    let place = || hop.place();
    let late = || ConnectError::TimedOut { place: place(), during: "" };
    let addresses = addresses(&hop.host, hop.port, &options.hidden);
    let addresses = timeout_at(deadline, addresses).await.map_err(|_| late())??;
    let mut last = None;
    for (number, address) in addresses.iter().enumerate() {
        // Each of the addresses that are left gets its share of the time.
        let left = deadline.saturating_duration_since(Instant::now());
        let share = left / u32::try_from(addresses.len() - number).unwrap_or(1);
        let error = match timeout(share, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                // It only costs time when this fails.
                let _ = stream.set_nodelay(true);
                return Ok(Prompt(stream));
            }
            Ok(Err(error)) => error,
            Err(_) => io::ErrorKind::TimedOut.into(),
        };
        last = Some(match error.kind() {
            io::ErrorKind::ConnectionRefused => ConnectError::Refused { place: place() },
            io::ErrorKind::TimedOut => late(),
            _ => ConnectError::NoRoute { place: place(), reason: words(&error) },
        });
    }
    Err(last.unwrap_or_else(late))
}

fn words(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_owned()
}

/// The resolver of the system is asked by `getent`: a static program must not load its modules.
async fn addresses(host: &str, port: u16, hidden: &[String]) -> Result<Vec<SocketAddr>, ConnectError> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    let unresolved = |reason: String| ConnectError::NameNotResolved { name: host.to_owned(), reason };
    let mut command = Command::new("getent");
    for name in hidden {
        command.env_remove(name);
    }
    let output = command
        .args(["ahosts", "--", host])
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .map_err(|error| unresolved(format!("`getent` cannot be run: {}", words(&error))))?;
    let mut found: Vec<SocketAddr> = Vec::new();
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let address = line.split_whitespace().next().and_then(|text| text.parse::<IpAddr>().ok());
        if let Some(address) = address.map(|address| SocketAddr::new(address, port))
            && !found.contains(&address)
        {
            found.push(address);
        }
    }
    if found.is_empty() {
        return Err(unresolved("Name or service not known".into()));
    }
    Ok(found)
}
