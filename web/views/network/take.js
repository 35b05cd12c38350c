/** What one takes along of a network: its numbers, its pictures, its spec, its source, the command that gives the same. */

import { h } from '../../core/dom.js';
import { copy, csv, download, markdown, standalone, svgToPng } from '../../core/save.js';
import { t } from '../../core/texts.js';
import { keras, torch } from './source.js';

/** @typedef {import('./spec.js').Spec} Spec */

/**
 * @param {import('../../app.js').Context} context
 * @param {{ cells: (exact: boolean) => unknown[][], answer: () => unknown, spec: () => Spec, shapes: () => Map<string, number[]>, command: () => string,
 *   pictures: { name: string, svg: SVGSVGElement, whole?: (take: () => Promise<void> | void) => Promise<void> }[] }} from
 */
export function makeTake(context, from) {
  const forms = {
    CSV: ['csv', 'text/csv', () => csv(from.cells(true))],
    Markdown: ['md', 'text/markdown', () => markdown(from.cells(false))],
    JSON: ['json', 'application/json', () => `${JSON.stringify(from.answer(), null, 1)}\n`],
  };
  /** @param {string} label @param {() => unknown} act @param {string} [name] */
  const button = (label, act, name) => h('button', { type: 'button', onclick: act, ...(name ? { 'aria-label': name } : {}) }, label);
  /** @param {string} text */
  const toClipboard = async (text) => context.announce((await copy(text)) ? t('copy.done') : t('copy.failed'));
  const code = h('code');
  const block = h('pre', { class: 'scroll source', tabindex: '0', role: 'region', 'aria-label': t('network.take.source'), hidden: true }, code);
  const copySource = h('button', { type: 'button', hidden: true, onclick: () => toClipboard(code.textContent ?? '') }, t('network.take.copy'));
  const why = h('p', { class: 'problem', role: 'alert', hidden: true });

  /** @param {string} which @param {HTMLButtonElement} pressed */
  function show(which, pressed) {
    why.hidden = true;
    try {
      code.textContent = which === 'spec' ? `${JSON.stringify(from.spec(), null, 1)}\n` : which === 'command' ? from.command()
        : (which === 'keras' ? keras : torch)(from.spec(), from.shapes());
      block.hidden = copySource.hidden = false;
    } catch (error) {
      if (!(error instanceof RangeError)) throw error;
      why.textContent = t('network.take.cannot', { layer: error.message });
      why.hidden = false;
      block.hidden = copySource.hidden = true;
    }
    for (const each of tabs) each.setAttribute('aria-pressed', String(each === pressed));
  }
  const tabs = /** @type {const} */ (['keras', 'torch', 'spec', 'command']).map((which) => {
    const tab = h('button', { type: 'button', 'aria-pressed': 'false' }, t(`network.take.${which}`));
    tab.addEventListener('click', () => show(which, tab));
    return tab;
  });
  return {
    element: h('section', { class: 'panel take' }, h('h2', null, t('network.take')), h('div', { class: 'stack' },
      h('div', { class: 'row' }, h('span', { class: 'muted' }, t('network.take.save')), Object.entries(forms).map(([label, [extension, type, text]]) =>
        button(label, () => download(`network.${extension}`, String(type), /** @type {() => string} */ (text)())))),
      from.pictures.map(({ name, svg, whole }) => {
        /** @param {() => Promise<void> | void} take */
        const with_ = (take) => (whole ? whole(take) : Promise.resolve(take()));
        return h('div', { class: 'row' }, h('span', { class: 'muted' }, name),
          button('SVG', () => with_(() => download('network.svg', 'image/svg+xml', standalone(svg))), `${name}: SVG`),
          button('PNG', () => with_(async () => {
            try {
              download('network.png', 'image/png', await svgToPng(svg));
            } catch {
              context.announce(t('network.take.large'));
            }
          }), `${name}: PNG`));
      }),
      h('div', { class: 'row' }, h('span', { class: 'muted' }, t('network.take.source')), tabs, copySource), why, block)),
    /** Copy buttons for the head of the table. */
    copies: h('div', { class: 'row copies' }, h('span', { class: 'muted small' }, t('network.take.copy.as')), Object.entries(forms).map(([label, [, , text]]) =>
      h('button', { type: 'button', class: 'quiet', 'aria-label': t('network.take.copy.form', { form: label }), onclick: () => toClipboard(/** @type {() => string} */ (text)()) }, label))),
    /** The source on show is of another network now. */
    update() {
      const pressed = tabs.findIndex((tab) => tab.getAttribute('aria-pressed') === 'true');
      const tab = tabs[pressed];
      if (tab) show(['keras', 'torch', 'spec', 'command'][pressed] ?? 'spec', tab);
    },
  };
}
