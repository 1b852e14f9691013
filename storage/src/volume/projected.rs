//! The files of a projected volume: those of its sources in one directory.

use super::{Error, Files};

/// Puts the files of all sources together. Of several at one path the last source's is shown, as the kubelet does.
///
/// # Errors
/// When one's file is another's directory.
pub fn files(sources: impl IntoIterator<Item = Files>) -> Result<Files, Error> {
    let all: Files = sources.into_iter().flatten().collect();
    for path in all.keys() {
        let mut parents = path.match_indices('/').map(|(at, _)| &path[..at]);
        if let Some(parent) = parents.find(|parent| all.contains_key(*parent)) {
            return Err(Error::DuplicatePath(parent.to_owned()));
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::super::File;
    use super::*;

    fn one(path: &str, text: &'static str) -> Files {
        Files::from([(path.to_owned(), File { bytes: text.into(), mode: 0o644 })])
    }

    #[test]
    fn sources_share_a_directory_and_the_last_wins() {
        assert_eq!(files([one("a", "1"), one("dir/b", "2")]).unwrap().len(), 2);
        assert_eq!(files([one("a", "1"), one("b", "2"), one("a", "3")]).unwrap()["a"].bytes, "3");
        for pair in [["a", "a/b"], ["a/b", "a"]] {
            let made = files(pair.map(|path| one(path, "x")));
            assert!(matches!(made, Err(Error::DuplicatePath(path)) if path == "a"));
        }
    }
}
