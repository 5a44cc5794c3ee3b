//! A scheduler and executors, each a process of our own binary on a free port.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tollgate::cluster::{ClusterOptions, ClusterSecret};
use tollgate::config::{Config, EngineMode};

use crate::fixture::tollgate;

/// How long a test waits for a process to do what it must.
const PATIENCE: Duration = Duration::from_mins(2);

/// A process that ends with the value.
pub struct Running {
    process: Child,
    /// Where it listens.
    pub address: String,
}

impl Running {
    /// Starts `tollgate` with `arguments` and `variables` in `dir`, and waits until it says where it listens.
    fn start(dir: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> Self {
        let mut command = tollgate(dir);
        command.args(arguments).envs(variables.iter().copied()).stderr(Stdio::piped());
        let mut process = command.spawn().expect("a process");
        let said = process.stderr.take().expect("standard error");
        let (tell, told) = std::sync::mpsc::channel();
        // Read to its end, so that the process never waits for room; shown where a test fails.
        std::thread::spawn(move || {
            for line in BufReader::new(said).lines().map_while(Result::ok) {
                match line.strip_prefix("listening on ") {
                    Some(address) => drop(tell.send(address.to_owned())),
                    None => eprintln!("{line}"),
                }
            }
        });
        let address = told.recv_timeout(PATIENCE).expect("an address");
        Self { process, address }
    }

    /// SIGKILL.
    pub fn kill(mut self) {
        self.process.kill().expect("killed");
        self.process.wait().expect("ended");
    }

    /// SIGTERM, and waits for its end.
    pub fn stop(mut self) {
        let id = self.process.id().to_string();
        let sent = std::process::Command::new("kill").args(["-TERM", &id]).status().expect("kill");
        assert!(sent.success());
        assert!(self.process.wait().expect("ended").success());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // One that has ended already cannot be killed.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A scheduler and executors.
pub struct Cluster {
    dir: TempDir,
    pub scheduler: Running,
    pub executors: Vec<Running>,
}

impl Cluster {
    /// One scheduler and `executors` executors, which are there when this returns.
    pub fn of(executors: usize) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let secret = dir.path().join("cluster.secret");
        let arguments = ["scheduler", "--bind", "127.0.0.1:0", "--executor-timeout", "8", "--secret"];
        let secret = secret.to_string_lossy();
        let scheduler = Running::start(dir.path(), &[&arguments[..], &[&secret]].concat(), &[]);
        let mut cluster = Self { dir, scheduler, executors: Vec::new() };
        for _ in 0..executors {
            cluster.add_executor();
        }
        cluster.wait_for(executors);
        cluster
    }

    /// Starts one more executor.
    pub fn add_executor(&mut self) {
        self.add_executor_with(&[], &[]);
    }

    /// The same, with more `arguments`, and `variables` of its environment.
    pub fn add_executor_with(&mut self, arguments: &[&str], variables: &[(&str, &str)]) {
        let (secret, work) = (self.secret(), self.work());
        let usual = [
            "executor",
            "--scheduler",
            &self.scheduler.address,
            "--secret",
            &secret.to_string_lossy(),
            "--work-dir",
            &work.to_string_lossy(),
            "--tasks",
            "2",
            "--memory-limit-mb",
            "512",
        ];
        let started = Running::start(self.dir.path(), &[&usual[..], arguments].concat(), variables);
        self.executors.push(started);
    }

    /// Waits until so many executors have asked for work lately.
    pub fn wait_for(&self, executors: usize) {
        let patience = Instant::now() + PATIENCE;
        while self.workers(Some(&self.secret())).1 != executors.to_string() {
            assert!(Instant::now() < patience, "the executors do not come, or do not go");
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// What the scheduler says of its workers to who holds `secret`.
    pub fn workers(&self, secret: Option<&Path>) -> (u16, String) {
        let agent = secret.map(agent_of).unwrap_or_default();
        get(&format!("http://{}/workers", self.scheduler.address), &agent)
    }

    /// The file of the secret.
    pub fn secret(&self) -> PathBuf {
        self.dir.path().join("cluster.secret")
    }

    /// Where the executors make their folders.
    pub fn work(&self) -> PathBuf {
        self.dir.path().join("work")
    }

    /// The files that tasks have written and that are still there.
    pub fn written(&self) -> Vec<PathBuf> {
        let mut files = Vec::new();
        let mut folders = vec![self.work()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder).into_iter().flatten().map_while(Result::ok) {
                let path = entry.path();
                if path.is_dir() {
                    folders.push(path);
                } else if path.file_name().is_some_and(|name| name != "lock") {
                    files.push(path);
                }
            }
        }
        files
    }

    /// As an engine takes it.
    pub fn options(&self) -> ClusterOptions {
        ClusterOptions {
            scheduler: self.scheduler.address.clone(),
            secret: ClusterSecret::load(&self.secret()).expect("the secret"),
            partitions: 4,
            task_timeout: PATIENCE,
        }
    }

    /// `config` with its rows read by this cluster.
    pub fn reads(&self, mut config: Config) -> Config {
        config.engine.mode = EngineMode::Ballista;
        config.engine.scheduler = Some(self.scheduler.address.clone());
        config.engine.cluster_secret = Some(self.secret());
        config.engine.target_partitions = Some(4);
        config.engine.timeout_ms = 120_000;
        config
    }
}

/// The header by which a process of the cluster is known: what `docs/cluster.md` says of it, made anew.
pub fn agent_of(secret: &Path) -> String {
    let text = fs::read(secret).expect("the secret");
    let proof = blake3::derive_key("tollgate 2026 cluster request", text.trim_ascii());
    format!("tollgate-cluster/{}", blake3::Hash::from_bytes(proof).to_hex())
}

/// The status and the body of a GET with this `User-Agent`.
pub fn get(url: &str, agent: &str) -> (u16, String) {
    let client: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).proxy(None).build().into();
    let mut answer = client.get(url).header("user-agent", agent).call().expect("an answer");
    (answer.status().as_u16(), answer.body_mut().read_to_string().expect("text"))
}
