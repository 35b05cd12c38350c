/**
 * Filters: those with a name, and how their weights are written.
 *
 * @typedef {number[][]} Matrix
 */

const LINE = [0, 0, 0, 1, 0, 0, 0];
const BELL = [1, 4, 6, 4, 1];

/** As the command line's, name by name; a test compares them. @type {Record<string, Matrix>} */
export const KERNELS = {
  vertical: Array.from({ length: 7 }, () => [...LINE]),
  horizontal: LINE.map((weight) => Array.from({ length: 7 }, () => weight)),
  'sobel-x': [[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]],
  'sobel-y': [[-1, -2, -1], [0, 0, 0], [1, 2, 1]],
  edge: [[-1, -1, -1], [-1, 8, -1], [-1, -1, -1]],
  sharpen: [[0, -1, 0], [-1, 5, -1], [0, -1, 0]],
  blur: BELL.map((down) => BELL.map((across) => (down * across) / 256)),
  emboss: [[-2, -1, 0], [-1, 1, 1], [0, 1, 2]],
  identity: [[1]],
};

/**
 * "0,1,0;1,1,1" or a name.
 * @param {string} text
 * @returns {{ name: string, matrix: Matrix } | null}
 */
export function readKernel(text) {
  const named = KERNELS[text];
  if (named) return { name: text, matrix: named };
  const matrix = text.split(';').map((row) => row.split(',').map((cell) => (cell.trim() === '' ? NaN : Number(cell))));
  const width = matrix[0]?.length ?? 0;
  const sound = width <= 64 && matrix.length <= 64 && matrix.every((row) => row.length === width && row.every((cell) => Math.abs(cell) <= 1e6));
  return sound ? { name: 'own', matrix } : null;
}

/**
 * @param {Matrix} matrix
 * @returns {string} its name if it has one
 */
export function writeKernel(matrix) {
  const text = matrix.map((row) => row.join(',')).join(';');
  return Object.keys(KERNELS).find((name) => KERNELS[name]?.map((row) => row.join(',')).join(';') === text) ?? text;
}

/**
 * The same weights about the same middle, in a matrix of another size.
 * @param {Matrix} matrix
 * @param {number} rows
 * @param {number} columns
 * @returns {Matrix}
 */
export function resized(matrix, rows, columns) {
  const down = Math.floor((matrix.length - rows) / 2);
  const across = Math.floor(((matrix[0]?.length ?? 0) - columns) / 2);
  return Array.from({ length: rows }, (_, row) => Array.from({ length: columns }, (__, column) => matrix[row + down]?.[column + across] ?? 0));
}
