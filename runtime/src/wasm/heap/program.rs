//! What has to be known of a core module before something is added to it.

use std::collections::BTreeMap;

use wasmparser::{DataKind, ExternalKind, Operator, Parser, Payload, TypeRef};

/// A custom section of whatever Go's linker has made.
pub const GO_BUILD_ID: &str = "go:buildid";

/// A module with one ordinary memory and globals of its own, which does not give the adapter room itself (`cabi_realloc`).
#[derive(Default)]
pub struct Program<'a> {
    /// How many of each there are, imports included.
    pub types: u32,
    pub functions: u32,
    pub globals: u32,
    /// How large its memory is to begin with, in pages of 64 KiB.
    pub pages: u64,
    /// Whether it ever asks how large its memory is.
    pub asks_size: bool,
    pub is_go: bool,
    /// Of Go's: its data by their addresses, with where they lie in the file.
    pub data: BTreeMap<u64, (&'a [u8], usize)>,
}

impl<'a> Program<'a> {
    /// # Errors
    /// When the module is malformed.
    pub fn of(module: &'a [u8]) -> wasmparser::Result<Option<Program<'a>>> {
        let mut program = Program::default();
        let (mut memories, mut has_globals) = (Vec::new(), false);
        for payload in Parser::new(0).parse_all(module) {
            match payload? {
                Payload::CustomSection(section) => program.is_go |= section.name() == GO_BUILD_ID,
                Payload::TypeSection(section) => {
                    for group in section {
                        program.types += group?.types().len() as u32;
                    }
                }
                Payload::ImportSection(section) => {
                    for import in section.into_imports() {
                        match import?.ty {
                            TypeRef::Func(_) | TypeRef::FuncExact(_) => program.functions += 1,
                            TypeRef::Global(_) => program.globals += 1,
                            TypeRef::Memory(_) => return Ok(None),
                            TypeRef::Table(_) | TypeRef::Tag(_) => {}
                        }
                    }
                }
                Payload::FunctionSection(section) => program.functions += section.count(),
                Payload::GlobalSection(section) => {
                    program.globals += section.count();
                    has_globals = true;
                }
                Payload::MemorySection(section) => {
                    for memory in section {
                        memories.push(memory?);
                    }
                }
                Payload::ExportSection(section) => {
                    for export in section {
                        let export = export?;
                        if export.kind == ExternalKind::Func && export.name == "cabi_realloc" {
                            return Ok(None);
                        }
                    }
                }
                Payload::CodeSectionEntry(body) if !program.asks_size => {
                    for operator in body.get_operators_reader()? {
                        program.asks_size |= matches!(operator?, Operator::MemorySize { mem: 0 });
                    }
                }
                Payload::DataSection(section) if program.is_go => {
                    for data in section {
                        let data = data?;
                        let DataKind::Active { memory_index: 0, offset_expr } = data.kind else { continue };
                        let Ok(Operator::I32Const { value }) = offset_expr.get_operators_reader().read() else {
                            continue;
                        };
                        let at = data.range.end - data.data.len();
                        program.data.insert(u64::from(value.cast_unsigned()), (data.data, at));
                    }
                }
                _ => {}
            }
        }
        let [memory] = memories[..] else { return Ok(None) };
        let is_ordinary = !memory.memory64 && !memory.shared && memory.page_size_log2.is_none();
        program.pages = memory.initial;
        Ok(Some(program).filter(|_| is_ordinary && has_globals))
    }
}
