//! `tollgate token`.

use clap::Subcommand;

use super::failure::{Failure, output, say};
use super::storage::ConfigFile;
use crate::gateway::Role;

/// The tokens in the storage that the configuration names.
#[derive(Debug, Subcommand)]
pub(super) enum Token {
    /// Make a token. Its secret alone goes to standard output, this once.
    #[command(after_help = "Examples:
  tollgate token create --role analyst --consumer road-office
  TOLLGATE_TOKEN=$(tollgate token create --role steward --owner united)")]
    Create {
        /// What its bearer may do: analyst, steward, budget-admin, auditor or operator.
        #[arg(long, value_name = "ROLE")]
        role: Role,
        /// The consumer that an analyst asks for.
        #[arg(long, value_name = "NAME", required_if_eq("role", "analyst"))]
        consumer: Option<String>,
        /// The owner that a steward speaks for.
        #[arg(long, value_name = "OWNER", required_if_eq("role", "steward"))]
        owner: Option<String>,
        #[command(flatten)]
        config: ConfigFile,
    },
    /// Make a token useless.
    #[command(after_help = "Example:\n  tollgate token revoke 0198c0de-0000-7000-8000-000000000000")]
    Revoke {
        /// What `token create` called it.
        id: String,
        #[command(flatten)]
        config: ConfigFile,
    },
}

impl Token {
    /// Does it.
    pub(super) async fn run(self) -> Result<(), Failure> {
        match self {
            Self::Create { role, consumer, owner, config } => {
                let administration = config.administration().await?;
                let token = administration.create_token(role, consumer.as_deref(), owner.as_deref()).await?;
                output(format!("{}\n", token.secret).as_bytes())?;
                let of = consumer.or(owner).map(|name| format!(" of {name}")).unwrap_or_default();
                say(&format!("token {} of role {role}{of}; its secret is shown this once", token.id));
            }
            Self::Revoke { id, config } => {
                config.administration().await?.revoke_token(&id).await?;
                say(&format!("token {id} is revoked"));
            }
        }
        Ok(())
    }
}
