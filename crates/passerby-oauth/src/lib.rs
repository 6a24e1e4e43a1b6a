//! passerby-oauth
