//! Says goodbye and panics, to show what a crash looks like from kubectl.

fn main() {
    println!("about to fall over");
    panic!("this is the crash you asked for");
}
