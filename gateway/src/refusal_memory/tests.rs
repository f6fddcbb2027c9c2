//! What is remembered, for whom, under which policy and for how long.

use portcullis_lua::Reason;
use tokio::time::advance;

use super::*;

fn refusal(reason: Reason, retry_after_ms: u64) -> Refusal {
    Refusal { reason, name: Some("burst".to_owned()), retry_after_ms }
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
    advance(Duration::from_millis(99)).await;
    assert_eq!(memory.pressure(subject(1, "s"), seventh()).unwrap().refusal.retry_after_ms, 4901);
    let anonymous = Subject { user_type: &UserType::anonymous(), ..subject(1, "s") };
    assert_eq!(memory.pressure(anonymous, seventh()), None);
    advance(Duration::from_millis(1)).await;
    assert_eq!(memory.pressure(subject(1, "s"), seventh()), None);
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
