//! A tool server that takes delegations, offline.
//!
//! Responsible for showing everything that a server does with this crate and what it has to do besides. Must never be
//! put before the world as it is: it serves one connection at a time, without TLS, and asks nobody about revocations.
//!
//! ```text
//! cargo run -p portcullis-delegation --example tool_server -- \
//!     127.0.0.1:9100 https://gw.example 2026-11 root.jwk notion.mcp https://tools.example
//! curl -i -H "Authorization: Bearer $CHAIN" 127.0.0.1:9100/search
//! ```

use std::collections::HashMap;
use std::error::Error;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, SystemTime};

use portcullis_delegation::{
    Chain, Delegation, Expected, Fault, Lifetimes, PROOF_MEMORY_SECONDS, Presentation, Proof, PublicKey, Refused,
    RootKey, Scope, Verifier,
};

/// Most bytes of a request's head.
const HEAD_MAX: u64 = 32 * 1024;

/// Most proofs remembered; when as many are fresh, further ones are refused.
const PROOFS_MAX: usize = 100_000;

struct ToolServer {
    verifier: Verifier,
    /// What this server is called in `aud`.
    resource: String,
    /// What callers reach this server by, whatever `Host` says.
    public_address: String,
    /// Ids of proofs that have been used, and when each can be forgotten.
    used_proofs: HashMap<String, u64>,
}

struct Request {
    method: String,
    path: String,
    authorization: Option<String>,
    proof: Option<String>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [listen, issuer, key_id, key_file, resource, public_address] = arguments.as_slice() else {
        return Err("usage: tool_server LISTEN ISSUER KEY_ID PUBLIC_KEY_FILE RESOURCE PUBLIC_ADDRESS".into());
    };
    let key = PublicKey::from_text(&std::fs::read_to_string(key_file)?)?;
    let root = RootKey { issuer: issuer.clone(), key_id: key_id.clone(), key };
    let mut server = ToolServer {
        verifier: Verifier::new(vec![root], Lifetimes::CAPS),
        resource: resource.clone(),
        public_address: public_address.clone(),
        used_proofs: HashMap::new(),
    };
    for stream in TcpListener::bind(listen)?.incoming().flatten() {
        // A caller that goes away, or sends what is no request, concerns nobody else.
        drop(server.serve(&stream));
    }
    Ok(())
}

impl ToolServer {
    fn serve(&mut self, stream: &TcpStream) -> Result<(), Box<dyn Error>> {
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        let request = Request::read(stream)?;
        let now_seconds = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_secs();
        let (status, body) = match self.decide(&request, now_seconds) {
            Ok(delegation) => match needed_scope(&request.path) {
                Some(scope) if delegation.scopes.covers(&scope) => {
                    // Here the revocation list would be asked for each of `delegation.revocation_members()`, with 503
                    // if it is older than a few seconds.
                    ("200 OK", format!("for {} through {}\n", delegation.principal, delegation.actor))
                }
                _ => ("403 Forbidden", "insufficient_scope\n".to_owned()),
            },
            Err(refused) => {
                // The cause is for the audit log; the caller learns nothing from the answer.
                writeln!(std::io::stderr(), "refused: {} ({refused})", refused.code())?;
                ("401 Unauthorized\r\nWWW-Authenticate: Bearer, DPoP algs=\"EdDSA\"", "unauthenticated\n".to_owned())
            }
        };
        let length = body.len();
        let mut stream = stream;
        write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}")?;
        Ok(())
    }

    /// Everything that is decided about a caller before it is asked what it wants.
    fn decide(&mut self, request: &Request, now_seconds: u64) -> Result<Delegation, Refused> {
        let authorization = request.authorization.as_deref().unwrap_or_default();
        let (scheme, presented) = authorization.split_once(' ').ok_or(Fault::Malformed)?;
        let chain = Chain::parse(presented)?;
        let expected = Expected { resource: &self.resource, tenant: None };
        let checked = self.verifier.verify(&chain, &expected, now_seconds)?;
        let proof = request.proof.as_deref().map(Proof::parse).transpose()?;
        let address = format!("{}{}", self.public_address, request.path);
        let target = address.parse().map_err(|_| Fault::ProofWrongTarget)?;
        let how = match (scheme.to_ascii_lowercase().as_str(), &proof) {
            ("bearer", None) => Presentation::Bearer,
            ("dpop", Some(proof)) => Presentation::Dpop { proof, method: &request.method, target: &target },
            ("dpop", None) => return Err(Fault::ProofRequired.into()),
            _ => return Err(Fault::Malformed.into()),
        };
        let presented = checked.present(&how, now_seconds)?;
        if let Some(id) = presented.proof_id {
            self.use_once(id, now_seconds)?;
        }
        Ok(presented.delegation.as_ref().clone())
    }

    fn use_once(&mut self, proof_id: String, now_seconds: u64) -> Result<(), Refused> {
        self.used_proofs.retain(|_, until| *until >= now_seconds);
        let until = now_seconds + PROOF_MEMORY_SECONDS;
        let fits = self.used_proofs.len() < PROOFS_MAX;
        if fits && self.used_proofs.insert(proof_id, until).is_none() { Ok(()) } else { Err(Fault::ProofStale.into()) }
    }
}

/// What a caller needs to be allowed for this path.
fn needed_scope(path: &str) -> Option<Scope> {
    let tool = path.strip_prefix('/')?;
    format!("tools:call:{tool}").parse().ok()
}

impl Request {
    /// Reads a request's head; a body is not looked at.
    fn read(stream: &TcpStream) -> Result<Self, Box<dyn Error>> {
        let mut lines = BufReader::new(stream.take(HEAD_MAX)).lines();
        let first = lines.next().ok_or("no request")??;
        let mut words = first.split(' ');
        let method = words.next().ok_or("no method")?.to_owned();
        let path = words.next().ok_or("no path")?.split('?').next().unwrap_or_default().to_owned();
        let mut request = Self { method, path, authorization: None, proof: None };
        for line in lines {
            let line = line?;
            let Some((name, value)) = line.split_once(':') else { break };
            let place = match name.to_ascii_lowercase().as_str() {
                "authorization" => &mut request.authorization,
                "dpop" => &mut request.proof,
                _ => continue,
            };
            // Two of either are two stories.
            if place.replace(value.trim().to_owned()).is_some() {
                return Err("a credential stands twice".into());
            }
        }
        Ok(request)
    }
}
