use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use expect_test::{Expect, expect};
use tokio::sync::mpsc;

use super::*;

/// A container that sees the mounts of [`crate::wasm::exec::tree::tests::preopens`].
fn container(root: &Path) -> Container {
    let mut container = Arc::into_inner(crate::wasm::tests::container(root)).unwrap();
    container.preopens = crate::wasm::exec::tree::tests::preopens(root);
    container.env = vec![("A".to_owned(), "1".to_owned()), ("B".to_owned(), "two words".to_owned())];
    container.args = vec!["guest".to_owned(), "--serve".to_owned()];
    container
}

/// Exit code, standard output and standard error.
fn run(container: &Container, command: &str, input: &[u8]) -> (i32, Vec<u8>, String) {
    let argv: Vec<String> = command.split(' ').map(str::to_owned).collect();
    let (output, mut written) = mpsc::channel(4096);
    let (sender, stdin) = mpsc::channel(1);
    sender.try_send(Bytes::copy_from_slice(input)).unwrap();
    drop(sender);
    let builtin = find(&argv[0]).unwrap();
    let processes = vec![container.args.join(" "), "beside".to_owned()];
    let code = super::run(builtin, container, processes, argv, Io { stdin: Some(stdin), output });
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    while let Ok(output) = written.try_recv() {
        match output {
            Output::Stdout(bytes) => stdout.extend_from_slice(&bytes),
            Output::Stderr(bytes) => stderr.extend_from_slice(&bytes),
        }
    }
    (code, stdout, String::from_utf8(stderr).unwrap())
}

fn check(container: &Container, command: &str, expected: Expect) {
    let (code, stdout, stderr) = run(container, command, b"input\n");
    expected.assert_eq(&format!("{}{stderr}exit {code}\n", String::from_utf8(stdout).unwrap()));
}

#[test]
fn the_table_is_sorted() {
    assert!(ALL.is_sorted_by_key(|builtin| builtin.name));
    assert!(find("/bin/ls").is_some());
    assert!(find("/data/ls").is_none());
}

#[test]
fn commands_say_what_people_expect() {
    let root = tempfile::tempdir().unwrap();
    let container = container(root.path());
    std::fs::write(root.path().join("data/file"), "text\n").unwrap();
    check(&container, "ls / /data", expect![["/:\ndata\n\n/data:\nfile\nfixed\nexit 0\n"]]);
    check(&container, "ls /nowhere", expect![["ls: cannot access '/nowhere': No such file or directory\nexit 2\n"]]);
    check(&container, "ls -z", expect![["ls: invalid option -- 'z'\nexit 2\n"]]);
    check(&container, "cat /data/file -", expect![["text\ninput\nexit 0\n"]]);
    check(&container, "cat /data", expect![["cat: /data: Is a directory\nexit 1\n"]]);
    check(&container, "env", expect![["A=1\nB=two words\nexit 0\n"]]);
    check(&container, "printenv B NONE", expect![["two words\nexit 1\n"]]);
    check(&container, "echo a b", expect![["a b\nexit 0\n"]]);
    check(&container, "pwd", expect![["/\nexit 0\n"]]);
    check(&container, "ps", expect![["  PID COMMAND\n    1 guest --serve\n    2 beside\n    3 ps\nexit 0\n"]]);
    check(&container, "stat /nowhere", expect![["stat: cannot stat '/nowhere': No such file or directory\nexit 1\n"]]);
    check(&container, "test -d /data", expect![["exit 0\n"]]);
    check(&container, "test -d /data/file", expect![["exit 1\n"]]);
    check(&container, "[ ! -e /data/none ]", expect![["exit 0\n"]]);
    check(&container, "test -q x", expect![["test: -q x: unsupported expression\nexit 2\n"]]);
    let (code, listing, _) = run(&container, "ls -l /data/file", b"");
    let listing = String::from_utf8(listing).unwrap();
    assert!(code == 0 && listing.starts_with("-rw") && listing.ends_with(" /data/file\n"), "{listing}");
}

