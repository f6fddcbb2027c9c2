//! A token's parts, before anything in it is believed (RFC 7515 §3.1, §4).
//!
//! Responsible for refusing what a library would pass over in silence: members that change what a signature means,
//! keys that a token brings along, a member given twice. Must never panic, whatever bytes come: they are a stranger's.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::Algorithm;
use portcullis_config::from_json;
use serde_json::Value;

use crate::identity::Unproven;
use crate::identity::jwk::MAX_KID;
use crate::identity::jwt::Issuer;

/// Longest token, bytes.
pub(super) const MAX_TOKEN: usize = 8 * 1024;

/// Header members that no token for this gateway has: extensions it would have to understand (`crit`, `b64`), keys
/// beside the issuer's own (`jku`, `jwk`, `x5u`, `x5c`), and forms that are not a signed one (`zip`, `enc`, `cty`).
const REFUSED_MEMBERS: [&str; 9] = ["crit", "b64", "jku", "jwk", "x5u", "x5c", "zip", "enc", "cty"];

/// A token in its three parts.
#[derive(Debug)]
pub(super) struct Compact<'a> {
    head: Value,
    pub(super) claims: Value,
    /// What the signature is of.
    pub(super) signed: &'a [u8],
    /// Base64url, as it stands.
    pub(super) signature: &'a str,
}

impl<'a> Compact<'a> {
    /// The parts of this token; nothing of them is proved.
    pub(super) fn parse(token: &'a str) -> Result<Self, Unproven> {
        let malformed = Unproven::because("malformed_token");
        if token.len() > MAX_TOKEN || !token.is_ascii() {
            return Err(malformed);
        }
        let (signed, signature) = token.rsplit_once('.').ok_or(malformed)?;
        let (head, claims) = signed.split_once('.').ok_or(malformed)?;
        if claims.contains('.') || signature.is_empty() {
            return Err(malformed);
        }
        let (head, claims) = (object(head).ok_or(malformed)?, object(claims).ok_or(malformed)?);
        Ok(Self { head, claims, signed: signed.as_bytes(), signature })
    }

    /// Who says to have issued it. A list, which RFC 7519 does not know, is no issuer.
    pub(super) fn issuer(&self) -> Result<&str, Unproven> {
        self.claims["iss"].as_str().ok_or(Unproven::because("no_issuer"))
    }

    /// The name of the key it says to be signed with: compared, never looked up anywhere.
    pub(super) fn kid(&self) -> Result<&str, Unproven> {
        let well_formed = |kid: &&str| (1..=MAX_KID).contains(&kid.len());
        self.head["kid"].as_str().filter(well_formed).ok_or(Unproven::because("no_kid"))
    }

    /// The algorithm, if it is one of this issuer's and nothing else in the header is wrong.
    pub(super) fn judge_head(&self, issuer: &Issuer) -> Result<Algorithm, Unproven> {
        if REFUSED_MEMBERS.iter().any(|member| self.head.get(member).is_some()) {
            return Err(Unproven::because("refused_header"));
        }
        let algorithm = self.head["alg"].as_str().and_then(|name| name.parse::<Algorithm>().ok());
        let algorithm = algorithm.filter(|algorithm| issuer.algorithms.contains(algorithm));
        let algorithm = algorithm.ok_or(Unproven::because("wrong_algorithm"))?;
        if is_of_type(&self.head, &issuer.types) { Ok(algorithm) } else { Err(Unproven::because("wrong_type")) }
    }
}

/// RFC 7515 §4.1.9: case does not matter, and `application/` may be left out.
fn is_of_type(head: &Value, types: &[String]) -> bool {
    let plain = |name: &str| {
        let name = name.to_ascii_lowercase();
        name.strip_prefix("application/").map_or(name.clone(), str::to_owned)
    };
    match head.get("typ") {
        None => types.is_empty(),
        Some(Value::String(name)) if types.is_empty() => plain(name) == "jwt",
        Some(Value::String(name)) => types.iter().any(|wanted| plain(wanted) == plain(name)),
        Some(_) => false,
    }
}

