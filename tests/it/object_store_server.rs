//! An S3 server for one test: moto, in a process of its own, behind a relay that a test may let fail.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tollgate::stores::StoreSettings;

/// The bucket of every test.
pub const BUCKET: &str = "data";

/// The key with which a gateway asks, and its secret.
pub const KEYS: [&str; 2] = ["AKIDTEST", "hush-hush"];

/// The server, with one empty bucket. It ends with the value.
pub struct ObjectStoreServer {
    process: Child,
    address: String,
    relay: Relay,
}

impl ObjectStoreServer {
    pub fn start() -> Self {
        let python = std::env::var("TOLLGATE_ORACLE_PYTHON").unwrap_or_else(|_| {
            let made = Command::new(crate::fixture::repository().join("tests/oracle/python")).output().expect("bash");
            assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
            String::from_utf8(made.stdout).expect("UTF-8").trim().to_owned()
        });
        // A port that is free now; it is taken a moment later.
        let port = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a port").port();
        let address = format!("127.0.0.1:{port}");
        let process = Command::new(python)
            .args(["-m", "moto.server", "-H", "127.0.0.1", "-p", &port.to_string()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("moto");
        let patience = Instant::now() + Duration::from_mins(1);
        while TcpStream::connect(&address).is_err() {
            assert!(Instant::now() < patience, "moto does not start");
            std::thread::sleep(Duration::from_millis(50));
        }
        let server = Self { process, relay: Relay::to(&address), address };
        server.send("PUT", &format!("/{BUCKET}"), &[]);
        server
    }

    /// A request to the server itself, past the relay.
    fn send(&self, method: &str, path: &str, body: &[u8]) -> Vec<u8> {
        let agent: ureq::Agent = ureq::Agent::config_builder().proxy(None).build().into();
        let request = ureq::http::Request::builder().method(method).uri(format!("http://{}{path}", self.address));
        // Whoever signs is not looked at, but that one does.
        let request =
            request.header("authorization", "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/s3/aws4_request");
        let mut response = agent.run(request.body(body.to_vec()).expect("a request")).expect("a response");
        response.body_mut().with_config().limit(1 << 30).read_to_vec().expect("a body")
    }

    /// Puts the file `from` under `key`.
    pub fn put(&self, key: &str, from: &Path) {
        put(&self.address, key, &std::fs::read(from).expect("a file"));
    }

    /// What puts `bytes` under `key`, for a thread of its own.
    pub fn putting(&self, key: &str, bytes: Vec<u8>) -> impl FnOnce() + Send + 'static {
        let (address, key) = (self.address.clone(), key.to_owned());
        move || put(&address, &key, &bytes)
    }

    /// The keys that there are.
    pub fn keys(&self) -> Vec<String> {
        let listed = String::from_utf8(self.send("GET", &format!("/{BUCKET}?list-type=2"), &[])).expect("UTF-8");
        listed.split("<Key>").skip(1).filter_map(|rest| Some(rest.split_once("</Key>")?.0.to_owned())).collect()
    }

    /// From now on the keys of whoever asks are looked at, and nobody's are known.
    pub fn deny(&self) {
        self.send("POST", "/moto-api/reset-auth", b"0");
    }

    pub fn relay(&self) -> &Relay {
        &self.relay
    }

    /// How a gateway reaches it, with keys in a file in `dir`.
    pub fn settings(&self, dir: &Path) -> StoreSettings {
        let keys = dir.join("keys");
        let [id, secret] = KEYS;
        std::fs::write(&keys, format!("[default]\naws_access_key_id = {id}\naws_secret_access_key = {secret}\n"))
            .expect("written");
        StoreSettings {
            endpoint: Some(format!("http://{}", self.relay.address)),
            allow_http: true,
            credentials_file: Some(keys),
            max_retries: 3,
            retry_timeout_ms: 5_000,
            ..StoreSettings::default()
        }
    }

    /// The same as a section of a configuration file.
    pub fn section(&self, dir: &Path) -> String {
        let keys: PathBuf = self.settings(dir).credentials_file.expect("a file");
        format!(
            "[stores.{BUCKET}]\nendpoint = \"http://{}\"\nallow_http = true\ncredentials_file = {:?}\n",
            self.relay.address,
            keys.display().to_string()
        )
    }
}

fn put(address: &str, key: &str, bytes: &[u8]) {
    let agent: ureq::Agent = ureq::Agent::config_builder().proxy(None).build().into();
    let request = ureq::http::Request::builder().method("PUT").uri(format!("http://{address}/{BUCKET}/{key}"));
    let request =
        request.header("authorization", "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/s3/aws4_request");
    agent.run(request.body(bytes.to_vec()).expect("a request")).expect("stored");
}

impl Drop for ObjectStoreServer {
    fn drop(&mut self) {
        // It is this test's own, and may be gone.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

type Hook = Box<dyn FnOnce() + Send>;

/// Passes bytes on, unless it was told otherwise.
pub struct Relay {
    pub address: String,
    told: Arc<Told>,
}

#[derive(Default)]
struct Told {
    /// How many connections are still to be closed as soon as they come.
    drops: AtomicUsize,
    dropped: AtomicUsize,
    /// What is done before the first request that begins so is passed on.
    on_request: Mutex<Option<(String, Hook)>>,
    open: Mutex<Vec<TcpStream>>,
}

impl Relay {
    fn to(server: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let (told, server) = (Arc::new(Told::default()), server.to_owned());
        let relayed = Arc::clone(&told);
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let less = |left: usize| left.checked_sub(1);
                if relayed.drops.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less).is_ok() {
                    relayed.dropped.fetch_add(1, Ordering::SeqCst);
                    continue;
                }
                let Ok(server) = TcpStream::connect(&server) else { continue };
                let mut open = relayed.open.lock().expect("whole");
                open.extend([&client, &server].map(|stream| stream.try_clone().expect("a stream")));
                drop(open);
                let (mut from_server, mut to_client) =
                    (server.try_clone().expect("a stream"), client.try_clone().expect("a stream"));
                std::thread::spawn(move || {
                    let _ = std::io::copy(&mut from_server, &mut to_client);
                    let _ = to_client.shutdown(Shutdown::Both);
                });
                let told = Arc::clone(&relayed);
                std::thread::spawn(move || {
                    pass(&told, client, &server);
                    let _ = server.shutdown(Shutdown::Both);
                });
            }
        });
        Self { address, told }
    }

    /// Closes the next `connections` as soon as they come.
    pub fn drop_next(&self, connections: usize) {
        self.told.drops.store(connections, Ordering::SeqCst);
    }

    /// How many it has closed so.
    pub fn dropped(&self) -> usize {
        self.told.dropped.load(Ordering::SeqCst)
    }

    /// Does `hook` before the first request is passed on that begins with `beginning`.
    pub fn on_request(&self, beginning: &str, hook: impl FnOnce() + Send + 'static) {
        *self.told.on_request.lock().expect("whole") = Some((beginning.to_owned(), Box::new(hook)));
    }

    /// What lets the store be gone: all connections end, and none that comes is taken.
    pub fn dying(&self) -> impl FnOnce() + Send + 'static {
        let told = Arc::clone(&self.told);
        move || {
            told.drops.store(usize::MAX, Ordering::SeqCst);
            for stream in told.open.lock().expect("whole").drain(..) {
                let _ = stream.shutdown(Shutdown::Both);
            }
        }
    }

    /// Whether what was to be done before a request has been done.
    pub fn is_done(&self) -> bool {
        self.told.on_request.lock().expect("whole").is_none()
    }
}

/// Passes on what the client says. A request's first line comes in one piece, since it is short.
fn pass(told: &Told, mut client: TcpStream, mut server: &TcpStream) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(read @ 1..) = client.read(&mut buffer) {
        let mut waiting = told.on_request.lock().expect("whole");
        let begins = |(beginning, _): &(String, Hook)| buffer[..read].starts_with(beginning.as_bytes());
        let hook = if waiting.as_ref().is_some_and(begins) { waiting.take() } else { None };
        drop(waiting);
        if let Some((_, hook)) = hook {
            hook();
        }
        if server.write_all(&buffer[..read]).is_err() {
            break;
        }
    }
}
