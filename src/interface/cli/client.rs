//! The client of a running gateway.

use std::net::IpAddr;
use std::time::Duration;

use clap::Args;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, PercentEncode, utf8_percent_encode};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use ureq::http::Uri;
use ureq::{Agent, Body};

use super::failure::{Failure, Problem};
use super::storage::ConfigFile;
use crate::gateway::{Administration, Question};

/// The longest that a server is waited for: longer than it lets any question run.
const TIMEOUT: Duration = Duration::from_mins(30);
/// The longest that a connection is waited for.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest answer that is read, in bytes.
const MAX_ANSWER_BYTES: u64 = 1 << 30;

/// Where a server is that nobody names.
const USUAL_URL: &str = "http://127.0.0.1:8080";
/// What is written as it is within a path or a parameter (RFC 3986, 2.3); all else is percent-encoded.
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// `text` as one part of a path, or as the value of a parameter.
pub(super) fn part(text: &str) -> PercentEncode<'_> {
    utf8_percent_encode(text, UNRESERVED)
}

/// Where the server is, and who asks.
#[derive(Debug, Clone, Args)]
pub(super) struct Server {
    /// The gateway's address.
    #[arg(long, env = "TOLLGATE_URL", default_value = USUAL_URL, value_name = "URL")]
    pub(super) url: String,
    /// The caller's token. Other users of this machine can read a command line: prefer the environment.
    #[arg(long, env = "TOLLGATE_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    pub(super) token: Option<String>,
}

impl Server {
    /// A client for this server.
    pub(super) fn client(&self) -> Result<Client, Failure> {
        let token = self.token.as_deref().filter(|token| !token.is_empty()).ok_or(Failure::NoToken)?;
        Client::new(&self.url, token)
    }
}

/// A server or the storage: where an operator's command works.
#[derive(Debug, Clone, Args)]
pub(super) struct Place {
    #[command(flatten)]
    pub(super) config: ConfigFile,
    /// The gateway's address. Without one the command works on the storage that the configuration names.
    #[arg(long, env = "TOLLGATE_URL", value_name = "URL")]
    url: Option<String>,
    /// The caller's token, for a gateway. Other users of this machine can read a command line: prefer the environment.
    #[arg(long, env = "TOLLGATE_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    token: Option<String>,
}

impl Place {
    /// A client of the server, if one is named.
    pub(super) fn server(&self) -> Result<Option<Client>, Failure> {
        self.url.as_ref().map(|_| self.usual_server()).transpose()
    }

    /// A client of the server that is named, or of that in the usual place.
    pub(super) fn usual_server(&self) -> Result<Client, Failure> {
        Server { url: self.address(), token: self.token.clone() }.client()
    }

    /// Where that server is.
    pub(super) fn address(&self) -> String {
        self.url.clone().unwrap_or_else(|| USUAL_URL.to_owned())
    }

    /// The storage.
    pub(super) async fn administration(&self) -> Result<Administration, Failure> {
        self.config.administration().await
    }
}

/// The form in which an answer is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// JSON.
    Json,
    /// CSV.
    Csv,
    /// An Arrow IPC stream.
    Arrow,
}

impl Form {
    const fn media_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Csv => "text/csv",
            Self::Arrow => "application/vnd.apache.arrow.stream",
        }
    }
}

/// An answer as it came.
pub(super) struct Reply {
    /// The bytes, in the form that was asked for.
    pub(super) body: Vec<u8>,
    /// What the headers say of its price.
    pub(super) facts: HeaderFacts,
}

/// The price of an answer, as the headers have it.
#[derive(Debug, Clone, Default)]
pub(super) struct HeaderFacts {
    /// ε, in digits.
    pub(super) epsilon: Option<String>,
    /// δ, in digits.
    pub(super) delta: Option<String>,
    /// Whether it was free because it was paid for before.
    pub(super) cached: bool,
}

