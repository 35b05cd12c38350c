/** A filter over a picture: choose or draw one, and see its feature map. */

import { ApiError, latest, post, postForBlob } from '../../core/api.js';
import { h, replace, unique } from '../../core/dom.js';
import { help } from '../../core/help.js';
import { csv, copy, download } from '../../core/save.js';
import { t } from '../../core/texts.js';
import { axesOf } from '../layer/geometry.js';
import { sizes } from '../layer/question.js';
import { makeEditor } from './editor.js';
import { KERNELS, readKernel, writeKernel } from './kernels.js';
import { makeMaps } from './maps.js';

/**
 * @typedef {import('../../core/texts.js').Key} Key
 * @typedef {{ name: string, url: string, base64: string }} Loaded  a picture from a file
 */

const START = { kernel: 'vertical', stride: '1', padding: 'same' };
const SAMPLE = new URL('sample.png', import.meta.url).href;
/** Bytes of a picture: as base64 in JSON it has to stay below the service's 32 MiB. */
const LARGEST = 24_000_000;

/**
 * @param {HTMLElement} root
 * @param {import('../../app.js').Context} context
 * @returns {import('../../app.js').View}
 */
export function mount(root, context) {
  /** @type {Record<string, string>} */
  let state = { ...START };
  /** The picture that was loaded; null for the bundled one. @type {Loaded | null} */
  let own = null;
  /** @type {Blob | null} */
  let answer = null;

  /** @param {Record<string, string>} change @param {boolean} entry */
  function changed(change, entry) {
    const { neuron: _, ...kept } = state;
    state = { ...kept, ...change };
    context.go(state, { replace: !entry });
    ask();
  }

  const editor = makeEditor((matrix, entry) => {
    changed({ kernel: writeKernel(matrix) }, entry);
    showKernelName();
  });
  const maps = makeMaps((neuron) => {
    state = { ...state, neuron: neuron.join(',') };
    context.go(state, { replace: true });
  });

  const bundled = h('button', { type: 'button', 'aria-pressed': 'true', onclick: () => { setOwn(null); ask(); } }, t('filters.bundled'));
  const file = h('input', { type: 'file', accept: 'image/*', hidden: true, 'aria-label': t('filters.load') });
  const loadButton = h('button', { type: 'button', onclick: () => file.click() }, t('filters.load'));
  const pictureNote = h('p', { class: 'muted small', hidden: true });
  const pictureError = h('p', { class: 'error', role: 'alert' });
  const kernelChoice = h('select', { id: unique('kernel') }, [...Object.keys(KERNELS), 'own'].map((name) => h('option', { value: name }, t(/** @type {Key} */ (`filters.kernel.${name}`)))));
  const stride = h('input', { type: 'text', inputmode: 'numeric', id: unique('stride'), autocomplete: 'off' });
  const strideError = h('div', { class: 'error', id: `${stride.id}-error` });
  const padding = h('select', { id: unique('padding') }, ['same', 'valid', 'custom'].map((name) => h('option', { value: name }, t(/** @type {Key} */ (`layer.padding.${name}`)))));
  const sides = h('input', { type: 'text', inputmode: 'numeric', id: unique('sides'), autocomplete: 'off' });
  const sidesField = h('div', { class: 'field', hidden: true }, h('label', { for: sides.id }, t('filters.sides')), sides);
  const paddingError = h('div', { class: 'error', id: `${padding.id}-error` });
  const kernelError = h('div', { class: 'error', role: 'alert' });
  const form = h('form', { class: 'panel filters-form stack', 'aria-label': t('filters.form'), onsubmit: (/** @type {Event} */ event) => event.preventDefault() },
    h('fieldset', { class: 'field' }, h('legend', null, t('filters.picture')), h('div', { class: 'row' }, bundled, loadButton, file), pictureNote, pictureError),
    h('div', { class: 'field' }, h('div', { class: 'label' }, h('label', { for: kernelChoice.id }, t('filters.kernel')), help(t('filters.kernel'), t('filters.help.kernel'))), kernelChoice, kernelError),
    editor.element,
    h('div', { class: 'fields' },
      h('div', { class: 'field' }, h('div', { class: 'label' }, h('label', { for: stride.id }, t('filters.stride')), help(t('filters.stride'), t('layer.help.stride'))), stride, strideError),
      h('div', { class: 'field' }, h('div', { class: 'label' }, h('label', { for: padding.id }, t('filters.padding')), help(t('filters.padding'), t('layer.help.padding'))), padding),
      sidesField, paddingError));

  const trouble = h('p', { class: 'problem', role: 'alert', hidden: true });
  const waiting = h('p', { class: 'muted' }, t('filters.waiting'));
  const asLayer = h('a', { class: 'button', href: '#/layer' }, t('filters.layer'));
  const command = h('code');
  const take = h('div', { class: 'stack', hidden: true },
    h('div', { class: 'row' },
      h('button', { type: 'button', onclick: () => answer && download('feature-map.png', 'image/png', answer) }, t('filters.save.map')),
      h('button', { type: 'button', onclick: () => download('filter.csv', 'text/csv', csv(readKernel(state['kernel'] ?? '')?.matrix ?? [])) }, t('filters.save.kernel')),
      asLayer),
    h('div', { class: 'row' }, h('span', { class: 'muted' }, t('filters.cli')),
      h('button', { type: 'button', onclick: async () => context.announce((await copy(command.textContent ?? '')) ? t('copy.done') : t('copy.failed')) }, t('layer.take.copy'))),
    h('pre', { class: 'scroll source', tabindex: '0', role: 'region', 'aria-label': t('filters.cli') }, command));
  const results = h('section', { class: 'panel stack filter-results', 'aria-busy': 'true' }, h('h2', null, t('filters.maps')), trouble, waiting, maps.element, take);
  maps.element.hidden = true;
  replace(root,
    h('div', { class: 'intro' }, h('h1', null, t('filters.title')), h('p', { class: 'muted' }, t('filters.lead'))),
    h('div', { class: 'layer' }, form, results));

  kernelChoice.addEventListener('change', () => {
    if (kernelChoice.value === 'own') return;
    editor.set(readKernel(kernelChoice.value)?.matrix ?? []);
    changed({ kernel: kernelChoice.value }, true);
  });
  /** Typing makes one entry of the history a field. */
  let entered = false;
  for (const [control, key] of /** @type {[HTMLInputElement, string][]} */ ([[stride, 'stride'], [sides, 'padding']])) {
    control.addEventListener('focus', () => { entered = false; });
    control.addEventListener('input', () => {
      changed({ [key]: control.value.trim() }, !entered);
      entered = true;
    });
    control.addEventListener('keydown', (event) => {
      const by = { ArrowUp: 1, ArrowDown: -1 }[event.key];
      if (!by || !/\d/.test(control.value)) return;
      event.preventDefault();
      control.value = control.value.replace(/\d+/g, (digits) => String(Math.max(key === 'stride' ? 1 : 0, Number(digits) + by)));
      control.dispatchEvent(new Event('input'));
    });
  }
  padding.addEventListener('change', () => {
    changed({ padding: padding.value === 'custom' ? '3' : padding.value }, true);
    showPadding();
  });
  file.addEventListener('change', () => void load(file.files?.[0]));
  results.addEventListener('dragover', (event) => event.preventDefault());
  results.addEventListener('drop', (event) => {
    event.preventDefault();
    void load(event.dataTransfer?.files[0]);
  });

  /** @param {File | undefined} picked */
  async function load(picked) {
    if (!picked) return;
    pictureError.textContent = picked.size > LARGEST ? t('filters.large') : '';
    if (picked.size > LARGEST) return;
    setOwn({ name: picked.name, url: URL.createObjectURL(picked), base64: base64(new Uint8Array(await picked.arrayBuffer())) });
    file.value = '';
    ask();
  }

  /** @param {Loaded | null} next */
  function setOwn(next) {
    if (own) URL.revokeObjectURL(own.url);
    own = next;
    pictureError.textContent = '';
    bundled.setAttribute('aria-pressed', String(!own));
    pictureNote.hidden = !own;
    pictureNote.textContent = own ? `${t('filters.own', { name: own.name })}. ${t('filters.own.note')}` : '';
  }

  function showPadding() {
    const named = state['padding'] === 'same' || state['padding'] === 'valid';
    padding.value = named ? state['padding'] ?? 'same' : 'custom';
    sidesField.hidden = named;
    if (!named && sides.value !== state['padding']) sides.value = state['padding'] ?? '';
  }

  function showKernelName() {
    kernelChoice.value = readKernel(state['kernel'] ?? '')?.name ?? 'own';
  }

  /** @returns {{ kernel: number[][], stride: number | number[], padding: string | number | number[] } | null} */
  function read() {
    const kernel = readKernel(state['kernel'] ?? '');
    const steps = sizes(state['stride'] ?? '');
    const text = state['padding'] ?? '';
    const numbers = text.split(',').map((part) => (/^\d{1,4}$/.test(part.trim()) ? Number(part) : NaN));
    const zeros = text === 'same' || text === 'valid' ? text
      : numbers.some(Number.isNaN) ? null : numbers.length === 1 ? numbers[0] ?? 0 : numbers.length === 4 ? numbers : null;
    mark(stride, strideError, steps && steps.length <= 2 ? '' : t('layer.error.axes', { rank: 2, example: '2x1' }));
    mark(sides, paddingError, zeros === null ? t('layer.error.sides', { sides: 4 }) : '');
    kernelError.textContent = kernel ? '' : t('filters.error.weights');
    if (!kernel || !steps || steps.length > 2 || zeros === null) return null;
    return { kernel: kernel.matrix, stride: steps.length === 1 ? steps[0] ?? 1 : steps, padding: zeros };
  }

  /** @param {boolean} is */
  function dim(is) {
    results.classList.toggle('stale', is);
    results.setAttribute('aria-busy', String(is));
  }

  function ask() {
    const question = read();
    dim(true);
    trouble.hidden = true;
    if (question) request(question);
    else request.cancel();
  }

  const request = latest(async (signal, /** @type {NonNullable<ReturnType<typeof read>>} */ question) => {
    const source = own ? { image: own.base64 } : { sample: 'bundled' };
    try {
      const [picture, map] = await Promise.all([measured(own?.url ?? SAMPLE), postForBlob('/v1/filter', { ...source, ...question }, { signal })]);
      /** @type {import('../layer/geometry.js').Axis[] | null} */
      let axes = null;
      if (picture.width) {
        const layer = { ...question, input: [picture.height, picture.width, 3], filters: 1, kernel: [question.kernel.length, question.kernel[0]?.length ?? 1], bias: false };
        const report = await post('/v1/conv', layer, { signal });
        axes = axesOf({ ...layer, dilation: 1, groups: 1, depthwise: false, transposed: false, layout: 'nhwc', batch: 1, dtype: 'float32' }, report.layers[0]);
      }
      answer = map;
      waiting.hidden = true;
      maps.element.hidden = false;
      take.hidden = false;
      await maps.update(picture, map, axes, neuronOf(state['neuron']));
      showTake(picture, question);
      dim(false);
    } catch (error) {
      if (!(error instanceof ApiError) || error.passing) throw error;
      trouble.textContent = error.message;
      trouble.hidden = false;
    }
  }, 40);

  /** @param {import('./maps.js').Picture} picture @param {{ kernel: number[][] }} question */
  function showTake(picture, question) {
    const size = `${question.kernel.length}x${question.kernel[0]?.length ?? 1}`;
    asLayer.href = `#/layer?${new URLSearchParams({ input: `${picture.height}x${picture.width}x3`, filters: '1', kernel: size, stride: state['stride'] ?? '1', padding: state['padding'] ?? 'same', bias: 'false' })}`.replaceAll('%2C', ',');
    asLayer.hidden = !picture.width;
    const name = readKernel(state['kernel'] ?? '')?.name;
    command.textContent = `convcalc filter ${own ? own.name : '--sample bundled'} --kernel ${name === 'own' ? 'filter.csv' : name} --stride ${state['stride']} --padding ${state['padding']} --output feature-map.png`;
  }

  return {
    show(next) {
      const given = Object.entries(next).filter(([key, value]) => (key in START || key === 'neuron') && typeof value === 'string');
      state = { ...START, ...Object.fromEntries(given) };
      editor.set(readKernel(state['kernel'] ?? '')?.matrix ?? [[0]]);
      showKernelName();
      showPadding();
      if (stride.value !== state['stride']) stride.value = state['stride'] ?? '';
      ask();
    },
    unmount() {
      request.cancel();
      editor.unmount();
      maps.unmount();
      setOwn(null);
    },
  };
}

/** @param {HTMLElement} control @param {HTMLElement} place @param {string} text */
function mark(control, place, text) {
  place.textContent = text;
  control.toggleAttribute('aria-invalid', false);
  if (text) {
    control.setAttribute('aria-invalid', 'true');
    control.setAttribute('aria-describedby', place.id);
  }
}

/**
 * @param {string} url
 * @returns {Promise<import('./maps.js').Picture>}
 */
async function measured(url) {
  const image = new Image();
  image.src = url;
  try {
    await image.decode();
    return { url, width: image.naturalWidth, height: image.naturalHeight };
  } catch {
    return { url, width: 0, height: 0 };
  }
}

/** @param {Uint8Array} bytes */
function base64(bytes) {
  let text = '';
  for (let at = 0; at < bytes.length; at += 0x8000) text += String.fromCharCode(...bytes.subarray(at, at + 0x8000));
  return btoa(text);
}

/** @param {string | undefined} text @returns {number[] | null} */
function neuronOf(text) {
  return text && /^\d+,\d+$/.test(text) ? text.split(',').map(Number) : null;
}
