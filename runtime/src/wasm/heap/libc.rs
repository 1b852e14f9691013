//! Keeps an allocator that asks how large the memory is off the pages that the adapter takes.
//!
//! One that asks when it is first used takes all of it, the adapter's pages too: wasi-libc's did before it knew `__heap_end`
//! (<https://github.com/WebAssembly/wasi-libc/pull/377>), and many modules are linked with such a one. So a module is told the
//! size that its memory had when the module itself last made it grow.

use wasm_encoder::reencode::{self, Reencode, utils};
use wasm_encoder::{
    BlockType, CodeSection, ConstExpr, Function, FunctionSection, GlobalSection, GlobalType, Instruction, Module,
    TypeSection, ValType,
};
use wasmparser::{Operator, Parser, Payload, TypeRef};

/// The module with its `memory.size` and `memory.grow` made so; `None` where nothing need be: one that never asks, or gives the
/// adapter room itself (`cabi_realloc`). One that has no memory of its own, or an unusual one, is let be.
///
/// # Errors
/// With the reason when the module is malformed.
pub fn own_pages(module: &[u8]) -> Result<Option<Vec<u8>>, String> {
    let Some(mut own) = OwnPages::of(module).map_err(|error| error.to_string())? else { return Ok(None) };
    let mut made = Module::new();
    own.parse_core_module(&mut made, Parser::new(0), module).map_err(|error| error.to_string())?;
    Ok(Some(made.finish()))
}

/// What is added to a module, by index: a global that holds the size in pages, and a function that makes the memory grow.
struct OwnPages {
    initial_pages: i32,
    size: u32,
    grow: u32,
    grow_type: u32,
}

impl OwnPages {
    fn of(module: &[u8]) -> wasmparser::Result<Option<OwnPages>> {
        let (mut types, mut functions, mut globals) = (0, 0, 0);
        let (mut memories, mut has_globals, mut asks) = (Vec::new(), false, false);
        for payload in Parser::new(0).parse_all(module) {
            match payload? {
                Payload::TypeSection(section) => {
                    for group in section {
                        types += group?.types().len() as u32;
                    }
                }
                Payload::ImportSection(section) => {
                    for import in section.into_imports() {
                        match import?.ty {
                            TypeRef::Func(_) | TypeRef::FuncExact(_) => functions += 1,
                            TypeRef::Global(_) => globals += 1,
                            TypeRef::Memory(_) => return Ok(None),
                            TypeRef::Table(_) | TypeRef::Tag(_) => {}
                        }
                    }
                }
                Payload::FunctionSection(section) => functions += section.count(),
                Payload::GlobalSection(section) => {
                    globals += section.count();
                    has_globals = true;
                }
                Payload::MemorySection(section) => {
                    for memory in section {
                        memories.push(memory?);
                    }
                }
                Payload::ExportSection(section) => {
                    for export in section {
                        if export?.name == "cabi_realloc" {
                            return Ok(None);
                        }
                    }
                }
                Payload::CodeSectionEntry(body) if !asks => {
                    for operator in body.get_operators_reader()? {
                        asks |= matches!(operator?, Operator::MemorySize { mem: 0 });
                    }
                }
                _ => {}
            }
        }
        let [memory] = memories[..] else { return Ok(None) };
        if !asks || !has_globals || memory.memory64 || memory.shared || memory.page_size_log2.is_some() {
            return Ok(None);
        }
        let Ok(initial_pages) = i32::try_from(memory.initial) else { return Ok(None) };
        Ok(Some(OwnPages { initial_pages, size: globals, grow: functions, grow_type: types }))
    }

    /// `memory.grow`, which takes down what the memory's size is then. Growing by nothing is asking for the size.
    fn growing(&self) -> Function {
        let mut function = Function::new([]);
        let mut instructions = function.instructions();
        instructions.local_get(0).i32_eqz().if_(BlockType::Empty).global_get(self.size).return_().end();
        instructions.local_get(0).memory_grow(0).local_tee(0).i32_const(-1).i32_ne();
        instructions.if_(BlockType::Empty).memory_size(0).global_set(self.size).end();
        instructions.local_get(0).end();
        function
    }
}

type Outcome<T = ()> = Result<T, reencode::Error>;

impl Reencode for OwnPages {
    type Error = std::convert::Infallible;

