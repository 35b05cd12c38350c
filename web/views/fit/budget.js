/** What it has to fit: a device of the catalogue, or so many bytes. */

import { h, replace, unique } from '../../core/dom.js';
import { binaryBytes } from '../../core/format.js';
import { t } from '../../core/texts.js';

/** @typedef {{ name: string, title: string, kind: string, memory_bytes: number, usable_bytes: number }} Device */

const SIZE = /^\s*\d+(\.\d+)?\s*([kmgt]i?)?b?\s*$/i;

/** @param {string} text whether it reads as a size */
export const isSize = (text) => SIZE.test(text) && !/^\s*0+(\.0+)?\s*\D*$/.test(text);

/**
 * @param {(part: { device?: string, memory?: string }, typing: boolean) => void} changed
 */
export function makeBudget(changed) {
  const deviceId = unique('device');
  const memoryId = unique('memory');
  const own = h('option', { value: '' }, t('fit.own'));
  const select = h('select', { id: deviceId }, own);
  const input = h('input', { id: memoryId, type: 'text', autocomplete: 'off', spellcheck: 'false', 'aria-describedby': `${memoryId}-error` });
  const error = h('div', { class: 'error', id: `${memoryId}-error` });
  select.addEventListener('change', () => changed(select.value ? { device: select.value } : { memory: input.value || '8GiB' }, false));
  input.addEventListener('input', () => changed({ memory: input.value }, true));
  const field = h('div', { class: 'field' }, h('label', { for: memoryId }, t('fit.memory')), input, error);
  return {
    element: h('div', { class: 'stack' }, h('div', { class: 'field' }, h('label', { for: deviceId }, t('fit.device')), select), field),
    /** @param {Device[]} devices */
    devices(devices) {
      const now = select.value;
      replace(select, own, devices.map((each) => h('option', { value: each.name }, `${each.title} (${binaryBytes(each.memory_bytes)})`)));
      select.value = now;
    },
    /** @param {string | undefined} device @param {string} memory */
    show(device, memory) {
      if (device && ![...select.options].some((option) => option.value === device)) select.append(h('option', { value: device }, device));
      select.value = device ?? '';
      field.hidden = Boolean(device);
      if (!device && input.value !== memory) input.value = memory;
      const wrong = !device && !isSize(memory);
      input.setAttribute('aria-invalid', String(wrong));
      error.textContent = wrong ? t('fit.memory.wrong') : '';
    },
  };
}
