//! Guests that mean harm: to files outside of their volumes, and to whoever compiles and runs them.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use expect_test::expect;
use k8w_runtime::engine::{ContainerSpec, Engine, EngineError, EngineEvent, Preopen};
use k8w_storage::volume::{File, atomic};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use nix::unistd::mkfifo;

use crate::node::{Node, hostile, program, texts, until};

const SECRET: &str = "the-secret";

/// A volume beside which a secret lies, with links of every kind that lead to it.
struct Trap {
    node: Node,
}

impl Trap {
    fn new() -> Trap {
        let trap = Trap { node: Node::new() };
        let (volume, outside) = (trap.path("volume"), trap.path("outside"));
        std::fs::create_dir_all(volume.join("sub")).unwrap();
        std::fs::create_dir(&outside).unwrap();
        std::fs::write(volume.join("inside"), "inside").unwrap();
        std::fs::write(outside.join("secret"), SECRET).unwrap();
        std::fs::write(outside.join("kept"), "kept").unwrap();
        let link = |to: &Path, name: &str| std::os::unix::fs::symlink(to, volume.join(name)).unwrap();
        link(&outside.join("secret"), "absolute");
        link(Path::new("../outside/secret"), "relative");
        link(Path::new("../outside"), "directory");
        link(Path::new("directory"), "chain");
        link(Path::new(".."), "up");
        link(Path::new("/proc/self/root"), "magic");
        link(Path::new("/dev/null"), "device");
        mkfifo(&volume.join("pipe"), Mode::S_IRWXU).unwrap();
        link(Path::new("pipe"), "to-pipe");
        trap
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.node.dir.path().join(name)
    }

    async fn spec(&self, guest: &[u8], name: &str, attempt: &str, volume: &Path) -> ContainerSpec {
        let mut spec = self.node.pod(name, guest).await;
        spec.argv.push(attempt.to_owned());
        // One of preview 1 is a command anyway.
        spec.force_command = true;
        let host_dir = volume.to_owned();
        spec.preopens = vec![Preopen { host_dir, guest_path: "/data".to_owned(), read_only: false, sub_path: None }];
        spec
    }

    async fn specs(&self, guest: &[u8], attempts: [&str; 2]) -> [ContainerSpec; 2] {
        let volume = self.path("volume");
        let [one, other] = attempts;
        [self.spec(guest, one, one, &volume).await, self.spec(guest, other, other, &volume).await]
    }

    /// What lies beside the volume is as it was, and nothing of it was said.
    fn check(&self, said: &str) {
        assert!(!said.contains(SECRET) && !said.contains("root:x"), "{said}");
        assert_eq!(std::fs::read_to_string(self.path("outside/secret")).unwrap(), SECRET);
        let mut names: Vec<_> =
            std::fs::read_dir(self.path("outside")).unwrap().map(|e| e.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["kept", "secret"]);
        assert!(!self.path("moved").exists());
    }
}

/// Lets every guest, in a trap of its own, make attempts, and asserts that all of them come to the same, whether a guest asks
/// the host itself or a library of its own does. What each said, of which none was told the secret.
async fn make_all(name: &str, attempts: &[&str], change: impl Fn(&Trap, &mut ContainerSpec)) -> Vec<(Trap, String)> {
    let mut all: Vec<(Trap, String)> = Vec::new();
    for (guest, wasm) in hostile() {
        let (trap, mut every) = (Trap::new(), String::new());
        for attempt in attempts {
            let mut spec = trap.spec(wasm, attempt, attempt, &trap.path("volume")).await;
            change(&trap, &mut spec);
            let (code, _, message, said) = trap.node.run(spec, &[]).await;
            assert_eq!(code, 0, "{guest}: {message}");
            every.push_str(&said);
        }
        trap.check(&every);
        if let Some((_, others)) = all.last() {
            assert_eq!(successes(others), successes(&every), "{name} of {guest}");
        }
        all.push((trap, every));
    }
    // These two say it in the same words.
    let [_, (_, earlier), (_, later)] = &all[..] else { panic!("three guests") };
    assert_eq!(earlier, later, "{name}");
    all
}

