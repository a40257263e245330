//! Joins a script of `lua/` with what it includes.

/// How a line begins that names files of `lua/include/`. They stand in its place.
pub(super) const LINE: &str = "-- Includes: ";

macro_rules! files {
    ($($name:literal),+ $(,)?) => {
        &[$(($name, include_str!(concat!("../../../lua/include/", $name, ".lua")))),+]
    };
}

/// All of them, by name.
pub(super) static FILES: &[(&str, &str)] = files![
    "add",
    "alive",
    "attend",
    "bind",
    "cancel",
    "chosen",
    "clock",
    "continue",
    "count",
    "due",
    "enlist",
    "enter",
    "errand",
    "expire",
    "fetch",
    "fields",
    "finish",
    "gather",
    "guard_key",
    "halt",
    "has_room",
    "heading",
    "holders",
    "hook",
    "in_force",
    "install",
    "keys",
    "kick",
    "kick_out",
    "move_in",
    "note_past",
    "orphan",
    "oust",
    "place",
    "prove",
    "rank",
    "rare_keys",
    "read",
    "recall",
    "rehome",
    "renewed",
    "replace",
    "rest",
    "row",
    "save",
    "spill",
    "takes_users",
    "tell",
    "text",
    "turn",
    "unbind",
    "usable",
    "verdicts",
    "vote",
    "votes",
    "wake",
    "wide",
    "window",
];

/// The names in such a line.
pub(super) fn named(line: &str) -> impl Iterator<Item = &str> {
    line.strip_prefix(LINE).into_iter().flat_map(|names| names.split(", "))
}

/// A script with each of its lines of includes replaced by the files. A name without a file stays out; a test finds it.
pub(super) fn joined(body: &str) -> String {
    let mut text = String::new();
    for line in body.lines() {
        let included = named(line).filter_map(|name| FILES.iter().find(|(file, _)| *file == name));
        let mut lines: Vec<&str> = included.map(|(_, file)| file.trim_end()).collect();
        if lines.is_empty() {
            lines.push(line);
        }
        for line in lines {
            text.push_str(line);
            text.push('\n');
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::scripts::ALL;
    use super::*;

    #[test]
    fn every_include_is_a_file_and_every_file_is_included_somewhere() {
        let said = || ALL.iter().flat_map(|source| source.body.lines().flat_map(named));
        for name in said() {
            assert!(FILES.iter().any(|(file, _)| *file == name), "{name} is no file");
        }
        for (file, text) in FILES {
            assert!(said().any(|name| name == *file), "{file} is included nowhere");
            assert!(text.starts_with(&format!("-- {file}")), "{file} does not begin with its name");
        }
    }

    #[test]
    fn no_script_includes_a_file_twice() {
        for source in ALL {
            let mut names: Vec<&str> = source.body.lines().flat_map(named).collect();
            names.sort_unstable();
            let all = names.len();
            names.dedup();
            assert_eq!(names.len(), all, "{}", source.name);
        }
    }

    #[test]
    fn what_is_included_stands_where_it_is_named() {
        let text = joined("a\n-- Includes: keys, due\nb\n");
        let places = ["a\n", "local stem = ", "function due", "\nb\n"].map(|what| text.find(what));
        assert!(places.iter().all(Option::is_some) && places.is_sorted(), "{places:?}");
        assert!(!text.contains(LINE));
    }
}
