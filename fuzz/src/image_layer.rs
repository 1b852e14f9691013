//! Layers of images: what is found in one is within its budget, lies in the archive as it is, and is found again however
//! much is added behind it.

use k8w_runtime::image::layer::{Budget, find};

const BUDGET: Budget = Budget { file_bytes: 2_048, unpacked_bytes: 16 << 10 };

/// An input is an archive, plain or compressed.
pub fn check(input: &[u8]) {
    let mut left = BUDGET;
    let found = find(input, "app.wasm", &mut left);
    assert!(left.unpacked_bytes <= BUDGET.unpacked_bytes && left.file_bytes == BUDGET.file_bytes);
    let Ok(found) = found else { return };
    let is_plain = !input.starts_with(&[0x1f, 0x8b]);
    if let Some(file) = &found {
        assert!(file.len() as u64 <= BUDGET.file_bytes);
        let read = (BUDGET.unpacked_bytes - left.unpacked_bytes) as usize;
        assert!(file.len() + 512 <= read, "a header comes before it");
        assert!(
            !is_plain
                || input[512..].windows(file.len().max(1)).any(|window| window.starts_with(file))
                || file.is_empty()
        );
        let longer = [input, &[0; 1024]].concat();
        assert!(
            !is_plain || find(&longer, "app.wasm", &mut BUDGET.clone()).is_ok_and(|again| again == Some(file.clone()))
        );
        let exact = Budget { file_bytes: file.len() as u64, ..BUDGET };
        assert!(find(input, "app.wasm", &mut exact.clone()).is_ok_and(|again| again == Some(file.clone())));
        if let Some(less) = exact.file_bytes.checked_sub(1) {
            assert!(find(input, "app.wasm", &mut Budget { file_bytes: less, ..BUDGET }).is_err());
        }
    }
}
