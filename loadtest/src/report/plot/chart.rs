//! One chart: lines or stacked areas over time, faults behind them, as SVG.
//!
//! Responsible for axes that exist whatever there is to show. Must never draw text that readers need for colours: names
//! stand in a legend beside the picture, in the page's own font.

use plotters::prelude::*;
use plotters::style::Color as _;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::record::Fault;
use crate::report::plot::band::{Band, bands};
use crate::report::plot::series::{Segments, Span};

const WIDTH: u32 = 920;
const HEIGHT: u32 = 300;
/// Left of the axis, for its labels.
const LABELS_LEFT: u32 = 64;
const LABELS_BELOW: u32 = 36;
const MARGIN: u32 = 10;
const FONT: (&str, u32) = ("sans-serif", 16);
/// Where the plot area's height ends up above its highest value, for names of faults.
const HEADROOM: f64 = 1.22;
/// Middle grey, to be seen on light and dark.
const GRID: RGBColor = RGBColor(128, 128, 128);
const FAULT: RGBColor = RGBColor(234, 88, 12);

/// A colour by its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Color(pub u8, pub u8, pub u8);

impl Color {
    /// What went well.
    pub const GOOD: Self = Self(22, 163, 74);
    /// What went wrong.
    pub const BAD: Self = Self(220, 38, 38);
    /// What only stands for comparison.
    pub const QUIET: Self = Self(140, 140, 150);

    /// Colours to tell lines apart by, readable on light and dark.
    const PALETTE: [Self; 9] = [
        Self(59, 130, 246),
        Self(249, 115, 22),
        Self(168, 85, 247),
        Self(20, 184, 166),
        Self(202, 138, 4),
        Self(236, 72, 153),
        Self(6, 182, 212),
        Self(132, 204, 22),
        Self(148, 113, 90),
    ];

    /// One of them; they repeat.
    #[must_use]
    pub fn nth(number: usize) -> Self {
        Self::PALETTE[number % Self::PALETTE.len()]
    }

    fn rgb(self) -> RGBColor {
        RGBColor(self.0, self.1, self.2)
    }
}

/// One line.
#[derive(Clone, Debug)]
pub struct Line {
    /// What the legend calls it.
    pub name: String,
    /// Its colour.
    pub color: Color,
    /// Whether it is a bound rather than a measurement.
    pub dashed: bool,
    /// Its points.
    pub points: Segments,
}

/// How values are laid out from bottom to top.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// Lines from 0.
    Linear,
    /// Lines on a logarithmic axis; values at or below 0 stand at its bottom.
    Logarithmic,
    /// Areas on top of each other, the first at the bottom. All have the same points in time.
    Stacked,
}

/// What is drawn.
#[derive(Clone, Debug)]
pub struct Chart {
    /// Title for people.
    pub title: &'static str,
    /// What the values are, with their unit.
    pub about: &'static str,
    /// See [`Layout`].
    pub layout: Layout,
    /// The lines.
    pub lines: Vec<Line>,
}

/// A chart that was drawn.
#[derive(Clone, Debug)]
pub struct Plot {
    /// Title for people.
    pub title: &'static str,
    /// What the values are, with their unit.
    pub about: &'static str,
    /// The picture, complete but for a title; `None` where there is nothing to draw.
    pub svg: Option<String>,
    /// Name, colour and whether it is dashed, of every line.
    pub legend: Vec<(String, Color, bool)>,
}

type Drawn = Result<(), DrawingAreaErrorKind<std::io::Error>>;
type Area<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<RangedF64, RangedF64>>;
type RangedF64 = plotters::coord::types::RangedCoordf64;

impl Chart {
    /// Draws it over this time. A chart without points has no picture.
    #[must_use]
    pub fn draw(mut self, span: &Span, faults: &[Fault]) -> Plot {
        self.lines.retain(|line| !line.points.is_empty());
        if self.layout == Layout::Stacked {
            self.pile_up();
        }
        let legend = self.lines.iter().map(|line| (line.name.clone(), line.color, line.dashed)).collect();
        let mut svg = String::new();
        // Drawing into a string fails only where there is no room for the axes, and there is.
        let drawn = !self.lines.is_empty() && self.draw_into(&mut svg, span, faults).is_ok();
        Plot { title: self.title, about: self.about, svg: drawn.then_some(svg), legend }
    }

    /// Every line becomes the sum of itself and those below.
    fn pile_up(&mut self) {
        for upper in 1..self.lines.len() {
            let (below, above) = self.lines.split_at_mut(upper);
            let pairs = above[0].points.iter_mut().flatten().zip(below[upper - 1].points.iter().flatten());
            pairs.for_each(|(point, under)| point.1 += under.1);
        }
    }

    /// Where a value stands on the axis.
    fn place(&self, value: f64) -> f64 {
        if self.layout == Layout::Logarithmic { value.max(f64::MIN_POSITIVE).log10() } else { value }
    }

