/**
 * What was typed, as a question to the service. The state has the names and the spelling of the command line's options;
 * what is left out of it is as in the book's layer.
 *
 * @typedef {Record<string, string>} LayerState
 * @typedef {object} Question  the body of POST /v1/conv
 * @property {number[]} input
 * @property {number} [filters]
 * @property {number | number[]} kernel
 * @property {number | number[]} stride
 * @property {number | number[]} dilation
 * @property {string | number | number[]} padding
 * @property {number} groups
 * @property {boolean} depthwise
 * @property {boolean} transposed
 * @property {boolean} bias
 * @property {string} layout
 * @property {number} batch
 * @property {string} dtype
 * @typedef {Record<string, string>} Errors  a sentence for each field that is wrong; '' is for the whole form
 */

import { t } from '../../core/texts.js';

/** @type {LayerState} */
export const BOOK = {
  input: '150x100x3',
  filters: '200',
  kernel: '5',
  stride: '1',
  padding: 'same',
  dilation: '1',
  groups: '1',
  depthwise: 'false',
  transposed: 'false',
  bias: 'true',
  layout: 'nhwc',
  batch: '1',
  dtype: 'float32',
};

/** Said in every link: a layer is known by these. */
const ALWAYS = ['input', 'filters', 'kernel', 'stride', 'padding'];
export const PADDINGS = /** @type {const} */ (['same', 'valid', 'causal', 'same_lower']);
export const DTYPES = ['float32', 'float16', 'bfloat16', 'float64', 'mixed_float16', 'mixed_bfloat16'];

/**
 * Without what goes without saying.
 * @param {LayerState} state
 * @returns {LayerState}
 */
export function minimal(state) {
  return Object.fromEntries(Object.entries(state).filter(([key, value]) => ALWAYS.includes(key) || value !== BOOK[key]));
}

/**
 * With what goes without saying.
 * @param {Record<string, any>} state
 * @returns {LayerState}
 */
export function complete(state) {
  const given = Object.entries(state).filter(([key, value]) => (key in BOOK || key === 'neuron') && typeof value === 'string');
  return { ...BOOK, ...Object.fromEntries(given) };
}

/**
 * The numbers of "150x100x3"; commas and the sign for times are understood as well.
 * @param {string} text
 * @returns {number[] | null} null if it is anything else
 */
export function sizes(text) {
  const parts = text.trim().split(/\s*[x×,*]\s*|\s+/i);
  const found = parts.map((part) => (/^\d{1,15}$/.test(part) ? Number(part) : NaN));
  return found.every((size) => size >= 1) ? found : null;
}

/**
 * @param {LayerState} state
 * @returns {{ question: Question | null, errors: Errors }}
 */
export function read(state) {
  /** @type {Errors} */
  const errors = {};
  /** @param {string} key */
  const text = (key) => state[key] ?? '';
  const input = sizes(text('input'));
  const rank = (input?.length ?? text('input').split('x').length) - 1;
  if (!input || rank < 1 || rank > 3) errors['input'] = t('layer.error.sizes');
  /** @param {string} key */
  const one = (key) => {
    const found = sizes(text(key));
    if (found?.length === 1 && found[0]) return found[0];
    errors[key] = t('layer.error.one');
    return 1;
  };
  /** @param {string} key */
  const axes = (key) => {
    const found = sizes(text(key));
    if (found && (found.length === 1 || found.length === rank)) return found.length === 1 ? found[0] ?? 1 : found;
    const example = ['5x3', '5x3', '3x5x5'][rank - 1] ?? '5x3';
    errors[key] = rank === 1 ? t('layer.error.one') : t('layer.error.axes', { rank, example });
    return 1;
  };
  const depthwise = text('depthwise') === 'true';
  const filters = depthwise && text('filters').trim() === '' ? {} : { filters: one('filters') };
  const question = {
    input: input ?? [],
    ...filters,
    kernel: axes('kernel'),
    stride: axes('stride'),
    dilation: axes('dilation'),
    padding: padding(text('padding'), rank, errors),
    groups: one('groups'),
    depthwise,
    transposed: text('transposed') === 'true',
    bias: text('bias') !== 'false',
    layout: text('layout'),
    batch: one('batch'),
    dtype: text('dtype'),
  };
  return { question: Object.keys(errors).length ? null : question, errors };
}

/**
 * @param {string} text
 * @param {number} rank
 * @param {Errors} errors
 * @returns {Question['padding']}
 */
function padding(text, rank, errors) {
  const name = PADDINGS.find((known) => known === text);
  if (name) return name;
  const parts = text.trim().split(/\s*,\s*/);
  const found = parts.map((part) => (/^\d{1,15}$/.test(part) ? Number(part) : NaN));
  if (found.every((side) => side >= 0) && (found.length === 1 || found.length === 2 * rank)) {
    return found.length === 1 ? found[0] ?? 0 : found;
  }
  errors['padding'] = t('layer.error.sides', { sides: 2 * rank });
  return 0;
}

/**
 * To which field a refusal belongs, as far as it says so.
 * @param {import('../../core/api.js').ApiError} error
 * @returns {Errors}
 */
export function refused(error) {
  /** @type {Errors} */
  const found = {};
  for (const { pointer, detail } of error.errors) {
    const key = /^#\/(\w+)/.exec(pointer)?.[1] ?? '';
    found[key in BOOK ? key : ''] ??= `${detail}.`;
  }
  if (Object.keys(found).length) return found;
  const detail = error.message.replace(/^'conv' \(\w+\) on [\dx]+: /, '').replaceAll('--', '');
  const sentence = `${detail.charAt(0).toUpperCase()}${detail.slice(1)}${/[.?!]$/.test(detail) ? '' : '.'}`;
  const key = ['depthwise', 'groups', 'kernel', 'filters', 'padding', 'stride', 'dilation', 'dtype', 'batch'].find((word) => detail.includes(word));
  return { [key ?? '']: sentence };
}