/// An object in base64url without padding. A member given two values is an error.
fn object(part: &str) -> Option<Value> {
    let text = String::from_utf8(URL_SAFE_NO_PAD.decode(part).ok()?).ok()?;
    from_json(&text).ok().filter(Value::is_object)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::identity::test_issuer::{fuzz_cases, issuer};

    fn token(head: &str, claims: &str) -> String {
        format!("{}.{}.c2ln", URL_SAFE_NO_PAD.encode(head), URL_SAFE_NO_PAD.encode(claims))
    }

    fn head(head: &str) -> &'static str {
        let token = token(head, "{}");
        let judged = Compact::parse(&token).and_then(|token| token.judge_head(&issuer("https://i.example")));
        judged.map_or_else(|unproven| unproven.cause, |_| "sound")
    }

    #[test]
    fn only_the_issuers_own_algorithms_are_known() {
        assert_eq!(head(r#"{"alg":"RS256"}"#), "sound");
        for algorithm in ["none", "None", "HS256", "RS512", "rs256", "ES256K", "", "RS256 "] {
            assert_eq!(head(&format!(r#"{{"alg":"{algorithm}"}}"#)), "wrong_algorithm", "{algorithm}");
        }
        for other in [r#"{"alg":["RS256"]}"#, "{}", r#"{"alg":null}"#] {
            assert_eq!(head(other), "wrong_algorithm", "{other}");
        }
    }

    #[test]
    fn members_that_change_what_is_verified_are_refused() {
        for member in REFUSED_MEMBERS {
            for value in ["null", "[]", "false", r#"["exp"]"#, r#""https://evil.example/keys""#] {
                assert_eq!(head(&format!(r#"{{"alg":"RS256","{member}":{value}}}"#)), "refused_header", "{member}");
            }
        }
        assert_eq!(head(r#"{"alg":"RS256","x5t":"abc"}"#), "sound");
    }

    #[test]
    fn the_type_must_fit() {
        for typ in ["JWT", "jwt", "application/JWT"] {
            assert_eq!(head(&format!(r#"{{"alg":"RS256","typ":"{typ}"}}"#)), "sound", "{typ}");
        }
        for typ in [r#""dpop+jwt""#, r#""logout+jwt""#, r#""""#, "null", "1", r#"["JWT"]"#] {
            assert_eq!(head(&format!(r#"{{"alg":"RS256","typ":{typ}}}"#)), "wrong_type", "{typ}");
        }
        let required = Issuer { types: vec!["at+jwt".to_owned()], ..issuer("https://i.example") };
        let judge = |head: &str| {
            let token = token(head, "{}");
            Compact::parse(&token).unwrap().judge_head(&required).is_ok()
        };
        assert!(judge(r#"{"alg":"RS256","typ":"application/AT+JWT"}"#));
        assert!(!judge(r#"{"alg":"RS256","typ":"JWT"}"#) && !judge(r#"{"alg":"RS256"}"#));
    }

    #[test]
    fn what_is_no_token_is_refused() {
        let good = token("{}", "{}");
        let refused = [
            String::new(),
            "..".to_owned(),
            "a.b".to_owned(),
            format!("{good}.x"),
            format!("{good}="),
            token("[]", "{}"),
            token("{}", "1"),
            token(r#"{"alg":"RS256","alg":"none"}"#, "{}"),
            token("{}", r#"{"custom":1,"custom":2}"#),
            token("{}", r#"{"exp":1e400}"#),
            good.replace('.', ".."),
            good.replace("e30", "e30="),
            good.replace("e30", "e31"),
            format!("{}é", &good[..good.len() - 1]),
            token("{}", &format!(r#"{{"a":"{}"}}"#, "a".repeat(MAX_TOKEN))),
            token("{}", &("[".repeat(500) + &"]".repeat(500))),
        ];
        assert!(Compact::parse(&good).is_ok());
        for text in refused.iter().filter(|text| !text.ends_with('=')) {
            assert_eq!(Compact::parse(text).unwrap_err().cause, "malformed_token", "{text}");
        }
    }

    #[test]
    fn kids_are_text_of_sensible_length_and_nothing_more() {
        let kid = |head: &str| Compact::parse(&token(head, "{}")).unwrap().kid().map(str::to_owned).ok();
        assert_eq!(kid(r#"{"kid":"../../etc/passwd"}"#).as_deref(), Some("../../etc/passwd"));
        for head in ["{}", r#"{"kid":""}"#, r#"{"kid":1}"#, r#"{"kid":["a"]}"#, r#"{"kid":null}"#] {
            assert_eq!(kid(head), None, "{head}");
        }
        assert_eq!(kid(&format!(r#"{{"kid":"{}"}}"#, "k".repeat(MAX_KID + 1))), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(fuzz_cases()))]

        #[test]
        fn no_bytes_make_it_panic(
            text in "\\PC{0,200}",
            head in "\\PC{0,80}",
            claims in "[\\{\\}\\[\\]\":,a-z0-9.e+-]{0,80}",
        ) {
            let issuer = issuer("https://i.example");
            for token in [text, token(&head, &claims), token("{\"alg\":\"RS256\"}", &claims)] {
                if let Ok(token) = Compact::parse(&token) {
                    _ = (token.issuer(), token.kid(), token.judge_head(&issuer));
                    _ = super::super::claims::judge(&token.claims, &issuer, 1_000);
                }
            }
        }
    }
}
