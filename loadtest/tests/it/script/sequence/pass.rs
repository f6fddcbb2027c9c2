//! Passes in random histories.
//!
//! Responsible for what happens to a pass after its admission. Must never end one whose time the model and the script
//! could judge differently: both have the same clock.

use std::collections::BTreeSet;

use portcullis_loadtest::model::Pass;
use portcullis_lua::{PassEnd, PassEnded, PassExtension, PassLease, Verdict};

use super::super::operation::{Lasting, Leaving, Pick};
use super::Play;

impl Play<'_> {
    /// Remembers the places that a batch was given.
    pub(super) fn note_passes<'a>(&mut self, verdicts: impl Iterator<Item = &'a Verdict>) {
        for verdict in verdicts {
            if let Verdict::Passed { lease: Some(lease) } = verdict {
                self.passes.push(lease.clone());
            }
        }
    }

    pub(super) async fn finish(&mut self, leavings: &[(Pick, Leaving)]) {
        self.leave_boundary();
        let ends: Vec<PassEnd> = leavings
            .iter()
            .flat_map(|(pick, leaving)| self.picked_passes(&[*pick]).into_iter().map(|lease| leaving.of(lease)))
            .collect();
        let ended = self.act.store.at(self.now_ms).finish(self.policy, &ends).await.expect("an answer");
        self.keep_accounts().await;
        for (end, ended) in ends.iter().zip(ended) {
            let ended = ended == PassEnded::Now;
            self.see(if ended { "pass ended" } else { "pass lost" });
            assert_eq!(ended, self.model.finish(self.now_ms, end), "{end:?}");
        }
    }

    pub(super) async fn extend(&mut self, lastings: &[(Pick, Lasting)]) {
        let extensions: Vec<PassExtension> = lastings
            .iter()
            .flat_map(|(pick, lasting)| self.picked_passes(&[*pick]).into_iter().map(|lease| lasting.of(lease)))
            .collect();
        let extended = self.act.store.at(self.now_ms).extend(self.policy, &extensions).await.expect("an answer");
        for (extension, extended) in extensions.iter().zip(extended) {
            self.see(if extended { "pass extended" } else { "pass not extended" });
            assert_eq!(extended, self.model.extend(self.now_ms, extension), "{extension:?}");
        }
    }

    pub(super) async fn lapse(&mut self) {
        self.leave_boundary();
        let lapsed = self.act.store.at(self.now_ms).lapse(self.policy, 0).await.expect("an answer");
        let lapsed = lapsed.taken_back as u64;
        self.keep_accounts().await;
        if lapsed > 0 {
            self.see("pass lapsed");
        }
        assert_eq!(lapsed, self.model.lapse(self.now_ms), "lapsed");
    }

    /// Passes, four times in five such as are still held.
    fn picked_passes(&self, picks: &[Pick]) -> Vec<PassLease> {
        let is_held = |lease: &&PassLease| self.model.passes.contains_key(&lease.pass_id);
        let held: Vec<&PassLease> = self.passes.iter().filter(is_held).collect();
        let all: Vec<&PassLease> = self.passes.iter().collect();
        let pick_one = |pick: &Pick| {
            let among = if pick.index(5) > 0 && !held.is_empty() { &held } else { &all };
            (!among.is_empty()).then(|| among[pick.index(among.len())].clone())
        };
        picks.iter().filter_map(pick_one).collect()
    }

    /// Every pass that has not ended is found as it is, has one place in its pool, and nothing is left of the others.
    pub(super) async fn compare_passes(&self) {
        for lease in &self.passes {
            let found = self.act.store.pass(&lease.pass_id).await.expect("an answer");
            assert_eq!(found, self.model.passes.get(&lease.pass_id).map(Pass::record), "{lease:?}");
        }
        let mut pools = vec![("pass".to_owned(), None), ("pool:".to_owned(), Some(None))];
        pools.extend(self.model.pool_names().map(|name| (format!("pool:{name}"), Some(Some(name)))));
        for (key, pool) in pools {
            let in_it = |lease: &PassLease| {
                pool.is_none_or(|pool: Option<&str>| pool == lease.pooled.then_some(lease.kind.as_str()))
            };
            let passes = self.model.passes.values().filter(|pass| in_it(&pass.lease));
            let mut expected: Vec<(u64, String)> =
                passes.map(|pass| (pass.until_ms, pass.lease.pass_id.to_string())).collect();
            expected.sort_unstable();
            let members = self.strings("ZRANGE", [&self.act.key(&key), "0", "-1", "WITHSCORES"]).await;
            let members: Vec<(u64, String)> =
                members.chunks(2).map(|pair| (pair[1].parse().expect("a time"), pair[0].clone())).collect();
            assert_eq!(members, expected, "{key}");
        }
        let records = BTreeSet::from_iter(self.strings("HKEYS", [&self.act.key("pass-record")]).await);
        assert_eq!(records, self.model.passes.keys().map(ToString::to_string).collect(), "records of passes");
    }
}
