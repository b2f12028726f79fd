//! The ratios as a picture: for each row a panel, in it a bar for each server, from 1 to the median, on a logarithmic
//! scale, and a line from the least to the greatest. The colours are to be read on white and on black.

use crate::{
    peer::Contest,
    report::Report,
    row::{Discipline, Row},
};
use std::fmt::{self, Write};

const MARGIN: f64 = 16.0;
const PANEL: f64 = 480.0;
const PANELS_ABREAST: usize = 2;
const WIDTH: f64 = 2.0 * MARGIN + PANELS_ABREAST as f64 * PANEL;

const HEADING: f64 = 60.0;
const TITLE: f64 = 26.0;
const LINE: f64 = 19.0;
const SCALE: f64 = 34.0;

/// Within a panel: the bars lie between the names and the figures.
const BARS_FROM: f64 = 140.0;
const BARS_TO: f64 = 410.0;
const FIGURES_TO: f64 = 456.0;

const INK: &str = "#757f8a";
const OURS: &str = "#e36209";
const THEIRS: &str = "#7a9cc6";

/// The whole picture; empty panels stand for rows without a ratio.
pub(crate) fn svg(report: &Report) -> String {
    let mut drawing = String::new();
    let mut y = MARGIN;
    for contest in &report.contests {
        // Writing to a String cannot fail.
        let _ = draw_contest(&mut drawing, report, contest, &mut y);
    }
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{y}\" viewBox=\"0 0 {WIDTH} {y}\" \
         font-family=\"system-ui, 'Liberation Sans', sans-serif\" font-size=\"12\" fill=\"{INK}\">\n\
         {drawing}</svg>\n"
    )
}

/// What the bars of a contest are measured by: powers of two.
struct Scale {
    from: i32,
    to: i32,
}

impl Scale {
    /// At least from a half to two, so that little differences look little.
    fn fit(ratios: impl Iterator<Item = f64>) -> Self {
        let (mut from, mut to) = (-1, 1);
        for ratio in ratios {
            from = from.min(ratio.log2().floor() as i32);
            to = to.max(ratio.log2().ceil() as i32);
        }
        Self { from, to }
    }

    fn x(&self, ratio: f64) -> f64 {
        let share = (ratio.log2() - f64::from(self.from)) / f64::from(self.to - self.from);
        BARS_FROM + share * (BARS_TO - BARS_FROM)
    }
}

fn draw_contest(out: &mut String, report: &Report, contest: &Contest, y: &mut f64) -> fmt::Result {
    let rows: Vec<_> = contest.rows.iter().filter(|row| !row.is_idle()).collect();
    if rows.is_empty() {
        return Ok(());
    }
    let ratios = |row| {
        contest.peers.iter().map(move |peer| report.ratio(row, &peer.name, &contest.reference)).enumerate()
    };
    let scale = Scale::fit(rows.iter().flat_map(|row| ratios(row)).filter_map(|(_, it)| it).flatten());

    let what = match contest.discipline {
        Discipline::Plain => "Echo: server CPU per message",
        Discipline::Deflate => "Echo with permessage-deflate: server CPU per message",
        Discipline::Broadcast => "Broadcast: server CPU per delivery",
    };
    let reference = escaped(&contest.reference);
    writeln!(
        out,
        r#"<text x="{MARGIN}" y="{:.1}" font-size="17" font-weight="600">{what}, ratio to {reference}</text>"#,
        *y + 18.0
    )?;
    writeln!(
        out,
        r#"<text x="{MARGIN}" y="{:.1}">Left of 1 is cheaper. Bars are medians, lines go from the least to the greatest.</text>"#,
        *y + 38.0
    )?;
    *y += HEADING;

    let panel_height = TITLE + LINE * contest.peers.len() as f64 + SCALE;
    for abreast in rows.chunks(PANELS_ABREAST) {
        for (column, row) in abreast.iter().enumerate() {
            let x = MARGIN + PANEL * column as f64;
            writeln!(out, r#"<g transform="translate({x:.1} {y:.1})">"#)?;
            draw_panel(out, contest, row, &scale, ratios(row))?;
            writeln!(out, "</g>")?;
        }
        *y += panel_height;
    }
    *y += MARGIN;
    Ok(())
}

fn draw_panel(
    out: &mut String,
    contest: &Contest,
    row: &Row,
    scale: &Scale,
    ratios: impl Iterator<Item = (usize, Option<[f64; 3]>)>,
) -> fmt::Result {
    writeln!(out, r#"<text y="14" font-size="13" font-weight="600">{row}</text>"#)?;
    let bottom = TITLE + LINE * contest.peers.len() as f64;
    for power in scale.from..=scale.to {
        let ratio = f64::from(power).exp2();
        let (x, opacity) = (scale.x(ratio), if power == 0 { 0.9 } else { 0.25 });
        writeln!(
            out,
            r#"<path d="M{x:.1} {TITLE}V{bottom:.1}" stroke="{INK}" stroke-opacity="{opacity}"/><text x="{x:.1}" y="{:.1}" font-size="10" text-anchor="middle">{ratio}</text>"#,
            bottom + 13.0
        )?;
    }
    for (line, ratio) in ratios {
        let name = &contest.peers[line].name;
        let middle = TITLE + LINE * (line as f64 + 0.5);
        let baseline = middle + 4.0;
        let (colour, weight) = if name.starts_with("longwire") { (OURS, 600) } else { (THEIRS, 400) };
        writeln!(
            out,
            r#"<text x="{:.1}" y="{baseline:.1}" text-anchor="end" font-weight="{weight}">{}</text>"#,
            BARS_FROM - 8.0,
            escaped(name)
        )?;
        let figure = match ratio {
            Some([median, least, greatest]) => {
                let (left, right) = (scale.x(median.min(1.0)), scale.x(median.max(1.0)));
                writeln!(
                    out,
                    r#"<rect x="{:.1}" y="{:.1}" width="{:.1}" height="12" rx="1.5" fill="{colour}"/>"#,
                    left - 1.0,
                    middle - 6.0,
                    right - left + 2.0
                )?;
                let (from, to, up) = (scale.x(least), scale.x(greatest), middle - 3.5);
                writeln!(
                    out,
                    r#"<path d="M{from:.1} {middle:.1}H{to:.1}M{from:.1} {up:.1}v7M{to:.1} {up:.1}v7" stroke="{INK}" stroke-width="1.4"/>"#
                )?;
                format!("{median:.2}")
            }
            None => "–".to_owned(),
        };
        writeln!(
            out,
            r#"<text x="{FIGURES_TO}" y="{baseline:.1}" text-anchor="end" style="font-variant-numeric:tabular-nums">{figure}</text>"#
        )?;
    }
    Ok(())
}

fn escaped(name: &str) -> String {
    name.replace('&', "&amp;").replace('<', "&lt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_lies_between_a_half_and_two_and_a_scale_holds_all_ratios() {
        let scale = Scale::fit([1.1, 13.0].into_iter());
        assert_eq!((scale.from, scale.to), (-1, 4));
        assert_eq!(scale.x(0.5), BARS_FROM);
        assert_eq!(scale.x(16.0), BARS_TO);
        let scale = Scale::fit([1.0].into_iter());
        assert_eq!(scale.x(1.0), (BARS_FROM + BARS_TO) / 2.0);
    }

    #[test]
    fn a_name_cannot_break_the_picture() {
        assert_eq!(escaped("a<b & c"), "a&lt;b &amp; c");
    }
}
