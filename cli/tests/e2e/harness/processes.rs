//! Processes of this machine.

use std::fmt::Write;
use std::fs;

/// Every process below this one on this machine, itself not included.
pub(crate) fn descendants(ancestor: u32) -> Vec<u32> {
    let numbers =
        fs::read_dir("/proc").unwrap().filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok());
    let parents: Vec<(u32, u32)> = numbers.filter_map(|pid| Some((pid, parent(pid)?))).collect();
    let mut found = vec![ancestor];
    let mut next = 0;
    while next < found.len() {
        let of = found[next];
        found.extend(parents.iter().filter(|(_, parent)| *parent == of).map(|(pid, _)| pid));
        next += 1;
    }
    found.split_off(1)
}

/// The process that a process was made by, or was inherited by; none for one that has ended.
pub(crate) fn parent(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()
}

/// Empty for a process that has ended.
pub(crate) fn command_line(pid: u32) -> String {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let mut line = String::new();
    for word in bytes.split(|byte| *byte == 0).filter(|word| !word.is_empty()) {
        let space = if line.is_empty() { "" } else { " " };
        write!(line, "{space}{}", String::from_utf8_lossy(word)).unwrap();
    }
    line
}
