"""The HTML of a report. All text that comes from a model or a user is escaped here or in `svg`."""

from __future__ import annotations

from html import escape

from zerolane import __version__
from zerolane.reports import svg
from zerolane.reports.content import Bars, Report, Scatter, Table

# Colours after Okabe and Ito, lighter ones on dark ground; texts keep 4.5:1 and more.
_STYLE = """
:root{color-scheme:light dark;--ground:#fff;--ink:#1b2321;--quiet:#59635f;--rule:#d9dedb;
--own:#00735a;--ref:#9aa5a1;--bad:#b3261e;--card:#f4f7f5;
--k0:#5b6361;--k1:#0072b2;--k2:#b36b00;--k3:#a8508a;--k4:#00795c}
@media(prefers-color-scheme:dark){:root{--ground:#14191a;--ink:#e8eeeb;--quiet:#a3afaa;
--rule:#333c3a;--own:#35c497;--ref:#6d7975;--bad:#ff8a80;--card:#1d2425;
--k0:#b5bfbb;--k1:#56b4e9;--k2:#f0a830;--k3:#e397c4;--k4:#35c497}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:60rem;padding:1.2rem 1rem 3rem;background:var(--ground);
color:var(--ink);font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
header p.what{margin:0;color:var(--quiet);font-size:.9rem;overflow-wrap:anywhere}
h1{font-size:1.45rem;line-height:1.3;margin:.2rem 0 1rem;overflow-wrap:anywhere}
h1.bad::before{content:"✗ ";color:var(--bad)}h1.ok::before{content:"✓ ";color:var(--own)}
h2{font-size:1.05rem;margin:2rem 0 .5rem}
.figures{display:grid;grid-template-columns:repeat(auto-fit,minmax(9.5rem,1fr));gap:.7rem}
.figures div{background:var(--card);border-radius:.5rem;padding:.7rem .9rem}
.figures b{display:block;font-size:1.7rem;line-height:1.2;font-variant-numeric:tabular-nums}
.figures span{display:block}.figures small{color:var(--quiet)}
figure{margin:0}figure svg{width:100%;height:auto;max-width:46rem;display:block}
figcaption,.note{color:var(--quiet);font-size:.88rem;margin:.3rem 0}
svg text{font:13px system-ui,sans-serif;fill:var(--ink)}svg .value{font-weight:600}
svg .tick,svg .axis{fill:var(--quiet);font-size:12px}
svg .own{fill:var(--own)}svg .ref{fill:var(--ref)}
svg .whisker{stroke:var(--ink);stroke-width:1.4;fill:none}
svg .grid{stroke:var(--rule);stroke-width:1}svg .limit{stroke:var(--bad);stroke-dasharray:5 4}
.k0{--c:var(--k0)}.k1{--c:var(--k1)}.k2{--c:var(--k2)}.k3{--c:var(--k3)}.k4{--c:var(--k4)}
.full{fill:var(--c);stroke:var(--ground);stroke-width:1}
.hollow{fill:none;stroke:var(--c);stroke-width:1.4;opacity:.75}
.legend{display:flex;flex-wrap:wrap;gap:.3rem 1.1rem;margin:.2rem 0;font-size:.88rem}
.legend span{display:flex;align-items:center;gap:.35rem}.legend svg{width:14px;display:inline}
.scroll{overflow-x:auto}
table{border-collapse:collapse;width:100%;font-size:.9rem}
th,td{padding:.35rem .7rem .35rem 0;border-bottom:1px solid var(--rule);text-align:left;
vertical-align:top}
td{overflow-wrap:break-word;max-width:26rem}
th{color:var(--quiet);font-weight:600;white-space:nowrap}
.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
details summary{cursor:pointer;color:var(--quiet);margin:.4rem 0}
footer{margin-top:2.5rem;color:var(--quiet);font-size:.82rem}
@media(max-width:36rem){svg text,svg .tick,svg .axis{font-size:20px}h1{font-size:1.25rem}}
@media print{body{max-width:none}details{display:block}}
"""
_FIRST_ROWS = 12  # of a table; the others fold away


def page(report: Report) -> str:
    """The whole page."""
    figures = "".join(
        f"<div><b>{escape(f.value)}</b><span>{escape(f.what)}</span>"
        f"<small>{escape(f.detail)}</small></div>"
        for f in report.figures
    )
    notes = "".join(f"<li>{escape(note)}</li>" for note in report.notes)
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width,initial-scale=1">',
        # Nothing may be fetched or run, whatever gets into the page.
        '<meta http-equiv="Content-Security-Policy" '
        "content=\"default-src 'none';style-src 'unsafe-inline'\">",
        f"<title>{escape(report.title)}</title><style>{_STYLE}</style></head><body>",
        f'<header><p class="what">{escape(report.title)}</p>',
        f'<h1 class="{"ok" if report.ok else "bad"}">{escape(report.verdict)}</h1></header>',
        f'<section class="figures">{figures}</section>' if figures else "",
        *(_chart(chart) for chart in report.charts),
        *(_table(table) for table in report.tables),
        f"<h2>Notes</h2><ul>{notes}</ul>" if notes else "",
        f"<footer>zerolane {escape(__version__)}</footer></body></html>",
    ]
    return "\n".join(part for part in parts if part) + "\n"


def _chart(chart: Bars | Scatter) -> str:
    drawn = svg.bars(chart) if isinstance(chart, Bars) else svg.scatter(chart)
    note = f"<figcaption>{escape(chart.note)}</figcaption>" if chart.note else ""
    return f"<h2>{escape(chart.title)}</h2><figure>{drawn}{note}</figure>"


def _table(table: Table) -> str:
    head = "".join(
        f'<th scope="col"{_class(table, i)}>{escape(text)}</th>'
        for i, text in enumerate(table.header)
    )

    def body(rows: tuple[tuple[str, ...], ...]) -> str:
        lines = "".join(
            "<tr>"
            + "".join(f"<td{_class(table, i)}>{escape(c)}</td>" for i, c in enumerate(row))
            + "</tr>"
            for row in rows
        )
        return (
            f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{lines}</tbody>'
            "</table></div>"
        )

    first, rest = table.rows[:_FIRST_ROWS], table.rows[_FIRST_ROWS:]
    more = f"<details><summary>{len(rest)} more</summary>{body(rest)}</details>" if rest else ""
    note = f'<p class="note">{escape(table.note)}</p>' if table.note else ""
    return f"<h2>{escape(table.title)}</h2>{note}{body(first)}{more}"


def _class(table: Table, column: int) -> str:
    return ' class="n"' if column in table.numeric else ""
