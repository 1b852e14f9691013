//! A preview 1 command that tries to get out of its volume, which it sees at /data, and says what it got.
//!
//! The host has put a secret beside the volume and, for some attempts, links into it. Every attempt prints its name and
//! what came of it; the host looks for the secret in that, and at what lies beside the volume.

use std::fs;
use std::io::Write;

#[link(wasm_import_module = "wasi_snapshot_preview1")]
unsafe extern "C" {
    fn path_symlink(old: *const u8, old_len: usize, dir: u32, new: *const u8, new_len: usize) -> u32;
    fn path_link(
        old_dir: u32, flags: u32, old: *const u8, old_len: usize, new_dir: u32, new: *const u8, new_len: usize,
    ) -> u32;
    fn path_rename(
        old_dir: u32, old: *const u8, old_len: usize, new_dir: u32, new: *const u8, new_len: usize,
    ) -> u32;
    fn path_filestat_set_times(
        dir: u32, lookup: u32, path: *const u8, path_len: usize, accessed: u64, modified: u64, which: u16,
    ) -> u32;
}

/// The descriptor of the first preopen, which is the volume.
const VOLUME: u32 = 3;
/// How often one that races tries at least, and how often at most until it has seen all there is to see.
const TRIES: usize = 1_000;
const TRIES_AT_MOST: usize = 300_000;
/// Not permitted, as preview 1 numbers it.
const EPERM: i32 = 63;
/// There once the race is over.
const OVER: &str = "/data/over";

fn symlink(to: &str, name: &str) -> u32 {
    // SAFETY: pointers and lengths are those of live strings.
    unsafe { path_symlink(to.as_ptr(), to.len(), VOLUME, name.as_ptr(), name.len()) }
}

/// A hard link; `follow` is for a link as the old name.
fn link(old: &str, new: &str, follow: bool) -> u32 {
    // SAFETY: as above.
    unsafe { path_link(VOLUME, u32::from(follow), old.as_ptr(), old.len(), VOLUME, new.as_ptr(), new.len()) }
}

fn rename(old: &str, new: &str) -> u32 {
    // SAFETY: as above.
    unsafe { path_rename(VOLUME, old.as_ptr(), old.len(), VOLUME, new.as_ptr(), new.len()) }
}

/// Sets times by name, which some hosts open a file for.
fn touch(path: &str) -> u32 {
    const FOLLOW: u32 = 1;
    const MODIFIED_NOW: u16 = 8;
    // SAFETY: as above.
    unsafe { path_filestat_set_times(VOLUME, FOLLOW, path.as_ptr(), path.len(), 0, 0, MODIFIED_NOW) }
}

fn say(attempt: &str, came: impl std::fmt::Debug) {
    println!("{attempt}: {came:?}");
}

/// Everything that can be done with a path.
fn try_all(path: &str) {
    say(&format!("read {path}"), fs::read_to_string(path));
    say(&format!("list {path}"), fs::read_dir(path).map(|all| all.flatten().map(|e| e.file_name()).collect::<Vec<_>>()));
    say(&format!("stat {path}"), fs::metadata(path).map(|found| found.len()));
    say(&format!("write {path}"), fs::write(path, "overwritten"));
    say(&format!("append {path}"), fs::OpenOptions::new().append(true).open(path).and_then(|mut f| f.write_all(b"more")));
    say(&format!("truncate {path}"), fs::OpenOptions::new().write(true).open(path).and_then(|f| f.set_len(0)));
    say(&format!("remove {path}"), fs::remove_file(path));
    say(&format!("make {path}/new"), fs::create_dir(format!("{path}/new")));
    say(&format!("create {path}/file"), fs::write(format!("{path}/file"), "created"));
}

fn main() {
    match std::env::args().nth(1).as_deref() {
        Some("paths") => paths(),
        Some("links") => links(),
        Some("special") => special(),
        Some("swap") => until_over(swap),
        Some("laid") => laid(),
        Some("swap-laid") => until_over(swap_laid),
        Some("race-laid") => race("/data/laid", None),
        Some("race") => race("/data/turning/secret", Some("/data/turning/new")),
        Some("swap-pipe") => until_over(swap_pipe),
        Some("pairs") => pairs(),
        Some("race-pipe") => race("/data/pipe-or-file", None),
        other => println!("unknown: {other:?}"),
    }
}

/// Names that lead outside by themselves.
fn paths() {
    for path in [
        "/data/../outside/secret", "/data/./../outside/secret", "/data/sub/../../outside/secret", "/data//..//outside/secret",
        "/outside/secret", "../outside/secret", "/proc/self/environ", "/proc/self/root/etc/passwd", "/dev/zero", "/etc/passwd",
        "/data/proc/self/environ", "/data/..", "/data/../..",
    ] {
        try_all(path);
    }
    for (old, new) in [("../outside/secret", "stolen"), ("inside", "../outside/moved"), ("inside", "../../moved")] {
        say(&format!("rename {old} {new}"), rename(old, new));
        say(&format!("link {old} {new}"), link(old, new, false));
    }
    try_all("/data/stolen");
}

