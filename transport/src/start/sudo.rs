//! Becoming root, and why it did not work.

use std::fmt;

use super::error::StartError;

/// What sudo is told to ask with, so that its question can be told from everything else.
pub(crate) const PROMPT: &str = "toril-sudo-prompt:";

/// How to become root where the login user is not. A login as root never needs it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Sudo {
    /// Sudo must not ask for a password.
    #[default]
    WithoutPassword,
    /// This password is sent if sudo asks for one.
    Password(Password),
}

/// A password; it is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(String);

impl Password {
    /// The password as it was typed, without the line end.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// As sudo reads it.
    pub(super) fn line(&self) -> Vec<u8> {
        format!("{}\n", self.0).into_bytes()
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(…)")
    }
}

impl Sudo {
    /// Options of sudo, as shell text.
    pub(super) fn options(&self) -> &'static str {
        match self {
            Sudo::WithoutPassword => "-n",
            // The prompt has no character that a shell knows.
            Sudo::Password(_) => "-S -p toril-sudo-prompt:",
        }
    }
}

type Reason = fn() -> StartError;

/// Texts of sudo 1.8 to 1.9 and of sudo-rs in the C locale, in the order in which they decide.
const REASONS: &[(&str, Reason)] = &[
    ("you must have a tty to run sudo", || StartError::TtyRequired),
    ("is not in the sudoers file", || StartError::NotAllowed),
    ("is not allowed to run sudo on", || StartError::NotAllowed),
    ("may not run sudo on", || StartError::NotAllowed),
    ("is not allowed to execute", || StartError::NotAllowed),
    ("I'm afraid I can't do that", || StartError::NotAllowed),
    ("incorrect password attempt", || StartError::WrongPassword),
    ("incorrect authentication attempt", || StartError::WrongPassword),
    ("Sorry, try again", || StartError::WrongPassword),
    ("no password was provided", || StartError::PasswordNeeded),
    ("a password is required", || StartError::PasswordNeeded),
    ("interactive authentication is required", || StartError::PasswordNeeded),
    ("a terminal is required to read the password", || StartError::PasswordNeeded),
    ("no tty present and no askpass program specified", || StartError::PasswordNeeded),
];

/// What sudo's words mean, if they are known ones.
pub(super) fn classify(stderr: &str) -> Option<StartError> {
    REASONS.iter().find(|(text, _)| stderr.contains(text)).map(|(_, error)| error())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reasons_of_sudo_are_told_apart() {
        for (stderr, expected) in [
            // Debian 10: sudo 1.8.27
            ("sudo: no tty present and no askpass program specified", "PasswordNeeded"),
            ("sudo: sorry, you must have a tty to run sudo", "TtyRequired"),
            // Debian 11 to 13: sudo 1.9
            (
                "sudo: unable to resolve host box: Name or service not known\nsudo: a password is required",
                "PasswordNeeded",
            ),
            (
                "sudo: a terminal is required to read the password; either use the -S option to read from standard input or configure an askpass helper\nsudo: a password is required",
                "PasswordNeeded",
            ),
            ("anna is not in the sudoers file.", "NotAllowed"),
            ("anna is not in the sudoers file.  This incident will be reported.", "NotAllowed"),
            ("Sorry, user anna is not allowed to execute '/bin/sh -c x' as root on box.", "NotAllowed"),
            ("Sorry, user anna may not run sudo on box.", "NotAllowed"),
            (
                "Sorry, try again.\nsudo: no password was provided\nsudo: 1 incorrect password attempt",
                "WrongPassword",
            ),
            ("sudo: 3 incorrect password attempts", "WrongPassword"),
            // sudo-rs
            ("sudo: interactive authentication is required", "PasswordNeeded"),
            ("I'm sorry anna. I'm afraid I can't do that", "NotAllowed"),
        ] {
            let error = classify(stderr).map(|error| format!("{error:?}"));
            assert_eq!(error.as_deref(), Some(expected), "{stderr}");
        }
        assert!(classify("sudo: error in /etc/sudo.conf, line 0").is_none());
        assert!(classify("").is_none());
    }

    #[test]
    fn a_password_is_not_shown() {
        let shown = format!("{:?}", Sudo::Password(Password::new("secret".into())));
        assert!(!shown.contains("secret"), "{shown}");
    }

    #[test]
    fn the_prompt_in_the_options_is_the_one_that_is_waited_for() {
        assert_eq!(Sudo::Password(Password::new(String::new())).options(), format!("-S -p {PROMPT}"));
    }
}
