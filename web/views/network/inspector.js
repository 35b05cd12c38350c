/** What one layer is made of, to be changed; and the network's inputs. What was typed stays as it was typed. */

import { h, replace, unique } from '../../core/dom.js';
import { t } from '../../core/texts.js';
import { attributesOf, inputsOf, kindOf, layersOf, OPERATORS, setAttribute, setInput, setKind, setSources, textOf, valueOf } from './spec.js';

/**
 * @typedef {import('./spec.js').Spec} Spec
 * @typedef {{ change: (spec: Spec, typing: boolean) => void, act: (what: 'up' | 'down' | 'duplicate' | 'remove' | 'add', kind?: string) => void }} Actions
 */

/** What holds where nothing is given; a pool's stride is its kernel's size. */
const DEFAULTS = /** @type {Record<string, string>} */ ({ stride: '1', padding: 'valid', dilation: '1', groups: '1', bias: 'true', multiplier: '1', axis: '-1' });

/**
 * @param {Actions} actions
 */
export function makeInspector(actions) {
  /** @type {Spec} */
  let spec = { layers: [] };
  /** @type {string | null} */
  let chosen = null;
  let key = '';
  let typed = false;
  /** @type {{ input: HTMLInputElement, now: () => string }[]} */
  let fields = [];

  const inputsBox = h('div', { class: 'fields' });
  const head = h('h3', null);
  const wrong = h('p', { class: 'problem', role: 'alert', hidden: true });
  const body = h('div', { class: 'stack' });
  const kinds = h('select', { 'aria-label': t('network.add.which') }, Object.keys(OPERATORS).map((kind) => h('option', { value: kind }, kind)));
  /** @param {'up' | 'down' | 'duplicate' | 'remove'} what */
  const button = (what) => h('button', { type: 'button', onclick: () => actions.act(what) }, t(`network.act.${what}`));
  const buttons = /** @type {const} */ (['up', 'down', 'duplicate', 'remove']).map((what) => button(what));
  const add = h('button', { type: 'button', class: 'primary', onclick: () => actions.act('add', kinds.value) }, t('network.add'));

  /**
   * @param {string} label
   * @param {() => string} now
   * @param {(text: string) => void} changed
   * @param {string} [placeholder]
   */
  function field(label, now, changed, placeholder = '') {
    const id = unique('field');
    const input = h('input', { id, type: 'text', autocomplete: 'off', spellcheck: 'false', value: now(), 'data-field': label, placeholder });
    input.addEventListener('focus', () => { typed = false; });
    input.addEventListener('input', () => {
      changed(input.value);
      typed = true;
    });
    input.addEventListener('keydown', (event) => {
      const by = { ArrowUp: 1, ArrowDown: -1 }[event.key];
      if (!by || !/^\d+(x\d+)*$/.test(input.value)) return;
      event.preventDefault();
      input.value = input.value.replace(/\d+/g, (digits) => String(Math.max(1, Number(digits) + by)));
      changed(input.value);
      typed = true;
    });
    fields.push({ input, now });
    return h('div', { class: 'field' }, h('label', { for: id }, label), input);
  }

  /** @param {number} index of the entry */
  function entryFields(index) {
    const kind = kindOf(spec.layers[index] ?? {});
    const known = kind in OPERATORS ? Object.keys(OPERATORS) : [kind, ...Object.keys(OPERATORS)];
    const select = h('select', { 'aria-label': t('network.operator') }, known.map((each) => h('option', { value: each, selected: each === kind }, each)));
    select.addEventListener('change', () => actions.change(setKind(spec, index, select.value), false));
    return h('fieldset', { class: 'entry-fields' },
      h('legend', { class: 'offscreen' }, kind),
      h('div', { class: 'field wide' }, select),
      Object.keys(attributesOf(spec.layers[index] ?? {})).map((attribute) => field(attribute,
        () => textOf(attributesOf(spec.layers[index] ?? {})[attribute]),
        (text) => actions.change(setAttribute(spec, index, attribute, valueOf(text)), typed),
        attribute === 'stride' && /pool/.test(kind) ? '' : DEFAULTS[attribute])),
      field(t('network.reads'),
        () => [spec.layers[index]?.['from'] ?? []].flat().join(', '),
        (text) => actions.change(setSources(spec, index, text.split(',').map((each) => each.trim()).filter(Boolean)), typed)));
  }

  function build() {
    fields = [];
    replace(inputsBox, Object.keys(inputsOf(spec)).map((name) => field(t('network.input.named', { name }),
      () => {
        const value = inputsOf(spec)[name];
        return Array.isArray(value) ? textOf(value) : textOf(value?.shape);
      },
      (text) => {
        const value = valueOf(text);
        actions.change(setInput(spec, name, /** @type {any} */ (Array.isArray(value) ? value : typeof value === 'number' ? [value] : text)), typed);
      })));
    const layers = layersOf(spec);
    const place = layers.findIndex((layer) => layer.name === chosen);
    const layer = layers[place];
    head.textContent = layer ? layer.name : t('network.none');
    for (const each of buttons) each.disabled = !layer;
    if (buttons[0]) buttons[0].disabled = place <= 0;
    if (buttons[1]) buttons[1].disabled = !layer || place === layers.length - 1;
    if (buttons[3]) buttons[3].disabled = !layer || layers.length === 1;
    replace(body, layer
      ? Array.from({ length: layer.last - layer.first + 1 }, (_, at) => entryFields(layer.first + at))
      : h('p', { class: 'muted small' }, t('network.none.hint')));
  }

  return {
    element: h('section', { class: 'panel inspector' }, h('h2', null, t('network.edit')), h('div', { class: 'stack' },
      inputsBox, head, wrong, body,
      h('div', { class: 'row acts' }, buttons),
      h('div', { class: 'row acts' }, kinds, add))),
    /** @param {Spec} next @param {string | null} layer @param {string} problem */
    update(next, layer, problem) {
      spec = next;
      chosen = layer;
      const layers = layersOf(spec);
      const place = layers.findIndex((each) => each.name === layer);
      const found = layers[place];
      const now = JSON.stringify([Object.keys(inputsOf(spec)), layer, place, layers.length,
        found ? spec.layers.slice(found.first, found.last + 1).map((entry) => [kindOf(entry), Object.keys(attributesOf(entry))]) : null]);
      if (now !== key) {
        key = now;
        build();
      } else {
        for (const { input, now: value } of fields) if (input !== document.activeElement && input.value !== value()) input.value = value();
      }
      wrong.hidden = !problem;
      if (wrong.textContent !== problem) wrong.textContent = problem;
    },
  };
}
