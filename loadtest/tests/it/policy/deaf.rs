//! Pub/sub cut for good, whatever the subscribers do.
//!
//! Responsible for certainty that no message arrives: whoever subscribed loses the connection and may not subscribe
//! again, while publishing, which `revise.lua` needs, stays allowed. Must never be a matter of who is faster.

use portcullis_loadtest::probe::Probe;

/// Nobody hears anything from here on.
pub(crate) async fn cut_pubsub(probe: &Probe) {
    probe.command("ACL", ["SETUSER", "default", "-subscribe", "-psubscribe", "-ssubscribe"]).await.expect("denied");
    // One that subscribed in between is listed; the next round kills it, and then there is no next.
    while !channels(probe).await.is_empty() {
        probe.command("CLIENT", ["KILL", "TYPE", "pubsub"]).await.expect("killed");
    }
}

/// The channels somebody hears.
pub(crate) async fn channels(probe: &Probe) -> Vec<String> {
    probe.command("PUBSUB", ["CHANNELS"]).await.expect("an answer").convert().expect("names")
}
