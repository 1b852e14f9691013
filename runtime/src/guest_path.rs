//! Paths as a guest knows them, as they are meant: absolute, without `.`, `..` and slashes that say nothing.

/// An absolute path, as its parts.
pub type Parts = Vec<String>;

/// Makes a path absolute, with `.` and `..` taken away.
pub fn absolute(working_dir: Option<&str>, path: &str) -> Parts {
    let mut parts = Parts::new();
    let from = if path.starts_with('/') { "" } else { working_dir.unwrap_or("/") };
    for part in from.split('/').chain(path.split('/')) {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part.to_owned()),
        }
    }
    parts
}

/// The path of a mount.
pub fn plain(path: &str) -> String {
    format!("/{}", absolute(None, path).join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_made_absolute() {
        assert_eq!(absolute(Some("/a/b"), "../c/./d"), ["a", "c", "d"]);
        assert_eq!(absolute(None, "x"), ["x"]);
        assert_eq!(absolute(Some("/a"), "/../.."), Parts::new());
    }

    #[test]
    fn paths_within_a_container_are_absolute_and_plain() {
        for (path, expected) in
            [("/a", "/a"), ("a/b", "/a/b"), ("//a/./b/", "/a/b"), ("/a/../../b", "/b"), ("/", "/"), ("", "/")]
        {
            assert_eq!(plain(path), expected, "{path}");
        }
    }
}
