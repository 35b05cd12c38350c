/** Numbers for people. */

const DECIMAL = ['bytes', 'kB', 'MB', 'GB', 'TB', 'PB', 'EB'];
const BINARY = ['bytes', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB', 'EiB'];
// Made once: making one takes longer than using it a hundred times.
const ALL_DIGITS = new Intl.NumberFormat('en-US', { maximumFractionDigits: 6 });
const WHOLE = new Intl.NumberFormat('en-US');
const THREE = new Intl.NumberFormat('en-US', { maximumSignificantDigits: 3 });
const FOUR = new Intl.NumberFormat('en-US', { maximumSignificantDigits: 4 });
const PREFIXES = ['', 'k', 'M', 'G', 'T', 'P', 'E'];

/**
 * All digits, in threes: 225,000,000, as the derivations and the command line write them.
 * @param {number | bigint} number
 */
export function count(number) {
  return ALL_DIGITS.format(number);
}

/**
 * Three digits that count: 225 M, 15.2 k.
 * @param {number | bigint} number
 * @param {string} [unit] 'MACs' gives "225 M MACs"
 */
export function short(number, unit = '') {
  return scaled(number, 1000, PREFIXES, unit);
}

/**
 * 12 MB is 12,000,000 bytes.
 * @param {number | bigint} number
 */
export function bytes(number) {
  return scaled(number, 1000, DECIMAL);
}

/**
 * 8 GiB is 8 x 2^30 bytes.
 * @param {number | bigint} number
 */
export function binaryBytes(number) {
  return scaled(number, 1024, BINARY);
}

/**
 * 1 × 150 × 100 × 200
 * @param {readonly (number | bigint)[]} sizes
 */
export function shape(sizes) {
  return sizes.map(String).join(' × ');
}

/**
 * @param {number} part
 * @param {number} [digits]
 */
export function percent(part, digits = 0) {
  return `${(part * 100).toLocaleString('en-US', { maximumFractionDigits: digits })} %`;
}

/**
 * @param {number | bigint} number
 * @param {number} base
 * @param {readonly string[]} units
 * @param {string} [after]
 */
function scaled(number, base, units, after = '') {
  let value = Number(number);
  let step = 0;
  // 999.9 k is rounded to 1 M, not to 1,000 k.
  while (Math.abs(value) >= base * 0.9995 && step < units.length - 1) {
    value /= base;
    step += 1;
  }
  const text = (step ? (Math.abs(value) >= 1000 ? FOUR : THREE) : WHOLE).format(value);
  return [text, units[step], after].filter(Boolean).join('\u00a0');
}
