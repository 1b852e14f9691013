//! The command.

use std::io::Read;

use crate::{calls, excess};
use crate::net::{self, println};
use crate::questions;
use crate::websocket;

struct Command;

wasip2::cli::command::export!(Command);

impl wasip2::exports::cli::run::Guest for Command {
    fn run() -> Result<(), ()> {
        let args = wasip2::cli::environment::get_arguments();
        let arg = |n: usize| args.get(n).map(String::as_str).unwrap_or_default();
        let port = |n: usize| arg(n).parse().unwrap_or(0);
        let number = |n: usize| arg(n).parse().unwrap_or(0);
        match arg(1) {
            "resolve" => println(&net::resolve(arg(2))),
            "ask" => println(&net::ask(arg(2), port(3), arg(4))),
            "listen" => {
                if let Err(code) = net::listen(arg(2), port(3), arg(4), port(5).into()) {
                    println(code.name());
                    return Err(());
                }
            }
            "websocket" => {
                if let Err(code) = websocket::serve(arg(2), port(3)) {
                    println(code.name());
                    return Err(());
                }
            }
            "hear" => {
                if let Err(code) = net::hear(arg(2), port(3), arg(4), port(5).into()) {
                    println(code.name());
                    return Err(());
                }
            }
            "say" => println(&net::say(arg(2), port(3), arg(4))),
            "reach" => println(&net::reach(arg(2), port(3))),
            "words" => {
                if let Err(code) = questions::say(arg(2), args.get(3..).unwrap_or_default()) {
                    println(code.name());
                    return Err(());
                }
            }
            "sockets" => println(&format!("{} sockets", net::count_sockets())),
            "files" => println(&excess::count_files()),
            "hold-files" => excess::hold_files(),
            "list" => println(&excess::list()),
            "about" => about(),
            "calls" => calls::measure(number(2) as u64, args.get(3..).unwrap_or_default()),
            "spin" => excess::spin(),
            "bomb" => excess::bomb(),
            "open" => excess::open(number(2)),
            "write" => excess::write(number(2)),
            "headers" => excess::headers(number(2)),
            "fields" => println(&format!("{} MiB of headers", excess::count_fields())),
            "keep-headers" => excess::keep_headers(arg(2), true),
            "drop-headers" => excess::keep_headers(arg(2), false),
            "handles" => excess::handles(),
            "lines" => (0..number(2)).for_each(|n| println(&format!("line {n:06} {}", "x".repeat(1_000)))),
            "exit" => wasip2::cli::exit::exit(Err(())),
            "sleep" => wasip2::clocks::monotonic_clock::subscribe_duration(u64::MAX / 2).block(),
            other => println(&format!("unknown: {other}")),
        }
        Ok(())
    }
}

/// Touches what no other request does.
fn about() {
    use wasip2::cli::{terminal_stderr, terminal_stdin, terminal_stdout};
    use wasip2::random::{insecure, insecure_seed, random};
    let mut input = String::new();
    wasip2::cli::stdin::get_stdin().read_to_string(&mut input).expect("standard input is empty");
    println(&format!("stdin {:?}", input));
    let terminals = [
        terminal_stdin::get_terminal_stdin().is_some(),
        terminal_stdout::get_terminal_stdout().is_some(),
        terminal_stderr::get_terminal_stderr().is_some(),
    ];
    println(&format!("terminals {terminals:?}"));
    println(&format!("cwd {:?}", wasip2::cli::environment::initial_cwd()));
    println(&format!("random {}", random::get_random_bytes(8) != random::get_random_bytes(8)));
    println(&format!("insecure {}", insecure::get_insecure_random_u64() != insecure::get_insecure_random_u64()));
    println(&format!("seed {}", insecure_seed::insecure_seed() != (0, 0)));
    println(&format!("year {}", 1970 + wasip2::clocks::wall_clock::now().seconds / 31_556_952));
}
