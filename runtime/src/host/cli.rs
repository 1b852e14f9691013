//! `wasi:cli`: arguments, environment and standard streams of the container; there is no terminal.

use wasmtime::component::{HasSelf, Linker, Resource};
use wasmtime_wasi::I32Exit;
use wasmtime_wasi::p2::bindings::cli;
use wasmtime_wasi::p2::pipe::ClosedInputStream;
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream};

use crate::wasm::logs::{LogStream, Source};
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
        Ok(self.table.push(Box::new(ClosedInputStream) as DynInputStream)?)
    }
}

impl State {
    fn log_stream(&mut self, source: Source) -> wasmtime::Result<Resource<DynOutputStream>> {
        let stream: DynOutputStream = Box::new(LogStream::new(self.container.log.clone(), source));
        Ok(self.table.push(stream)?)
    }
}

impl cli::stdout::Host for State {
    fn get_stdout(&mut self) -> wasmtime::Result<Resource<DynOutputStream>> {
        self.log_stream(Source::Stdout)
    }
}

impl cli::stderr::Host for State {
    fn get_stderr(&mut self) -> wasmtime::Result<Resource<DynOutputStream>> {
        self.log_stream(Source::Stderr)
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
        Ok(None)
    }
}

impl cli::terminal_stdout::Host for State {
    fn get_terminal_stdout(&mut self) -> wasmtime::Result<Option<Resource<cli::terminal_output::TerminalOutput>>> {
        Ok(None)
    }
}

impl cli::terminal_stderr::Host for State {
    fn get_terminal_stderr(&mut self) -> wasmtime::Result<Option<Resource<cli::terminal_output::TerminalOutput>>> {
        Ok(None)
    }
}
