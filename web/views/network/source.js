/**
 * A network as Keras or PyTorch source. Only what is known to come out the same is written: anything else is refused
 * by its layer's name, as a RangeError, rather than written nearly right.
 *
 * @typedef {import('./spec.js').Spec} Spec
 * @typedef {import('./spec.js').Entry} Entry
 */

import { attributesOf, inputsOf, kindOf, sourcesOf } from './spec.js';

/** @param {unknown} value @param {number} rank @returns {number[]} */
const pair = (value, rank) => (Array.isArray(value) ? value : new Array(rank).fill(value ?? 1));
/** @param {number[]} values */
const tuple = (values) => (values.every((each) => each === values[0]) ? String(values[0]) : `(${values.join(', ')})`);
/** @param {unknown} value */
const python = (value) => (value === true ? 'True' : value === false ? 'False' : value === null ? 'None' : Array.isArray(value) ? `(${value.map(String).join(', ')}${value.length === 1 ? ',' : ''})` : JSON.stringify(value));

/**
 * Each entry with its attributes, what it reads and how many axes that has.
 * @param {Spec} spec @param {Map<string, number[]>} shapes
 */
function* steps(spec, shapes) {
  for (const [index, entry] of spec.layers.entries()) {
    const sources = sourcesOf(spec, index);
    const shape = shapes.get(sources[0] ?? '');
    if (!shape) throw new RangeError(entry['name']);
    if (entry['weights'] || entry['trainable'] === false || entry['dtypes']) throw new RangeError(entry['name']);
    yield { entry, name: /** @type {string} */ (entry['name']), kind: kindOf(entry), given: attributesOf(entry), sources, shape, rank: shape.length - 2 };
  }
}

/** @param {string} name */
const variable = (name) => {
  const safe = name.replace(/\W/g, '_');
  return /^\d/.test(safe) ? `x${safe}` : safe;
};

/** @param {Spec} spec @returns {string[]} */
function outputsOf(spec) {
  return [spec.outputs ?? spec.layers.at(-1)?.['name'] ?? []].flat();
}

/**
 * @param {Record<string, unknown>} given
 * @param {string[]} known attributes that are written
 * @param {string} name
 */
function only(given, known, name) {
  for (const [key, value] of Object.entries(given)) {
    if (value !== undefined && !known.includes(key)) throw new RangeError(name);
  }
}

/** @param {unknown} value @param {unknown} usual @param {string} name */
function must(value, usual, name) {
  if (value !== undefined && JSON.stringify(value) !== JSON.stringify(usual)) throw new RangeError(name);
}

const KERAS_FUNCTIONS = new Set(['relu', 'sigmoid', 'tanh', 'softmax', 'elu', 'selu', 'gelu', 'swish', 'silu', 'softplus', 'softsign', 'relu6', 'hard_sigmoid', 'hard_swish', 'linear']);

/**
 * The functional API.
 * @param {Spec} spec @param {Map<string, number[]>} shapes what each entry makes, by name
 * @returns {string}
 * @throws {RangeError} a layer that is not written; the message is its name
 */
export function keras(spec, shapes) {
  if (spec.layout === 'channels_first') throw new RangeError(spec.layers[0]?.['name'] ?? '');
  const inputs = Object.entries(inputsOf(spec));
  const lines = inputs.map(([name, size]) => {
    if (!Array.isArray(size)) throw new RangeError(name);
    return `${variable(name)} = keras.Input(${python(size)}, name=${JSON.stringify(name)})`;
  });
  for (const { name, kind, given, sources, rank } of steps(spec, shapes)) {
    if (given['channels_first']) throw new RangeError(name);
    const { channels_first: _, ...rest } = given;
    const text = kerasLayer(kind, rest, rank, name);
    const reads = sources.map(variable);
    lines.push(`${variable(name)} = layers.${text}(${reads.length > 1 ? `[${reads.join(', ')}]` : reads[0]})`);
  }
  const outs = outputsOf(spec).map(variable);
  const ins = inputs.map(([name]) => variable(name));
  return ['import keras', 'from keras import layers', '', ...lines, `model = keras.Model(${list(ins)}, ${list(outs)})`, ''].join('\n');
}

