//! A run on a host that may have to be rebooted on the way.

use toril_inventory::{Host, Reach};
use toril_provisioner::Counts;

use super::reach;
use crate::agent::{Ended, Job, Order};
use crate::client::{Client, ClientError, Parcels, Told};
use crate::interrupt::Interrupts;
use crate::view::{Shown, View};

/// Does an order; `hear` hears of all that happens. Where that ends with a reboot, the order begins again in the new boot: the whole recipe is observed
/// once more, handlers that are still due are run, and what was to come after it comes then.
pub(super) async fn run(
    client: &mut Client,
    host: &Host,
    order: Order,
    parcels: Parcels<'_>,
    view: &View,
    interrupts: &Interrupts,
    hear: &mut dyn FnMut(&Told),
) -> Result<Ended, ClientError> {
    let mut tell = |told| {
        hear(&told);
        reach::show(view, &host.name, &told);
    };
    let first = client.run(order.clone(), parcels, interrupts, &mut tell).await?;
    let Some(reboot) = &first.reboot else { return Ok(first) };
    view.show(Some(&host.name), &Shown::Step { text: "waiting for the host to come back" });
    let time = client.come_back(reboot, interrupts).await?;
    let milliseconds = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    view.show(Some(&host.name), &Shown::Rebooted { milliseconds });
    // Once is enough: a host that still wants one after it would want one for ever.
    let jobs = order.jobs.into_iter().filter(|job| !matches!(job, Job::Reboot { .. })).collect();
    let mut last = client.run(Order { jobs, ..order }, parcels, interrupts, &mut tell).await?;
    last.applied = last.applied.map(|counts| both(first.applied, counts));
    Ok(last)
}

/// What both runs of a recipe have changed, and how its resources stand after the second.
fn both(first: Option<Counts>, last: Counts) -> Counts {
    let changed = first.map_or(0, |first| first.changed).min(last.satisfied);
    Counts { changed: last.changed + changed, satisfied: last.satisfied - changed, ..last }
}

/// Says that a reboot is due, and how to have it.
pub(super) fn tell_due(view: &View, host: &Host, reason: &str) {
    let how = match host.reach {
        Reach::Local => "reboot this machine when it suits you, and give the command again".to_owned(),
        Reach::Ssh(_) => format!("`toril apply {} --reboot` makes it", host.name),
    };
    view.show(Some(&host.name), &Shown::Note { text: &format!("a reboot is due ({reason}): {how}") });
}

/// Refuses a host that cannot be rebooted for itself.
pub(super) async fn refuse_container(client: &mut Client) -> Result<(), ClientError> {
    match client.facts().await?.container {
        Some(kind) => Err(ClientError::Refused(format!(
            "--reboot: this host is a container ({kind}), which runs by its machine's kernel and is not rebooted; give the \
             command without --reboot; nothing was changed"
        ))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_either_run_changed_counts_once() {
        let counts = |satisfied, changed| Counts { satisfied, changed, ..Counts::default() };
        assert_eq!(both(Some(counts(3, 2)), counts(5, 0)), counts(3, 2));
        assert_eq!(both(Some(counts(3, 2)), counts(4, 1)), counts(2, 3));
        assert_eq!(both(None, counts(5, 0)), counts(5, 0));
    }
}
