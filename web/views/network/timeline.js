/**
 * The memory of a step over time: stacked areas by kind, the peak, the book's figure as a line.
 *
 * @typedef {object} Profile the answer of /v1/memory
 * @property {string} engine
 * @property {string} mode
 * @property {{ peak_bytes: number, floor_bytes: number, interval: [number, number], at: string, breakdown: Record<string, number> }} prediction
 * @property {{ primitive: string, layer: string, phase: string }[]} steps
 * @property {Record<string, number[]>} bytes
 * @property {number} peak_step
 * @property {{ name: string, kind: string, bytes: number, start: number, end: number }[]} alive
 * @property {{ layer: string, bytes: number, kinds: Record<string, number> }[]} layers
 * @typedef {import('../../core/texts.js').Key} Key
 */

import { h, replace, s, unique } from '../../core/dom.js';
import { bytes, count } from '../../core/format.js';
import { t } from '../../core/texts.js';

/** From the bottom up: what stays, and above it what comes and goes. */
export const KINDS = ['weights', 'optimizer', 'inputs', 'gradients', 'activations', 'workspace'];
/** In pixels; the width is that of the place, and no less than this. */
const LEAST = 300;
const HEIGHT = 320;
const PLOT = { left: 68, end: 8, top: 22, bottom: 272 };
const LISTED = 60;

/** @param {string} kind */
export const kindName = (kind) => t(/** @type {Key} */ (`network.kind.${kind}`));

/**
 * A round number of bytes at most a fifth of the whole.
 * @param {number} most
 */
function tick(most) {
  const raw = Math.max(most, 1) / 4;
  const power = 10 ** Math.floor(Math.log10(raw));
  return ([1, 2, 2.5, 5, 10].find((each) => each * power >= raw) ?? 10) * power;
}

/**
 * @param {{ mark: (layer: string | null, kept: boolean) => void }} actions
 */
