/**
 * The graph of layers: one row a rank, branches side by side, skip connections in lanes of their own.
 *
 * @typedef {{ name: string, lane: number, rank: number }} Placed
 * @typedef {{ from: string, to: string, lane: number, low: number, high: number }} Wire `lane` is where a long wire runs
 */

import { h, replace, s } from '../../core/dom.js';
import { count } from '../../core/format.js';
import { t } from '../../core/texts.js';

const ROW = 40;
const LANE = 190;
const BOX = { width: 168, height: 26 };
const GAP = 14;
/** Rows that are drawn above and below what is seen. */
const MORE = 12;

/**
 * Places for the nodes, in time proportional to nodes plus edges times lanes.
 * @param {string[]} names in an order in which everything comes before it is read
 * @param {[string, string][]} edges
 * @returns {{ nodes: Map<string, Placed>, wires: Wire[], ranks: number, lanes: number }}
 */
export function layout(names, edges) {
  /** @type {Map<string, string[]>} */
  const sources = new Map(names.map((name) => [name, []]));
  for (const [from, to] of edges) if (sources.has(from)) sources.get(to)?.push(from);
  /** @type {Map<string, Placed>} */
  const nodes = new Map();
  /** @type {Set<number>[]} lanes taken, by rank */
  const taken = [];
  const at = (/** @type {number} */ rank) => (taken[rank] ??= new Set());
  /** @param {number} wanted @param {number} low @param {number} high */
  const free = (wanted, low, high) => {
    for (let away = 0; ; away += 1) {
      for (const lane of away ? [wanted + away, wanted - away] : [wanted]) {
        if (lane < 0) continue;
        let clear = true;
        for (let rank = low; clear && rank <= high; rank += 1) clear = !at(rank).has(lane);
        if (clear) return lane;
      }
    }
  };
  for (const name of names) {
    const own = (sources.get(name) ?? []).map((each) => nodes.get(each)).filter((each) => each !== undefined);
    const rank = own.length ? Math.max(...own.map((each) => each.rank)) + 1 : 0;
    const near = own.filter((each) => each.rank === rank - 1);
    const wanted = near.length ? Math.min(...near.map((each) => each.lane)) : own.length ? Math.min(...own.map((each) => each.lane)) : 0;
    const lane = free(wanted, rank, rank);
    at(rank).add(lane);
    nodes.set(name, { name, lane, rank });
  }
  /** @type {Wire[]} */
  const wires = [];
  for (const [from, to] of edges) {
    const [a, b] = [nodes.get(from), nodes.get(to)];
    if (!a || !b) continue;
    let lane = b.lane;
    if (b.rank - a.rank > 1) {
      lane = free(a.lane, a.rank + 1, b.rank - 1);
      for (let rank = a.rank + 1; rank < b.rank; rank += 1) at(rank).add(lane);
    }
    wires.push({ from, to, lane, low: a.rank, high: b.rank });
  }
  return {
    nodes, wires,
    ranks: nodes.size ? Math.max(...[...nodes.values()].map((each) => each.rank)) + 1 : 0,
    lanes: Math.max(1, ...[...nodes.values()].map((each) => each.lane + 1), ...wires.map((each) => each.lane + 1)),
  };
}

/**
 * @param {{ mark: (layer: string | null, kept: boolean) => void }} actions
 */
