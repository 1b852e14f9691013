//! How a command ended, as clients are told on their error stream.

use k8w_kinds::node_stream::Message;
use serde_json::{Value, json};

/// What a client asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    Exec(Vec<String>),
    Attach,
}

/// What the error stream holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatusForm {
    /// Nothing after a success, else a sentence.
    Text,
    /// A `metav1.Status` in any case.
    Json,
}

impl Command {
    /// What the error stream says about the last message of the node; empty for nothing.
    pub fn end(&self, last: &Message, form: StatusForm) -> Vec<u8> {
        let status = self.status(last);
        match form {
            StatusForm::Json => status.to_string().into_bytes(),
            StatusForm::Text => status["message"].as_str().unwrap_or_default().as_bytes().to_vec(),
        }
    }

    fn status(&self, last: &Message) -> Value {
        match (last, self) {
            (Message::Exit(0), _) | (Message::Exit(_), Command::Attach) => json!({"metadata": {}, "status": "Success"}),
            (Message::Exit(code), Command::Exec(command)) => {
                let why = format!("error executing command [{}], exit code {code}", command.join(" "));
                json!({
                    "metadata": {}, "status": "Failure", "reason": "NonZeroExitCode",
                    "message": format!("command terminated with non-zero exit code: {why}"),
                    "details": {"causes": [{"reason": "ExitCode", "message": code.to_string()}]},
                })
            }
            (Message::Failed(why), _) => self.internal(why),
            _ => self.internal("the node broke off"),
        }
    }

    fn internal(&self, why: &str) -> Value {
        let doing = match self {
            Command::Exec(_) => "error executing command in container",
            Command::Attach => "error attaching to container",
        };
        json!({
            "metadata": {}, "status": "Failure", "reason": "InternalError", "code": 500,
            "message": format!("Internal error occurred: {doing}: {why}"),
            "details": {"causes": [{"message": format!("{doing}: {why}")}]},
        })
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn ends_are_told_in_both_forms() {
        let exec = Command::Exec(vec!["false".into(), "x".into()]);
        let told = |last: &Message, form| String::from_utf8(exec.end(last, form)).unwrap();
        assert_eq!(told(&Message::Exit(0), StatusForm::Text), "");
        expect![[r#"{"metadata":{},"status":"Success"}"#]].assert_eq(&told(&Message::Exit(0), StatusForm::Json));
        expect![[r#"{"details":{"causes":[{"message":"3","reason":"ExitCode"}]},"message":"command terminated with non-zero exit code: error executing command [false x], exit code 3","metadata":{},"reason":"NonZeroExitCode","status":"Failure"}"#]]
            .assert_eq(&told(&Message::Exit(3), StatusForm::Json));
        expect!["Internal error occurred: error executing command in container: no such thing"]
            .assert_eq(&told(&Message::Failed("no such thing".into()), StatusForm::Text));
        assert_eq!(Command::Attach.end(&Message::Exit(3), StatusForm::Text), b"");
    }
}
