/**
 * The picture and its feature map, to one scale, with the window that a neuron sees.
 *
 * @typedef {import('../layer/geometry.js').Axis} Axis
 * @typedef {{ url: string, width: number, height: number }} Picture  sizes are 0 where the browser cannot show it
 */

import { h, replace, s, unique } from '../../core/dom.js';
import { shape } from '../../core/format.js';
import { t } from '../../core/texts.js';
import { clamp, keyed, neuronAt, windowOf } from '../layer/geometry.js';

const LARGEST = 4;

/** @param {(neuron: number[]) => void} select */
export function makeMaps(select) {
  /** @type {Axis[] | null} */
  let axes = null;
  /** @type {number[]} */
  let chosen = [0, 0];
  /** @type {number[]} */
  let shown = [0, 0];
  /** @type {Picture} */
  let picture = { url: '', width: 0, height: 0 };
  /** @type {{ url: string, width: number, height: number, levels: Uint8ClampedArray } | null} */
  let map = null;
  let width = 0;

  const hatch = unique('zeros');
  const window_ = s('rect', { class: 'window' });
  const neuron = s('rect', { class: 'neuron' });
  const source = s('svg', { class: 'picture photo', 'aria-hidden': 'true' });
  const target = s('svg', { class: 'picture photo', tabindex: '0', role: 'application', 'aria-roledescription': t('filters.role'), 'aria-label': t('filters.label') });
  const says = h('p', { class: 'says', 'aria-live': 'polite', id: unique('says') });
  target.setAttribute('aria-describedby', says.id);
  const [sourceName, targetName] = [h('figcaption'), h('figcaption')];
  const unseen = h('p', { class: 'muted', hidden: true }, t('filters.unseen'));
  const frame = h('div', { class: 'photos' }, h('figure', null, sourceName, source, unseen), h('figure', null, targetName, target));
  const element = h('div', { class: 'stack' }, h('p', { class: 'muted small' }, t('filters.hint')), frame, says);

  /** @param {number[]} at */
  function show(at) {
    shown = at;
    if (!axes || !map) return;
    const [down, across] = /** @type {[Axis, Axis]} */ (axes);
    const [rows, columns] = [windowOf(down, at[0] ?? 0), windowOf(across, at[1] ?? 0)];
    place(window_, columns.first, rows.first, columns.last - columns.first + 1, rows.last - rows.first + 1);
    const least = Math.max(1, (4 * map.width) / Math.max(target.clientWidth, 1));
    place(neuron, (at[1] ?? 0) + 0.5 - least / 2, (at[0] ?? 0) + 0.5 - least / 2, least, least);
    /** @param {{ first: number, last: number }} seen @param {Axis} axis */
    const range = (seen, axis) => `${Math.max(seen.first, 0)} to ${Math.min(seen.last, axis.input - 1)}`;
    says.textContent = t('filters.says', {
      place: at.join(', '), level: map.levels[((at[0] ?? 0) * map.width + (at[1] ?? 0)) * 4] ?? 0, rows: range(rows, down), columns: range(columns, across),
    });
  }

  function draw() {
    if (!width || !map) return;
    const pads = { top: 0, left: 0, bottom: 0, right: 0 };
    if (axes) {
      const [down, across] = /** @type {[Axis, Axis]} */ (axes);
      Object.assign(pads, { top: down.before, bottom: down.after, left: across.before, right: across.after });
    }
    const wide = picture.width + pads.left + pads.right;
    const high = picture.height + pads.top + pads.bottom;
    const beside = width >= 560;
    const scale = Math.min(LARGEST, beside ? (width - 24) / (wide + map.width) : width / Math.max(wide, map.width));
    source.setAttribute('viewBox', `${-pads.left} ${-pads.top} ${wide} ${high}`);
    target.setAttribute('viewBox', `0 0 ${map.width} ${map.height}`);
    for (const [svg, w, ht] of /** @type {[SVGSVGElement, number, number][]} */ ([[source, wide, high], [target, map.width, map.height]])) {
      svg.setAttribute('width', String(Math.round(w * scale)));
      svg.setAttribute('height', String(Math.round(ht * scale)));
    }
    const seen = picture.width > 0;
    unseen.hidden = seen;
    source.toggleAttribute('hidden', !seen);
    replace(source,
      s('defs', null, s('pattern', { id: hatch, width: 4, height: 4, patternUnits: 'userSpaceOnUse', patternTransform: 'rotate(45)' },
        s('rect', { class: 'hatch-paper', width: 4, height: 4 }), s('path', { class: 'hatch-line', d: 'M0 0V4' }))),
      s('rect', { x: -pads.left, y: -pads.top, width: wide, height: high, fill: `url(#${hatch})` }),
      s('image', { href: picture.url, width: picture.width, height: picture.height, preserveAspectRatio: 'none' }), window_);
    replace(target, s('image', { href: map.url, width: map.width, height: map.height, preserveAspectRatio: 'none' }), axes ? neuron : null);
    sourceName.textContent = seen ? t('filters.input', { size: shape([picture.height, picture.width]) }) : '';
    targetName.textContent = t('filters.output', { size: shape([map.height, map.width]) });
    show(shown);
  }

  /** @param {SVGSVGElement} svg @param {PointerEvent | MouseEvent} event @returns {[number, number]} row and column */
  function cell(svg, event) {
    const box = svg.getBoundingClientRect();
    const view = svg.viewBox.baseVal;
    return [Math.floor(view.y + ((event.clientY - box.top) / box.height) * view.height), Math.floor(view.x + ((event.clientX - box.left) / box.width) * view.width)];
  }
  for (const svg of [source, target]) {
    /** @param {PointerEvent | MouseEvent} event @returns {number[] | null} */
    const pointed = (event) => axes && cell(svg, event).map((at, axis) => {
      const one = /** @type {Axis} */ (axes?.[axis]);
      return svg === source ? neuronAt(one, at) : clamp(at, one);
    });
    svg.addEventListener('pointermove', (event) => {
      const at = pointed(event);
      if (at) show(at);
    });
    svg.addEventListener('pointerleave', () => show(chosen));
    svg.addEventListener('click', (event) => {
      const at = pointed(event);
      if (at) choose(at);
    });
  }
  target.addEventListener('keydown', (event) => {
    const at = axes && keyed(event, chosen, axes);
    if (!at) return;
    event.preventDefault();
    choose(at);
  });

  /** @param {number[]} at */
  function choose(at) {
    chosen = at;
    show(at);
    select(at);
  }

  const observer = new ResizeObserver(([entry]) => {
    const now = Math.floor(entry?.contentRect.width ?? 0);
    if (now === width) return;
    width = now;
    draw();
  });
  observer.observe(element);

  return {
    element,
    /**
     * @param {Picture} of
     * @param {Blob} answer the map as PNG
     * @param {Axis[] | null} geometry
     * @param {number[] | null} at the neuron
     */
    async update(of, answer, geometry, at) {
      const bitmap = await createImageBitmap(answer, { colorSpaceConversion: 'none' });
      const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
      const paper = /** @type {OffscreenCanvasRenderingContext2D} */ (canvas.getContext('2d', { willReadFrequently: true }));
      paper.drawImage(bitmap, 0, 0);
      if (map) URL.revokeObjectURL(map.url);
      map = { url: URL.createObjectURL(answer), width: bitmap.width, height: bitmap.height, levels: paper.getImageData(0, 0, bitmap.width, bitmap.height).data };
      picture = of;
      axes = geometry;
      const middle = [Math.floor((bitmap.height - 1) / 2), Math.floor((bitmap.width - 1) / 2)];
      chosen = (at?.length === 2 ? at : middle).map((place_, axis) => Math.max(0, Math.min(place_, (axis ? bitmap.width : bitmap.height) - 1)));
      shown = chosen;
      draw();
    },
    unmount() {
      observer.disconnect();
      if (map) URL.revokeObjectURL(map.url);
    },
  };
}

/** @param {SVGRectElement} rect @param {number} x @param {number} y @param {number} width @param {number} height */
function place(rect, x, y, width, height) {
  for (const [name, value] of Object.entries({ x, y, width, height })) rect.setAttribute(name, String(value));
}
