// A blind judging page: votes by key or click, saved to a file.
"use strict";
const about = JSON.parse(document.getElementById("about").dataset.about);
const rows = [...document.querySelectorAll("[data-query]")];
const key = JSON.stringify([about.format, about.run_id, about.collection, about.vectors]);
const choices = new Map();
const marks = new Map(); // of "query result" to "right" or "wrong"
const remember = () => {
  const kept = JSON.stringify({ choices: [...choices], marks: [...marks] });
  try { localStorage.setItem(key, kept); } catch (error) { /* a private window */ }
};
const recall = () => {
  try { return JSON.parse(localStorage.getItem(key)) || {}; } catch (error) { return {}; }
};
const results = [...document.querySelectorAll("[data-result]")];
const place = (result) => result.closest("[data-query]").dataset.query + " " + result.dataset.result;
const mark = (result) => {
  const next = { undefined: "right", right: "wrong" }[marks.get(place(result))];
  if (next) marks.set(place(result), next); else marks.delete(place(result));
  remember();
  show();
};
let at = 0;
const show = () => {
  rows.forEach((row, n) => {
    const choice = choices.get(row.dataset.query);
    row.classList.toggle("now", n === at);
    for (const button of row.querySelectorAll("button")) {
      button.setAttribute("aria-pressed", String(button.dataset.choice === choice));
    }
  });
  for (const result of results) result.dataset.mark = marks.get(place(result)) || "";
  const marked = marks.size ? `, ${marks.size} results marked` : "";
  document.getElementById("count").textContent = `${choices.size} of ${rows.length} judged${marked}`;
  document.getElementById("save").disabled = choices.size + marks.size === 0;
};
const go = (n) => {
  at = Math.min(Math.max(n, 0), rows.length - 1);
  show();
  rows[at].scrollIntoView({ block: "center" });
};
const vote = (row, choice) => {
  choices.set(row.dataset.query, choice);
  remember();
  at = rows.indexOf(row);
  go(at + 1);
};
for (const row of rows) {
  for (const button of row.querySelectorAll("button")) {
    button.addEventListener("click", () => vote(row, button.dataset.choice));
  }
}
for (const result of results) {
  result.addEventListener("click", (event) => { if (!event.target.closest("a")) mark(result); });
}
const keys = { 1: 0, ArrowLeft: 0, 2: 1, ArrowRight: 1, 0: 2, " ": 2 };
addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.altKey || event.metaKey) return;
  if (event.key in keys) {
    event.preventDefault();
    vote(rows[at], rows[at].querySelectorAll("button")[keys[event.key]].dataset.choice);
  } else if (event.key === "ArrowUp" || event.key === "k") {
    event.preventDefault();
    go(at - 1);
  } else if (event.key === "ArrowDown" || event.key === "j") {
    event.preventDefault();
    go(at + 1);
  }
});
const marked = (row, kind) => [...new Set(
  [...row.querySelectorAll(`[data-mark="${kind}"]`)].map((result) => result.dataset.result),
)].join(", ");
// Ids stay the JSON that they are in the page: JavaScript would round large numbers.
const voted = (row) => {
  const choice = JSON.stringify(choices.get(row.dataset.query) || null);
  const left = JSON.stringify(row.querySelector("button").dataset.choice);
  const [right, wrong] = [marked(row, "right"), marked(row, "wrong")];
  return `{"query": ${row.dataset.query}, "choice": ${choice}, "left": ${left}, `
    + `"right": [${right}], "wrong": [${wrong}]}`;
};
const text = () => {
  const judged = rows.filter(
    (row) => choices.has(row.dataset.query) || row.querySelector('[data-mark="right"], [data-mark="wrong"]'),
  );
  return `${JSON.stringify(about).slice(0, -1)}, "votes": [\n${judged.map(voted).join(",\n")}\n]}\n`;
};
document.getElementById("save").addEventListener("click", () => {
  const link = document.createElement("a");
  link.href = "data:application/json;charset=utf-8," + encodeURIComponent(text());
  link.download = "votes.json";
  link.click();
});
const known = new Set(rows.map((row) => row.dataset.query));
const before = recall();
for (const [query, choice] of before.choices || []) if (known.has(query)) choices.set(query, choice);
for (const [result, kind] of before.marks || []) marks.set(result, kind);
at = Math.max(rows.findIndex((row) => !choices.has(row.dataset.query)), 0);
show();
