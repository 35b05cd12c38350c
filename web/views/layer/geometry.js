/**
 * Where the window stands, axis by axis: for the picture. Sizes, stride and padding are those of the service's answer.
 *
 * @typedef {object} Axis
 * @property {string} name rows, columns, planes or positions
 * @property {boolean} transposed
 * @property {number} kernel
 * @property {number} stride
 * @property {number} dilation
 * @property {number} span cells from the window's first to its last
 * @property {number} input cells of the input
 * @property {number} before cells of padding in front of it
 * @property {number} after cells of padding behind it
 * @property {number} ignored cells of the input, at its end, that no window reaches
 * @property {number} output neurons
 * @property {number} cropBefore of a transposed convolution: what is cut off in front of the output
 * @property {number} cropAfter
 *
 * @typedef {import('./question.js').Question} Question
 * @typedef {{ output_shape: number[], receptive_field: { stride: number[], padding: number[] } | null }} Layer
 */

const NAMES = { 1: ['positions'], 2: ['rows', 'columns'], 3: ['planes', 'rows', 'columns'] };

/** An axis of one cell, for maps that have only one axis. @type {Axis} */
export const FLAT = {
  name: 'flat', transposed: false, kernel: 1, stride: 1, dilation: 1, span: 1, input: 1, before: 0, after: 0, ignored: 0,
  output: 1, cropBefore: 0, cropAfter: 0,
};

/**
 * @param {Question} question
 * @param {Layer} layer the answer's
 * @returns {Axis[]}
 */
export function axesOf(question, layer) {
  const rank = question.input.length - 1;
  const first = question.layout === 'nchw' ? 2 : 1;
  /** @param {number | number[]} value @param {number} at */
  const on = (value, at) => (typeof value === 'number' ? value : value[at] ?? 1);
  return Array.from({ length: rank }, (_, at) => {
    const kernel = on(question.kernel, at);
    const stride = on(question.stride, at);
    const dilation = on(question.dilation, at);
    const span = dilation * (kernel - 1) + 1;
    const input = question.input[at] ?? 1;
    const output = Number(layer.output_shape[first + at]);
    const sides = given(question.padding, at);
    const name = NAMES[/** @type {1 | 2 | 3} */ (rank)][at] ?? 'positions';
    const common = { name, transposed: question.transposed, kernel, stride, dilation, span, input, output };
    if (question.transposed) {
      const crop = sides ? sides[0] : cropped(question.padding, span, stride);
      const whole = (input - 1) * stride + span;
      return { ...common, before: 0, after: 0, ignored: 0, cropBefore: crop, cropAfter: Math.max(whole - crop - output, 0) };
    }
    const before = layer.receptive_field?.padding[at] ?? 0;
    const reach = (output - 1) * stride + span - before;
    const after = sides ? sides[1] : Math.max(reach - input, 0);
    return { ...common, before, after, ignored: Math.max(input - reach, 0), cropBefore: 0, cropAfter: 0 };
  });
}

/**
 * The cells of the input that a neuron's window stands on; those of the padding are below 0 or beyond the input.
 * A transposed convolution's are the cells whose kernels reach the neuron.
 * @param {Axis} axis
 * @param {number} at the neuron's place
 * @returns {{ first: number, last: number, step: number }} of no cells if last < first
 */
export function windowOf(axis, at) {
  if (!axis.transposed) {
    const first = at * axis.stride - axis.before;
    return { first, last: first + axis.span - 1, step: axis.dilation };
  }
  // Cell i reaches at + crop if (at + crop) - i x stride is one of 0, d, ..., d x (k - 1).
  const place = at + axis.cropBefore;
  const low = Math.max(Math.ceil((place - axis.span + 1) / axis.stride), 0);
  const high = Math.min(Math.floor(place / axis.stride), axis.input - 1);
  const cells = [];
  for (let cell = low; cell <= high; cell += 1) {
    if ((place - cell * axis.stride) % axis.dilation === 0) cells.push(cell);
  }
  const first = cells[0] ?? 0;
  return { first, last: cells.at(-1) ?? -1, step: cells.length > 1 ? (cells[1] ?? first + 1) - first : 1 };
}

/**
 * The neuron whose window stands about a cell.
 * @param {Axis} axis
 * @param {number} cell of the input, padding below 0 or beyond
 */
export function neuronAt(axis, cell) {
  const at = axis.transposed
    ? cell * axis.stride - axis.cropBefore + (axis.span - 1) / 2
    : (cell + axis.before - (axis.span - 1) / 2) / axis.stride;
  return clamp(Math.round(at), axis);
}

/**
 * @param {number} at
 * @param {Axis} axis
 */
export function clamp(at, axis) {
  return Math.max(0, Math.min(at, axis.output - 1));
}

/**
 * Where a key takes one from a neuron.
 * @param {KeyboardEvent} event
 * @param {number[]} from
 * @param {Axis[]} axes
 * @returns {number[] | null} null if it is no key of ours
 */
export function keyed(event, from, axes) {
  if (event.ctrlKey || event.metaKey || event.altKey) return null;
  const across = axes.length - 1;
  const by = event.shiftKey ? 10 : 1;
  /** @type {Record<string, [number, number]>} axis and step */
  const moves = {
    ArrowLeft: [across, -by], ArrowRight: [across, by], Home: [across, -Infinity], End: [across, Infinity],
    ...(across >= 1 ? { ArrowUp: [across - 1, -by], ArrowDown: [across - 1, by] } : {}),
    ...(across >= 2 ? { PageUp: [0, -1], PageDown: [0, 1] } : {}),
  };
  const move = moves[event.key];
  if (!move) return null;
  return from.map((at, axis) => (axis === move[0] ? clamp(at + move[1], /** @type {Axis} */ (axes[axis])) : at));
}

/**
 * Padding that was given in numbers: [before, after].
 * @param {Question['padding']} padding
 * @param {number} at
 * @returns {[number, number] | null}
 */
function given(padding, at) {
  if (typeof padding === 'string') return null;
  return typeof padding === 'number' ? [padding, padding] : [padding[2 * at] ?? 0, padding[2 * at + 1] ?? 0];
}

/**
 * What is cut off in front of a transposed convolution's output, as the operator does it.
 * @param {Question['padding']} padding
 * @param {number} span
 * @param {number} stride
 */
function cropped(padding, span, stride) {
  const total = padding === 'same' || padding === 'same_lower' ? Math.max(span - stride, 0) : 0;
  return padding === 'same_lower' ? total - Math.floor(total / 2) : Math.floor(total / 2);
}
