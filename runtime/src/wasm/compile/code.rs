//! What machine code must be like to run on a node: everything that decides it, but for the component.

use std::hash::{Hash as _, Hasher};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use target_lexicon::Triple;
use wasmtime::{Config, Engine};

use crate::wasm::adapt;
use crate::wasm::config::PoolLimits;

/// The exact version, because the artifact's own check sees the major version only.
pub const WASMTIME_VERSION: &str = "48.0.8";

/// Settings that shape machine code. Whoever compiles and whoever runs it must agree on every one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Code {
    /// Address space of a linear memory.
    pub memory_bytes: u64,
    /// Native stack of one running guest.
    pub stack_bytes: usize,
    pub wasi_p3: bool,
    /// This very machine, where it says nothing else.
    pub target: Option<Target>,
}

/// A machine that code is made for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// Such as `x86_64-unknown-linux-gnu`.
    pub triple: String,
    /// What its processor has beyond the least that its architecture has, in Cranelift's words.
    pub features: Vec<String>,
}

impl Target {
    /// This machine.
    pub fn here() -> Target {
        let features = features().into_iter().filter(|(_, has)| *has).map(|(name, _)| name.to_owned());
        Target { triple: Triple::host().to_string(), features: features.collect() }
    }

    /// Whether this binary can make code for it. It has one architecture's compiler.
    pub fn can_be_made_here(&self) -> bool {
        let host = Triple::host();
        let is_alike = |target: Triple| {
            target.architecture == host.architecture && target.operating_system == host.operating_system
        };
        self.triple.parse().is_ok_and(is_alike)
    }

    /// A feature that this binary's compiler does not know.
    pub fn unknown_feature(&self) -> Option<&str> {
        let known = features();
        self.features.iter().map(String::as_str).find(|name| !known.iter().any(|(known, _)| known == name))
    }
}

impl Code {
    /// For this machine.
    pub fn here(pool: &PoolLimits, wasi_p3: bool) -> Code {
        let PoolLimits { memory_bytes, stack_bytes, .. } = *pool;
        Code { memory_bytes, stack_bytes, wasi_p3, target: None }
    }

    /// Likewise, said in such a way that another machine can make it.
    pub fn elsewhere(&self) -> Code {
        Code { target: Some(Target::here()), ..self.clone() }
    }

    /// # Errors
    /// A target that there is not.
    pub fn config(&self) -> wasmtime::Result<Config> {
        let mut config = Config::new();
        if let Some(target) = &self.target {
            config.target(&target.triple)?;
            for feature in &target.features {
                enable(&mut config, feature)?;
            }
        }
        config.wasm_component_model(true);
        // Without it a component can neither have asynchronous functions, streams and futures, nor reach wasmtime's code
        // for them.
        config.concurrency_support(self.wasi_p3);
        config.epoch_interruption(true);
        config.memory_init_cow(true);
        config.memory_reservation(self.memory_bytes);
        config.max_wasm_stack(self.stack_bytes / 2);
        config.async_stack_size(self.stack_bytes);
        config.wasm_backtrace_details(wasmtime::WasmBacktraceDetails::Disable);
        config.native_unwind_info(false);
        Ok(config)
    }

    /// An engine that compiles and never runs anything: it reserves no address space.
    ///
    /// # Errors
    /// When the settings contradict each other.
    pub fn compiler(&self) -> wasmtime::Result<Engine> {
        Engine::new(&self.config()?)
    }
}

/// A digest of everything that decides what an engine's machine code looks like, but for the component.
pub fn fingerprint(engine: &Engine) -> String {
    name_of(engine, "")
}

/// What an engine's machine code of the component with this digest is called.
pub fn name_of(engine: &Engine, digest: &str) -> String {
    let mut key = Key(Sha256::new());
    key.0.update(digest.as_bytes());
    key.0.update(WASMTIME_VERSION.as_bytes());
    key.0.update(adapt::REVISION.to_le_bytes());
    engine.precompile_compatibility_hash().hash(&mut key);
    hex(&key.0.finalize())
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Feeds what is hashed to SHA-256.
struct Key(Sha256);

impl Hasher for Key {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        // Only the digest itself is used.
        0
    }
}

