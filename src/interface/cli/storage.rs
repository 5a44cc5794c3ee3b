//! Which configuration a command works on.

use std::path::{Path, PathBuf};

use clap::Args;

use super::failure::Failure;
use crate::config::Config;
use crate::gateway::administration::Administration;
use crate::policy::ObjectAddress;
use crate::stores::Stores;

/// The configuration's usual place.
const USUAL: &str = "tollgate.toml";

/// The file that names the storage, the policies and the addresses.
#[derive(Debug, Clone, Args)]
pub(super) struct ConfigFile {
    /// The configuration; `tollgate.toml` in this directory when there is one, else the defaults.
    #[arg(long, env = "TOLLGATE_CONFIG", value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
}

impl ConfigFile {
    /// Reads it.
    pub(super) fn load(&self) -> Result<Config, Failure> {
        let usual = Path::new(USUAL);
        let path = self.config.as_deref().or_else(|| usual.is_file().then_some(usual));
        Ok(Config::load(path)?)
    }

    /// Opens the storage that it names, where there is one.
    pub(super) async fn existing(&self) -> Result<Administration, Failure> {
        Ok(Administration::open_existing(&self.load()?).await?)
    }

    /// How files at `location` are reached. Only for objects does the configuration matter, and is it read.
    pub(super) fn stores(&self, location: &str) -> Result<Stores, Failure> {
        if ObjectAddress::is_one(location) { Ok(Stores::new(self.load()?.stores)) } else { Ok(Stores::default()) }
    }

    /// Opens the storage that it names.
    pub(super) async fn administration(&self) -> Result<Administration, Failure> {
        Ok(Administration::open(&self.load()?).await?)
    }
}
