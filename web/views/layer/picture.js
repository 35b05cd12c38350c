/**
 * The picture: the input with its padding, the window where it stands, the next steps, the neuron that it makes.
 * Both maps are drawn to one scale, cell by cell where cells are large enough to be seen.
 *
 * @typedef {import('./geometry.js').Axis} Axis
 * @typedef {object} Area  one map on the paper, in pixels
 * @property {number} x
 * @property {number} y
 * @property {number} ux pixels of one cell
 * @property {number} uy
 * @property {[Axis, Axis]} axes down and across
 * @property {[number, number]} index which of the neuron's coordinates these are; -1 for none
 */

import { h, replace, s, unique } from '../../core/dom.js';
import { shape } from '../../core/format.js';
import { t } from '../../core/texts.js';
import { clamp, FLAT, keyed, neuronAt, windowOf } from './geometry.js';

const LARGEST_CELL = 30;
/** From so many pixels on, cells are told apart. */
const GRID_FROM = 4;
const HIGHEST = 430;
const STRIP = 18;
/** The least that a map's title takes. */
const TITLE = 190;

/**
 * @param {object} on
 * @param {(neuron: number[]) => void} on.select a neuron was chosen
 */
export function makePicture(on) {
  /** @type {Axis[]} */
  let axes = [];
  /** @type {{ input: number, output: number }} */
  let channels = { input: 1, output: 1 };
  /** @type {number[]} */
  let chosen = [];
  /** @type {number[]} */
  let shown = [];
  /** @type {{ input: Area[], output: Area[] }} */
  let areas = { input: [], output: [] };
  let width = 0;
  let caption = '';

  const moving = s('g', { class: 'moving' });
  const svg = s('svg', { class: 'picture', tabindex: '0', role: 'application', 'aria-roledescription': t('layer.picture.role'), 'aria-label': t('layer.picture.label') });
  const says = h('p', { class: 'says', 'aria-live': 'polite', id: unique('says') });
  svg.setAttribute('aria-describedby', says.id);
  const sums = h('p', { class: 'muted small sums' });
  const play = h('button', { type: 'button', onclick: () => (timer ? stop() : start()) }, t('layer.picture.play'));
  const legend = h('ul', { class: 'legend' });
  const table = h('div', { class: 'scroll', tabindex: '0', role: 'region', 'aria-label': t('layer.picture.table') });
  const frame = h('div', { class: 'frame' }, svg);
  const element = h('div', { class: 'stack' },
    h('p', { class: 'muted small' }, t('layer.picture.help')), frame, legend,
    h('div', { class: 'spread' }, h('div', { class: 'told' }, says, sums), play),
    h('details', null, h('summary', null, t('layer.picture.table')), table));

  /** @type {ReturnType<typeof setInterval> | undefined} */
  let timer;
  function start() {
    play.textContent = t('layer.picture.pause');
    timer = setInterval(() => choose(following(chosen, axes)), 450);
  }
  function stop() {
    clearInterval(timer);
    timer = undefined;
    play.textContent = t('layer.picture.play');
  }

  /** @param {number[]} neuron */
  function choose(neuron) {
    chosen = neuron;
    show(neuron);
    on.select(neuron);
  }

  /** @param {number[]} neuron */
  function show(neuron) {
    shown = neuron;
    replace(moving, drawMoving(areas, neuron));
    const next = sentence(axes, neuron);
    if (next !== caption) says.textContent = next;
    caption = next;
    sums.textContent = firsts(axes, neuron);
  }

  function draw() {
    if (!axes.length || !width) return;
    const made = layOut(axes, width);
    areas = made.areas;
    svg.setAttribute('viewBox', `0 0 ${width} ${made.height}`);
    svg.setAttribute('width', String(width));
    svg.setAttribute('height', String(made.height));
    replace(svg, drawStill(areas, axes, channels), moving);
    replace(legend, drawLegend(axes));
    replace(table, axisTable(axes));
    show(shown);
  }

  /** @param {PointerEvent} event @returns {number[] | null} */
  function pointed(event) {
    const box = svg.getBoundingClientRect();
    const scale = width / box.width;
    return under((event.clientX - box.left) * scale, (event.clientY - box.top) * scale, areas, axes, chosen);
  }

  svg.addEventListener('pointermove', (event) => {
    const found = pointed(event);
    if (found && found.join() !== shown.join()) show(found);
  });
  svg.addEventListener('pointerleave', () => show(chosen));
  svg.addEventListener('click', (event) => {
    const found = pointed(/** @type {PointerEvent} */ (event));
    if (found) choose(found);
  });
  svg.addEventListener('keydown', (event) => {
    const moved = keyed(event, chosen, axes);
    if (!moved) return;
    event.preventDefault();
    choose(moved);
  });
  const observer = new ResizeObserver(([entry]) => {
    const now = Math.floor(entry?.contentRect.width ?? 0);
    if (now === width) return;
    width = now;
    draw();
  });
  observer.observe(frame);

  return {
    element,
    svg,
    /**
     * @param {Axis[]} next
     * @param {{ input: number, output: number }} depth
     * @param {number[] | null} neuron
     */
    update(next, depth, neuron) {
      axes = next;
      channels = depth;
      const wanted = neuron?.length === axes.length ? neuron : axes.map((axis) => Math.floor((axis.output - 1) / 2));
      chosen = axes.map((axis, at) => clamp(wanted[at] ?? 0, axis));
      shown = chosen;
      draw();
    },
    unmount() {
      stop();
      observer.disconnect();
    },
  };
}

