//! Makes a component of a core module, for guests built from source: `componentize IN.wasm OUT.wasm`.

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    let (Some(input), Some(output)) = (args.next(), args.next()) else {
        eprintln!("usage: componentize IN.wasm OUT.wasm");
        return ExitCode::from(2);
    };
    let done = std::fs::read(&input)
        .map_err(|error| format!("reading {}: {error}", input.display()))
        .and_then(|module| k8w_runtime::wasm::adapt::componentize(&module).map_err(|error| error.to_string()))
        .and_then(|component| {
            std::fs::write(&output, component).map_err(|error| format!("writing {}: {error}", output.display()))
        });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("componentize: {message}");
            ExitCode::FAILURE
        }
    }
}
