//! For tests: keys made on the spot, tokens signed with them, and a server on loopback that publishes what it is told.
//!
//! Responsible for tokens that are good but for the one thing a test changes. Must never be part of a release: it signs
//! whatever it is given.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, RsaKeyPair};
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey};
use portcullis_config::UserType;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::AbortHandle;

use crate::identity::fetch_record::FetchWitness;
use crate::identity::fetch_record::tests::Told;
use crate::identity::jwt::{Issuer, Place};
use crate::identity::user_type::UserTypes;

/// The time at which the tests' tokens are looked at, seconds since the epoch.
pub(crate) const NOW: u64 = 1_800_000_000;

/// [`NOW`], and so many seconds.
pub(crate) fn now(later: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(NOW + later)
}

/// How many cases a fuzz test tries: `PORTCULLIS_FUZZ_CASES`, or few.
pub(crate) fn fuzz_cases() -> u32 {
    std::env::var("PORTCULLIS_FUZZ_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(256)
}

/// Who is told of forbidden fetches and passes nothing on.
pub(crate) fn nobody() -> Arc<dyn FetchWitness> {
    Arc::<Told>::default()
}

/// An issuer that believes RS256 for the audience `gateway`, with groups in `cognito:groups`.
pub(crate) fn issuer(name: &str) -> Issuer {
    let user_type = |name: &str| UserType::new(name).unwrap();
    let by_group = [("admin".to_owned(), user_type("privileged")), ("paid".to_owned(), user_type("paid"))].into();
    Issuer {
        issuer: name.to_owned(),
        jwks_url: None,
        audiences: vec!["gateway".to_owned()],
        client_ids: Vec::new(),
        token_use: Vec::new(),
        algorithms: vec![Algorithm::RS256],
        types: Vec::new(),
        groups_claim: vec!["cognito:groups".to_owned()],
        user_types: UserTypes::new(by_group, user_type("registered")),
        scopes_claim: None,
        principal_prefix: "acme:".to_owned(),
        place: Place::Fixed(None),
        max_age_seconds: None,
    }
}

/// Claims that make a caller of [`issuer`].
pub(crate) fn claims(issuer: &str) -> Value {
    json!({
        "iss": issuer, "aud": "gateway", "sub": "ada", "iat": NOW - 60, "exp": NOW + 3600, "cognito:groups": ["paid"],
    })
}

/// A key pair with a name.
pub(crate) struct TestKey {
    kid: String,
    algorithm: Algorithm,
    private: EncodingKey,
    public: Value,
    pem: String,
}

impl TestKey {
    /// An RSA key of 2048 bits.
    pub(crate) fn rsa(kid: &str) -> Self {
        let pair = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
        let public = pair.public_key();
        let number = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let modulus = number(public.modulus().big_endian_without_leading_zero());
        let exponent = number(public.exponent().big_endian_without_leading_zero());
        let der: aws_lc_rs::encoding::PublicKeyX509Der<'_> = public.as_der().unwrap();
        let pem = pem(der.as_ref());
        let pkcs8: aws_lc_rs::encoding::Pkcs8V1Der<'_> = pair.as_der().unwrap();
        Self {
            kid: kid.to_owned(),
            algorithm: Algorithm::RS256,
            private: EncodingKey::from_rsa_der(pkcs1(pkcs8.as_ref())),
            public: json!({ "kty": "RSA", "kid": kid, "use": "sig", "n": modulus, "e": exponent }),
            pem,
        }
    }

    /// An elliptic key on P-256.
    pub(crate) fn es256(kid: &str) -> Self {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        let point = pair.public_key().as_ref().to_vec();
        let coordinate = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let der: aws_lc_rs::encoding::PublicKeyX509Der<'_> = pair.public_key().as_der().unwrap();
        Self {
            kid: kid.to_owned(),
            algorithm: Algorithm::ES256,
            private: EncodingKey::from_ec_der(pair.to_pkcs8v1().unwrap().as_ref()),
            public: json!({
                "kty": "EC", "crv": "P-256", "kid": kid,
                "x": coordinate(&point[1..33]), "y": coordinate(&point[33..]),
            }),
            pem: pem(der.as_ref()),
        }
    }

    /// The public key, as published.
    pub(crate) fn jwk(&self) -> Value {
        self.public.clone()
    }

    /// The public key as PEM.
    pub(crate) fn pem(&self) -> &str {
        &self.pem
    }

    /// A token with these claims, signed.
    pub(crate) fn token(&self, claims: &Value) -> String {
        self.token_with_head(&json!({ "alg": self.algorithm, "kid": self.kid, "typ": "JWT" }), claims)
    }

    /// A token with this header, signed with this key whatever the header says.
    pub(crate) fn token_with_head(&self, head: &Value, claims: &Value) -> String {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        self.sign(&format!("{}.{}", part(head), part(claims)))
    }

    /// This text, a dot, and its signature.
    pub(crate) fn sign(&self, signed: &str) -> String {
        let signature = jsonwebtoken::crypto::sign(signed.as_bytes(), &self.private, self.algorithm).unwrap();
        format!("{signed}.{signature}")
    }
}

fn pem(der: &[u8]) -> String {
    format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", STANDARD.encode(der))
}

/// The RSA key inside a PKCS#8 one: its last member, an OCTET STRING with a length of two bytes (RFC 5958 §2).
fn pkcs1(pkcs8: &[u8]) -> &[u8] {
    let begins = pkcs8.windows(2).enumerate().skip(4).find(|(_, tag)| tag == &[0x04, 0x82]).unwrap().0;
    &pkcs8[begins + 4..]
}

/// A key set with these keys.
pub(crate) fn key_set(keys: &[&TestKey]) -> Answer {
    let keys: Vec<Value> = keys.iter().map(|key| key.jwk()).collect();
    Answer::ok(json!({ "keys": keys }).to_string().into_bytes())
}

/// What a [`TestServer`] answers.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    status: u16,
    location: Option<String>,
    body: Vec<u8>,
}

