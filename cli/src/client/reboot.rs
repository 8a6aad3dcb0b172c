use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};

use super::{Client, ClientError, chain};
use crate::agent::{Reboot, Report, Request};
use crate::interrupt::Interrupts;

/// How long to wait between two attempts.
const PAUSE: Duration = Duration::from_secs(1);

impl Client {
    /// Waits for a machine that reboots, until its agent answers in another boot than the one that was to end; says how
    /// long that took.
    pub(crate) async fn come_back(
        &mut self,
        reboot: &Reboot,
        interrupts: &Interrupts,
    ) -> Result<Duration, ClientError> {
        let start = Instant::now();
        tokio::select! {
            () = interrupts.first() => Err(ClientError::LeftInReboot { host: self.host.name.clone() }),
            back = self.be_back(reboot, start + Duration::from_secs(reboot.deadline)) => back.map(|()| start.elapsed()),
        }
    }

    async fn be_back(&mut self, reboot: &Reboot, until: Instant) -> Result<(), ClientError> {
        let (host, deadline) = (self.host.name.clone(), Duration::from_secs(reboot.deadline));
        // Nobody is asked for a passphrase or about a key again and again.
        let options = toril_transport::Options { interactive: false, ..self.way.options.clone() };
        let mut last = None;
        loop {
            match timeout_at(until, self.boot_again(&options)).await {
                Ok(Ok(boot)) if boot != reboot.boot => return Ok(()),
                // It has not gone down yet.
                Ok(Ok(_)) => last = None,
                Ok(Err(error @ (ClientError::Refused(_) | ClientError::Unexpected))) => return Err(error),
                Ok(Err(error)) => last = Some(chain(&error)),
                Err(_) => {
                    self.disconnect().await;
                    last = last.or(Some("it did not answer".into()));
                }
            }
            if Instant::now() + PAUSE >= until {
                return Err(match last {
                    Some(last) => ClientError::NotBack { host, deadline, last },
                    None => ClientError::StillUp { host, deadline },
                });
            }
            sleep(PAUSE).await;
        }
    }

    /// Makes the connection again, and asks there which boot it is.
    async fn boot_again(&mut self, options: &toril_transport::Options) -> Result<String, ClientError> {
        self.connect_again(options).await?;
        self.send(&Request::Boot).await?;
        let Report::Boot(boot) = self.report().await? else { return Err(ClientError::Unexpected) };
        self.done().await?;
        Ok(boot)
    }
}
