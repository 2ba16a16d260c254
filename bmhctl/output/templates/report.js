"use strict";
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, place) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = head.textContent;
    head.replaceChildren(button);
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const key = (row) => row.cells[place].dataset.key ?? row.cells[place].textContent.trim();
      const rows = [...body.rows].sort((a, b) =>
        key(a).localeCompare(key(b), "en", { numeric: true, sensitivity: "base" }));
      body.replaceChildren(...(down ? rows.reverse() : rows));
    });
  });
}
const search = document.getElementById("search");
if (search) {
  const rows = [...document.querySelectorAll("#hosts tbody tr")];
  const count = document.getElementById("found");
  const texts = rows.map((row) => row.textContent.toLowerCase());
  search.closest("p").hidden = false;
  search.addEventListener("input", () => {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    let found = 0;
    rows.forEach((row, place) => {
      row.hidden = !words.every((word) => texts[place].includes(word));
      found += row.hidden ? 0 : 1;
    });
    count.textContent = `${found} of ${rows.length} hosts`;
  });
}
