use std::time::Duration;

/// Reads a duration such as `500ms`, `20s`, `5m` or `2h`.
///
/// # Errors
/// Says what is wrong and what would be right.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = split(text);
    let milliseconds = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => {
            return Err(format!(
                "`{text}` is not a duration: write a whole number and ms, s, m or h, such as 20s"
            ));
        }
    };
    scale(number, milliseconds).map(Duration::from_millis).ok_or_else(|| {
        format!("`{text}` is not a duration: write a whole number and ms, s, m or h, such as 20s")
    })
}

/// Reads a size in bytes such as `512K`, `64M` or `2G` (powers of 1024, as QEMU has them).
///
/// # Errors
/// Says what is wrong and what would be right.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let (number, unit) = split(text);
    let factor = match unit {
        "" => 1,
        "K" => 1 << 10,
        "M" => 1 << 20,
        "G" => 1 << 30,
        _ => return Err(format!("`{text}` is not a size: write a whole number and K, M or G, such as 64M")),
    };
    scale(number, factor)
        .ok_or_else(|| format!("`{text}` is not a size: write a whole number and K, M or G, such as 64M"))
}

fn split(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()))
}

fn scale(number: &str, factor: u64) -> Option<u64> {
    number.parse::<u64>().ok()?.checked_mul(factor)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_text_is_a_quantity_or_is_refused_by_name(text in ".{0,12}") {
            for error in [parse_duration(&text).err(), parse_size(&text).err()].into_iter().flatten() {
                prop_assert!(error.contains(&text));
            }
        }

        #[test]
        fn whole_seconds_and_mebibytes_are_what_they_say(number in 0_u32..1_000_000) {
            prop_assert_eq!(parse_duration(&format!("{number}s")), Ok(Duration::from_secs(number.into())));
            prop_assert_eq!(parse_size(&format!("{number}M")), Ok(u64::from(number) << 20));
        }
    }

    #[test]
    fn durations() {
        for (text, expected) in [
            ("500ms", Some(500)),
            ("20s", Some(20_000)),
            ("5m", Some(300_000)),
            ("2h", Some(7_200_000)),
            ("20", None),
            ("s", None),
            ("-1s", None),
            ("1.5s", None),
            ("99999999999999999999s", None),
            ("18446744073709551615h", None),
        ] {
            assert_eq!(parse_duration(text).ok(), expected.map(Duration::from_millis), "{text}");
        }
    }

    #[test]
    fn sizes() {
        for (text, expected) in [
            ("64M", Some(64 << 20)),
            ("2G", Some(2 << 30)),
            ("7", Some(7)),
            ("64 M", None),
            ("M", None),
            ("1T", None),
        ] {
            assert_eq!(parse_size(text).ok(), expected, "{text}");
        }
    }
}
