/** A network, layer by layer: what it costs, what it needs in memory and when, and the same for every change to it. */

import { ApiError, get, latest, post } from '../../core/api.js';
import { h, replace } from '../../core/dom.js';
import { bytes, count, shape, short } from '../../core/format.js';
import { help } from '../../core/help.js';
import { encode } from '../../core/state.js';
import { t } from '../../core/texts.js';
import { makeBars } from './bars.js';
import { makeGraph } from './graph.js';
import { makeInspector } from './inspector.js';
import { makeLayers } from './layers.js';
import { batchOf, makeSettings, valueIn } from './settings.js';
import { blockOf, duplicate, edgesOf, inputsOf, insert, layersOf, normal, placeOf, remove, swap, USUAL_NETWORK } from './spec.js';
import { makeStart, zooSpec } from './start.js';
import { makeTake } from './take.js';
import { makeTimeline } from './timeline.js';

/**
 * @typedef {import('./spec.js').Spec} Spec
 * @typedef {import('../../core/texts.js').Key} Key
 * @typedef {Record<string, any>} State
 */

const SETTINGS = ['batch', 'engine', 'optimizer', 'dtype', 'device', 'mode', 'remat'];

/**
 * @param {HTMLElement} root
 * @param {import('../../app.js').Context} context
 * @returns {import('../../app.js').View}
 */
