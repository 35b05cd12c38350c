/**
 * What a view shows, in the address: `#/layer?input=150x100x3&filters=200` where everything is a short text, and
 * `#/network/z.…` (JSON, deflated, base64url) where it is more than that.
 *
 * @typedef {Record<string, any>} State
 */

/** The longest address that is still written out. */
const READABLE = 600;
/** The most characters that a link may unfold to. */
const LIMIT = 8_000_000;

/**
 * @param {string} view
 * @param {State} state
 * @returns {Promise<string>} the fragment, from the #
 */
export async function encode(view, state) {
  const entries = Object.entries(state).filter(([, value]) => value !== undefined);
  if (!entries.length) return `#/${view}`;
  if (entries.every(([, value]) => typeof value === 'string')) {
    // Commas are allowed in a fragment and read better.
    const query = new URLSearchParams(entries).toString().replaceAll('%2C', ',');
    if (query.length <= READABLE) return `#/${view}?${query}`;
  }
  return `#/${view}/z.${base64url(await pipe(new TextEncoder().encode(JSON.stringify(state)), new CompressionStream('deflate-raw')))}`;
}

/**
 * @param {string} fragment
 * @returns {Promise<{ view: string, state: State }>}
 * @throws {Error} a link that is cut off or changed
 */
export async function decode(fragment) {
  const path = fragment.replace(/^#?\/?/, '');
  const packed = /^([\w-]+)\/z\.([\w-]*)$/.exec(path);
  if (packed) {
    const bytes = await pipe(fromBase64url(packed[2] ?? ''), new DecompressionStream('deflate-raw'));
    const state = JSON.parse(new TextDecoder().decode(bytes));
    if (typeof state !== 'object' || state === null || Array.isArray(state)) throw new Error('not an object');
    return { view: packed[1] ?? '', state };
  }
  const at = path.indexOf('?');
  const [view, query] = at < 0 ? [path, ''] : [path.slice(0, at), path.slice(at + 1)];
  return { view, state: Object.fromEntries(new URLSearchParams(query)) };
}

/**
 * @param {Uint8Array<ArrayBuffer>} bytes
 * @param {CompressionStream | DecompressionStream} through
 * @returns {Promise<Uint8Array>}
 */
async function pipe(bytes, through) {
  const reader = new Blob([bytes]).stream().pipeThrough(through).getReader();
  const parts = [];
  let size = 0;
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    size += value.length;
    if (size > LIMIT) throw new Error('too long');
    parts.push(value);
  }
  const whole = new Uint8Array(size);
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

/** @param {Uint8Array} bytes */
function base64url(bytes) {
  let text = '';
  for (let at = 0; at < bytes.length; at += 0x8000) {
    text += String.fromCharCode(...bytes.subarray(at, at + 0x8000));
  }
  return btoa(text).replaceAll('+', '-').replaceAll('/', '_').replace(/=+$/, '');
}

/** @param {string} text */
function fromBase64url(text) {
  return Uint8Array.from(atob(text.replaceAll('-', '+').replaceAll('_', '/')), (char) => char.charCodeAt(0));
}
