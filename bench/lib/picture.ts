// Error over bits as an SVG: panels side by side, an axis of bits, a logarithmic axis of error, a mark and a name for each
// codec, a line through those that are one codec at several rates, and Shannon's limit where there is one. Colours are middle
// tones on no background, so that it can be read on a light and on a dark page. Text goes through as text: names are escaped. Pure.
import { type Box, leaderOf, type Point, placeLabels } from './label-places.ts';

export interface Mark {
  readonly name: string;
  readonly bits: number;
  readonly error: number;
  readonly isOurs: boolean;
  /** Marks of one series are joined by a line. */
  readonly series?: string | undefined;
}
export interface Panel {
  readonly title: string;
  readonly yName: string;
  readonly marks: readonly Mark[];
  /** Whether 4^-bits is the least that anything can have here. */
  readonly hasLimit: boolean;
}

const OURS = '#d9601a';
const RIVAL = '#5b87b8';
const TEXT = '#7d8590';
const GRID = '#7d859040';
const FONT = 11;
const COLUMNS = 2;
const SIZE = { width: 580, height: 440 };
const MARGIN = { left: 62, top: 34, right: 12, bottom: 44 };

/** Panels two by two. Marks outside `bits` are left out: the table has them. */
export function picture(panels: readonly Panel[], bits: readonly [number, number], caption: string): string {
  const rows = Math.ceil(panels.length / COLUMNS);
  const [width, height] = [COLUMNS * SIZE.width, rows * SIZE.height + 46];
  const drawn = panels.map((panel, i) => {
    const [x, y] = [(i % COLUMNS) * SIZE.width, Math.floor(i / COLUMNS) * SIZE.height];
    return `<g transform="translate(${x} ${y})">\n${drawPanel(panel, bits)}\n</g>`;
  });
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" font-family="system-ui, sans-serif" font-size="${FONT}" fill="${TEXT}">`,
    `<title>${escaped(caption)}</title>`,
    ...drawn,
    drawLegend(rows * SIZE.height + 14, caption),
    '</svg>\n',
  ].join('\n');
}

function drawLegend(y: number, caption: string): string {
  const entry = (x: number, colour: string, text: string) =>
    `<circle cx="${x}" cy="${y - 4}" r="4.5" fill="${colour}"/><text x="${x + 10}" y="${y}">${text}</text>`;
  return [
    entry(MARGIN.left, OURS, 'Blatam'),
    entry(MARGIN.left + 80, RIVAL, 'others'),
    `<path d="M${MARGIN.left + 160} ${y - 4}h26" stroke="${TEXT}" stroke-dasharray="5 4"/>`,
    `<text x="${MARGIN.left + 194}" y="${y}">Shannon's limit for N(0,1), 4^-bits</text>`,
    `<text x="${MARGIN.left - 4}" y="${y + 20}">${escaped(caption)}</text>`,
  ].join('\n');
}

interface Scale {
  readonly frame: Box;
  readonly bits: readonly [number, number];
  readonly errors: readonly [number, number];
  place(bits: number, error: number): Point;
}

function scaleOf(errors: readonly [number, number], bits: readonly [number, number]): Scale {
  const frame = {
    ...{ x: MARGIN.left, y: MARGIN.top },
    ...{ width: SIZE.width - MARGIN.left - MARGIN.right, height: SIZE.height - MARGIN.top - MARGIN.bottom },
  };
  const place = (at: number, error: number) => ({
    x: frame.x + (frame.width * (at - bits[0])) / (bits[1] - bits[0]),
    y: frame.y + (frame.height * Math.log(errors[1] / error)) / Math.log(errors[1] / errors[0]),
  });
  return { frame, bits, errors, place };
}

function drawPanel(panel: Panel, bits: readonly [number, number]): string {
  const marks = panel.marks.filter((mark) => mark.bits >= bits[0] && mark.bits <= bits[1] && mark.error > 0);
  if (marks.length === 0) return `<text x="${MARGIN.left}" y="22">${escaped(panel.title)}: nothing to show</text>`;
  const sizes = marks.map(({ error }) => error);
  const scale = scaleOf([Math.min(...sizes) / 1.6, Math.max(...sizes) * 1.6], bits);
  const lines = [...seriesOf(marks), ...(panel.hasLimit ? [limit(scale)] : [])];
  const onLines = lines.flatMap((line) => along(line.map((point) => scale.place(...point))));
  return [
    `<text x="${MARGIN.left}" y="20" font-size="14" font-weight="600">${escaped(panel.title)}</text>`,
    drawAxes(scale, panel.yName),
    ...seriesOf(marks).map((line) =>
      drawLine(
        line.map((point) => scale.place(...point)),
        OURS,
        '',
      ),
    ),
    ...(panel.hasLimit
      ? [
          drawLine(
            limit(scale).map((point) => scale.place(...point)),
            TEXT,
            '5 4',
          ),
        ]
      : []),
    ...drawMarks(marks, scale, onLines),
  ].join('\n');
}

type Line = readonly (readonly [bits: number, error: number])[];

