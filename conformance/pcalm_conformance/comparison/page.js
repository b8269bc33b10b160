"use strict";
const number = text => /^[-\d.]/.test(text) ? parseFloat(text) : NaN;
for (const table of document.querySelectorAll("table")) {
  const body = table.tBodies[0];
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => head.firstChild.addEventListener("click", () => {
    const up = head.getAttribute("aria-sort") !== "ascending";
    for (const other of heads) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
    const text = row => row.cells[column].textContent;
    const order = (a, b) => {
      const [p, q] = [number(text(a)), number(text(b))];
      if (isNaN(p) !== isNaN(q)) return isNaN(p) ? 1 : -1; // what has no figure is last, either way
      const found = isNaN(p) ? text(a).localeCompare(text(b)) : p - q;
      return up ? found : -found;
    };
    body.append(...[...body.rows].sort(order));
  }));
}
document.getElementById("filter").addEventListener("input", event => {
  const words = event.target.value.toLowerCase().split(/\s+/).filter(Boolean);
  for (const row of document.querySelectorAll("tbody tr")) {
    const text = row.textContent.toLowerCase();
    row.hidden = !words.every(word => text.includes(word));
  }
});
