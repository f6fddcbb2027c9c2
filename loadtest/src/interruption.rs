//! Hearing that somebody wants the harness to end.
//!
//! Responsible for every way in which that is said: Ctrl-C, the closing of a terminal, a CI job that is cancelled. Must
//! never end anything itself: processes of a cluster go with their handles, and those have owners.

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::error::HarnessError;

/// Listens from its making on.
#[derive(Debug)]
pub struct Interruption {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Interruption {
    /// Begins to listen: from here on these signals do not end the process by themselves.
    pub fn listen() -> Result<Self, HarnessError> {
        let listen = |kind| signal(kind).map_err(HarnessError::io("listening for signals"));
        let (interrupt, terminate) = (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?);
        Ok(Self { interrupt, terminate, hangup: listen(SignalKind::hangup())? })
    }

    /// Returns when the first of them is there.
    pub async fn heard(mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.hangup.recv() => {}
        }
    }
}

/// What `work` comes to, unless it is interrupted: then it is dropped, with every process it started.
pub async fn unless_interrupted<T>(work: impl Future<Output = Result<T, HarnessError>>) -> Result<T, HarnessError> {
    let interruption = Interruption::listen()?;
    tokio::select! {
        done = work => done,
        () = interruption.heard() => Err(HarnessError::Interrupted),
    }
}
