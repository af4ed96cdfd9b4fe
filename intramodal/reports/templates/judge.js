// A blind judging page: votes by key or click, saved to a file.
"use strict";
const about = JSON.parse(document.getElementById("about").dataset.about);
const rows = [...document.querySelectorAll("[data-query]")];
const key = JSON.stringify([about.format, about.run_id, about.collection, about.vectors]);
const choices = new Map();
const remember = () => {
  try { localStorage.setItem(key, JSON.stringify([...choices])); } catch (error) { /* a private window */ }
};
const recall = () => {
  try { return JSON.parse(localStorage.getItem(key) || "[]"); } catch (error) { return []; }
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
  document.getElementById("count").textContent = `${choices.size} of ${rows.length} judged`;
  document.getElementById("save").disabled = choices.size === 0;
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
const text = () => {
  const votes = rows.filter((row) => choices.has(row.dataset.query)).map((row) => ({
    query: JSON.parse(row.dataset.query),
    choice: choices.get(row.dataset.query),
    left: row.querySelector("button").dataset.choice,
  }));
  return JSON.stringify({ ...about, votes }, null, 1) + "\n";
};
document.getElementById("save").addEventListener("click", () => {
  const link = document.createElement("a");
  link.href = "data:application/json;charset=utf-8," + encodeURIComponent(text());
  link.download = "votes.json";
  link.click();
});
const known = new Set(rows.map((row) => row.dataset.query));
for (const [query, choice] of recall()) if (known.has(query)) choices.set(query, choice);
at = Math.max(rows.findIndex((row) => !choices.has(row.dataset.query)), 0);
show();
