//! The files of a projected volume: those of its sources in one directory.

use super::{Error, Files};

/// Puts the files of all sources together.
///
/// # Errors
/// When two sources claim one path, or one's file is another's directory.
pub fn files(sources: impl IntoIterator<Item = Files>) -> Result<Files, Error> {
    let mut all = Files::new();
    for (path, file) in sources.into_iter().flatten() {
        if all.contains_key(&path) {
            return Err(Error::DuplicatePath(path));
        }
        all.insert(path, file);
    }
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

    fn one(path: &str) -> Files {
        Files::from([(path.to_owned(), File { bytes: "x".into(), mode: 0o644 })])
    }

    #[test]
    fn sources_share_a_directory_but_no_path() {
        assert_eq!(files([one("a"), one("dir/b")]).unwrap().len(), 2);
        assert!(matches!(files([one("a"), one("a")]), Err(Error::DuplicatePath(path)) if path == "a"));
        assert!(matches!(files([one("a"), one("a/b")]), Err(Error::DuplicatePath(path)) if path == "a"));
    }
}
