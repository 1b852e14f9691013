//! The text of a kubeconfig with everything embedded.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// How the user of a kubeconfig proves who it is.
pub enum Credentials<'a> {
    Certificate { certificate_pem: &'a str, key_pem: &'a str },
    Token(&'a str),
}

/// A kubeconfig (YAML) with one cluster, one user and one current context, all called `cluster`.
///
/// `server` is the URL of the API server (`https://host:port`). Names and URL are written as JSON strings, which are
/// YAML too, so that no character in them can change the document.
pub fn kubeconfig(cluster: &str, server: &str, ca_pem: &str, credentials: &Credentials<'_>) -> String {
    let user = match credentials {
        Credentials::Certificate { certificate_pem, key_pem } => format!(
            "    client-certificate-data: {}\n    client-key-data: {}\n",
            STANDARD.encode(certificate_pem),
            STANDARD.encode(key_pem)
        ),
        Credentials::Token(token) => format!("    token: {}\n", quoted(token)),
    };
    let (name, server, ca) = (quoted(cluster), quoted(server), STANDARD.encode(ca_pem));
    format!(
        "apiVersion: v1\nkind: Config\nclusters:\n- name: {name}\n  cluster:\n    server: {server}\n    \
         certificate-authority-data: {ca}\nusers:\n- name: {name}\n  user:\n{user}contexts:\n- name: {name}\n  context:\n    \
         cluster: {name}\n    user: {name}\ncurrent-context: {name}\n"
    )
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn everything_is_embedded() {
        let credentials = Credentials::Certificate { certificate_pem: "CERT", key_pem: "KEY" };
        expect![[r#"
            apiVersion: v1
            kind: Config
            clusters:
            - name: "k8w"
              cluster:
                server: "https://127.0.0.1:6443"
                certificate-authority-data: Q0E=
            users:
            - name: "k8w"
              user:
                client-certificate-data: Q0VSVA==
                client-key-data: S0VZ
            contexts:
            - name: "k8w"
              context:
                cluster: "k8w"
                user: "k8w"
            current-context: "k8w"
        "#]]
        .assert_eq(&kubeconfig("k8w", "https://127.0.0.1:6443", "CA", &credentials));
    }

    #[test]
    fn a_token_stands_in_for_a_certificate() {
        let text = kubeconfig("k8w", "https://h", "CA", &Credentials::Token("a\"b"));
        assert!(text.contains("  user:\n    token: \"a\\\"b\"\ncontexts:"), "{text}");
    }
}
