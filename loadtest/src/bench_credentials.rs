//! What finding out who a caller is costs a gateway, by kind of credential.
//!
//! Responsible for µs per request above those of a caller without a credential, for one that the gateway has seen
//! lately and for one it has not. Must never assert a figure.
//!
//! Every request asks one gateway `GET /v1/sessions/current`, which rests on the credential and on nothing behind it:
//! no gate is asked, so what two rows differ by is the credential. One connection, one request at a time: nobody waits
//! for anybody, and the processor time of gateway and Redis, to the nanosecond as the kernel accounts for it, is that
//! of these requests.
//!
//! Kinds are measured in interleaved rounds (ABC ABC ABC), each difference is taken within a round, and the median of
//! the rounds is shown, so that what else the machine does hits all alike. Credentials are made before a sample begins.
//! One that was seen lately is the same throughout and has been sent before. Of those never seen each is sent once: a
//! token or chain whose signatures have not been checked, a session that this gateway has to ask Redis about. Proofs of
//! possession (RFC 9449) are good for one request, so each has its own, and Redis remembers it.

pub mod credential;
pub mod processor_time;
pub mod stage;

use serde_json::{Value, json};

use crate::bench_credentials::credential::Credential;
use crate::bench_credentials::stage::{Sample, Stage};
use crate::cluster::Launcher;
use crate::compare::figure::{median, shown};
use crate::error::HarnessError;
use crate::report::{Table, say};

/// Most requests of each kind before the first round.
const WARM_UP: u32 = 200;

/// What to measure.
#[derive(Clone, Copy, Debug)]
pub struct BenchCredentialsOptions {
    /// Interleaved rounds of which the median is taken.
    pub rounds: u32,
    /// Requests of each kind in a round.
    pub requests: u32,
    /// Print JSON instead of a table.
    pub json: bool,
}

/// A kind with its rounds.
pub type Rounds = (Credential, Vec<Sample>);

/// Measures and prints everything.
pub async fn run(options: BenchCredentialsOptions) -> Result<(), HarnessError> {
    let measured = measure(Launcher::beside_current_exe()?, options.rounds, options.requests).await?;
    if options.json {
        let rows: Vec<Value> = figures(&measured).map(|(credential, figures)| figures.json(credential)).collect();
        say(json!(rows));
        return Ok(());
    }
    say(format!(
        "one connection; median of {} interleaved rounds of {} requests; \"added\" is what goes beyond no credential\n\
         in the same round, ± how far the rounds lie apart",
        options.rounds, options.requests
    ));
    let header = ["credential", "gateway µs", "added µs", "±", "redis µs", "added µs", "p50 µs", "added µs"];
    let mut table = Table::new(&header);
    for (credential, figures) in figures(&measured) {
        table.row(figures.cells(credential));
    }
    say(table);
    Ok(())
}

/// The rounds of every kind, the caller without a credential first.
pub async fn measure(launcher: Launcher, rounds: u32, requests: u32) -> Result<Vec<Rounds>, HarnessError> {
    let stage = Stage::start(launcher).await?;
    let mut measured: Vec<Rounds> = Credential::ALL.map(|credential| (credential, Vec::new())).into();
    for credential in Credential::ALL {
        stage.sample(credential, requests.min(WARM_UP)).await?;
    }
    for _ in 0..rounds {
        for (credential, samples) in &mut measured {
            samples.push(stage.sample(*credential, requests).await?);
        }
    }
    stage.end().await?;
    Ok(measured)
}

/// What the rounds of a kind come to: medians, and medians of differences within a round.
#[derive(Clone, Copy, Debug)]
struct Figures {
    /// A request, and what it has beyond one without a credential: gateway, Redis, time until the answer; µs.
    parts: [(Option<f64>, Option<f64>); 3],
    /// Between the round that added least and the one that added most to the gateway's, µs.
    spread: Option<f64>,
}

/// What is taken of a sample.
const PARTS: [fn(&Sample) -> f64; 3] = [|one| one.gateway_us, |one| one.redis_us, |one| one.p50_us];

fn figures(measured: &[Rounds]) -> impl Iterator<Item = (Credential, Figures)> {
    let base = measured.first().map_or(&[][..], |(_, samples)| samples);
    measured.iter().map(move |(credential, samples)| {
        let added = |part: fn(&Sample) -> f64| samples.iter().zip(base).map(move |(one, base)| part(one) - part(base));
        let parts = PARTS.map(|part| (median(samples.iter().map(part)), median(added(part))));
        let (least, most) = (added(PARTS[0]).reduce(f64::min), added(PARTS[0]).reduce(f64::max));
        (*credential, Figures { parts, spread: most.zip(least).map(|(most, least)| most - least) })
    })
}

impl Figures {
    fn cells(self, credential: Credential) -> [String; 8] {
        let [(gateway, gateway_added), (redis, redis_added), (p50, p50_added)] = self.parts;
        let us = |value| shown(value, 1);
        let spread = us(self.spread);
        [credential.title(), us(gateway), us(gateway_added), spread, us(redis), us(redis_added), us(p50), us(p50_added)]
    }

    fn json(self, credential: Credential) -> Value {
        let [(gateway, gateway_added), (redis, redis_added), (p50, p50_added)] = self.parts;
        json!({
            "credential": credential.title(),
            "gateway_us": gateway, "gateway_added_us": gateway_added, "gateway_spread_us": self.spread,
            "redis_us": redis, "redis_added_us": redis_added,
            "p50_us": p50, "p50_added_us": p50_added,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_added_is_added_within_a_round() {
        let sample = |us: f64| Sample { gateway_us: us, redis_us: 0.0, p50_us: 2.0 * us };
        // The second round ran on a machine half as fast.
        let measured = [
            (Credential::ALL[0], vec![sample(10.0), sample(20.0), sample(10.0)]),
            (Credential::ALL[1], vec![sample(13.0), sample(26.0), sample(14.0)]),
        ];
        let rows: Vec<Value> = figures(&measured).map(|(credential, figures)| figures.json(credential)).collect();
        assert_eq!((&rows[0]["gateway_us"], &rows[0]["gateway_added_us"]), (&json!(10.0), &json!(0.0)));
        assert_eq!((&rows[1]["gateway_added_us"], &rows[1]["gateway_spread_us"]), (&json!(4.0), &json!(3.0)));
        assert_eq!((&rows[1]["p50_added_us"], &rows[1]["redis_added_us"]), (&json!(8.0), &json!(0.0)));
    }
}
