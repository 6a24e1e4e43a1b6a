#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| passerby_fuzz::proofs(data));
