//! `tollgate token`.

use clap::Subcommand;
use serde::Deserialize;

use super::client::{Place, part};
use super::failure::{Failure, output, say};
use crate::gateway::Role;

/// The tokens in the storage that the configuration names; with --url, those of a gateway's analysts.
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
        place: Place,
    },
    /// Make a token useless.
    #[command(after_help = "Example:\n  tollgate token revoke 0198c0de-0000-7000-8000-000000000000")]
    Revoke {
        /// What `token create` called it.
        id: String,
        #[command(flatten)]
        place: Place,
    },
}

impl Token {
    /// Does it.
    pub(super) async fn run(self) -> Result<(), Failure> {
        match self {
            Self::Create { role, consumer, owner, place } => {
                let token = match place.server()? {
                    Some(client) => match (role, &consumer) {
                        (Role::Analyst, Some(consumer)) => {
                            client.call("POST", &format!("/v1/consumers/{}/tokens", part(consumer)), None)?
                        }
                        _ => return Err(Failure::RoleOfAnother { role }),
                    },
                    None => {
                        let administration = place.administration().await?;
                        let made = administration.create_token(role, consumer.as_deref(), owner.as_deref()).await?;
                        Issued { id: made.id, secret: made.secret }
                    }
                };
                output(format!("{}\n", token.secret).as_bytes())?;
                let of = consumer.or(owner).map(|name| format!(" of {name}")).unwrap_or_default();
                say(&format!("token {} of role {role}{of}; its secret is shown this once", token.id));
            }
            Self::Revoke { id, place } => {
                match place.server()? {
                    Some(client) => {
                        client.send("DELETE", &format!("/v1/tokens/{}", part(&id)), None)?;
                    }
                    None => place.administration().await?.revoke_token(&id).await?,
                }
                say(&format!("token {id} is revoked"));
            }
        }
        Ok(())
    }
}

/// What `POST /v1/consumers/{id}/tokens` sends.
#[derive(Deserialize)]
struct Issued {
    id: String,
    secret: String,
}
