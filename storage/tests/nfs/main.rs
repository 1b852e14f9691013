//! The client of NFS against a real server (nfs-ganesha), in a network namespace of its own.

#![allow(clippy::unwrap_used, reason = "these are tests, helpers included")]

use std::collections::HashSet;
use std::fs::{self, File, FileTimes, OpenOptions};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant, UNIX_EPOCH};

use k8w_storage::volume::mounted;
use k8w_storage::volume::nfs::{SUBCOMMAND, Source, mount, serve};
use k8w_testkit::{NfsServer, eventually, kernel_has_nfs, run_in_namespaces, skipped};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

/// Longer than the server of these volumes is waited for, and shorter than for ever.
const BOUND: Duration = Duration::from_secs(20);

fn main() -> ExitCode {
    // A volume's own process is this very program.
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next().is_some_and(|first| first == SUBCOMMAND) {
        return serve(arguments);
    }
    run_in_namespaces(&[
        ("a_servers_files_are_files", a_servers_files_are_files),
        ("a_volume_outlives_its_server_and_its_process", a_volume_outlives_its_server_and_its_process),
        ("a_silent_server_costs_errors", a_silent_server_costs_errors),
    ])
}

/// The server, where the client of k8w's own is what mounts.
fn start() -> Option<NfsServer> {
    if kernel_has_nfs() {
        skipped("this kernel has NFS, and would mount");
        return None;
    }
    NfsServer::start()
}

struct Mounts(TempDir);

impl Mounts {
    fn source(server: &NfsServer, options: &[&str]) -> Source {
        Source {
            server: "127.0.0.1".to_owned(),
            path: server.export().display().to_string(),
            read_only: options.contains(&"ro"),
            options: options.iter().map(|option| (*option).to_owned()).collect(),
        }
    }

    fn mount(&self, name: &str, server: &NfsServer, options: &[&str]) -> PathBuf {
        let dir = self.0.path().join(name);
        mount(&dir, &Self::source(server, options)).unwrap_or_else(|error| panic!("{error}"));
        dir
    }
}

impl Drop for Mounts {
    fn drop(&mut self) {
        let _ = mounted::remove_beneath(self.0.path());
    }
}

fn a_servers_files_are_files() {
    let Some(server) = start() else { return };
    let mounts = Mounts(tempfile::tempdir().unwrap());
    let (a, b) = (mounts.mount("a", &server, &[]), mounts.mount("b", &server, &["rsize=8192,wsize=4096,actimeo=0"]));
    assert_eq!(mounts.mount("a", &server, &[]), a, "what is there stays");
    for check in [bytes, places, names, links, many_names, removed_while_open, attributes, side_by_side] {
        check(&a, &b);
        check(&b, &a);
    }
    only_to_read(&mounts, &server, &a);
    refusals(&mounts, &server);
    assert_eq!(fs::read_dir(server.export()).unwrap().count(), 0, "what was made has been removed");

    mounted::remove_beneath(mounts.0.path()).unwrap();
    assert!(!fs::read_to_string("/proc/self/mounts").unwrap().contains(mounts.0.path().to_str().unwrap()));
}

/// Bytes by their place, also beyond the end, and where a file ends.
fn bytes(a: &Path, b: &Path) {
    let (here, there) = (a.join("bytes"), b.join("bytes"));
    let long: Vec<u8> = (0..3_000_001_u32).map(|place| (place % 251) as u8).collect();
    fs::write(&here, &long).unwrap();
    assert!(fs::read(&there).unwrap() == long);
    let file = OpenOptions::new().read(true).write(true).open(&here).unwrap();
    file.set_len(10).unwrap();
    file.write_at(b"!", 40 << 20).unwrap();
    file.sync_all().unwrap();
    let found = fs::metadata(&here).unwrap();
    assert_eq!(found.len(), (40 << 20) + 1);
    assert!(found.blocks() * 512 < 1 << 20, "a file with a hole takes {} blocks", found.blocks());
    let mut hole = [1; 20];
    file.read_exact_at(&mut hole, 5).unwrap();
    assert_eq!((&hole[..5], &hole[5..]), (&long[5..10], &[0; 15][..]));
    file.set_len(3).unwrap();
    assert_eq!(fs::read(&here).unwrap(), &long[..3]);
    fs::remove_file(&here).unwrap();
}

