//! One HTML file that asks for nothing from outside.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::{Block, Fact, Grid, Report, Section, svg};

/// Light and dark by the reader's system; on paper always light, with no section torn apart. Charts are drawn for 40 rem
/// and never shown much smaller, since their words shrink with them: a narrow screen scrolls them.
pub(crate) const STYLE: &str = "
:root { color-scheme: light dark; --ink: #1c2430; --dim: #5d6b7c; --paper: #fff; --card: #f4f6f9; --rule: #d8dee6;
  --accent: #1f6feb; --band: rgba(31, 111, 235, .18); }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e9f0; --dim: #9aa7b7; --paper: #12161c; --card: #1b212a;
  --rule: #333d4a; --accent: #6ea8fe; --band: rgba(110, 168, 254, .22); } }
@media print { :root { color-scheme: light; --ink: #000; --dim: #444; --paper: #fff; --card: #fff; --rule: #bbb;
  --accent: #0b4fb3; --band: rgba(11, 79, 179, .15); } nav { display: none; } figure, table, dl { break-inside: avoid; }
  .charts, .wide { overflow: visible !important; }
  h2 { break-before: page; } h2:first-of-type { break-before: auto; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 76rem; padding: 1.5rem; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, sans-serif; -webkit-print-color-adjust: exact; print-color-adjust: exact; }
h1 { margin: 0; font-size: 1.6rem; } h2 { margin: 2.5rem 0 0; border-bottom: 2px solid var(--rule); }
h3 { margin: 1.5rem 0 .5rem; } p { margin: .4rem 0; } .source, nav, footer { color: var(--dim); }
nav a { margin-right: 1rem; } a { color: var(--accent); }
dl { display: grid; grid-template-columns: repeat(auto-fill, minmax(13rem, 1fr)); gap: .6rem; margin: .6rem 0; }
dl div { background: var(--card); border: 1px solid var(--rule); border-radius: .4rem; padding: .5rem .7rem; }
dt { color: var(--dim); font-size: .85rem; } dd { margin: 0; } dd.value { font-size: 1.25rem; font-weight: 600; }
dd.note { color: var(--dim); font-size: .8rem; }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(36rem, 1fr)); gap: 1rem; overflow-x: auto; }
figure { margin: 0; } figure.square { max-width: 20rem; } figcaption { font-weight: 600; font-size: .9rem; }
svg { width: 100%; height: auto; } svg text { fill: var(--dim); font-size: 12px; } .grid { stroke: var(--rule); }
.line { fill: none; stroke: var(--accent); stroke-width: 1.6; } .band { fill: var(--band); stroke: none; }
.point { fill: var(--accent); } .bar { stroke: var(--accent); stroke-width: 1.5; }
.box { fill: var(--band); stroke: var(--accent); } .then { stroke: var(--dim); } .box.then, .share.then { fill: none; } .share { fill: var(--accent); } .share.then { stroke: var(--dim); }
.wide { overflow-x: auto; } table { border-collapse: collapse; margin: .6rem 0; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .7rem; border-bottom: 1px solid var(--rule); text-align: right; }
th:first-child, td:first-child { text-align: left; }
";

/// The whole page.
pub(super) fn render(report: &Report) -> String {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (report.title) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                header {
                    h1 { (report.title) }
                    p.source { (report.source) "; charts by " (report.grain) }
                }
                @if report.models.len() > 1 {
                    nav aria-label="Models" {
                        @for (i, model) in report.models.iter().enumerate() {
                            a href=(format!("#model-{i}")) { (model.name()) }
                        }
                    }
                }
                main {
                    @if let Some(overview) = &report.overview { (table(overview, "Models")) }
                    @for (i, model) in report.models.iter().enumerate() {
                        h2 id=(format!("model-{i}")) { (model.name()) }
                        @for section in &model.sections { (self::section(section)) }
                    }
                    @if report.models.is_empty() { p { "No rows." } }
                }
                footer {
                    h3 { "Method" }
                    ul { @for method in &report.methods { li { (method) } } }
                }
            }
        }
    };
    page.into_string()
}

/// One section, below a heading of the second level.
pub(crate) fn section(section: &Section) -> Markup {
    // Charts that follow each other stand side by side.
    let groups = section.blocks.chunk_by(|a, b| is_chart(a) && is_chart(b));
    html! {
        section {
            h3 { (section.title) }
            @for group in groups {
                @if is_chart(&group[0]) {
                    div.charts tabindex="0" role="region" aria-label=(format!("Charts: {}", section.title)) {
                        @for one in group { (block(one, section.title)) }
                    }
                } @else {
                    (block(&group[0], section.title))
                }
            }
        }
    }
}

fn is_chart(block: &Block) -> bool {
    matches!(block, Block::Chart(_) | Block::Reliability(_) | Block::Spread(_) | Block::Shares(_))
}

fn block(block: &Block, title: &str) -> Markup {
    match block {
        Block::Text(text) => html! { p { (text) } },
        Block::Facts(facts) => html! { dl { @for one in facts { (fact(one)) } } },
        Block::Table(grid) => table(grid, title),
        Block::Chart(chart) => svg::chart(chart),
        Block::Reliability(bins) => svg::reliability(bins),
        Block::Spread(spread) => svg::spread(spread),
        Block::Shares(shares) => svg::shares(shares),
    }
}

fn fact(fact: &Fact) -> Markup {
    html! {
        div {
            dt { (fact.name) }
            dd.value { (fact.value) }
            @if !fact.note.is_empty() { dd.note { (fact.note) } }
        }
    }
}

/// A table that scrolls where the screen is too narrow for it, with the keyboard too.
fn table(grid: &Grid, title: &str) -> Markup {
    html! {
        div.wide tabindex="0" role="region" aria-label=(title) {
            table {
                thead { tr { @for head in &grid.header { th scope="col" { (head) } } } }
                tbody {
                    @for row in &grid.rows {
                        tr { @for cell in row { td { (cell) } } }
                    }
                }
            }
        }
    }
}