// What is where

/**
 * @param {Axis[]} axes
 * @param {number} width
 */
function layOut(axes, width) {
  const rank = axes.length;
  const [down, across] = /** @type {[Axis, Axis]} */ (rank === 1 ? [FLAT, axes[0]] : axes.slice(-2));
  const plane = rank === 3 ? /** @type {Axis} */ (axes[0]) : null;
  const strips = plane ? 2 * (STRIP + 14) : 0;
  const side = 30;
  const gap = 56;
  const head = 34;
  const below = rank === 1 || width < 560;
  const rows = { input: down.before + down.input + down.after, output: down.cropBefore + down.output + down.cropAfter };
  const columns = { input: across.before + across.input + across.after, output: across.cropBefore + across.output + across.cropAfter };
  const room = below
    ? Math.min((width - side * 2 - strips / 2) / Math.max(columns.input, columns.output), (HIGHEST * 1.4) / (rows.input + rows.output))
    : Math.min((width - side * 3 - gap - strips) / (columns.input + columns.output), (width - side * 3 - gap - strips - TITLE) / columns.input,
      HIGHEST / Math.max(rows.input, rows.output));
  const unit = Math.min(room, LARGEST_CELL);
  // Maps that would be thinner than a line are drawn thicker than to scale.
  const uy = Math.max(unit, Math.min(LARGEST_CELL, 14 / Math.min(rows.input, rows.output)));
  const ux = Math.max(unit, Math.min(14 / Math.min(columns.input, columns.output), (width - side * 3 - gap - strips) / (columns.input + columns.output)));
  const first = rank - 2;
  /** @type {[number, number]} */
  const index = [rank === 1 ? -1 : first, rank === 1 ? 0 : first + 1];
  // A small picture stands in the middle of the paper.
  const inputWidth = Math.max(columns.input * ux, TITLE - side);
  const used = side * 3 + gap + strips + inputWidth + Math.max(columns.output * ux, TITLE);
  const left = side + strips / 2 + (below ? 0 : Math.max(0, (width - used) / 2));
  const top = head + 14;
  const planeRows = plane ? Math.max(plane.before + plane.input + plane.after, plane.cropBefore + plane.output + plane.cropAfter) : 0;
  const planeUnit = Math.min(LARGEST_CELL / 1.5, HIGHEST / 1.6 / Math.max(planeRows, 1));
  const high = {
    input: Math.max(rows.input * uy, plane ? (plane.before + plane.input + plane.after) * planeUnit : 0),
    output: Math.max(rows.output * uy, plane ? (plane.cropBefore + plane.output + plane.cropAfter) * planeUnit : 0),
  };
  /** @type {Area} */
  const input = { x: left, y: top, ux, uy, axes: [down, across], index };
  const output = below
    ? { ...input, y: top + high.input + 40 + head }
    : { ...input, x: left + inputWidth + side + gap + strips / 2 };
  /** @type {{ input: Area[], output: Area[] }} */
  const areas = { input: [input], output: [output] };
  if (plane) {
    /** @param {Area} beside @returns {Area} */
    const strip = (beside) => ({ ...beside, x: beside.x - STRIP - 28, ux: STRIP, uy: planeUnit, axes: [plane, FLAT], index: [0, -1] });
    areas.input.push(strip(input));
    areas.output.push(strip(output));
  }
  const height = below ? output.y + high.output + 26 : top + Math.max(high.input, high.output) + 26;
  return { areas, height: Math.ceil(height), below };
}

