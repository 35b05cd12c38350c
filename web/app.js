/**
 * The shell: the address decides on the view, the view on the address.
 *
 * @typedef {import('./core/state.js').State} State
 * @typedef {object} Context
 * @property {(state: State, options?: { replace?: boolean }) => void} go put a state into the address: a new entry of
 *   the history, or in place of the present one
 * @property {(text: string) => void} announce say something to screen readers, and in the corner for a moment
 * @typedef {object} View
 * @property {(state: State) => void} show called with the address's state, first and whenever it changes from outside
 * @property {() => void} unmount stop timers and requests
 * @typedef {{ mount: (root: HTMLElement, context: Context) => View }} ViewModule
 */

import { service } from './core/api.js';
import { replace, h } from './core/dom.js';
import { copy } from './core/save.js';
import { decode, encode } from './core/state.js';
import { t } from './core/texts.js';

/** @type {Record<string, () => Promise<ViewModule>>} */
const VIEWS = {
  layer: () => import('./views/layer/index.js'),
  network: () => import('./views/network/index.js'),
  fit: () => import('./views/fit/index.js'),
  filters: () => import('./views/filters/index.js'),
};
/** Style sheets of views that have not just their own. @type {Record<string, string[]>} */
const SHEETS = { fit: ['network', 'fit'] };
const FIRST = 'layer';
const THEMES = /** @type {const} */ (['auto', 'light', 'dark']);

/**
 * @template {HTMLElement} T
 * @param {string} id
 * @returns {T}
 */
const byId = (id) => /** @type {T} */ (document.getElementById(id));

const main = byId('main');
const toast = byId('toast');
const away = byId('away');

/** @type {{ name: string, view: View } | null} */
let mounted = null;
/** Counts the routes taken, so that a slow one does not overtake a later one. */
let turn = 0;
/** The last state's way into the address: encoding takes a moment. */
let written = Promise.resolve();

/** @type {ReturnType<typeof setTimeout> | undefined} */
let toastTimer;

/** @param {string} text */
function announce(text) {
  toast.textContent = text;
  toast.classList.add('shown');
  clearTimeout(toastTimer);
  toastTimer = setTimeout(() => toast.classList.remove('shown'), 3000);
}

/** Counts what was to be written and the routes taken: only the last one's state gets into the address. */
let writes = 0;
let lastWrite = 0;
/** Milliseconds between writes while someone types or holds a key; browsers refuse too many. */
const WRITE_EVERY = 150;

/**
 * @param {string} name
 * @returns {Context}
 */
function contextOf(name) {
  return {
    announce,
    go(state, options = {}) {
      writes += 1;
      written = write(name, state, options.replace === true, writes);
    },
  };
}

/**
 * @param {string} name
 * @param {State} state
 * @param {boolean} over in place of the present entry of the history
 * @param {number} mine
 */
async function write(name, state, over, mine) {
  const fragment = await encode(name, state);
  const wait = over ? lastWrite + WRITE_EVERY - performance.now() : 0;
  if (wait > 0) await new Promise((resolve) => setTimeout(resolve, wait));
  if (mine !== writes || mounted?.name !== name || fragment === location.hash) return;
  lastWrite = performance.now();
  if (over) history.replaceState(null, '', fragment);
  else history.pushState(null, '', fragment);
}

async function route() {
  turn += 1;
  writes += 1;
  const mine = turn;
  /** @type {{ view: string, state: State }} */
  let target;
  try {
    target = await decode(location.hash);
  } catch {
    target = { view: /^#\/(\w+)/.exec(location.hash)?.[1] ?? FIRST, state: {} };
    announce(t('link.broken'));
  }
  if (mine !== turn) return;
  const name = target.view in VIEWS ? target.view : FIRST;
  for (const link of document.querySelectorAll('nav a')) {
    if (link.getAttribute('href') === `#/${name}`) link.setAttribute('aria-current', 'page');
    else link.removeAttribute('aria-current');
  }
  document.title = `${t(/** @type {import('./core/texts.js').Key} */ (`view.${name}`))} · convcalc`;
  if (mounted?.name !== name) {
    mounted?.view.unmount();
    mounted = null;
    const load = /** @type {() => Promise<ViewModule>} */ (VIEWS[name]);
    /** @type {ViewModule} */
    let module;
    try {
      [module] = await Promise.all([load(), ...(SHEETS[name] ?? [name]).map(styled)]);
    } catch (error) {
      if (mine === turn) replace(main, h('p', { class: 'problem', role: 'alert' }, t('view.failed')));
      throw error;
    }
    if (mine !== turn) return;
    replace(main);
    main.className = `view-${name}`;
    mounted = { name, view: module.mount(main, contextOf(name)) };
  }
  mounted.view.show(target.state);
}

/**
 * Until a style sheet is there; a page that has to do without it is better than none.
 * @param {string} name
 * @returns {Promise<void>}
 */
function styled(name) {
  const href = `style/${name}.css`;
  if (document.querySelector(`link[href="${href}"]`)) return Promise.resolve();
  return new Promise((resolve) => {
    const done = () => resolve();
    document.head.append(h('link', { rel: 'stylesheet', href, onload: done, onerror: done }));
  });
}

/** @param {string | null} wanted */
function theme(wanted) {
  const found = THEMES.find((name) => name === wanted) ?? 'auto';
  if (found === 'auto') delete document.documentElement.dataset['theme'];
  else document.documentElement.dataset['theme'] = found;
  const button = byId('theme');
  button.dataset['now'] = found;
  button.setAttribute('aria-label', t(`theme.${found}`));
  button.title = t(`theme.${found}`);
  return found;
}

/** What the browser remembers, where it may. @param {string} [value] */
function remembered(value) {
  try {
    if (value !== undefined) localStorage.setItem('convcalc-theme', value);
    return localStorage.getItem('convcalc-theme');
  } catch {
    return null;
  }
}

theme(remembered());
byId('theme').addEventListener('click', () => {
  const at = THEMES.findIndex((name) => name === byId('theme').dataset['now']);
  remembered(theme(THEMES[(at + 1) % THEMES.length] ?? 'auto'));
});
byId('copy-link').addEventListener('click', async () => {
  await written;
  announce((await copy(location.href)) ? t('copy.done') : t('copy.failed'));
});
service.addEventListener('away', (event) => {
  away.textContent = t('away.retry', { seconds: /** @type {CustomEvent} */ (event).detail });
  away.hidden = false;
});
service.addEventListener('back', () => {
  if (away.hidden) return;
  away.hidden = true;
  announce(t('away.back'));
});
document.querySelector('.skip')?.addEventListener('click', (event) => {
  // The fragment belongs to the router.
  event.preventDefault();
  main.focus();
});
// Said for links, for back and forward, and not for a view's own pushState.
addEventListener('popstate', route);
void route();
