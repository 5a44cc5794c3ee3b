//! The key that signs a log's checkpoints (Ed25519, RFC 8032), and the public key that checks them.
//!
//! The private key is a PKCS#8 PEM file (RFC 8410) that only its owner may read. The public one is a line of text in the
//! form of C2SP's signed notes, `NAME+ID+base64(1 ‖ public key)`, for auditors and stewards to keep.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use ed25519_dalek::pkcs8::{self, DecodePrivateKey, EncodePrivateKey, KeypairBytes};
use ed25519_dalek::{PUBLIC_KEY_LENGTH, Signature, Signer, VerifyingKey};
use rand::TryRng;
use rand::rngs::SysRng;
use sha2::{Digest, Sha256};
use thiserror::Error;

use super::atomic_file;
use super::encoding::{decode, encode};

/// The type of Ed25519 signatures in C2SP's registry.
const ED25519: u8 = 1;

/// The longest name of a key, in bytes.
pub const MAX_NAME_BYTES: usize = 255;

/// The longest key file that is read, in bytes. A key of ours has about 120.
const MAX_FILE_BYTES: u64 = 16 * 1024;

/// Why there is no key. No message holds any part of a private key.
#[derive(Debug, Error)]
pub enum KeyError {
    /// The name cannot stand in a signature line.
    #[error(
        "a key's name has 1 to {MAX_NAME_BYTES} bytes and no spaces, `+` or control characters, such as \
         `gateway.example/log`"
    )]
    Name,
    /// A public key that does not read.
    #[error("not a public key of the form NAME+ID+BASE64: {0}")]
    Verifier(&'static str),
    /// Somebody else could read the private key.
    #[error(
        "the signing key {} can be read or written by others (mode {mode:03o}); make it yours alone with `chmod 600`, and \
         replace it if somebody may have read it", .path.display()
    )]
    NotPrivate {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file holds no Ed25519 private key.
    #[error("{} is not an Ed25519 private key in PKCS#8 PEM (it begins with `-----BEGIN PRIVATE KEY-----`)", .path.display())]
    NotAKey {
        /// The file.
        path: PathBuf,
    },
    /// The private key is gone, and its public key is there.
    #[error(
        "the signing key {} is missing, and its public key {} is there; restore the key from its backup, or move the \
         public key away to begin a log under a new key", .path.display(), .public.display()
    )]
    Lost {
        /// The private key's file.
        path: PathBuf,
        /// The public key's.
        public: PathBuf,
    },
    /// The public key beside the private one is another.
    #[error(
        "{} does not hold the public key of {} under the name that is configured; put the name or the key back, or move \
         the public key away to begin a log under another", .public.display(), .path.display()
    )]
    Differs {
        /// The private key's file.
        path: PathBuf,
        /// The public key's.
        public: PathBuf,
    },
    /// There are no random bytes to make a key from.
    #[error("the operating system's random number generator is not available, so no key can be made")]
    NoEntropy,
    /// The key could not be encoded.
    #[error("the key cannot be written in PKCS#8: {0}")]
    Encoding(pkcs8::Error),
    /// A file could not be read or written.
    #[error("cannot read or write {}: {source}", .path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// Whether `name` may name a key: C2SP's rule (no spaces, no `+`), without control characters, of a sensible length.
pub(super) fn is_name(name: &str) -> bool {
    (1..=MAX_NAME_BYTES).contains(&name.len()) && !name.chars().any(|c| c.is_whitespace() || c.is_control() || c == '+')
}

/// A public key under its name: what an auditor holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifierKey {
    name: String,
    key: VerifyingKey,
}

impl VerifierKey {
    /// The name, which is also the origin of the log.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The identifier in signature lines: the first four bytes of SHA-256 of the name, a line break, the type 1 and the
    /// public key, as a big-endian number. It finds the key and proves nothing.
    #[must_use]
    pub fn id(&self) -> u32 {
        let hash = Sha256::new()
            .chain_update(self.name.as_bytes())
            .chain_update([b'\n', ED25519])
            .chain_update(self.key.as_bytes())
            .finalize();
        let [a, b, c, d, ..] = <[u8; 32]>::from(hash);
        u32::from_be_bytes([a, b, c, d])
    }

    /// Whether `signature` is this key's over `message`, by the strict rules: one message has few signatures, and weak
    /// public keys have none.
    pub(super) fn has_signed(&self, message: &[u8], signature: &[u8]) -> bool {
        Signature::from_slice(signature).is_ok_and(|signature| self.key.verify_strict(message, &signature).is_ok())
    }
}

impl fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut key = vec![ED25519];
        key.extend(self.key.as_bytes());
        write!(f, "{}+{:08x}+{}", self.name, self.id(), encode(&key))
    }
}

impl FromStr for VerifierKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let (name, rest) = text.split_once('+').ok_or(KeyError::Verifier("there is no `+`"))?;
        let (id, key) = rest.split_once('+').ok_or(KeyError::Verifier("there is no second `+`"))?;
        if !is_name(name) {
            return Err(KeyError::Name);
        }
        let key = decode(key).ok_or(KeyError::Verifier("what follows the second `+` is not base64"))?;
        let (&kind, key) = key.split_first().ok_or(KeyError::Verifier("the key is empty"))?;
        if kind != ED25519 {
            return Err(KeyError::Verifier("it is not an Ed25519 key"));
        }
        let key: [u8; PUBLIC_KEY_LENGTH] =
            key.try_into().map_err(|_| KeyError::Verifier("an Ed25519 key has 32 bytes"))?;
        let key = VerifyingKey::from_bytes(&key).map_err(|_| KeyError::Verifier("it is not a point of the curve"))?;
        if key.is_weak() {
            return Err(KeyError::Verifier("it is a weak key, with which anything is signed"));
        }
        let key = Self { name: name.to_owned(), key };
        // One key has one text: upper-case or shortened identifiers are refused with wrong ones.
        if format!("{:08x}", key.id()) != id {
            return Err(KeyError::Verifier("its identifier does not fit its name and key; a character may be missing"));
        }
        Ok(key)
    }
}

