//! What is tried to get out of a volume, which guests see at /data, by guests of every version of WASI alike.
//!
//! The host has put a secret beside the volume and, for some attempts, links into it. Every attempt says its name and what
//! came of it; the host looks for the secret in that, and at what lies beside the volume.

/// What came of it; errors are WASI's words for them.
pub type Came<T> = Result<T, String>;

/// Files of one version of WASI. What begins with `/data/` is in the volume, and so is what `touch`, `symlink`, `link` and
/// `rename` name.
pub trait Files {
    async fn say(&self, line: &str);
    async fn read(&self, path: &str) -> Came<String>;
    /// Names, in their order.
    async fn list(&self, path: &str) -> Came<Vec<String>>;
    async fn size(&self, path: &str) -> Came<u64>;
    async fn write(&self, path: &str, text: &str) -> Came<()>;
    async fn append(&self, path: &str, text: &str) -> Came<()>;
    async fn truncate(&self, path: &str) -> Came<()>;
    async fn open_for_writing(&self, path: &str) -> Came<()>;
    /// Makes a file that must not be there.
    async fn make_anew(&self, path: &str) -> Came<()>;
    async fn make_directory(&self, path: &str) -> Came<()>;
    async fn remove(&self, path: &str) -> Came<()>;
    async fn read_link(&self, path: &str) -> Came<String>;
    /// Sets times by name, which some hosts open a file for.
    async fn touch(&self, name: &str) -> Came<()>;
    async fn symlink(&self, to: &str, name: &str) -> Came<()>;
    /// A hard link; `follow` is for a link as the old name.
    async fn link(&self, old: &str, new: &str, follow: bool) -> Came<()>;
    async fn rename(&self, old: &str, new: &str) -> Came<()>;
}

/// How often one that races tries at least, and how often at most until it has seen all there is to see.
const TRIES: usize = 1_000;
const TRIES_AT_MOST: usize = 300_000;
/// There once the race is over.
const OVER: &str = "/data/over";

pub async fn make(files: &impl Files, attempt: &str) {
    match attempt {
        "paths" => paths(files).await,
        "links" => links(files).await,
        "special" => special(files).await,
        "laid" => laid(files).await,
        "pairs" => pairs(files).await,
        "swap" => until_over(files, async |files| swap(files).await).await,
        "swap-pipe" => until_over(files, async |files| swap_pipe(files).await).await,
        "swap-laid" => until_over(files, async |files| swap_laid(files).await).await,
        "race" => race(files, "/data/turning/secret", Some("/data/turning/new")).await,
        "race-pipe" => race(files, "/data/pipe-or-file", None).await,
        "race-laid" => race(files, "/data/laid", None).await,
        other => files.say(&format!("unknown: {other}")).await,
    }
}

async fn say(files: &impl Files, attempt: &str, came: impl core::fmt::Debug) {
    files.say(&format!("{attempt}: {came:?}")).await;
}

/// Everything that can be done with a path.
async fn try_all(files: &impl Files, path: &str) {
    say(files, &format!("read {path}"), files.read(path).await).await;
    say(files, &format!("list {path}"), files.list(path).await).await;
    say(files, &format!("stat {path}"), files.size(path).await).await;
    say(files, &format!("write {path}"), files.write(path, "overwritten").await).await;
    say(files, &format!("append {path}"), files.append(path, "more").await).await;
    say(files, &format!("truncate {path}"), files.truncate(path).await).await;
    say(files, &format!("remove {path}"), files.remove(path).await).await;
    say(files, &format!("make {path}/new"), files.make_directory(&format!("{path}/new")).await).await;
    say(files, &format!("create {path}/file"), files.write(&format!("{path}/file"), "created").await).await;
}

