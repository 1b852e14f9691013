//! Turns core modules into components, so that there is one host surface.
//!
//! A preview 1 command (`_start`) gets the adapter that exports `wasi:cli/run`; a module that carries its world (as
//! `wit-bindgen` leaves it) is wrapped as that world says.

use std::ops::Range;

use wasi_preview1_component_adapter_provider::{
    WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_COMMAND_ADAPTER, WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER,
};
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

use super::heap;

/// Changes with what becomes of a module here: machine code of another revision is made anew.
pub const REVISION: u32 = 1;

/// What the first eight bytes of a file say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Component,
    Module,
}

/// Why a file cannot become a component.
#[derive(Debug, thiserror::Error)]
pub enum AdaptError {
    #[error("the file is empty")]
    Empty,
    #[error("the file does not start with the WebAssembly magic number")]
    NotWasm,
    #[error("the file has WebAssembly layer and version {0:#010x}, which is unknown")]
    UnknownVersion(u32),
    #[error("the module is cut short or malformed")]
    Malformed,
    #[error("the module has no `_start` function and carries no component type, so there is nothing to run")]
    NotWasi,
    #[error("the module cannot be made a component: {0}")]
    Encode(String),
}

/// Tells a component from a core module (core specification §5.5.16; component model `Binary.md`).
///
/// # Errors
/// When the bytes are neither.
pub fn kind(bytes: &[u8]) -> Result<Kind, AdaptError> {
    if bytes.is_empty() {
        return Err(AdaptError::Empty);
    }
    let Some(version) = bytes.strip_prefix(b"\0asm") else {
        return Err(AdaptError::NotWasm);
    };
    let Some(version) = version.first_chunk::<4>() else {
        return Err(AdaptError::Malformed);
    };
    match u32::from_le_bytes(*version) {
        1 => Ok(Kind::Module),
        0x0001_000d => Ok(Kind::Component),
        other => Err(AdaptError::UnknownVersion(other)),
    }
}

/// Makes a component of a core module; a component is returned as it is.
///
/// # Errors
/// When the bytes are no WebAssembly, or a module that WASI cannot run.
pub fn componentize(bytes: &[u8]) -> Result<Vec<u8>, AdaptError> {
    if kind(bytes)? == Kind::Component {
        return Ok(bytes.to_vec());
    }
    let module = scan(bytes).ok_or(AdaptError::Malformed)?;
    if !module.exports_start && !module.has_component_type {
        return Err(AdaptError::NotWasi);
    }
    let adapter = match module.exports_start {
        true => WASI_SNAPSHOT_PREVIEW1_COMMAND_ADAPTER,
        false => WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER,
    };
    let own_pages = heap::apart(bytes).map_err(AdaptError::Encode)?;
    let bytes = own_pages.as_deref().unwrap_or(bytes);
    let module = scan(bytes).ok_or(AdaptError::Malformed)?;
    let exiting = match module.proc_exit {
        Some(import) if !module.has_component_type => Some(exit_with_code(bytes, &import)?),
        _ => None,
    };
    ComponentEncoder::default()
        .module(exiting.as_deref().unwrap_or(bytes))
        .and_then(|encoder| encoder.adapter(WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, adapter))
        .and_then(|mut encoder| encoder.encode())
        .map_err(|error| AdaptError::Encode(first_cause(&format!("{error:#}"))))
}

/// Encoders answer with a chain of causes over many lines; one sentence is enough for a status.
fn first_cause(chain: &str) -> String {
    chain.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The adapter knows success and failure only. A module's `proc_exit` is therefore bound to WASI's own
/// `exit-with-code`, which has the same core signature.
fn exit_with_code(module: &[u8], import: &ProcExit) -> Result<Vec<u8>, AdaptError> {
    const WIT: &str = "package wasi:cli@0.2.12;
        interface exit { exit: func(status: result); exit-with-code: func(status-code: u8); }
        world exiting { import exit; }";
    let Range { start, end } = import.section.clone();
    let mut section = module[start..import.names.start].to_vec();
    for name in [&b"wasi:cli/exit@0.2.12"[..], b"exit-with-code"] {
        // Both are shorter than 128 bytes: one byte of LEB128.
        section.push(name.len() as u8);
        section.extend_from_slice(name);
    }
    section.extend_from_slice(&module[import.names.end..end]);
    let mut exiting = module[..import.size_at].to_vec();
    write_leb32(&mut exiting, section.len());
    exiting.extend_from_slice(&section);
    exiting.extend_from_slice(&module[end..]);

    let encode = |error: &dyn std::fmt::Display| AdaptError::Encode(error.to_string());
    let mut resolve = Resolve::default();
    let package = resolve.push_str("exit.wit", WIT).map_err(|error| encode(&error))?;
    let world = resolve.select_world(&[package], None).map_err(|error| encode(&error))?;
    embed_component_metadata(&mut exiting, &resolve, world, StringEncoding::UTF8).map_err(|error| encode(&error))?;
    Ok(exiting)
}

fn write_leb32(into: &mut Vec<u8>, mut value: usize) {
    while value >= 0x80 {
        into.push(value as u8 | 0x80);
        value >>= 7;
    }
    into.push(value as u8);
}

/// What is looked for in a core module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Module {
    /// Of a preview 1 command.
    pub exports_start: bool,
    /// Whether it carries its world.
    pub has_component_type: bool,
    pub proc_exit: Option<ProcExit>,
}

