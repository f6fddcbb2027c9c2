//! A breaker as a list of calls and a state.
//!
//! Must never be fed by a refusal: only settled attempts come here.

use portcullis_config::policy::TaskBreaker;
use portcullis_lua::BreakerView;

/// The breaker of a task kind.
#[derive(Clone, Debug, Default)]
pub(super) struct Breaker {
    state: State,
    /// Number of the half-open phase it is in, or was in last.
    epoch: u64,
    /// Whether anything was ever counted.
    pub(super) known: bool,
}

#[derive(Clone, Debug)]
enum State {
    Closed { calls: Vec<Call> },
    Open { until_ms: u64 },
    HalfOpen { out: u64, passed: u64 },
}

impl Default for State {
    fn default() -> Self {
        Self::Closed { calls: Vec::new() }
    }
}

/// A settled attempt. The window slides by tenths.
#[derive(Clone, Copy, Debug)]
struct Call {
    tenth: u64,
    failed: bool,
    slow: bool,
}

/// What an attempt says about the kind's backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sign {
    /// It worked; `true`: slowly.
    Success(bool),
    Failure,
    /// It ended without saying anything.
    None,
}

impl Breaker {
    /// An open breaker whose time is over is half-open.
    fn turn(&mut self, now_ms: u64) {
        if let State::Open { until_ms } = self.state
            && now_ms >= until_ms
        {
            self.epoch = until_ms;
            self.state = State::HalfOpen { out: 0, passed: 0 };
        }
    }

    pub(super) fn open_until_ms(&self) -> Option<u64> {
        if let State::Open { until_ms } = self.state { Some(until_ms) } else { None }
    }

    /// Time until a request may come, ms; `None` when it may come now. No request is a probe that nobody will tell of.
    pub(super) fn wait_ms(&self, rules: &TaskBreaker, now_ms: u64, service_ms: f64, told_of: bool) -> Option<f64> {
        let mut then = self.clone();
        then.turn(now_ms);
        match then.state {
            State::Open { until_ms } => Some((until_ms - now_ms) as f64),
            State::HalfOpen { out, passed } if !told_of || out + passed >= rules.half_open_probes => {
                Some(service_ms.max(1.0))
            }
            _ => None,
        }
    }

    /// Lets a request through; the phase it is a probe of, 0 for none.
    pub(super) fn admit(&mut self, now_ms: u64) -> u64 {
        self.turn(now_ms);
        match &mut self.state {
            State::HalfOpen { out, .. } => {
                *out += 1;
                self.epoch
            }
            _ => 0,
        }
    }

    /// An attempt was settled.
    pub(super) fn feed(&mut self, rules: &TaskBreaker, now_ms: u64, epoch: u64, sign: Sign) {
        self.turn(now_ms);
        let open = State::Open { until_ms: now_ms + rules.open_seconds * 1000 };
        match &mut self.state {
            State::HalfOpen { out, passed } if epoch == self.epoch => {
                *out = out.saturating_sub(1);
                match sign {
                    Sign::None => {}
                    Sign::Success(false) => {
                        *passed += 1;
                        if *passed >= rules.half_open_probes {
                            self.state = State::default();
                        }
                    }
                    Sign::Success(true) | Sign::Failure => self.state = open,
                }
            }
            State::Closed { calls } if sign != Sign::None => {
                self.known = true;
                let tenth = now_ms * 10 / (rules.window_seconds * 1000);
                calls.push(Call { tenth, failed: sign == Sign::Failure, slow: sign == Sign::Success(true) });
                let [total, failed, slow] = counts(calls, tenth);
                let reaches = |count: u64, rate: f64| count as f64 >= total as f64 * rate;
                if total >= rules.minimum_calls
                    && (reaches(failed, rules.failure_rate) || reaches(slow, rules.slow_call_rate))
                {
                    self.state = open;
                }
            }
            // An open breaker listens to nobody, a half-open one to its own probes only.
            _ => {}
        }
    }

    pub(super) fn view(&self, rules: &TaskBreaker, now_ms: u64, name: &str) -> BreakerView {
        let mut then = self.clone();
        then.turn(now_ms);
        let mut view = BreakerView {
            name: name.to_owned(),
            state: "closed".to_owned(),
            calls: 0,
            failures: 0,
            slow: 0,
            probes_left: None,
            retry_after_ms: 0,
        };
        match then.state {
            State::Closed { calls } => {
                let tenth = now_ms * 10 / (rules.window_seconds * 1000);
                [view.calls, view.failures, view.slow] = counts(&calls, tenth);
            }
            State::Open { until_ms } => {
                "open".clone_into(&mut view.state);
                view.retry_after_ms = until_ms - now_ms;
            }
            State::HalfOpen { out, passed } => {
                "half_open".clone_into(&mut view.state);
                view.probes_left = Some(rules.half_open_probes.saturating_sub(out + passed));
            }
        }
        view
    }
}

/// Calls, failures and slow calls of the ten tenths up to `tenth`.
fn counts(calls: &[Call], tenth: u64) -> [u64; 3] {
    let inside = calls.iter().filter(|call| call.tenth + 10 > tenth);
    inside.fold([0; 3], |[total, failed, slow], call| {
        [total + 1, failed + u64::from(call.failed), slow + u64::from(call.slow)]
    })
}
