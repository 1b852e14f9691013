//! Host functions: what a guest can import, one file per family of WIT interfaces, and one table of them.
//!
//! To add one: a file that implements the interface for [`State`], a `mod` line, and a row in [`all`]. A guest can import
//! exactly what the table lists. Everything a function may reach (preopens, the network as its pod sees it, limits) hangs
//! off the instance's [`State`]; nothing else of the host exists for it. What belongs to WASI 0.3 is in a folder of its own,
//! because a node can be told not to have it.

mod cli;
mod clocks;
mod config;
pub mod filesystem;
pub(crate) mod http;
mod io;
pub(crate) mod kept;
pub mod keyvalue;
mod logging;
pub(crate) mod names;
pub mod p3;
pub mod pod_network;
mod random;
pub mod sockets;

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

impl Interface {
    /// Whether this is a part of WASI 0.3.
    pub fn is_p3(&self) -> bool {
        self.version == WASI_P3
    }
}

const WASI: &str = "0.2.12";
const WASI_P3: &str = "0.3.0";
const KEYVALUE: &str = "0.2.0-draft";

const fn wasi(name: &'static str, link: fn(&mut Linker<State>) -> wasmtime::Result<()>) -> Interface {
    Interface { name, version: WASI, link }
}

const fn wasi_p3(name: &'static str, link: fn(&mut Linker<State>) -> wasmtime::Result<()>) -> Interface {
    Interface { name, version: WASI_P3, link }
}

/// THE table of host interfaces.
pub fn all() -> &'static [Interface] {
    const ALL: &[Interface] = &[
        wasi("wasi:cli/environment", cli::environment),
        wasi_p3("wasi:cli/environment", p3::cli::environment),
        wasi("wasi:cli/exit", cli::exit),
        wasi_p3("wasi:cli/exit", p3::cli::exit),
        wasi("wasi:cli/stderr", cli::stderr),
        wasi_p3("wasi:cli/stderr", p3::cli::stderr),
        wasi("wasi:cli/stdin", cli::stdin),
        wasi_p3("wasi:cli/stdin", p3::cli::stdin),
        wasi("wasi:cli/stdout", cli::stdout),
        wasi_p3("wasi:cli/stdout", p3::cli::stdout),
        wasi("wasi:cli/terminal-input", cli::terminal_input),
        wasi_p3("wasi:cli/terminal-input", p3::cli::terminal_input),
        wasi("wasi:cli/terminal-output", cli::terminal_output),
        wasi_p3("wasi:cli/terminal-output", p3::cli::terminal_output),
        wasi("wasi:cli/terminal-stderr", cli::terminal_stderr),
        wasi_p3("wasi:cli/terminal-stderr", p3::cli::terminal_stderr),
        wasi("wasi:cli/terminal-stdin", cli::terminal_stdin),
        wasi_p3("wasi:cli/terminal-stdin", p3::cli::terminal_stdin),
        wasi("wasi:cli/terminal-stdout", cli::terminal_stdout),
        wasi_p3("wasi:cli/terminal-stdout", p3::cli::terminal_stdout),
        wasi_p3("wasi:cli/types", p3::cli::types),
        wasi("wasi:clocks/monotonic-clock", clocks::monotonic_clock),
        wasi_p3("wasi:clocks/monotonic-clock", p3::clocks::monotonic_clock),
        wasi_p3("wasi:clocks/system-clock", p3::clocks::system_clock),
        wasi_p3("wasi:clocks/types", p3::clocks::types),
        wasi("wasi:clocks/wall-clock", clocks::wall_clock),
        Interface { name: "wasi:config/store", version: "0.2.0-rc.1", link: config::store },
        wasi("wasi:filesystem/preopens", filesystem::preopens),
        wasi_p3("wasi:filesystem/preopens", p3::filesystem::preopens),
        wasi("wasi:filesystem/types", filesystem::types),
        wasi_p3("wasi:filesystem/types", p3::filesystem::types),
        wasi_p3("wasi:http/client", p3::http::client),
        wasi("wasi:http/outgoing-handler", http::outgoing_handler),
        wasi("wasi:http/types", http::types),
        wasi_p3("wasi:http/types", p3::http::types),
        wasi("wasi:io/error", io::error),
        wasi("wasi:io/poll", io::poll),
        wasi("wasi:io/streams", io::streams),
        Interface { name: "wasi:keyvalue/atomics", version: KEYVALUE, link: keyvalue::atomics },
        Interface { name: "wasi:keyvalue/batch", version: KEYVALUE, link: keyvalue::batch },
        Interface { name: "wasi:keyvalue/store", version: KEYVALUE, link: keyvalue::store },
        Interface { name: "wasi:logging/logging", version: "0.1.0-draft", link: logging::logging },
        wasi("wasi:random/insecure", random::insecure),
        wasi_p3("wasi:random/insecure", p3::random::insecure),
        wasi("wasi:random/insecure-seed", random::insecure_seed),
        wasi_p3("wasi:random/insecure-seed", p3::random::insecure_seed),
        wasi("wasi:random/random", random::random),
        wasi_p3("wasi:random/random", p3::random::random),
        wasi("wasi:sockets/instance-network", sockets::instance_network),
        wasi("wasi:sockets/ip-name-lookup", sockets::ip_name_lookup),
        wasi_p3("wasi:sockets/ip-name-lookup", p3::sockets::ip_name_lookup),
        wasi("wasi:sockets/network", sockets::network),
        wasi("wasi:sockets/tcp", sockets::tcp),
        wasi("wasi:sockets/tcp-create-socket", sockets::tcp_create_socket),
        wasi_p3("wasi:sockets/types", p3::sockets::types),
        wasi("wasi:sockets/udp", sockets::udp),
        wasi("wasi:sockets/udp-create-socket", sockets::udp_create_socket),
    ];
    ALL
}

