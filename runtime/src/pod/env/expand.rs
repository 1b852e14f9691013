//! `$(NAME)` expansion (`third_party/forked/golang/expansion`: `$$` is a dollar sign, an unknown name stays as it is), within a
//! bound: each variable can be made of those before it, so that a few lines of a manifest would come to more than any memory.

/// Most bytes of an environment, of the words of a command, and of one of either: no more does Linux let a process have.
pub const MAX_BYTES: usize = 2 << 20;

/// Something comes to more than [`MAX_BYTES`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("with all variables expanded it has more than {MAX_BYTES} bytes")]
pub struct TooLong;

/// Expands every reference that `look_up` knows.
///
/// # Errors
/// [`TooLong`]
pub fn expand<'a>(text: &str, look_up: impl Fn(&str) -> Option<&'a str>) -> Result<String, TooLong> {
    let mut result = String::new();
    let mut push = |piece: &str| {
        if piece.len() > MAX_BYTES - result.len() {
            return Err(TooLong);
        }
        result.push_str(piece);
        Ok(())
    };
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        push(&rest[..at])?;
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            push("$")?;
            rest = after;
        } else if let Some((name, after)) = rest.strip_prefix('(').and_then(|inner| inner.split_once(')')) {
            match look_up(name) {
                Some(value) => push(value)?,
                None => ["$(", name, ")"].into_iter().try_for_each(&mut push)?,
            }
            rest = after;
        } else {
            push("$")?;
        }
    }
    push(rest)?;
    Ok(result)
}

/// Expands the words of a command.
///
/// # Errors
/// [`TooLong`], of all words together.
pub fn expand_all<'a>(
    words: impl IntoIterator<Item = &'a String>,
    look_up: impl Fn(&str) -> Option<&'a str>,
) -> Result<Vec<String>, TooLong> {
    let mut room = MAX_BYTES;
    let expanded = words.into_iter().map(|word| {
        let word = expand(word, &look_up)?;
        room = room.checked_sub(word.len()).ok_or(TooLong)?;
        Ok(word)
    });
    expanded.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn follows_the_kubelets_table() {
        let look_up = |name: &str| match name {
            "A" => Some("a"),
            "EMPTY" => Some(""),
            _ => None,
        };
        let table = [
            ("$(A)", "a"),
            ("x$(A)y$(A)", "xaya"),
            ("$(EMPTY)", ""),
            ("$(NONE)", "$(NONE)"),
            ("$$(A)", "$(A)"),
            ("$$$(A)", "$a"),
            ("$A", "$A"),
            ("$(A", "$(A"),
            ("tail$", "tail$"),
            ("", ""),
        ];
        for (text, expected) in table {
            assert_eq!(expand(text, look_up).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn nothing_comes_to_more_than_its_bound() {
        let large = "x".repeat(MAX_BYTES / 2);
        let look_up = |name: &str| (name == "A").then_some(large.as_str());
        assert_eq!(expand("$(A)$(A)", look_up).unwrap().len(), MAX_BYTES);
        for text in ["$(A)$(A)x", "x$(A)$(A)", "$(A)$(A)$$", "$(A)$(A)$(B)", "$(A)$(A)$", "$(A)$(A)$(A)"] {
            assert_eq!(expand(text, look_up), Err(TooLong), "{text}");
        }
        let words = ["$(A)", "$(A)", "", "x"].map(str::to_owned);
        assert_eq!(expand_all(&words[..3], look_up).unwrap().len(), 3);
        assert_eq!(expand_all(&words, look_up), Err(TooLong));
    }
}
