//! An answer's bounds, and when it is over.

use axum::body::Body;
use futures_util::{Stream, StreamExt, stream};
use http_body_util::{BodyExt, Full, StreamBody};
use portcullis_config::Policy;
use portcullis_config::policy::GUARDED;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::proxy::failure::Failure;
use crate::proxy::upload::Upload;

const PAUSE: Duration = Duration::from_secs(10);

type Piece = Result<Frame<Bytes>, Cut>;

fn piece(text: &'static str) -> Frame<Bytes> {
    Frame::data(Bytes::from_static(text.as_bytes()))
}

fn account() -> Account {
    Account { pass: None, outcome: Outcome::Succeeded, usage: Vec::new() }
}

/// These pieces, all of them sound.
fn sound<const N: usize>(pieces: [Frame<Bytes>; N]) -> impl Stream<Item = Piece> + Unpin {
    stream::iter(pieces.map(Ok))
}

fn bounds(response_bytes: Option<u64>) -> Bounds {
    Bounds { pause: PAUSE, response_bytes, ..Bounds::of(&Policy::shipped("acme", "demo"), GUARDED) }
}

/// An upload that is over.
fn sent() -> Upload {
    Upload::new(Body::empty(), &bounds(None))
}

/// An upload that sends a piece after every `pause`.
fn sending(pause: Duration) -> Upload {
    let pieces = stream::repeat(()).then(move |()| async move {
        sleep(pause).await;
        Piece::Ok(piece("a"))
    });
    Upload::new(Body::new(StreamBody::new(Box::pin(pieces))), &Bounds { least_bytes: 0, ..bounds(None) })
}

fn download<S: Stream<Item = Piece> + Unpin>(pieces: S, most: Option<u64>) -> Download<StreamBody<S>> {
    Download::new(StreamBody::new(pieces), account(), sent().progress(), &bounds(most), None)
}

fn whole(bytes: Bytes) -> Download<Full<Bytes>> {
    Download::new(Full::new(bytes), account(), sent().progress(), &bounds(None), None)
}

/// An answer without an end of its own.
fn events<S: Stream<Item = Piece> + Unpin>(pieces: S, going: &CancellationToken) -> Download<StreamBody<S>> {
    let going = Some(going.clone().cancelled_owned());
    Download::new(StreamBody::new(pieces), account(), sent().progress(), &bounds(None), going)
}

#[tokio::test]
async fn more_than_the_bound_is_cut_off() {
    let mut answer = download(sound([piece("abc"), piece("d"), piece("e")]), Some(4));
    assert!(answer.frame().await.unwrap().is_ok());
    assert!(answer.frame().await.unwrap().is_ok());
    assert_eq!(answer.frame().await.unwrap().unwrap_err().0, "the application sends more than it may");
    assert!(answer.frame().await.is_none() && answer.is_end_stream());
}

#[tokio::test(start_paused = true)]
async fn an_application_that_stops_sending_is_cut_off_after_its_pause() {
    let pieces = sound([piece("a"), piece("b")]).chain(stream::pending());
    let mut answer = download(pieces, None);
    assert!(answer.frame().await.unwrap().is_ok());
    tokio::time::advance(PAUSE * 3).await;
    // A client that is slow to ask for more is not the application's fault.
    assert!(answer.frame().await.unwrap().is_ok());
    let began = Instant::now();
    assert_eq!(answer.frame().await.unwrap().unwrap_err().0, "the application stopped sending");
    assert_eq!(began.elapsed(), PAUSE);
}

#[tokio::test]
async fn an_answer_that_breaks_off_does_not_look_complete() {
    let mut answer = download(stream::iter([Ok(piece("a")), Err(Cut("reset"))]), None);
    assert!(answer.frame().await.unwrap().is_ok());
    assert!(answer.frame().await.unwrap().is_err());
}

#[tokio::test]
async fn an_answer_of_known_length_is_over_with_its_last_piece() {
    let mut answer = whole(Bytes::from_static(b"abc"));
    assert!(!answer.over);
    assert_eq!(answer.size_hint().exact(), Some(3));
    assert!(answer.frame().await.unwrap().is_ok());
    assert!(answer.over, "nobody asks for more");
    let empty = whole(Bytes::new());
    assert!(empty.over && empty.is_end_stream());
}

#[tokio::test]
async fn an_event_stream_ends_when_the_gateway_goes() {
    let going = CancellationToken::new();
    let pieces = sound([piece("data: 1\n\n")]).chain(stream::pending());
    let mut answer = events(pieces, &going);
    assert!(answer.frame().await.unwrap().is_ok());
    let (end, ()) = tokio::join!(answer.frame(), async { going.cancel() });
    assert!(end.is_none(), "it ends as if it had come to its end: clients of event streams come again");
}

#[tokio::test(start_paused = true)]
async fn a_quiet_event_stream_ends_as_if_it_had_come_to_its_end() {
    let pieces = sound([piece("data: 1\n\n")]).chain(stream::pending());
    let mut answer = events(pieces, &CancellationToken::new());
    assert!(answer.frame().await.unwrap().is_ok());
    let began = Instant::now();
    assert!(answer.frame().await.is_none(), "nothing has failed");
    assert_eq!(began.elapsed(), PAUSE);
}

#[tokio::test(start_paused = true)]
async fn an_application_that_is_still_being_sent_something_has_its_time_from_the_last_piece() {
    const PIECES: u32 = 5;
    let mut upload = sending(PAUSE * 3 / 4);
    let progress = upload.progress();
    let mut answer =
        Download::new(StreamBody::new(stream::pending::<Piece>()), account(), progress, &bounds(None), None);
    let began = Instant::now();
    let (cut, ()) = tokio::join!(answer.frame(), async {
        for _ in 0..PIECES {
            assert!(upload.frame().await.unwrap().is_ok());
        }
    });
    assert_eq!(cut.unwrap().unwrap_err().0, "the application stopped sending");
    assert_eq!(began.elapsed(), PAUSE * 3 / 4 * PIECES + PAUSE);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_the_clients_own_body_broke_is_not_the_applications_failure() {
    let stopped = Body::new(StreamBody::new(stream::pending::<Piece>()));
    let cases = [(stopped, Some(Failure::StoppedSending), Outcome::Abandoned), (Body::empty(), None, Outcome::Failed)];
    for (body, fault, expected) in cases {
        let mut upload = Upload::new(body, &bounds(None));
        let progress = upload.progress();
        _ = upload.frame().await;
        assert_eq!(progress.fault(), fault);
        let broken = StreamBody::new(stream::iter([Piece::Err(Cut("reset"))]));
        let mut answer = Download::new(broken, account(), progress, &bounds(None), None);
        assert_eq!(answer.outcome_if_cut(), expected);
        assert!(answer.frame().await.unwrap().is_err());
    }
}

#[tokio::test]
async fn trailers_are_passed_on_and_report_usage() {
    let fields = [("x-usage-tokens", "9"), ("x-checksum", "1"), ("set-cookie", "a=1")];
    let trailers = fields.into_iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
    let mut answer = download(sound([Frame::trailers(trailers)]), None);
    let passed = answer.frame().await.unwrap().unwrap().into_trailers().unwrap();
    assert_eq!(passed.len(), 2);
    assert_eq!(answer.account.usage, [("tokens".to_owned(), 9)]);
}