/// Only what [`features`] knows: other flags of the compiler's change what code means.
#[expect(unsafe_code, reason = "there is no other way to say what another machine's processor has")]
fn enable(config: &mut Config, feature: &str) -> wasmtime::Result<()> {
    if !features().iter().any(|(known, _)| *known == feature) {
        wasmtime::bail!("no processor has {feature:?}");
    }
    // SAFETY: these only let the compiler use further instructions. Who runs the code checks that its processor has them.
    unsafe { config.cranelift_flag_enable(feature) };
    Ok(())
}

/// What processors of this binary's architecture may have, in Cranelift's words, and whether this machine's has it.
#[cfg(target_arch = "x86_64")]
fn features() -> Vec<(&'static str, bool)> {
    macro_rules! has {
        ($($name:literal: $feature:tt,)*) => { vec![$(($name, std::is_x86_feature_detected!($feature)),)*] };
    }
    has! {
        "has_cmpxchg16b": "cmpxchg16b",
        "has_sse3": "sse3",
        "has_ssse3": "ssse3",
        "has_sse41": "sse4.1",
        "has_sse42": "sse4.2",
        "has_popcnt": "popcnt",
        "has_avx": "avx",
        "has_avx2": "avx2",
        "has_fma": "fma",
        "has_avx_vnni": "avxvnni",
        "has_avx512vnni": "avx512vnni",
        "has_bmi1": "bmi1",
        "has_bmi2": "bmi2",
        "has_avx512bitalg": "avx512bitalg",
        "has_avx512dq": "avx512dq",
        "has_avx512f": "avx512f",
        "has_avx512vl": "avx512vl",
        "has_avx512vbmi": "avx512vbmi",
        "has_lzcnt": "lzcnt",
    }
}

#[cfg(target_arch = "aarch64")]
fn features() -> Vec<(&'static str, bool)> {
    macro_rules! has {
        ($($name:literal: $feature:tt,)*) => { vec![$(($name, std::arch::is_aarch64_feature_detected!($feature)),)*] };
    }
    has! {
        "has_lse": "lse",
        "has_pauth": "paca",
        "has_fp16": "fp16",
        "has_dotprod": "dotprod",
        "has_i8mm": "i8mm",
    }
}

/// Nothing tells on other architectures: code is made for the least of them.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn features() -> Vec<(&'static str, bool)> {
    Vec::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn here() -> Code {
        Code::here(&PoolLimits::default(), false)
    }

    #[test]
    fn the_version_in_the_key_is_the_one_that_is_built_in() {
        let lock = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.lock")).unwrap();
        let entry = format!("name = \"wasmtime\"\nversion = \"{WASMTIME_VERSION}\"\n");
        assert!(lock.contains(&entry), "Cargo.lock has another wasmtime than {WASMTIME_VERSION}");
    }

    /// What this machine finds out about itself, and what it tells others, is the same.
    #[test]
    fn code_that_another_machine_makes_is_what_this_one_would_make() {
        let fingerprint = |code: Code| fingerprint(&code.compiler().unwrap());
        assert_eq!(fingerprint(here()), fingerprint(here().elsewhere()));
        assert_ne!(fingerprint(here()), fingerprint(Code { wasi_p3: true, ..here() }));
        let mut lesser = here().elsewhere();
        if lesser.target.iter_mut().any(|target| target.features.pop().is_some()) {
            assert_ne!(fingerprint(here()), fingerprint(lesser));
        }
    }

    #[test]
    fn only_code_of_this_architecture_can_be_made() {
        let of = |triple: &str| Target { triple: triple.to_owned(), features: Vec::new() }.can_be_made_here();
        assert!(Target::here().can_be_made_here());
        assert!(of(&format!("{}-unknown-linux-musl", std::env::consts::ARCH)));
        assert!(!of("s390x-unknown-linux-gnu") && !of("x86_64-pc-windows-msvc") && !of("nothing"));
    }

    #[test]
    fn nothing_but_a_processors_features_can_be_switched_on() {
        for flag in ["enable_nan_canonicalization", "enable_pcc", "has_everything", ""] {
            let target = Target { triple: Triple::host().to_string(), features: vec![flag.to_owned()] };
            assert_eq!(target.unknown_feature(), Some(flag));
            assert!(Code { target: Some(target), ..here() }.compiler().is_err(), "{flag}");
        }
        assert_eq!(Target::here().unknown_feature(), None);
    }
}
