/**
 * The form of one layer. What was typed stays as it was typed, right or wrong.
 *
 * @typedef {import('./question.js').LayerState} LayerState
 * @typedef {import('./question.js').Errors} Errors
 * @typedef {import('../../core/texts.js').Key} Key
 */

import { h, replace, unique } from '../../core/dom.js';
import { help } from '../../core/help.js';
import { t } from '../../core/texts.js';
import { BOOK, complete, DTYPES, PADDINGS, sizes } from './question.js';

const SIZES = { 1: ['length', 'channels'], 2: ['height', 'width', 'channels'], 3: ['depth', 'height', 'width', 'channels'] };

/** @type {Record<string, LayerState>} */
const EXAMPLES = {
  book: {},
  small: { input: '7x9x1', filters: '4', kernel: '3', stride: '2' },
  uneven: { input: '8x12x1', filters: '1', kernel: '4', stride: '1' },
  ignored: { input: '9x12x3', filters: '8', kernel: '4', stride: '3', padding: 'valid' },
  dilated: { input: '14x18x8', filters: '8', kernel: '3', dilation: '2' },
  resnet: { input: '224x224x3', filters: '64', kernel: '7', stride: '2', padding: '3' },
  depthwise: { input: '112x112x64', filters: '64', kernel: '3', depthwise: 'true', bias: 'false' },
  transposed: { input: '6x8x16', filters: '8', kernel: '3', stride: '2', transposed: 'true' },
  causal: { input: '160x16', filters: '32', kernel: '3', dilation: '8', padding: 'causal' },
  video: { input: '16x28x28x3', filters: '32', kernel: '3' },
};

/**
 * @param {(state: LayerState, entry: boolean) => void} changed `entry`: this is a new entry of the history
 */
