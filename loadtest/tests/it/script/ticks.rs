//! How coarsely each limit rounds an admission up, seen from outside.
//!
//! Responsible for telling the model what only a server can tell. Must never look at how a script does it.

use portcullis_loadtest::model::Ticks;
use portcullis_lua::{AdmitRequest, CompiledPolicy, Hop, MOST_HOPS, Provenance, Verdict};

use super::stage::{Stage, request};

/// The ticks of the limits of some user types, seen from outside: whoever is admitted at 1 ms past a tick is told when
/// the window lets it go. Who asks has every subject that a limit can count; each kind is asked for in a scope of its
/// own.
pub(crate) async fn ticks_of(stage: &Stage, policy: &CompiledPolicy, user_types: &[&str]) -> Ticks {
    let mut ticks = Ticks::new();
    for (name, kind) in user_types.iter().flat_map(|name| ["k0", "k1"].map(|kind| (name, kind))) {
        let act = stage.act();
        act.beat(policy, 1, 1_000_000).await;
        let hop = |place: usize| Hop {
            hash: place.to_string(),
            calls_per_min: Some(60),
            calls_per_hour: Some(60),
            ..Hop::default()
        };
        let request = AdmitRequest {
            kind: kind.to_owned(),
            actor: Some("agent".to_owned()),
            client_address: Some("address".to_owned()),
            estimates: vec![("tokens".to_owned(), 1)],
            provenance: Provenance { hops: (0..MOST_HOPS).map(hop).collect(), ..Provenance::default() },
            ..request(name, name)
        };
        let decisions = act.store.at(1).admit(policy, &[request]).await.expect("a decision");
        assert!(matches!(decisions[0].verdict, Verdict::Admitted { .. }), "{decisions:?}");
        for window in &decisions[0].limits {
            let tick_ms = window.reset_ms + 1 - window.window_ms;
            ticks.insert(((*name).to_owned(), window.name.clone()), tick_ms);
        }
        act.strike().await;
    }
    ticks
}