export function makeTimeline(actions) {
  const title = unique('timeline');
  const svg = s('svg', {
    height: HEIGHT, class: 'timeline', tabindex: '0', role: 'slider', 'aria-labelledby': title,
    'aria-orientation': 'horizontal', 'aria-valuemin': '0', 'aria-valuemax': '0', 'aria-valuenow': '0',
  });
  const chart = h('div', { class: 'scroll chart' }, svg);
  const heading = h('h3', { id: title });
  const said = h('div', { class: 'timeline-said' });
  const legend = h('ul', { class: 'legend' });
  const table = h('details', { class: 'beside' }, h('summary', null, t('network.timeline.table')));
  const tableBody = h('div', { class: 'scroll', tabindex: '0', role: 'region', 'aria-label': t('network.timeline.table') });
  table.append(tableBody);
  table.addEventListener('toggle', () => fillTable());

  /** @type {Profile | null} */
  let profile = null;
  let book = 0;
  let at = 0;
  let width = 960;
  /** @type {number[]} */
  let totals = [];
  let scale = 1;
  /** @type {string | null} */
  let marked = null;
  const cursor = s('line', { class: 'cursor', y1: PLOT.top, y2: PLOT.bottom });
  const dot = s('circle', { class: 'cursor-dot', r: 4 });
  const highlight = s('g', { class: 'highlight' });
  const plot = s('g', null);
  svg.append(highlight, plot, cursor, dot);

  /** @param {number} step */
  const x = (step) => PLOT.left + (((width - PLOT.end) - PLOT.left) * step) / Math.max(totals.length, 1);
  /** @param {number} amount */
  const y = (amount) => PLOT.bottom - (PLOT.bottom - PLOT.top) * (amount / scale);

  function draw() {
    if (!profile) return;
    width = Math.max(LEAST, chart.clientWidth || 960);
    svg.setAttribute('viewBox', `0 0 ${width} ${HEIGHT}`);
    const { steps } = profile;
    const kinds = KINDS.filter((kind) => profile?.bytes[kind]?.some((each) => each > 0));
    const most = Math.max(...totals, book, 1);
    const unit = tick(most);
    scale = Math.max(Math.ceil((most * 1.04) / unit) * unit, 1);
    const parts = [];
    for (let value = 0; value <= scale + 1; value += unit) {
      parts.push(s('line', { class: 'grid', x1: PLOT.left, x2: (width - PLOT.end), y1: y(value), y2: y(value) }));
      parts.push(s('text', { class: 'axis', x: PLOT.left - 8, y: y(value) + 4, 'text-anchor': 'end' }, bytes(value)));
    }
    const floor = new Array(steps.length).fill(0);
    for (const kind of kinds) {
      const amounts = /** @type {number[]} */ (profile.bytes[kind]);
      const upper = [];
      const lower = [];
      for (let step = 0; step < steps.length; step += 1) {
        const [left, right] = [x(step).toFixed(1), x(step + 1).toFixed(1)];
        const top = floor[step] + (amounts[step] ?? 0);
        upper.push(`${left} ${y(top).toFixed(1)}`, `${right} ${y(top).toFixed(1)}`);
        lower.push(`${left} ${y(floor[step]).toFixed(1)}`, `${right} ${y(floor[step]).toFixed(1)}`);
        floor[step] = top;
      }
      parts.push(s('path', { class: `area kind-${kind}`, d: `M${upper.join('L')}L${lower.reverse().join('L')}Z` }));
    }
    parts.push(...phases(steps));
    if (book > 0) {
      parts.push(s('line', { class: 'book', x1: PLOT.left, x2: (width - PLOT.end), y1: y(book), y2: y(book) }));
      parts.push(label(PLOT.left + 6, y(book) - 6, t('network.timeline.book', { bytes: bytes(book) }), 'start', 'book-label'));
    }
    const peak = profile.peak_step;
    const px = (x(peak) + x(peak + 1)) / 2;
    parts.push(s('path', { class: 'peak', d: `M${px} ${y(totals[peak] ?? 0) - 3}l-6 -10h12z` }));
    parts.push(label(px > width * 0.75 ? px - 10 : px + 10, Math.max(y(totals[peak] ?? 0) - 6, 13), t('network.timeline.peak', { bytes: bytes(totals[peak] ?? 0) }), px > width * 0.75 ? 'end' : 'start', 'peak-label'));
    replace(plot, ...parts);
    replace(legend, kinds.map((kind) => h('li', null, s('svg', { viewBox: '0 0 14 14', width: 14, height: 14, 'aria-hidden': 'true' }, s('rect', { class: `area kind-${kind}`, width: 14, height: 14, rx: 3 })),
      kindName(kind), ' ', h('span', { class: 'muted' }, bytes(profile?.bytes[kind]?.[peak] ?? 0)))));
    svg.setAttribute('aria-valuemax', String(steps.length - 1));
    drawHighlight();
    moveTo(at, false);
  }

  /** @param {number} left @param {number} top @param {string} text @param {string} anchor @param {string} name */
  function label(left, top, text, anchor, name) {
    return s('text', { class: `${name} halo`, x: left, y: top, 'text-anchor': anchor }, text);
  }

  /** The phases below the plot. @param {Profile['steps']} steps */
  function phases(steps) {
    const found = [];
    for (let first = 0; first < steps.length;) {
      const phase = steps[first]?.phase ?? '';
      let last = first;
      while (last + 1 < steps.length && steps[last + 1]?.phase === phase) last += 1;
      const [left, right] = [x(first), x(last + 1)];
      if (phase !== 'rest') {
        found.push(s('line', { class: 'phase', x1: left + 1, x2: Math.max(right - 1, left + 2), y1: PLOT.bottom + 7, y2: PLOT.bottom + 7 }));
        const name = t(/** @type {Key} */ (`network.phase.${phase}`));
        if (right - left > name.length * 7.5) found.push(s('text', { class: 'axis', x: (left + right) / 2, y: PLOT.bottom + 24, 'text-anchor': 'middle' }, name));
      }
      first = last + 1;
    }
    return found;
  }

  function drawHighlight() {
    if (!profile || marked === null) {
      replace(highlight);
      return;
    }
    const parts = [];
    const { steps } = profile;
    for (let first = 0; first < steps.length; first += 1) {
      if (steps[first]?.layer !== marked) continue;
      let last = first;
      while (steps[last + 1]?.layer === marked) last += 1;
      parts.push(s('rect', { x: x(first) - 1, width: Math.max(x(last + 1) - x(first), 1) + 2, y: PLOT.top, height: PLOT.bottom - PLOT.top }));
      first = last;
    }
    replace(highlight, ...parts);
  }

  /** @param {number} step @param {boolean} told whether others hear of it */
  function moveTo(step, told) {
    if (!profile) return;
    at = Math.min(Math.max(step, 0), profile.steps.length - 1);
    const here = profile.steps[at] ?? { primitive: '', layer: '', phase: 'rest' };
    const middle = (x(at) + x(at + 1)) / 2;
    for (const [name, value] of Object.entries({ x1: middle, x2: middle })) cursor.setAttribute(name, String(value));
    dot.setAttribute('cx', String(middle));
    dot.setAttribute('cy', String(y(totals[at] ?? 0)));
    const phase = t(/** @type {Key} */ (`network.phase.${here.phase}`));
    const where = here.layer ? t('network.timeline.where', { layer: here.layer, what: here.primitive, phase }) : phase;
    const amounts = KINDS.map((kind) => [kind, profile?.bytes[kind]?.[at] ?? 0]).filter(([, amount]) => Number(amount) > 0);
    const alive = profile.alive.filter((each) => each.start <= at && at <= each.end);
    svg.setAttribute('aria-valuenow', String(at));
    svg.setAttribute('aria-valuetext', `${where}: ${bytes(totals[at] ?? 0)}; ${amounts.map(([kind, amount]) => `${kindName(String(kind))} ${bytes(Number(amount))}`).join(', ')}`);
    replace(said,
      h('p', null, h('strong', null, `${t('network.timeline.step', { step: at, of: profile.steps.length - 1 })} · ${bytes(totals[at] ?? 0)}`), ' ', h('span', { class: 'muted' }, where), at === profile.peak_step ? h('span', { class: 'tag' }, t('network.timeline.this')) : null),
      h('p', { class: 'small' }, amounts.map(([kind, amount]) => h('span', { class: 'part' }, s('svg', { viewBox: '0 0 10 10', width: 10, height: 10, 'aria-hidden': 'true' }, s('rect', { class: `area kind-${kind}`, width: 10, height: 10, rx: 2 })), `${kindName(String(kind))} ${bytes(Number(amount))}`))),
      at === profile.peak_step || alive.length
        ? h('p', { class: 'small muted' }, t(at === profile.peak_step ? 'network.timeline.alive.peak' : 'network.timeline.alive.also'), ' ',
          alive.slice(0, 6).map((each) => `${each.name} (${bytes(each.bytes)})`).join(', '), alive.length > 6 ? ` ${t('network.more', { count: alive.length - 6 })}` : '')
        : null);
    if (told && here.layer) actions.mark(here.layer, false);
  }

  function fillTable() {
    if (!table.open || !profile) return;
    const step = profile.peak_step;
    const { alive } = profile;
    replace(tableBody,
      h('table', null, h('caption', null, t('network.timeline.kinds')), h('thead', null, h('tr', null, ['network.kind', 'network.peak', 'network.exact'].map((key, index) => h('th', { scope: 'col', class: index ? 'number' : '' }, t(/** @type {Key} */ (key)))))),
        h('tbody', null, KINDS.map((kind) => h('tr', null, h('th', { scope: 'row' }, kindName(kind)), h('td', { class: 'number' }, bytes(profile?.bytes[kind]?.[step] ?? 0)), h('td', { class: 'number' }, count(profile?.bytes[kind]?.[step] ?? 0)))))),
      h('table', { class: 'alive' }, h('caption', null, t('network.timeline.alive', { count: count(alive.length), step, shown: Math.min(alive.length, LISTED) })),
        h('thead', null, h('tr', null, ['network.tensor', 'network.kind', 'network.bytes', 'network.from', 'network.to'].map((key, index) => h('th', { scope: 'col', class: index > 1 ? 'number' : '' }, t(/** @type {Key} */ (key)))))),
        h('tbody', null, alive.slice(0, LISTED).map((each) => h('tr', null, h('th', { scope: 'row' }, each.name), h('td', null, kindName(each.kind)), h('td', { class: 'number' }, bytes(each.bytes)), h('td', { class: 'number' }, each.start), h('td', { class: 'number' }, each.end))))));
  }

  /** @param {PointerEvent | MouseEvent} event */
  function stepAt(event) {
    const box = svg.getBoundingClientRect();
    const place = ((event.clientX - box.left) / box.width) * width;
    return Math.floor(((place - PLOT.left) / ((width - PLOT.end) - PLOT.left)) * totals.length);
  }
  svg.addEventListener('pointermove', (event) => moveTo(stepAt(event), true));
  svg.addEventListener('pointerleave', () => {
    actions.mark(null, false);
    if (profile && document.activeElement !== svg) moveTo(profile.peak_step, false);
  });
  svg.addEventListener('click', (event) => {
    moveTo(stepAt(event), false);
    const layer = profile?.steps[at]?.layer;
    if (layer) actions.mark(layer, true);
  });
  svg.addEventListener('keydown', (event) => {
    if (!profile) return;
    const page = Math.max(1, Math.round(totals.length / 20));
    const to = { ArrowRight: at + 1, ArrowUp: at + 1, ArrowLeft: at - 1, ArrowDown: at - 1, PageUp: at + page, PageDown: at - page, Home: 0, End: totals.length - 1, p: profile.peak_step }[event.key];
    if (event.key === 'Enter') {
      const layer = profile.steps[at]?.layer;
      if (layer) actions.mark(layer, true);
      return;
    }
    if (to === undefined) return;
    event.preventDefault();
    moveTo(to, true);
  });

  const watch = new ResizeObserver(() => draw());
  watch.observe(chart);
  return {
    unmount: () => watch.disconnect(),
    element: h('div', { class: 'timeline-box' }, heading, chart, legend, said, h('p', { class: 'muted small keys' }, t('network.timeline.keys')), table),
    svg,
    /** @param {Profile} found @param {number} figure the book's @param {string} text */
    update(found, figure, text) {
      const fresh = profile === null || profile.steps.length !== found.steps.length;
      profile = found;
      book = figure;
      totals = found.steps.map((_, step) => KINDS.reduce((sum, kind) => sum + (found.bytes[kind]?.[step] ?? 0), 0));
      heading.textContent = text;
      if (fresh || document.activeElement !== svg) at = found.peak_step;
      draw();
      fillTable();
    },
    /** @param {string | null} layer */
    mark(layer) {
      if (layer === marked) return;
      marked = layer;
      drawHighlight();
    },
  };
}
