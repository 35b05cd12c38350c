import { h, replace } from '../../core/dom.js';
import { t } from '../../core/texts.js';

/**
 * @param {HTMLElement} root
 * @param {import('../../app.js').Context} _context
 * @returns {import('../../app.js').View}
 */
export function mount(root, _context) {
  replace(root, h('h1', null, t('view.fit')));
  return { show() {}, unmount() {} };
}
