//! Every transcript in this directory, with the real machines: whole, cut at each byte, and byte by byte. What comes out
//! must be the same. `script.rs` says how a transcript is written.

#![allow(clippy::unwrap_used, clippy::panic)] // so do tests end

mod doveadm;
mod escape;
mod files;
mod lmtp;
mod machine;
mod script;

use std::collections::VecDeque;
use std::path::{Path, PathBuf};

use homing::model::Protocol;
use homing::protocol::{Input, Output};
use machine::Side;
use script::{Dialogue, Item};

#[test]
fn every_dialogue_goes_the_same_however_it_is_cut() {
    let mut faults = Vec::new();
    let mut count = 0;
    for file in transcripts(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/dialogs")) {
        let text = std::fs::read_to_string(&file).unwrap();
        for dialogue in script::parse(protocol(&file), &text) {
            count += 1;
            if let Some(fault) = first_fault(&dialogue) {
                faults.push(format!("{}: {}\n{fault}", file.display(), dialogue.name));
            }
        }
    }
    assert!(count > 0, "no transcript was found");
    assert!(faults.is_empty(), "{} of {count} dialogues went wrong\n\n{}", faults.len(), faults.join("\n\n"));
}

/// What is spoken in a file: the name of its directory.
fn protocol(file: &Path) -> Protocol {
    let directory = file.parent().and_then(Path::file_name).unwrap();
    Protocol::ALL.into_iter().find(|protocol| directory == protocol.word()).expect("a protocol's directory")
}

fn transcripts(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.ends_with("lmtp") || path.ends_with("doveadm") {
            continue; // these have players of their own
        }
        if path.is_dir() {
            found.extend(transcripts(&path));
        } else if path.extension().is_some_and(|ending| ending == "txt") {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn first_fault(dialogue: &Dialogue) -> Option<String> {
    let total: usize = dialogue.items.iter().map(Item::peer_bytes).sum();
    let cuts = (1..total).map(Cut::At).chain([Cut::Everywhere]);
    let cuts: Vec<Cut> = [Cut::Nowhere].into_iter().chain(cuts.filter(|_| !dialogue.whole)).collect();
    cuts.into_iter().find_map(|cut| Run::new(dialogue, cut).play().err().map(|fault| format!("cut {cut:?}: {fault}")))
}

/// Where the peer's bytes are cut into pieces.
#[derive(Clone, Copy, Debug)]
enum Cut {
    Nowhere,
    At(usize),
    Everywhere,
}

impl Cut {
    /// How many bytes may come at once when so many have come.
    fn room(self, fed: usize) -> usize {
        match self {
            Self::At(place) if fed < place => place - fed,
            Self::Nowhere | Self::At(_) => usize::MAX,
            Self::Everywhere => 1,
        }
    }
}

struct Run<'a> {
    dialogue: &'a Dialogue,
    cut: Cut,
    side: Side,
    input: Input,
    /// What the peer has sent and the input has not taken.
    sent: VecDeque<u8>,
    fed: usize,
    /// What the machine has said and nobody has looked at.
    said: Vec<u8>,
    wish: Option<String>,
    violation: Option<String>,
}

impl<'a> Run<'a> {
    fn new(dialogue: &'a Dialogue, cut: Cut) -> Self {
        Self {
            dialogue,
            cut,
            side: dialogue.side(),
            input: Input::with_capacity(dialogue.capacity()),
            sent: VecDeque::new(),
            fed: 0,
            said: Vec::new(),
            wish: None,
            violation: None,
        }
    }

    fn play(mut self) -> Result<(), String> {
        for item in &self.dialogue.items {
            self.item(item)?;
        }
        self.pump();
        self.nothing_unseen()?;
        let left: Vec<u8> = self.input.filled().iter().chain(&self.sent).copied().collect();
        if self.violation.is_none() && !left.is_empty() {
            return Err(format!("left in the input: \"{}\"", left.escape_ascii()));
        }
        Ok(())
    }

    fn item(&mut self, item: &Item) -> Result<(), String> {
        match item {
            Item::Peer(bytes) => {
                self.pump();
                self.nothing_said()?;
                self.sent.extend(bytes);
                Ok(())
            }
            Item::Ours(expected) => {
                self.pump();
                let said = self.said.get(..expected.len()).unwrap_or(&self.said);
                same("said", &expected.escape_ascii(), &said.escape_ascii())?;
                self.said.drain(..expected.len());
                Ok(())
            }
            Item::Wish(expected) => {
                self.pump();
                self.nothing_said()?;
                let wish = self.wish.take().unwrap_or_else(|| "nothing".to_owned());
                same("wished", expected, &wish)
            }
            Item::Violation(expected) => {
                self.pump();
                self.nothing_said()?;
                let violation = self.violation.as_deref().unwrap_or("nothing");
                same("violated", expected, &violation)
            }
            Item::Verdict(verdict) => {
                let mut out = Output::new();
                self.violation = self.side.tell(verdict, &mut out).err().map(|violation| violation.to_string());
                self.said.extend(out.bytes());
                Ok(())
            }
            Item::ClientId(expected) => {
                self.pump();
                same("client", expected, &self.side.client_id())
            }
            Item::Known(expected) => {
                self.pump();
                same("known", expected, &self.side.known())
            }
            Item::Left(expected) => {
                self.pump();
                let left: Vec<u8> = self.input.filled().iter().copied().chain(self.sent.drain(..)).collect();
                self.input.consume(usize::MAX);
                same("left in the input", &expected.escape_ascii(), &left.escape_ascii())
            }
        }
    }

    /// Lets the machine work until it has a wish, or has done with what the peer has sent.
    fn pump(&mut self) {
        let mut out = Output::new();
        while self.wish.is_none() && self.violation.is_none() {
            match self.side.advance(&mut self.input, &mut out) {
                Ok(wish) => self.wish = wish,
                Err(violation) => self.violation = Some(violation.to_string()),
            }
            self.said.extend(out.bytes());
            out.clear();
            if self.wish.is_none() && self.violation.is_none() && !self.feed() {
                return;
            }
        }
    }

    fn feed(&mut self) -> bool {
        let room = self.cut.room(self.fed).min(self.sent.len());
        let taken = self.input.push(&self.sent.make_contiguous()[..room]);
        assert!(taken > 0 || room == 0, "the machine leaves a full input as it is");
        self.sent.drain(..taken);
        self.fed += taken;
        taken > 0
    }

    fn nothing_said(&self) -> Result<(), String> {
        same("said", &"", &self.said.escape_ascii())
    }

    fn nothing_unseen(&self) -> Result<(), String> {
        self.nothing_said()?;
        same("wished", &"nothing", &self.wish.as_deref().unwrap_or("nothing"))?;
        let seen = self.dialogue.items.iter().any(|item| matches!(item, Item::Violation(_)));
        if seen { Ok(()) } else { same("violated", &"nothing", &self.violation.as_deref().unwrap_or("nothing")) }
    }
}

fn same(what: &str, expected: &dyn std::fmt::Display, found: &dyn std::fmt::Display) -> Result<(), String> {
    let (expected, found) = (expected.to_string(), found.to_string());
    if expected == found { Ok(()) } else { Err(format!("{what}\n  expected: {expected}\n     found: {found}")) }
}
