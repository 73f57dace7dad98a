"use strict";

// Tables: a click on a heading sorts by that column, another one the other way round.
for (const table of document.querySelectorAll("table")) {
  const headings = [...table.tHead.rows[0].cells];
  headings.forEach((heading, column) => heading.addEventListener("click", () => {
    const down = !heading.classList.contains("down");
    const value = (row) => {
      const text = row.cells[column].dataset.value ?? row.cells[column].textContent;
      return Number.isNaN(Number(text)) ? text : Number(text);
    };
    const rows = [...table.tBodies[0].rows].sort((a, b) => (value(a) < value(b) ? -1 : value(a) > value(b) ? 1 : 0));
    table.tBodies[0].append(...(down ? rows.reverse() : rows));
    headings.forEach((other) => other.classList.remove("up", "down"));
    heading.classList.add(down ? "down" : "up");
  }));
}

// The gallery: sorted by a number of each card, and only those with an error of a kind.
const cards = document.querySelector("#cards");
const sortBy = document.querySelector("#sort");
const only = document.querySelector("#only");

function arrange() {
  const [name, direction] = sortBy.value.split(" ");
  const sign = direction === "down" ? -1 : 1;
  const sorted = [...cards.children].sort((a, b) => sign * (Number(a.dataset[name]) - Number(b.dataset[name])));
  for (const card of sorted) {
    card.hidden = only.value !== "" && (only.value === "missed" ? Number(card.dataset.oks) > 0 : card.dataset[only.value] === "0");
  }
  cards.append(...sorted);
}

if (cards) {
  sortBy.addEventListener("change", arrange);
  only.addEventListener("change", arrange);
}
for (const box of document.querySelectorAll("[data-layer]")) {
  box.addEventListener("change", () => document.body.classList.toggle(`no-${box.dataset.layer}`, !box.checked));
}
document.addEventListener("click", (event) => {
  const card = event.target.closest(".case");
  for (const large of document.querySelectorAll(".case.large")) if (large !== card) large.classList.remove("large");
  card?.classList.toggle("large");
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") document.querySelectorAll(".case.large").forEach((card) => card.classList.remove("large"));
});
