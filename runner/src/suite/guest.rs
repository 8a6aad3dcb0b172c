//! `[test.guest]`.

use std::collections::BTreeSet;
use std::path::PathBuf;

use toril_document::{Located, Table, Value};

use super::template::Template;
use super::{ExpectedEnd, Forward, GuestSettings, Kernel, Share};
use crate::toolkit;

/// More consoles than this a guest has no use for.
const MOST_CONSOLES: usize = 8;

/// virtio-fs has no room for a longer tag, in bytes.
const LONGEST_TAG: usize = 36;

/// What strings of a guest's table, and of its companion's, may name besides what all may.
pub(super) fn late_names(share: bool, vsock: bool) -> Vec<&'static str> {
    let of_share = share.then_some(["guest.tag", "guest.share"]);
    let of_vsock = vsock.then_some(["guest.cid", "guest.vsock"]);
    of_share.into_iter().chain(of_vsock).flatten().collect()
}

pub(super) fn read_guest(mut table: Table<'_>, template: &Template) -> Option<GuestSettings> {
    let kernel = read_kernel(&mut table, template);
    let memory = table.size("memory");
    let cpus = table.integer("cpus", 1..=255).and_then(|count| u32::try_from(count).ok());
    // Its names are known, though something in it is wrong.
    let has_share = table.has("share");
    let share = table.table("share").and_then(|share| read_share(share, template));
    let vsock = table.boolean("vsock").unwrap_or(false);
    let forward = read_forward(&mut table, vsock);
    let consoles = read_consoles(&mut table);
    let pin = read_pin(&mut table);
    let realtime = table.integer("realtime", 1..=99).and_then(|priority| u8::try_from(priority).ok());
    let late = late_names(has_share, vsock);
    let (append, qemu_args) = (table.string("append"), table.strings("qemu-args"));
    let render = |word| template.render_late(&table, word, &late);
    let append = append.map(render).unwrap_or_default();
    let qemu_args = qemu_args.unwrap_or_default().into_iter().map(render).collect();
    let ends = read_end(&mut table, kernel.as_ref());
    table.finish();
    if has_share && share.is_none() {
        return None;
    }
    let guest = GuestSettings::new(kernel?, ends?);
    Some(GuestSettings {
        memory: memory.unwrap_or(guest.memory),
        cpus: cpus.unwrap_or(guest.cpus),
        append,
        qemu_args,
        share,
        vsock,
        forward,
        consoles,
        pin,
        realtime,
        ..guest
    })
}

fn read_kernel(table: &mut Table<'_>, template: &Template) -> Option<Kernel> {
    let text = table.required_string("kernel")?;
    let span = text.span.clone();
    let name = template.render(table, text);
    match name.strip_prefix("builtin:") {
        None if name.starts_with('/') || template.has_source => Some(Kernel::File(PathBuf::from(name))),
        None => {
            let message = format!("`{name}` is no absolute path: kernels are files of the host");
            let help = "or say with [source] where the tree comes from that it starts at".to_owned();
            table.note("S009", span, message, Some(help));
            None
        }
        Some("toolkit") => Some(Kernel::Toolkit),
        Some(_) => {
            let help = Some("there is builtin:toolkit".into());
            table.note("S009", span, format!("`{name}` is not built in"), help);
            None
        }
    }
}

fn read_share(mut table: Table<'_>, template: &Template) -> Option<Share> {
    table.rename("`share`");
    let dir = read_path(&table.required_string("dir"), &table, template, "a shared directory is of the host");
    let tag = table.required_string("tag").and_then(|tag| {
        let span = tag.span.clone();
        let tag = template.render(&table, tag);
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if tag.is_empty() || tag.len() > LONGEST_TAG || !tag.chars().all(plain) {
            let message =
                format!("`{tag}` is no tag: 1 to {LONGEST_TAG} letters, digits and any of `-_.` are");
            table.note("S021", span, message, None);
            return None;
        }
        Some(tag)
    });
    let in_place = table.boolean("in-place").unwrap_or(false);
    let daemon = table.string("virtiofsd");
    let virtiofsd =
        daemon.is_some().then(|| read_path(&daemon, &table, template, "the daemon is a file of the host"));
    table.finish();
    Some(Share { dir: dir?, tag: tag?, in_place, virtiofsd: virtiofsd.flatten() })
}

fn read_path(
    text: &Option<Located<String>>,
    table: &Table<'_>,
    template: &Template,
    what: &str,
) -> Option<PathBuf> {
    let text = text.clone()?;
    let span = text.span.clone();
    let name = template.render(table, text);
    if !name.starts_with('/') && !template.has_source {
        table.note("S020", span, format!("`{name}` is no absolute path: {what}"), None);
        return None;
    }
    Some(PathBuf::from(name))
}

