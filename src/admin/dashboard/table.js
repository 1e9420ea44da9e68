/* A table in a section of its own. Its rows are kept by key and updated in place, so that a selection in them stays. */

/** The text of a cell. */
const text = textOf => (cell, row) => write(cell, String(textOf(row)));

/** A text above a bar as wide as the column: `shareOf` gives 0 to 1, or undefined where there is no limit to compare with. */
const meter = (shareOf, textOf) => (cell, row) => {
  const share = shareOf(row);
  if (cell.childElementCount === 0) cell.append(make('span', 'meter', make('i')), make('span'));
  const [track, words] = cell.children;
  track.hidden = share === undefined;
  track.firstElementChild.style.width = `${Math.min(100, Math.round((share ?? 0) * 100))}%`;
  track.firstElementChild.className = share > 0.9 ? 'high' : '';
  write(words, textOf(row));
};

/**
 * Adds the section. Each column has a `label`, its `help`, and `show(cell, row)`; `left` aligns text, `ch` is the width in characters that it keeps.
 * A column with `when(rows)` is shown only where that holds.
 * A function of the rows updates it; without a row the section is hidden, unless `whenEmpty` says what to show then. It is hidden for no rows at all.
 */
function addTable({ id, title, note = '', help, columns, keyOf, whenEmpty }) {
  const heading = explain(make('h2', '', title, ' ', make('small', '', note)), title, help);
  heading.id = `${id}-title`;
  heading.tabIndex = -1;
  const body = make('tbody');
  body.id = id;
  const table = make('table', '', make('thead', '', make('tr', '', ...columns.map(headOf))), body);
  const region = make('div', 'scroll', table);
  region.tabIndex = 0;
  region.setAttribute('role', 'region');
  const empty = make('p', 'empty', whenEmpty ?? '');
  const section = byId(`${id}-section`);
  region.setAttribute('aria-labelledby', heading.id);
  section.replaceChildren(heading, region, empty);
  const kept = new Map();
  const heads = [...table.tHead.rows[0].cells];
  return rows => {
    section.hidden = rows === undefined || (rows.length === 0 && whenEmpty === undefined);
    if (rows === undefined) return;
    const isHidden = columns.map(({ when }) => when !== undefined && !when(rows));
    for (const [index, head] of heads.entries()) head.hidden = isHidden[index];
    region.hidden = rows.length === 0;
    empty.hidden = rows.length > 0;
    const keys = rows.map(keyOf);
    for (const [key, element] of kept) {
      if (keys.includes(key)) continue;
      element.remove();
      kept.delete(key);
    }
    rows.forEach((row, index) => {
      const key = keys[index];
      const element = kept.get(key) ?? rowOf(columns);
      kept.set(key, element);
      element.dataset.key = String(key);
      if (body.children[index] !== element) body.insertBefore(element, body.children[index] ?? null);
      for (const [column, { show }] of columns.entries()) {
        element.children[column].hidden = isHidden[column];
        if (!isHidden[column]) show(element.children[column], row);
      }
    });
  };
}

function headOf({ label, help, left, ch = 0 }) {
  const head = explain(make('th', left ? 'left' : '', label), label, help);
  head.scope = 'col';
  head.style.minWidth = `calc(${ch}ch + 2 * var(--cell))`;
  return head;
}

function rowOf(columns) {
  const row = make('tr');
  for (const { label, left } of columns) {
    const cell = make('td', left ? 'left' : '');
    cell.dataset.label = label;
    row.append(cell);
  }
  return row;
}
