/** The weights of a filter, to be drawn over or typed into. */

import { h, replace, unique } from '../../core/dom.js';
import { t } from '../../core/texts.js';
import { resized } from './kernels.js';

/** @typedef {import('./kernels.js').Matrix} Matrix */

const SIZES = [1, 3, 5, 7, 9, 11];

/** @param {(matrix: Matrix, entry: boolean) => void} changed `entry`: this is a new entry of the history */
export function makeEditor(changed) {
  /** @type {Matrix} */
  let matrix = [[1]];
  /** @type {HTMLInputElement[][]} */
  let cells = [];
  let drawing = true;
  /** What a stroke lays down: null while there is none. @type {number | null} */
  let stroke = null;

  const grid = h('div', { class: 'weights', role: 'group', 'aria-label': t('filters.weights') });
  const error = h('p', { class: 'error', role: 'alert' });
  const hint = h('p', { class: 'muted small' });
  const brush = h('input', { type: 'text', inputmode: 'decimal', id: unique('brush'), value: '1', autocomplete: 'off' });
  const rows = sizeChoice(() => changeSize());
  const columns = sizeChoice(() => changeSize());
  const modeName = unique('mode');
  const modes = /** @type {const} */ (['draw', 'type']).map((mode) => h('label', null,
    h('input', { type: 'radio', name: modeName, checked: mode === 'draw', onchange: () => setMode(mode === 'draw') }), t(`filters.mode.${mode}`)));
  const element = h('div', { class: 'stack editor' },
    h('div', { class: 'spread' },
      h('fieldset', null, h('legend', null, t('filters.size')), h('div', { class: 'row' }, rows, '×', columns)),
      h('fieldset', null, h('legend', null, t('filters.mode')), h('div', { class: 'segments' }, modes))),
    grid, error, hint,
    h('div', { class: 'row' }, h('label', { for: brush.id, class: 'small' }, t('filters.brush')), brush,
      h('button', { type: 'button', onclick: () => { set(matrix.map((row) => row.map(() => 0))); changed(matrix, true); } }, t('filters.clear'))));

  /** @param {boolean} draw */
  function setMode(draw) {
    drawing = draw;
    grid.classList.toggle('drawing', draw);
    hint.textContent = t(draw ? 'filters.draw.hint' : 'filters.type.hint');
  }

  function changeSize() {
    set(resized(matrix, Number(rows.value), Number(columns.value)));
    changed(matrix, true);
  }

  /** @param {number} row @param {number} column @param {number} weight @param {boolean} entry */
  function put(row, column, weight, entry) {
    const cell = cells[row]?.[column];
    if (!cell || matrix[row]?.[column] === weight) return;
    matrix = matrix.map((line, at) => (at === row ? line.with(column, weight) : line));
    paint(cell, weight);
    changed(matrix, entry);
  }

  /** What to draw on a cell: the brush's weight, or 0 where that lies already. @param {number} row @param {number} column */
  function laid(row, column) {
    const weight = Number(brush.value) || 0;
    return matrix[row]?.[column] === weight ? 0 : weight;
  }

  /** @param {EventTarget | null} target @returns {[number, number] | null} */
  function placeOf(target) {
    if (!(target instanceof HTMLInputElement) || !target.dataset['at']) return null;
    const [row = 0, column = 0] = target.dataset['at'].split(',').map(Number);
    return [row, column];
  }

  grid.addEventListener('pointerdown', (event) => {
    const at = placeOf(event.target);
    if (!drawing || !at || event.button !== 0) return;
    event.preventDefault();
    cells[at[0]]?.[at[1]]?.focus();
    stroke = laid(...at);
    put(...at, stroke, true);
  });
  grid.addEventListener('pointermove', (event) => {
    if (stroke === null) return;
    const at = placeOf(document.elementFromPoint(event.clientX, event.clientY));
    if (at) put(...at, stroke, false);
  });
  const end = () => { stroke = null; };
  addEventListener('pointerup', end);
  grid.addEventListener('keydown', (event) => {
    const at = placeOf(event.target);
    if (!at) return;
    const [down, across] = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key] ?? [0, 0];
    const field = /** @type {HTMLInputElement} */ (event.target);
    const inside = !drawing && across !== 0 && field.selectionStart !== field.selectionEnd ? false : !drawing && across !== 0 && field.value.length > 1;
    if (drawing && event.key === ' ') {
      event.preventDefault();
      put(...at, laid(...at), true);
    } else if ((down || across) && !inside) {
      const next = cells[at[0] + (down ?? 0)]?.[at[1] + (across ?? 0)];
      if (!next) return;
      event.preventDefault();
      next.focus();
      next.select();
    }
  });
  grid.addEventListener('input', (event) => {
    const at = placeOf(event.target);
    if (!at) return;
    const field = /** @type {HTMLInputElement} */ (event.target);
    const weight = field.value.trim() === '' ? NaN : Number(field.value.replace(',', '.').replace('−', '-'));
    const sound = Math.abs(weight) <= 1e6;
    error.textContent = sound ? '' : t('filters.error.weights');
    if (!sound) {
      field.setAttribute('aria-invalid', 'true');
      return;
    }
    field.removeAttribute('aria-invalid');
    const typed = field.value;
    put(...at, weight, false);
    field.value = typed;
  });

  /** @param {Matrix} next */
  function set(next) {
    matrix = next;
    const [high, wide] = [next.length, next[0]?.length ?? 1];
    if (cells.length !== high || cells[0]?.length !== wide) {
      cells = next.map((line, row) => line.map((_, column) => h('input', {
        type: 'text', inputmode: 'decimal', autocomplete: 'off', 'data-at': `${row},${column}`, 'aria-label': t('filters.cell', { row: row + 1, column: column + 1 }),
      })));
      grid.style.setProperty('--columns', String(wide));
      replace(grid, cells.flat());
    }
    next.forEach((line, row) => line.forEach((weight, column) => {
      const cell = cells[row]?.[column];
      if (cell) paint(cell, weight);
    }));
    offer(rows, high);
    offer(columns, wide);
    error.textContent = '';
  }

  setMode(true);
  return { element, set, unmount: () => removeEventListener('pointerup', end) };
}

/** @param {() => void} chosen */
function sizeChoice(chosen) {
  const select = h('select', { 'aria-label': t('filters.size'), onchange: chosen });
  return select;
}

/** @param {HTMLSelectElement} select @param {number} size */
function offer(select, size) {
  const sizes = [...new Set([...SIZES, size])].sort((a, b) => a - b);
  replace(select, sizes.map((each) => h('option', { value: each, selected: each === size }, each)));
}

/** @param {HTMLInputElement} cell @param {number} weight */
function paint(cell, weight) {
  const text = String(Math.round(weight * 1e4) / 1e4);
  if (Number(cell.value) !== weight || cell.value === '') cell.value = text;
  cell.removeAttribute('aria-invalid');
  cell.dataset['sign'] = weight > 0 ? 'plus' : weight < 0 ? 'minus' : 'zero';
}
