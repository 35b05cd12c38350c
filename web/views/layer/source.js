/**
 * The layer, written for others: Keras, PyTorch, the command line, the API.
 *
 * @typedef {import('./geometry.js').Axis} Axis
 * @typedef {import('./question.js').Question} Question
 */

/** @param {number[]} values @returns {string} Python: one number where all are the same */
function python(values) {
  return values.every((value) => value === values[0]) ? String(values[0]) : `(${values.join(', ')})`;
}

/**
 * @param {Question} question
 * @param {Axis[]} axes
 * @returns {string}
 */
export function keras(question, axes) {
  const rank = axes.length;
  const channels = question.input.at(-1) ?? 1;
  const first = question.layout === 'nchw';
  const input = first ? [channels, ...question.input.slice(0, -1)] : question.input;
  const format = first ? ', data_format="channels_first"' : '';
  const type = question.dtype === 'float32' ? '' : `, dtype="${question.dtype}"`;
  const named = question.padding === 'valid' || question.padding === 'same' || (question.padding === 'causal' && rank === 1 && !question.transposed);
  const lines = [`keras.Input((${input.join(', ')}))`];
  const options = [
    `strides=${python(axes.map((axis) => axis.stride))}`,
    `padding="${named ? question.padding : 'valid'}"`,
    ...(axes.some((axis) => axis.dilation !== 1) ? [`dilation_rate=${python(axes.map((axis) => axis.dilation))}`] : []),
    ...(question.groups !== 1 ? [`groups=${question.groups}`] : []),
    ...(question.bias ? [] : ['use_bias=False']),
  ].join(', ') + format + type;
  const kernel = python(axes.map((axis) => axis.kernel));
  if (question.transposed) {
    lines.push(`layers.Conv${rank}DTranspose(${question.filters}, ${kernel}, ${options})`);
    if (!named) {
      // Keras keeps n x s positions where the kernel is smaller than the stride.
      const sides = axes.map((axis) => [axis.cropBefore, (axis.input - 1) * axis.stride + Math.max(axis.span, axis.stride) - axis.cropBefore - axis.output]);
      lines.push(`layers.Cropping${rank}D(${pairs(sides)}${format})`);
    }
  } else {
    const sides = axes.map((axis) => [axis.before, axis.after]);
    if (!named && sides.flat().some(Boolean)) lines.push(`layers.ZeroPadding${rank}D(${pairs(sides)}${format})`);
    const multiplier = (question.filters ?? channels) / channels;
    if (question.depthwise && rank < 3) {
      lines.push(`layers.DepthwiseConv${rank}D(${kernel}, depth_multiplier=${multiplier}, ${options})`);
    } else {
      const groups = question.depthwise ? `, groups=${channels}` : '';
      lines.push(`layers.Conv${rank}D(${question.filters ?? channels}, ${kernel}${groups}, ${options})`);
    }
  }
  return `import keras\nfrom keras import layers\n\nmodel = keras.Sequential([\n${lines.map((line) => `    ${line},\n`).join('')}])\n`;
}

/**
 * @param {Question} question
 * @param {Axis[]} axes
 * @returns {string}
 */
export function torch(question, axes) {
  const rank = axes.length;
  const channels = question.input.at(-1) ?? 1;
  const filters = question.filters ?? channels;
  const groups = question.depthwise ? channels : question.groups;
  const type = question.dtype === 'float32' || question.dtype.startsWith('mixed') ? '' : `, dtype=torch.${question.dtype}`;
  const even = axes.every((axis) => axis.before === axis.after);
  const lines = [];
  const options = [
    `stride=${python(axes.map((axis) => axis.stride))}`,
    ...(!question.transposed && even && axes.some((axis) => axis.before) ? [`padding=${python(axes.map((axis) => axis.before))}`] : []),
    ...(axes.some((axis) => axis.dilation !== 1) ? [`dilation=${python(axes.map((axis) => axis.dilation))}`] : []),
    ...(groups !== 1 ? [`groups=${groups}`] : []),
    ...(question.bias ? [] : ['bias=False']),
  ];
  const kernel = python(axes.map((axis) => axis.kernel));
  if (question.transposed) {
    const whole = axes.map((axis) => (axis.input - 1) * axis.stride + axis.span);
    const symmetric = axes.map((axis) => Math.min(axis.cropBefore, axis.cropAfter));
    const more = axes.map((axis, at) => Math.max(axis.output - (whole[at] ?? 0) + axis.cropBefore, 0));
    if (symmetric.some(Boolean)) options.push(`padding=${python(symmetric)}`);
    if (more.some(Boolean)) options.push(`output_padding=${python(more)}`);
    lines.push(`nn.ConvTranspose${rank}d(${channels}, ${filters}, ${kernel}, ${options.join(', ')}${type})`);
    // A negative padding crops.
    const rest = axes.map((axis, at) => [(symmetric[at] ?? 0) - axis.cropBefore, (symmetric[at] ?? 0) - axis.cropAfter]);
    if (rest.flat().some(Boolean)) lines.push(pad(rank, rest));
  } else {
    if (!even) lines.push(pad(rank, axes.map((axis) => [axis.before, axis.after])));
    lines.push(`nn.Conv${rank}d(${channels}, ${filters}, ${kernel}, ${options.join(', ')}${type})`);
  }
  const sizes = [question.batch, channels, ...question.input.slice(0, -1)].join(' x ');
  return `import torch\nfrom torch import nn\n\n# input: ${sizes}\nmodel = nn.Sequential(\n${lines.map((line) => `    ${line},\n`).join('')})\n`;
}

/** @param {Record<string, string>} state minimal @returns {string} */
export function commandLine(state) {
  const parts = ['convcalc conv'];
  for (const [key, value] of Object.entries(state)) {
    if (key === 'bias') parts.push('--no-bias');
    else if (value === 'true') parts.push(`--${key}`);
    else if (value !== 'false') parts.push(`--${key} ${value.replace(/\s+/g, '')}`);
  }
  return `${parts.join(' ')} --explain\n`;
}

/**
 * @param {Question} question
 * @param {string} origin
 * @returns {string}
 */
export function curl(question, origin) {
  return `curl -s ${origin}/v1/conv -H 'content-type: application/json' -d '${JSON.stringify({ ...question, explain: true })}'\n`;
}

/** @param {number[][]} sides */
function pairs(sides) {
  const found = sides.map(([before, after]) => `(${before}, ${after})`);
  return found.length === 1 ? found[0] : `(${found.join(', ')})`;
}

/**
 * PyTorch's padding begins with the last axis.
 * @param {number} rank
 * @param {number[][]} sides
 */
function pad(rank, sides) {
  return `nn.ConstantPad${rank}d((${[...sides].reverse().flat().join(', ')}), 0.0)`;
}
