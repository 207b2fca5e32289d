//! The chart: instructions per struct page against the size of the range, as SVG that is read in light and in dark.

use std::fmt::Write as _;

use vmemmap::granule::GranuleSize;

use super::case::{ADD, Case, Figure, REMOVE};
use super::linux::{self, Linux};

/// The CPU that is drawn, as in the book.
const CPU: &str = "neoverse-n1";
/// Sizes that are drawn, in GiB.
const SIZES: [u64; 3] = [1, 16, 256];
const GIB: u64 = 1 << 30;

const WIDTH: f64 = 1000.0;
const HEIGHT: f64 = 470.0;
/// Of a panel: its plot, and the gap above it.
const PLOT: [f64; 2] = [225.0, 330.0];
const TOP: f64 = 70.0;
/// Lines of text on the right of a plot keep this distance.
const LABEL: f64 = 13.0;

const STYLE: &str = "\
text{font:12px system-ui,sans-serif;fill:#1f2328}.h{font-weight:600}.a{fill:#59636e}
.bg{fill:#ffffff}.grid{stroke:#d1d9e0;stroke-width:1}.f{fill:none;stroke-width:2}
.k4{stroke:#0969da}.k16{stroke:#bc4c00}.k64{stroke:#1a7f37}text.k4{fill:#0969da}text.k16{fill:#bc4c00}text.k64{fill:#1a7f37}
text.k4,text.k16,text.k64{stroke:none}.large{stroke-dasharray:6 3;stroke-width:1.3}.default{stroke-dasharray:2 3;stroke-width:1.3}
@media(prefers-color-scheme:dark){text{fill:#f0f6fc}.a{fill:#9198a1}.bg{fill:#0d1117}.grid{stroke:#3d444d}
.k4{stroke:#4493f8}.k16{stroke:#f0883e}.k64{stroke:#3fb950}text.k4{fill:#4493f8}text.k16{fill:#f0883e}text.k64{fill:#3fb950}}";

/// One half of the chart.
struct Panel {
    title: &'static str,
    figure: Figure,
    /// The place in [`Linux::figures`].
    linux: usize,
    left: f64,
    /// The axis, in powers of ten.
    decades: [i32; 2],
}

/// A line of the chart: its points (GiB and instructions), and what is written at its end.
struct Series {
    class: String,
    points: Vec<(u64, f64)>,
    label: String,
}

/// Draws the chart of the cases that have its sizes.
pub fn draw(cases: &[Case]) -> String {
    let panels = [
        Panel { title: "add", figure: ADD, linux: 0, left: 50.0, decades: [0, 2] },
        Panel { title: "remove", figure: REMOVE, linux: 4, left: 545.0, decades: [-3, 2] },
    ];
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" \
         aria-labelledby=\"title desc\">\n<title id=\"title\">Instructions per struct page against the size of the \
         range</title>\n<desc id=\"desc\">{}</desc>\n<style>{STYLE}</style>\n\
         <rect class=\"bg\" width=\"{WIDTH}\" height=\"{HEIGHT}\"/>\n",
        describe(&panels, cases)
    );
    svg += &text(50.0, 24.0, "h", "Instructions per struct page against the size of the range");
    let note = "QEMU, neoverse-n1, altmap, largest leaves (Linux: max, to 16 GiB). Both axes are logarithmic. An instruction \
                is not time.";
    svg += &text(50.0, 42.0, "a", note);
    svg += &panels.iter().map(|panel| panel.draw(cases)).collect::<String>();
    let legend = "solid: ours; dashed: Linux 6.12, large leaves (best); dotted: Linux 7.3, default, which alone keeps \
                  per-page linear permissions";
    svg += &text(50.0, HEIGHT - 14.0, "a", legend);
    svg + "</svg>\n"
}

/// The chart in words: every series with its numbers.
fn describe(panels: &[Panel], cases: &[Case]) -> String {
    let in_words = |series: &Series| {
        let points = series.points.iter().map(|(gib, value)| format!("{} at {gib} GiB", short(*value)));
        format!("{}: {}", series.label, points.collect::<Vec<_>>().join(", "))
    };
    let panel = |panel: &Panel| {
        let series: Vec<_> = panel.series(cases).iter().map(in_words).collect();
        format!("{}: {}.", panel.title, series.join("; "))
    };
    panels.iter().map(panel).collect::<Vec<_>>().join(" ")
}

impl Panel {
    fn series(&self, cases: &[Case]) -> Vec<Series> {
        let ours = GranuleSize::ALL.map(|granule| self.ours(granule, cases));
        let linux = GranuleSize::ALL.map(|granule| self.linux(granule));
        ours.into_iter().flatten().chain(linux.into_iter().flatten()).collect()
    }

    fn ours(&self, granule: GranuleSize, cases: &[Case]) -> Option<Series> {
        let drawn = |case: &&Case| case.place.granule == granule && case.place.cpu == CPU;
        let point = |gib: &u64| {
            let case = cases.iter().filter(drawn).find(|case| case.place.size == gib * GIB)?;
            Some((*gib, self.figure.of(case).value()))
        };
        let points: Vec<_> = SIZES.iter().filter_map(point).collect();
        let (_, last) = *points.last()?;
        Some(Series { class: class(granule), points, label: format!("{granule} {}", short(last)) })
    }

    /// Linux's levels, which were measured at 1 and 16 GiB.
    fn linux(&self, granule: GranuleSize) -> [Series; 2] {
        let of = |which: usize| {
            let figure = |linux: [Linux; 2]| linux[which].figures()[self.linux].value();
            let point = |gib: &u64| Some((*gib, figure(linux::measured(granule, gib * GIB)?)));
            SIZES.iter().filter_map(point).collect::<Vec<_>>()
        };
        [("large", "Linux, large leaves", 0), ("default", "Linux default", 1)].map(|(kind, name, which)| {
            let points = of(which);
            let last = points.last().map_or(0.0, |(_, value)| *value);
            let label = format!("{granule} {name} {}", short(last));
            Series { class: format!("{} {kind}", class(granule)), points, label }
        })
    }

    fn x(&self, gib: u64) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "a size of the chart")]
        let position = (gib as f64).log2() / 8.0;
        self.left + PLOT[0] * position
    }

    fn y(&self, value: f64) -> f64 {
        let [low, high] = self.decades.map(f64::from);
        let position = (value.log10() - low) / (high - low);
        TOP + PLOT[1] * (1.0 - position.clamp(0.0, 1.0))
    }

    fn draw(&self, cases: &[Case]) -> String {
        let series = self.series(cases);
        let mut svg = text(self.left, TOP - 8.0, "h", self.title) + &self.axes();
        for Series { class, points, .. } in &series {
            let drawn = points.iter().map(|(gib, value)| format!("{:.1},{:.1}", self.x(*gib), self.y(*value)));
            let drawn = drawn.collect::<Vec<_>>().join(" ");
            let _ = writeln!(svg, "<polyline class=\"f {class}\" points=\"{drawn}\"/>");
        }
        svg + &self.labels(&series)
    }

    fn axes(&self) -> String {
        let (bottom, right) = (TOP + PLOT[1], self.left + PLOT[0]);
        let mut svg = String::new();
        for power in self.decades[0]..=self.decades[1] {
            let value = 10f64.powi(power);
            let y = self.y(value);
            let _ =
                writeln!(svg, "<line class=\"grid\" x1=\"{}\" x2=\"{right}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>", self.left);
            svg += &anchored(self.left - 6.0, y + 4.0, "end", &format!("{value}"));
        }
        for gib in SIZES {
            let x = self.x(gib);
            let _ = writeln!(svg, "<line class=\"grid\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{TOP}\" y2=\"{bottom}\"/>");
            svg += &anchored(x, bottom + 18.0, "middle", &format!("{gib} GiB"));
        }
        svg
    }

    /// What stands at the ends of the lines, highest first, moved apart.
    fn labels(&self, series: &[Series]) -> String {
        let end = |series: &Series| self.y(series.points.last().map_or(1.0, |(_, value)| *value));
        let mut ends: Vec<_> = series.iter().map(|series| (end(series) + 4.0, series)).collect();
        ends.sort_by(|a, b| a.0.total_cmp(&b.0));
        let mut free = TOP;
        let label = |(wanted, Series { class, label, .. }): &(f64, &Series)| {
            let y = wanted.max(free);
            free = y + LABEL;
            let granule = class.split(' ').next().unwrap_or_default();
            text(self.left + PLOT[0] + 6.0, y, granule, label)
        };
        ends.iter().map(label).collect()
    }
}

fn class(granule: GranuleSize) -> String {
    format!("k{}", granule.name().trim_end_matches('k'))
}

/// A number in a label.
fn short(value: f64) -> String {
    match value {
        10.0.. => format!("{value:.1}"),
        1.0.. => format!("{value:.2}"),
        0.01.. => format!("{value:.3}"),
        _ => format!("{value:.4}"),
    }
}

fn text(x: f64, y: f64, class: &str, words: &str) -> String {
    format!("<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\">{words}</text>\n")
}

fn anchored(x: f64, y: f64, anchor: &str, words: &str) -> String {
    format!("<text class=\"a\" x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{words}</text>\n")
}

#[cfg(test)]
mod tests {
    use super::super::case::{Place, tests::case};
    use super::*;

    fn chart() -> String {
        let case = |(granule, gib)| Case { place: Place { granule, size: gib * GIB, cpu: CPU.to_owned() }, ..case() };
        let places = GranuleSize::ALL.into_iter().flat_map(|granule| SIZES.map(|gib| (granule, gib)));
        draw(&places.map(case).collect::<Vec<_>>())
    }

    /// Checks that every tag is closed in order, and that every attribute has quotes.
    fn parse(svg: &str) -> Result<Vec<String>, String> {
        let (mut open, mut seen) = (Vec::new(), Vec::new());
        for tag in svg.split('<').skip(1) {
            let (inside, text) = tag.split_once('>').ok_or(format!("no end: {tag}"))?;
            let name = inside.split([' ', '/']).next().unwrap_or_default();
            if text.contains('&') || inside.matches('"').count() % 2 == 1 || inside.contains('&') {
                return Err(format!("not escaped: {tag}"));
            }
            let values = inside.split(' ').skip(1).filter(|word| word.contains('=')).all(|word| word.contains("=\""));
            match inside.strip_prefix('/') {
                Some(closed) if open.pop() != Some(closed) => return Err(format!("closed out of order: {closed}")),
                Some(_) => {}
                None if !values => return Err(format!("no quotes: {inside}")),
                None => {
                    seen.push(name.to_owned());
                    open.extend((!inside.ends_with('/')).then_some(name));
                }
            }
        }
        if open.is_empty() { Ok(seen) } else { Err(format!("open: {open:?}")) }
    }

    #[test]
    fn the_small_parse_refuses_what_is_not_well_formed() {
        for bad in ["<a><b></a></b>", "<a>", "<a b=c/>", "<a b=\"c/>", "<a>x & y</a>", "<a"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        assert_eq!(parse("<a b=\"c\"><d/></a>"), Ok(vec!["a".to_owned(), "d".to_owned()]));
    }

    #[test]
    fn the_chart_is_well_formed_and_says_what_it_shows() {
        let seen = parse(&chart()).unwrap();
        assert_eq!(seen[..4], ["svg", "title", "desc", "style"].map(str::to_owned));
        assert!(!seen.iter().any(|name| name == "script"), "{seen:?}");
        assert!(chart().contains("prefers-color-scheme:dark"));
    }

    #[test]
    fn every_series_is_there_in_both_panels() {
        let svg = chart();
        for class in ["k4", "k16", "k64"] {
            for (kind, sizes) in [("", 3), (" large", 2), (" default", 2)] {
                let line = format!("<polyline class=\"f {class}{kind}\" points=\"");
                let points: Vec<_> = svg.split(&line).skip(1).filter_map(|rest| rest.split('"').next()).collect();
                let full = points.iter().all(|points| points.split(' ').count() == sizes);
                assert!(points.len() == 2 && full, "{class}{kind}: {points:?}");
            }
        }
        assert!(svg.contains("remove: 4K 0.0100: 0.0100 at 1 GiB, 0.0100 at 16 GiB, 0.0100 at 256 GiB; 16K"), "{svg}");
    }

    #[test]
    fn no_label_covers_another() {
        let svg = chart();
        let number = |line: &str, key: &str| -> f64 {
            line.split(&format!(" {key}=\"")).nth(1).unwrap().split('"').next().unwrap().parse().unwrap()
        };
        for right in [275.0, 770.0] {
            let left = format!(" x=\"{:.1}\"", right + 6.0);
            let labels = svg.lines().filter(|line| line.starts_with("<text class=\"k"));
            let ys: Vec<_> = labels.filter(|line| line.contains(&left)).map(|line| number(line, "y")).collect();
            assert!(ys.len() == 9 && ys.windows(2).all(|pair| pair[1] - pair[0] >= 12.0), "{ys:?}");
            assert!(ys.iter().all(|y| *y < HEIGHT - 20.0), "{ys:?}");
        }
    }

    #[test]
    fn less_is_lower_and_more_is_further_right() {
        let panel = Panel { title: "", figure: ADD, linux: 0, left: 50.0, decades: [0, 2] };
        assert!(panel.y(4.0) > panel.y(40.0) && panel.x(16) > panel.x(1));
        let corners = [panel.y(100.0), panel.y(1.0), panel.x(1), panel.x(256)];
        assert_eq!(corners.map(|corner| corner.to_string()), ["70", "400", "50", "275"]);
    }
}
