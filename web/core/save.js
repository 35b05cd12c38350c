/** What people take with them: files, pictures, the clipboard. */

/** Of an SVG element, what a style sheet may have said and a file of its own has to say itself. */
const DRAWN = [
  'fill', 'fill-opacity', 'stroke', 'stroke-width', 'stroke-dasharray', 'stroke-opacity', 'stroke-linejoin', 'opacity',
  'font-family', 'font-size', 'font-weight', 'text-anchor', 'dominant-baseline', 'display', 'visibility',
];

/**
 * @param {string} name
 * @param {string} mime
 * @param {string | Blob} data
 */
export function download(name, mime, data) {
  const url = URL.createObjectURL(typeof data === 'string' ? new Blob([data], { type: mime }) : data);
  const link = document.createElement('a');
  link.href = url;
  link.download = name;
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

/**
 * The text of an SVG that looks the same without the page's style sheets.
 * @param {SVGSVGElement} svg an element that is shown
 * @returns {string}
 */
export function standalone(svg) {
  const copy = /** @type {SVGSVGElement} */ (svg.cloneNode(true));
  const originals = [svg, ...svg.querySelectorAll('*')];
  [copy, ...copy.querySelectorAll('*')].forEach((element, index) => {
    const original = originals[index];
    if (!original) return;
    const style = getComputedStyle(original);
    for (const name of DRAWN) {
      const value = style.getPropertyValue(name);
      if (value) element.setAttribute(name, value);
    }
    element.removeAttribute('class');
    element.removeAttribute('tabindex');
  });
  const { width, height } = size(svg);
  copy.setAttribute('xmlns', 'http://www.w3.org/2000/svg');
  copy.setAttribute('width', String(width));
  copy.setAttribute('height', String(height));
  const paper = document.createElementNS('http://www.w3.org/2000/svg', 'rect');
  const [x, y, w, hgt] = (copy.getAttribute('viewBox') ?? `0 0 ${width} ${height}`).split(/[ ,]+/);
  for (const [name, value] of Object.entries({ x, y, width: w, height: hgt })) paper.setAttribute(name, String(value));
  paper.setAttribute('fill', background(svg));
  copy.prepend(paper);
  return new XMLSerializer().serializeToString(copy);
}

/**
 * @param {SVGSVGElement} svg
 * @param {number} [scale] pixels of the picture for one of the page
 * @returns {Promise<Blob>} a PNG
 */
export async function svgToPng(svg, scale = 2) {
  const { width, height } = size(svg);
  const image = new Image();
  const url = URL.createObjectURL(new Blob([standalone(svg)], { type: 'image/svg+xml' }));
  try {
    image.src = url;
    await image.decode();
    const canvas = document.createElement('canvas');
    canvas.width = Math.round(width * scale);
    canvas.height = Math.round(height * scale);
    canvas.getContext('2d')?.drawImage(image, 0, 0, canvas.width, canvas.height);
    return await canvasToPng(canvas);
  } finally {
    URL.revokeObjectURL(url);
  }
}

/**
 * @param {HTMLCanvasElement} canvas
 * @returns {Promise<Blob>}
 */
export function canvasToPng(canvas) {
  return new Promise((resolve, reject) => {
    canvas.toBlob((blob) => (blob ? resolve(blob) : reject(new Error('no picture'))), 'image/png');
  });
}

/**
 * @param {string} text
 * @returns {Promise<boolean>} whether it is in the clipboard now
 */
export async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    // Pages that are not served over TLS, nor from this machine, have no clipboard of that kind.
    const area = document.createElement('textarea');
    area.value = text;
    area.className = 'offscreen';
    document.body.append(area);
    area.select();
    const done = document.execCommand('copy');
    area.remove();
    return done;
  }
}

/**
 * Rows as CSV (RFC 4180).
 * @param {readonly (readonly unknown[])[]} rows
 */
export function csv(rows) {
  /** @param {unknown} value */
  const cell = (value) => {
    const text = String(value ?? '');
    return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  return `${rows.map((row) => row.map(cell).join(',')).join('\r\n')}\r\n`;
}

/**
 * Rows as a Markdown table; the first one is its head.
 * @param {readonly (readonly unknown[])[]} rows
 */
export function markdown(rows) {
  const [head = [], ...body] = rows;
  /** @param {readonly unknown[]} row */
  const line = (row) => `| ${row.map((value) => String(value ?? '').replaceAll('|', '\\|').replaceAll('\n', ' ')).join(' | ')} |`;
  return `${[line(head), line(head.map(() => '---')), ...body.map(line)].join('\n')}\n`;
}

/** @param {SVGSVGElement} svg */
function size(svg) {
  const box = svg.viewBox.baseVal;
  return box && box.width ? { width: box.width, height: box.height } : { width: svg.clientWidth, height: svg.clientHeight };
}

/** @param {Element} element */
function background(element) {
  for (let at = /** @type {Element | null} */ (element); at; at = at.parentElement) {
    const colour = getComputedStyle(at).backgroundColor;
    if (colour && !/^rgba\(.*, 0\)$|^transparent$/.test(colour)) return colour;
  }
  return 'white';
}
