//! Who calls: the distinct callers of a stream, and whose turn it is.
//!
//! Responsible for drawing callers as their groups say, the same for the same seed. Must never hold two callers that
//! the cluster would take for one, unless the plan names them so.

use std::net::Ipv4Addr;
use std::ops::Range;
use std::path::Path;

use hyper::header::HeaderValue;
use portcullis_config::UserType;
use rand::RngExt;
use rand::distr::weighted::WeightedIndex;
use rand_distr::{Distribution, Zipf};

use super::arrival::Random;
use super::plan::CallerGroup;
use crate::error::HarnessError;
use crate::record::Caller;

/// Callers by number, as the record has them and as they show who they are.
#[derive(Debug, Default)]
pub(super) struct Callers {
    /// For the record.
    pub(super) known: Vec<Caller>,
    /// What each sends along.
    pub(super) credentials: Vec<Credential>,
}

/// What a caller sends so that a gateway knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Credential {
    /// `Authorization`.
    pub(super) authorization: Option<HeaderValue>,
    /// `X-Forwarded-For`.
    pub(super) forwarded_for: Option<HeaderValue>,
}

/// The callers of one stream.
#[derive(Debug)]
pub(super) struct Population {
    groups: Vec<Drawn>,
    choice: Option<WeightedIndex<f64>>,
}

#[derive(Debug)]
struct Drawn {
    numbers: Range<u32>,
    zipf: Option<Zipf<f64>>,
}

impl Population {
    /// Adds the callers of these groups to all callers.
    pub(super) fn add(load: &str, groups: &[CallerGroup], callers: &mut Callers) -> Result<Self, HarnessError> {
        let mut drawn = Vec::with_capacity(groups.len());
        for group in groups {
            let tokens = group.token_file.as_deref().map(|file| tokens(file, group.count)).transpose()?;
            let first = callers.known.len() as u32;
            for n in 0..group.count {
                let token = tokens.as_ref().and_then(|tokens| tokens.get(n as usize));
                callers.add(load, group, &principal(load, group, n), n, token.map(String::as_str))?;
            }
            let zipf = group.zipf_exponent.map(|exponent| Zipf::new(f64::from(group.count), exponent));
            let zipf = zipf.transpose().map_err(|error| HarnessError::Load(format!("{load}.callers: {error}")))?;
            drawn.push(Drawn { numbers: first..callers.known.len() as u32, zipf });
        }
        let choice = WeightedIndex::new(groups.iter().map(|group| group.weight)).ok();
        Ok(Self { groups: drawn, choice })
    }

    /// Number of the next caller; `None` if there are none.
    pub(super) fn draw(&self, random: &mut Random) -> Option<u32> {
        let group = self.groups.get(self.choice.as_ref()?.sample(random))?;
        let place = match &group.zipf {
            Some(zipf) => zipf.sample(random) as u32 - 1,
            None => random.random_range(0..group.numbers.end - group.numbers.start),
        };
        Some(group.numbers.start + place)
    }

    /// Numbers of all callers.
    pub(super) fn numbers(&self) -> impl Iterator<Item = u32> {
        self.groups.iter().flat_map(|group| group.numbers.clone())
    }
}

impl Callers {
    /// Adds a caller of this group; its number. `token` is its own, from a file.
    pub(super) fn add(
        &mut self,
        load: &str,
        group: &CallerGroup,
        principal: &str,
        n: u32,
        token: Option<&str>,
    ) -> Result<u32, HarnessError> {
        let number = self.known.len() as u32;
        let user_type = group.user_type.as_str();
        let written = group.token.as_ref().map(|template| {
            let text = template.replace("{user_type}", user_type).replace("{principal}", principal);
            text.replace("{n}", &n.to_string())
        });
        let own = token.map(str::to_owned).or(written);
        let (token, known_as) = match own {
            Some(token) => (Some(token), Some(principal.to_owned())),
            None if user_type == UserType::ANONYMOUS => (None, None),
            // The gateway's name for whoever a development token names.
            None => (Some(format!("dev:{user_type}:{principal}")), Some(format!("dev:{principal}"))),
        };
        let header = |text: String| {
            let invalid = |_| HarnessError::Load(format!("{load}.callers: a token that no header can hold"));
            HeaderValue::try_from(text).map_err(invalid)
        };
        let mut authorization = token.map(|token| header(format!("Bearer {token}"))).transpose()?;
        if let Some(value) = &mut authorization {
            value.set_sensitive(true);
        }
        let forwarded_for = group.forwarded_for.then(|| header(address(number).to_string())).transpose()?;
        self.credentials.push(Credential { authorization, forwarded_for });
        self.known.push(Caller { number, load: load.to_owned(), user_type: user_type.to_owned(), principal: known_as });
        Ok(number)
    }
}

/// The name of the n-th caller of a group.
fn principal(load: &str, group: &CallerGroup, n: u32) -> String {
    match &group.principal {
        Some(template) => template.replace("{n}", &n.to_string()),
        None => format!("{load}-{}-{n}", group.user_type),
    }
}

