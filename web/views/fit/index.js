/** Does it fit? The largest batch, what is used, every device, and what can be done about it. */

import { ApiError, get, latest, post } from '../../core/api.js';
import { h, replace } from '../../core/dom.js';
import { bytes, count } from '../../core/format.js';
import { help } from '../../core/help.js';
import { copy, csv, download, standalone, svgToPng } from '../../core/save.js';
import { encode } from '../../core/state.js';
import { t } from '../../core/texts.js';
import { batchOf, makeSettings, valueIn } from '../network/settings.js';
import { normal, USUAL_NETWORK } from '../network/spec.js';
import { makeStart } from '../network/start.js';
import { makeBar } from './bar.js';
import { isSize, makeBudget } from './budget.js';
import { makeDevices } from './devices.js';
import { combines, makeRemedies, together } from './remedies.js';

/**
 * @typedef {import('../../core/texts.js').Key} Key
 * @typedef {import('./remedies.js').Advice} Advice
 * @typedef {import('./devices.js').Row} Row
 * @typedef {Record<string, any>} State
 */

const SETTINGS = ['batch', 'engine', 'optimizer', 'dtype', 'mode', 'remat'];
const MEMORY = '8GiB';

/**
 * @param {HTMLElement} root
 * @param {import('../../app.js').Context} context
 * @returns {import('../../app.js').View}
 */
