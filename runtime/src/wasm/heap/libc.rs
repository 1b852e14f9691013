//! Keeps an allocator that asks how large the memory is off the pages that the adapter takes.
//!
//! One that asks when it is first used takes all of it, the adapter's pages too: wasi-libc's did before it knew `__heap_end`
//! (<https://github.com/WebAssembly/wasi-libc/pull/377>), and many modules are linked with such a one. So a module is told the
//! size that its memory had when the module itself last made it grow.

use wasm_encoder::{BlockType, Function};

use super::addition::{Addition, Used};
use super::program::Program;

/// The module with its `memory.size` and `memory.grow` made so; `None` for one that never asks.
///
/// # Errors
/// With the reason when the module is malformed.
pub fn own_pages(program: &Program<'_>, module: &[u8]) -> Result<Option<Vec<u8>>, String> {
    let (true, Ok(initial)) = (program.asks_size, i32::try_from(program.pages)) else { return Ok(None) };
    let function = growing(program.globals);
    Addition { parameters: 1, function, initial, used: Used::AsMemory }.to(program, module).map(Some)
}

/// `memory.grow`, which takes down in a global what the memory's size is then. Growing by nothing is asking for the size.
fn growing(size: u32) -> Function {
    let mut function = Function::new([]);
    let mut instructions = function.instructions();
    instructions.local_get(0).i32_eqz().if_(BlockType::Empty).global_get(size).return_().end();
    instructions.local_get(0).memory_grow(0).local_tee(0).i32_const(-1).i32_ne();
    instructions.if_(BlockType::Empty).memory_size(0).global_set(size).end();
    instructions.local_get(0).end();
    function
}

#[cfg(test)]
mod tests {
    use wasmtime::{Engine, Instance, Module, Store};

    use super::super::apart;

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
        let made = apart(&wat::parse_str(ALLOCATOR).unwrap()).unwrap().unwrap();
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
            assert_eq!(apart(&wat::parse_str(module).unwrap()), Ok(None), "{module}");
        }
    }
}
