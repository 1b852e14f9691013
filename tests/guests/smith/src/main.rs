//! Makes guests of chance: `smith FIRST COUNT FOLDER` writes a module, a component and a command for each seed from FIRST on.
//!
//! A module is a command of preview 1. A component is of chance altogether, so that few of them can be had by anybody. A command
//! is a component that runs: it imports a few interfaces of the world `k8w:pod/job`, and does with them what chance wants.
//!
//! Not a part of the workspace, whose compilers for WebAssembly would be built with other features for it.

use std::path::Path;

use arbitrary::Unstructured;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngCore, SeedableRng};
use wasm_smith::{Component, Config, Module};
use wit_component::{ComponentEncoder, StringEncoding, dummy_module, embed_component_metadata};
use wit_parser::{LiftLowerAbi, ManglingAndAbi, Resolve};

/// What one is made of.
const RANDOM_BYTES: usize = 4 << 10;
/// Of these many interfaces a command has imports.
const INTERFACES: usize = 2;
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
    let wit = Wit::new();
    let first: u64 = first.parse().expect("a number");
    let count: u64 = count.parse().expect("a number");
    for seed in first..first + count {
        let mut bytes = vec![0; RANDOM_BYTES];
        let mut chance = StdRng::seed_from_u64(seed);
        chance.fill_bytes(&mut bytes);
        // Chance may have nothing to say.
        let module = Module::new(config(seed), &mut Unstructured::new(&bytes)).map(|module| module.to_bytes());
        let component =
            Component::new(Config::default(), &mut Unstructured::new(&bytes)).map(|component| component.to_bytes());
        let command = wit.command(seed, &mut chance, &bytes);
        for (kind, made) in [("module", module), ("component", component), ("command", command)] {
            if let Ok(wasm) = made {
                std::fs::write(Path::new(folder).join(format!("{kind}-{seed}.wasm")), wasm)
                    .expect("a folder to write to");
            }
        }
    }
}

/// The repository's WIT, and what a command of WASI 0.2 may import of it.
struct Wit {
    resolve: Resolve,
    imports: Vec<String>,
}

impl Wit {
    fn new() -> Self {
        let mut resolve = Resolve::default();
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../wit/pod");
        let (package, _) = resolve.push_path(folder).expect("the repository's WIT");
        let job = resolve.select_world(&[package], Some("job")).expect("its world");
        let names = resolve.worlds[job].imports.keys().map(|key| resolve.name_world_key(key));
        Self { imports: names.collect(), resolve }
    }

    /// A component, unless chance has nothing to say, or made something that cannot be one.
    fn command(&self, seed: u64, chance: &mut StdRng, bytes: &[u8]) -> arbitrary::Result<Vec<u8>> {
        let chosen = self.imports.choose_multiple(chance, INTERFACES);
        let imports: String = chosen.map(|name| format!("import {name};")).collect();
        let world = format!("package k8w:smith; world command {{ {imports} export wasi:cli/run@0.2.12; }}");
        let mut resolve = self.resolve.clone();
        let package = resolve.push_str("smith.wit", &world).expect("a world of known interfaces");
        let world = resolve.select_world(&[package], None).expect("the only one");
        // With every import of the world, and every export.
        let all = dummy_module(&resolve, world, ManglingAndAbi::Legacy(LiftLowerAbi::Sync));
        let config = Config {
            available_imports: Some(all.clone()),
            exports: Some(all),
            // It would run before there are imports.
            allow_start_export: false,
            ..config(seed)
        };
        let mut module = Module::new(config, &mut Unstructured::new(bytes))?.to_bytes();
        let component = embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8)
            .and_then(|()| ComponentEncoder::default().validate(true).module(&module)?.encode());
        component.map_err(|_| arbitrary::Error::IncorrectFormat)
    }
}

/// A command that may call much of preview 1. Every other one does nothing of its own that traps, and so gets further.
fn config(seed: u64) -> Config {
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
        // What the engine does not take: next to nothing would run.
        reference_types_enabled: false,
        gc_enabled: false,
        exceptions_enabled: false,
        wide_arithmetic_enabled: false,
        max_table_elements: 1_000,
        disallow_traps: seed % 2 == 1,
        ..Config::default()
    }
}