fn read_forward(table: &mut Table<'_>, vsock: bool) -> Vec<Forward> {
    let mut forwards: Vec<Forward> = Vec::new();
    let mut place = None;
    for text in table.strings("forward").unwrap_or_default() {
        place.get_or_insert(text.span.clone());
        match text.value.parse::<Forward>() {
            Ok(forward) if forwards.iter().any(|other| other.from == forward.from) => {
                let message = format!("the port {} of the host is forwarded twice", forward.from);
                table.note("S022", text.span, message, None);
            }
            Ok(forward) => forwards.push(forward),
            Err(message) => table.note("S022", text.span, message, None),
        }
    }
    if let Some(place) = place.filter(|_| !vsock && !table.is_imagined()) {
        let help = Some("write vsock = true".into());
        table.note("S022", place, "ports are forwarded to a vsock, which the guest does not have", help);
    }
    forwards
}

fn read_consoles(table: &mut Table<'_>) -> Vec<String> {
    let names = table.strings("consoles").unwrap_or_default();
    let mut seen = BTreeSet::new();
    for (index, name) in names.iter().enumerate() {
        let text = &name.value;
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        let message = if text.is_empty() || text.len() > 32 || !text.chars().all(plain) {
            format!("`{text}` is no name of a console: 1 to 32 of a-z, 0-9 and `-` are")
        } else if ["serial", "qemu"].contains(&text.as_str()) {
            format!("`{text}` is a channel that every guest has")
        } else if !seen.insert(text) {
            format!("there are two consoles named `{text}`")
        } else if index >= MOST_CONSOLES {
            format!("a guest has at most {MOST_CONSOLES} consoles")
        } else {
            continue;
        };
        table.note("S023", name.span.clone(), message, None);
    }
    names.into_iter().map(|name| name.value).collect()
}

