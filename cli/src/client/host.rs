use std::time::Duration;

use serde::Serialize;
use tokio::sync::mpsc;
use tokio::time::timeout;
use toril_inventory::Host;
use toril_machine::{Facts, Fingerprint};
use toril_provisioner::{Bundle, Check, Depth, Finding, HostInfo, LockedHost, Plan, Survey, Traces};
use toril_runner::KeptFolder;
use toril_transport::{
    Channel, Connection, ConnectionInfo, Delivery, Incoming, PendingImage, StartError, Sudo,
};

use super::{ClientError, Typed};
use crate::agent::{Pieces, Report, Request};

/// How long the end of a connection that is of no use any more may take.
const LEAVE: Duration = Duration::from_secs(2);

/// How hosts are reached.
#[derive(Debug, Clone)]
pub(crate) struct Way {
    pub(crate) image: PendingImage,
    pub(crate) sudo: Sudo,
    pub(crate) options: toril_transport::Options,
}

/// A host whose agent answers.
pub(crate) struct Client {
    pub(super) host: Host,
    pub(super) way: Way,
    /// None between a connection that was lost and the next.
    link: Option<Link>,
    /// What the guest of the next run is to read as it comes.
    pub(super) input: Option<mpsc::Receiver<Typed>>,
    pub(super) last_run: Option<String>,
}

struct Link {
    connection: Connection,
    channel: Channel,
    /// What has come of an entry that comes in pieces. Kept here, as receiving may be dropped between two of them.
    pieces: Option<Pieces>,
}

/// A host that has been logged in to.
pub(crate) struct LoggedIn {
    client: Client,
    connection: Connection,
}

impl LoggedIn {
    /// Starts its agent.
    pub(crate) async fn start(self) -> Result<Client, ClientError> {
        let LoggedIn { mut client, connection } = self;
        let options = client.way.options.clone();
        client.start(connection, &options).await?;
        Ok(client)
    }

    pub(crate) fn host(&self) -> &Host {
        &self.client.host
    }
}

impl Client {
    /// Connects to a host.
    pub(crate) async fn log_in(host: &Host, way: &Way) -> Result<LoggedIn, ClientError> {
        let connection = toril_transport::connect(host, &way.options).await?;
        let client = Client { host: host.clone(), way: way.clone(), link: None, input: None, last_run: None };
        Ok(LoggedIn { client, connection })
    }

    /// Sends what is typed to the guest of the next run.
    pub(crate) fn read_from(&mut self, input: mpsc::Receiver<Typed>) {
        self.input = Some(input);
    }

    /// Gives the connection up, if there is one, and makes another one. Not the other way round: a host may allow one
    /// only.
    pub(super) async fn connect_again(
        &mut self,
        options: &toril_transport::Options,
    ) -> Result<(), ClientError> {
        self.disconnect().await;
        let connection = toril_transport::connect(&self.host, options).await?;
        self.start(connection, options).await
    }

    async fn start(
        &mut self,
        mut connection: Connection,
        options: &toril_transport::Options,
    ) -> Result<(), ClientError> {
        let image = self.way.image.ready().await.map_err(StartError::from)?;
        let mut started = connection.start_agent(&image, &self.way.sudo).await;
        let standing = match &started {
            // While nobody used it, which only its use has shown: another one takes its place.
            Err(StartError::ConnectionLost { .. }) => Some(options.standing),
            // The host takes no further session over it (`MaxSessions`); those of others go on.
            Err(StartError::Spawn { .. }) => Some(None),
            _ => None,
        };
        if let Some(standing) = standing.filter(|_| connection.is_reused()) {
            let options = toril_transport::Options { standing, ..options.clone() };
            connection = toril_transport::connect(&self.host, &options).await?;
            started = connection.start_agent(&image, &self.way.sudo).await;
        }
        let channel = started?;
        self.link = Some(Link { connection, channel, pieces: None });
        Ok(())
    }

    /// Gives the connection up. What was begun on the host goes on there.
    pub(super) async fn disconnect(&mut self) {
        if let Some(Link { connection, channel, .. }) = self.link.take() {
            drop(channel);
            // One that hangs is left to itself.
            let _ = timeout(LEAVE, connection.close()).await;
        }
    }

    /// How the host was reached, and whether the agent had to be put there.
    pub(crate) fn connection(&self) -> Option<(ConnectionInfo, &Delivery)> {
        self.link.as_ref().map(|link| (link.connection.facts(), link.channel.delivery()))
    }

    pub(crate) async fn facts(&mut self) -> Result<Facts, ClientError> {
        self.send(&Request::Facts).await?;
        let Report::Facts(facts) = self.report().await? else { return Err(ClientError::Unexpected) };
        self.done().await?;
        Ok(*facts)
    }

    /// What of the host can move a test's result.
    pub(crate) async fn fingerprint(&mut self) -> Result<Fingerprint, ClientError> {
        self.send(&Request::Fingerprint).await?;
        let Report::Fingerprint(print) = self.report().await? else { return Err(ClientError::Unexpected) };
        self.done().await?;
        Ok(print)
    }