export function makeForm(changed) {
  /** @type {LayerState} */
  let state = { ...BOOK };
  /** Whether the field that is being typed in has made its entry. */
  let entered = false;

  /** @type {Record<string, { control: HTMLElement, error: HTMLElement }>} */
  const places = {};
  const whole = h('p', { class: 'problem', role: 'alert', hidden: true });

  /** @param {string} key @param {string} value @param {boolean} typing */
  function change(key, value, typing) {
    if (state[key] === value) return;
    state = { ...state, [key]: value };
    delete state['neuron'];
    example.value = exampleOf(state);
    changed(state, !typing || !entered);
    entered = typing;
  }

  /**
   * @param {string} key
   * @param {Key} label
   * @param {HTMLElement} control
   * @param {string} [help_]
   */
  function field(key, label, control, help_) {
    const id = unique(key);
    control.id = id;
    const error = h('div', { class: 'error', id: `${id}-error` });
    places[key] = { control, error };
    return h('div', { class: `field field-${key}` },
      h('div', { class: 'label' }, h('label', { for: id }, t(label)), help_ ? help(t(label), help_) : null), control, error);
  }

  /**
   * A text field for whole numbers; the arrow keys count up and down.
   * @param {(text: string) => void} typed
   * @param {number} least
   */
  function numeric(typed, least = 1) {
    const input = h('input', { type: 'text', inputmode: 'numeric', autocomplete: 'off', spellcheck: 'false' });
    input.addEventListener('focus', () => { entered = false; });
    input.addEventListener('input', () => typed(input.value));
    input.addEventListener('keydown', (event) => {
      const by = { ArrowUp: 1, ArrowDown: -1 }[event.key];
      if (!by || !/\d/.test(input.value)) return;
      event.preventDefault();
      input.value = input.value.replace(/\d+/g, (digits) => String(Math.max(least, Number(digits) + by)));
      typed(input.value);
    });
    return input;
  }

  /**
   * @param {string} key
   * @param {Key} label
   */
  function number(key, label) {
    return field(key, label, numeric((text) => change(key, text, true)), t(/** @type {Key} */ (`layer.help.${key}`)));
  }

  /**
   * @param {string[]} values
   * @param {(value: string) => string} name
   * @param {(value: string) => void} chosen
   */
  function choice(values, name, chosen) {
    const select = h('select', null, values.map((value) => h('option', { value }, name(value))));
    select.addEventListener('change', () => chosen(select.value));
    return select;
  }

  /** @param {'depthwise' | 'transposed' | 'bias'} key */
  function toggle(key) {
    const id = unique(key);
    const box = h('input', { type: 'checkbox', id, onchange: () => change(key, String(box.checked), false) });
    const error = h('div', { class: 'error', id: `${id}-error` });
    places[key] = { control: box, error };
    return h('div', { class: 'field' }, h('div', { class: 'check' }, box, h('label', { for: id }, t(`layer.${key}`)), help(t(`layer.${key}`), t(`layer.help.${key}`))), error);
  }

  const rankName = unique('rank');
  const ranks = h('div', { class: 'segments' }, ['1', '2', '3'].map((rank) => h('label', null,
    h('input', { type: 'radio', name: rankName, value: rank, onchange: () => rerank(Number(rank)) }),
    t(/** @type {Key} */ (`layer.dimensions.${rank}`)))));
  const sizeRow = h('div', { class: 'sizes' });
  const sizeError = h('div', { class: 'error', id: unique('input-error') });
  const sizeGroup = h('fieldset', { class: 'field field-input' },
    h('legend', null, h('span', { class: 'label' }, t('layer.input'), help(t('layer.input'), t('layer.help.input')))), sizeRow, sizeError);
  /** @type {HTMLInputElement[]} */
  let sizeFields = [];

  const filters = number('filters', 'layer.filters');
  const kernel = number('kernel', 'layer.kernel');
  const stride = number('stride', 'layer.stride');
  const dilation = number('dilation', 'layer.dilation');
  const paddingChoice = choice([...PADDINGS, 'custom'], (name) => t(/** @type {Key} */ (`layer.padding.${name}`)),
    (name) => change('padding', name === 'custom' ? '1' : name, false));
  const padding = field('padding', 'layer.padding', paddingChoice, t('layer.help.padding'));
  const sides = numeric((text) => change('padding', text, true), 0);
  const sidesHint = h('span', { class: 'muted small', id: unique('hint') });
  sides.id = unique('sides');
  const custom = h('div', { class: 'field field-sides' }, h('label', { for: sides.id }, t('layer.sides')), sides, sidesHint);
  const layout = field('layout', 'layer.layout', choice(['nhwc', 'nchw'], (name) => t(/** @type {Key} */ (`layer.layout.${name}`)), (name) => change('layout', name, false)), t('layer.help.layout'));
  const dtype = field('dtype', 'layer.dtype', choice(DTYPES, (name) => name, (name) => change('dtype', name, false)), t('layer.help.dtype'));
  const example = choice(['', ...Object.keys(EXAMPLES)], (name) => t(/** @type {Key} */ (name ? `layer.example.${name}` : 'layer.examples.choose')), (name) => {
    if (!name) return;
    set(complete(EXAMPLES[name] ?? {}));
    changed(state, true);
  });

  const toggles = /** @type {const} */ (['bias', 'depthwise', 'transposed']);
  const more = h('details', { open: matchMedia('(min-width: 46rem)').matches }, h('summary', null, t('layer.more')),
    h('div', { class: 'fields' }, number('groups', 'layer.groups'), number('batch', 'layer.batch'), dtype, layout, h('div', { class: 'toggles' }, toggles.map(toggle))));

  const element = h('form', { class: 'panel layer-form', 'aria-label': t('layer.form'), onsubmit: (/** @type {Event} */ event) => event.preventDefault() },
    h('div', { class: 'fields' },
      field('example', 'layer.examples', example),
      h('fieldset', { class: 'field' }, h('legend', null, t('layer.dimensions')), ranks),
      sizeGroup, filters, kernel, stride, dilation, padding, custom, more),
    whole);

  /** @param {number} rank */
  function rerank(rank) {
    const old = (state['input'] ?? '').split('x');
    const channels = old.pop() ?? '3';
    const kept = old.slice(-rank);
    while (kept.length < rank) kept.unshift(rank === 3 ? '16' : kept[0] ?? '100');
    /** @type {LayerState} */
    const next = { ...state, input: [...kept, channels].join('x') };
    for (const key of ['kernel', 'stride', 'dilation']) next[key] = (state[key] ?? '').split(/[x×,]/)[0] ?? '1';
    if (/,/.test(next['padding'] ?? '')) next['padding'] = next['padding']?.split(',')[0] ?? '0';
    delete next['neuron'];
    set(next);
    changed(state, true);
  }

  /** The fields for the sizes, anew only when their number changes. @param {string} input */
  function showSizes(input) {
    const found = sizes(input)?.map(String) ?? input.split('x');
    const rank = /** @type {1 | 2 | 3} */ (Math.max(1, Math.min(found.length - 1, 3)));
    const names = SIZES[rank];
    if (sizeFields.length !== names.length) {
      sizeFields = names.map(() => numeric(() => change('input', sizeFields.map((one) => one.value.trim()).join('x'), true)));
      replace(sizeRow, names.map((name, at) => {
        const control = /** @type {HTMLInputElement} */ (sizeFields[at]);
        control.id = unique(name);
        control.setAttribute('aria-describedby', sizeError.id);
        return h('div', { class: 'size' }, control, h('label', { for: control.id }, t(/** @type {Key} */ (`layer.${name}`))));
      }));
    }
    sizeFields.forEach((control, at) => put(control, found[at] ?? ''));
    for (const radio of ranks.querySelectorAll('input')) radio.checked = Number(radio.value) === rank;
    sidesHint.textContent = t(/** @type {Key} */ (`layer.sides.hint.${rank}`));
  }

  /** @param {LayerState} next */
  function set(next) {
    state = { ...next };
    showSizes(state['input'] ?? '');
    for (const key of ['filters', 'kernel', 'stride', 'dilation', 'groups', 'batch', 'dtype', 'layout']) {
      put(/** @type {HTMLInputElement} */ (places[key]?.control), state[key] ?? '');
    }
    for (const key of ['depthwise', 'transposed', 'bias']) {
      /** @type {HTMLInputElement} */ (places[key]?.control).checked = state[key] === 'true';
    }
    example.value = exampleOf(state);
    if (['groups', 'batch', 'dtype', 'layout', ...toggles].some((key) => state[key] !== BOOK[key])) more.open = true;
    showPadding();
  }

  function showPadding() {
    const value = state['padding'] ?? '';
    const named = PADDINGS.some((name) => name === value);
    paddingChoice.value = named ? value : 'custom';
    custom.hidden = named;
    if (!named) put(sides, value);
  }
  paddingChoice.addEventListener('change', showPadding);

  /** @param {Errors} errors */
  function showErrors(errors) {
    for (const [key, { control, error }] of Object.entries(places)) {
      mark(key === 'padding' && !custom.hidden ? sides : control, error, errors[key]);
    }
    for (const control of sizeFields) mark(control, sizeError, errors['input']);
    whole.textContent = errors[''] ?? '';
    whole.hidden = !errors[''];
  }

  set(state);
  return { element, set, showErrors };
}

/** The example that this is, or ''. @param {LayerState} state */
function exampleOf(state) {
  return Object.keys(EXAMPLES).find((name) => Object.entries(complete(EXAMPLES[name] ?? {})).every(([key, value]) => state[key] === value)) ?? '';
}

/**
 * @param {HTMLElement} control
 * @param {HTMLElement} place
 * @param {string | undefined} text
 */
function mark(control, place, text) {
  if (place.textContent !== (text ?? '')) place.textContent = text ?? '';
  if (text) {
    control.setAttribute('aria-invalid', 'true');
    control.setAttribute('aria-describedby', place.id);
  } else {
    control.removeAttribute('aria-invalid');
  }
}

/** Without moving the caret of who is typing. @param {HTMLInputElement | HTMLSelectElement} control @param {string} text */
function put(control, text) {
  if (control.value !== text) control.value = text;
}
