//! The same plan, faster or longer.
//!
//! Responsible for turning a scenario into one of another size without changing its shape. Must never change who calls
//! or what a client does with an answer.

use super::{Arrivals, Phase, Plan, Sessions, Stream};

impl Plan {
    /// The plan with `rate` times the requests per second, over `time` times the time. Bursts are as far apart as
    /// before and so much larger, think times so much shorter, and a trace is replayed so much faster.
    #[must_use]
    pub fn scaled(&self, rate: f64, time: f64) -> Self {
        Self(self.0.iter().map(|(name, stream)| (name.clone(), stream.scaled(rate, time))).collect())
    }
}

impl Stream {
    fn scaled(&self, rate: f64, time: f64) -> Self {
        Self {
            arrivals: self.arrivals.as_ref().map(|arrivals| arrivals.scaled(rate, time)),
            sessions: self.sessions.as_ref().map(|of| Sessions { think_ms: of.think_ms / rate, ..of.clone() }),
            start_seconds: self.start_seconds * time,
            duration_seconds: self.duration_seconds * time,
            ..self.clone()
        }
    }
}

impl Arrivals {
    fn scaled(&self, rate: f64, time: f64) -> Self {
        match self {
            Self::Constant { per_second } => Self::Constant { per_second: per_second * rate },
            Self::Poisson { per_second } => Self::Poisson { per_second: per_second * rate },
            Self::Burst { size, every_seconds } => {
                Self::Burst { size: (f64::from(*size) * rate).round().max(1.0) as u32, every_seconds: *every_seconds }
            }
            Self::Ramp { from_per_second, to_per_second } => {
                Self::Ramp { from_per_second: from_per_second * rate, to_per_second: to_per_second * rate }
            }
            Self::Replay { file, speed } => Self::Replay { file: file.clone(), speed: speed * rate },
            Self::Phases { phases } => Self::Phases { phases: phases.iter().map(|p| p.scaled(rate, time)).collect() },
        }
    }
}

impl Phase {
    fn scaled(&self, rate: f64, time: f64) -> Self {
        Self {
            seconds: self.seconds * time,
            arrivals: self.arrivals.as_ref().map(|arrivals| arrivals.scaled(rate, time)),
        }
    }
}