/// Names that lead outside by themselves.
async fn paths(files: &impl Files) {
    for path in [
        "/data/../outside/secret", "/data/./../outside/secret", "/data/sub/../../outside/secret", "/data//..//outside/secret",
        "/outside/secret", "../outside/secret", "/proc/self/environ", "/proc/self/root/etc/passwd", "/dev/zero", "/etc/passwd",
        "/data/proc/self/environ", "/data/..", "/data/../..",
    ] {
        try_all(files, path).await;
    }
    for (old, new) in [("../outside/secret", "stolen"), ("inside", "../outside/moved"), ("inside", "../../moved")] {
        say(files, &format!("rename {old} {new}"), files.rename(old, new).await).await;
        say(files, &format!("link {old} {new}"), files.link(old, new, false).await).await;
    }
    try_all(files, "/data/stolen").await;
}

/// Links of the host's, and links of its own.
async fn links(files: &impl Files) {
    for name in ["absolute", "relative", "directory", "chain", "up", "magic", "device", "root", "cwd", "exe", "fd"] {
        try_all(files, &format!("/data/{name}")).await;
        try_all(files, &format!("/data/{name}/secret")).await;
        try_all(files, &format!("/data/{name}/outside/secret")).await;
        try_all(files, &format!("/data/{name}/etc/passwd")).await;
        say(files, &format!("readlink {name}"), files.read_link(&format!("/data/{name}")).await).await;
        say(files, &format!("hard link {name}"), files.link(name, &format!("{name}-linked"), false).await).await;
        let followed = files.link(name, &format!("{name}-followed"), true).await;
        say(files, &format!("hard link through {name}"), followed).await;
        say(files, &format!("rename {name}"), files.rename(&format!("{name}/secret"), "taken").await).await;
        try_all(files, &format!("/data/{name}-linked")).await;
        try_all(files, &format!("/data/{name}-followed")).await;
    }
    for (number, to) in ["/etc/passwd", "../outside/secret", "../outside", "..", "/", "/proc/self/root", "sub/../../outside"]
        .iter()
        .enumerate()
    {
        let name = format!("own-{number}");
        say(files, &format!("symlink {to}"), files.symlink(to, &name).await).await;
        try_all(files, &format!("/data/{name}")).await;
        try_all(files, &format!("/data/{name}/secret")).await;
        try_all(files, &format!("/data/{name}/outside/secret")).await;
    }
    // A directory that is moved while a path through it is open.
    for path in ["/data/a", "/data/a/b", "/data/a/b/c"] {
        say(files, &format!("nested {path}"), files.make_directory(path).await).await;
    }
    say(files, "far", files.symlink("../../../../outside", "a/b/c/far").await).await;
    say(files, "moved up", files.rename("a/b/c", "c").await).await;
    try_all(files, "/data/c/far/secret").await;
}

/// What is neither a file nor a directory. To open some of it is to wait for ever.
async fn special(files: &impl Files) {
    for name in ["to-pipe", "pipe", "socket", "character", "block"] {
        say(files, &format!("touch {name}"), files.touch(name).await).await;
        try_all(files, &format!("/data/{name}")).await;
    }
}

/// Everything that can be done by its name with a file that another is laid over.
async fn laid(files: &impl Files) {
    for (folder, name) in [("/data/.", "laid"), ("/data/sub", "sub/fixed")] {
        let path = format!("/data/{name}");
        let tell = async |what: &str, came: Came<()>| say(files, &format!("{name}: {what}"), came).await;
        tell("link to it", files.symlink(name, "to-laid").await).await;
        say(files, &format!("{name}: read"), files.read(&path).await).await;
        say(files, &format!("{name}: read by a link"), files.read("/data/to-laid").await).await;
        tell("remove the link", files.remove("/data/to-laid").await).await;
        say(files, &format!("{name}: stat"), files.size(&path).await).await;
        say(files, &format!("{name}: list"), files.list(&path).await).await;
        tell("make anew", files.make_anew(&path).await).await;
        tell("append", files.append(&path, " more").await).await;
        say(files, &format!("{name}: read"), files.read(&path).await).await;
        tell("write", files.write(&path, "written").await).await;
        say(files, &format!("{name}: read"), files.read(&path).await).await;
        tell("touch", files.touch(name).await).await;
        tell("rename from", files.rename(name, "new").await).await;
        tell("rename to", files.rename("inside", name).await).await;
        tell("link from", files.link(name, "new", false).await).await;
        tell("link to", files.link("inside", name, false).await).await;
        tell("remove", files.remove(&path).await).await;
        say(files, &format!("{name}: files"), files.list(folder).await.map(|all| all.len())).await;
    }
}

