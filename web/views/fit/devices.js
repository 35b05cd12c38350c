/** Every device of the catalogue at a glance: how full it would be, and the largest batch. A table with bars in it. */

import { h, replace, s } from '../../core/dom.js';
import { binaryBytes, count, percent } from '../../core/format.js';
import { t } from '../../core/texts.js';

/**
 * @typedef {{ batch: number } | null} Largest
 * @typedef {{ device: string, title: string, mode: string, memory_bytes: number, usable_bytes: number, safe: Largest, likely: Largest, hopeful: Largest, note: string }} Row
 * @typedef {import('../../core/texts.js').Key} Key
 */

/** @param {Largest} largest */
const batch = (largest) => (largest ? count(largest.batch) : t('fit.none'));

/**
 * @param {(device: string) => void} chosen
 */
export function makeDevices(chosen) {
  const body = h('tbody');
  const table = h('table', { class: 'devices' }, h('caption', { class: 'offscreen' }, t('fit.devices')),
    h('thead', null, h('tr', null, ['fit.device.name', 'fit.device.memory', 'fit.device.now', 'fit.safe', 'fit.hopeful'].map((key, index) => h('th', { scope: 'col', class: index === 1 || index > 2 ? 'number' : '' }, t(/** @type {Key} */ (key)))))), body);
  return {
    element: h('div', { class: 'scroll devices-box', tabindex: '0', role: 'region', 'aria-label': t('fit.devices') }, table),
    /**
     * @param {Row[]} rows of one mode
     * @param {number} wanted the batch that is asked for
     * @param {number | null} peak what it needs
     * @param {string | undefined} device the chosen one
     */
    update(rows, wanted, peak, device) {
      const sorted = [...rows].sort((a, b) => a.usable_bytes - b.usable_bytes || a.title.localeCompare(b.title));
      replace(body, sorted.map((row) => {
        const fits = row.safe && row.safe.batch >= wanted ? 'safe' : row.likely && row.likely.batch >= wanted ? 'likely' : row.hopeful && row.hopeful.batch >= wanted ? 'hopeful' : 'no';
        const part = peak === null ? null : peak / row.usable_bytes;
        return h('tr', { class: row.device === device ? 'kept' : '', title: row.note || null },
          h('th', { scope: 'row' }, h('button', { type: 'button', class: 'layer-name', 'aria-current': row.device === device ? 'true' : null, onclick: () => chosen(row.device) }, row.title)),
          h('td', { class: 'number' }, binaryBytes(row.usable_bytes)),
          h('td', null, h('span', { class: 'fill' }, part === null ? null : s('svg', { viewBox: '0 0 100 12', width: 100, height: 12, 'aria-hidden': 'true', class: `fits-${fits}` }, s('rect', { class: 'room', width: 100, height: 12, rx: 2 }), s('rect', { class: 'filled', width: Math.max(1, Math.min(part, 1) * 100), height: 12, rx: 2 })),
            h('span', { class: 'small' }, `${part === null ? '' : `${percent(part)} · `}${t(/** @type {Key} */ (`fit.verdict.${fits}`))}`))),
          h('td', { class: 'number' }, batch(row.safe)), h('td', { class: 'number' }, batch(row.hopeful)));
      }));
    },
  };
}