/** @param {string[]} names */
const list = (names) => (names.length === 1 ? names[0] : `[${names.join(', ')}]`);

/**
 * @param {string} kind @param {Record<string, unknown>} given @param {number} rank @param {string} name
 * @returns {string}
 */
function kerasLayer(kind, given, rank, name) {
  /** @param {string[]} parts */
  const call = (...parts) => `(${[...parts.filter(Boolean), `name=${JSON.stringify(name.replaceAll('/', '_'))}`].join(', ')})`;
  /** @param {string} key @param {string} label @param {number} usual */
  const sizes = (key, label, usual = 1) => {
    const values = pair(given[key], rank);
    return values.every((each) => each === usual) ? '' : `${label}=${tuple(values)}`;
  };
  const padding = () => {
    const value = given['padding'] ?? 'valid';
    if (value !== 'same' && value !== 'valid' && !(value === 'causal' && rank === 1 && kind === 'conv')) throw new RangeError(name);
    return value === 'valid' ? '' : `padding="${value}"`;
  };
  const bias = given['bias'] === false ? 'use_bias=False' : '';
  const merges = /** @type {Record<string, string>} */ ({ add: 'Add', multiply: 'Multiply', average: 'Average', maximum: 'Maximum', minimum: 'Minimum', subtract: 'Subtract' });
  if (kind in merges) {
    only(given, [], name);
    return `${merges[kind]}${call()}`;
  }
  switch (kind) {
    case 'conv':
      only(given, ['filters', 'kernel', 'stride', 'padding', 'dilation', 'groups', 'bias'], name);
      return `Conv${rank}D${call(String(given['filters']), tuple(pair(given['kernel'], rank)), sizes('stride', 'strides'), padding(), sizes('dilation', 'dilation_rate'), (given['groups'] ?? 1) === 1 ? '' : `groups=${given['groups']}`, bias)}`;
    case 'depthwise_conv':
      only(given, ['kernel', 'multiplier', 'stride', 'padding', 'dilation', 'bias'], name);
      if (rank > 2) throw new RangeError(name);
      return `DepthwiseConv${rank}D${call(tuple(pair(given['kernel'], rank)), sizes('stride', 'strides'), padding(), sizes('dilation', 'dilation_rate'), (given['multiplier'] ?? 1) === 1 ? '' : `depth_multiplier=${given['multiplier']}`, bias)}`;
    case 'max_pool':
    case 'average_pool': {
      only(given, ['kernel', 'stride', 'padding', 'dilation', 'ceil_mode', 'count_include_pad'], name);
      must(given['ceil_mode'], false, name);
      must(given['count_include_pad'], false, name);
      if (pair(given['dilation'], rank).some((each) => each !== 1)) throw new RangeError(name);
      const kernel = pair(given['kernel'] ?? 2, rank);
      const stride = given['stride'] === undefined || given['stride'] === null ? kernel : pair(given['stride'], rank);
      return `${kind === 'max_pool' ? 'Max' : 'Average'}Pooling${rank}D${call(tuple(kernel), `strides=${tuple(stride)}`, padding())}`;
    }
    case 'global_pool':
      only(given, ['kind', 'keepdims'], name);
      if (!['average', 'max', undefined].includes(/** @type {any} */ (given['kind']))) throw new RangeError(name);
      return `Global${given['kind'] === 'max' ? 'Max' : 'Average'}Pooling${rank}D${call(given['keepdims'] ? 'keepdims=True' : '')}`;
    case 'dense':
      only(given, ['units', 'bias'], name);
      return `Dense${call(String(given['units']), bias)}`;
    case 'activation':
      only(given, ['function'], name);
      if (!KERAS_FUNCTIONS.has(String(given['function']))) throw new RangeError(name);
      return `Activation${call(JSON.stringify(given['function']))}`;
    case 'batch_norm':
      only(given, ['axis', 'scale', 'center', 'statistics', 'renorm'], name);
      must(given['statistics'], true, name);
      must(given['renorm'], false, name);
      return `BatchNormalization${call((given['axis'] ?? -1) === -1 || given['axis'] === rank + 1 ? '' : `axis=${given['axis']}`, given['scale'] === false ? 'scale=False' : '', given['center'] === false ? 'center=False' : '')}`;
    case 'flatten':
      only(given, [], name);
      return `Flatten${call()}`;
    case 'dropout':
      only(given, ['rate'], name);
      return `Dropout${call(String(given['rate'] ?? 0.5))}`;
    case 'concat':
      only(given, ['axis'], name);
      return `Concatenate${call((given['axis'] ?? -1) === -1 ? '' : `axis=${given['axis']}`)}`;
    case 'pad':
      only(given, ['padding'], name);
      if (rank < 1 || rank > 3 || typeof given['padding'] === 'string') throw new RangeError(name);
      return `ZeroPadding${rank}D${call(Array.isArray(given['padding']) ? JSON.stringify(given['padding']).replaceAll('[', '(').replaceAll(']', ')') : String(given['padding'] ?? 1))}`;
    default:
      throw new RangeError(name);
  }
}

