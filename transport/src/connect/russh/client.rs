//! A connection by the built-in client, over jump hosts if need be.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use russh::client::{Config, Handle, connect_stream};
use russh::keys::PublicKey;
use russh::{ChannelOpenFailure, Disconnect};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;
use toril_inventory::Ssh;

use crate::image::AgentImage;
use crate::process::Process;
use crate::start::{Script, StartError, Stored, Sudo, remote_command};

use super::super::error::ConnectError;
use super::super::log::ConnectionInfo;
use super::super::{LOGIN, Options};
use super::guard::{CLOSED, Guard, Record, Refusal, end, look};
use super::known_hosts::Known;
use super::route::{Hop, hops};
use super::{algorithms, ask, known_hosts, login, network, process};

/// How long taking leave may take.
const LEAVE: Duration = Duration::from_secs(1);
/// As ssh is told to: a host that is silent for so long is asked whether it is there.
const KEEPALIVE: Duration = Duration::from_secs(15);
/// How many questions may stay without an answer.
const SILENCE: usize = 4;

/// A connected host.
pub(in super::super) struct Client {
    link: Arc<Link>,
    info: ConnectionInfo,
}

/// The connections to the host and to the jump hosts before it.
pub(super) struct Link {
    host: Handle<Guard>,
    jumps: Vec<Handle<Guard>>,
    pub(super) record: Record,
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("info", &self.info).finish_non_exhaustive()
    }
}

impl Link {
    pub(super) fn is_closed(&self) -> bool {
        self.host.is_closed()
    }
}

impl Client {
    pub(in super::super) async fn start(
        ssh: &Ssh,
        options: &Options,
        interactive: bool,
    ) -> Result<Self, ConnectError> {
        let hops = hops(ssh, options)?;
        let mut jumps: Vec<Handle<Guard>> = Vec::new();
        let mut reached = None;
        // What was agreed with each jump host, by its place.
        let mut exchanges: Vec<(String, String)> = Vec::new();
        for hop in &hops {
            if let Some((handle, _, _)) = reached.take() {
                jumps.push(handle);
            }
            let entered = enter(hop, jumps.last(), options, interactive).await;
            reached = Some(entered.map_err(|error| match error {
                // It may be tried again, and its words name the place.
                error @ ConnectError::Closed { .. } => error,
                error if hop.is_jump => ConnectError::JumpHost { place: hop.place(), error: error.into() },
                error => error,
            })?);
            if let Some((_, record, _)) = reached.as_ref().filter(|_| hop.is_jump) {
                exchanges.extend(look(record).key_exchange.clone().map(|exchange| (hop.place(), exchange)));
            }
        }
        let Some((host, record, authenticated)) = reached else {
            return Err(ConnectError::Other { lines: "the way to the host has no end".into() });
        };
        let seen = look(&record);
        let info = ConnectionInfo {
            transport: "russh",
            weaker: algorithms::weaker(&exchanges, seen.key_exchange.as_deref()),
            key_exchange: seen.key_exchange.clone(),
            host_key: seen.host_key.as_ref().map(ToString::to_string),
            authenticated: Some(authenticated),
            server: seen.server.clone(),
            closed_before: 0,
        };
        drop(seen);
        Ok(Self { link: Arc::new(Link { host, jumps, record }), info })
    }

    pub(in super::super) fn facts(&self) -> ConnectionInfo {
        self.info.clone()
    }

    /// Starts the bootstrap on the host.
    pub(in super::super) async fn start_command(
        &self,
        image: &AgentImage,
        sudo: &Sudo,
        stored: Stored,
    ) -> Result<Process, StartError> {
        let command = remote_command(&Script::deliver(image, sudo, stored));
        let failed = |error: russh::Error| match look(&self.link.record).end.clone() {
            Some(reason) => StartError::ConnectionLost { reason },
            None if self.link.is_closed() => StartError::ConnectionLost { reason: CLOSED.into() },
            None => StartError::Spawn { doing: "opening a session over ssh", source: error.into() },
        };
        let channel = self.link.host.channel_open_session().await.map_err(failed)?;
        channel.exec(false, command).await.map_err(failed)?;
        Ok(process::process(channel, Arc::clone(&self.link)))
    }

    /// Takes leave, unless commands still run.
    pub(in super::super) async fn close(self) {
        if let Ok(link) = Arc::try_unwrap(self.link) {
            for handle in [link.host].iter().chain(link.jumps.iter().rev()) {
                // A host that is gone needs no leave.
                let _ = timeout(LEAVE, handle.disconnect(Disconnect::ByApplication, "", "")).await;
            }
        }
    }
}

