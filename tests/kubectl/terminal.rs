//! `exec -it`, `attach -it`, `run -it` and `debug -it` on a terminal, which `script` makes.

use std::io::{BufRead, Write};
use std::process::{Command, Stdio};

use k8w_testkit::Running;

use crate::{Sandbox, sandbox};

/// The key that ends what is typed.
const END: &[u8] = b"\x04";

impl Sandbox {
    /// kubectl on a terminal. What is typed is its standard input.
    fn on_terminal(&self, arguments: &[&str]) -> Running {
        let command = self.kubectl.command(arguments);
        let words = std::iter::once(command.get_program()).chain(command.get_args());
        let quoted: Vec<String> = words.map(|word| format!("'{}'", word.to_string_lossy())).collect();
        let mut script = Command::new("script");
        script.args(["--quiet", "--return", "--command", &quoted.join(" "), "/dev/null"]).env("TERM", "xterm");
        Running::start(script.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()))
    }
}

/// Types a line, and ends the input once it was shown as typed and come back.
fn echoes(mut terminal: Running) {
    let (mut keys, screen) = (terminal.stdin(), terminal.stdout());
    keys.write_all(b"hellp\x7fo\n").unwrap();
    // Until kubectl has the terminal in its hand, the line is echoed by that, too.
    let mut shown = screen.lines().map(Result::unwrap);
    let comes_back = |line: &String| line.trim_end_matches('\r') == "hello";
    assert!(shown.any(|line| comes_back(&line)), "what was said does not come back");
    keys.write_all(END).unwrap();
    let rest: Vec<String> = shown.collect();
    assert!(!rest.iter().any(|line| line.contains("error")), "{rest:#?}");
    assert!(terminal.outcome().success, "{rest:#?}");
}

#[test]
fn a_command_has_a_terminal() {
    let t = sandbox();
    t.hello_pod("web", "terminationGracePeriodSeconds: 1", "");
    t.kubectl.ok(&["wait", "--for=condition=Ready", "pod/web", "--timeout=60s"]);
    let said = t.on_terminal(&["exec", "-it", "web", "--", "echo", "one", "two"]).outcome();
    assert_eq!((said.success, said.stdout.as_str()), (true, "one two\r\n"), "{said:?}");
    let failed = t.on_terminal(&["exec", "-it", "web", "--", "cat", "/nowhere"]).outcome();
    assert!(!failed.success && failed.stdout.starts_with("cat: /nowhere: No such file or directory\r\n"), "{failed:?}");
    echoes(t.on_terminal(&["exec", "-it", "web", "--", "cat"]));
}

#[test]
fn a_process_has_a_terminal() {
    let t = sandbox();
    let image = t.echo_image();
    let overrides = r#"--overrides={"spec":{"runtimeClassName":"wasmtime"}}"#;
    let run = ["run", "runs", &format!("--image={image}"), "--restart=Never", "-it", "--rm", "-q", overrides];
    echoes(t.on_terminal(&run));
    assert_eq!(t.kubectl.ok(&["get", "pods", "-o", "name"]), "");
    t.kubectl.apply(&format!(
        "
apiVersion: v1
kind: Pod
metadata: {{name: attached}}
spec:
  runtimeClassName: wasmtime
  restartPolicy: Never
  containers: [{{name: echo, image: '{image}', stdin: true, stdinOnce: true, tty: true}}]
"
    ));
    t.kubectl.ok(&["wait", "--for=condition=Ready", "pod/attached", "--timeout=60s"]);
    echoes(t.on_terminal(&["attach", "-it", "-q", "attached"]));
    t.kubectl.ok(&["wait", "--for=jsonpath={.status.phase}=Succeeded", "pod/attached", "--timeout=60s"]);
}

#[test]
fn somebody_looks_at_a_pod_by_a_terminal() {
    let t = sandbox();
    let image = format!("--image={}", t.echo_image());
    t.hello_pod("web", "terminationGracePeriodSeconds: 1", "");
    t.kubectl.ok(&["wait", "--for=condition=Ready", "pod/web", "--timeout=60s"]);
    echoes(t.on_terminal(&["debug", "-it", "-q", "web", &image, "-c", "look"]));
    echoes(t.on_terminal(&["debug", "-it", "-q", "web", &image, "-c", "look", "--copy-to=copy"]));
    let containers = t.kubectl.ok(&["get", "pod", "copy", "-o", "jsonpath={.spec.containers[*].name}"]);
    assert_eq!(containers, "hello look");
}