const TORCH_FUNCTIONS = /** @type {Record<string, string>} */ ({ relu: 'ReLU()', sigmoid: 'Sigmoid()', tanh: 'Tanh()', softmax: 'Softmax(dim=1)', elu: 'ELU()', selu: 'SELU()', gelu: 'GELU()', silu: 'SiLU()', swish: 'SiLU()', softplus: 'Softplus()', relu6: 'ReLU6()', linear: 'Identity()' });

/**
 * An nn.Module. Its maps have the channels in front; flattened features come in another order than channels last has,
 * which changes no count.
 * @param {Spec} spec @param {Map<string, number[]>} shapes what each entry makes, by name
 * @returns {string}
 * @throws {RangeError} a layer that is not written; the message is its name
 */
export function torch(spec, shapes) {
  const first = spec.layout === 'channels_first';
  /** @type {string[]} */
  const made = [];
  /** @type {string[]} */
  const lines = [];
  for (const { name, kind, given, sources, shape, rank } of steps(spec, shapes)) {
    const channels = first ? shape[1] : shape.at(-1);
    const reads = sources.map(variable);
    const own = variable(name);
    if (rank > 0 && 'channels_first' in { ...given } !== first && ['conv', 'depthwise_conv', 'max_pool', 'average_pool', 'global_pool'].includes(kind)) throw new RangeError(name);
    if (kind === 'add' || kind === 'multiply') {
      only(given, [], name);
      lines.push(`${own} = ${reads.join(kind === 'add' ? ' + ' : ' * ')}`);
    } else if (kind === 'concat') {
      const axis = given['axis'] ?? -1;
      if (rank > 0 && axis !== (first ? 1 : -1) && axis !== (first ? 1 : rank + 1)) throw new RangeError(name);
      lines.push(`${own} = torch.cat([${reads.join(', ')}], 1)`);
    } else {
      made.push(`self.${own} = nn.${torchLayer(kind, given, rank, name, Number(channels), shape, first)}`);
      lines.push(`${own} = self.${own}(${reads.join(', ')})`);
    }
  }
  const ins = Object.keys(inputsOf(spec)).map(variable);
  return ['import torch', 'from torch import nn', '', '', 'class Network(nn.Module):', '    def __init__(self):', '        super().__init__()',
    ...made.map((line) => `        ${line}`), '', `    def forward(self, ${ins.join(', ')}):`, ...lines.map((line) => `        ${line}`),
    `        return ${outputsOf(spec).map(variable).join(', ')}`, ''].join('\n');
}

/**
 * @param {string} kind @param {Record<string, unknown>} given @param {number} rank @param {string} name
 * @param {number} channels @param {number[]} shape @param {boolean} first
 * @returns {string}
 */