export function mount(root, context) {
  /** @type {State} */
  let state = {};
  let entered = false;
  /** @type {Advice | null} */
  let advice = null;
  /** @type {any} the answer of /v1/memory */
  let profile = null;
  /** @type {any} */
  let fit = null;
  /** @type {Row[]} */
  let everywhere = [];

  const start = makeStart({
    zoo: (name) => go(without({ ...state, zoo: name }, 'spec', 'on'), false),
    own: (spec) => go(without({ ...state, spec }, 'zoo', 'on'), false),
  });
  const settings = makeSettings(SETTINGS, (key, value, typing) => {
    const next = without({ ...state, [key]: value }, 'on');
    if (value === valueIn({}, key)) delete next[key];
    go(next, typing);
  });
  const budget = makeBudget((part, typing) => go({ ...without(state, 'device', 'memory', 'on'), ...part }, typing));
  const bar = makeBar();
  const devices = makeDevices((device) => go({ ...without(state, 'memory', 'on'), device }, false));
  const remedies = makeRemedies((on) => {
    state = on.length ? { ...state, on: on.join(',') } : without(state, 'on');
    context.go(state, {});
    effect();
  });

  const answer = h('div', { class: 'answer' });
  const largest = h('div', { class: 'scroll', tabindex: '0', role: 'region', 'aria-label': t('fit.largest') });
  const trouble = h('p', { class: 'problem', role: 'alert', hidden: true });
  const toNetwork = h('a', { href: '#/network' }, t('fit.to.network'));
  const button = (/** @type {string} */ label, /** @type {() => unknown} */ act) => h('button', { type: 'button', onclick: act }, label);
  const results = h('div', { class: 'stack fit-results', 'aria-busy': 'true' },
    h('section', { class: 'panel' }, trouble, answer, bar.element),
    h('section', { class: 'panel' }, h('div', { class: 'spread' }, h('h2', null, t('fit.largest'), ' ', help(t('fit.largest'), t('fit.help.largest'))), toNetwork), largest),
    h('section', { class: 'panel' }, h('h2', null, t('fit.advice'), ' ', help(t('fit.advice'), t('fit.help.advice'))), remedies.element),
    h('section', { class: 'panel' }, h('h2', null, t('fit.devices')), devices.element),
    h('section', { class: 'panel take' }, h('h2', null, t('network.take')), h('div', { class: 'row' },
      button('CSV', () => download('devices.csv', 'text/csv', csv(table()))),
      button('JSON', () => download('fit.json', 'application/json', `${JSON.stringify({ fit, advice, devices: everywhere }, null, 1)}\n`)),
      button('SVG', () => download('fit.svg', 'image/svg+xml', standalone(bar.svg))),
      button('PNG', async () => download('fit.png', 'image/png', await svgToPng(bar.svg))),
      button(t('fit.command'), async () => context.announce((await copy(command())) ? t('copy.done') : t('copy.failed'))))));
  replace(root,
    h('div', { class: 'intro' }, h('h1', null, t('fit.title')), h('p', { class: 'muted' }, t('fit.lead'))),
    h('div', { class: 'network fit' },
      h('div', { class: 'stack side' }, h('section', { class: 'panel' }, h('h2', null, t('fit.budget')), budget.element), start.element, h('section', { class: 'panel' }, h('h2', null, t('network.how')), settings.element)),
      results));
  get('/v1/devices').then((found) => budget.devices(found)).catch(() => {});

  /** @param {State} from @param {...string} keys */
  function without(from, ...keys) {
    return Object.fromEntries(Object.entries(from).filter(([key]) => !keys.includes(key)));
  }
  const memoryText = () => String(state['memory'] ?? MEMORY);

  /** @param {State} next @param {boolean} typing */
  function go(next, typing) {
    state = next;
    context.go(state, { replace: typing && entered });
    entered = typing;
    apply();
  }

  function apply() {
    settings.show(state);
    start.show(state['spec'] ? '' : state['zoo'] ?? USUAL_NETWORK);
    budget.show(state['device'], memoryText());
    const { memory: _, on: _on, device: _device, ...network } = state;
    void encode('network', { ...network, ...(state['spec'] ? {} : { zoo: state['zoo'] ?? USUAL_NETWORK }) }).then((fragment) => { toNetwork.href = fragment; });
    ask();
  }

  function ask() {
    const batch = batchOf(state);
    if (batch === null || (!state['device'] && !isSize(memoryText()))) {
      request.cancel();
      return;
    }
    let network = state['zoo'] ?? USUAL_NETWORK;
    if (state['spec']) {
      try {
        network = normal(state['spec']);
      } catch {
        start.say(t('network.spec.broken'));
        return;
      }
    }
    results.classList.add('stale');
    results.setAttribute('aria-busy', 'true');
    request({ network, batch, engine: valueIn(state, 'engine'), optimizer: valueIn(state, 'optimizer'), dtype: valueIn(state, 'dtype') }, valueIn(state, 'mode'), valueIn(state, 'remat'),
      state['device'] ? { device: state['device'] } : { memory: memoryText().replaceAll(' ', '') });
  }

  const request = latest(async (signal, /** @type {Record<string, any>} */ asked, /** @type {string} */ mode, /** @type {string} */ remat, /** @type {Record<string, string>} */ where) => {
    const checkpointing = remat === 'none' ? {} : { remat };
    const { batch: _, ...rest } = asked;
    const all = post('/v1/fit', { ...rest, mode, ...checkpointing }, { signal }).then((found) => ({ found, error: null }), (error) => ({ found: null, error }));
    try {
      [fit, advice, profile] = await Promise.all([
        post('/v1/fit', { ...rest, ...where, ...checkpointing }, { signal }),
        post('/v1/advise', { ...asked, mode, ...where }, { signal }),
        post('/v1/memory', { ...asked, mode, ...checkpointing, device: where['device'] ?? 'gpu' }, { signal }),
      ]);
    } catch (error) {
      if (!(error instanceof ApiError) || error.passing) throw error;
      trouble.textContent = error.message;
      trouble.hidden = false;
      results.setAttribute('aria-busy', 'false');
      return;
    }
    trouble.hidden = true;
    show();
    const { found, error } = await all;
    if (signal.aborted) return;
    if (error) {
      if (!(error instanceof ApiError) || error.passing) throw error;
    } else everywhere = found.fits;
    devices.update(everywhere, Number(asked['batch']), profile.prediction.peak_bytes, state['device']);
    results.classList.remove('stale');
    results.setAttribute('aria-busy', 'false');
  });

  /** By the bounds of a prediction, where no answer says it. @param {any} prediction @param {number} usable */
  function verdict(prediction, usable) {
    const [low, high] = prediction.process_interval ?? prediction.interval;
    return high <= usable ? 'safe' : low > usable ? 'no' : prediction.peak_bytes <= usable ? 'likely' : 'hopeful';
  }

  function show() {
    if (!advice || !fit) return;
    const usable = advice.usable_bytes;
    const mode = valueIn(state, 'mode');
    const batch = batchOf(state) ?? 1;
    const mine = fit.fits.find((/** @type {Row} */ row) => row.mode === mode) ?? fit.fits[0];
    const fits = mine.safe?.batch >= batch ? 'safe' : mine.likely?.batch >= batch ? 'likely' : mine.hopeful?.batch >= batch ? 'hopeful' : 'no';
    replace(answer, h('p', { class: `verdict fits-${fits}` }, h('strong', null, t(/** @type {Key} */ (`fit.answer.${fits}`), { batch: count(batch) })), ' ',
      mine.safe ? t('fit.answer.batch', { safe: count(mine.safe.batch), hopeful: count((mine.hopeful ?? mine.safe).batch) }) : mine.hopeful ? t('fit.answer.luck', { hopeful: count(mine.hopeful.batch) }) : t('fit.answer.none')));
    replace(largest, h('table', { class: 'largest' }, h('caption', null, t('fit.on', { what: mine.title, usable: bytes(usable) })),
      h('thead', null, h('tr', null, ['network.mode', 'fit.safe', 'fit.likely', 'fit.hopeful', 'fit.needs'].map((key, index) => h('th', { scope: 'col', class: index ? 'number' : '' }, t(/** @type {Key} */ (key)))))),
      h('tbody', null, fit.fits.map((/** @type {any} */ row) => h('tr', { 'data-mode': row.mode }, h('th', { scope: 'row' }, t(/** @type {Key} */ (`network.mode.${row.mode}`))),
        ['safe', 'likely', 'hopeful'].map((bound) => h('td', { class: 'number', 'data-bound': bound }, row[bound] ? count(row[bound].batch) : t('fit.none'))),
        h('td', { class: 'number' }, row.safe ? bytes(row.safe.peak_bytes) : '–'))))),
    ...[...new Set(fit.fits.map((/** @type {Row} */ row) => row.note)), ...fit.notes].filter(Boolean).map((note) => h('p', { class: 'muted small' }, note)));
    const on = String(state['on'] ?? '').split(',').filter(Boolean);
    remedies.update(advice, on);
    effect();
  }

  /** The bars: now, and with what is switched on. */
  function effect() {
    if (!advice || !profile) return;
    const usable = advice.usable_bytes;
    const { prediction } = profile;
    const now = { label: t('fit.now', { batch: count(batchOf(state) ?? 1) }), peak: prediction.peak_bytes, interval: prediction.interval, breakdown: prediction.breakdown,
      verdict: t(/** @type {Key} */ (`fit.verdict.${valueIn(state, 'remat') === 'none' ? advice.fits : verdict(prediction, usable)}`)) };
    const on = String(state['on'] ?? '').split(',').filter(Boolean);
    const chosen = advice.remedies.filter((remedy) => on.includes(remedy.name));
    const [first] = chosen;
    if (!first) {
      combined.cancel();
      bar.update([now], usable);
      return;
    }
    const label = t('fit.with', { what: chosen.map((remedy) => remedy.name).join(' + ') });
    if (chosen.length === 1) bar.update([now, { label, peak: first.peak_bytes, interval: first.interval, breakdown: null, verdict: t(/** @type {Key} */ (`fit.verdict.${first.fits ?? 'no'}`)) }], usable);
    const settled = advice.now;
    if (chosen.every((remedy) => combines(settled, remedy))) combined(now, label, usable, chosen);
  }

  const combined = latest(async (signal, /** @type {import('./bar.js').Use} */ now, /** @type {string} */ label, /** @type {number} */ usable, /** @type {import('./remedies.js').Remedy[]} */ chosen) => {
    if (!advice) return;
    const network = state['spec'] ? normal(state['spec']) : state['zoo'] ?? USUAL_NETWORK;
    const asked = { network, batch: advice.now.batch, engine: advice.now.engine, optimizer: advice.now.optimizer, dtype: advice.now.dtype, device: state['device'] ?? 'gpu', mode: valueIn(state, 'mode'), ...together(advice.now, chosen) };
    let found;
    try {
      found = await post('/v1/memory', asked, { signal });
    } catch (error) {
      if (!(error instanceof ApiError) || error.passing) throw error;
      context.announce(error.message);
      return;
    }
    const [first] = chosen;
    const { prediction } = found;
    // One alone has its own figure, with what a settings' question cannot say; several have their common one.
    const single = chosen.length === 1 && first;
    bar.update([now, { label, peak: single ? single.peak_bytes : prediction.peak_bytes, interval: single ? single.interval : prediction.interval,
      breakdown: single && single.peak_bytes !== prediction.peak_bytes ? null : prediction.breakdown,
      verdict: t(/** @type {Key} */ (`fit.verdict.${single ? single.fits ?? 'no' : verdict(prediction, usable)}`)) }], usable);
  });

  function table() {
    return [['device', 'title', 'mode', 'memory_bytes', 'usable_bytes', 'safe_batch', 'likely_batch', 'hopeful_batch'],
      ...everywhere.map((row) => [row.device, row.title, row.mode, row.memory_bytes, row.usable_bytes, row.safe?.batch ?? '', row.likely?.batch ?? '', row.hopeful?.batch ?? ''])];
  }
  function command() {
    const words = ['convcalc', 'fit', state['spec'] ? 'network.json' : state['zoo'] ?? USUAL_NETWORK, ...(state['device'] ? ['--device', state['device']] : ['--memory', memoryText().replaceAll(' ', '')]),
      '--engine', valueIn(state, 'engine'), '--optimizer', valueIn(state, 'optimizer'), '--dtype', valueIn(state, 'dtype')];
    return words.join(' ');
  }

  return {
    show(next) {
      state = next;
      entered = false;
      apply();
    },
    unmount() {
      request.cancel();
      combined.cancel();
      bar.unmount();
    },
  };
}
