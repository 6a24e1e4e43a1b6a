//! Forged and mutated tokens.
