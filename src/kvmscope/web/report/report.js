// Shows the value below the pointer. The page is complete without this: every value is in the table behind its chart.
"use strict";
for (const svg of document.querySelectorAll("svg[data-table]")) {
  const rows = document.getElementById(svg.dataset.table).tBodies[0].rows;
  const [left, right] = [Number(svg.dataset.left), Number(svg.dataset.right)];
  const make = (name) => svg.appendChild(document.createElementNS("http://www.w3.org/2000/svg", name));
  let hair, text;
  svg.addEventListener("pointermove", (event) => {
    const point = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
    const place = Math.round((point.x - left) / (right - left) * (rows.length - 1));
    const row = rows[Math.min(Math.max(place, 0), rows.length - 1)];
    const x = left + (right - left) * (row.sectionRowIndex / Math.max(rows.length - 1, 1));
    if (!hair) {
      [hair, text] = [make("path"), make("text")];
      hair.setAttribute("class", "hair");
      text.setAttribute("class", "read");
      text.setAttribute("y", "12");
    }
    hair.setAttribute("d", `M${x} 0V${svg.viewBox.baseVal.height}`);
    const isLate = x > (left + right) / 2;
    text.setAttribute("x", String(x + (isLate ? -6 : 6)));
    text.setAttribute("text-anchor", isLate ? "end" : "start");
    text.textContent = `${row.cells[0].textContent}  ${row.cells[Number(svg.dataset.cell)].textContent}`;
  });
  svg.addEventListener("pointerleave", () => {
    hair?.remove();
    text?.remove();
    hair = text = undefined;
  });
}
