use serde_json::Value;

/// What QEMU is asked of a guest that does not end, and what it answers.
#[derive(Debug, Default)]
pub(crate) struct Inquiry {
    status: Option<String>,
    registers: Option<Vec<String>>,
    nmi: Option<Result<(), String>>,
}

/// More CPUs than this are not told of.
const MOST_CPUS: usize = 8;

impl Inquiry {
    /// What is sent to QEMU's monitor; `nmi` also injects one, upon which some guests tell how far they got.
    pub(crate) fn questions(nmi: bool) -> Vec<u8> {
        let mut text = concat!(
            r#"{"execute":"query-status","id":"status"}"#,
            "\n",
            r#"{"execute":"human-monitor-command","arguments":{"command-line":"info registers -a"},"id":"registers"}"#,
            "\n",
        )
        .to_owned();
        if nmi {
            text.push_str("{\"execute\":\"inject-nmi\",\"id\":\"nmi\"}\n");
        }
        text.into_bytes()
    }

    /// Takes a message of QEMU's, which may be an answer.
    pub(crate) fn note(&mut self, message: &Value) {
        let error = message.pointer("/error/desc").and_then(Value::as_str);
        match message.get("id").and_then(Value::as_str) {
            Some("status") => {
                let status = message.pointer("/return/status").and_then(Value::as_str).or(error);
                self.status = Some(status.unwrap_or("something else than a state").to_owned());
            }
            Some("registers") => {
                let text = message.get("return").and_then(Value::as_str).unwrap_or_default();
                self.registers = Some(cpus(text));
            }
            Some("nmi") => self.nmi = Some(error.map_or(Ok(()), |why| Err(why.to_owned()))),
            _ => {}
        }
    }

    /// Whether all is known that QEMU itself can tell at once.
    pub(crate) fn is_answered(&self) -> bool {
        self.status.is_some() && self.registers.is_some()
    }

    /// Whether an NMI reached the guest; nothing where none was asked for, or QEMU did not answer.
    pub(crate) fn nmi(&self) -> Option<Result<(), &str>> {
        self.nmi.as_ref().map(|answer| answer.as_ref().copied().map_err(String::as_str))
    }

    /// What was learnt, in lines for a person.
    pub(crate) fn lines(&self) -> Vec<String> {
        let mut lines = vec![match &self.status {
            Some(status) => format!("QEMU says that the guest is {status}"),
            None => "QEMU did not answer its monitor: it hangs itself, or is starved".into(),
        }];
        lines.extend(self.registers.iter().flatten().cloned());
        lines
    }
}

/// A line for each CPU: where it is, and whether it can go on.
fn cpus(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    let places = text.lines().filter(|line| line.starts_with("RIP=") || line.starts_with("EIP="));
    for (cpu, line) in places.enumerate() {
        if cpu == MOST_CPUS {
            lines.push("and more CPUs".into());
            break;
        }
        let value =
            |name: &str| line.split_whitespace().find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
        let place = value("RIP").or_else(|| value("EIP")).unwrap_or("?");
        let flags = value("RFL").or_else(|| value("EFL")).unwrap_or("?");
        let interrupts = u64::from_str_radix(flags, 16).ok().map(|flags| flags & INTERRUPT_FLAG != 0);
        let state = match (value("HLT"), interrupts) {
            (Some("1"), Some(false)) => "halted with interrupts off, which only an NMI can end",
            (Some("1"), _) => "halted, waiting for an interrupt",
            (_, Some(false)) => "running with interrupts off",
            _ => "running",
        };
        lines.push(format!("CPU {cpu} is {state}, at {place} (flags {flags})"));
    }
    lines
}

/// Of the processor's flags, the one that lets interrupts in.
const INTERRUPT_FLAG: u64 = 1 << 9;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    const REGISTERS: &str = "\r\nCPU#0\r\nRAX=0000000000000000 RBX=0000000000000000\r\n\
        RIP=0000000000100abc RFL=00000046 [---Z-P-] CPL=0 II=0 A20=1 SMM=0 HLT=1\r\nCR2=0 CR3=1000\r\n\
        \r\nCPU#1\r\nRIP=0000000000100def RFL=00000202 [-------] CPL=0 II=0 A20=1 SMM=0 HLT=0\r\n";

    #[test]
    fn answers_become_lines() {
        let mut inquiry = Inquiry::default();
        assert_eq!(inquiry.lines(), ["QEMU did not answer its monitor: it hangs itself, or is starved"]);
        inquiry.note(&json!({ "return": { "status": "running", "running": true }, "id": "status" }));
        assert!(!inquiry.is_answered());
        inquiry.note(&json!({ "return": REGISTERS, "id": "registers" }));
        assert!(inquiry.is_answered() && inquiry.nmi().is_none());
        assert_eq!(
            inquiry.lines(),
            [
                "QEMU says that the guest is running",
                "CPU 0 is halted with interrupts off, which only an NMI can end, at 0000000000100abc (flags 00000046)",
                "CPU 1 is running, at 0000000000100def (flags 00000202)",
            ]
        );
        inquiry.note(&json!({ "error": { "class": "GenericError", "desc": "no NMI here" }, "id": "nmi" }));
        assert_eq!(inquiry.nmi(), Some(Err("no NMI here")));
        inquiry.note(&json!({ "return": {}, "id": "nmi" }));
        assert_eq!(inquiry.nmi(), Some(Ok(())));
    }

    #[test]
    fn every_question_is_json() {
        let text = String::from_utf8(Inquiry::questions(true)).unwrap();
        let ids: Vec<Value> =
            text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["id"].clone()).collect();
        assert_eq!(ids, ["status", "registers", "nmi"]);
        assert_eq!(Inquiry::questions(false).iter().filter(|byte| **byte == b'\n').count(), 2);
    }

    proptest! {
        #[test]
        fn any_answer_is_taken(text in r"((RIP|RFL|HLT)=|[0-9a-f]{0,8}| |\n){0,60}") {
            prop_assert!(cpus(&text).len() <= MOST_CPUS + 1);
        }
    }
}
