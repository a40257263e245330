//! How evidence is weighed.