    fn parse_type_section(&mut self, types: &mut TypeSection, section: wasmparser::TypeSectionReader<'_>) -> Outcome {
        utils::parse_type_section(self, types, section)?;
        types.ty().function([ValType::I32], [ValType::I32]);
        Ok(())
    }

    fn parse_function_section(
        &mut self,
        functions: &mut FunctionSection,
        section: wasmparser::FunctionSectionReader<'_>,
    ) -> Outcome {
        utils::parse_function_section(self, functions, section)?;
        functions.function(self.grow_type);
        Ok(())
    }

    fn parse_global_section(
        &mut self,
        globals: &mut GlobalSection,
        section: wasmparser::GlobalSectionReader<'_>,
    ) -> Outcome {
        utils::parse_global_section(self, globals, section)?;
        let ty = GlobalType { val_type: ValType::I32, mutable: true, shared: false };
        globals.global(ty, &ConstExpr::i32_const(self.initial_pages));
        Ok(())
    }

    fn parse_code_section(&mut self, code: &mut CodeSection, section: wasmparser::CodeSectionReader<'_>) -> Outcome {
        utils::parse_code_section(self, code, section)?;
        code.function(&self.growing());
        Ok(())
    }

    fn instruction<'a>(&mut self, operator: Operator<'a>) -> Outcome<Instruction<'a>> {
        match operator {
            Operator::MemorySize { mem: 0 } => Ok(Instruction::GlobalGet(self.size)),
            Operator::MemoryGrow { mem: 0 } => Ok(Instruction::Call(self.grow)),
            other => utils::instruction(self, other),
        }
    }
}

#[cfg(test)]
mod tests {
    use wasmtime::{Engine, Instance, Module, Store};

    use super::*;

    const ALLOCATOR: &str = r#"(module
        (import "host" "adapter" (func $adapter))
        (memory (export "memory") 2)
        (global $other (mut i32) (i32.const 7))
        (func (export "other") (result i32) (global.get $other))
        (func (export "called") (call $adapter))
        (func (export "size") (result i32) (memory.size))
        (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0))))"#;

    #[test]
    fn what_others_made_a_memory_grow_by_is_not_the_modules() {
        let made = own_pages(&wat::parse_str(ALLOCATOR).unwrap()).unwrap().unwrap();
        let engine = Engine::default();
        let mut store = Store::new(&engine, ());
        let adapter = wasmtime::Func::wrap(&mut store, |mut caller: wasmtime::Caller<'_, ()>| {
            let memory = caller.get_export("memory").unwrap().into_memory().unwrap();
            memory.grow(&mut caller, 3).unwrap();
        });
        let module = Module::new(&engine, &made).unwrap();
        let instance = Instance::new(&mut store, &module, &[adapter.into()]).unwrap();
        let ask = |store: &mut Store<()>, name: &str| -> i32 {
            instance.get_typed_func::<(), i32>(&mut *store, name).unwrap().call(store, ()).unwrap()
        };
        let grow = |store: &mut Store<()>, by: i32| -> i32 {
            instance.get_typed_func::<i32, i32>(&mut *store, "grow").unwrap().call(store, by).unwrap()
        };
        assert_eq!((ask(&mut store, "size"), ask(&mut store, "other")), (2, 7));
        instance.get_typed_func::<(), ()>(&mut store, "called").unwrap().call(&mut store, ()).unwrap();
        assert_eq!((ask(&mut store, "size"), grow(&mut store, 0)), (2, 2), "three pages are another's");
        assert_eq!(grow(&mut store, 4), 5, "what it gets comes after them");
        assert_eq!((ask(&mut store, "size"), grow(&mut store, 0)), (9, 9));
        assert_eq!(grow(&mut store, 70_000), -1);
        assert_eq!(ask(&mut store, "size"), 9);
    }

    #[test]
    fn others_are_let_be() {
        for module in [
            r#"(module (memory 1) (global i32 (i32.const 0)) (func (drop (i32.const 0))))"#,
            r#"(module (memory 1) (func (drop (memory.size))))"#,
            r#"(module (import "m" "m" (memory 1)) (global i32 (i32.const 0)) (func (drop (memory.size))))"#,
            r#"(module (memory i64 1) (global i32 (i32.const 0)) (func (drop (memory.size))))"#,
            r#"(module (memory 1) (global i32 (i32.const 0)) (func (export "cabi_realloc") (drop (memory.size))))"#,
        ] {
            assert_eq!(own_pages(&wat::parse_str(module).unwrap()), Ok(None), "{module}");
        }
    }
}
