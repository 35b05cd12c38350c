/** Parameters, MACs and memory by layer: three rows of bars over one axis. The table of layers has their numbers. */

import { h, replace, s, unique } from '../../core/dom.js';
import { bytes, short } from '../../core/format.js';
import { t } from '../../core/texts.js';

/** @typedef {import('./layers.js').Row} Row */
/** @typedef {import('../../core/texts.js').Key} Key */

const LEAST = 300;
const LEFT = 84;
const EACH = 84;
const KINDS = /** @type {const} */ (['params', 'macs', 'bytes', 'peak']);

/**
 * @param {{ mark: (layer: string | null, kept: boolean) => void }} actions
 */
export function makeBars(actions) {
  const title = unique('bars');
  const svg = s('svg', {
    height: EACH * KINDS.length + 8, class: 'bars', tabindex: '0', role: 'slider', 'aria-labelledby': title,
    'aria-valuemin': '1', 'aria-valuemax': '1', 'aria-valuenow': '1',
  });
  const band = s('rect', { class: 'band', y: 0, height: EACH * KINDS.length + 4, display: 'none' });
  const hoverBand = s('rect', { class: 'band hover', y: 0, height: EACH * KINDS.length + 4, display: 'none' });
  const plot = s('g', null);
  svg.append(band, hoverBand, plot);
  const chart = h('div', { class: 'scroll chart' }, svg);
  const said = h('p', { class: 'small bars-said' });
  /** @type {Row[]} */
  let rows = [];
  let at = 0;
  let width = 960;
  /** @type {string | null} */
  let chosen = null;

  const step = () => (width - LEFT) / Math.max(rows.length, 1);
  /** @param {Row} row */
  const words = (row) => `${row.name}: ${KINDS.map((kind) => `${t(/** @type {Key} */ (`network.column.${kind}`))} ${row[kind] === null ? '–' : kind === 'bytes' || kind === 'peak' ? bytes(row[kind] ?? 0) : short(row[kind] ?? 0)}`).join(', ')}`;

  function draw() {
    width = Math.max(LEAST, chart.clientWidth || 960);
    svg.setAttribute('viewBox', `0 0 ${width} ${EACH * KINDS.length + 8}`);
    const wide = step();
    const gap = wide > 4 ? 1 : 0;
    replace(plot, KINDS.flatMap((kind, number) => {
      const values = rows.map((row) => row[kind] ?? 0);
      const most = Math.max(...values, 1);
      const bottom = EACH * (number + 1);
      const high = EACH - 22;
      const d = values.map((value, index) => {
        if (!value) return '';
        const height = Math.max((value / most) * high, 0.75);
        return `M${(LEFT + index * wide + gap / 2).toFixed(2)} ${bottom}v${(-height).toFixed(2)}h${(wide - gap).toFixed(2)}V${bottom}z`;
      }).join('');
      const largest = values.some((value) => value > 0) ? (kind === 'bytes' || kind === 'peak' ? bytes(most) : short(most)) : '0';
      return [
        s('line', { class: 'grid', x1: LEFT, x2: width, y1: bottom, y2: bottom }),
        s('path', { class: `bar bar-${kind}`, d }),
        s('text', { class: 'axis strong', x: 0, y: bottom - high + 10 }, t(/** @type {Key} */ (`network.bars.${kind}`))),
        s('text', { class: 'axis', x: 0, y: bottom - high + 27 }, t('network.bars.most', { most: largest })),
      ];
    }));
    svg.setAttribute('aria-valuemax', String(Math.max(rows.length, 1)));
    moveTo(at, false);
    place(band, chosen);
  }

  /** @param {SVGRectElement} rect @param {string | null} layer */
  function place(rect, layer) {
    const index = layer === null ? -1 : rows.findIndex((row) => row.name === layer);
    rect.setAttribute('display', index < 0 ? 'none' : 'inline');
    rect.setAttribute('x', String(LEFT + index * step() - 1));
    rect.setAttribute('width', String(step() + 2));
    return index;
  }

  /** @param {number} index @param {boolean} told */
  function moveTo(index, told) {
    at = Math.min(Math.max(index, 0), Math.max(rows.length - 1, 0));
    const row = rows[at];
    if (!row) return;
    svg.setAttribute('aria-valuenow', String(at + 1));
    svg.setAttribute('aria-valuetext', words(row));
    if (told) actions.mark(row.name, false);
  }
  /** @param {MouseEvent} event */
  function indexAt(event) {
    const box = svg.getBoundingClientRect();
    return Math.floor((((event.clientX - box.left) / box.width) * width - LEFT) / step());
  }
  svg.addEventListener('pointermove', (event) => moveTo(indexAt(event), true));
  svg.addEventListener('pointerleave', () => actions.mark(null, false));
  svg.addEventListener('click', (event) => {
    moveTo(indexAt(event), false);
    const row = rows[at];
    if (row) actions.mark(row.name, true);
  });
  svg.addEventListener('keydown', (event) => {
    const row = rows[at];
    if (event.key === 'Enter' && row) actions.mark(row.name, true);
    const to = { ArrowRight: at + 1, ArrowUp: at + 1, ArrowLeft: at - 1, ArrowDown: at - 1, PageUp: at + 10, PageDown: at - 10, Home: 0, End: rows.length - 1 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    moveTo(to, true);
  });
  const watch = new ResizeObserver(() => draw());
  watch.observe(chart);
  return {
    unmount: () => watch.disconnect(),
    element: h('div', null, h('h3', { id: title, class: 'offscreen' }, t('network.bars')), chart, said),
    svg,
    /** @param {Row[]} next */
    update(next) {
      rows = next;
      draw();
    },
    /** @param {string | null} layer @param {string | null} kept */
    mark(layer, kept) {
      chosen = kept;
      place(band, kept);
      const index = place(hoverBand, layer);
      const row = rows[index] ?? rows.find((each) => each.name === kept);
      if (row) at = rows.indexOf(row);
      said.textContent = row ? words(row) : t('network.bars.hint');
    },
  };
}