/**
 * @param {Area} area
 * @param {'input' | 'output'} side
 * @param {number} row the cell's, in the map's own counting: padding is below 0
 * @param {number} column
 * @param {number} rows
 * @param {number} columns
 * @param {number} [least] pixels below which nothing would be seen
 */
function box(area, side, row, column, rows, columns, least = 0) {
  const [down, across] = area.axes;
  const y = area.y + (row + (side === 'input' ? down.before : down.cropBefore)) * area.uy;
  const x = area.x + (column + (side === 'input' ? across.before : across.cropBefore)) * area.ux;
  const width = columns * area.ux;
  const height = rows * area.uy;
  const wide = Math.max(width, least);
  const high = Math.max(height, least);
  return { x: round(x - (wide - width) / 2), y: round(y - (high - height) / 2), width: round(wide), height: round(high) };
}

/**
 * @param {number} x
 * @param {number} y
 * @param {{ input: Area[], output: Area[] }} areas
 * @param {Axis[]} axes
 * @param {number[]} from coordinates that the map under the pointer does not have stay
 * @returns {number[] | null}
 */
function under(x, y, areas, axes, from) {
  for (const side of /** @type {const} */ (['output', 'input'])) {
    for (const area of areas[side]) {
      const [down, across] = area.axes;
      const all = side === 'output'
        ? { rows: down.cropBefore + down.output + down.cropAfter, columns: across.cropBefore + across.output + across.cropAfter }
        : { rows: down.before + down.input + down.after, columns: across.before + across.input + across.after };
      const row = (y - area.y) / area.uy;
      const column = (x - area.x) / area.ux;
      if (row < 0 || column < 0 || row >= all.rows || column >= all.columns) continue;
      return axes.map((axis, at) => {
        const which = area.index.indexOf(at);
        if (which < 0) return from[at] ?? 0;
        const cell = Math.floor(which === 0 ? row : column);
        return side === 'output' ? clamp(cell - axis.cropBefore, axis) : neuronAt(axis, cell - axis.before);
      });
    }
  }
  return null;
}

/**
 * The neuron after this one, row by row, and from the last to the first.
 * @param {number[]} from
 * @param {Axis[]} axes
 */
function following(from, axes) {
  const next = [...from];
  for (let at = axes.length - 1; at >= 0; at -= 1) {
    const one = (next[at] ?? 0) + 1;
    const over = one >= (axes[at]?.output ?? 1);
    next[at] = over ? 0 : one;
    if (!over) break;
  }
  return next;
}

// What does not move

/**
 * @param {{ input: Area[], output: Area[] }} areas
 * @param {Axis[]} axes
 * @param {{ input: number, output: number }} channels
 */