#[test]
fn an_archive_unpacks_to_what_was_packed() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (packing, unpacking) = (container(from.path()), container(to.path()));
    let long = format!("tree/{}/{}", "d".repeat(90), "f".repeat(90));
    let source = from.path().join("data");
    std::fs::create_dir_all(source.join(&long).parent().unwrap()).unwrap();
    std::fs::write(source.join(&long), vec![7; 100_000]).unwrap();
    std::fs::write(source.join("tree/empty"), "").unwrap();
    std::os::unix::fs::symlink("empty", source.join("tree/link")).unwrap();
    let (code, archive, stderr) = run(&packing, "tar cf - /data/tree", b"");
    assert_eq!((code, stderr.as_str()), (0, "tar: Removing leading `/' from member names\n"));
    let (code, _, stderr) = run(&unpacking, "tar -xmf - -C /", &archive);
    assert_eq!((code, stderr.as_str()), (0, ""));
    let target = to.path().join("data");
    assert_eq!(std::fs::read(target.join(&long)).unwrap(), vec![7; 100_000]);
    assert_eq!(std::fs::read(target.join("tree/empty")).unwrap(), b"");
    assert_eq!(std::fs::read_link(target.join("tree/link")).unwrap(), Path::new("empty"));
}

#[test]
fn an_archive_writes_nowhere_else() {
    let root = tempfile::tempdir().unwrap();
    let container = container(root.path());
    std::os::unix::fs::symlink(root.path(), root.path().join("data/out")).unwrap();
    let mut archive = ::tar::Builder::new(Vec::new());
    for name in ["data/fixed/a", "data/out/b", "c"] {
        let mut header = ::tar::Header::new_gnu();
        header.set_size(1);
        header.set_mode(0o644);
        archive.append_data(&mut header, name, &b"x"[..]).unwrap();
    }
    let (code, _, stderr) = run(&container, "tar xmf - -C /", &archive.into_inner().unwrap());
    assert_eq!(code, 2);
    assert!(stderr.contains("data/fixed/a: Cannot open: Read-only file system"), "{stderr}");
    assert!(stderr.contains("tar: c: Cannot open: Read-only file system"), "{stderr}");
    assert!(!root.path().join("b").exists());
}

#[test]
fn garbage_is_no_archive() {
    let root = tempfile::tempdir().unwrap();
    for command in ["tar xmf - -C /data", "tar tf -"] {
        let (code, _, stderr) = run(&container(root.path()), command, &[1; 2_000]);
        assert_eq!((code, stderr.as_str()), (2, "tar: This does not look like a tar archive\n"));
    }
}

/// An archive of entries: kind, name, target of a link, content.
fn archive(entries: &[(::tar::EntryType, &str, &str, &[u8])]) -> ::tar::Builder<Vec<u8>> {
    let mut archive = ::tar::Builder::new(Vec::new());
    for (kind, name, target, content) in entries {
        let mut header = ::tar::Header::new_gnu();
        header.set_entry_type(*kind);
        header.set_mode(0o640);
        header.set_mtime(1_000_000_000);
        header.set_size(content.len() as u64);
        // Set by hand: the crate refuses names that lead outside.
        let fields = header.as_gnu_mut().unwrap();
        fields.name[..name.len()].copy_from_slice(name.as_bytes());
        fields.linkname[..target.len()].copy_from_slice(target.as_bytes());
        header.set_cksum();
        archive.append(&header, *content).unwrap();
    }
    archive
}

