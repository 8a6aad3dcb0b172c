//! `disconnect`: the end of connections that were left open.

use std::io::{self, Write};

use toril_inventory::{Reach, Target};

use super::choices::Chooser;
use super::{UsageError, sandbox};
use crate::arguments::Disconnect;
use crate::client::chain;
use crate::exit::Status;
use crate::view::View;

pub(super) fn disconnect(arguments: &Disconnect) -> Result<Status, UsageError> {
    let ssh = match &arguments.host {
        None => None,
        Some(name) => {
            let chosen = Chooser::here()?.host(name, arguments.inventory.as_ref())?;
            let host = match chosen.target {
                Target::Host(host) => host,
                Target::Sandbox(name) => {
                    sandbox::host(&name, None, &View::quiet()).map_err(UsageError::Other)?
                }
            };
            match host.reach {
                Reach::Ssh(ssh) => Some(ssh),
                Reach::Local => {
                    return Err(UsageError::Other("`local` is this machine, without a connection".into()));
                }
            }
        }
    };
    let failed = |error: io::Error| UsageError::Other(format!("cannot start: {error}"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    let text = match runtime.block_on(toril_transport::disconnect(ssh.as_ref())) {
        Ok(0) => "no connection was open".to_owned(),
        Ok(1) => "ended 1 connection".to_owned(),
        Ok(count) => format!("ended {count} connections"),
        Err(error) => {
            // There is nobody left to tell if this fails.
            drop(writeln!(io::stderr(), "error: {}", chain(&error)));
            return Ok(Status::Operation);
        }
    };
    drop(writeln!(io::stdout(), "{text}"));
    Ok(Status::Fine)
}
