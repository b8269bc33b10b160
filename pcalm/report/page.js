// Sorting and filtering of the page's tables. Without it, everything is there or led to, unsorted and unfiltered.
"use strict";

document.documentElement.classList.add("scripted");

const data = document.getElementById("rows");
const ROWS = Number(data.dataset.shown); // at a time
const RECORDS = Number(data.dataset.linked); // of a row
const packed = data.textContent.trim();
const collator = new Intl.Collator("en", { numeric: true });
const missing = (text) => text === "–" || text === "";

// What is compared when a column is sorted: a number for every row, the smaller the earlier; NaN where there is none.
// Numbers come before text.
const keysOf = (texts, numbers) => {
  const words = [...new Set(texts.filter((text, i) => numbers[i] === undefined && !missing(text)))].sort(collator.compare);
  const rank = new Map(words.map((word, i) => [word, i]));
  return texts.map((text, i) => {
    if (numbers[i] !== undefined) return numbers[i];
    return missing(text) ? NaN : 1e300 * (1 + rank.get(text) / words.length);
  });
};

const cell = (text, kind, label) => {
  const made = document.createElement("td");
  // The verdict without what stands in brackets, as one class.
  made.className = kind === "verdict" ? `text ${text.split(" (")[0].replaceAll(" ", "-")}` : kind;
  if (kind !== "number" && text.length > 30) made.classList.add("long");
  if (label) made.dataset.label = label;
  made.textContent = text;
  return made;
};

const link = (source) => {
  const made = document.createElement("a");
  made.href = `#source-${source}`;
  made.dataset.source = made.textContent = source;
  return made;
};

// The rows of a table in the page's HTML.
const written = (section) => {
  const elements = [...section.querySelector("tbody").rows];
  return {
    size: elements.length,
    text: (row, column) => elements[row].cells[column].textContent.trim(),
    number: (row, column) => elements[row].cells[column].dataset.value,
    columns: elements.length ? [...elements[0].cells].filter((each) => !each.matches(".from")).length : 0,
    element: (row) => elements[row],
  };
};

// The rows of a large table, made when they are shown. Its numbers are sorted as they are shown, rounded.
const compressed = (section, content, origins) => {
  const { columns, kinds } = content;
  let number = 0; // of the source: each is kept as its distance from the one before
  const sources = content.sources.map((steps) => steps.map((step) => (number += step)));
  const wide = section.matches(".wide");
  const names = [...section.querySelectorAll("th")].map((each) => each.textContent);
  const text = (row, column) => columns[column].words[columns[column].at[row]];
  const from = (row) => {
    const made = cell("", "from", wide ? "from" : "");
    const names = sources[row].slice(0, RECORDS).map((each) => [origins.text(each, 0), origins.text(each, 1)]);
    if (names.length < 2) {
      made.append(...names.map(([source]) => link(source)));
      return made;
    }
    const details = document.createElement("details");
    const summary = document.createElement("summary");
    summary.textContent = `${sources[row].length} records`;
    const list = document.createElement("ul");
    for (const [source, what] of names) {
      const item = document.createElement("li");
      item.append(link(source), ` ${what}`);
      list.append(item);
    }
    if (sources[row].length > RECORDS) {
      const item = document.createElement("li");
      item.textContent = `and ${sources[row].length - RECORDS} more`;
      list.append(item);
    }
    details.append(summary, list);
    made.append(details);
    return made;
  };
  return {
    size: columns[0].at.length,
    text,
    number: (row, column) => {
      const shown = text(row, column);
      return kinds[column] === "number" && !missing(shown) ? parseFloat(shown) : undefined;
    },
    columns: columns.length,
    element: (row) => {
      const made = document.createElement("tr");
      kinds.forEach((kind, column) => made.append(cell(text(row, column), kind, wide ? names[column] : "")));
      if (sources.length) made.append(from(row));
      if (section.id === "sources") made.id = `source-${text(row, 0)}`;
      return made;
    },
  };
};

