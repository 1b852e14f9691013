//! `tar`: archives on standard output and from standard input, as `kubectl cp` asks for them
//! (`tar cf - PATH…`, `tar xmf - [-C DIR]`).

use std::io::{self, Read, Write};
use std::path::{Component, Path};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ::tar::{Builder, Entry, EntryType, Header};
use k8w_storage::metered::{Failure, MAX_NAME_BYTES, Metered, members};

use super::{Info, Kind, Parts, Reader, Session, Tree, guest_path, reason};

/// Exit code after something went wrong.
const FAILED: i32 = 2;
/// The mode of directories that are made.
const DIRECTORY_MODE: u32 = 0o755;

pub fn run(session: &mut Session<'_>) -> io::Result<i32> {
    let request = match Request::read(&session.args) {
        Ok(request) => request,
        Err(why) => {
            session.complain(&why);
            return Ok(FAILED);
        }
    };
    let tree = session.tree()?;
    let failed = match request.action {
        Action::Create => create(session, &tree, &request)?,
        Action::Extract => extract(session, &tree, &request)?,
        Action::List => list(session)?,
    };
    Ok(if failed { FAILED } else { 0 })
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    Create,
    Extract,
    List,
}

/// What the arguments ask for.
#[derive(Debug, PartialEq, Eq)]
struct Request {
    action: Action,
    directory: Option<String>,
    verbose: bool,
    keep_times: bool,
    keep_modes: bool,
    paths: Vec<String>,
}

impl Request {
    /// # Errors
    /// The sentence for whoever asked.
    fn read(args: &[String]) -> Result<Request, String> {
        let (mut action, mut directory, mut archive) = (None, None, None);
        let (mut verbose, mut keep_times, mut keep_modes) = (false, true, true);
        let mut paths = Vec::new();
        let mut args = args.iter().enumerate();
        while let Some((number, argument)) = args.next() {
            let letters = match argument.strip_prefix('-') {
                Some("-no-same-permissions") => {
                    keep_modes = false;
                    continue;
                }
                // Files belong to the node's user in any case.
                Some("-no-same-owner") => continue,
                Some(letters) if !letters.is_empty() && !letters.starts_with('-') => letters,
                None if number == 0 => argument,
                Some("") | None => {
                    paths.push(argument.clone());
                    continue;
                }
                Some(_) => return Err(format!("unrecognized option '{argument}'")),
            };
            for letter in letters.chars() {
                let mut value = |name: char| {
                    let value = args.next().map(|(_, value)| value.clone());
                    value.ok_or_else(|| format!("option requires an argument -- '{name}'"))
                };
                match letter {
                    'c' => action = Some(Action::Create),
                    'x' => action = Some(Action::Extract),
                    't' => action = Some(Action::List),
                    'f' => archive = Some(value('f')?),
                    'C' => directory = Some(value('C')?),
                    'v' => verbose = true,
                    'm' => keep_times = false,
                    'p' => keep_modes = true,
                    'o' => {}
                    _ => return Err(format!("invalid option -- '{letter}'")),
                }
            }
        }
        if archive.is_some_and(|archive| archive != "-") {
            return Err("archives are read from and written to '-' alone".to_owned());
        }
        let action = action.ok_or("You must specify one of the 'ctx' options")?;
        if action == Action::Create && paths.is_empty() {
            return Err("Cowardly refusing to create an empty archive".to_owned());
        }
        Ok(Request { action, directory, verbose, keep_times, keep_modes, paths })
    }

    /// Where paths begin.
    fn root(&self, session: &Session<'_>) -> Parts {
        session.absolute(self.directory.as_deref().unwrap_or("."))
    }
}

/// Writes an archive; whether something could not be read.
fn create(session: &mut Session<'_>, tree: &Tree, request: &Request) -> io::Result<bool> {
    let root = format!("/{}", request.root(session).join("/"));
    let mut failed = false;
    let mut waiting: Vec<(String, Parts)> = Vec::new();
    for path in request.paths.iter().rev() {
        let name = path.trim_start_matches('/');
        if name.len() < path.len() {
            writeln!(session.stderr, "tar: Removing leading `/' from member names")?;
        }
        let name = if name.is_empty() { "." } else { name.trim_end_matches('/') };
        waiting.push((name.to_owned(), guest_path::absolute(Some(&root), path)));
    }
    session.stderr.flush()?;
    let mut archive = Builder::new(Vec::new());
    while let Some((name, parts)) = waiting.pop() {
        let added = tree.link_metadata(&parts).and_then(|info| {
            if info.is_dir() {
                for (child, _) in tree.entries(&parts)?.into_iter().rev() {
                    waiting.push((format!("{name}/{child}"), [&parts[..], std::slice::from_ref(&child)].concat()));
                }
            }
            Ok(info)
        });
        let added = added.and_then(|info| append(session, tree, &mut archive, &name, &parts, &info));
        if request.verbose {
            writeln!(session.stderr, "{name}")?;
        }
        match added {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Err(error),
            Err(error) => {
                session.complain(&format!("{name}: {}", reason(&error)));
                failed = true;
            }
        }
    }
    let end = archive.into_inner()?;
    session.stdout.write_all(&end)?;
    Ok(failed)
}

