//! The machine itself.

use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;

use tokio::process::Command;

use crate::image::AgentImage;
use crate::process::{Exit, Process};
use crate::start::{Script, StartError, Sudo};

#[derive(Debug)]
pub(super) struct Local {
    /// Environment variables that the agent does not inherit.
    pub(super) hidden: Vec<String>,
}

impl Local {
    /// Starts the same script as on another host, without delivery.
    pub(super) fn start(&self, image: &AgentImage, sudo: &Sudo) -> Result<Process, StartError> {
        let script = Script::in_place(image, sudo);
        let spawn = |source: Box<dyn std::error::Error + Send + Sync>| StartError::Spawn {
            doing: "starting /bin/sh",
            source,
        };
        let mut command = Command::new("/bin/sh");
        for name in &self.hidden {
            command.env_remove(name);
        }
        let mut child = command
            .args(["-c", &script.user, "toril", &script.root])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| spawn(error.into()))?;
        let (Some(stdin), Some(stdout), Some(stderr)) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            return Err(spawn("it has no standard streams".into()));
        };
        let ending = async move {
            match child.wait().await {
                Ok(status) => match (status.code(), status.signal()) {
                    (Some(code), _) => Exit::Status(code),
                    (None, Some(_)) => Exit::Killed,
                    (None, None) => Exit::Unknown,
                },
                Err(_) => Exit::Unknown,
            }
        };
        Ok(Process {
            stdin: Box::new(stdin),
            stdout: Box::new(stdout),
            stderr: Box::new(stderr),
            ending: Box::pin(ending),
        })
    }
}
