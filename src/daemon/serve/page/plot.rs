//! Size over time, as a drawing of its own. Pure.
//!
//! What is drawn stretches with the page, so words stand beside it and not in it.

use jiff::Timestamp;
use maud::{Markup, html};

/// Of the drawing, in its own units.
const WIDTH: f64 = 600.0;
const HEIGHT: f64 = 120.0;

pub struct Point {
    pub time: Timestamp,
    pub bytes: u64,
}

/// `points` stand oldest first, and there are at least two; `describe` says the same in words.
pub fn plot(id: &str, points: &[Point], title: &str, describe: &str) -> Markup {
    let marks = marks(points);
    let line: Vec<String> = marks
        .iter()
        .map(|(x, y)| format!("{x:.1} {y:.1}"))
        .collect();
    let line = line.join("L");
    let (first, last) = (marks[0].0, marks[marks.len() - 1].0);
    html! {
        svg.plot viewBox={ "0 0 " (WIDTH) " " (HEIGHT) } preserveAspectRatio="none" role="img"
            aria-labelledby={ (id) "-title " (id) "-desc" } {
            title id={ (id) "-title" } { (title) }
            desc id={ (id) "-desc" } { (describe) }
            path.grid d={ "M0 1H" (WIDTH) "M0 " (HEIGHT / 2.0) "H" (WIDTH) "M0 " (HEIGHT - 1.0) "H" (WIDTH) } {}
            path.area d={ "M" (format!("{first:.1} {HEIGHT}")) "L" (line) "L" (format!("{last:.1} {HEIGHT}")) "Z" } {}
            path.line d={ "M" (line) } {}
            @for (x, y) in &marks {
                // A dot that is not stretched with the drawing: a line of no length, with a round end.
                path.dot d={ "M" (format!("{x:.1} {y:.1}")) "h0" } {}
            }
        }
    }
}

fn marks(points: &[Point]) -> Vec<(f64, f64)> {
    let seconds = |point: &Point| point.time.as_second() as f64;
    let first = points.first().map_or(0.0, seconds);
    let span = (points.last().map_or(0.0, seconds) - first).max(1.0);
    let most = points
        .iter()
        .map(|point| point.bytes)
        .max()
        .unwrap_or(0)
        .max(1) as f64;
    let room = 4.0;
    let mark = |point: &Point| {
        let x = room + (seconds(point) - first) / span * (WIDTH - 2.0 * room);
        let y = HEIGHT - 1.0 - point.bytes as f64 / most * (HEIGHT - 2.0 - room);
        (x, y)
    };
    points.iter().map(mark).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_lie_in_the_drawing_whatever_they_are() {
        let points = |all: &[(&str, u64)]| -> Vec<Point> {
            let point = |(time, bytes): &(&str, u64)| Point {
                time: time.parse().unwrap(),
                bytes: *bytes,
            };
            all.iter().map(point).collect()
        };
        for all in [
            &[("2026-11-20T02:00:00Z", 5), ("2026-11-21T02:00:00Z", 10)][..],
            &[("2026-11-20T02:00:00Z", 0), ("2026-11-20T02:00:00Z", 0)],
            &[
                ("2026-11-20T02:00:00Z", u64::MAX),
                ("2026-11-21T02:00:00Z", 1),
            ],
        ] {
            for (x, y) in marks(&points(all)) {
                assert!(
                    (0.0..=WIDTH).contains(&x) && (0.0..=HEIGHT).contains(&y),
                    "{x} {y}"
                );
            }
        }
    }
}