function seriesOf(marks: readonly Mark[]): Line[] {
  const groups = Map.groupBy(
    marks.filter(({ series }) => series !== undefined),
    ({ series }) => series,
  );
  return [...groups.values()].map((group) =>
    group.sort((a, b) => a.bits - b.bits).map(({ bits, error }) => [bits, error] as const),
  );
}

/** 4^-bits, as far as it lies in the frame. */
function limit({ bits, errors }: Scale): Line {
  const ends = [Math.max(bits[0], -Math.log2(errors[1]) / 2), Math.min(bits[1], -Math.log2(errors[0]) / 2)];
  return ends.map((at) => [at, 4 ** -at] as const);
}

const LINE_STEP = 6;

/** Points on a line, near enough to one another that no name slips between two. */
function along(line: readonly Point[]): Point[] {
  return line.slice(1).flatMap((end, i) => {
    const begin = line[i] ?? end;
    const steps = Math.max(1, Math.ceil(Math.hypot(end.x - begin.x, end.y - begin.y) / LINE_STEP));
    return Array.from({ length: steps + 1 }, (_, step) => ({
      x: begin.x + ((end.x - begin.x) * step) / steps,
      y: begin.y + ((end.y - begin.y) * step) / steps,
    }));
  });
}

function drawLine(line: readonly Point[], colour: string, dashes: string): string {
  const path = line.map(({ x, y }, i) => `${i === 0 ? 'M' : 'L'}${short(x)} ${short(y)}`).join('');
  return `<path d="${path}" fill="none" stroke="${colour}" stroke-width="1.5" stroke-dasharray="${dashes}" opacity=".45"/>`;
}

function drawAxes({ frame, bits, errors, place }: Scale, yName: string): string {
  const right = frame.x + frame.width;
  const bottom = frame.y + frame.height;
  const columns = Array.from(
    { length: Math.floor(bits[1]) - Math.ceil(bits[0]) + 1 },
    (_, i) => Math.ceil(bits[0]) + i,
  );
  const upright = columns.map((at) => {
    const x = short(place(at, errors[0]).x);
    return `<path d="M${x} ${frame.y}V${bottom}" stroke="${GRID}"/><text x="${x}" y="${bottom + 16}" text-anchor="middle">${at}</text>`;
  });
  const level = ticks(errors).map((error) => {
    const y = short(place(bits[0], error).y);
    return `<path d="M${frame.x} ${y}H${right}" stroke="${GRID}"/><text x="${frame.x - 6}" y="${y + 4}" text-anchor="end">${error}</text>`;
  });
  const middle = frame.y + frame.height / 2;
  return [
    ...upright,
    ...level,
    `<text x="${frame.x + frame.width / 2}" y="${bottom + 34}" text-anchor="middle">bits for each value, metadata included</text>`,
    `<text transform="translate(14 ${middle}) rotate(-90)" text-anchor="middle">${escaped(yName)}</text>`,
  ].join('\n');
}

/** 1, 2 and 5 times powers of ten. */
function ticks([low, high]: readonly [number, number]): number[] {
  const powers = Array.from({ length: 12 }, (_, i) => i - 9);
  const all = powers.flatMap((power) => [1, 2, 5].map((digit) => Number(`${digit}e${power}`)));
  return all.filter((value) => value >= low && value <= high);
}

function drawMarks(marks: readonly Mark[], scale: Scale, onLines: readonly Point[]): string[] {
  const points = marks.map(({ name, bits, error }) => ({
    ...{ ...scale.place(bits, error), width: widthOf(name) + 2, height: FONT + 2 },
  }));
  const boxes = placeLabels(points, scale.frame, onLines);
  return marks.map(({ name, isOurs }, i) => {
    const { x, y } = points[i] ?? { x: 0, y: 0 };
    const box = boxes[i] ?? scale.frame;
    const colour = isOurs ? OURS : RIVAL;
    const weight = isOurs ? ' font-weight="600"' : '';
    const text = `<text x="${short(box.x + 1)}" y="${short(box.y + FONT - 1)}" fill="${colour}"${weight} textLength="${short(box.width - 2)}" lengthAdjust="spacingAndGlyphs">${escaped(name)}</text>`;
    return `${drawLeader({ x, y }, box, colour)}<circle cx="${short(x)}" cy="${short(y)}" r="4.5" fill="${colour}"/>${text}`;
  });
}

function drawLeader(mark: Point, box: Box, colour: string): string {
  const leader = leaderOf(mark, box);
  if (!leader) return '';
  const [from, to] = leader;
  return `<path d="M${short(from.x)} ${short(from.y)}L${short(to.x)} ${short(to.y)}" stroke="${colour}" opacity=".6"/>`;
}

/** Of a name in a usual sans-serif font; the text is then told to take just that. */
const NARROW = /[fijlrtI .,:;|()'-]/;
const WIDE = /[A-Zmw+0-9_]/;
const widthOf = (name: string): number =>
  [...name].reduce((sum, char) => sum + (NARROW.test(char) ? 4 : WIDE.test(char) ? 7 : 6.2), 0);

export const short = (value: number): number => Number(value.toFixed(1));
const ESCAPES: Readonly<Record<string, string>> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' };
export const escaped = (text: string): string => text.replace(/[&<>"]/g, (char) => ESCAPES[char] ?? char);