function drawStill(areas, axes, channels) {
  const hatch = unique('hatch');
  const cross = unique('cross');
  const parts = [s('defs', null,
    s('pattern', { id: hatch, width: 6, height: 6, patternUnits: 'userSpaceOnUse', patternTransform: 'rotate(45)' },
      s('rect', { class: 'hatch-paper', width: 6, height: 6 }), s('path', { class: 'hatch-line', d: 'M0 0V6' })),
    s('pattern', { id: cross, width: 6, height: 6, patternUnits: 'userSpaceOnUse' },
      s('rect', { class: 'cross-paper', width: 6, height: 6 }), s('path', { class: 'cross-line', d: 'M0 0L6 6M6 0L0 6' })))];
  for (const [at, area] of areas.input.entries()) parts.push(...drawInput(area, at === 0 ? channels.input : 1, hatch, cross));
  for (const [at, area] of areas.output.entries()) parts.push(...drawOutput(area, at === 0 ? channels.output : 1, hatch));
  /** @param {(axis: Axis) => number} size */
  const sizes = (size) => shape(axes.map(size));
  const [input, output] = [areas.input[0], areas.output[0]];
  if (input && output) {
    parts.push(title(input, t('layer.picture.input', { size: sizes((axis) => axis.input) }), t(channels.input === 1 ? 'layer.picture.channels.one' : 'layer.picture.channels', { n: channels.input })));
    parts.push(title(output, t('layer.picture.output', { size: sizes((axis) => axis.output) }), t(channels.output === 1 ? 'layer.picture.maps.one' : 'layer.picture.maps', { n: channels.output })));
    parts.push(...sideLabels(input, 'input'), ...sideLabels(output, 'output'));
  }
  for (const strip of [areas.input[1], areas.output[1]]) {
    if (strip) parts.push(s('text', { class: 'note', x: strip.x + STRIP / 2, y: strip.y - 5, 'text-anchor': 'middle' }, t('layer.picture.planes')));
  }
  return parts;
}

/**
 * @param {Area} area
 * @param {string} name
 * @param {string} deep
 */
function title(area, name, deep) {
  return s('text', { class: 'title', x: area.x, y: area.y - 26 }, name, s('tspan', { class: 'note', dx: 6 }, `· ${deep}`));
}

/**
 * @param {Area} area
 * @param {number} deep
 * @param {string} hatch
 * @param {string} cross
 */
function drawInput(area, deep, hatch, cross) {
  const [down, across] = area.axes;
  const padded = box(area, 'input', -down.before, -across.before, down.before + down.input + down.after, across.before + across.input + across.after);
  const inner = box(area, 'input', 0, 0, down.input, across.input, 1);
  const parts = [];
  if (padded.width > inner.width || padded.height > inner.height) parts.push(s('rect', { class: 'padding', fill: `url(#${hatch})`, ...padded }));
  parts.push(...behind(inner, deep, 'input'), s('rect', { class: 'input', ...inner }));
  if (down.ignored) parts.push(s('rect', { class: 'ignored', fill: `url(#${cross})`, ...box(area, 'input', down.input - down.ignored, 0, down.ignored, across.input, 2) }));
  if (across.ignored) parts.push(s('rect', { class: 'ignored', fill: `url(#${cross})`, ...box(area, 'input', 0, across.input - across.ignored, down.input, across.ignored, 2) }));
  parts.push(grid(area, padded), s('rect', { class: 'edge', ...inner }), ...zeros(area), ...steps(area));
  return parts;
}

/**
 * @param {Area} area
 * @param {number} deep
 * @param {string} hatch
 */
function drawOutput(area, deep, hatch) {
  const [down, across] = area.axes;
  const whole = box(area, 'output', -down.cropBefore, -across.cropBefore, down.cropBefore + down.output + down.cropAfter, across.cropBefore + across.output + across.cropAfter);
  const inner = box(area, 'output', 0, 0, down.output, across.output, 3);
  const parts = [];
  if (whole.width > inner.width || whole.height > inner.height) parts.push(s('rect', { class: 'padding', fill: `url(#${hatch})`, ...whole }));
  parts.push(...behind(inner, deep, 'result'), s('rect', { class: 'result', ...inner }), grid(area, whole), s('rect', { class: 'edge-result', ...inner }));
  return parts;
}

/** Sheets behind the first, as a hint of channels. @param {{ x: number, y: number, width: number, height: number }} inner @param {number} deep @param {string} name */
function behind(inner, deep, name) {
  const sheets = Math.min(deep - 1, 2);
  return Array.from({ length: sheets }, (_, at) => {
    const by = 3.5 * (sheets - at);
    return s('rect', { class: `sheet ${name}`, ...inner, x: inner.x + by, y: inner.y - by });
  });
}

