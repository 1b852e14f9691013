//! A preview 1 command that tries to get out of its volume, and says what it got.

mod at_once;
mod attempts;

use std::fs::{self, OpenOptions};
use std::io::{self, Write};

use attempts::{Came, Files};

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

/// Files as the standard library has them, and what it has not by the functions themselves.
struct Preview1;

impl Files for Preview1 {
    async fn say(&self, line: &str) {
        println!("{line}");
    }

    async fn read(&self, path: &str) -> Came<String> {
        came(fs::read_to_string(path))
    }

    async fn list(&self, path: &str) -> Came<Vec<String>> {
        let entries = came(fs::read_dir(path))?;
        let mut names: Vec<_> = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        Ok(names)
    }

    async fn size(&self, path: &str) -> Came<u64> {
        came(fs::metadata(path).map(|found| found.len()))
    }

    async fn write(&self, path: &str, text: &str) -> Came<()> {
        came(fs::write(path, text))
    }

    async fn append(&self, path: &str, text: &str) -> Came<()> {
        came(OpenOptions::new().append(true).open(path).and_then(|mut file| file.write_all(text.as_bytes())))
    }

    async fn truncate(&self, path: &str) -> Came<()> {
        came(OpenOptions::new().write(true).open(path).and_then(|file| file.set_len(0)))
    }

    async fn open_for_writing(&self, path: &str) -> Came<()> {
        came(OpenOptions::new().write(true).open(path).map(drop))
    }

    async fn make_anew(&self, path: &str) -> Came<()> {
        came(OpenOptions::new().write(true).create_new(true).open(path).map(drop))
    }

    async fn make_directory(&self, path: &str) -> Came<()> {
        came(fs::create_dir(path))
    }

    async fn remove(&self, path: &str) -> Came<()> {
        came(fs::remove_file(path))
    }

    async fn read_link(&self, path: &str) -> Came<String> {
        came(fs::read_link(path).map(|to| to.to_string_lossy().into_owned()))
    }

    async fn touch(&self, name: &str) -> Came<()> {
        const FOLLOW: u32 = 1;
        const MODIFIED_NOW: u16 = 8;
        // SAFETY: pointers and lengths are those of live strings.
        told(unsafe { path_filestat_set_times(VOLUME, FOLLOW, name.as_ptr(), name.len(), 0, 0, MODIFIED_NOW) })
    }

    async fn symlink(&self, to: &str, name: &str) -> Came<()> {
        // SAFETY: as above.
        told(unsafe { path_symlink(to.as_ptr(), to.len(), VOLUME, name.as_ptr(), name.len()) })
    }

    async fn link(&self, old: &str, new: &str, follow: bool) -> Came<()> {
        // SAFETY: as above.
        told(unsafe {
            path_link(VOLUME, u32::from(follow), old.as_ptr(), old.len(), VOLUME, new.as_ptr(), new.len())
        })
    }

    async fn rename(&self, old: &str, new: &str) -> Came<()> {
        // SAFETY: as above.
        told(unsafe { path_rename(VOLUME, old.as_ptr(), old.len(), VOLUME, new.as_ptr(), new.len()) })
    }
}

fn came<T>(came: io::Result<T>) -> Came<T> {
    came.map_err(|error| match error.raw_os_error() {
        Some(code) => word(code.unsigned_abs()),
        None => format!("{:?}", error.kind()),
    })
}

fn told(code: u32) -> Came<()> {
    if code == 0 { Ok(()) } else { Err(word(code)) }
}

/// What later versions of WASI call an error of preview 1.
fn word(code: u32) -> String {
    let word = match code {
        2 => "access",
        8 => "bad-descriptor",
        10 => "busy",
        20 => "exist",
        28 => "invalid",
        31 => "is-directory",
        32 => "loop",
        44 => "no-entry",
        54 => "not-directory",
        55 => "not-empty",
        58 => "unsupported",
        63 => "not-permitted",
        69 => "read-only",
        75 => "cross-device",
        _ => return format!("errno {code}"),
    };
    word.to_owned()
}

fn main() {
    let attempt = std::env::args().nth(1).unwrap_or_default();
    at_once::at_once(attempts::make(&Preview1, &attempt));
}
