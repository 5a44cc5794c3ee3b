use std::path::{Path, PathBuf};

use super::{Config, ConfigError, Retention};

fn variables(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// Writes `text` as a configuration file and reads it under `pairs`.
fn load(text: &str, pairs: &[(&str, &str)]) -> (tempfile::TempDir, PathBuf, Result<Config, ConfigError>) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tollgate.toml");
    std::fs::write(&path, text).unwrap();
    let config = Config::load_with(Some(&path), variables(pairs));
    (folder, path, config)
}

/// The message of a configuration that must be refused, with the file's path as FILE.
fn refused(text: &str, pairs: &[(&str, &str)]) -> String {
    let (_folder, path, config) = load(text, pairs);
    config.unwrap_err().to_string().replace(path.to_str().unwrap(), "FILE")
}

#[test]
fn every_key_has_a_default() {
    let config = Config::load_with(None, variables(&[])).unwrap();
    assert_eq!(config.server.http_address(), Some("127.0.0.1:8080".parse().unwrap()));
    assert_eq!(config.storage.url, "sqlite://tollgate.db");
    assert_eq!(config.policies.dir, Path::new("policies"));
    assert!(config.policies.locations.is_empty());
    assert_eq!(config.engine.memory_limit_mb, 2048);
    assert_eq!(config.engine.timeout_ms, 60_000);
    assert!(config.engine.max_concurrent_queries >= 2);
    assert_eq!(config.engine.target_partitions, None);
    assert_eq!(config.engine.max_cells, 100_000);
    assert_eq!(config.engine.max_sql_bytes, 65_536);
    assert_eq!(config.engine.response_quantum_ms, 10);
    // Everything is kept for ever.
    assert_eq!(config.retention, Retention::default());
    assert_eq!(config.retention.idempotency_keys_days, None);
}

#[test]
fn relative_paths_are_relative_to_the_file() {
    let (folder, _, config) = load("[storage]\nurl = \"sqlite://ledger/t.db\"\n", &[]);
    let config = config.unwrap();
    assert_eq!(config.policies.dir, folder.path().join("policies"));
    assert_eq!(config.storage.url, format!("sqlite://{}", folder.path().join("ledger/t.db").display()));

    let (_folder, _, config) = load("[storage]\nurl = \"sqlite:///var/t.db\"\n[policies]\ndir = \"/etc/p\"\n", &[]);
    let config = config.unwrap();
    assert_eq!(config.policies.dir, Path::new("/etc/p"));
    assert_eq!(config.storage.url, "sqlite:///var/t.db");
}

#[test]
fn each_owner_has_folders_of_its_own() {
    let (folder, _, config) =
        load("[policies.locations]\nunited = [\"data/united\", \"/srv/u\"]\ndelta = [\"/srv/d\"]\n", &[]);
    let locations = config.unwrap().policies.locations;
    assert_eq!(locations["united"], [folder.path().join("data/united"), "/srv/u".into()]);
    assert_eq!(locations["delta"], [Path::new("/srv/d")]);

    let shared = "policies.locations: a folder of `united` is, or lies in, or holds one of `delta`: either owner's stewards could register the other's data";
    for folders in ["united = [\"/srv/d\"]", "united = [\"/srv/d/sub\"]", "united = [\"/u\", \"/srv\"]"] {
        assert_eq!(refused(&format!("[policies.locations]\ndelta = [\"/srv/d\"]\n{folders}\n"), &[]), shared);
    }
    // A folder beside another whose name begins alike is not within it.
    assert!(load("[policies.locations]\ndelta = [\"/srv/d\"]\nunited = [\"/srv/du\"]\n", &[]).2.is_ok());
    assert_eq!(
        refused("[policies.locations]\nunited = [\"/srv/u/../d\"]\n", &[]),
        "policies.locations.united: /srv/u/../d must not hold `..`: write the folder itself"
    );
    assert!(
        refused("[policies.locations]\nUnited = [\"/srv/u\"]\n", &[])
            .starts_with("policies.locations: `United` is not a name")
    );
}

