//! A command of WASI 0.2 that tries to get out of its volume, and says what it got. Every path goes to the host as it is.

#[path = "../../hostile/src/at_once.rs"]
mod at_once;
#[path = "../../hostile/src/attempts.rs"]
mod attempts;

use attempts::{Came, Files};
use wasip2::cli::{environment, stdout};
use wasip2::filesystem::preopens::get_directories;
use wasip2::filesystem::types::{Descriptor, DescriptorFlags, ErrorCode, NewTimestamp, OpenFlags, PathFlags};

struct Command;

wasip2::cli::command::export!(Command);

impl wasip2::exports::cli::run::Guest for Command {
    fn run() -> Result<(), ()> {
        let attempt = environment::get_arguments().into_iter().nth(1).unwrap_or_default();
        let (volume, _) = get_directories().into_iter().next().ok_or(())?;
        at_once::at_once(attempts::make(&Volume(volume), &attempt));
        Ok(())
    }
}

/// The first preopen.
struct Volume(Descriptor);

/// What the host takes at once, and more than any file here has.
const MAX_BYTES: usize = 4 << 10;

impl Volume {
    fn open(&self, path: &str, how: OpenFlags, flags: DescriptorFlags) -> Result<Descriptor, ErrorCode> {
        self.0.open_at(PathFlags::SYMLINK_FOLLOW, beneath(path), how, flags)
    }

    fn open_to_write(&self, path: &str, how: OpenFlags) -> Result<Descriptor, ErrorCode> {
        self.open(path, how, DescriptorFlags::WRITE)
    }
}

impl Files for Volume {
    async fn say(&self, line: &str) {
        let stdout = stdout::get_stdout();
        for piece in format!("{line}\n").as_bytes().chunks(MAX_BYTES) {
            stdout.blocking_write_and_flush(piece).expect("standard output takes lines");
        }
    }

    async fn read(&self, path: &str) -> Came<String> {
        let opened = came(self.open(path, OpenFlags::empty(), DescriptorFlags::READ))?;
        let (bytes, _) = came(opened.read(MAX_BYTES as u64, 0))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    async fn list(&self, path: &str) -> Came<Vec<String>> {
        let opened = came(self.open(path, OpenFlags::DIRECTORY, DescriptorFlags::READ))?;
        let entries = came(opened.read_directory())?;
        let mut names = Vec::new();
        while let Ok(Some(entry)) = entries.read_directory_entry() {
            names.push(entry.name);
        }
        names.sort();
        Ok(names)
    }

    async fn size(&self, path: &str) -> Came<u64> {
        came(self.0.stat_at(PathFlags::SYMLINK_FOLLOW, beneath(path)).map(|told| told.size))
    }

    async fn write(&self, path: &str, text: &str) -> Came<()> {
        let opened = came(self.open_to_write(path, OpenFlags::CREATE | OpenFlags::TRUNCATE))?;
        came(opened.write(text.as_bytes(), 0).map(drop))
    }

    async fn append(&self, path: &str, text: &str) -> Came<()> {
        let stream = came(self.open_to_write(path, OpenFlags::empty()).and_then(|file| file.append_via_stream()))?;
        stream.blocking_write_and_flush(text.as_bytes()).map_err(|error| format!("{error:?}"))
    }

    async fn truncate(&self, path: &str) -> Came<()> {
        came(self.open_to_write(path, OpenFlags::empty()).and_then(|file| file.set_size(0)))
    }

    async fn open_for_writing(&self, path: &str) -> Came<()> {
        came(self.open_to_write(path, OpenFlags::empty()).map(drop))
    }

    async fn make_anew(&self, path: &str) -> Came<()> {
        came(self.open_to_write(path, OpenFlags::CREATE | OpenFlags::EXCLUSIVE).map(drop))
    }

    async fn make_directory(&self, path: &str) -> Came<()> {
        came(self.0.create_directory_at(beneath(path)))
    }

    async fn remove(&self, path: &str) -> Came<()> {
        came(self.0.unlink_file_at(beneath(path)))
    }

    async fn read_link(&self, path: &str) -> Came<String> {
        came(self.0.readlink_at(beneath(path)))
    }

    async fn touch(&self, name: &str) -> Came<()> {
        came(self.0.set_times_at(PathFlags::SYMLINK_FOLLOW, name, NewTimestamp::NoChange, NewTimestamp::Now))
    }

    async fn symlink(&self, to: &str, name: &str) -> Came<()> {
        came(self.0.symlink_at(to, name))
    }

    async fn link(&self, old: &str, new: &str, follow: bool) -> Came<()> {
        let flags = if follow { PathFlags::SYMLINK_FOLLOW } else { PathFlags::empty() };
        came(self.0.link_at(flags, old, &self.0, new))
    }

    async fn rename(&self, old: &str, new: &str) -> Came<()> {
        came(self.0.rename_at(old, &self.0, new))
    }
}

/// What is not in the volume by its name is asked of the volume all the same.
fn beneath(path: &str) -> &str {
    path.strip_prefix("/data/").unwrap_or(path)
}

fn came<T>(came: Result<T, ErrorCode>) -> Came<T> {
    came.map_err(|error| error.name().to_owned())
}