function torchLayer(kind, given, rank, name, channels, shape, first) {
  const sides = first ? shape.slice(2) : shape.slice(1, -1);
  const list_ = (/** @type {(string | false | undefined)[]} */ ...parts) => `(${parts.filter(Boolean).join(', ')})`;
  const bias = given['bias'] === false && 'bias=False';
  const stride = pair(given['stride'], rank);
  const dilation = pair(given['dilation'], rank);
  const kernel = pair(given['kernel'] ?? 2, rank);
  /** The same number of zeros on both sides, or it cannot be said in PyTorch. */
  const padding = () => {
    const value = given['padding'] ?? 'valid';
    if (value === 'valid' || value === 0) return '';
    if (typeof value === 'number') return `padding=${value}`;
    if (value === 'same') {
      const zeros = sides.map((side, axis) => {
        const span = (dilation[axis] ?? 1) * ((kernel[axis] ?? 1) - 1) + 1;
        const step = stride[axis] ?? 1;
        return Math.max((Math.ceil(side / step) - 1) * step + span - side, 0);
      });
      if (zeros.some((each) => each % 2)) throw new RangeError(name);
      return zeros.some(Boolean) && `padding=${tuple(zeros.map((each) => each / 2))}`;
    }
    if (Array.isArray(value) && value.every((each) => (Array.isArray(each) ? each[0] === each[1] : typeof each === 'number'))) {
      return `padding=${tuple(value.map((each) => (Array.isArray(each) ? each[0] : each)))}`;
    }
    throw new RangeError(name);
  };
  switch (kind) {
    case 'conv':
      only(given, ['filters', 'kernel', 'stride', 'padding', 'dilation', 'groups', 'bias', 'channels_first'], name);
      return `Conv${rank}d${list_(String(channels), String(given['filters']), tuple(kernel), stride.some((each) => each !== 1) && `stride=${tuple(stride)}`, padding(), dilation.some((each) => each !== 1) && `dilation=${tuple(dilation)}`, (given['groups'] ?? 1) !== 1 && `groups=${given['groups']}`, bias)}`;
    case 'depthwise_conv':
      only(given, ['kernel', 'multiplier', 'stride', 'padding', 'dilation', 'bias', 'channels_first'], name);
      return `Conv${rank}d${list_(String(channels), String(channels * Number(given['multiplier'] ?? 1)), tuple(kernel), stride.some((each) => each !== 1) && `stride=${tuple(stride)}`, padding(), dilation.some((each) => each !== 1) && `dilation=${tuple(dilation)}`, `groups=${channels}`, bias)}`;
    case 'max_pool':
    case 'average_pool': {
      only(given, ['kernel', 'stride', 'padding', 'dilation', 'ceil_mode', 'count_include_pad', 'channels_first'], name);
      if (dilation.some((each) => each !== 1)) throw new RangeError(name);
      if (given['stride'] === undefined || given['stride'] === null) stride.splice(0, rank, ...kernel);
      const zeros = padding();
      return `${kind === 'max_pool' ? 'Max' : 'Avg'}Pool${rank}d${list_(tuple(kernel), `stride=${tuple(stride)}`, zeros, !!given['ceil_mode'] && 'ceil_mode=True', kind === 'average_pool' && !!zeros && `count_include_pad=${given['count_include_pad'] ? 'True' : 'False'}`)}`;
    }
    case 'global_pool': {
      only(given, ['kind', 'keepdims', 'channels_first'], name);
      const pool = `Adaptive${given['kind'] === 'max' ? 'Max' : 'Avg'}Pool${rank}d(1)`;
      return given['keepdims'] ? pool : `Sequential(nn.${pool}, nn.Flatten())`;
    }
    case 'dense':
      only(given, ['units', 'bias'], name);
      if (rank > 0) throw new RangeError(name);
      return `Linear${list_(String(shape.at(-1)), String(given['units']), bias)}`;
    case 'activation': {
      only(given, ['function'], name);
      const found = TORCH_FUNCTIONS[String(given['function'])];
      if (!found) throw new RangeError(name);
      return found;
    }
    case 'batch_norm':
      only(given, ['axis', 'scale', 'center', 'statistics', 'renorm'], name);
      if (given['scale'] === false || given['center'] === false || given['statistics'] === false || given['renorm']) throw new RangeError(name);
      if (![first ? 1 : -1, first ? 1 : rank + 1].includes(Number(given['axis'] ?? -1))) throw new RangeError(name);
      return `BatchNorm${Math.max(rank, 1)}d(${channels})`;
    case 'flatten':
      only(given, [], name);
      return 'Flatten()';
    case 'dropout':
      only(given, ['rate'], name);
      return `Dropout(${given['rate'] ?? 0.5})`;
    default:
      throw new RangeError(name);
  }
}