#[test]
fn prefixes_of_stores_are_owners_places_too() {
    let (folder, _, config) =
        load("[policies.locations]\nunited = [\"s3://b/united/\", \"u\"]\ndelta = [\"s3://b/delta\"]\n", &[]);
    let locations = config.unwrap().policies.locations;
    assert_eq!(locations["united"], ["s3://b/united/".into(), folder.path().join("u")]);
    let shared =
        |other: &str| refused(&format!("[policies.locations]\ndelta = [\"s3://b/d/\"]\nunited = [{other:?}]\n"), &[]);
    for other in ["s3://b/", "s3://b/d", "s3://b/d/sub/"] {
        assert!(shared(other).contains("either owner's stewards could register the other's data"), "{other}");
    }
    assert!(load("[policies.locations]\ndelta = [\"s3://b/d/\"]\nunited = [\"s3://b/du/\"]\n", &[]).2.is_ok());
    let message = shared("s3://key:hush@b/x/");
    assert!(
        message.starts_with("policies.locations.united: an address holds no user") && !message.contains("hush"),
        "{message}"
    );
    assert!(shared("s3://b/*/").starts_with("policies.locations.united: an address has no"));
}

#[test]
fn stores_are_sections_of_their_own_names() {
    let (folder, _, config) = load(
        "[stores.minio]\nbuckets = [\"a\", \"b\"]\nendpoint = \"http://127.0.0.1:9000\"\nallow_http = true\n\
         credentials_file = \"keys\"\n[stores.c]\nregion = \"eu-west-1\"\n",
        &[],
    );
    let stores = config.unwrap().stores;
    assert_eq!(stores["minio"].credentials_file, Some(folder.path().join("keys")));
    assert_eq!(stores["minio"].buckets_of("minio").collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(stores["c"].buckets_of("c").collect::<Vec<_>>(), ["c"]);
    assert_eq!((stores["c"].profile.as_str(), stores["c"].max_retries), ("default", 5));
    let endpoint = "stores.x.endpoint must begin with `https://`, or with `http://` where `allow_http = true`, and hold no user or password";
    for (text, expected) in [
        ("endpoint = \"http://h:1\"", endpoint),
        ("endpoint = \"https://key:hush@h\"", endpoint),
        ("endpoint = \"https://\"", endpoint),
        ("buckets = [\"a\", \"a\"]", "stores.x: the bucket `a` is named by another section too: name it in one"),
        ("endpont = \"https://h\"", "FILE: unknown key `stores.x.endpont`; did you mean `stores.x.endpoint`?"),
        ("secret_access_key = \"hush\"", "FILE: unknown key `stores.x.secret_access_key`"),
    ] {
        assert_eq!(refused(&format!("[stores.x]\n{text}\n"), &[]), expected);
    }
}

#[test]
fn the_environment_wins_over_the_file() {
    let file = "[server]\nhttp = \"127.0.0.1:1\"\n[engine]\ntimeout_ms = 5\nmax_cells = 7\n";
    let (_folder, _, config) = load(
        file,
        &[
            ("TOLLGATE_SERVER__HTTP", "off"),
            ("TOLLGATE_ENGINE__TIMEOUT_MS", "1234"),
            ("TOLLGATE_ENGINE__TARGET_PARTITIONS", "3"),
            // The client's own, and another program's.
            ("TOLLGATE_URL", "http://127.0.0.1:8080"),
            ("TOLLGATE_TOKEN", "secret"),
            ("PATH", "/bin"),
        ],
    );
    let config = config.unwrap();
    assert_eq!(config.server.http_address(), None);
    assert_eq!(config.engine.timeout_ms, 1234);
    assert_eq!(config.engine.target_partitions, Some(3));
    assert_eq!(config.engine.max_cells, 7);
}

#[test]
fn what_may_be_forgotten_is_kept_as_many_days_as_is_said() {
    let file = "[retention]\nidempotency_keys_days = 30\nrevoked_tokens_days = 36500\n";
    let (_folder, _, config) = load(file, &[("TOLLGATE_RETENTION__SETTLED_REQUESTS_DAYS", "400")]);
    let expected = Retention {
        idempotency_keys_days: Some(30),
        settled_requests_days: Some(400),
        past_alerts_days: None,
        revoked_tokens_days: Some(36_500),
    };
    assert_eq!(config.unwrap().retention, expected);
}

#[test]
fn a_cluster_is_used_where_the_mode_says_so() {
    let at = "scheduler = \"h:50050\"\ncluster_secret = \"of/cluster\"\n";
    let (folder, _, config) = load(&format!("[engine]\nmode = \"ballista\"\n{at}"), &[]);
    let config = config.unwrap();
    assert_eq!(config.engine.cluster(), Some(("h:50050", folder.path().join("of/cluster").as_path())));
    assert_eq!(load(&format!("[engine]\n{at}"), &[]).2.unwrap().engine.cluster(), None);
}

#[test]
fn what_is_wrong_is_said_exactly() {
    /// A file, an environment, and what is said of them.
    type Case = (&'static str, &'static [(&'static str, &'static str)], &'static str);
    let cases: &[Case] = &[
        ("[server]\nhtp = \"off\"\n", &[], "FILE: unknown key `server.htp`; did you mean `server.http`?"),
        ("[serverr]\nhttp = \"off\"\n", &[], "FILE: unknown key `serverr`; did you mean `server`?"),
        ("[server]\ntimeout_ms = 5\n", &[], "FILE: unknown key `server.timeout_ms`; did you mean `engine.timeout_ms`?"),
        // Interfaces that do not exist yet are not accepted in silence.
        ("[server]\npostgres = \"127.0.0.1:5433\"\n", &[], "FILE: unknown key `server.postgres`"),
        ("[engine]\ntimeout_ms = \"long\"\n", &[], "FILE: engine.timeout_ms must be a whole number, not a text"),
        ("[engine]\ntimeout_ms = -1\n", &[], "FILE: engine.timeout_ms must be a whole number"),
        ("[engine]\ntimeout_ms = 0\n", &[], "engine.timeout_ms must be from 1 to 86400000, not 0"),
        (
            "[server]\nhttp = \"localhost\"\n",
            &[],
            "server.http must be an address with a port, such as \"127.0.0.1:8080\", or \"off\"",
        ),
        (
            "[storage]\nurl = \"mysql://h/db\"\n",
            &[],
            "storage.url must begin with `sqlite://`, such as \"sqlite://tollgate.db\", or with `postgres://`",
        ),
        (
            "[alerts]\nwebhook = \"https://alerts.example/?secret\"\n",
            &[],
            "alerts.webhook must be an address that begins with `http://`; for another, run a relay beside the gateway",
        ),
        (
            "[retention]\nidempotency_keys_days = 0\n",
            &[],
            "retention.idempotency_keys_days must be from 1 to 36500, not 0",
        ),
        (
            "[retention]\npast_alerts_days = 36501\n",
            &[],
            "retention.past_alerts_days must be from 1 to 36500, not 36501",
        ),
        // Nothing is set for what is never forgotten.
        ("[retention]\nlog_days = 5\n", &[], "FILE: unknown key `retention.log_days`"),
        (
            "[engine]\nmode = \"ballista\"\nscheduler = \"10.0.0.5:50050\"\n",
            &[],
            "engine.mode is \"ballista\", which needs engine.scheduler and engine.cluster_secret",
        ),
        (
            "[engine]\nmode = \"ballista\"\nscheduler = \"http://h\"\ncluster_secret = \"s\"\n",
            &[],
            "engine.scheduler must be a host and a port, such as \"127.0.0.1:50050\"",
        ),
        ("[alerts]\nthresholds_percent = [50, 101]\n", &[], "alerts.thresholds_percent must be from 1 to 100, not 101"),
        (
            "",
            &[("TOLLGATE_SERVER_HTTP", "off")],
            "environment: unknown key `TOLLGATE_SERVER_HTTP`; did you mean `TOLLGATE_SERVER__HTTP`?",
        ),
        (
            "",
            &[("TOLLGATE_SERVER__HTPP", "off")],
            "environment variable TOLLGATE_SERVER__HTPP: unknown key `server.htpp`; did you mean `server.http`?",
        ),
        (
            "",
            &[("TOLLGATE_ENGINE__MAX_CELLS", "s3cret")],
            "environment variable TOLLGATE_ENGINE__MAX_CELLS: engine.max_cells must be a whole number, not a text",
        ),
    ];
    let wrong: Vec<_> = cases
        .iter()
        .map(|(text, pairs, expected)| (refused(text, pairs), (*expected).to_owned()))
        .filter(|(found, expected)| found != expected)
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn a_file_that_was_asked_for_must_be_there() {
    let message = Config::load_with(Some(Path::new("/nowhere/tollgate.toml")), variables(&[])).unwrap_err().to_string();
    assert!(message.starts_with("the configuration file /nowhere/tollgate.toml cannot be read: "), "{message}");
    assert!(message.ends_with("; without --config every key has its default"), "{message}");
}