#[test]
fn links_are_made_with_what_is_above_them_and_never_lead_outside() {
    use ::tar::EntryType::{Link, Regular, Symlink};

    let root = tempfile::tempdir().unwrap();
    let container = container(root.path());
    let data = root.path().join("data");
    std::fs::write(data.join("outside"), "outside").unwrap();
    std::fs::create_dir(data.join("in")).unwrap();
    let links = archive(&[
        (Symlink, "none/link", "b", b""),
        (Regular, "first", "", b"content"),
        (Link, "deep/er/hard", "first", b""),
        (Link, "first", "first", b""),
        (Link, "again", "none/link", b""),
        (Link, "up", "../outside", b""),
        (Link, "top", "/outside", b""),
        (Link, "directory", "none", b""),
    ]);
    let (code, _, stderr) = run(&container, "tar xf - -C /data/in", &links.into_inner().unwrap());
    let complaints = "tar: up: Cannot open: Link target contains '..'\n\
                      tar: top: Cannot open: No such file or directory\n\
                      tar: directory: Cannot open: its link leads to no file\n";
    assert_eq!((code, stderr.as_str()), (2, complaints));
    let within = data.join("in");
    assert_eq!(std::fs::read_link(within.join("none/link")).unwrap(), Path::new("b"));
    assert_eq!(std::fs::read_link(within.join("again")).unwrap(), Path::new("b"));
    assert_eq!(std::fs::read(within.join("first")).unwrap(), b"content");
    let hard = within.join("deep/er/hard");
    assert_eq!(std::fs::read(&hard).unwrap(), b"content");
    let modified = std::fs::metadata(&hard).unwrap().modified().unwrap();
    assert_eq!(modified.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs(), 1_000_000_000);
    assert!(!within.join("up").exists() && !within.join("top").exists());
}

#[test]
fn an_archive_that_is_cut_short_says_so() {
    let root = tempfile::tempdir().unwrap();
    let container = container(root.path());
    let long = "n".repeat(1_000);
    let whole = archive(&[
        (::tar::EntryType::Regular, "a", "", &[0xff; 700]),
        (::tar::EntryType::GNULongName, "record", "", long.as_bytes()),
        (::tar::EntryType::Regular, "b", "", &[0xff; 700]),
    ]);
    let whole = whole.into_inner().unwrap();
    // Within a header, a file, what fills its last block, a record, and right after that.
    for length in [100, 600, 1_300, 1_700, 2_100, 3_072, 3_100, 3_600] {
        for command in ["tar xf - -C /data", "tar tf -"] {
            let (code, _, stderr) = run(&container, command, &whole[..length]);
            // The name is too long for a file.
            let stderr: Vec<_> = stderr.lines().filter(|line| !line.contains("nnn")).collect();
            assert_eq!((code, &stderr[..]), (2, &["tar: Unexpected EOF in archive"][..]), "{length}");
        }
    }
}

#[test]
fn records_names_and_times_have_bounds() {
    use ::tar::EntryType::{Directory, GNULongName, Regular, XHeader};

    let root = tempfile::tempdir().unwrap();
    let container = container(root.path());
    for kind in [GNULongName, XHeader] {
        let large = vec![b'x'; 2 << 20];
        let large = archive(&[(Regular, "large", "", &large), (kind, "r", "", &large), (Regular, "b", "", b"")]);
        let large = large.into_inner().unwrap();
        for command in ["tar xf - -C /data", "tar tf -"] {
            let (code, _, stderr) = run(&container, command, &large);
            assert_eq!((code, stderr.as_str()), (2, "tar: a record is longer than 1 MiB\n"));
        }
    }
    let (deep, deeper) = ("d/".repeat(2_000), "d/".repeat(3_000));
    let mut names = archive(&[
        (GNULongName, "r", "", deep.as_bytes()),
        (Directory, "d", "", b""),
        (GNULongName, "r", "", deeper.as_bytes()),
        (Directory, "d", "", b""),
    ]);
    let mut late = ::tar::Header::new_gnu();
    late.set_mode(0o644);
    late.set_size(1);
    late.set_mtime(u64::MAX);
    names.append_data(&mut late, "late", &b"x"[..]).unwrap();
    let (code, _, stderr) = run(&container, "tar xf - -C /data", &names.into_inner().unwrap());
    assert!(code == 2 && stderr.lines().count() == 1 && stderr.ends_with("File name too long\n"), "{stderr}");
    assert_eq!(std::fs::read(root.path().join("data/late")).unwrap(), b"x");
    k8w_storage::tree::remove(&root.path().join("data")).unwrap();
}
