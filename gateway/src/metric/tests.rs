//! What is counted shows under its name, with its labels and a help text.

use super::*;

fn user_type(name: &str) -> UserType {
    UserType::new(name).unwrap()
}

/// The value of the series whose line starts so; tests share the recorder, so they look at differences only.
fn value(series: &str) -> f64 {
    let text = install().render();
    let line = text.lines().find(|line| line.starts_with(series));
    line.and_then(|line| line.rsplit(' ').next()).map_or(0.0, |value| value.parse().unwrap())
}

#[test]
fn a_decision_is_counted_under_its_labels() {
    let labels = r#"outcome="refused",step="economics",code="budget_exhausted",user_type="metric-a""#;
    let series = &format!("portcullis_decisions_total{{{labels}}}");
    let before = value(series);
    for _ in 0..3 {
        decision("refused", "economics", "budget_exhausted", &user_type("metric-a"));
    }
    decision("refused", "economics", "budget_exhausted", &user_type("metric-b"));
    assert!((value(series) - before - 3.0).abs() < f64::EPSILON);
}

#[test]
fn local_refusals_can_be_read_back() {
    local_refusal("burst_limit", &user_type("metric-c"));
    local_refusal("burst_limit", &user_type("metric-c"));
    assert!(local_refusals().contains(&("burst_limit", "metric-c".to_owned(), 2)));
    assert!(value(r#"portcullis_local_refusals_total{code="burst_limit",user_type="metric-c"}"#) >= 2.0);
}

#[test]
fn durations_are_histograms_in_seconds() {
    http_request("/metric-test", 202, 0.0007);
    let text = install().render();
    assert!(text.contains("# TYPE portcullis_http_request_duration_seconds histogram"), "{text}");
    let series = |le: &str| {
        format!(r#"portcullis_http_request_duration_seconds_bucket{{route="/metric-test",status="202",le="{le}"}}"#)
    };
    assert!(value(&series("0.0005")).abs() < f64::EPSILON);
    assert!((value(&series("0.001")) - 1.0).abs() < f64::EPSILON);
}

#[test]
fn every_metric_has_the_prefix_and_a_help_text() {
    decision("admitted", "", "", &user_type("metric-d"));
    admit_batch(4, 0.001);
    store_breaker(false);
    gathered(0);
    event_streams(1);
    event_streams(-1);
    scopes(1);
    policy_loaded();
    stale_policy();
    upkeep_failed();
    for line in install().render().lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        assert!(line.starts_with("portcullis_"), "{line}");
    }
    let text = install().render();
    let names = [DECISIONS, ADMIT_BATCH, ADMIT_DURATION, GATHERED, STORE_BREAKER, EVENT_STREAMS, BUILD, SCOPES];
    for name in names.into_iter().chain([POLICY_LOADS, STALE_POLICY, UPKEEP_FAILURES]) {
        assert!(text.contains(&format!("# HELP {name} ")), "{name}");
    }
}
