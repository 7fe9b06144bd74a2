//! A drawing of what grows, in SVG.

use super::table::protocol_name;
use super::{MEASURES, Measure, Sample};
use pagemesh_protocol::Protocol;
use std::fmt::Write;

/// The measures that are drawn, as places in [`MEASURES`].
const DRAWN: [usize; 2] = [0, 6];
const PANEL_WIDTH: f64 = 490.0;
const WIDTH: f64 = PANEL_WIDTH * 2.0;
const HEIGHT: f64 = 430.0;
/// The field of a panel in which lines are drawn: left, top, right, bottom.
const FIELD: [f64; 4] = [60.0, 46.0, 300.0, 370.0];
/// Names of lines are at least so far apart.
const NAME_STEP: f64 = 15.0;
/// Colours that are told apart by those who see few (Okabe and Ito 2008).
const COLOURS: [&str; 7] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000"];

/// A line of the drawing and its name.
struct Line<'a> {
    samples: &'a [Sample],
    colour: &'static str,
    /// Where its name stands.
    name_y: f64,
}

/// Draws messages and time per operation against nodes, both on logarithmic scales, for every workload; where there are pages, with
/// write-invalidate, and without what release regions need besides.
pub fn plot(lines: &[Vec<Sample>]) -> String {
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" \
         font-size=\"12\">\n<rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"#ffffff\"/>\n"
    );
    for (panel, measure) in DRAWN.into_iter().enumerate() {
        let _ = writeln!(svg, "<g transform=\"translate({} 0)\">", panel as f64 * PANEL_WIDTH);
        draw(&mut svg, &MEASURES[measure], lines);
        svg.push_str("</g>\n");
    }
    svg.push_str("</svg>\n");
    svg
}

/// Where values lie in the field; powers of ten upwards, of two to the right.
struct Scale {
    least: f64,
    most: f64,
    nodes_max: f64,
}

impl Scale {
    fn of(values: impl Iterator<Item = f64>, nodes_max: u16) -> Scale {
        let positive = values.filter(|value| *value > 0.0);
        let (least, most) = positive.fold((1.0f64, 1.0f64), |(a, b), value| (a.min(value), b.max(value)));
        Scale {
            least: least.log10().floor(),
            most: most.log10().ceil(),
            nodes_max: (nodes_max as f64).log2(),
        }
    }

    fn x(&self, nodes: u16) -> f64 {
        let part = ((nodes as f64).log2() - 1.0) / (self.nodes_max - 1.0).max(1.0);
        FIELD[0] + part * (FIELD[2] - FIELD[0])
    }

    /// Zero has no place on a logarithmic scale and lies on the lower edge.
    fn y(&self, value: f64) -> f64 {
        let part = (value.log10().max(self.least) - self.least) / (self.most - self.least).max(1.0);
        FIELD[3] - part * (FIELD[3] - FIELD[1])
    }
}

fn draw(svg: &mut String, measure: &Measure, all: &[Vec<Sample>]) {
    let all: Vec<&Vec<Sample>> =
        all.iter().filter(|line| line.first().is_some_and(|s| !s.workload.synchronises())).collect();
    let is_drawn = |s: &Sample| s.protocol != Some(Protocol::Migration);
    let drawn = all.iter().filter(|line| line.first().is_some_and(is_drawn));
    let samples = || all.iter().copied().flatten();
    let nodes_max = samples().map(|sample| sample.nodes).max().unwrap_or(2);
    let scale = Scale::of(samples().map(measure.of), nodes_max);
    let mut lines: Vec<Line<'_>> = drawn
        .zip(COLOURS)
        .map(|(samples, colour)| {
            let name_y = samples.last().map_or(0.0, |last| scale.y((measure.of)(last)));
            Line { samples, colour, name_y }
        })
        .collect();
    axes(svg, measure, &scale, nodes_max);
    for line in &lines {
        let points: Vec<String> = line
            .samples
            .iter()
            .map(|sample| format!("{:.1},{:.1}", scale.x(sample.nodes), scale.y((measure.of)(sample))))
            .collect();
        let _ = writeln!(
            svg,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{}\" stroke-width=\"2\"/>",
            points.join(" "),
            line.colour
        );
    }
    lines.sort_by(|a, b| a.name_y.total_cmp(&b.name_y));
    let mut lowest = f64::MAX;
    for line in lines.iter_mut().rev() {
        // From below upwards, so that no name hides another.
        line.name_y = line.name_y.min(lowest - NAME_STEP);
        lowest = line.name_y;
    }
    for line in &lines {
        let Some(last) = line.samples.last() else { continue };
        let (x, y) = (scale.x(last.nodes), scale.y((measure.of)(last)));
        let name = last.workload.name();
        let _ = writeln!(
            svg,
            "<path d=\"M{x:.1} {y:.1} L{:.1} {:.1}\" stroke=\"{colour}\" stroke-width=\"0.7\" fill=\"none\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" fill=\"{colour}\">{name}</text>",
            x + 14.0,
            line.name_y,
            x + 18.0,
            line.name_y + 4.0,
            colour = line.colour
        );
    }
}

fn axes(svg: &mut String, measure: &Measure, scale: &Scale, nodes_max: u16) {
    let [left, top, right, bottom] = FIELD;
    let protocol = protocol_name(Some(Protocol::WriteInvalidate));
    let _ = writeln!(
        svg,
        "<text x=\"{left}\" y=\"20\" font-size=\"14\" font-weight=\"bold\">{}</text>\n\
         <text x=\"{left}\" y=\"36\" fill=\"#555555\">pages by {protocol}</text>",
        measure.title
    );
    let mut power = scale.least;
    while power <= scale.most {
        let y = scale.y(10f64.powf(power));
        let label = 10f64.powf(power);
        let _ = writeln!(
            svg,
            "<path d=\"M{left} {y:.1} L{right} {y:.1}\" stroke=\"#dddddd\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{label}</text>",
            left - 6.0,
            y + 4.0
        );
        power += 1.0;
    }
    for nodes in super::node_counts().filter(|nodes| *nodes <= nodes_max) {
        let x = scale.x(nodes);
        let _ = writeln!(
            svg,
            "<path d=\"M{x:.1} {bottom} L{x:.1} {:.1}\" stroke=\"#555555\"/>\
             <text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\" font-size=\"10\">{nodes}</text>",
            bottom + 4.0,
            bottom + 17.0
        );
    }
    let _ = writeln!(
        svg,
        "<path d=\"M{left} {top} L{left} {bottom} L{right} {bottom}\" stroke=\"#555555\" fill=\"none\"/>\n\
         <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">nodes</text>",
        f64::midpoint(left, right),
        bottom + 36.0
    );
}