/// A linker with every row of the table, those of WASI 0.3 only for an engine that has what they are made of.
///
/// # Errors
/// When two rows define the same interface.
pub fn linker(engine: &wasmtime::Engine) -> wasmtime::Result<Linker<State>> {
    let mut linker = Linker::new(engine);
    let has_p3 = engine.get_concurrency_support();
    for interface in all().iter().filter(|interface| has_p3 || !interface.is_p3()) {
        (interface.link)(&mut linker)?;
    }
    Ok(linker)
}

/// The row that provides an import (`wasi:cli/environment@0.2.3`): same interface, and a version that semver calls
/// compatible with ours. A proposal (`-draft`, `-rc.1`) is compatible with itself alone.
pub fn provider(import: &str) -> Option<&'static Interface> {
    let (name, version) = import.split_once('@').unwrap_or((import, ""));
    let compatible = |ours: &str| match ours.contains('-') || version.contains('-') {
        true => ours == version,
        false => minor(ours) == minor(version),
    };
    all().iter().find(|interface| interface.name == name && compatible(interface.version))
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
        let provides = |import| provider(import).is_some();
        assert!(provides("wasi:cli/environment@0.2.0"));
        assert!(provides("wasi:cli/environment@0.2.99"));
        assert!(provider("wasi:cli/environment@0.3.1").is_some_and(Interface::is_p3));
        assert!(!provides("wasi:cli/environment@0.4.0"));
        assert!(!provides("wasi:clocks/wall-clock@0.3.0"));
        assert!(!provides("wasi:cli/environment"));
        assert!(!provides("foo:bar/baz@0.2.0"));
        assert!(provides("wasi:keyvalue/store@0.2.0-draft"));
        assert!(!provides("wasi:keyvalue/store@0.2.0-draft2"));
        assert!(!provides("wasi:keyvalue/store@0.2.0"));
        assert!(!provides("wasi:cli/environment@0.2.0-rc-2023-11-10"));
    }

    #[test]
    fn the_table_is_sorted_and_links_without_conflict() {
        assert!(all().is_sorted_by_key(|interface| (interface.name, interface.version)));
        for has_p3 in [true, false] {
            let mut config = wasmtime::Config::new();
            config.concurrency_support(has_p3);
            linker(&wasmtime::Engine::new(&config).unwrap()).unwrap();
        }
    }
}