/** @param {Area} area @param {{ x: number, y: number, width: number, height: number }} over */
function grid(area, over) {
  let d = '';
  if (area.ux >= GRID_FROM) for (let x = over.x + area.ux; x < over.x + over.width - 0.5; x += area.ux) d += `M${round(x)} ${over.y}v${over.height}`;
  if (area.uy >= GRID_FROM) for (let y = over.y + area.uy; y < over.y + over.height - 0.5; y += area.uy) d += `M${over.x} ${round(y)}h${over.width}`;
  return s('path', { class: 'grid', d });
}

/** The zeros of the padding, where they can be read. @param {Area} area */
function zeros(area) {
  const [down, across] = area.axes;
  if (Math.min(area.ux, area.uy) < 16) return [];
  const found = [];
  for (let row = -down.before; row < down.input + down.after; row += 1) {
    for (let column = -across.before; column < across.input + across.after; column += 1) {
      if (row >= 0 && row < down.input && column >= 0 && column < across.input) continue;
      const at = box(area, 'input', row, column, 1, 1);
      found.push(s('text', { class: 'zero', x: round(at.x + at.width / 2), y: round(at.y + at.height / 2 + 3.5) }, '0'));
    }
  }
  return found.length <= 600 ? found : [];
}

/** A dot for each place where the window's middle comes to stand. @param {Area} area */
function steps(area) {
  const [down, across] = area.axes;
  if (down.transposed || across.transposed || down.output * across.output > 3000) return [];
  if (across.stride * area.ux < 5 || (down.name !== 'flat' && down.stride * area.uy < 5)) return [];
  let d = '';
  for (let row = 0; row < down.output; row += 1) {
    for (let column = 0; column < across.output; column += 1) {
      const at = box(area, 'input', row * down.stride - down.before, column * across.stride - across.before, down.span, across.span);
      d += `M${round(at.x + at.width / 2)} ${round(at.y + at.height / 2)}h0`;
    }
  }
  return [s('path', { class: 'steps', d })];
}

/** How much is padded or cropped on each side. @param {Area} area @param {'input' | 'output'} side */
function sideLabels(area, side) {
  const [down, across] = area.axes;
  const sign = side === 'input' ? '+' : '−';
  const sizes = side === 'input'
    ? { top: down.before, bottom: down.after, left: across.before, right: across.after, rows: down.input, columns: across.input }
    : { top: down.cropBefore, bottom: down.cropAfter, left: across.cropBefore, right: across.cropAfter, rows: down.output, columns: across.output };
  const whole = box(area, side, -sizes.top, -sizes.left, sizes.top + sizes.rows + sizes.bottom, sizes.left + sizes.columns + sizes.right);
  const [middle, centre] = [whole.x + whole.width / 2, whole.y + whole.height / 2 + 4];
  /** @param {number} n @param {number} x @param {number} y @param {string} anchor */
  const label = (n, x, y, anchor) => (n ? [s('text', { class: 'note', x: round(x), y: round(y), 'text-anchor': anchor }, `${sign}${n}`)] : []);
  return [
    ...label(sizes.top, middle, whole.y - 9, 'middle'), ...label(sizes.bottom, middle, whole.y + whole.height + 14, 'middle'),
    ...label(sizes.left, whole.x - 5, centre, 'end'), ...label(sizes.right, whole.x + whole.width + 12, centre, 'start'),
  ];
}

// What moves with the neuron

/**
 * @param {{ input: Area[], output: Area[] }} areas
 * @param {number[]} neuron
 */
function drawMoving(areas, neuron) {
  const parts = [];
  const [input, output] = [areas.input[0], areas.output[0]];
  if (!input || !output) return [];
  for (const area of areas.input) parts.push(...drawWindow(area, neuron));
  for (const [at, area] of areas.output.entries()) parts.push(...drawNeuron(area, neuron, areas.input[at]));
  const from = windowBox(input, neuron);
  const [row, column] = placed(output, neuron);
  const to = box(output, 'output', row, column, 1, 1, 4);
  if (from) parts.unshift(beams(from, to, output.y > input.y + 1));
  return parts;
}

