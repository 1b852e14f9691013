//! Finds one file in a layer of a container image: a tar archive, gzipped or not.
//!
//! Only what that needs of the format (POSIX ustar, with the GNU and pax extensions for long names) is read.

use std::io::{self, Read};

use flate2::read::MultiGzDecoder;

const BLOCK_BYTES: usize = 512;
/// Longest name in a long-name record, in bytes.
const MAX_NAME_BYTES: u64 = 16 << 10;

/// What may still be unpacked of an image, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Of the file that is looked for.
    pub file_bytes: u64,
    /// Of all layers together: a few kilobytes can unpack to terabytes.
    pub unpacked_bytes: u64,
}

/// The content of the regular file at `path`, which has no leading slash; `None` when the layer does not have it. What is
/// unpacked on the way is taken from the budget.
///
/// # Errors
/// When the archive is broken, or there is more in it than the budget allows.
pub fn find(layer: &[u8], path: &str, budget: &mut Budget) -> io::Result<Option<Vec<u8>>> {
    let max_file_bytes = budget.file_bytes;
    if layer.starts_with(&[0x1f, 0x8b]) {
        search(Metered { archive: MultiGzDecoder::new(layer), budget }, path, max_file_bytes)
    } else {
        search(Metered { archive: layer, budget }, path, max_file_bytes)
    }
}

/// Counts what is read against the budget.
struct Metered<'a, R> {
    archive: R,
    budget: &'a mut Budget,
}

impl<R: Read> Read for Metered<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.archive.read(buffer)?;
        let left = self.budget.unpacked_bytes.checked_sub(read as u64);
        self.budget.unpacked_bytes = left.ok_or_else(|| broken("its layers unpack to more than is allowed"))?;
        Ok(read)
    }
}

fn search(mut archive: impl Read, path: &str, max_bytes: u64) -> io::Result<Option<Vec<u8>>> {
    let mut long_name = None;
    while let Some(header) = Header::read(&mut archive)? {
        match header.kind {
            b'L' => {
                let name = take(&mut archive, header.size, MAX_NAME_BYTES)?;
                long_name = Some(until_nul(&name));
                continue;
            }
            b'x' => {
                let records = take(&mut archive, header.size, MAX_NAME_BYTES)?;
                long_name = pax_path(&records).or(long_name);
                continue;
            }
            _ => {}
        }
        let name = long_name.take().unwrap_or(header.name);
        let regular = matches!(header.kind, b'0' | 0);
        if regular && name.trim_start_matches("./").trim_start_matches('/') == path {
            return take(&mut archive, header.size, max_bytes).map(Some);
        }
        skip(&mut archive, padded(header.size))?;
    }
    Ok(None)
}

struct Header {
    name: String,
    size: u64,
    kind: u8,
}

impl Header {
    /// The next header; `None` at the end of the archive.
    fn read(archive: &mut impl Read) -> io::Result<Option<Header>> {
        let mut block = [0; BLOCK_BYTES];
        match archive.read_exact(&mut block) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            other => other?,
        }
        if block.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        let prefix = if &block[257..262] == b"ustar" { until_nul(&block[345..500]) } else { String::new() };
        let name = until_nul(&block[..100]);
        let name = if prefix.is_empty() { name } else { format!("{prefix}/{name}") };
        let size = until_nul(&block[124..136]);
        let size = u64::from_str_radix(size.trim(), 8).map_err(|_| broken("a file's size is not a number"))?;
        Ok(Some(Header { name, size, kind: block[156] }))
    }
}

fn take(archive: &mut impl Read, size: u64, max: u64) -> io::Result<Vec<u8>> {
    if size > max {
        return Err(broken("a file is too large"));
    }
    let mut bytes = Vec::new();
    archive.take(size).read_to_end(&mut bytes)?;
    if bytes.len() as u64 != size {
        return Err(broken("the archive ends within a file"));
    }
    skip(archive, padded(size) - size)?;
    Ok(bytes)
}