/// A connection to a gateway.
pub(super) struct Client {
    agent: Agent,
    url: String,
    authorization: String,
}

impl Client {
    /// A client of the gateway at `url`.
    pub(super) fn new(url: &str, token: &str) -> Result<Self, Failure> {
        let uri: Uri = url.parse().map_err(|_| Failure::BadUrl { url: url.to_owned() })?;
        if uri.scheme_str() != Some("http") || uri.host().is_none() {
            return Err(Failure::BadUrl { url: url.to_owned() });
        }
        let mut config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .timeout_global(Some(TIMEOUT))
            .user_agent(concat!("tollgate/", env!("CARGO_PKG_VERSION")));
        if is_loopback(&uri) {
            // A proxy cannot reach this machine's own loopback, and would be handed the token.
            config = config.proxy(None);
        }
        Ok(Self {
            agent: config.build().into(),
            url: url.trim_end_matches('/').to_owned(),
            authorization: format!("Bearer {token}"),
        })
    }

    /// Reads `path`.
    pub(super) fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        let request = self.agent.get(format!("{}{path}", self.url)).header("authorization", &self.authorization);
        let (_, body) = self.finish(request.header("accept", "application/json").call())?;
        serde_json::from_slice(&body).map_err(|_| Failure::NotAGateway { url: self.url.clone() })
    }

    /// Reads what is at `path`, byte for byte.
    pub(super) fn get_bytes(&self, path: &str) -> Result<Vec<u8>, Failure> {
        self.send("GET", path, None)
    }

    /// Sends `body`, or nothing, and reads the document that comes back.
    pub(super) fn call<T: DeserializeOwned>(
        &self,
        method: &str,
        path: &str,
        body: Option<(&str, Vec<u8>)>,
    ) -> Result<T, Failure> {
        let answer = self.send(method, path, body)?;
        serde_json::from_slice(&answer).map_err(|_| Failure::NotAGateway { url: self.url.clone() })
    }

    /// Sends `body`, of the media type before it, or nothing.
    pub(super) fn send(&self, method: &str, path: &str, body: Option<(&str, Vec<u8>)>) -> Result<Vec<u8>, Failure> {
        let mut request = ureq::http::Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.url))
            .header("authorization", &self.authorization);
        let (kind, body) = body.unzip();
        if let Some(kind) = kind {
            request = request.header("content-type", kind);
        }
        let bad = |_| Failure::BadUrl { url: self.url.clone() };
        let request = request.body(body.unwrap_or_default()).map_err(bad)?;
        self.finish(self.agent.run(request)).map(|(_, body)| body)
    }

    /// Reads `path` with the parameters behind it, in the form that is asked for.
    pub(super) fn read(&self, path: &str, parameters: &[(&str, String)], form: Form) -> Result<Vec<u8>, Failure> {
        let request = self.agent.get(format!("{}{path}", self.url)).header("authorization", &self.authorization);
        let request = request.header("accept", form.media_type());
        let request = parameters.iter().fold(request, |request, (name, value)| request.query(*name, value));
        self.finish(request.call()).map(|(_, body)| body)
    }

    /// Asks `question`.
    pub(super) fn ask(&self, question: &Question, form: Form) -> Result<Reply, Failure> {
        let body = serde_json::to_vec(question).map_err(Failure::Request)?;
        let request = self
            .agent
            .post(format!("{}/v1/query", self.url))
            .header("authorization", &self.authorization)
            .header("content-type", "application/json")
            .header("accept", form.media_type());
        let (facts, body) = self.finish(request.send(&body[..]))?;
        Ok(Reply { body, facts })
    }

    /// Reads a response to its end, and tells a problem from an answer.
    fn finish(
        &self,
        response: Result<ureq::http::Response<Body>, ureq::Error>,
    ) -> Result<(HeaderFacts, Vec<u8>), Failure> {
        let unreachable = |source| Failure::Unreachable { url: self.url.clone(), source: Box::new(source) };
        let mut response = response.map_err(unreachable)?;
        let body = response.body_mut().with_config().limit(MAX_ANSWER_BYTES).read_to_vec().map_err(unreachable)?;
        if response.status().is_success() {
            let header = |name| response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
            let facts = HeaderFacts {
                epsilon: header("tollgate-epsilon"),
                delta: header("tollgate-delta"),
                cached: header("tollgate-cached").as_deref() == Some("true"),
            };
            return Ok((facts, body));
        }
        match serde_json::from_slice::<Problem>(&body) {
            Ok(problem) => Err(Failure::Refused(problem)),
            Err(_) => Err(Failure::NotAGateway { url: self.url.clone() }),
        }
    }
}

