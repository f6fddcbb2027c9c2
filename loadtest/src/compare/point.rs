//! What is compared: our own requests, and the points of reference they are held against.
//!
//! Responsible for the list, its order and what each point means. Must never hold a figure.

use clap::ValueEnum;

use crate::compare::drive::Load;

/// One kind of request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Point {
    /// `PING` by redis-benchmark: Redis and the network stack, nothing else.
    Ping,
    /// The same, 16 in a pipeline on each connection.
    PingPipelined,
    /// `EVALSHA return 1` by redis-benchmark: the cheapest script there can be.
    Script,
    /// The same, 16 in a pipeline on each connection.
    ScriptPipelined,
    /// Axum that reads a body and answers 202.
    Bare,
    /// The same after one `EVALSHA return 1`: the least an admission can be.
    Evalsha,
    /// Axum that answers an empty 429.
    Minimal429,
    /// Axum that answers a fixed 429 with the gateway's own headers and body: the least a refusal can be.
    Static429,
    /// A gateway that is asked for its health: its HTTP stack without a decision.
    Healthz,
    /// A gateway that admits.
    Admitted,
    /// A gateway that refuses from memory.
    Remembered,
    /// A gateway that has Redis refuse, every time.
    RefusedByRedis,
    /// The application behind the proxies, asked directly.
    Upstream,
    /// nginx in front of it.
    Nginx,
    /// A gateway in front of it, on a path that takes no gates.
    ProxiedRead,
    /// A gateway in front of it, on a path that takes all of them.
    ProxiedGuarded,
    /// A gateway that refuses such a path from memory.
    ProxiedRefused,
}

/// Who answers a point.
#[derive(Clone, Debug)]
pub enum Way {
    /// Redis itself.
    Redis {
        /// Whether it runs the script rather than `PING`.
        script: bool,
        /// Commands under way on each connection.
        pipeline: u32,
    },
    /// The bare server.
    Bare(Load),
    /// The application, directly.
    Upstream(Load),
    /// nginx in front of it.
    Nginx(Load),
    /// A gateway.
    Gateway(Load),
}

/// Path of the application that takes no gates.
pub const READ: &str = "/read";
/// Path of the application that takes all of them.
pub const GUARDED: &str = "/guarded";
/// User type of the callers that are admitted.
pub const ADMITTED: &str = "privileged";
/// User type of the callers whose budget is spent: a refusal that no gateway remembers.
pub const SPENT: &str = "registered";

impl Point {
    /// All, in the order in which a round runs and tables show them.
    pub const ALL: [Self; 17] = [
        Self::Ping,
        Self::PingPipelined,
        Self::Script,
        Self::ScriptPipelined,
        Self::Bare,
        Self::Evalsha,
        Self::Minimal429,
        Self::Static429,
        Self::Healthz,
        Self::Admitted,
        Self::Remembered,
        Self::RefusedByRedis,
        Self::Upstream,
        Self::Nginx,
        Self::ProxiedRead,
        Self::ProxiedGuarded,
        Self::ProxiedRefused,
    ];

    /// What tables call it.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Self::Ping => "redis-benchmark PING",
            Self::PingPipelined => "redis-benchmark PING, 16 in a pipeline",
            Self::Script => "redis-benchmark EVALSHA",
            Self::ScriptPipelined => "redis-benchmark EVALSHA, 16 in a pipeline",
            Self::Bare => "axum, bare 202",
            Self::Evalsha => "axum, EVALSHA return 1",
            Self::Minimal429 => "axum, empty 429",
            Self::Static429 => "axum, static 429 as ours",
            Self::Healthz => "gateway, GET /healthz",
            Self::Admitted => "gateway, admitted",
            Self::Remembered => "gateway, refused from memory",
            Self::RefusedByRedis => "gateway, refused by Redis",
            Self::Upstream => "upstream, directly",
            Self::Nginx => "upstream, through nginx",
            Self::ProxiedRead => "upstream, through a gateway",
            Self::ProxiedGuarded => "upstream, through a gateway, guarded",
            Self::ProxiedRefused => "guarded path, refused from memory",
        }
    }

    /// What has to be installed for it.
    #[must_use]
    pub fn tool(self) -> Option<&'static str> {
        match self.way() {
            Way::Redis { .. } => Some("redis-benchmark"),
            Way::Nginx(_) => Some("nginx"),
            Way::Bare(_) | Way::Upstream(_) | Way::Gateway(_) => None,
        }
    }

    /// How it is asked.
    #[must_use]
    pub fn way(self) -> Way {
        let redis = |script, pipeline| Way::Redis { script, pipeline };
        match self {
            Self::Ping => redis(false, 1),
            Self::PingPipelined => redis(false, 16),
            Self::Script => redis(true, 1),
            Self::ScriptPipelined => redis(true, 16),
            Self::Bare => Way::Bare(Load::post("/bare", 202)),
            Self::Evalsha => Way::Bare(Load::post("/evalsha", 202)),
            Self::Minimal429 => Way::Bare(Load::post("/minimal", 429)),
            Self::Static429 => Way::Bare(Load::post("/static", 429)),
            Self::Healthz => Way::Gateway(Load::get("/healthz", 200)),
            Self::Admitted => Way::Gateway(Load::many_callers("/v1/tasks", ADMITTED, 202)),
            Self::Remembered => Way::Gateway(Load::post("/v1/tasks", 429)),
            Self::RefusedByRedis => Way::Gateway(Load::many_callers("/v1/tasks", SPENT, 429)),
            Self::Upstream => Way::Upstream(Load::get(READ, 200)),
            Self::Nginx => Way::Nginx(Load::get(READ, 200)),
            Self::ProxiedRead => Way::Gateway(Load::get(READ, 200)),
            Self::ProxiedGuarded => Way::Gateway(Load::get_by_many_callers(GUARDED, ADMITTED, 200)),
            Self::ProxiedRefused => Way::Gateway(Load::get(GUARDED, 429)),
        }
    }
}
