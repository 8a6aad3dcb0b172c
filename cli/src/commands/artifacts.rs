//! `--artifacts`: what a run has kept of its tests comes here.

use std::fs;
use std::path::Path;

use tokio::time::{Instant, timeout_at};

use super::{UsageError, problem};
use crate::agent::Ended;
use crate::arguments::Fetching;
use crate::client::{Client, ClientError, Trouble};
use crate::exit::Status;
use crate::view::{HostOutcome, Shown, View};

/// The directory that artifacts are wanted in, made if it is not there: found out before a host is touched.
pub(super) fn directory(fetching: &Fetching) -> Result<Option<&Path>, UsageError> {
    let Some(directory) = fetching.artifacts.as_deref() else { return Ok(None) };
    let made = fs::create_dir_all(directory);
    made.map_err(|error| {
        UsageError::Other(format!("--artifacts: cannot make {}: {error}", directory.display()))
    })?;
    Ok(Some(directory))
}

/// Fetches what the run that was followed last has kept, if it is wanted, and tells where it is. `ran` is how the run came
/// out: where its host was lost, there is nobody to be asked. Says whether the connection is still of use.
pub(super) async fn fetch(
    client: &mut Client,
    ran: &Result<Ended, ClientError>,
    into: Option<&Path>,
    until: Option<Instant>,
    view: &View,
    outcome: &mut HostOutcome,
) -> bool {
    if matches!(ran, Err(error) if !error.is_told()) {
        return true;
    }
    let Some((into, run)) = into.zip(client.last_run().map(str::to_owned)) else { return true };
    let host = outcome.host.clone();
    view.show(Some(&host), &Shown::Step { text: "fetching artifacts" });
    let fetched = match until {
        Some(until) => timeout_at(until, client.fetch_artifacts(&run, into)).await,
        None => Ok(client.fetch_artifacts(&run, into).await),
    };
    match fetched {
        Ok(Ok(place)) => {
            let directory = place.to_string_lossy().into_owned();
            view.show(Some(&host), &Shown::Artifacts { directory: &directory });
            outcome.artifacts = Some(directory);
            true
        }
        Ok(Err(error)) => {
            problem(view, Some(&host), "fetching artifacts", &Trouble::from(&error));
            outcome.statuses.push(Status::Operation);
            true
        }
        Err(_) => {
            let error = "the host's time was over before they were here; they stay on the host".to_owned();
            let remedy = Some(format!("`toril attach {host} {run} --artifacts DIR` fetches them"));
            problem(view, Some(&host), "fetching artifacts", &Trouble { error, remedy, unreachable: false });
            outcome.statuses.push(Status::Operation);
            false
        }
    }
}
