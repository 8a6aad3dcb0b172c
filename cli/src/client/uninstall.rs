//! Taking toril away from a host.

use std::path::PathBuf;

use toril_machine::LockHolder;
use toril_transport::Delivery;

use super::{Client, ClientError};
use crate::agent::{Footprint, Report, Request, Uninstall};

/// What came of it.
#[derive(Debug)]
pub(crate) enum Uninstalled {
    /// It was tried; what there was, and what of it is there still.
    Tried(Footprint),
    /// Nothing was done: the host is in use, or somebody waits for it.
    InUse(Option<LockHolder>),
}

impl Client {
    /// What of toril is on the host, and what recipes have made there.
    pub(crate) async fn footprint(&mut self) -> Result<Footprint, ClientError> {
        let delivered = self.was_delivered();
        self.send(&Request::Footprint { delivered }).await?;
        let Report::Footprint(footprint) = self.report().await? else { return Err(ClientError::Unexpected) };
        self.done().await?;
        Ok(footprint)
    }

    /// Takes away what is toril's own, the agent too. `kept` are the kept folders that may go with it.
    pub(crate) async fn uninstall(
        &mut self,
        who: String,
        kept: Vec<PathBuf>,
    ) -> Result<Uninstalled, ClientError> {
        let delivered = self.was_delivered();
        self.send(&Request::Uninstall(Uninstall { who, delivered, kept })).await?;
        let uninstalled = match self.report().await? {
            Report::Footprint(footprint) => Uninstalled::Tried(footprint),
            Report::InUse { holder } => Uninstalled::InUse(holder),
            _ => return Err(ClientError::Unexpected),
        };
        self.done().await?;
        Ok(uninstalled)
    }

    /// Whether the agent was put there for this very connection.
    fn was_delivered(&self) -> bool {
        matches!(self.connection(), Some((_, Delivery::Uploaded { .. })))
    }
}
