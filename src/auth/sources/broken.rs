//! Stands where a source should be that could not be made.

use async_trait::async_trait;

use crate::auth::{Lookup, Question, Source, Verdict};

/// Never answers. Leaving it out of the chain instead would let others decide about its users.
pub(in crate::auth) struct BrokenSource {
    /// Name of what it stands for.
    pub(in crate::auth) name: String,
    /// Why it could not be made.
    pub(in crate::auth) why: String,
}

#[async_trait]
impl Source for BrokenSource {
    fn name(&self) -> String {
        self.name.clone()
    }

    async fn ask(&self, _: &Question<'_>) -> Verdict {
        Verdict::Unavailable(self.why.clone())
    }

    async fn find(&self, _: &Lookup<'_>) -> Verdict {
        Verdict::Unavailable(self.why.clone())
    }

    async fn list(&self) -> Option<Result<Vec<String>, String>> {
        Some(Err(self.why.clone()))
    }
}
