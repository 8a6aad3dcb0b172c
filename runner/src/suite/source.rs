use toril_document::{Located, Table};

use super::Source;

/// Protocols that a host may fetch by: those that run no program that the URL names.
const PROTOCOLS: [&str; 4] = ["https://", "http://", "git://", "file:///"];

/// Reads `[source]`, if it is there.
pub(super) fn read_source(table: &mut Table<'_>) -> Option<Source> {
    let mut table = table.table("source")?;
    table.rename("`[source]`");
    let has = ["tree", "ref", "fetch"].map(|key| table.has(key));
    let imagined = table.is_imagined();
    let tree = table.string("tree").map(|text| checked(&table, text, directory));
    let reference = table.string("ref").map(|text| checked(&table, text, reference));
    let url = table.string("fetch").map(|text| checked(&table, text, url));
    let has_extras = table.has("extras");
    let extras = table.strings("extras").unwrap_or_default();
    let extras: Vec<String> = extras.into_iter().map(|text| checked(&table, text, extra)).collect();
    let place = table.span();
    let source = match has {
        [true, false, false] => tree.map(|directory| Source::Tree { directory, extras }),
        [false, true, false] => reference.map(Source::Ref),
        [false, true, true] => url.zip(reference).map(|(url, reference)| Source::Fetch { url, reference }),
        _ => {
            if !imagined {
                let help =
                    "write tree = \".\", or ref = \"…\", or fetch = \"https://…\" and ref = \"…\"".to_owned();
                table.note("S030", place.clone(), "it is not said where the tree comes from", Some(help));
            }
            None
        }
    };
    if has_extras && !has[0] && !imagined {
        table.note("S030", place, "extras are files of the working tree: only with `tree`", None);
    }
    table.finish();
    source
}

/// The text, after noting what is wrong with it.
fn checked(table: &Table<'_>, text: Located<String>, check: fn(&str) -> Result<(), String>) -> String {
    if let Err(message) = check(&text.value) {
        table.note("S030", text.span, message, None);
    }
    text.value
}

/// A directory below the repository's root.
fn directory(text: &str) -> Result<(), String> {
    let inside = text.split('/').all(|part| !matches!(part, "" | ".."));
    if inside {
        Ok(())
    } else {
        Err(format!("`{text}` must be `.` or a directory below the repository's root"))
    }
}

fn extra(text: &str) -> Result<(), String> {
    let inside =
        !text.is_empty() && !text.starts_with(['/', ':']) && text.split('/').all(|part| part != "..");
    if inside {
        Ok(())
    } else {
        Err(format!("`{text}` must be a path or pattern below the tree's directory"))
    }
}

/// What git takes for a commit and for no option.
///
/// # Errors
/// Why not.
pub fn reference(text: &str) -> Result<(), String> {
    let plain = !text.is_empty()
        && !text.starts_with('-')
        && !text.contains(|c: char| c.is_whitespace() || c.is_control());
    if plain { Ok(()) } else { Err(format!("`{text}` is no branch, tag or commit")) }
}

fn url(text: &str) -> Result<(), String> {
    let known = PROTOCOLS.iter().any(|protocol| text.len() > protocol.len() && text.starts_with(protocol));
    if known && !text.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Ok(());
    }
    Err(format!(
        "`{text}` is no URL that a host can fetch without a key: write https://…, or leave `fetch` out and the commit is sent from here"
    ))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use crate::{Source, Suite};

    fn read(source: &str) -> Result<Option<Source>, String> {
        let text = format!("[source]\n{source}\n[[test]]\nname = \"t\"\ncommand = [\"true\"]\n");
        let suite = Suite::parse("s.toml", &text, &BTreeMap::new());
        suite.map(|suite| suite.source).map_err(|problems| problems.to_string())
    }

    #[test]
    fn three_ways_to_say_where_the_tree_comes_from() {
        let tree = Source::Tree { directory: ".".into(), extras: vec!["build/*.o".into()] };
        assert_eq!(read("tree = \".\"\nextras = [\"build/*.o\"]"), Ok(Some(tree)));
        assert_eq!(read("ref = \"main\""), Ok(Some(Source::Ref("main".into()))));
        let fetch = Source::Fetch { url: "https://a.example/r.git".into(), reference: "v1".into() };
        assert_eq!(read("fetch = \"https://a.example/r.git\"\nref = \"v1\""), Ok(Some(fetch)));
    }

    #[test]
    fn what_says_no_source_is_a_mistake() {
        for (source, why) in [
            ("", "it is not said where"),
            ("tree = \".\"\nref = \"main\"", "it is not said where"),
            ("fetch = \"https://a.example/r.git\"", "it is not said where"),
            ("ref = \"main\"\nextras = [\"x\"]", "only with `tree`"),
            ("tree = \"../other\"", "below the repository's root"),
            ("tree = \"/srv\"", "below the repository's root"),
            ("tree = \".\"\nextras = [\"/etc/passwd\"]", "below the tree's directory"),
            ("tree = \".\"\nextras = [\":(top)x\"]", "below the tree's directory"),
            ("ref = \"--upload-pack=x\"", "no branch, tag or commit"),
            ("fetch = \"ext::sh -c x\"\nref = \"main\"", "no URL"),
            ("fetch = \"git@a.example:r.git\"\nref = \"main\"", "no URL"),
            ("tree = \".\"\nextra = [\"x\"]", "did you mean `extras`?"),
        ] {
            let error = read(source).unwrap_err();
            assert!(error.contains(why), "{source}: {error}");
        }
    }

    #[test]
    fn relative_kernels_and_the_source_directory_need_a_source() {
        let test = "[[test]]\nname = \"t\"\ncases = \"toril\"\n[test.guest]\nkernel = \"k.elf\"\nends = \"reset\"\nappend = \"{{ dirs.source }}\"\n";
        let error = Suite::parse("s.toml", test, &BTreeMap::new()).unwrap_err().to_string();
        assert!(
            error.contains("no absolute path") && error.contains("there is no `dirs.source` here"),
            "{error}"
        );
        let with = format!("[source]\ntree = \".\"\n{test}");
        assert!(Suite::parse("s.toml", &with, &BTreeMap::new()).is_ok());
    }
}
