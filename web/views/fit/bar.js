/** What is used of what there is: a bar for now, one with the changes, and a line for the budget. */

import { h, replace, s } from '../../core/dom.js';
import { bytes, percent } from '../../core/format.js';
import { t } from '../../core/texts.js';
import { kindName, KINDS } from '../network/timeline.js';

/**
 * @typedef {{ label: string, peak: number, interval: [number, number], breakdown: Record<string, number> | null, verdict: string }} Use
 * @typedef {import('../../core/texts.js').Key} Key
 */

const ROW = 58;
const TOP = 24;

export function makeBar() {
  const svg = s('svg', { class: 'use', role: 'img' });
  const table = h('details', { class: 'beside' });
  const legend = h('ul', { class: 'legend' });
  /** @type {Use[]} */
  let uses = [];
  let usable = 0;

  function draw() {
    const width = Math.max(320, box.clientWidth || 800);
    const most = Math.max(usable * 1.08, ...uses.map((use) => Math.max(use.interval[1], use.peak) * 1.04), 1);
    /** @param {number} amount */
    const x = (amount) => (amount / most) * (width - 4) + 2;
    const height = TOP + uses.length * ROW + 4;
    svg.setAttribute('viewBox', `0 0 ${width} ${height}`);
    svg.setAttribute('height', String(height));
    const parts = [];
    parts.push(s('rect', { class: 'room', x: 2, y: TOP, width: x(usable) - 2, height: uses.length * ROW }));
    uses.forEach((use, index) => {
      const y = TOP + index * ROW + 24;
      parts.push(s('text', { class: 'use-label', x: 6, y: y - 7 }, `${use.label}: ${bytes(use.peak)}, ${use.verdict}`));
      if (use.breakdown) {
        let at = 0;
        for (const kind of [...KINDS, 'slack']) {
          const amount = use.breakdown[kind] ?? 0;
          if (amount > 0) parts.push(s('rect', { class: `area kind-${kind}`, x: x(at), y, width: Math.max(x(at + amount) - x(at), 0.5), height: 22 }));
          at += amount;
        }
      } else parts.push(s('rect', { class: 'area kind-slack', x: x(0), y, width: x(use.peak) - x(0), height: 22 }));
      const [low, high] = use.interval;
      if (high > low) parts.push(s('path', { class: 'whisker', d: `M${x(low)} ${y + 11}H${x(high)}M${x(low)} ${y + 5}v12M${x(high)} ${y + 5}v12` }));
    });
    parts.push(s('line', { class: 'limit', x1: x(usable), x2: x(usable), y1: TOP - 6, y2: height - 2 }));
    const end = x(usable) > width / 2;
    parts.push(s('text', { class: 'use-label', x: x(usable) + (end ? -5 : 5), y: 13, 'text-anchor': end ? 'end' : 'start' }, t('fit.limit', { bytes: bytes(usable) })));
    replace(svg, ...parts);
    svg.setAttribute('aria-label', uses.map((use) => `${use.label}: ${t('fit.used', { bytes: bytes(use.peak), part: percent(use.peak / usable), whole: bytes(usable) })}, ${use.verdict}`).join('. '));
    const kinds = KINDS.filter((kind) => uses.some((use) => use.breakdown?.[kind]));
    replace(legend, kinds.map((kind) => h('li', null, s('svg', { viewBox: '0 0 14 14', width: 14, height: 14, 'aria-hidden': 'true' }, s('rect', { class: `area kind-${kind}`, width: 14, height: 14, rx: 3 })), kindName(kind))),
      uses.some((use) => use.interval[1] > use.interval[0]) ? h('li', { class: 'muted' }, '├─┤ ', t('fit.whisker')) : null);
    replace(table, h('summary', null, t('fit.use.table')), h('div', { class: 'scroll', tabindex: '0', role: 'region', 'aria-label': t('fit.use.table') }, h('table', null,
      h('thead', null, h('tr', null, h('th', { scope: 'col' }, t('network.kind')), uses.map((use) => h('th', { scope: 'col', class: 'number' }, use.label)))),
      h('tbody', null, [...KINDS, 'slack'].map((kind) => h('tr', null, h('th', { scope: 'row' }, kind === 'slack' ? t('fit.slack') : kindName(kind)), uses.map((use) => h('td', { class: 'number' }, use.breakdown ? bytes(use.breakdown[kind] ?? 0) : '–')))),
        h('tr', null, h('th', { scope: 'row' }, t('network.peak')), uses.map((use) => h('td', { class: 'number' }, bytes(use.peak)))),
        h('tr', null, h('th', { scope: 'row' }, t('fit.interval')), uses.map((use) => h('td', { class: 'number' }, `${bytes(use.interval[0])} – ${bytes(use.interval[1])}`)))))));
  }
  const box = h('div', { class: 'use-box' }, svg);
  const watch = new ResizeObserver(() => draw());
  watch.observe(box);
  return {
    element: h('div', null, box, legend, table),
    svg,
    /** @param {Use[]} next @param {number} room */
    update(next, room) {
      uses = next;
      usable = room;
      draw();
    },
    unmount: () => watch.disconnect(),
  };
}
