/** The report's style: light or dark as the reader's system is, and readable on paper. */
export const STYLE = `
:root { color-scheme: light dark;
  --page: light-dark(#f6f7f9, #0f1216); --card: light-dark(#fff, #181c22); --ink: light-dark(#171b21, #e8ebef);
  --quiet: light-dark(#5d6673, #98a2b0); --rule: light-dark(#e3e6eb, #2a3039); --grid: light-dark(#eceef2, #262c35);
  --good: light-dark(#0b7a4b, #4cc38a); --bad: light-dark(#c4332b, #ff7b72);
  --s0: light-dark(#2563c9, #6ea8fe); --s1: light-dark(#d9730d, #ffa657); --s2: light-dark(#0d8a8a, #4fd1c5); --s3: light-dark(#8a3fc4, #c792ea);
  --s4: light-dark(#b5276b, #ff79b0); --s5: light-dark(#6b7f12, #c0d25a); --s6: light-dark(#8b5e34, #d3a678); --s7: light-dark(#4b5768, #a9b4c4); }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
main { max-width: 1240px; margin: 0 auto; padding: 40px 24px 64px; }
header { display: flex; flex-wrap: wrap; align-items: baseline; gap: 4px 16px; margin-bottom: 24px; }
h1 { margin: 0; font-size: 28px; letter-spacing: -.02em; }
h2 { margin: 0 0 2px; font-size: 16px; }
header p { flex-basis: 100%; margin: 0; color: var(--quiet); overflow-wrap: anywhere; }
.verdict { padding: 2px 12px; border-radius: 99px; font-weight: 600; font-size: 13px; color: var(--card); background: var(--good); }
.verdict.bad { background: var(--bad); }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(140px, 1fr)); gap: 12px; margin-bottom: 16px; }
.tile, section { background: var(--card); border: 1px solid var(--rule); border-radius: 12px; }
.tile { padding: 14px 18px; }
.tile span { display: block; color: var(--quiet); font-size: 13px; }
.tile b { font-size: 26px; font-weight: 650; letter-spacing: -.02em; font-variant-numeric: tabular-nums; white-space: nowrap; }
.tile small { font-size: 14px; font-weight: 500; color: var(--quiet); }
.tile.bad b { color: var(--bad); }
.grid2 { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 480px), 1fr)); gap: 16px; }
section { padding: 18px 20px; min-width: 0; margin-bottom: 16px; break-inside: avoid; }
.grid2 section { margin: 0; }
.grid2 { margin-bottom: 16px; } section .grid2 { margin: 0; }
.about { margin: 0 0 10px; color: var(--quiet); font-size: 13px; }
.plot { display: block; width: 100%; height: auto; overflow: visible; }
.plot text { font: 12px system-ui, sans-serif; fill: var(--quiet); font-variant-numeric: tabular-nums; }
.plot text.inside { fill: var(--card); font-weight: 600; }
.grid { stroke: var(--grid); } .axis { stroke: var(--rule); }
.line { fill: none; stroke-width: 2; stroke-linejoin: round; stroke-linecap: round; }
.dashed { stroke-dasharray: 5 5; opacity: .75; }
.area { opacity: .12; }
.failed { fill: var(--bad); }
.mark path { stroke: var(--mark); stroke-dasharray: 2 3; opacity: .7; } .mark circle { fill: var(--mark); }
.mark, .dot { --mark: var(--s7); }
.ready { --mark: var(--good); } .draining { --mark: var(--s1); } .exited { --mark: var(--s7); } .restart { --mark: var(--s3); }
.killed { --mark: var(--bad); } .load { --mark: var(--s2); }
.dot::before { content: ""; display: inline-block; width: 9px; height: 9px; margin-right: 6px; border-radius: 9px; background: var(--mark); }
.legend { display: flex; flex-wrap: wrap; gap: 2px 16px; margin: 8px 0 0; color: var(--quiet); font-size: 13px; }
.legend svg { margin-right: 6px; vertical-align: middle; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { padding: 6px 12px 6px 0; text-align: right; border-bottom: 1px solid var(--rule); white-space: nowrap; }
th { color: var(--quiet); font-weight: 500; font-size: 13px; }
th:first-child, td:first-child { text-align: left; }
tr:last-child td { border: 0; }
.better { color: var(--good); } .worse { color: var(--bad); }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 4px 20px; margin: 0; }
dt { color: var(--quiet); } dd { margin: 0; overflow-wrap: anywhere; }
pre { margin: 12px 0 0; padding: 12px 14px; border-radius: 8px; background: var(--page); overflow-x: auto; font: 13px/1.5 ui-monospace, monospace; }
.nothing { color: var(--quiet); }
ul { margin: 0; padding-left: 20px; } li.bad { color: var(--bad); }
@media (max-width: 600px) { .plot text { font-size: 18px; } }
@media print { :root { color-scheme: light; } body { background: #fff; } main { padding: 0; } }
${[0, 1, 2, 3, 4, 5, 6, 7].map(index => `.c${index}{stroke:var(--s${index})}.f${index}{fill:var(--s${index})}`).join('')}
`;
