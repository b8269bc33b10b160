// Sorting and filtering of the page's tables. Without it, everything is there, unsorted and unfiltered.
"use strict";

document.documentElement.classList.add("scripted");

const value = (row, column) => {
  const cell = row.cells[column];
  return "value" in cell.dataset ? Number(cell.dataset.value) : cell.textContent.trim();
};

// Missing values come last in either direction; numbers before text.
const compare = (a, b, sign) => {
  const missing = [a, b].map((each) => each === "–" || each === "");
  if (missing[0] || missing[1]) return missing[0] - missing[1];
  if (typeof a === "number" && typeof b === "number") return sign * (a - b);
  if (typeof a !== typeof b) return typeof a === "number" ? -1 : 1;
  return sign * a.localeCompare(b, "en", { numeric: true });
};

for (const section of document.querySelectorAll("section.table")) {
  const table = section.querySelector("table");
  const body = table.tBodies[0];
  const rows = [...body.rows];
  const headings = [...table.tHead.rows[0].cells];
  const filter = section.querySelector("input");
  const count = section.querySelector(".count");

  headings.forEach((heading, column) => {
    heading.querySelector("button")?.addEventListener("click", () => {
      const descending = heading.getAttribute("aria-sort") === "ascending";
      for (const other of headings) if (other.hasAttribute("aria-sort")) other.setAttribute("aria-sort", "none");
      heading.setAttribute("aria-sort", descending ? "descending" : "ascending");
      // Array.sort is stable, so sorting by one column and then by another sorts by both.
      const ordered = [...body.rows].sort((a, b) => compare(value(a, column), value(b, column), descending ? -1 : 1));
      body.append(...ordered);
    });
  });

  const split = (text) => text.toLowerCase().split(/\s+/).filter(Boolean);
  // What a row is found by: all its words but those of its sources.
  const words = new Map(
    rows.map((row) => [row, split([...row.cells].map((cell) => (cell.matches(".from") ? "" : cell.textContent)).join(" "))]),
  );
  // A number finds itself, so that 8 does not find 80; other text finds the words that begin with it.
  const matches = (wanted, word) => (isNaN(wanted) ? word.startsWith(wanted) : word === wanted);

  const apply = () => {
    const wanted = split(filter.value);
    let shown = 0;
    for (const row of rows) {
      row.hidden = !wanted.every((each) => words.get(row).some((word) => matches(each, word)));
      shown += !row.hidden;
    }
    count.textContent = shown === rows.length ? `${rows.length} rows` : `${shown} of ${rows.length} rows`;
  };
  filter.addEventListener("input", apply);
  apply();
}

// A link to a source leads to its row, also where a filter hides it.
const reveal = () => {
  const target = location.hash ? document.getElementById(decodeURIComponent(location.hash.slice(1))) : null;
  const filter = target?.closest("section.table")?.querySelector("input");
  if (target?.hidden && filter) {
    filter.value = "";
    filter.dispatchEvent(new Event("input"));
    target.scrollIntoView();
  }
};
addEventListener("hashchange", reveal);