    /// Whether the host can become what a recipe makes of it, as far as that can be known beforehand. `network`: mirrors
    /// are asked to answer; `clock` is this machine's, counted from 1970.
    pub(crate) async fn preflight(
        &mut self,
        network: bool,
        clock: Duration,
    ) -> Result<Vec<Check>, ClientError> {
        self.send(&Request::Preflight { network, clock }).await?;
        let Report::Preflight(checks) = self.report().await? else { return Err(ClientError::Unexpected) };
        self.done().await?;
        Ok(checks)
    }

    pub(crate) async fn survey(
        &mut self,
        packages: Vec<String>,
        paths: Vec<String>,
    ) -> Result<Survey, ClientError> {
        self.send(&Request::Survey { packages, paths }).await?;
        let Report::Survey(survey) = self.report().await? else { return Err(ClientError::Unexpected) };
        self.done().await?;
        Ok(*survey)
    }

    pub(crate) async fn traces(&mut self) -> Result<Traces, ClientError> {
        self.send(&Request::Traces).await?;
        let Report::Traces(traces) = self.report().await? else { return Err(ClientError::Unexpected) };
        self.done().await?;
        Ok(traces)
    }

    /// What the host lacks of a recipe and, where that is asked too, what is wrong with it beyond.
    pub(crate) async fn plan(
        &mut self,
        bundle: Bundle,
        host: HostInfo,
        audit: Option<Depth>,
    ) -> Result<(Plan, Vec<Finding>), ClientError> {
        self.send(&Request::Plan { bundle, host, audit }).await?;
        let Report::Plan { plan, findings } = self.report().await? else {
            return Err(ClientError::Unexpected);
        };
        self.done().await?;
        Ok((plan, findings))
    }

    /// The version of the host's release, and what it has of what a recipe leaves open.
    pub(crate) async fn lock(
        &mut self,
        bundle: Bundle,
        host: HostInfo,
    ) -> Result<(String, LockedHost), ClientError> {
        self.send(&Request::Lock { bundle, host }).await?;
        let Report::Lock { release, host } = self.report().await? else {
            return Err(ClientError::Unexpected);
        };
        self.done().await?;
        Ok((release, host))
    }

    /// What runs have left on the host on purpose; it is removed, unless it is only to be told.
    pub(crate) async fn clean(&mut self, dry_run: bool) -> Result<Vec<KeptFolder>, ClientError> {
        self.send(&Request::Clean { dry_run }).await?;
        let Report::Kept(folders) = self.report().await? else { return Err(ClientError::Unexpected) };
        self.done().await?;
        Ok(folders)
    }

    /// Ends the agent and the connection in an orderly way.
    pub(crate) async fn close(self) -> Result<(), ClientError> {
        if let Some(Link { connection, channel, .. }) = self.link {
            channel.close().await?;
            connection.close().await;
        }
        Ok(())
    }

    pub(super) async fn send<T: Serialize>(&mut self, message: &T) -> Result<(), ClientError> {
        Ok(self.channel()?.send(message).await?)
    }

    pub(super) async fn send_blob(&mut self, blob: &[u8]) -> Result<(), ClientError> {
        Ok(self.channel()?.send_blob(blob).await?)
    }

    pub(super) async fn report(&mut self) -> Result<Report, ClientError> {
        let link = self.link.as_mut().ok_or(ClientError::NotConnected)?;
        loop {
            match link.channel.receive().await? {
                Some(Incoming::Blob(piece)) => {
                    link.pieces.as_mut().ok_or(ClientError::Unexpected)?.take(&piece);
                    if let Some(all) = link.pieces.take_if(|pieces| pieces.are_all()) {
                        let entry = all.entry().ok_or(ClientError::Unexpected)?;
                        return Ok(Report::Entry(Box::new(entry)));
                    }
                }
                // Nothing comes between them.
                Some(Incoming::Message(_)) if link.pieces.is_some() => return Err(ClientError::Unexpected),
                Some(Incoming::Message(Report::LargeEntry { size })) => {
                    link.pieces = Some(Pieces::announced(size).ok_or(ClientError::Unexpected)?);
                }
                Some(Incoming::Message(Report::Refused { reason })) => {
                    return Err(ClientError::Refused(reason));
                }
                Some(Incoming::Message(Report::NoneOf { who })) => return Err(ClientError::NoneOf(who)),
                Some(Incoming::Message(report)) => return Ok(report),
                None => return Err(ClientError::Unexpected),
            }
        }
    }

    /// A piece of what the agent sends after it has announced it.
    pub(super) async fn blob(&mut self) -> Result<Vec<u8>, ClientError> {
        match self.channel()?.receive::<Report>().await? {
            Some(Incoming::Blob(piece)) => Ok(piece),
            Some(Incoming::Message(Report::Refused { reason })) => Err(ClientError::Refused(reason)),
            Some(Incoming::Message(_)) | None => Err(ClientError::Unexpected),
        }
    }

    /// The run that was followed last.
    pub(crate) fn last_run(&self) -> Option<&str> {
        self.last_run.as_deref()
    }

    pub(super) async fn done(&mut self) -> Result<(), ClientError> {
        match self.report().await? {
            Report::Done => Ok(()),
            _ => Err(ClientError::Unexpected),
        }
    }

    fn channel(&mut self) -> Result<&mut Channel, ClientError> {
        self.link.as_mut().map(|link| &mut link.channel).ok_or(ClientError::NotConnected)
    }
}
