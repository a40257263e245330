//! A file per kind of source.
