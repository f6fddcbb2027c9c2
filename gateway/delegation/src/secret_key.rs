//! Secret keys: made, kept in files, used to sign.
//!
//! Responsible for a secret leaving memory only into a file that nobody else can read. Must never show one: neither its
//! debug form nor an error contains a byte of it, and it is wiped when it is dropped.

use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;

use ed25519_dalek::pkcs8::{DecodePrivateKey, EncodePrivateKey, spki::der::pem::LineEnding};
use ed25519_dalek::{Signer, SigningKey};
use rand::TryRng as _;
use rand::rngs::SysRng;
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::key::{KeyError, PublicKey};
use crate::strict;

/// An Ed25519 key pair.
#[derive(Clone)]
pub struct SecretKey(SigningKey);

/// RFC 8037: `d` is the secret, `x` the public key that belongs to it.
#[derive(Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
#[serde(deny_unknown_fields)]
struct SecretJwk {
    kty: String,
    crv: String,
    x: String,
    d: String,
}

impl SecretKey {
    /// A new key from the operating system's randomness.
    pub fn generate() -> Result<Self, KeyError> {
        let mut seed = Zeroizing::new([0; 32]);
        SysRng.try_fill_bytes(seed.as_mut_slice()).map_err(|_| KeyError::NoRandomness)?;
        Ok(Self::from_seed(&seed))
    }

    /// The key of this seed (RFC 8032), which must come from a good source of randomness.
    #[must_use]
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self(SigningKey::from_bytes(seed))
    }

    /// From the text of a file: a JWK with `d`, or PKCS#8 PEM (`PRIVATE KEY`).
    pub fn from_text(text: &str) -> Result<Self, KeyError> {
        let text = text.trim();
        if !text.starts_with('{') {
            return SigningKey::from_pkcs8_pem(text).map(Self).map_err(|_| KeyError::Malformed);
        }
        let jwk: SecretJwk = strict::from_json(text.as_bytes()).ok_or(KeyError::Malformed)?;
        let seed = Zeroizing::new(strict::decode_exactly::<32>(&jwk.d).ok_or(KeyError::Malformed)?);
        let key = Self::from_seed(&seed);
        let own = key.public_key().to_jwk();
        if own.kty == jwk.kty && own.crv == jwk.crv && own.x == jwk.x { Ok(key) } else { Err(KeyError::Malformed) }
    }

    /// From a file, in either form.
    pub fn read_file(path: &Path) -> Result<Self, KeyError> {
        Self::from_text(&Zeroizing::new(fs::read_to_string(path)?))
    }

    /// Into a new file that only its owner can read, as a JWK if its name ends in `.jwk` or `.json`, else as PKCS#8
    /// PEM. A file that is already there is an error: a key is never overwritten.
    pub fn write_file(&self, path: &Path) -> Result<(), KeyError> {
        let as_jwk = path.extension().is_some_and(|ending| ending == "jwk" || ending == "json");
        let text = if as_jwk { self.to_jwk_text()? } else { self.to_pem()? };
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(path)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        Ok(())
    }

    /// As PKCS#8 PEM. Wiped when dropped.
    pub fn to_pem(&self) -> Result<Zeroizing<String>, KeyError> {
        self.0.to_pkcs8_pem(LineEnding::LF).map_err(|_| KeyError::Malformed)
    }

    /// As a JWK with `d`. Wiped when dropped.
    pub fn to_jwk_text(&self) -> Result<Zeroizing<String>, KeyError> {
        let public = self.public_key().to_jwk();
        let d = strict::encode(self.0.as_bytes());
        let jwk = SecretJwk { kty: public.kty, crv: public.crv, x: public.x, d };
        serde_json::to_string(&jwk).map(Zeroizing::new).map_err(|_| KeyError::Malformed)
    }

    /// The public half.
    #[must_use]
    pub fn public_key(&self) -> PublicKey {
        PublicKey::of(self.0.verifying_key())
    }

    /// The signature of these bytes.
    pub(crate) fn sign(&self, bytes: &[u8]) -> [u8; 64] {
        self.0.sign(bytes).to_bytes()
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "SecretKey(*** of {})", self.public_key().thumbprint())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 8037, appendix A.1.
    const SECRET: &str = r#"{"kty":"OKP","crv":"Ed25519","d":"nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A",
        "x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;

    #[test]
    fn the_key_of_the_rfc_signs_as_in_the_rfc() {
        let key = SecretKey::from_text(SECRET).unwrap();
        let signing_input = b"eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc";
        let signature = "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg";
        assert_eq!(strict::encode(&key.sign(signing_input)), signature);
        assert!(key.public_key().has_signed(signing_input, &strict::decode_exactly(signature).unwrap()));
    }

    #[test]
    fn a_key_survives_its_files_and_is_never_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let key = SecretKey::generate().unwrap();
        for name in ["holder.pem", "holder.jwk"] {
            let path = folder.path().join(name);
            key.write_file(&path).unwrap();
            assert_eq!(SecretKey::read_file(&path).unwrap().public_key(), key.public_key());
            assert!(matches!(key.write_file(&path), Err(KeyError::File(_))));
            #[cfg(unix)]
            {
                use std::os::unix::fs::PermissionsExt;
                assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
            }
        }
        assert!(fs::read_to_string(folder.path().join("holder.jwk")).unwrap().starts_with('{'));
    }

    #[test]
    fn a_secret_is_not_shown() {
        let key = SecretKey::from_text(SECRET).unwrap();
        let shown = format!("{key:?}");
        assert_eq!(shown, "SecretKey(*** of kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k)");
    }

    #[test]
    fn a_public_half_of_another_key_is_refused() {
        let other = SECRET.replace("11qYAY", "21qYAY");
        assert!(matches!(SecretKey::from_text(&other), Err(KeyError::Malformed)));
        assert!(matches!(SecretKey::from_text("-----BEGIN PRIVATE KEY-----"), Err(KeyError::Malformed)));
    }
}
