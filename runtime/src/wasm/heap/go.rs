//! Sets memory of a Go program apart for the adapter.
//!
//! Go's runtime takes memory in one piece from the end of the program's data, and never asks where what it gets begins
//! (`runtime/mem_sbrk.go`). So the adapter's room is within what the program takes for its data: the runtime reads where they
//! end from its `moduledata` (`runtime/symtab.go`), which is found as debuggers find it, by the magic number of the table that
//! it begins with (`pcHeader`). A program in which it is not found is let be.

use std::collections::BTreeMap;
use std::ops::Range;

use wasm_encoder::reencode::{self, Reencode, utils};
use wasm_encoder::{
    BlockType, CodeSection, ConstExpr, ExportKind, ExportSection, Function, FunctionSection, GlobalSection, GlobalType,
    MemorySection, Module, TypeSection, ValType,
};
use wasmparser::{DataKind, ExternalKind, Operator, Parser, Payload, TypeRef};

const PAGE_BYTES: u64 = 1 << 16;
/// What the adapter asks for: a page for its state, and one for its stack.
const ROOM_BYTES: u64 = 2 * PAGE_BYTES;
/// A custom section of whatever Go's linker has made.
const BUILD_ID: &str = "go:buildid";
/// What `pcHeader` begins with since Go 1.20, and where it says how large a pointer is (WebAssembly's has 64 bits).
const MAGIC: [u8; 4] = 0xffff_fff1_u32.to_le_bytes();
const POINTER_SIZE_AT: u64 = 7;
const POINTER_BYTES: u8 = 8;
/// Words of `moduledata`: from `noptrdata` to `end` addresses that never fall, the first of data and the last of all.
const DATA_WORD: u64 = 24;
const END_WORD: u64 = 34;

/// The program with room for the adapter, which it gives away by `cabi_realloc`; `None` where it is none of Go's, or its data's
/// end cannot be found.
///
/// # Errors
/// With the reason when the module is malformed.
pub fn with_room(module: &[u8]) -> Result<Option<Vec<u8>>, String> {
    let Some(program) = Program::of(module).map_err(|error| error.to_string())? else { return Ok(None) };
    let Some(end) = program.end() else { return Ok(None) };
    let mut moved = module.to_vec();
    let room = end.address.next_multiple_of(PAGE_BYTES)..end.address.next_multiple_of(PAGE_BYTES) + ROOM_BYTES;
    moved[end.at].copy_from_slice(&room.end.to_le_bytes());
    let mut giving = Giving { types: program.types, functions: program.functions, globals: program.globals, room };
    let mut made = Module::new();
    giving.parse_core_module(&mut made, Parser::new(0), &moved).map_err(|error| error.to_string())?;
    Ok(Some(made.finish()))
}

/// What is known of a program: how many of each there are, imports included, and its data by their addresses.
#[derive(Default)]
struct Program<'a> {
    types: u32,
    functions: u32,
    globals: u32,
    memory_bytes: u64,
    /// With where they lie in the file.
    data: BTreeMap<u64, (&'a [u8], usize)>,
}

/// Where the file says which address a program's data end at.
struct End {
    address: u64,
    at: Range<usize>,
}

