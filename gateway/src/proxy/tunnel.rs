//! A WebSocket, once the application has agreed to it: bytes both ways, unread.
//!
//! Responsible for its bounds: how many there are (`place.rs`), how long one may be silent, how much is held. Must
//! never outlive the gateway: clients of a WebSocket resume elsewhere, so it ends when the listeners close; nor the
//! credential it was opened with, once that is revoked.

mod place;

use std::io;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::time::{Instant, sleep, timeout};

use super::download::Account;
use crate::admission::pass::Outcome;
use crate::admission::session::Identity;
use crate::state::Gateway;

pub(crate) use place::{Place, Places};

/// How long the other side may still send when one has ended: to say goodbye, not to go on.
const LINGER: Duration = Duration::from_secs(1);

/// Bytes held of each direction.
const PIECE: usize = 16 * 1024;

/// A tunnel that is about to begin.
pub(super) struct Tunnel {
    pub(super) client: OnUpgrade,
    pub(super) application: OnUpgrade,
    pub(super) account: Account,
    pub(super) caller: Identity,
    /// Longest silence of both sides.
    pub(super) longest_pause: Duration,
    pub(super) place: Place,
}

impl Tunnel {
    /// Runs it among the gateway's own tasks: the request it began as is over for its connection.
    pub(super) fn spawn(self, gateway: &Gateway) {
        let (closed, stopping) = (gateway.drain_state().closed(), gateway.background().stopping().clone());
        gateway.background().spawn(async move {
            let Self { client, application, mut account, caller, longest_pause, place } = self;
            let opened = timeout(longest_pause, async { tokio::try_join!(client, application) }).await;
            let Ok(Ok((client, application))) = opened else { return };
            let outcome = tokio::select! {
                outcome = join(client, application, longest_pause) => outcome,
                () = closed.cancelled() => Outcome::Succeeded,
                () = stopping.cancelled() => Outcome::Succeeded,
                () = caller.revoked() => Outcome::Abandoned,
            };
            account.close(outcome);
            drop(place);
        });
    }
}

/// Passes on both ways until one side has ended or neither has sent anything for too long.
async fn join(client: Upgraded, application: Upgraded, longest_pause: Duration) -> Outcome {
    let (from_client, to_client) = halves(client);
    let (from_application, to_application) = halves(application);
    let moved = Mutex::new(Instant::now());
    let up = pass_on(from_client, to_application, &moved);
    let down = pass_on(from_application, to_client, &moved);
    tokio::pin!(up, down);
    tokio::select! {
        ended = &mut up => {
            _ = timeout(LINGER, down).await;
            ended.map_or(Outcome::Abandoned, |()| Outcome::Succeeded)
        }
        ended = &mut down => {
            _ = timeout(LINGER, up).await;
            ended.map_or(Outcome::Failed, |()| Outcome::Succeeded)
        }
        () = silence(&moved, longest_pause) => Outcome::Succeeded,
    }
}

type Halves = (ReadHalf<TokioIo<Upgraded>>, WriteHalf<TokioIo<Upgraded>>);

fn halves(upgraded: Upgraded) -> Halves {
    tokio::io::split(TokioIo::new(upgraded))
}

/// Passes on until the sender ends, which the receiver then sees. An error is the sender's; a receiver that is gone
/// ends the tunnel through its own direction.
async fn pass_on(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    moved: &Mutex<Instant>,
) -> Result<(), ()> {
    let mut piece = vec![0; PIECE];
    loop {
        let length = from.read(&mut piece).await.map_err(drop)?;
        if length == 0 {
            _ = to.shutdown().await;
            return Ok(());
        }
        let sent: io::Result<()> = async {
            to.write_all(&piece[..length]).await?;
            to.flush().await
        }
        .await;
        if sent.is_err() {
            return Ok(());
        }
        *moved.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }
}

/// Ends when nothing has moved for this long.
async fn silence(moved: &Mutex<Instant>, longest: Duration) {
    loop {
        let since = moved.lock().unwrap_or_else(PoisonError::into_inner).elapsed();
        if since >= longest {
            return;
        }
        sleep(longest.saturating_sub(since)).await;
    }
}
