use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify;
use toril_machine::keep_room;

use super::run_directory::RunDirectory;
use super::{Entry, RunEvent};

/// How much room on the disk a journal has in advance, in bytes: a run that fills the disk can still tell of it.
const ROOM: u64 = 2 << 20;

/// How long a worker may take to begin.
pub(super) const BEGINNING: Duration = Duration::from_secs(10);

/// Makes the journal of a run that is to begin, and room for it on the disk.
pub(super) fn prepare(run: &RunDirectory) -> io::Result<()> {
    // A front that died may have made it already.
    let file = OpenOptions::new().create(true).append(true).open(run.prepared_journal())?;
    keep_room(&file, ROOM)
}

/// Writes a run's entries, one a line.
pub(crate) struct JournalWriter {
    file: File,
    next: u64,
    /// Of the entries that were written whole, in bytes.
    length: u64,
    /// Up to where the disk has room for sure.
    room: u64,
}

impl JournalWriter {
    /// Begins the journal that was prepared.
    pub(crate) fn begin(run: &RunDirectory) -> io::Result<JournalWriter> {
        let file = OpenOptions::new().append(true).open(run.prepared_journal())?;
        std::fs::rename(run.prepared_journal(), run.journal())?;
        Ok(JournalWriter { file, next: 0, length: 0, room: ROOM })
    }

    /// Goes on with the journal of a worker that was killed, from its last whole entry. `None`: it has its end.
    pub(super) fn resume(run: &RunDirectory) -> io::Result<Option<JournalWriter>> {
        let mut file = OpenOptions::new().read(true).append(true).open(run.journal())?;
        let mut text = Vec::new();
        file.read_to_end(&mut text)?;
        text.truncate(whole(&text).len());
        let last = last_entry(&text)?;
        if let Some(Entry { event: RunEvent::Ended { .. }, .. }) = last {
            return Ok(None);
        }
        let length = text.len() as u64;
        if length < file.metadata()?.len() {
            file.set_len(length)?;
        }
        let next = last.map_or(0, |entry| entry.number + 1);
        // What of the worker's room is left is not known, and the last entries are written without any as well.
        Ok(Some(JournalWriter { file, next, length, room: length }))
    }

    /// Writes one entry in one call, so that a reader sees it whole or not yet.
    pub(crate) fn write(&mut self, event: RunEvent) -> io::Result<()> {
        let can_be_missed = matches!(
            event,
            RunEvent::Provision { event: toril_provisioner::Event::Progress { .. } }
                | RunEvent::Test { event: toril_runner::Event::Output { .. } }
        );
        let mut line = serde_json::to_vec(&Entry { number: self.next, event })?;
        line.push(b'\n');
        let end = self.length + line.len() as u64;
        if end + ROOM / 4 > self.room {
            match keep_room(&self.file, ROOM) {
                Ok(()) => self.room = self.length + ROOM,
                // The last of the room is for what must be told.
                Err(_) if can_be_missed => return Ok(()),
                Err(_) => {}
            }
        }
        if let Err(error) = self.file.write_all(&line) {
            // What half of it was written would spoil the next.
            self.file.set_len(self.length)?;
            return Err(error);
        }
        self.length = end;
        self.next += 1;
        Ok(())
    }
}

impl Drop for JournalWriter {
    fn drop(&mut self) {
        // Frees the room that was not used; it is no more than some room.
        let _ = self.file.set_len(self.length);
    }
}

