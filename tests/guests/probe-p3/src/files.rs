//! Everything that can be done with a file by its name, and how many can be open.

use wasip3::filesystem::preopens::get_directories;
use wasip3::filesystem::types::{Descriptor, DescriptorFlags, ErrorCode, NewTimestamp, OpenFlags, PathFlags};

use crate::{name, println};

/// Tries it with a file of the first preopen, in which a file `other` lies, and says what came of it.
pub async fn try_all(file: &str) {
    let all = get_directories();
    let dir = &all[0].0;
    let path = || file.to_owned();
    let other = || "other".to_owned();
    let new = || "new".to_owned();
    let none = PathFlags::empty();
    say("read", read(dir, path()).await).await;
    say("stat", stat(dir, path()).await).await;
    let write = DescriptorFlags::WRITE;
    for (what, flags) in [
        ("write", OpenFlags::CREATE | OpenFlags::TRUNCATE),
        ("make anew", OpenFlags::CREATE | OpenFlags::EXCLUSIVE),
        ("list", OpenFlags::DIRECTORY),
    ] {
        let came = match open(dir, path(), flags, write).await {
            Ok(opened) => crate::write("written", |bytes| opened.write_via_stream(bytes, 0)).await,
            Err(error) => Err(error),
        };
        say(what, came).await;
    }
    say("read", read(dir, path()).await).await;
    say("touch", dir.set_times_at(none, path(), NewTimestamp::NoChange, NewTimestamp::Now).await).await;
    say("rename from", dir.rename_at(path(), dir, new()).await).await;
    say("rename to", dir.rename_at(other(), dir, path()).await).await;
    say("link from", dir.link_at(none, path(), dir, new()).await).await;
    say("link to", dir.link_at(none, other(), dir, path()).await).await;
    say("unlink", dir.unlink_file_at(path()).await).await;
}

async fn say(what: &str, came: Result<impl core::fmt::Debug, ErrorCode>) {
    println(&match came {
        Ok(came) => format!("{what} {came:?}"),
        Err(error) => format!("{what} refused: {}", name(error)),
    })
    .await;
}

async fn open(
    dir: &Descriptor,
    path: String,
    open: OpenFlags,
    flags: DescriptorFlags,
) -> Result<Descriptor, ErrorCode> {
    dir.open_at(PathFlags::SYMLINK_FOLLOW, path, open, flags).await
}

async fn read(dir: &Descriptor, path: String) -> Result<String, ErrorCode> {
    let opened = open(dir, path, OpenFlags::empty(), DescriptorFlags::READ).await?;
    let (stream, ended) = opened.read_via_stream(0);
    let bytes = stream.collect().await;
    ended.await?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The size of what has the name, and whether it is the file that is opened by it.
async fn stat(dir: &Descriptor, path: String) -> Result<(u64, bool), ErrorCode> {
    let told = dir.stat_at(PathFlags::empty(), path.clone()).await?;
    let hash = dir.metadata_hash_at(PathFlags::empty(), path.clone()).await?;
    let opened = open(dir, path, OpenFlags::empty(), DescriptorFlags::READ).await?;
    let same = opened.metadata_hash().await?;
    Ok((told.size, (hash.lower, hash.upper) == (same.lower, same.upper)))
}

/// The mount at `/data`.
fn data() -> Descriptor {
    get_directories().into_iter().find(|(_, path)| path == "/data").expect("/data is mounted").0
}

/// How many files can be open, and what counts as one.
pub async fn count() -> String {
    let dir = data();
    let make = async |number: usize| {
        let path = format!("file-{number}");
        match dir.open_at(PathFlags::empty(), path, OpenFlags::CREATE, DescriptorFlags::READ).await {
            Ok(file) => Ok(file),
            Err(ErrorCode::InsufficientMemory) => Err("insufficient-memory".to_owned()),
            Err(code) => Err(name(code)),
        }
    };
    let mut open = Vec::new();
    let code = loop {
        match make(open.len()).await {
            Ok(file) => open.push(file),
            Err(code) => break code,
        }
    };
    let count = open.len();
    let another = async || make(count).await.map_or_else(|code| code, |_| "opened".to_owned());
    let file = open.remove(0);
    let stream = file.read_via_stream(0);
    drop(file);
    let beside_stream = another().await;
    drop(stream);
    let (mut listing, ended) = dir.read_directory();
    listing.next().await;
    let beside_listing = another().await;
    drop((listing, ended));
    let last = another().await;
    format!(
        "{count} files, then {code}; beside a stream {beside_stream}, beside a listing {beside_listing}, then {last}"
    )
}

/// The names in `/data`.
pub async fn list() -> String {
    let (listing, ended) = data().read_directory();
    let mut entries: Vec<_> =
        listing.collect().await.into_iter().map(|entry| format!("{} {:?}", entry.name, entry.type_)).collect();
    ended.await.expect("it ends well");
    entries.sort();
    entries.join("\n")
}
