use std::fmt;
use std::fs;
use std::io;
use std::path::PathBuf;

/// Where a secret is. The secret itself stands in no inventory, and is read when it is needed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Secret {
    /// In this environment variable.
    Environment(String),
    /// In this file; a line's end at its end is not part of it.
    File(PathBuf),
}

/// A secret could not be read. What it is, is never told.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// Nobody has set the variable.
    #[error("the environment variable {0} is not set")]
    NotSet(String),
    /// The variable is empty, or no text.
    #[error("the environment variable {0} is empty or no text")]
    Unfit(String),
    /// The file cannot be read.
    #[error("cannot read the secret in {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// There is nothing in the file.
    #[error("there is no secret in {}: it is empty", .0.display())]
    Empty(PathBuf),
}

impl Secret {
    /// Reads it.
    ///
    /// # Errors
    /// It is not there, or empty.
    pub fn read(&self) -> Result<String, SecretError> {
        match self {
            Secret::Environment(name) => match std::env::var(name) {
                Ok(value) if !value.is_empty() => Ok(value),
                Ok(_) | Err(std::env::VarError::NotUnicode(_)) => Err(SecretError::Unfit(name.clone())),
                Err(std::env::VarError::NotPresent) => Err(SecretError::NotSet(name.clone())),
            },
            Secret::File(path) => {
                let text = fs::read_to_string(path)
                    .map_err(|source| SecretError::Read { path: path.clone(), source })?;
                let secret = text.strip_suffix('\n').unwrap_or(&text);
                let secret = secret.strip_suffix('\r').unwrap_or(secret);
                match secret {
                    "" => Err(SecretError::Empty(path.clone())),
                    secret => Ok(secret.to_owned()),
                }
            }
        }
    }
}

impl fmt::Display for Secret {
    /// Where it is, never what it is.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Secret::Environment(name) => write!(f, "the environment variable {name}"),
            Secret::File(path) => write!(f, "the file {}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_a_file_without_its_last_line_end() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("secret");
        let read = |content: &str| {
            fs::write(&path, content).unwrap();
            Secret::File(path.clone()).read()
        };
        assert_eq!(read("pass word\n").unwrap(), "pass word");
        assert_eq!(read("two\n\r\n").unwrap(), "two\n");
        assert!(matches!(read("\n"), Err(SecretError::Empty(_))));
        let absent = Secret::File(directory.path().join("absent")).read().unwrap_err();
        assert!(absent.to_string().starts_with("cannot read the secret in /"), "{absent}");
        let unset = Secret::Environment("TORIL_TEST_NO_SUCH".into()).read().unwrap_err();
        assert_eq!(unset.to_string(), "the environment variable TORIL_TEST_NO_SUCH is not set");
    }
}
