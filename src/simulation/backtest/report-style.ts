/**
 * The looks of a backtest's report: one style sheet, no fonts or pictures from elsewhere.
 *
 * Colours of policies follow Okabe and Ito ("Color Universal Design", 2008), darkened or lightened to the ground; lines
 * differ in their dashes and marks in their shapes as well, so that nothing is told by colour alone. GPU types have a
 * palette of their own after Paul Tol's "muted" ("Colour Schemes", SRON/EPS/TN/09-002).
 */
const light = {
  ground: '#ffffff',
  raised: '#f5f7f9',
  ink: '#17202a',
  faint: '#5d6875',
  edge: '#dde3e9',
  limit: '#b3261e',
  good: '#0a7d4f',
  policies: ['#0a5fa8', '#3d9fd6', '#c84e00', '#00876c', '#b37d00', '#a8528a', '#6f7780'],
} as const;

const dark = {
  ground: '#12171d',
  raised: '#1b222a',
  ink: '#e7ecf1',
  faint: '#9aa6b3',
  edge: '#2f3944',
  limit: '#ff8a80',
  good: '#5fd0a0',
  policies: ['#5aaef0', '#a5dbff', '#ff9150', '#35c9a6', '#efbd3e', '#e293c3', '#aab2bb'],
} as const;

/** Empty = a line without gaps. In the order of the policies. */
const dashes = ['', '7 3', '', '2 3', '9 3 2 3', '5 3', '12 4'] as const;

const gpuColours = ['#88ccee', '#44aa99', '#ddcc77', '#cc6677', '#6f5fb0', '#aa4499', '#999933', '#882255', '#117733'];

/** How many GPU types have a colour of their own; further ones begin anew. */
export const gpuClasses = gpuColours.length;

function variables(theme: typeof light | typeof dark): string {
  const { policies, ...others } = theme;
  return [
    ...Object.entries(others).map(([name, value]) => `--${name}:${value}`),
    ...policies.map((value, i) => `--p${i}:${value}`),
  ].join(';');
}

