//! A command of WASI 0.3 that tries to get out of its volume, and says what it got. Every path goes to the host as it is.

#[path = "../../hostile/src/attempts.rs"]
mod attempts;
#[path = "../../probe-p3/src/write.rs"]
mod write;

use attempts::{Came, Files};
use wasip3::cli::{environment, stdout};
use wasip3::filesystem::preopens::get_directories;
use wasip3::filesystem::types::{Descriptor, DescriptorFlags, ErrorCode, NewTimestamp, OpenFlags, PathFlags};
use write::write;

struct Command;

wasip3::cli::command::export!(Command);

impl wasip3::exports::cli::run::Guest for Command {
    async fn run() -> Result<(), ()> {
        let attempt = environment::get_arguments().into_iter().nth(1).unwrap_or_default();
        let (volume, _) = get_directories().into_iter().next().ok_or(())?;
        attempts::make(&Volume(volume), &attempt).await;
        Ok(())
    }
}

/// The first preopen.
struct Volume(Descriptor);

impl Volume {
    async fn open(&self, path: &str, how: OpenFlags, flags: DescriptorFlags) -> Came<Descriptor> {
        came(self.0.open_at(PathFlags::SYMLINK_FOLLOW, beneath(path), how, flags).await)
    }

    async fn open_to_write(&self, path: &str, how: OpenFlags) -> Came<Descriptor> {
        self.open(path, how, DescriptorFlags::WRITE).await
    }
}

impl Files for Volume {
    async fn say(&self, line: &str) {
        write(&format!("{line}\n"), stdout::write_via_stream).await.expect("standard output takes lines");
    }

    async fn read(&self, path: &str) -> Came<String> {
        let opened = self.open(path, OpenFlags::empty(), DescriptorFlags::READ).await?;
        let (stream, ended) = opened.read_via_stream(0);
        let bytes = stream.collect().await;
        came(ended.await)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    async fn list(&self, path: &str) -> Came<Vec<String>> {
        let opened = self.open(path, OpenFlags::DIRECTORY, DescriptorFlags::READ).await?;
        let (entries, ended) = opened.read_directory();
        let mut names: Vec<_> = entries.collect().await.into_iter().map(|entry| entry.name).collect();
        came(ended.await)?;
        names.sort();
        Ok(names)
    }

    async fn size(&self, path: &str) -> Came<u64> {
        came(self.0.stat_at(PathFlags::SYMLINK_FOLLOW, beneath(path)).await.map(|told| told.size))
    }

    async fn write(&self, path: &str, text: &str) -> Came<()> {
        let opened = self.open_to_write(path, OpenFlags::CREATE | OpenFlags::TRUNCATE).await?;
        came(write(text, |bytes| opened.write_via_stream(bytes, 0)).await)
    }

    async fn append(&self, path: &str, text: &str) -> Came<()> {
        let opened = self.open_to_write(path, OpenFlags::empty()).await?;
        came(write(text, |bytes| opened.append_via_stream(bytes)).await)
    }

    async fn truncate(&self, path: &str) -> Came<()> {
        came(self.open_to_write(path, OpenFlags::empty()).await?.set_size(0).await)
    }

    async fn open_for_writing(&self, path: &str) -> Came<()> {
        self.open_to_write(path, OpenFlags::empty()).await.map(drop)
    }

    async fn make_anew(&self, path: &str) -> Came<()> {
        self.open_to_write(path, OpenFlags::CREATE | OpenFlags::EXCLUSIVE).await.map(drop)
    }

    async fn make_directory(&self, path: &str) -> Came<()> {
        came(self.0.create_directory_at(beneath(path)).await)
    }

    async fn remove(&self, path: &str) -> Came<()> {
        came(self.0.unlink_file_at(beneath(path)).await)
    }

    async fn read_link(&self, path: &str) -> Came<String> {
        came(self.0.readlink_at(beneath(path)).await)
    }

    async fn touch(&self, name: &str) -> Came<()> {
        let (never, now) = (NewTimestamp::NoChange, NewTimestamp::Now);
        came(self.0.set_times_at(PathFlags::SYMLINK_FOLLOW, name.to_owned(), never, now).await)
    }

    async fn symlink(&self, to: &str, name: &str) -> Came<()> {
        came(self.0.symlink_at(to.to_owned(), name.to_owned()).await)
    }

    async fn link(&self, old: &str, new: &str, follow: bool) -> Came<()> {
        let flags = if follow { PathFlags::SYMLINK_FOLLOW } else { PathFlags::empty() };
        came(self.0.link_at(flags, old.to_owned(), &self.0, new.to_owned()).await)
    }

    async fn rename(&self, old: &str, new: &str) -> Came<()> {
        came(self.0.rename_at(old.to_owned(), &self.0, new.to_owned()).await)
    }
}

/// What is not in the volume by its name is asked of the volume all the same.
fn beneath(path: &str) -> String {
    path.strip_prefix("/data/").unwrap_or(path).to_owned()
}

fn came<T>(came: Result<T, ErrorCode>) -> Came<T> {
    came.map_err(word)
}

/// What an error is called in WIT: `ErrorCode::NotPermitted` is `not-permitted`.
fn word(error: ErrorCode) -> String {
    let name = format!("{error:?}");
    let name = name.strip_prefix("ErrorCode::").unwrap_or(&name);
    let mut word = String::new();
    for (place, letter) in name.chars().enumerate() {
        if letter.is_uppercase() && place > 0 {
            word.push('-');
        }
        word.extend(letter.to_lowercase());
    }
    word
}
