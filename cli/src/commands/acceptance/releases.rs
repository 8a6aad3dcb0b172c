//! What toril takes each Debian release to be. Where only an imitation could be had, this is what a real host proves.

/// What a package's version begins with there, epoch and all.
pub(super) struct Expected {
    /// The package.
    pub(super) package: &'static str,
    /// With what its version begins, up to a part.
    pub(super) version: &'static str,
}

const fn of(package: &'static str, version: &'static str) -> Expected {
    Expected { package, version }
}

/// By `VERSION_ID`: the kernel's series, and packages of the release itself.
const RELEASES: [(&str, &str, [Expected; 4]); 4] = [
    ("10", "4.19", [of("apt", "1.8"), of("libc6", "2.28"), of("systemd", "241"), of("python3", "3.7")]),
    ("11", "5.10", [of("apt", "2.2"), of("libc6", "2.31"), of("systemd", "247"), of("python3", "3.9")]),
    ("12", "6.1", [of("apt", "2.6"), of("libc6", "2.36"), of("systemd", "252"), of("python3", "3.11")]),
    ("13", "6.12", [of("apt", "3.0"), of("libc6", "2.41"), of("systemd", "257"), of("python3", "3.13")]),
];

/// Of a release: its kernel's series, and its packages.
pub(super) fn expected(version: &str) -> Option<(&'static str, &'static [Expected])> {
    let (_, kernel, packages) = RELEASES.iter().find(|(release, ..)| *release == version)?;
    Some((*kernel, packages))
}

/// Whether a version is of a series: 4.19.0-27 is of 4.19, and not of 4.1.
pub(super) fn is_of(version: &str, series: &str) -> bool {
    version.strip_prefix(series).is_some_and(|rest| !rest.starts_with(|c: char| c.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series() {
        for (version, series, expected) in [
            ("4.19.0-27-cloud-amd64", "4.19", true),
            ("6.12.1", "6.1", false),
            ("6.1", "6.1", true),
            ("1.8.2.3", "1.8", true),
            ("241-7~deb10u8", "241", true),
        ] {
            assert_eq!(is_of(version, series), expected, "{version} {series}");
        }
    }
}
