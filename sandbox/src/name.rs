use crate::Error;

/// A name is a directory, a host name and an argument at once.
pub(crate) fn check(name: &str) -> Result<(), Error> {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let good = (1..=32).contains(&name.len()) && !name.starts_with('-') && name.bytes().all(allowed);
    if good { Ok(()) } else { Err(Error::BadName(name.to_owned())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_a_host_name_and_no_option() {
        for good in ["a", "0", "a-b", "sandbox", &"x".repeat(32)] {
            assert!(check(good).is_ok(), "{good}");
        }
        for bad in ["", "-a", "A", "a.b", "../a", "a/b", "a b", "ä", &"x".repeat(33)] {
            assert!(check(bad).is_err(), "{bad}");
        }
    }
}
