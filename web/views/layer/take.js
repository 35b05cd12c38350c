/** What one takes along: the numbers as files, the picture, the layer's source. */

import { ApiError, postForBlob } from '../../core/api.js';
import { h } from '../../core/dom.js';
import { copy, download, standalone, svgToPng } from '../../core/save.js';
import { t } from '../../core/texts.js';
import { commandLine, curl, keras, torch } from './source.js';

/** @typedef {import('./question.js').Question} Question */

const FORMS = /** @type {const} */ ({ CSV: ['csv', 'text/csv'], JSON: ['json', 'application/json'], Markdown: ['md', 'text/markdown'] });
const SOURCES = /** @type {const} */ (['keras', 'torch', 'cli', 'api']);

/**
 * @param {SVGSVGElement} svg the picture
 * @param {import('../../app.js').Context} context
 */
export function makeTake(svg, context) {
  /** @type {Question | null} */
  let asked = null;
  let report = {};
  /** @type {Record<string, string>} */
  let written = {};
  let which = 'keras';

  const code = h('code');
  const block = h('pre', { class: 'scroll source', tabindex: '0', role: 'region', 'aria-label': t('layer.take.which') }, code);

  /** @param {keyof typeof FORMS} name */
  async function save(name) {
    const [extension, type] = FORMS[name];
    if (name === 'JSON') {
      download(`layer.${extension}`, type, `${JSON.stringify(report, exact, 2)}\n`);
      return;
    }
    try {
      download(`layer.${extension}`, type, await postForBlob('/v1/conv', asked, { accept: type }));
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      context.announce(error.message);
    }
  }
  /** @param {string} label @param {() => unknown} act */
  const button = (label, act) => h('button', { type: 'button', onclick: act }, label);
  const tabs = SOURCES.map((name) => h('button', {
    type: 'button', 'aria-pressed': String(name === which),
    onclick: () => {
      which = name;
      tabs.forEach((tab, at) => tab.setAttribute('aria-pressed', String(SOURCES[at] === which)));
      code.textContent = written[which] ?? '';
    },
  }, t(`layer.take.${name}`)));

  const element = h('section', { class: 'panel take', hidden: true }, h('h2', null, t('layer.take')),
    h('div', { class: 'stack' },
      h('div', { class: 'row' }, h('span', { class: 'muted' }, t('layer.take.numbers')), Object.keys(FORMS).map((name) => button(name, () => save(/** @type {keyof typeof FORMS} */ (name)))),
        h('span', { class: 'muted apart' }, t('layer.take.picture')),
        button('SVG', () => download('layer.svg', 'image/svg+xml', standalone(svg))),
        button('PNG', async () => download('layer.png', 'image/png', await svgToPng(svg)))),
      h('div', { class: 'row' }, h('span', { class: 'muted' }, t('layer.take.which')), tabs,
        button(t('layer.take.copy'), async () => context.announce((await copy(written[which] ?? '')) ? t('copy.done') : t('copy.failed')))),
      block));

  return {
    element,
    /** Whether there is nothing yet. */
    empty: () => asked === null,
    /**
     * @param {Question} question
     * @param {Record<string, string>} state
     * @param {import('./geometry.js').Axis[]} axes
     * @param {object} answer
     */
    update(question, state, axes, answer) {
      asked = question;
      report = answer;
      const { neuron: _, ...options } = state;
      written = { keras: keras(question, axes), torch: torch(question, axes), cli: commandLine(options), api: curl(question, location.origin) };
      code.textContent = written[which] ?? '';
    },
  };
}

/** All digits, where the browser can write them. @param {string} _key @param {unknown} value */
function exact(_key, value) {
  if (typeof value !== 'bigint') return value;
  const raw = /** @type {any} */ (JSON).rawJSON;
  return raw ? raw(String(value)) : Number(value);
}
