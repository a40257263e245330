//! declare: how many sessions of each key an incarnation holds, and what happens if two say different homes.

use super::super::Rules;
use super::super::request::{Declared, Kick};
use super::binding::Binding;
use super::shard::Shard;
use crate::model::{Generation, Incarnation};

impl Shard {
    pub(super) fn declare(&mut self, inc: &Incarnation, lines: &[Declared], now: u64, rules: &Rules) -> Vec<Kick> {
        let mut refused: Vec<&Declared> = Vec::new();
        for line in lines {
            self.forget_old(&line.key, now, rules.remember);
            let stands = self.declare_one(inc, line);
            self.rest(&line.key, now, rules);
            if !stands || self.must_leave(line) {
                self.kicks.entry(inc.clone()).or_default().insert(line.key.clone());
                refused.push(line);
            }
        }
        refused.into_iter().map(|line| self.kick(&line.key, now, rules.remember)).collect()
    }

    /// The key is being moved, and these sessions are from before.
    fn must_leave(&self, line: &Declared) -> bool {
        let moving = self.bindings.get(&line.key).filter(|binding| binding.moving.is_some());
        line.count > 0 && moving.is_some_and(|binding| line.generation < binding.generation)
    }

    /// False if the sessions must be closed: the key lives elsewhere.
    fn declare_one(&mut self, inc: &Incarnation, line: &Declared) -> bool {
        if line.count > 0 && !self.agree(inc, line) {
            self.count(&line.key, inc, 0);
            return false;
        }
        self.unkick(&line.key, inc);
        // Sessions that came and went between two declarations may have been accepted, too.
        if let Some(binding) = self.bindings.get_mut(&line.key).filter(|binding| binding.held_by(inc) > 0) {
            binding.unproven &= line.unproven;
        }
        self.count(&line.key, inc, line.count);
        true
    }

    /// Makes binding and declaration the same, if the declaration may stand.
    fn agree(&mut self, inc: &Incarnation, line: &Declared) -> bool {
        let Some(binding) = self.bindings.get_mut(&line.key) else {
            let binding = Binding::new(line.backend.clone(), line.generation, line.unproven);
            self.bindings.insert(line.key.clone(), binding);
            return true;
        };
        if binding.backend == line.backend {
            binding.generation = binding.generation.max(line.generation);
            binding.unproven &= line.unproven;
            return true;
        }
        let others = binding.sessions.saturating_sub(binding.held_by(inc));
        let (newest, unproven) = (binding.generation, binding.unproven && line.unproven);
        self.splits += u64::from(others > 0);
        if line.generation <= newest && (others > 0 || self.was_told_to_leave(inc, line)) {
            return false;
        }
        let generation = line.generation.max(Generation(newest.0.saturating_add(1)));
        self.count(&line.key, inc, 0);
        self.oust_others(&line.key, inc);
        self.note_past(&line.key, generation, "declared");
        self.moving.remove(&line.key);
        self.bindings.insert(line.key.clone(), Binding::new(line.backend.clone(), generation, unproven));
        true
    }

    /// The key has left the home of these sessions: by force, or while they were an orphan's. They are closing, and nobody
    /// waits.
    fn was_told_to_leave(&self, inc: &Incarnation, line: &Declared) -> bool {
        self.kicks.get(inc).is_some_and(|kicks| kicks.contains(&line.key))
    }
}