impl Answer {
    pub(crate) fn ok(body: Vec<u8>) -> Self {
        Self { status: 200, location: None, body }
    }

    pub(crate) fn status(status: u16) -> Self {
        Self { status, location: None, body: Vec::new() }
    }

    pub(crate) fn redirect(location: &str) -> Self {
        Self { status: 302, location: Some(location.to_owned()), body: Vec::new() }
    }
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap();
        let mut response = (status, self.body).into_response();
        if let Some(location) = self.location {
            response.headers_mut().insert(header::LOCATION, location.parse().unwrap());
        }
        response
    }
}

#[derive(Debug, Default)]
struct Pages {
    answers: HashMap<String, Answer>,
    asked: HashMap<String, usize>,
}

/// A server on a free port of 127.0.0.1; 404 for what it has not been told. Ends when dropped.
#[derive(Debug)]
pub(crate) struct TestServer {
    base: String,
    pages: Arc<Mutex<Pages>>,
    serving: AbortHandle,
}

impl TestServer {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let pages = Arc::new(Mutex::new(Pages::default()));
        let router = Router::new().fallback(serve).with_state(pages.clone());
        let serving = tokio::spawn(async move { axum::serve(listener, router).await }).abort_handle();
        Self { base, pages, serving }
    }

    /// From now on this path is answered so.
    pub(crate) fn answer(&self, path: &str, answer: Answer) {
        self.pages.lock().unwrap().answers.insert(path.to_owned(), answer);
    }

    /// How often this path has been asked for.
    pub(crate) fn asked(&self, path: &str) -> usize {
        self.pages.lock().unwrap().asked.get(path).copied().unwrap_or_default()
    }

    /// How often anything has been asked for.
    pub(crate) fn asked_at_all(&self) -> usize {
        self.pages.lock().unwrap().asked.values().sum()
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn serve(State(pages): State<Arc<Mutex<Pages>>>, uri: Uri) -> Answer {
    let mut pages = pages.lock().unwrap();
    *pages.asked.entry(uri.path().to_owned()).or_default() += 1;
    pages.answers.get(uri.path()).cloned().unwrap_or(Answer::status(404))
}
