//! `[test.companion]`.

use toril_document::Table;

use super::guest::late_names;
use super::read::{note_pattern, read_program};
use super::template::Template;
use super::{Action, Companion};

pub(super) fn read_companion(
    table: &mut Table<'_>,
    template: &Template,
    action: Option<&Action>,
) -> Option<Companion> {
    let place = table.span();
    let mut inner = table.table("companion")?;
    inner.rename("`companion`");
    let (share, vsock) = match action {
        Some(Action::Guest(guest)) => (guest.share.is_some(), guest.vsock),
        Some(Action::Command(_)) => (false, false),
        // Nothing more is wrong where the guest could not be read.
        None => (true, true),
    };
    let command = read_program(&mut inner, template, &late_names(share, vsock));
    let ready = inner.string("ready").and_then(|text| note_pattern(&inner, &text));
    let after = inner.parsed("when", |text| match text {
        "before" => Ok(false),
        "after" => Ok(true),
        _ => Err(format!("`{text}` is no time: write before or after, which are meant of the guest's start")),
    });
    let (wait, span) = (inner.duration("wait"), inner.span());
    if wait.is_some() && after == Some(true) {
        let message = "`wait` of a companion that is started after the guest: its end is waited for anyway";
        inner.note("S025", span, message, None);
    }
    let as_root = inner.boolean("as-root").unwrap_or(false);
    inner.finish();
    if matches!(action, Some(Action::Command(_))) {
        table.note("S025", place, "a companion is of a guest, which the test does not have", None);
    }
    Some(Companion {
        command: command?,
        ready,
        after: after.unwrap_or(false),
        wait: wait.unwrap_or(Companion::LEAVES),
        as_root,
    })
}
