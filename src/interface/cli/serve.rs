//! `tollgate serve`.

use std::io;
use std::sync::Arc;

use clap::Args;
use tokio::net::TcpListener;

use super::failure::{Failure, say};
use super::logging::{self, LogFormat};
use super::storage::ConfigFile;
use crate::gateway::Gateway;
use crate::interface::http::{self, Limits};

/// Runs the gateway until it is told to stop (Ctrl-C, SIGTERM).
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tollgate serve --config tollgate.toml
  TOLLGATE_SERVER__HTTP=127.0.0.1:0 RUST_LOG=debug tollgate serve")]
pub(super) struct Serve {
    #[command(flatten)]
    config: ConfigFile,
    /// How the log is written.
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    log_format: LogFormat,
}

impl Serve {
    /// Serves.
    pub(super) async fn run(self) -> Result<(), Failure> {
        logging::start(self.log_format, false);
        let config = self.config.load()?;
        let address = config.server.http_address().ok_or(Failure::NothingToServe)?;
        let listener = bind(&address.to_string()).await?;
        let gateway = Gateway::open(&config).await?;
        announce(&listener)?;
        let limits = Limits::for_sql(config.engine.max_sql_bytes);
        let served = http::serve(Arc::clone(&gateway), listener, limits, http::shutdown_signal()).await;
        end(&gateway, served).await
    }
}

/// Ends a gateway that was served: the checkpoint outside the ledger is brought up to the log's last entry, so that a copy
/// that lacks any is found out.
pub(super) async fn end(gateway: &Gateway, served: io::Result<()>) -> Result<(), Failure> {
    let anchored = gateway.anchor().await;
    served.map_err(|source| Failure::Io { what: "the HTTP server stopped".to_owned(), source })?;
    Ok(anchored?)
}

/// Takes `address`.
pub(super) async fn bind(address: &str) -> Result<TcpListener, Failure> {
    http::bind(address).await.map_err(|source| Failure::Bind { source })
}

/// Says where the server listens, and returns it as a URL.
pub(super) fn announce(listener: &TcpListener) -> Result<String, Failure> {
    let address = listener
        .local_addr()
        .map_err(|source| Failure::Io { what: "cannot tell the address that is listened on".to_owned(), source })?;
    let url = format!("http://{address}");
    say(&format!("listening on {url}"));
    Ok(url)
}
