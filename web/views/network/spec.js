/**
 * A network as convcalc's spec, and how it is changed. Nothing here changes what it is given.
 *
 * A layer is a run of entries that carry its name: a convolution with its activation is two entries and one layer.
 *
 * @typedef {Record<string, any>} Entry
 * @typedef {{ convcalc?: number, name?: string, layout?: string, input?: number[], inputs?: Record<string, any>, layers: Entry[], outputs?: string[] | string }} Spec
 * @typedef {{ name: string, kind: string, type: string, first: number, last: number }} Layer `first` and `last` are places in spec.layers
 */

/** What is shown where the address names no network. */
export const USUAL_NETWORK = 'lenet5';

const FIELDS = new Set(['name', 'from', 'layer', 'layer_type', 'weights', 'trainable', 'dtypes']);

/** What people mostly write, with the attributes that they mostly give. The first ones are proposed first. */
export const OPERATORS = /** @type {Record<string, Record<string, unknown>>} */ ({
  conv: { filters: 32, kernel: 3, stride: 1, padding: 'same', dilation: 1, groups: 1, bias: true },
  max_pool: { kernel: 2, stride: 2, padding: 'valid' },
  dense: { units: 10, bias: true },
  activation: { function: 'relu' },
  batch_norm: {},
  flatten: {},
  global_pool: { kind: 'average' },
  average_pool: { kernel: 2, stride: 2, padding: 'valid' },
  dropout: { rate: 0.5 },
  depthwise_conv: { kernel: 3, multiplier: 1, stride: 1, padding: 'same', bias: true },
  separable_conv: { filters: 32, kernel: 3, stride: 1, padding: 'same', bias: true },
  conv_transpose: { filters: 32, kernel: 2, stride: 2, padding: 'same', bias: true },
  add: {},
  concat: { axis: -1 },
  multiply: {},
  pad: { padding: 1 },
  upsample: {},
  reshape: { shape: [1] },
  layer_norm: {},
  group_norm: { groups: 32 },
});
/** Layers that read more than one other. */
const MERGES = new Set(['add', 'concat', 'multiply']);

/** @param {Entry} entry */
export function kindOf(entry) {
  return Object.keys(entry).find((key) => !FIELDS.has(key)) ?? '';
}

/**
 * The attributes of an entry: those that it gives, and those that are mostly given.
 * @param {Entry} entry
 * @returns {Record<string, unknown>}
 */
export function attributesOf(entry) {
  const kind = kindOf(entry);
  const given = entry[kind];
  const usual = Object.fromEntries(Object.keys(OPERATORS[kind] ?? {}).map((key) => [key, undefined]));
  if (given === null || given === undefined) return usual;
  if (typeof given === 'object' && !Array.isArray(given)) return { ...usual, ...given };
  return { ...usual, [Object.keys(usual)[0] ?? 'value']: given };
}

/**
 * A spec with everything named, so that the service can say where something is wrong, and shorthands written out.
 * @param {any} raw
 * @returns {Spec}
 * @throws {Error} not a spec
 */
export function normal(raw) {
  if (typeof raw !== 'object' || raw === null || !Array.isArray(raw.layers)) throw new Error('no spec');
  const taken = new Set([...Object.keys(inputsOf(raw)), ...raw.layers.map((/** @type {any} */ entry) => entry?.name)]);
  const layers = raw.layers.map((/** @type {any} */ given) => {
    const entry = typeof given === 'string' ? { [given]: {} } : { ...given };
    if (!entry.name) {
      entry.name = fresh(kindOf(entry) || 'layer', taken);
      taken.add(entry.name);
    }
    return entry;
  });
  return { ...raw, layers };
}

/** @param {Spec} spec @returns {Record<string, any>} */
export function inputsOf(spec) {
  return spec.inputs ?? { input: spec.input ?? [] };
}

/** @param {string} kind @param {Set<unknown>} taken */
export function fresh(kind, taken) {
  let number = 1;
  while (taken.has(`${kind}_${number}`)) number += 1;
  return `${kind}_${number}`;
}

/** @param {number[]} [input] @returns {Spec} */
export function empty(input = [28, 28, 1]) {
  return { convcalc: 1, name: 'network', inputs: { input }, layers: [{ conv: { filters: 8, kernel: 3, padding: 'same' }, name: 'conv_1' }] };
}

/**
 * @param {Spec} spec
 * @returns {Layer[]}
 */
export function layersOf(spec) {
  /** @type {Layer[]} */
  const found = [];
  spec.layers.forEach((entry, index) => {
    const name = entry['layer'] ?? entry['name'];
    const before = found.at(-1);
    if (before && before.name === name) {
      before.last = index;
      before.type = entry['layer_type'] ?? before.type;
    } else {
      const kind = kindOf(entry);
      found.push({ name, kind, type: entry['layer_type'] ?? kind, first: index, last: index });
    }
  });
  return found;
}

