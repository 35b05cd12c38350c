/**
 * What a network is asked for: batch, element type, optimizer, engine, device. Shared by Network and Fit.
 *
 * @typedef {import('../../core/texts.js').Key} Key
 * @typedef {Record<string, any>} State
 */

import { h, unique } from '../../core/dom.js';
import { help } from '../../core/help.js';
import { t } from '../../core/texts.js';

export const ENGINES = ['tensorflow', 'tensorflow-xla', 'torch', 'jax'];
export const DTYPES = ['float32', 'float16', 'bfloat16', 'float64', 'mixed_float16', 'mixed_bfloat16'];
export const OPTIMIZERS = ['none', 'sgd', 'momentum', 'rmsprop', 'adagrad', 'lion', 'adam', 'adamw', 'nadam', 'lamb', 'adadelta', 'adamax', 'ftrl'];
export const REMATS = ['none', 'block', 'sqrt'];
export const MODES = ['training', 'inference'];

/** What holds where the address says nothing. */
export const USUAL = /** @type {Record<string, string>} */ ({
  batch: '32', dtype: 'float32', optimizer: 'adam', engine: 'tensorflow-xla', device: 'gpu', mode: 'training', remat: 'none',
});

/** @param {State} state @param {string} key @returns {string} */
export const valueIn = (state, key) => String(state[key] ?? USUAL[key] ?? '');

/**
 * The batch as a number, or null for what is none.
 * @param {State} state
 */
export function batchOf(state) {
  const text = valueIn(state, 'batch').trim();
  const number = Number(text);
  return /^\d+$/.test(text) && number >= 1 && Number.isSafeInteger(number) ? number : null;
}

/**
 * @param {string[]} keys
 * @param {(key: string, value: string, typing: boolean) => void} changed
 */
export function makeSettings(keys, changed) {
  /** @type {Record<string, HTMLInputElement | HTMLSelectElement>} */
  const controls = {};
  const error = h('div', { class: 'error', id: unique('batch-error') });
  const fields = keys.map((key) => {
    const id = unique(key);
    const label = t(/** @type {Key} */ (`network.${key}`));
    const text = h('div', { class: 'label' }, h('label', { for: id }, label), help(label, t(/** @type {Key} */ (`network.help.${key}`))));
    if (key === 'batch') {
      const input = h('input', { id, type: 'text', inputmode: 'numeric', autocomplete: 'off', 'aria-describedby': error.id });
      input.addEventListener('input', () => changed(key, input.value, true));
      input.addEventListener('keydown', (event) => {
        const by = { ArrowUp: 1, ArrowDown: -1 }[event.key];
        if (!by || !/^\d+$/.test(input.value)) return;
        event.preventDefault();
        input.value = String(Math.max(1, Number(input.value) + by));
        changed(key, input.value, true);
      });
      controls[key] = input;
      return h('div', { class: `field field-${key}` }, text, input, error);
    }
    const select = h('select', { id });
    fill(select, /** @type {Record<string, string[]>} */ ({ engine: ENGINES, dtype: DTYPES, optimizer: OPTIMIZERS, remat: REMATS, device: ['gpu', 'cpu'], mode: MODES })[key] ?? [], key);
    select.addEventListener('change', () => changed(key, select.value, false));
    controls[key] = select;
    return h('div', { class: `field field-${key}` }, text, select);
  });
  return {
    element: h('div', { class: 'settings' }, fields),
    /** @param {State} state */
    show(state) {
      for (const key of keys) {
        const control = /** @type {HTMLInputElement} */ (controls[key]);
        const value = valueIn(state, key);
        if (control instanceof HTMLSelectElement && ![...control.options].some((option) => option.value === value)) {
          control.append(h('option', { value }, value));
        }
        if (control.value !== value) control.value = value;
      }
      const wrong = keys.includes('batch') && batchOf(state) === null;
      controls['batch']?.setAttribute('aria-invalid', String(wrong));
      error.textContent = wrong ? t('network.batch.wrong') : '';
    },
    /** The catalogue's devices, once they are known. @param {{ name: string, title: string }[]} devices */
    devices(devices) {
      const select = controls['device'];
      if (!(select instanceof HTMLSelectElement)) return;
      const now = select.value;
      select.append(h('optgroup', { label: t('network.device.catalogue') }, devices.map((each) => h('option', { value: each.name }, each.title))));
      for (const option of [...select.children]) if (option instanceof HTMLOptionElement && option.value === now && !['gpu', 'cpu'].includes(now)) option.remove();
      select.value = now;
    },
  };
}

/**
 * @param {HTMLSelectElement} select
 * @param {string[]} values
 * @param {string} key
 */
function fill(select, values, key) {
  select.append(...values.map((value) => h('option', { value }, named(key, value))));
}

/**
 * A value as people read it.
 * @param {string} key
 * @param {string} value
 */
export function named(key, value) {
  if (key === 'dtype' || key === 'optimizer') return value === 'none' ? t('network.optimizer.none') : value;
  return t(/** @type {Key} */ (`network.${key}.${value}`));
}
