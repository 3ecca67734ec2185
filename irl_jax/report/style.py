"""The style sheet of a report: light, dark and print from one set of variables."""

CSS = """
:root {
  --page: #ffffff; --panel: #f7f8fa; --line: #e3e6eb; --ink: #1f2430; --soft: #4a5261;
  --muted: #6b7280; --axis: #9aa1ad; --grid: #e5e7eb; --good: #0b7a4f; --bad: #b42318;
  --good-back: #e3f5ec; --bad-back: #fdecea; --accent: #2563eb;
  --blue: #2563eb; --orange: #d9480f; --green: #0d8a5f; --purple: #8b3fd1; --pink: #c2255c;
  --teal: #0b7a8f; --brown: #8a5a2b; --olive: #66760a;
  --mono: ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace;
}
@media screen and (prefers-color-scheme: dark) {
  :root {
    --page: #12151a; --panel: #1a1e25; --line: #2c323c; --ink: #e6e9ef; --soft: #bac2ce;
    --muted: #98a2b1; --axis: #5d6775; --grid: #272d36; --good: #56d39b; --bad: #ff8a80;
    --good-back: #14301f; --bad-back: #3a1a18; --accent: #7aa7ff;
    --blue: #7aa7ff; --orange: #ff9e64; --green: #4fd6a0; --purple: #c49bff; --pink: #ff86ad;
    --teal: #5cc8dd; --brown: #d9a877; --olive: #c3d64f;
  }
}
* { box-sizing: border-box; }
html { color-scheme: light dark; scroll-behavior: smooth; -webkit-text-size-adjust: 100%; }
body {
  margin: 0 auto; max-width: 1120px; padding: 40px 24px 72px; background: var(--page);
  color: var(--ink); font: 15px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif;
}
h1 { margin: 0 0 6px; font-size: 28px; line-height: 1.2; letter-spacing: -0.015em; }
header p { margin: 0; max-width: 72ch; color: var(--soft); font-size: 16px; }
nav { display: flex; flex-wrap: wrap; gap: 4px 20px; margin-top: 18px; padding-bottom: 10px;
  border-bottom: 1px solid var(--line); }
a { color: var(--accent); text-decoration: none; }
a:hover { text-decoration: underline; }
a:focus-visible, summary:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
section { padding-top: 28px; }
h2 { margin: 0 0 14px; font-size: 19px; letter-spacing: -0.01em; }
.text { margin: 0 0 14px; max-width: 72ch; color: var(--soft); }
.note { margin: 0 0 14px; padding: 10px 14px; border-left: 3px solid var(--axis);
  border-radius: 0 6px 6px 0; background: var(--panel); max-width: 80ch; }
.note.good { border-color: var(--good); background: var(--good-back); }
.note.bad { border-color: var(--bad); background: var(--bad-back); }
.command { margin: 0 0 14px; padding: 12px 14px; overflow-x: auto; border-radius: 8px;
  background: var(--panel); font: 13px/1.5 var(--mono); white-space: pre-wrap;
  overflow-wrap: anywhere; }

.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(200px, 1fr)); gap: 14px;
  margin-bottom: 18px; }
.card { display: flex; flex-direction: column; padding: 14px 16px; border: 1px solid var(--line);
  border-radius: 10px; background: var(--panel); }
.card .label { color: var(--muted); font-size: 13px; }
.card .value { font-size: 27px; font-weight: 650; line-height: 1.3; letter-spacing: -0.02em;
  font-variant-numeric: tabular-nums; }
.card small { margin-left: 3px; color: var(--soft); font-size: 14px; font-weight: 400;
  letter-spacing: 0; white-space: nowrap; }
.card .detail { color: var(--soft); font-size: 13px; line-height: 1.4; }
.card.good .value { color: var(--good); }
.card.bad .value { color: var(--bad); }
.whisker { display: block; width: 100%; height: 24px; margin: 4px 0 3px; color: var(--blue); }
.whisker line { stroke: currentColor; stroke-width: 3; stroke-linecap: round; opacity: 0.45; }
.whisker .zero { stroke: var(--axis); stroke-width: 1; stroke-dasharray: 2 2; opacity: 1; }
.whisker text { fill: var(--muted); font-size: 11px; }
.whisker circle { fill: currentColor; }
.card.good .whisker { color: var(--good); }
.card.bad .whisker { color: var(--bad); }

.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 430px), 1fr));
  gap: 26px 36px; align-items: start; margin-bottom: 14px; }
figure { margin: 0 0 14px; max-width: 540px; }
.plot { display: block; width: 100%; height: auto; font-family: inherit;
  font-variant-numeric: tabular-nums; }
figcaption { margin-top: 6px; color: var(--soft); font-size: 13.5px; line-height: 1.45; }
details { font-size: 13.5px; }
summary { width: fit-content; margin-top: 6px; color: var(--accent); cursor: pointer; }

.scroll { overflow-x: auto; margin-bottom: 14px; }
table { border-collapse: collapse; font-size: 13.5px; font-variant-numeric: tabular-nums; }
th, td { padding: 5px 18px 5px 0; border-bottom: 1px solid var(--line); text-align: left;
  vertical-align: baseline; }
th { color: var(--muted); font-weight: 600; }
.number { text-align: right; white-space: nowrap; }
.timings { width: 100%; max-width: 640px; }
.timings .share { width: 45%; }
.timings .share span { display: block; height: 8px; min-width: 1px; border-radius: 4px;
  background: var(--blue); opacity: 0.75; }
.timings td:last-child { padding-right: 0; color: var(--muted); }
.total td { border-bottom: 0; font-weight: 600; }

.samples { display: grid; gap: 14px; }
.sample { display: grid; grid-template-columns: 1fr 1fr; border: 1px solid var(--line);
  border-radius: 10px; overflow: hidden; }
.sample .prompt { grid-column: 1 / -1; padding: 10px 16px; background: var(--panel);
  border-bottom: 1px solid var(--line); font-weight: 600; }
.sample .side { padding: 10px 16px 14px; min-width: 0; }
.sample .side + .side { border-left: 1px solid var(--line); }
.prompt, .says { white-space: pre-wrap; overflow-wrap: anywhere; }
.says { font-size: 14px; }
.who { display: flex; justify-content: space-between; align-items: center; margin-bottom: 4px;
  color: var(--muted); font-size: 13px; }
.chip { padding: 0 8px; border-radius: 9px; background: var(--panel); color: var(--soft);
  font-size: 12.5px; font-weight: 600; line-height: 19px; font-variant-numeric: tabular-nums; }
.chip.good { background: var(--good-back); color: var(--good); }
.chip.bad { background: var(--bad-back); color: var(--bad); }
.empty { color: var(--muted); }

.config { columns: 320px; column-gap: 36px; margin: 0; font: 12.5px/1.5 var(--mono); }
.config div { display: flex; justify-content: space-between; gap: 16px; padding: 3px 0;
  border-bottom: 1px solid var(--line); break-inside: avoid; }
.config dt { color: var(--muted); }
.config dd { margin: 0; text-align: right; overflow-wrap: anywhere; }

@media (max-width: 640px) {
  body { padding: 24px 16px 48px; }
  .sample { grid-template-columns: 1fr; }
  .sample .side + .side { border-left: 0; border-top: 1px solid var(--line); }
}
@media print {
  @page { margin: 14mm; }
  html { color-scheme: light; }
  body { max-width: none; padding: 0; font-size: 10.5pt; }
  nav, summary { display: none; }
  .cards { grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); }
  .card, figure, .sample, .timings, tr { break-inside: avoid; }
  h2 { break-after: avoid; }
  .figures { grid-template-columns: 1fr 1fr; }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
}
"""