/**
 * What each entry reads, by name.
 * @param {Spec} spec
 * @param {number} index
 * @returns {string[]}
 */
export function sourcesOf(spec, index) {
  const entry = spec.layers[index];
  if (!entry || kindOf(entry) === 'constant') return [];
  const from = entry['from'];
  if (from !== undefined) return Array.isArray(from) ? from : [from];
  return [spec.layers[index - 1]?.['name'] ?? Object.keys(inputsOf(spec))[0] ?? 'input'];
}

/**
 * Which layers feed which, between layers only.
 * @param {Spec} spec
 * @returns {[string, string][]}
 */
export function edgesOf(spec) {
  /** @type {Map<string, string>} */
  const layerOf = new Map(Object.keys(inputsOf(spec)).map((name) => [name, name]));
  for (const entry of spec.layers) layerOf.set(entry['name'], entry['layer'] ?? entry['name']);
  const seen = new Set();
  /** @type {[string, string][]} */
  const found = [];
  spec.layers.forEach((entry, index) => {
    const to = entry['layer'] ?? entry['name'];
    for (const source of sourcesOf(spec, index)) {
      const from = layerOf.get(source);
      const key = `${from}\n${to}`;
      if (from === undefined || from === to || seen.has(key)) continue;
      seen.add(key);
      found.push([from, to]);
    }
  });
  return found;
}

/**
 * @param {Spec} spec
 * @param {number} index
 * @param {Entry} entry
 * @returns {Spec}
 */
function withEntry(spec, index, entry) {
  return { ...spec, layers: spec.layers.map((old, at) => (at === index ? entry : old)) };
}

/**
 * One attribute, or without it where `value` is undefined.
 * @param {Spec} spec @param {number} index @param {string} attribute @param {unknown} value
 */
export function setAttribute(spec, index, attribute, value) {
  const entry = /** @type {Entry} */ (spec.layers[index]);
  const given = Object.fromEntries(Object.entries({ ...attributesOf(entry), [attribute]: value }).filter(([, each]) => each !== undefined));
  return withEntry(spec, index, { ...entry, [kindOf(entry)]: given });
}

/**
 * Another operator in its place; attributes that both have are kept.
 * @param {Spec} spec @param {number} index @param {string} kind
 */
export function setKind(spec, index, kind) {
  const { [kindOf(/** @type {Entry} */ (spec.layers[index]))]: _, layer_type: _type, ...rest } = /** @type {Entry} */ (spec.layers[index]);
  const old = attributesOf(/** @type {Entry} */ (spec.layers[index]));
  const usual = /** @type {Record<string, unknown>} */ (OPERATORS[kind] ?? {});
  const given = Object.fromEntries(Object.entries(usual).map(([key, value]) => [key, old[key] ?? value]));
  return withEntry(spec, index, { [kind]: given, ...rest });
}

/**
 * What an entry reads; an empty list means the one before it.
 * @param {Spec} spec @param {number} index @param {string[]} sources
 */
export function setSources(spec, index, sources) {
  const { from: _, ...rest } = /** @type {Entry} */ (spec.layers[index]);
  return withEntry(spec, index, sources.length ? { ...rest, from: sources.length === 1 ? sources[0] : sources } : rest);
}

/** @param {Spec} spec @param {string} name @param {number[]} sizes @returns {Spec} */
export function setInput(spec, name, sizes) {
  const { input: _, ...rest } = spec;
  const old = inputsOf(spec)[name];
  const value = old && typeof old === 'object' && !Array.isArray(old) ? { ...old, shape: sizes } : sizes;
  return { ...rest, inputs: { ...inputsOf(spec), [name]: value } };
}

/**
 * Every name that `replaced` has is read in place of the old one.
 * @param {Spec} spec @param {Map<string, string[]>} replaced
 * @returns {Spec}
 */
function rewire(spec, replaced) {
  /** @param {string[]} names */
  const swap = (names) => names.flatMap((name) => replaced.get(name) ?? [name]);
  const layers = spec.layers.map((entry) => {
    if (entry['from'] === undefined) return entry;
    const list = Array.isArray(entry['from']) ? entry['from'] : [entry['from']];
    const from = swap(list);
    return { ...entry, from: from.length === 1 ? from[0] : from };
  });
  if (spec.outputs === undefined) return { ...spec, layers };
  const outputs = Array.isArray(spec.outputs) ? spec.outputs : [spec.outputs];
  return { ...spec, layers, outputs: [...new Set(swap(outputs))] };
}

