use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, ioctl_fionbio};

use super::{Cast, Observer, Stream};

/// Something that can be read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    /// What a process prints, or a channel of the guest.
    Output(Pipe),
    /// What tells of the process of this number.
    Control(usize),
}

/// Where it comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pipe {
    Stdout(usize),
    Stderr(usize),
    Channel(usize),
}

/// Waits until something can be read, and says what: first what was printed, then what is told of processes, that of
/// the first process last.
pub(super) fn ready(cast: &Cast<'_>, patience: Duration) -> Vec<Source> {
    let sources = open_sources(cast);
    let mut polled: Vec<PollFd<'_>> =
        sources.iter().map(|(_, file)| PollFd::from_borrowed_fd(*file, PollFlags::IN)).collect();
    // Not less than asked for, or the last microseconds would be spent in a loop.
    let Ok(timeout) = Timespec::try_from(patience + Duration::from_micros(1)) else { return Vec::new() };
    match poll(&mut polled, Some(&timeout)) {
        Ok(_) => {}
        Err(Errno::INTR) => return Vec::new(),
        // Not to be expected; without a pause it would be a busy loop.
        Err(_) => {
            std::thread::sleep(Duration::from_millis(1));
            return Vec::new();
        }
    }
    let answers = sources.iter().zip(&polled).filter(|(_, file)| !file.revents().is_empty());
    answers.map(|((source, _), _)| *source).collect()
}

fn open_sources<'c>(cast: &'c Cast<'_>) -> Vec<(Source, BorrowedFd<'c>)> {
    let mut sources = Vec::with_capacity(4);
    for (index, (_, socket)) in cast.channels.iter().enumerate() {
        sources.extend(socket.as_ref().map(|socket| (Source::Output(Pipe::Channel(index)), socket.as_fd())));
    }
    let cells = || cast.actors.iter().enumerate().filter_map(|(i, actor)| Some((i, actor.cell.as_ref()?)));
    for (index, cell) in cells() {
        let stdout = cell.stdout.as_ref().map(AsFd::as_fd);
        let stderr = cell.stderr.as_ref().map(AsFd::as_fd);
        sources.extend(stdout.map(|file| (Source::Output(Pipe::Stdout(index)), file)));
        sources.extend(stderr.map(|file| (Source::Output(Pipe::Stderr(index)), file)));
    }
    let controls: Vec<_> =
        cells().filter_map(|(index, cell)| Some((Source::Control(index), cell.control()?))).collect();
    sources.extend(controls.into_iter().rev());
    sources
}

impl Cast<'_> {
    /// Reads once from a pipe that is ready, and forgets it at its end.
    pub(super) fn read(&mut self, pipe: Pipe, buffer: &mut [u8], observer: &mut dyn Observer) {
        match pipe {
            Pipe::Channel(index) => {
                let (stream, socket) = &mut self.channels[index];
                read(socket, buffer, |bytes| observer.take(*stream, bytes));
            }
            Pipe::Stdout(index) => {
                let stream = if index == 0 { Stream::Stdout } else { Stream::Helper(index) };
                if let Some(cell) = &mut self.actors[index].cell {
                    read(&mut cell.stdout, buffer, |bytes| observer.take(stream, bytes));
                }
            }
            Pipe::Stderr(index) => {
                let stream = if index == 0 { Stream::Stderr } else { Stream::Helper(index) };
                if let Some(cell) = &mut self.actors[index].cell {
                    read(&mut cell.stderr, buffer, |bytes| observer.take(stream, bytes));
                }
            }
        }
    }
}

fn read(source: &mut Option<impl Read>, buffer: &mut [u8], take: impl FnOnce(&[u8])) {
    match source.as_mut().map(|source| source.read(buffer)) {
        Some(Ok(count @ 1..)) => take(&buffer[..count]),
        Some(Err(error)) if matches!(error.kind(), io::ErrorKind::Interrupted) => {}
        _ => *source = None,
    }
}

/// Takes what a channel said last: unlike the pipes it was not waited for.
pub(super) fn drain(channel: &mut Option<File>, buffer: &mut [u8], mut take: impl FnMut(&[u8])) {
    if channel.as_ref().is_some_and(|channel| ioctl_fionbio(channel, true).is_err()) {
        return;
    }
    while channel.is_some() {
        read(channel, buffer, &mut take);
    }
}