/** @param {Area} area @param {number[]} neuron @returns {[number, number]} */
function placed(area, neuron) {
  return [neuron[area.index[0]] ?? 0, neuron[area.index[1]] ?? 0];
}

/** @param {Area} area @param {number[]} neuron */
function windowBox(area, neuron) {
  const [row, column] = placed(area, neuron);
  const [down, across] = [windowOf(area.axes[0], row), windowOf(area.axes[1], column)];
  if (down.last < down.first || across.last < across.first) return null;
  return box(area, 'input', down.first, across.first, down.last - down.first + 1, across.last - across.first + 1, 4);
}

/** @param {Area} area @param {number[]} neuron */
function drawWindow(area, neuron) {
  const [downAxis, acrossAxis] = area.axes;
  const [row, column] = placed(area, neuron);
  const whole = windowBox(area, neuron);
  if (!whole) return [];
  const [down, across] = [windowOf(downAxis, row), windowOf(acrossAxis, column)];
  const parts = [];
  if (!downAxis.transposed && !acrossAxis.transposed) {
    // Where it goes next: the same window, a stride on.
    for (const [dr, dc] of [[0, 1], [1, 0]]) {
      const [r, c] = [row + (dr ?? 0), column + (dc ?? 0)];
      if (r >= downAxis.output || c >= acrossAxis.output) continue;
      const at = windowBox(area, area.index.reduce((next, index, which) => (index < 0 ? next : next.with(index, which === 0 ? r : c)), neuron));
      if (at) parts.push(s('rect', { class: 'next', ...at }));
    }
  }
  const taps = Math.floor((down.last - down.first) / down.step + 1) * Math.floor((across.last - across.first) / across.step + 1);
  if ((down.step === 1 && across.step === 1) || taps > 400 || Math.min(area.ux, area.uy) < 2) {
    parts.push(s('rect', { class: 'window', ...whole }));
  } else {
    for (let r = down.first; r <= down.last; r += down.step) {
      for (let c = across.first; c <= across.last; c += across.step) parts.push(s('rect', { class: 'tap', ...box(area, 'input', r, c, 1, 1) }));
    }
    parts.push(s('rect', { class: 'window hollow', ...whole }));
  }
  return parts;
}

/** @param {Area} area @param {number[]} neuron @param {Area | undefined} source */
function drawNeuron(area, neuron, source) {
  const [downAxis, acrossAxis] = area.axes;
  const [row, column] = placed(area, neuron);
  const parts = [];
  if (source && (downAxis.transposed || acrossAxis.transposed)) {
    // What the cells that it is made of reach: each lays a kernel.
    const [down, across] = [windowOf(downAxis, row), windowOf(acrossAxis, column)];
    let drawn = 0;
    for (let r = down.first; r <= down.last && drawn < 9; r += down.step) {
      for (let c = across.first; c <= across.last && drawn < 9; c += across.step, drawn += 1) {
        parts.push(s('rect', { class: 'next', ...box(area, 'output', r * downAxis.stride - downAxis.cropBefore, c * acrossAxis.stride - acrossAxis.cropBefore, downAxis.span, acrossAxis.span) }));
      }
    }
  }
  parts.push(s('rect', { class: 'neuron', ...box(area, 'output', row, column, 1, 1, 5) }));
  return parts;
}

/**
 * From the window's corners to the neuron's.
 * @param {{ x: number, y: number, width: number, height: number }} from
 * @param {{ x: number, y: number, width: number, height: number }} to
 * @param {boolean} below
 */
function beams(from, to, below) {
  const d = below
    ? `M${from.x} ${from.y + from.height}L${to.x} ${to.y}M${from.x + from.width} ${from.y + from.height}L${to.x + to.width} ${to.y}`
    : `M${from.x + from.width} ${from.y}L${to.x} ${to.y}M${from.x + from.width} ${from.y + from.height}L${to.x} ${to.y + to.height}`;
  return s('path', { class: 'beam', d });
}

