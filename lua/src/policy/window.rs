//! Sliding windows as the scripts keep them.
//!
//! Responsible for how a limit becomes a window that fits a few hundred bytes whatever the limit. Must never release
//! early: where a window cannot be kept to the millisecond it releases late.

use crate::decision::LimitState;
use crate::pack::Packer;

/// Bytes of window entries per key: with heads, key and overhead of Redis it stays under 600 bytes.
const ENTRY_BYTES: u64 = 390;
/// Ticks of a folded window: a release is at most a sixtieth of the window late.
const FOLD_TICKS: u64 = 60;
/// Windows longer than this are folded unless they are small: nobody needs an hour to the millisecond.
const LOG_WINDOW_MS: u64 = 600_000;
/// A longer window with at most this limit is logged all the same.
const LOG_LIMIT: u64 = 60;

/// Length of the shape of a window as the scripts take it.
pub(crate) const SHAPE_BYTES: usize = 17;

/// One sliding window.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Window {
    /// What refusals and `RateLimit` call it.
    pub(crate) name: String,
    pub(crate) reason: u8,
    pub(crate) length_ms: u64,
    pub(crate) limit: u64,
    pub(crate) kind: u8,
    pub(crate) tick_ms: u64,
}

impl Window {
    /// What is left of the window when `held` units are in it and the next leaves after `reset_ms`.
    pub(crate) fn state(&self, held: f64, reset_ms: f64) -> LimitState {
        LimitState {
            name: self.name.clone(),
            limit: self.limit,
            window_ms: self.length_ms,
            remaining: self.limit.saturating_sub(held as u64),
            reset_ms: reset_ms.ceil() as u64,
        }
    }

    /// Appends `[kind B][window ms I4][tick ms I4][limit d]`, which is [`SHAPE_BYTES`] long.
    pub(crate) fn pack(&self, packer: &mut Packer) {
        packer.u8(self.kind).u32(self.length_ms as u32).u32(self.tick_ms as u32).f64(self.limit as f64);
    }
}

/// Chooses how each window of one key is kept, so that all of its entries fit [`ENTRY_BYTES`]. Given: name, reason,
/// length in ms, and limit.
///
/// Long windows come first, because only they must keep all their ticks; what room is left goes to the short ones.
pub(crate) fn shape(windows: &[(&str, u8, u64, u64)]) -> Vec<Window> {
    let mut room = ENTRY_BYTES;
    let mut shaped: Vec<Window> = Vec::with_capacity(windows.len());
    let mut longest_first: Vec<_> = windows.iter().collect();
    longest_first.sort_by_key(|&&(_, _, window_ms, _)| std::cmp::Reverse(window_ms));
    for &&(name, reason, window_ms, limit) in &longest_first {
        let count = if limit <= 0xffff { 2 } else { 4 };
        let (kind, tick_ms, used) = if let Some(tick_ms) = log_tick(window_ms, limit, room) {
            (1, tick_ms, log_bytes(window_ms, limit, tick_ms))
        } else {
            let ticks = if window_ms > LOG_WINDOW_MS {
                FOLD_TICKS
            } else {
                (room / (1 + count)).saturating_sub(1).clamp(10, FOLD_TICKS)
            };
            (count as u8 / 2 + 1, window_ms.div_ceil(ticks), (ticks + 1) * (1 + count))
        };
        room = room.saturating_sub(used);
        shaped.push(Window { name: name.to_owned(), reason, length_ms: window_ms, limit, kind, tick_ms });
    }
    shaped.sort_by_key(|window| windows.iter().position(|&(name, ..)| name == window.name));
    shaped
}

/// Most bytes a log takes: one byte per unit, and two more wherever 255 ticks passed between two.
fn log_bytes(window_ms: u64, limit: u64, tick_ms: u64) -> u64 {
    limit + 2 * limit.min(window_ms / (255 * tick_ms) + 1)
}

/// The finest tick at which a log of this window fits `room`; `None` if even 1/240 of the window is too fine.
fn log_tick(window_ms: u64, limit: u64, room: u64) -> Option<u64> {
    if window_ms > LOG_WINDOW_MS && limit > LOG_LIMIT {
        return None;
    }
    // A distance is at most two bytes wide, so a window has at most 65535 ticks.
    let finest = window_ms.div_ceil(0xffff).max(1);
    (finest..=(window_ms / 240).max(finest)).find(|&tick_ms| log_bytes(window_ms, limit, tick_ms) <= room)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn windows(burst: u64, hourly: Option<u64>) -> Vec<Window> {
        let mut windows = vec![("burst", 1, 60_000, burst)];
        windows.extend(hourly.map(|limit| ("hourly", 2, 3_600_000, limit)));
        shape(&windows)
    }

    fn bytes(window: &Window) -> u64 {
        match window.kind {
            1 => log_bytes(window.length_ms, window.limit, window.tick_ms),
            kind => (window.length_ms.div_ceil(window.tick_ms) + 1) * (1 + 2 * (u64::from(kind) - 1)),
        }
    }

    #[test]
    fn shipped_bursts_are_logged_to_ten_milliseconds_or_better() {
        for (burst, hourly, tick_ms) in
            [(10, Some(120), 1), (100, Some(2000), 5), (150, Some(4000), 10), (300, None, 6)]
        {
            let shaped = windows(burst, hourly);
            assert_eq!(shaped[0].kind, 1, "burst {burst}");
            assert!(shaped[0].tick_ms <= tick_ms, "burst {burst}: {} ms", shaped[0].tick_ms);
        }
    }

    #[test]
    fn any_limits_fit_the_memory_of_a_session() {
        for burst in [1, 10, 50, 150, 200, 250, 300, 380, 1000, 65_535, 65_536, 1_000_000] {
            for hourly in [None, Some(1), Some(60), Some(61), Some(4000), Some(65_536), Some(10_000_000)] {
                let total: u64 = windows(burst, hourly).iter().map(bytes).sum();
                assert!(total <= ENTRY_BYTES, "{burst} {hourly:?}: {total}");
            }
        }
    }

    #[test]
    fn a_window_alone_fits_whatever_its_length_and_limit_and_releases_within_a_sixtieth() {
        for length_ms in [1, 2, 7, 60, 600, 601, 3_600, 86_399, 86_400].map(|seconds| seconds * 1000) {
            for limit in [1, 60, 61, 300, 390, 391, 65_535, 65_536, 100_000, 1_000_000_000] {
                let window = shape(&[("named", 3, length_ms, limit)]).remove(0);
                assert!(bytes(&window) <= ENTRY_BYTES, "{limit} in {length_ms} ms: {} bytes", bytes(&window));
                assert!(window.tick_ms <= length_ms.div_ceil(60), "{limit} in {length_ms} ms: {}", window.tick_ms);
                assert!(length_ms.div_ceil(window.tick_ms) <= 0xffff, "{limit} in {length_ms} ms: {}", window.tick_ms);
                let most_in_a_tick = [u64::MAX, 0xffff, 0xffff_ffff][usize::from(window.kind) - 1];
                assert!(limit <= most_in_a_tick, "{limit} units do not fit an entry of kind {}", window.kind);
            }
        }
    }

    #[test]
    fn a_folded_window_releases_within_a_sixtieth() {
        let shaped = windows(10, Some(120));
        assert_eq!((shaped[1].kind, shaped[1].tick_ms), (2, 60_000));
    }
}
