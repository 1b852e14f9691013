//! The static token file: `token,user,uid,"group1,group2"` a line, read once at start (`--token-auth-file`).

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use http::request::Parts;
use sha2::{Digest, Sha256};

use super::{authenticated, bearer_token};
use crate::identity::{Peer, UserInfo};
use crate::plugins::{Authenticator, AuthnError};

/// Users by the hash of their token, so that looking one up tells nothing about how near a guess was.
#[derive(Default)]
pub struct TokenFile(HashMap<[u8; 32], Arc<UserInfo>>);

/// Which line of the file is wrong.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("line {line} of the token file must be: token,user,uid[,\"group1,group2\"]")]
pub struct TokenFileError {
    pub line: usize,
}

impl std::fmt::Debug for TokenFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TokenFile({} users)", self.0.len())
    }
}

impl TokenFile {
    /// Reads the file's text.
    pub fn parse(text: &str) -> Result<TokenFile, TokenFileError> {
        let mut users = HashMap::new();
        for (index, line) in text.lines().enumerate() {
            if line.trim().is_empty() || line.starts_with('#') {
                continue;
            }
            let (token, user) = parse_line(line).ok_or(TokenFileError { line: index + 1 })?;
            users.insert(Sha256::digest(token).into(), Arc::new(authenticated(user)));
        }
        Ok(TokenFile(users))
    }
}

fn parse_line(line: &str) -> Option<(&str, UserInfo)> {
    let mut fields = line.splitn(4, ',').map(str::trim);
    let (token, name, uid) = (fields.next()?, fields.next()?, fields.next()?);
    let groups = fields.next().unwrap_or_default().trim_matches('"');
    let groups = groups.split(',').map(str::trim).filter(|group| !group.is_empty()).map(str::to_owned).collect();
    let user = UserInfo { name: name.into(), uid: uid.into(), groups, ..UserInfo::default() };
    (!token.is_empty() && !name.is_empty()).then_some((token, user))
}

#[async_trait]
impl Authenticator for TokenFile {
    async fn authenticate(&self, parts: &Parts, _: &Peer) -> Result<Option<Arc<UserInfo>>, AuthnError> {
        let Some(token) = bearer_token(&parts.headers).filter(|_| !self.0.is_empty()) else { return Ok(None) };
        Ok(self.0.get(&<[u8; 32]>::from(Sha256::digest(token))).cloned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn user(file: &TokenFile, token: &str) -> Option<Arc<UserInfo>> {
        let request = http::Request::builder().header("authorization", format!("Bearer {token}"));
        let (parts, ()) = request.body(()).unwrap().into_parts();
        file.authenticate(&parts, &Peer::default()).await.unwrap()
    }

    #[tokio::test]
    async fn users_are_found_by_token() {
        let file = TokenFile::parse("# users\ns3cret,jane,42,\"dev,ops\"\n\nother,joe,7\n").unwrap();
        let jane = user(&file, "s3cret").await.unwrap();
        assert_eq!((jane.name.as_str(), jane.uid.as_str()), ("jane", "42"));
        assert_eq!(jane.groups, ["dev", "ops", "system:authenticated"]);
        assert_eq!(user(&file, "other").await.unwrap().name, "joe");
        assert_eq!(user(&file, "s3cre").await, None);
    }

    #[test]
    fn a_wrong_line_is_named() {
        assert_eq!(TokenFile::parse("a,b,c\nonly-a-token").err(), Some(TokenFileError { line: 2 }));
    }
}
