//! Plots of figures, as SVG.

use std::path::{Path, PathBuf};

use anyhow::{Result, anyhow};
use plotters::{coord::Shift, prelude::*};

use crate::figures::{Figures, Load, shown};

const SIZE: (u32, u32) = (760, 420);
const FONT: (&str, u32) = ("sans-serif", 14);
/// Told apart by those who see no red or green too.
const COLOURS: [RGBColor; 6] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
    RGBColor(230, 159, 0),
];

/// A line of a plot.
struct Line {
    name: String,
    points: Vec<(f64, f64)>,
}

/// Draws what there are figures for. Returns the files.
pub(crate) fn draw(figures: &Figures, directory: &Path) -> Result<Vec<PathBuf>> {
    let plots = [
        (
            "latency-against-load.svg",
            "Latency of verified receipts by events a second (open loop)",
            ("events/s", "ms"),
            // Where no line goes.
            SeriesLabelPosition::UpperLeft,
            latency(&figures.loads),
        ),
        (
            "rates-by-size.svg",
            "Rates by leaves in the log",
            ("leaves", "a second"),
            SeriesLabelPosition::LowerLeft,
            rates(figures),
        ),
    ];
    let mut drawn = Vec::new();
    for (name, title, axes, labels, lines) in plots {
        if lines.is_empty() {
            continue;
        }
        let path = directory.join(name);
        let area = SVGBackend::new(&path, SIZE).into_drawing_area();
        plot(&area, title, axes, labels, &lines).map_err(|problem| anyhow!("drawing {name}: {problem}"))?;
        drop(area);
        drawn.push(path);
    }
    Ok(drawn)
}

fn latency(loads: &[Load]) -> Vec<Line> {
    let mut lines: Vec<Line> = Vec::new();
    for load in loads {
        for (quantile, ms) in [("p50", load.p50_ms), ("p99", load.p99_ms)] {
            add(
                &mut lines,
                format!("{}, {quantile}", load.name),
                (load.offered, ms),
            );
        }
    }
    lines
}

fn rates(figures: &Figures) -> Vec<Line> {
    let mut lines = Vec::new();
    for (figure, leaves) in figures.by_size() {
        add(&mut lines, figure.name.clone(), (leaves as f64, figure.median()));
    }
    lines
}

fn add(lines: &mut Vec<Line>, name: String, point: (f64, f64)) {
    match lines.iter_mut().find(|line| line.name == name) {
        Some(line) => line.points.push(point),
        None => lines.push(Line {
            name,
            points: vec![point],
        }),
    }
}

fn plot(
    area: &DrawingArea<SVGBackend<'_>, Shift>,
    title: &str,
    (x_name, y_name): (&str, &str),
    labels: SeriesLabelPosition,
    lines: &[Line],
) -> Result<(), Box<dyn std::error::Error>> {
    let span = |of: fn(&(f64, f64)) -> f64| {
        let values = || lines.iter().flat_map(|line| line.points.iter().map(of));
        let least = values().fold(f64::INFINITY, f64::min).max(f64::MIN_POSITIVE);
        let most = values().fold(least, f64::max);
        (least / 1.3)..(most * 1.3)
    };
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(area)
        .caption(title, ("sans-serif", 17))
        .margin(12)
        .x_label_area_size(44)
        .y_label_area_size(70)
        .build_cartesian_2d(
            span(|point| point.0).log_scale(),
            span(|point| point.1).log_scale(),
        )?;
    chart
        .configure_mesh()
        .x_desc(x_name)
        .y_desc(y_name)
        .x_labels(4)
        .x_label_formatter(&|value| shown(*value))
        .y_label_formatter(&|value| shown(*value))
        .label_style(FONT)
        .axis_desc_style(FONT)
        .light_line_style(BLACK.mix(0.06))
        .bold_line_style(BLACK.mix(0.15))
        .draw()?;
    for (line, colour) in lines.iter().zip(COLOURS.iter().cycle()) {
        let points = line
            .points
            .iter()
            .map(|point| Circle::new(*point, 3, colour.filled()));
        chart.draw_series(points)?;
        chart
            .draw_series(LineSeries::new(
                line.points.iter().copied(),
                colour.stroke_width(2),
            ))?
            .label(&line.name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(2)));
    }
    chart
        .configure_series_labels()
        .position(labels)
        .background_style(WHITE.mix(0.85))
        .border_style(BLACK.mix(0.2))
        .label_font(FONT)
        .draw()?;
    area.present()?;
    Ok(())
}
