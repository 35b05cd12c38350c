/**
 * The service: questions as JSON, answers as JSON, and what to do while it is away.
 *
 * @typedef {{ pointer: string, detail: string }} FieldError
 * @typedef {{ signal?: AbortSignal, exact?: boolean, accept?: string }} Options
 *   `exact`: integers beyond 2^53 - 1 arrive as BigInt, where the browser can tell them.
 */

/** An answer that is an error, or none: `status` is 0 where the service could not be reached. */
export class ApiError extends Error {
  /**
   * @param {number} status
   * @param {string} title
   * @param {string} detail
   * @param {FieldError[]} [errors]
   * @param {number} [retry] seconds after which to ask again
   */
  constructor(status, title, detail, errors = [], retry = 0) {
    super(detail || title);
    this.status = status;
    this.title = title;
    this.detail = detail;
    this.errors = errors;
    this.retry = retry;
  }

  /** Whether the same question may be answered later. */
  get passing() {
    return this.status === 0 || this.status === 429 || this.status === 503;
  }
}

/** Says 'away' (detail: seconds until the next try) and 'back'. */
export const service = new EventTarget();

/**
 * @param {string} path
 * @param {unknown} body
 * @param {Options} [options]
 * @returns {Promise<any>}
 */
export function post(path, body, options = {}) {
  return fetchJson(path, options, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(body),
  });
}

/**
 * @param {string} path
 * @param {Options} [options]
 * @returns {Promise<any>}
 */
export function get(path, options = {}) {
  return fetchJson(path, options, {});
}

/**
 * A file or a text as the body itself.
 * @param {string} path
 * @param {BodyInit} bytes
 * @param {string} type media type
 * @param {Options} [options]
 * @returns {Promise<any>}
 */
export function upload(path, bytes, type, options = {}) {
  return fetchJson(path, options, { method: 'POST', headers: { 'content-type': type }, body: bytes });
}

/**
 * The answer's bytes, such as a picture.
 * @param {string} path
 * @param {unknown} body
 * @param {Options} [options]
 * @returns {Promise<Blob>}
 */
export async function postForBlob(path, body, options = {}) {
  const init = { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) };
  const response = await send(path, options, init);
  return response.blob();
}

/**
 * Makes of `work` a function of which only the latest call counts: it waits until nothing more was typed for `delay`
 * milliseconds, the calls before it are cancelled, and while the service is away it is tried again and again.
 * @template {unknown[]} A
 * @param {(signal: AbortSignal, ...args: A) => Promise<void>} work
 * @param {number} [delay]
 * @returns {((...args: A) => void) & { cancel: () => void }}
 */
export function latest(work, delay = 80) {
  let controller = new AbortController();
  /** @param {A} args */
  const call = (...args) => {
    controller.abort();
    controller = new AbortController();
    const { signal } = controller;
    void persist(signal, delay, () => work(signal, ...args));
  };
  return Object.assign(call, { cancel: () => controller.abort() });
}

/**
 * @param {AbortSignal} signal
 * @param {number} delay
 * @param {() => Promise<void>} work
 */
async function persist(signal, delay, work) {
  await sleep(delay, signal);
  for (let wait = 1; !signal.aborted; wait = Math.min(wait * 2, 15)) {
    try {
      await work();
      return;
    } catch (error) {
      if (signal.aborted) return;
      if (!(error instanceof ApiError && error.passing)) throw error;
      const seconds = Math.max(wait, error.retry);
      service.dispatchEvent(new CustomEvent('away', { detail: seconds }));
      await sleep(seconds * 1000, signal);
    }
  }
}

/**
 * @param {number} milliseconds
 * @param {AbortSignal} signal ends the wait early
 * @returns {Promise<void>}
 */
function sleep(milliseconds, signal) {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, milliseconds);
    signal.addEventListener('abort', () => {
      clearTimeout(timer);
      resolve();
    });
  });
}

/**
 * @param {string} path
 * @param {Options} options
 * @param {RequestInit & { headers?: Record<string, string> }} init
 * @returns {Promise<any>}
 */
async function fetchJson(path, options, init) {
  const exact = options.exact === true && tellsIntegers();
  const accept = options.accept ?? (exact ? 'application/json; integers=exact' : 'application/json');
  const response = await send(path, { ...options, accept }, init);
  const text = await response.text();
  return exact ? parseExact(text) : JSON.parse(text);
}

/**
 * @param {string} path
 * @param {Options} options
 * @param {RequestInit & { headers?: Record<string, string> }} init
 * @returns {Promise<Response>}
 */
async function send(path, options, init) {
  const headers = { ...init.headers, ...(options.accept ? { accept: options.accept } : {}) };
  /** @type {Response} */
  let response;
  try {
    // The signal's type has no undefined under exactOptionalPropertyTypes; fetch takes null.
    response = await fetch(path, { ...init, headers, signal: options.signal ?? null });
  } catch (error) {
    if (options.signal?.aborted) throw error;
    throw new ApiError(0, 'The service is away', 'The service cannot be reached.');
  }
  if (response.ok) {
    service.dispatchEvent(new Event('back'));
    return response;
  }
  const found = await response.json().catch(() => ({}));
  const retry = Number(response.headers.get('retry-after')) || 0;
  const error = new ApiError(response.status, found.title ?? `Error ${response.status}`, found.detail ?? '', found.errors, retry);
  if (!error.passing) service.dispatchEvent(new Event('back'));
  throw error;
}

/** Whether JSON.parse shows its reviver how a number was written. */
function tellsIntegers() {
  let told = false;
  JSON.parse('1', /** @type {any} */ ((/** @type {unknown} */ _key, /** @type {unknown} */ value, /** @type {any} */ context) => {
    told = context?.source === '1';
    return value;
  }));
  return told;
}

/** @param {string} text */
function parseExact(text) {
  return JSON.parse(text, /** @type {any} */ ((/** @type {unknown} */ _key, /** @type {unknown} */ value, /** @type {any} */ context) =>
    typeof value === 'number' && !Number.isSafeInteger(value) && /^-?\d+$/.test(context?.source ?? '')
      ? BigInt(context.source)
      : value));
}
