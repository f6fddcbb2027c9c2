//! That what is compared can be compared.
//!
//! Responsible for every point answering as it should, and for the fixed refusal being as long as the gateway's. Must
//! never judge a figure.

use std::time::Duration;

use portcullis_loadtest::Launcher;
use portcullis_loadtest::bench_credentials::{self, credential::Credential};
use portcullis_loadtest::compare::latency;
use portcullis_loadtest::compare::point::{Point, Way};
use portcullis_loadtest::compare::stage::{Sample, Stage};

use crate::fixture::turn;

const TIME: Duration = Duration::from_millis(200);

fn launcher() -> Launcher {
    Launcher::Embedded(env!("CARGO_BIN_EXE_portcullis-loadtest").into())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_point_gives_the_answer_it_is_there_for() {
    let _turn = turn().await;
    let program = env!("CARGO_BIN_EXE_portcullis-loadtest").into();
    let mut stage = Stage::start(program, launcher()).await.expect("started");
    let (mut ours, mut fixed) = (None, None);
    let measured = Point::ALL.into_iter().filter(|point| !matches!(point.way(), Way::Redis { .. }));
    for point in measured.filter(|point| stage.can(*point)).collect::<Vec<_>>() {
        let Sample { answers, unexpected, answer_bytes, .. } =
            stage.sample(point, 4, TIME).await.unwrap_or_else(|error| panic!("{point:?}: {error}"));
        assert!(answers > 0, "{point:?}: no answer");
        assert_eq!(unexpected, 0, "{point:?}: answers of another kind");
        match point {
            Point::Remembered => ours = answer_bytes,
            Point::Static429 => fixed = answer_bytes,
            _ => {}
        }
    }
    let (ours, fixed) = (ours.expect("measured"), fixed.expect("measured"));
    // Times until the caller may come again may have a digit more or less.
    assert!(ours.abs_diff(fixed) <= 16, "{ours} bytes are compared with {fixed}");
    stage.end().await.expect("ended");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_submission_is_seen_to_start() {
    let _turn = turn().await;
    let measured = latency::measure(launcher(), 10).await.expect("measured");
    let counts: Vec<u64> = measured.iter().map(|latency| latency.start.count).collect();
    assert_eq!(counts, [10, 10, 10, 10]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_kind_of_credential_is_answered() {
    let _turn = turn().await;
    let measured = bench_credentials::measure(launcher(), 2, 5).await.expect("measured");
    assert_eq!(measured.len(), Credential::ALL.len());
    assert!(measured.iter().all(|(_, samples)| samples.len() == 2));
}