/**
 * All sources written out: entries may then stand in any order that makes things before they are read.
 * @param {Spec} spec
 */
function explicit(spec) {
  return { ...spec, layers: spec.layers.map((entry, index) => (kindOf(entry) === 'constant' ? entry : { ...entry, from: single(sourcesOf(spec, index)) })) };
}

/** @param {string[]} names */
const single = (names) => (names.length === 1 ? names[0] : names);

/**
 * Sources that are the entry before are left out again: links are shorter, and files read better.
 * @param {Spec} spec
 * @returns {Spec}
 */
function implicit(spec) {
  const first = Object.keys(inputsOf(spec))[0];
  return {
    ...spec,
    layers: spec.layers.map((entry, index) => {
      const before = index ? spec.layers[index - 1]?.['name'] : first;
      if (entry['from'] !== before) return entry;
      const { from: _, ...rest } = entry;
      return rest;
    }),
  };
}

/**
 * A new layer behind one; what read that one by standing behind it, reads the new one.
 * @param {Spec} spec @param {number} after the place of a layer, -1 for the front
 * @param {string} kind
 * @returns {{ spec: Spec, name: string }}
 */
export function insert(spec, after, kind) {
  const layers = layersOf(spec);
  const behind = layers[after];
  const at = behind ? behind.last + 1 : 0;
  const name = fresh(kind, namesOf(spec));
  const before = behind ? spec.layers[behind.last]?.['name'] : Object.keys(inputsOf(spec))[0];
  /** @type {Entry} */
  const entry = { [kind]: { ...OPERATORS[kind] }, name };
  const full = explicit(spec);
  const other = /** @type {string | undefined} */ (spec.layers[at - 2]?.['name'] ?? Object.keys(inputsOf(spec))[0]);
  if (MERGES.has(kind) && other !== undefined && other !== before) entry['from'] = [before, other];
  else entry['from'] = before;
  // Only the next in line is put behind the new one: skip connections stay where they are.
  const next = full.layers[at];
  if (next && !Array.isArray(next['from']) && next['from'] === before) full.layers[at] = { ...next, from: name };
  let made = { ...full, layers: [...full.layers.slice(0, at), entry, ...full.layers.slice(at)] };
  if (made.outputs !== undefined && at === spec.layers.length) {
    const outputs = Array.isArray(made.outputs) ? made.outputs : [made.outputs];
    made = { ...made, outputs: outputs.map((each) => (each === before ? name : each)) };
  }
  return { spec: implicit(made), name };
}

/** @param {Spec} spec @param {number} at the place of a layer @returns {Spec} */
export function remove(spec, at) {
  const layer = layersOf(spec)[at];
  if (!layer) return spec;
  const full = explicit(spec);
  const gone = full.layers.slice(layer.first, layer.last + 1);
  const own = new Set(gone.map((entry) => entry['name']));
  const sources = gone.flatMap((_, index) => sourcesOf(full, layer.first + index)).filter((name) => !own.has(name));
  const replaced = new Map(gone.map((entry) => [entry['name'], sources.slice(0, 1)]));
  const left = { ...full, layers: [...full.layers.slice(0, layer.first), ...full.layers.slice(layer.last + 1)] };
  return implicit(rewire(left, replaced));
}

/** @param {Spec} spec @param {number} at @returns {{ spec: Spec, name: string }} */
export function duplicate(spec, at) {
  const layer = /** @type {Layer} */ (layersOf(spec)[at]);
  const taken = namesOf(spec);
  const base = layer.kind;
  const name = fresh(base, taken);
  /** @type {Map<string, string[]>} */
  const renamed = new Map();
  const full = explicit(spec);
  const old = full.layers.slice(layer.first, layer.last + 1);
  old.forEach((entry, index) => renamed.set(entry['name'], [index === old.length - 1 ? name : `${name}/${index + 1}`]));
  const end = /** @type {string} */ (old.at(-1)?.['name']);
  const copies = old.map((entry, index) => {
    const from = sourcesOf(full, layer.first + index);
    const { weights: _, ...rest } = entry;
    // The copy stands behind the original, and reads it where that read others.
    const inner = index > 0 ? from.flatMap((each) => renamed.get(each) ?? [each]) : from.map((each, place) => (place === 0 ? end : each));
    return { ...rest, name: renamed.get(entry['name'])?.[0], ...(old.length > 1 ? { layer: name } : {}), from: single(inner) };
  });
  for (const copy of copies) if (old.length === 1) delete copy['layer'];
  const next = full.layers[layer.last + 1];
  if (next && next['from'] === end) full.layers[layer.last + 1] = { ...next, from: name };
  const made = { ...full, layers: [...full.layers.slice(0, layer.last + 1), ...copies, ...full.layers.slice(layer.last + 1)] };
  if (made.outputs !== undefined && layer.last === spec.layers.length - 1) {
    const outputs = Array.isArray(made.outputs) ? made.outputs : [made.outputs];
    made.outputs = outputs.map((each) => (each === end ? name : each));
  }
  return { spec: implicit(made), name };
}