/// The attempts that succeeded, and with what.
fn successes(said: &str) -> Vec<&str> {
    said.lines().filter(|line| line.contains(": Ok(")).collect()
}

#[tokio::test]
async fn names_and_links_do_not_lead_out_of_a_volume() {
    for (_, said) in make_all("names", &["paths", "links"], |_, _| {}).await {
        assert!(said.contains("read "), "{said}");
    }
}

#[tokio::test]
async fn links_of_proc_lead_nowhere() {
    for (guest, wasm) in hostile() {
        let trap = Trap::new();
        let mut spec = trap.spec(wasm, "proc", "links", Path::new("/proc/self")).await;
        spec.preopens[0].read_only = true;
        let (code, _, message, said) = trap.node.run(spec, &[]).await;
        assert_eq!(code, 0, "{guest}: {message}");
        trap.check(&said);
    }
}

/// A device could be used with the node's rights, and a pipe waits for its other end.
#[tokio::test]
async fn what_is_neither_a_file_nor_a_directory_cannot_be_opened() {
    let made = RefCell::new(BTreeSet::from(["to-pipe", "pipe", "socket"]));
    let all = make_all("what is special", &["special"], |trap, _| {
        // It stays when its listener is gone.
        drop(UnixListener::bind(trap.path("volume/socket")).unwrap());
        // Zeros without end, and a disk.
        let devices = [("character", SFlag::S_IFCHR, makedev(1, 5)), ("block", SFlag::S_IFBLK, makedev(7, 0))];
        for (name, kind, number) in devices {
            match mknod(&trap.path("volume").join(name), kind, Mode::S_IRWXU, number) {
                Ok(()) => drop(made.borrow_mut().insert(name)),
                Err(error) => println!("skipped: this user may not make devices: {error}"),
            }
        }
    });
    let all = all.await;
    for (_, said) in &all {
        for name in made.borrow().iter() {
            for how in ["read", "list", "write", "append", "truncate"] {
                let line = format!("stdout F {how} /data/{name}: Err(\"not-permitted\")");
                assert!(said.contains(&line), "{line} is not in {said}");
            }
            let is_told_of = said.contains(&format!("stat /data/{name}: Ok"));
            assert!(is_told_of && said.contains(&format!("touch {name}: Ok(())\n")), "{said}");
        }
    }
}