/// Adds one file: the archive's own bytes first, so that no file is held in memory.
fn append(
    session: &mut Session<'_>,
    tree: &Tree,
    archive: &mut Builder<Vec<u8>>,
    name: &str,
    parts: &[String],
    info: &Info,
) -> io::Result<()> {
    let mut header = Header::new_gnu();
    header.set_mode(info.mode & 0o777);
    let seconds = info.modified.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    header.set_mtime(seconds);
    match info.kind {
        Kind::Directory => {
            header.set_entry_type(EntryType::Directory);
            header.set_size(0);
            archive.append_data(&mut header, format!("{name}/"), io::empty())?;
            write_out(session, archive)
        }
        Kind::Link => {
            header.set_entry_type(EntryType::Symlink);
            header.set_size(0);
            archive.append_link(&mut header, name, tree.read_link(parts)?)?;
            write_out(session, archive)
        }
        Kind::File => {
            let mut file = tree.open(parts)?;
            header.set_entry_type(EntryType::Regular);
            header.set_size(0);
            // With a long name, this writes the entry that holds it; the file's own header comes after it.
            archive.append_data(&mut header, name, io::empty())?;
            let whole = archive.get_mut();
            let at = whole.len() - 512;
            header.set_size(info.size);
            header.set_cksum();
            whole[at..].copy_from_slice(header.as_bytes());
            write_out(session, archive)?;
            // A file that changes meanwhile keeps the size that the header says.
            let copied = io::copy(&mut (&mut file).take(info.size), &mut session.stdout)?;
            let rest = info.size - copied + (512 - info.size % 512) % 512;
            io::copy(&mut io::repeat(0).take(rest), &mut session.stdout)?;
            Ok(())
        }
        Kind::Other => Err(io::Error::other("special files are not archived")),
    }
}

fn write_out(session: &mut Session<'_>, archive: &mut Builder<Vec<u8>>) -> io::Result<()> {
    session.stdout.write_all(archive.get_ref())?;
    archive.get_mut().clear();
    Ok(())
}

/// Unpacks an archive; whether something could not be written.
fn extract(session: &mut Session<'_>, tree: &Tree, request: &Request) -> io::Result<bool> {
    let root = request.root(session);
    if let Err(error) = tree.metadata(&root) {
        let name = root.join("/");
        session.complain(&format!("/{name}: Cannot open: {}", reason(&error)));
        return Ok(true);
    }
    let mut failed = false;
    let broken = read(&mut session.stdin, |path, entry| {
        let unpacked = if path.as_os_str().len() > MAX_NAME_BYTES {
            Err(io::Error::other("File name too long"))
        } else {
            unpack(entry, tree, &root, path, request)
        };
        if request.verbose {
            writeln!(session.stdout, "{}", path.display())?;
        }
        if let Err(error) = unpacked {
            failed = true;
            writeln!(session.stderr, "tar: {}: Cannot open: {}", path.display(), reason(&error))?;
        }
        Ok(())
    })?;
    session.stderr.flush()?;
    Ok(complained(session, broken) || failed)
}

/// Says what is wrong with an archive; whether anything is.
fn complained(session: &mut Session<'_>, broken: Option<String>) -> bool {
    broken.is_some_and(|why| session.complain(&why) != 0)
}

/// Shows all members of an archive in their order. Returns what is wrong with the archive.
///
/// # Errors
/// Those of `see`.
fn read(
    input: &mut Reader,
    mut see: impl FnMut(&Path, &mut Entry<'_, Metered<'_, &mut Reader>>) -> io::Result<()>,
) -> io::Result<Option<String>> {
    let read = members(input, |mut entry| {
        let path = entry.path()?.into_owned();
        see(&path, &mut entry)
    });
    match read {
        Ok(()) => Ok(None),
        Err(Failure::Seen(error)) => Err(error),
        Err(Failure::Broken { error, has_ended }) => Ok(Some(match error.kind() {
            io::ErrorKind::FileTooLarge => error.to_string(),
            _ if has_ended => "Unexpected EOF in archive".to_owned(),
            // The bytes that make no sense are not for a terminal.
            _ => "This does not look like a tar archive".to_owned(),
        })),
    }
}