/// An address of 10.0.0.0/8 for each caller, none of them the network's own.
fn address(number: u32) -> Ipv4Addr {
    let [_, b, c, d] = (number % 0x00ff_fffe + 1).to_be_bytes();
    Ipv4Addr::new(10, b, c, d)
}

fn tokens(file: &Path, count: u32) -> Result<Vec<String>, HarnessError> {
    let text = std::fs::read_to_string(file).map_err(HarnessError::io(format!("reading {}", file.display())))?;
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let tokens: Vec<String> = lines.map(str::to_owned).collect();
    if tokens.len() < count as usize {
        let fault = format!("{}: {} tokens for {count} callers", file.display(), tokens.len());
        return Err(HarnessError::Load(fault));
    }
    Ok(tokens)
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use rand::SeedableRng;

    use super::*;

    fn group(user_type: &str, count: u32, weight: f64) -> CallerGroup {
        CallerGroup { count, weight, ..CallerGroup::of_type(user_type) }
    }

    fn counts(population: &Population, draws: usize, seed: u64) -> BTreeMap<u32, usize> {
        let mut random = Random::seed_from_u64(seed);
        let mut counts = BTreeMap::new();
        for _ in 0..draws {
            *counts.entry(population.draw(&mut random).expect("a caller")).or_insert(0) += 1;
        }
        counts
    }

    #[test]
    fn groups_are_drawn_by_weight_and_callers_alike() {
        let mut callers = Callers::default();
        let groups = [group("paid", 10, 3.0), group("anonymous", 5, 1.0)];
        let population = Population::add("day", &groups, &mut callers).unwrap();
        let counts = counts(&population, 40_000, 1);
        assert_eq!(counts.len(), 15);
        // Five standard deviations.
        for (number, count) in &counts {
            let expected: f64 = if *number < 10 { 3000.0 } else { 2000.0 };
            assert!((*count as f64 - expected).abs() < 5.0 * expected.sqrt(), "{count} of caller {number}");
        }
        assert_eq!(counts, self::counts(&population, 40_000, 1), "the same seed");
    }

    #[test]
    fn some_call_more_often_than_others_if_the_plan_says_so() {
        let groups = [CallerGroup { zipf_exponent: Some(1.0), ..group("paid", 100, 1.0) }];
        let population = Population::add("day", &groups, &mut Callers::default()).unwrap();
        let counts = counts(&population, 100_000, 1);
        let ratio = counts[&0] as f64 / counts[&9] as f64;
        assert!((9.0..11.0).contains(&ratio), "the first calls {ratio} times as often as the tenth");
        assert!(counts.keys().all(|number| *number < 100));
    }

    #[test]
    fn every_caller_has_a_credential_of_its_own() {
        let mut callers = Callers::default();
        let groups = [group("paid", 2, 1.0), CallerGroup { forwarded_for: true, ..group("anonymous", 300, 1.0) }];
        Population::add("day", &groups, &mut callers).unwrap();
        assert_eq!(callers.credentials[0].authorization.as_ref().unwrap(), "Bearer dev:paid:day-paid-0");
        assert_eq!(callers.known[1].principal.as_deref(), Some("dev:day-paid-1"));
        assert_eq!((callers.credentials[2].authorization.as_ref(), &callers.known[2].principal), (None, &None));
        let addresses: BTreeSet<String> = callers
            .credentials
            .iter()
            .filter_map(|one| Some(one.forwarded_for.as_ref()?.to_str().ok()?.to_owned()))
            .collect();
        assert_eq!(addresses.len(), 300);
        assert!(addresses.contains("10.0.1.0") && !addresses.contains("10.0.0.0"), "{addresses:?}");
    }

    #[test]
    fn tokens_come_from_a_template_or_a_file() {
        let mut callers = Callers::default();
        let written = CallerGroup {
            principal: Some("user{n}".to_owned()),
            token: Some("pk_{user_type}_{principal}_{n}".to_owned()),
            ..group("paid", 1, 1.0)
        };
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("tokens");
        std::fs::write(&file, "first\n\nsecond\n").unwrap();
        let listed = CallerGroup { token_file: Some(file.clone()), ..group("paid", 2, 1.0) };
        Population::add("day", &[written, listed], &mut callers).unwrap();
        let sent: Vec<_> = callers.credentials.iter().filter_map(|one| one.authorization.clone()).collect();
        assert_eq!(sent, ["Bearer pk_paid_user0_0", "Bearer first", "Bearer second"]);
        assert_eq!(callers.known[0].principal.as_deref(), Some("user0"));
        let short = CallerGroup { token_file: Some(file), ..group("paid", 3, 1.0) };
        let fault = Population::add("day", &[short], &mut callers).unwrap_err().to_string();
        assert!(fault.contains("2 tokens for 3 callers"), "{fault}");
    }
}
