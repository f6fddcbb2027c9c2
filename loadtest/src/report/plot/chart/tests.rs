//! What a chart does with much, little and nothing.

use super::*;
use crate::record::Record;

fn span() -> Span {
    Span::of(&Record { took_us: 10_000_000, ..Record::default() })
}

fn chart(layout: Layout, lines: &[&[(f64, f64)]]) -> Chart {
    let line = |(number, points): (usize, &&[(f64, f64)])| Line {
        name: format!("line {number}"),
        color: Color::nth(number),
        dashed: number == 1,
        points: if points.is_empty() { Vec::new() } else { vec![points.to_vec()] },
    };
    Chart { title: "a title", about: "", layout, lines: lines.iter().enumerate().map(line).collect() }
}

#[test]
fn few_and_strange_values_can_be_drawn() {
    let cases: [&[(f64, f64)]; 7] = [
        &[(1.0, 1.0)],
        &[(1.0, 0.0)],
        &[(1.0, 0.0), (2.0, 0.0)],
        &[(1.0, 5.0), (2.0, 5.0)],
        &[(1.0, 1e18), (2.0, 1e-18)],
        &[(1.0, -3.0), (2.0, 4.0)],
        &[(1.0, f64::NAN), (2.0, f64::INFINITY)],
    ];
    for layout in [Layout::Linear, Layout::Logarithmic, Layout::Stacked] {
        for points in cases {
            let plot = chart(layout, &[points, points]).draw(&span(), &[]);
            assert!(plot.svg.is_some_and(|svg| svg.ends_with("</svg>\n")), "{layout:?} {points:?}");
        }
    }
}

#[test]
fn a_chart_without_points_has_no_picture() {
    assert!(chart(Layout::Linear, &[]).draw(&span(), &[]).svg.is_none());
    assert!(chart(Layout::Stacked, &[&[], &[]]).draw(&span(), &[]).svg.is_none());
}

#[test]
fn areas_stand_on_each_other() {
    let mut chart = chart(Layout::Stacked, &[&[(1.0, 1.0), (2.0, 2.0)], &[(1.0, 10.0), (2.0, 20.0)]]);
    chart.pile_up();
    assert_eq!(chart.lines[1].points, vec![vec![(1.0, 11.0), (2.0, 22.0)]]);
}

#[test]
fn faults_are_shaded_and_named_without_harm() {
    let fault = Fault { name: "<b>&\"pause".to_owned(), detail: String::new(), at_us: 1_000_000, until_us: None };
    let lasting = Fault { until_us: Some(3_000_000), ..fault.clone() };
    let plot = chart(Layout::Linear, &[&[(1.0, 1.0), (2.0, 2.0)]]).draw(&span(), &[fault, lasting]);
    let svg = plot.svg.expect("a picture");
    assert!(svg.contains("&lt;b&gt;&amp;&quot;pause") && !svg.contains("<b>"), "{svg}");
    assert!(svg.contains("#EA580C"), "{svg}");
}

#[test]
fn decades_are_labelled_and_nothing_between_them() {
    assert_eq!([-1.0, 0.0, 0.5, 4.0].map(decade), ["0.1", "1", "", "10k"]);
    assert_eq!([0.0, 0.25, 1234.0, 2_500_000.0].map(short), ["0", "0.25", "1234", "2.5M"]);
}