/**
 * A layer changes places with the one behind it. In a chain the wires follow; elsewhere only the order changes.
 * @param {Spec} spec @param {number} at the upper one's place
 * @returns {Spec}
 */
export function swap(spec, at) {
  const layers = layersOf(spec);
  const [upper, lower] = [layers[at], layers[at + 1]];
  if (!upper || !lower) return spec;
  const full = explicit(spec);
  let head = full.layers.slice(upper.first, upper.last + 1);
  let tail = full.layers.slice(lower.first, lower.last + 1);
  const [a, b] = [head.at(-1)?.['name'], tail.at(-1)?.['name']];
  const [start, follow] = [head[0], tail[0]];
  const chained = start && follow && follow['from'] === a && !Array.isArray(start['from']);
  let rest = full;
  if (chained) {
    const source = start['from'];
    const others = full.layers.map((entry, index) =>
      index > lower.last && !Array.isArray(entry['from']) && entry['from'] === b ? { ...entry, from: a } : entry);
    rest = { ...full, layers: others };
    tail = tail.map((entry, index) => (index === 0 ? { ...entry, from: source } : entry));
    head = head.map((entry, index) => (index === 0 ? { ...entry, from: b } : entry));
    if (rest.outputs !== undefined) {
      const outputs = Array.isArray(rest.outputs) ? rest.outputs : [rest.outputs];
      rest = { ...rest, outputs: outputs.map((each) => (each === b ? a : each)) };
    }
  }
  return implicit({ ...rest, layers: [...rest.layers.slice(0, upper.first), ...tail, ...head, ...rest.layers.slice(lower.last + 1)] });
}

/** @param {Spec} spec */
export function namesOf(spec) {
  return new Set([...Object.keys(inputsOf(spec)), ...spec.layers.flatMap((entry) => [entry['name'], entry['layer']])]);
}

/**
 * What was typed as a value: 3, 3x3, true, relu, or JSON.
 * @param {string} text
 * @returns {unknown} undefined for nothing
 */
export function valueOf(text) {
  const word = text.trim();
  if (word === '') return undefined;
  if (/^-?\d+$/.test(word) && Number.isSafeInteger(Number(word))) return Number(word);
  if (/^-?\d*\.\d+$/.test(word)) return Number(word);
  if (/^\d+(\s*[x×]\s*\d+)+$/i.test(word)) return word.split(/[x×]/i).map(Number);
  if (word === 'true' || word === 'false') return word === 'true';
  if (/^[[{]|^null$/.test(word)) {
    try {
      return JSON.parse(word);
    } catch {
      return word;
    }
  }
  return word;
}

/** @param {unknown} value */
export function textOf(value) {
  if (value === undefined) return '';
  if (Array.isArray(value) && value.length > 1 && value.every((each) => Number.isInteger(each) && each >= 0)) return value.join('x');
  return typeof value === 'string' ? value : JSON.stringify(value);
}

const BLOCK = /^(.*?(?:block|stage|mixed|layer|cell|unit|fire|stack|inception|module)s?[_.-]?\d*[a-z]?\d*(?:[_.-]block[_.-]?\d+)?)[_./]/i;

/**
 * The block that a layer belongs to by its name: conv2_block1 of conv2_block1_1_conv, layer1.0 of layer1.0.conv1.
 * @param {string} name
 */
export function blockOf(name) {
  const slash = name.lastIndexOf('/') >= 0 ? name.lastIndexOf('/') : name.lastIndexOf('.');
  if (slash > 0) return name.slice(0, slash);
  return BLOCK.exec(name)?.[1]?.replace(/[_.-]$/, '') ?? '';
}

/**
 * The place of a layer that a problem's detail names, or null.
 * @param {Spec} spec @param {string} detail
 * @returns {{ entry: number, layer: string } | null}
 */
export function placeOf(spec, detail) {
  const found = /layers\[(\d+)\]/.exec(detail);
  const number = /^layer (\d+)\b/.exec(detail);
  const entry = found ? Number(found[1]) : number ? Number(number[1]) - 1 : NaN;
  const at = spec.layers[entry];
  return at ? { entry, layer: at['layer'] ?? at['name'] } : null;
}
