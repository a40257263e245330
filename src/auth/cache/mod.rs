//! What the fleet remembers of passdbs' answers.

pub mod seal;
#[cfg(test)]
mod tests;
