/**
 * The table of layers. Only the rows that are seen are there: a thousand layers cost as little as twenty.
 *
 * @typedef {object} Row
 * @property {string} name
 * @property {string} type
 * @property {number} place in the network
 * @property {string} block
 * @property {number[] | null} output
 * @property {number | null} params
 * @property {number | null} macs
 * @property {number | null} bytes
 * @property {number | null} peak what it has alive at the peak
 * @property {string} field its receptive field
 * @property {string} wrong what is wrong here
 * @typedef {'place' | 'name' | 'type' | 'output' | 'params' | 'macs' | 'bytes' | 'peak' | 'field'} Column
 * @typedef {import('../../core/texts.js').Key} Key
 */

import { h, replace, unique } from '../../core/dom.js';
import { binaryBytes, bytes, count, shape, short } from '../../core/format.js';
import { t } from '../../core/texts.js';

/** @type {Column[]} */
export const COLUMNS = ['place', 'name', 'type', 'output', 'params', 'macs', 'bytes', 'peak', 'field'];
const NUMBERS = new Set(['place', 'params', 'macs', 'bytes', 'peak']);
const SIZES = new Set(['bytes', 'peak']);
export const UNITS = ['short', 'binary', 'exact'];
/** The height of a row in pixels, as the style sheet has it. */
const HEIGHT = 34;
const MORE = 8;

/**
 * A number as the switch wants it.
 * @param {number | null} value @param {Column} column @param {string} units
 */
export function shown(value, column, units) {
  if (value === null) return '–';
  if (units === 'exact' || column === 'place') return count(value);
  if (SIZES.has(column)) return units === 'binary' ? binaryBytes(value) : bytes(value);
  return short(value);
}

/**
 * @typedef {{ kind: 'layer', row: Row } | { kind: 'block', name: string, open: boolean, count: number, sums: Record<string, number | null> }} Line
 * @param {{ mark: (layer: string | null, kept: boolean) => void, move: (layer: string, by: number) => void, remove: (layer: string) => void }} actions
 */
