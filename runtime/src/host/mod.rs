//! Host functions: what a guest can import, one file per family of WIT interfaces, and one table of them.
//!
//! To add one: a file that implements the interface for [`State`], a `mod` line, and a row in [`all`]. A guest can import
//! exactly what the table lists. Everything a function may reach (preopens, the network as its pod sees it, limits) hangs
//! off the instance's [`State`]; nothing else of the host exists for it.

mod cli;
mod clocks;
mod config;
pub(crate) mod filesystem;
pub(crate) mod http;
mod io;
pub mod keyvalue;
mod logging;
pub(crate) mod names;
mod random;
mod sockets;

use wasmtime::component::Linker;

use crate::wasm::store::State;

/// One interface that guests can import.
pub struct Interface {
    /// Package and interface, without version: `wasi:cli/environment`.
    pub name: &'static str,
    /// The version it is implemented at. Others of the same minor version link as well, unless it is a proposal's.
    pub version: &'static str,
    /// Puts its functions into a linker.
    pub link: fn(&mut Linker<State>) -> wasmtime::Result<()>,
}

const WASI: &str = "0.2.12";
const KEYVALUE: &str = "0.2.0-draft";

const fn wasi(name: &'static str, link: fn(&mut Linker<State>) -> wasmtime::Result<()>) -> Interface {
    Interface { name, version: WASI, link }
}

/// THE table of host interfaces.
pub fn all() -> &'static [Interface] {
    const ALL: &[Interface] = &[
        wasi("wasi:cli/environment", cli::environment),
        wasi("wasi:cli/exit", cli::exit),
        wasi("wasi:cli/stderr", cli::stderr),
        wasi("wasi:cli/stdin", cli::stdin),
        wasi("wasi:cli/stdout", cli::stdout),
        wasi("wasi:cli/terminal-input", cli::terminal_input),
        wasi("wasi:cli/terminal-output", cli::terminal_output),
        wasi("wasi:cli/terminal-stderr", cli::terminal_stderr),
        wasi("wasi:cli/terminal-stdin", cli::terminal_stdin),
        wasi("wasi:cli/terminal-stdout", cli::terminal_stdout),
        wasi("wasi:clocks/monotonic-clock", clocks::monotonic_clock),
        wasi("wasi:clocks/wall-clock", clocks::wall_clock),
        Interface { name: "wasi:config/store", version: "0.2.0-rc.1", link: config::store },
        wasi("wasi:filesystem/preopens", filesystem::preopens),
        wasi("wasi:filesystem/types", filesystem::types),
        wasi("wasi:http/outgoing-handler", http::outgoing_handler),
        wasi("wasi:http/types", http::types),
        wasi("wasi:io/error", io::error),
        wasi("wasi:io/poll", io::poll),
        wasi("wasi:io/streams", io::streams),
        Interface { name: "wasi:keyvalue/atomics", version: KEYVALUE, link: keyvalue::atomics },
        Interface { name: "wasi:keyvalue/batch", version: KEYVALUE, link: keyvalue::batch },
        Interface { name: "wasi:keyvalue/store", version: KEYVALUE, link: keyvalue::store },
        Interface { name: "wasi:logging/logging", version: "0.1.0-draft", link: logging::logging },
        wasi("wasi:random/insecure", random::insecure),
        wasi("wasi:random/insecure-seed", random::insecure_seed),
        wasi("wasi:random/random", random::random),
        wasi("wasi:sockets/instance-network", sockets::instance_network),
        wasi("wasi:sockets/ip-name-lookup", sockets::ip_name_lookup),
        wasi("wasi:sockets/network", sockets::network),
        wasi("wasi:sockets/tcp", sockets::tcp),
        wasi("wasi:sockets/tcp-create-socket", sockets::tcp_create_socket),
        wasi("wasi:sockets/udp", sockets::udp),
        wasi("wasi:sockets/udp-create-socket", sockets::udp_create_socket),
    ];
    ALL
}

/// A linker with every row of the table.
///
/// # Errors
/// When two rows define the same interface.
pub fn linker(engine: &wasmtime::Engine) -> wasmtime::Result<Linker<State>> {
    let mut linker = Linker::new(engine);
    for interface in all() {
        (interface.link)(&mut linker)?;
    }
    Ok(linker)
}

/// Whether an import (`wasi:cli/environment@0.2.3`) is provided: same interface, and a version that semver calls
/// compatible with ours. A proposal (`-draft`, `-rc.1`) is compatible with itself alone.
pub fn provides(import: &str) -> bool {
    let (name, version) = import.split_once('@').unwrap_or((import, ""));
    let compatible = |ours: &str| match ours.contains('-') || version.contains('-') {
        true => ours == version,
        false => minor(ours) == minor(version),
    };
    all().iter().any(|interface| interface.name == name && compatible(interface.version))
}

/// `0.2.3` -> `0.2`.
fn minor(version: &str) -> Option<&str> {
    version.rsplit_once('.').map(|(minor, _)| minor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_import_is_provided_by_name_and_minor_version() {
        assert!(provides("wasi:cli/environment@0.2.0"));
        assert!(provides("wasi:cli/environment@0.2.99"));
        assert!(!provides("wasi:cli/environment@0.3.0"));
        assert!(!provides("wasi:cli/environment"));
        assert!(!provides("foo:bar/baz@0.2.0"));
        assert!(provides("wasi:keyvalue/store@0.2.0-draft"));
        assert!(!provides("wasi:keyvalue/store@0.2.0-draft2"));
        assert!(!provides("wasi:keyvalue/store@0.2.0"));
        assert!(!provides("wasi:cli/environment@0.2.0-rc-2023-11-10"));
    }

    #[test]
    fn the_table_is_sorted_and_links_without_conflict() {
        assert!(all().is_sorted_by_key(|interface| interface.name));
        linker(&wasmtime::Engine::default()).unwrap();
    }
}
