//! A preview 1 command: says what it was given, and ends as it is told.

use std::io::Write;

fn main() {
    let mut args = std::env::args().skip(1);
    match args.next().as_deref() {
        Some("print") => {
            for (name, value) in std::env::vars() {
                println!("{name}={value}");
            }
            for arg in args {
                println!("arg {arg}");
            }
            eprintln!("done");
        }
        Some("exit") => std::process::exit(args.next().and_then(|code| code.parse().ok()).unwrap_or(0)),
        Some("read") => println!("{}", std::fs::read_to_string(args.next().unwrap_or_default()).unwrap_or_else(|e| e.to_string())),
        Some("write") => match std::fs::write(args.next().unwrap_or_default(), "written") {
            Ok(()) => println!("written"),
            Err(error) => println!("refused: {:?}", error.kind()),
        },
        Some("trap") => std::process::abort(),
        Some("spin") => {
            println!("spinning");
            std::io::stdout().flush().ok();
            let mut n = 0u64;
            loop {
                n = std::hint::black_box(n + 1);
            }
        }
        Some("hog") => {
            let mut kept = Vec::new();
            loop {
                kept.push(vec![1u8; 1 << 20]);
            }
        }
        other => println!("unknown: {other:?}"),
    }
}
