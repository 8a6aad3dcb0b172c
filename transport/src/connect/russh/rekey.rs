//! When keys are exchanged anew (`RekeyLimit`).

use std::time::Duration;

use russh::Limits;

/// A key exchange has some kilobytes itself: it must not be due again when it is done.
const LEAST: usize = 64 << 10;
/// What the library holds to be safe.
const MOST: usize = 1 << 30;

/// What is not said is left to the library.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Rekey {
    /// After so many bytes in a direction.
    bytes: Option<usize>,
    /// After so long.
    time: Option<Duration>,
}

impl Rekey {
    /// `1G 1h`, in which `default` or 0 and `none` or 0 say nothing; ssh takes no less than 16 bytes.
    pub(super) fn parse(bytes: &str, time: Option<&str>) -> Option<Rekey> {
        let bytes = match bytes {
            "default" => None,
            bytes => Some(size(bytes)?).filter(|bytes| *bytes != 0),
        };
        let time = match time {
            None | Some("none") => None,
            Some(time) => Some(seconds(time)?).filter(|time| !time.is_zero()),
        };
        bytes.is_none_or(|bytes| bytes >= 16).then_some(Rekey { bytes, time })
    }

    pub(super) fn limits(self) -> Limits {
        let usual = Limits::default();
        let bytes = self.bytes.map_or(usual.rekey_read_limit, |bytes| bytes.clamp(LEAST, MOST));
        Limits::new(bytes, bytes, self.time.unwrap_or(usual.rekey_time_limit))
    }
}

/// Bytes, as in `1G`.
fn size(text: &str) -> Option<usize> {
    let (digits, factor) = match text.chars().last()?.to_ascii_uppercase() {
        'K' => (text.get(..text.len() - 1)?, 1 << 10),
        'M' => (text.get(..text.len() - 1)?, 1 << 20),
        'G' => (text.get(..text.len() - 1)?, 1 << 30),
        _ => (text, 1),
    };
    digits.parse::<usize>().ok()?.checked_mul(factor)
}

/// A time as in `1h30m`; a number alone is seconds.
fn seconds(text: &str) -> Option<Duration> {
    let (mut all, mut digits) = (0_u64, String::new());
    for c in text.chars() {
        let factor = match c.to_ascii_lowercase() {
            '0'..='9' => {
                digits.push(c);
                continue;
            }
            's' => 1,
            'm' => 60,
            'h' => 3600,
            'd' => 86_400,
            'w' => 604_800,
            _ => return None,
        };
        all = digits.parse::<u64>().ok()?.checked_mul(factor)?.checked_add(all)?;
        digits.clear();
    }
    if !digits.is_empty() {
        all = digits.parse::<u64>().ok()?.checked_add(all)?;
    }
    (!text.is_empty()).then_some(Duration::from_secs(all))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_and_time_are_read_as_ssh_reads_them() {
        let hours = |hours: u64| Some(Duration::from_secs(3600 * hours));
        for (bytes, time, expected) in [
            ("2M", None, Some((Some(2 << 20), None))),
            ("0", None, Some((None, None))),
            ("default", Some("none"), Some((None, None))),
            ("default", Some("1h30m30M"), Some((None, hours(2)))),
            ("5000G", Some("7200"), Some((Some(5000 << 30), hours(2)))),
            ("16", Some("0"), Some((Some(16), None))),
            ("15", None, None),
            ("1G", Some("soon"), None),
            ("none", None, None),
        ] {
            let expected = expected.map(|(bytes, time)| Rekey { bytes, time });
            assert_eq!(Rekey::parse(bytes, time), expected, "{bytes} {time:?}");
        }
    }

    #[test]
    fn limits_are_ones_that_the_library_can_keep() {
        for (bytes, expected) in [(Some(16), LEAST), (Some(5000 << 30), MOST), (None, 1 << 30)] {
            let limits = Rekey { bytes, time: None }.limits();
            assert_eq!((limits.rekey_read_limit, limits.rekey_write_limit), (expected, expected));
        }
    }
}
