// Tables sort by a click on a heading; what folds is open on paper.
"use strict";
const value = (row, column) => {
  const text = row.cells[column] ? row.cells[column].textContent.trim() : "";
  const figure = parseFloat(text.replace(/,/g, "").replace(/^[\[<\s]+/, ""));
  return Number.isNaN(figure) ? text : figure;
};
const sort = (head) => {
  const body = head.closest("table").tBodies[0];
  const falls = head.getAttribute("aria-sort") === "descending";
  const rows = [...body.rows].map((row) => [value(row, head.cellIndex), row]);
  const isText = rows.some(([key]) => typeof key === "string" && key !== "–");
  rows.sort(([a], [b]) => isText ? String(a).localeCompare(String(b)) : (a === "–") - (b === "–") || b - a);
  if (falls) rows.reverse();
  for (const other of head.parentNode.cells) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", falls ? "ascending" : "descending");
  body.append(...rows.map(([, row]) => row));
};
for (const head of document.querySelectorAll("table.sorts thead th")) {
  head.tabIndex = 0;
  head.title = "sort";
  head.addEventListener("click", () => sort(head));
  head.addEventListener("keydown", (event) => { if (event.key === "Enter") sort(head); });
}
const folds = [...document.querySelectorAll("details")];
let closed = [];
addEventListener("beforeprint", () => {
  closed = folds.filter((fold) => !fold.open);
  for (const fold of closed) fold.open = true;
});
addEventListener("afterprint", () => { for (const fold of closed) fold.open = false; });
const unfold = () => {
  const at = document.getElementById(location.hash.slice(1));
  const fold = at && at.closest("details");
  if (fold) { fold.open = true; at.scrollIntoView(); }
};
addEventListener("hashchange", unfold);
unfold();
