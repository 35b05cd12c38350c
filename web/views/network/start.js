/** Where a network comes from: the zoo, pasted code, a file, or nothing. */

import { ApiError, get, upload } from '../../core/api.js';
import { h, replace, unique } from '../../core/dom.js';
import { short } from '../../core/format.js';
import { t } from '../../core/texts.js';
import { empty, normal } from './spec.js';

/** @typedef {import('./spec.js').Spec} Spec */

/** @type {Promise<Record<string, { title: string, params: number, macs: number }>> | undefined} */
let zoo;
/** @type {Map<string, Promise<Spec>>} */
const specs = new Map();

/** @param {string} name @returns {Promise<Spec>} */
export function zooSpec(name) {
  let found = specs.get(name);
  if (!found) {
    found = get(`/v1/zoo/${encodeURIComponent(name)}`).then(normal);
    specs.set(name, found);
    found.catch(() => specs.delete(name));
  }
  return found;
}

/**
 * @param {{ zoo: (name: string) => void, own: (spec: Spec) => void }} chosen
 */
export function makeStart(chosen) {
  const id = unique('zoo');
  const own = h('option', { value: '' }, t('network.own'));
  const select = h('select', { id });
  select.addEventListener('change', () => {
    if (select.value) chosen.zoo(select.value);
  });
  const error = h('p', { class: 'problem', role: 'alert', hidden: true });
  const code = h('textarea', { id: unique('code'), rows: '9', spellcheck: 'false', autocomplete: 'off', placeholder: t('network.paste.example') });
  const size = h('input', { id: unique('size'), type: 'text', autocomplete: 'off', value: '224x224x3' });
  const read = h('button', { type: 'button', class: 'primary' }, t('network.paste.read'));
  const paste = h('div', { class: 'stack paste', hidden: true },
    h('div', { class: 'field' }, h('label', { for: code.id }, t('network.paste.code')), code),
    h('div', { class: 'field' }, h('label', { for: size.id }, t('network.paste.size')), size),
    h('div', { class: 'row' }, read, h('span', { class: 'muted small' }, t('network.paste.never'))));
  const opener = h('button', { type: 'button', 'aria-expanded': 'false' }, t('network.paste'));
  opener.addEventListener('click', () => {
    paste.hidden = !paste.hidden;
    opener.setAttribute('aria-expanded', String(!paste.hidden));
    if (!paste.hidden) code.focus();
  });
  const file = h('input', { type: 'file', class: 'offscreen', tabindex: '-1', 'aria-label': t('network.upload.which'), accept: '.keras,.h5,.hdf5,.onnx,.json,.yaml,.yml,.py' });
  const pick = h('button', { type: 'button', onclick: () => file.click() }, t('network.upload'));
  const fresh = h('button', { type: 'button', onclick: () => chosen.own(empty()) }, t('network.empty'));

  /** @param {string} text */
  function say(text) {
    error.hidden = !text;
    error.textContent = text;
  }

  /** @param {() => Promise<any>} work */
  async function take(work) {
    say('');
    element.setAttribute('aria-busy', 'true');
    try {
      chosen.own(normal(await work()));
      paste.hidden = true;
      opener.setAttribute('aria-expanded', 'false');
    } catch (problem) {
      if (!(problem instanceof ApiError)) throw problem;
      say(problem.message);
    } finally {
      element.removeAttribute('aria-busy');
    }
  }
  read.addEventListener('click', () => {
    const sizes = size.value.trim().toLowerCase().replaceAll('×', 'x').replaceAll(' ', '');
    void take(() => upload(`/v1/read${sizes ? `?input=${encodeURIComponent(sizes)}` : ''}`, code.value, 'text/x-python'));
  });
  /** @param {File} given */
  function open(given) {
    const source = /\.py$/i.test(given.name);
    const sizes = source && size.value.trim() ? `?input=${encodeURIComponent(size.value.trim())}` : '';
    void take(() => upload(`/v1/read${sizes}`, given, source ? 'text/x-python' : 'application/octet-stream'));
  }
  file.addEventListener('change', () => {
    const given = file.files?.[0];
    if (given) open(given);
    file.value = '';
  });

  const element = h('section', { class: 'panel start' }, h('h2', null, t('network.start')), h('div', { class: 'stack' },
    h('div', { class: 'field' }, h('label', { for: id }, t('network.zoo')), select),
    h('div', { class: 'row' }, opener, pick, fresh, file), paste, error));
  element.addEventListener('dragover', (event) => event.preventDefault());
  element.addEventListener('drop', (event) => {
    event.preventDefault();
    const given = event.dataTransfer?.files[0];
    if (given) open(given);
  });

  let now = '';
  replace(select, own);
  zoo ??= get('/v1/zoo');
  zoo.then((found) => {
    replace(select, own, Object.entries(found).map(([name, entry]) => h('option', { value: name }, `${entry.title} (${t('network.zoo.params', { params: short(entry.params) })})`)));
    select.value = now;
  }).catch(() => {
    zoo = undefined;
  });

  return {
    element,
    /** @param {string} name '' for a network of one's own */
    show(name) {
      now = name;
      own.hidden = name !== '';
      if (name && ![...select.options].some((option) => option.value === name)) select.append(h('option', { value: name }, name));
      select.value = name;
    },
    say,
  };
}
