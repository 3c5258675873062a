#![no_main]

use libfuzzer_sys::fuzz_target;
use vnet_tests::fuzz;

fuzz_target!(|input: &[u8]| fuzz::tcp(input));
