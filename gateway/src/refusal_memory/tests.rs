//! What is remembered, for whom, under which policy and for how long.

use portcullis_lua::Reason;
use tokio::time::advance;

use super::*;

fn refusal(reason: Reason, retry_after_ms: u64) -> Refusal {
    let pressure_ms = if reason.is_shared_pressure() { retry_after_ms } else { 0 };
    Refusal { reason, name: Some("burst".to_owned()), retry_after_ms, pressure_ms, backlog_ms: 0, assumed: false }
}

/// Refused by depth: a place may be free after `retry_after_ms`, the slots have work for `backlog_ms`.
fn pressed(retry_after_ms: u64, backlog_ms: u64) -> Refusal {
    Refusal { backlog_ms, ..refusal(Reason::HardLimit, retry_after_ms) }
}

fn subject(scope: u64, session_id: &'static str) -> Subject<'static> {
    static PAID: std::sync::LazyLock<UserType> = std::sync::LazyLock::new(|| UserType::new("paid").unwrap());
    Subject { scope, session_id, user_type: &PAID, class: "" }
}

fn full_window() -> Arc<[LimitState]> {
    [LimitState { name: "burst".into(), limit: 10, window_ms: 60_000, remaining: 0, reset_ms: 30_000 }].into()
}

fn seventh() -> PolicyStamp {
    PolicyStamp::new(7, "{}")
}

/// A memory that remembers one refusal of session `s` of scope 1, type paid, under the seventh policy.
fn memory(reason: Reason, retry_after_ms: u64) -> RefusalMemory {
    let memory = RefusalMemory::new();
    memory.remember(subject(1, "s"), 1, &refusal(reason, retry_after_ms), &full_window(), seventh(), Instant::now());
    memory
}

#[tokio::test(start_paused = true)]
async fn a_session_is_refused_with_the_time_that_is_left() {
    let memory = memory(Reason::BurstLimit, 30_000);
    advance(Duration::from_millis(400)).await;
    let recalled = memory.session(subject(1, "s"), seventh()).unwrap();
    assert_eq!(recalled.refusal, refusal(Reason::BurstLimit, 29_600));
    assert_eq!((recalled.limits.states[0].reset_ms, recalled.limits.aged_ms), (30_000, 400));
    assert_eq!(memory.session(subject(1, "other"), seventh()), None);
    assert_eq!(memory.pressure(subject(1, "s"), seventh()), None);
}

#[tokio::test(start_paused = true)]
async fn nobody_is_told_the_limits_of_another_or_refused_as_another_type() {
    let pressed = memory(Reason::PressureThreshold, 50);
    assert!(pressed.pressure(subject(1, "other"), seventh()).unwrap().limits.states.is_empty());
    let full = memory(Reason::BurstLimit, 30_000);
    let anonymous = UserType::anonymous();
    assert_eq!(full.session(Subject { user_type: &anonymous, ..subject(1, "s") }, seventh()), None);
}

#[tokio::test(start_paused = true)]
async fn another_caller_of_the_session_is_told_the_sessions_windows_and_none_of_who_asked() {
    let memory = RefusalMemory::new();
    let window = |name: &str, remaining, reset_ms| LimitState {
        name: name.to_owned(),
        limit: 10,
        window_ms: 3_600_000,
        remaining,
        reset_ms,
    };
    let limits: Arc<[LimitState]> = [
        window("burst", 0, 30_000),
        window("hourly", 4, 900_000),
        window("per_agent", 0, 1_800_000),
        window("chain:0:calls_per_hour", 0, 3_000_000),
    ]
    .into();
    // It has to wait for its chain, and for a budget of its own.
    let refusal = refusal(Reason::BurstLimit, 86_400_000);
    let told = memory.remember(subject(1, "s"), 1, &refusal, &limits, seventh(), Instant::now());
    assert_eq!(told, 86_400_000, "who asked waits for all of it");
    advance(Duration::from_millis(400)).await;
    let recalled = memory.session(subject(1, "s"), seventh()).unwrap();
    assert_eq!(recalled.refusal.retry_after_ms, 29_600);
    assert_eq!(recalled.limits.states[..], limits[..2]);
}

#[tokio::test(start_paused = true)]
async fn pressure_is_told_to_others_without_what_the_one_who_asked_has_to_wait_for_besides() {
    for class in ["", "work"] {
        let of_class = Subject { class, ..subject(1, "s") };
        for (own_ms, told_ms) in [(86_400_000, 86_400_000), (0, 0)] {
            let memory = RefusalMemory::new();
            advance(Duration::from_millis(1)).await;
            let refusal = Refusal { retry_after_ms: own_ms, ..pressed(80, 0) };
            let told = memory.remember(of_class, 1, &refusal, &Arc::default(), seventh(), Instant::now());
            assert_eq!(told, told_ms, "{class:?}: its own budget counts for who asked; what never can be stays so");
            advance(Duration::from_millis(5)).await;
            let other = Subject { session_id: "other", ..of_class };
            let recalled = memory.pressure(other, seventh()).unwrap();
            assert_eq!(recalled.refusal.retry_after_ms, 75, "{class:?}");
            advance(Duration::from_millis(75)).await;
            assert_eq!(memory.pressure(other, seventh()), None, "{class:?}: longer than pressure needs");
        }
    }
}

#[test]
fn a_session_whose_request_can_never_be_is_told_so() {
    let (now, never) = (Instant::now(), refusal(Reason::BurstLimit, 0));
    let (_, term) = Term::of(now, 1, &never, &full_window(), seventh()).unwrap();
    assert_eq!((term.asker_retry_after_ms(&never), term.passed(now, seventh())), (0, None));
}

#[tokio::test(start_paused = true)]
async fn a_session_is_forgotten_within_a_second_or_when_its_time_has_come() {
    let long = memory(Reason::HourlyLimit, 30_000);
    let short = memory(Reason::BurstLimit, 200);
    advance(Duration::from_millis(199)).await;
    assert!(short.session(subject(1, "s"), seventh()).is_some());
    advance(Duration::from_millis(1)).await;
    assert_eq!(short.session(subject(1, "s"), seventh()), None);
    advance(Duration::from_millis(699)).await;
    assert!(long.session(subject(1, "s"), seventh()).is_some());
    advance(Duration::from_millis(1)).await;
    assert_eq!(long.session(subject(1, "s"), seventh()), None);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_came_late_is_remembered_from_its_question() {
    let memory = RefusalMemory::new();
    let asked_at = Instant::now();
    advance(Duration::from_millis(899)).await;
    let late = refusal(Reason::BurstLimit, 30_000);
    memory.remember(subject(1, "s"), 1, &late, &full_window(), seventh(), asked_at);
    assert_eq!(memory.session(subject(1, "s"), seventh()).unwrap().refusal.retry_after_ms, 29_101);
    advance(Duration::from_millis(1)).await;
    assert_eq!(memory.session(subject(1, "s"), seventh()), None);
}

#[tokio::test(start_paused = true)]
async fn a_window_that_has_room_again_is_forgotten_whatever_else_needs_longer() {
    let memory = RefusalMemory::new();
    let limits = [LimitState { reset_ms: 300, ..full_window()[0].clone() }].into();
    memory.remember(subject(1, "s"), 1, &refusal(Reason::BurstLimit, 30_000), &limits, seventh(), Instant::now());
    advance(Duration::from_millis(299)).await;
    assert!(memory.session(subject(1, "s"), seventh()).is_some());
    advance(Duration::from_millis(1)).await;
    assert_eq!(memory.session(subject(1, "s"), seventh()), None);
}

#[tokio::test(start_paused = true)]
async fn a_window_too_full_for_a_costly_request_may_have_room_for_another() {
    let memory = RefusalMemory::new();
    memory.remember(
        subject(1, "s"),
        2,
        &refusal(Reason::BurstLimit, 30_000),
        &full_window(),
        seventh(),
        Instant::now(),
    );
    assert_eq!(memory.session(subject(1, "s"), seventh()), None);
    memory.remember(subject(1, "s"), 2, &refusal(Reason::HardLimit, 30_000), &full_window(), seventh(), Instant::now());
    assert!(memory.pressure(subject(1, "s"), seventh()).is_some(), "depth is the same for every request");
}

#[tokio::test(start_paused = true)]
async fn pressure_refuses_the_type_for_a_tenth_of_a_second() {
    let memory = memory(Reason::PressureThreshold, 5000);
    assert_eq!(memory.session(subject(1, "s"), seventh()), None);
    advance(Duration::from_millis(89)).await;
    assert_eq!(memory.pressure(subject(1, "s"), seventh()).unwrap().refusal.retry_after_ms, 4911);
    let anonymous = Subject { user_type: &UserType::anonymous(), ..subject(1, "s") };
    assert_eq!(memory.pressure(anonymous, seventh()), None);
    advance(Duration::from_millis(11)).await;
    assert_eq!(memory.pressure(subject(1, "s"), seventh()), None);
}

#[tokio::test(start_paused = true)]
async fn near_the_end_of_pressure_one_caller_asks_and_the_others_wait_for_the_answer_or_the_end() {
    let memory = memory(Reason::PressureThreshold, 5000);
    let refused = || memory.pressure(subject(1, "s"), seventh()).is_some();
    advance(Duration::from_millis(89)).await;
    assert!(refused() && refused(), "nobody asks yet");
    advance(Duration::from_millis(1)).await;
    assert!(!refused(), "the first asks");
    assert!(refused() && refused(), "and nobody else");
    advance(Duration::from_millis(9)).await;
    assert!(refused());
    advance(Duration::from_millis(1)).await;
    assert!(!refused() && !refused(), "an answer that never came keeps nobody out");
}

#[tokio::test(start_paused = true)]
async fn who_asked_ahead_and_was_refused_begins_a_term_of_its_own() {
    let memory = memory(Reason::HardLimit, 5000);
    let refused = || memory.pressure(subject(1, "s"), seventh()).is_some();
    advance(Duration::from_millis(95)).await;
    assert!(!refused());
    memory.remember(subject(1, "s"), 1, &pressed(5000, 0), &full_window(), seventh(), Instant::now());
    advance(Duration::from_millis(89)).await;
    assert!(refused() && refused());
    advance(Duration::from_millis(1)).await;
    assert!(!refused(), "somebody asks ahead of its end too");
    assert!(refused());
}

#[tokio::test(start_paused = true)]
async fn an_admission_ends_what_was_asked_before_it() {
    let memory = RefusalMemory::new();
    let refused = |scope| memory.pressure(subject(scope, "s"), seventh()).is_some();
    let before = Instant::now();
    advance(Duration::from_millis(1)).await;
    for scope in [1, 2] {
        memory.remember(subject(scope, "s"), 1, &pressed(5000, 0), &full_window(), seventh(), Instant::now());
    }
    memory.admitted(subject(1, "s"), before);
    memory.admitted(subject(1, "s"), Instant::now());
    assert!(refused(1), "the refusal is as new as these admissions, or newer");
    advance(Duration::from_millis(1)).await;
    let anonymous = Subject { user_type: &UserType::anonymous(), ..subject(1, "s") };
    memory.admitted(anonymous, Instant::now());
    assert!(refused(1), "another type has another threshold");
    memory.admitted(subject(1, "other"), Instant::now());
    assert_eq!((refused(1), refused(2)), (false, true));
}

#[tokio::test(start_paused = true)]
async fn what_the_queue_can_bear_is_remembered_of_pressure() {
    // Until a place may be free; a third of the backlog, if that is longer; never more than a tenth of a second.
    for (retry_after_ms, backlog_ms, lasts_ms) in
        [(5, 0, 5), (5, 12, 5), (5, 150, 50), (70, 150, 70), (5, 30_000, 100), (30_000, 0, 100)]
    {
        let memory = RefusalMemory::new();
        let refusal = pressed(retry_after_ms, backlog_ms);
        let told_ms = memory.remember(subject(1, "s"), 1, &refusal, &full_window(), seventh(), Instant::now());
        assert_eq!(told_ms, retry_after_ms.max(lasts_ms), "{refusal:?}: nobody comes back while it is remembered");
        advance(Duration::from_micros(lasts_ms * 1000 - 1)).await;
        let recalled = || memory.pressure(subject(1, "s"), seventh());
        // The first would ask ahead.
        _ = recalled();
        assert!(recalled().is_some(), "{refusal:?}");
        advance(Duration::from_micros(1)).await;
        assert_eq!(recalled(), None, "{refusal:?}");
    }
}

#[test]
fn a_backlog_is_nothing_to_a_session() {
    let (now, refusal) = (Instant::now(), Refusal { backlog_ms: 900, ..refusal(Reason::BurstLimit, 20) });
    let (_, term) = Term::of(now, 1, &refusal, &full_window(), seventh()).unwrap();
    assert!(term.passed(now + Duration::from_millis(19), seventh()).is_some());
    assert!(!term.may_ask_ahead(now + Duration::from_millis(19)), "a window says when it has room");
    assert_eq!(term.passed(now + Duration::from_millis(20), seventh()), None);
}

#[test]
fn pressure_never_stands_beyond_its_bounds_and_nobody_is_told_to_come_back_meanwhile() {
    let (asked_at, passed_us) = (Instant::now(), (0..120_000).step_by(250));
    for (retry_after_ms, backlog_ms) in (0..130).step_by(7).flat_map(|a| (0..500).step_by(41).map(move |b| (a, b))) {
        let refusal = pressed(retry_after_ms, backlog_ms);
        let (_, term) = Term::of(asked_at, 1, &refusal, &[], seventh()).unwrap();
        for passed in passed_us.clone().map(Duration::from_micros) {
            let now = asked_at + passed;
            if term.passed(now, seventh()).is_none() {
                assert!(term.may_ask_ahead(now), "{refusal:?} after {passed:?}");
                continue;
            }
            assert!(passed < Duration::from_millis(100), "{refusal:?} after {passed:?}");
            let (retry_after, backlog) = (Duration::from_millis(retry_after_ms), Duration::from_millis(backlog_ms));
            assert!(passed < retry_after || passed * 3 < backlog, "{refusal:?} after {passed:?}");
            let told = Duration::from_millis(term.retry_after_ms(&refusal, passed));
            assert_eq!(term.passed(now + told, seventh()), None, "{refusal:?} after {passed:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn another_policy_or_another_scope_decides_anew() {
    for (reason, recall) in [
        (Reason::BurstLimit, RefusalMemory::session as fn(&RefusalMemory, Subject<'_>, PolicyStamp) -> _),
        (Reason::HardLimit, RefusalMemory::pressure),
    ] {
        let memory = memory(reason, 30_000);
        assert!(recall(&memory, subject(1, "s"), seventh()).is_some());
        assert_eq!(recall(&memory, subject(2, "s"), seventh()), None);
        assert_eq!(recall(&memory, subject(1, "s"), PolicyStamp::new(8, "{}")), None);
        let twin = PolicyStamp::new(7, "{\"profile\":\"other\"}");
        assert_eq!(recall(&memory, subject(1, "s"), twin), None, "another document under the same number");
    }
}

#[tokio::test(start_paused = true)]
async fn what_depends_on_more_than_the_caller_is_not_remembered() {
    for reason in Reason::ALL {
        let memory = memory(reason, 30_000);
        let session = memory.session(subject(1, "s"), seventh());
        let remembered = session.or_else(|| memory.pressure(subject(1, "s"), seventh())).is_some();
        let expected = matches!(
            reason,
            Reason::BurstLimit
                | Reason::HourlyLimit
                | Reason::PressureThreshold
                | Reason::HardLimit
                | Reason::NoLiveProcessors
        );
        assert_eq!(remembered, expected, "{reason:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn pressure_on_passes_is_that_of_their_class_and_remembered_for_a_part_of_the_wait() {
    let memory = RefusalMemory::new();
    let of_class = |class| Subject { class, ..subject(1, "s") };
    let refusal = refusal(Reason::HardLimit, 80);
    advance(Duration::from_millis(1)).await;
    memory.remember(of_class("work"), 1, &refusal, &Arc::default(), seventh(), Instant::now());
    assert_eq!(memory.pressure(of_class("work"), seventh()).unwrap().refusal, refusal);
    assert_eq!(memory.pressure(of_class("other"), seventh()), None);
    assert_eq!(memory.pressure(of_class(""), seventh()), None);
    advance(Duration::from_millis(9)).await;
    assert!(memory.pressure(of_class("work"), seventh()).is_some());
    advance(Duration::from_millis(1)).await;
    assert_eq!(memory.pressure(of_class("work"), seventh()), None);
    memory.remember(of_class("work"), 1, &refusal, &Arc::default(), seventh(), Instant::now());
    memory.remember(of_class(""), 1, &refusal, &Arc::default(), seventh(), Instant::now());
    memory.note_place_free();
    assert_eq!(memory.pressure(of_class("work"), seventh()), None, "there may be a place again");
    assert!(memory.pressure(of_class(""), seventh()).is_some(), "tasks have a queue");
}
