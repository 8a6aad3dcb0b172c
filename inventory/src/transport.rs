use std::fmt;

use serde::{Deserialize, Serialize};

/// What carries a connection over ssh.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// The user's own `ssh`.
    Openssh,
    /// The ssh client that is built in.
    Russh,
}

impl Transport {
    /// Reads `openssh` or `russh`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Transport> {
        match text {
            "openssh" => Some(Transport::Openssh),
            "russh" => Some(Transport::Russh),
            _ => None,
        }
    }

    /// As [`Transport::parse`] reads it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Transport::Openssh => "openssh",
            Transport::Russh => "russh",
        }
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Whether a text is a fingerprint of a host's key: `SHA256:` and 43 characters of base64.
#[must_use]
pub fn is_fingerprint(text: &str) -> bool {
    text.strip_prefix("SHA256:").is_some_and(|hash| {
        hash.len() == 43 && hash.chars().all(|c| c.is_ascii_alphanumeric() || c == '+' || c == '/')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_is_whole() {
        assert!(is_fingerprint("SHA256:xgNbb8n0lYodJuoYwkZUTWh7crS13b94GZHuoAJgWNM"));
        for wrong in ["", "SHA256:", "SHA256:abc", "MD5:aa:bb", "xgNbb8n0lYodJuoYwkZUTWh7crS13b94GZHuoAJgWNM"]
        {
            assert!(!is_fingerprint(wrong), "{wrong}");
        }
    }
}