export function makeGraph(actions) {
  const svg = s('svg', { class: 'graph', role: 'group', 'aria-label': t('network.graph') });
  const box = h('div', { class: 'graph-box', tabindex: '0', role: 'region', 'aria-label': t('network.graph') }, svg);
  const edgesBox = h('div', { class: 'scroll', tabindex: '0', role: 'region', 'aria-label': t('network.graph.table') });
  const table = h('details', { class: 'beside' }, h('summary', null, t('network.graph.table')), edgesBox);
  /** @type {ReturnType<typeof layout>} */
  let placed = { nodes: new Map(), wires: [], ranks: 0, lanes: 1 };
  /** @type {Placed[][]} */
  let byRank = [];
  /** @type {(name: string) => { type: string, wrong: boolean }} */
  let about = () => ({ type: '', wrong: false });
  /** @type {string | null} */
  let hovered = null;
  /** @type {string | null} */
  let kept = null;
  let drawn = '';
  let key = '';
  let whole = false;
  /** @type {[string, string][]} */
  let edges = [];
  /** @type {string[]} */
  let names = [];

  /** @param {number} lane */
  const x = (lane) => GAP + BOX.width / 2 + lane * LANE;
  /** @param {number} rank */
  const y = (rank) => GAP + BOX.height / 2 + rank * ROW;

  /** @param {Wire} wire */
  function path({ from, to, lane, low, high }) {
    const [a, b] = [/** @type {Placed} */ (placed.nodes.get(from)), /** @type {Placed} */ (placed.nodes.get(to))];
    const [x1, y1, x2, y2] = [x(a.lane), y(a.rank) + BOX.height / 2, x(b.lane), y(b.rank) - BOX.height / 2];
    const half = (ROW - BOX.height) / 2;
    if (high - low === 1) return x1 === x2 ? `M${x1} ${y1}V${y2}` : `M${x1} ${y1}C${x1} ${y1 + half * 2} ${x2} ${y2 - half * 2} ${x2} ${y2}`;
    const xl = x(lane);
    const [top, bottom] = [y(low + 1) - BOX.height / 2, y(high - 1) + BOX.height / 2];
    return `M${x1} ${y1}C${x1} ${top} ${xl} ${y1} ${xl} ${top}V${bottom}C${xl} ${y2} ${x2} ${bottom} ${x2} ${y2}`;
  }

  function draw() {
    const seen = box.clientHeight || 500;
    const low = whole ? 0 : Math.max(0, Math.floor(box.scrollTop / ROW) - MORE);
    const high = whole ? placed.ranks : Math.min(placed.ranks, Math.ceil((box.scrollTop + seen) / ROW) + MORE);
    const now = `${key} ${low} ${high}`;
    if (now === drawn) return;
    drawn = now;
    const focused = svg.contains(document.activeElement) ? /** @type {SVGElement} */ (document.activeElement).dataset['layer'] : null;
    const parts = [];
    for (const wire of placed.wires) {
      if (wire.high < low || wire.low > high) continue;
      parts.push(s('path', { class: 'wire', d: path(wire), 'data-from': wire.from, 'data-to': wire.to }));
    }
    for (let rank = low; rank < high; rank += 1) {
      for (const node of byRank[rank] ?? []) parts.push(drawNode(node));
    }
    replace(svg, ...parts);
    paint();
    if (focused) find(focused)?.focus();
  }

  /** @param {Placed} node */
  function drawNode(node) {
    const { type, wrong } = about(node.name);
    const [left, top] = [x(node.lane) - BOX.width / 2, y(node.rank) - BOX.height / 2];
    const label = node.name.length > 24 ? `…${node.name.slice(-23)}` : node.name;
    return s('g', { class: `node family-${family(type)}${wrong ? ' wrong' : ''}`, tabindex: node.name === (kept ?? names[0]) ? '0' : '-1', role: 'button', 'data-layer': node.name, 'aria-label': `${node.name}, ${type || t('network.input')}` },
      s('rect', { x: left, y: top, width: BOX.width, height: BOX.height, rx: 6 }),
      s('rect', { class: 'stripe', x: left, y: top, width: 5, height: BOX.height, rx: 2 }),
      s('text', { x: left + 12, y: y(node.rank) + 4 }, label));
  }

  /** @param {string} name @returns {SVGElement | null} */
  const find = (name) => svg.querySelector(`[data-layer="${CSS.escape(name)}"]`);

  function paint() {
    for (const node of svg.querySelectorAll('.node')) {
      const name = /** @type {SVGElement} */ (node).dataset['layer'];
      node.classList.toggle('hovered', name === hovered);
      node.classList.toggle('kept', name === kept);
      if (name === kept) node.setAttribute('aria-pressed', 'true');
      else node.removeAttribute('aria-pressed');
    }
    const name = hovered ?? kept;
    for (const wire of svg.querySelectorAll('.wire')) {
      const { from, to } = /** @type {SVGElement} */ (wire).dataset;
      wire.classList.toggle('lit', name !== null && (from === name || to === name));
    }
  }

  /** @param {string} name */
  function reveal(name) {
    const node = placed.nodes.get(name);
    if (!node) return;
    const top = y(node.rank);
    if (top < box.scrollTop + ROW || top > box.scrollTop + box.clientHeight - ROW) box.scrollTop = top - box.clientHeight / 2;
    draw();
  }

  /** @param {Event} event */
  const layerOf = (event) => /** @type {Element} */ (event.target).closest('[data-layer]')?.getAttribute('data-layer') ?? null;
  let frame = 0;
  box.addEventListener('scroll', () => {
    cancelAnimationFrame(frame);
    frame = requestAnimationFrame(draw);
  });
  svg.addEventListener('pointerover', (event) => actions.mark(layerOf(event), false));
  svg.addEventListener('pointerleave', () => actions.mark(null, false));
  svg.addEventListener('click', (event) => {
    const name = layerOf(event);
    if (name) actions.mark(name, true);
  });
  svg.addEventListener('focusin', (event) => actions.mark(layerOf(event), false));
  svg.addEventListener('keydown', (event) => {
    const name = layerOf(event);
    if (!name) return;
    if (event.key === 'Enter' || event.key === ' ') {
      event.preventDefault();
      actions.mark(name, true);
      return;
    }
    const node = placed.nodes.get(name);
    if (!node) return;
    const ways = {
      ArrowDown: () => edges.find(([from]) => from === name)?.[1],
      ArrowUp: () => edges.find(([, to]) => to === name)?.[0],
      ArrowRight: () => byRank[node.rank]?.filter((each) => each.lane > node.lane).sort((a, b) => a.lane - b.lane)[0]?.name,
      ArrowLeft: () => byRank[node.rank]?.filter((each) => each.lane < node.lane).sort((a, b) => b.lane - a.lane)[0]?.name,
      Home: () => names[0],
      End: () => names.at(-1),
    };
    const way = /** @type {Record<string, () => string | undefined>} */ (ways)[event.key];
    if (!way) return;
    event.preventDefault();
    const to = way();
    if (to === undefined) return;
    reveal(to);
    find(to)?.focus({ preventScroll: true });
  });
  table.addEventListener('toggle', () => fill());

  function fill() {
    if (!table.open) return;
    replace(edgesBox, h('table', null, h('caption', null, t('network.graph.connections', { count: count(edges.length) })),
      h('thead', null, h('tr', null, h('th', { scope: 'col' }, t('network.from')), h('th', { scope: 'col' }, t('network.to')))),
      h('tbody', null, edges.slice(0, 2000).map(([from, to]) => h('tr', null, h('td', null, from), h('td', null, to))))));
  }

  return {
    element: h('div', { class: 'stack' }, box, table),
    svg,
    /** All of it, for a picture to take along. @param {() => Promise<void> | void} take */
    async all(take) {
      whole = true;
      draw();
      await take();
      whole = false;
      draw();
    },
    redraw: draw,
    /**
     * @param {string[]} order inputs and layers
     * @param {[string, string][]} links
     * @param {(name: string) => { type: string, wrong: boolean }} describe
     */
    update(order, links, describe) {
      about = describe;
      const next = order.map((name) => `${name}:${describe(name).type}${describe(name).wrong ? '!' : ''}`).join('\n') + links.join('\n');
      if (next === key) return;
      key = next;
      names = order;
      edges = links;
      placed = layout(order, links);
      byRank = [];
      for (const node of placed.nodes.values()) (byRank[node.rank] ??= []).push(node);
      const [width, height] = [placed.lanes * LANE + GAP, placed.ranks * ROW + GAP];
      svg.setAttribute('viewBox', `0 0 ${width} ${height}`);
      svg.setAttribute('width', String(width));
      svg.setAttribute('height', String(height));
      draw();
      fill();
    },
    /** @param {string | null} layer @param {string | null} chosen */
    mark(layer, chosen) {
      if (layer === hovered && chosen === kept) return;
      hovered = layer;
      const moved = chosen !== kept;
      kept = chosen;
      if (moved && chosen !== null && !svg.contains(document.activeElement)) reveal(chosen);
      paint();
    },
  };
}

/**
 * What colours a layer.
 * @param {string} type
 */
export function family(type) {
  const low = type.toLowerCase();
  if (!low) return 'input';
  if (/conv/.test(low)) return 'conv';
  if (/dense|linear|matmul|attention|gemm|embedding|recurrent|lstm|gru/.test(low)) return 'dense';
  if (/pool|reduce/.test(low)) return 'pool';
  if (/norm|rescal/.test(low)) return 'norm';
  if (/^add|concat|multiply|merge|maximum|average$|subtract/.test(low)) return 'merge';
  return 'other';
}
