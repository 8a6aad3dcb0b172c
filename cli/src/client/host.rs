use std::time::Duration;

use tokio::time::{Instant, sleep};
use toril_inventory::Host;
use toril_machine::Facts;
use toril_provisioner::{Bundle, HostInfo, Plan};
use toril_transport::{
    AgentImage, Channel, ChannelError, Connection, ConnectionInfo, Delivery, Incoming, Sudo,
};

use super::ClientError;
use crate::agent::{Ended, Order, Report, Request, RunEvent};
use crate::interrupt::Interrupts;

/// How long a lost connection is tried to be had again.
const RECONNECT: Duration = Duration::from_secs(30);

/// How hosts are reached.
#[derive(Debug, Clone)]
pub(crate) struct Way {
    pub(crate) image: AgentImage,
    pub(crate) sudo: Sudo,
    pub(crate) options: toril_transport::Options,
}

/// A host whose agent answers.
pub(crate) struct Client {
    host: Host,
    way: Way,
    connection: Connection,
    channel: Channel,
}

impl Client {
    /// Connects to a host and starts its agent.
    pub(crate) async fn connect(host: &Host, way: &Way) -> Result<Client, ClientError> {
        let connection = toril_transport::connect(host, &way.options).await?;
        let channel = connection.start_agent(&way.image, &way.sudo).await?;
        Ok(Client { host: host.clone(), way: way.clone(), connection, channel })
    }

    /// How the host was reached.
    pub(crate) fn connection(&self) -> ConnectionInfo {
        self.connection.facts()
    }

    /// Whether the agent had to be put there.
    pub(crate) fn delivery(&self) -> &Delivery {
        self.channel.delivery()
    }

    pub(crate) async fn facts(&mut self) -> Result<Facts, ClientError> {
        self.channel.send(&Request::Facts).await?;
        let Report::Facts(facts) = self.report().await? else { return Err(ClientError::Unexpected) };
        self.done().await?;
        Ok(*facts)
    }

    pub(crate) async fn plan(&mut self, bundle: Bundle, host: HostInfo) -> Result<Plan, ClientError> {
        self.channel.send(&Request::Plan { bundle, host }).await?;
        let Report::Plan(plan) = self.report().await? else { return Err(ClientError::Unexpected) };
        self.done().await?;
        Ok(plan)
    }

    /// Does an order on the host, telling of everything that happens. A connection that is lost on the way is made
    /// again, and what happened in between is told then; an interrupt asks the run to end at the next safe point.
    pub(crate) async fn run(
        &mut self,
        order: Order,
        kernel: Option<&[u8]>,
        interrupts: &Interrupts,
        tell: &mut dyn FnMut(RunEvent),
    ) -> Result<Ended, ClientError> {
        let size = kernel.map(|bytes| bytes.len() as u64);
        self.channel.send(&Request::Start { order, kernel: size }).await?;
        if let Some(bytes) = kernel {
            self.channel.send_blob(bytes).await?;
        }
        self.follow(interrupts, tell).await
    }

    /// Follows a run that was begun earlier; the newest where none is named.
    pub(crate) async fn attach(
        &mut self,
        run: Option<String>,
        interrupts: &Interrupts,
        tell: &mut dyn FnMut(RunEvent),
    ) -> Result<Ended, ClientError> {
        self.channel.send(&Request::Attach { run, from: 0 }).await?;
        self.follow(interrupts, tell).await
    }

    async fn follow(
        &mut self,
        interrupts: &Interrupts,
        tell: &mut dyn FnMut(RunEvent),
    ) -> Result<Ended, ClientError> {
        let Report::Following { run } = self.report().await? else { return Err(ClientError::Unexpected) };
        let mut seen = 0;
        let mut ended = None;
        let mut stopping = false;
        loop {
            let report = tokio::select! {
                report = self.report() => report,
                () = interrupts.first(), if !stopping => {
                    stopping = true;
                    self.stop(&run).await;
                    continue;
                }
            };
            match report {
                Ok(Report::Entry(entry)) => {
                    seen = entry.number + 1;
                    if let RunEvent::Ended { ended: end } = &entry.event {
                        ended = Some(end.clone());
                    }
                    tell(entry.event);
                }
                Ok(Report::Done) => return ended.ok_or(ClientError::Unexpected),
                Ok(_) => return Err(ClientError::Unexpected),
                Err(ClientError::Channel(error @ ChannelError::Cut { .. })) => {
                    self.reconnect(&run, seen, &error).await?;
                    if stopping {
                        // The first may have been lost with the connection.
                        self.stop(&run).await;
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Asks a run to end. Where it cannot be asked, receiving says why.
    async fn stop(&mut self, run: &str) {
        let _ = self.channel.send(&Request::Stop { run: run.to_owned() }).await;
    }

    /// Makes a lost connection again and goes on following where it broke.
    async fn reconnect(&mut self, run: &str, from: u64, lost: &ChannelError) -> Result<(), ClientError> {
        let until = Instant::now() + RECONNECT;
        let mut last = super::chain(lost);
        while Instant::now() < until {
            match self.resume(run, from).await {
                Ok(()) => return Ok(()),
                Err(error @ (ClientError::Refused(_) | ClientError::Unexpected)) => return Err(error),
                Err(error) => last = super::chain(&error),
            }
            sleep(Duration::from_secs(1)).await;
        }
        Err(ClientError::Lost { host: self.host.name.clone(), run: run.to_owned(), last })
    }

    async fn resume(&mut self, run: &str, from: u64) -> Result<(), ClientError> {
        let Client { connection, channel, .. } = Client::connect(&self.host, &self.way).await?;
        self.channel = channel;
        self.connection = connection;
        self.channel.send(&Request::Attach { run: Some(run.to_owned()), from }).await?;
        match self.report().await? {
            Report::Following { .. } => Ok(()),
            _ => Err(ClientError::Unexpected),
        }
    }

    /// Ends the agent and the connection in an orderly way.
    pub(crate) async fn close(self) -> Result<(), ClientError> {
        self.channel.close().await?;
        self.connection.close().await;
        Ok(())
    }

    async fn report(&mut self) -> Result<Report, ClientError> {
        match self.channel.receive().await? {
            Some(Incoming::Message(Report::Refused { reason })) => Err(ClientError::Refused(reason)),
            Some(Incoming::Message(report)) => Ok(report),
            Some(Incoming::Blob(_)) | None => Err(ClientError::Unexpected),
        }
    }

    async fn done(&mut self) -> Result<(), ClientError> {
        match self.report().await? {
            Report::Done => Ok(()),
            _ => Err(ClientError::Unexpected),
        }
    }
}