/// For each guest, one that turns a name into something else beside one that uses it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_that_turns_into_a_link_leads_nowhere() {
    for (guest, wasm) in hostile() {
        let trap = Trap::new();
        let said = race(guest, &trap, trap.specs(wasm, ["swap", "race"]).await).await;
        trap.check(&said);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_that_turns_into_a_pipe_keeps_nobody() {
    for (guest, wasm) in hostile() {
        let trap = Trap::new();
        race(guest, &trap, trap.specs(wasm, ["swap-pipe", "race-pipe"]).await).await;
    }
}

impl Trap {
    /// Lays a file beside the volume over one that is in it.
    fn lay(&self, spec: &mut ContainerSpec, over: &str, at: &str, read_only: bool) {
        std::fs::write(self.path(over), "inside").unwrap();
        let guest_path = format!("/data/{at}");
        spec.preopens.push(Preopen { host_dir: self.path(over), guest_path, read_only, sub_path: None });
    }
}

#[tokio::test]
async fn a_file_that_another_is_laid_over_is_out_of_reach() {
    let all = make_all("what is laid", &["laid"], |trap, spec| {
        std::fs::write(trap.path("volume/laid"), "beneath").unwrap();
        trap.lay(spec, "open", "laid", false);
        trap.lay(spec, "fixed", "sub/fixed", true);
    });
    let all = all.await;
    expect![[r#"
        stdout F laid: link to it: Ok(())
        stdout F laid: read: Ok("inside")
        stdout F laid: read by a link: Ok("inside")
        stdout F laid: remove the link: Ok(())
        stdout F laid: stat: Ok(6)
        stdout F laid: list: Err("not-directory")
        stdout F laid: make anew: Err("exist")
        stdout F laid: append: Ok(())
        stdout F laid: read: Ok("inside more")
        stdout F laid: write: Ok(())
        stdout F laid: read: Ok("written")
        stdout F laid: touch: Ok(())
        stdout F laid: rename from: Err("busy")
        stdout F laid: rename to: Err("busy")
        stdout F laid: link from: Err("cross-device")
        stdout F laid: link to: Err("exist")
        stdout F laid: remove: Err("busy")
        stdout F laid: files: Ok(12)
        stdout F sub/fixed: link to it: Ok(())
        stdout F sub/fixed: read: Ok("inside")
        stdout F sub/fixed: read by a link: Ok("inside")
        stdout F sub/fixed: remove the link: Ok(())
        stdout F sub/fixed: stat: Ok(6)
        stdout F sub/fixed: list: Err("not-directory")
        stdout F sub/fixed: make anew: Err("exist")
        stdout F sub/fixed: append: Err("not-permitted")
        stdout F sub/fixed: read: Ok("inside")
        stdout F sub/fixed: write: Err("not-permitted")
        stdout F sub/fixed: read: Ok("inside")
        stdout F sub/fixed: touch: Err("not-permitted")
        stdout F sub/fixed: rename from: Err("busy")
        stdout F sub/fixed: rename to: Err("busy")
        stdout F sub/fixed: link from: Err("cross-device")
        stdout F sub/fixed: link to: Err("exist")
        stdout F sub/fixed: remove: Err("busy")
        stdout F sub/fixed: files: Ok(1)
    "#]]
    .assert_eq(&all[0].1);
    for (trap, said) in &all {
        assert_eq!(*said, all[0].1);
        let read = |name: &str| std::fs::read_to_string(trap.path(name)).unwrap();
        assert_eq!(["open", "fixed"].map(read), ["written", "inside"]);
        assert_eq!(["volume/laid", "volume/sub/fixed"].map(read), ["beneath", ""]);
    }
}

/// Whoever has the volume without what is laid over a file of it may do with that file what it wants.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_that_something_is_laid_over_leads_nowhere_else() {
    for (guest, wasm) in hostile() {
        let trap = Trap::new();
        std::fs::write(trap.path("volume/laid"), "inside").unwrap();
        let [swaps, mut races] = trap.specs(wasm, ["swap-laid", "race-laid"]).await;
        trap.lay(&mut races, "over", "laid", false);
        let said = race(guest, &trap, [swaps, races]).await;
        trap.check(&said);
        for name in ["over", "volume/laid"] {
            assert_eq!(std::fs::read_to_string(trap.path(name)).unwrap(), "inside", "{name} of {guest}");
        }
    }
}

/// Files that show the API (ConfigMaps, Secrets) change all at once for whoever reads them meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_that_change_together_are_never_mixed() {
    for (guest, wasm) in hostile() {
        let trap = Trap::new();
        let volume = trap.path("projected");
        let write = |text: String, is_over: bool| {
            let names = ["one", "two"].into_iter().chain(is_over.then_some("over"));
            let file = |name: &str| (name.to_owned(), File { bytes: text.clone().into(), mode: 0o644 });
            atomic::write(&volume, &names.map(file).collect()).unwrap();
        };
        write("first".to_owned(), false);
        let mut spec = trap.spec(wasm, "pairs", "pairs", &volume).await;
        spec.preopens[0].read_only = true;
        let id = spec.id.clone();
        trap.node.start(spec).await;
        for number in 0..2_000 {
            write(number.to_string(), false);
        }
        write("last".to_owned(), true);
        let (code, _, message) = trap.node.exit(&id).await;
        let said = texts(&trap.path("pairs.log"));
        assert_eq!(code, 0, "{guest}: {message}");
        let is_right = said.contains("same ") && !said.contains("mixed") && !said.contains("changes 0");
        assert!(is_right, "{guest}: {said}");
    }
}

/// Runs one that turns a name into another thing and back beside one that uses the name, which meets both.
async fn race(guest: &str, trap: &Trap, specs: [ContainerSpec; 2]) -> String {
    let (mut running, log) = (specs.len(), specs[1].log_path.clone());
    for spec in specs {
        // The other may be at it already: one that starts in that moment is refused, and tried again as by a node.
        until(async || match trap.node.engine.start(spec.clone()).await {
            Err(EngineError::InvalidSpec(why)) if why.contains("a path led outside of the filesystem") => false,
            started => started.map(|_| true).unwrap(),
        })
        .await;
    }
    while running > 0 {
        if let EngineEvent::Exited { exit_code, message, .. } = trap.node.event().await {
            assert_eq!(exit_code, 0, "{guest}: {message}");
            running -= 1;
        }
    }
    let said = texts(&log);
    let met = said.lines().last().unwrap_or_default();
    let met_both = met.starts_with("stdout F read ") && !met.contains(" 0 refused") && !met.contains("refused 0");
    assert!(met_both, "{guest}: {said}");
    said
}

/// What `tests/guests/smith` made of random bytes: modules, each with a `_start` that does what chance wants, and components with
/// a `run` that does.
fn corpus() -> Vec<(String, Vec<u8>)> {
    wasm_files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/wasm/corpus"))
}

fn wasm_files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut modules: Vec<_> =
        files.map(|path| (path.file_stem().unwrap().display().to_string(), std::fs::read(path).unwrap())).collect();
    modules.sort();
    modules
}

