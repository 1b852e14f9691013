//! Sets memory of a Go program apart for the adapter.
//!
//! Go's runtime takes memory in one piece from the end of the program's data, and never asks where what it gets begins
//! (`runtime/mem_sbrk.go`). So the adapter's room is within what the program takes for its data: the runtime reads where they
//! end from its `moduledata` (`runtime/symtab.go`), which is found as debuggers find it, by the magic number of the table that
//! it begins with (`pcHeader`). A program in which it is not found is let be.

use std::ops::Range;

use wasm_encoder::{BlockType, Function, ValType};

use super::addition::{Addition, Used};
use super::program::Program;

const PAGE_BYTES: u64 = 1 << 16;
/// What the adapter asks for: a page for its state, and one for its stack.
const ROOM_BYTES: u64 = 2 * PAGE_BYTES;
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
pub fn with_room(program: &Program<'_>, module: &[u8]) -> Result<Option<Vec<u8>>, String> {
    let Some(end) = program.end().filter(|_| program.is_go) else { return Ok(None) };
    let mut moved = module.to_vec();
    let begin = end.address.next_multiple_of(PAGE_BYTES);
    let room = begin..begin + ROOM_BYTES;
    moved[end.at].copy_from_slice(&room.end.to_le_bytes());
    let function = giving(program.globals, room.end as i32);
    // As much memory for the program as it had.
    let used = Used::ByName { name: "cabi_realloc", more_pages: ROOM_BYTES / PAGE_BYTES + 1 };
    Addition { parameters: 4, function, initial: room.start as i32, used }.to(program, &moved).map(Some)
}

/// `cabi_realloc` for somebody who never gives back, nor asks for another size: a global says where what is left begins.
fn giving(next: u32, end: i32) -> Function {
    const SIZE: u32 = 3;
    const GIVEN: u32 = 4;
    let mut function = Function::new([(1, ValType::I32)]);
    let mut instructions = function.instructions();
    instructions.global_get(next).local_tee(GIVEN).local_get(SIZE).i32_add().global_set(next);
    instructions.global_get(next).i32_const(end).i32_gt_u();
    instructions.if_(BlockType::Empty).unreachable().end();
    instructions.local_get(GIVEN).end();
    function
}

/// Where the file says which address a program's data end at.
struct End {
    address: u64,
    at: Range<usize>,
}

impl Program<'_> {
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
            if address < before || address > self.pages.saturating_mul(PAGE_BYTES) {
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

#[cfg(test)]
mod tests {
    use wasmtime::{Engine, Instance, Store};

    use super::super::apart;
    use super::super::program::GO_BUILD_ID;

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
        let made = apart(&program(GO_BUILD_ID, "\\f1", 70_000)).unwrap().unwrap();
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
            program(GO_BUILD_ID, "\\f2", 70_000),
            // Beyond its memory, and before other data.
            program(GO_BUILD_ID, "\\f1", 700_000),
            program(GO_BUILD_ID, "\\f1", 8_000),
        ] {
            assert_eq!(apart(&module), Ok(None));
        }
    }
}
