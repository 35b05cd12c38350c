/** All words, in English, by key. A second language is a second object with the same keys. */

import { filtersTexts } from './texts-filters.js';
import { layerTexts } from './texts-layer.js';
import { networkTexts } from './texts-network.js';

const shellTexts = {
  'away.retry': 'The service does not answer. Trying again in {seconds} s; what you typed is kept.',
  'away.back': 'The service answers again.',
  'copy.link': 'Copy link',
  'copy.done': 'Copied.',
  'copy.failed': 'This browser does not let pages copy. Mark the text and copy it by hand.',
  'help.about': 'What is “{term}”?',
  'link.broken': 'This link is incomplete or was changed on its way: here is a fresh start.',
  'theme.auto': 'Theme: as the system',
  'theme.light': 'Theme: light',
  'theme.dark': 'Theme: dark',
  'view.layer': 'Layer',
  'view.network': 'Network',
  'view.fit': 'Fit',
  'view.filters': 'Filters',
  'view.loading': 'Loading …',
  'view.failed': 'This part of the page could not be loaded. Reload to try again.',
};

const TEXTS = { ...shellTexts, ...layerTexts, ...filtersTexts, ...networkTexts };

/** @typedef {keyof typeof TEXTS} Key */

/**
 * A text, with `{name}` replaced by its value.
 * @param {Key} key
 * @param {Record<string, string | number | bigint>} [values]
 * @returns {string}
 */
export function t(key, values = {}) {
  return TEXTS[key].replace(/\{(\w+)\}/g, (whole, name) => String(values[name] ?? whole));
}
