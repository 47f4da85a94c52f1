// Hit ratio over capacity as an SVG: a panel for each trace, a line for each strategy, capacities on a logarithmic axis. The same
// colours in all panels, told once at the top; middle tones on no background, to be read on a light and on a dark page. Pure.
import { escaped, short } from './picture.ts';

export interface Curve {
  readonly strategy: string;
  /** Capacity, as a share of all keys or bytes, and hit ratio; by capacity. */
  readonly points: readonly (readonly [capacity: number, hitRatio: number])[];
}
export interface CurvePanel {
  readonly title: string;
  readonly subtitle: string;
  readonly curves: readonly Curve[];
}

interface Stroke {
  readonly colour: string;
  readonly width: number;
  readonly dashes?: string;
}

const TEXT = '#7d8590';
const GRID = '#7d859040';
const STROKES: Readonly<Record<string, Stroke>> = {
  opt: { colour: TEXT, width: 1.5, dashes: '2 4' },
  lru: { colour: '#4c78a8', width: 1.5 },
  lfu: { colour: '#b565b0', width: 1.5 },
  arc: { colour: '#4a9e45', width: 1.5 },
  sieve: { colour: '#d64550', width: 1.5 },
  s3fifo: { colour: '#b39a1c', width: 1.5 },
  wtinylfu: { colour: '#1fa3a3', width: 1.5, dashes: '6 3' },
  'wtinylfu-climber': { colour: '#1fa3a3', width: 1.5 },
  gdsf: { colour: '#9a6a52', width: 1.5 },
  adaptive: { colour: '#f0801f', width: 3 },
};
const OTHER: Stroke = { colour: TEXT, width: 1 };
/** What is drawn later lies above. */
const ORDER = Object.keys(STROKES);
const strokeOf = (strategy: string): Stroke => STROKES[strategy] ?? OTHER;

const FONT = 11;
const COLUMNS = 3;
const SIZE = { width: 370, height: 262 };
const MARGIN = { left: 48, top: 46, right: 14, bottom: 40 };
const FRAME = {
  ...{ width: SIZE.width - MARGIN.left - MARGIN.right, height: SIZE.height - MARGIN.top - MARGIN.bottom },
};
const HEAD = 64;

export function cachePicture(panels: readonly CurvePanel[], caption: string): string {
  const rows = Math.ceil(panels.length / COLUMNS);
  const [width, height] = [COLUMNS * SIZE.width, HEAD + rows * SIZE.height];
  const strategies = ORDER.filter((name) => panels.some(({ curves }) => curves.some((one) => one.strategy === name)));
  const drawn = panels.map((panel, i) => {
    const [x, y] = [(i % COLUMNS) * SIZE.width, HEAD + Math.floor(i / COLUMNS) * SIZE.height];
    return `<g transform="translate(${x} ${y})">\n${drawPanel(panel)}\n</g>`;
  });
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" font-family="system-ui, sans-serif" font-size="${FONT}" fill="${TEXT}">`,
    `<title>${escaped(caption)}</title>`,
    `<text x="${MARGIN.left}" y="20">${escaped(caption)}</text>`,
    ...drawLegend(strategies.reverse()),
    ...drawn,
    '</svg>\n',
  ].join('\n');
}

const LETTER = 6;

function drawLegend(strategies: readonly string[]): string[] {
  let right = MARGIN.left;
  return strategies.map((strategy) => {
    const x = right;
    right += 46 + LETTER * strategy.length;
    return `${drawPath(`M${x} 44h22`, strokeOf(strategy))}<text x="${x + 27}" y="48">${escaped(strategy)}</text>`;
  });
}

const drawPath = (path: string, { colour, width, dashes = '' }: Stroke): string =>
  `<path d="${path}" fill="none" stroke="${colour}" stroke-width="${width}" stroke-dasharray="${dashes}" stroke-linejoin="round"/>`;

/** The next of 5, 10, 20, 40, … percent, so that the highest line uses its panel. */
const TOPS = [0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1];

function drawPanel({ title, subtitle, curves }: CurvePanel): string {
  const all = curves.flatMap(({ points }) => points);
  const capacities = [...new Set(all.map(([capacity]) => capacity))].sort((a, b) => a - b);
  const [first = 0.001, last = 1] = [capacities[0], capacities.at(-1)];
  const most = Math.max(...all.map(([, ratio]) => ratio));
  const top = TOPS.find((one) => one >= most) ?? 1;
  const x = (capacity: number) =>
    MARGIN.left + (last > first ? (FRAME.width * Math.log(capacity / first)) / Math.log(last / first) : 0);
  const y = (ratio: number) => MARGIN.top + FRAME.height * (1 - ratio / top);
  const ordered = [...curves].sort((a, b) => ORDER.indexOf(a.strategy) - ORDER.indexOf(b.strategy));
  return [
    `<text x="${MARGIN.left}" y="20" font-size="12" font-weight="600">${escaped(title)}</text>`,
    `<text x="${MARGIN.left}" y="35">${escaped(subtitle)}</text>`,
    ...[0, 0.25, 0.5, 0.75, 1].map((part) => drawLevel(y(part * top), 100 * part * top)),
    ...capacities.map((capacity) => drawUpright(x(capacity), capacity)),
    ...ordered.map(({ strategy, points }) => {
      const path = points.map(
        ([capacity, ratio], i) => `${i === 0 ? 'M' : 'L'}${short(x(capacity))} ${short(y(ratio))}`,
      );
      return drawPath(path.join(''), strokeOf(strategy));
    }),
  ].join('\n');
}

const drawLevel = (y: number, percent: number): string =>
  `<path d="M${MARGIN.left} ${short(y)}h${FRAME.width}" stroke="${GRID}"/><text x="${MARGIN.left - 6}" y="${short(y + 4)}" text-anchor="end">${short(percent)} %</text>`;

const drawUpright = (x: number, capacity: number): string =>
  `<path d="M${short(x)} ${MARGIN.top}v${FRAME.height}" stroke="${GRID}"/><text x="${short(x)}" y="${MARGIN.top + FRAME.height + 16}" text-anchor="middle">${capacityText(capacity)}</text>`;

/** Below one it is a share. */
const capacityText = (capacity: number): string =>
  capacity < 1 ? `${Number((100 * capacity).toPrecision(2))} %` : String(capacity);
