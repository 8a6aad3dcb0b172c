use std::time::Duration;

use serde_json::Value;

use super::inquiry::Inquiry;

/// What QEMU's monitor is sent before QEMU is even started: it waits in the socket, so that no event is lost (the
/// guest is started only by `cont`) and no round trip is spent.
pub(crate) const GO: &[u8] = b"{\"execute\":\"qmp_capabilities\"}\n{\"execute\":\"cont\"}\n";

/// The same where a debugger lets the guest run.
pub(crate) const GREET: &[u8] = b"{\"execute\":\"qmp_capabilities\"}\n";

/// What QEMU tells over its monitor (QMP: JSON, one object a line).
#[derive(Debug, Default)]
pub(crate) struct Monitor {
    unread: Vec<u8>,
    /// Such as `10.0.2`.
    pub version: Option<String>,
    /// When the guest began to run, in microseconds since 1970.
    pub resumed: Option<u64>,
    /// When it ended, in microseconds since 1970.
    pub ended: Option<u64>,
    /// The reason for the guest's end, such as `guest-reset`.
    pub shutdown: Option<String>,
    /// The guest said that it panicked.
    pub panicked: bool,
    /// What it answers where it is asked of a guest that does not end.
    pub inquiry: Inquiry,
}

/// A longer line is none of QEMU's.
const LONGEST_LINE: usize = 1 << 20;

impl Monitor {
    pub(crate) fn take(&mut self, bytes: &[u8]) {
        self.unread.extend_from_slice(bytes);
        while let Some(end) = self.unread.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.unread.drain(..=end).collect();
            if let Ok(message) = serde_json::from_slice(&line) {
                self.note(&message);
            }
        }
        if self.unread.len() > LONGEST_LINE {
            self.unread.clear();
        }
    }

    /// How long the guest ran, where it ended by itself.
    pub(crate) fn ran(&self) -> Option<Duration> {
        Some(Duration::from_micros(self.ended?.saturating_sub(self.resumed?)))
    }

    fn note(&mut self, message: &Value) {
        let number = |pointer: &str| message.pointer(pointer).and_then(Value::as_u64);
        if message.get("QMP").is_some() {
            let version = |part| number(&format!("/QMP/version/qemu/{part}"));
            if let (Some(major), Some(minor), Some(micro)) =
                (version("major"), version("minor"), version("micro"))
            {
                self.version = Some(format!("{major}.{minor}.{micro}"));
            }
        }
        if message.get("id").is_some() {
            self.inquiry.note(message);
        }
        let time = || {
            let (seconds, microseconds) = (number("/timestamp/seconds"), number("/timestamp/microseconds"));
            let time = seconds.unwrap_or_default().saturating_mul(1_000_000);
            time.saturating_add(microseconds.unwrap_or_default())
        };
        match message.get("event").and_then(Value::as_str) {
            Some("RESUME") => {
                self.resumed.get_or_insert(time());
            }
            Some("SHUTDOWN") => {
                self.ended.get_or_insert(time());
                let reason = message.pointer("/data/reason").and_then(Value::as_str);
                self.shutdown.get_or_insert_with(|| reason.unwrap_or("unknown").to_owned());
            }
            Some("GUEST_PANICKED") => self.panicked = true,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_in_pieces_and_among_rubbish() {
        let text = concat!(
            r#"{"QMP": {"version": {"qemu": {"micro": 22, "minor": 2, "major": 7}, "package": "Debian"}, "capabilities": ["oob"]}}"#,
            "\r\n{\"return\": {}}\r\nnot json\n",
            r#"{"timestamp": {"seconds": 2, "microseconds": 3}, "event": "RESUME"}"#,
            "\r\n",
            r#"{"timestamp": {"seconds": 2, "microseconds": 9}, "event": "SHUTDOWN", "data": {"guest": true, "reason": "guest-reset"}}"#,
            "\r\n",
            r#"{"timestamp": {"seconds": 2, "microseconds": 9}, "event": "GUEST_PANICKED", "data": {}}"#,
            "\r\n",
        );
        let mut monitor = Monitor::default();
        for piece in text.as_bytes().chunks(7) {
            monitor.take(piece);
        }
        assert_eq!(monitor.version.as_deref(), Some("7.2.22"));
        assert_eq!((monitor.resumed, monitor.ended), (Some(2_000_003), Some(2_000_009)));
        assert_eq!(monitor.shutdown.as_deref(), Some("guest-reset"));
        assert!(monitor.panicked);
        assert_eq!(monitor.ran(), Some(Duration::from_micros(6)));
    }
}
