#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| k8w_fuzz::filesystem::check(input));