/// Writing at the end, and where a file is.
fn places(a: &Path, _: &Path) {
    let path = a.join("log");
    for line in ["one\n", "two\n"] {
        OpenOptions::new().create(true).append(true).open(&path).unwrap().write_all(line.as_bytes()).unwrap();
    }
    let mut file = File::open(&path).unwrap();
    let mut text = String::new();
    file.seek(SeekFrom::Start(4)).unwrap();
    file.read_to_string(&mut text).unwrap();
    assert_eq!(text, "two\n");
    fs::remove_file(&path).unwrap();
}

/// Directories, names that are taken or not there, and renames.
fn names(a: &Path, b: &Path) {
    fs::create_dir_all(a.join("d/e")).unwrap();
    fs::write(a.join("d/e/f"), "f").unwrap();
    fs::write(a.join("d/g"), "g").unwrap();
    assert_eq!(
        OpenOptions::new().write(true).create_new(true).open(a.join("d/g")).unwrap_err().kind(),
        ErrorKind::AlreadyExists
    );
    assert_eq!(fs::create_dir(a.join("d/e")).unwrap_err().kind(), ErrorKind::AlreadyExists);
    assert_eq!(fs::remove_dir(a.join("d")).unwrap_err().kind(), ErrorKind::DirectoryNotEmpty);
    assert_eq!(fs::read(a.join("none")).unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(fs::write(a.join("x".repeat(300)), "").unwrap_err().kind(), ErrorKind::InvalidFilename);
    fs::rename(a.join("d/g"), a.join("d/e/f")).unwrap();
    assert_eq!(fs::read_to_string(b.join("d/e/f")).unwrap(), "g");
    fs::rename(a.join("d/e"), a.join("h")).unwrap();
    assert_eq!(fs::read_to_string(a.join("h/f")).unwrap(), "g");
    fs::remove_dir_all(a.join("d")).unwrap();
    fs::remove_dir_all(a.join("h")).unwrap();
}

fn links(a: &Path, _: &Path) {
    let mut file = File::create(a.join("file")).unwrap();
    file.write_all(b"text").unwrap();
    // nfs-ganesha may forget a link that it makes while it still commits.
    file.sync_all().unwrap();
    fs::hard_link(a.join("file"), a.join("hard")).unwrap();
    symlink("file", a.join("soft")).unwrap();
    assert_eq!(fs::read_link(a.join("soft")).unwrap(), Path::new("file"));
    assert_eq!(fs::read_to_string(a.join("soft")).unwrap(), "text");
    let (file, hard) = (fs::metadata(a.join("file")).unwrap(), fs::metadata(a.join("hard")).unwrap());
    assert_eq!((file.ino(), file.nlink()), (hard.ino(), 2));
    fs::remove_file(a.join("file")).unwrap();
    assert_eq!(fs::read_to_string(a.join("hard")).unwrap(), "text");
    assert_eq!(fs::read(a.join("soft")).unwrap_err().kind(), ErrorKind::NotFound);
    for name in ["hard", "soft"] {
        fs::remove_file(a.join(name)).unwrap();
    }
}

/// More names than one answer of the server has room for.
fn many_names(a: &Path, b: &Path) {
    const MANY: usize = 1500;
    let dir = a.join("many");
    fs::create_dir(&dir).unwrap();
    let names: HashSet<String> = (0..MANY).map(|number| format!("{number}-{}", "n".repeat(100))).collect();
    for name in &names {
        File::create(dir.join(name)).unwrap();
    }
    let listed: Vec<_> = fs::read_dir(b.join("many")).unwrap().map(|entry| entry.unwrap()).collect();
    assert!(listed.iter().all(|entry| entry.file_type().unwrap().is_file()));
    let listed: Vec<String> = listed.iter().map(|entry| entry.file_name().into_string().unwrap()).collect();
    assert_eq!(listed.len(), MANY);
    assert_eq!(listed.into_iter().collect::<HashSet<_>>(), names);
    fs::remove_dir_all(&dir).unwrap();
}

/// As long as it is open, here; elsewhere it is gone at once.
fn removed_while_open(a: &Path, b: &Path) {
    let names = |dir: &Path| fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name()).collect::<Vec<_>>();
    for name in ["open", "over"] {
        fs::write(a.join(name), name).unwrap();
    }
    let (open, over) = (File::open(a.join("open")).unwrap(), File::open(a.join("over")).unwrap());
    fs::rename(a.join("open"), a.join("over")).unwrap();
    fs::remove_file(a.join("over")).unwrap();
    let mut bytes = [0; 4];
    for (file, text) in [(&open, b"open"), (&over, b"over")] {
        file.read_exact_at(&mut bytes, 0).unwrap();
        assert_eq!(&bytes, text);
    }
    assert!(!a.join("over").exists());
    drop((open, over));
    eventually("what was hidden is removed", || match names(a) {
        none if none.is_empty() => Ok(()),
        left => Err(format!("{left:?}")),
    });
    for _ in 0..20 {
        fs::create_dir(a.join("dir")).unwrap();
        let open = File::create(a.join("dir/file")).unwrap();
        fs::remove_file(a.join("dir/file")).unwrap();
        drop(open);
        fs::remove_dir(a.join("dir")).unwrap();
    }

    fs::write(a.join("stale"), "text").unwrap();
    let open = File::open(a.join("stale")).unwrap();
    fs::remove_file(b.join("stale")).unwrap();
    assert_eq!(open.read_at(&mut bytes, 0).unwrap_err().kind(), ErrorKind::StaleNetworkFileHandle);
}