const setUp = (section, rows) => {
  const body = section.querySelector("tbody");
  const headings = [...section.querySelectorAll("th")];
  const filter = section.querySelector("input");
  const count = section.querySelector(".count");
  const [back, on] = ["back", "on"].map((name) => section.querySelector(`button.${name}`));
  const keys = [];
  let order = [...Array(rows.size).keys()];
  let kept = order;
  let start = 0;
  let words;

  const show = () => {
    const there = kept.slice(start, start + ROWS);
    body.replaceChildren(...there.map(rows.element));
    const shown = kept.length === rows.size ? `${rows.size} rows` : `${kept.length} of ${rows.size} rows`;
    count.textContent = kept.length > ROWS ? `${shown}, here ${start + 1} to ${start + there.length}` : shown;
    if (back) back.disabled = start === 0;
    if (on) on.disabled = start + ROWS >= kept.length;
  };

  // A number finds itself, so that 8 does not find 80; other text finds the words that begin with it.
  const matches = (wanted, word) => (isNaN(wanted) ? word.startsWith(wanted) : word === wanted);
  const split = (text) => text.toLowerCase().split(/\s+/).filter(Boolean);
  // What a row is found by: all its words but those of its sources.
  const wordsOf = (row) => split([...Array(rows.columns).keys()].map((column) => rows.text(row, column)).join(" "));

  const apply = () => {
    const wanted = split(filter.value);
    if (wanted.length) words ??= [...Array(rows.size).keys()].map(wordsOf);
    kept = order.filter((row) => wanted.every((each) => words[row].some((word) => matches(each, word))));
    start = 0;
    show();
  };

  const sort = (column, descending) => {
    keys[column] ??= keysOf(
      order.map((_, row) => rows.text(row, column)),
      order.map((_, row) => {
        const found = rows.number(row, column);
        return found === undefined ? undefined : Number(found);
      }),
    );
    const key = keys[column];
    const sign = descending ? -1 : 1;
    // Missing values come last in either direction. Array.sort is stable, so sorting by one column and then by another
    // sorts by both.
    order = [...order].sort((a, b) => isNaN(key[a]) - isNaN(key[b]) || (key[a] === key[b] ? 0 : sign * (key[a] < key[b] ? -1 : 1)));
    apply();
  };

  headings.forEach((heading, column) => {
    heading.querySelector("button")?.addEventListener("click", () => {
      const descending = heading.getAttribute("aria-sort") === "ascending";
      for (const other of headings) if (other.hasAttribute("aria-sort")) other.setAttribute("aria-sort", "none");
      heading.setAttribute("aria-sort", descending ? "descending" : "ascending");
      sort(column, descending);
    });
  });
  filter.addEventListener("input", apply);
  back?.addEventListener("click", () => { start -= ROWS; show(); });
  on?.addEventListener("click", () => { start += ROWS; show(); });
  show();

  // Leads to the row whose first column has this text, also where a filter or another part hides it.
  return (text) => {
    const row = order.find((each) => rows.text(each, 0) === text);
    if (row === undefined) return;
    if (!kept.includes(row)) {
      filter.value = "";
      apply();
    }
    start = ROWS * Math.floor(kept.indexOf(row) / ROWS);
    show();
    const element = body.rows[kept.indexOf(row) - start];
    for (const other of document.querySelectorAll("tr.found")) other.classList.remove("found");
    element.classList.add("found");
    element.scrollIntoView({ block: "center" });
  };
};

const unpack = async () => {
  const bytes = Uint8Array.from(atob(packed), (letter) => letter.charCodeAt(0));
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).json();
};

let toSource;
const start = (content) => {
  const rowsOf = (section, origins) =>
    section.id in content ? compressed(section, content[section.id], origins) : written(section);
  const last = document.getElementById("sources");
  const origins = rowsOf(last);
  for (const section of document.querySelectorAll("section.table")) {
    const reveal = setUp(section, section === last ? origins : rowsOf(section, origins));
    if (section === last) toSource = reveal;
  }
  document.documentElement.classList.add("ready");
};
packed ? unpack().then(start) : start({});

// A link to a source leads to its row.
document.addEventListener("click", (event) => {
  const source = event.target.closest("a[data-source]")?.dataset.source;
  if (source === undefined || !toSource) return;
  event.preventDefault();
  if (location.hash !== `#source-${source}`) history.pushState(null, "", `#source-${source}`);
  toSource(source);
});
addEventListener("hashchange", () => toSource?.(decodeURIComponent(location.hash).replace("#source-", "")));
