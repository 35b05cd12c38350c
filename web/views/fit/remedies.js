/**
 * What can be changed so that it fits, each with what it saves and what it costs, to be switched on.
 *
 * Changes of settings go together and are predicted together; changes of the network itself are shown one at a time.
 *
 * @typedef {{ engine: string, dtype: string, optimizer: string, batch: number, accumulate: number, devices: number, checkpointed: boolean, inputs: Record<string, number[]>, macs: number, params: number, trainable_params: number }} Setting
 * @typedef {{ name: string, change: string, rung: string, effort: string, peak_bytes: number, interval: [number, number], saving_bytes: number, fits: string | null, price: string[], after: Setting }} Remedy
 * @typedef {{ now: Setting, peak_bytes: number, interval: [number, number], fits: string, usable_bytes: number, remedies: Remedy[], plan: Remedy | null, refused: { name: string, reason: string }[], lint: { code: string, message: string }[] }} Advice
 * @typedef {import('../../core/texts.js').Key} Key
 */

import { h, replace, unique } from '../../core/dom.js';
import { bytes } from '../../core/format.js';
import { t } from '../../core/texts.js';

/** Of what is set, the keys that a question about memory can be asked with. */
const ASKED = new Set(['engine', 'dtype', 'optimizer', 'batch', 'accumulate', 'devices', 'checkpointed', 'inputs']);

/** @param {Setting} now @param {Remedy} remedy */
function differing(now, remedy) {
  return Object.keys(now).filter((key) => JSON.stringify(now[/** @type {keyof Setting} */ (key)]) !== JSON.stringify(remedy.after[/** @type {keyof Setting} */ (key)]));
}

/** Whether its effect can be had together with others. @param {Setting} now @param {Remedy} remedy */
export function combines(now, remedy) {
  const keys = differing(now, remedy);
  return remedy.rung === 'predicted' && keys.length > 0 && keys.every((key) => ASKED.has(key) || (key === 'macs' && keys.includes('inputs')));
}

/**
 * The question about memory with all of these.
 * @param {Setting} now @param {Remedy[]} remedies
 */
export function together(now, remedies) {
  /** @type {Record<string, unknown>} */
  const asked = {};
  let parts = 1;
  for (const remedy of remedies) {
    const { after } = remedy;
    for (const key of /** @type {const} */ (['engine', 'dtype', 'optimizer'])) if (after[key] !== now[key]) asked[key] = after[key];
    if (after.checkpointed && !now.checkpointed) asked['remat'] = /--remat (\w+)/.exec(remedy.change)?.[1] ?? 'block';
    if (JSON.stringify(after.inputs) !== JSON.stringify(now.inputs)) asked['input'] = after.inputs;
    if (after.batch !== now.batch) {
      if (after.accumulate === now.accumulate && after.devices === now.devices) asked['batch'] = after.batch;
      parts *= (after.accumulate / now.accumulate) * (after.devices / now.devices);
      asked['accumulate'] = true;
    }
  }
  if (parts > 1) asked['batch'] = Math.ceil(Number(asked['batch'] ?? now.batch) / parts);
  return asked;
}

/**
 * @param {(on: string[]) => void} switched
 */
export function makeRemedies(switched) {
  const list = h('ul', { class: 'remedies' });
  const plan = h('p', { class: 'plan' });
  const rest = h('details', { class: 'beside' });
  /** @type {Set<string>} */
  let on = new Set();
  let key = '';

  /** @param {Advice} advice @param {Remedy} remedy */
  function row(advice, remedy) {
    const id = unique('remedy');
    const alone = !combines(advice.now, remedy);
    const box = h('input', { type: 'checkbox', role: 'switch', id, checked: on.has(remedy.name) });
    box.addEventListener('change', () => {
      const others = alone ? [] : [...on].filter((name) => {
        const other = advice.remedies.find((each) => each.name === name);
        return other && combines(advice.now, other) && name !== remedy.name && !(sets(other) && sets(other) === sets(remedy));
      });
      on = new Set(box.checked ? [...others, remedy.name] : [...on].filter((name) => name !== remedy.name));
      for (const [name, other] of boxes) other.checked = on.has(name);
      switched([...on]);
    });
    boxes.set(remedy.name, box);
    return h('li', null, box, h('div', null, h('label', { for: id }, remedy.change), ' ', h('span', { class: `tag fits-${remedy.fits ?? 'no'}` }, t(/** @type {Key} */ (`fit.verdict.${remedy.fits ?? 'no'}`))),
      h('p', { class: 'small' }, t('fit.saves', { bytes: bytes(remedy.saving_bytes), peak: bytes(remedy.peak_bytes) }), ' · ', t(/** @type {Key} */ (`fit.effort.${remedy.effort}`)), alone ? ` · ${t('fit.alone')}` : ''),
      remedy.price.length ? h('ul', { class: 'small muted price' }, remedy.price.map((price) => h('li', null, price))) : null));
  }
  /** What two remedies cannot set at once. @param {Remedy} remedy */
  const sets = (remedy) => /^(optimizer|lower-precision|smaller-input|xla)/.exec(remedy.name)?.[1] ?? '';
  /** @type {Map<string, HTMLInputElement>} */
  const boxes = new Map();

  return {
    element: h('div', { class: 'stack' }, plan, list, rest),
    /** @param {Advice} advice @param {string[]} chosen */
    update(advice, chosen) {
      on = new Set(chosen);
      const next = JSON.stringify(advice);
      if (next !== key) {
        key = next;
        boxes.clear();
        const { plan: best } = advice;
        replace(plan, best ? h('span', null, h('strong', null, t('fit.plan')), ' ', best.change, '. ', t('fit.plan.then', { peak: bytes(best.peak_bytes) }))
          : advice.fits === 'safe' ? t('fit.plan.needless') : t('fit.plan.none'));
        replace(list, advice.remedies.map((remedy) => row(advice, remedy)));
        rest.hidden = !advice.refused.length && !advice.lint.length;
        replace(rest, h('summary', null, t('fit.rest')), h('ul', { class: 'small' }, advice.refused.map((each) => h('li', null, h('strong', null, each.name), `: ${each.reason}`)), advice.lint.map((each) => h('li', null, each.message))));
      } else for (const [name, box] of boxes) box.checked = on.has(name);
    },
  };
}