/// Links of the host's, and links of its own.
fn links() {
    for name in ["absolute", "relative", "directory", "chain", "up", "magic", "device", "root", "cwd", "exe", "fd"] {
        try_all(&format!("/data/{name}"));
        try_all(&format!("/data/{name}/secret"));
        try_all(&format!("/data/{name}/outside/secret"));
        try_all(&format!("/data/{name}/etc/passwd"));
        say(&format!("readlink {name}"), fs::read_link(format!("/data/{name}")));
        say(&format!("hard link {name}"), link(name, &format!("{name}-linked"), false));
        say(&format!("hard link through {name}"), link(name, &format!("{name}-followed"), true));
        say(&format!("rename {name}"), rename(&format!("{name}/secret"), "taken"));
        try_all(&format!("/data/{name}-linked"));
        try_all(&format!("/data/{name}-followed"));
    }
    for (number, to) in ["/etc/passwd", "../outside/secret", "../outside", "..", "/", "/proc/self/root", "sub/../../outside"]
        .iter()
        .enumerate()
    {
        let name = format!("own-{number}");
        say(&format!("symlink {to}"), symlink(to, &name));
        try_all(&format!("/data/{name}"));
        try_all(&format!("/data/{name}/secret"));
        try_all(&format!("/data/{name}/outside/secret"));
    }
    // A directory that is moved while a path through it is open.
    say("nested", fs::create_dir_all("/data/a/b/c"));
    symlink("../../../../outside", "a/b/c/far");
    say("moved up", rename("a/b/c", "c"));
    try_all("/data/c/far/secret");
}

/// What is neither a file nor a directory. To open some of it is to wait for ever.
fn special() {
    for name in ["to-pipe", "pipe", "socket", "character", "block"] {
        say(&format!("touch {name}"), touch(name));
        try_all(&format!("/data/{name}"));
    }
}

/// Everything that can be done by its name with a file that another is laid over.
fn laid() {
    for name in ["laid", "sub/fixed"] {
        let path = format!("/data/{name}");
        let open = |options: &mut fs::OpenOptions| options.open(&path);
        symlink(&path["/data/".len()..], "to-laid");
        code(name, "read", fs::read_to_string(&path));
        code(name, "read by a link", fs::read_to_string("/data/to-laid"));
        fs::remove_file("/data/to-laid").ok();
        code(name, "stat", fs::metadata(&path).map(|found| found.len()));
        code(name, "list", fs::read_dir(&path).map(drop));
        code(name, "make anew", open(fs::OpenOptions::new().write(true).create_new(true)).map(drop));
        code(name, "append", open(fs::OpenOptions::new().append(true)).and_then(|mut file| file.write_all(b" more")));
        code(name, "read", fs::read_to_string(&path));
        code(name, "truncate", fs::write(&path, "written"));
        code(name, "read", fs::read_to_string(&path));
        say(&format!("{name}: touch"), touch(name));
        say(&format!("{name}: rename"), [rename(name, "new"), rename("inside", name)]);
        say(&format!("{name}: link"), [link(name, "new", false), link("inside", name, false)]);
        code(name, "remove", fs::remove_file(&path));
        code(name, "list", fs::read_dir(std::path::Path::new(&path).parent().unwrap()).map(|all| all.count()));
    }
}

fn code(name: &str, what: &str, came: std::io::Result<impl std::fmt::Debug>) {
    say(&format!("{name}: {what}"), came.map_err(|error| error.raw_os_error().unwrap_or_default()));
}

/// A file that another container sees another laid over, and a link that leads outside.
fn swap_laid() {
    rename("laid", "aside");
    symlink("../outside/secret", "laid");
    fs::remove_file("/data/laid").ok();
    rename("aside", "laid");
}

/// Turns a name from one thing into another and back again, as fast as it can, until nobody looks any more.
fn until_over(swap: fn()) {
    for _ in 0..TRIES_AT_MOST {
        swap();
        if fs::metadata(OVER).is_ok() {
            return println!("swapped");
        }
    }
    println!("nobody said that it is over");
}

/// A directory, and a link that leads outside.
fn swap() {
    symlink("../outside", "link");
    rename("turning", "real-again");
    rename("link", "turning");
    fs::remove_file("/data/turning").ok();
    rename("real-again", "turning");
    if fs::metadata("/data/turning").is_err() {
        fs::create_dir_all("/data/real").ok();
        fs::write("/data/real/secret", "inside").ok();
        rename("real", "turning");
    }
}

/// A file, and a pipe that nobody has the other end of.
fn swap_pipe() {
    fs::write("/data/plain", "inside").ok();
    rename("plain", "pipe-or-file");
    rename("pipe", "pipe-or-file");
    rename("pipe-or-file", "pipe");
}

/// Reads two files that are always changed together: while one stays the same, the other cannot be another.
fn pairs() {
    let (mut same, mut changes) = (0, 0);
    while fs::metadata(OVER).is_err() {
        let [before, other, after] = ["one", "two", "one"].map(|name| fs::read_to_string(format!("/data/{name}")).ok());
        if before.is_none() || before != after {
            changes += 1;
        } else if before == other {
            same += 1;
        } else {
            println!("mixed: {before:?} {other:?}");
        }
    }
    println!("same {same} changes {changes}");
}

/// Reads, and writes, what another turns into something else meanwhile, until it has met both.
fn race(readable: &str, writable: Option<&str>) {
    let (mut read, mut refused, mut wrote) = (0, 0, 0);
    for tried in 0..TRIES_AT_MOST {
        match fs::read_to_string(readable) {
            Ok(text) if text != "inside" => println!("got {text}"),
            Ok(_) => read += 1,
            Err(error) => refused += usize::from(error.raw_os_error() == Some(EPERM)),
        }
        match writable {
            Some(path) => {
                wrote += usize::from(fs::write(path, "planted").is_ok());
                fs::create_dir("/data/turning/dir").ok();
                fs::remove_file("/data/turning/kept").ok();
            }
            // A file that was opened for writing is there with what it held.
            None => drop(fs::OpenOptions::new().write(true).open(readable)),
        }
        if tried >= TRIES && read > 0 && refused > 0 {
            break;
        }
    }
    fs::write(OVER, "").ok();
    println!("read {read} refused {refused} wrote {wrote}");
}
