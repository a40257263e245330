//! Transcripts that have a player of their own.

use std::path::Path;

/// Plays all dialogues of a directory's files; each begins with a line `== name`.
pub(crate) fn play_all(directory: &str, first_fault: impl Fn(&str) -> Option<String>) {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/dialogs").join(directory);
    let mut paths: Vec<_> = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let (mut count, mut faults) = (0, Vec::new());
    for path in paths {
        let text = format!("\n{}", std::fs::read_to_string(&path).unwrap());
        for dialogue in text.split("\n== ").skip(1) {
            count += 1;
            faults.extend(first_fault(dialogue).map(|fault| format!("{}: {fault}", path.display())));
        }
    }
    assert!(count >= 25, "the transcripts are gone");
    assert!(faults.is_empty(), "{} of {count} went wrong\n\n{}", faults.len(), faults.join("\n\n"));
}
