//! Makes guests of chance: `smith FIRST COUNT FOLDER` writes a module and a component for each seed from FIRST on.
//!
//! Not a part of the workspace, whose compilers for WebAssembly would be built with other features for it.

use std::path::Path;

use arbitrary::Unstructured;
use rand::rngs::StdRng;
use rand::{RngCore, SeedableRng};
use wasm_smith::{Component, Config, Module};

/// What one is made of.
const RANDOM_BYTES: usize = 4 << 10;
const EXPORTS: &str = r#"(module (memory (export "memory") 1) (func (export "_start")))"#;
/// Functions of preview 1 that a module may call, and their parameters.
const IMPORTS: [(&str, &str); 11] = [
    ("args_get", "i32 i32"),
    ("clock_time_get", "i32 i64 i32"),
    ("environ_sizes_get", "i32 i32"),
    ("fd_close", "i32"),
    ("fd_prestat_dir_name", "i32 i32 i32"),
    ("fd_read", "i32 i32 i32 i32"),
    ("fd_readdir", "i32 i32 i32 i64 i32"),
    ("fd_write", "i32 i32 i32 i32"),
    ("path_open", "i32 i32 i32 i32 i32 i64 i64 i32 i32"),
    ("poll_oneoff", "i32 i32 i32 i32"),
    ("random_get", "i32 i32"),
];

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, first, count, folder] = &arguments[..] else { panic!("usage: smith FIRST COUNT FOLDER") };
    let first: u64 = first.parse().expect("a number");
    let count: u64 = count.parse().expect("a number");
    for seed in first..first + count {
        let mut bytes = vec![0; RANDOM_BYTES];
        StdRng::seed_from_u64(seed).fill_bytes(&mut bytes);
        // Chance may have nothing to say.
        let module = Module::new(config(), &mut Unstructured::new(&bytes)).map(|module| module.to_bytes());
        let component = Component::new(Config::default(), &mut Unstructured::new(&bytes)).map(|component| component.to_bytes());
        for (kind, made) in [("module", module), ("component", component)] {
            if let Ok(wasm) = made {
                std::fs::write(Path::new(folder).join(format!("{kind}-{seed}.wasm")), wasm).expect("a folder to write to");
            }
        }
    }
}

/// A command that may call much of preview 1.
fn config() -> Config {
    let import = |(name, parameters): (&str, &str)| {
        format!(r#"(import "wasi_snapshot_preview1" "{name}" (func (param {parameters}) (result i32)))"#)
    };
    let imports: String = IMPORTS.into_iter().map(import).collect();
    Config {
        available_imports: Some(wat::parse_str(format!("(module {imports})")).expect("a module")),
        exports: Some(wat::parse_str(EXPORTS).expect("a module")),
        // What adaptation does not take.
        memory64_enabled: false,
        threads_enabled: false,
        max_memories: 1,
        ..Config::default()
    }
}