export function makeLayers(actions) {
  /** @type {Row[]} */
  let rows = [];
  /** @type {Line[]} */
  let lines = [];
  /** @type {{ column: Column, down: boolean }} */
  let order = { column: 'place', down: false };
  let units = 'short';
  let folded = false;
  const opened = new Set();
  /** @type {string | null} */
  let hovered = null;
  /** @type {string | null} */
  let kept = null;
  let drawn = '';
  let version = 0;

  const body = h('tbody');
  const foot = h('tfoot');
  const heads = COLUMNS.map((column) => {
    const name = t(/** @type {Key} */ (`network.column.${column}`));
    const button = h('button', { type: 'button', class: 'sort', title: t(/** @type {Key} */ (`network.column.${column}.help`)) }, name, h('span', { class: 'arrow', 'aria-hidden': 'true' }));
    button.addEventListener('click', () => {
      order = order.column === column ? { column, down: !order.down } : { column, down: NUMBERS.has(column) && column !== 'place' };
      arrange();
      box.scrollTop = 0;
      draw();
    });
    return h('th', { scope: 'col', class: NUMBERS.has(column) ? 'number' : '' }, button);
  });
  const table = h('table', { class: 'layers' }, h('caption', { class: 'offscreen' }, t('network.layers')), h('thead', null, h('tr', null, heads)), body, foot);
  const box = h('div', { class: 'layers-box', tabindex: '0', role: 'region', 'aria-label': t('network.layers') }, table);

  const name = unique('units');
  const fold = h('button', { type: 'button', 'aria-pressed': 'false' }, t('network.fold'));
  fold.addEventListener('click', () => {
    folded = !folded;
    opened.clear();
    fold.setAttribute('aria-pressed', String(folded));
    arrange();
    draw();
  });
  const switcher = h('fieldset', { class: 'row units' }, h('legend', { class: 'offscreen' }, t('network.units')),
    h('div', { class: 'segments' }, UNITS.map((each) => h('label', null,
      h('input', { type: 'radio', name, value: each, checked: each === units, onchange: () => { units = each; arrange(); draw(); } }),
      t(/** @type {Key} */ (`network.units.${each}`))))));

  /** @param {Row} row @param {Column} column */
  const key = (row, column) => (column === 'output' ? (row.output ?? []).reduce((a, b) => a * b, 1) : column === 'field' ? Number.parseInt(row.field, 10) || 0 : row[column]);

  function arrange() {
    version += 1;
    const { column, down } = order;
    heads.forEach((head, index) => {
      const mine = COLUMNS[index] === column;
      if (mine) head.setAttribute('aria-sort', down ? 'descending' : 'ascending');
      else head.removeAttribute('aria-sort');
    });
    const sorted = [...rows].sort((a, b) => {
      const [one, two] = [key(a, column), key(b, column)];
      const way = typeof one === 'string' || typeof two === 'string' ? String(one).localeCompare(String(two), 'en', { numeric: true }) : (one ?? -1) - (two ?? -1);
      return (down ? -way : way) || a.place - b.place;
    });
    const blocks = rows.some((row, index) => row.block && row.block === rows[index + 1]?.block);
    fold.hidden = !blocks;
    lines = [];
    if (!folded || !blocks || column !== 'place') {
      lines = sorted.map((row) => ({ kind: 'layer', row }));
    } else {
      for (let first = 0; first < sorted.length;) {
        const block = sorted[first]?.block ?? '';
        let end = first + 1;
        while (block && end < sorted.length && sorted[end]?.block === block) end += 1;
        const inside = sorted.slice(first, end);
        if (inside.length > 1) {
          const open = opened.has(block) || inside.some((row) => row.wrong);
          lines.push({ kind: 'block', name: block, open, count: inside.length, sums: { params: sum(inside, 'params'), macs: sum(inside, 'macs'), bytes: sum(inside, 'bytes'), peak: sum(inside, 'peak') } });
          if (open) lines.push(...inside.map((row) => /** @type {Line} */ ({ kind: 'layer', row })));
        } else lines.push(...inside.map((row) => /** @type {Line} */ ({ kind: 'layer', row })));
        first = end;
      }
    }
    table.setAttribute('aria-rowcount', String(lines.length + 2));
    replace(foot, h('tr', null, COLUMNS.map((each) => each === 'name' ? h('th', { scope: 'row' }, t('network.total')) : h('td', { class: NUMBERS.has(each) ? 'number' : '' },
      each === 'type' ? t('network.layers.count', { count: count(rows.length) }) : each === 'params' || each === 'macs' || each === 'bytes' || each === 'peak' ? shown(sum(rows, each), each, units) : ''))));
  }

  function draw() {
    const seen = box.clientHeight || 480;
    const low = Math.max(0, Math.floor(box.scrollTop / HEIGHT) - MORE);
    const high = Math.min(lines.length, Math.ceil((box.scrollTop + seen) / HEIGHT) + MORE);
    const now = `${version} ${low} ${high}`;
    if (now !== drawn) {
      drawn = now;
      const focused = body.contains(document.activeElement) ? /** @type {HTMLElement} */ (document.activeElement).dataset['go'] : null;
      replace(body, low ? spacer(low) : null, lines.slice(low, high).map((line, index) => (line.kind === 'layer' ? drawRow(line.row, low + index) : drawBlock(line, low + index))), high < lines.length ? spacer(lines.length - high) : null);
      if (focused) find(focused)?.focus({ preventScroll: true });
    }
    paint();
  }

  /** @param {number} rows_ */
  function spacer(rows_) {
    return h('tr', { class: 'spacer', 'aria-hidden': 'true' }, h('td', { colspan: COLUMNS.length, style: { height: `${rows_ * HEIGHT}px` } }));
  }

  /** @param {Row} row @param {number} index */
  function drawRow(row, index) {
    return h('tr', { 'data-layer': row.name, class: row.wrong ? 'wrong' : '', 'aria-rowindex': index + 2 }, COLUMNS.map((column) => {
      if (column === 'name') {
        return h('th', { scope: 'row' }, h('button', { type: 'button', class: 'layer-name', 'data-go': row.name, title: row.wrong || row.name }, row.wrong ? h('span', { class: 'cross', 'aria-hidden': 'true' }, '✕ ') : null, row.name,
          row.wrong ? h('span', { class: 'offscreen' }, `: ${row.wrong}`) : null));
      }
      if (column === 'type') return h('td', { title: row.type }, row.type);
      if (column === 'output') return row.wrong ? h('td', { class: 'bad', title: row.wrong }, row.wrong.replace(/^[^:]*: /, '')) : h('td', null, row.output ? shape(row.output) : '–');
      if (column === 'field') return h('td', null, row.field);
      return h('td', { class: 'number' }, shown(row[column], column, units));
    }));
  }

  /** @param {Extract<Line, { kind: 'block' }>} line @param {number} index */
  function drawBlock(line, index) {
    const toggle = h('button', { type: 'button', class: 'layer-name block', 'aria-expanded': String(line.open), 'data-go': `block ${line.name}` }, line.open ? '▾ ' : '▸ ', line.name);
    toggle.addEventListener('click', () => {
      if (line.open) opened.delete(line.name);
      else opened.add(line.name);
      arrange();
      draw();
    });
    return h('tr', { class: 'block-row', 'aria-rowindex': index + 2 }, COLUMNS.map((column) => column === 'name' ? h('th', { scope: 'row' }, toggle)
      : column === 'type' ? h('td', null, t('network.layers.count', { count: line.count }))
        : h('td', { class: NUMBERS.has(column) ? 'number' : '' }, column in line.sums ? shown(line.sums[column] ?? null, column, units) : '')));
  }

  /** @param {string} go @returns {HTMLElement | null} */
  const find = (go) => body.querySelector(`[data-go="${CSS.escape(go)}"]`);

  function paint() {
    for (const row of body.children) {
      const layer = /** @type {HTMLElement} */ (row).dataset['layer'];
      if (layer === undefined) continue;
      row.classList.toggle('hovered', layer === hovered);
      row.classList.toggle('kept', layer === kept);
      const button = row.querySelector('.layer-name');
      if (layer === kept) button?.setAttribute('aria-current', 'true');
      else button?.removeAttribute('aria-current');
    }
  }

  /** @param {string} layer */
  function reveal(layer) {
    let index = lines.findIndex((line) => line.kind === 'layer' && line.row.name === layer);
    if (index < 0) {
      const row = rows.find((each) => each.name === layer);
      if (!row?.block) return;
      opened.add(row.block);
      arrange();
      index = lines.findIndex((line) => line.kind === 'layer' && line.row.name === layer);
    }
    const top = index * HEIGHT;
    const seen = box.clientHeight || 480;
    if (top < box.scrollTop || top > box.scrollTop + seen - HEIGHT * 3) box.scrollTop = Math.max(0, top - seen / 2);
    draw();
  }

  let frame = 0;
  box.addEventListener('scroll', () => {
    cancelAnimationFrame(frame);
    frame = requestAnimationFrame(draw);
  });
  /** @param {Event} event */
  const layerOf = (event) => /** @type {HTMLElement | null} */ (/** @type {Element} */ (event.target).closest('tr[data-layer]'))?.dataset['layer'] ?? null;
  body.addEventListener('pointerover', (event) => actions.mark(layerOf(event), false));
  body.addEventListener('pointerleave', () => actions.mark(null, false));
  body.addEventListener('click', (event) => {
    const layer = layerOf(event);
    if (layer !== null) actions.mark(layer, true);
  });
  body.addEventListener('focusin', (event) => {
    const layer = layerOf(event);
    if (layer !== null) actions.mark(layer, false);
  });
  body.addEventListener('keydown', (event) => {
    const go = /** @type {HTMLElement} */ (event.target).dataset['go'];
    if (go === undefined) return;
    const layer = layerOf(event);
    if (event.altKey && layer && (event.key === 'ArrowUp' || event.key === 'ArrowDown')) {
      event.preventDefault();
      actions.move(layer, event.key === 'ArrowUp' ? -1 : 1);
      return;
    }
    if (event.key === 'Delete' && layer) {
      actions.remove(layer);
      return;
    }
    const here = lines.findIndex((line) => (line.kind === 'layer' ? line.row.name : `block ${line.name}`) === go);
    const to = { ArrowDown: here + 1, ArrowUp: here - 1, PageDown: here + 10, PageUp: here - 10, Home: 0, End: lines.length - 1 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    const line = lines[Math.min(Math.max(to, 0), lines.length - 1)];
    if (!line) return;
    const target = line.kind === 'layer' ? line.row.name : `block ${line.name}`;
    if (line.kind === 'layer') reveal(target);
    find(target)?.focus({ preventScroll: true });
  });

  return {
    element: box,
    tools: h('div', { class: 'row' }, fold, switcher),
    /** @param {Row[]} next */
    update(next) {
      rows = next;
      arrange();
      draw();
    },
    redraw: draw,
    /** @param {string} layer */
    focus(layer) {
      reveal(layer);
      find(layer)?.focus({ preventScroll: true });
    },
    /** @param {string | null} layer @param {string | null} chosen */
    mark(layer, chosen) {
      if (layer === hovered && chosen === kept) return;
      hovered = layer;
      const moved = chosen !== kept;
      kept = chosen;
      if (moved && chosen !== null && !body.contains(document.activeElement)) reveal(chosen);
      else paint();
    },
    /** Everything as rows of a table for elsewhere, in the order that is shown. @param {boolean} exact */
    cells(exact) {
      const sorted = lines.every((line) => line.kind === 'layer') ? lines.map((line) => /** @type {Extract<Line, { kind: 'layer' }>} */ (line).row) : rows;
      return [COLUMNS.map((column) => t(/** @type {Key} */ (`network.column.${column}`))),
        ...sorted.map((row) => COLUMNS.map((column) => column === 'output' ? (row.output ?? []).join('x') : column === 'name' || column === 'type' || column === 'field' ? row[column]
          : exact ? row[column] ?? '' : shown(row[column], column, units)))];
    },
  };
}

/** @param {Row[]} rows @param {'params' | 'macs' | 'bytes' | 'peak'} column */
function sum(rows, column) {
  return rows.some((row) => row[column] === null) ? null : rows.reduce((total, row) => total + (row[column] ?? 0), 0);
}