fn read_pin(table: &mut Table<'_>) -> Vec<usize> {
    let Some((_, list)) = table.take("pin") else { return Vec::new() };
    let cpu = |value: &Located<Value>| match value.value {
        Value::Integer(number) => usize::try_from(number).ok().filter(|cpu| *cpu < 1024),
        _ => None,
    };
    match &list.value {
        Value::Array(items) if !items.is_empty() && items.iter().all(|item| cpu(item).is_some()) => {
            items.iter().filter_map(cpu).collect()
        }
        _ => {
            if !table.is_imagined() {
                let message = "`pin` must be a list of CPUs of the host, such as [0, 1]";
                table.note("S024", list.span, message, None);
            }
            Vec::new()
        }
    }
}
fn read_end(table: &mut Table<'_>, kernel: Option<&Kernel>) -> Option<ExpectedEnd> {
    let place = table.span();
    let has_status = table.has("exit-status");
    let status = table.integer("exit-status", 0..=255).and_then(|status| i32::try_from(status).ok());
    let has_end = table.has("ends");
    let end = table.parsed("ends", |text| match text {
        "reset" => Ok(ExpectedEnd::Reset),
        "shutdown" => Ok(ExpectedEnd::Shutdown),
        _ => Err(format!("`{text}` is no end: write reset or shutdown, or exit-status = N")),
    });
    match (has_status, has_end) {
        (true, false) => status.map(ExpectedEnd::ExitStatus),
        (false, true) => end,
        (true, true) => {
            table.note("S008", place, "a guest ends in one way: `ends` or `exit-status`, not both", None);
            None
        }
        // Nothing else is wrong with a kernel that could not be read.
        (false, false) if kernel.is_none_or(|kernel| *kernel == Kernel::Toolkit) => {
            Some(ExpectedEnd::ExitStatus(toolkit::STATUS_ENDED))
        }
        (false, false) => {
            let help = "write ends = \"reset\" or \"shutdown\", or exit-status = N".to_owned();
            table.note("S008", place, "it is not said how the guest ends when all is well", Some(help));
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use crate::{Action, Forward, Suite};

    const ALL: &str = r#"
[vars]
dir = "/srv/data"
[[test]]
name = "t"
cases = "toril"
[test.guest]
kernel = "builtin:toolkit"
append = "virtiofs,{{ guest.tag }} cid={{ guest.cid }}"
qemu-args = ["-D", "{{ dirs.test }}/log"]
vsock = true
forward = ["4000:80", "4001:81"]
consoles = ["report", "log-2"]
pin = [0, 1]
realtime = 10
share = { dir = "{{ vars.dir }}", tag = "data", in-place = true, virtiofsd = "/opt/virtiofsd" }
[test.companion]
command = ["ls", "{{ guest.share }}"]
env = { SOCKET = "{{ guest.vsock }}" }
ready = "^up"
when = "after"
"#;

    fn parse(text: &str) -> Result<Suite, Vec<String>> {
        let problems =
            |problems: toril_document::Problems| problems.0.iter().map(ToString::to_string).collect();
        Suite::parse("s.toml", text, &BTreeMap::new()).map_err(problems)
    }

    #[test]
    fn a_guest_with_all_there_is() {
        let suite = parse(ALL).unwrap();
        let Action::Guest(guest) = &suite.tests[0].action else { panic!("no guest") };
        let share = guest.share.as_ref().unwrap();
        assert_eq!(
            (share.dir.to_str(), share.tag.as_str(), share.in_place),
            (Some("/srv/data"), "data", true)
        );
        assert_eq!(guest.forward, [Forward { from: 4000, to: 80 }, Forward { from: 4001, to: 81 }]);
        assert_eq!((guest.consoles.len(), guest.pin.as_slice(), guest.realtime), (2, &[0, 1][..], Some(10)));
        let companion = suite.tests[0].companion.as_ref().unwrap();
        assert!(companion.after && companion.ready.is_some());
    }

    #[test]
    fn every_mistake_has_its_number() {
        for (right, wrong, expected) in [
            (
                "dir = \"{{ vars.dir }}\"",
                "dir = \"data\"",
                "`data` is no absolute path: a shared directory is of the host [S020]",
            ),
            (
                "\"/opt/virtiofsd\"",
                "\"virtiofsd\"",
                "`virtiofsd` is no absolute path: the daemon is a file of the host [S020]",
            ),
            ("tag = \"data\"", "tag = \"my data\"", "`my data` is no tag"),
            (
                "\"4001:81\"",
                "\"4001\"",
                "`4001` is no forwarding: write HOST-PORT:GUEST-PORT, such as 4000:80 [S022]",
            ),
            ("\"4001:81\"", "\"4000:81\"", "the port 4000 of the host is forwarded twice [S022]"),
            ("\"report\"", "\"serial\"", "`serial` is a channel that every guest has [S023]"),
            ("\"report\"", "\"Report\"", "`Report` is no name of a console"),
            ("\"report\"", "\"log-2\"", "there are two consoles named `log-2` [S023]"),
            ("pin = [0, 1]", "pin = [-1]", "`pin` must be a list of CPUs of the host, such as [0, 1] [S024]"),
            ("realtime = 10", "realtime = 100", "[D006]"),
            ("\"after\"", "\"later\"", "`later` is no time: write before or after"),
            ("\"^up\"", "\"(\"", "`(` is not a regular expression"),
            ("{{ guest.tag }}", "{{ guest.tga }}", "unknown variable `guest.tga`"),
        ] {
            let problems = parse(&ALL.replacen(right, wrong, 1)).expect_err(wrong);
            assert_eq!(problems.len(), 1, "{wrong}: {problems:#?}");
            assert!(problems[0].contains(expected), "{wrong}: {problems:#?}");
        }
    }

    #[test]
    fn what_is_not_there_cannot_be_named() {
        let problems = parse(&ALL.replace("vsock = true\n", "")).unwrap_err();
        let told = |text: &str| problems.iter().filter(|problem| problem.contains(text)).count();
        assert_eq!(
            told("ports are forwarded to a vsock, which the guest does not have [S022]"),
            1,
            "{problems:#?}"
        );
        assert_eq!(told("there is no `guest.cid` here [S001]"), 1, "{problems:#?}");
        assert_eq!(told("there is no `guest.vsock` here [S001]"), 1, "{problems:#?}");
        let command = "[[test]]\nname = \"t\"\ncommand = [\"ls\", \"{{ dirs.test }}\"]\n";
        parse(command).unwrap();
        let problems = parse(&format!("{command}[test.companion]\ncommand = [\"true\"]\n")).unwrap_err();
        assert!(problems[0].contains("a companion is of a guest, which the test does not have [S025]"));
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_it_panic(start in 0..ALL.len(), length in 0..40_usize, text in "[ -~\\n]{0,30}") {
            let end = (start + length).min(ALL.len());
            drop(parse(&format!("{}{text}{}", &ALL[..start], &ALL[end..])));
        }

        #[test]
        fn a_forwarding_is_read_back(from in 1..=u16::MAX, to: u32, other in "[ -~]{0,12}") {
            proptest::prop_assert_eq!(format!("{from}:{to}").parse::<Forward>(), Ok(Forward { from, to }));
            if let Ok(forward) = other.parse::<Forward>() {
                proptest::prop_assert!(forward.from > 0);
            }
        }
    }
}