/// `document` as the body of a request.
pub(super) fn json(document: &impl Serialize) -> Result<Option<(&'static str, Vec<u8>)>, Failure> {
    Ok(Some(("application/json", serde_json::to_vec(document).map_err(Failure::Request)?)))
}

fn is_loopback(uri: &Uri) -> bool {
    uri.host().is_some_and(|host| {
        host.eq_ignore_ascii_case("localhost")
            || host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
    })
}

/// An answer in JSON.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct AnswerView {
    /// The columns.
    pub(super) columns: Vec<ColumnView>,
    /// The rows; none in a dry run.
    pub(super) rows: Option<Vec<Vec<serde_json::Value>>>,
    /// By column.
    pub(super) accuracy: Vec<Option<AccuracyView>>,
    /// The price.
    pub(super) privacy: PrivacyView,
    /// The caller's accounts.
    pub(super) budget: Vec<BudgetView>,
    /// Which groups appear.
    pub(super) groups: GroupsView,
}

/// A column of an answer.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct ColumnView {
    /// Its name.
    pub(super) name: String,
    /// Its Arrow type.
    #[serde(rename = "type")]
    pub(super) data_type: String,
}

/// How far a column may be off.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct AccuracyView {
    /// The kind of noise.
    pub(super) mechanism: String,
    /// Half of the 95 % interval.
    pub(super) half_width_95: Option<f64>,
    /// Whether it differs from row to row.
    #[serde(default)]
    pub(super) per_row: bool,
}

/// The price of an answer.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct PrivacyView {
    /// ε of the query.
    pub(super) epsilon: f64,
    /// The δ at which it is stated.
    pub(super) delta: f64,
    /// ρ of the query.
    pub(super) rho: Option<f64>,
    /// δ of choosing groups.
    pub(super) delta_selection: f64,
    /// Whether it was paid for before.
    pub(super) cached: bool,
    /// Who pays.
    pub(super) charges: Vec<ChargeView>,
    /// What is promised, in words.
    #[serde(default)]
    pub(super) guarantee: String,
    /// By dataset that has epochs, those that are read.
    #[serde(default)]
    pub(super) epochs: std::collections::BTreeMap<String, Vec<String>>,
}

/// One account's part.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct ChargeView {
    /// The account.
    pub(super) account: String,
}

/// An account.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct BudgetView {
    /// The dataset.
    pub(super) dataset: String,
    /// `zcdp` or `pure`.
    pub(super) accounting: String,
    /// How long a window is.
    pub(super) per: String,
    /// The present window.
    pub(super) window: String,
    /// The budget's ε.
    pub(super) epsilon_limit: f64,
    /// The budget's δ.
    pub(super) delta_limit: f64,
    /// ε of all that was spent.
    pub(super) epsilon_spent: f64,
    /// From 0 to 1.
    pub(super) fraction_spent: f64,
}

/// Which groups appear.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct GroupsView {
    /// Whether the keys are known without the data.
    pub(super) public: bool,
    /// No smaller group appears.
    pub(super) min_size: u64,
    /// A group of so many units appears with 95 %.
    pub(super) units_to_appear_95: u64,
}
