'use strict';
// A click on a column sorts by it: numbers fall first, dashes stay last.
for (const table of document.querySelectorAll('table.sortable')) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, index) => head.firstElementChild.addEventListener('click', () => {
    const numeric = head.classList.contains('number');
    const now = head.getAttribute('aria-sort');
    const order = now ? (now === 'ascending' ? 'descending' : 'ascending')
      : (numeric ? 'descending' : 'ascending');
    heads.forEach((other) => other.removeAttribute('aria-sort'));
    head.setAttribute('aria-sort', order);
    const sign = order === 'ascending' ? 1 : -1;
    const compare = (a, b) => {
      const [x, y] = [a.cells[index], b.cells[index]];
      if (!numeric) return sign * x.textContent.localeCompare(y.textContent, undefined, { numeric: true });
      if (x.dataset.value === '' || y.dataset.value === '') return (x.dataset.value === '') - (y.dataset.value === '');
      return sign * (x.dataset.value - y.dataset.value);
    };
    table.tBodies[0].append(...[...table.tBodies[0].rows].sort(compare));
  }));
}
// A click on a picture enlarges it; arrow keys go to the next one.
const dialog = document.getElementById('zoom');
const buttons = [...document.querySelectorAll('button.zoom')];
let shown = 0;
function show(index) {
  shown = (index + buttons.length) % buttons.length;
  const source = buttons[shown].firstElementChild;
  const image = dialog.querySelector('img');
  image.src = source.src;
  image.alt = source.alt;
  dialog.querySelector('p').textContent = source.alt;
  if (!dialog.open) dialog.showModal();
}
buttons.forEach((button, index) => button.addEventListener('click', () => show(index)));
dialog.addEventListener('click', (event) => {
  if (event.target === dialog || event.target.tagName === 'IMG') dialog.close();
});
dialog.addEventListener('keydown', (event) => {
  if (event.key === 'ArrowRight') show(shown + 1);
  if (event.key === 'ArrowLeft') show(shown - 1);
});