/// Turns a name from one thing into another and back again, as fast as it can, until nobody looks any more.
async fn until_over<F: Files>(files: &F, swap: impl AsyncFn(&F)) {
    for _ in 0..TRIES_AT_MOST {
        swap(files).await;
        if files.size(OVER).await.is_ok() {
            return files.say("swapped").await;
        }
    }
    files.say("nobody said that it is over").await;
}

/// A directory, and a link that leads outside.
async fn swap(files: &impl Files) {
    files.symlink("../outside", "link").await.ok();
    files.rename("turning", "real-again").await.ok();
    files.rename("link", "turning").await.ok();
    files.remove("/data/turning").await.ok();
    files.rename("real-again", "turning").await.ok();
    if files.size("/data/turning").await.is_err() {
        files.make_directory("/data/real").await.ok();
        files.write("/data/real/secret", "inside").await.ok();
        files.rename("real", "turning").await.ok();
    }
}

/// A file, and a pipe that nobody has the other end of.
async fn swap_pipe(files: &impl Files) {
    files.write("/data/plain", "inside").await.ok();
    files.rename("plain", "pipe-or-file").await.ok();
    files.rename("pipe", "pipe-or-file").await.ok();
    files.rename("pipe-or-file", "pipe").await.ok();
}

/// A file that another container sees another laid over, and a link that leads outside.
async fn swap_laid(files: &impl Files) {
    files.rename("laid", "aside").await.ok();
    files.symlink("../outside/secret", "laid").await.ok();
    files.remove("/data/laid").await.ok();
    files.rename("aside", "laid").await.ok();
}

/// Reads two files that are always changed together: while one stays the same, the other cannot be another.
async fn pairs(files: &impl Files) {
    let (mut same, mut changes) = (0, 0);
    while files.size(OVER).await.is_err() {
        let before = files.read("/data/one").await.ok();
        let other = files.read("/data/two").await.ok();
        let after = files.read("/data/one").await.ok();
        if before.is_none() || before != after {
            changes += 1;
        } else if before == other {
            same += 1;
        } else {
            files.say(&format!("mixed: {before:?} {other:?}")).await;
        }
    }
    files.say(&format!("same {same} changes {changes}")).await;
}

/// Reads, and writes, what another turns into something else meanwhile, until it has met both.
async fn race(files: &impl Files, readable: &str, writable: Option<&str>) {
    let (mut read, mut refused, mut wrote) = (0, 0, 0);
    for tried in 0..TRIES_AT_MOST {
        match files.read(readable).await {
            Ok(text) if text != "inside" => files.say(&format!("got {text}")).await,
            Ok(_) => read += 1,
            Err(error) => refused += usize::from(error == "not-permitted"),
        }
        match writable {
            Some(path) => {
                wrote += usize::from(files.write(path, "planted").await.is_ok());
                files.make_directory("/data/turning/dir").await.ok();
                files.remove("/data/turning/kept").await.ok();
            }
            // A file that was opened for writing is there with what it held.
            None => drop(files.open_for_writing(readable).await),
        }
        if tried >= TRIES && read > 0 && refused > 0 {
            break;
        }
    }
    files.write(OVER, "").await.ok();
    files.say(&format!("read {read} refused {refused} wrote {wrote}")).await;
}