/// The same of other random bytes, and components of chance altogether, the same each time. `K8W_SMITH_SEED` is where their
/// seeds begin.
fn made(node: &Node) -> Vec<(String, Vec<u8>)> {
    let folder = node.dir.path().join("made");
    std::fs::create_dir(&folder).unwrap();
    let first = std::env::var("K8W_SMITH_SEED").unwrap_or_else(|_| "0".to_owned());
    let mut smith = Command::new(program("smith"));
    let made = smith.args([first, MADE_OF_EACH.to_string()]).arg(&folder).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    wasm_files(&folder)
}

/// Modules, components of chance, and components that run, that are made.
const MADE_OF_EACH: u64 = 24;
/// For how long one that does not end runs.
const RUNS: Duration = Duration::from_millis(50);

/// Whether it ran; anything but running and being refused is a mistake.
async fn runs(node: &Node, name: &str, wasm: &[u8]) -> bool {
    match node.prepare(wasm).await {
        Ok(_) => {}
        Err(EngineError::Internal(why)) => panic!("{name}: {why}"),
        Err(_) => return false,
    }
    let mut spec = node.pod(name, wasm).await;
    spec.limits.memory_bytes = Some(64 << 20);
    let id = spec.id.clone();
    match node.engine.start(spec).await {
        Ok(()) => {}
        Err(EngineError::Internal(why)) => panic!("{name}: {why}"),
        Err(_) => return false,
    }
    assert_eq!(node.event().await, EngineEvent::Started { id: id.clone() });
    // What has ended by then has been told already.
    if tokio::time::timeout(RUNS, node.exit(&id)).await.is_err() {
        node.engine.stop(&id, Duration::ZERO).await;
        node.exit(&id).await;
    }
    true
}

#[tokio::test]
async fn whatever_a_guest_of_chance_does_it_is_refused_or_ends() {
    let node = Node::with(|config| config.compile.time = Duration::from_secs(20));
    let (mut modules, mut components) = ((0, 0), (0, 0));
    for (name, wasm) in corpus().into_iter().chain(made(&node)) {
        let ran = usize::from(runs(&node, &name, &wasm).await);
        // Components that are made of chance alone ask for what nobody has.
        if !name.starts_with("component-") {
            let of_its_kind = if is_component(&wasm) { &mut components } else { &mut modules };
            *of_its_kind = (of_its_kind.0 + ran, of_its_kind.1 + 1);
        }
        // Bytes that are no module any more.
        let cut = &wasm[..wasm.len() / 2];
        assert!(!matches!(node.prepare(cut).await, Err(EngineError::Internal(_))), "{name}, cut short");
    }
    for (kind, (ran, all)) in [("modules", modules), ("components", components)] {
        println!("{ran} of {all} {kind} ran");
        assert!(ran * 4 >= all * 3, "{ran} of {all} {kind} ran");
    }
}

/// By its version and layer, which follow the magic number.
fn is_component(wasm: &[u8]) -> bool {
    wasm.get(4..8) == Some(&[0x0d, 0, 1, 0])
}