/// A private key under its name: what a gateway holds. It can be neither cloned nor printed, and its memory is cleared
/// when it goes.
pub struct SigningKey {
    verifier: VerifierKey,
    key: ed25519_dalek::SigningKey,
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey").field("verifier", &self.verifier).finish_non_exhaustive()
    }
}

impl SigningKey {
    fn new(key: ed25519_dalek::SigningKey, name: &str) -> Result<Self, KeyError> {
        if !is_name(name) {
            return Err(KeyError::Name);
        }
        Ok(Self { verifier: VerifierKey { name: name.to_owned(), key: key.verifying_key() }, key })
    }

    /// A new key, of the operating system's randomness.
    ///
    /// # Errors
    /// When `name` cannot name a key, or when there is no randomness.
    pub fn generate(name: &str) -> Result<Self, KeyError> {
        let mut seed = [0; ed25519_dalek::SECRET_KEY_LENGTH];
        SysRng.try_fill_bytes(&mut seed).map_err(|_| KeyError::NoEntropy)?;
        Self::from_seed(&seed, name)
    }

    /// The key that RFC 8032 makes of `seed`, its private key.
    ///
    /// # Errors
    /// When `name` cannot name a key.
    pub fn from_seed(seed: &[u8; ed25519_dalek::SECRET_KEY_LENGTH], name: &str) -> Result<Self, KeyError> {
        Self::new(ed25519_dalek::SigningKey::from_bytes(seed), name)
    }

    /// The name, which is also the origin of the log.
    #[must_use]
    pub fn name(&self) -> &str {
        self.verifier.name()
    }

    /// The public key.
    #[must_use]
    pub const fn verifier(&self) -> &VerifierKey {
        &self.verifier
    }

    pub(super) fn sign(&self, message: &[u8]) -> [u8; Signature::BYTE_SIZE] {
        self.key.sign(message).to_bytes()
    }

    /// The key in the file at `path`, under `name`. Where there is none it is made, with mode 0600, whole or not at all. The
    /// public key stands beside it, in `path` with `.pub` appended, and is written if it is missing.
    ///
    /// # Errors
    /// When others could read the file, when it holds no key, or when the public key beside it is another: a log does not
    /// change its key or its name unnoticed. Also when the private key is gone and the public one is not.
    pub fn load_or_create(path: &Path, name: &str) -> Result<Self, KeyError> {
        let public = public_path(path);
        let at = |path: &Path| {
            let path = path.to_owned();
            move |source| KeyError::Io { path, source }
        };
        // Looked at first: whoever makes a key writes the private one before the public one.
        let had_public = public.try_exists().map_err(at(&public))?;
        let key = match File::open(path) {
            Ok(file) => Self::read(file, path, name)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if had_public {
                    return Err(KeyError::Lost { path: path.to_owned(), public });
                }
                let key = Self::generate(name)?;
                // Of several gateways that start at once, one makes the key, and the others read it.
                if atomic_file::create(path, key.to_pem()?.as_bytes()).map_err(at(path))? {
                    key
                } else {
                    Self::read(File::open(path).map_err(at(path))?, path, name)?
                }
            }
            Err(error) => return Err(at(path)(error)),
        };
        let line = format!("{}\n", key.verifier);
        if !atomic_file::create(&public, line.as_bytes()).map_err(at(&public))? {
            let mut there = Vec::new();
            let file = File::open(&public).map_err(at(&public))?;
            file.take(MAX_FILE_BYTES).read_to_end(&mut there).map_err(at(&public))?;
            if there != line.as_bytes() {
                return Err(KeyError::Differs { path: path.to_owned(), public });
            }
        }
        Ok(key)
    }

    /// Reads the key out of an open file, so that the file whose mode is looked at is the one that is read.
    fn read(file: File, path: &Path, name: &str) -> Result<Self, KeyError> {
        let io = |source| KeyError::Io { path: path.to_owned(), source };
        let metadata = file.metadata().map_err(io)?;
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = metadata.permissions().mode() & 0o777;
            if mode & 0o077 != 0 {
                return Err(KeyError::NotPrivate { path: path.to_owned(), mode });
            }
        }
        let not_a_key = || KeyError::NotAKey { path: path.to_owned() };
        if !metadata.is_file() || metadata.len() > MAX_FILE_BYTES {
            return Err(not_a_key());
        }
        let mut bytes = Vec::new();
        file.take(MAX_FILE_BYTES).read_to_end(&mut bytes).map_err(io)?;
        let pem = String::from_utf8(bytes).map_err(|_| not_a_key())?;
        Self::new(ed25519_dalek::SigningKey::from_pkcs8_pem(&pem).map_err(|_| not_a_key())?, name)
    }

    /// The key as PKCS#8 version 1, without the public key, which is what every tool reads.
    fn to_pem(&self) -> Result<impl std::ops::Deref<Target = String> + use<>, KeyError> {
        KeypairBytes { secret_key: self.key.to_bytes(), public_key: None }
            .to_pkcs8_pem(pkcs8::spki::der::pem::LineEnding::LF)
            .map_err(KeyError::Encoding)
    }
}

/// Where the public key stands: `path` with `.pub` appended.
#[must_use]
pub fn public_path(path: &Path) -> PathBuf {
    let mut public = path.as_os_str().to_owned();
    public.push(".pub");
    public.into()
}
