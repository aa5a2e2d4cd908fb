"""Style and script of the page: constants only, so that the page is one file that loads nothing.

Colours are variables with a light and a dark set; `data-theme` on the root element overrides the system's choice.
"""

_LIGHT = """color-scheme:light;--bg:#fff;--ink:#1d2129;--soft:#5c6370;--line:#dfe3e8;--band:#f6f7f9;--bad:#b3261e;
--own:#1f6fb5;--up:#7a4ea8;--ref:#8a919c;--add:#1f6fb5;--subtract:#c2571a;--ablate:#7a4ea8"""
_DARK = """color-scheme:dark;--bg:#14171c;--ink:#e4e7ec;--soft:#9aa3af;--line:#2d333c;--band:#1b1f26;--bad:#ff8a80;
--own:#6db3f2;--up:#bf9bea;--ref:#838c99;--add:#6db3f2;--subtract:#f0935a;--ablate:#bf9bea"""

BARS = """.bar{display:block;width:108px;height:12px;margin-top:2px} .bar .base{stroke:var(--line)} .bar .mark{stroke:var(--ref)}
.bar .mix{stroke:var(--ink);stroke-dasharray:2 1.5}
.bar .ci{stroke-width:3;stroke-opacity:.45} .bar .open{fill:var(--bg)} .method{stroke:var(--own);fill:var(--own)}
.upper{stroke:var(--up);fill:var(--up)} .anchor{stroke:var(--ref);fill:var(--ref)}
"""
CURVES = """.dose{display:block;width:100%;height:auto} .dose text{fill:var(--soft);font-size:9px;font-family:inherit}
.dose .grid{stroke:var(--line)} .dose .level{stroke:var(--ref);stroke-dasharray:2 3}
.dose :is(polyline,circle){fill:none;stroke-width:1.5} .dose polyline.gated{stroke-dasharray:4 2}
.add{stroke:var(--add)} .subtract{stroke:var(--subtract)} .ablate{stroke:var(--ablate)}
.k{display:inline-block;margin-right:1rem;font-size:.82rem;color:var(--soft)}
.k svg{width:26px;height:8px;vertical-align:middle;margin-right:.35em} .k line{stroke-width:2.5}
"""
DRAWINGS = BARS + CURVES
"""Of what `svg.py` draws; the colours are those of the page."""

CSS = (
    f":root{{{_LIGHT}}}\n"
    f"@media(prefers-color-scheme:dark){{:root:not([data-theme=light]){{{_DARK}}}}}\n:root[data-theme=dark]{{{_DARK}}}\n"
    """
*{box-sizing:border-box}
body{margin:0;background:var(--bg);color:var(--ink);font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
main{max-width:1320px;margin:0 auto;padding:1.5rem 1.25rem 4rem}
h1{font-size:1.6rem;margin:0 0 .25rem} h2{font-size:1.15rem;margin:2.5rem 0 .5rem}
h3{font-size:.95rem;margin:1.2rem 0 .3rem}
p,li{max-width:100ch;margin:.5rem 0} li{margin:.15rem 0;font-size:.82rem} ul{padding-left:1.1rem}
a{color:var(--own)} nav a{margin-right:1rem} .soft{color:var(--soft)}
.scroll{overflow-x:auto;border:1px solid var(--line);border-radius:8px}
table{border-collapse:collapse;width:100%;font-size:.86rem;font-variant-numeric:tabular-nums}
th,td{padding:.4rem .45rem;text-align:left;vertical-align:top;border-bottom:1px solid var(--line);white-space:nowrap}
tbody tr:last-child>*{border-bottom:0}
thead th{background:var(--band);font-weight:600;vertical-align:bottom}
tbody th{font-weight:600;position:sticky;left:0;background:var(--bg)}
td.wrap{white-space:normal;min-width:16rem} td.status{white-space:normal;min-width:6rem} td small{color:var(--soft)}
thead button{all:unset;cursor:pointer;font-weight:600}
thead button:focus-visible{outline:2px solid var(--own);outline-offset:2px}
thead button:is(:hover,:focus-visible)::after{content:" ↕";color:var(--soft);font-weight:400}
th[aria-sort=ascending] button::after{content:" ↑"} th[aria-sort=descending] button::after{content:" ↓"}
tr.incomplete>*{color:var(--soft)} tr.below>*{border-top:2px solid var(--soft)}
.tag{font-size:.72rem;font-weight:400;border:1px solid var(--line);border-radius:4px;padding:0 .3em;color:var(--soft)}
.bad{color:var(--bad)} code{font-size:.85em;overflow-wrap:anywhere}
"""
    + BARS
    + """
details{border:1px solid var(--line);border-radius:8px;margin:.6rem 0;padding:0 .9rem}
details[open]{padding-bottom:.9rem} summary{cursor:pointer;padding:.6rem 0;font-weight:600}
.panels{display:grid;grid-template-columns:repeat(auto-fill,minmax(215px,1fr));gap:.9rem;margin-top:.5rem}
figure{margin:0} figcaption{font-size:.82rem;font-weight:600;overflow-wrap:anywhere}
"""
    + CURVES
    + """
dl{display:grid;grid-template-columns:max-content 1fr;gap:.2rem 1.2rem;font-size:.88rem}
dt{color:var(--soft)} dd{margin:0}
@media(max-width:640px){
main{padding:1rem .7rem 3rem} th,td{padding:.35rem .4rem} .bar{width:84px} dl{grid-template-columns:1fr} dt{margin-top:.4rem}
tbody th{white-space:normal;overflow-wrap:anywhere;min-width:8.2rem;max-width:9.5rem}
.tag{display:block;width:max-content} .panels{grid-template-columns:1fr 1fr}}
"""
)

JS = """
for (const button of document.querySelectorAll('thead button')) button.addEventListener('click', () => {
  const head = button.closest('th'), body = head.closest('table').tBodies[0], column = head.cellIndex;
  const down = head.getAttribute('aria-sort') !== 'descending', value = row => row.cells[column].dataset.v ?? '';
  for (const other of head.parentNode.cells) other.removeAttribute('aria-sort');
  head.setAttribute('aria-sort', down ? 'descending' : 'ascending');
  const compare = (a, b) => {
    const x = value(a), y = value(b);
    if (x === '' || y === '') return (x === '') - (y === '');  // rows without a value stay last
    const order = isNaN(x) || isNaN(y) ? x.localeCompare(y) : x - y;
    return down ? -order : order;
  };
  for (const row of [...body.rows].sort(compare)) { row.classList.remove('below'); body.append(row); }
});
"""
