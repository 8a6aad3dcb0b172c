//! What archives are packed with, and how they are read. What the program itself cannot unpack, the host's own program
//! does, as a user who may do nothing.

use std::fs::File;
use std::io::{self, Read, Seek};
use std::process::{Child, ChildStdout, Command, Stdio};

use flate2::read::MultiGzDecoder;
use toril_machine::{Machine, Probe, STANDARD_PATH};

use crate::resource::ResourceError;

/// Address space for unpacking, in bytes: `xz -9`, the largest that `xz` makes by itself, takes 65 MiB.
const MEMORY: u64 = 512 << 20;

/// Processor time for unpacking, in seconds.
const PATIENCE: u64 = 3600;

/// How much of what the program says is shown, in bytes.
const MOST_SAID: u64 = 1000;

/// What a tar is packed with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Plain,
    Gzip,
    Xz,
    Zstd,
}

/// The format's name, and how names of such files end.
const FORMATS: [(Format, &str, &[&str]); 4] = [
    (Format::Plain, "tar", &[".tar"]),
    (Format::Gzip, "tar.gz", &[".tar.gz", ".tgz"]),
    (Format::Xz, "tar.xz", &[".tar.xz", ".txz"]),
    (Format::Zstd, "tar.zst", &[".tar.zst"]),
];

impl Format {
    pub(super) fn named(text: &str) -> Result<Format, String> {
        let found = FORMATS.iter().find(|(_, name, _)| *name == text);
        found.map(|(format, ..)| *format).ok_or_else(|| {
            let names: Vec<&str> = FORMATS.iter().map(|(_, name, _)| *name).collect();
            format!("`{text}` is no format that can be unpacked: {}", names.join(", "))
        })
    }

    pub(super) fn of_file(path: &str) -> Option<Format> {
        let ends = |ends: &[&str]| ends.iter().any(|end| path.ends_with(end));
        FORMATS.iter().find(|(.., endings)| ends(endings)).map(|(format, ..)| *format)
    }

    /// The program that unpacks it, the options that bound its memory, and its package.
    fn program(self) -> Option<(&'static [&'static str], &'static str)> {
        match self {
            Format::Plain | Format::Gzip => None,
            Format::Xz => {
                Some((&["xz", "--decompress", "--stdout", "--memlimit-decompress=256MiB"], "xz-utils"))
            }
            Format::Zstd => Some((&["zstd", "--decompress", "--stdout", "--memory=256MB"], "zstd")),
        }
    }
}

/// The bytes of the tar.
pub(super) enum Stream {
    Plain(File),
    Gzip(MultiGzDecoder<File>),
    Program(Program),
}

/// A program that unpacks, and ends with this value.
pub(super) struct Program {
    child: Child,
    stdout: Option<ChildStdout>,
    said: File,
}

impl Stream {
    /// Begins at the file's beginning.
    pub(super) fn open(format: Format, mut file: File, machine: &Machine) -> Result<Stream, ResourceError> {
        file.rewind().map_err(ResourceError::new)?;
        let Some((words, package)) = format.program() else {
            return Ok(match format {
                Format::Gzip => Stream::Gzip(MultiGzDecoder::new(file)),
                _ => Stream::Plain(file),
            });
        };
        if machine.find_program(words[0]).is_none() {
            let text = format!("there is no `{}` on the host: have the recipe install `{package}`", words[0]);
            return Err(ResourceError(text));
        }
        let nobody = match machine.user("nobody") {
            Probe::Known(user) => user,
            Probe::Absent => return Err(ResourceError("there is no user `nobody` to unpack as".into())),
            Probe::Unreadable(reason) => return Err(ResourceError(reason)),
        };
        let limits = [
            format!("--as={MEMORY}"),
            format!("--cpu={PATIENCE}"),
            // What it says goes into a file.
            "--fsize=65536".into(),
            "--core=0".into(),
            "--".into(),
            "setpriv".into(),
            format!("--reuid={}", nobody.uid),
            format!("--regid={}", nobody.gid),
            "--clear-groups".into(),
            "--no-new-privs".into(),
            "--".into(),
        ];
        let said = tempfile::tempfile().map_err(ResourceError::new)?;
        let stderr = said.try_clone().map_err(ResourceError::new)?;
        let mut command = Command::new("prlimit");
        command.args(limits).args(words).env_clear().env("LC_ALL", "C").env("PATH", STANDARD_PATH);
        command.current_dir("/").stdin(file).stdout(Stdio::piped()).stderr(stderr);
        let failed = |error| ResourceError(format!("cannot run `{}`: {error}", words[0]));
        let mut child = command.spawn().map_err(failed)?;
        let stdout = child.stdout.take();
        Ok(Stream::Program(Program { child, stdout, said }))
    }

    /// Whether all of it was there and good, once it is read to its end.
    pub(super) fn finish(self) -> Result<(), ResourceError> {
        let Stream::Program(mut program) = self else { return Ok(()) };
        // It is not held up by what nobody reads.
        drop(program.stdout.take());
        let status = program.child.wait().map_err(ResourceError::new)?;
        match status.success() {
            true => Ok(()),
            false => Err(ResourceError(format!("{}{status}", program.words()))),
        }
    }

    /// What the program said of why it could not go on, to be put before another reason; empty where it said nothing.
    pub(super) fn complaint(self) -> String {
        match self {
            Stream::Program(mut program) => {
                // It may still be about to say it.
                drop(program.stdout.take());
                let _ = program.child.wait();
                program.words()
            }
            _ => String::new(),
        }
    }
}

impl Program {
    fn words(&mut self) -> String {
        let mut said = Vec::new();
        let read = self.said.rewind().and_then(|()| (&self.said).take(MOST_SAID).read_to_end(&mut said));
        let said = String::from_utf8_lossy(&said);
        match (read, said.lines().find(|line| !line.trim().is_empty())) {
            (Ok(_), Some(line)) => format!("{}: ", line.trim()),
            _ => String::new(),
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Plain(file) => file.read(buffer),
            Stream::Gzip(file) => file.read(buffer),
            Stream::Program(program) => program.stdout.as_mut().map_or(Ok(0), |stdout| stdout.read(buffer)),
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
