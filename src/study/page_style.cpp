#include "src/study/page_style.h"

namespace vlmamba::study {

// Series colours after Okabe and Ito, told apart with every kind of colour vision.
const char* const kPageStyle = R"css(
:root { color-scheme: light dark;
  --page: #fbfbfa; --card: #ffffff; --ink: #1c1e21; --soft: #61676e; --rule: #e2e3e0; --accent: #0b6e8f; --good: #17783a;
  --bad: #b3261e; --note: #fff6dd; --note-rule: #e5c66b;
  --s0: #0072b2; --s1: #d55e00; --s2: #009e73; --s3: #b0579a; --s4: #b58900; --s5: #3aa0d8; --s6: #7a5c3e; --s7: #5b5f66; }
@media screen and (prefers-color-scheme: dark) { :root {
  --page: #15171a; --card: #1d2024; --ink: #e6e7e9; --soft: #9aa1a9; --rule: #32363c; --accent: #5cc3e4; --good: #62c98a;
  --bad: #f2867d; --note: #332b14; --note-rule: #75622a;
  --s0: #56b4e9; --s1: #f08a4b; --s2: #2fc79a; --s3: #d98cc3; --s4: #e3bd45; --s5: #8fcdf2; --s6: #c2a07c; --s7: #aab0b8; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); font: 15px/1.55 system-ui, "Segoe UI", "Helvetica Neue", "DejaVu Sans",
  sans-serif; }
main { max-width: 1080px; margin: 0 auto; padding: 40px 24px 64px; }
h1 { font-size: 28px; line-height: 1.2; margin: 0 0 6px; letter-spacing: -0.01em; }
h2 { font-size: 19px; margin: 44px 0 12px; letter-spacing: -0.005em; }
h3 { font-size: 15px; margin: 24px 0 8px; }
p { margin: 8px 0; max-width: 76ch; }
.lead, figcaption, .small { color: var(--soft); }
.small { font-size: 13px; }
.banner { background: var(--note); border: 1px solid var(--note-rule); border-radius: 8px; padding: 10px 14px; max-width: none; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { padding: 7px 12px; text-align: right; border-bottom: 1px solid var(--rule); white-space: nowrap; }
th { font-weight: 600; color: var(--soft); font-size: 13px; border-bottom-width: 2px; }
th:first-child, td:first-child { text-align: left; padding-left: 2px; }
td.best { font-weight: 650; }
td .pm { color: var(--soft); font-weight: 400; }
td .paper { display: block; color: var(--accent); font-size: 12px; font-weight: 400; line-height: 1.3; }
td i.dot { display: inline-block; width: 10px; height: 10px; border-radius: 3px; margin-right: 9px; }
.tag { color: var(--soft); font-size: 12px; margin-left: 8px; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 430px), 1fr)); gap: 20px; margin-top: 18px; align-items: start; }
.stack { display: grid; gap: 20px; }
figure { margin: 0; background: var(--card); border: 1px solid var(--rule); border-radius: 10px; padding: 14px 14px 10px; break-inside: avoid; }
figcaption { font-size: 13px; margin-bottom: 6px; }
svg { width: 100%; height: auto; display: block; font-size: 11.5px; }
svg text { fill: var(--soft); } svg .name { fill: var(--ink); font-size: 12.5px; } svg .value { font-size: 10.5px; }
.grid { stroke: var(--rule); stroke-width: 1; } .whisker { stroke: var(--ink); stroke-width: 1.2; opacity: .75; }
.curve { fill: none; stroke-width: 1.9; stroke-linejoin: round; } .faint { stroke-width: 1; opacity: .28; }
.legend { display: flex; flex-wrap: wrap; gap: 4px 18px; font-size: 13px; margin: 14px 0 0; max-width: none; }
.legend i { display: inline-block; width: 11px; height: 11px; border-radius: 3px; margin-right: 7px; vertical-align: -1px; }
.bar.s0 { fill: var(--s0); } .curve.s0 { stroke: var(--s0); } i.s0 { background: var(--s0); }
.bar.s1 { fill: var(--s1); } .curve.s1 { stroke: var(--s1); } i.s1 { background: var(--s1); }
.bar.s2 { fill: var(--s2); } .curve.s2 { stroke: var(--s2); } i.s2 { background: var(--s2); }
.bar.s3 { fill: var(--s3); } .curve.s3 { stroke: var(--s3); } i.s3 { background: var(--s3); }
.bar.s4 { fill: var(--s4); } .curve.s4 { stroke: var(--s4); } i.s4 { background: var(--s4); }
.bar.s5 { fill: var(--s5); } .curve.s5 { stroke: var(--s5); } i.s5 { background: var(--s5); }
.bar.s6 { fill: var(--s6); } .curve.s6 { stroke: var(--s6); } i.s6 { background: var(--s6); }
.bar.s7 { fill: var(--s7); } .curve.s7 { stroke: var(--s7); } i.s7 { background: var(--s7); }
.samples { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 330px), 1fr)); gap: 20px; }
.sample { background: var(--card); border: 1px solid var(--rule); border-radius: 10px; padding: 14px; break-inside: avoid; }
.sample img { display: block; width: 144px; max-width: 100%; border-radius: 6px; border: 1px solid var(--rule); margin-bottom: 10px; }
.sample img.pixels { image-rendering: pixelated; }
.sample .question { font-weight: 600; white-space: pre-wrap; overflow-wrap: anywhere; }
.sample dl { display: grid; grid-template-columns: auto 1fr; gap: 2px 12px; margin: 8px 0 0; font-size: 13.5px; }
.sample dt { color: var(--soft); } .sample dd { margin: 0; overflow-wrap: anywhere; }
.right { color: var(--good); } .wrong { color: var(--bad); }
pre { background: var(--card); border: 1px solid var(--rule); border-radius: 8px; padding: 12px 14px; font: 12.5px/1.5 ui-monospace,
  "DejaVu Sans Mono", monospace; white-space: pre-wrap; overflow-wrap: anywhere; margin: 10px 0; }
code { font: 12.5px ui-monospace, "DejaVu Sans Mono", monospace; }
table.runs { font-size: 13px; } table.runs td, table.runs th { padding: 5px 10px; } table.runs td:nth-child(n+3) { text-align: left; }
table.runs th:nth-child(n+3) { text-align: left; }
@media print { :root { --page: #fff; --card: #fff; } body { font-size: 11px; } main { max-width: none; padding: 0; }
  h2 { break-after: avoid; } .charts { grid-template-columns: 1fr 1fr; } tr { break-inside: avoid; }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact; } }
)css";

}  // namespace vlmamba::study
