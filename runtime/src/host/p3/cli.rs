//! `wasi:cli` 0.3: arguments, environment and standard streams of the container, which may be a terminal's.

use wasmtime::component::{Access, FutureReader, HasSelf, Linker, Resource, StreamReader};
use wasmtime_wasi::I32Exit;
use wasmtime_wasi::p3::bindings::cli;
use wasmtime_wasi::p3::cli::{TerminalInput, TerminalOutput};

use super::streams;
use crate::wasm::lines::Source;
use crate::wasm::stdio::{In, Out};
use crate::wasm::store::State;
use cli::types::ErrorCode;

/// How a standard stream ended.
type Outcome = FutureReader<Result<(), ErrorCode>>;

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

pub fn types(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    cli::types::add_to_linker::<State, HasSelf<State>>(linker, |state| state)
}

impl cli::types::Host for State {}

impl cli::environment::Host for State {
    fn get_environment(&mut self) -> wasmtime::Result<Vec<(String, String)>> {
        Ok(self.container.env.clone())
    }

    fn get_arguments(&mut self) -> wasmtime::Result<Vec<String>> {
        Ok(self.container.args.clone())
    }

    fn get_initial_cwd(&mut self) -> wasmtime::Result<Option<String>> {
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

fn code(error: Option<&std::io::Error>) -> ErrorCode {
    if error.is_none() { ErrorCode::Pipe } else { ErrorCode::Io }
}

fn output(
    mut store: Access<'_, State, HasSelf<State>>,
    stream: StreamReader<u8>,
    source: Source,
) -> wasmtime::Result<Outcome> {
    let out = Out::new(store.get().container.clone(), source);
    streams::write(store, stream, out, code)
}

impl cli::stdin::Host for State {}

impl cli::stdin::HostWithStore<State> for HasSelf<State> {
    fn read_via_stream(mut store: Access<'_, State, Self>) -> wasmtime::Result<(StreamReader<u8>, Outcome)> {
        let input = In(store.get().container.clone());
        streams::read(store, input, code)
    }
}

impl cli::stdout::Host for State {}

impl cli::stdout::HostWithStore<State> for HasSelf<State> {
    fn write_via_stream(store: Access<'_, State, Self>, stream: StreamReader<u8>) -> wasmtime::Result<Outcome> {
        output(store, stream, Source::Stdout)
    }
}

impl cli::stderr::Host for State {}

impl cli::stderr::HostWithStore<State> for HasSelf<State> {
    fn write_via_stream(store: Access<'_, State, Self>, stream: StreamReader<u8>) -> wasmtime::Result<Outcome> {
        output(store, stream, Source::Stderr)
    }
}

impl cli::terminal_input::Host for State {}

impl cli::terminal_input::HostTerminalInput for State {
    fn drop(&mut self, terminal: Resource<TerminalInput>) -> wasmtime::Result<()> {
        self.table.delete(terminal)?;
        Ok(())
    }
}

impl cli::terminal_output::Host for State {}

impl cli::terminal_output::HostTerminalOutput for State {
    fn drop(&mut self, terminal: Resource<TerminalOutput>) -> wasmtime::Result<()> {
        self.table.delete(terminal)?;
        Ok(())
    }
}

impl State {
    fn terminal_p3(&mut self) -> wasmtime::Result<Option<Resource<TerminalOutput>>> {
        Ok(if self.container.stdio.tty { Some(self.table.push(TerminalOutput)?) } else { None })
    }
}

impl cli::terminal_stdin::Host for State {
    fn get_terminal_stdin(&mut self) -> wasmtime::Result<Option<Resource<TerminalInput>>> {
        if !self.container.stdio.tty || self.container.stdio.stdin.is_none() {
            return Ok(None);
        }
        Ok(Some(self.table.push(TerminalInput)?))
    }
}

impl cli::terminal_stdout::Host for State {
    fn get_terminal_stdout(&mut self) -> wasmtime::Result<Option<Resource<TerminalOutput>>> {
        self.terminal_p3()
    }
}

impl cli::terminal_stderr::Host for State {
    fn get_terminal_stderr(&mut self) -> wasmtime::Result<Option<Resource<TerminalOutput>>> {
        self.terminal_p3()
    }
}
