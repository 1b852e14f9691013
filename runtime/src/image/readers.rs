//! Who may run an image that is on this node without asking its registry: whoever has credentials that have pulled it
//! (<https://kubernetes.io/docs/concepts/containers/images/#ensureimagepullcredentialverification>).
//!
//! What was loaded by hand, or pulled without a pod's credentials, anybody may. Credentials are kept as their digests.

use std::collections::BTreeSet;

use k8w_storage::blob::Digest;
use oci_client::secrets::RegistryAuth;

/// Digests of credentials that have pulled an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Readers(BTreeSet<String>);

/// More are not kept of one image: whoever is forgotten asks the registry again.
const MAX_READERS: usize = 100;

impl Readers {
    /// Whoever has these credentials alone; `None` without any, where everybody is like them.
    pub fn with(key: &RegistryAuth) -> Option<Readers> {
        digest(key).map(|digest| Readers(BTreeSet::from([digest])))
    }

    /// Whether one of these credentials has pulled the image.
    pub fn include(&self, keys: &[RegistryAuth]) -> bool {
        keys.iter().filter_map(digest).any(|digest| self.0.contains(&digest))
    }

    /// Adds others.
    pub fn join(&mut self, others: Readers) {
        for digest in others.0 {
            if self.0.len() < MAX_READERS {
                self.0.insert(digest);
            }
        }
    }

    pub fn parse(text: &[u8]) -> Readers {
        Readers(String::from_utf8_lossy(text).lines().map(str::to_owned).collect())
    }

    pub fn text(&self) -> String {
        self.0.iter().map(|digest| format!("{digest}\n")).collect()
    }
}

fn digest(key: &RegistryAuth) -> Option<String> {
    match key {
        RegistryAuth::Anonymous => None,
        RegistryAuth::Basic(user, password) => Some(format!("{user}\0{password}")),
        RegistryAuth::Bearer(token) => Some(token.clone()),
    }
    .map(|secret| Digest::of(secret.as_bytes()).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_credentials_that_have_pulled_an_image_read_it() {
        let basic = |user: &str| RegistryAuth::Basic(user.to_owned(), "p".to_owned());
        assert_eq!(Readers::with(&RegistryAuth::Anonymous), None);
        let mut readers = Readers::with(&basic("a")).unwrap();
        readers.join(Readers::with(&basic("b")).unwrap());
        let kept = Readers::parse(readers.text().as_bytes());
        assert_eq!(kept, readers);
        assert!(kept.text().lines().all(|line| line.starts_with("sha256:")), "no secret is kept");
        assert!(kept.include(&[basic("c"), basic("b")]));
        assert!(!kept.include(&[basic("c"), RegistryAuth::Anonymous]));
    }
}
