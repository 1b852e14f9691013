//! `k8w image`: the images that a node of this machine holds.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::{Args, Subcommand};
use k8w_runtime::image::LocalImages;

use crate::data_dir::DataDir;

/// Manage the images that this machine's node holds
#[derive(Args)]
pub struct Image {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Make a component on disk an image that pods can name; works while the cluster runs
    Load(Load),
}

#[derive(Args)]
struct Load {
    /// A WebAssembly component, or a preview 1 module
    file: PathBuf,

    /// Name of the image, such as localhost/hello:latest
    #[arg(short, long, value_name = "NAME")]
    tag: String,

    /// The cluster's data directory [default: ~/.local/share/k8w]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

impl Image {
    pub fn run(self) -> Result<()> {
        match self.command {
            Command::Load(load) => load.run(),
        }
    }
}

impl Load {
    fn run(self) -> Result<()> {
        let data_dir = DataDir::path_of(self.data_dir.as_deref())?;
        let images = LocalImages::open(&data_dir.join("images"))?;
        let digest =
            images.load(&self.file, &self.tag).with_context(|| format!("cannot load {}", self.file.display()))?;
        println!("{} {digest}", self.tag);
        Ok(())
    }
}
