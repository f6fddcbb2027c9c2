//! What a verification costs.
//!
//! Responsible for the least time of many, which is what the work takes when nothing else is in the way. Must never
//! judge: there is no limit it compares with.
//!
//! ```text
//! cargo run --release -p portcullis-delegation --example verify_cost
//! ```

use std::error::Error;
use std::io::Write;
use std::time::Duration;
#[expect(clippy::disallowed_types, reason = "there is no runtime here whose clock could be used")]
use std::time::Instant;

use portcullis_delegation::{
    Chain, Expected, Grant, Lifetimes, Narrowing, Presentation, Proof, RootKey, SecretKey, TargetUri, Verifier,
    attenuate, mint, prove,
};

const NOW: u64 = 1_800_000_000;
const RESOURCE: &str = "https://gw.example/t/acme/p/p1";
const ROUNDS: usize = 5_000;

fn main() -> Result<(), Box<dyn Error>> {
    let keys = [SecretKey::generate()?, SecretKey::generate()?, SecretKey::generate()?, SecretKey::generate()?];
    let root = RootKey { issuer: "https://gw.example".into(), key_id: "1".into(), key: keys[0].public_key() };
    let verifier = Verifier::new(vec![root], Lifetimes::CAPS);
    let expected = Expected { resource: RESOURCE, tenant: Some("acme/p1") };
    let mut out = std::io::stdout();
    for hops in [1, 3] {
        let chain = chain(&keys, hops, false)?;
        let presented = chain.presented();
        let whole = least(|| {
            let chain = Chain::parse(presented).ok()?;
            verifier.verify(&chain, &expected, NOW).ok()?.present(&Presentation::Bearer, NOW).ok()
        })?;
        let reading = least(|| Chain::parse(presented).ok())?;
        writeln!(out, "{hops} tokens, {} bytes: verify {whole:.1?}, of which read {reading:.1?}", presented.len())?;
    }
    let chain = chain(&keys, 3, true)?;
    let target: TargetUri = "https://gw.example/v1/tasks".parse()?;
    let text = prove(&keys[3], &chain, "POST", &target, NOW)?;
    let checked = verifier.verify(&chain, &expected, NOW)?;
    let proof = least(|| {
        let proof = Proof::parse(&text).ok()?;
        checked.present(&Presentation::Dpop { proof: &proof, method: "POST", target: &target }, NOW).ok()
    })?;
    let kept = verifier.verify(&self::chain(&keys, 3, false)?, &expected, NOW)?;
    let again = least(|| kept.present(&Presentation::Bearer, NOW).ok())?;
    let spliced_chain = spliced(&keys)?;
    let refused = least(|| {
        let chain = Chain::parse(&spliced_chain).ok()?;
        verifier.verify(&chain, &expected, NOW).err()
    })?;
    writeln!(
        out,
        "proof of possession: {proof:.1?}; verdict that was kept: {again:.1?}; spliced, refused: {refused:.1?}"
    )?;
    Ok(())
}

/// The least time that this took; an error if it ever came to nothing.
fn least<T>(mut work: impl FnMut() -> Option<T>) -> Result<Duration, Box<dyn Error>> {
    let mut least = Duration::MAX;
    for _ in 0..ROUNDS {
        #[expect(clippy::disallowed_types, reason = "there is no runtime here whose clock could be used")]
        let start = Instant::now();
        let result = std::hint::black_box(work());
        least = least.min(start.elapsed());
        result.ok_or("what was measured failed")?;
    }
    Ok(least)
}

fn chain(keys: &[SecretKey; 4], hops: usize, bound: bool) -> Result<Chain, Box<dyn Error>> {
    let holder = |hop: usize| (bound || hop + 1 < hops).then(|| keys[hop + 1].public_key());
    let grant = Grant {
        issuer: "https://gw.example".into(),
        principal: "user-123".into(),
        tenant: "acme/p1".into(),
        session: "5f2a".into(),
        user_type: None,
        client_id: "agent-0".into(),
        audience: vec![RESOURCE.into()],
        scopes: "tools:call:* quota:read".parse()?,
        constraints: Vec::new(),
        lifetime_seconds: None,
        max_depth: None,
        holder: holder(0),
        reason: "to look something up".into(),
    };
    let mut chain = mint(grant, &keys[0], "1", &Lifetimes::CAPS, NOW)?;
    for (hop, key) in keys.iter().enumerate().take(hops).skip(1) {
        let narrowing =
            Narrowing { holder: holder(hop), ..Narrowing::of_all(format!("agent-{hop}"), "to look something up") };
        chain = attenuate(&chain, key, narrowing, NOW)?;
    }
    Ok(chain)
}

/// Three tokens of which the last stands under a root that it was not issued under.
fn spliced(keys: &[SecretKey; 4]) -> Result<String, Box<dyn Error>> {
    let [own, other] = [chain(keys, 3, false)?, chain(keys, 3, false)?];
    let tokens = [&own.tokens()[0], &own.tokens()[1], &other.tokens()[2]];
    Ok(tokens.map(portcullis_delegation::Token::compact).join("~"))
}