/// Where a module imports preview 1's `proc_exit`, in bytes of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProcExit {
    /// The length of the import section, before its contents.
    pub size_at: usize,
    pub section: Range<usize>,
    /// The two names, with their lengths.
    pub names: Range<usize>,
}

/// Walks the sections of a module, reading only names. `None` when it is cut short.
pub fn scan(bytes: &[u8]) -> Option<Module> {
    const CUSTOM_SECTION: u8 = 0;
    const IMPORT_SECTION: u8 = 2;
    const EXPORT_SECTION: u8 = 7;
    // Module, field, and the tag of a function; the lengths before the names make it unmistakable.
    const PROC_EXIT: &[u8] = b"\x16wasi_snapshot_preview1\x09proc_exit\x00";
    let mut found = Module { exports_start: false, has_component_type: false, proc_exit: None };
    let mut rest = Reader(bytes.get(8..)?);
    while !rest.0.is_empty() {
        let id = rest.byte()?;
        let size_at = bytes.len() - rest.0.len();
        let size = rest.leb32()?;
        let start = bytes.len() - rest.0.len();
        let mut section = Reader(rest.take(size)?);
        match id {
            IMPORT_SECTION => {
                let contents = section.0;
                if let Some(at) = contents.windows(PROC_EXIT.len()).position(|window| window == PROC_EXIT) {
                    let names = start + at..start + at + PROC_EXIT.len() - 1;
                    found.proc_exit = Some(ProcExit { size_at, section: start..start + contents.len(), names });
                }
            }
            CUSTOM_SECTION => found.has_component_type |= section.name()?.starts_with(b"component-type"),
            EXPORT_SECTION => {
                for _ in 0..section.leb32()? {
                    let name = section.name()?;
                    let is_function = section.byte()? == 0;
                    section.leb32()?;
                    found.exports_start |= is_function && name == b"_start";
                }
            }
            _ => {}
        }
    }
    Some(found)
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn byte(&mut self) -> Option<u8> {
        self.take(1).map(|taken| taken[0])
    }

    fn take(&mut self, n: u32) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(n as usize)?;
        self.0 = rest;
        Some(taken)
    }

    fn name(&mut self) -> Option<&'a [u8]> {
        let length = self.leb32()?;
        self.take(length)
    }

    fn leb32(&mut self) -> Option<u32> {
        let mut value = 0u64;
        for shift in (0..35).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return u32::try_from(value).ok();
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(bytes: &[u8]) -> String {
        componentize(bytes).unwrap_err().to_string()
    }

    #[test]
    fn what_is_not_wasm_is_refused_in_one_sentence() {
        expect_test::expect!["the file is empty"].assert_eq(&refused(b""));
        expect_test::expect!["the file does not start with the WebAssembly magic number"].assert_eq(&refused(b"hello"));
        expect_test::expect!["the module is cut short or malformed"].assert_eq(&refused(b"\0asm\x01"));
        expect_test::expect!["the file has WebAssembly layer and version 0x00000009, which is unknown"]
            .assert_eq(&refused(b"\0asm\x09\0\0\0"));
        expect_test::expect![
            "the module has no `_start` function and carries no component type, so there is nothing to run"
        ]
        .assert_eq(&refused(&wat::parse_str("(module (func (export \"add\")))").unwrap()));
    }

    #[test]
    fn every_truncation_is_an_error_not_a_panic() {
        let module = wat::parse_str("(module (memory (export \"memory\") 1) (func (export \"_start\")))").unwrap();
        assert_eq!(kind(&componentize(&module).unwrap()).unwrap(), Kind::Component);
        for end in 0..module.len() {
            assert!(componentize(&module[..end]).is_err(), "first {end} bytes were accepted");
        }
    }
}
