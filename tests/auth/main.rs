//! Sources of the passdb over real servers.