    /// Bottom and top of the axis: never equal, never infinite.
    fn range(&self) -> (f64, f64) {
        let values = || self.lines.iter().flat_map(|line| line.points.iter().flatten().map(|point| point.1));
        let most = values().filter(|value| value.is_finite()).fold(0.0, f64::max);
        if self.layout != Layout::Logarithmic {
            return (0.0, if most > 0.0 { most * HEADROOM } else { 1.0 });
        }
        let positive = values().filter(|value| value.is_finite() && *value > 0.0);
        let least = positive.reduce(f64::min).unwrap_or(1.0);
        let bottom = least.log10().floor();
        // Whole decades, so that every label is a power of ten.
        (bottom, most.max(least).log10().ceil().max(bottom + 1.0) + 0.3)
    }

    fn draw_into(&self, svg: &mut String, span: &Span, faults: &[Fault]) -> Drawn {
        let root = SVGBackend::with_string(svg, (WIDTH, HEIGHT)).into_drawing_area();
        let (bottom, top) = self.range();
        let mut area = ChartBuilder::on(&root)
            .margin(MARGIN)
            .x_label_area_size(LABELS_BELOW)
            .y_label_area_size(LABELS_LEFT)
            .build_cartesian_2d(0.0..span.end_seconds(), bottom..top)?;
        let logarithmic = self.layout == Layout::Logarithmic;
        let label = |value: &f64| if logarithmic { decade(*value) } else { short(*value) };
        let decades = (top - bottom) as usize + 1;
        area.configure_mesh()
            .disable_x_mesh()
            .bold_line_style(GRID.mix(0.25))
            .light_line_style(TRANSPARENT)
            .axis_style(GRID)
            .label_style(FONT)
            .x_desc("seconds")
            .x_label_formatter(&|seconds| short(*seconds))
            .y_labels(if logarithmic { decades } else { 6 })
            .y_label_formatter(&label)
            .draw()?;
        let width_px = f64::from(WIDTH - LABELS_LEFT - 2 * MARGIN);
        for band in bands(faults, span.end_seconds(), width_px) {
            draw_band(&mut area, &band, (bottom, top))?;
        }
        // The highest area first: those below it are drawn over it.
        let order: Vec<&Line> = if self.layout == Layout::Stacked {
            self.lines.iter().rev().collect()
        } else {
            self.lines.iter().collect()
        };
        for line in order {
            self.draw_line(&mut area, line)?;
        }
        drop(area);
        root.present()
    }

    fn draw_line(&self, area: &mut Area<'_, '_>, line: &Line) -> Drawn {
        let style = line.color.rgb().stroke_width(2);
        for segment in &line.points {
            let points: Vec<(f64, f64)> = segment.iter().map(|point| (point.0, self.place(point.1))).collect();
            match (points.as_slice(), self.layout) {
                // A line of one point would not be seen.
                ([point], _) => {
                    area.draw_series([Circle::new(*point, 3, line.color.rgb().filled())])?;
                }
                (_, Layout::Stacked) => {
                    area.draw_series(AreaSeries::new(points, 0.0, line.color.rgb()))?;
                }
                _ if line.dashed => {
                    area.draw_series(DashedLineSeries::new(points, 6, 4, style))?;
                }
                _ => {
                    area.draw_series(LineSeries::new(points, style))?;
                }
            }
        }
        Ok(())
    }
}

fn draw_band(area: &mut Area<'_, '_>, band: &Band, (bottom, top): (f64, f64)) -> Drawn {
    if let Some(until) = band.until {
        area.draw_series([Rectangle::new([(band.from, top), (until, bottom)], FAULT.mix(0.14).filled())])?;
    }
    area.draw_series([PathElement::new(vec![(band.from, top), (band.from, bottom)], FAULT.mix(0.7))])?;
    if let Some((name, row)) = &band.label {
        let style = ("sans-serif", 14).into_font().color(&BLACK).pos(Pos::new(HPos::Left, VPos::Top));
        let below_top = (top - bottom) * (0.01 + 0.06 * *row as f64);
        let label = EmptyElement::at((band.from, top - below_top)) + Text::new(name.clone(), (3, 0), style);
        area.draw_series([label])?;
    }
    Ok(())
}

/// A power of ten; nothing between two of them.
fn decade(exponent: f64) -> String {
    if (exponent - exponent.round()).abs() > 1e-6 {
        String::new()
    } else {
        short(10.0_f64.powi(exponent.round() as i32))
    }
}

/// A number in few characters.
fn short(value: f64) -> String {
    let magnitude = value.abs();
    let (scaled, unit) = match magnitude {
        _ if magnitude >= 1e9 => (value / 1e9, "G"),
        _ if magnitude >= 1e6 => (value / 1e6, "M"),
        _ if magnitude >= 1e4 => (value / 1e3, "k"),
        _ => (value, ""),
    };
    let digits = format!("{scaled:.3}");
    let digits = digits.trim_end_matches('0').trim_end_matches('.');
    format!("{digits}{unit}")
}

#[cfg(test)]
mod tests;
