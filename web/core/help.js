/** What a term means, beside the term: a button that opens a small note. Escape and a click elsewhere close it. */

import { h, unique } from './dom.js';
import { t } from './texts.js';

/**
 * @param {string} term as people read it
 * @param {string} text
 * @returns {HTMLElement}
 */
export function help(term, text) {
  const id = unique('help');
  const note = h('div', { id, class: 'help-note', popover: 'auto', role: 'note' }, h('strong', null, term), h('p', null, text));
  const button = h('button', { type: 'button', class: 'help', popovertarget: id, 'aria-label': t('help.about', { term }) }, '?');
  note.addEventListener('toggle', (event) => {
    if (/** @type {ToggleEvent} */ (event).newState === 'open') place(note, button);
  });
  return h('span', { class: 'help-spot' }, button, note);
}

/**
 * @param {HTMLElement} note
 * @param {HTMLElement} button
 */
function place(note, button) {
  const at = button.getBoundingClientRect();
  const left = Math.max(8, Math.min(at.left - 12, innerWidth - note.offsetWidth - 8));
  const below = at.bottom + 6;
  const top = below + note.offsetHeight > innerHeight - 8 ? Math.max(8, at.top - note.offsetHeight - 6) : below;
  note.style.left = `${left}px`;
  note.style.top = `${top}px`;
}
