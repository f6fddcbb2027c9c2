//! Chains taken apart and put together again, byte by byte.
//!
//! Responsible for the rules about the presented text and about which tokens stand in it. Must never rely on a rule
//! about what tokens say.

use portcullis_delegation::{Chain, Fault, PRESENTED_MAX, Refused};

use crate::forge::{Forge, base64, verdict};

fn refusal(presented: &str) -> Refused {
    verdict(presented).map(|_| ()).expect_err("refused")
}

fn tokens(forge: &Forge) -> Vec<String> {
    forge.encode().split('~').map(str::to_owned).collect()
}

#[test]
fn tokens_can_not_be_left_out_put_elsewhere_or_repeated() {
    let own = tokens(&Forge::genuine(3));
    let of = |places: &[usize]| places.iter().map(|place| own[*place].as_str()).collect::<Vec<_>>().join("~");
    let misplaced = |hop| Refused { fault: Fault::DepthMismatch, hop: Some(hop) };
    for (places, hop) in [(vec![1, 2], 0), (vec![0, 2], 1), (vec![2], 0), (vec![0, 2, 1], 1), (vec![1, 0, 2], 0)] {
        assert_eq!(refusal(&of(&places)), misplaced(hop), "{places:?}");
    }
    assert_eq!(refusal(&of(&[0, 1, 1])), misplaced(2));
    // A root names its key, which no other token may.
    assert_eq!(refusal(&of(&[0, 0, 1, 2])), Refused { fault: Fault::Malformed, hop: Some(1) });
}

#[test]
fn a_chain_stripped_of_its_leaf_is_worth_nothing_without_the_key() {
    let own = tokens(&Forge::genuine(3));
    for length in [1, 2] {
        assert_eq!(refusal(&own[..length].join("~")), Fault::ProofRequired.into());
    }
}

#[test]
fn tokens_of_another_chain_of_the_same_agents_do_not_fit() {
    let own = tokens(&Forge::genuine(3));
    let mut forge = Forge::genuine(3);
    forge.set(0, "jti", "01JD0000000000000000000999".into());
    let other = tokens(&forge);
    assert!(verdict(&other.join("~")).is_ok());
    let spliced = |hop| Refused { fault: Fault::Spliced, hop: Some(hop) };
    assert_eq!(refusal(&[other[0].as_str(), &own[1], &own[2]].join("~")), spliced(1));
    assert_eq!(refusal(&[own[0].as_str(), &other[1], &other[2]].join("~")), spliced(1));
    assert_eq!(refusal(&[own[0].as_str(), &own[1], &other[2]].join("~")), spliced(2));
}

#[test]
fn signatures_can_not_be_moved() {
    let own = tokens(&Forge::genuine(2));
    let (body, _) = own[1].rsplit_once('.').unwrap();
    let (_, signature) = own[0].rsplit_once('.').unwrap();
    let moved = format!("{}~{body}.{signature}", own[0]);
    assert_eq!(refusal(&moved), Refused { fault: Fault::BadSignature, hop: Some(1) });
    let cut = format!("{}~{body}.", own[0]);
    assert_eq!(refusal(&cut), Refused { fault: Fault::Malformed, hop: Some(1) });
}

#[test]
fn there_is_one_spelling_only() {
    let genuine = Forge::genuine(2).encode();
    let (body, signature) = genuine.rsplit_once('.').unwrap();
    let last = signature.chars().last().unwrap();
    // 64 bytes leave four bits over in the last character; the next in the alphabet differs in those only.
    let next = char::from(last as u8 + 1);
    for changed in [
        format!(" {genuine}"),
        format!("{genuine} "),
        format!("{genuine}\n"),
        format!("{genuine}="),
        format!("{body}.{}{next}", &signature[..signature.len() - 1]),
        format!("{genuine}~"),
        format!("~{genuine}"),
        genuine.replacen('~', "~~", 1),
        genuine.replacen('~', "~ ", 1),
        genuine.replacen('~', ",", 1),
        genuine.replacen('.', "..", 1),
        genuine.replacen('.', ".A.", 1),
        genuine.replacen('.', "", 1),
        format!("{genuine}.{signature}"),
        String::new(),
        "~".into(),
        "..".into(),
        "a.b.c".into(),
    ] {
        assert_eq!(refusal(&changed).fault, Fault::Malformed, "{changed:?}");
    }
}

#[test]
fn sizes_are_bounded_before_anything_is_read() {
    let oversize = Refused::from(Fault::Oversize);
    assert_eq!(refusal(&"A".repeat(PRESENTED_MAX + 1)), oversize);
    assert_eq!(refusal(&"~".repeat(8)), oversize);
    assert_eq!(refusal(&"~".repeat(PRESENTED_MAX + 1)), oversize);
    assert_eq!(refusal(&"A".repeat(PRESENTED_MAX)).fault, Fault::Malformed);
    let nine = format!("{}~{}", Forge::genuine(8).encode(), "A.A.A");
    assert_eq!(refusal(&nine), oversize);
}

#[test]
fn a_chain_is_told_apart_by_its_shape() {
    let own = Forge::genuine(2).encode();
    assert!(Chain::is_shape_of(&own) && Chain::is_shape_of(own.split('~').next().unwrap()));
    // Of an issuer's tokens only one that says its place in a chain, as those of the IETF drafts do, is taken for one:
    // a delegation is never taken for a token without limits.
    let token = |payload: &str| format!("eyJhbGciOiJFZERTQSJ9.{}.AAAA", base64(payload.as_bytes()));
    for payload in [r#"{"sub":"u","del_depth":0}"#, r#"{"\u0064el\u005fdepth":0}"#] {
        assert!(Chain::is_shape_of(&token(payload)), "{payload}");
    }
    for payload in ["[]", "0", "", r#"{"sub":"del_depth"}"#, r#"{"act":{"del_depth":0}}"#, r#"{"Del_depth":0}"#] {
        assert!(!Chain::is_shape_of(&token(payload)), "{payload}");
    }
    let jwt = "eyJhbGciOiJFZERTQSJ9.eyJzdWIiOiJ1In0.AAAA";
    for other in ["", "gs_abc", "dev:paid:ada", jwt, "a.b", &"A".repeat(PRESENTED_MAX * 2)] {
        assert!(!Chain::is_shape_of(other), "{other:?}");
    }
}

#[test]
fn what_is_logged_of_a_chain_can_not_be_presented() {
    let genuine = Forge::genuine(3).encode();
    let shown = format!("{:?}", Chain::parse(&genuine).unwrap());
    assert!(shown.contains("agent-2"));
    for signature in genuine.split('~').filter_map(|token| token.rsplit('.').next()) {
        assert!(!shown.contains(signature));
    }
}
