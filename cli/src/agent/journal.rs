use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::Path;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify;

use super::run_directory::RunDirectory;
use super::{Entry, RunEvent};

/// Writes a run's entries, one a line.
pub(crate) struct JournalWriter {
    file: File,
    next: u64,
}

impl JournalWriter {
    pub(crate) fn create(path: &Path) -> io::Result<JournalWriter> {
        Ok(JournalWriter { file: OpenOptions::new().create_new(true).append(true).open(path)?, next: 0 })
    }

    /// Writes one entry in one call, so that a reader sees it whole or not yet.
    pub(crate) fn write(&mut self, event: RunEvent) -> io::Result<()> {
        let mut line = serde_json::to_vec(&Entry { number: self.next, event })?;
        line.push(b'\n');
        self.file.write_all(&line)?;
        self.next += 1;
        Ok(())
    }
}

/// Why following a journal came to no end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FollowError {
    #[error("cannot read the run's journal: {0}")]
    Io(#[from] io::Error),
    #[error("the run's journal has an entry that cannot be read: {0}")]
    Entry(#[from] serde_json::Error),
    #[error("the agent's worker died before the run ended{0}")]
    Died(String),
}

/// Reads a run's entries from `from` on, those that are there and those that come, to the last one.
pub(crate) fn follow(
    run: &RunDirectory,
    from: u64,
    each: &mut dyn FnMut(Entry) -> io::Result<()>,
) -> Result<(), FollowError> {
    let watch = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)
        .map_err(io::Error::from)?;
    let changes = inotify::WatchFlags::MODIFY | inotify::WatchFlags::CREATE;
    inotify::add_watch(&watch, run.path(), changes).map_err(io::Error::from)?;
    let mut file = None;
    let mut pending: Vec<u8> = Vec::new();
    loop {
        // Asked before reading: what a worker wrote before it died is read all the same.
        let alive = run.is_alive()?;
        if file.is_none() {
            match File::open(run.journal()) {
                Ok(opened) => file = Some(opened),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error.into()),
            }
        }
        if let Some(file) = &mut file {
            file.read_to_end(&mut pending)?;
        }
        while let Some(end) = pending.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = pending.drain(..=end).collect();
            let entry: Entry = serde_json::from_slice(&line)?;
            let last = matches!(entry.event, RunEvent::Ended { .. });
            if entry.number >= from {
                each(entry)?;
            }
            if last {
                return Ok(());
            }
        }
        if !alive {
            let said = std::fs::read_to_string(run.stderr()).unwrap_or_default();
            let said = said.trim();
            return Err(FollowError::Died(if said.is_empty() { String::new() } else { format!(": {said}") }));
        }
        wait(&watch)?;
    }
}

/// Waits for a change of the directory, or a quarter of a second: a worker's death changes no file.
fn wait(watch: &rustix::fd::OwnedFd) -> io::Result<()> {
    let timeout = Timespec { tv_sec: 0, tv_nsec: Duration::from_millis(250).subsec_nanos().into() };
    match poll(&mut [PollFd::new(watch, PollFlags::IN)], Some(&timeout)) {
        Ok(_) | Err(rustix::io::Errno::INTR) => {}
        Err(error) => return Err(error.into()),
    }
    let mut buffer = [const { std::mem::MaybeUninit::uninit() }; 4096];
    let mut reader = inotify::Reader::new(watch, &mut buffer);
    while reader.next().is_ok() {}
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::Ended;

    #[test]
    fn every_entry_is_seen_once_and_in_order_from_where_one_likes() {
        let dir = tempfile::tempdir().unwrap();
        let run = RunDirectory::at(dir.path().to_owned());
        let alive = run.hold_alive().unwrap();
        let mut writer = JournalWriter::create(&run.journal()).unwrap();
        let other = run.clone();
        let reader = std::thread::spawn(move || {
            let mut seen = Vec::new();
            follow(&other, 2, &mut |entry| {
                seen.push(entry.number);
                Ok(())
            })
            .unwrap();
            seen
        });
        for pid in 0..100 {
            writer.write(RunEvent::Began { pid }).unwrap();
        }
        writer.write(RunEvent::Ended { ended: Ended::default() }).unwrap();
        assert_eq!(reader.join().unwrap(), (2..=100).collect::<Vec<u64>>());
        drop(alive);
    }

    #[test]
    fn a_worker_that_died_is_no_end() {
        let dir = tempfile::tempdir().unwrap();
        let run = RunDirectory::at(dir.path().to_owned());
        let mut writer = JournalWriter::create(&run.journal()).unwrap();
        writer.write(RunEvent::Began { pid: 1 }).unwrap();
        let mut seen = 0;
        let error = follow(&run, 0, &mut |_| {
            seen += 1;
            Ok(())
        });
        assert!(matches!(error, Err(FollowError::Died(_))));
        assert_eq!(seen, 1);
    }
}
