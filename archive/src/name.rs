/// Longer paths are not taken, in bytes: Linux knows none.
pub(crate) const LONGEST: usize = 4095;

/// Longer names of a file or directory are not taken, in bytes: Linux knows none.
const LONGEST_PART: usize = 255;

/// The parts of a path that stays inside of the directory it starts from, or what is wrong with it.
///
/// # Errors
/// The path is empty, too long or absolute, or has `.`, `..`, an empty part, or a NUL.
pub fn relative(path: &[u8]) -> Result<Vec<&[u8]>, &'static str> {
    // A directory's may end with it.
    let path = path.strip_suffix(b"/").unwrap_or(path);
    if path.is_empty() {
        return Err("it is empty");
    }
    if path.len() > LONGEST {
        return Err("it is too long");
    }
    if path.first() == Some(&b'/') {
        return Err("it is absolute");
    }
    let mut parts = Vec::new();
    for part in path.split(|byte| *byte == b'/') {
        match part {
            b"" => return Err("it has an empty part"),
            b"." | b".." => return Err("it has a part that is `.` or `..`"),
            _ if part.contains(&0) => return Err("it has a NUL"),
            _ if part.len() > LONGEST_PART => return Err("it has a part that is too long"),
            _ => parts.push(part),
        }
    }
    Ok(parts)
}

/// Whether a symbolic link in a directory so many levels below the tree's top may lead out of the tree.
///
/// `..` counts only at the target's beginning, where it leads through real directories. Later, after another link, it
/// could lead anywhere: such a target is said to lead out, wherever it does.
#[must_use]
pub fn leads_out(depth: usize, target: &[u8]) -> bool {
    if target.is_empty() || target.len() > LONGEST || target.first() == Some(&b'/') || target.contains(&0) {
        return true;
    }
    let mut parts = target.split(|byte| *byte == b'/').filter(|part| !matches!(*part, b"" | b"."));
    let mut up = 0;
    let inside = loop {
        match parts.next() {
            Some(b"..") => up += 1,
            _ => break parts.all(|part| part != b".."),
        }
    };
    up > depth || !inside
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_stay_inside() {
        assert_eq!(relative(b"a/b c/d").unwrap(), [&b"a"[..], b"b c", b"d"]);
        assert_eq!(relative(b"a/").unwrap(), [&b"a"[..]]);
        let long = vec![b'x'; 256];
        let longer = b"ab/".repeat(2000);
        for path in
            [&b""[..], b"/", b"/etc", b"..", "a/../b".as_bytes(), b"./a", b"a//b", b"a\0b", &long, &longer]
        {
            assert!(relative(path).is_err(), "{:?}", String::from_utf8_lossy(path));
        }
    }

    #[test]
    fn links_that_lead_out() {
        for (depth, target) in
            [(0, "a"), (0, "a/b"), (1, "../a"), (2, "../../a"), (1, "./../a"), (3, ".."), (0, ".")]
        {
            assert!(!leads_out(depth, target.as_bytes()), "{depth} {target}");
        }
        for (depth, target) in [
            (0, ".."),
            (0, "/etc/passwd"),
            (1, "../../a"),
            (2, "a/../b"),
            (1, "../a/.."),
            (0, ""),
            (0, "a\0"),
        ] {
            assert!(leads_out(depth, target.as_bytes()), "{depth} {target}");
        }
    }
}