// In words

/** @param {Axis[]} axes @param {number[]} neuron */
function sentence(axes, neuron) {
  const seen = [];
  const beyond = [];
  for (const [at, axis] of axes.entries()) {
    const { first, last, step } = windowOf(axis, neuron[at] ?? 0);
    let [low, high] = [first, last];
    if (step > 1) {
      // The first and the last cell that a dilated kernel really looks at.
      while (low < 0) low += step;
      while (high >= axis.input) high -= step;
    }
    low = Math.max(low, 0);
    high = Math.min(high, axis.input - 1);
    if (high < low) return t('layer.picture.neuron', { place: neuron.join(', '), seen: t('layer.picture.nothing') });
    const many = t(/** @type {import('../../core/texts.js').Key} */ (`axis.${axis.name}`));
    const one = t(/** @type {import('../../core/texts.js').Key} */ (`axis.${axis.name.slice(0, -1)}`));
    seen.push(low === high ? `${one} ${low}` : `${many} ${low} to ${high}`);
    const outside = Math.max(-first, 0) + Math.max(last - axis.input + 1, 0);
    if (outside) beyond.push(`${outside} ${outside === 1 ? one : many}`);
  }
  const said = t('layer.picture.neuron', { place: neuron.join(', '), seen: seen.join(', ') });
  return beyond.length ? `${said} ${t('layer.picture.beyond', { parts: beyond.join(', ') })}` : said;
}

/** How the window's first cell follows from the neuron's place. @param {Axis[]} axes @param {number[]} neuron */
function firsts(axes, neuron) {
  return axes.filter((axis) => !axis.transposed).map((axis, at) => t('layer.picture.first', {
    one: t(/** @type {import('../../core/texts.js').Key} */ (`axis.${axis.name.slice(0, -1)}`)), i: neuron[at] ?? 0, s: axis.stride, p: axis.before, first: windowOf(axis, neuron[at] ?? 0).first,
  })).join('; ');
}

/** @param {Axis[]} axes */
function drawLegend(axes) {
  const transposed = axes.some((axis) => axis.transposed);
  const entries = /** @type {const} */ ([
    ['input', 'input', true], ['window', transposed ? 'seen' : 'window', true], ['next', transposed ? 'reach' : 'next', true], ['neuron', 'neuron', true],
    ['padding', 'padding', axes.some((axis) => axis.before || axis.after)], ['padding', 'cropped', axes.some((axis) => axis.cropBefore || axis.cropAfter)],
    ['ignored', 'ignored', axes.some((axis) => axis.ignored)],
  ]);
  return entries.filter(([, , there]) => there).map(([mark, word]) => h('li', null, h('span', { class: `mark mark-${mark}` }), t(`layer.picture.legend.${word}`)));
}

/** @param {Axis[]} axes */
function axisTable(axes) {
  const transposed = axes.some((axis) => axis.transposed);
  const heads = [
    t('layer.picture.axis'), t('layer.input'), ...(transposed ? [] : [t('layer.picture.before'), t('layer.picture.after')]), t('layer.kernel'), t('layer.dilation'), t('layer.picture.span'), t('layer.stride'),
    t('layer.picture.places'), ...(transposed ? [t('layer.picture.cropBefore'), t('layer.picture.cropAfter')] : [t('layer.picture.ignored')]),
  ];
  return h('table', null, h('thead', null, h('tr', null, heads.map((head, at) => h('th', { scope: 'col', class: at ? 'number' : '' }, head)))),
    h('tbody', null, axes.map((axis) => h('tr', null,
      h('th', { scope: 'row' }, t(/** @type {import('../../core/texts.js').Key} */ (`axis.${axis.name}`))),
      [axis.input, ...(transposed ? [] : [axis.before, axis.after]), axis.kernel, axis.dilation, axis.span, axis.stride, axis.output, ...(transposed ? [axis.cropBefore, axis.cropAfter] : [axis.ignored])]
        .map((value) => h('td', { class: 'number' }, value))))));
}

/** @param {number} value */
function round(value) {
  return Math.round(value * 100) / 100;
}