fn skip(archive: &mut impl Read, bytes: u64) -> io::Result<()> {
    io::copy(&mut archive.take(bytes), &mut io::sink()).map(drop)
}

fn padded(size: u64) -> u64 {
    size.div_ceil(BLOCK_BYTES as u64).saturating_mul(BLOCK_BYTES as u64)
}

fn until_nul(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

/// The `path` of pax records (`<length> key=value\n`).
fn pax_path(records: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(records);
    text.lines().find_map(|line| line.split_once(' ')?.1.strip_prefix("path=").map(str::to_owned))
}

fn broken(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    fn entry(name: &str, kind: u8, content: &[u8]) -> Vec<u8> {
        let mut block = vec![0; BLOCK_BYTES];
        block[..name.len()].copy_from_slice(name.as_bytes());
        let size = format!("{:011o}", content.len());
        block[124..135].copy_from_slice(size.as_bytes());
        block[156] = kind;
        block[257..262].copy_from_slice(b"ustar");
        block.extend(content);
        block.resize(block.len().div_ceil(BLOCK_BYTES) * BLOCK_BYTES, 0);
        block
    }

    fn budget(file_bytes: u64) -> Budget {
        Budget { file_bytes, unpacked_bytes: 1 << 20 }
    }

    fn archive() -> Vec<u8> {
        let mut archive = entry("dir/", b'5', b"");
        archive.extend(entry("./app.wasm", b'0', b"\0asm"));
        archive.extend(entry("././@LongLink", b'L', b"long/name.wasm\0"));
        archive.extend(entry("long/na", b'0', b"long"));
        archive.extend(entry("x", b'x', b"20 path=pax/name.wasm\n"));
        archive.extend(entry("pax", b'0', b"pax"));
        archive.extend([0; 2 * BLOCK_BYTES]);
        archive
    }

    #[test]
    fn finds_files_by_any_kind_of_name() {
        let archive = archive();
        let find = |archive: &[u8], path: &str| find(archive, path, &mut budget(100)).unwrap();
        assert_eq!(find(&archive, "app.wasm").unwrap(), b"\0asm");
        assert_eq!(find(&archive, "long/name.wasm").unwrap(), b"long");
        assert_eq!(find(&archive, "pax/name.wasm").unwrap(), b"pax");
        assert_eq!(find(&archive, "none"), None);
        let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
        gzip.write_all(&archive).unwrap();
        assert_eq!(find(&gzip.finish().unwrap(), "app.wasm").unwrap(), b"\0asm");
    }

    #[test]
    fn a_small_layer_cannot_unpack_to_a_large_one() {
        let large = entry("zeros", b'0', &vec![0; 1 << 20]);
        let mut gzip = GzEncoder::new(Vec::new(), Compression::best());
        gzip.write_all(&large).unwrap();
        let layer = gzip.finish().unwrap();
        assert!(layer.len() < 10_000, "{}", layer.len());
        let mut left = Budget { file_bytes: 100, unpacked_bytes: 3 << 20 };
        for _ in 0..2 {
            assert_eq!(find(&layer, "app.wasm", &mut left).unwrap(), None);
        }
        let refused = find(&layer, "app.wasm", &mut left).unwrap_err();
        assert_eq!(refused.to_string(), "its layers unpack to more than is allowed");
    }

    #[test]
    fn broken_and_oversized_archives_are_refused() {
        let find = |archive: &[u8], max_bytes: u64| find(archive, "app.wasm", &mut budget(max_bytes));
        assert!(find(&archive(), 3).is_err());
        let mut cut = entry("app.wasm", b'0', &[1; 600]);
        cut.truncate(700);
        assert!(find(&cut, 1_000).is_err());
        let mut bad = entry("app.wasm", b'0', b"");
        bad[124..135].copy_from_slice(b"zzzzzzzzzzz");
        assert!(find(&bad, 1_000).is_err());
    }
}