export function mount(root, context) {
  /** @type {State} */
  let state = {};
  /** @type {Spec | null} */
  let spec = null;
  /** @type {any} the last answers, and what they answered */
  let report = null;
  /** @type {import('./timeline.js').Profile | null} */
  let profile = null;
  /** @type {{ detail: string, layer: string | null } | null} */
  let problem = null;
  /** @type {string | null} */
  let kept = null;
  /** @type {string | null} */
  let hovered = null;
  /** Whether the field that is being typed in has made its entry of the history. */
  let entered = false;
  let turn = 0;

  const actions = {
    /** @param {string | null} layer @param {boolean} keep */
    mark(layer, keep) {
      hovered = layer;
      if (keep && layer !== null) choose(layer);
      else paint();
    },
  };
  const start = makeStart({
    zoo: (name) => go({ ...settingsOf(), zoo: name }, false),
    own: (next) => {
      kept = layersOf(next)[0]?.name ?? null;
      go({ ...settingsOf(), spec: next }, false);
    },
  });
  const settings = makeSettings(SETTINGS, (key, value, typing) => {
    const next = { ...state, [key]: value };
    if (next[key] === valueIn({}, key)) delete next[key];
    go(next, typing);
  });
  const inspector = makeInspector({
    change: (next, typing) => change(next, kept, typing),
    act: (what, kind) => {
      if (!spec) return;
      const layers = layersOf(spec);
      const at = layers.findIndex((layer) => layer.name === kept);
      if (what === 'add') {
        const made = insert(spec, at < 0 ? layers.length - 1 : at, kind ?? 'conv');
        change(made.spec, made.name, false);
        context.announce(t('network.added', { layer: made.name }));
      } else if (what === 'duplicate') {
        const made = duplicate(spec, at);
        change(made.spec, made.name, false);
        context.announce(t('network.added', { layer: made.name }));
      } else if (kept !== null) {
        if (what === 'remove') drop(kept);
        else move(kept, what === 'up' ? -1 : 1);
      }
    },
  });
  const layers = makeLayers({ ...actions, move, remove: drop });
  const timeline = makeTimeline(actions);
  const bars = makeBars(actions);
  const graph = makeGraph(actions);
  const take = makeTake(context, {
    cells: (exact) => layers.cells(exact),
    answer: () => ({ ...report, profile }),
    spec: () => spec ?? { layers: [] },
    shapes,
    command,
    pictures: [
      { name: t('network.timeline'), svg: timeline.svg },
      { name: t('network.bars'), svg: bars.svg },
      { name: t('network.graph'), svg: graph.svg, whole: graph.all },
    ],
  });

  const totals = h('dl', { class: 'totals' });
  const trouble = h('p', { class: 'problem', role: 'alert', hidden: true });
  const memoryTrouble = h('p', { class: 'problem', hidden: true });
  const toFit = h('a', { href: '#/fit' }, t('network.to.fit'));
  const title = h('h2', null, t('network.layers'));
  const timelinePanel = h('section', { class: 'panel timeline-panel', 'aria-busy': 'true' }, h('div', { class: 'spread' }, h('h2', null, t('network.memory'), ' ', help(t('network.memory'), t('network.help.memory'))), toFit), memoryTrouble, timeline.element);
  const results = h('div', { class: 'stack network-results', 'aria-busy': 'true' },
    h('section', { class: 'panel how' }, h('h2', { class: 'offscreen' }, t('network.how')), settings.element),
    h('section', { class: 'panel' }, trouble, totals),
    timelinePanel,
    h('section', { class: 'panel' }, h('div', { class: 'spread' }, title, take.copies), layers.tools, layers.element, h('p', { class: 'muted small keys' }, t('network.layers.keys'))),
    h('section', { class: 'panel' }, h('h2', null, t('network.bars')), bars.element),
    h('section', { class: 'panel' }, h('h2', null, t('network.graph')), graph.element),
    take.element);
  replace(root,
    h('div', { class: 'intro' }, h('h1', null, t('network.title')), h('p', { class: 'muted' }, t('network.lead'))),
    h('div', { class: 'network' },
      h('div', { class: 'stack side' }, start.element, inspector.element),
      results));

  get('/v1/devices').then((found) => {
    settings.devices(found);
    settings.show(state);
  }).catch(() => {});

  const settingsOf = () => Object.fromEntries(SETTINGS.filter((key) => state[key] !== undefined).map((key) => [key, state[key]]));

  /**
   * Another state, from here: into the address, and onto the page.
   * @param {State} next @param {boolean} typing
   */
  function go(next, typing) {
    if (next['zoo'] !== state['zoo'] || next['spec'] !== state['spec']) start.say('');
    const other = next['zoo'] !== state['zoo'];
    if (other && next['zoo']) kept = null;
    state = next;
    context.go(addressOf(), { replace: typing && entered });
    entered = typing;
    apply();
  }
  /** @returns {State} */
  function addressOf() {
    return { ...state, ...(kept === null ? { layer: undefined } : { layer: kept }) };
  }
  /** @param {Spec} next @param {string | null} layer @param {boolean} typing */
  function change(next, layer, typing) {
    kept = layer;
    const { zoo: _, ...rest } = state;
    go({ ...rest, spec: next }, typing);
  }
  /** @param {string} layer */
  function choose(layer) {
    kept = spec && layersOf(spec).some((each) => each.name === layer) ? layer : kept;
    context.go(addressOf(), { replace: true });
    inspect();
    paint();
  }
  /** @param {string} layer @param {number} by */
  function move(layer, by) {
    if (!spec) return;
    const at = layersOf(spec).findIndex((each) => each.name === layer);
    const upper = by < 0 ? at - 1 : at;
    if (upper < 0 || upper >= layersOf(spec).length - 1) return;
    change(swap(spec, upper), layer, false);
    context.announce(t('network.moved', { layer }));
  }
  /** @param {string} layer */
  function drop(layer) {
    if (!spec) return;
    const all = layersOf(spec);
    const at = all.findIndex((each) => each.name === layer);
    if (at < 0 || all.length === 1) return;
    const next = (all[at + 1] ?? all[at - 1])?.name ?? null;
    change(remove(spec, at), next, false);
    context.announce(t('network.removed', { layer }));
    if (next) layers.focus(next);
  }

  function paint() {
    layers.mark(hovered, kept);
    timeline.mark(hovered ?? kept);
    bars.mark(hovered, kept);
    graph.mark(hovered, kept);
  }
  function inspect() {
    if (!spec) return;
    inspector.update(spec, kept, problem && problem.layer === kept ? problem.detail : '');
  }

  /** The state onto the page: what is known at once, the rest when it is answered. */
  async function apply() {
    turn += 1;
    const mine = turn;
    settings.show(state);
    start.show(state['spec'] ? '' : state['zoo'] ?? USUAL_NETWORK);
    if (state['spec']) {
      try {
        spec = normal(state['spec']);
      } catch {
        start.say(t('network.spec.broken'));
        return;
      }
    } else {
      results.setAttribute('aria-busy', 'true');
      try {
        const found = await zooSpec(state['zoo'] ?? USUAL_NETWORK);
        if (mine !== turn) return;
        spec = found;
      } catch (error) {
        if (!(error instanceof ApiError) || mine !== turn) return;
        if (error.passing) setTimeout(() => { if (mine === turn) void apply(); }, 2000);
        else start.say(error.message);
        return;
      }
    }
    const names = new Set(layersOf(spec).map((layer) => layer.name));
    if (kept !== null && !names.has(kept)) kept = null;
    inspect();
    render(false);
    ask();
  }

  function ask() {
    const batch = batchOf(state);
    if (batch === null || !spec) {
      request.cancel();
      return;
    }
    results.setAttribute('aria-busy', 'true');
    timelinePanel.classList.add('stale');
    const asked = { network: state['spec'] ? spec : state['zoo'] ?? USUAL_NETWORK, batch, dtype: valueIn(state, 'dtype'), optimizer: valueIn(state, 'optimizer'), device: valueIn(state, 'device') };
    request(asked, { mode: valueIn(state, 'mode'), engine: valueIn(state, 'engine'), ...(valueIn(state, 'remat') === 'none' ? {} : { remat: valueIn(state, 'remat') }) });
  }

  const request = latest(async (signal, /** @type {Record<string, unknown>} */ asked, /** @type {Record<string, string>} */ more) => {
    const memory = post('/v1/memory', { ...asked, ...more }, { signal }).then((found) => ({ found, error: null }), (error) => ({ found: null, error }));
    let answered = null;
    try {
      answered = await post('/v1/analyze', { ...asked, engine: 'textbook' }, { signal });
    } catch (error) {
      if (!(error instanceof ApiError) || error.passing) throw error;
      const place = spec ? placeOf(spec, error.detail) : null;
      problem = { detail: named(error.message), layer: place?.layer ?? null };
      done();
      return;
    }
    if (signal.aborted) return;
    report = answered;
    problem = null;
    render();
    inspect();
    const { found, error } = await memory;
    if (signal.aborted) return;
    if (error) {
      if (!(error instanceof ApiError) || error.passing) throw error;
      profile = null;
      memoryTrouble.textContent = error.message;
    } else profile = found;
    memoryTrouble.hidden = !error;
    timeline.element.hidden = !profile;
    if (profile) {
      const book = report.memory.textbook[`${profile.mode}_bytes`];
      timeline.update(profile, book, t(/** @type {Key} */ (`network.timeline.${profile.mode}`), { network: report.network, batch: count(Number(asked['batch'])), engine: t(/** @type {Key} */ (`network.engine.${profile.engine}`)) }));
    }
    done();
  }, 60);

  /** Layers by their names, which the service does not repeat. @param {string} detail */
  const named = (detail) => detail.replace(/layers\[(\d+)\]/g, (whole, index) => spec?.layers[Number(index)]?.['name'] ?? whole);

  function done() {
    render();
    inspect();
    timelinePanel.classList.remove('stale');
    timelinePanel.setAttribute('aria-busy', 'false');
    results.setAttribute('aria-busy', 'false');
    const params = { ...settingsOf(), ...(state['spec'] ? { spec: state['spec'] } : { zoo: state['zoo'] ?? USUAL_NETWORK }) };
    void encode('fit', params).then((fragment) => { toFit.href = fragment; });
  }

  /** What is known of the layers onto the page; figures of the last answer stay while one types. @param {boolean} [answered] whether there is more than a change */
  function render(answered = true) {
    if (!spec) return;
    trouble.hidden = !problem;
    if (problem) trouble.textContent = problem.layer === null ? problem.detail : t('network.wrong', { layer: problem.layer });
    const known = new Map((report?.layers ?? []).map((/** @type {any} */ layer) => [layer.name, layer]));
    const peaks = new Map((profile?.layers ?? []).map((each) => [each.layer, each.bytes]));
    const list = layersOf(spec);
    const rows = list.map((layer, index) => {
      const found = known.get(layer.name);
      const field = found?.receptive_field?.size;
      return {
        name: layer.name, type: layer.type, place: index + 1, block: blockOf(layer.name),
        output: found?.output_shape ?? null, params: found?.params ?? null, macs: found?.macs ?? null, bytes: found?.output_bytes ?? null,
        peak: found && profile ? peaks.get(layer.name) ?? 0 : null,
        field: field ? (field.some((/** @type {any} */ each) => each === null) ? t('network.field.all') : field.join(' × ')) : '–',
        wrong: problem?.layer === layer.name ? problem.detail : '',
      };
    });
    layers.update(rows);
    if (answered) bars.update(rows);
    const types = new Map(list.map((layer) => [layer.name, layer.type]));
    graph.update([...Object.keys(inputsOf(spec)), ...list.map((layer) => layer.name)], edgesOf(spec), (name) => ({ type: types.get(name) ?? '', wrong: problem?.layer === name }));
    title.textContent = t('network.layers.of', { network: spec.name ?? t('network.own') });
    if (report && answered) showTotals();
    if (answered) take.update();
    paint();
  }

  function showTotals() {
    /** @type {(name: Key, value: string, exact: string, note?: Key) => HTMLElement} */
    const total = (name, value, exact, note) => h('div', { 'data-total': name.split('.').at(-1) }, h('dt', null, t(name), note ? help(t(name), t(note)) : null), h('dd', null, h('span', { class: 'value' }, value), h('span', { class: 'also muted small' }, exact)));
    const { totals: sums, memory, inputs } = report;
    const predicted = profile?.prediction;
    replace(totals,
      total('network.total.params', short(sums.params), count(sums.params), 'network.help.params'),
      total('network.total.macs', short(sums.macs), count(sums.macs), 'network.help.macs'),
      total('network.total.book', bytes(memory.textbook[`${profile?.mode ?? 'training'}_bytes`]), t('network.total.book.of', { mode: t(/** @type {Key} */ (`network.mode.${profile?.mode ?? 'training'}`)) }), 'network.help.book'),
      predicted ? total('network.total.peak', bytes(predicted.peak_bytes), t('network.total.interval', { low: bytes(predicted.interval[0]), high: bytes(predicted.interval[1]) }), 'network.help.peak') : null,
      total('network.total.input', inputs.map((/** @type {any} */ each) => shape(each.shape)).join(', '), t('network.layers.count', { count: count(report.layers.length) })));
    if (report.uncounted.length) {
      totals.append(h('div', { class: 'uncounted' }, h('dt', null, t('network.uncounted')), h('dd', { class: 'small' }, report.uncounted.map((/** @type {any} */ each) => `${each.op}: ${[each.missing].flat().join(', ')}`).join('; '))));
    }
  }

  /** What each entry makes, where the layer's row says it. @returns {Map<string, number[]>} */
  function shapes() {
    /** @type {Map<string, number[]>} */
    const found = new Map();
    if (!spec) return found;
    for (const { name, shape: sizes } of report?.inputs ?? []) found.set(name, sizes);
    const answered = new Map((report?.layers ?? []).map((/** @type {any} */ layer) => [layer.name, layer.output_shape]));
    for (const layer of layersOf(spec)) {
      const sizes = answered.get(layer.name);
      if (!sizes) continue;
      for (let index = layer.last; index >= layer.first; index -= 1) {
        const entry = spec.layers[index];
        if (index < layer.last && !('activation' in (spec.layers[index + 1] ?? {}))) break;
        found.set(entry?.['name'], sizes);
      }
    }
    return found;
  }

  function command() {
    const mode = valueIn(state, 'mode');
    const words = ['convcalc', 'memory', state['spec'] ? 'network.json' : state['zoo'] ?? USUAL_NETWORK, '--batch', valueIn(state, 'batch'), '--engine', valueIn(state, 'engine'), '--optimizer', valueIn(state, 'optimizer'), '--dtype', valueIn(state, 'dtype'), '--device', valueIn(state, 'device'), '--mode', mode,
      ...(valueIn(state, 'remat') === 'none' ? [] : ['--remat', valueIn(state, 'remat')])];
    return `${words.join(' ')}\n`;
  }

  const resized = new ResizeObserver(() => {
    layers.redraw();
    graph.redraw();
  });
  resized.observe(layers.element);

  return {
    show(next) {
      const { layer, ...rest } = next;
      state = rest;
      kept = typeof layer === 'string' ? layer : null;
      entered = false;
      problem = null;
      void apply();
    },
    unmount() {
      turn += 1;
      request.cancel();
      resized.disconnect();
      timeline.unmount();
      bars.unmount();
    },
  };
}
