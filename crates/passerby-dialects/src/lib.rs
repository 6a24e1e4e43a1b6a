//! passerby-dialects
