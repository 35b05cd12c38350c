/** One convolution: the form, the numbers with their formulas, the picture, and what one takes along. */

import { ApiError, latest, post } from '../../core/api.js';
import { h, replace } from '../../core/dom.js';
import { t } from '../../core/texts.js';
import { makeForm } from './form.js';
import { axesOf } from './geometry.js';
import { dense, numbers } from './numbers.js';
import { makePicture } from './picture.js';
import { complete, minimal, read, refused } from './question.js';
import { makeTake } from './take.js';

/**
 * @param {HTMLElement} root
 * @param {import('../../app.js').Context} context
 * @returns {import('../../app.js').View}
 */
export function mount(root, context) {
  let state = complete({});

  const form = makeForm((next, entry) => {
    state = next;
    context.go(minimal(state), { replace: !entry });
    ask();
  });
  const picture = makePicture({
    select(neuron) {
      state = { ...state, neuron: neuron.join(',') };
      context.go(minimal(state), { replace: true });
    },
  });
  const take = makeTake(picture.svg, context);
  const figures = h('div', null, h('p', { class: 'muted' }, t('layer.waiting')));
  const comparison = h('div', null);
  const stale = h('p', { class: 'small stale-note', hidden: true }, t('layer.stale'));
  const results = h('div', { class: 'stack results', 'aria-busy': 'true' },
    h('section', { class: 'panel' }, h('h2', null, t('layer.numbers')), stale, figures, h('p', { class: 'muted small symbols-note' }, t('layer.symbols'))),
    h('section', { class: 'panel picture-panel', hidden: true }, h('h2', null, t('layer.picture')), picture.element),
    h('section', { class: 'panel dense-panel', hidden: true }, h('h2', null, t('layer.dense')), comparison),
    take.element);
  replace(root,
    h('div', { class: 'intro' }, h('h1', null, t('layer.title')), h('p', { class: 'muted' }, t('layer.lead'))),
    h('div', { class: 'layer' }, form.element, results));

  /** @param {boolean} is @param {boolean} [wrong] */
  function dim(is, wrong = false) {
    results.classList.toggle('stale', is);
    results.setAttribute('aria-busy', String(is && !wrong));
    stale.hidden = !wrong || take.empty();
  }

  function ask() {
    const { question, errors } = read(state);
    form.showErrors(errors);
    if (question) {
      dim(true);
      request(question);
    } else {
      request.cancel();
      dim(true, true);
    }
  }

  const request = latest(async (signal, /** @type {import('./question.js').Question} */ question) => {
    let report;
    try {
      report = await post('/v1/conv', { ...question, explain: true }, { signal, exact: true });
    } catch (error) {
      if (!(error instanceof ApiError) || error.passing) throw error;
      form.showErrors(refused(error));
      dim(true, true);
      return;
    }
    const layer = report.layers[0];
    const axes = axesOf(question, layer);
    replace(figures, numbers(report));
    replace(comparison, dense(report));
    for (const panel of results.querySelectorAll('section')) panel.hidden = false;
    const maps = question.filters ?? question.input.at(-1) ?? 1;
    picture.update(axes, { input: question.input.at(-1) ?? 1, output: maps }, neuronOf(state['neuron']));
    take.update(question, minimal(state), axes, report);
    dim(false);
  }, 30);

  return {
    show(next) {
      state = complete(next);
      form.set(state);
      ask();
    },
    unmount() {
      request.cancel();
      picture.unmount();
    },
  };
}

/** @param {string | undefined} text @returns {number[] | null} */
function neuronOf(text) {
  return text && /^\d+(,\d+)*$/.test(text) ? text.split(',').map(Number) : null;
}