/// Connects to a machine and logs in; its key is asked about at most once.
async fn enter(
    hop: &Hop,
    jump: Option<&Handle<Guard>>,
    options: &Options,
    interactive: bool,
) -> Result<(Handle<Guard>, Record, String), ConnectError> {
    let asks = interactive && !hop.strict;
    let (mut handle, record) = match shake_hands(hop, jump, options, None).await {
        Ok(shaken) => shaken,
        Err((ConnectError::UnknownHostKey { key: Some(key), by }, record)) if asks => {
            let accepted = ask::accept(hop.name(), key.clone()).await.unwrap_or(false);
            let offered = look(&record).offered.clone().filter(|_| accepted);
            let Some(offered) = offered else {
                return Err(ConnectError::UnknownHostKey { key: Some(key), by });
            };
            learn(hop, &offered).await;
            shake_hands(hop, jump, options, Some(offered)).await.map_err(|(error, _)| error)?
        }
        Err((error, _)) => return Err(error),
    };
    let limit = options.connect_timeout + LOGIN;
    let authenticated = login::log_in(&mut handle, hop, interactive, limit).await?;
    Ok((handle, record, authenticated))
}

/// Keeps a key that was accepted. As with ssh, it is only told where that fails.
async fn learn(hop: &Hop, key: &PublicKey) {
    if let Some(file) = &hop.learns
        && let Err(error) = known_hosts::learn(file, &hop.name(), key)
    {
        ask::tell(format!(
            "Failed to add the host to the list of known hosts ({}): {error}.",
            file.display()
        ))
        .await;
    }
}

/// `accepted`: the key that somebody has just accepted.
async fn shake_hands(
    hop: &Hop,
    jump: Option<&Handle<Guard>>,
    options: &Options,
    accepted: Option<PublicKey>,
) -> Result<(Handle<Guard>, Record), (ConnectError, Record)> {
    let record = Record::default();
    let made = async {
        // Pins decide alone: what else is known is not even to say which key is asked for first.
        let known = if hop.pins.is_empty() { hop.known()? } else { Known::default() };
        let config = config(hop, &known);
        let stream: Box<dyn Stream> = match jump {
            None => Box::new(network::open(hop, options).await?),
            Some(jump) => Box::new(forward(hop, jump, options.connect_timeout).await?),
        };
        let guard = Guard {
            known,
            pins: hop.pins.clone(),
            also: hop.also.clone(),
            accepted,
            name: hop.name(),
            is_jump: hop.is_jump,
            record: Arc::clone(&record),
        };
        match timeout(options.connect_timeout, connect_stream(Arc::new(config), stream, guard)).await {
            Ok(Ok(handle)) => Ok(handle),
            Ok(Err(refusal)) => Err(failed(refusal, hop)),
            Err(_) => Err(ConnectError::TimedOut {
                place: hop.place(),
                during: ": it took the connection, but no ssh server spoke",
            }),
        }
    };
    match made.await {
        Ok(handle) => Ok((handle, record)),
        Err(error) => Err((error, record)),
    }
}

fn config(hop: &Hop, known: &Known) -> Config {
    Config {
        preferred: algorithms::preferred(known),
        keepalive_interval: Some(KEEPALIVE),
        keepalive_max: SILENCE,
        limits: hop.rekey.limits(),
        ..Config::default()
    }
}

/// A stream through a jump host.
async fn forward(
    hop: &Hop,
    jump: &Handle<Guard>,
    limit: Duration,
) -> Result<impl Stream + 'static, ConnectError> {
    let place = || format!("{} behind the jump host", hop.place());
    let opened = jump.channel_open_direct_tcpip(&hop.host, hop.port.into(), "127.0.0.1", 0);
    match timeout(limit, opened).await {
        Ok(Ok(channel)) => Ok(channel.into_stream()),
        Ok(Err(russh::Error::ChannelOpenFailure(ChannelOpenFailure::AdministrativelyProhibited))) => {
            let reason = "the jump host does not allow forwarding (AllowTcpForwarding)".into();
            Err(ConnectError::NoRoute { place: place(), reason })
        }
        Ok(Err(russh::Error::ChannelOpenFailure(_))) => {
            let reason = "the jump host got no connection: refused, no such name, or no answer".into();
            Err(ConnectError::NoRoute { place: place(), reason })
        }
        Ok(Err(error)) => Err(ConnectError::NoRoute { place: place(), reason: error.to_string() }),
        Err(_) => Err(ConnectError::TimedOut { place: place(), during: "" }),
    }
}

fn failed(refusal: Refusal, hop: &Hop) -> ConnectError {
    let place = hop.place();
    match refusal {
        Refusal::Host(error) => *error,
        Refusal::Ssh(russh::Error::NoCommonAlgo { kind, ours, theirs }) => ConnectError::NoAlgorithm {
            place,
            kind: format!("{kind:?}").to_lowercase(),
            ours: ours.join(", "),
            theirs: theirs.join(", "),
        },
        Refusal::Ssh(russh::Error::Version) => ConnectError::NoServer { place },
        Refusal::Ssh(error) => match end(&error) {
            words if words == CLOSED => ConnectError::Closed {
                line: format!("connection closed by {place}"),
                before_login: true,
                tries: 1,
            },
            words => ConnectError::Other { lines: format!("{place}: {words}") },
        },
    }
}
