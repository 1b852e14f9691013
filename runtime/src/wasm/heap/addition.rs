//! A function and a global that are added to a module, behind all that it has.

use wasm_encoder::reencode::{self, Reencode, utils};
use wasm_encoder::{
    CodeSection, ConstExpr, ExportKind, ExportSection, Function, FunctionSection, GlobalSection, GlobalType,
    Instruction, MemorySection, Module, TypeSection, ValType,
};
use wasmparser::{Operator, Parser};

use super::program::Program;

/// What is added. All values are of 32 bits.
pub struct Addition {
    /// Of the function, which returns one value.
    pub parameters: usize,
    pub function: Function,
    /// What the global is to begin with.
    pub initial: i32,
    pub used: Used,
}

/// Who uses it.
#[derive(Clone, Copy)]
pub enum Used {
    /// The module itself: the global is its `memory.size`, the function its `memory.grow`.
    AsMemory,
    /// Others, by this name; the memory has so many pages more for it.
    ByName { name: &'static str, more_pages: u64 },
}

impl Addition {
    /// # Errors
    /// With the reason when the module is malformed.
    pub fn to(self, program: &Program<'_>, module: &[u8]) -> Result<Vec<u8>, String> {
        let (ty, function, global) = (program.types, program.functions, program.globals);
        let mut adding = Adding { addition: self, ty, function, global };
        let mut made = Module::new();
        adding.parse_core_module(&mut made, Parser::new(0), module).map_err(|error| error.to_string())?;
        Ok(made.finish())
    }
}

/// With the indexes of what is added.
struct Adding {
    addition: Addition,
    ty: u32,
    function: u32,
    global: u32,
}

type Outcome<T = ()> = Result<T, reencode::Error>;

impl Reencode for Adding {
    type Error = std::convert::Infallible;

    fn parse_type_section(&mut self, types: &mut TypeSection, section: wasmparser::TypeSectionReader<'_>) -> Outcome {
        utils::parse_type_section(self, types, section)?;
        types.ty().function(vec![ValType::I32; self.addition.parameters], [ValType::I32]);
        Ok(())
    }

    fn parse_function_section(
        &mut self,
        functions: &mut FunctionSection,
        section: wasmparser::FunctionSectionReader<'_>,
    ) -> Outcome {
        utils::parse_function_section(self, functions, section)?;
        functions.function(self.ty);
        Ok(())
    }

    fn parse_memory_section(
        &mut self,
        memories: &mut MemorySection,
        section: wasmparser::MemorySectionReader<'_>,
    ) -> Outcome {
        for memory in section {
            let mut memory = self.memory_type(memory?)?;
            if let Used::ByName { more_pages, .. } = self.addition.used {
                memory.minimum += more_pages;
                memory.maximum = memory.maximum.map(|maximum| maximum.max(memory.minimum));
            }
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
        globals.global(ty, &ConstExpr::i32_const(self.addition.initial));
        Ok(())
    }

    fn parse_export_section(
        &mut self,
        exports: &mut ExportSection,
        section: wasmparser::ExportSectionReader<'_>,
    ) -> Outcome {
        utils::parse_export_section(self, exports, section)?;
        if let Used::ByName { name, .. } = self.addition.used {
            exports.export(name, ExportKind::Func, self.function);
        }
        Ok(())
    }

    fn parse_code_section(&mut self, code: &mut CodeSection, section: wasmparser::CodeSectionReader<'_>) -> Outcome {
        utils::parse_code_section(self, code, section)?;
        code.function(&self.addition.function);
        Ok(())
    }

    fn instruction<'a>(&mut self, operator: Operator<'a>) -> Outcome<Instruction<'a>> {
        match (operator, self.addition.used) {
            (Operator::MemorySize { mem: 0 }, Used::AsMemory) => Ok(Instruction::GlobalGet(self.global)),
            (Operator::MemoryGrow { mem: 0 }, Used::AsMemory) => Ok(Instruction::Call(self.function)),
            (other, _) => utils::instruction(self, other),
        }
    }
}