fn attributes(a: &Path, _: &Path) {
    let path = a.join("file");
    fs::write(&path, "text").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    let modified = UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    File::options().write(true).open(&path).unwrap().set_times(FileTimes::new().set_modified(modified)).unwrap();
    let found = fs::metadata(&path).unwrap();
    assert_eq!((found.mode() & 0o7777, found.modified().unwrap(), found.len()), (0o640, modified, 4));
    fs::remove_file(&path).unwrap();
    let space = nix::sys::statvfs::statvfs(a).unwrap();
    assert!(space.blocks() > 0 && space.blocks_available() > 0);
}

/// Many at a time, more than are let in at once.
fn side_by_side(a: &Path, b: &Path) {
    std::thread::scope(|scope| {
        for number in 0..100_u8 {
            scope.spawn(move || {
                let name = format!("side-{number}");
                fs::write(a.join(&name), vec![number; 100_000]).unwrap();
                assert_eq!(fs::read(b.join(&name)).unwrap(), vec![number; 100_000]);
                fs::remove_file(a.join(&name)).unwrap();
            });
        }
    });
}

fn only_to_read(mounts: &Mounts, server: &NfsServer, writable: &Path) {
    let dir = mounts.mount("ro", server, &["ro"]);
    fs::write(writable.join("file"), "text").unwrap();
    assert_eq!(fs::read_to_string(dir.join("file")).unwrap(), "text");
    for refused in
        [fs::write(dir.join("file"), "other"), fs::remove_file(dir.join("file")), fs::create_dir(dir.join("dir"))]
    {
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::ReadOnlyFilesystem);
    }
    fs::remove_file(writable.join("file")).unwrap();
}

fn refusals(mounts: &Mounts, server: &NfsServer) {
    let dir = mounts.0.path().join("refused");
    let refusal = |source: Source| mount(&dir, &source).unwrap_err().to_string();
    let source = Mounts::source(server, &[]);
    let other = Source { path: "/none".to_owned(), ..source.clone() };
    assert_eq!(refusal(other), "mounting 127.0.0.1:/none: mount refused by the server: access denied");
    let device = source.device();
    let option = Source { options: vec!["nfsvers=4.1".to_owned()], ..source.clone() };
    let why = "mount option \"nfsvers=4.1\" is not supported without the kernel's NFS";
    assert_eq!(refusal(option), format!("mounting {device}: {why}"));
    // This server takes callers from reserved ports alone.
    let unprivileged = Source { options: vec!["noresvport".to_owned()], ..source };
    assert!(mount(&dir, &unprivileged).is_err());
    assert!(!mounted::is_at(&dir).unwrap());
}

