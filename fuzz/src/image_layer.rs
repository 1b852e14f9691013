//! Layers of images: the file that a process is started from is within its bound, lies in the archive as it is, and is found
//! again however much is added behind it; only in a layer that is what the config says.

use k8w_runtime::image::files::{Files, Search, read};
use k8w_runtime::image::layer::{Layer, meter};

const MAX_FILE_BYTES: u64 = 2_048;
const MAX_UNPACKED_BYTES: u64 = 16 << 10;
const SEARCH: Search<'_> = Search { working_dir: "", path: "/bin" };

fn layer(archive: &[u8]) -> Layer {
    Layer::only("application/vnd.oci.image.layer.v1.tar", archive).expect("there is a place for it")
}

fn find(layer: &Layer, max_bytes: u64) -> Option<Vec<u8>> {
    let layers = std::slice::from_ref(layer);
    let (_, place) = Files::of(layers, &meter(MAX_UNPACKED_BYTES)).ok()?.program("app.wasm", &SEARCH).ok()?;
    read(layers, place, max_bytes, &meter(MAX_UNPACKED_BYTES)).ok()
}

const BLOCK_BYTES: usize = 512;

/// An archive with the checksums that its headers should have.
fn mended(input: &[u8]) -> Vec<u8> {
    let (mut archive, mut at) = (input.to_vec(), 0_usize);
    while let Some(block) = archive.get_mut(at..).and_then(|rest| rest.get_mut(..BLOCK_BYTES)) {
        if block.iter().all(|byte| *byte == 0) {
            break;
        }
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        let size = String::from_utf8_lossy(&block[124..136]);
        let size = usize::from_str_radix(size.trim_matches(['\0', ' ']), 8).unwrap_or(0);
        at = at.saturating_add(BLOCK_BYTES).saturating_add(size.div_ceil(BLOCK_BYTES).saturating_mul(BLOCK_BYTES));
    }
    archive
}

/// An input is an archive, plain or compressed.
pub fn check(input: &[u8]) {
    let is_plain = !input.starts_with(&[0x1f, 0x8b]);
    let input = if is_plain { &mended(input) } else { input };
    let mut sent = layer(input);
    let Some(file) = find(&sent, MAX_FILE_BYTES) else { return };
    assert!(file.len() as u64 <= MAX_FILE_BYTES);
    let length = file.len() as u64;
    assert_eq!(find(&sent, length).as_ref(), Some(&file));
    if let Some(less) = length.checked_sub(1) {
        assert_eq!(find(&sent, less), None);
    }
    if is_plain {
        let is_part = |window: &[u8]| window == file;
        assert!(file.is_empty() || input[BLOCK_BYTES..].windows(file.len()).any(is_part), "a header comes before it");
        if input.len() + 1_024 <= MAX_UNPACKED_BYTES as usize {
            let longer = layer(&[input, &[0; 1_024]].concat());
            assert_eq!(find(&longer, MAX_FILE_BYTES).as_ref(), Some(&file));
            // As it is sent is as it unpacks.
            sent.diff_id = Some(sent.descriptor.digest.clone());
            assert_eq!(find(&sent, MAX_FILE_BYTES).as_ref(), Some(&file));
            sent.diff_id = Some(longer.descriptor.digest);
            assert_eq!(find(&sent, MAX_FILE_BYTES), None, "it is not what the config says");
        }
    }
}
