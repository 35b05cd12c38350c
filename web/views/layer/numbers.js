/**
 * The numbers, each with its formula, and the comparison with a fully connected layer.
 *
 * @typedef {{ quantity: string, symbols: string, values: string, result: number | bigint | string, unit: string, note: string }} Step
 * @typedef {{ layers: Record<string, any>[], derivation: Step[] }} Report
 * @typedef {import('../../core/texts.js').Key} Key
 */

import { h } from '../../core/dom.js';
import { bytes, count, shape, short } from '../../core/format.js';
import { help } from '../../core/help.js';
import { t } from '../../core/texts.js';

/**
 * @param {Report} report
 * @returns {HTMLElement}
 */
export function numbers(report) {
  const layer = report.layers[0] ?? {};
  const steps = report.derivation;
  const shapeEnds = steps.findIndex((step) => step.quantity === 'output shape');
  /** @param {string} quantity */
  const about = (quantity) => steps.filter((step) => step.quantity.startsWith(quantity));
  const field = layer['receptive_field'];
  const flops = { quantity: '', symbols: '2 x multiplications', values: `2 x ${count(layer['macs'])}`, result: layer['flops'], unit: '', note: '' };
  return h('dl', { class: 'numbers' },
    entry('shape', shape(layer['output_shape']), '', steps.slice(0, shapeEnds), true),
    entry('params', count(layer['params']), '', about('parameters')),
    entry('macs', count(layer['macs']), short(layer['macs']), about('multiplications')),
    entry('flops', count(layer['flops']), short(layer['flops']), [flops]),
    entry('bytes', bytes(layer['output_bytes']), `${count(layer['output_bytes'])} bytes`, about('output bytes')),
    field && entry('field', shape(field.size), '', about('receptive field'), true));
}

/**
 * @param {'shape' | 'params' | 'macs' | 'flops' | 'bytes' | 'field'} key
 * @param {string} value
 * @param {string} also the same in another form
 * @param {Step[]} steps
 * @param {boolean} [named] whether each step says what it is: there are several
 */
function entry(key, value, also, steps, named = false) {
  const term = t(`layer.${key}`);
  return h('div', { class: 'entry', 'data-quantity': key },
    h('dt', null, term, help(term, t(`layer.help.${key}`))),
    h('dd', { class: 'value' }, value, also && also !== value.replaceAll('\u00a0', ' ') && also !== value ? h('span', { class: 'also' }, also) : null),
    h('dd', { class: 'formulas' }, steps.map((step) => formula(step, named))));
}

/**
 * @param {Step} step
 * @param {boolean} named
 */
function formula(step, named) {
  const result = typeof step.result === 'string' ? step.result : count(step.result);
  return h('div', { class: 'formula' },
    named && h('span', { class: 'quantity' }, `${step.quantity} `),
    step.values && h('span', { class: 'sum' },
      h('span', { class: 'symbols' }, pretty(step.symbols)), ' = ',
      h('span', { class: 'with-values' }, pretty(step.values)), ' = ', h('b', null, result)),
    step.note && h('span', { class: 'note' }, ` ${step.note}`));
}

/**
 * The comparison, in numbers and to a logarithmic scale.
 * @param {Report} report
 */
export function dense(report) {
  const weights = report.derivation.find((step) => step.quantity.startsWith('weights of a fully'));
  const times = report.derivation.find((step) => step.quantity.startsWith('times as many'));
  if (!weights || !times) return h('p', { class: 'muted' }, t('layer.dense.none'));
  const own = Number(report.layers[0]?.['params']);
  return h('div', { class: 'stack' },
    h('p', { class: 'claim' }, h('b', { class: 'big', 'data-quantity': 'dense-weights' }, count(/** @type {number} */ (weights.result))), ' ', t('layer.dense.weights'), ' ',
      h('span', { class: 'sum' }, pretty(`${weights.symbols} = ${weights.values}`)), '. ', h('span', { class: 'muted' }, `${weights.note.charAt(0).toUpperCase()}${weights.note.slice(1)}.`)),
    h('p', { class: 'claim' }, h('b', { class: 'big', 'data-quantity': 'dense-times' }, count(/** @type {number} */ (times.result))), ' ', t('layer.dense.times'), ' ',
      h('span', { class: 'sum' }, pretty(times.values)), '.'),
    bars(own, Number(weights.result)));
}

/**
 * @param {number} own
 * @param {number} weights
 */
function bars(own, weights) {
  const decades = Math.max(1, Math.ceil(Math.log10(Math.max(own, weights, 10))));
  /** @param {'conv' | 'dense'} name @param {number} value */
  const bar = (name, value) => h('div', { class: 'log-bar' },
    h('span', { class: 'log-name' }, t(`layer.dense.bar.${name}`)),
    h('span', { class: 'log-track', style: { '--decades': decades } },
      h('span', { class: `log-fill ${name}`, style: { width: `${(100 * Math.log10(Math.max(value, 1))) / decades}%` } })),
    h('span', { class: 'log-value' }, short(value)));
  return h('div', { class: 'log-bars' }, bar('conv', own), bar('dense', weights), h('p', { class: 'muted small' }, t('layer.dense.scale')));
}

/**
 * "k_h x C_in" with subscripts and the sign for times.
 * @param {string} text
 * @returns {(Node | string)[]}
 */
export function pretty(text) {
  return text.replaceAll(' x ', ' × ').replaceAll(' - ', ' − ').split(/(\b[A-Za-z]{1,3}_[a-z]{1,2}\b)/).map((part, index) => {
    if (index % 2 === 0) return part;
    const [name = '', below = ''] = part.split('_');
    return h('var', null, name, h('sub', null, below));
  });
}