/// The parts of a member's name; `None` when it would lead up.
fn inside(path: &Path) -> Option<Parts> {
    let mut parts = Parts::new();
    for component in path.components() {
        match component {
            Component::Normal(part) => parts.push(part.to_string_lossy().into_owned()),
            Component::RootDir | Component::CurDir => {}
            Component::ParentDir | Component::Prefix(_) => return None,
        }
    }
    Some(parts)
}

/// Makes a member beneath `root`, and the directories above it.
fn unpack(
    entry: &mut Entry<'_, impl Read>,
    tree: &Tree,
    root: &[String],
    path: &Path,
    request: &Request,
) -> io::Result<()> {
    let beneath = |path: &Path| inside(path).map(|beneath| [root, &beneath[..]].concat());
    let to = beneath(path).ok_or_else(|| io::Error::other("Member name contains '..'"))?;
    let kind = entry.header().entry_type();
    if kind == EntryType::XGlobalHeader {
        return Ok(());
    }
    let mode = entry.header().mode().map_err(malformed)? & 0o777;
    if kind == EntryType::Directory {
        tree.create_dir_all(&to)?;
        // A directory that its owner cannot write to would refuse what the archive holds for it.
        if request.keep_modes && mode != DIRECTORY_MODE {
            tree.set_mode(&to, mode | 0o700)?;
        }
        return Ok(());
    }
    if let [above @ .., _] = &to[..] {
        tree.create_dir_all(above)?;
    }
    let target = entry.link_name()?.map(std::borrow::Cow::into_owned);
    let file = match (kind, target) {
        (EntryType::Regular | EntryType::Continuous, _) => {
            let mut file = tree.create(&to)?;
            io::copy(entry, &mut file)?;
            file
        }
        (EntryType::Symlink, Some(target)) => return tree.link(&to, &target),
        // Another name of an earlier member. It becomes a copy: the two may lie in different volumes.
        (EntryType::Link, Some(target)) => {
            let from = beneath(&target).ok_or_else(|| io::Error::other("Link target contains '..'"))?;
            match tree.link_metadata(&from)?.kind {
                Kind::Link => return tree.link(&to, &tree.read_link(&from)?),
                Kind::File => {
                    let mut from = tree.open(&from)?;
                    let mut file = tree.create(&to)?;
                    io::copy(&mut from, &mut file)?;
                    file
                }
                Kind::Directory | Kind::Other => return Err(io::Error::other("its link leads to no file")),
            }
        }
        (EntryType::Symlink | EntryType::Link, None) => return Err(malformed(io::ErrorKind::InvalidData.into())),
        (other, _) => return Err(io::Error::other(format!("entries of type {other:?} are not supported"))),
    };
    let file = file.into_std();
    if request.keep_modes {
        file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(mode))?;
    }
    if request.keep_times
        // A time that this machine cannot tell is left alone.
        && let Some(modified) = after_epoch(entry.header().mtime().map_err(malformed)?)
    {
        file.set_modified(modified)?;
    }
    Ok(())
}

fn after_epoch(seconds: u64) -> Option<SystemTime> {
    UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
}

/// Instead of an error that shows the bytes of a header, which are not for a terminal.
fn malformed(_: io::Error) -> io::Error {
    io::Error::other("malformed header")
}

fn list(session: &mut Session<'_>) -> io::Result<bool> {
    let broken = read(&mut session.stdin, |path, _| writeln!(session.stdout, "{}", path.display()))?;
    Ok(complained(session, broken))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(args: &str) -> Result<Request, String> {
        Request::read(&args.split(' ').map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn kubectls_ways_to_call_it_are_understood() {
        let create = request("cf - /data/x").unwrap();
        assert_eq!((create.action, &create.paths[..]), (Action::Create, &["/data/x".to_owned()][..]));
        let extract = request("-xmf - -C /data").unwrap();
        assert_eq!((extract.action, extract.directory.as_deref()), (Action::Extract, Some("/data")));
        assert!(!extract.keep_times && extract.keep_modes);
        let loose = request("--no-same-permissions --no-same-owner -xmf - -C /").unwrap();
        assert!(!loose.keep_modes);
    }

    #[test]
    fn what_it_does_not_do_is_refused_by_name() {
        let refusal = |args| request(args).unwrap_err();
        assert_eq!(refusal("czf - x"), "invalid option -- 'z'");
        assert_eq!(refusal("cf file x"), "archives are read from and written to '-' alone");
        assert_eq!(refusal("cf"), "option requires an argument -- 'f'");
        assert_eq!(refusal("-c --exclude=a x"), "unrecognized option '--exclude=a'");
        assert_eq!(refusal("f -"), "You must specify one of the 'ctx' options");
    }

    #[test]
    fn members_stay_beneath_the_directory() {
        assert_eq!(inside(Path::new("/a/./b")), Some(vec!["a".to_owned(), "b".to_owned()]));
        assert_eq!(inside(Path::new("a/../../b")), None);
    }
}
