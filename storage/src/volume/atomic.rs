//! Replaces the files of a volume in one step, as the kubelet's atomic writer does.
//!
//! ```text
//! volume/
//!   ..<generation>/cfg/a.txt    the files
//!   ..data -> ..<generation>    swapped by a rename: readers see all of the old or all of the new
//!   cfg -> ..data/cfg           what a container sees
//! ```

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::Path;

use super::{Error, Files, MAX_PROJECTED_BYTES, check_relative};
use crate::tree;

const DATA: &str = "..data";
const NEXT: &str = "..data_tmp";

/// Makes the volume show exactly these files. Returns whether anything changed. One writer at a time per volume.
///
/// # Errors
/// When a path leads outside, the files are too large together, or the file system refuses; the old files then stay.
pub fn write(volume: &Path, files: &Files) -> Result<bool, Error> {
    for path in files.keys() {
        check_relative(path)?;
    }
    if files.values().map(|file| file.bytes.len()).sum::<usize>() > MAX_PROJECTED_BYTES {
        return Err(Error::TooLarge);
    }
    fs::create_dir_all(volume).map_err(Error::io(volume))?;
    let current = fs::read_link(volume.join(DATA)).ok();
    if let Some(current) = &current
        && same(&volume.join(current), files)
    {
        return Ok(false);
    }
    let generation = next_generation(current.as_deref());
    let fresh = volume.join(&generation);
    remove_tree(&fresh)?;
    fill(&fresh, files)?;
    let next = volume.join(NEXT);
    remove_file(&next)?;
    symlink(&generation, &next).map_err(Error::io(&next))?;
    fs::rename(&next, volume.join(DATA)).map_err(Error::io(&next))?;
    show(volume, files)?;
    if let Some(current) = current {
        remove_tree(&volume.join(current))?;
    }
    Ok(true)
}

fn next_generation(current: Option<&Path>) -> String {
    let number = current.and_then(Path::to_str).and_then(|name| name.strip_prefix("..")?.parse::<u64>().ok());
    format!("..{}", number.map_or(0, |number| number.wrapping_add(1)))
}

fn fill(root: &Path, files: &Files) -> Result<(), Error> {
    let make = |dir: &Path| DirBuilder::new().recursive(true).mode(0o755).create(dir).map_err(Error::io(dir));
    make(root)?;
    for (name, file) in files {
        let path = root.join(name);
        if let Some(parent) = path.parent() {
            make(parent)?;
        }
        let mut options = OpenOptions::new();
        let opened = options.write(true).create_new(true).mode(file.mode & 0o777).open(&path);
        let mut out = opened.map_err(Error::io(&path))?;
        out.write_all(&file.bytes).map_err(Error::io(&path))?;
        // The process's umask took bits away.
        let mode = fs::Permissions::from_mode(file.mode & 0o777);
        fs::set_permissions(&path, mode).map_err(Error::io(&path))?;
    }
    Ok(())
}

/// Links each top-level name to its place beneath `..data`, and removes the links of names that are gone.
fn show(volume: &Path, files: &Files) -> Result<(), Error> {
    let wanted: BTreeSet<&str> = files.keys().filter_map(|path| path.split('/').next()).collect();
    for name in &wanted {
        let link = volume.join(name);
        match symlink(Path::new(DATA).join(name), &link) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(Error::io(&link)(error)),
            _ => {}
        }
    }
    for entry in fs::read_dir(volume).map_err(Error::io(volume))?.flatten() {
        let name = entry.file_name();
        let stale = name.to_str().is_some_and(|name| !name.starts_with("..") && !wanted.contains(name));
        if stale {
            remove_file(&entry.path())?;
        }
    }
    Ok(())
}

/// Whether the directory holds exactly these files with this content.
fn same(root: &Path, files: &Files) -> bool {
    let mut count = 0;
    let mut pending = vec![root.to_owned()];
    while let Some(dir) = pending.pop() {
        let Ok(entries) = fs::read_dir(&dir) else { return false };
        for entry in entries.flatten() {
            let path = entry.path();
            if path.is_dir() {
                pending.push(path);
                continue;
            }
            let Some(file) = path.strip_prefix(root).ok().and_then(Path::to_str).and_then(|name| files.get(name))
            else {
                return false;
            };
            let length = entry.metadata().map(|found| found.len()).ok();
            if length != u64::try_from(file.bytes.len()).ok() || fs::read(&path).ok().as_deref() != Some(&file.bytes) {
                return false;
            }
            count += 1;
        }
    }
    count == files.len()
}

pub(super) fn remove_tree(path: &Path) -> Result<(), Error> {
    tree::remove(path).map_err(Error::io(path))
}

fn remove_file(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(Error::io(path)(error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::File;
    use super::*;

    fn files(entries: &[(&str, &str)]) -> Files {
        let file = |text: &str| File { bytes: text.to_owned().into(), mode: 0o640 };
        entries.iter().map(|(path, text)| ((*path).to_owned(), file(text))).collect()
    }

    #[test]
    fn swaps_all_files_at_once() {
        let root = tempfile::tempdir().unwrap();
        let volume = root.path().join("v");
        assert!(write(&volume, &files(&[("a", "1"), ("dir/b", "2")])).unwrap());
        assert_eq!(fs::read_to_string(volume.join("dir/b")).unwrap(), "2");
        assert_eq!(fs::metadata(volume.join("a")).unwrap().permissions().mode() & 0o777, 0o640);
        assert!(!write(&volume, &files(&[("a", "1"), ("dir/b", "2")])).unwrap());
        assert!(write(&volume, &files(&[("a", "3")])).unwrap());
        assert_eq!(fs::read_to_string(volume.join("a")).unwrap(), "3");
        assert!(!volume.join("dir").exists());
        let names: BTreeSet<_> =
            fs::read_dir(&volume).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        assert_eq!(names, BTreeSet::from(["..1".to_owned(), "..data".to_owned(), "a".to_owned()]));
    }

    #[test]
    fn refuses_paths_that_leave_the_volume() {
        let root = tempfile::tempdir().unwrap();
        assert!(write(root.path(), &files(&[("../a", "1")])).is_err());
        assert!(write(root.path(), &files(&[("..data", "1")])).is_err());
    }

    #[test]
    fn an_empty_volume_is_a_directory() {
        let root = tempfile::tempdir().unwrap();
        let volume = root.path().join("v");
        write(&volume, &Files::new()).unwrap();
        assert!(volume.is_dir());
    }
}
