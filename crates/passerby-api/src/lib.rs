//! passerby-api