/// What the server did not have on disk yet is written again, and connections are made anew. A process that is gone is told
/// of, and another one takes its place.
fn a_volume_outlives_its_server_and_its_process() {
    let Some(mut server) = start() else { return };
    let mounts = Mounts(tempfile::tempdir().unwrap());
    let a = mounts.mount("a", &server, &[]);
    let mut file = File::create(a.join("kept")).unwrap();
    file.write_all(&[7; 300_000]).unwrap();
    server.kill();
    server.restart();
    file.sync_all().unwrap();
    assert_eq!(fs::read(server.export().join("kept")).unwrap(), [7; 300_000]);

    file.write_all(b"more").unwrap();
    mounted::remove_beneath(mounts.0.path()).unwrap();
    eventually("what was written is on the server's disk when its volume is gone", || match processes(&a) {
        none if none.is_empty() => Ok(()),
        left => Err(format!("{left:?}")),
    });
    assert_eq!(fs::metadata(server.export().join("kept")).unwrap().len(), 300_004);
    assert!(file.write_all(b"late").is_err());
    drop(file);

    mounts.mount("a", &server, &[]);
    let [process] = processes(&a)[..] else { panic!("a volume has one process") };
    kill(Pid::from_raw(process), Signal::SIGTERM).unwrap();
    assert!(a.join("kept").exists(), "who stops a node may tell all of its processes");
    kill(Pid::from_raw(process), Signal::SIGKILL).unwrap();
    eventually("it is gone", || match fs::metadata(&a) {
        Err(error) if error.raw_os_error() == Some(libc::ENOTCONN) => Ok(()),
        other => Err(format!("{other:?}")),
    });
    mounts.mount("a", &server, &[]);
    assert!(a.join("kept").exists());
}

/// The processes of the volume at a directory.
fn processes(dir: &Path) -> Vec<i32> {
    let ids = fs::read_dir("/proc").unwrap().filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok());
    let is_its = |id: &i32| {
        let command = fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
        let mut words = command.split(|byte| *byte == 0).skip(1);
        words.next() == Some(SUBCOMMAND.as_bytes()) && words.next() == Some(dir.as_os_str().as_encoded_bytes())
    };
    ids.filter(is_its).collect()
}

/// Not threads; and the volume can be taken away.
fn a_silent_server_costs_errors() {
    let Some(mut server) = start() else { return };
    let mounts = Mounts(tempfile::tempdir().unwrap());
    let dir = mounts.mount("impatient", &server, &["timeo=5,retrans=1,actimeo=0"]);
    fs::write(dir.join("file"), "text").unwrap();
    let file = OpenOptions::new().read(true).write(true).open(dir.join("file")).unwrap();
    file.sync_all().unwrap();
    server.freeze();
    let begun = Instant::now();
    assert_eq!(fs::metadata(dir.join("file")).unwrap_err().kind(), ErrorKind::TimedOut);
    assert_eq!(file.write_at(b"x", 0).unwrap_err().kind(), ErrorKind::TimedOut);
    server.kill();
    assert_eq!(file.sync_all().map_err(|error| error.kind()), Ok(()), "nothing was written");
    let listed = fs::read_dir(&dir).and_then(|mut entries| entries.next().transpose());
    assert_eq!(listed.unwrap_err().kind(), ErrorKind::TimedOut);
    mounted::remove_beneath(&dir).unwrap();
    assert!(file.write_at(b"x", 0).is_err(), "who waits for a volume that is taken away waits no longer");
    drop(file);
    assert_eq!(fs::read_dir(&dir).unwrap().count(), 0);
    assert!(begun.elapsed() < BOUND, "{:?}", begun.elapsed());
    eventually("its process ends", || match processes(&dir) {
        none if none.is_empty() => Ok(()),
        left => Err(format!("{left:?}")),
    });
}
