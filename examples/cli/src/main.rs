//! A command: says who it greets, counts the words of its input file, writes the count beside it and ends with 0.

use std::{env, fs, io};

fn main() -> io::Result<()> {
    let who = env::args().nth(1).or_else(|| env::var("WHO").ok()).unwrap_or_else(|| "world".into());
    println!("Hello, {who}!");

    if let (Ok(input), Ok(output)) = (env::var("INPUT"), env::var("OUTPUT")) {
        let words = fs::read_to_string(&input)?.split_whitespace().count();
        fs::write(&output, format!("{words}\n"))?;
        println!("{input} has {words} words; wrote {output}");
    }
    Ok(())
}
