//! The command.

use wasip3::cli::environment::{get_arguments, get_initial_cwd};
use wasip3::wit_stream;

use crate::{calls, files, headers, net, println, questions};

struct Command;

wasip3::cli::command::export!(Command);

impl wasip3::exports::cli::run::Guest for Command {
    async fn run() -> Result<(), ()> {
        let args = get_arguments();
        let arg = |n: usize| args.get(n).map(String::as_str).unwrap_or_default();
        let port = |n: usize| arg(n).parse().unwrap_or(0);
        match arg(1) {
            "listen" => {
                if let Err(code) = net::listen(arg(2), port(3), arg(4), port(5).into()).await {
                    println(&crate::name(code)).await;
                    return Err(());
                }
            }
            "hear" => {
                if let Err(code) = net::hear(arg(2), port(3), arg(4), port(5).into()).await {
                    println(&crate::name(code)).await;
                    return Err(());
                }
            }
            "say" => println(&net::say(arg(2), port(3), arg(4)).await).await,
            "words" => {
                if let Err(code) = questions::say(arg(2), args.get(3..).unwrap_or_default()).await {
                    println(&crate::name(code)).await;
                    return Err(());
                }
            }
            "sockets" => println(&format!("{} sockets", net::count_sockets())).await,
            "options" => println(&net::options()).await,
            "about" => about().await,
            "calls" => calls::measure(port(2).into(), args.get(3..).unwrap_or_default()).await,
            "later" => {
                let said = arg(2).to_owned();
                wasip3::spawn_local(async move {
                    wasip3::clocks::monotonic_clock::wait_for(1_000_000).await;
                    println(&said).await;
                });
            }
            "cat" => cat().await,
            "names" => files::try_all(arg(2)).await,
            "files" => println(&files::count().await).await,
            "list" => println(&files::list().await).await,
            "exit" => wasip3::cli::exit::exit_with_code(port(2) as u8),
            "fail" => return Err(()),
            "trap" => panic!("asked to"),
            "hog" => drop(std::hint::black_box(vec![1u8; usize::from(port(2)) << 20])),
            "spin" => {
                println("spinning").await;
                loop {
                    std::hint::black_box(());
                }
            }
            "yield" => {
                println("yielding").await;
                loop {
                    wasip3::wit_bindgen::yield_async().await;
                }
            }
            "keep-headers" => headers::make(arg(2), true),
            "drop-headers" => headers::make(arg(2), false),
            "streams" => {
                let mut streams = Vec::new();
                loop {
                    streams.push(wit_stream::new::<u8>());
                }
            }
            "sleep" => wasip3::clocks::monotonic_clock::wait_for(u64::MAX / 4).await,
            other => println(&format!("unknown: {other}")).await,
        }
        Ok(())
    }
}

/// Copies standard input to standard output.
async fn cat() {
    let (input, ended) = wasip3::cli::stdin::read_via_stream();
    let bytes = input.collect().await;
    ended.await.expect("standard input ends");
    crate::print(&String::from_utf8_lossy(&bytes)).await;
}

/// Touches what no other request does.
async fn about() {
    use wasip3::cli::{terminal_stderr, terminal_stdin, terminal_stdout};
    use wasip3::random::{insecure, insecure_seed, random};
    let terminals = [
        terminal_stdin::get_terminal_stdin().is_some(),
        terminal_stdout::get_terminal_stdout().is_some(),
        terminal_stderr::get_terminal_stderr().is_some(),
    ];
    println(&format!("terminals {terminals:?}")).await;
    println(&format!("cwd {:?}", get_initial_cwd())).await;
    println(&format!("random {}", random::get_random_bytes(8) != random::get_random_bytes(8))).await;
    println(&format!("insecure {}", insecure::get_insecure_random_u64() != insecure::get_insecure_random_u64())).await;
    println(&format!("seed {}", insecure_seed::get_insecure_seed() != (0, 0))).await;
    crate::write("an error\n", wasip3::cli::stderr::write_via_stream).await.expect("standard error takes lines");
    println(&format!("year {}", 1970 + wasip3::clocks::system_clock::now().seconds / 31_556_952)).await;
}
