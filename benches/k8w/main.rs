//! What k8w costs: each measurement starts the real binary, puts load on it and prints a line or a small table.
//!
//! `cargo bench --bench k8w -- up api` runs some measurements, without names all of them. `docs/bench.md` says what each
//! figure means and what bounds it. To add a measurement: a file, a `mod` line and a row in [`MEASUREMENTS`].

mod api;
mod bare;
mod calls;
mod changes;
mod cluster;
mod compare;
mod crowd;
mod density;
mod direct;
mod fan_out;
mod fleet;
mod frames;
mod fronts;
mod guests;
mod http1;
mod http2;
mod in_turn;
mod ingress;
mod limits;
mod lists;
mod load;
mod memory;
mod node;
mod node_watches;
mod objects;
mod open_loop;
mod pod;
mod pod_rate;
mod quota;
mod scheduler;
mod stats;
mod up;
mod watchers;

use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use futures::future::BoxFuture;

/// Takes one measurement and prints it.
type Measure = fn() -> BoxFuture<'static, Result<()>>;

/// Every measurement under the name by which it is chosen.
const MEASUREMENTS: &[(&str, Measure)] = &[
    ("up", || Box::pin(up::measure())),
    ("ingress", || Box::pin(ingress::measure())),
    ("api", || Box::pin(api::measure())),
    ("updates", || Box::pin(changes::measure(&changes::UPDATE))),
    ("patches", || Box::pin(changes::measure(&changes::PATCH))),
    ("applies", || Box::pin(changes::measure(&changes::APPLY))),
    ("lists", || Box::pin(lists::measure())),
    ("fan-out", || Box::pin(fan_out::measure())),
    ("node-watches", || Box::pin(node_watches::measure())),
    ("memory", || Box::pin(memory::measure())),
    ("objects", || Box::pin(objects::measure())),
    ("pod", || Box::pin(pod::measure())),
    ("pod-rate", || Box::pin(pod_rate::measure())),
    ("zero-hop", || Box::pin(calls::zero_hop())),
    ("guest-calls", || Box::pin(calls::by_guests())),
    ("cold", || Box::pin(calls::cold())),
    ("epochs", || Box::pin(calls::epochs())),
    ("quota", || Box::pin(quota::measure())),
    ("limits", || Box::pin(limits::measure())),
    ("density", || Box::pin(density::measure())),
    ("crowd", || Box::pin(crowd::measure())),
    ("live", || Box::pin(crowd::measure_live())),
    ("scheduler", || Box::pin(scheduler::measure())),
    ("fleet", || Box::pin(fleet::measure())),
];

/// For how long measurements of a given time take place, if not for their own.
const SECONDS: &str = "K8W_BENCH_SECONDS";

/// What [`SECONDS`] says.
fn seconds() -> Result<Option<Duration>> {
    let Ok(text) = std::env::var(SECONDS) else { return Ok(None) };
    let seconds: f64 = text.parse().with_context(|| format!("{SECONDS} is no number: {text}"))?;
    Ok(Some(Duration::from_secs_f64(seconds)))
}

/// With these set, every error that wasmtime makes on its normal path captures a backtrace: all servers would be slowed down.
const DIAGNOSTIC_VARIABLES: [&str; 2] = ["RUST_BACKTRACE", "RUST_LIB_BACKTRACE"];

fn main() -> ExitCode {
    if DIAGNOSTIC_VARIABLES.iter().any(|name| std::env::var_os(name).is_some()) {
        return restart_without_diagnostics();
    }
    measure()
}

/// Replaces this process by one that has not got the variables, and neither have its children.
fn restart_without_diagnostics() -> ExitCode {
    let error = std::env::current_exe().map(|this| {
        let mut again = Command::new(this);
        DIAGNOSTIC_VARIABLES.iter().for_each(|name| {
            again.env_remove(name);
        });
        again.args(std::env::args_os().skip(1)).exec()
    });
    eprintln!("error: cannot start again: {}", error.unwrap_or_else(|error| error));
    ExitCode::FAILURE
}

#[tokio::main]
async fn measure() -> ExitCode {
    // The process has one TLS provider; a second installation would change nothing.
    let _ = rustls::crypto::ring::default_provider().install_default();
    // Cargo says `--bench` to every benchmark.
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let outcome = match arguments.split_first() {
        Some((first, rest)) if first == bare::SUBCOMMAND => bare::serve(rest).await,
        Some((first, _)) if first == calls::SUBCOMMAND => calls::serve().await,
        _ => run(&arguments).await,
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(names: &[String]) -> Result<()> {
    let known = |name: &String| MEASUREMENTS.iter().any(|(known, _)| known == name);
    if let Some(unknown) = names.iter().find(|name| !known(name)) {
        let known: Vec<&str> = MEASUREMENTS.iter().map(|(name, _)| *name).collect();
        bail!("no measurement is called {unknown}; there are {}", known.join(", "));
    }
    for (name, measure) in MEASUREMENTS {
        if names.is_empty() || names.iter().any(|chosen| chosen == name) {
            measure().await?;
        }
    }
    Ok(())
}
