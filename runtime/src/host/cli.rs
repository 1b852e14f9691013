//! `wasi:cli`: arguments, environment and standard streams of the container, which may be a terminal's.

use wasmtime::component::{HasSelf, Linker, Resource};
use wasmtime_wasi::I32Exit;
use wasmtime_wasi::p2::bindings::cli;
use wasmtime_wasi::p2::bindings::cli::terminal_input::TerminalInput;
use wasmtime_wasi::p2::bindings::cli::terminal_output::TerminalOutput;
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream};

use crate::wasm::lines::Source;
use crate::wasm::stdio::{In, Out};
use crate::wasm::store::State;

pub fn environment(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    cli::environment::add_to_linker::<State, HasSelf<State>>(linker, |state| state)
}

pub fn exit(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    cli::exit::add_to_linker::<State, HasSelf<State>>(linker, |state| state)
}

pub fn stdin(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    cli::stdin::add_to_linker::<State, HasSelf<State>>(linker, |state| state)
}

pub fn stdout(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    cli::stdout::add_to_linker::<State, HasSelf<State>>(linker, |state| state)
}

pub fn stderr(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    cli::stderr::add_to_linker::<State, HasSelf<State>>(linker, |state| state)
}

pub fn terminal_input(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    cli::terminal_input::add_to_linker::<State, HasSelf<State>>(linker, |state| state)
}

pub fn terminal_output(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    cli::terminal_output::add_to_linker::<State, HasSelf<State>>(linker, |state| state)
}

pub fn terminal_stdin(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    cli::terminal_stdin::add_to_linker::<State, HasSelf<State>>(linker, |state| state)
}

pub fn terminal_stdout(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    cli::terminal_stdout::add_to_linker::<State, HasSelf<State>>(linker, |state| state)
}

pub fn terminal_stderr(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    cli::terminal_stderr::add_to_linker::<State, HasSelf<State>>(linker, |state| state)
}

impl cli::environment::Host for State {
    fn get_environment(&mut self) -> wasmtime::Result<Vec<(String, String)>> {
        Ok(self.container.env.clone())
    }

    fn get_arguments(&mut self) -> wasmtime::Result<Vec<String>> {
        Ok(self.container.args.clone())
    }

    fn initial_cwd(&mut self) -> wasmtime::Result<Option<String>> {
        Ok(self.container.working_dir.clone())
    }
}

impl cli::exit::Host for State {
    fn exit(&mut self, status: Result<(), ()>) -> wasmtime::Result<()> {
        Err(I32Exit(i32::from(status.is_err())).into())
    }

    fn exit_with_code(&mut self, status_code: u8) -> wasmtime::Result<()> {
        Err(I32Exit(i32::from(status_code)).into())
    }
}

impl cli::stdin::Host for State {
    fn get_stdin(&mut self) -> wasmtime::Result<Resource<DynInputStream>> {
        Ok(self.table.push(Box::new(In(self.container.clone())) as DynInputStream)?)
    }
}

impl State {
    fn output(&mut self, source: Source) -> wasmtime::Result<Resource<DynOutputStream>> {
        let stream: DynOutputStream = Box::new(Out::new(self.container.clone(), source));
        Ok(self.table.push(stream)?)
    }

    fn terminal(&mut self) -> wasmtime::Result<Option<Resource<TerminalOutput>>> {
        Ok(if self.container.stdio.tty { Some(self.table.push(TerminalOutput)?) } else { None })
    }
}

impl cli::stdout::Host for State {
    fn get_stdout(&mut self) -> wasmtime::Result<Resource<DynOutputStream>> {
        self.output(Source::Stdout)
    }
}

impl cli::stderr::Host for State {
    fn get_stderr(&mut self) -> wasmtime::Result<Resource<DynOutputStream>> {
        self.output(Source::Stderr)
    }
}

impl cli::terminal_input::Host for State {}

impl cli::terminal_input::HostTerminalInput for State {
    fn drop(&mut self, terminal: Resource<cli::terminal_input::TerminalInput>) -> wasmtime::Result<()> {
        self.table.delete(terminal)?;
        Ok(())
    }
}

impl cli::terminal_output::Host for State {}

impl cli::terminal_output::HostTerminalOutput for State {
    fn drop(&mut self, terminal: Resource<cli::terminal_output::TerminalOutput>) -> wasmtime::Result<()> {
        self.table.delete(terminal)?;
        Ok(())
    }
}

impl cli::terminal_stdin::Host for State {
    fn get_terminal_stdin(&mut self) -> wasmtime::Result<Option<Resource<cli::terminal_input::TerminalInput>>> {
        if !self.container.stdio.tty || self.container.stdio.stdin.is_none() {
            return Ok(None);
        }
        Ok(Some(self.table.push(TerminalInput)?))
    }
}

impl cli::terminal_stdout::Host for State {
    fn get_terminal_stdout(&mut self) -> wasmtime::Result<Option<Resource<cli::terminal_output::TerminalOutput>>> {
        self.terminal()
    }
}

impl cli::terminal_stderr::Host for State {
    fn get_terminal_stderr(&mut self) -> wasmtime::Result<Option<Resource<cli::terminal_output::TerminalOutput>>> {
        self.terminal()
    }
}
