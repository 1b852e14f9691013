//! Core modules, looked at before anything is compiled: what is found lies where it says, a section that says nothing
//! changes nothing, and what is cut short is refused.

use k8w_runtime::host;
use k8w_runtime::wasm::adapt::{Kind, kind, scan};

/// An input is a file, or after an `@` the name of an import.
pub fn check(input: &[u8]) {
    if let Some(import) = input.strip_prefix(b"@") {
        return imports(&String::from_utf8_lossy(import));
    }
    if kind(input).ok() != Some(Kind::Module) {
        return;
    }
    let Some(module) = scan(input) else { return };
    if let Some(exit) = &module.proc_exit {
        assert!(8 < exit.size_at && exit.size_at < exit.section.start && exit.section.end <= input.len());
        assert!(exit.section.start <= exit.names.start && exit.names.end <= exit.section.end);
        assert_eq!(&input[exit.names.clone()], b"\x16wasi_snapshot_preview1\x09proc_exit");
    }
    let longer = [input, b"\0\x05\x04name"].concat();
    assert_eq!(scan(&longer).as_ref(), Some(&module));
    assert_eq!(scan(&longer[..longer.len() - 1]), None);
}

/// An import is provided by its own name, and a version with the same numbers before the last dot.
fn imports(import: &str) {
    let (name, version) = import.split_once('@').unwrap_or((import, ""));
    let ours = || host::all().iter().filter(|interface| interface.name == name);
    for interface in ours() {
        let found = host::provider(&format!("{name}@{}", interface.version));
        assert!(found.is_some_and(|found| (found.name, found.version) == (name, interface.version)));
    }
    let minor = |version: &str| version.split('.').take(2).collect::<Vec<_>>().join(".");
    let is_compatible = ours().any(|interface| minor(version) == minor(interface.version));
    assert!(is_compatible || host::provider(import).is_none(), "{import}");
}
