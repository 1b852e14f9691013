//! `k8w completion SHELL`: prints a completion script.

use anyhow::Result;
use clap::{Args, CommandFactory};
use clap_complete::Shell;

/// Print a script that completes k8w's commands in a shell
#[derive(Args)]
pub struct Completion {
    /// The shell to complete for
    shell: Shell,
}

impl Completion {
    pub fn run(self) -> Result<()> {
        clap_complete::generate(self.shell, &mut super::Cli::command(), "k8w", &mut std::io::stdout());
        Ok(())
    }
}
