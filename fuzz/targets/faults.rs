//! Generated fleets of which reads fail, several at once: nothing rises, and no gate turns green.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| gpuwaste_judge::fuzzing::faults(data));