/// Whether a run's journal has its end. One that is not begun has none.
pub(super) fn has_ended(run: &RunDirectory) -> io::Result<bool> {
    match std::fs::read(run.journal()) {
        Ok(text) => {
            let last = last_entry(whole(&text))?;
            Ok(last.is_some_and(|entry| matches!(entry.event, RunEvent::Ended { .. })))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// A journal without what of an entry is not finished.
fn whole(text: &[u8]) -> &[u8] {
    text.get(..text.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1)).unwrap_or_default()
}

fn last_entry(text: &[u8]) -> io::Result<Option<Entry>> {
    let last = text.split(|byte| *byte == b'\n').rfind(|line| !line.is_empty());
    Ok(last.map(serde_json::from_slice).transpose()?)
}

/// Why following a journal came to no end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FollowError {
    #[error("cannot read the run's journal: {0}")]
    Io(#[from] io::Error),
    #[error("the run's journal has an entry that cannot be read: {0}")]
    Entry(#[from] serde_json::Error),
    #[error(
        "the run cannot be told to its end: {error}; `{journal}` on the host has all of it, one entry a line"
    )]
    TooLarge { error: String, journal: String },
    #[error("the agent's worker died before the run ended{0}; give the same command again")]
    Died(String),
}

/// Reads a run's entries from `from` on, those that are there and those that come, to the last one or until nobody
/// wants them any more.
pub(crate) fn follow(
    run: &RunDirectory,
    from: u64,
    unwanted: &AtomicBool,
    each: &mut dyn FnMut(Entry) -> Result<(), FollowError>,
) -> Result<(), FollowError> {
    let watch = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)
        .map_err(io::Error::from)?;
    let changes = inotify::WatchFlags::MODIFY | inotify::WatchFlags::MOVED_TO;
    inotify::add_watch(&watch, run.path(), changes).map_err(io::Error::from)?;
    let mut file = None;
    let mut consumed = 0;
    let begun = Instant::now();
    while !unwanted.load(Ordering::Relaxed) {
        // Asked before reading: what a worker wrote before it died is read all the same.
        let alive = run.is_alive()?;
        if file.is_none() {
            match File::open(run.journal()) {
                Ok(opened) => file = Some(opened),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error.into()),
            }
        }
        let mut read = Vec::new();
        if let Some(file) = &mut file {
            // Half an entry is read again when it is whole: one that its writer could not finish is taken back.
            file.seek(SeekFrom::Start(consumed))?;
            file.read_to_end(&mut read)?;
        }
        for line in read.split_inclusive(|byte| *byte == b'\n').filter(|line| line.ends_with(b"\n")) {
            consumed += line.len() as u64;
            let entry: Entry = serde_json::from_slice(line)?;
            let last = matches!(entry.event, RunEvent::Ended { .. });
            if entry.number >= from {
                each(entry)?;
            }
            if last {
                return Ok(());
            }
        }
        // Without a journal, its worker may be about to begin.
        if !alive && (file.is_some() || begun.elapsed() > BEGINNING) {
            let said = std::fs::read_to_string(run.stderr()).unwrap_or_default();
            let said = said.trim();
            return Err(FollowError::Died(if said.is_empty() { String::new() } else { format!(": {said}") }));
        }
        wait(&watch)?;
    }
    Ok(())
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

    static WANTED: AtomicBool = AtomicBool::new(false);

    fn begin(run: &RunDirectory) -> JournalWriter {
        prepare(run).unwrap();
        JournalWriter::begin(run).unwrap()
    }

    #[test]
    fn every_entry_is_seen_once_and_in_order_from_where_one_likes() {
        let dir = tempfile::tempdir().unwrap();
        let run = RunDirectory::at(dir.path().to_owned());
        let other = run.clone();
        // It follows before there is anything to follow.
        let reader = std::thread::spawn(move || {
            let mut seen = Vec::new();
            follow(&other, 2, &WANTED, &mut |entry| {
                seen.push(entry.number);
                Ok(())
            })
            .unwrap();
            seen
        });
        std::thread::sleep(Duration::from_millis(50));
        let alive = run.hold_alive().unwrap();
        let mut writer = begin(&run);
        for pid in 0..100 {
            writer.write(RunEvent::Began { pid }).unwrap();
        }
        writer.write(RunEvent::Ended { ended: Ended::default() }).unwrap();
        assert_eq!(reader.join().unwrap(), (2..=100).collect::<Vec<u64>>());
        drop(alive);
    }

    #[test]
    fn a_run_that_has_told_its_end_is_not_at_work_though_its_worker_is_still_there() {
        let dir = tempfile::tempdir().unwrap();
        let run = RunDirectory::at(dir.path().to_owned());
        let _alive = run.hold_alive().unwrap();
        let mut writer = begin(&run);
        writer.write(RunEvent::Began { pid: 1 }).unwrap();
        assert!(run.is_at_work().unwrap());
        writer.write(RunEvent::Ended { ended: Ended::default() }).unwrap();
        assert!(run.has_worker().unwrap() && !run.is_at_work().unwrap());
    }

    #[test]
    fn a_worker_that_died_is_no_end() {
        let dir = tempfile::tempdir().unwrap();
        let run = RunDirectory::at(dir.path().to_owned());
        begin(&run).write(RunEvent::Began { pid: 1 }).unwrap();
        let mut seen = 0;
        let error = follow(&run, 0, &WANTED, &mut |_| {
            seen += 1;
            Ok(())
        });
        assert!(matches!(error, Err(FollowError::Died(_))));
        assert_eq!(seen, 1);
    }

    #[test]
    fn a_killed_workers_journal_is_gone_on_with_and_read_over_what_it_could_not_finish() {
        let dir = tempfile::tempdir().unwrap();
        let run = RunDirectory::at(dir.path().to_owned());
        let alive = run.hold_alive().unwrap();
        let mut writer = begin(&run);
        writer.write(RunEvent::Began { pid: 1 }).unwrap();
        writer.file.write_all(b"{\"number\":1,\"event\":{\"kind\":\"waiting\",\"hol").unwrap();
        let other = run.clone();
        let reader = std::thread::spawn(move || {
            let mut seen = Vec::new();
            follow(&other, 0, &WANTED, &mut |entry| {
                seen.push(entry.number);
                Ok(())
            })
            .unwrap();
            seen
        });
        std::thread::sleep(Duration::from_millis(50));
        std::mem::forget(writer);
        let mut writer = JournalWriter::resume(&run).unwrap().unwrap();
        writer.write(RunEvent::Failed { error: "killed".into() }).unwrap();
        writer.write(RunEvent::Ended { ended: Ended::default() }).unwrap();
        assert_eq!(reader.join().unwrap(), [0, 1, 2]);
        assert!(JournalWriter::resume(&run).unwrap().is_none(), "an end is written once");
        drop(alive);
    }

    #[test]
    fn a_reader_that_went_away_ends_the_following() {
        let dir = tempfile::tempdir().unwrap();
        let run = RunDirectory::at(dir.path().to_owned());
        let _alive = run.hold_alive().unwrap();
        begin(&run).write(RunEvent::Began { pid: 1 }).unwrap();
        let begun = Instant::now();
        let unwanted = AtomicBool::new(false);
        let followed = follow(&run, 0, &unwanted, &mut |_| {
            unwanted.store(true, Ordering::Relaxed);
            Ok(())
        });
        assert!(followed.is_ok() && begun.elapsed() < Duration::from_secs(5));
    }

    #[test]
    fn a_journal_frees_the_room_that_it_did_not_use() {
        use std::os::unix::fs::MetadataExt;
        let dir = tempfile::tempdir().unwrap();
        let run = RunDirectory::at(dir.path().to_owned());
        let mut writer = begin(&run);
        for pid in 0..100 {
            writer.write(RunEvent::Began { pid }).unwrap();
        }
        drop(writer);
        let blocks = run.journal().metadata().unwrap().blocks();
        assert!(blocks * 512 < ROOM / 2, "{blocks}");
    }
}