impl<'a> Program<'a> {
    fn of(module: &'a [u8]) -> wasmparser::Result<Option<Program<'a>>> {
        let (mut program, mut is_go, mut has_globals) = (Program::default(), false, false);
        for payload in Parser::new(0).parse_all(module) {
            match payload? {
                Payload::CustomSection(section) => is_go |= section.name() == BUILD_ID,
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
                        let memory = memory?;
                        if memory.memory64 || memory.shared || memory.page_size_log2.is_some() {
                            return Ok(None);
                        }
                        program.memory_bytes = memory.initial.saturating_mul(PAGE_BYTES);
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
                Payload::DataSection(section) if is_go => {
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
        Ok(Some(program).filter(|_| is_go && has_globals))
    }

    /// Where the program says that its data end, if it says so in one place.
    fn end(&self) -> Option<End> {
        let mut found = None;
        for (&begin, (data, _)) in &self.data {
            let first = begin.next_multiple_of(u64::from(POINTER_BYTES));
            let last = begin + data.len() as u64;
            for address in (first..last).step_by(POINTER_BYTES.into()) {
                if let Some(end) = self.end_in(address)
                    && found.replace(end).is_some()
                {
                    return None;
                }
            }
        }
        found
    }

    /// The same, if what is at this address is the program's `moduledata`.
    fn end_in(&self, moduledata: u64) -> Option<End> {
        let header = self.word(moduledata);
        if !self.is_header(header) {
            return None;
        }
        let word_at = |word: u64| moduledata + word * u64::from(POINTER_BYTES);
        let mut before = 1;
        for word in DATA_WORD..=END_WORD {
            let address = self.word(word_at(word));
            if address < before || address > self.memory_bytes {
                return None;
            }
            before = address;
        }
        let (begin, (data, at)) = self.data.range(..=word_at(END_WORD)).next_back()?;
        let offset = usize::try_from(word_at(END_WORD) - begin).ok()?;
        let at = at + offset;
        (offset + usize::from(POINTER_BYTES) <= data.len())
            .then(|| End { address: before, at: at..at + usize::from(POINTER_BYTES) })
    }

    fn is_header(&self, address: u64) -> bool {
        address != 0
            && (0..).zip(MAGIC).all(|(n, byte)| self.byte(address.saturating_add(n)) == byte)
            && self.byte(address.saturating_add(POINTER_SIZE_AT)) == POINTER_BYTES
    }

    /// Zero where no data are.
    fn byte(&self, address: u64) -> u8 {
        let found = self.data.range(..=address).next_back();
        let byte = found.and_then(|(begin, (data, _))| data.get(usize::try_from(address - begin).ok()?));
        byte.copied().unwrap_or_default()
    }

    fn word(&self, address: u64) -> u64 {
        let bytes = [0, 1, 2, 3, 4, 5, 6, 7].map(|n| self.byte(address.saturating_add(n)));
        u64::from_le_bytes(bytes)
    }
}

/// Adds a global, which is what is left of the room, and a function that gives it away.
struct Giving {
    types: u32,
    functions: u32,
    globals: u32,
    room: Range<u64>,
}

impl Giving {
    /// `cabi_realloc` for somebody who never gives back, nor asks for another size.
    fn giving(&self) -> Function {
        const SIZE: u32 = 3;
        const GIVEN: u32 = 4;
        let mut function = Function::new([(1, ValType::I32)]);
        let mut instructions = function.instructions();
        instructions.global_get(self.globals).local_tee(GIVEN).local_get(SIZE).i32_add().global_set(self.globals);
        instructions.global_get(self.globals).i32_const(self.room.end as i32).i32_gt_u();
        instructions.if_(BlockType::Empty).unreachable().end();
        instructions.local_get(GIVEN).end();
        function
    }
}

type Outcome<T = ()> = Result<T, reencode::Error>;

impl Reencode for Giving {
    type Error = std::convert::Infallible;

    fn parse_type_section(&mut self, types: &mut TypeSection, section: wasmparser::TypeSectionReader<'_>) -> Outcome {
        utils::parse_type_section(self, types, section)?;
        types.ty().function([ValType::I32; 4], [ValType::I32]);
        Ok(())
    }

    fn parse_function_section(
        &mut self,
        functions: &mut FunctionSection,
        section: wasmparser::FunctionSectionReader<'_>,
    ) -> Outcome {
        utils::parse_function_section(self, functions, section)?;
        functions.function(self.types);
        Ok(())
    }

    fn parse_memory_section(
        &mut self,
        memories: &mut MemorySection,
        section: wasmparser::MemorySectionReader<'_>,
    ) -> Outcome {
        for memory in section {
            let mut memory = self.memory_type(memory?)?;
            // As much for the program as it had.
            memory.minimum += ROOM_BYTES / PAGE_BYTES + 1;
            memory.maximum = memory.maximum.map(|maximum| maximum.max(memory.minimum));
            memories.memory(memory);
        }
        Ok(())
    }

    fn parse_global_section(
        &mut self,
        globals: &mut GlobalSection,
        section: wasmparser::GlobalSectionReader<'_>,
    ) -> Outcome {
        utils::parse_global_section(self, globals, section)?;
        let ty = GlobalType { val_type: ValType::I32, mutable: true, shared: false };
        globals.global(ty, &ConstExpr::i32_const(self.room.start as i32));
        Ok(())
    }

    fn parse_export_section(
        &mut self,
        exports: &mut ExportSection,
        section: wasmparser::ExportSectionReader<'_>,
    ) -> Outcome {
        utils::parse_export_section(self, exports, section)?;
        exports.export("cabi_realloc", ExportKind::Func, self.functions);
        Ok(())
    }

    fn parse_code_section(&mut self, code: &mut CodeSection, section: wasmparser::CodeSectionReader<'_>) -> Outcome {
        utils::parse_code_section(self, code, section)?;
        code.function(&self.giving());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use wasmtime::{Engine, Instance, Store};

    use super::*;

    /// What Go's linker leaves of a program whose data end at `end`: a header at 4,096, and a `moduledata` at 8,192.
    fn program(custom: &str, magic: &str, end: u64) -> Vec<u8> {
        let mut words = vec![0_u64; 36];
        words[0] = 4_096;
        for (n, word) in (0..).zip(&mut words[24..34]) {
            *word = 8_192 + n * 8;
        }
        words[34] = end;
        let bytes: String =
            words.iter().flat_map(|word| word.to_le_bytes()).map(|byte| format!("\\{byte:02x}")).collect();
        let text = format!(
            r#"(module (@custom "{custom}" (before first) "x") (memory (export "memory") 3) (global (mut i32) (i32.const 0)) (func)
                (func (export "end") (result i64) (i64.load (i32.const {})))
                (data (i32.const 4096) "{magic}\ff\ff\ff\00\00\01\08") (data (i32.const 8192) "{bytes}"))"#,
            8_192 + 34 * 8
        );
        wat::parse_str(text).unwrap()
    }

    #[test]
    fn the_adapter_has_room_before_what_the_runtime_takes() {
        let made = with_room(&program(BUILD_ID, "\\f1", 70_000)).unwrap().unwrap();
        let engine = Engine::default();
        let mut store = Store::new(&engine, ());
        let module = wasmtime::Module::new(&engine, &made).unwrap();
        let instance = Instance::new(&mut store, &module, &[]).unwrap();
        let end = instance.get_typed_func::<(), i64>(&mut store, "end").unwrap().call(&mut store, ()).unwrap();
        assert_eq!(end, 4 * 65_536);
        assert_eq!(instance.get_memory(&mut store, "memory").unwrap().size(&store), 6);
        let realloc = instance.get_typed_func::<(i32, i32, i32, i32), i32>(&mut store, "cabi_realloc").unwrap();
        let mut give = || realloc.call(&mut store, (0, 0, 8, 65_536));
        assert_eq!((give().unwrap(), give().unwrap()), (2 * 65_536, 3 * 65_536));
        give().unwrap_err();
    }

    #[test]
    fn others_are_let_be() {
        for module in [
            program("name of another", "\\f1", 70_000),
            program(BUILD_ID, "\\f2", 70_000),
            // Beyond its memory, and before other data.
            program(BUILD_ID, "\\f1", 700_000),
            program(BUILD_ID, "\\f1", 8_000),
        ] {
            assert_eq!(with_room(&module), Ok(None));
        }
    }
}