/** The style sheet. */
export function reportStyle(): string {
  return `
:root{color-scheme:light dark;${variables(light)}}
@media (prefers-color-scheme:dark){:root{${variables(dark)}}}
*{box-sizing:border-box}
body{margin:0;background:var(--ground);color:var(--ink);font:16px/1.5 system-ui,-apple-system,"Segoe UI","DejaVu Sans",Arial,sans-serif;-webkit-text-size-adjust:100%}
main{max-width:1180px;margin:0 auto;padding:28px 24px 60px}
h1{font-size:27px;line-height:1.2;margin:0 0 6px;overflow-wrap:anywhere;letter-spacing:-.01em}
h2{font-size:20px;margin:46px 0 4px;letter-spacing:-.005em}
h3{font-size:15px;margin:0 0 2px}
p{margin:0 0 10px;max-width:78ch}
.faint,figcaption,.note{color:var(--faint)}
.note{font-size:14.5px}
.verdict{font-size:18.5px;line-height:1.45;margin:16px 0 20px;max-width:70ch}
.verdict strong{white-space:nowrap}
.cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(165px,1fr));gap:12px;margin:0 0 8px}
.card{background:var(--raised);border:1px solid var(--edge);border-radius:10px;padding:12px 15px}
.card b{display:block;font-size:25px;line-height:1.25;font-weight:650;font-variant-numeric:tabular-nums}
.card span{display:block;font-size:13.5px;color:var(--faint);line-height:1.35}
.notices{border:1px solid var(--edge);border-left:4px solid var(--limit);border-radius:8px;padding:10px 16px;margin:18px 0;background:var(--raised)}
.notices p{margin:4px 0;font-size:15px}
.card b{white-space:nowrap}
.card b i{font-style:normal;font-size:15px;font-weight:500;color:var(--faint)}
.bars{display:grid;grid-template-columns:max-content minmax(0,1fr) max-content max-content;gap:7px 14px;align-items:center;margin:12px 0 22px}
.bars .track{position:relative;height:24px;background:var(--raised);border-radius:4px}
.bars .fill{position:absolute;inset:0 auto 0 0;border-radius:4px;opacity:.92}
.bars .fill.most{opacity:.35}
.bars .floor{position:absolute;top:-4px;bottom:-4px;border-left:2px dashed var(--ink)}
.bars .none{position:absolute;left:9px;line-height:24px;font-size:13.5px;color:var(--faint);white-space:nowrap;overflow:hidden;max-width:95%;text-overflow:ellipsis}
.bars .figure{font-variant-numeric:tabular-nums;text-align:right;white-space:nowrap}
.bars .remark{color:var(--faint);font-size:14px;white-space:nowrap}
.bars .remark.good{color:var(--good)}
.bars .remark.bad{color:var(--limit)}
.legend{display:flex;flex-wrap:wrap;gap:4px 18px;margin:8px 0 4px;padding:0;list-style:none;font-size:14px}
.legend li{display:flex;align-items:center;gap:7px}
.legend svg{flex:none}
.swatch{width:14px;height:14px;border-radius:3px;flex:none}
figure{margin:14px 0 0}
figcaption{font-size:14px;max-width:90ch}
figure svg.wide{display:block;width:100%;height:auto}
figure svg.narrow{display:none;width:100%;height:auto}
.grid2{display:grid;grid-template-columns:repeat(auto-fill,minmax(480px,1fr));gap:10px 26px}
.table{overflow-x:auto;margin:10px 0}
table{border-collapse:collapse;font-size:14px;font-variant-numeric:tabular-nums;min-width:100%}
th,td{text-align:right;padding:5px 9px;border-bottom:1px solid var(--edge);white-space:nowrap}
th{font-weight:600;color:var(--faint);vertical-align:bottom;font-size:13px}
th:first-child,td:first-child,.left{text-align:left}
td:first-child,th:first-child{padding-left:2px}
thead tr.groups th{text-align:center;border-bottom:0;padding-bottom:0}
tbody tr.main td{background:var(--raised);font-weight:550}
tbody tr.break td{border-top:2px solid var(--edge)}
td.wraps{white-space:normal;min-width:16em}
dl{display:grid;grid-template-columns:max-content minmax(0,1fr);gap:5px 20px;margin:10px 0;font-size:15px}
dt{color:var(--faint)}
dd{margin:0;overflow-wrap:anywhere}
svg text{fill:var(--ink);font-size:13px}
svg .tick{fill:var(--faint);font-size:12.5px;font-variant-numeric:tabular-nums}
svg .name{fill:var(--faint);font-size:13px}
svg path.grid{stroke:var(--edge);fill:none}
svg path.axis{stroke:var(--faint);fill:none}
svg path.limit{stroke:var(--limit);stroke-dasharray:5 4;fill:none}
svg text.limit-name{fill:var(--limit);font-size:12.5px;paint-order:stroke;stroke:var(--ground);stroke-width:4px}
svg path.line{fill:none;stroke-width:1.7;stroke-linejoin:round;stroke-linecap:round}
svg path.front{stroke-width:2.2}
svg path.under{stroke:none;opacity:.16}
svg path.layer{stroke:var(--ground);stroke-width:.4}
svg path.oracle{fill:none;stroke:var(--ink);stroke-width:1.8;stroke-dasharray:3 3}
svg path.ground{fill:var(--ink);opacity:.07}
svg .mark path{stroke:var(--ground);stroke-width:1}
svg .mark.beaten{opacity:.38}
svg circle.ring{fill:none;stroke-width:2}
svg text.end{font-weight:600;paint-order:stroke;stroke:var(--ground);stroke-width:4px;stroke-linejoin:round}
svg path.rate{fill:none;stroke:var(--faint)}
svg path.under.rate{fill:var(--faint);opacity:.28;stroke:none}
svg text.po{fill:var(--ink)}
${light.policies.map((_, i) => policyRules(i)).join('\n')}
${gpuColours.map((colour, i) => `.g${i}{fill:${colour};background:${colour}}`).join('\n')}
@media (max-width:700px){
body{font-size:15.5px}
main{padding:18px 14px 40px}
h1{font-size:22px}
.verdict{font-size:16.5px}
.cards{grid-template-columns:1fr 1fr;gap:9px}
.card b{font-size:20px}
.bars{grid-template-columns:minmax(0,1fr) max-content;gap:0 12px;grid-auto-flow:row dense}
.bars .who{grid-column:1}
.bars .figure{grid-column:2}
.bars .track{grid-column:1/-1;height:18px;margin:1px 0 2px}
.bars .none{line-height:18px}
.bars .who,.bars .figure{font-size:14.5px}
.bars .remark{grid-column:1/-1;font-size:13.5px;margin-bottom:9px}
.grid2{grid-template-columns:1fr}
figure svg.wide{display:none}
figure svg.narrow{display:block}
dl{grid-template-columns:1fr;gap:0}
dd{margin-bottom:8px}
}
@media print{.table{overflow:visible}h2{break-after:avoid}figure{break-inside:avoid}}
`;
}

function policyRules(i: number): string {
  const dash = dashes[i]! === '' ? '' : `;stroke-dasharray:${dashes[i]}`;
  return [
    `svg path.line.p${i}{stroke:var(--p${i})${dash}}`,
    `svg path.under.p${i},svg .mark.p${i} path,svg text.p${i}{fill:var(--p${i})}`,
    `svg .mark.p${i} circle{stroke:var(--p${i})}`,
    `.fill.p${i}{background:var(--p${i})}`,
  ].join('\n');
}
