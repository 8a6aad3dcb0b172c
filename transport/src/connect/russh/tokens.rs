//! Names of files in ssh's configuration, and what stands for other words in them (TOKENS of ssh_config(5)).

use std::path::PathBuf;

use super::super::error::ConnectError;
use super::super::user::database_name;

/// What the tokens of a host stand for.
pub(super) struct Tokens<'h> {
    /// The host as it was given.
    pub(super) given: &'h str,
    /// The name or address that is connected to.
    pub(super) host: &'h str,
    pub(super) port: u16,
    pub(super) user: &'h str,
}

impl Tokens<'_> {
    /// The file of this name. What is not understood must not become the name of a file that is not there.
    pub(super) fn file(&self, name: &str) -> Result<PathBuf, ConnectError> {
        if name.contains("${") {
            return Err(beyond(name, "a variable of the environment"));
        }
        let text = with_home(name)?;
        let mut all = String::new();
        let mut rest = text.as_str();
        while let Some((before, after)) = rest.split_once('%') {
            all += before;
            let mut after = after.chars();
            let token = after.next();
            let word = token.and_then(|token| self.word(token));
            all += &word.ok_or_else(|| beyond(name, &format!("%{}", token.unwrap_or(' '))))?;
            rest = after.as_str();
        }
        Ok(PathBuf::from(all + rest))
    }

    fn word(&self, token: char) -> Option<String> {
        Some(match token {
            '%' => "%".into(),
            'd' => home_text(),
            'h' => self.host.to_ascii_lowercase(),
            'i' => rustix::process::getuid().as_raw().to_string(),
            // A HostKeyAlias would be the other one, and is not taken.
            'k' | 'n' => self.given.into(),
            'p' => self.port.to_string(),
            'r' => self.user.into(),
            'u' => database_name()?,
            _ => return None,
        })
    }
}

/// A name with the user's home in place of a `~` at its beginning.
pub(super) fn with_home(name: &str) -> Result<String, ConnectError> {
    match name.strip_prefix('~') {
        Some(rest) if rest.is_empty() || rest.starts_with('/') => Ok(home_text() + rest),
        Some(_) => Err(beyond(name, "another user's home")),
        None => Ok(name.to_owned()),
    }
}

pub(super) fn home() -> Option<PathBuf> {
    std::env::var_os("HOME").filter(|home| !home.is_empty()).map(PathBuf::from)
}

fn home_text() -> String {
    home().map_or_else(String::new, |home| home.display().to_string())
}

fn beyond(name: &str, what: &str) -> ConnectError {
    ConnectError::NeedsOpenssh { what: format!("{what} in the file name `{name}`") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_understood_is_filled_in_and_all_else_is_refused() {
        let tokens = Tokens { given: "Web", host: "Web.example.com", port: 2222, user: "debian" };
        let of = |name: &str| tokens.file(name).map(|file| file.display().to_string());
        let (home, id) = (home_text(), rustix::process::getuid().as_raw());
        for (name, expected) in [
            ("/k/%k-%n.%h_%p", "/k/Web-Web.web.example.com_2222".to_owned()),
            ("~/.ssh/%r%%h", format!("{home}/.ssh/debian%h")),
            ("%d/%i", format!("{home}/{id}")),
            ("plain~", "plain~".into()),
        ] {
            assert_eq!(of(name).unwrap(), expected, "{name}");
        }
        for (name, what) in [
            ("~/%C", "%C in the file name `~/%C`"),
            ("/x%", "% "),
            ("/x/${USER}", "a variable"),
            ("~anna/x", "another user's home"),
        ] {
            let error = of(name).unwrap_err();
            assert!(
                matches!(&error, ConnectError::NeedsOpenssh { what: said } if said.starts_with(what)),
                "{error}"
            );
        }
    }
}
